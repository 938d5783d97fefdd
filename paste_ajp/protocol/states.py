"""The states of a connection, and which message moves it where.

Sent or received does not matter in the tables: no message goes both ways. A pair
that is not in a table is an error: LocalProtocolError for what we would send,
FramingError for what the peer sent. The count of owed body chunks, which the
tables cannot show, is kept by the Connection.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from paste_ajp.protocol.messages import (
    BodyChunk,
    CPing,
    CPong,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Ping,
    SendBodyChunk,
    SendHeaders,
    Shutdown,
)


class State(Enum):
    """Where a connection stands."""

    #: Between exchanges.
    IDLE = "idle"
    #: A CPing waits for its CPong. Never seen by a container, which answers at once.
    PINGED = "pinged"
    #: A Forward Request is there, and no Send Headers yet.
    REQUEST = "request"
    #: Send Headers is out, End Response is not.
    RESPONSE = "response"
    #: Nothing more will be sent; what still comes is dropped.
    CLOSING = "closing"


Moves: TypeAlias = dict[tuple[State, type], State]

_EXCHANGE: Final[Moves] = {
    (State.IDLE, ForwardRequest): State.REQUEST,
    (State.REQUEST, BodyChunk): State.REQUEST,
    (State.REQUEST, GetBodyChunk): State.REQUEST,
    (State.REQUEST, SendHeaders): State.RESPONSE,
    (State.RESPONSE, BodyChunk): State.RESPONSE,
    (State.RESPONSE, GetBodyChunk): State.RESPONSE,
    (State.RESPONSE, SendBodyChunk): State.RESPONSE,
    # CLOSING where it says that the connection is not to be used again.
    (State.RESPONSE, EndResponse): State.IDLE,
    # What is owed when the response ends still has to come, to be dropped.
    (State.IDLE, BodyChunk): State.IDLE,
}

#: How a container moves.
CONTAINER: Final[Moves] = {
    **_EXCHANGE,
    (State.IDLE, CPing): State.IDLE,
    (State.IDLE, CPong): State.IDLE,
}

#: How a front end moves. Shutdown and Ping can be sent, to see a server ignore them.
FRONT_END: Final[Moves] = {
    **_EXCHANGE,
    (State.IDLE, CPing): State.PINGED,
    (State.PINGED, CPong): State.IDLE,
    (State.IDLE, Ping): State.CLOSING,
    (State.IDLE, Shutdown): State.CLOSING,
}
