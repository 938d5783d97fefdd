"""``paste-ajp ping``: is an AJP server there, and does its application answer?

One line on stdout and an exit status, as Nagios, Docker's HEALTHCHECK and systemd
want them: 0 all is well, 1 a warning (slow, or a status of 400 to 499), 2
critical (no answer, or a status from 500), 3 the question makes no sense.
"""

from __future__ import annotations

import argparse
import time

from paste_ajp.client import Client, ClientError
from paste_ajp.commands.connecting import (
    URL_HELP,
    add_connection_arguments,
    make_client,
)
from paste_ajp.options import SettingError

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help=URL_HELP)
    parser.add_argument(
        "-t",
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for each answer (5)",
    )
    parser.add_argument(
        "-w",
        "--warning",
        type=float,
        metavar="SECONDS",
        help="exit with 1 where it took longer",
    )
    parser.add_argument(
        "-c",
        "--critical",
        type=float,
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
            level, text, seconds = check(client, arguments.host)
    except SettingError as error:
        return _report(arguments, UNKNOWN, str(error), None)
    for limit, worse in (
        (arguments.warning, WARNING),
        (arguments.critical, CRITICAL),
    ):
        if limit is not None and seconds is not None and seconds > limit:
            level = max(level, worse)
    return _report(arguments, level, text, seconds)


def check(client: Client, host: str | None = None) -> tuple[int, str, float | None]:
    """Ask; return (how bad it is, a sentence, how long it took)."""
    started = time.monotonic()
    try:
        client.cping()
    except ClientError as error:
        return CRITICAL, str(error), None
    seconds = time.monotonic() - started
    if not client.address.target:
        text = f"{client.address} answered CPing in {seconds * 1000:.1f} ms"
        return OK, text, seconds
    target = client.address.target.partition("?")[0]  # queries may hold secrets
    started = time.monotonic()
    try:
        headers = {"Host": host} if host else {}
        with client.request("GET", headers=headers) as response:
            size = sum(map(len, response.chunks()))
    except ClientError as error:
        return CRITICAL, f"GET {target}: {error}", None
    seconds = time.monotonic() - started
    text = (
        f"{client.address} answered GET {target} with {response.status}, "
        f"{size} bytes, in {seconds * 1000:.1f} ms"
    )
    if response.status >= 500:
        return CRITICAL, text, seconds
    return (WARNING if response.status >= 400 else OK), text, seconds


def _report(
    arguments: argparse.Namespace, level: int, text: str, seconds: float | None
) -> int:
    if not arguments.quiet:
        line = f"AJP {_WORDS[level]} - {text.replace('|', '/')}"
        if seconds is not None:
            limits = (
                "" if limit is None else f"{limit:g}"
                for limit in (arguments.warning, arguments.critical)
            )
            line += f" | time={seconds:.6f}s;{';'.join(limits)};0"
        print(line)
    return level
