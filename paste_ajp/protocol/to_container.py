"""What a front end sends: from bytes for our server, to bytes for our client.

A Forward Request is read by one of two decoders. The quick one makes a single
pass with local names, and gives up (None) at the first thing that is not as
front ends normally send it. The exact one then reads the same bytes field by
field; it alone decides what is wrong, and names it. Whatever the quick one
accepts the exact one reads alike: tests/property holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from paste_ajp.protocol.codes import (
    ANY_TEXT_ATTRIBUTES,
    ATTRIBUTE_BY_CODE,
    CODE_BY_ATTRIBUTE,
    CODE_BY_METHOD,
    CODE_BY_REQUEST_HEADER,
    DEFAULT_PACKET_SIZE,
    END_OF_ATTRIBUTES,
    FRONT_END_ATTRIBUTES,
    HEADER_CODE,
    METHOD_BY_CODE,
    PACKET_HEADER,
    REQUEST_ATTRIBUTE,
    REQUEST_CHUNK_OVERHEAD,
    REQUEST_HEADER_BY_CODE,
    REQUEST_HEADERS,
    SSL_KEY_SIZE,
    STORED_METHOD,
    ToContainer,
)
from paste_ajp.protocol.errors import DecodeError, FramingError, LocalProtocolError
from paste_ajp.protocol.messages import ForwardRequest
from paste_ajp.protocol.wire import (
    decode_boolean,
    decode_byte,
    decode_integer,
    decode_string,
    encode_boolean,
    encode_byte,
    encode_integer,
    encode_string,
    refuse_control,
)

CPING: Final = b"\x12\x34\x00\x01\x0a"
PING: Final = b"\x12\x34\x00\x01\x08"
SHUTDOWN: Final = b"\x12\x34\x00\x01\x07"
#: The body chunk that says "no more", as httpd writes it. mod_jk leaves the
#: length away, which reads the same.
END_OF_BODY: Final = b"\x12\x34\x00\x02\x00\x00"

#: Headers that a request may have, unless a setting says otherwise. httpd lets
#: 100 through, and mod_jk adds one.
MAX_HEADERS: Final = 200
#: The largest length that a signed 64-bit integer holds, as front ends keep it.
MAX_CONTENT_LENGTH: Final = 2**63 - 1
#: Body bytes in the largest chunk of lighttpd, which has no inner length.
RAW_CHUNK_SIZE: Final = 8188

#: Literal header names remembered at the most, and how long one may be for that.
CACHE_ENTRIES: Final = 1024
CACHE_LENGTH: Final = 64

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PROTOCOL: Final = re.compile(r"HTTP/[0-9](\.[0-9])?")
_ABSOLUTE: Final = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
#: What a header value may not hold: tab is legal, bytes above 0x7F are.
_VALUE_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH: Final = re.compile("[0-9]{1,19}")
#: Turns control characters into NUL: one pass over the packet, and a look for NUL in
#: each text, take half of the time of str.isprintable().
_MARK_CONTROLS: Final = bytes(
    0 if code < 0x20 or code == 0x7F else code for code in range(256)
)

#: What opens a payload, where the protocol has eight letters -> method, protocol.
_HEADS: Final[dict[bytes, tuple[str | None, str]]] = {
    b"\x02%c\x00\x08%b\x00" % (code, protocol.encode()): (
        METHOD_BY_CODE.get(code),
        protocol,
    )
    for code in (*METHOD_BY_CODE, STORED_METHOD)
    for protocol in ("HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9")
}
#: Coded header names by the second byte of their code; there is none for 0.
_CODED_NAMES: Final = ["", *REQUEST_HEADERS]
#: Attributes whose value is a string, by code.
_STRING_ATTRIBUTES: Final = {
    code: name for code, name in ATTRIBUTE_BY_CODE.items() if code != SSL_KEY_SIZE
}
#: Headers that are more than a name and a value, and the name of the code 0xA000.
_WEIGHTY: Final = frozenset({"host", "content-length", "transfer-encoding", ""})
_new_tuple: Final = tuple.__new__

#: Literal header name as it was sent -> in lower case, checked.
_names: Final[dict[str, str]] = {}


def decode_forward_request(
    data: bytes, max_headers: int = MAX_HEADERS, start: int = 0
) -> ForwardRequest:
    """Decode the payload of a Forward Request: ``data`` from ``start`` to its end.

    Checks all that needs no policy: structure, method, protocol, URI, header names
    and values, Content-Length, Transfer-Encoding, Host, attributes. Raises
    DecodeError with the status to answer; its offsets count from ``start``.

    Left to the caller: percent-escapes, the secret, names with an underscore.
    """
    request = _decode_quickly(data, max_headers, start)
    if request is None:
        return _decode_exactly(data[start:] if start else data, max_headers)
    return request


def _decode_quickly(data: bytes, max_headers: int, start: int) -> ForwardRequest | None:
    """Decode what looks as front ends normally send it, or return None.

    All text is cut from one Latin-1 string; lengths are read from the bytes. A
    slice past the end is silent, but the look for the NUL behind it is not: it
    raises IndexError, and where it succeeds the slice was whole. So IndexError is
    the peer's fault, or the sign that the exact decoder has to find a bug of ours.
    """
    text = data.translate(_MARK_CONTROLS).decode("latin-1")
    try:
        # Type, method and an eight-byte protocol in one look instead of seven.
        pos = start + 13
        head = _HEADS.get(data[start:pos])
        if head is None:
            return None
        method, protocol = head

        begin = pos + 2
        pos = begin + (data[pos] << 8 | data[pos + 1])
        req_uri = text[begin:pos]
        if data[pos] or data[begin] != 0x2F:
            return None
        if "\x00" in req_uri:
            return None

        pos += 1
        begin = pos + 2
        pos = begin + (data[pos] << 8 | data[pos + 1])
        remote_addr = text[begin:pos]
        if data[pos]:
            return None

        pos += 1
        remote_host: str | None = None
        if data[pos] == 0xFF:
            if data[pos + 1] != 0xFF:
                return None
            pos += 2
        else:
            begin = pos + 2
            pos = begin + (data[pos] << 8 | data[pos + 1])
            remote_host = text[begin:pos]
            if data[pos] or "\x00" in remote_host:
                return None
            pos += 1

        begin = pos + 2
        pos = begin + (data[pos] << 8 | data[pos + 1])
        server_name = text[begin:pos]
        if data[pos] or "\x00" in server_name or "\x00" in remote_addr:
            return None
        server_port = data[pos + 1] << 8 | data[pos + 2]
        is_ssl = data[pos + 3] != 0
        count = data[pos + 4] << 8 | data[pos + 5]
        if count > max_headers:
            return None
        pos += 6

        headers: list[tuple[str, str]] = []
        content_length: int | None = None
        is_chunked = False
        host_seen = False
        for _ in range(count):
            lead = data[pos]
            if lead == 0xA0:
                name = _CODED_NAMES[data[pos + 1]]
                pos += 2
            else:
                begin = pos + 2
                pos = begin + (lead << 8 | data[pos + 1])
                name = _names[text[begin:pos]]
                if data[pos]:
                    return None
                pos += 1
            begin = pos + 2
            pos = begin + (data[pos] << 8 | data[pos + 1])
            value = text[begin:pos]
            if data[pos]:
                return None
            if "\x00" in value:
                value = data[begin:pos].decode("latin-1")  # it may have tabs
                if _VALUE_CONTROL.search(value):
                    return None
            pos += 1
            headers.append((name, value))
            if name in _WEIGHTY:
                if name == "host":
                    if host_seen or "," in value:
                        return None
                    host_seen = True
                elif name == "content-length":
                    # Up to 18 digits cannot exceed 63 bits.
                    if (
                        content_length is not None
                        or len(value) > 18
                        or not (value.isascii() and value.isdigit())
                    ):
                        return None
                    content_length = int(value)
                elif is_chunked or value != "chunked" or not name:
                    return None
                else:
                    is_chunked = True
        if is_chunked and content_length is not None:
            return None

        attributes: dict[str, str | int | None] = {}
        request_attributes: list[tuple[str, str]] = []
        code = data[pos]
        while code != 0xFF:
            pos += 1
            begin = pos + 2
            if code == 10:
                pos = begin + (data[pos] << 8 | data[pos + 1])
                name = text[begin:pos]
                begin = pos + 3
                end = begin + (data[pos + 1] << 8 | data[pos + 2])
                value = text[begin:end]
                if data[pos] or data[end] or not name or "\x00" in name:
                    return None
                if "\x00" in value:
                    value = data[begin:end].decode("latin-1")
                    if "\x00" in value or name in FRONT_END_ATTRIBUTES:
                        return None
                request_attributes.append((name, value))
                pos = end + 1
            elif code == 11:
                # Before a digit it may be the length of Undertow's string.
                if "ssl_key_size" in attributes or 0x30 <= data[begin] <= 0x39:
                    return None
                attributes["ssl_key_size"] = data[pos] << 8 | data[pos + 1]
                pos = begin
            else:
                name = _STRING_ATTRIBUTES[code]
                pos = begin + (data[pos] << 8 | data[pos + 1])
                value = text[begin:pos]
                if data[pos] or name in attributes:
                    return None
                if "\x00" in value:
                    value = data[begin:pos].decode("latin-1")
                    if "\x00" in value or name not in ANY_TEXT_ATTRIBUTES:
                        return None
                attributes[name] = value
                pos += 1
            code = data[pos]
        if pos + 1 != len(data):
            return None
    except (IndexError, KeyError):
        return None
    if method is None:
        stored = attributes.get("stored_method")
        if not isinstance(stored, str) or not _TOKEN.fullmatch(stored):
            return None
        method = stored
    # tuple.__new__ itself takes a third of the time of ForwardRequest(...).
    return _new_tuple(
        ForwardRequest,
        (
            method,
            protocol,
            req_uri,
            remote_addr,
            remote_host,
            server_name,
            server_port,
            is_ssl,
            headers,
            attributes,
            request_attributes,
            content_length,
            is_chunked,
        ),
    )


def _decode_exactly(payload: bytes, max_headers: int) -> ForwardRequest:
    """Decode field by field, and say what is wrong where something is."""
    code, pos = decode_byte(payload, 0, "type")
    if code != ToContainer.FORWARD_REQUEST:
        raise DecodeError("type", 0, f"expected 2, Forward Request, found {code}")
    method_code, pos = decode_byte(payload, pos, "method")
    method = METHOD_BY_CODE.get(method_code, "")
    if not method and method_code != STORED_METHOD:
        raise DecodeError("method", 1, f"expected 1 to 27 or 255, found {method_code}")
    at = pos
    protocol, pos = _decode_text(payload, pos, "protocol")
    if protocol is None or not _PROTOCOL.fullmatch(protocol):
        raise DecodeError(
            "protocol", at, f"expected HTTP/ and a version, found {_shown(protocol)}"
        )
    uri_at = pos
    req_uri, pos = _decode_text(payload, pos, "req_uri")
    remote_addr, pos = _decode_clean_text(payload, pos, "remote_addr")
    remote_host, pos = _decode_clean_text(payload, pos, "remote_host")
    server_name, pos = _decode_clean_text(payload, pos, "server_name")
    server_port, pos = decode_integer(payload, pos, "server_port")
    is_ssl, pos = decode_boolean(payload, pos, "is_ssl")
    headers, content_length, is_chunked, pos = _decode_headers(
        payload, pos, max_headers
    )
    attributes, request_attributes = _decode_attributes(payload, pos)
    if method_code == STORED_METHOD:
        stored = attributes.get("stored_method")
        if not isinstance(stored, str) or not _TOKEN.fullmatch(stored):
            raise DecodeError(
                "method",
                1,
                f"255 needs a token in stored_method, found {_shown(stored)}",
            )
        method = stored
    return ForwardRequest(
        method,
        protocol,
        _check_uri(req_uri, uri_at, method),
        remote_addr,
        remote_host,
        server_name,
        server_port,
        is_ssl,
        headers,
        attributes,
        request_attributes,
        content_length,
        is_chunked,
    )


def _shown(text: object) -> str:
    """Return ``text`` as an error may show it: quoted, short, null as null."""
    if text is None:
        return "null"
    shown = repr(text)
    return shown if len(shown) <= 42 else f"{shown[:40]}..."


def _decode_text(payload: bytes, pos: int, field: str) -> tuple[str | None, int]:
    """Read a string as Latin-1 text."""
    value, pos = decode_string(payload, pos, field)
    return (None if value is None else value.decode("latin-1")), pos


def _decode_clean_text(payload: bytes, pos: int, field: str) -> tuple[str | None, int]:
    """Read a string that may hold no control character; no front end needs one."""
    text, after = _decode_text(payload, pos, field)
    refuse_control(_CONTROL, text or "", field, pos)
    return text, after


def _check_uri(uri: str | None, at: int, method: str) -> str:
    """Return the path of ``uri``, or raise."""
    if uri is None:
        raise DecodeError("req_uri", at, "expected a path, found null")
    refuse_control(_CONTROL, uri, "req_uri", at)
    if uri.startswith("/") or (uri == "*" and method == "OPTIONS"):
        return uri
    absolute = _ABSOLUTE.match(uri)
    if absolute:
        # A whole URI is as its sender wrote it, so a query is no part of the path; it
        # comes as an attribute of its own.
        path = uri[absolute.end() :].partition("?")[0]
        return path if path.startswith("/") else "/" + path
    raise DecodeError("req_uri", at, f"expected a path, found {_shown(uri)}")


def _decode_headers(
    payload: bytes, pos: int, max_headers: int
) -> tuple[list[tuple[str, str]], int | None, bool, int]:
    """Read the headers, and the length of the body from them."""
    at = pos
    count, pos = decode_integer(payload, pos, "num_headers")
    if count > max_headers:
        raise DecodeError(
            "num_headers", at, f"expected at most {max_headers}, found {count}", 431
        )
    headers: list[tuple[str, str]] = []
    content_length: int | None = None
    transfer_encoding: str | None = None
    length_at = coding_at = 0
    hosts = 0
    for number in range(1, count + 1):
        at = pos
        name, pos = _decode_header_name(payload, pos, f"header {number} name")
        text, pos = _decode_text(payload, pos, f"header {name[:CACHE_LENGTH]}")
        value = text or ""
        refuse_control(_VALUE_CONTROL, value, f"header {name[:CACHE_LENGTH]}", at)
        headers.append((name, value))
        if name == "content-length":
            if content_length is not None:
                raise DecodeError("header content-length", at, "given twice")
            content_length = _parse_content_length(value, at)
            length_at = at
        elif name == "transfer-encoding":
            if transfer_encoding is not None:
                raise DecodeError("header transfer-encoding", at, "given twice", 501)
            transfer_encoding = value
            coding_at = at
        elif name == "host":
            hosts += 1
            if hosts > 1:
                raise DecodeError("header host", at, "given twice")
            if "," in value:
                raise DecodeError(
                    "header host", at, f"expected one host, found {_shown(value)}"
                )
    if transfer_encoding is not None:
        if transfer_encoding.lower() != "chunked":
            raise DecodeError(
                "header transfer-encoding",
                coding_at,
                f"expected chunked, found {_shown(transfer_encoding)}",
                501,
            )
        if content_length is not None:
            raise DecodeError(
                "header content-length", length_at, "given beside transfer-encoding"
            )
    return headers, content_length, transfer_encoding is not None, pos


def _parse_content_length(value: str, at: int) -> int:
    if not _LENGTH.fullmatch(value) or int(value) > MAX_CONTENT_LENGTH:
        raise DecodeError(
            "header content-length",
            at,
            f"expected a decimal number below 2**63, found {_shown(value)}",
        )
    return int(value)


def _decode_header_name(payload: bytes, pos: int, field: str) -> tuple[str, int]:
    """Read a header name, coded or literal, in lower case."""
    if payload[pos : pos + 1] == b"\xa0":
        code, after = decode_integer(payload, pos, field)
        known = REQUEST_HEADER_BY_CODE.get(code)
        if known is None:
            raise DecodeError(
                field, pos, f"expected 0xA001 to 0xA00E, found 0x{code:04X}"
            )
        return known, after
    text, after = _decode_text(payload, pos, field)
    if text is None or not _TOKEN.fullmatch(text):
        raise DecodeError(field, pos, f"expected a token, found {_shown(text)}")
    name = text.lower()
    if len(text) <= CACHE_LENGTH:
        # Remembered for the quick decoder. Emptied when full: names that a remote
        # makes up can slow others down, but not fill the memory.
        if len(_names) >= CACHE_ENTRIES:
            _names.clear()
        _names[text] = name
    return name, after


def _decode_attributes(
    payload: bytes, pos: int
) -> tuple[dict[str, str | int | None], list[tuple[str, str]]]:
    """Read the attributes up to the end of the payload."""
    attributes: dict[str, str | int | None] = {}
    request_attributes: list[tuple[str, str]] = []
    while True:
        at = pos
        code, pos = decode_byte(payload, pos, "attribute code")
        if code == END_OF_ATTRIBUTES:
            break
        if code == REQUEST_ATTRIBUTE:
            name, pos = _decode_text(payload, pos, "request attribute name")
            if not name:
                raise DecodeError(
                    "request attribute name",
                    at + 1,
                    f"expected a name, found {_shown(name)}",
                )
            field = f"request attribute {_shown(name)}"
            if name in FRONT_END_ATTRIBUTES:
                value, pos = _decode_clean_text(payload, pos, field)
            else:
                value, pos = _decode_text(payload, pos, field)
            request_attributes.append((name, value or ""))
            continue
        known = ATTRIBUTE_BY_CODE.get(code)
        if known is None:
            raise DecodeError(
                "attribute code", at, f"expected 1 to 13 or 255, found {code}"
            )
        if known in attributes:
            raise DecodeError(known, at, "given twice")
        if code == SSL_KEY_SIZE:
            attributes[known], pos = _decode_key_size(payload, pos)
        elif known in ANY_TEXT_ATTRIBUTES:
            attributes[known], pos = _decode_text(payload, pos, known)
        else:
            attributes[known], pos = _decode_clean_text(payload, pos, known)
    if pos != len(payload):
        raise DecodeError(
            "payload", pos, f"{len(payload) - pos} bytes after the end of attributes"
        )
    return attributes, request_attributes


def _decode_key_size(payload: bytes, pos: int) -> tuple[int, int]:
    """Read ssl_key_size: an integer, or Undertow's string of digits.

    After an integer an attribute code follows, which no digit is.
    """
    value, after = decode_integer(payload, pos, "ssl_key_size")
    digits = payload[after : after + value]
    if digits.isdigit() and payload[after + value : after + value + 1] == b"\x00":
        if value > 5 or int(digits) > 0xFFFF:
            raise DecodeError(
                "ssl_key_size", pos, f"expected 0 to 65535, found {_shown(digits)}"
            )
        return int(digits), after + value + 1
    return value, after


def find_content_length(payload: bytes) -> int:
    """Return the Content-Length of a Forward Request that could not be decoded.

    For the count of owed body chunks alone: 0 where none can be read with
    certainty. Looks at nothing but the structure, up to the headers' end.
    """
    try:
        pos = 2
        for field in ("protocol", "req_uri", "remote_addr", "remote_host", "name"):
            _, pos = decode_string(payload, pos, field)
        count, pos = decode_integer(payload, pos + 3, "num_headers")
        for _ in range(count):
            if payload[pos : pos + 1] == b"\xa0":
                code, pos = decode_integer(payload, pos, "header")
                name = REQUEST_HEADER_BY_CODE.get(code, "")
            else:
                raw, pos = decode_string(payload, pos, "header")
                name = (raw or b"").decode("latin-1").lower()
            value, pos = decode_string(payload, pos, name)
            if name == "content-length":
                return _parse_content_length((value or b"").decode("latin-1"), pos)
    except DecodeError:
        pass  # no certainty, as the docstring says
    return 0


def decode_body_chunk(payload: bytes, raw: bool = False) -> bytes:
    """Return the body bytes of a request body chunk, ``b""`` at the end of the body.

    ``raw``: the payload is the data, as lighttpd sends it. Otherwise it opens with
    the length of the data; a NUL after them, as Tomcat's test client writes it, is
    taken off. Raises FramingError where that length is not the packet's.
    """
    length = len(payload)
    if raw or not length:
        return payload
    if length == 1:
        raise FramingError("body chunk", 0, "needs 2 bytes, 1 left")
    data = _decode_standard_chunk(payload)
    if data is None:
        inner, _ = decode_integer(payload, 0, "body chunk")
        raise FramingError(
            "body chunk", 0, f"expected the length {length - 2}, found {inner}"
        )
    return data


def _decode_standard_chunk(payload: bytes) -> bytes | None:
    """Return the data of a chunk with an inner length, None if it has none."""
    length = len(payload)
    if length < 2:
        return None
    inner = payload[0] << 8 | payload[1]
    if inner == length - 2:
        return payload[2:]
    if inner == length - 3 and not payload[-1]:
        return payload[2:-1]
    return None


def is_raw_chunk(payload: bytes, content_length: int) -> bool:
    """Whether the first body chunk of a request has lighttpd's form.

    To be asked only of a request that ForwardRequest.looks_like_lighttpd, and for
    its first chunk; the answer holds for the rest of the exchange. Where both
    forms fit, it is lighttpd's if it has the length that lighttpd would give it.
    Any other front end's chunk is two bytes longer than the data in it, so it has
    that length only where it is a full one and announces itself as such.
    """
    length = len(payload)
    if not length or length > content_length:
        return False
    if length == min(content_length, RAW_CHUNK_SIZE):
        return True
    return _decode_standard_chunk(payload) is None


def encode_forward_request(
    request: ForwardRequest, packet_size: int = DEFAULT_PACKET_SIZE
) -> bytes:
    """Encode a Forward Request; see build_forward_request for making one.

    A method without code is sent as stored_method. Raises LocalProtocolError where
    the packet would be longer than ``packet_size``, or a value does not fit its type.
    """
    code = CODE_BY_METHOD.get(request.method, STORED_METHOD)
    parts = [
        bytes((ToContainer.FORWARD_REQUEST, code)),
        encode_string(request.protocol, "protocol"),
        encode_string(request.req_uri, "req_uri"),
        encode_string(request.remote_addr, "remote_addr"),
        encode_string(request.remote_host, "remote_host"),
        encode_string(request.server_name, "server_name"),
        encode_integer(request.server_port, "server_port"),
        encode_boolean(request.is_ssl),
        encode_integer(len(request.headers), "num_headers"),
    ]
    for name, value in request.headers:
        header_code = CODE_BY_REQUEST_HEADER.get(name.lower())
        if header_code is not None:
            parts.append(encode_integer(header_code, name))
        elif len(name) >= HEADER_CODE << 8:
            raise LocalProtocolError(
                f"a header name of {len(name)} bytes reads as a code"
            )
        else:
            parts.append(encode_string(name, "header name"))
        parts.append(encode_string(value, f"header {name}"))
    for name, attribute in request.attributes.items():
        parts.append(_encode_attribute(name, attribute))
    if code == STORED_METHOD and "stored_method" not in request.attributes:
        parts.append(_encode_attribute("stored_method", request.method))
    for name, value in request.request_attributes:
        parts.append(bytes((REQUEST_ATTRIBUTE,)))
        parts.append(encode_string(name, "request attribute name"))
        parts.append(encode_string(value, f"request attribute {name}"))
    parts.append(bytes((END_OF_ATTRIBUTES,)))
    payload = b"".join(parts)
    size = len(payload) + PACKET_HEADER
    if size > packet_size:
        raise LocalProtocolError(
            f"Forward Request makes a packet of {size} bytes, at most {packet_size} fit"
        )
    return b"\x12\x34" + len(payload).to_bytes(2, "big") + payload


def _encode_attribute(name: str, value: str | int | None) -> bytes:
    code = CODE_BY_ATTRIBUTE.get(name)
    if code is None:
        raise LocalProtocolError(f"{name!r} is no attribute with a code")
    if code == SSL_KEY_SIZE:
        if not isinstance(value, int):
            raise LocalProtocolError(f"ssl_key_size = {value!r}: expected an int")
        return encode_byte(code, name) + encode_integer(value, name)
    if isinstance(value, int):
        raise LocalProtocolError(f"{name} = {value!r}: expected a str or None")
    return encode_byte(code, name) + encode_string(value, name)


def build_forward_request(
    method: str = "GET",
    req_uri: str = "/",
    headers: Sequence[tuple[str, str]] = (),
    *,
    protocol: str = "HTTP/1.1",
    remote_addr: str | None = "127.0.0.1",
    remote_host: str | None = None,
    server_name: str | None = "localhost",
    server_port: int = 80,
    is_ssl: bool = False,
    attributes: dict[str, str | int | None] | None = None,
    request_attributes: Sequence[tuple[str, str]] = (),
) -> ForwardRequest:
    """Make a Forward Request to send: what follows from its headers is filled in.

    Send ``AJP_REMOTE_PORT`` among the request attributes, as httpd and mod_jk do,
    unless the container should take us for lighttpd. Raises DecodeError for what
    decode_forward_request would refuse.
    """
    lowered = [(name.lower(), value) for name, value in headers]
    named = dict(attributes or {})
    if method not in CODE_BY_METHOD:
        named.setdefault("stored_method", method)
    request = ForwardRequest(
        method,
        protocol,
        req_uri,
        remote_addr,
        remote_host,
        server_name,
        server_port,
        is_ssl,
        lowered,
        named,
        list(request_attributes),
        None,
        False,
    )
    packet = encode_forward_request(request, 0x10003)
    return decode_forward_request(packet, len(lowered), PACKET_HEADER)


def encode_body_chunk(data: bytes, packet_size: int = DEFAULT_PACKET_SIZE) -> bytes:
    """Encode one request body chunk; empty data says that the body has ended."""
    most = packet_size - REQUEST_CHUNK_OVERHEAD
    length = len(data)
    if length > most:
        raise LocalProtocolError(f"a body chunk of {length} bytes, at most {most} fit")
    return b"\x12\x34%b%b%b" % (
        (length + 2).to_bytes(2, "big"),
        length.to_bytes(2, "big"),
        data,
    )
