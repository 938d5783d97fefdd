import pytest

from paste_ajp.protocol import build_forward_request, encode_forward_request
from paste_ajp.tracing import Conversation
from tests.captures import load_captures

#: A body chunk that reads as a Forward Request for /admin: only counting helps.
FORGED = encode_forward_request(build_forward_request("GET", "/admin"))[4:]
GET_BODY = bytes.fromhex("41420003061ffa")
END = bytes.fromhex("414200020501")


def request(*headers):
    return encode_forward_request(build_forward_request("POST", "/x", headers))


def names(views):
    return [view.name for view in views]


def packet(payload):
    return b"\x12\x34" + len(payload).to_bytes(2, "big") + payload


def test_a_chunk_that_is_owed_is_body_whatever_it_looks_like():
    conversation = Conversation()
    data = request(("content-length", "100")) + packet(FORGED)
    views = conversation.feed(data, to_container=True)
    assert names(views) == ["ForwardRequest", "BodyChunk"]


def test_a_chunk_that_was_asked_for_is_body():
    conversation = Conversation()
    conversation.feed(request(("transfer-encoding", "chunked")), to_container=True)
    conversation.feed(GET_BODY, to_container=False)
    views = conversation.feed(packet(FORGED) * 2, to_container=True)
    assert names(views) == ["BodyChunk", "ForwardRequest"]


def test_chunks_without_the_other_direction_are_guessed():
    conversation = Conversation()
    data = request(("content-length", "9")) + packet(b"\x00\x03abc") * 3 + request()
    views = conversation.feed(data, to_container=True)
    assert names(views) == ["ForwardRequest", *["BodyChunk"] * 3, "ForwardRequest"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_any_split_gives_the_same(size):
    data = request(("content-length", "3")) + packet(b"\x00\x03abc") + packet(b"\x0a")
    conversation = Conversation()
    views = []
    for start in range(0, len(data), size):
        views += conversation.feed(data[start : start + size], to_container=True)
    assert names(views) == ["ForwardRequest", "BodyChunk", "CPing"]


def test_what_is_no_packet_is_skipped_up_to_the_next():
    views = Conversation().feed(b"HTTP/1.1 400" + END, to_container=False)
    assert names(views) == ["not AJP", "EndResponse"]
    assert views[0].problem == "12 bytes that are no packet of a container"


def test_mixed_packets_are_told_apart_by_their_magic():
    data = packet(b"\x0a") + bytes.fromhex("4142000109") + b"??" + END
    views = Conversation().feed_mixed(data)
    assert [view.to_container for view in views if view.size > 2] == [
        True,
        False,
        False,
    ]


def test_a_packet_that_is_cut_is_reported_at_the_end():
    conversation = Conversation()
    conversation.feed(request()[:50], to_container=True)
    [view] = conversation.finish()
    assert view.name == "cut short"
    assert view.problem.startswith("the capture ends inside a packet of ")


@pytest.mark.parametrize("capture", load_captures(), ids=lambda each: each.name)
def test_what_real_front_ends_sent_is_understood(capture):
    """In one direction: nothing tells what the container asked for."""
    conversation = Conversation()
    views = [
        view
        for packet in capture.packets
        for view in conversation.feed(packet, to_container=True)
    ]
    requests = [view for view in views if view.name == "ForwardRequest"]
    assert [view.problem for view in views] == [""] * len(capture.packets)
    assert requests[0].fields["method"] == capture.expect["method"]
    assert (
        sum(view.fields.get("length", 0) for view in views)
        == (capture.expect["body_length"])
    )
