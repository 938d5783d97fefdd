"""What every command says about the server that it speaks to."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from paste_ajp.client import (
    Address,
    Client,
    ClientError,
    ConnectFailed,
    TimedOut,
    Trace,
    UnknownHost,
    parse_address,
)
from paste_ajp.options import SettingError

#: curl's exit statuses, which scripts know. Source: curl(1), "EXIT CODES".
EXIT_UNSUPPORTED = 1
EXIT_MALFORMED_URL = 3
EXIT_UNKNOWN_HOST = 6
EXIT_CONNECT = 7
EXIT_PARTIAL = 18
EXIT_HTTP_ERROR = 22
EXIT_WRITE = 23
EXIT_READ = 26
EXIT_TIMEOUT = 28
EXIT_FAILED = 56

URL_HELP = "ajp://HOST:PORT/PATH, or ajp+unix:///SOCKET (with --unix-socket a path too)"


def add_connection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that ``make_client`` reads."""
    group = parser.add_argument_group("connection")
    group.add_argument("--secret", help="the shared secret (others can see it in ps)")
    group.add_argument(
        "--secret-file", metavar="FILE", help="a file with the secret in its first line"
    )
    group.add_argument(
        "--unix-socket", metavar="PATH", help="connect there, not to the URL's host"
    )
    group.add_argument(
        "--connect-timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long connecting may take (10)",
    )
    group.add_argument(
        "--packet-size",
        type=int,
        default=8192,
        metavar="BYTES",
        help="the server's packet size, 8192 to 65536 (8192)",
    )


def make_client(
    arguments: argparse.Namespace,
    *,
    timeout: float | None,
    pool_size: int = 1,
    trace: Trace | None = None,
) -> Client:
    """Make the client that the arguments describe. Raises SettingError."""
    address = read_address(arguments)
    secret = read_secret(arguments)
    check_packet_size(arguments)
    return Client(
        address,
        secret=secret,
        timeout=timeout,
        connect_timeout=arguments.connect_timeout,
        pool_size=pool_size,
        packet_size=arguments.packet_size,
        trace=trace,
    )


def check_packet_size(arguments: argparse.Namespace) -> None:
    """Raises SettingError for a packet size that AJP does not know."""
    if not 8192 <= arguments.packet_size <= 65536:
        problem = "expected a whole number from 8192 to 65536"
        raise SettingError("packet_size", arguments.packet_size, problem)


def read_address(arguments: argparse.Namespace) -> Address:
    """Read the URL, and the socket's path where that stands apart."""
    try:
        address = parse_address(arguments.url)
    except ValueError as error:
        problem = str(error).partition(": ")[2]
        raise SettingError("URL", arguments.url, problem) from None
    if arguments.unix_socket:
        return address._replace(socket_path=arguments.unix_socket)
    return address


def read_secret(arguments: argparse.Namespace) -> bytes | None:
    """Take the secret from its flag, as the bytes that were typed, or its file."""
    if arguments.secret_file is None:
        given: str | None = arguments.secret
        return None if given is None else os.fsencode(given)
    if arguments.secret is not None:
        raise SettingError(
            "secret_file", arguments.secret_file, "--secret is there too"
        )
    try:
        content = Path(arguments.secret_file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        problem = f"cannot be read: {getattr(error, 'strerror', error)}"
        raise SettingError("secret_file", arguments.secret_file, problem) from error
    return content.partition(b"\n")[0].strip()


def exit_status(error: ClientError) -> int:
    """Choose curl's exit status for a failure."""
    if isinstance(error, TimedOut):
        return EXIT_TIMEOUT
    if isinstance(error, UnknownHost):
        return EXIT_UNKNOWN_HOST
    return EXIT_CONNECT if isinstance(error, ConnectFailed) else EXIT_FAILED


def seconds(text: str) -> float:
    """Read a time, for argparse: more than 0, a day at most."""
    value = float(text)
    if not 0 < value <= 86400:
        raise ValueError(text)
    return value


def seconds_or_zero(text: str) -> float:
    """Read a time for argparse, where 0 has a meaning of its own."""
    value = float(text)
    if not 0 <= value <= 86400:
        raise ValueError(text)
    return value


# argparse puts the name of a type into its errors.
seconds.__name__ = seconds_or_zero.__name__ = "number of seconds"
