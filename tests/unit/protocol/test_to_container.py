"""What a front end sends, by hand-written bytes."""

from __future__ import annotations

import pytest

from paste_ajp.protocol import (
    DecodeError,
    ForwardRequest,
    FramingError,
    LocalProtocolError,
    build_forward_request,
    decode_body_chunk,
    decode_forward_request,
    encode_body_chunk,
    encode_forward_request,
    to_container,
)
from paste_ajp.protocol.codes import CODE_BY_ATTRIBUTE
from paste_ajp.protocol.to_container import find_content_length, is_raw_chunk

POST = bytes.fromhex(
    "12 34 00 95"
    "02"
    "04"
    "00 08 48 54 54 50 2f 31 2e 31 00"
    "00 0a 2f 61 70 70 2f 61 25 32 30 62 00"
    "00 09 31 39 32 2e 30 2e 32 2e 37 00"
    "ff ff"
    "00 0f 77 77 77 2e 65 78 61 6d 70 6c 65 2e 63 6f 6d 00"
    "01 bb"
    "01"
    "00 03"
    "a0 0b 00 0f 77 77 77 2e 65 78 61 6d 70 6c 65 2e 63 6f 6d 00"
    "a0 08 00 01 35 00"
    "00 04 58 2d 49 64 00 00 02 34 32 00"
    "0c 00 06 73 33 63 72 65 74 00"
    "05 00 03 78 3d 31 00"
    "0b 01 00"
    "0a 00 0f 41 4a 50 5f 52 45 4d 4f 54 45 5f 50 4f 52 54 00 00 05 35 30 31 31 32 00"
    "ff"
)
POST_REQUEST = ForwardRequest(
    method="POST",
    protocol="HTTP/1.1",
    req_uri="/app/a%20b",
    remote_addr="192.0.2.7",
    remote_host=None,
    server_name="www.example.com",
    server_port=443,
    is_ssl=True,
    headers=[("host", "www.example.com"), ("content-length", "5"), ("x-id", "42")],
    attributes={"secret": "s3cret", "query_string": "x=1", "ssl_key_size": 256},
    request_attributes=[("AJP_REMOTE_PORT", "50112")],
    content_length=5,
    is_chunked=False,
)


