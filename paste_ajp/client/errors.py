"""What can go wrong between this client and an AJP server, by stage.

Every error says which server, what the client was doing, and what happened, so
that one line of a log is enough to know where to look. A misuse of the client
(a header with a line feed, a request larger than a packet) is not among them:
that is ``paste_ajp.protocol.LocalProtocolError`` or a plain ``ValueError``, and
nothing of it reached the server.
"""

from enum import Enum


class Stage(Enum):
    """What the client was doing; the value finishes "while ..."."""

    POOL = "waiting for a free connection"
    CONNECT = "connecting"
    CPING = "waiting for the CPong"
    REQUEST = "sending the request"
    REQUEST_BODY = "sending the body"
    HEADERS = "waiting for the response headers"
    RESPONSE_BODY = "reading the response body"


class ClientError(OSError):
    """An exchange failed; its connection is closed and no longer in the pool.

    ``stage`` is what the client was doing, ``address`` the server as the client
    was given it, ``problem`` what happened. Whether the server acted on the
    request is certain only for the stages POOL and CONNECT (it did not).
    """

    def __init__(self, stage: Stage, address: str, problem: str) -> None:
        super().__init__(f"{address}: {problem} (while {stage.value})")
        self.stage = stage
        self.address = address
        self.problem = problem


class ConnectFailed(ClientError):
    """Nobody listens there, the host is unknown, or the way is barred."""


class UnknownHost(ConnectFailed):
    """The server's name leads nowhere, or is none."""


class ConnectionLost(ClientError):
    """The server closed the connection, or the network did, too early."""


class TimedOut(ClientError, TimeoutError):
    """The server was silent for longer than the timeout, or max_time is over."""


class PoolExhausted(TimedOut):
    """All connections of the pool stayed busy for longer than the timeout."""


class BadAnswer(ClientError):
    """The server sent what AJP does not allow at this point."""


class BodyFailed(ClientError):
    """The request body ended before its declared length; it was given up."""
