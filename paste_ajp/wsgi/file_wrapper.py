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
from typing import Any, Final

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

    def packets(
        self, packet_size: int, limit: int | None
    ) -> Iterator[tuple[int, memoryview]] | None:
        """Return batches of whole Send Body Chunks, each with its count of body bytes.

        They cover the file from where it stands to its end, or `limit` bytes. None
        where the object is not a regular file, and must be read through read(). A
        batch is valid until the next is asked for.
        """
        found = _regular_file(self.filelike)
        if found is None:
            return None
        return _packets(*found, packet_size, limit)


def _regular_file(filelike: Any) -> tuple[int, int] | None:
    """Return descriptor and offset of what surely is a plain file, else None.

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
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    return descriptor, filelike.tell()


def _packets(
    descriptor: int, offset: int, packet_size: int, limit: int | None
) -> Iterator[tuple[int, memoryview]]:
    size = packet_size - RESPONSE_CHUNK_OVERHEAD
    slots = max(1, BATCH // packet_size)
    head = encode_chunk_head(size)
    buffer = memoryview(bytearray((head + bytes(size + 1)) * slots))
    starts = range(len(head), len(buffer), packet_size)
    views = [buffer[start : start + size] for start in starts]
    while limit is None or limit > 0:
        targets = views
        if limit is not None and limit < size * slots:
            full, rest = divmod(limit, size)
            targets = views[:full]
            if rest:
                targets.append(views[full][:rest])
        count = os.preadv(descriptor, targets, offset)
        if not count:
            return
        offset += count
        if limit is not None:
            limit -= count
        full, rest = divmod(count, size)
        end = full * packet_size
        if not rest:
            yield count, buffer[:end]
            continue
        # The last packet is shorter: its head and its NUL must say so.
        last = end + len(head)
        buffer[end:last] = encode_chunk_head(rest)
        after = buffer[last + rest]
        buffer[last + rest] = 0
        yield count, buffer[: last + rest + 1]
        buffer[end:last] = head
        buffer[last + rest] = after
