"""The four data types of AJP/1.3, to and from bytes.

Readers take ``(data, pos, field)`` and return ``(value, position after it)``;
``field`` is the name that an error blames. Writers return bytes, and raise
LocalProtocolError for what the type cannot hold. All integers are big endian.
"""

from __future__ import annotations

import re
from typing import Final

from paste_ajp.protocol.codes import NULL_STRING
from paste_ajp.protocol.errors import DecodeError, LocalProtocolError

#: The null string on the wire: a length that cannot be, and nothing after it.
NULL: Final = b"\xff\xff"


def decode_byte(data: bytes, pos: int, field: str) -> tuple[int, int]:
    """Read a byte, 0 to 255."""
    if pos >= len(data):
        raise DecodeError(field, pos, f"needs 1 byte, {len(data) - pos} left")
    return data[pos], pos + 1


def decode_boolean(data: bytes, pos: int, field: str) -> tuple[bool, int]:
    """Read a boolean. Any byte but 0 is true, as at every front end but nginx."""
    value, pos = decode_byte(data, pos, field)
    return value != 0, pos


def decode_integer(data: bytes, pos: int, field: str) -> tuple[int, int]:
    """Read an unsigned integer of two bytes."""
    if pos + 2 > len(data):
        raise DecodeError(field, pos, f"needs 2 bytes, {len(data) - pos} left")
    return data[pos] << 8 | data[pos + 1], pos + 2


def decode_string(data: bytes, pos: int, field: str) -> tuple[bytes | None, int]:
    """Read a string: a length n, n bytes, and a NUL that n does not count.

    Returns the bytes (None for the null string, which is not ``b""``) and the
    position after the NUL. Raises DecodeError where the string runs past the
    payload, or its NUL is missing: n was wrong then, and all that follows
    would be misread. A NUL inside the string is refused as well: whoever reads
    it in C would stop there. Source: AJPv13, "String".
    """
    length, start = decode_integer(data, pos, field)
    if length == NULL_STRING:
        return None, start
    end = start + length
    if end >= len(data):
        left = len(data) - start
        raise DecodeError(field, pos, f"{length} bytes and a NUL due, {left} left")
    if data[end]:
        raise DecodeError(field, pos, f"ends in 0x{data[end]:02X}, not NUL")
    value = data[start:end]
    if 0 in value:
        raise DecodeError(field, pos, f"holds a NUL after {value.index(0)} bytes")
    return value, end + 1


def refuse_control(control: re.Pattern[str], text: str, field: str, pos: int) -> None:
    """Raise DecodeError where `control` finds a character that `text` must not hold."""
    found = control.search(text)
    if found:
        raise DecodeError(
            field,
            pos,
            f"holds the control character 0x{ord(found[0]):02X} at {found.start()}",
        )


def encode_byte(value: int, field: str) -> bytes:
    """Write a byte."""
    if not 0 <= value <= 0xFF:
        raise LocalProtocolError(f"{field} = {value}: a byte holds 0 to 255")
    return bytes((value,))


def encode_boolean(value: bool) -> bytes:
    """Write a boolean as 0 or 1; nginx takes nothing else for true."""
    return b"\x01" if value else b"\x00"


def encode_integer(value: int, field: str) -> bytes:
    """Write an unsigned integer of two bytes."""
    if not 0 <= value <= 0xFFFF:
        raise LocalProtocolError(f"{field} = {value}: an integer holds 0 to 65535")
    return value.to_bytes(2, "big")


def encode_string(value: str | None, field: str) -> bytes:
    """Write a string of Latin-1 text; None is the null string."""
    if value is None:
        return NULL
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(
            f"{field}: {value[error.start]!r} at {error.start} is not Latin-1"
        ) from None
    if len(data) >= NULL_STRING:
        raise LocalProtocolError(
            f"{field}: a string holds 65534 bytes, not {len(data)}"
        )
    if 0 in data:
        raise LocalProtocolError(f"{field}: holds a NUL after {data.index(0)} bytes")
    return len(data).to_bytes(2, "big") + data + b"\x00"
