"""TCP segments put back into the two streams of each connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from paste_ajp.protocol.codes import MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END
from paste_ajp.tracing.conversation import Conversation
from paste_ajp.tracing.event import Event
from paste_ajp.tracing.pcap import Segment

#: A gap is waited for while less than this stands behind it.
_MOST_WAITING = 1 << 20
_HALF = 1 << 31
_MASK = (1 << 32) - 1


@dataclass
class _Stream:
    """One direction: what is expected next, and what came too early."""

    next: int | None = None
    waiting: dict[int, bytes] = field(default_factory=dict)


@dataclass
class _Flow:
    """One TCP connection. ``front_end`` is known once a magic was seen."""

    name: str
    conversation: Conversation
    front_end: str = ""
    is_other: bool = False
    #: What came of a stream that is too short to tell yet.
    heads: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, _Stream] = field(default_factory=dict)


class Reassembler:
    """Follows all TCP connections of a capture, and speaks up about those with AJP.

    A connection is AJP's when the first bytes of either side are an AJP magic.
    """

    def __init__(self, *, preview: bool = False) -> None:
        self._preview = preview
        self._flows: dict[frozenset[str], _Flow] = {}

    def feed(self, segment: Segment) -> Iterator[Event]:
        """Take the next segment; yield the packets that it completes."""
        key = frozenset((segment.source, segment.target))
        flow = self._flows.get(key)
        stream = flow.streams.get(segment.source) if flow else None
        if segment.is_syn and flow is not None and self._is_new(segment, stream):
            yield from self._finish(flow)
            flow = None
        if flow is None:
            flow = self._flows[key] = _Flow("", Conversation(preview=self._preview))
        stream = flow.streams.setdefault(segment.source, _Stream())
        if segment.is_syn:
            stream.next = (segment.sequence + 1) & _MASK
            return
        if flow.is_other or not (segment.data or segment.missing):
            return
        if stream.next is None:
            stream.next = segment.sequence
        if segment.data:
            stream.waiting.setdefault(segment.sequence, segment.data)
        yield from self._drain(flow, stream, segment, force=False)
        if segment.missing:
            stream.next = (segment.sequence + len(segment.data)) & _MASK
            stream.next = (stream.next + segment.missing) & _MASK
            flow.conversation.lose(to_container=segment.source == flow.front_end)

    def finish(self) -> Iterator[Event]:
        """Yield what stands behind gaps that were never filled, and what was cut."""
        for flow in self._flows.values():
            yield from self._finish(flow)

    def _finish(self, flow: _Flow) -> Iterator[Event]:
        for source, stream in flow.streams.items():
            last = Segment(None, source, "", 0, False, True, b"")
            yield from self._drain(flow, stream, last, force=True)
        if flow.front_end:
            for view in flow.conversation.finish():
                yield Event(view, flow.name)

    @staticmethod
    def _is_new(segment: Segment, stream: _Stream | None) -> bool:
        """Does this SYN open another connection between the same two ports?"""
        if stream is None or stream.next is None:
            return False
        return stream.next != (segment.sequence + 1) & _MASK

    def _drain(
        self, flow: _Flow, stream: _Stream, segment: Segment, *, force: bool
    ) -> Iterator[Event]:
        """Hand on what is in order; skip a gap that has grown hopeless."""
        while stream.waiting and stream.next is not None:
            start = min(stream.waiting, key=lambda at: _ahead(at, stream.next or 0))
            ahead = _ahead(start, stream.next)
            if ahead > 0:
                held = sum(len(data) for data in stream.waiting.values())
                if held < _MOST_WAITING and not force:
                    return
                flow.conversation.lose(to_container=segment.source == flow.front_end)
            data = stream.waiting.pop(start)
            if ahead < 0:
                data = data[-ahead:]  # sent once more
            if data:
                stream.next = (max(ahead, 0) + stream.next + len(data)) & _MASK
                yield from self._hand_on(flow, segment, data)

    def _hand_on(self, flow: _Flow, segment: Segment, data: bytes) -> Iterator[Event]:
        if not flow.front_end:
            data = flow.heads.pop(segment.source, b"") + data
            if len(data) < len(MAGIC_TO_CONTAINER):
                flow.heads[segment.source] = data
                return
            if data.startswith(MAGIC_TO_CONTAINER):
                flow.front_end = segment.source
            elif data.startswith(MAGIC_TO_FRONT_END):
                flow.front_end = segment.target
            else:
                flow.is_other = True
                return
            flow.name = flow.front_end
        to_container = segment.source == flow.front_end
        for view in flow.conversation.feed(data, to_container=to_container):
            yield Event(view, flow.name, segment.time)


def _ahead(at: int, expected: int) -> int:
    """How far ``at`` stands ahead of ``expected``, round the end of the numbers."""
    distance = (at - expected) & _MASK
    return distance - (1 << 32) if distance >= _HALF else distance
