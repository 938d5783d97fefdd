"""Messages cannot change, differ by kind, and know lighttpd."""

from __future__ import annotations

import dataclasses

import pytest

from paste_ajp.protocol import (
    BodyChunk,
    CPing,
    Ping,
    SendBodyChunk,
    Shutdown,
    build_forward_request,
)


def test_messages_of_two_kinds_are_never_equal():
    assert CPing() != Ping()
    assert Ping() != Shutdown()
    assert BodyChunk(b"") != SendBodyChunk(b"")


def test_messages_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BodyChunk(b"a").data = b"b"  # type: ignore[misc]


LENGTH = ("Content-Length", "0")


@pytest.mark.parametrize(
    ("request_", "looks"),
    [
        pytest.param(build_forward_request(headers=[LENGTH]), True, id="lighttpd"),
        pytest.param(build_forward_request(), False, id="no length"),
        pytest.param(
            build_forward_request(headers=[("Transfer-Encoding", "chunked")]),
            False,
            id="chunked",
        ),
        pytest.param(
            build_forward_request(headers=[LENGTH], remote_host=""),
            False,
            id="Undertow",
        ),
        *(
            pytest.param(
                build_forward_request(
                    headers=[LENGTH], request_attributes=[(name, "1")]
                ),
                False,
                id=name,
            )
            for name in ("AJP_REMOTE_PORT", "AJP_LOCAL_ADDR", "X")
        ),
        *(
            pytest.param(
                build_forward_request(headers=[LENGTH], attributes={name: value}),
                False,
                id=name,
            )
            for name, value in (
                ("jvm_route", "r1"),
                ("ssl_session", "00"),
                ("ssl_key_size", 256),
            )
        ),
        pytest.param(
            build_forward_request(method="PATCH", headers=[LENGTH]),
            False,
            id="stored method",
        ),
    ],
)
def test_lighttpd_is_known_by_what_it_leaves_out(request_, looks):
    assert request_.looks_like_lighttpd is looks


def test_request_shows_no_secret_and_no_credentials():
    shown = repr(
        build_forward_request(
            headers=[
                ("Authorization", "Basic dTpw"),
                ("Cookie", "sid=1"),
                ("Cookie2", "sid=2"),
                ("Proxy-Authorization", "Basic cDp1"),
                ("Accept", "*/*"),
            ],
            attributes={"secret": "s3cret", "query_string": "x=1"},
        )
    )
    assert "('accept', '*/*')" in shown
    assert "'query_string': 'x=1'" in shown
    for hidden in ("dTpw", "sid=", "cDp1", "s3cret"):
        assert hidden not in shown
