"""A connection from either end: bytes in, messages out, and the reverse."""

from __future__ import annotations

from contextlib import suppress

import pytest

from paste_ajp.protocol import (
    BodyChunk,
    BodyTruncated,
    Connection,
    CPing,
    CPong,
    DecodeError,
    EndResponse,
    ForwardRequest,
    FramingError,
    GetBodyChunk,
    HeaderRefused,
    LocalProtocolError,
    Ping,
    ProtocolError,
    Role,
    SendBodyChunk,
    SendHeaders,
    Shutdown,
    State,
    build_forward_request,
    encode_forward_request,
)
from paste_ajp.protocol.connection import MAX_STRAY_CHUNKS
from tests.garbage import left_to_the_collector

CPING = b"\x12\x34\x00\x01\x0a"
JK_END = b"\x12\x34\x00\x00"
HTTPD_END = b"\x12\x34\x00\x02\x00\x00"
HELLO = b"\x12\x34\x00\x07\x00\x05hello"
RAW_HELLO = b"\x12\x34\x00\x05hello"
#: As httpd and mod_jk send it: no lighttpd.
PORT = [("AJP_REMOTE_PORT", "50112")]


def request(
    length: int | None = None, *, chunked: bool = False, lighttpd: bool = False
) -> ForwardRequest:
    headers = []
    if length is not None:
        headers.append(("content-length", str(length)))
    if chunked:
        headers.append(("transfer-encoding", "chunked"))
    return build_forward_request(
        "POST", "/", headers, request_attributes=[] if lighttpd else PORT
    )


def packet(payload: bytes) -> bytes:
    return b"\x12\x34" + len(payload).to_bytes(2, "big") + payload


def assigned(
    length: int | None = None, *, lighttpd: bool = False, framing: str = "auto"
) -> Connection:
    """A container that has received a request."""
    connection = Connection(Role.CONTAINER, body_framing=framing)
    connection.receive(encode_forward_request(request(length, lighttpd=lighttpd)))
    return connection


def error_of(connection: Connection, data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        connection.receive(data)
    assert is_the_same(connection.failure, caught.value)
    return caught.value


def is_the_same(kept: DecodeError | None, raised: DecodeError) -> bool:
    """Does what a connection has kept say what was raised?"""
    return type(kept) is type(raised) and kept.args == raised.args


GET = encode_forward_request(request())
GET_REQUEST = request()


# -- the container: one exchange ------------------------------------------------------


def test_new_connection_is_idle():
    connection = Connection(Role.CONTAINER)
    assert connection.is_idle
    assert (connection.state, connection.owed, connection.failure) == (
        State.IDLE,
        0,
        None,
    )


def test_request_in_one_piece():
    connection = Connection(Role.CONTAINER)
    assert connection.receive(GET) == [GET_REQUEST]
    assert (connection.state, connection.is_idle) == (State.REQUEST, False)


def test_half_a_request_is_kept():
    connection = Connection(Role.CONTAINER)
    assert connection.receive(GET[:20]) == []
    assert (connection.has_buffered, connection.is_idle) == (True, False)
    assert connection.receive(GET[20:]) == [GET_REQUEST]
    assert not connection.has_buffered


def test_whole_response_leads_back_to_idle():
    connection = assigned()
    sent = [
        connection.send(SendHeaders(200, "OK", [("Content-Type", "text/plain")])),
        connection.send(SendBodyChunk(b"hi\n")),
        connection.send(SendBodyChunk(b"")),
        connection.send(EndResponse(True)),
    ]
    assert b"".join(sent) == bytes.fromhex(
        "41 42 00 19 04 00 c8 00 02 4f 4b 00 00 01"
        "a0 01 00 0a 74 65 78 74 2f 70 6c 61 69 6e 00"
        "41 42 00 07 03 00 03 68 69 0a 00"
        "41 42 00 04 03 00 00 00"
        "41 42 00 02 05 01"
    )
    assert connection.is_idle


def test_response_that_was_encoded_elsewhere_takes_one_call():
    connection = assigned()
    connection.sent_response(True)
    assert connection.is_idle
    assert connection.receive(GET) == [GET_REQUEST]


def test_response_in_steps_that_was_encoded_elsewhere():
    connection = assigned()
    connection.sent_headers()
    connection.sent_body()
    connection.sent_end(True)
    assert connection.is_idle


def test_end_without_reuse_closes():
    connection = assigned()
    connection.sent_response(False)
    assert connection.state is State.CLOSING
    assert connection.receive(b"anything at all") == []
    assert not connection.has_buffered
    connection.receive_eof()


def test_cping_is_handed_over_and_answered():
    connection = Connection(Role.CONTAINER)
    assert connection.receive(CPING) == [CPing()]
    assert connection.send(CPong()) == b"AB\x00\x01\x09"
    assert connection.receive(CPING + GET) == [CPing(), GET_REQUEST]


def test_close_between_exchanges_is_normal():
    connection = Connection(Role.CONTAINER)
    connection.receive_eof()
    assert connection.state is State.CLOSING


# -- the container: what it may send -------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (SendHeaders(200, "OK", []), "SendHeaders must not be sent in state idle"),
        (SendBodyChunk(b""), "SendBodyChunk must not be sent in state idle"),
        (EndResponse(True), "EndResponse must not be sent in state idle"),
        (GetBodyChunk(1), "GetBodyChunk must not be sent in state idle"),
        (CPing(), "CPing is not for a container to send"),
        (BodyChunk(b""), "BodyChunk is not for a container to send"),
    ],
)
def test_container_sends_nothing_of_its_own_accord(message, text):
    with pytest.raises(LocalProtocolError) as caught:
        Connection(Role.CONTAINER).send(message)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "message", [SendBodyChunk(b"x"), SendBodyChunk(b""), EndResponse(True), CPong()]
)
def test_nothing_goes_before_the_headers(message):
    connection = assigned()
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(message)
    assert str(caught.value) == (
        f"{type(message).__name__} must not be sent in state request"
    )