def string(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text + b"\x00"


def payload(
    *,
    opening: bytes = b"\x02\x02",
    protocol: bytes = string(b"HTTP/1.1"),
    req_uri: bytes = string(b"/"),
    remote_addr: bytes = string(b"::1"),
    remote_host: bytes = b"\xff\xff",
    server_name: bytes = string(b"a.b"),
    port_and_ssl: bytes = b"\x00\x50\x00",
    count: int | None = None,
    headers: tuple[bytes, ...] = (),
    attributes: bytes = b"",
    end: bytes = b"\xff",
) -> bytes:
    """A Forward Request for GET /, with one part or another replaced.

    Type and method lie at 0, the protocol at 2, req_uri at 13, the rest from 17 on
    with the shortest req_uri: remote_addr 17, remote_host 23, server_name 25,
    server_port 31, is_ssl 33, num_headers 34, the first header 36.
    """
    number = len(headers) if count is None else count
    return (
        opening
        + protocol
        + req_uri
        + remote_addr
        + remote_host
        + server_name
        + port_and_ssl
        + number.to_bytes(2, "big")
        + b"".join(headers)
        + attributes
        + end
    )


def coded(code: int, value: bytes) -> bytes:
    return b"\xa0" + bytes((code,)) + string(value)


def literal(name: bytes, value: bytes) -> bytes:
    return string(name) + string(value)


def attribute(name: str, value: bytes) -> bytes:
    return bytes((CODE_BY_ATTRIBUTE[name],)) + string(value)


HOST, LENGTH = 0x0B, 0x08
NEWLINE = "holds the control character 0x0A at 1"
CODING = b"Transfer-Encoding"


# -- a Forward Request that is in order ----------------------------------------------


def test_whole_request_is_decoded():
    assert decode_forward_request(POST[4:]) == POST_REQUEST


def test_request_is_decoded_where_it_lies_in_its_packet():
    assert decode_forward_request(POST, start=4) == POST_REQUEST


def test_whole_request_is_encoded():
    headers = [*POST_REQUEST.headers[:2], ("X-Id", "42")]
    assert encode_forward_request(POST_REQUEST._replace(headers=headers)) == POST


def test_smallest_request():
    assert decode_forward_request(payload()) == ForwardRequest(
        "GET",
        "HTTP/1.1",
        "/",
        "::1",
        None,
        "a.b",
        80,
        False,
        [],
        {},
        [],
        None,
        False,
    )


def test_null_strings_are_none_where_that_means_something():
    request = decode_forward_request(
        payload(
            remote_addr=b"\xff\xff",
            server_name=b"\xff\xff",
            headers=(b"\xa0\x01\xff\xff", string(b"X") + b"\xff\xff"),
            attributes=b"\x05\xff\xff\x0a" + string(b"N") + b"\xff\xff",
        )
    )
    assert (request.remote_addr, request.server_name) == (None, None)
    assert request.headers == [("accept", ""), ("x", "")]
    assert request.attributes == {"query_string": None}
    assert request.request_attributes == [("N", "")]


def test_remote_host_is_taken_where_it_is_sent():
    request = decode_forward_request(payload(remote_host=string(b"host.example")))
    assert request.remote_host == "host.example"


@pytest.mark.parametrize(
    ("opening", "attributes", "method"),
    [
        (b"\x02\x01", b"", "OPTIONS"),
        (b"\x02\x1b", b"", "MKACTIVITY"),
        (b"\x02\xff", b"\x0d" + string(b"PATCH"), "PATCH"),
        (b"\x02\xff", b"\x0d" + string(b"get"), "get"),
        (b"\x02\x02", b"\x0d" + string(b"PATCH"), "GET"),
    ],
)
def test_method(opening, attributes, method):
    request = decode_forward_request(payload(opening=opening, attributes=attributes))
    assert request.method == method


def test_stored_method_of_an_unusual_request():
    data = payload(
        opening=b"\x02\xff",
        remote_addr=b"\xff\xff",
        attributes=b"\x0d" + string(b"FOO"),
    )
    assert decode_forward_request(data).method == "FOO"


@pytest.mark.parametrize(
    "protocol", ["HTTP/0.9", "HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/2", "HTTP/3"]
)
def test_protocol(protocol):
    request = decode_forward_request(payload(protocol=string(protocol.encode())))
    assert request.protocol == protocol


@pytest.mark.parametrize(
    ("opening", "sent", "req_uri"),
    [
        (b"\x02\x02", b"/a b%20", "/a b%20"),
        (b"\x02\x02", b"/caf\xc3\xa9\xa0", "/caf\xc3\xa9\xa0"),
        (b"\x02\x02", b"/a/../b;c=d", "/a/../b;c=d"),
        (b"\x02\x02", b"http://www.example.com/a", "/a"),
        (b"\x02\x02", b"HTTPS://u@[::1]:8443/a/b", "/a/b"),
        (b"\x02\x02", b"http://www.example.com", "/"),
        (b"\x02\x02", b"http://www.example.com?x", "/"),
        (b"\x02\x02", b"http://www.example.com/a?x=1", "/a"),
        (b"\x02\x01", b"*", "*"),
    ],
)
def test_req_uri(opening, sent, req_uri):
    request = decode_forward_request(payload(opening=opening, req_uri=string(sent)))
    assert request.req_uri == req_uri


def test_names_are_lower_case_and_headers_in_order():
    request = decode_forward_request(
        payload(
            headers=(
                literal(b"X-B", b"1"),
                coded(0x01, b"*/*"),
                literal(b"x-b", b"2"),
                literal(b"ACCEPT", b"3"),
                literal(b"X_B", b"4"),
            )
        )
    )
    assert request.headers == [
        ("x-b", "1"),
        ("accept", "*/*"),
        ("x-b", "2"),
        ("accept", "3"),
        ("x_b", "4"),
    ]


def test_all_coded_names():
    headers = tuple(coded(code, b"1") for code in range(1, 15) if code != LENGTH)
    names = [
        name for name, _ in decode_forward_request(payload(headers=headers)).headers
    ]
    assert names == [
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "authorization",
        "connection",
        "content-type",
        "cookie",
        "cookie2",
        "host",
        "pragma",
        "referer",
        "user-agent",
    ]


@pytest.mark.parametrize("value", [b"a\tb", b"\x80\xa0\xad\xff", b"", b"x" * 300])
def test_value_may_hold_tabs_and_any_byte_above_ascii(value):
    request = decode_forward_request(payload(headers=(coded(1, value),)))
    assert request.headers == [("accept", value.decode("latin-1"))]


@pytest.mark.parametrize(
    "header", [coded(LENGTH, b"9"), literal(b"CONTENT-length", b"9")]
)
def test_content_length_is_found_in_both_spellings(header):
    assert decode_forward_request(payload(headers=(header,))).content_length == 9


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"999999999999999999", 10**18 - 1),
        (b"9223372036854775807", 2**63 - 1),
    ],
)
def test_content_length_of_up_to_63_bits(value, length):
    request = decode_forward_request(payload(headers=(coded(LENGTH, value),)))
    assert request.content_length == length


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED"])
def test_chunked_request(value):
    request = decode_forward_request(payload(headers=(literal(CODING, value),)))
    assert (request.is_chunked, request.content_length) == (True, None)


