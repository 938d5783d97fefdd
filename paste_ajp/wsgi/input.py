"""wsgi.input: the request body as a file, over Exchange.read_body."""

from __future__ import annotations

import io
from collections.abc import Iterator
from operator import index
from typing import IO, Any, ClassVar

from paste_ajp.wsgi.exchange import Exchange, FrontEndGone


def _whole(size: Any) -> int:
    """Return a size as the files of io take it: -1 for None. Raises TypeError."""
    return -1 if size is None else index(size)


class RequestBody:
    """The body of one request, read once from its start to its end.

    Reads block until they have what was asked for or the body has ended, and give
    ``b""`` from then on. A body that the remote did not send to its end raises
    BodyTruncated: a part is never returned as if it were the whole. After a failure
    every read fails, because what was read right before it is lost.

    A size is Any: the compiled build holds arguments to their types, and would refuse
    numbers that are no int, as numpy's, which index() takes.
    """

    __slots__ = ("_exchange", "_failure", "_piece", "_pos")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Exchange | None = exchange
        self._failure: FrontEndGone | None = None
        self._piece = b""  # the last piece that came, read up to _pos
        self._pos = 0

    def move(self, exchange: Exchange) -> None:
        """Read from what stands in for the exchange now."""
        if self._exchange is not None:
            self._exchange = exchange

    def detach(self) -> None:
        """Cut the tie to the connection: it will serve another request now."""
        self._exchange = None

    def _next_piece(self) -> bytes:
        exchange = self._exchange
        if exchange is None:
            raise ValueError("wsgi.input was read after the response had ended")
        if self._failure is not None:
            raise self._failure.again()
        try:
            return exchange.read_body()
        except FrontEndGone as failure:
            self._failure = failure.again()
            raise

    def read(self, size: Any = -1) -> bytes:
        """Return `size` bytes, fewer only at the end; all that is left for -1."""
        wanted: int = size if type(size) is int else _whole(size)
        if wanted < 0:
            return self._read_all()
        piece, pos = self._piece, self._pos
        end = pos + wanted
        if end <= len(piece):
            self._pos = end
            return piece[pos:end]
        parts = [piece[pos:]] if pos < len(piece) else []
        missing = end - len(piece)
        self._piece, self._pos = b"", 0
        while missing:
            piece = self._next_piece()
            if not piece:
                break
            if len(piece) > missing:
                self._piece, self._pos = piece, missing
                piece = piece[:missing]
            parts.append(piece)
            missing -= len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_all(self) -> bytes:
        parts = [self._piece[self._pos :]]
        self._piece, self._pos = b"", 0
        while piece := self._next_piece():
            parts.append(piece)
        return b"".join(parts)

    def read1(self, size: Any = -1) -> bytes:
        """Return what is there, or the next piece: at least a byte before the end."""
        wanted: int = size if type(size) is int else _whole(size)
        if wanted == 0:
            return b""
        if self._pos == len(self._piece):
            self._piece, self._pos = self._next_piece(), 0
        pos = self._pos
        end = len(self._piece)
        if 0 < wanted < end - pos:
            end = pos + wanted
        self._pos = end
        return self._piece[pos:end]

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, unless the body ends first; return how much was filled."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: Any = -1) -> bytes:
        """Return up to the next LF, that included, or up to `size` bytes."""
        limit: int = size if type(size) is int else _whole(size)
        if limit == 0:
            return b""
        parts: list[bytes] = []
        while True:
            piece, pos = self._piece, self._pos
            if pos == len(piece):
                piece, pos = self._next_piece(), 0
                if not piece:
                    self._piece, self._pos = b"", 0
                    break
            found = piece.find(b"\n", pos)
            end = len(piece) if found < 0 else found + 1
            if 0 <= limit < end - pos:
                end = pos + limit
            self._piece, self._pos = piece, end
            parts.append(piece[pos:end])
            if limit > 0:
                limit -= end - pos
            if limit == 0 or 0 <= found < end:
                break
        return b"".join(parts)

    def readlines(self, hint: Any = -1) -> list[bytes]:
        """Return the lines that are left, or whole lines of `hint` bytes at least."""
        enough: int = hint if type(hint) is int else _whole(hint)
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if 0 < enough <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    # What io.BufferedReader and io.TextIOWrapper ask of what they wrap.

    closed: ClassVar[bool] = False

    def readable(self) -> bool:
        """Is this open for reading? Always."""
        return True

    def writable(self) -> bool:
        """Is this open for writing? Never."""
        return False

    def seekable(self) -> bool:
        """Can this go back? Never: what was read is gone."""
        return False

    def flush(self) -> None:
        """Do nothing: there is nothing to write."""

    def close(self) -> None:
        """Do nothing: the server ends the body, PEP 3333 gives no close()."""


def spool(body: RequestBody, in_memory: int) -> tuple[IO[bytes], int]:
    """Receive what is left of `body`; return it as a file, and its length in bytes.

    More than `in_memory` bytes go to the disk. Either is a file of io, complete:
    tempfile's SpooledTemporaryFile has no seekable(), readinto() and the like before
    Python 3.11.
    """
    memory = io.BytesIO()
    file: IO[bytes] = memory
    length = 0
    try:
        while piece := body.read1():
            length += len(piece)
            if length > in_memory and file is memory:
                file = _on_disk(memory)
            file.write(piece)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file, length


def _on_disk(memory: io.BytesIO) -> IO[bytes]:
    """Return a temporary file that holds what `memory` does, to go on behind it."""
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115 - who spools closes it
    try:
        file.write(memory.getbuffer())
    except BaseException:
        file.close()
        raise
    return file