def test_headers_go_once():
    connection = assigned()
    connection.sent_headers()
    with pytest.raises(LocalProtocolError):
        connection.sent_headers()


def test_refused_headers_leave_the_state_as_it_was():
    connection = assigned()
    with pytest.raises(HeaderRefused):
        connection.send(SendHeaders(200, "OK", [("X", "a\nb")]))
    assert connection.state is State.REQUEST


# -- the container: the request body -------------------------------------------------


def test_length_above_zero_owes_a_first_chunk():
    connection = assigned(5)
    assert (connection.owed, connection.body_complete) == (1, False)
    assert connection.body_left == 5


def test_length_zero_owes_nothing():
    connection = assigned(0)
    assert (connection.owed, connection.body_complete) == (0, True)
    assert connection.body_left == 0


def test_unknown_length_owes_nothing_until_asked():
    connection = assigned()
    assert (connection.owed, connection.body_complete) == (0, False)
    assert connection.body_left is None


def test_body_in_one_chunk_is_complete_without_an_end():
    connection = assigned(5)
    assert connection.receive(HELLO) == [BodyChunk(b"hello")]
    assert (connection.owed, connection.body_complete) == (0, True)
    assert connection.body_left == 0


def test_request_and_first_chunk_in_one_piece():
    connection = Connection(Role.CONTAINER)
    first = request(5)
    assert connection.receive(encode_forward_request(first) + HELLO) == [
        first,
        BodyChunk(b"hello"),
    ]


def test_whole_request_is_taken_in_one_look():
    connection = Connection(Role.CONTAINER)
    first = request(5)
    assert connection.receive_request(encode_forward_request(first)) == first
    assert (connection.state, connection.owed) == (State.REQUEST, 1)
    assert connection.receive(HELLO) == [BodyChunk(b"hello")]


def test_what_is_not_one_whole_request_is_left_to_receive():
    whole = encode_forward_request(request())
    for data in (b"", whole[:4], whole[:-1], whole + b"\x12", CPING, b"GET / HTTP/1.1"):
        connection = Connection(Role.CONTAINER)
        assert connection.receive_request(data) is None
        assert connection.is_idle
    connection = assigned(5)
    assert connection.receive_request(whole) is None, "a chunk is due"
    connection.sent_response(True)
    assert connection.receive_request(whole) is None, "a chunk is owed"
    connection = Connection(Role.CONTAINER, receive_limit=len(whole) - 1)
    assert connection.receive_request(whole) is None


@pytest.mark.parametrize("before", [5, None])
def test_front_end_begins_each_body_anew(before):
    front_end = Connection(Role.FRONT_END)
    front_end.send(request(before, chunked=before is None))
    if before is None:
        front_end.receive(b"AB\x00\x03\x06\x1f\xfa")
    front_end.send(BodyChunk(b"hello"))
    front_end.receive(bytes.fromhex("4142000a 04 00c8 00024f4b00 0000 41420002 05 01"))
    front_end.send(request(0))
    assert (front_end.body_complete, front_end.body_left) == (True, 0)
    front_end.receive(b"AB\x00\x03\x06\x1f\xfa")
    assert front_end.send(BodyChunk(b"")) == bytes.fromhex("1234 0002 0000")


def test_whole_chunk_is_taken_in_one_look():
    connection = assigned(7)
    assert connection.receive_chunk(HELLO) == b"hello"
    assert (connection.owed, connection.body_left) == (0, 2)
    connection.ask_body()
    assert connection.receive_chunk(packet(b"\x00\x02!!")) == b"!!"
    assert (connection.owed, connection.body_complete) == (0, True)


