import contextlib
import struct
import tracemalloc

import pytest

from paste_ajp.tracing import CaptureError, format_line, read_capture

#: CPing, CPong, a POST with a body of five bytes, and its answer, as they went.
CPING = bytes.fromhex("123400010a")
CPONG = bytes.fromhex("4142000109")
POST = bytes.fromhex(
    "12340042 0204 0008 485454502f312e31 00 0002 2f78 00 0003 312e32 00 ffff"
    "0001 68 00 0050 00 0001 a008 0001 35 00"
    "0c 0006 733363726574 00 03 0003 626f62 00 05 0003 783d31 00 ff"
)
CHUNK = bytes.fromhex("12340007 0005 68656c6c6f")
HEAD = bytes.fromhex("41420010 04 00c8 0002 4f4b 00 0001 a003 0001 30 00")
END = bytes.fromhex("41420002 0501")
ALL = CPING + CPONG + POST + CHUNK + HEAD + END
NAMES = ["CPing", "CPong", "ForwardRequest", "BodyChunk", "SendHeaders", "EndResponse"]


def names(data):
    events = list(read_capture(data))
    assert [event.packet.problem for event in events] == [""] * len(events)
    return [event.packet.name for event in events]


def text_of(data, line, size=16):
    pieces = [(at, data[at : at + size]) for at in range(0, len(data), size)]
    return "\n".join(line(at, piece) for at, piece in pieces).encode() + b"\n"


def ascii_of(piece):
    return "".join(chr(b) if 32 <= b < 127 else "." for b in piece)


def as_xxd(data):
    return text_of(
        data, lambda at, piece: f"{at:08x}: {piece.hex(' ', 2):39}  {ascii_of(piece)}"
    )


def as_hexdump(data):
    def line(at, piece):
        halves = f"{piece[:8].hex(' '):23}  {piece[8:].hex(' '):23}"
        return f"{at:08x}  {halves}  |{ascii_of(piece)}|"

    return text_of(data, line) + f"{len(data):08x}\n".encode()


def as_tshark(data):
    return text_of(
        data, lambda at, piece: f"{at:04x}  {piece.hex(' '):47}   {ascii_of(piece)}"
    )


def as_od(data):
    return text_of(data, lambda at, p: f"{at:07o} {p.hex(' ')}") + (
        f"{len(data):07o}\n".encode()
    )


def as_capture(data):
    return text_of(data, lambda at, piece: f"{piece.hex()}  |{ascii_of(piece)}|")


def as_tcpdump(data):
    return b"10:00:00.000000 IP a.1 > b.8009: Flags [P.]\n" + text_of(
        data, lambda at, p: f"\t0x{at:04x}:  {p.hex(' ', 2):39}  {ascii_of(p)}"
    )


@pytest.mark.parametrize(
    "dump",
    [
        pytest.param(ALL, id="raw"),
        pytest.param(ALL.hex().encode(), id="hex"),
        pytest.param(ALL.hex(" ").encode(), id="hex with blanks"),
        pytest.param(ALL.hex("\n", 4).encode(), id="hex in lines"),
        pytest.param(b"# remark\n" + ALL.hex(" ").encode(), id="with a remark"),
        pytest.param(
            "".join(f"\\x{b:02x}" for b in ALL).encode(), id="as a Python literal"
        ),
        pytest.param(", ".join(f"0x{b:02x}" for b in ALL).encode(), id="as a C array"),
        pytest.param(as_xxd(ALL), id="xxd"),
        pytest.param(as_hexdump(ALL), id="hexdump -C"),
        pytest.param(as_tshark(ALL), id="tshark -x"),
        pytest.param(as_od(ALL), id="od -tx1"),
        pytest.param(
            text_of(ALL, lambda at, p: f"{p.hex()}  |{ascii_of(p)}|"), id="captures"
        ),
    ],
)
def test_dumps_of_every_tool_are_read(dump):
    assert names(dump) == NAMES


def test_lines_that_hexdump_left_out_are_put_back():
    body = b"x" * 256
    chunk = bytes.fromhex("12340102 0100") + body
    lines = as_hexdump(chunk).splitlines(keepends=True)
    # as hexdump does: one of the equal lines, a star, and on
    short = b"".join([*lines[:2], b"*\n", *lines[16:]])
    [event] = read_capture(short)
    assert event.packet.fields["length"] == 256


def od(data, radix="o", text=False):
    """As GNU od -v -tx1 writes it; with ``*`` for lines that repeat."""
    width = 6 if radix == "x" else 7
    previous, starred = None, False
    for at in range(0, len(data), 16):
        piece = data[at : at + 16]
        if piece == previous:
            if not starred:
                yield "*"
            starred = True
            continue
        previous, starred = piece, False
        shown = f"  >{ascii_of(piece)}<" if text else ""
        number = f"{at:0{width}{radix}}" if radix else ""
        yield f"{number} {piece.hex(' '):47}".rstrip() + shown
    if radix:
        yield f"{len(data):0{width}{radix}}"


