import pytest

from paste_ajp.tracing import PacketView, dissect

#: The example of the specification notes: a POST with attributes of all kinds.
POST = bytes.fromhex(
    "02 04"
    "0008 485454502f312e31 00"
    "000a 2f6170702f612532306200"
    "0009 3139322e302e322e37 00"
    "ffff"
    "000f 7777772e6578616d706c652e636f6d 00"
    "01bb 01"
    "0003"
    "a00b 000f 7777772e6578616d706c652e636f6d 00"
    "a008 0001 35 00"
    "0004 582d4964 00 0002 3432 00"
    "0c 0006 733363726574 00"
    "05 0003 783d31 00"
    "0b 0100"
    "0a 000f 414a505f52454d4f54455f504f5254 00 0005 3530313132 00"
    "ff"
)


def test_a_forward_request_is_told_field_by_field_and_masked():
    view = dissect(POST, to_container=True)
    assert view == PacketView(
        "ForwardRequest",
        True,
        153,
        {
            "method": "POST",
            "protocol": "HTTP/1.1",
            "req_uri": "/app/a%20b",
            "remote_addr": "192.0.2.7",
            "remote_host": None,
            "server_name": "www.example.com",
            "server_port": 443,
            "is_ssl": True,
            "headers": [
                ["host", "www.example.com"],
                ["content-length", "5"],
                ["X-Id", "42"],
            ],
            "attributes": [
                ["secret", "***"],
                ["query_string", "x=1"],
                ["ssl_key_size", 256],
            ],
            "request_attributes": [["AJP_REMOTE_PORT", "50112"]],
        },
    )


def test_a_broken_packet_is_told_up_to_where_it_breaks():
    view = dissect(POST[:50], to_container=True)
    assert view.fields["remote_addr"] == "192.0.2.7"
    assert view.problem == "server_name at byte 40: 15 bytes and a NUL due, 8 left"


def test_a_stored_method_is_the_method():
    payload = bytes.fromhex("02ff") + POST[2:-1] + b"\x0d\x00\x05PATCH\x00\xff"
    assert dissect(payload, to_container=True).fields["method"] == "PATCH"


@pytest.mark.parametrize(
    ("payload", "to_container", "view"),
    [
        ("0a", True, PacketView("CPing", True, 5)),
        ("07", True, PacketView("Shutdown", True, 5)),
        ("08", True, PacketView("Ping", True, 5)),
        ("1e", True, PacketView("unknown type 30", True, 5)),
        (
            "",
            True,
            PacketView("BodyChunk", True, 4, {"length": 0, "end_of_body": True}),
        ),
        ("09", False, PacketView("CPong", False, 5)),
        ("0501", False, PacketView("EndResponse", False, 6, {"reuse": True})),
        ("05", False, PacketView("EndResponse", False, 5, {"reuse": None})),
        (
            "061ffa",
            False,
            PacketView("GetBodyChunk", False, 7, {"requested_length": 8186}),
        ),
        (
            "03000000",
            False,
            PacketView("SendBodyChunk", False, 8, {"length": 0, "flush": True}),
        ),
        (
            "03000368690a00",
            False,
            PacketView("SendBodyChunk", False, 11, {"length": 3}),
        ),
        (
            "0400c800024f4b000001a001000000",
            False,
            PacketView(
                "SendHeaders",
                False,
                19,
                {"status": 200, "reason": "OK", "headers": [["Content-Type", ""]]},
            ),
        ),
        (
            "0400c800024f4b000001a00c000000",
            False,
            PacketView(
                "SendHeaders",
                False,
                19,
                {"status": 200, "reason": "OK", "headers": []},
                "header 1 name at byte 10: unknown code 0xA00C",
            ),
        ),
        (
            "0300056869",
            False,
            PacketView(
                "SendBodyChunk",
                False,
                9,
                {"length": 2},
                "body chunk at byte 1: 5 bytes and a NUL due, 2 left",
            ),
        ),
        (
            "050100",
            False,
            PacketView(
                "EndResponse", False, 7, {"reuse": True}, "1 bytes left over at byte 2"
            ),
        ),
        (
            "",
            False,
            PacketView("unknown", False, 4, {}, "type at byte 0: needs 1 byte, 0 left"),
        ),
    ],
)
def test_messages(payload, to_container, view):
    assert dissect(bytes.fromhex(payload), to_container=to_container) == view


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        (b"\x00\x05hello", {"length": 5}),
        (b"\x00\x05hello\x00", {"length": 5}),
        (b"\x00\x00", {"length": 0, "end_of_body": True}),
        (
            b"hello",
            {
                "length": 5,
                "form": "raw, without inner length, as lighttpd sends it",
            },
        ),
    ],
)
def test_body_chunks_in_all_forms(payload, fields):
    view = dissect(payload, to_container=True, is_body=True)
    assert (view.name, view.fields) == ("BodyChunk", fields)


def test_bodies_are_shown_on_demand_only():
    view = dissect(b"\x00\x05hello", to_container=True, is_body=True, preview=True)
    assert view.fields == {"length": 5, "data": "hello"}


def test_a_key_size_as_text_is_read():
    payload = POST[:-1] + b"\x0b\x00\x03128\x00\xff"
    view = dissect(payload, to_container=True)
    assert ["ssl_key_size", "128"] in view.fields["attributes"]