def test_whole_chunk_of_unknown_length_is_taken_in_one_look():
    connection = assigned()
    connection.ask_body()
    assert connection.receive_chunk(HELLO) == b"hello"
    assert (connection.owed, connection.body_complete) == (0, False)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HELLO[:-1], id="a part"),
        pytest.param(HELLO + b"\x12", id="more"),
        pytest.param(packet(b""), id="the end"),
        pytest.param(packet(b"\x00\x00"), id="the end with a length"),
        pytest.param(packet(b"\x00\x05hello\x00"), id="with a NUL"),
        pytest.param(packet(b"\x00\x04hello"), id="a wrong length"),
        pytest.param(packet(b"\x00\x06longer"), id="too long for the body"),
        pytest.param(b"\x12\x35" + HELLO[2:], id="a wrong magic"),
        pytest.param(b"\x13\x34" + HELLO[2:], id="a wrong magic, too"),
    ],
)
def test_what_is_not_one_whole_chunk_is_left_to_receive(data):
    connection = assigned(5)
    assert connection.receive_chunk(data) is None
    assert (connection.owed, connection.body_left) == (1, 5)


def test_chunk_that_is_not_due_is_left_to_receive():
    connection = assigned(5, lighttpd=True)
    assert connection.receive_chunk(HELLO) is None, "it may have lighttpd's form"
    connection = assigned(10)
    connection.receive(HELLO)
    assert connection.receive_chunk(HELLO) is None, "none was asked for"
    connection.ask_body()
    connection.receive(HELLO[:3])
    assert connection.receive_chunk(HELLO) is None, "a part of one is here"
    connection = assigned(10)
    connection.ask_body_again()
    assert connection.receive_chunk(HELLO) is None, "two may come"
    connection = assigned(10)
    connection.sent_response(True)
    assert connection.receive_chunk(HELLO) is None, "it is to be dropped"


def test_further_chunks_are_asked_for_one_at_a_time():
    connection = assigned(10000)
    connection.receive(packet(b"\x1f\xfa" + bytes(8186)))
    assert connection.ask_body() == b"AB\x00\x03\x06" + (10000 - 8186).to_bytes(
        2, "big"
    )
    assert connection.owed == 1
    with pytest.raises(LocalProtocolError) as caught:
        connection.ask_body()
    assert str(caught.value) == "GetBodyChunk: a body chunk is owed already"


def test_no_more_is_asked_for_than_one_packet_brings():
    connection = Connection(Role.CONTAINER, packet_size=65536, receive_limit=16384)
    connection.receive(encode_forward_request(request(chunked=True)))
    assert connection.ask_body() == b"AB\x00\x03\x06" + (16378).to_bytes(2, "big")


def test_asking_by_message():
    connection = assigned()
    assert connection.send(GetBodyChunk(8186)) == bytes.fromhex("41 42 00 03 06 1f fa")
    assert connection.owed == 1


def test_nothing_is_asked_for_past_the_length():
    connection = assigned(5)
    connection.receive(HELLO)
    with pytest.raises(LocalProtocolError) as caught:
        connection.ask_body()
    assert str(caught.value) == "GetBodyChunk: the body is complete"


@pytest.mark.parametrize("end", [JK_END, HTTPD_END, packet(b"\x00\x00\x00")])
def test_unknown_length_ends_with_an_empty_chunk(end):
    connection = assigned()
    connection.ask_body()
    assert connection.receive(HELLO) == [BodyChunk(b"hello")]
    connection.ask_body()
    assert connection.receive(end) == [BodyChunk(b"")]
    assert connection.body_complete
    with pytest.raises(LocalProtocolError):
        connection.ask_body()


def test_body_may_be_read_after_the_headers_went_out():
    connection = assigned()
    connection.sent_headers()
    connection.ask_body()
    assert connection.receive(HELLO) == [BodyChunk(b"hello")]


@pytest.mark.parametrize("end", [JK_END, HTTPD_END])
def test_end_before_the_length_is_a_truncated_body(end):
    connection = assigned(5)
    error = error_of(connection, end)
    assert isinstance(error, BodyTruncated)
    assert str(error) == "body chunk at byte 0: 0 of 5 bytes of the body came"
    assert not connection.may_reuse


def test_no_more_is_asked_for_after_a_truncated_body():
    connection = assigned(5)
    error = error_of(connection, JK_END)
    with pytest.raises(BodyTruncated) as caught:
        connection.ask_body()
    assert is_the_same(error, caught.value)
    with pytest.raises(BodyTruncated):
        connection.receive(b"")


def test_truncated_body_can_be_answered_but_not_reused():
    connection = assigned(5)
    error_of(connection, JK_END)
    connection.sent_headers()
    with pytest.raises(LocalProtocolError) as caught:
        connection.sent_end(True)
    assert str(caught.value) == "EndResponse(True) after the connection failed"
    connection.sent_end(False)
    assert connection.state is State.CLOSING


def test_more_than_the_length_breaks_the_connection():
    error = error_of(assigned(4), HELLO)
    assert isinstance(error, FramingError)
    assert str(error) == "body chunk at byte 0: 5 bytes of a body of 4"


def test_wrong_chunk_length_breaks_the_connection():
    error = error_of(assigned(9), packet(b"\x00\x09hello"))
    assert isinstance(error, FramingError)


def test_one_byte_chunk_breaks_the_connection():
    assert isinstance(error_of(assigned(9), packet(b"h")), FramingError)


