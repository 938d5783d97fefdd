"""The bytes of one connection, cut into packets and told apart.

A request body chunk has no type; only the count of chunks that the server is owed
tells it from a message (as in ``protocol.connection``). A capture may begin in
the middle of an exchange, lack packets, or show one direction only, so this
counts where it can and guesses where it must, and never gives up: bytes that are
no packet are skipped up to the next that could be one.
"""

from __future__ import annotations

from paste_ajp.protocol.codes import MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END
from paste_ajp.protocol.messages import NOT_FROM_LIGHTTPD
from paste_ajp.protocol.to_container import find_content_length, is_raw_chunk
from paste_ajp.tracing.dissect import PacketView, dissect, looks_like_message

_HEADER = 4


class Conversation:
    """Cuts both directions of one connection; give it bytes as they went.

    With ``preview`` the beginnings of bodies are shown.
    """

    def __init__(self, *, preview: bool = False) -> None:
        self._preview = preview
        self._owed = 0
        # What the current request says about the form of its body chunks.
        self._length = 0
        self._may_be_raw = False
        self._is_raw: bool | None = None
        self._buffers = {True: bytearray(), False: bytearray()}

    def feed(self, data: bytes, *, to_container: bool) -> list[PacketView]:
        """Take bytes of one direction; return the packets that they complete."""
        buffer = self._buffers[to_container]
        buffer += data
        magic = MAGIC_TO_CONTAINER if to_container else MAGIC_TO_FRONT_END
        views: list[PacketView] = []
        while len(buffer) >= _HEADER:
            if not buffer.startswith(magic):
                views.append(_skip(buffer, magic, to_container))
                continue
            end = _HEADER + int.from_bytes(buffer[2:4], "big")
            if len(buffer) < end:
                break
            payload = bytes(buffer[_HEADER:end])
            del buffer[:end]
            views.append(self._view(payload, to_container))
        return views

    def feed_mixed(self, data: bytes) -> list[PacketView]:
        """Take whole packets of both directions, as their magic tells them apart."""
        views: list[PacketView] = []
        pos = 0
        to_container = True
        while pos < len(data):
            magic = data[pos : pos + 2]
            if magic in (MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END):
                to_container = magic == MAGIC_TO_CONTAINER
                end = pos + _HEADER + int.from_bytes(data[pos + 2 : pos + 4], "big")
            else:
                places = [
                    place
                    for magic in (MAGIC_TO_CONTAINER, MAGIC_TO_FRONT_END)
                    if (place := data.find(magic, pos + 1)) > 0
                ]
                end = min(places, default=len(data))
            views += self.feed(data[pos:end], to_container=to_container)
            pos = end
        return views

    def finish(self) -> list[PacketView]:
        """Report what was begun and never completed."""
        views = []
        for to_container, buffer in self._buffers.items():
            if buffer:
                problem = "the capture ends inside a packet"
                if len(buffer) >= _HEADER:
                    due = _HEADER + int.from_bytes(buffer[2:4], "big")
                    problem += f" of {due} bytes"
                views.append(
                    PacketView("cut short", to_container, len(buffer), {}, problem)
                )
                buffer.clear()
        return views

    def lose(self, *, to_container: bool) -> None:
        """Bytes of this direction are missing: forget the packet that was begun."""
        self._buffers[to_container].clear()

    def _view(self, payload: bytes, to_container: bool) -> PacketView:
        is_body = False
        if to_container:
            is_body = self._owed > 0 or _is_unasked_body(payload)
            self._owed -= self._owed > 0
            if is_body and self._may_be_raw and self._is_raw is None:
                self._is_raw = is_raw_chunk(payload, self._length)
        view = dissect(
            payload,
            to_container=to_container,
            is_body=is_body,
            is_raw=self._is_raw,
            preview=self._preview,
        )
        if view.name == "ForwardRequest":
            self._length = find_content_length(payload)
            self._owed = 1 if self._length else 0
            self._may_be_raw = _looks_like_lighttpd(view)
            self._is_raw = None
        elif view.name == "GetBodyChunk":
            self._owed += 1
        return view


def _looks_like_lighttpd(view: PacketView) -> bool:
    """As ForwardRequest.looks_like_lighttpd, of a request that may be broken."""
    fields = view.fields
    headers = fields.get("headers")
    names = {pair[0] for pair in headers} if isinstance(headers, list) else set()
    attributes = fields.get("attributes")
    told = {pair[0] for pair in attributes} if isinstance(attributes, list) else set()
    return (
        fields.get("remote_host") is None
        and "content-length" in names
        and not fields.get("request_attributes")
        and not told & set(NOT_FROM_LIGHTTPD)
    )


def _is_unasked_body(payload: bytes) -> bool:
    """Is this a piece of a body, though nobody is known to have asked for one?

    A payload that fits neither a message nor a chunk stays what its type claims.
    """
    if looks_like_message(payload):
        return False
    length = int.from_bytes(payload[:2], "big")
    fits = len(payload) - 3 <= length <= len(payload) - 2
    return fits or payload[:1] not in (b"\x02", b"\x07", b"\x08", b"\x0a")


def _skip(buffer: bytearray, magic: bytes, to_container: bool) -> PacketView:
    """Drop what is no packet, up to the next magic or the last byte."""
    place = buffer.find(magic, 1)
    count = place if place > 0 else len(buffer) - 1
    del buffer[:count]
    direction = "a front end" if to_container else "a container"
    problem = f"{count} bytes that are no packet of {direction}"
    return PacketView("not AJP", to_container, count, {}, problem)
