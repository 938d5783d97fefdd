"""A bounded pool of connections, for any number of threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Closeable(Protocol):
    """All that the pool asks of a connection."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closeable)


class Pool(Generic[C]):
    """Hands out at most ``size`` connections at a time, the last used first.

    A place in the pool is taken with ``take`` and given back with either
    ``give_back`` (the connection may serve again) or ``give_up`` (it may not).
    Taking the last used first lets the others grow old, and what nobody used for
    ``max_idle`` seconds is closed. Every method may be called from any thread.
    """

    def __init__(
        self,
        size: int,
        max_idle: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if size < 1:
            raise ValueError(f"pool_size = {size}: expected at least 1")
        self._size = size
        self._max_idle = max_idle
        self._clock = clock
        self._changed = threading.Condition()
        self._idle: list[tuple[float, C]] = []
        self._taken = 0
        self._closed = False

    def take(self, timeout: float | None) -> tuple[bool, C | None]:
        """Take a place: (True, a connection), or (True, None) to open a new one.

        (False, None) when no place became free in ``timeout`` seconds.
        """
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._closed or self._taken < self._size, timeout
            )
            if self._closed:
                raise RuntimeError("the client is closed")
            if not free:
                return False, None
            self._taken += 1
            old = self._grown_old()
            connection = self._idle.pop()[1] if self._idle else None
        for each in old:
            each.close()
        return True, connection

    def another(self) -> C | None:
        """Give the holder of a place another idle connection, if there is one."""
        with self._changed:
            return self._idle.pop()[1] if self._idle else None

    def give_back(self, connection: C) -> None:
        """Give the place back, and the connection with it for the next one."""
        with self._changed:
            self._taken -= 1
            old = self._grown_old()
            keep = not self._closed
            if keep:
                self._idle.append((self._clock(), connection))
            self._changed.notify()
        for each in old:
            each.close()
        if not keep:
            connection.close()

    def give_up(self) -> None:
        """Give the place back; its connection is gone."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def close(self) -> None:
        """Close what is idle, and let nobody take a place any more.

        What is in use is closed when it is given back.
        """
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for _, connection in idle:
            connection.close()

    def abandon(self) -> None:
        """Close what is idle here, in a child process just forked.

        The parent uses those connections further, and its threads, which do not
        exist here, may hold the lock. What is in use is closed when it is given
        back.
        """
        self._changed = threading.Condition()
        self.close()

    def renewed(self) -> Pool[C]:
        """Make an empty pool like this one, closed if this one is."""
        pool: Pool[C] = Pool(self._size, self._max_idle, self._clock)
        pool._closed = self._closed
        return pool

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def counts(self) -> tuple[int, int]:
        """How many connections are taken, and how many idle, at this moment."""
        with self._changed:
            return self._taken, len(self._idle)

    def _grown_old(self) -> list[C]:
        """Take out what was idle for too long; the oldest stand first."""
        limit = self._clock() - self._max_idle
        count = 0
        while count < len(self._idle) and self._idle[count][0] < limit:
            count += 1
        old, self._idle = self._idle[:count], self._idle[count:]
        return [connection for _, connection in old]