@pytest.mark.parametrize("radix", ["o", "d", "x", ""])
@pytest.mark.parametrize("text", [False, True])
def test_dumps_of_od_are_read_however_they_count(radix, text):
    dump = "\n".join(od(ALL, radix, text)).encode()
    assert names(dump) == NAMES


@pytest.mark.parametrize("radix", ["o", "d", "x"])
@pytest.mark.parametrize("size", [64, 300, 1000, 5000])
def test_lines_that_od_left_out_are_put_back(radix, size):
    chunk = b"\x12\x34" + (size + 2).to_bytes(2, "big") + size.to_bytes(2, "big")
    dump = "\n".join(od(chunk + b"x" * size + CPING, radix)).encode()
    assert b"*" in dump
    [first, second] = read_capture(dump)
    assert (first.packet.fields["length"], first.packet.problem) == (size, "")
    assert second.packet.name == "CPing"


# -- what went over a network


def checksum_free_ip(source, target, payload):
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, 6, 0, source, target
    )
    return header + payload


FRONT, BACK = (b"\x0a\0\0\1", 50000), (b"\x0a\0\0\2", 8009)


def segment(source, target, sequence, data=b"", flags=0x18):
    tcp = struct.pack(
        ">HHIIBBHHH",
        source[1],
        target[1],
        sequence & 0xFFFFFFFF,
        0,
        0x50,
        flags,
        0,
        0,
        0,
    )
    return checksum_free_ip(source[0], target[0], tcp + data)


def ethernet(packet):
    return b"\xff" * 12 + b"\x08\x00" + packet


def pcap(*frames, link_type=1, order="<", magic=0xA1B2C3D4):
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for number, frame in enumerate(frames):
        data += struct.pack(
            order + "IIII", 1000 + number, 500000, len(frame), len(frame)
        )
        data += frame
    return data


def block(kind, body):
    length = 12 + len(body) + -len(body) % 4
    return (
        struct.pack("<II", kind, length)
        + body.ljust(length - 12, b"\0")
        + (struct.pack("<I", length))
    )


def pcapng(*frames, link_type=1):
    data = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack("<HHB3x", 9, 1, 3) + struct.pack("<HH", 0, 0)  # milliseconds
    data += block(1, struct.pack("<HHI", link_type, 0, 65535) + options)
    for number, frame in enumerate(frames):
        ticks = (1000 + number) * 1000 + 500
        head = struct.pack(
            "<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, *[len(frame)] * 2
        )
        data += block(6, head + frame)
    return data


def exchange(start=100, end=900):
    """Both directions of one connection, from its SYNs."""
    yield segment(FRONT, BACK, start, flags=2)
    yield segment(BACK, FRONT, end, flags=0x12)
    forth, back = start + 1, end + 1
    for data in (CPING, CPONG, POST, CHUNK, HEAD + END):
        if data[:2] == b"\x12\x34":
            yield segment(FRONT, BACK, forth, data)
            forth += len(data)
        else:
            yield segment(BACK, FRONT, back, data)
            back += len(data)


def as_ipv6(packet):
    """The same segment over IPv6, behind a header of options."""
    hosts = packet[12:16].rjust(16, b"\0") + packet[16:20].rjust(16, b"\0")
    options = bytes.fromhex("0600010400000000")  # next: TCP; 8 bytes in all
    head = struct.pack(">IHBB", 0x60000000, len(packet) - 20 + 8, 0, 64)
    return head + hosts + options + packet[20:]


def linked(link_type, head):
    return pcap(*(head + each for each in exchange()), link_type=link_type)


@pytest.mark.parametrize(
    "capture",
    [
        pytest.param(pcap(*map(ethernet, exchange())), id="pcap"),
        pytest.param(pcap(*map(ethernet, exchange()), order=">"), id="big endian"),
        pytest.param(pcapng(*map(ethernet, exchange())), id="pcapng"),
        pytest.param(pcap(*exchange(), link_type=101), id="raw IP"),
        pytest.param(pcap(*map(as_ipv6, exchange()), link_type=101), id="IPv6"),
        pytest.param(linked(0, b"\2\0\0\0"), id="loopback"),
        pytest.param(linked(113, b"\0" * 14 + b"\x08\x00"), id="Linux cooked"),
        pytest.param(linked(276, b"\x08\x00" + b"\0" * 18), id="Linux cooked 2"),
        pytest.param(
            linked(1, b"\xff" * 12 + b"\x81\x00\0\1\x08\x00"), id="Ethernet with VLAN"
        ),
        pytest.param(pcap(*map(ethernet, list(exchange())[2:])), id="without SYNs"),
        pytest.param(
            pcap(*map(ethernet, exchange(0xFFFFFFF0, 0xFFFFFFF8))), id="numbers wrap"
        ),
        pytest.param(
            b"".join(as_tcpdump(each) for each in exchange()), id="tcpdump -X"
        ),
        pytest.param(
            b"\n".join(as_tshark(ethernet(each)) for each in exchange()),
            id="tshark -x of frames",
        ),
    ],
)
def test_packets_are_found_in_network_captures(capture):
    assert names(capture) == NAMES


