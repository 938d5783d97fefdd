"""The four data types, by hand-written bytes."""

from __future__ import annotations

import pytest

from paste_ajp.protocol.errors import DecodeError, LocalProtocolError
from paste_ajp.protocol.wire import (
    decode_boolean,
    decode_byte,
    decode_integer,
    decode_string,
    encode_boolean,
    encode_byte,
    encode_integer,
    encode_string,
)


def test_byte_is_read_with_the_position_after_it():
    assert decode_byte(b"\x00\xfe", 1, "code") == (254, 2)


def test_missing_byte_is_refused_by_name_and_place():
    with pytest.raises(DecodeError) as caught:
        decode_byte(b"..", 2, "code")
    assert str(caught.value) == "code at byte 2: needs 1 byte, 0 left"


@pytest.mark.parametrize(
    ("byte", "value"),
    [(b"\x00", False), (b"\x01", True), (b"\x02", True), (b"\xff", True)],
)
def test_any_byte_but_zero_is_true(byte, value):
    assert decode_boolean(byte, 0, "is_ssl") == (value, 1)


def test_integer_is_big_endian():
    assert decode_integer(b".\x01\xbb", 1, "server_port") == (443, 3)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        pytest.param(b"", "needs 2 bytes, 0 left", id="nothing"),
        pytest.param(b"\x00", "needs 2 bytes, 1 left", id="half a length"),
        pytest.param(b"\x00\x02ab", "2 bytes and a NUL due, 2 left", id="no NUL"),
        pytest.param(b"\x00\x02a", "2 bytes and a NUL due, 1 left", id="cut short"),
        pytest.param(
            b"\xff\xfeab\x00", "65534 bytes and a NUL due, 3 left", id="far too long"
        ),
        pytest.param(b"\x00\x01ab", "ends in 0x62, not NUL", id="length too small"),
        pytest.param(
            b"\x00\x03a\x00b\x00", "holds a NUL after 1 bytes", id="NUL in it"
        ),
    ],
)
def test_broken_string_is_refused_by_name_and_place(payload, problem):
    with pytest.raises(DecodeError) as caught:
        decode_string(b"...." + payload, 4, "req_uri")
    assert str(caught.value) == f"req_uri at byte 4: {problem}"


def test_string_ends_behind_its_nul():
    assert decode_string(b"\x00\x02hi\x00rest", 0, "reason") == (b"hi", 5)


def test_empty_string_still_has_its_nul():
    assert decode_string(b"\x00\x00\x00", 0, "reason") == (b"", 3)


def test_null_string_has_no_nul():
    assert decode_string(b"\xff\xff", 0, "remote_host") == (None, 2)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("hi", b"\x00\x02hi\x00"),
        ("", b"\x00\x00\x00"),
        (None, b"\xff\xff"),
        ("\xe9", b"\x00\x01\xe9\x00"),
    ],
)
def test_string_is_written_as_latin_1(value, wire):
    assert encode_string(value, "x") == wire


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("a\u20ac", "x: '\u20ac' at 1 is not Latin-1", id="not latin-1"),
        pytest.param("a\x00", "x: holds a NUL after 1 bytes", id="NUL"),
        pytest.param(
            "a" * 65535, "x: a string holds 65534 bytes, not 65535", id="too long"
        ),
    ],
)
def test_text_that_no_string_holds_is_refused(value, problem):
    with pytest.raises(LocalProtocolError) as caught:
        encode_string(value, "x")
    assert str(caught.value) == problem


def test_numbers_are_written_big_endian():
    written = encode_byte(10, "x"), encode_integer(443, "x"), encode_integer(0, "x")
    assert written == (b"\x0a", b"\x01\xbb", b"\x00\x00")


def test_booleans_are_written_as_one_and_zero():
    assert (encode_boolean(True), encode_boolean(False)) == (b"\x01", b"\x00")


@pytest.mark.parametrize(
    ("write", "value", "problem"),
    [
        (encode_byte, 256, "x = 256: a byte holds 0 to 255"),
        (encode_byte, -1, "x = -1: a byte holds 0 to 255"),
        (encode_integer, 65536, "x = 65536: an integer holds 0 to 65535"),
        (encode_integer, -1, "x = -1: an integer holds 0 to 65535"),
    ],
)
def test_numbers_out_of_range_are_refused(write, value, problem):
    with pytest.raises(LocalProtocolError) as caught:
        write(value, "x")
    assert str(caught.value) == problem
