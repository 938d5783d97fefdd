"""Whatever is captured, looking at it breaks nothing and shows no secret."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from paste_ajp.protocol import build_forward_request, encode_forward_request
from paste_ajp.tracing import (
    CaptureError,
    Conversation,
    Event,
    format_event,
    format_line,
    parse_line,
    read_capture,
)

SECRET = "hunter2"
REQUEST = encode_forward_request(
    build_forward_request(
        "POST",
        f"/x;jsessionid={SECRET}",
        [
            ("cookie", f"sid={SECRET}; other={SECRET}"),
            ("authorization", f"Bearer {SECRET}"),
            ("x-auth-token", SECRET),
            ("content-length", "9"),
        ],
        attributes={"secret": SECRET, "query_string": f"password={SECRET}"},
    )
)
BODY = b"\x12\x34\x00\x0b\x00\x09" + f"p={SECRET}".encode()
ANSWER = (
    bytes.fromhex("4142001e 04 00c8 0002 4f4b 00 0001 a007 000f")
    + f"sid={SECRET};Path".encode()[:15]
    + b"\0"
    + bytes.fromhex("41420006 03 0002 6869 00 41420002 0501")
)
PIECES = st.sampled_from(
    [
        REQUEST,
        BODY,
        ANSWER,
        b"\x12\x34\x00\x00",
        b"\x12\x34",
        b"AB",
        b"\x12\x34\x00\x01\x0a",
    ]
)
#: AJP, things that look like it, and anything else.
BYTES = st.lists(st.one_of(PIECES, st.binary(max_size=40))).map(b"".join)


def check(events):
    for event in events:
        line = format_line(event)
        assert SECRET not in line + format_event(event)
        assert parse_line(line) == event


@given(st.one_of(BYTES, st.binary()))
def test_any_bytes_can_be_looked_at(data):
    with contextlib.suppress(CaptureError):
        check(read_capture(data))


@given(
    st.sampled_from([b"\xd4\xc3\xb2\xa1", b"\x0a\x0d\x0d\x0a"]), st.binary(max_size=300)
)
def test_any_network_capture_can_be_looked_at(magic, data):
    with contextlib.suppress(CaptureError):
        check(read_capture(magic + data))


@given(st.text())
def test_any_text_can_be_looked_at(text):
    with contextlib.suppress(CaptureError):
        check(read_capture(text.encode("utf-8", "replace")))


@given(st.lists(st.tuples(st.booleans(), BYTES)))
def test_any_conversation_can_be_followed(parts):
    conversation = Conversation()
    for to_container, data in parts:
        views = conversation.feed(data, to_container=to_container)
        check(Event(view, "c", 1.0) for view in views)
    check(Event(view) for view in conversation.finish())


@given(st.lists(PIECES), st.lists(st.integers(1, 50), min_size=1))
def test_how_bytes_are_split_does_not_matter(pieces, sizes):
    data = b"".join(piece for piece in pieces if piece[:1] == b"\x12")
    whole = Conversation().feed(data, to_container=True)
    conversation = Conversation()
    split = []
    pos = 0
    while pos < len(data):
        size = sizes[pos % len(sizes)]
        split += conversation.feed(data[pos : pos + size], to_container=True)
        pos += size
    good = [view for view in whole if view.name != "not AJP"]
    assert [view for view in split if view.name != "not AJP"] == good
