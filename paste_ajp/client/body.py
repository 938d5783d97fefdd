"""The request body as a source that gives as much as the server asks for.

The server grants a number of bytes with each Get Body Chunk, so the body must be
read in pieces of a size that somebody else names. A source does that over bytes,
over a file, and over an iterator of bytes; it knows the length when anybody does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class Readable(Protocol):
    """What a body may be read from: a file, or wsgi.input."""

    def read(self, size: int, /) -> bytes: ...


#: What Client.request takes for a body.
Body: TypeAlias = "bytes | bytearray | memoryview | Readable | Iterable[bytes] | None"


class BodySource:
    """A request body that is read once, front to back.

    ``length`` is None where nobody knows it: such a body goes as a chunked one.
    ``at_hand`` says that reading never waits, so that the first body chunk may
    leave together with the request.
    """

    def __init__(
        self, read: Callable[[int], bytes], length: int | None, *, at_hand: bool = False
    ) -> None:
        self._read = read
        self.length = length
        self.at_hand = at_hand
        self.sent = 0

    def read(self, size: int) -> bytes:
        """Give up to ``size`` bytes, and b"" only at the end of the body.

        Never gives more in all than ``length``.
        """
        if self.length is not None:
            size = min(size, self.length - self.sent)
        if size <= 0:
            return b""
        data = self._read(size)
        if len(data) > size:
            raise ValueError(f"the body gave {len(data)} bytes for read({size})")
        self.sent += len(data)
        return data

    @property
    def is_short(self) -> bool:
        """The body ended before its declared length."""
        return self.length is not None and self.sent < self.length


def open_body(body: Body, length: int | None = None) -> BodySource:
    """Make a source of whatever a caller gives as a body.

    ``length`` is what the caller declared, None to find it out: from the bytes
    themselves, or from the size of a regular file and the place in it. A file
    that has ``read1`` is read with that, so that what a slow sender has sent so
    far is passed on without waiting for more.
    """
    if body is None:
        return BodySource(lambda _size: b"", length or 0, at_hand=True)
    _refuse_text(body)
    if isinstance(body, bytes | bytearray | memoryview):
        memory = io.BytesIO(body)
        known = memory.getbuffer().nbytes
        if length not in (None, known):
            raise ValueError(f"Content-Length = {length}: the body has {known} bytes")
        return BodySource(memory.read, known, at_hand=True)
    if isinstance(body, Readable):
        if length is None:
            length = _bytes_left(body)
        read = getattr(body, "read1", None) or body.read
        return BodySource(read, length)
    return BodySource(_IteratorReader(iter(body)).read, length)


def _refuse_text(body: object) -> None:
    if isinstance(body, str):
        raise TypeError("the body is text: encode it first, body.encode('utf-8')")
    if isinstance(body, io.TextIOBase):
        raise TypeError("the body is a file of text: open it in binary mode, 'rb'")


def _bytes_left(file: Readable) -> int | None:
    """How much a regular file, or a file in memory, still holds."""
    tell, seek = getattr(file, "tell", None), getattr(file, "seek", None)
    if tell is None or seek is None:
        return None
    try:
        here = tell()
        end = seek(0, io.SEEK_END)
        seek(here)
    except (OSError, ValueError):  # a pipe, or something closed
        return None
    return max(0, end - here) if isinstance(end, int) else None


class _IteratorReader:
    """Cuts an iterator's pieces to the sizes that are asked for."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data
