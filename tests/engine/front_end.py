"""A front end by hand: one connection to a server, message by message."""

from __future__ import annotations

import socket
from collections import deque

from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    CPong,
    EndResponse,
    GetBodyChunk,
    Role,
    SendBodyChunk,
    SendHeaders,
)
from paste_ajp.protocol.to_container import build_forward_request
from tests.unit.wsgi.fake_exchange import PORT, Seen

#: Seconds after which a test has failed: nothing here takes as long.
DEADLINE = 10.0
CHUNK = 8186


def forward(
    method="GET", req_uri="/", headers=(), *, request_attributes=(PORT,), **more
):
    return build_forward_request(
        method, req_uri, headers, request_attributes=list(request_attributes), **more
    )


class FrontEnd:
    """Every wait has a deadline; EOF in place of a message is an EOFError."""

    def __init__(self, address, packet_size=8192):
        if address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(DEADLINE)
            self.sock.connect(address[len("unix:") :])
        else:
            host, _, port = address.rpartition(":")
            self.sock = socket.create_connection(
                (host.strip("[]"), int(port)), DEADLINE
            )
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = Connection(Role.FRONT_END, packet_size=packet_size)
        self._messages = deque()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    # -- pieces ------------------------------------------------------------------

    def send(self, *messages):
        self.sock.sendall(b"".join(map(self.connection.send, messages)))

    def send_raw(self, data):
        self.sock.sendall(data)

    def receive(self):
        """Return the next message."""
        while not self._messages:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self._messages.extend(self.connection.receive(data))
        return self._messages.popleft()

    def is_closed(self):
        """Wait until the server closes; False if it sends something instead."""
        assert not self._messages
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def is_silent(self):
        """Is there nothing to read at this moment?"""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return not self._messages
        finally:
            self.sock.settimeout(DEADLINE)
        return False

    # -- wholes ------------------------------------------------------------------

    def cping(self):
        self.send(CPing())
        assert self.receive() == CPong()

    def ask(self, *args, body=b"", chunk=CHUNK, **keywords):
        """Serve one exchange as httpd does, and return what came of it."""
        headers = list(keywords.pop("headers", ()))
        chunked = keywords.pop("chunked", False)
        if body and not chunked:
            headers.append(("Content-Length", str(len(body))))
        self.send(forward(*args, headers=headers, **keywords))
        return self.answer(body, chunk)

    def answer(self, body=b"", chunk=CHUNK):
        """Send the body as it is asked for; return the response."""
        head, pieces = None, []
        if self.connection.owed:
            self.send(BodyChunk(body[:chunk]))
            body = body[chunk:]
        while True:
            message = self.receive()
            if isinstance(message, GetBodyChunk):
                self.send(BodyChunk(body[:chunk]))
                body = body[chunk:]
            elif isinstance(message, SendHeaders):
                assert head is None
                head = message
            elif isinstance(message, SendBodyChunk):
                pieces.append(message.data)
            else:
                assert isinstance(message, EndResponse)
                return Seen(
                    head.status,
                    head.reason,
                    list(head.headers),
                    b"".join(pieces),
                    [len(piece) for piece in pieces],
                    message.reuse,
                )
