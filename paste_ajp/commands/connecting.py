"""What every command says about the server that it speaks to."""

from __future__ import annotations

import argparse
from pathlib import Path

from paste_ajp.client import Address, Client, ConnectFailed, Trace, parse_address
from paste_ajp.client.errors import ClientError, TimedOut
from paste_ajp.options import SettingError

#: curl's exit statuses, which scripts know. Source: curl(1), "EXIT CODES".
EXIT_CONNECT = 7
EXIT_PARTIAL = 18
EXIT_HTTP_ERROR = 22
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
        type=_seconds,
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
    try:
        return Client(
            address,
            secret=read_secret(arguments),
            timeout=timeout,
            connect_timeout=arguments.connect_timeout,
            pool_size=pool_size,
            packet_size=arguments.packet_size,
            trace=trace,
        )
    except ValueError as error:
        problem = str(error).partition(": ")[2]
        raise SettingError("packet_size", arguments.packet_size, problem) from None


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


def read_secret(arguments: argparse.Namespace) -> str | bytes | None:
    """Take the secret from its flag or its file."""
    if arguments.secret_file is None:
        given: str | None = arguments.secret
        return given
    if arguments.secret is not None:
        raise SettingError(
            "secret_file", arguments.secret_file, "--secret is there too"
        )
    try:
        content = Path(arguments.secret_file).read_bytes()
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise SettingError("secret_file", arguments.secret_file, problem) from error
    return content.partition(b"\n")[0].strip()


def exit_status(error: ClientError) -> int:
    """Choose curl's exit status for a failure."""
    if isinstance(error, TimedOut):
        return EXIT_TIMEOUT
    return EXIT_CONNECT if isinstance(error, ConnectFailed) else EXIT_FAILED


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 86400:
        raise ValueError(text)
    return value


_seconds.__name__ = "number of seconds"  # argparse puts it into its error
