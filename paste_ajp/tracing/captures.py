"""Captured AJP in whatever form somebody has it, as a series of events.

What it is, is found out from its first bytes: a trace, a pcap or pcapng file, raw
bytes, or text that holds a hex dump. A hex dump may be plain hex, with or
without offsets and an ASCII column, as xxd, ``hexdump -C``, ``od``, ``tcpdump
-X`` and tshark's ``-x`` and ``-z follow,tcp,hex`` write them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from paste_ajp.protocol.codes import MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END
from paste_ajp.tracing.conversation import Conversation
from paste_ajp.tracing.event import Event, parse_line
from paste_ajp.tracing.pcap import Frame, PcapError, find_tcp, is_pcap, read_pcap
from paste_ajp.tracing.streams import Reassembler


class CaptureError(ValueError):
    """Nothing of AJP could be found; the text says what was looked for."""


def read_capture(data: bytes, *, preview: bool = False) -> Iterator[Event]:
    """Find the packets in ``data``, in the order of time.

    With ``preview`` the beginnings of bodies are shown (a trace holds none).
    Raises CaptureError where there is nothing of AJP in it.
    """
    found = False
    for event in _read(data, preview):
        found = True
        yield event
    if not found:
        raise CaptureError(
            "no AJP packet in it: expected a hex dump, raw bytes, a pcap file or a "
            "trace of paste_ajp"
        )


def _read(data: bytes, preview: bool) -> Iterator[Event]:
    if is_pcap(data):
        try:
            yield from _follow(read_pcap(data), preview)
        except PcapError as error:
            raise CaptureError(str(error)) from error
        return
    is_magic = data[:2] in (MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END)
    if is_magic and b"\0" in data[:4096]:
        yield from _mixed(data, preview)
        return
    text = data.decode("utf-8", "replace").lstrip("\ufeff")
    events = [event for line in text.splitlines() if (event := parse_line(line))]
    if events:
        yield from events
        return
    yield from _read_dumps(text, preview)


def _mixed(data: bytes, preview: bool) -> Iterator[Event]:
    if MAGIC_TO_CONTAINER not in data and MAGIC_TO_FRONT_END not in data:
        return
    conversation = Conversation(preview=preview)
    for view in [*conversation.feed_mixed(data), *conversation.finish()]:
        yield Event(view)


def _follow(frames: Iterator[Frame], preview: bool) -> Iterator[Event]:
    reassembler = Reassembler(preview=preview)
    for frame in frames:
        segment = find_tcp(frame)
        if segment is not None:
            yield from reassembler.feed(segment)
    yield from reassembler.finish()


# -- Hex dumps


@dataclass
class _Block:
    """Bytes of a dump whose lines belong together.

    ``has_offsets``: the dump counted them, from 0. ``indented``: what tshark's
    "follow" does with the second direction.
    """

    has_offsets: bool
    indented: bool
    data: bytearray = field(default_factory=bytearray)


#: Bytes that the ``*`` of a text may stand for, all together. What has more is no AJP,
#: and a few characters must not ask for all the memory that there is.
_MOST_REPEATED = 16 * 1024 * 1024

_OFFSET = re.compile(r"(?:0x)?(?P<offset>[0-9A-Fa-f]{4,16})(?P<colon>:)?(?=\s|$)")
_OD_COLUMN = re.compile(r"(?: [0-9A-Fa-f]{2})+(?:\s+>.*<)?")
_HEX_WORD = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_C_STYLE = re.compile(r"(?:\\x|0x)([0-9A-Fa-f]{2})")


def _read_dumps(text: str, preview: bool) -> Iterator[Event]:
    blocks = [block for block in _cut_blocks(text) if block.data]
    frames = [
        frame
        for block in blocks
        if block.has_offsets and (frame := _as_frame(bytes(block.data)))
    ]
    if frames:  # dumps of what went over the network, with its headers
        yield from _follow(iter(frames), preview)
        return
    yield from _mixed(b"".join(bytes(block.data) for block in blocks), preview)


def _as_frame(data: bytes) -> Frame | None:
    """Take a dumped frame for what it looks like, if it holds TCP at all."""
    if data[:2] in (MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END):
        return None
    for link_type in (1, 101, 113, 0):  # Ethernet, IP, Linux cooked, loopback
        frame = Frame(None, link_type, data)
        if find_tcp(frame) is not None:
            return frame
    return None


def _cut_blocks(text: str) -> Iterator[_Block]:
    """Read the lines of a dump, and say which of them go together."""
    block = _Block(False, False)
    previous = b""
    repeating = False
    left = _MOST_REPEATED
    radix = _find_radix(text.splitlines())
    for line in text.splitlines():
        if line.strip() == "*" and block.has_offsets:
            repeating = True
            continue
        parsed = _parse_dump_line(line, len(block.data), radix, repeating=repeating)
        if parsed is None:
            continue
        offset, data = parsed
        indented = line[:1] in (" ", "\t")
        if offset is None:
            if block.has_offsets:
                yield block
                block = _Block(False, indented)
        elif repeating and previous and 0 < (count := offset - len(block.data)) <= left:
            left -= count
            block.data += (previous * (count // len(previous) + 1))[:count]
        elif not block.has_offsets or offset != len(block.data):
            yield block
            block = _Block(True, indented)
        repeating = False
        block.data += data
        previous = data
    yield block


def _parse_dump_line(
    line: str, expected: int, radix: int, *, repeating: bool
) -> tuple[int | None, bytes] | None:
    """Read (offset or None, bytes) from a line; None where it is no hex.

    Digits in front are an offset where they can be: they begin at 0, and go on at
    ``expected``, or further on after a ``*``.
    """
    stripped = line.strip()
    if not stripped or stripped[0] in "#;/":
        return None
    if _C_STYLE.match(stripped.lstrip("{[(\"'b ")) and not _OFFSET.match(stripped):
        pairs = _C_STYLE.findall(stripped)
        return None, bytes.fromhex("".join(pairs))
    match = _OFFSET.match(stripped)
    if match:
        offset = _read_offset(match["offset"], 16 if match["colon"] else radix)
        rest = stripped[match.end() :]
        due = offset == expected or (repeating and offset > expected)
        is_column = rest.startswith("  ") or _OD_COLUMN.fullmatch(rest)
        if match["colon"] or (due and not rest) or (is_column and (due or not offset)):
            return offset, _hex_column(rest, is_xxd=bool(match["colon"]))
    columns = re.split(r"\s+[|>]", stripped, maxsplit=1)[0]
    digits = re.sub(r"[\s,:]", "", columns)
    if len(digits) % 2 or not re.fullmatch(r"[0-9A-Fa-f]+", digits):
        return None
    return None, bytes.fromhex(digits)


def _find_radix(lines: list[str]) -> int:
    """Find out how a dump counts: od in octal, or in decimal where it is told to.

    Those two have seven digits; the second offset says which, by the bytes before.
    """
    offsets: list[tuple[str, int]] = []
    for line in lines:
        match = _OFFSET.match(line.strip())
        if line.strip() == "*":
            offsets.append(("*", 0))
        elif match and not match["colon"] and len(match["offset"]) >= 7:
            rest = line.strip()[match.end() :]
            offsets.append((match["offset"], len(_hex_column(rest, is_xxd=False))))
    for (first, count), (second, _) in itertools.pairwise(offsets):
        if first != "0000000":
            continue
        if second == "*":  # then od's default, unless a digit is against it
            has_8 = any(set("89") & set(offset) for offset, _ in offsets)
            return 10 if has_8 else 8
        for radix in (8, 10):
            if re.fullmatch("[0-7]+" if radix == 8 else "[0-9]+", second) and (
                int(second, radix) == count
            ):
                return radix
    return 16


def _read_offset(digits: str, radix: int) -> int:
    try:
        return int(digits, radix)
    except ValueError:  # of another dump in the same text
        return int(digits, 16)


def _hex_column(rest: str, *, is_xxd: bool) -> bytes:
    """Take the hex of a line with offset, and leave its ASCII column.

    That column follows a ``|`` (hexdump -C), two blanks (xxd, tcpdump) or three
    (tshark, which like hexdump has a gap of two in the middle).
    """
    column = re.split(r"\s+\|", rest.strip(), maxsplit=1)[0]
    column = re.split(r"\s{2,}" if is_xxd else r"\s{3,}", column, maxsplit=1)[0]
    data = bytearray()
    for word in column.split():
        if not _HEX_WORD.fullmatch(word) or (not is_xxd and len(data) >= 16):
            break
        data += bytes.fromhex(word)
    return bytes(data)