def test_attributes_with_codes():
    texts = {
        1: "context",
        2: "servlet_path",
        3: "remote_user",
        4: "auth_type",
        5: "query_string",
        6: "jvm_route",
        7: "ssl_cert",
        8: "ssl_cipher",
        9: "ssl_session",
        12: "secret",
        13: "stored_method",
    }
    request = decode_forward_request(
        payload(
            attributes=b"".join(
                bytes((code,)) + string(name.encode()) for code, name in texts.items()
            )
        )
    )
    assert request.attributes == {name: name for name in texts.values()}


def test_certificate_keeps_its_line_ends():
    pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    request = decode_forward_request(payload(attributes=b"\x07" + string(pem)))
    assert request.attributes == {"ssl_cert": pem.decode()}


@pytest.mark.parametrize("name", ["context", "servlet_path", "secret"])
def test_attribute_that_nobody_sees_may_hold_anything(name):
    sent = attribute(name, b"\x01\n\x7f")
    found = decode_forward_request(payload(attributes=sent))
    assert found.attributes == {name: "\x01\n\x7f"}


def test_request_attribute_may_hold_lines():
    """Say a certificate that an operator passes on."""
    sent = b"\x0a" + string(b"CERT") + string(b"MII=\r\n\tMII=\n")
    found = decode_forward_request(payload(attributes=sent))
    assert found.request_attributes == [("CERT", "MII=\r\n\tMII=\n")]


@pytest.mark.parametrize("text", ["anna\xc3\xa4\x85", "\x80\x9f\xa0\xff"])
def test_bytes_above_ascii_pass_everywhere(text):
    """A single sign-on may well send UTF-8."""
    raw = string(text.encode("latin-1"))
    found = decode_forward_request(
        payload(remote_addr=raw, server_name=raw, attributes=b"\x03" + raw)
    )
    assert found.remote_addr == found.server_name == text
    assert found.attributes == {"remote_user": text}


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        pytest.param(b"\x01\x00", 256, id="integer"),
        pytest.param(b"\x00\x00", 0, id="zero"),
        pytest.param(b"\x00\x03256\x00", 256, id="string"),
        pytest.param(b"\x00\x0565535\x00", 65535, id="long string"),
    ],
)
@pytest.mark.parametrize("after", [b"", b"\x05\x00\x00\x00"])
def test_ssl_key_size_is_an_integer_or_undertows_string(sent, size, after):
    request = decode_forward_request(payload(attributes=b"\x0b" + sent + after))
    assert request.attributes["ssl_key_size"] == size


def test_request_attributes_may_repeat():
    attribute = b"\x0a" + string(b"N") + string(b"v")
    request = decode_forward_request(payload(attributes=attribute * 2))
    assert request.request_attributes == [("N", "v"), ("N", "v")]


def test_names_are_remembered_only_up_to_a_bound():
    names = to_container._names
    for number in range(2 * to_container.CACHE_ENTRIES + 1):
        for name in (b"X-%d" % number, b"X" * 64 + b"-%d" % number):
            request = decode_forward_request(payload(headers=(literal(name, b""),)))
            assert request.headers == [(name.decode().lower(), "")]
    assert 0 < len(names) <= to_container.CACHE_ENTRIES
    assert max(map(len, names)) <= to_container.CACHE_LENGTH


# -- a Forward Request that is not ---------------------------------------------------