def test_chunk_beyond_the_receive_limit_breaks_the_connection():
    connection = Connection(Role.CONTAINER, receive_limit=8192)
    connection.receive(encode_forward_request(request(9000)))
    error = error_of(connection, b"\x12\x34\x1f\xfd")
    assert isinstance(error, FramingError)
    assert (
        str(error)
        == "body chunk at byte 0: a packet of 8193 bytes, at most 8192 are taken"
    )


def test_close_inside_a_body_is_a_truncated_body():
    connection = assigned(10)
    connection.receive(HELLO)
    connection.ask_body()
    with pytest.raises(BodyTruncated) as caught:
        connection.receive_eof()
    assert str(caught.value) == (
        "body chunk at byte 0: 5 of 10 bytes of the body came;"
        " the connection was closed"
    )
    with pytest.raises(BodyTruncated):
        connection.receive_eof()


def test_close_inside_a_body_of_unknown_length_is_a_truncated_body():
    connection = assigned()
    connection.ask_body()
    connection.receive(b"\x12\x34\x00\x07\x00")
    with pytest.raises(BodyTruncated) as caught:
        connection.receive_eof()
    assert str(caught.value) == (
        "body chunk at byte 5: 0 bytes of the body came, its end did not;"
        " the connection was closed"
    )


def test_close_before_the_answer_is_an_error():
    connection = assigned()
    with pytest.raises(FramingError) as caught:
        connection.receive_eof()
    assert str(caught.value) == (
        "exchange at byte 0: the connection was closed in state request"
    )


def test_close_inside_a_packet_is_an_error():
    connection = Connection(Role.CONTAINER)
    connection.receive(GET[:20])
    with pytest.raises(FramingError) as caught:
        connection.receive_eof()
    assert str(caught.value) == (
        f"packet at byte 20: {len(GET)} bytes due, the connection was closed"
    )
    assert connection.state is State.CLOSING


# -- the container: a first chunk that does not come ---------------------------------


def test_first_chunk_can_be_asked_for_when_it_does_not_come():
    connection = assigned(5)
    assert connection.ask_body_again() == b"AB\x00\x03\x06\x00\x05"
    assert connection.receive(HELLO) == [BodyChunk(b"hello")]
    assert not connection.may_reuse
    connection.sent_response(False)


def test_both_answers_are_taken_when_it_was_only_late():
    connection = assigned(10)
    connection.ask_body_again()
    assert connection.receive(HELLO + HELLO) == [BodyChunk(b"hello")] * 2
    assert connection.body_complete


def test_end_in_answer_to_a_chunk_asked_for_again_is_passed_over():
    connection = assigned(5)
    connection.ask_body_again()
    assert connection.receive(HELLO + JK_END) == [BodyChunk(b"hello")]
    assert connection.failure is None


def test_first_chunk_is_asked_for_again_only_once_and_only_while_owed():
    connection = assigned(10)
    connection.ask_body_again()
    with pytest.raises(LocalProtocolError) as caught:
        connection.ask_body_again()
    assert str(caught.value) == "GetBodyChunk: no first chunk to ask for again"
    asked = assigned()
    asked.ask_body()
    for unasked in (assigned(), asked, assigned(0)):
        with pytest.raises(LocalProtocolError):
            unasked.ask_body_again()


def test_nothing_is_asked_for_again_after_a_failure():
    connection = assigned(10)
    error_of(connection, packet(b"h"))
    with pytest.raises(FramingError):
        connection.ask_body_again()


# -- the container: chunks that nobody reads -----------------------------------------


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(HELLO, id="hello"),
        pytest.param(packet(GET[4:]), id="a forged request"),
        pytest.param(packet(b"\x02\x02" + b"x" * 0x202), id="like a request"),
        pytest.param(packet(b"\x0a"), id="like a CPing"),
        pytest.param(JK_END, id="end"),
        pytest.param(packet(bytes(65535)), id="the largest"),
    ],
)
def test_owed_chunk_is_dropped_whatever_its_bytes_look_like(chunk):
    connection = assigned(99999)
    connection.sent_response(True)
    assert connection.owed == 1
    assert connection.receive(chunk + GET) == [GET_REQUEST]


def test_owed_chunk_is_dropped_byte_by_byte():
    connection = assigned(5)
    connection.sent_response(True)
    for byte in HELLO[:-1]:
        assert connection.receive(bytes((byte,))) == []
        assert not connection.is_idle
    assert connection.receive(HELLO[-1:]) == []
    assert connection.is_idle
    assert connection.receive(GET) == [GET_REQUEST]


def test_answer_to_an_unread_question_is_dropped_too():
    connection = assigned()
    connection.ask_body()
    connection.sent_response(True)
    assert connection.receive(packet(GET[4:]) + CPING) == [CPing()]


def test_owed_chunk_counts_by_packets_not_by_bytes():
    connection = assigned(5)
    connection.sent_response(True)
    assert connection.receive(packet(b"\x00\x01h") + GET) == [GET_REQUEST]


def test_close_instead_of_an_owed_chunk_is_normal():
    connection = assigned(5)
    connection.sent_response(True)
    connection.receive_eof()
    assert connection.state is State.CLOSING


