"""A socket that shows what passes to a tracer: for channels that are being traced.

The channels of a server without a trace use plain sockets, and pay nothing.
"""

from __future__ import annotations

import socket
from typing import Any, Protocol


class Tracer(Protocol):
    """Takes what passes on a connection, from any thread; never raises."""

    def received(self, connection_id: str, data: bytes) -> None:
        """Take bytes that came in."""

    def sent(self, connection_id: str, data: bytes) -> None:
        """Take bytes that went out."""

    def closed(self, connection_id: str) -> None:
        """Forget the connection."""


class TracedSocket(socket.socket):
    """Takes over the descriptor of a socket, which is empty from then on."""

    def __init__(self, sock: socket.socket, tracer: Tracer, name: str) -> None:
        family, kind, proto = sock.family, sock.type, sock.proto
        super().__init__(family, kind, proto, fileno=sock.detach())
        self._tracer = tracer
        self._name = name

    def untraced(self) -> socket.socket:
        """Give the descriptor to a plain socket."""
        return socket.socket(self.family, self.type, self.proto, fileno=self.detach())

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        data = super().recv(size, flags)
        if data and not flags & socket.MSG_PEEK:
            self._tracer.received(self._name, data)
        return data

    def send(self, data: Any, flags: int = 0, /) -> int:  # as socket's own
        count = super().send(data, flags)
        self._tracer.sent(self._name, bytes(data[:count]))
        return count

    def sendall(self, data: Any, flags: int = 0, /) -> None:  # as socket's own
        super().sendall(data, flags)
        self._tracer.sent(self._name, bytes(data))

    def sendmsg(self, buffers: Any, /, *args: Any) -> int:  # as socket's own
        count = super().sendmsg(buffers, *args)
        self._tracer.sent(self._name, b"".join(buffers)[:count])
        return count

    def close(self) -> None:
        self._tracer.closed(self._name)
        super().close()