BROKEN = [
    # every string inside the payload, NUL in place, no NUL inside
    (b"", "type at byte 0: needs 1 byte, 0 left"),
    (b"\x03", "type at byte 0: expected 2, Forward Request, found 3"),
    (b"\x02", "method at byte 1: needs 1 byte, 0 left"),
    (b"\x02\x02\x00", "protocol at byte 2: needs 2 bytes, 1 left"),
    (b"\x02\x02\x00\x08HTTP", "protocol at byte 2: 8 bytes and a NUL due, 4 left"),
    (payload()[:14], "req_uri at byte 13: needs 2 bytes, 1 left"),
    (payload()[:16], "req_uri at byte 13: 1 bytes and a NUL due, 1 left"),
    (payload()[:17], "remote_addr at byte 17: needs 2 bytes, 0 left"),
    (payload()[:24], "remote_host at byte 23: needs 2 bytes, 1 left"),
    (payload()[:30], "server_name at byte 25: 3 bytes and a NUL due, 3 left"),
    (payload()[:32], "server_port at byte 31: needs 2 bytes, 1 left"),
    (payload()[:33], "is_ssl at byte 33: needs 1 byte, 0 left"),
    (payload()[:35], "num_headers at byte 34: needs 2 bytes, 1 left"),
    (payload()[:36], "attribute code at byte 36: needs 1 byte, 0 left"),
    (
        payload(req_uri=b"\x00\x02/a/"),
        "req_uri at byte 13: ends in 0x2F, not NUL",
    ),
    (
        payload(req_uri=string(b"/a\x00b")),
        "req_uri at byte 13: holds a NUL after 2 bytes",
    ),
    (
        payload(remote_addr=string(b":\x001")),
        "remote_addr at byte 17: holds a NUL after 1 bytes",
    ),
    (
        payload(remote_addr=b"\x00\x01::1"),
        "remote_addr at byte 17: ends in 0x3A, not NUL",
    ),
    (
        payload(remote_host=string(b"a\x00")),
        "remote_host at byte 23: holds a NUL after 1 bytes",
    ),
    (
        payload(remote_host=b"\xff\x00"),
        "remote_host at byte 23: 65280 bytes and a NUL due, 12 left",
    ),
    (
        payload(remote_host=b"\x00\x00a"),
        "remote_host at byte 23: ends in 0x61, not NUL",
    ),
    (
        payload(server_name=string(b"\x00")),
        "server_name at byte 25: holds a NUL after 0 bytes",
    ),
    (
        payload(server_name=b"\x00\x00a"),
        "server_name at byte 25: ends in 0x61, not NUL",
    ),
    # method 1..27, or 255 with exactly one stored_method that is a token
    (
        payload(opening=b"\x02\x00"),
        "method at byte 1: expected 1 to 27 or 255, found 0",
    ),
    (
        payload(opening=b"\x02\x1c"),
        "method at byte 1: expected 1 to 27 or 255, found 28",
    ),
    (
        payload(opening=b"\x02\xff"),
        "method at byte 1: 255 needs a token in stored_method, found null",
    ),
    (
        payload(opening=b"\x02\xff", attributes=b"\x0d\xff\xff"),
        "method at byte 1: 255 needs a token in stored_method, found null",
    ),
    (
        payload(opening=b"\x02\xff", attributes=b"\x0d" + string(b"A B")),
        "method at byte 1: 255 needs a token in stored_method, found 'A B'",
    ),
    (
        payload(opening=b"\x02\xff", attributes=2 * (b"\x0d" + string(b"AB"))),
        "stored_method at byte 42: given twice",
    ),
    # protocol
    (
        payload(protocol=string(b"HTTP/1.11")),
        "protocol at byte 2: expected HTTP/ and a version, found 'HTTP/1.11'",
    ),
    (
        payload(protocol=string(b"FTP")),
        "protocol at byte 2: expected HTTP/ and a version, found 'FTP'",
    ),
    (
        payload(protocol=b"\xff\xff"),
        "protocol at byte 2: expected HTTP/ and a version, found null",
    ),
    # req_uri
    (payload(req_uri=b"\xff\xff"), "req_uri at byte 13: expected a path, found null"),
    (payload(req_uri=string(b"")), "req_uri at byte 13: expected a path, found ''"),
    (
        payload(req_uri=string(b"a/b")),
        "req_uri at byte 13: expected a path, found 'a/b'",
    ),
    (payload(req_uri=string(b"*")), "req_uri at byte 13: expected a path, found '*'"),
    (
        payload(req_uri=string(b"ftp://a/" + b"b" * 50)),
        (
            "req_uri at byte 13: expected a path, found"
            " 'ftp://a/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb..."
        ),
    ),
    (
        payload(req_uri=string(b"/a\x7f")),
        "req_uri at byte 13: holds the control character 0x7F at 2",
    ),
    (
        payload(req_uri=string(b"/\t")),
        "req_uri at byte 13: holds the control character 0x09 at 1",
    ),
    (
        payload(req_uri=string(b"/ HTTP/1.1\r\nX: y")),
        "req_uri at byte 13: holds the control character 0x0D at 10",
    ),
    # headers
    (
        payload(headers=(literal(b"x", b"y"),) * 201),
        "num_headers at byte 34: expected at most 200, found 201",
    ),
    (payload(count=1), "header 1 name at byte 36: needs 2 bytes, 1 left"),
    (
        payload(count=1, end=b"\x00\x09x"),
        "header 1 name at byte 36: 9 bytes and a NUL due, 1 left",
    ),
    (
        payload(count=1, end=b"\xa0"),
        "header 1 name at byte 36: needs 2 bytes, 1 left",
    ),
    (
        payload(headers=(coded(0, b"chunked"),)),
        "header 1 name at byte 36: expected 0xA001 to 0xA00E, found 0xA000",
    ),
    (
        payload(headers=(b"\xa0\x00\x00\x00\x00",)),
        "header 1 name at byte 36: expected 0xA001 to 0xA00E, found 0xA000",
    ),
    (
        payload(headers=(coded(1, b""), coded(15, b""))),
        "header 2 name at byte 41: expected 0xA001 to 0xA00E, found 0xA00F",
    ),
    (
        payload(headers=(literal(b"", b""),)),
        "header 1 name at byte 36: expected a token, found ''",
    ),
    (
        payload(headers=(b"\xff\xff\x00\x00\x00",)),
        "header 1 name at byte 36: expected a token, found null",
    ),
    (
        payload(headers=(literal(b"X-Id:", b""),)),
        "header 1 name at byte 36: expected a token, found 'X-Id:'",
    ),
    (
        payload(headers=(literal(b"X\r\nY", b""),)),
        "header 1 name at byte 36: expected a token, found 'X\\r\\nY'",
    ),
    (
        payload(headers=(b"\x00\x06accept.\x00\x00\x00",)),
        "header 1 name at byte 36: ends in 0x2E, not NUL",
    ),
    (
        payload(headers=(b"\xa0\x01\x00\x00.",)),
        "header accept at byte 38: ends in 0x2E, not NUL",
    ),
    (
        payload(headers=(coded(1, b"a\rb"),)),
        "header accept at byte 36: holds the control character 0x0D at 1",
    ),
    (
        payload(headers=(literal(b"X-Id", b"a\nb"),)),
        "header x-id at byte 36: holds the control character 0x0A at 1",
    ),
    (
        payload(headers=(coded(1, b"a\x00b"),)),
        "header accept at byte 38: holds a NUL after 1 bytes",
    ),
    # Content-Length
    (
        payload(headers=(coded(LENGTH, b"3"), coded(LENGTH, b"3"))),
        "header content-length at byte 42: given twice",
    ),
    (
        payload(headers=(coded(LENGTH, b"3"), literal(b"Content-Length", b"3"))),
        "header content-length at byte 42: given twice",
    ),
    *(
        (
            payload(headers=(coded(LENGTH, value),)),
            (
                "header content-length at byte 36: expected a decimal number"
                f" below 2**63, found {value.decode('latin-1')!r}"
            ),
        )
        for value in (
            b"",
            b"+3",
            b"-1",
            b" 3",
            b"3 ",
            b"3, 3",
            b"0x3",
            b"1e3",
            b"1_0",
            b"\xb2",
            b"9223372036854775808",
            b"00000000000000000001",
        )
    ),
    (
        payload(headers=(b"\xa0\x08\xff\xff",)),
        (
            "header content-length at byte 36: expected a decimal number below 2**63,"
            " found ''"
        ),
    ),
    # Transfer-Encoding
    (
        payload(headers=(coded(LENGTH, b"3"), literal(CODING, b"chunked"))),
        "header content-length at byte 36: given beside transfer-encoding",
    ),
    (
        payload(headers=(literal(CODING, b"chunked"), coded(LENGTH, b"0"))),
        "header content-length at byte 66: given beside transfer-encoding",
    ),
    # Host
    (
        payload(headers=(coded(HOST, b"a"), literal(b"Host", b"a"))),
        "header host at byte 42: given twice",
    ),
    (
        payload(headers=(coded(HOST, b"a, b"),)),
        "header host at byte 36: expected one host, found 'a, b'",
    ),
    # attributes
    (
        payload(attributes=b"\x0e" + string(b"")),
        "attribute code at byte 36: expected 1 to 13 or 255, found 14",
    ),
    (
        payload(attributes=b"\x00"),
        "attribute code at byte 36: expected 1 to 13 or 255, found 0",
    ),
    (
        payload(attributes=(b"\x05" + string(b"")) * 2),
        "query_string at byte 40: given twice",
    ),
    (payload(attributes=b"\x0b\x01\x00" * 2), "ssl_key_size at byte 39: given twice"),
    (
        payload(attributes=b"\x05\x00\x03x=\x00"),
        "query_string at byte 37: ends in 0xFF, not NUL",
    ),
    (
        payload(attributes=b"\x05" + string(b"x\x00y")),
        "query_string at byte 37: holds a NUL after 1 bytes",
    ),
    (
        payload(attributes=b"\x0b\x00", end=b""),
        "ssl_key_size at byte 37: needs 2 bytes, 1 left",
    ),
    (
        payload(attributes=b"\x0b" + string(b"99999")),
        "ssl_key_size at byte 37: expected 0 to 65535, found b'99999'",
    ),
    (
        payload(attributes=b"\x0b" + string(b"000256")),
        "ssl_key_size at byte 37: expected 0 to 65535, found b'000256'",
    ),
    (
        payload(attributes=b"\x0b\x00\x0325", end=b""),
        "attribute code at byte 39: expected 1 to 13 or 255, found 50",
    ),
    (
        payload(attributes=b"\x0a" + string(b"") + string(b"v")),
        "request attribute name at byte 37: expected a name, found ''",
    ),
    (
        payload(attributes=b"\x0a\xff\xff" + string(b"v")),
        "request attribute name at byte 37: expected a name, found null",
    ),
    (
        payload(attributes=b"\x0a" + string(b"A\x00") + string(b"v")),
        "request attribute name at byte 37: holds a NUL after 1 bytes",
    ),
    (
        payload(attributes=b"\x0a" + string(b"N") + string(b"\x00")),
        "request attribute 'N' at byte 41: holds a NUL after 0 bytes",
    ),
    (
        payload(attributes=b"\x0a" + string(b"N"), end=b""),
        "request attribute 'N' at byte 41: needs 2 bytes, 0 left",
    ),
    (
        payload(remote_addr=string(b"1.2\r\n")),
        "remote_addr at byte 17: holds the control character 0x0D at 3",
    ),
    (
        payload(remote_host=string(b"\x7fa")),
        "remote_host at byte 23: holds the control character 0x7F at 0",
    ),
    (
        payload(server_name=string(b"a\tb")),
        "server_name at byte 25: holds the control character 0x09 at 1",
    ),
    *(
        (
            payload(attributes=attribute(name, b"x\xc3\x1b")),
            f"{name} at byte 37: holds the control character 0x1B at 2",
        )
        for name in (
            "remote_user",
            "auth_type",
            "query_string",
            "jvm_route",
            "ssl_cipher",
            "ssl_session",
            "stored_method",
        )
    ),
    *(
        (
            payload(attributes=b"\x0a" + literal(name.encode(), b"\xe9\nX: y")),
            f"request attribute '{name}' at byte {40 + len(name)}: {NEWLINE}",
        )
        for name in (
            "AJP_LOCAL_ADDR",
            "AJP_REMOTE_PORT",
            "AJP_SSL_PROTOCOL",
            "JK_LB_ACTIVATION",
        )
    ),
    (payload(end=b""), "attribute code at byte 36: needs 1 byte, 0 left"),
    (
        payload(end=b"\xff\x00"),
        "payload at byte 37: 1 bytes after the end of attributes",
    ),
]


