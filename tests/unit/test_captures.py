"""What real front ends sent is understood, to the byte."""

from __future__ import annotations

import hashlib

import pytest

from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    CPong,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Role,
    SendHeaders,
    decode_forward_request,
    to_container,
)
from tests.captures import Capture, load_captures

CAPTURES = load_captures()
EACH_CAPTURE = pytest.mark.parametrize(
    "capture", [pytest.param(capture, id=capture.name) for capture in CAPTURES]
)


def play(capture: Capture, step: int) -> tuple[ForwardRequest, bytes]:
    """Feed the packets, ``step`` bytes at once, as the container that answers them.

    Returns the request and its body. The answer goes out when the body is
    complete, so lighttpd's stray packet behind it finds the connection idle.
    """
    connection = Connection(Role.CONTAINER)
    request = None
    body = b""
    for packet in capture.packets:
        if request and not connection.is_idle and not connection.owed:
            connection.send(GetBodyChunk(8186))
        for start in range(0, len(packet), step):
            for message in connection.receive(packet[start : start + step]):
                if isinstance(message, ForwardRequest):
                    assert request is None
                    request = message
                elif isinstance(message, BodyChunk):
                    body += message.data
                else:
                    assert isinstance(message, CPing)
                    connection.send(CPong())
        if request and not connection.is_idle and is_all(request, connection):
            connection.send(SendHeaders(200, "OK", []))
            connection.send(EndResponse(reuse=True))
    assert request is not None
    assert connection.is_idle
    connection.receive_eof()
    return request, body


def is_all(request: ForwardRequest, connection: Connection) -> bool:
    """Whether nothing more of the request is to be read."""
    has_body = request.is_chunked or (request.content_length or 0) > 0
    return connection.body_complete or not has_body


@EACH_CAPTURE
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_capture_says_what_the_remote_sent(capture: Capture, step: int) -> None:
    request, body = play(capture, step)
    expect = capture.expect
    assert request.method == expect["method"]
    assert request.req_uri == expect["req_uri"]
    assert request.attributes.get("query_string") == expect["query_string"]
    assert request.is_ssl == expect["is_ssl"]
    assert dict(request.headers).items() >= expect["headers"].items()
    assert request.attributes.items() >= expect.get("attributes", {}).items()
    told = dict(request.request_attributes)
    assert told.items() >= expect.get("request_attributes", {}).items()
    assert len(body) == expect["body_length"]
    assert hashlib.sha256(body).hexdigest() == expect["body_sha256"]


@EACH_CAPTURE
def test_only_lighttpd_looks_like_lighttpd(capture: Capture) -> None:
    request, _ = play(capture, 1 << 20)
    assert request.looks_like_lighttpd == (capture.front_end == "lighttpd")


@pytest.mark.parametrize("front_end", ["httpd", "mod_jk", "lighttpd"])
def test_client_certificate_arrives_whole(front_end: str) -> None:
    (capture,) = load_captures(f"{front_end}/https-client")
    request, _ = play(capture, 1 << 20)
    certificate = request.attributes["ssl_cert"]
    assert isinstance(certificate, str)
    assert certificate.startswith("-----BEGIN CERTIFICATE-----\n")
    assert certificate.rstrip("\n").endswith("\n-----END CERTIFICATE-----")
    assert request.attributes["ssl_cipher"] == "TLS_AES_256_GCM_SHA384"


@pytest.mark.parametrize("front_end", ["httpd", "mod_jk"])
def test_key_size_arrives_as_a_number(front_end: str) -> None:
    (capture,) = load_captures(f"{front_end}/https")
    request, _ = play(capture, 1 << 20)
    assert request.attributes["ssl_key_size"] == 256


@EACH_CAPTURE
def test_quick_decoder_takes_what_front_ends_send(capture: Capture) -> None:
    packet = next(packet for packet in capture.packets if packet[4:5] == b"\x02")
    # Teaches the quick one the names that have no code.
    exact = decode_forward_request(packet, start=4)
    # A second null string is rare: lighttpd writes one for a header without value.
    is_rare = packet.count(b"\xff\xff") > 1
    quick = to_container._decode_quickly(packet, 200, 4)
    assert quick == (None if is_rare else exact)
