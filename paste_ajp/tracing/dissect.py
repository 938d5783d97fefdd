"""One packet, field by field, as far as it goes.

The decoders of ``protocol`` accept a packet or refuse it, which is right for a
server. Whoever debugs wants to see a broken packet up to where it breaks, so
this walks the same data types and tables and keeps what it has read so far. What
it returns is masked already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from paste_ajp.protocol.codes import (
    ATTRIBUTE_BY_CODE,
    END_OF_ATTRIBUTES,
    HEADER_CODE,
    METHOD_BY_CODE,
    PACKET_HEADER,
    REQUEST_ATTRIBUTE,
    REQUEST_HEADER_BY_CODE,
    RESPONSE_HEADER_BY_CODE,
    SSL_KEY_SIZE,
    STORED_METHOD,
    ToContainer,
    ToFrontEnd,
)
from paste_ajp.protocol.errors import DecodeError
from paste_ajp.protocol.wire import (
    decode_boolean,
    decode_byte,
    decode_integer,
    decode_string,
)
from paste_ajp.tracing.masking import mask_attribute, mask_header, mask_uri

#: How much of a body is looked at where a caller asks for a look at all.
PREVIEW = 256


@dataclass(frozen=True, slots=True)
class PacketView:
    """What one packet says, for people.

    ``size`` counts the packet's header. ``fields`` stand in the order of the
    wire; their values are what JSON knows: text (Latin-1), numbers, true and
    false, None, and lists of [name, value] for headers and attributes.
    ``problem`` says why the packet could not be read to its end, where it could
    not.
    """

    name: str
    to_container: bool
    size: int
    fields: dict[str, object] = field(default_factory=dict)
    problem: str = ""


def dissect(
    payload: bytes,
    *,
    to_container: bool,
    is_body: bool = False,
    is_raw: bool | None = None,
    preview: bool = False,
) -> PacketView:
    """Describe the payload of one packet.

    Only the count of owed chunks tells a request body chunk from a message, so
    ``is_body`` is the caller's to say; ``is_raw`` says that its form is lighttpd's,
    and None that its bytes must tell. With ``preview`` the beginning of a body
    is shown; bodies may hold anything, and are not masked.
    """
    reader = _Reader(payload, preview=preview)
    problem = ""
    try:
        if to_container:
            name = reader.read_to_container(is_body=is_body, is_raw=is_raw)
        else:
            name = reader.read_to_front_end()
        left = len(payload) - reader.pos
        if left:
            problem = f"{left} bytes left over at byte {reader.pos}"
    except DecodeError as error:
        name = reader.name
        problem = str(error)
    size = len(payload) + PACKET_HEADER
    return PacketView(name, to_container, size, reader.fields, problem)


def looks_like_message(payload: bytes) -> bool:
    """Could this be a message of a front end, and not a piece of a body?

    For captures that show one direction only, where nothing can be counted.
    """
    if len(payload) == 1:
        return payload[0] in (ToContainer.SHUTDOWN, ToContainer.PING, ToContainer.CPING)
    return (
        len(payload) > 20
        and payload[0] == ToContainer.FORWARD_REQUEST
        and (payload[1] in METHOD_BY_CODE or payload[1] == STORED_METHOD)
        and payload[2] == 0
        and payload[4:9] == b"HTTP/"
    )


class _Reader:
    """Walks a payload; ``name`` and ``fields`` are what it knows so far."""

    def __init__(self, payload: bytes, *, preview: bool) -> None:
        self.payload = payload
        self.pos = 0
        self.name = "unknown"
        self.fields: dict[str, object] = {}
        self._preview = preview

    # -- what a front end sends

    def read_to_container(self, *, is_body: bool, is_raw: bool | None) -> str:
        if is_body or self.payload[:2] in (b"", b"\x00\x00"):
            self._body_chunk(is_raw)
            return self.name
        code = self._byte("type")
        if code == ToContainer.FORWARD_REQUEST:
            self._forward_request()
        else:
            self._unknown(code, {7: "Shutdown", 8: "Ping", 10: "CPing"})
        return self.name

    def _body_chunk(self, is_raw: bool | None) -> None:
        self.name = "BodyChunk"
        payload = self.payload
        size = len(payload)
        length = int.from_bytes(payload[:2], "big") if size > 1 else -1
        self.pos = size
        fits = length == size - 2 or (length == size - 3 and payload[-1] == 0)
        if fits and not is_raw:
            self._body(payload[2 : 2 + length])
        else:
            self._body(payload)
            if payload:
                self.fields["form"] = "raw, without inner length, as lighttpd sends it"
        if not self.fields["length"]:
            self.fields["end_of_body"] = True

    def _forward_request(self) -> None:
        self.name = "ForwardRequest"
        code = self._byte("method")
        stored = code == STORED_METHOD
        self.fields["method"] = METHOD_BY_CODE.get(
            code, "see stored_method" if stored else f"unknown code {code}"
        )
        self.fields["protocol"] = self._string("protocol")
        uri = self._string("req_uri")
        self.fields["req_uri"] = None if uri is None else mask_uri(uri)
        for name in ("remote_addr", "remote_host", "server_name"):
            self.fields[name] = self._string(name)
        self.fields["server_port"] = self._integer("server_port")
        value, self.pos = decode_boolean(self.payload, self.pos, "is_ssl")
        self.fields["is_ssl"] = value
        self._headers(REQUEST_HEADER_BY_CODE)
        self._attributes()

    def _attributes(self) -> None:
        coded: list[list[object]] = []
        named: list[list[object]] = []
        self.fields["attributes"] = coded
        self.fields["request_attributes"] = named
        while (code := self._byte("attribute code")) != END_OF_ATTRIBUTES:
            if code == REQUEST_ATTRIBUTE:
                name = self._string("request attribute name") or ""
                value = self._string(f"request attribute {name}")
                named.append([name, mask_attribute(name, value)])
            elif code == SSL_KEY_SIZE:
                coded.append(["ssl_key_size", self._key_size()])
            elif code in ATTRIBUTE_BY_CODE:
                name = ATTRIBUTE_BY_CODE[code]
                value = self._string(name)
                coded.append([name, mask_attribute(name, value)])
                if name == "stored_method":
                    self.fields["method"] = value
            else:
                raise DecodeError("attribute code", self.pos - 1, f"unknown: {code}")

    def _key_size(self) -> object:
        """An integer; Undertow's client sends a string, whose digits follow."""
        value = self._integer("ssl_key_size")
        text = self.payload[self.pos : self.pos + value + 1]
        if 0 < value < 6 and text[:-1].isdigit() and text[-1:] == b"\0":
            self.pos += value + 1
            return text[:-1].decode("ascii")
        return value

    # -- what a container sends

    def read_to_front_end(self) -> str:
        code = self._byte("type")
        if code == ToFrontEnd.SEND_HEADERS:
            self.name = "SendHeaders"
            self.fields["status"] = self._integer("status")
            self.fields["reason"] = self._string("reason")
            self._headers(RESPONSE_HEADER_BY_CODE)
        elif code == ToFrontEnd.SEND_BODY_CHUNK:
            self._send_body_chunk()
        elif code == ToFrontEnd.END_RESPONSE:
            self.name = "EndResponse"
            if len(self.payload) > 1:
                self.fields["reuse"] = bool(self._byte("reuse"))
            else:
                self.fields["reuse"] = None
        elif code == ToFrontEnd.GET_BODY_CHUNK:
            self.name = "GetBodyChunk"
            self.fields["requested_length"] = self._integer("requested_length")
        else:
            self._unknown(code, {9: "CPong"})
        return self.name

    def _send_body_chunk(self) -> None:
        self.name = "SendBodyChunk"
        length = self._integer("body chunk")
        data = self.payload[self.pos : self.pos + length]
        self._body(data)
        if not length:
            self.fields["flush"] = True
        if len(self.payload) != self.pos + length + 1 or self.payload[-1]:
            left = len(self.payload) - self.pos
            problem = f"{length} bytes and a NUL due, {left} left"
            raise DecodeError("body chunk", 1, problem)
        self.pos = len(self.payload)

    # -- what both share

    def _headers(self, by_code: dict[int, str]) -> None:
        count = self._integer("num_headers")
        headers: list[list[object]] = []
        self.fields["headers"] = headers
        for number in range(1, count + 1):
            field = f"header {number} name"
            if self.payload[self.pos : self.pos + 1] == bytes((HEADER_CODE,)):
                at = self.pos
                code = self._integer(field)
                name = by_code.get(code, "")
                if not name:
                    raise DecodeError(field, at, f"unknown code 0x{code:04X}")
            else:
                name = self._string(field) or ""
            value = self._string(f"header {name}")
            headers.append([name, None if value is None else mask_header(name, value)])

    def _unknown(self, code: int, known: dict[int, str]) -> None:
        """A message of nothing but its type, or one that nobody knows.

        Nothing of an unknown payload is shown: it may be a body, or a secret.
        """
        self.name = known.get(code, f"unknown type {code}")
        if code not in known:
            self.pos = len(self.payload)

    def _body(self, data: bytes) -> None:
        self.fields["length"] = len(data)
        if self._preview and data:
            self.fields["data"] = data[:PREVIEW].decode("latin-1")

    def _byte(self, name: str) -> int:
        value, self.pos = decode_byte(self.payload, self.pos, name)
        return value

    def _integer(self, name: str) -> int:
        value, self.pos = decode_integer(self.payload, self.pos, name)
        return value

    def _string(self, name: str) -> str | None:
        value, self.pos = decode_string(self.payload, self.pos, name)
        return None if value is None else value.decode("latin-1")