@pytest.mark.parametrize(
    ("data", "text"), [pytest.param(*case, id=case[1]) for case in BROKEN]
)
@pytest.mark.parametrize("start", [0, 4])
def test_malformed_request_is_refused_by_name_and_place(data, text, start):
    with pytest.raises(DecodeError) as caught:
        decode_forward_request(b"...."[:start] + data, start=start)
    assert str(caught.value) == text
    assert not isinstance(caught.value, FramingError)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((coded(LENGTH, b"x"),), 400),
        ((literal(CODING, b"gzip, chunked"),), 501),
        ((literal(CODING, b"identity"),), 501),
        ((literal(CODING, b""),), 501),
        ((literal(CODING, b"chunked"), literal(CODING, b"chunked")), 501),
        ((literal(CODING, b"gzip"), coded(LENGTH, b"3")), 501),
        ((literal(CODING, b"chunked"), coded(LENGTH, b"3")), 400),
        ((literal(b"x", b"y"),) * 201, 431),
    ],
)
def test_status_that_answers_a_malformed_request(headers, status):
    with pytest.raises(DecodeError) as caught:
        decode_forward_request(payload(headers=headers))
    assert caught.value.status == status


def test_refused_transfer_encoding_is_named():
    with pytest.raises(DecodeError) as caught:
        decode_forward_request(payload(headers=(literal(CODING, b"gzip, chunked"),)))
    assert str(caught.value) == (
        "header transfer-encoding at byte 36: expected chunked, found 'gzip, chunked'"
    )


