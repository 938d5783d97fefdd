"""What is left of a response that its front end does not take at present.

A front end takes no more than it gets rid of, and a remote may be slow. A response
that is all there, or in a file, need not hold a thread for that: the poller tells when
its socket takes more, and whichever worker hears of it sends on.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from typing import Final

from paste_ajp.wsgi.exchange import Batches
from paste_ajp.wsgi.file_wrapper import BATCH

CAN_GATHER: Final = hasattr(socket.socket, "sendmsg")

#: Buffers that one sendmsg() takes: POSIX's IOV_MAX is 1024 everywhere.
GATHERED: Final = 1024

#: What a response that is sent later counts for where its bytes are in a file: the
#: buffer that they are read to.
FILE_HELD: Final = BATCH


class Outgoing:
    """Buffers in the order of the wire; then `batches`, each a buffer, and `end`.

    The first `sent` bytes of the buffers have gone out. The list may be changed. Of the
    buffers those are body that are memoryviews. Raises what the batches raise.
    """

    __slots__ = (
        "_batches",
        "_buffers",
        "_end",
        "_first",
        "_source",
        "held",
        "is_file",
        "on_end",
        "sent",
    )

    def __init__(
        self,
        buffers: list[bytes | memoryview],
        sent: int = 0,
        batches: Batches | None = None,
        end: bytes = b"",
    ) -> None:
        self._buffers = buffers
        self._first = 0  # the buffer that is next
        self._batches = self._source = batches  # the former until the last is here
        self._end = end
        self.held = 0  # bytes of memory that its owner has been granted for it
        self.is_file = batches is not None
        self.sent = 0  # bytes, in all
        #: See wsgi.exchange.Unsent.
        self.on_end: Callable[[int], None] | None = None
        if batches is not None:
            self._fetch(batches)
        if sent:
            self._strike(sent)

    def send(self, sock: socket.socket, flags: int, most: float) -> bool:
        """Send until nothing is left, which gives True, or more than `most` bytes.

        Raises BlockingIOError where the socket takes nothing more, other OSErrors
        where the peer is gone, and what the batches raise.
        """
        stop = self.sent + most
        while True:
            if self._first == len(self._buffers):
                if self._batches is None:
                    return True
                self._buffers.clear()
                self._first = 0
                self._fetch(self._batches)
            if self.sent >= stop:
                return False
            batch = self._buffers[self._first : self._first + GATHERED]
            if CAN_GATHER:
                self._strike(sock.sendmsg(batch, [], flags))
            else:
                self._strike(sock.send(b"".join(batch), flags))

    def _fetch(self, batches: Batches) -> None:
        """Get the next batch, and the end behind the last one."""
        packets = next(batches, None)
        if packets is not None:
            self._buffers.append(packets)
        if packets is None or batches.is_complete:
            self._buffers.append(self._end)
            self._batches = None
            batches.close()

    def _strike(self, count: int) -> None:
        """Strike `count` bytes off, which were sent."""
        self.sent += count
        batch = self._buffers[self._first : self._first + GATHERED]
        ends = list(accumulate(map(len, batch)))
        whole = bisect_right(ends, count)
        self._first += whole
        if whole < len(batch):
            rest = count - (ends[whole - 1] if whole else 0)
            self._buffers[self._first] = batch[whole][rest:]

    def detach(self) -> None:
        """Take what the batches read from out of the application's hands."""
        if self._batches is not None:
            self._batches.detach()

    def missing(self) -> int:
        """How many bytes of body have not gone out."""
        left = self._buffers[self._first :]
        unsent = sum(len(buffer) for buffer in left if type(buffer) is memoryview)
        return unsent if self._source is None else self._source.missing(unsent)

    def end(self) -> None:
        """Give back what the batches hold, and tell whoever waits for the end."""
        if self._batches is not None:
            self._batches.close()
        if self.on_end is not None:
            self.on_end(self.missing())