def test_times_and_connections_come_from_the_capture():
    events = list(read_capture(pcapng(*map(ethernet, exchange()))))
    assert (events[0].time, events[0].connection) == (1002.5, "10.0.0.1:50000")


def test_segments_out_of_order_and_sent_twice_are_put_right():
    frames = [*map(ethernet, exchange())]
    frames[2:7] = [frames[4], frames[2], frames[2], frames[3], frames[5], frames[6]]
    events = list(read_capture(pcap(*frames)))
    assert sorted(event.packet.name for event in events) == sorted(NAMES)


def test_a_segment_that_is_missing_costs_its_packet_alone():
    frames = [*map(ethernet, exchange())]
    del frames[4]  # the Forward Request
    events = list(read_capture(pcap(*frames)))
    assert [event.packet.name for event in events] == [
        "CPing",
        "CPong",
        "SendHeaders",
        "EndResponse",
        "BodyChunk",
    ]


def test_what_a_snapshot_length_cut_off_costs_its_packet_alone():
    frames = [*map(ethernet, exchange())]
    frames[4] = frames[4][:90]  # the Forward Request
    names = [event.packet.name for event in read_capture(pcap(*frames))]
    assert names == ["CPing", "CPong", "BodyChunk", "SendHeaders", "EndResponse"]


def test_fragments_and_frames_cut_in_a_header_are_passed_over():
    fragment = bytearray(segment(FRONT, BACK, 1, b"12345678"))
    fragment[6] |= 0x20
    frames = [ethernet(bytes(fragment)), b"\xff" * 13, *map(ethernet, exchange())]
    assert names(pcap(*frames)) == NAMES


def test_one_packet_in_many_segments_is_one():
    frames = [ethernet(segment(FRONT, BACK, 1, flags=2))]
    frames += [
        ethernet(segment(FRONT, BACK, 2 + at, POST[at : at + 1]))
        for at in range(len(POST))
    ]
    assert names(pcap(*frames)) == ["ForwardRequest"]


def test_ports_that_are_used_again_are_another_connection():
    frames = [*exchange(), *exchange(5000, 7000)]
    assert names(pcap(*map(ethernet, frames))) == NAMES * 2


def test_other_protocols_are_passed_over():
    http = segment(FRONT, (BACK[0], 80), 1, b"GET / HTTP/1.1\r\n\r\n")
    assert names(pcap(*map(ethernet, [http, *exchange()]))) == NAMES


@pytest.mark.parametrize("size", range(0, 300, 7))
def test_a_capture_that_was_cut_raises_nothing_but_its_own_error(size):
    data = pcapng(*map(ethernet, exchange()))[: 30 + size]
    with contextlib.suppress(CaptureError):
        list(read_capture(data))


# -- the rest


def test_a_trace_is_read_back():
    lines = [format_line(event) for event in read_capture(ALL)]
    trace = "\n".join(["# paste_ajp trace 1", *lines]).encode()
    assert [format_line(event) for event in read_capture(trace)] == lines


def test_nothing_secret_comes_out():
    text = "".join(format_line(event) for event in read_capture(ALL))
    assert "s3cret" not in text
    assert "hello" not in text
    assert "bob" in text


@pytest.mark.parametrize("data", [b"", b"hello", b"GET / HTTP/1.1\r\n", b"00 01 02"])
def test_what_holds_no_ajp_is_said_so(data):
    with pytest.raises(CaptureError) as caught:
        list(read_capture(data))
    assert str(caught.value).startswith("no AJP packet in it")


def test_a_dump_that_ends_inside_a_packet_says_so():
    events = list(read_capture(POST[:20].hex().encode()))
    assert events[0].packet.problem == ("the capture ends inside a packet of 70 bytes")


@pytest.mark.parametrize("offset", ["7fffffff", "ffffffffffffffff"])
def test_a_star_does_not_stand_for_all_the_memory(offset):
    dump = f"00000000  12 34 00 01 0a\n*\n{offset}  41 42 00 01 09\n" * 20
    tracemalloc.start()
    try:
        with contextlib.suppress(CaptureError):
            list(read_capture(dump.encode()))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000_000
