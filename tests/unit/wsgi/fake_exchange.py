"""An exchange over lists: what the engine would put on the wire is kept."""

from __future__ import annotations

from typing import NamedTuple

from paste_ajp.protocol import (
    Connection,
    EndResponse,
    ForwardRequest,
    Role,
    SendBodyChunk,
    SendHeaders,
)
from paste_ajp.protocol.to_container import build_forward_request
from paste_ajp.protocol.to_front_end import END_CLOSE, END_REUSE
from paste_ajp.wsgi.exchange import FrontEndGone

#: What httpd and mod_jk always send; without it a request looks like lighttpd's.
PORT = ("AJP_REMOTE_PORT", "50112")


def forward(
    method="GET", req_uri="/", headers=(), *, request_attributes=(PORT,), **fields
) -> ForwardRequest:
    """A Forward Request as httpd might send it."""
    return build_forward_request(
        method, req_uri, headers, request_attributes=list(request_attributes), **fields
    )


class Seen(NamedTuple):
    """A whole response as a front end reads it."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    #: Whether a flush followed the headers or a piece, and the length of each piece.
    pieces: list[int]
    #: None where the response was cut.
    reuse: bool | None

    def header(self, name):
        """The one value of a header, None where there is none."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, values
        return values[0] if values else None


class FakeExchange:
    """`sent` has the bytes of each send; `body` the pieces of the request's body.

    An exception among the pieces is raised when its turn comes. With `gone_after`
    a send beyond that many raises FrontEndGone.
    """

    def __init__(self, request=None, body=(), gone_after=None):
        self.request = request or forward()
        self.sent: list[bytes] = []
        self.finished = 0
        self.aborted = False
        self.reads = 0
        self.may_reuse = True
        self.unsent = None
        self._body = list(body)
        self._gone_after = gone_after

    def read_body(self):
        self.reads += 1
        if not self._body:
            return b""
        if isinstance(self._body[0], BaseException):
            raise self._body.pop(0)  # by no name, which its traceback would hold
        return self._body.pop(0)

    @property
    def body_is_complete(self):
        return not self._body

    def send(self, data):
        assert not self.finished, "sent after the End Response"
        assert not self.aborted, "sent after the connection was cut"
        if self._gone_after is not None and len(self.sent) >= self._gone_after:
            raise FrontEndGone("the front end is gone: Broken pipe")
        self.sent.append(bytes(data))

    def finish(self, data):
        self.send(data + (END_REUSE if self.may_reuse else END_CLOSE))
        self.finished += 1

    def send_gathered(self, buffers, size):
        assert size == sum(map(len, buffers))
        self.send(b"".join(buffers))

    def finish_gathered(self, buffers, size):
        assert size == sum(map(len, buffers))
        self.finish(b"".join(buffers))

    def finish_batches(self, head, batches):
        first = next(batches, b"")
        self.send(head + first)
        for packets in batches:
            self.send(packets)
        self.finish(b"")

    def let_go(self):
        assert self.finished
        return self

    def do_not_reuse(self):
        self.may_reuse = False

    def abort(self):
        self.aborted = True

    @property
    def messages(self):
        """What a front end makes of it all, checked against the protocol's order."""
        front_end = Connection(Role.FRONT_END)
        front_end.send(self.request)
        return front_end.receive(b"".join(self.sent))

    @property
    def response(self) -> Seen:
        head, *rest = self.messages
        assert isinstance(head, SendHeaders)
        reuse = None
        if rest and isinstance(rest[-1], EndResponse):
            reuse = rest.pop().reuse
        assert all(type(message) is SendBodyChunk for message in rest)
        pieces = [len(message.data) for message in rest]
        body = b"".join(message.data for message in rest)
        return Seen(head.status, head.reason, list(head.headers), body, pieces, reuse)