def test_number_of_headers_is_bounded_by_the_caller():
    data = payload(headers=(literal(b"x", b"y"),) * 201)
    assert len(decode_forward_request(data, max_headers=201).headers) == 201


def test_known_name_with_a_wrong_length_is_refused():
    decode_forward_request(payload(headers=(literal(b"x-id", b""),)))
    with pytest.raises(DecodeError) as caught:
        decode_forward_request(payload(headers=(b"\x00\x04x-id.\x00\x00\x00",)))
    assert str(caught.value) == "header 1 name at byte 36: ends in 0x2E, not NUL"


def test_every_truncation_of_a_request_is_refused():
    for length in range(len(POST) - 4):
        with pytest.raises(DecodeError):
            decode_forward_request(POST[4 : 4 + length])


@pytest.mark.parametrize(
    ("data", "length"),
    [
        (POST[4:], 5),
        (payload(req_uri=string(b"\n"), headers=(coded(LENGTH, b"7"),)), 7),
        (payload(headers=(literal(b"Content-length", b"7"),)), 7),
        (payload(headers=(literal(b"a b", b""), coded(LENGTH, b"7"))), 7),
        (payload(headers=(b"\xff\xff\xff\xff", coded(LENGTH, b"7"))), 7),
        (payload(headers=(b"\xa0\x63\xff\xff", coded(LENGTH, b"7"))), 7),
        (payload(headers=(coded(LENGTH, b"x"),)), 0),
        (payload(headers=(b"\xa0\x08\xff\xff",)), 0),
        (payload(), 0),
        (payload()[:20], 0),
        (payload()[:32], 0),
        (b"", 0),
    ],
)
def test_content_length_of_a_refused_request_is_found_if_it_can_be(data, length):
    assert find_content_length(data) == length


