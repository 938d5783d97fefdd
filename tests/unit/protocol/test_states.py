"""The transition tables, looked at from outside."""

from __future__ import annotations

import pytest

from paste_ajp.protocol import (
    CPing,
    CPong,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Ping,
    SendBodyChunk,
    SendHeaders,
    Shutdown,
    State,
)
from paste_ajp.protocol.states import CONTAINER, FRONT_END


@pytest.mark.parametrize("moves", [CONTAINER, FRONT_END])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        pytest.param(State.IDLE, SendHeaders, id="answer to nothing"),
        pytest.param(State.REQUEST, ForwardRequest, id="two requests at once"),
        pytest.param(State.REQUEST, SendBodyChunk, id="body before headers"),
        pytest.param(State.REQUEST, EndResponse, id="end before headers"),
        pytest.param(State.RESPONSE, SendHeaders, id="headers twice"),
        pytest.param(State.IDLE, GetBodyChunk, id="question after the end"),
        pytest.param(State.REQUEST, CPing, id="CPing inside an exchange"),
        pytest.param(State.RESPONSE, CPong, id="CPong inside an exchange"),
    ],
)
def test_move_that_neither_end_may_make(moves, state, message):
    assert (state, message) not in moves


@pytest.mark.parametrize("message", [Ping, Shutdown])
def test_container_acts_on_neither_ping_nor_shutdown(message):
    assert not any(kind is message for _, kind in CONTAINER)


def test_nothing_leads_out_of_closing():
    assert not any(state is State.CLOSING for state, _ in (*CONTAINER, *FRONT_END))
