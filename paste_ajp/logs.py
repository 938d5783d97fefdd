"""The logger names, which stay when files move, and the access line.

The package installs no handler; the command line does when there is none.
Secrets, cookies and Authorization headers are never logged.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Final

#: Start, stop, configuration, connections.
server_log = logging.getLogger("paste_ajp")

#: One line for each exchange, by :func:`access_line`, at INFO.
access_log = logging.getLogger("paste_ajp.access")

#: What front ends sent that the specification does not allow; at DEBUG, all.
protocol_log = logging.getLogger("paste_ajp.protocol")

#: What applications raised, with the traceback.
app_log = logging.getLogger("paste_ajp.app")

#: Given as ``extra`` to what a remote or a front end can make the server log again
#: and again. All of protocol_log counts as such.
MAY_REPEAT: Final = {"may_repeat": True}

#: Records from one place in the code that are logged in so many seconds.
GATE_RECORDS: Final = 100
GATE_SECONDS: Final = 60.0

#: In English whatever the locale, three letters each.
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"

#: What could end a line or a quoted field of it, or drive a terminal.
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
} | {ord('"'): '\\"', ord("\\"): "\\\\"}

#: The same in a text of several lines without quotes.
_ESCAPES_IN_LINES = {
    code: shown for code, shown in _ESCAPES.items() if chr(code) not in '\t\n"\\'
}


def printable(text: str, limit: int = 500) -> str:
    """Return text from outside as a log line may show it: one line, not too long.

    Control characters, C1 too, would forge lines or drive a terminal.
    """
    shown = text[:limit].translate(_ESCAPES)
    return shown if len(text) <= limit else f"{shown}..."


def request_name(method: str, path: str) -> str:
    """Name a request for a log line, neither part too long; its query may be secret."""
    return f"{printable(method, 40)} {printable(path)}"


class TracebackGuard(logging.Filter):
    """Has what an exception says forge no record, for it may quote a remote.

    Each line of a traceback is indented, so that none begins as a record does, and
    control characters are escaped. Any thread may log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Write the record's traceback down, where formatters look for it."""
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            with suppress(Exception):  # then the handler fails at it, as it always did
                lines = "".join(traceback.format_exception(record.exc_info[1]))
                record.exc_text = indented(lines)
        return True


def indented(text: str) -> str:
    """Indent all lines of a text, which end in LF, and escape control characters."""
    lines = text.removesuffix("\n").translate(_ESCAPES_IN_LINES).split("\n")
    return "\n".join(f"  {line}" for line in lines)


class FloodGate(logging.Filter):
    """Lets pass GATE_RECORDS of one kind in GATE_SECONDS, so that no log is flooded.

    A kind is a message without its arguments, and the place in the code that logs it:
    what a remote sends does not make a new one. (In the compiled build all places
    are one.) The last record that passes says that more will be missing, and the
    first one after that how many were. DEBUG passes always. Any thread may log.
    """

    def __init__(
        self, everything: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._everything = everything  # or what says MAY_REPEAT alone
        self._clock = clock
        self._lock = threading.Lock()
        #: Kind -> when its time began, records since then.
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is logged."""
        if record.levelno <= logging.DEBUG or not (
            self._everything or getattr(record, "may_repeat", False)
        ):
            return True
        kind = record.pathname, record.lineno, record.msg
        now = self._clock()
        with self._lock:
            since, count = self._seen.get(kind, (now, 0))
            missed = 0
            if now - since >= GATE_SECONDS:
                missed = max(0, count - GATE_RECORDS)
                since, count = now, 0
            count += 1
            self._seen[kind] = since, count
        if count > GATE_RECORDS:
            return False
        if count == GATE_RECORDS:
            left = GATE_SECONDS - (now - since)
            record.msg = f"{record.msg} (no more of this kind for {left:.0f} s)"
        elif missed:
            record.msg = f"{record.msg} ({missed} more of this kind were not logged)"
        return True

    def reset(self) -> None:
        """Forget what was logged so far."""
        with self._lock:
            self._seen.clear()


#: The gates of the two loggers that write what happens on connections.
server_gate = FloodGate(everything=False)
protocol_gate = FloodGate(everything=True)
server_log.addFilter(server_gate)
protocol_log.addFilter(protocol_gate)
for _log in (server_log, protocol_log, app_log):
    _log.addFilter(TracebackGuard())


def _lose_rather_than_raise(logger: logging.Logger) -> None:
    """Have what fails in the log cost its record, and not what is being served.

    Handlers catch most, but not all: where somebody has closed sys.stderr, as
    programs do that go into the background, the message about that goes there too.
    """
    handle = logger.handle

    def handle_or_lose(record: logging.LogRecord) -> None:
        with suppress(Exception):
            handle(record)

    logger.handle = handle_or_lose  # type: ignore[method-assign]


for _logger in (
    server_log,
    access_log,
    protocol_log,
    app_log,
    logging.getLogger("paste_ajp.trace"),
):
    _lose_rather_than_raise(_logger)


def access_line(
    *,
    remote_addr: str,
    remote_user: str,
    method: str,
    uri: str,
    protocol: str,
    status: int,
    body_bytes: int,
    referer: str,
    user_agent: str,
    seconds: float,
    ended_at: float,
) -> str:
    """Write one exchange in the combined log format, and its duration after it.

    ``uri`` is the path with its query; ``ended_at`` counts seconds from the
    epoch and is shown in UTC. Characters that would break the line are escaped,
    for all but the numbers come from the remote.
    """
    moment = time.gmtime(ended_at)
    month = _MONTHS[3 * moment.tm_mon - 3 : 3 * moment.tm_mon]
    stamp = (
        f"{moment.tm_mday:02}/{month}/{moment.tm_year}"
        f":{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02} +0000"
    )
    addr, user, verb, path, version, source, agent = (
        text.translate(_ESCAPES)
        for text in (
            remote_addr,
            remote_user,
            method,
            uri,
            protocol,
            referer,
            user_agent,
        )
    )
    user = user.replace(" ", "\\x20") or "-"  # a field without quotes
    return (
        f'{addr or "-"} - {user} [{stamp}] "{verb} {path} {version}" '
        f'{status} {body_bytes} "{source or "-"}" "{agent or "-"}" {seconds:.6f}'
    )


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show the root logger's records on stderr, unless a handler does already.

    Each with its process, for several may write there.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s [%(process)d] %(levelname)-7s %(name)s: %(message)s"
        )
    )
    root.addHandler(handler)
    root.setLevel(level)
