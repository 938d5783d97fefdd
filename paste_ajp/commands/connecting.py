"""What every command says about the server that it speaks to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from paste_ajp.options import Converter, Seconds, SettingError, Size

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
        type=taking(Size(8192, 65536)),
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
    return Client(
        address,
        secret=secret,
        timeout=timeout,
        connect_timeout=arguments.connect_timeout,
        pool_size=pool_size,
        packet_size=arguments.packet_size,
        trace=trace,
    )


def read_address(arguments: argparse.Namespace) -> Address:
    """Read the URL, and the socket's path where that stands apart."""
    if arguments.url.endswith(".ini") and Path(arguments.url).is_file():
        problem = "expected ajp://host:port, and this is a file, which serve takes"
        raise SettingError("URL", arguments.url, problem)
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
            "--secret-file", arguments.secret_file, "--secret is there too"
        )
    try:
        content = Path(arguments.secret_file).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        problem = f"cannot be read: {getattr(error, 'strerror', error)}"
        raise SettingError("--secret-file", arguments.secret_file, problem) from error
    secret = content.partition(b"\n")[0].strip()
    if not secret:
        problem = "expected the secret in its first line"
        raise SettingError("--secret-file", arguments.secret_file, problem)
    return secret


def exit_status(error: ClientError) -> int:
    """Choose curl's exit status for a failure."""
    if isinstance(error, TimedOut):
        return EXIT_TIMEOUT
    if isinstance(error, UnknownHost):
        return EXIT_UNKNOWN_HOST
    return EXIT_CONNECT if isinstance(error, ConnectFailed) else EXIT_FAILED


def taking(converter: Converter) -> Callable[[str], Any]:  # what it converts to
    """Make a type for argparse whose error says what the converter expects."""

    def convert(text: str) -> Any:
        try:
            return converter(text)
        except ValueError:
            problem = f"{text!r}: expected {converter.expects}"
            raise argparse.ArgumentTypeError(problem) from None

    return convert


#: Reads a time for argparse, where 0 has a meaning of its own.
seconds_or_zero = taking(Seconds())


def seconds(text: str) -> float:
    """Read a time for argparse, where 0 has none."""
    value: float = seconds_or_zero(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r}: expected more than 0 seconds")
    return value
