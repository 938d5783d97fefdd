"""What a container sends, by hand-written bytes."""

from __future__ import annotations

import pytest

from paste_ajp.protocol import (
    CPONG,
    END_CLOSE,
    END_REUSE,
    FLUSH,
    CPong,
    DecodeError,
    EndResponse,
    GetBodyChunk,
    HeaderRefused,
    HeadersTooLarge,
    LocalProtocolError,
    SendBodyChunk,
    SendHeaders,
    assemble_send_headers,
    body_buffers,
    decode_from_container,
    encode_bodies,
    encode_body,
    encode_end_response,
    encode_get_body_chunk,
    encode_response_header,
    encode_send_headers,
    to_front_end,
)
from paste_ajp.protocol.to_front_end import is_coded

OK = bytes.fromhex(
    "41 42 00 2d 04 00 c8 00 02 4f 4b 00"
    "00 03"
    "a0 01 00 0a 74 65 78 74 2f 70 6c 61 69 6e 00"
    "a0 07 00 03 61 3d 31 00"
    "00 04 58 2d 49 64 00 00 02 34 32 00"
)
OK_HEADERS = [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("X-Id", "42")]
NOT_FOUND = bytes.fromhex(
    "41 42 00 11 04 01 94 00 09 4e 6f 74 20 46 6f 75 6e 64 00 00 00"
)


# -- Send Headers -------------------------------------------------------------------


def test_headers_with_and_without_codes():
    assert encode_send_headers(200, "OK", OK_HEADERS) == OK


def test_no_headers_at_all():
    assert encode_send_headers(404, "Not Found", []) == NOT_FOUND


def test_complete_refusal():
    packets = encode_send_headers(400, "Bad Request", []) + encode_end_response(False)
    assert packets == bytes.fromhex(
        "41 42 00 13 04 01 90 00 0b 42 61 64 20 52 65 71 75 65 73 74 00 00 00"
        "41 42 00 02 05 00"
    )


def test_coded_headers_go_first_in_their_order():
    packet = encode_send_headers(
        200,
        "OK",
        [("X-A", "1"), ("Set-Cookie", "a=1"), ("X-B", "2"), ("Set-Cookie", "b=2")],
    )
    assert [name for name, _ in decode_from_container(packet[4:]).headers] == [
        "Set-Cookie",
        "Set-Cookie",
        "X-A",
        "X-B",
    ]


@pytest.mark.parametrize("headers", [[], [("ETag", '"1"')]])
def test_date_goes_first_where_nothing_else_is_coded(headers):
    packet = encode_send_headers(200, "", headers, date="Thu, 01 Jan 1970 00:00:00 GMT")
    assert decode_from_container(packet[4:]).headers == [
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        *headers,
    ]


def test_date_is_left_away_where_another_header_is_coded():
    packet = encode_send_headers(200, "", [("Location", "/")], date="never")
    assert decode_from_container(packet[4:]).headers == [("Location", "/")]


def test_literal_header_first_is_refused_without_a_date():
    with pytest.raises(LocalProtocolError) as caught:
        encode_send_headers(200, "OK", [("ETag", '"1"')])
    assert str(caught.value) == (
        "no header has a code, and lighttpd miscounts headers unless the first has"
        " one: give a date"
    )


def test_the_clock_is_asked_only_when_a_date_is_due():
    def clock() -> str:
        raise AssertionError

    field = encode_response_header("Location", "/")
    packet = assemble_send_headers(302, "Found", [field], 8192, clock)
    assert packet.endswith(b"\x00\x01\xa0\x06\x00\x01/\x00")


def test_reason_is_never_null():
    assert encode_send_headers(299, "", []) == bytes.fromhex(
        "41 42 00 08 04 01 2b 00 00 00 00 00"
    )


@pytest.mark.parametrize("status", [0, 100, 103, 199, 1000, 65536])
def test_status_that_ajp_has_no_place_for_is_refused(status):
    with pytest.raises(LocalProtocolError) as caught:
        encode_send_headers(status, "", [])
    assert str(caught.value) == f"status = {status}: expected 200 to 999"


def test_headers_that_fit_exactly_are_sent():
    # 4 header, 1 type, 2 status, 3 empty reason, 2 count, 2 code, 3 string
    packet = encode_send_headers(200, "", [("Location", "x" * (8192 - 17))], 8192)
    assert len(packet) == 8192