def test_close_inside_a_chunk_that_is_dropped_is_normal():
    connection = assigned(5)
    connection.sent_response(True)
    connection.receive(HELLO[:6])
    connection.receive_eof()
    assert connection.failure is None


def test_chunk_that_is_half_here_when_the_response_ends_is_dropped():
    connection = assigned(5)
    connection.receive(HELLO[:6])
    connection.sent_response(True)
    assert connection.receive(HELLO[6:] + GET) == [GET_REQUEST]


# -- the container: chunks that nobody asked for -------------------------------------


@pytest.mark.parametrize("stray", [JK_END, HTTPD_END])
def test_a_few_empty_chunks_are_passed_over_while_idle(stray):
    connection = Connection(Role.CONTAINER)
    assert connection.receive(stray * MAX_STRAY_CHUNKS) == []
    assert connection.is_idle
    error = error_of(connection, stray)
    assert isinstance(error, FramingError)
    assert str(error) == (
        "type at byte 0: 5 empty body chunks that nobody asked for in state idle"
    )


@pytest.mark.parametrize("stray", [JK_END, HTTPD_END])
def test_a_few_empty_chunks_are_passed_over_inside_an_exchange(stray):
    connection = assigned(0)
    assert connection.receive(stray * MAX_STRAY_CHUNKS) == []
    error = error_of(connection, stray)
    assert str(error) == (
        "type at byte 0: 5 empty body chunks that nobody asked for in state request"
    )


def test_count_of_empty_chunks_starts_anew_with_each_request():
    connection = Connection(Role.CONTAINER)
    for _ in range(3):
        connection.receive(GET + JK_END * MAX_STRAY_CHUNKS)
        connection.sent_response(True)
    assert connection.is_idle


@pytest.mark.parametrize(
    "data",
    [HELLO, GET, packet(b"\x00\x01"), packet(b"\x00\x00\x00"), packet(b"h"), CPING],
)
def test_packet_inside_an_exchange_that_owes_none_breaks_it(data):
    connection = assigned(0)
    error = error_of(connection, data)
    assert isinstance(error, FramingError)
    assert error.problem == (
        f"unexpected packet of {len(data) - 4} bytes, none is owed in state request"
    )
    assert connection.state is State.REQUEST
    assert not connection.may_reuse


@pytest.mark.parametrize("byte", range(256))
def test_idle_container_takes_requests_and_cpings_alone(byte):
    if byte in (2, 10):
        return
    connection = Connection(Role.CONTAINER)
    error = error_of(connection, packet(bytes((byte,))))
    assert isinstance(error, FramingError)
    assert str(error) == (
        f"type at byte 0: unexpected packet of type {byte}, 1 bytes in state idle"
    )
    assert connection.state is State.CLOSING


@pytest.mark.parametrize(
    "payload", [b"\x0a\x00", b"\x00\x01", b"\x00\x00\x00", b"\x00\x05hello"]
)
def test_idle_container_refuses_what_is_like_a_message_but_none(payload):
    assert isinstance(
        error_of(Connection(Role.CONTAINER), packet(payload)), FramingError
    )


def test_half_an_empty_chunk_waits_for_its_rest():
    for connection in (Connection(Role.CONTAINER), assigned(0)):
        assert connection.receive(HTTPD_END[:5]) == []
        assert connection.receive(HTTPD_END[5:]) == []
        assert not connection.has_buffered


def test_broken_idle_connection_drops_what_still_comes():
    connection = Connection(Role.CONTAINER)
    error_of(connection, b"GET / HTTP/1.1\r\n")
    assert connection.receive(GET) == []
    connection.receive_eof()
    with pytest.raises(LocalProtocolError):
        connection.send(CPong())


# -- the container: faults behind messages -------------------------------------------


def test_messages_before_a_fault_come_first():
    connection = Connection(Role.CONTAINER)
    first = request(5)
    assert connection.receive(encode_forward_request(first) + HTTPD_END) == [first]
    assert isinstance(connection.failure, BodyTruncated)
    assert not connection.may_reuse
    with pytest.raises(BodyTruncated):
        connection.receive(b"")
    connection.sent_response(False)


def test_fault_behind_a_cping_is_raised_once():
    connection = Connection(Role.CONTAINER)
    assert connection.receive(CPING + b"X") == [CPing()]
    assert connection.state is State.CLOSING
    with pytest.raises(FramingError) as caught:
        connection.receive(GET)
    assert is_the_same(connection.failure, caught.value)
    assert connection.receive(GET) == []