# -- request body chunks -------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        pytest.param("", b"", id="end as mod_jk writes it"),
        pytest.param("00 00", b"", id="end as httpd writes it"),
        pytest.param("00 00 00", b"", id="end with a NUL"),
        pytest.param("00 05 68 65 6c 6c 6f", b"hello", id="standard"),
        pytest.param("00 05 68 65 6c 6c 6f 00", b"hello", id="with a NUL"),
        pytest.param("00 01 00", b"\x00", id="one NUL as data"),
    ],
)
def test_body_chunk(data, body):
    assert decode_body_chunk(bytes.fromhex(data)) == body


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"h", "body chunk at byte 0: needs 2 bytes, 1 left"),
        (b"hello", "body chunk at byte 0: expected the length 3, found 26725"),
        (b"\x00\x05hell", "body chunk at byte 0: expected the length 4, found 5"),
        (b"\x00\x05hello!", "body chunk at byte 0: expected the length 6, found 5"),
        (b"\x00\x00\x00\x00", "body chunk at byte 0: expected the length 2, found 0"),
        (b"\x00\x00\x01", "body chunk at byte 0: expected the length 1, found 0"),
    ],
)
def test_body_chunk_with_a_wrong_length_is_refused(data, text):
    with pytest.raises(FramingError) as caught:
        decode_body_chunk(data)
    assert str(caught.value) == text


@pytest.mark.parametrize("data", [b"", b"h", b"hello", b"\x00\x05hello", b"\x00\x00"])
def test_raw_chunk_is_its_data(data):
    assert decode_body_chunk(data, raw=True) == data