def test_headers_that_do_not_fit_the_packet_are_refused():
    with pytest.raises(HeadersTooLarge) as caught:
        encode_send_headers(200, "", [("Location", "x" * (8192 - 16))], 8192)
    assert (caught.value.size, caught.value.limit) == (8193, 8192)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        pytest.param(
            "X-Id",
            "a\r\nSet-Cookie: b",
            "header 'X-Id': the value holds 0x0D at 1; control characters would split"
            " the header",
            id="CR LF",
        ),
        pytest.param(
            "X-Id",
            "a\x00",
            "header 'X-Id': the value holds 0x00 at 1; control characters would split"
            " the header",
            id="NUL",
        ),
        pytest.param(
            "X-Id",
            "x" * 300 + "\n",
            "header 'X-Id': the value holds 0x0A at 300; control characters would split"
            " the header",
            id="LF in a long value",
        ),
        pytest.param(
            "X-Id",
            "\u20ac",
            "header 'X-Id': the value holds '\u20ac' at 0, which is not Latin-1",
            id="euro",
        ),
        pytest.param(
            "X-Id",
            "x" * 65535,
            "header 'X-Id': a value of 65535 bytes; 65534 fit a string",
            id="too long",
        ),
        pytest.param(
            "X Id", "1", "header 'X Id': the name is not a token (RFC 9110)", id="blank"
        ),
        pytest.param(
            "X:", "1", "header 'X:': the name is not a token (RFC 9110)", id="colon"
        ),
        pytest.param(
            "X\n", "1", "header 'X\\n': the name is not a token (RFC 9110)", id="LF"
        ),
        pytest.param(
            "", "1", "header '': the name is not a token (RFC 9110)", id="no name"
        ),
        pytest.param(
            "X" * 0xA000,
            "1",
            f"header '{'X' * 64}': a name of 40960 bytes would read as a code",
            id="endless name",
        ),
    ],
)
def test_header_that_could_do_harm_is_refused_by_name(name, value, text):
    with pytest.raises(HeaderRefused) as caught:
        encode_response_header(name, value)
    assert str(caught.value) == text


@pytest.mark.parametrize(("name", "value"), [(b"X", "1"), ("X", b"1"), ("X", 1)])
def test_header_that_is_not_text_is_refused(name, value):
    # A compiled build refuses it by itself, before our look at it.
    with pytest.raises((HeaderRefused, TypeError), match="str"):
        encode_response_header(name, value)


def test_control_characters_in_the_reason_are_refused():
    with pytest.raises(HeaderRefused) as caught:
        encode_send_headers(200, "O\nK", [])
    assert caught.value.name == "reason"


@pytest.mark.parametrize(
    "value",
    ["", "a\tb", "caf\xe9", "\x80\xff\xa0\xad", "x" * 255, "x" * 256, "x" * 4000],
)
def test_legal_values_pass_unchanged(value):
    field = encode_response_header("X-Id", value)
    expected = b"\x00\x04X-Id\x00" + len(value).to_bytes(2, "big")
    assert field == expected + value.encode("latin-1") + b"\x00"


def test_text_of_a_subclass_passes():
    class Text(str):
        __slots__ = ()

    assert encode_response_header("X", Text("y")) == b"\x00\x01X\x00\x00\x01y\x00"


def test_coded_names_are_found_in_any_spelling():
    assert encode_response_header("CONTENT-type", "a") == b"\xa0\x01\x00\x01a\x00"


def test_coded_fields_are_told_from_literal_ones():
    fields = encode_response_header("Date", ""), encode_response_header("ETag", "")
    assert [is_coded(field) for field in fields] == [True, False]


def test_names_and_reasons_are_remembered_only_up_to_a_bound():
    names, openings = to_front_end._names, to_front_end._openings
    for number in range(2 * to_front_end.CACHE_ENTRIES + 1):
        encode_response_header(f"X-{number}", "")
        encode_send_headers(200, f"OK {number}", [])
        encode_response_header(f"X-{'x' * 64}-{number}", "")
        encode_send_headers(200, f"OK {'x' * 64} {number}", [])
    assert 0 < len(names) <= to_front_end.CACHE_ENTRIES
    assert 0 < len(openings) <= to_front_end.CACHE_ENTRIES
    assert max(map(len, names)) <= to_front_end.CACHE_LENGTH


# -- Send Body Chunk ----------------------------------------------------------------


def test_small_body_is_one_packet():
    assert encode_body(b"hi\n") == bytes.fromhex("41 42 00 07 03 00 03 68 69 0a 00")


def test_empty_body_is_no_packet():
    assert (encode_body(b""), body_buffers(b""), list(encode_bodies(b""))) == (
        b"",
        ([], 0),
        [],
    )


def test_flush_is_an_empty_packet_with_its_nul():
    assert bytes.fromhex("41 42 00 04 03 00 00 00") == FLUSH


@pytest.mark.parametrize(
    ("length", "packets"),
    [
        (0, []),
        (1, [1]),
        (8183, [8183]),
        (8184, [8184]),
        (8185, [8184, 1]),
        (16368, [8184, 8184]),
    ],
)
def test_body_is_cut_at_the_packet_size(length, packets):
    data = bytes(range(256)) * 64
    expected = b""
    start = 0
    for size in packets:
        expected += b"AB" + (size + 4).to_bytes(2, "big") + b"\x03"
        expected += size.to_bytes(2, "big") + data[start : start + size] + b"\x00"
        start += size
    body = data[:length]
    assert encode_body(body) == expected
    assert encode_body(memoryview(body)) == expected
    assert encode_body(bytearray(body)) == expected
    buffers, size = body_buffers(body)
    assert (b"".join(buffers), size) == (expected, len(expected))
    assert b"".join(encode_bodies(body)) == expected