def test_fault_behind_a_cping_is_not_lost_when_the_peer_closes():
    connection = Connection(Role.CONTAINER)
    connection.receive(CPING + b"X")
    with pytest.raises(FramingError):
        connection.receive_eof()
    connection.receive_eof()


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(
            lambda connection: connection.receive_request(packet(b"\x02\xee\x00")),
            id="a request in one piece",
        ),
        pytest.param(
            lambda connection: connection.receive(packet(b"\x02\xee\x00") + CPING),
            id="a request",
        ),
        pytest.param(lambda connection: connection.receive(b"X"), id="no packet"),
        pytest.param(
            lambda connection: connection.receive(CPING + b"X"), id="behind a message"
        ),
        pytest.param(
            lambda connection: connection.receive(packet(b"\x02\x02" + bytes(9000))),
            id="an overlong request",
        ),
        pytest.param(
            lambda connection: connection.receive(encode_forward_request(request(9))),
            id="a body that does not come",
        ),
    ],
)
def test_fault_is_not_left_to_the_garbage_collector(fail):
    with left_to_the_collector() as left:
        connection = Connection(Role.CONTAINER, receive_limit=8192)
        for act in (
            fail,
            Connection.receive_eof,
            Connection.ask_body,
            Connection.ask_body_again,
            Connection.receive_eof,
        ):
            with suppress(ProtocolError):
                act(connection)
        assert connection.failure is not None
        del connection
    assert left == {}


def test_fault_behind_an_ended_exchange_ends_reuse():
    connection = Connection(Role.FRONT_END)
    connection.send(request())
    connection.receive(
        b"AB\x00\x08\x04\x00\xc8\x00\x00\x00\x00\x00AB\x00\x02\x05\x01AB\x00\x01\x09"
    )
    assert (connection.may_reuse, connection.is_idle) == (False, False)
    with pytest.raises(FramingError) as caught:
        connection.receive(b"")
    assert str(caught.value) == "type at byte 0: expected nothing, found CPong"


# -- the container: requests that are refused ----------------------------------------

MALFORMED = bytes.fromhex(
    "12 34 00 27 02 02 00 08 48 54 54 50 2f 31 2e 31 00 00 01 2e 00"
    "ff ff ff ff ff ff 00 50 00 00 01 a0 08 00 01 35 00 ff 00 00 00 00"
)
MALFORMED = MALFORMED[:3] + bytes((len(MALFORMED) - 4,)) + MALFORMED[4:]


@pytest.mark.parametrize("split", [0, 20])
def test_malformed_request_can_be_answered_and_is_not_followed(split):
    connection = Connection(Role.CONTAINER)
    connection.receive(MALFORMED[:split])
    error = error_of(connection, MALFORMED[split:])
    assert not isinstance(error, FramingError)
    assert (error.field, error.status) == ("payload", 400)
    assert (connection.state, connection.owed) == (State.REQUEST, 1)
    assert not connection.may_reuse
    connection.sent_response(False)
    assert connection.state is State.CLOSING
    assert connection.receive(HELLO + GET) == []


def test_nothing_is_asked_for_after_a_malformed_request():
    connection = Connection(Role.CONTAINER)
    error_of(connection, MALFORMED)
    with pytest.raises(DecodeError):
        connection.ask_body()


def test_malformed_request_is_not_answered_with_reuse():
    connection = Connection(Role.CONTAINER)
    error_of(connection, MALFORMED)
    with pytest.raises(LocalProtocolError):
        connection.sent_response(True)