@pytest.mark.parametrize(
    ("data", "content_length", "is_raw"),
    [
        pytest.param(b"hello", 5, True, id="lighttpd's whole body"),
        pytest.param(b"\x00\x03abc", 5, True, id="looks standard, but is the body"),
        pytest.param(b"\x00\x00", 2, True, id="looks like an end, but is the body"),
        pytest.param(b"\x00\x05hello", 5, False, id="standard"),
        pytest.param(b"\x00\x03abc", 9, False, id="standard, part of the body"),
        pytest.param(b"\x00\x05hello\x00", 9, False, id="standard with a NUL"),
        pytest.param(b"h", 1, True, id="one byte"),
        pytest.param(b"h", 9, True, id="one byte of many"),
        pytest.param(b"x" * 8188, 99999, True, id="lighttpd's largest"),
        pytest.param(b"\x1f\xfa" + b"x" * 8186, 8187, False, id="httpd's largest"),
        pytest.param(b"x" * 4000, 99999, True, id="neither length fits"),
        pytest.param(b"", 5, False, id="end"),
        pytest.param(b"\x00\x00", 5, False, id="end with a length"),
        pytest.param(b"hello", 4, False, id="more than the body"),
    ],
)
def test_lighttpds_chunks_are_told_from_others(data, content_length, is_raw):
    assert is_raw_chunk(data, content_length) is is_raw


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"hello", "12 34 00 07 00 05 68 65 6c 6c 6f"),
        (b"", "12 34 00 02 00 00"),
    ],
)
def test_body_chunk_is_encoded(data, packet):
    assert encode_body_chunk(data) == bytes.fromhex(packet)


def test_largest_body_chunk():
    packet = encode_body_chunk(bytes(8186))
    assert (packet[:6].hex(" "), len(packet)) == ("12 34 1f fc 1f fa", 8192)


def test_body_chunk_beyond_the_packet_size_is_refused():
    with pytest.raises(LocalProtocolError) as caught:
        encode_body_chunk(bytes(8187))
    assert str(caught.value) == "a body chunk of 8187 bytes, at most 8186 fit"


def test_short_messages():
    assert bytes.fromhex("12 34 00 01 0a") == to_container.CPING
    assert bytes.fromhex("12 34 00 01 08") == to_container.PING
    assert bytes.fromhex("12 34 00 01 07") == to_container.SHUTDOWN
    assert encode_body_chunk(b"") == to_container.END_OF_BODY


# -- encoding a Forward Request ------------------------------------------------------


def test_method_without_code_is_stored():
    packet = encode_forward_request(POST_REQUEST._replace(method="PATCH"))
    assert packet[5] == 0xFF
    assert b"\x0d\x00\x05PATCH\x00" in packet


def test_stored_method_is_written_once():
    request = build_forward_request("PATCH")
    packet = encode_forward_request(request)
    assert (packet.count(b"PATCH"), request.attributes) == (
        1,
        {"stored_method": "PATCH"},
    )


def test_what_follows_from_the_headers_is_filled_in():
    request = build_forward_request("POST", "/", [("Content-Length", "3")])
    assert (request.headers, request.content_length) == ([("content-length", "3")], 3)


def test_request_that_no_container_may_take_is_not_built():
    with pytest.raises(DecodeError) as caught:
        build_forward_request("GET", "no/path")
    assert caught.value.field == "req_uri"


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (
            POST_REQUEST._replace(attributes={"color": "red"}),
            "'color' is no attribute with a code",
        ),
        (
            POST_REQUEST._replace(attributes={"ssl_key_size": "256"}),
            "ssl_key_size = '256': expected an int",
        ),
        (
            POST_REQUEST._replace(attributes={"secret": 7}),
            "secret = 7: expected a str or None",
        ),
        (
            POST_REQUEST._replace(headers=[("x" * 0xA000, "")]),
            "a header name of 40960 bytes reads as a code",
        ),
        (
            POST_REQUEST._replace(headers=[("x", "y" * 9000)]),
            "Forward Request makes a packet of 9122 bytes, at most 8192 fit",
        ),
    ],
)
def test_request_that_the_wire_cannot_carry_is_refused(request_, problem):
    with pytest.raises(LocalProtocolError) as caught:
        encode_forward_request(request_)
    assert str(caught.value) == problem
