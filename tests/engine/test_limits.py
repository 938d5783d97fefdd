"""Limits, and times after which nobody waits any more."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
import tracemalloc
from typing import NamedTuple

import pytest

from paste_ajp.engine.channel import Phase
from paste_ajp.engine.threaded import DEAD_TIMERS
from paste_ajp.logs import GATE_RECORDS
from paste_ajp.protocol import CPing, CPong, EndResponse, SendBodyChunk, SendHeaders
from paste_ajp.wsgi.response import error_page
from tests.engine.conftest import NOT_COMPILED, hello, wait_until
from tests.engine.front_end import DEADLINE, forward
from tests.engine.test_refusals import CHUNK, HOST, answer, length, packet, request


def reader(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % len(body)]


def read_to_the_end(sock):
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


class Refusal(NamedTuple):
    status: int
    reuse: bool


def refusal(front_end):
    """Read a whole answer, without a word of the body that is owed."""
    head = front_end.receive()
    assert isinstance(head, SendHeaders)
    while not isinstance(message := front_end.receive(), EndResponse):
        assert isinstance(message, SendBodyChunk)
    return Refusal(head.status, message.reuse)


# -- requests that wait for a thread -------------------------------------------------


def test_request_that_waits_too_long_for_a_thread_is_answered_503(serve, gate, caplog):
    site = serve(gate, threads=1, queue_timeout=0.2)
    with site.connect() as first, site.connect() as second, site.connect() as third:
        first.send(forward(req_uri="/wait"))
        gate.wait_for()
        started = time.monotonic()
        found = second.ask(req_uri="/second")
        assert 0.15 < time.monotonic() - started < 2
        assert (found.status, found.header("Retry-After"), found.reuse) == (
            503,
            "1",
            False,
        )
        assert second.is_closed()
        third.cping()  # whoever asks whether we live gets an answer meanwhile
        assert gate.calls == 1
        gate.open.set()
        assert first.answer().body == b"hello"
        assert third.ask().body == b"hello"
    assert "GET /second from 127.0.0.1" in caplog.text
    assert "all 1 threads were busy for queue_timeout = 0.2 s" in caplog.text
    assert site.server.stats.timed_out == 1


def access_lines(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "paste_ajp.access"
    ]


def test_refusal_is_in_the_access_log_with_the_time_that_it_waited(serve, gate, caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    site = serve(gate, threads=1, queue_timeout=0.2, access_log=True)
    with site.connect() as first, site.connect() as second:
        first.send(forward(req_uri="/wait"))
        gate.wait_for()
        assert second.ask(req_uri="/second").status == 503
        wait_until(lambda: access_lines(caplog))
        (line,) = access_lines(caplog)
        gate.open.set()
        first.answer()
    assert '"GET /second HTTP/1.1" 503 ' in line
    assert 0.2 <= float(line.rpartition(" ")[2]) < 2


@pytest.mark.parametrize(
    ("method", "body_bytes"),
    [("POST", len(error_page(413))), ("HEAD", 0)],
    ids=["POST", "HEAD"],
)
@pytest.mark.parametrize("trust", [True, False], ids=["trusted", "not trusted"])
def test_refused_upload_is_in_the_access_log(serve, caplog, method, body_bytes, trust):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    site = serve(
        reader,
        check=False,
        access_log=True,
        max_request_body=9,
        trust_remote_user=trust,
    )
    with site.connect() as front_end:
        front_end.send(
            forward(
                method,
                headers=[("Content-Length", "17")],
                attributes={"remote_user": "arthur"},
            )
        )
        assert refusal(front_end).status == 413
        wait_until(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)
    assert f'HTTP/1.1" 413 {body_bytes} ' in line
    assert ("arthur" in line) is trust


def test_request_that_waits_for_a_thread_gets_the_first_one(serve, gate):
    site = serve(gate, threads=1, queue_timeout=30)
    with site.connect() as first, site.connect() as second:
        first.send(forward(req_uri="/wait"))
        gate.wait_for()
        second.send(forward())
        wait_until(lambda: site.server._crew.waiting == 1)
        gate.open.set()
        assert second.answer().body == b"hello"
        assert first.answer().body == b"hello"


def test_upload_that_waits_too_long_is_answered_and_its_chunk_drained(serve, gate):
    site = serve(gate, threads=1, queue_timeout=0.1)
    with site.connect() as first, site.connect() as second:
        first.send(forward(req_uri="/wait"))
        gate.wait_for()
        second.send(forward("POST", headers=[("Content-Length", "17")]))
        assert refusal(second).status == 503
        second.send_raw(CHUNK)
        assert second.is_closed()
        gate.open.set()
        first.answer()


# -- an application that takes its time ----------------------------------------------


@pytest.mark.parametrize("threads", [1, 4], ids=["none left", "others left"])
def test_stuck_application_is_reported_with_its_stack(serve, gate, caplog, threads):
    site = serve(gate, threads=threads, application_timeout=0.2)
    with site.connect() as front_end:
        front_end.send(forward(req_uri="/wait"))
        gate.wait_for()
        # Nothing else happens on any connection: the report comes by itself.
        wait_until(lambda: "application_timeout is 0.2 s" in caplog.text)
        time.sleep(0.3)
        assert caplog.text.count("application_timeout is 0.2 s") == 1
        assert "GET /wait from 127.0.0.1" in caplog.text
        assert re.search(r"paste_ajp-worker-\d+ is at\n", caplog.text)
        assert "self.open.wait(DEADLINE)" in caplog.text
        gate.open.set()
        assert front_end.answer().body == b"hello"


@pytest.mark.parametrize(
    ("method", "with_body"), [("GET", True), ("HEAD", False)], ids=["GET", "HEAD"]
)
def test_stuck_application_is_answered_for_where_that_is_wanted(
    serve, gate, method, with_body
):
    site = serve(
        gate, application_timeout=0.2, application_timeout_action="answer", threads=1
    )
    with site.connect() as front_end:
        front_end.send(forward(method, "/wait"))
        found = front_end.answer()
        assert (found.status, bool(found.body), found.reuse) == (504, with_body, False)
        gate.open.set()
        assert front_end.is_closed()  # and what the application gave is dropped
    assert site.ask().body == b"hello"


# -- front ends that do not go on ----------------------------------------------------


def test_body_that_does_not_come_is_answered_408(serve):
    site = serve(reader, check=False, read_timeout=0.2)
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=[("Content-Length", "5")]))
        found = refusal(front_end)
        assert (found.status, found.reuse) == (408, False)
    assert site.ask("POST", body=b"12345").body == b"5"


def test_body_that_drips_in_does_not_hold_a_thread(serve):
    site = serve(reader, check=False, threads=1, read_timeout=0.4)
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=[("Content-Length", "500")]))
        started = time.monotonic()
        chunk = packet(b"\x01\xf4" + bytes(500))
        for place in range(len(chunk)):
            front_end.send_raw(chunk[place : place + 1])
            if not front_end.is_silent():
                break
            time.sleep(0.05)
        assert refusal(front_end).status == 408
        assert 0.3 < time.monotonic() - started < 3
        assert site.ask("POST", body=b"12345").body == b"5"


def endless(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    while True:
        yield bytes(65536)


def test_front_end_that_takes_no_data_does_not_hold_a_thread(serve, caplog):
    caplog.set_level(logging.INFO)
    site = serve(endless, check=False, threads=1, write_timeout=0.2)
    with site.connect() as stalled:
        stalled.send(forward(req_uri="/endless"))
        wait_until(
            lambda: "took no data for write_timeout = 0.2 s" in caplog.text, seconds=20
        )
    wait_until(lambda: not site.server._channels)
    with site.connect() as front_end:
        front_end.send(forward())
        assert isinstance(front_end.receive(), SendHeaders)


def test_owed_chunk_is_waited_for_two_seconds_and_no_more(serve):
    site = serve(hello, check=False, secret="s3cret")
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=[("Content-Length", "17")]))
        assert refusal(front_end).status == 403
        started = time.monotonic()
        wait_until(lambda: not site.server._channels)
        assert 1 < time.monotonic() - started < 4


def test_chunk_that_is_owed_after_a_response_is_waited_for_no_longer(serve, caplog):
    site = serve(hello, read_timeout=0.3)
    prompt, late, dripping = site.connect(), site.connect(), site.connect()
    for front_end in (prompt, late, dripping):
        front_end.send(forward("POST", headers=[("Content-Length", "17")]))
        assert refusal(front_end) == (200, True)
    started = time.monotonic()
    prompt.send_raw(CHUNK[:5])
    prompt.send_raw(CHUNK[5:])
    dripping.send_raw(CHUNK[:5])
    assert late.is_closed()
    assert dripping.is_closed()
    assert 0.2 < time.monotonic() - started < 3
    prompt.connection.owed = 0
    assert prompt.ask().body == b"hello"
    assert "a body chunk that the last request owes did not come" in caplog.text


# -- sizes ---------------------------------------------------------------------------


def test_headers_have_no_limit_but_the_packet_by_default(serve):
    site = serve(hello)
    with site.connect(packet_size=65536) as front_end:
        assert front_end.ask(headers=[("Cookie", "c" * 60_000)]).status == 200


def test_memory_of_a_connection_is_bounded(serve):
    site = serve(hello)
    half = request(headers=[b"\xa0\x09\xea\x60" + bytes(60_000)])[:60_000]
    count = 50
    front_ends = [site.connect() for _ in range(count)]
    wait_until(lambda: len(site.server._channels) == count)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for front_end in front_ends:
            front_end.send_raw(half)
        wait_until(
            lambda: all(
                channel._connection.reader.missing[0] == len(half)
                for channel in list(site.server._channels.values())
            )
        )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / count < 2 * len(half)


def test_idle_connection_costs_little(serve):
    site = serve(hello)
    site.ask()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        front_ends = [site.connect() for _ in range(100)]
        for front_end in front_ends:
            front_end.cping()
        server_side = [
            statistic
            for statistic in tracemalloc.take_snapshot().statistics("filename")
            if "paste_ajp" in statistic.traceback[0].filename
        ]
    finally:
        tracemalloc.stop()
    assert sum(one.size for one in server_side) / 100 < 8192, before


def test_closed_connection_is_not_kept_for_its_timer(serve):
    """lighttpd makes a connection for each request."""
    site = serve(hello, keep_alive_timeout=60)
    with site.connect() as kept:
        for _ in range(3 * DEAD_TIMERS):
            site.ask()
        wait_until(lambda: len(site.server._channels) == 1)
        assert len(site.server._timers) <= DEAD_TIMERS + 2
        assert kept.ask().body == b"hello"
        (channel,) = site.server._channels.values()
        wait_until(lambda: channel.phase is Phase.IDLE and channel.deadline)
        assert channel in {entry[2] for entry in site.server._timers}


# -- our own faults ------------------------------------------------------------------


@NOT_COMPILED
def test_crashed_worker_is_replaced_and_logged(serve, caplog):
    site = serve(hello)
    site.ask()
    server = site.server
    poll, crashes = server.poll, []

    def crash_once(timeout):
        poll(timeout)
        if not crashes:
            crashes.append(threading.current_thread().name)
            raise RuntimeError("a bug of ours")

    server.poll = crash_once
    for _ in range(5):
        assert site.ask().body == b"hello"
    assert len(crashes) == 1
    assert f"{crashes[0]} crashed; another takes its place" in caplog.text
    assert "a bug of ours" in caplog.text
    assert server._crew.threads == 2


@NOT_COMPILED
def test_fault_on_one_channel_closes_that_one_alone(serve, caplog):
    site = serve(hello)
    with site.connect() as one, site.connect() as other:
        one.ask()
        other.ask()
        channel = min(site.server._channels.values(), key=lambda found: found.fd)
        channel.__class__ = type(
            "Broken", (type(channel),), {"__slots__": (), "receive": lambda _: 1 / 0}
        )
        one.send(CPing())
        assert one.is_closed()
        other.send(CPing())
        assert other.receive() == CPong()
    assert "internal error, connection closed" in caplog.text


# -- the log -------------------------------------------------------------------------


def test_remote_cannot_flood_the_log(serve, caplog):
    site = serve(hello)
    for _ in range(GATE_RECORDS + 50):
        with site.connect() as front_end:
            front_end.send_raw(request(uri=b"\x00\x04page\x00"))
            read_to_the_end(front_end.sock)
    lines = [record for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == GATE_RECORDS
    assert "(no more of this kind for" in lines[-1].getMessage()
    # Other kinds are logged as ever.
    with site.connect() as front_end:
        front_end.send_raw(b"GET / HTTP/1.1\r\n\r\n")
        assert front_end.is_closed()
    assert "expected 0x12, found 0x47" in caplog.text


def fail(environ, start_response):
    raise RuntimeError("on purpose")


def too_much(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return [b"hello"]


class BrokenHandler(logging.Handler):
    """Fails as a StreamHandler does where sys.stderr is closed."""

    def emit(self, record):
        raise ValueError("I/O operation on closed file.")


@pytest.fixture
def broken_log():
    handler = BrokenHandler()
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)


def test_log_that_is_broken_stops_no_request(serve, broken_log):
    site = serve(fail, check=False, threads=2, access_log=True)
    for _ in range(6):
        with site.connect() as front_end:
            front_end.send_raw(request(uri=b"\x00\x04page\x00"))
            assert read_to_the_end(front_end.sock) == answer(400)
        assert site.ask().status == 500
        with site.connect() as front_end:
            front_end.send_raw(b"GET / HTTP/1.1\r\n\r\n")
            assert front_end.is_closed()
    wait_until(lambda: not site.server._channels)


@NOT_COMPILED
def test_fault_of_ours_closes_its_channel_though_the_log_is_broken(serve, broken_log):
    site = serve(hello)
    front_end = site.connect()
    front_end.ask()
    (channel,) = site.server._channels.values()
    channel.__class__ = type(
        "Broken", (type(channel),), {"__slots__": (), "receive": lambda _: 1 / 0}
    )
    front_end.send(CPing())
    assert front_end.is_closed()
    assert site.ask().body == b"hello"


@pytest.mark.parametrize(
    ("sent", "application"),
    [
        pytest.param(
            request(uri=b"\x00\x07/a\x85\x9bb\xad\x00"), fail, id="C1 in the URI"
        ),
        pytest.param(request(uri=b"\x00\x05/a\nb\x00\x00"), hello, id="line feed"),
        pytest.param(
            request(attributes=b"\x0a\x00\x04a\nb\x1b\x00\x00\x09x"), hello, id="name"
        ),
        pytest.param(
            request(attributes=b"\x0a\x00\x04a\nb\x1b\x00\x00\x01x\x00"),
            hello,
            id="unknown attribute",
        ),
        pytest.param(
            request(headers=[b"\x00\x03a\nb\x00\x00\x01x\x00"]), hello, id="header name"
        ),
        pytest.param(
            request(method=b"\xff", attributes=b"\x0d\x00\x03a\nb\x00"),
            hello,
            id="method",
        ),
        pytest.param(
            request(method=b"\xff", attributes=b"\x0d\xea\x60" + b"M" * 60_000 + b"\0"),
            fail,
            id="long method",
        ),
        pytest.param(
            request(method=b"\xff", attributes=b"\x0d\xea\x60" + b"M" * 60_000 + b"\0"),
            too_much,
            id="long method, long body",
        ),
    ],
)
def test_nothing_that_comes_in_forges_a_log_line(serve, caplog, sent, application):
    site = serve(application, check=False)
    with socket.create_connection(
        ("127.0.0.1", int(site.address.rpartition(":")[2])), DEADLINE
    ) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        assert read_to_the_end(sock)
    assert caplog.records
    for record in caplog.records:
        message = record.getMessage()
        assert len(message) < 1000
        assert len(message.splitlines()) == 1
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in message)


def test_sequence_of_faults_and_requests_leaves_nothing_owed(serve):
    site = serve(reader, check=False, max_request_body=100)
    with site.connect() as front_end:
        for _ in range(3):
            assert front_end.ask("POST", body=bytes(100)).body == b"100"
        front_end.send(forward("POST", headers=[("Content-Length", "101")]))
        assert refusal(front_end).status == 413
        front_end.send_raw(packet(b"\x00\x65" + bytes(101)))
        assert front_end.is_closed()
    with site.connect() as front_end:
        front_end.send_raw(request(method=b"\x04", headers=[HOST, length(b"101")]))
        assert read_to_the_end(front_end.sock) == answer(413)


def test_refused_request_does_not_wait_for_a_thread(serve, gate):
    site = serve(gate, threads=1, secret="s3cret", max_request_body=10)
    secret = {"attributes": {"secret": "s3cret"}}
    with site.connect() as first, site.connect() as second, site.connect() as third:
        first.send(forward(req_uri="/wait", **secret))
        gate.wait_for()
        second.send(forward())
        assert refusal(second).status == 403
        third.send(forward("POST", headers=[("Content-Length", "11")], **secret))
        assert refusal(third).status == 413
        with site.connect() as fourth:  # the secret is looked at once
            fourth.send(forward(**secret))
            wait_until(lambda: site.server._crew.waiting == 1)
            gate.open.set()
            assert fourth.answer().body == b"hello"
            assert fourth.ask(**secret).body == b"hello"
        assert first.answer().body == b"hello"
