"""``paste-ajp gateway``: an HTTP port in front of an AJP server, for debugging."""

from __future__ import annotations

import argparse
import logging
import time
from functools import partial

from paste_ajp.commands.connecting import (
    URL_HELP,
    add_connection_arguments,
    read_address,
    read_secret,
    seconds_or_zero,
    taking,
)
from paste_ajp.engine.signals import (
    STOP_SIGNALS,
    Start,
    StopWish,
    handled,
    in_main_thread,
    starting,
)
from paste_ajp.http_door import (
    GatewaySettings,
    HttpDoor,
    HttpDoorError,
    build_http_door,
    open_http_listener,
)
from paste_ajp.logs import log_to_stderr
from paste_ajp.options import Whole, telling
from paste_ajp.protocol import Role
from paste_ajp.serving import check_trace
from paste_ajp.tracing import TraceWriter

log = logging.getLogger("paste_ajp.gateway")

#: Seconds that running requests get to end: less than the ten of `docker stop`.
GRACEFUL_SECONDS = 8.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help=URL_HELP)
    parser.add_argument(
        "--http",
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="where to listen for HTTP (127.0.0.1:8080)",
    )
    parser.add_argument(
        "--threads",
        type=taking(Whole(1, 1000)),
        default=16,
        metavar="NUMBER",
        help="requests at a time (16)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds_or_zero,
        default=60.0,
        metavar="SECONDS",
        help="how long the server may stay silent; 0: for ever (60)",
    )
    parser.add_argument(
        "--attribute",
        dest="attributes",
        action="append",
        default=[],
        metavar="KEY",
        help="an environ key to send as request attribute",
    )
    parser.add_argument(
        "--trace", metavar="FILE", help="write each packet there, secrets masked"
    )
    add_connection_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    with starting() as start:
        return _start_and_serve(arguments, start)


def _start_and_serve(arguments: argparse.Namespace, start: Start) -> int:
    address = read_address(arguments)
    log_to_stderr()
    settings = GatewaySettings(
        target=address.url,
        secret=read_secret(arguments),
        timeout=arguments.timeout or None,
        connect_timeout=arguments.connect_timeout,
        packet_size=arguments.packet_size,
        pool_size=arguments.threads,
        attributes=" ".join(arguments.attributes),
        show_details=True,
    )
    trace = None
    try:
        with telling(spellings={"http": "--http", "trace": "--trace"}):
            check_trace(arguments.trace)
            listener = open_http_listener(arguments.http)
        if arguments.trace:
            trace = TraceWriter(arguments.trace, role=Role.FRONT_END)
    except HttpDoorError as error:
        log.error("--http %s", error)
        return 1
    except OSError as error:
        what = error.filename or f"--http {arguments.http}"
        log.error("%s: %s", what, error.strerror or error)
        return 1
    door = build_http_door(
        arguments.http,
        settings,
        threads=arguments.threads,
        trace=trace,
        listener=listener,
    )
    log.warning("%s leads to %s; for development and debugging", door.url, address)
    stop = _Stop(door)
    names = STOP_SIGNALS if in_main_thread() else ()
    try:
        with handled({name: partial(stop.on_signal, name) for name in names}):
            door.run()
        start.over()
        log.info("stopped")
    finally:
        if trace is not None:
            trace.close()
    return 0


class _Stop:
    """What stop signals do to a door: the second one cuts off what runs."""

    def __init__(self, door: HttpDoor) -> None:
        self._door = door
        self._wish: StopWish | None = None

    def on_signal(self, name: str) -> None:
        wish = StopWish(name, time.monotonic())
        if self._wish is None:
            self._wish = wish
            log.info("asked to stop: running requests may end first")
            self._door.drain(GRACEFUL_SECONDS)
        elif not self._wish.is_same(wish):
            log.warning("asked to stop once more: stopping at once")
            self._door.stop()
