"""Errors say what, where, expected and found, and survive a copy."""

from __future__ import annotations

import pickle

import pytest

from paste_ajp.protocol import (
    BodyTruncated,
    DecodeError,
    FramingError,
    HeaderRefused,
    HeadersTooLarge,
    LocalProtocolError,
    ProtocolError,
)


def test_decode_error_reads_as_field_place_and_problem():
    error = DecodeError("req_uri", 4, "needs 2 bytes, 1 left")
    assert str(error) == "req_uri at byte 4: needs 2 bytes, 1 left"


def test_decode_error_asks_for_400_unless_told():
    assert (DecodeError("x", 0, "y").status, DecodeError("x", 0, "y", 501).status) == (
        400,
        501,
    )


@pytest.mark.parametrize("kind", [DecodeError, FramingError, BodyTruncated])
def test_peers_error_can_be_raised_again_without_what_the_first_has_passed(kind):
    with pytest.raises(kind) as caught:
        raise kind("req_uri", 4, "needs 2 bytes, 1 left", 501)
    again = caught.value.again()
    assert (type(again), again.args) == (kind, caught.value.args)
    assert again.__traceback__ is None


@pytest.mark.parametrize("kind", [FramingError, BodyTruncated])
def test_kinds_of_the_peers_errors(kind):
    assert issubclass(kind, DecodeError)


@pytest.mark.parametrize("kind", [HeaderRefused, HeadersTooLarge])
def test_kinds_of_our_errors(kind):
    assert issubclass(kind, LocalProtocolError)
    assert not issubclass(kind, DecodeError)


@pytest.mark.parametrize("kind", [DecodeError, LocalProtocolError])
def test_every_error_is_a_protocol_error_and_a_value_error(kind):
    assert issubclass(kind, ProtocolError)
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FramingError("magic", 1, "bad", 400), "magic at byte 1: bad"),
        (HeaderRefused("X-Id", "holds LF"), "header 'X-Id': holds LF"),
        (
            HeadersTooLarge(9000, 8192),
            "headers make a packet of 9000 bytes, at most 8192 fit, the packet_size",
        ),
    ],
)
def test_errors_cross_a_process_border(error, text):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (type(error), text)
