"""How many connections a process may have, and which one goes when others wait.

A process has so many descriptors. Of these the application is left some, files that are
sent without a thread (outgoing.py) have a few, and the rest is for connections.

Front ends keep connections for hours without using them, so that a server whose
places are all taken may have nothing to do, while requests wait in the backlog. Then

- the next response ends its connection, which costs nobody anything;
- the connection that has been idle for longest is closed, once it has been so for
  REST_SECONDS; of several, one that has never brought a request. Front ends notice
  that before they use it, unless they do so in that very moment. AJP notes 8.1, 8.3.

Nothing is written down for that while there is room. The channels that are idle stand
in the order in which they became so, and two looks tell whether one was used between
them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from paste_ajp.engine.outgoing import FILE_HELD
from paste_ajp.settings import Settings

if sys.platform != "win32":
    import resource

if TYPE_CHECKING:
    from paste_ajp.engine.channel import Channel

#: Seconds for which a connection must have been idle to be closed for another. Less
#: than front ends wait for the answer to a CPing: who waits here has sent one, perhaps.
REST_SECONDS: Final = 0.5

#: Connections that one look takes in, those that are idle for longest.
LOOK: Final = 100

#: Descriptors that are left to the application: so many, and so many for each thread,
#: but never more than a quarter of all.
RESERVE: Final = 64
RESERVE_OF_THREAD: Final = 4

#: Files that are sent without a thread have one of so many descriptors at the most.
SHARE_OF_FILES: Final = 8


class Room(NamedTuple):
    """How many connections may be open, 0 for no limit, and what limits them.

    Of these, `files` may have a file each that is sent without a thread.
    """

    connections: int
    limit_name: str
    files: int


def room_for_connections(settings: Settings) -> Room:
    """Share out what descriptors there are.

    A soft limit of descriptors is raised for that as far as the hard one allows: the
    usual soft limit of 1024 is there for programs that call select().
    """
    most, name = settings.max_connections, "max_connections"
    reserve = RESERVE + RESERVE_OF_THREAD * settings.threads
    files = settings.max_unsent // FILE_HELD
    if most:
        files = min(files, most)
    limit = _raise_descriptor_limit(most + reserve + files if most else 0)
    if limit:
        reserve = min(limit // 4, reserve)
        files = min(limit // SHARE_OF_FILES, files)
        left = limit - reserve - files
        if not most or left < most:
            most, name = left, f"the limit of {limit} descriptors"
    return Room(most, name, files)


def _raise_descriptor_limit(wanted: int) -> int:
    """Give how many descriptors the process may have; 0 for no limit, or unknown.

    That is raised to `wanted` (0: as many as can be had) where it is lower.
    """
    if sys.platform == "win32":
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 0
    most = hard if hard != resource.RLIM_INFINITY else max(wanted, soft)
    most = min(wanted, most) if wanted else most
    if most > soft:
        with suppress(OSError, ValueError):  # macOS has a further limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    return soft


def longest_idle(idle: Iterable[Channel], now: float) -> Channel | None:
    """Choose the channel that is closed first, None while none has rested enough.

    `idle` begins with the channel that became idle first. To be asked again after
    REST_SECONDS: only what was looked at before can have rested since.
    """
    rested: Channel | None = None
    left = LOOK
    for channel in idle:
        if not channel.is_at_rest:
            continue
        if channel.has_rested(now, REST_SECONDS):
            if not channel.has_served:
                return channel
            rested = rested or channel
        left -= 1
        if not left:
            break
    return rested