def test_no_packet_is_longer_than_the_packet_size():
    assert len(encode_body(bytes(8184))) == 8192
    assert len(encode_body(bytes(65528), 65536)) == 65536


def test_large_body_comes_in_batches_of_whole_packets():
    data = bytes(1_000_000)
    pieces = list(encode_bodies(data, 8192, 65536))
    assert b"".join(pieces) == encode_body(data)
    assert {len(piece) for piece in pieces[:-1]} == {65536}


def test_batch_holds_one_packet_at_least():
    pieces = list(encode_bodies(bytes(20000), 8192, 1))
    assert [len(piece) for piece in pieces] == [8192, 8192, 20000 - 2 * 8184 + 8]


# -- the short ones -----------------------------------------------------------------


def test_short_messages():
    assert bytes.fromhex("41 42 00 01 09") == CPONG
    assert encode_end_response(True) == END_REUSE == bytes.fromhex("41 42 00 02 05 01")
    assert encode_end_response(False) == END_CLOSE == bytes.fromhex("41 42 00 02 05 00")
    assert encode_get_body_chunk(8186) == bytes.fromhex("41 42 00 03 06 1f fa")


# -- decoding -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (OK, SendHeaders(200, "OK", OK_HEADERS)),
        (NOT_FOUND, SendHeaders(404, "Not Found", [])),
        (b"AB\x00\x07\x03\x00\x03hi\n\x00", SendBodyChunk(b"hi\n")),
        (FLUSH, SendBodyChunk(b"")),
        (END_REUSE, EndResponse(True)),
        (END_CLOSE, EndResponse(False)),
        (b"AB\x00\x02\x05\x02", EndResponse(True)),
        (b"AB\x00\x01\x05", EndResponse(False)),
        (b"AB\x00\x03\x06\x1f\xfa", GetBodyChunk(8186)),
        (CPONG, CPong()),
        (b"AB\x00\x07\x04\x00\xc8\xff\xff\x00\x00", SendHeaders(200, "", [])),
    ],
)
def test_message_is_decoded(packet, message):
    assert decode_from_container(packet[4:]) == message


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "type at byte 0: needs 1 byte, 0 left"),
        (
            b"\x02",
            "type at byte 0: expected 3 to 6 or 9, what a container sends, found 2",
        ),
        (b"\x03\x00", "body chunk at byte 1: needs 2 bytes, 1 left"),
        (b"\x03\x00\x02a\x00", "body chunk at byte 1: 2 bytes and a NUL due, 2 left"),
        (b"\x03\x00\x01ab\x00", "body chunk at byte 1: 1 bytes and a NUL due, 3 left"),
        (b"\x03\x00\x01ab", "body chunk at byte 1: ends in 0x62, not NUL"),
        (b"\x04\x00", "status at byte 1: needs 2 bytes, 1 left"),
        (b"\x04\x00\xc8\x00\x01", "reason at byte 3: 1 bytes and a NUL due, 0 left"),
        (
            b"\x04\x00\xc8\x00\x01\n\x00\x00\x00",
            "reason at byte 3: holds the control character 0x0A at 0",
        ),
        (b"\x04\x00\xc8\x00\x00\x00", "num_headers at byte 6: needs 2 bytes, 0 left"),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01",
            "header 1 name at byte 8: needs 2 bytes, 0 left",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01\xa0",
            "header 1 name at byte 8: needs 2 bytes, 1 left",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01\xa0\x01\xff\xff",
            "header Content-Type at byte 10: expected a value, found null",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01\xa0\x0c",
            "header 1 name at byte 8: expected 0xA001 to 0xA00B, found 0xA00C",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01\x00\x02X:\x00",
            "header 1 name at byte 8: expected a token, found 'X:'",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x01\xa0\x01\x00\x01\r\x00",
            "header Content-Type at byte 10: holds the control character 0x0D at 0",
        ),
        (
            b"\x04\x00\xc8\x00\x00\x00\x00\x00\x00",
            "payload at byte 8: 1 bytes left over",
        ),
        (b"\x05\x01\x00", "payload at byte 2: 1 bytes left over"),
        (b"\x06\x00", "requested_length at byte 1: needs 2 bytes, 1 left"),
        (b"\x06\x00\x00\x00", "payload at byte 3: 1 bytes left over"),
        (b"\x09\x00", "payload at byte 1: 1 bytes left over"),
    ],
)
def test_broken_message_is_refused_by_name_and_place(payload, text):
    with pytest.raises(DecodeError) as caught:
        decode_from_container(payload)
    assert str(caught.value) == text
