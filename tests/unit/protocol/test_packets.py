"""A stream is cut into packets, wherever it was split."""

from __future__ import annotations

import pytest

from paste_ajp.protocol.errors import FramingError
from paste_ajp.protocol.packets import PacketReader


def read_all(reader: PacketReader) -> list[bytes]:
    payloads = []
    while (length := reader.payload_length()) is not None:
        payload = reader.take(length)
        if payload is None:
            break
        payloads.append(payload)
    return payloads


STREAM = b"\x12\x34\x00\x03abc\x12\x34\x00\x00\x12\x34\x00\x01\x0a"


@pytest.mark.parametrize("step", range(1, len(STREAM) + 1))
def test_split_stream_gives_the_same_packets(step):
    reader = PacketReader(b"\x12\x34")
    payloads = []
    for start in range(0, len(STREAM), step):
        reader.feed(STREAM[start : start + step])
        payloads += read_all(reader)
    assert payloads == [b"abc", b"", b"\x0a"]
    assert reader.is_empty


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x13", "magic at byte 0: expected 0x12, found 0x13"),
        (
            b"GET / HTTP/1.1",
            (
                "magic at byte 0: expected 0x12, found 0x47: this looks like HTTP, and"
                " the port is for AJP"
            ),
        ),
        (
            b"<!DOCTYPE HTML>",
            (
                "magic at byte 0: expected 0x12, found 0x3C: this looks like HTTP, and"
                " the port is for AJP"
            ),
        ),
        (
            b"\x16\x03\x01\x00\xa5",
            (
                "magic at byte 0: expected 0x12, found 0x16: this looks like TLS, and"
                " the port is for AJP in clear"
            ),
        ),
        (b"\x12\x35", "magic at byte 1: expected 0x34, found 0x35"),
        (b"\x12\x00\x00\x01\x0a", "magic at byte 1: expected 0x34, found 0x00"),
        (b"AB\x00\x01\x09", "magic at byte 0: expected 0x12, found 0x41"),
    ],
)
def test_wrong_magic_is_refused_at_its_first_byte(data, text):
    reader = PacketReader(b"\x12\x34")
    reader.feed(data)
    with pytest.raises(FramingError) as caught:
        reader.payload_length()
    assert str(caught.value) == text


@pytest.mark.parametrize("data", [b"", b"\x12", b"\x12\x34", b"\x12\x34\x00"])
def test_length_is_unknown_until_the_header_is_whole(data):
    reader = PacketReader(b"\x12\x34")
    reader.feed(data)
    assert reader.payload_length() is None
    assert reader.missing == (len(data), 4 if data else 0)


def test_the_start_of_a_payload_can_be_looked_at_before_the_rest_is_here():
    reader = PacketReader(b"\x12\x34")
    reader.feed(b"\x12\x34\x00\x09\x02")
    assert (reader.peek(1), reader.peek(2), reader.take(9)) == (b"\x02", None, None)
    assert reader.missing == (5, 13)


def test_payload_can_be_taken_without_its_first_bytes():
    reader = PacketReader(b"\x12\x34")
    reader.feed(b"\x12\x34\x00\x04\x00\x02hi")
    assert reader.take(4, 2) == b"hi"


def test_what_is_taken_is_bytes_also_from_a_grown_buffer():
    reader = PacketReader(b"\x12\x34")
    for byte in b"\x12\x34\x00\x02hi":
        reader.feed(bytes((byte,)))
    assert reader.peek(2) == b"hi"
    payload = reader.take(2)
    assert (type(payload), payload) == (bytes, b"hi")


@pytest.mark.parametrize("step", range(1, 14))
def test_skipped_packet_is_dropped_to_its_last_byte(step):
    reader = PacketReader(b"\x12\x34")
    stream = b"\x12\x34\x00\x04\x02bad\x12\x34\x00\x01\x0a"
    skipped = False
    payloads = []
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        if not skipped and (length := reader.payload_length()) is not None:
            reader.skip(length)
            skipped = True
        if skipped and not reader.is_skipping:
            payloads += read_all(reader)
    assert payloads == [b"\x0a"]
    assert reader.is_empty


def test_reader_is_not_empty_while_it_skips():
    reader = PacketReader(b"\x12\x34")
    reader.feed(b"\x12\x34\x00\x04ab")
    reader.skip(4)
    assert (reader.is_skipping, reader.is_empty) == (True, False)


def test_clear_forgets_all():
    reader = PacketReader(b"\x12\x34")
    reader.feed(b"\x12\x34\x00\x04ab")
    reader.skip(4)
    reader.clear()
    assert (reader.is_skipping, reader.is_empty) == (False, True)
