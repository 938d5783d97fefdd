"""multipart/form-data read part by part, in bounded memory.

The demo's, which must take uploads of any size. A part's data comes in pieces
as it is read; what is kept is one piece and the width of a boundary.
Source: RFC 7578, RFC 2046 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

PIECE_SIZE = 65536
MOST_HEADER_BYTES = 8192
MOST_PARTS = 100


class MultipartError(ValueError):
    """The body is not the multipart/form-data that its type announces."""


@dataclass
class Part:
    """One field: ``filename`` is None unless it is a file's.

    ``pieces`` yields the data once. What is left of it when the next part is
    asked for is dropped.
    """

    name: str
    filename: str | None
    content_type: str
    pieces: Iterator[bytes]


def boundary_of(content_type: str) -> bytes | None:
    """Find the boundary in a Content-Type; None when it is of another type."""
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower() != "multipart/form-data":
        return None
    match = re.search(
        r'(?:^|;)\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)',
        parameters,
        re.IGNORECASE,
    )
    if not match:
        raise MultipartError("no boundary in Content-Type")
    return (match[1] or match[2]).encode("latin-1")


def read_parts(read: Callable[[int], bytes], boundary: bytes) -> Iterator[Part]:
    """Read the parts one after the other by ``read(size)``.

    Raises MultipartError where the body breaks off or is out of form.
    """
    source = _Source(read, b"\r\n--" + boundary)
    source.drop_to_delimiter()  # the preamble, mostly of no bytes
    for _ in range(MOST_PARTS):
        if source.is_last_delimiter():
            return
        headers = _headers(source.read_head())
        pieces = source.pieces()
        yield _part(headers, pieces)
        for _ in pieces:
            pass
    raise MultipartError(f"more than {MOST_PARTS} parts")


class _Source:
    """A body with a cursor that stops at delimiters."""

    def __init__(self, read: Callable[[int], bytes], delimiter: bytes) -> None:
        self._read = read
        self._delimiter = delimiter
        # The first delimiter has a line's end before it only in thought.
        self._buffer = bytearray(b"\r\n")

    def _fill(self) -> None:
        data = self._read(PIECE_SIZE)
        if not data:
            raise MultipartError("the body ends before its last boundary")
        self._buffer += data

    def pieces(self) -> Iterator[bytes]:
        """Yield what is before the next delimiter, and pass over that."""
        while (end := self._buffer.find(self._delimiter)) < 0:
            sure = len(self._buffer) - len(self._delimiter) + 1
            if sure > 0:
                yield bytes(self._buffer[:sure])
                del self._buffer[:sure]
            self._fill()
        if end:
            yield bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]

    def drop_to_delimiter(self) -> None:
        for _ in self.pieces():
            pass

    def is_last_delimiter(self) -> bool:
        """Read the rest of a delimiter's line; True when ``--`` ends it all."""
        while len(self._buffer) < 2:
            self._fill()
        if self._buffer.startswith(b"--"):
            return True
        line = self._take(b"\r\n", "a boundary's line")
        if line.strip(b" \t"):
            raise MultipartError("a boundary is followed by other text")
        return False

    def read_head(self) -> bytes:
        """Read the header lines of a part and the empty line after them."""
        if self._starts_with(b"\r\n"):
            del self._buffer[:2]
            return b""
        return self._take(b"\r\n\r\n", "a part's header")

    def _starts_with(self, text: bytes) -> bool:
        while len(self._buffer) < len(text):
            self._fill()
        return self._buffer.startswith(text)

    def _take(self, end: bytes, what: str) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > MOST_HEADER_BYTES:
                break
            self._fill()
        if not 0 <= at <= MOST_HEADER_BYTES:
            raise MultipartError(f"{what} is longer than {MOST_HEADER_BYTES} bytes")
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken


def _headers(head: bytes) -> dict[str, str]:
    headers = {}
    for line in head.split(b"\r\n") if head else []:
        name, separator, value = line.decode("utf-8", "replace").partition(":")
        if not separator:
            raise MultipartError("a part's header has no colon")
        headers[name.strip().lower()] = value.strip()
    return headers


def _part(headers: dict[str, str], pieces: Iterator[bytes]) -> Part:
    disposition = headers.get("content-disposition", "")
    # Browsers write the three characters that would break this as %22, %0D, %0A;
    # others escape a quote by a backslash.
    fields = {
        name.lower(): re.sub(r'\\(["\\])', r"\1", quoted or plain)
        for name, quoted, plain in re.findall(
            r';\s*([\w*]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', disposition
        )
    }
    if not disposition.lower().startswith("form-data") or "name" not in fields:
        raise MultipartError("a part has no name")
    return Part(
        fields["name"],
        fields.get("filename"),
        headers.get("content-type", "text/plain"),
        pieces,
    )