@pytest.mark.parametrize("step", [1, 7, 100, 9000])
def test_request_beyond_the_receive_limit_is_skipped_and_answered(step):
    connection = Connection(Role.CONTAINER, receive_limit=8192)
    data = packet(b"\x02" + bytes(8188))
    for start in range(0, len(data) - step, step):
        assert connection.receive(data[start : start + step]) == []
        assert connection.state is State.IDLE
    error = error_of(connection, data[(len(data) - 1) // step * step :])
    assert not isinstance(error, FramingError)
    assert str(error) == (
        "packet at byte 0: a Forward Request of 8193 bytes, at most 8192 are taken"
    )
    assert (error.status, connection.state) == (400, State.REQUEST)
    connection.sent_response(False)


@pytest.mark.parametrize("split", [4, 5, 6, 7])
@pytest.mark.parametrize(("code", "is_head"), [(2, False), (3, True)])
def test_answer_to_an_overlong_head_has_no_body(split, code, is_head):
    connection = Connection(Role.CONTAINER, receive_limit=8192)
    data = packet(bytes((2, code)) + bytes(8187))
    connection.receive(data[:split])
    error_of(connection, data[split:])
    assert connection.refused_head is is_head


@pytest.mark.parametrize(("code", "is_head"), [(2, False), (3, True)])
def test_answer_to_a_malformed_head_has_no_body(code, is_head):
    connection = Connection(Role.CONTAINER)
    error_of(connection, MALFORMED[:5] + bytes((code,)) + MALFORMED[6:])
    assert connection.refused_head is is_head


def test_close_inside_a_request_that_is_skipped_is_normal():
    connection = Connection(Role.CONTAINER, receive_limit=8192)
    connection.receive(packet(b"\x02" + bytes(8188))[:100])
    connection.receive_eof()


def test_request_at_the_receive_limit_is_taken():
    connection = Connection(Role.CONTAINER, receive_limit=8192)
    filler = 8192 - len(
        encode_forward_request(build_forward_request(headers=[("x", "")]))
    )
    large = build_forward_request(headers=[("x", "y" * filler)])
    assert connection.receive(encode_forward_request(large)) == [large]


def test_number_of_headers_is_bounded():
    connection = Connection(Role.CONTAINER, max_headers=2)
    data = encode_forward_request(build_forward_request(headers=[("x", "y")] * 3))
    assert error_of(connection, data).status == 431


# -- the container: lighttpd ----------------------------------------------------------


def test_raw_chunk_of_lighttpd_is_taken():
    connection = assigned(5, lighttpd=True)
    assert connection.receive(RAW_HELLO) == [BodyChunk(b"hello")]
    assert connection.body_complete


def test_raw_chunks_stay_raw():
    connection = assigned(8193, lighttpd=True)
    connection.receive(packet(bytes(8188)))
    connection.ask_body()
    assert connection.receive(packet(b"\x00\x03abc")) == [BodyChunk(b"\x00\x03abc")]
    assert connection.body_complete


def test_lighttpd_is_asked_for_no_more_than_one_of_its_packets_holds():
    connection = Connection(Role.CONTAINER, packet_size=65536)
    connection.receive(encode_forward_request(request(100_000, lighttpd=True)))
    connection.receive(packet(bytes(8188)))
    assert connection.ask_body() == bytes.fromhex("41 42 00 03 06 1f fa")  # 8186


def test_others_are_asked_for_as_much_as_the_packet_size_allows():
    connection = Connection(Role.CONTAINER, packet_size=65536)
    connection.receive(encode_forward_request(request(100_000)))
    connection.receive(packet(b"\xff\xfa" + bytes(65530)))
    assert connection.ask_body() == bytes.fromhex("41 42 00 03 06 86 a6")  # the rest


def test_raw_body_of_one_byte():
    assert assigned(1, lighttpd=True).receive(packet(b"x")) == [BodyChunk(b"x")]


def test_standard_chunks_stay_standard():
    connection = assigned(10, lighttpd=True)
    connection.receive(HELLO)
    connection.ask_body()
    error = error_of(connection, RAW_HELLO)
    assert error.problem == "expected the length 3, found 26725"


def test_raw_chunk_of_another_front_end_breaks_the_connection():
    assert isinstance(error_of(assigned(5), RAW_HELLO), FramingError)


def test_raw_chunk_breaks_the_connection_where_standard_ones_are_demanded():
    connection = assigned(5, lighttpd=True, framing="standard")
    assert isinstance(error_of(connection, RAW_HELLO), FramingError)


def test_raw_chunks_can_be_demanded():
    connection = assigned(7, framing="raw")
    assert connection.receive(packet(b"\x00\x05hello")) == [BodyChunk(b"\x00\x05hello")]


def test_end_is_an_end_also_among_raw_chunks():
    assert isinstance(error_of(assigned(7, framing="raw"), JK_END), BodyTruncated)


def test_half_a_first_raw_chunk_waits_for_its_rest():
    connection = assigned(5, lighttpd=True)
    assert connection.receive(RAW_HELLO[:7]) == []
    assert connection.receive(RAW_HELLO[7:]) == [BodyChunk(b"hello")]


@pytest.mark.parametrize("split", [4, 5, 6, 10])
def test_half_a_chunk_waits_for_its_rest(split):
    connection = assigned(5)
    assert connection.receive(HELLO[:split]) == []
    assert connection.receive(HELLO[split:]) == [BodyChunk(b"hello")]


def test_stray_packet_of_lighttpd_after_each_request():
    connection = assigned(0, lighttpd=True)
    connection.sent_headers()
    assert connection.receive(JK_END) == []
    connection.sent_end(True)
    assert connection.is_idle


# -- the front end --------------------------------------------------------------------


def test_front_end_sends_a_request_and_its_first_chunk_unasked():
    connection = Connection(Role.FRONT_END)
    first = request(5)
    assert connection.send(first) == encode_forward_request(first)
    assert (connection.owed, connection.body_left) == (1, 5)
    assert connection.send(BodyChunk(b"hello")) == HELLO
    assert (connection.owed, connection.body_complete) == (0, True)


def test_front_end_receives_a_response():
    connection = Connection(Role.FRONT_END)
    connection.send(request())
    assert connection.receive(
        b"AB\x00\x08\x04\x00\xc8\x00\x00\x00\x00\x00"
        b"AB\x00\x07\x03\x00\x03hi\n\x00"
        b"AB\x00\x02\x05\x01"
    ) == [SendHeaders(200, "", []), SendBodyChunk(b"hi\n"), EndResponse(True)]
    assert connection.is_idle


@pytest.mark.parametrize("split", range(1, 22))
def test_front_end_receives_a_response_in_two_parts(split):
    connection = Connection(Role.FRONT_END)
    connection.send(request())
    data = b"AB\x00\x08\x04\x00\xc8\x00\x00\x00\x00\x00AB\x00\x07\x03\x00\x03hi\n\x00"
    messages = connection.receive(data[:split]) + connection.receive(data[split:])
    assert messages == [SendHeaders(200, "", []), SendBodyChunk(b"hi\n")]


def test_front_end_does_not_use_a_connection_again_that_will_close():
    connection = Connection(Role.FRONT_END)
    connection.send(request())
    connection.receive(
        b"AB\x00\x08\x04\x00\xc8\x00\x00\x00\x00\x00AB\x00\x02\x05\x00AB\x00\x01\x09"
    )
    assert (connection.state, connection.may_reuse) == (State.CLOSING, False)
    connection.receive_eof()


def test_front_end_sends_what_it_is_asked_for():
    connection = Connection(Role.FRONT_END)
    connection.send(request(chunked=True))
    assert connection.receive(b"AB\x00\x03\x06\x1f\xfa") == [GetBodyChunk(8186)]
    assert connection.owed == 1
    connection.send(BodyChunk(b"hello"))
    connection.receive(b"AB\x00\x03\x06\x1f\xfa" * 2)
    assert connection.send(BodyChunk(b"")) == HTTPD_END
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(BodyChunk(b"x"))
    assert str(caught.value) == "BodyChunk: the end of the body was sent"
    connection.send(BodyChunk(b""))
    assert connection.owed == 0


def test_front_end_sends_no_chunk_that_is_not_owed():
    connection = Connection(Role.FRONT_END)
    connection.send(request(0))
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(BodyChunk(b""))
    assert str(caught.value) == "BodyChunk: the container is owed none"


def test_front_end_sends_no_more_than_it_declared():
    connection = Connection(Role.FRONT_END)
    connection.send(request(4))
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(BodyChunk(b"hello"))
    assert str(caught.value) == "BodyChunk: 5 bytes of a body of 4"


def test_front_end_sends_what_it_owes_before_the_next_request():
    connection = Connection(Role.FRONT_END)
    connection.send(request(5))
    connection.receive(b"AB\x00\x08\x04\x00\xc8\x00\x00\x00\x00\x00AB\x00\x02\x05\x01")
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(request())
    assert str(caught.value) == "1 body chunks of the last request are owed"
    connection.send(BodyChunk(b"hello"))
    assert connection.send(request()) == GET


def test_front_end_pings():
    connection = Connection(Role.FRONT_END)
    assert connection.send(CPing()) == CPING
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(request())
    assert str(caught.value) == "ForwardRequest must not be sent in state pinged"
    assert connection.receive(b"AB\x00\x01\x09") == [CPong()]
    assert connection.is_idle


@pytest.mark.parametrize(
    ("message", "sent"),
    [(Ping(), b"\x12\x34\x00\x01\x08"), (Shutdown(), b"\x12\x34\x00\x01\x07")],
)
def test_front_end_can_send_what_nobody_obeys(message, sent):
    connection = Connection(Role.FRONT_END)
    assert connection.send(message) == sent
    assert connection.state is State.CLOSING


def test_front_end_sends_nothing_of_a_container():
    with pytest.raises(LocalProtocolError) as caught:
        Connection(Role.FRONT_END).send(CPong())
    assert str(caught.value) == "CPong is not for a front end to send"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            b"AB\x00\x01\x09",
            "type at byte 0: expected GetBodyChunk or SendHeaders, found CPong",
        ),
        (
            b"AB\x00\x04\x03\x00\x00\x00",
            "type at byte 0: expected GetBodyChunk or SendHeaders, found SendBodyChunk",
        ),
        (
            b"AB\x00\x02\x05\x01",
            "type at byte 0: expected GetBodyChunk or SendHeaders, found EndResponse",
        ),
        (b"\x12\x34", "magic at byte 0: expected 0x41, found 0x12"),
        (
            b"AB\x00\x01\x00",
            "type at byte 0: expected 3 to 6 or 9, what a container sends, found 0",
        ),
        (
            b"AB\xff\xff",
            "packet at byte 0: 65539 bytes, at most 65536 are taken",
        ),
    ],
)
def test_front_end_refuses_what_no_container_may_send(data, text):
    connection = Connection(Role.FRONT_END)
    connection.send(request())
    error = error_of(connection, data)
    assert str(error) == text
    assert (connection.state, connection.may_reuse) == (State.CLOSING, False)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "exchange at byte 0: the connection was closed in state request"),
        (b"AB\x00", "packet at byte 3: 4 bytes due, the connection was closed"),
    ],
)
def test_front_end_notices_a_close_before_the_response(data, text):
    connection = Connection(Role.FRONT_END)
    connection.send(request(5))
    connection.receive(data)
    with pytest.raises(FramingError) as caught:
        connection.receive_eof()
    assert str(caught.value) == text
    assert connection.state is State.CLOSING


def test_two_connections_understand_each_other():
    front_end, container = Connection(Role.FRONT_END), Connection(Role.CONTAINER)
    for length in (5, 0):
        (received,) = container.receive(front_end.send(request(length)))
        assert received == request(length)
        if length:
            assert container.receive(front_end.send(BodyChunk(b"hello"))) == [
                BodyChunk(b"hello")
            ]
        response = [
            SendHeaders(200, "OK", [("Content-Type", "text/plain")]),
            SendBodyChunk(b"hi"),
            EndResponse(True),
        ]
        sent = b"".join(container.send(message) for message in response)
        assert front_end.receive(sent) == response
    assert front_end.is_idle
    assert container.is_idle
