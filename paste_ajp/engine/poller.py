"""Which channels are readable: epoll, kqueue or select behind one small interface.

Where the system can (epoll, kqueue) a channel is watched edge-triggered, and once
for all its life: a channel that a worker owns costs no call to be switched off and
on again. What arrives meanwhile is noted by the engine. With select the
engine says which channels are idle, and `rearm` wakes the thread that waits.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Protocol

#: Descriptors that one wait() may report: the others come with the next.
BATCH = 256

#: What wait() gives for a descriptor with bytes, or a connection, to be had.
READABLE = 1


class Poller(Protocol):
    """One thread or several may wait(); any thread may call the rest."""

    #: Reported by wait() after wake(), until clear_waker() is called.
    waker_fd: int

    def clear_waker(self) -> None:
        """Take the wake-ups back."""

    def watch(self, fd: int) -> None:
        """Report the channel `fd` whenever something arrives."""

    def watch_listener(self, fd: int) -> None:
        """Report the listener `fd` for as long as a connection waits."""

    def unwatch_listener(self, fd: int) -> None:
        """Report `fd` no more."""

    def rearm(self, fd: int) -> None:
        """The channel `fd` is idle again."""

    def pause(self, fd: int) -> None:
        """Report the channel `fd` no more: its owner waits for what arrives."""

    def resume(self, fd: int) -> None:
        """Report it again, and at once what has arrived."""

    #: Whether watch_writes() can be called.
    tells_writable: bool

    def watch_writes(self, fd: int) -> None:
        """Report the channel `fd` also whenever it takes more, until resume(fd)."""

    def wait(self, timeout: float | None) -> list[tuple[int, Any]]:
        """Return what is readable, as (descriptor, what), within `timeout` seconds.

        `what` is READABLE where bytes have come and no more. With anything else the
        peer may have closed already: nothing will be reported after it.
        """

    def wake(self) -> None:
        """Make a waiting thread return, or else the next that waits."""

    def close(self) -> None:
        """Give all descriptors back."""


class _Waker:
    """A pair of sockets: writing to one ends a wait on the other."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self.fd = self._reader.fileno()

    def wake(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        with suppress(BlockingIOError, OSError):
            self._reader.recv(4096)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class EpollPoller:
    """Linux. Any number of threads may wait at a time; each event goes to one."""

    tells_writable = True

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waker = _Waker()
        self._epoll.register(self._waker.fd, select.EPOLLIN)
        # With EPOLLRDHUP the end is told apart where it came together with bytes.
        self._edge = select.EPOLLIN | select.EPOLLET | select.EPOLLRDHUP
        self.waker_fd = self._waker.fd
        self.clear_waker = self._waker.clear
        # The kernel's answer as it is: EPOLLIN is READABLE.
        self.wait = self._epoll.poll

    def watch(self, fd: int) -> None:
        self._epoll.register(fd, self._edge)

    def watch_listener(self, fd: int) -> None:
        # Several processes may share the listener, and all must hear of a
        # connection: with EPOLLEXCLUSIVE the one that is told may leave it to others.
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch_listener(self, fd: int) -> None:
        with suppress(OSError, ValueError):
            self._epoll.unregister(fd)

    def rearm(self, fd: int) -> None:
        """Nothing to do: watched edge-triggered."""

    def pause(self, fd: int) -> None:
        self._epoll.modify(fd, select.EPOLLET)

    def resume(self, fd: int) -> None:
        self._epoll.modify(fd, self._edge)

    def watch_writes(self, fd: int) -> None:
        self._epoll.modify(fd, self._edge | select.EPOLLOUT)

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._epoll.close()
        self._waker.close()


class KqueuePoller:
    """BSD and macOS."""

    tells_writable = False

    def __init__(self) -> None:
        self._queue: Any = select.kqueue()  # type: ignore[attr-defined,unused-ignore]
        self._waker = _Waker()
        self.waker_fd = self._waker.fd
        self.clear_waker = self._waker.clear
        self._change(self._waker.fd, "KQ_EV_ADD")

    def _change(self, fd: int, *flags: str) -> None:
        bits = 0
        for flag in flags:
            bits |= getattr(select, flag)
        system: Any = select  # its stubs know this name on BSD alone
        event = system.kevent(fd, system.KQ_FILTER_READ, bits)
        self._queue.control([event], 0)

    def watch(self, fd: int) -> None:
        self._change(fd, "KQ_EV_ADD", "KQ_EV_CLEAR")

    def watch_listener(self, fd: int) -> None:
        self._change(fd, "KQ_EV_ADD")

    def unwatch_listener(self, fd: int) -> None:
        with suppress(OSError, ValueError):
            self._change(fd, "KQ_EV_DELETE")

    def rearm(self, fd: int) -> None:
        """Nothing to do: watched edge-triggered."""

    def pause(self, fd: int) -> None:
        self._change(fd, "KQ_EV_DISABLE")

    def resume(self, fd: int) -> None:
        self._change(fd, "KQ_EV_ENABLE")

    def watch_writes(self, fd: int) -> None:
        raise NotImplementedError

    def wait(self, timeout: float | None) -> list[tuple[int, Any]]:
        end: int = select.KQ_EV_EOF  # type: ignore[attr-defined,unused-ignore]
        events = self._queue.control(None, BATCH, timeout)
        return [(event.ident, 0 if event.flags & end else READABLE) for event in events]

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._queue.close()
        self._waker.close()


class SelectPoller:
    """Everywhere. `idle` holds the descriptors of the channels that nobody owns."""

    tells_writable = False

    def __init__(self, idle: Collection[int]) -> None:
        self._idle = idle
        self._listeners: frozenset[int] = frozenset()
        self._waker = _Waker()
        self.waker_fd = self._waker.fd
        self.clear_waker = self._waker.clear

    def watch(self, fd: int) -> None:
        """It is in `idle`; OSError where select() cannot take so high a number."""
        try:
            select.select([fd], [], [], 0)
        except ValueError as error:
            raise OSError(errno.EMFILE, f"descriptor {fd}: {error}") from error
        self._waker.wake()

    def watch_listener(self, fd: int) -> None:
        self._listeners |= {fd}
        self._waker.wake()

    def unwatch_listener(self, fd: int) -> None:
        self._listeners -= {fd}

    def rearm(self, fd: int) -> None:  # noqa: ARG002 - it is in `idle`
        self._waker.wake()

    def pause(self, fd: int) -> None:
        """Nothing to do: it is not in `idle`."""

    def resume(self, fd: int) -> None:
        """Nothing to do: it will be in `idle`."""

    def watch_writes(self, fd: int) -> None:
        raise NotImplementedError

    def wait(self, timeout: float | None) -> list[tuple[int, Any]]:
        wanted = [self._waker.fd, *self._listeners, *tuple(self._idle)]
        try:
            readable, _, _ = select.select(wanted, [], [], timeout)
        except (OSError, ValueError):
            return []  # one was closed meanwhile: look again
        return [(fd, READABLE) for fd in readable]

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._waker.close()


def best_poller(idle: Collection[int]) -> Poller:
    """Make the best that this system has."""
    if hasattr(select, "epoll"):
        return EpollPoller()
    if hasattr(select, "kqueue"):
        return KqueuePoller()
    return SelectPoller(idle)
