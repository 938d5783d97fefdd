import pytest

from paste_ajp.tracing import Event, PacketView, format_event, format_line, parse_line

REQUEST = PacketView(
    "ForwardRequest",
    True,
    99,
    {
        "method": "GET",
        "protocol": "HTTP/1.1",
        "req_uri": "/caf\xc3\xa9",
        "remote_addr": "192.0.2.7",
        "remote_host": None,
        "server_name": "h",
        "server_port": 443,
        "is_ssl": True,
        "headers": [["host", "h"], ["x", "a\x1b[31m\n"]],
        "attributes": [["query_string", "a=1"], ["secret", "***"]],
        "request_attributes": [["AJP_REMOTE_PORT", "5"]],
    },
)


@pytest.mark.parametrize(
    "event",
    [
        Event(REQUEST, "192.0.2.1:5", 1767225600.25),
        Event(PacketView("CPing", True, 5)),
        Event(PacketView("unknown type 30", False, 9, {}, 'odd ! "thing"'), "c", 1.0),
        Event(PacketView("not AJP", False, 9)),
    ],
)
def test_a_line_is_read_back(event):
    line = format_line(event)
    assert parse_line(line) == event
    assert line.isascii()
    assert line.isprintable()


def test_a_line_looks_like_this():
    event = Event(PacketView("EndResponse", False, 6, {"reuse": True}), "c1", 0.5)
    assert format_line(event) == (
        '1970-01-01T00:00:00.500000Z c1 < 6 EndResponse {"reuse": true}'
    )


@pytest.mark.parametrize(
    "line",
    ["", "# remark", "- c > x CPing {}", "- c > 5 CPing {bad}", "now c > 5 A {}"],
)
def test_other_lines_are_none(line):
    assert parse_line(line) is None


def test_a_request_is_written_for_people():
    assert format_event(Event(REQUEST, "c1", 1.5), 1.25) == (
        "00:00:01.500000 [c1] > ForwardRequest  GET /caf\xe9?a=1 HTTP/1.1  (99 bytes)"
        "  +250.0 ms\n"
        "    from 192.0.2.7 ((null)) to h:443, over TLS\n"
        "    host: h\n"
        "    x: a\\x1b[31m\\n\n"
        "    secret = ***\n"
        "    AJP_REMOTE_PORT = 5  (request attribute)"
    )


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("SendHeaders", {"status": 200, "reason": "OK"}, "SendHeaders  200 OK  "),
        ("EndResponse", {"reuse": False}, "EndResponse  close  "),
        ("GetBodyChunk", {"requested_length": 8}, "GetBodyChunk  up to 8 bytes  "),
        ("BodyChunk", {"length": 3}, "BodyChunk  3 bytes of body  "),
        (
            "BodyChunk",
            {"length": 0, "end_of_body": True},
            "BodyChunk  end of the body  ",
        ),
        ("SendBodyChunk", {"length": 0, "flush": True}, "SendBodyChunk  flush  "),
        ("CPing", {}, "CPing  "),
    ],
)
def test_headings_say_the_one_thing_to_know(name, fields, text):
    assert (
        format_event(Event(PacketView(name, True, 9, fields))) == f"> {text}(9 bytes)"
    )


def test_problems_stand_out():
    view = PacketView("SendHeaders", False, 9, {}, "reason at byte 3: cut")
    assert format_event(Event(view)).endswith("\n    !! reason at byte 3: cut")


def test_long_values_are_cut():
    view = PacketView("SendHeaders", False, 9, {"headers": [["X", "a" * 3000]]})
    assert format_event(Event(view)).endswith("a ... (3000 characters)")
