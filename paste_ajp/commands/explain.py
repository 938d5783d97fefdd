"""``paste-ajp explain``: packets from a hex dump, a capture or a trace, readable."""

from __future__ import annotations

import argparse

from paste_ajp.commands.input import read_input
from paste_ajp.commands.output import complain, say
from paste_ajp.options import SettingError
from paste_ajp.tracing import (
    CaptureError,
    Event,
    format_event,
    format_line,
    read_capture,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="-",
        help="a hex dump, raw bytes, pcap, pcapng or a trace; - is stdin (-)",
    )
    parser.add_argument(
        "--bodies", action="store_true", help="show how bodies begin; not masked"
    )
    parser.add_argument(
        "--connection",
        metavar="TEXT",
        help="only connections whose name holds TEXT, as a port",
    )
    parser.add_argument(
        "--lines", action="store_true", help="one line for each packet, as in a trace"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every packet; 1 where there is none, or one is broken."""
    try:
        data = read_input(arguments.file)
    except OSError as error:
        raise SettingError("FILE", arguments.file, error.strerror or "?") from error
    status = 0
    wanted = arguments.connection or ""
    found = False
    previous: dict[str, float] = {}
    try:
        for event in read_capture(data, preview=arguments.bodies):
            if wanted not in event.connection:
                continue
            found = True
            say(_written(event, previous, as_line=arguments.lines) + "\n")
            if event.packet.problem:
                status = 1
    except CaptureError as error:
        complain(f"paste-ajp: {arguments.file}: {error}")
        return 1
    if not found:
        problem = f"no connection whose name holds {wanted!r}"
        complain(f"paste-ajp: {arguments.file}: {problem}")
        return 1
    return status


def _written(event: Event, previous: dict[str, float], *, as_line: bool) -> str:
    if as_line:
        return format_line(event)
    text = format_event(event, previous.get(event.connection))
    if event.time is not None:
        previous[event.connection] = event.time
    return text
