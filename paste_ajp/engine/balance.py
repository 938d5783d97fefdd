"""How the connections of one address are shared out evenly among processes.

Front ends keep their connections for hours, so what accept() does in one moment
decides who works for hours. The kernel wakes whom it likes, mostly the one that slept
last. So each process writes how many connections it has into memory that all of
them see, and

- accepts only while no other has fewer. Who has more looks away for YIELD_SECONDS,
  and takes what still waits then, one connection at first: none depends on a process
  that does not come;
- ends surplus connections, one after another with their next response (End Response
  without reuse), when it has clearly more than its share: that is so after a process
  was replaced, whose connections went to the others in the meantime.
"""

from __future__ import annotations

import mmap
from typing import IO, Final

#: Processes that may share at a time: each reload doubles them for a while.
SLOTS: Final = 4096

#: Seconds for which a process with more connections than another looks away.
YIELD_SECONDS: Final = 0.005

#: What a slot holds whose process takes no connections.
_CLOSED: Final = -1

_SLOT_BYTES: Final = 4

#: Surplus connections are ended from this share above the mean on. AJP front ends
#: reconnect at no great cost, but mod_jk logs a warning for each.
TOLERANCE: Final = 0.1


class SharedCounts:
    """The connections of each process, in memory that processes share.

    Made by the parent, which hands `descriptor` to its children; each child writes
    its own slot alone.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._file: IO[bytes] | None = None
        if descriptor is None:
            import tempfile

            self._file = tempfile.TemporaryFile(prefix="paste_ajp-")  # noqa: SIM115
            self._file.write(b"\xff" * (SLOTS * _SLOT_BYTES))
            self._file.flush()
            descriptor = self._file.fileno()
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, SLOTS * _SLOT_BYTES)
        #: The highest slot in use, then the slots, from 1 on.
        self._counts = memoryview(self._memory).cast("i")
        self._taken: set[int] = set()

    def take_slot(self) -> int:
        """Find a slot for a new process. The parent alone calls this."""
        slot = next(n for n in range(1, SLOTS) if n not in self._taken)
        self._taken.add(slot)
        self._counts[0] = max(self._taken)
        return slot

    def free_slot(self, slot: int) -> None:
        """Take back the slot of a process that is gone. The parent alone calls this."""
        self._counts[slot] = _CLOSED
        self._taken.discard(slot)
        self._counts[0] = max(self._taken, default=0)

    def share(self, slot: int) -> Share:
        """Give what the process needs whose slot that is."""
        return Share(self._counts, slot)

    def close(self) -> None:
        """Give the memory back."""
        self._counts.release()
        self._memory.close()
        if self._file is not None:
            self._file.close()


class Share:
    """One process's part of the connections. Its threads may all call it."""

    def __init__(self, counts: memoryview, slot: int) -> None:
        self._counts = counts
        self._slot = slot
        self._closed = False

    def set(self, connections: int) -> None:
        """Say how many connections this process has."""
        if not self._closed:
            self._counts[self._slot] = connections

    def close(self) -> None:
        """Take no further connections, and count no more. May be said again."""
        self._closed = True
        self._counts[self._slot] = _CLOSED

    def _open_counts(self) -> list[int]:
        """How many connections each process has that takes some."""
        counts = self._counts
        return [count for count in counts[1 : counts[0] + 1] if count >= 0]

    def may_accept(self) -> bool:
        """Has no other process fewer connections?"""
        counts = self._open_counts()
        return not counts or self._counts[self._slot] <= min(counts)

    def surplus(self) -> int:
        """How many connections to end so that others get their share."""
        own = self._counts[self._slot]
        counts = self._open_counts()
        if own < 0 or len(counts) < 2:
            return 0
        mean = sum(counts) / len(counts)
        if own <= mean + max(1.0, mean * TOLERANCE) or min(counts) > mean - 1:
            return 0
        return own - round(mean)
