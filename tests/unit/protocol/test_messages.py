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


@pytest.mark.parametrize(
    ("request_", "looks"),
    [
        pytest.param(build_forward_request(), True, id="lighttpd"),
        pytest.param(
            build_forward_request(request_attributes=[("X", "y")]),
            True,
            id="another attribute",
        ),
        pytest.param(
            build_forward_request(request_attributes=[("AJP_REMOTE_PORT", "1")]),
            False,
            id="httpd, mod_jk",
        ),
        pytest.param(
            build_forward_request(request_attributes=[("AJP_LOCAL_ADDR", "::1")]),
            False,
            id="local address",
        ),
        pytest.param(build_forward_request(remote_host=""), False, id="Undertow"),
        pytest.param(
            build_forward_request(headers=[("Transfer-Encoding", "chunked")]),
            False,
            id="chunked",
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
