"""A packet with its time and its connection, as a line and as a paragraph.

A trace has one line for each packet::

    2026-03-01T10:00:00.123456Z 127.0.0.1:50112 > 153 ForwardRequest {"method": ...

that is: when, which connection, which way (``>`` to the container, ``<`` to the
front end), how many bytes, what, and its fields as JSON. Lines that begin with
``#`` are remarks. JSON in ASCII keeps whatever a remote sent from breaking lines
or moving a terminal's cursor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from paste_ajp.tracing.dissect import PacketView

#: The first line of a trace.
HEADING = "# paste_ajp trace 1: secrets, cookies and credentials are masked"

_LINE = re.compile(
    r"(?P<time>\S+Z|-) (?P<connection>\S+) (?P<way>[<>]) (?P<size>\d+) "
    r"(?P<name>[\w-]+(?: [\w-]+)*) (?P<fields>\{.*\})(?P<problem> !.*)?"
)


@dataclass(frozen=True, slots=True)
class Event:
    """One packet of one connection; ``time`` is seconds since 1970, if known."""

    packet: PacketView
    connection: str = ""
    time: float | None = None


def format_line(event: Event) -> str:
    """Write an event as one line of a trace, without line feed."""
    packet = event.packet
    way = ">" if packet.to_container else "<"
    connection = re.sub(r"[^\x21-\x7e]", "_", event.connection) or "-"
    problem = f" ! {json.dumps(packet.problem)}" if packet.problem else ""
    return (
        f"{_timestamp(event.time)} {connection} {way} {packet.size} {packet.name} "
        f"{json.dumps(packet.fields)}{problem}"
    )


def parse_line(line: str) -> Event | None:
    """Read a line of a trace; None for what is none."""
    match = _LINE.fullmatch(line.strip())
    if match is None:
        return None
    try:
        fields = json.loads(match["fields"])
        problem = json.loads(match["problem"][3:]) if match["problem"] else ""
        time = _parse_timestamp(match["time"])
    except ValueError:
        return None
    packet = PacketView(
        match["name"], match["way"] == ">", int(match["size"]), fields, problem
    )
    connection = "" if match["connection"] == "-" else match["connection"]
    return Event(packet, connection, time)


def format_event(event: Event, previous: float | None = None) -> str:
    """Write an event for people: a heading line, and what the packet says below.

    ``previous`` is the time of the packet before, for the time between them.
    """
    packet = event.packet
    heading = f"{'>' if packet.to_container else '<'} {packet.name}"
    heading += f"  {_summary(packet)}".rstrip()
    heading += f"  ({packet.size} bytes)"
    if event.connection:
        heading = f"[{event.connection}] {heading}"
    if event.time is not None:
        heading = f"{_timestamp(event.time)[11:-1]} {heading}"
        if previous is not None:
            heading += f"  +{max(0.0, event.time - previous) * 1000:.1f} ms"
    lines = [heading, *(f"    {line}" for line in _details(packet))]
    if packet.problem:
        lines.append(f"    !! {shown(packet.problem)}")
    return "\n".join(lines)


def shown(value: object, limit: int = 2000) -> str:
    """Make text printable: UTF-8 where it is that, everything odd escaped."""
    if value is None:
        return "(null)"
    if not isinstance(value, str):
        return str(value)
    try:
        text = value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        text = value
    cut = f" ... ({len(text)} characters)" if len(text) > limit else ""
    return (
        "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
            for c in text[:limit]
        )
        + cut
    )


def _summary(packet: PacketView) -> str:
    """The one thing to know about a packet, for its heading."""
    fields = packet.fields
    if packet.name == "ForwardRequest":
        uri = fields.get("req_uri")
        query = dict(_pairs(fields.get("attributes"))).get("query_string")
        mark = "" if query is None else f"?{query}"
        words = (fields.get("method"), f"{uri}{mark}", fields.get("protocol"))
        return " ".join(shown(word) for word in words)
    if packet.name == "SendHeaders":
        return shown(f"{fields.get('status')} {fields.get('reason')}")
    if packet.name == "EndResponse":
        return "reuse" if fields.get("reuse") else "close"
    if packet.name == "GetBodyChunk":
        return f"up to {fields.get('requested_length')} bytes"
    if fields.get("end_of_body"):
        return "end of the body"
    if fields.get("flush"):
        return "flush"
    if "length" in fields:
        return f"{fields['length']} bytes of body"
    return ""


def _details(packet: PacketView) -> Iterator[str]:
    fields = packet.fields
    if packet.name == "ForwardRequest":
        yield (
            f"from {shown(fields.get('remote_addr'))} "
            f"({shown(fields.get('remote_host'))}) to "
            f"{shown(fields.get('server_name'))}:{fields.get('server_port')}"
            f"{', over TLS' if fields.get('is_ssl') else ''}"
        )
    for name, value in _pairs(fields.get("headers")):
        yield f"{shown(name)}: {shown(value)}"
    for name, value in _pairs(fields.get("attributes")):
        if name not in ("query_string", "stored_method"):
            yield f"{shown(name)} = {shown(value)}"
    for name, value in _pairs(fields.get("request_attributes")):
        yield f"{shown(name)} = {shown(value)}  (request attribute)"
    if "form" in fields:
        yield shown(fields["form"])
    if "data" in fields:
        yield json.dumps(fields["data"])


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """The [name, value] lists of a field; a trace may have been edited."""
    if isinstance(value, list):
        for pair in value:
            if isinstance(pair, list) and len(pair) == 2:
                yield str(pair[0]), pair[1]


def _timestamp(time: float | None) -> str:
    if time is None:
        return "-"
    moment = datetime.fromtimestamp(time, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _parse_timestamp(text: str) -> float | None:
    if text == "-":
        return None
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    return moment.replace(tzinfo=timezone.utc).timestamp()
