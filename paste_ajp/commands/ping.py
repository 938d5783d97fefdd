"""``paste-ajp ping``: is an AJP server there, and does its application answer?

One line on stdout and an exit status, as Nagios, Docker's HEALTHCHECK and systemd
want them: 0 all is well, 1 a warning (slow, or a status of 400 to 499), 2
critical (no answer, or a status from 500), 3 the question makes no sense, which
is said on stdout too.
"""

from __future__ import annotations

import argparse
import time
from typing import NoReturn

from paste_ajp.client import Client, ClientError
from paste_ajp.commands.connecting import (
    URL_HELP,
    add_connection_arguments,
    make_client,
    seconds,
    seconds_or_zero,
)
from paste_ajp.commands.output import (
    OutputError,
    complain,
    flush_stdout,
    forget_stdout,
    say,
)

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def refuse(message: str) -> NoReturn:
        parser.exit(_said(f"AJP UNKNOWN - {_one_line(message)}", UNKNOWN))

    parser.error = refuse  # type: ignore[method-assign]  # argparse would exit with 2
    parser.add_argument("url", metavar="URL", help=URL_HELP)
    parser.add_argument(
        "-t",
        "--timeout",
        type=seconds,
        default=5.0,
        metavar="SECONDS",
        help="how long all may take, connecting too (5)",
    )
    parser.add_argument(
        "-w",
        "--warning",
        type=seconds_or_zero,
        metavar="SECONDS",
        help="exit with 1 where it took longer",
    )
    parser.add_argument(
        "-c",
        "--critical",
        type=seconds_or_zero,
        metavar="SECONDS",
        help="exit with 2 where it took longer",
    )
    parser.add_argument(
        "--host", metavar="NAME", help="the Host header of the request for the path"
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing, the status tells"
    )
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """CPing, and where the URL has a path also GET it."""
    try:
        with make_client(arguments, timeout=arguments.timeout) as client:
            level, text, took = check(client, arguments.timeout, arguments.host)
    except ValueError as error:  # SettingError, or what cannot be sent
        return _report(arguments, UNKNOWN, str(error), None)
    for limit, worse in (
        (arguments.warning, WARNING),
        (arguments.critical, CRITICAL),
    ):
        if limit is not None and took is not None and took > limit:
            level = max(level, worse)
    return _report(arguments, level, text, took)


def check(
    client: Client, timeout: float, host: str | None = None
) -> tuple[int, str, float | None]:
    """Ask; return (how bad it is, a sentence, how long it took).

    Raises ValueError for a ``host`` that no request can name.
    """
    started = time.monotonic()
    try:
        client.cping(max_time=timeout)
    except ClientError as error:
        return CRITICAL, str(error), None
    took = time.monotonic() - started
    if not client.address.target:
        text = f"{client.address} answered CPing in {took * 1000:.1f} ms"
        return OK, text, took
    target = client.address.target.partition("?")[0]  # queries may hold secrets
    left = max(timeout - took, 0.001)
    started = time.monotonic()
    try:
        headers = {"Host": host} if host else {}
        with client.request("GET", headers=headers, max_time=left) as response:
            size = sum(map(len, response.chunks()))
    except ClientError as error:
        return CRITICAL, f"GET {target}: {error}", None
    took = time.monotonic() - started
    text = (
        f"{client.address} answered GET {target} with {response.status}, "
        f"{size} bytes, in {took * 1000:.1f} ms"
    )
    if response.status >= 500:
        return CRITICAL, text, took
    return (WARNING if response.status >= 400 else OK), text, took


def _report(
    arguments: argparse.Namespace, level: int, text: str, took: float | None
) -> int:
    if not arguments.quiet:
        line = f"AJP {_WORDS[level]} - {_one_line(text)}"
        if took is not None:
            limits = (
                "" if limit is None else f"{limit:g}"
                for limit in (arguments.warning, arguments.critical)
            )
            line += f" | time={took:.6f}s;{';'.join(limits)};0"
        return _said(line, level)
    return level


def _said(line: str, level: int) -> int:
    """Print; what a monitor cannot hear of is unknown to it."""
    try:
        say(f"{line}\n")
        flush_stdout()
    except BrokenPipeError:
        forget_stdout()
        return UNKNOWN
    except OutputError as error:
        complain(f"paste-ajp: stdout: {error}")
        return UNKNOWN
    return level


def _one_line(text: str) -> str:
    """What a monitor can read: one line, and no bar, which begins the figures."""
    line = " ".join(text.replace("|", "/").split())
    return line.encode("ascii", "backslashreplace").decode("ascii")
