"""pcap and pcapng files, down to the TCP segments in them.

Enough of both formats, and of the link layers that people capture AJP on, to
read a file of tcpdump, tshark or Wireshark without any of them. Fragments of IP
are left out: AJP runs on loopback and local networks, where TCP fits its segments.

Source: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng, tcpdump.org/linktypes.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

_PCAP_MAGICS = {  # first four bytes: byte order, ticks in a second
    b"\xd4\xc3\xb2\xa1": ("<", 1_000_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1_000_000_000),
    b"\xa1\xb2\x3c\x4d": (">", 1_000_000_000),
}
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"

_ETHERNET = 1
_LOOPBACKS = (0, 108)
_RAW_IP = (12, 14, 101, 228, 229)
_LINUX_COOKED = 113
_LINUX_COOKED_2 = 276

_TCP = 6
#: IPv6 headers that may stand before TCP's: hop-by-hop, routing, destination.
_IPV6_OPTIONS = (0, 43, 60)


class PcapError(ValueError):
    """The file is cut or damaged in a place that hides the rest."""


class Frame(NamedTuple):
    """One captured frame; ``time`` is seconds since 1970, None if unknown."""

    time: float | None
    link_type: int
    data: bytes


class Segment(NamedTuple):
    """One TCP segment; ``source`` and ``target`` are written as host:port."""

    time: float | None
    source: str
    target: str
    sequence: int
    is_syn: bool
    is_end: bool
    data: bytes
    #: Bytes that were on the wire and not captured (a snapshot length).
    missing: int = 0


def is_pcap(data: bytes) -> bool:
    """Is this a pcap or a pcapng file?"""
    return data[:4] in _PCAP_MAGICS or data[:4] == _PCAPNG_MAGIC


def read_pcap(data: bytes) -> Iterator[Frame]:
    """Read the frames of a file; one that was cut short ends quietly."""
    if data[:4] == _PCAPNG_MAGIC:
        return _read_pcapng(data)
    return _read_classic(data)


def _read_classic(data: bytes) -> Iterator[Frame]:
    order, ticks = _PCAP_MAGICS[data[:4]]
    if len(data) < 24:
        raise PcapError("the pcap file ends inside its header")
    link_type = int(struct.unpack_from(order + "I", data, 20)[0]) & 0x0FFFFFFF
    record = struct.Struct(order + "IIII")
    pos = 24
    while pos + record.size <= len(data):
        seconds, fraction, length, _ = record.unpack_from(data, pos)
        pos += record.size
        yield Frame(seconds + fraction / ticks, link_type, data[pos : pos + length])
        pos += length


def _read_pcapng(data: bytes) -> Iterator[Frame]:
    order = "<"
    interfaces: list[tuple[int, float]] = []
    pos = 0
    while pos + 12 <= len(data):
        if data[pos : pos + 4] == _PCAPNG_MAGIC:
            order = "<" if data[pos + 8 : pos + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, length = struct.unpack_from(order + "II", data, pos)
        if length < 12 or length % 4:
            raise PcapError(f"the pcapng file has a block of {length} bytes at {pos}")
        body = data[pos + 8 : pos + length - 4]
        pos += length
        if kind == 1 and len(body) >= 8:
            link_type = struct.unpack_from(order + "H", body)[0]
            interfaces.append((link_type, _resolution(body[8:], order)))
        elif kind == 6 and len(body) >= 20:
            number, high, low, size, _ = struct.unpack_from(order + "IIIII", body)
            if number < len(interfaces):
                link_type, tick = interfaces[number]
                time = (high << 32 | low) * tick
                yield Frame(time, link_type, body[20 : 20 + size])
        elif kind == 3 and len(body) >= 4 and interfaces:
            yield Frame(None, interfaces[0][0], body[4:])


def _resolution(options: bytes, order: str) -> float:
    """Find if_tsresol among an interface's options: seconds in a tick."""
    pos = 0
    while pos + 4 <= len(options):
        code, length = struct.unpack_from(order + "HH", options, pos)
        if code == 0:
            break
        if code == 9 and length == 1 and pos + 4 < len(options):
            value = options[pos + 4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        pos += 4 + (length + 3) // 4 * 4
    return 1e-6


def find_tcp(frame: Frame) -> Segment | None:
    """Find the TCP segment in a frame; None where there is none, or a part of one."""
    try:
        return _find_tcp(frame)
    except (IndexError, struct.error):  # the frame was cut within a header
        return None


def _find_tcp(frame: Frame) -> Segment | None:
    packet = _ip_packet(frame)
    if packet is None:
        return None
    version = packet[0] >> 4
    if version == 4:
        header = (packet[0] & 15) * 4
        length, fragment = struct.unpack_from(">H2xH", packet, 2)
        if packet[9] != _TCP or fragment & 0x3FFF or header < 20:
            return None
        hosts = packet[12:16], packet[16:20]
        # 0 is what offloading leaves in captures on the sending machine
        end = length or len(packet)
    elif version == 6:
        header, kind = 40, packet[6]
        while kind in _IPV6_OPTIONS:
            kind, header = packet[header], header + 8 + packet[header + 1] * 8
        if kind != _TCP:
            return None
        hosts = packet[8:24], packet[24:40]
        end = 40 + int(struct.unpack_from(">H", packet, 4)[0]) or len(packet)
    else:
        return None
    return _segment(frame.time, packet[header:end], hosts, end - header)


def _segment(
    time: float | None, tcp: bytes, hosts: tuple[bytes, bytes], length: int
) -> Segment | None:
    source_port, target_port, sequence = struct.unpack_from(">HHI", tcp)
    header = (tcp[12] >> 4) * 4
    if header < 20 or length < header:
        return None
    flags = tcp[13]
    data = tcp[header:]
    return Segment(
        time,
        _name(hosts[0], source_port),
        _name(hosts[1], target_port),
        sequence,
        bool(flags & 0x02),
        bool(flags & 0x05),
        data,
        length - header - len(data),
    )


def _ip_packet(frame: Frame) -> bytes | None:
    """Take the link layer off."""
    data, link_type = frame.data, frame.link_type
    if link_type in _RAW_IP:
        return data
    if link_type in _LOOPBACKS:
        return data[4:]
    if link_type == _ETHERNET:
        pos = 12
        while data[pos : pos + 2] in (b"\x81\x00", b"\x88\xa8"):  # VLAN tags
            pos += 4
    elif link_type == _LINUX_COOKED:
        pos = 14
    elif link_type == _LINUX_COOKED_2:
        return data[20:] if data[:2] in (b"\x08\x00", b"\x86\xdd") else None
    else:
        return None
    is_ip = data[pos : pos + 2] in (b"\x08\x00", b"\x86\xdd")
    return data[pos + 2 :] if is_ip else None


def _name(host: bytes, port: int) -> str:
    address = ipaddress.ip_address(host)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
