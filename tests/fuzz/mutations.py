"""Real packets and sequences of them, spoilt by chance.

Bytes flipped at random rarely get past the first length. So a sequence is spoilt
packet by packet: payloads change and their lengths are put right again (or not),
packets are left out, doubled, swapped, cut, and joined by others.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Final

from tests.captures import load_captures

MAGIC: Final = b"\x12\x34"

#: What means something to a decoder, to be put anywhere.
TOKENS: Final = (
    b"\x00",
    b"\x00\x00",
    b"\x00\x01",
    b"\xff",
    b"\xff\xff",
    b"\xff\xfe",
    b"\x7f\xff",
    b"\x80\x00",
    b"\x12\x34",
    b"\x02",
    b"\x0a",
    b"\xa0\x00",
    b"\xa0\x08",
    b"\xa0\x0b",
    b"\xa0\x0f",
    b"\x0a\x00\x0eAJP_LOCAL_ADDR\x00\x00\x01x\x00",
    b"\x0b\x00\x0380\x00",
    b"\x0c\x00\x06s3cret\x00",
    b"\x0d\x00\x05PATCH\x00",
    b"\x00\x0eContent-Length\x00\x00\x011\x00",
    b"\x00\x11Transfer-Encoding\x00\x00\x07chunked\x00",
    b"\x00\x04gzip\x00",
    b"chunked",
    b"\r\n",
    b"%00",
    b"%zz",
    b"/../",
    b"*",
    b"http://x/",
    b"99999999999999999999",
    b"-1",
    b"Content_Length",
    b"HTTP/9",
)

#: Packets to put between others: CPing, EOFs, Shutdown, Ping, an empty message.
PACKETS: Final = (
    b"\x12\x34\x00\x01\x0a",
    b"\x12\x34\x00\x00",
    b"\x12\x34\x00\x02\x00\x00",
    b"\x12\x34\x00\x01\x07",
    b"\x12\x34\x00\x01\x08",
    b"\x12\x34\x00\x01\x02",
    b"\x12\x34\x00\x07\x00\x05hello",
    b"\x12\x34\x00\x05hello",
)

#: Random bytes of a payload, spoilt; given by a fuzzer that knows better.
SpoilPayload = Callable[[bytes, random.Random], bytes]


@functools.cache
def sequences() -> tuple[tuple[bytes, ...], ...]:
    """Return the packets of every capture."""
    return tuple(tuple(capture.packets) for capture in load_captures())


@functools.cache
def payloads() -> tuple[bytes, ...]:
    """Return the payload of every captured Forward Request."""
    found = {
        packet[4:]
        for packets in sequences()
        for packet in packets
        if packet[4:5] == b"\x02" and len(packet) > 40
    }
    return tuple(sorted(found))


def cut(stream: bytes) -> list[bytes]:
    """Cut bytes into packets where they can be; the last piece is what is left."""
    packets = []
    pos = 0
    while pos < len(stream):
        end = pos + 4 + int.from_bytes(stream[pos + 2 : pos + 4], "big")
        if stream[pos : pos + 2] != MAGIC or end > len(stream):
            end = len(stream)
        packets.append(stream[pos:end])
        pos = end
    return packets


def packet_of(payload: bytes) -> bytes:
    """Put a true header before a payload."""
    payload = payload[:0xFFFF]
    return MAGIC + len(payload).to_bytes(2, "big") + payload


def spoil_payload(payload: bytes, chance: random.Random) -> bytes:
    """Change a few bytes: flip, replace, put in, leave out, double."""
    data = bytearray(payload)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = chance.randrange(256)
        elif kind == 2:
            token = chance.choice(TOKENS)
            data[at : at + chance.choice((0, len(token)))] = token
        elif kind == 3:
            del data[at : at + chance.choice((1, 1, 2, 4, 16))]
        elif kind == 4:
            piece = data[at : at + chance.choice((1, 4, 16, 64))]
            data[at:at] = piece
        else:
            other = chance.choice(payloads())
            begin = chance.randrange(len(other))
            data[at:at] = other[begin : begin + chance.choice((2, 8, 32))]
    return bytes(data)


def spoil_sequence(
    packets: list[bytes],
    chance: random.Random,
    spoil: SpoilPayload = spoil_payload,
) -> list[bytes]:
    """Change a sequence of packets in one to four places."""
    packets = list(packets) or [b""]
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(packets))
        packet = packets[at]
        kind = chance.randrange(10)
        if kind <= 3:
            packets[at] = packet_of(spoil(packet[4:], chance))
        elif kind == 4:
            packets[at] = spoil(packet, chance)
        elif kind == 5 and len(packets) > 1:
            del packets[at]
        elif kind == 6:
            packets.insert(at, packet)
        elif kind == 7:
            packets.insert(at, chance.choice(PACKETS))
        elif kind == 8:
            packets[at : at + 1] = chance.choice(sequences())
        else:
            packets[at] = packet[: chance.randrange(len(packet) + 1)]
    return packets


def some_sequence(chance: random.Random) -> list[bytes]:
    """Return one captured sequence, spoilt, or two joined and spoilt."""
    packets = list(chance.choice(sequences()))
    if chance.random() < 0.3:
        packets += chance.choice(sequences())
    return spoil_sequence(packets, chance)
