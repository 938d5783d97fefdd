"""What an application has in hand once its response is out and it goes on.

It may do so in its result's close(), or behind its last yield, for as long as it likes:
mails are sent there. Its connection serves others meanwhile, and this stands in for it.
"""

from __future__ import annotations

from paste_ajp.protocol import ForwardRequest
from paste_ajp.wsgi.exchange import Batches, FrontEndGone


class Afterwards:
    """An Exchange that is over.

    `pieces` are what came of the request's body and was not read, `is_whole` whether
    the body ends with them.
    """

    __slots__ = ("_is_whole", "_pieces", "is_over", "peer", "request", "unsent")

    def __init__(
        self, request: ForwardRequest, peer: str, pieces: list[bytes], is_whole: bool
    ) -> None:
        self.request = request
        self.peer = peer
        self.is_over = False  # has the application ended, too?
        self.unsent = None  # what goes out yet is the channel's affair
        self._pieces = pieces
        self._is_whole = is_whole

    def read_body(self) -> bytes:
        """Return the next piece, then ``b""``; FrontEndGone if the body was longer."""
        if self._pieces:
            return self._pieces.pop(0)
        if not self._is_whole:
            raise FrontEndGone("the response has ended, and the request body with it")
        return b""

    @property
    def body_is_complete(self) -> bool:
        """Is there nothing more to be read?"""
        return not self._pieces

    def send(self, data: bytes | bytearray | memoryview) -> None:  # noqa: ARG002
        """Raise FrontEndGone."""
        raise FrontEndGone("the response has ended")

    def finish(self, data: bytes) -> None:
        """Raise FrontEndGone."""
        self.send(data)

    def send_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:  # noqa: ARG002
        """Raise FrontEndGone."""
        self.send(b"")

    def finish_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:  # noqa: ARG002
        """Raise FrontEndGone."""
        self.send(b"")

    def finish_batches(self, head: bytes, batches: Batches) -> None:  # noqa: ARG002
        """Raise FrontEndGone."""
        self.send(head)

    def do_not_reuse(self) -> None:
        """Do nothing: the End Response has told what becomes of the connection."""

    def abort(self) -> None:
        """Do nothing: the response is complete."""

    def cut(self) -> None:
        """Do nothing: nobody waits for it."""

    def let_go(self) -> Afterwards:
        """Give itself: that is done."""
        return self
