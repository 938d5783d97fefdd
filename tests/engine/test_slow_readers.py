"""Front ends that take a response slowly: no thread waits for them."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import socket
import time
from contextlib import suppress

import pytest

from paste_ajp.engine import channel as channel_module
from paste_ajp.engine.channel import Phase
from paste_ajp.engine.outgoing import FILE_HELD, Outgoing
from paste_ajp.engine.poller import SelectPoller
from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.protocol import SendHeaders
from tests.engine.conftest import NOT_COMPILED, open_descriptors, wait_until
from tests.engine.front_end import forward

#: More than the buffers of two sockets take.
SIZE = 16 << 20
BODY = os.urandom(1 << 16) * (SIZE >> 16)
BODIES = ["/list", "/file"]

pytestmark = pytest.mark.skipif(
    not (hasattr(socket.socket, "sendmsg") and hasattr(select, "epoll")),
    reason="where the poller does not tell of it, a thread waits",
)


@pytest.fixture
def big(tmp_path):
    """An application whose file is gone and closed when its call is over."""
    path = tmp_path / "big"

    def application(environ, start_response):
        if environ["REQUEST_METHOD"] == "POST":
            environ["wsgi.input"].read()
        uri = environ["PATH_INFO"]
        if uri in BODIES:
            start_response("200 OK", [("Content-Length", str(SIZE))])
        else:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]
        if uri == "/list":
            return [BODY]
        path.write_bytes(BODY)
        file = path.open("rb")
        if environ["QUERY_STRING"] != "keep":
            path.unlink()
        return environ["wsgi.file_wrapper"](file)

    application.path = path
    return application


def begin(site, uri, **more):
    """Ask for a large response, and take none of it; return when no thread has it."""
    front_end = site.connect()
    before = sending(site)
    front_end.send(forward("GET", uri, **more))
    wait_until(lambda: len(sending(site)) > len(before))
    return front_end


def sending(site):
    return [
        channel
        for channel in list(site.server._channels.values())
        if channel.phase is Phase.SENDING
    ]


@pytest.mark.parametrize("uri", BODIES)
@pytest.mark.parametrize("packet_size", [8192, 65536])
def test_slow_front_end_holds_no_thread_and_gets_all(serve, big, uri, packet_size):
    site = serve(big, check=False, threads=1, packet_size=packet_size)
    slow = begin(site, uri)
    assert site.ask().body == b"hello"
    found = slow.answer()
    assert found.body == BODY
    assert found.reuse is True
    assert slow.ask().body == b"hello"
    assert site.server._unsent == 0


@pytest.mark.parametrize("uri", BODIES)
def test_response_after_an_upload_goes_out_without_a_thread(serve, big, uri):
    site = serve(big, check=False, threads=1)
    with site.connect() as front_end:
        found = front_end.ask("POST", uri, body=b"x" * 50000)
        assert found.body == BODY
        assert front_end.ask(body=b"x" * 50000).body == b"hello"


@pytest.mark.parametrize("uri", BODIES)
def test_front_end_that_leaves_costs_nothing(serve, big, uri, caplog):
    caplog.set_level(logging.INFO)
    site = serve(big, check=False, threads=1)
    site.ask()
    before = len(open_descriptors())
    begin(site, uri).close()
    wait_until(lambda: not site.server._channels)
    assert f"GET {uri}: the front end is gone" in caplog.text
    assert site.server._unsent == 0
    assert len(open_descriptors()) <= before


@pytest.mark.parametrize("uri", BODIES)
def test_front_end_that_takes_no_more_is_given_up(serve, big, uri, caplog):
    caplog.set_level(logging.INFO)
    site = serve(big, check=False, threads=1, write_timeout=0.2)
    begin(site, uri)
    wait_until(lambda: not site.server._channels)
    assert (
        f"GET {uri}: the front end took no data for write_timeout = 0.2 s"
        in caplog.text
    )


def test_bytes_that_come_do_not_put_the_giving_up_off(serve, big, caplog):
    caplog.set_level(logging.INFO)
    now = [1000.0]
    site = serve(big, check=False, threads=1, engine={"clock": lambda: now[0]})
    slow = begin(site, "/list")
    (channel,) = site.server._channels.values()
    wait_until(lambda: channel.deadline and channel.fd in site.server._idle)
    while site.server._channels:
        due = channel.deadline
        now[0] = due + 1  # whoever looks at the timers finds that the channel is taken
        slow.send_raw(b"\x12")
        # Sockets may take a little more, each time less.
        wait_until(lambda due=due: channel.deadline != due or not site.server._channels)
    assert "GET /list: the front end took no data for write_timeout" in caplog.text


@NOT_COMPILED
def test_fast_front_end_does_not_keep_others_from_being_polled(serve, big, monkeypatch):
    calls = []

    def noted(mark, method):
        return lambda *arguments: calls.append(mark) or method(*arguments)

    monkeypatch.setattr(channel_module, "SENDING_TURN", 1)
    monkeypatch.setattr(Outgoing, "send", noted("s", Outgoing.send))
    monkeypatch.setattr(ThreadedServer, "poll", noted(" ", ThreadedServer.poll))
    site = serve(big, check=False, threads=1)
    assert site.ask("GET", "/file").body == BODY
    turns = [len(turn) for turn in "".join(calls).split()]
    assert sum(turns) >= SIZE // FILE_HELD
    # Two in a row where the call ends, more if another thread polls meanwhile.
    assert max(turns) < sum(turns) // 2


def test_file_that_is_cut_short_meanwhile_breaks_the_response_off(serve, big, caplog):
    site = serve(big, check=False, threads=1)
    slow = begin(site, "/file", attributes={"query_string": "keep"})
    os.truncate(big.path, SIZE // 2)
    assert isinstance(slow.receive(), SendHeaders)
    with pytest.raises(EOFError):
        slow.answer()
    assert (
        f"GET /file: its response is cut off: the file ended after {SIZE // 2} of"
        f" {SIZE} bytes" in caplog.text
    )


def test_file_that_cannot_be_read_any_more_breaks_the_response_off(
    serve, big, caplog, monkeypatch
):
    site = serve(big, check=False, threads=1)
    slow = begin(site, "/file")

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(EOFError):
        slow.answer()
    assert re.search(
        "GET /file: its response is cut off: the file cannot be read from byte [0-9]+"
        " on: Input/output error",
        caplog.text,
    )


def test_beyond_max_unsent_a_thread_waits(serve, big):
    site = serve(big, check=False, threads=2, max_unsent=SIZE + SIZE // 2)
    first = begin(site, "/list")
    second = site.connect()
    second.send(forward("GET", "/list"))
    wait_until(lambda: len(site.server._crew.busy_workers()) == 1)
    assert site.ask().body == b"hello"
    assert len(sending(site)) == 1
    assert first.answer().body == second.answer().body == BODY


@pytest.mark.parametrize("uri", BODIES)
@pytest.mark.parametrize(
    ("settings", "engine"),
    [({"max_unsent": 0}, {}), ({}, {"poller": SelectPoller})],
    ids=["max_unsent = 0", "select"],
)
def test_where_nothing_may_be_sent_later_a_thread_waits(
    serve, big, uri, settings, engine
):
    site = serve(big, check=False, threads=1, engine=engine, **settings)
    with site.connect() as slow, site.connect() as other:
        slow.send(forward("GET", uri))
        wait_until(lambda: site.server._crew.full)
        other.send(forward())
        wait_until(lambda: site.server._crew.waiting == 1)
        assert sending(site) == []
        assert slow.answer().body == BODY
        assert other.answer().body == b"hello"
        assert slow.ask().body == b"hello"


def access_lines(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "paste_ajp.access"
    ]


def logged(caplog):
    """Wait for the one line in the access log; return its bytes and its seconds."""
    wait_until(lambda: access_lines(caplog))
    (line,) = access_lines(caplog)
    found = re.search(r'" 200 ([0-9]+) "-" "-" ([0-9.]+)$', line)
    return int(found[1]), float(found[2])


@pytest.mark.parametrize("uri", BODIES)
def test_access_is_logged_when_all_is_sent_with_the_whole_time(
    serve, big, uri, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    site = serve(big, check=False, threads=1, access_log=True)
    slow = begin(site, uri)
    now[0] = 90.0
    assert access_lines(caplog) == []
    assert slow.answer().body == BODY
    assert logged(caplog) == (SIZE, 90.0)


def read_some(front_end, size=1 << 20):
    """Take a part of a response, and leave; return what came of the body."""
    head = front_end.receive()
    assert isinstance(head, SendHeaders)
    got = 0
    while got < size:
        got += len(front_end.receive().data)
    front_end.close()
    return got


@pytest.mark.parametrize("uri", BODIES)
@pytest.mark.parametrize(
    ("threads", "settings", "engine"),
    [
        pytest.param(1, {}, {}, id="later"),
        pytest.param(2, {"max_unsent": 0}, {}, id="by a thread"),
        pytest.param(2, {}, {"poller": SelectPoller}, id="select"),
    ],
)
def test_access_log_has_the_bytes_that_went_out_where_the_front_end_leaves(
    serve, big, uri, caplog, threads, settings, engine
):
    caplog.set_level(logging.INFO)
    site = serve(
        big, check=False, threads=threads, access_log=True, engine=engine, **settings
    )
    slow = site.connect()
    slow.send(forward("GET", uri))
    got = read_some(slow)
    body_bytes, _ = logged(caplog)
    assert got <= body_bytes < SIZE
    wait_until(lambda: not site.server._channels)
    assert site.server._unsent == 0


def test_access_log_has_the_bytes_that_went_out_until_write_timeout(serve, big, caplog):
    caplog.set_level(logging.INFO)
    site = serve(big, check=False, threads=1, access_log=True, write_timeout=0.2)
    slow = begin(site, "/list")
    body_bytes, _ = logged(caplog)
    assert isinstance(slow.receive(), SendHeaders)
    got = 0
    with suppress(EOFError):
        while True:
            got += len(slow.receive().data)
    # The last packet came in part.
    assert got <= body_bytes < got + 8184


@pytest.mark.parametrize("graceful", [True, False])
def test_access_log_has_the_bytes_that_went_out_until_the_stop(
    serve, big, caplog, graceful
):
    caplog.set_level(logging.INFO)
    site = serve(big, check=False, threads=1, access_log=True, graceful_timeout=0.2)
    begin(site, "/file")
    site.stop(graceful)
    body_bytes, _ = logged(caplog)
    assert 0 < body_bytes < SIZE


def test_access_log_has_the_bytes_of_a_file_that_is_cut_short(serve, big, caplog):
    caplog.set_level(logging.INFO)
    site = serve(big, check=False, threads=1, access_log=True)
    slow = begin(site, "/file", attributes={"query_string": "keep"})
    os.truncate(big.path, SIZE // 2)
    assert isinstance(slow.receive(), SendHeaders)
    with pytest.raises(EOFError):
        slow.answer()
    assert logged(caplog)[0] == SIZE // 2


@pytest.mark.parametrize("uri", BODIES)
def test_stop_waits_for_the_rest(serve, big, uri):
    site = serve(big, check=False, threads=1)
    slow = begin(site, uri)
    site.server.shutdown(grace_seconds=0)
    assert not site.server.wait(0.1)
    assert slow.answer().body == BODY
    assert slow.is_closed()
    assert site.server.wait(5)


def test_stop_at_once_says_what_it_cuts_off(serve, big, caplog):
    site = serve(big, check=False, threads=1)
    slow = begin(site, "/list")
    site.stop(graceful=False)
    assert "cut off, as the server stops at once: GET /list from " in caplog.text
    with pytest.raises((EOFError, ConnectionResetError)):
        slow.answer()


def test_many_slow_front_ends_and_quick_ones_at_a_time(serve, big):
    site = serve(big, check=False, threads=2, max_unsent="1G")
    slow = [begin(site, uri) for uri in BODIES * 4]
    for _ in range(20):
        assert site.ask().body == b"hello"
    for front_end in slow:
        assert front_end.answer().body == BODY
        assert front_end.ask().body == b"hello"
