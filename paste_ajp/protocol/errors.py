"""What can go wrong between bytes and messages, told apart by whose bytes they are.

:class:`DecodeError` is the peer's mistake. Its plain form means that the packet
boundary is still sure: answer ``status`` and End Response(0), then close.
:class:`FramingError` means that it is not: close without an answer.
:class:`LocalProtocolError` is our own mistake, and nothing was put on the wire.
"""

from __future__ import annotations


class ProtocolError(ValueError):
    """AJP/1.3 was broken, by the peer (DecodeError) or by us (LocalProtocolError)."""


class DecodeError(ProtocolError):
    """The peer sent something that AJP/1.3, or the HTTP inside it, forbids.

    ``field`` names what was being read, ``offset`` is its first byte counted from
    the start of the payload, ``problem`` says what was expected and found, and
    ``status`` is the HTTP status to answer with, where an answer is possible.
    """

    def __init__(
        self, field: str, offset: int, problem: str, status: int = 400
    ) -> None:
        super().__init__(field, offset, problem, status)
        self.field = field
        self.offset = offset
        self.problem = problem
        self.status = status

    def __str__(self) -> str:
        return f"{self.field} at byte {self.offset}: {self.problem}"

    def again(self) -> DecodeError:
        """Return a copy that has not been raised, to be kept, or to be raised.

        One that was raised holds the frames that it has passed, by its traceback.
        Whoever keeps it and is held by them makes a circle, which waits for the
        garbage collector; a remote could make as many as it likes.
        """
        return type(self)(self.field, self.offset, self.problem, self.status)


class FramingError(DecodeError):
    """The stream cannot be trusted any more: close, and answer nothing.

    Bad magic, a packet that the order of an exchange does not allow, a body chunk
    whose length is wrong, a connection closed inside a packet or an exchange.
    """


class BodyTruncated(DecodeError):
    """The remote gave up: the request body ended before its Content-Length.

    The application's read has to raise; a short body must not look complete.
    """


class BodyOverrun(FramingError):
    """The request body went on beyond its Content-Length.

    The rest of the stream cannot be trusted, but the request can be answered: httpd
    does this when a filter of its own inflates what the remote has compressed.
    """


class LocalProtocolError(ProtocolError):
    """We tried to send what AJP/1.3 forbids here. A bug of the caller."""


class HeaderRefused(LocalProtocolError):
    """A response header (or the reason) that no front end could relay safely.

    ``name`` is the header's, or ``"reason"``; ``problem`` says what is wrong.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, problem)
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"header {self.name!r}: {self.problem}"


class HeadersTooLarge(LocalProtocolError):
    """Headers that do not fit one packet; AJP/1.3 cannot split them.

    ``size`` is what the whole packet would take, ``limit`` what it may.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"headers make a packet of {self.size} bytes, at most {self.limit} fit, the"
            " packet_size"
        )
