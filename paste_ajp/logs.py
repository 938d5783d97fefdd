"""The logger names, which stay when files move, and the access line.

The package installs no handler; the command line does when there is none.
Secrets, cookies and Authorization headers are never logged.
"""

from __future__ import annotations

import logging
import sys
import time

#: Start, stop, configuration, connections.
server_log = logging.getLogger("paste_ajp")

#: One line for each exchange, by :func:`access_line`, at INFO.
access_log = logging.getLogger("paste_ajp.access")

#: What front ends sent that the specification does not allow; at DEBUG, all.
protocol_log = logging.getLogger("paste_ajp.protocol")

#: What applications raised, with the traceback.
app_log = logging.getLogger("paste_ajp.app")

#: In English whatever the locale, three letters each.
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"

#: What could end a line or a quoted field of it, or drive a terminal.
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))
} | {ord('"'): '\\"', ord("\\"): "\\\\"}


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
            remote_user.replace(" ", "\\x20"),
            method,
            uri,
            protocol,
            referer,
            user_agent,
        )
    )
    return (
        f'{addr or "-"} - {user or "-"} [{stamp}] "{verb} {path} {version}" '
        f'{status} {body_bytes} "{source or "-"}" "{agent or "-"}" {seconds:.6f}'
    )


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show the root logger's records on stderr, unless a handler does already."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root.addHandler(handler)
    root.setLevel(level)
