"""AJP made readable: packets described, captures read, a trace written.

``dissect`` turns one packet into named fields, secrets masked; ``Conversation``
cuts the bytes of one connection into packets and knows which are request body;
``read_capture`` finds conversations in hex dumps, raw bytes, pcap files and
traces; ``TraceWriter`` writes a trace while a server or a client runs, and
``format_event`` puts one packet as people like to read it.
"""

from paste_ajp.tracing.captures import CaptureError, read_capture
from paste_ajp.tracing.conversation import Conversation
from paste_ajp.tracing.dissect import PacketView, dissect
from paste_ajp.tracing.event import Event, format_event, format_line, parse_line
from paste_ajp.tracing.writer import TraceWriter

__all__ = [
    "CaptureError",
    "Conversation",
    "Event",
    "PacketView",
    "TraceWriter",
    "dissect",
    "format_event",
    "format_line",
    "parse_line",
    "read_capture",
]
