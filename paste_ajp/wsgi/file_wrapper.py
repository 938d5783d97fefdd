"""wsgi.file_wrapper: files as a response body.

A regular file is read straight into packets whose heads were written beforehand: the
kernel scatters one read over them (preadv), and one send takes all. Anything else is
read block by block, as PEP 3333 shows it.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from paste_ajp.protocol.codes import RESPONSE_CHUNK_OVERHEAD
from paste_ajp.protocol.to_front_end import encode_chunk_head

#: How much of a file is read, and sent, at once: half of it is 13 % slower.
BATCH: Final = 524288

#: What a read() of anything but a regular file asks for.
BLOCK: Final = 65536


class FileWrapper:
    """An iterable over the blocks of a file-like object; closes it in the end."""

    def __init__(self, filelike: Any, block_size: int = BLOCK) -> None:
        self.filelike = filelike
        self.block_size = block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block

    def blocks(self, limit: int) -> Iterator[bytes]:
        """Yield the file's blocks, `limit` bytes in all and no more."""
        while limit > 0:
            block = self.filelike.read(min(limit, self.block_size))
            if not block:
                return
            limit -= len(block)
            yield block

    def packets(self, packet_size: int, limit: int | None) -> FilePackets | None:
        """Return batches that cover the file from where it stands.

        To its end, or `limit` bytes. None where the object is not a regular file, and
        must be read through read().
        """
        found = _regular_file(self.filelike)
        if found is None:
            return None
        return FilePackets(found, packet_size, limit)


class RegularFile(NamedTuple):
    """A descriptor, where it stands, and how large its file is, in bytes."""

    descriptor: int
    offset: int
    size: int


def _regular_file(filelike: Any) -> RegularFile | None:
    """Return what surely is a plain file, else None.

    Exact types only: a GzipFile has a descriptor too, whose bytes are not its own.
    """
    import tempfile

    if isinstance(filelike, tempfile._TemporaryFileWrapper):
        filelike = filelike.file
    kind = type(filelike)
    if kind is io.BufferedReader or kind is io.BufferedRandom:
        if type(filelike.raw) is not io.FileIO:
            return None
        if kind is io.BufferedRandom:
            filelike.flush()
    elif kind is not io.FileIO:
        return None
    if not hasattr(os, "preadv"):
        return None
    descriptor = filelike.fileno()
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        return None
    return RegularFile(descriptor, filelike.tell(), status.st_size)


class FileEndsEarly(Exception):
    """The file has fewer bytes than were promised of it."""


class FileUnreadable(Exception):
    """The system cannot read the file. No OSError, which sockets raise, too."""


class FilePackets:
    """Batches of whole Send Body Chunks that cover a file, `limit` bytes or all.

    Each is a memoryview, valid until the next is asked for; `count` says how many bytes
    of the file were given. Raises FileEndsEarly where it has not `limit` of them, and
    FileUnreadable.
    """

    def __init__(
        self,
        found: RegularFile,
        packet_size: int,
        limit: int | None,
    ) -> None:
        self._descriptor, self._offset, size = found
        self._is_ours = False
        self._limit = limit
        self._packet_size = packet_size
        self._size = packet_size - RESPONSE_CHUNK_OVERHEAD
        self._head = encode_chunk_head(self._size)
        self._buffer = memoryview(b"")
        self._views: list[memoryview] = []  # where the bodies of packets are
        self._altered: tuple[int, int, int] | None = None  # see _shortened()
        #: How many bytes there are to be in all, as far as that can be known.
        self.expected = max(0, size - self._offset) if limit is None else limit
        self.count = 0
        self._read = 0  # bytes of the file in the last batch
        self.is_complete = limit == 0

    def detach(self) -> None:
        """Read by a descriptor of our own: the application may close its file."""
        if not self._is_ours:
            self._descriptor = os.dup(self._descriptor)
            self._is_ours = True

    def close(self) -> None:
        """Close the descriptor if it is our own."""
        if self._is_ours:
            self._is_ours = False
            os.close(self._descriptor)

    def missing(self, unsent: int) -> int:
        """How many bytes have not gone out, of those that were expected.

        Those are fewer than none where the file has grown. `unsent` is how many bytes
        of the last batch have not gone out.
        """
        full, rest = divmod(self._read, self._size)
        length = full * self._packet_size
        if rest:
            length += rest + RESPONSE_CHUNK_OVERHEAD
        full, rest = divmod(length - unsent, self._packet_size)
        sent = full * self._size + max(0, rest - len(self._head))
        return self.expected - self.count + self._read - min(sent, self._read)

    def __iter__(self) -> Iterator[memoryview]:
        return self

    def __next__(self) -> memoryview:
        if self.is_complete:
            raise StopIteration
        if self._altered is not None:
            self._restore(*self._altered)
        targets = self._views or self._prepare()
        if self._limit is not None:
            left = self._limit - self.count
            if left < self._size * len(targets):
                targets = self._cut(left)
        try:
            read = os.preadv(self._descriptor, targets, self._offset)
        except OSError as error:
            raise FileUnreadable(
                f"the file cannot be read from byte {self._offset} on: {error.strerror}"
            ) from error
        if not read:
            self.is_complete = True
            if self._limit is None:
                raise StopIteration
            raise FileEndsEarly(
                f"the file ended after {self.count} of {self._limit} bytes"
            )
        self._offset += read
        self._read = read
        self.count += read
        self.is_complete = self.count == self._limit
        full, rest = divmod(read, self._size)
        end = full * self._packet_size
        return self._shortened(end, rest) if rest else self._buffer[:end]

    def _prepare(self) -> list[memoryview]:
        """Write the heads of a batch of packets, and return where their bodies are."""
        slots = max(1, BATCH // self._packet_size)
        packet = self._head + bytes(self._size + 1)
        self._buffer = buffer = memoryview(bytearray(packet * slots))
        starts = range(len(self._head), len(buffer), self._packet_size)
        self._views = [buffer[start : start + self._size] for start in starts]
        return self._views

    def _cut(self, left: int) -> list[memoryview]:
        """Return where the last `left` bytes shall be read to."""
        full, rest = divmod(left, self._size)
        targets = self._views[:full]
        if rest:
            targets.append(self._views[full][:rest])
        return targets

    def _shortened(self, end: int, rest: int) -> memoryview:
        """Return the batch whose last packet, at `end`, has `rest` bytes.

        Its head and its NUL must say so, until the next batch.
        """
        start = end + len(self._head)
        after = start + rest
        self._altered = end, after, self._buffer[after]
        self._buffer[end:start] = encode_chunk_head(rest)
        self._buffer[after] = 0
        return self._buffer[: after + 1]

    def _restore(self, end: int, after: int, byte: int) -> None:
        self._buffer[end : end + len(self._head)] = self._head
        self._buffer[after] = byte
        self._altered = None
