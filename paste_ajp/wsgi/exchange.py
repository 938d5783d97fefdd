"""What one request needs from the engine that carries it.

The WSGI layer knows neither sockets nor threads. It is handed an `Exchange` and
calls it from one thread at a time: the worker that runs the application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from paste_ajp.protocol import ForwardRequest


class FrontEndGone(ConnectionError):
    """Nobody is left to read the response, or to send the rest of the body.

    An everyday event: remotes go away. An application that lets it pass ends its
    request; it is logged at INFO. Made of its message alone.
    """

    #: Of the body that was to be finished with, how many bytes have not gone out; None
    #: if nothing has.
    missing: int | None = None

    def again(self) -> FrontEndGone:
        """Return a copy that has not been raised, to be kept, or to be raised.

        One that was raised holds the frames that it has passed, and so whoever keeps
        it: see DecodeError.again.
        """
        return type(self)(*self.args)


class BodyTruncated(FrontEndGone):
    """The remote gave up before it had sent the body that it announced.

    Raised by reads of ``wsgi.input``, so that a part of an upload is never taken
    for the whole. The front end may still be there. Source: ajp13 notes, "EOF is
    not success".
    """


class BodyOverrun(FrontEndGone):
    """The front end sent more of the body than it had announced."""


class BodyTimeout(FrontEndGone):
    """A body chunk that the front end owes did not come within read_timeout."""


class BodyTooLarge(FrontEndGone):
    """The body of unknown length grew beyond max_request_body."""


class Batches(Iterator[memoryview], Protocol):
    """Batches of whole packets; each is valid until the next is asked for."""

    #: Is there surely no batch behind the last one that was given?
    is_complete: bool

    def detach(self) -> None:
        """Need nothing of the application's from now on. Raises OSError."""

    def close(self) -> None:
        """Give back what detach() has taken, if it has."""

    def missing(self, unsent: int) -> int:
        """How many bytes of body have not gone out, of those that were expected.

        `unsent` is how many bytes of the last batch have not.
        """


class Unsent(Protocol):
    """What goes out of a response after its exchange was finished."""

    #: Called when all has gone out, or the rest was cut off, with the number of bytes
    #: of body that have not. Whichever thread finds that out calls it.
    on_end: Callable[[int], None] | None


class Exchange(Protocol):
    """One Forward Request, up to its End Response."""

    request: ForwardRequest

    def read_body(self) -> bytes:
        """Return the next piece of the request body, ``b""`` when it is complete.

        Blocks. Raises BodyTruncated, BodyOverrun, BodyTimeout, BodyTooLarge or
        FrontEndGone.
        """

    @property
    def body_is_complete(self) -> bool:
        """Is there nothing more of the request body to come?"""

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send whole packets. Blocks; raises FrontEndGone."""

    def finish(self, data: bytes) -> None:
        """Send `data` and the End Response, in one piece where they fit one."""

    def send_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:
        """Send whole packets that lie in several places, ``size`` bytes in all."""

    def finish_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:
        """Send them and the End Response, in one piece. The list may be changed.

        The body is what lies in memoryviews. What the front end does not take at once
        may go out after this has returned: see `unsent`.
        """

    def finish_batches(self, head: bytes, batches: Batches) -> None:
        """Send `head`, all batches, and the End Response.

        What the front end does not take at once may go out after this has returned: see
        `unsent`. Raises what the batches raise, having sent no End Response, and
        nothing at all where the first one raises it.
        """

    @property
    def unsent(self) -> Unsent | None:
        """What has not gone out yet, if anything. To be asked before let_go()."""

    def do_not_reuse(self) -> None:
        """Have the connection closed after this exchange."""

    def let_go(self) -> Exchange:
        """Have the connection serve others while the application goes on.

        To be called when the End Response is out. Returns what stands in for this
        exchange from here on.
        """

    def abort(self) -> None:
        """Cut the connection, so that what was sent does not look complete.

        There is no message for a failed response; closing without an End Response
        tells httpd, and through it the remote, the truth.
        """
