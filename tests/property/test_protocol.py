"""Any message round-trips; any split of the same bytes gives the same messages."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    CPong,
    DecodeError,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Message,
    Role,
    SendBodyChunk,
    SendHeaders,
    State,
    build_forward_request,
    decode_body_chunk,
    decode_forward_request,
    decode_from_container,
    encode_bodies,
    encode_body,
    encode_body_chunk,
    encode_end_response,
    encode_forward_request,
    encode_get_body_chunk,
    encode_send_headers,
    to_container,
)
from paste_ajp.protocol.codes import (
    ATTRIBUTE_BY_CODE,
    CODE_BY_RESPONSE_HEADER,
    METHODS,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
)

# -- any message ---------------------------------------------------------------------

TOKEN_LETTERS = (
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
latin_1 = st.text(
    st.characters(max_codepoint=255, exclude_characters="\0"), max_size=20
)
printable = st.text(
    st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=20
)
tokens = st.text(st.sampled_from(TOKEN_LETTERS), min_size=1, max_size=20)
weighty = {"content-length", "transfer-encoding", "host"}
request_names = st.one_of(st.sampled_from(REQUEST_HEADERS), tokens).filter(
    lambda name: name.lower() not in weighty
)
sizes = st.sampled_from(
    [
        [],
        [("host", "a.example:8080")],
        [("content-length", "0")],
        [("Content-Length", "5"), ("Host", "[::1]")],
        [("transfer-encoding", "chunked")],
    ]
)
attributes = st.dictionaries(
    st.sampled_from(sorted(set(ATTRIBUTE_BY_CODE.values()) - {"stored_method"})),
    st.one_of(st.none(), printable),
).map(lambda named: {name: fit_attribute(name, text) for name, text in named.items()})


def fit_attribute(name: str, value: str | None) -> str | int | None:
    return len(value or "") * 64 if name == "ssl_key_size" else value


forward_requests = st.builds(
    build_forward_request,
    method=st.one_of(st.sampled_from(METHODS), tokens),
    req_uri=printable.map("/".__add__),
    headers=st.builds(
        list.__add__, st.lists(st.tuples(request_names, printable), max_size=8), sizes
    ),
    protocol=st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/2"]),
    remote_addr=st.one_of(st.none(), printable),
    remote_host=st.one_of(st.none(), printable),
    server_name=st.one_of(st.none(), printable),
    server_port=st.integers(0, 65535),
    is_ssl=st.booleans(),
    attributes=attributes,
    request_attributes=st.lists(st.tuples(latin_1.filter(bool), latin_1), max_size=4),
)
response_names = st.one_of(
    st.sampled_from(RESPONSE_HEADERS),
    tokens.filter(lambda name: name.lower() not in CODE_BY_RESPONSE_HEADER),
)


@given(forward_requests)
def test_forward_request_round_trips(request: ForwardRequest) -> None:
    packet = encode_forward_request(request)
    assert decode_forward_request(packet, start=4) == request


@given(st.integers(200, 999), printable, st.lists(st.tuples(response_names, printable)))
def test_send_headers_round_trips_with_a_coded_one_first(status, reason, headers):
    packet = encode_send_headers(status, reason, headers, 65536, date="now")
    literal = [h for h in headers if h[0].lower() not in CODE_BY_RESPONSE_HEADER]
    if not headers or headers[0] in literal:
        coded = [h for h in headers if h not in literal] or [("Date", "now")]
        headers = coded + literal
    expected = SendHeaders(status, reason, headers)
    assert decode_from_container(packet[4:]) == expected


@given(st.binary(max_size=100))
def test_body_chunk_round_trips(data: bytes) -> None:
    assert decode_body_chunk(encode_body_chunk(data)[4:]) == data


@given(st.integers(0, 65535), st.booleans())
def test_short_messages_round_trip(length: int, reuse: bool) -> None:
    assert decode_from_container(encode_get_body_chunk(length)[4:]) == GetBodyChunk(
        length
    )
    assert decode_from_container(encode_end_response(reuse)[4:]) == EndResponse(reuse)


@given(st.binary(max_size=500), st.integers(9, 64), st.integers(1, 200))
def test_response_body_round_trips(data: bytes, packet_size: int, batch: int) -> None:
    connection = Connection(Role.FRONT_END)
    connection.send(build_forward_request())
    connection.receive(encode_send_headers(200, "", []))
    packets = encode_body(data, packet_size)
    assert b"".join(encode_bodies(data, packet_size, batch)) == packets
    received = connection.receive(packets)
    assert b"".join(message.data for message in received) == data
    assert all(len(message.data) <= packet_size - 8 for message in received)


# -- the two decoders of a Forward Request -------------------------------------------


def decode_both(payload: bytes) -> tuple[ForwardRequest | None, ForwardRequest | None]:
    try:
        exact = to_container._decode_exactly(payload, 200)
    except DecodeError:
        exact = None
    # Second, so that the exact decoder has taught it the names.
    return to_container._decode_quickly(payload, 200, 0), exact


@given(forward_requests)
def test_quick_decoder_agrees_with_the_exact_one(request: ForwardRequest) -> None:
    quick, exact = decode_both(encode_forward_request(request)[4:])
    assert exact == request
    assert quick is None or quick == exact


@settings(max_examples=500)
@given(forward_requests, st.data())
def test_quick_decoder_takes_nothing_that_the_exact_one_refuses(request, data):
    payload = bytearray(encode_forward_request(request)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(payload) - 1))
        change = data.draw(st.sampled_from(["replace", "insert", "delete"]))
        byte = data.draw(
            st.sampled_from(b"\x00\x01\x02\x0a\x0b\x0d\x20\x31\x7f\xa0\xff")
        )
        if change == "replace":
            payload[place] = byte
        elif change == "insert":
            payload.insert(place, byte)
        elif len(payload) > 1:
            del payload[place]
    quick, exact = decode_both(bytes(payload))
    assert quick is None or quick == exact


@given(st.binary(max_size=200))
def test_nothing_but_decode_error_comes_of_any_bytes(noise: bytes) -> None:
    for payload in (noise, b"\x02\x02\x00\x08HTTP/1.1\x00\x00\x01/\x00" + noise):
        with contextlib.suppress(DecodeError):
            decode_forward_request(payload)
        to_container.find_content_length(payload)
        with contextlib.suppress(DecodeError):
            decode_from_container(payload)


# -- any split -----------------------------------------------------------------------


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Cut ``data`` at the given places, taken modulo its length."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        yield data[start:end]


def run(
    connection: Connection, parts: Iterator[bytes], quickly: bool = False
) -> tuple[list[Message], str]:
    """Feed all parts, answering as one would; return messages and the fault's text.

    The container asks for a body while there may be more, then ends the exchange.
    ``quickly``: offer each part as one whole request at first, as the server does.
    """
    messages: list[Message] = []
    for part in parts:
        try:
            request = connection.receive_request(part) if quickly else None
            messages += [request] if request else connection.receive(part)
            if connection.failure is not None:
                connection.receive(b"")
        except DecodeError as error:
            return messages, str(error)
    return messages, ""


cuts = st.lists(st.integers(0, 100_000), max_size=10)
bodies = st.binary(max_size=40)


@st.composite
def request_streams(draw) -> bytes:
    """What a front end may send without being answered: the last part may be bad."""
    stream = b"\x12\x34\x00\x01\x0a" * draw(st.integers(0, 2))
    stream += b"\x12\x34\x00\x00" * draw(st.integers(0, 3))
    body = draw(bodies)
    headers = [("content-length", str(len(body)))]
    attributes = draw(st.sampled_from([[], [("AJP_REMOTE_PORT", "1")]]))
    stream += encode_forward_request(
        build_forward_request("POST", "/", headers, request_attributes=attributes)
    )
    if body:
        is_raw = draw(st.booleans())
        chunk = encode_body_chunk(body)
        stream += b"\x12\x34" + chunk[4:6] + body if is_raw else chunk
    stream += b"\x12\x34\x00\x02\x00\x00" * draw(st.integers(0, 6))
    return stream + draw(st.one_of(st.just(b""), st.binary(max_size=20)))


@given(request_streams(), cuts, st.booleans())
def test_any_split_gives_the_container_the_same_messages(stream, places, quickly):
    whole = run(Connection(Role.CONTAINER), iter([stream]))
    split = run(Connection(Role.CONTAINER), pieces(stream, places), quickly)
    assert split == whole


@given(forward_requests.filter(lambda r: not r.content_length), cuts, st.booleans())
def test_any_split_gives_the_container_the_same_request(request, places, quickly):
    parts = pieces(encode_forward_request(request), places)
    assert run(Connection(Role.CONTAINER), parts, quickly) == ([request], "")


@given(forward_requests, st.data())
def test_whole_request_is_taken_alike_in_one_look(request, data):
    packet = bytearray(encode_forward_request(request))
    if data.draw(st.booleans()):
        packet[data.draw(st.integers(0, len(packet) - 1))] ^= data.draw(
            st.integers(1, 255)
        )
    one, other = Connection(Role.CONTAINER), Connection(Role.CONTAINER)
    assert run(one, iter([bytes(packet)]), True) == run(other, iter([bytes(packet)]))
    assert (one.state, one.owed, one.may_reuse) == (
        other.state,
        other.owed,
        other.may_reuse,
    )


@given(st.lists(st.binary(max_size=20), max_size=4), st.integers(-1, 60), st.booleans())
def test_whole_chunk_is_taken_alike_in_one_look(chunks, length, lighttpd):
    headers = [("content-length", str(length))] if length >= 0 else []
    attributes = [] if lighttpd else [("AJP_REMOTE_PORT", "1")]
    request = build_forward_request(headers=headers, request_attributes=attributes)
    seen = []
    for quickly in (False, True):
        connection = Connection(Role.CONTAINER)
        connection.receive(encode_forward_request(request))
        found: list[bytes] = []
        fault = ""
        try:
            for chunk in chunks:
                if connection.body_complete:
                    break
                if not connection.owed:
                    connection.ask_body()
                packet = encode_body_chunk(chunk)
                data = connection.receive_chunk(packet) if quickly else None
                if data is None:
                    received = connection.receive(packet)
                    found += [message.data for message in received]
                else:
                    found.append(data)
        except DecodeError as error:
            fault = str(error)
        state = connection.state, connection.owed, connection.body_left
        seen.append((found, fault, state, connection.failure is None))
    assert seen[0] == seen[1]


@given(st.binary(max_size=40), bodies, cuts, st.booleans())
def test_any_split_drops_the_same_owed_chunk(noise, body, places, was_asked):
    connection = Connection(Role.CONTAINER)
    headers = [] if was_asked else [("content-length", "50")]
    connection.receive(encode_forward_request(build_forward_request(headers=headers)))
    if was_asked:
        connection.ask_body()
    connection.sent_response(True)
    request = build_forward_request("PUT")
    owed = b"\x12\x34" + len(noise).to_bytes(2, "big") + noise
    stream = owed + b"\x12\x34\x00\x01\x0a" + encode_forward_request(request)
    messages, fault = run(connection, pieces(stream, places))
    assert (messages, fault) == ([CPing(), request], "")
    assert connection.owed == 0


@given(st.integers(8188, 65535), cuts)
def test_any_split_skips_the_same_overlong_request(length, places):
    connection = Connection(Role.CONTAINER, receive_limit=8191)
    stream = b"\x12\x34" + length.to_bytes(2, "big") + b"\x02" + bytes(length - 1)
    messages, fault = run(connection, pieces(stream, places))
    assert messages == []
    assert fault.endswith(f"of {length + 4} bytes, at most 8191 are taken")
    assert connection.state is State.REQUEST


@given(
    st.lists(st.tuples(st.just("Set-Cookie"), printable), max_size=5),
    st.lists(bodies, max_size=4),
    st.booleans(),
    st.binary(max_size=10),
    cuts,
)
def test_any_split_gives_the_front_end_the_same_messages(
    headers, chunks, reuse, noise, places
):
    stream = encode_get_body_chunk(8186) + encode_send_headers(200, "OK", headers)
    stream += b"".join(encode_body(chunk) for chunk in chunks)
    stream += encode_end_response(reuse)
    results = []
    for parts in (iter([stream + noise]), pieces(stream + noise, places)):
        connection = Connection(Role.FRONT_END)
        connection.send(build_forward_request())
        results.append(run(connection, parts))
    assert results[0] == results[1]
    assert results[0][0][: 3 + len(list(filter(None, chunks)))] == [
        GetBodyChunk(8186),
        SendHeaders(200, "OK", headers),
        *(SendBodyChunk(chunk) for chunk in chunks if chunk),
        EndResponse(reuse),
    ]


# -- both ends -----------------------------------------------------------------------


@given(st.lists(st.tuples(bodies, st.booleans(), st.booleans()), max_size=5), st.data())
def test_owed_chunks_never_get_out_of_step(exchanges, data):
    """Whatever is read or left of the bodies, the next request is the next request."""
    front_end, container = Connection(Role.FRONT_END), Connection(Role.CONTAINER)
    for body, is_chunked, pings in exchanges:
        if pings:
            assert container.receive(front_end.send(CPing())) == [CPing()]
            assert front_end.receive(container.send(CPong())) == [CPong()]
        request = build_forward_request(
            "POST",
            "/",
            [("transfer-encoding", "chunked")]
            if is_chunked
            else [("content-length", str(len(body)))],
            request_attributes=[("AJP_REMOTE_PORT", "1")],
        )
        rest = body
        sent = front_end.send(request)
        if front_end.owed:
            size = data.draw(st.integers(1, len(rest)))
            sent += front_end.send(BodyChunk(rest[:size]))
            rest = rest[size:]
        received = container.receive(sent)
        assert received.pop(0) == request
        late = b""
        for _ in range(data.draw(st.integers(0, 3))):
            if container.owed or container.body_complete:
                break
            assert front_end.receive(container.ask_body())
            size = data.draw(st.integers(1, len(rest))) if rest else 0
            chunk = front_end.send(BodyChunk(rest[:size]))
            rest = rest[size:]
            if data.draw(st.booleans()):
                received += container.receive(chunk)
                continue
            # The response overtakes the chunk.
            late = chunk
            break
        taken = b"".join(message.data for message in received)
        assert body.startswith(taken)
        response = encode_send_headers(200, "", []) + encode_end_response(True)
        container.sent_response(True)
        assert len(front_end.receive(response)) == 2
        assert container.receive(late) == []
        assert (front_end.owed, container.owed) == (0, 0)
        assert front_end.is_idle
        assert container.is_idle
