"""multipart/form-data written part by part: what ``request -F`` sends.

Files are read while they are sent, in bounded memory. Source: RFC 7578; names are
escaped as HTML's forms do it ("multipart/form-data encoding algorithm").
"""

from __future__ import annotations

import io
import mimetypes
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from paste_ajp.commands.input import open_input

_PIECE = 65536
_LINE_END = b"\r\n"

#: What begins ``;type=...`` and ``;filename=...`` behind a field, outside of quotes.
_OPTION = re.compile(r'"(?:[^"\\]|\\.)*"|;\s*(type|filename)=')


class FormError(ValueError):
    """A field that is not as ``-F`` wants it; the text says what is wrong."""


class Field(NamedTuple):
    """One field. ``content`` is a Path where a file is to be read.

    ``filename`` is None unless the field is a file's, ``content_type`` "" for none.
    """

    name: str
    content: bytes | Path
    filename: str | None
    content_type: str


def parse_field(
    text: str, read_stdin: Callable[[], bytes], *, is_plain: bool = False
) -> Field:
    """Read a field as curl does.

    ``name=content``, ``name=@file`` (sent as a file), ``name=<file`` (its content),
    with ``;type=...`` and ``;filename=...`` behind; the file ``-`` is what
    ``read_stdin`` gives. With ``is_plain`` all that follows the first ``=`` is the
    content. Raises FormError.
    """
    name, equals, rest = text.partition("=")
    if not equals:
        raise FormError("expected NAME=TEXT, NAME=@FILE or NAME=<FILE")
    if is_plain:
        return Field(name, os.fsencode(rest), None, "")
    value, options = _split_options(rest)
    content_type = options.get("type", "")
    filename = options.get("filename")
    if not rest.startswith(("@", "<")):
        return Field(name, os.fsencode(value), filename, content_type)
    path = _unquoted(value[1:])
    if not path:
        raise FormError(f"no file after {rest[0]}")
    content: bytes | Path = read_stdin() if path == "-" else Path(path)
    if rest.startswith("@"):
        filename = filename or Path(path).name
        content_type = content_type or (
            mimetypes.guess_type(path)[0] or "application/octet-stream"
        )
    return Field(name, content, filename, content_type)


def _split_options(text: str) -> tuple[str, dict[str, str]]:
    """Take the options off a field's end; each reaches to the next, or to the end."""
    begins = [found for found in _OPTION.finditer(text) if found[1]]
    ends = [found.start() for found in begins[1:]] + [len(text)]
    options = {
        found[1]: _unquoted(text[found.end() : end].strip())
        for found, end in zip(begins, ends, strict=False)
    }
    return text[: begins[0].start()] if begins else text, options


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


class Form:
    """The body for some fields: its ``content_type``, its ``length``, its pieces.

    The files are open until ``close``. What one has grown by since it was opened stays
    out. Raises OSError where one cannot be read.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._boundary = f"------------------------{secrets.token_hex(11)}"
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self._end = f"--{self._boundary}--\r\n".encode()
        self.length = len(self._end)
        self._parts: list[tuple[bytes, BinaryIO, int]] = []
        with ExitStack() as stack:
            for field in fields:
                file: BinaryIO
                if isinstance(field.content, bytes):
                    file = io.BytesIO(field.content)
                    size = len(field.content)
                else:
                    file, stated = open_input(field.content)
                    stack.callback(file.close)
                    if stated is None:
                        content = file.read()
                        file, stated = io.BytesIO(content), len(content)
                    size = stated
                head = self._head(field)
                self._parts.append((head, file, size))
                self.length += len(head) + size + len(_LINE_END)
            self.close = stack.pop_all().close

    def _head(self, field: Field) -> bytes:
        line = b'--%b\r\nContent-Disposition: form-data; name="%b"' % (
            self._boundary.encode(),
            _escaped(field.name),
        )
        if field.filename is not None:
            line += b'; filename="%b"' % _escaped(field.filename)
        if field.content_type:
            line += b"\r\nContent-Type: %b" % _one_line(field.content_type)
        return line + b"\r\n\r\n"

    def pieces(self) -> Iterator[bytes]:
        """Yield the body, once; it ends before its length where a file has shrunk."""
        for head, file, size in self._parts:
            yield head
            left = size
            while left:
                piece = file.read(min(left, _PIECE))
                if not piece:
                    return
                left -= len(piece)
                yield piece
            yield _LINE_END
        yield self._end


def _escaped(text: str) -> bytes:
    return _one_line(text.replace('"', "%22"))


def _one_line(text: str) -> bytes:
    return os.fsencode(text.replace("\r", "%0D").replace("\n", "%0A"))
