"""Connections: kept alive, half-sent, many, closed by either side, too many."""

import os
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from paste_ajp.engine.poller import EpollPoller, SelectPoller
from paste_ajp.protocol.to_container import CPING, encode_forward_request
from paste_ajp.protocol.to_front_end import CPONG
from tests.engine.conftest import hello, wait_until
from tests.engine.front_end import DEADLINE, FrontEnd, forward

REQUEST = encode_forward_request(forward())
POLLERS = pytest.mark.parametrize(
    "engine", [{}, {"poller": SelectPoller}], ids=["best", "select"]
)


@POLLERS
def test_connection_serves_one_request_after_another(serve, engine):
    with serve(hello, engine=engine).connect() as front_end:
        for _ in range(20):
            assert front_end.ask().body == b"hello"
            front_end.cping()


@POLLERS
def test_packets_may_come_in_any_pieces(serve, engine):
    site = serve(hello, engine=engine)
    data = CPING + REQUEST
    for place in [*range(1, 12), len(data) - 1]:
        with site.connect() as front_end:
            front_end.connection.send(forward())
            front_end.send_raw(data[:place])
            if place >= len(CPING):
                assert front_end.sock.recv(len(CPONG), socket.MSG_WAITALL) == CPONG
            front_end.send_raw(data[place:])
            if place < len(CPING):
                assert front_end.sock.recv(len(CPONG), socket.MSG_WAITALL) == CPONG
            assert front_end.answer().body == b"hello"


@POLLERS
def test_request_sent_ahead_is_served_in_its_turn(serve, engine):
    """No front end does so, and nothing is lost if one does."""
    with serve(hello, engine=engine).connect() as front_end:
        front_end.send_raw(REQUEST + CPING + REQUEST)
        front_end.connection.send(forward())
        assert front_end.answer().status == 200


@POLLERS
def test_500_idle_connections_hold_no_thread_and_slow_nobody(serve, engine):
    count = 400 if engine else 500
    site = serve(hello, threads=2, engine=engine)
    idle = [site.connect() for _ in range(count)]
    for number, front_end in enumerate(idle):
        if number % 2:
            front_end.send_raw(REQUEST[: number % len(REQUEST)])
    with site.connect() as busy:
        busy.ask()
        started = time.perf_counter()
        for _ in range(200):
            assert busy.ask().status == 200
        assert time.perf_counter() - started < 2
    assert site.server._crew.threads <= 3
    idle[0].cping()
    idle[200].cping()


def test_kept_connection_has_no_pauses(serve):
    """40 ms each would be Nagle's algorithm against delayed acknowledgements."""
    with serve(hello).connect() as front_end:
        started = time.perf_counter()
        for _ in range(200):
            front_end.ask()
        assert time.perf_counter() - started < 4


@POLLERS
def test_connection_that_the_front_end_closes_is_forgotten(serve, engine):
    site = serve(hello, engine=engine)
    for sent in (b"", CPING, REQUEST[:5], REQUEST, REQUEST + CPING):
        with site.connect() as front_end:
            front_end.send_raw(sent)
        wait_until(lambda: not site.server._channels)


@POLLERS
@pytest.mark.parametrize("sent", [CPING, REQUEST], ids=["CPing", "request"])
def test_end_that_comes_together_with_the_last_packet_is_seen(serve, engine, sent):
    """Both are one event, and no other follows."""
    site = serve(hello, engine=engine)
    for _ in range(5):
        with site.connect() as front_end:
            front_end.send_raw(sent)
            front_end.sock.shutdown(socket.SHUT_WR)
            received = b""
            while data := front_end.sock.recv(65536):
                received += data
            assert received


def test_bytes_that_are_not_ajp_close_the_connection(serve):
    site = serve(hello)
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x12\x34\x00\x01\x07", b"AB\x00\x01\x09"):
        front_end = site.connect()
        front_end.send_raw(data)
        assert front_end.is_closed()
    assert site.server.stats.broken == 3


def test_malformed_request_is_answered_and_then_closed(serve):
    front_end = serve(hello).connect()
    front_end.connection.send(forward())
    front_end.send_raw(b"\x12\x34\x00\x03\x02\x63\xff")
    assert front_end.answer()[::5] == (400, False)
    assert front_end.is_closed()


def test_overlong_request_is_skipped_and_answered(serve):
    front_end = serve(hello, receive_limit=8192).connect()
    front_end.connection.send(forward())
    front_end.send_raw(b"\x12\x34\xff\xff\x02\x02" + b"x" * 0xFFFD)
    assert front_end.answer()[::5] == (400, False)
    assert front_end.is_closed()


def test_answer_to_a_refused_upload_is_not_lost_in_a_reset(serve):
    site = serve(hello, max_request_body=10)
    for _ in range(20):
        with site.connect() as front_end:
            seen = front_end.ask("POST", body=b"x" * 8000)
            assert (seen.status, seen.reuse) == (413, False)


# -- timeouts --------------------------------------------------------------------


@POLLERS
def test_half_a_packet_is_not_waited_for_for_ever(serve, caplog, engine):
    site = serve(hello, read_timeout=0.2, engine=engine)
    front_end = site.connect()
    front_end.send_raw(REQUEST[:20])
    assert front_end.is_closed()
    assert "an incomplete packet" in caplog.text


@POLLERS
def test_bytes_that_drip_in_do_not_stretch_the_time(serve, engine):
    front_end = serve(hello, read_timeout=0.3, engine=engine).connect()
    front_end.send_raw(b"\x12\x34\xff\x00")
    front_end.sock.settimeout(0.001)
    started = time.monotonic()
    is_open = True
    while is_open:
        assert time.monotonic() - started < 3
        try:
            front_end.send_raw(b"\x02")
            is_open = bool(front_end.sock.recv(1))
        except TimeoutError:
            continue
        except OSError:
            break
    assert time.monotonic() - started > 0.2


def test_byte_that_comes_in_the_last_moment_does_not_stretch_the_time(serve):
    now = [1000.0]
    site = serve(hello, read_timeout=10, engine={"clock": lambda: now[0]})
    front_end = site.connect()
    front_end.send_raw(REQUEST[:5])
    wait_until(lambda: site.server._timers)
    now[0] += 11
    front_end.send_raw(REQUEST[5:6])
    assert front_end.is_closed()


def test_timer_that_finds_its_channel_busy_looks_again(serve):
    now = [1000.0]
    site = serve(hello, keep_alive_timeout=10, engine={"clock": lambda: now[0]})
    front_end = site.connect()
    front_end.cping()
    (channel,) = site.server._channels.values()
    wait_until(lambda: site.server._claim(channel))
    now[0] += 11
    site.server._expire()
    site.server.release(channel)
    now[0] += 1
    site.server.wake()
    assert front_end.is_closed()


@POLLERS
def test_idle_connection_is_closed_after_keep_alive_timeout(serve, engine):
    site = serve(hello, keep_alive_timeout=0.2, engine=engine)
    used, fresh, pinged = site.connect(), site.connect(), site.connect()
    used.ask()
    pinged.cping()
    for front_end in (used, fresh, pinged):
        assert front_end.is_closed()


def test_time_that_a_thread_sets_which_does_not_poll_is_kept(serve):
    """The one that polls waits without end, and has to be woken."""

    def slow(environ, start_response):
        time.sleep(0.3)  # another thread polls, and no timer is left
        return hello(environ, start_response)

    site = serve(slow, keep_alive_timeout=0.2)
    with site.connect() as front_end:
        assert front_end.ask().body == b"hello"
        assert front_end.is_closed()


def test_busy_connection_outlives_keep_alive_timeout(serve):
    with serve(hello, keep_alive_timeout=0.3).connect() as front_end:
        end = time.monotonic() + 0.8
        while time.monotonic() < end:
            assert front_end.ask().status == 200


def test_slow_request_outlives_keep_alive_timeout(serve, gate):
    with serve(gate, keep_alive_timeout=0.1).connect() as front_end:
        front_end.send(forward("GET", "/wait"))
        gate.wait_for()
        time.sleep(0.3)  # three times what an idle connection would get
        gate.open.set()
        assert front_end.answer().status == 200


def test_default_timeout_of_the_process_does_not_reach_the_server(serve):
    """Applications call socket.setdefaulttimeout(), for their own sockets."""
    socket.setdefaulttimeout(5)
    try:
        site = serve(hello, threads=1)
        # A full buffer is read once more, to see that there is nothing left.
        site.connect().send_raw((CPING * 1639)[:8192])
        started = time.monotonic()
        assert site.ask().status == 200
        assert time.monotonic() - started < 2
    finally:
        socket.setdefaulttimeout(None)


# -- too many --------------------------------------------------------------------


@POLLERS
def test_connection_beyond_the_limit_waits_for_another_to_close(serve, engine):
    site = serve(hello, max_connections=2, engine=engine)
    first, second = site.connect(), site.connect()
    first.cping()
    second.cping()
    third, fourth = site.connect(), site.connect()
    third.send_raw(CPING)
    fourth.send_raw(CPING)
    first.cping()
    assert third.is_silent()
    assert fourth.is_silent()
    first.close()
    assert third.sock.recv(5) == CPONG
    third.close()
    assert fourth.sock.recv(5) == CPONG


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="a race between threads")
def test_connection_that_closes_while_accepting_stops_does_not_stop_it_for_good(serve):
    stopping, closing = threading.Event(), threading.Event()

    class SlowPoller(EpollPoller):
        def unwatch_listener(self, fd):
            stopping.set()
            closing.wait(0.2)  # the one who closes may have to wait for us
            super().unwatch_listener(fd)

    site = serve(hello, max_connections=2, engine={"poller": lambda _: SlowPoller()})
    front_ends = [site.connect() for _ in range(3)]
    assert stopping.wait(DEADLINE)
    (channel, *_) = site.server._idle.values()
    site.server._claim(channel)
    channel.close()
    closing.set()
    for front_end in front_ends:
        front_end.close()
    with site.connect() as late:
        late.cping()


class Clock:
    """A clock that can be put forward."""

    def __init__(self):
        self._ahead = 0.0

    def __call__(self):
        return time.monotonic() + self._ahead

    def advance(self, site, seconds):
        self._ahead += seconds
        site.server.wake()


@pytest.fixture
def clock():
    return Clock()


@POLLERS
def test_response_makes_room_where_connections_wait(serve, caplog, engine):
    site = serve(hello, max_connections=1, engine=engine)
    first = site.connect()
    assert first.ask().reuse
    second = site.connect()
    second.send(forward())
    wait_until(lambda: site.server._is_crowded)
    assert not first.ask().reuse
    first.close()
    assert second.answer().reuse  # nobody waits any more
    assert caplog.text.count("all 1 connections are open that max_connections") == 1


@POLLERS
def test_idle_connection_makes_room_where_others_wait(serve, clock, engine):
    site = serve(hello, max_connections=2, engine={**engine, "clock": clock})
    first, second = site.connect(), site.connect()
    first.ask()
    second.ask()
    third = site.connect()
    third.send(forward())
    wait_until(lambda: site.server._timers)
    clock.advance(site, 0.2)
    second.cping()
    assert third.is_silent()
    clock.advance(site, 0.4)
    assert first.is_closed()
    assert third.answer().body == b"hello"
    fourth = site.connect()
    fourth.send(forward())
    wait_until(lambda: site.server._is_crowded)
    clock.advance(site, 0.6)  # found to be idle
    clock.advance(site, 0.6)
    assert second.is_closed()
    assert fourth.answer().body == b"hello"
    assert third.ask().body == b"hello"


def test_connection_that_was_never_used_makes_room_first(serve, gate, clock):
    site = serve(gate, max_connections=4, threads=1, engine={"clock": clock})
    used, partial, busy, unused = (site.connect() for _ in range(4))
    used.ask()
    partial.send_raw(REQUEST[:20])
    wait_until(lambda: site.server._timers)
    busy.send(forward(req_uri="/wait"))
    gate.wait_for()
    with site.connect() as waits:
        waits.send_raw(CPING)
        wait_until(lambda: site.server._is_crowded)
        clock.advance(site, 0.6)
        assert unused.is_closed()
        assert waits.sock.recv(5) == CPONG
        with site.connect() as another:
            another.send_raw(CPING)
            assert used.is_closed()
            assert another.sock.recv(5) == CPONG
            partial.connection.send(forward())
            partial.send_raw(REQUEST[20:])
            gate.open.set()
            assert partial.answer().body == b"hello"
            assert busy.answer().body == b"hello"


def test_server_that_cannot_make_room_does_not_spin(serve, gate):
    site = serve(gate, max_connections=2, threads=2)
    busy = [site.connect(), site.connect()]
    for front_end in busy:
        front_end.send(forward(req_uri="/wait"))
    gate.wait_for(2)
    waits = site.connect()
    waits.send(forward())
    wait_until(lambda: site.server._is_crowded)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1
    gate.open.set()
    answers = [front_end.answer() for front_end in busy]
    assert [seen.reuse for seen in answers].count(False) == 1
    assert waits.answer().body == b"hello"


def test_server_out_of_descriptors_recovers():
    program = """
        import os, resource, socket, sys
        from paste_ajp.engine.threaded import ThreadedServer
        from paste_ajp.settings import Settings

        server = ThreadedServer(lambda *_: [], Settings.parse({"port": 0}))
        server.start()
        host, port = server.addresses[0].split(":")
        open_now = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 10, 4096))
        print(port, flush=True)
        sys.stdin.read()
        server.shutdown()
        server.wait()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        place = ("127.0.0.1", int(process.stdout.readline()))
        first = [socket.create_connection(place, DEADLINE) for _ in range(30)]
        for sock in first:
            sock.sendall(CPING)
        assert first[0].recv(5) == CPONG
        before = Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]
        time.sleep(0.3)  # it must not spin while it cannot accept
        after = Path(f"/proc/{process.pid}/stat").read_text().split()[13:15]
        assert sum(map(int, after)) - sum(map(int, before)) < 15
        first[0].close()
        for sock in first[1:]:
            assert sock.recv(5) == CPONG
            sock.close()
        with socket.create_connection(place, DEADLINE) as sock:
            sock.sendall(CPING)
            assert sock.recv(5) == CPONG
        _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert errors.count(b"no connection can be accepted") == 1


def test_idle_connections_leave_descriptors_to_the_application():
    program = """
        import resource, sys
        from paste_ajp.logs import log_to_stderr
        from paste_ajp.serving import Server
        from paste_ajp.settings import Settings

        def application(environ, start_response):
            files = [open(sys.executable, "rb") for _ in range(5)]
            for file in files:
                file.close()
            start_response("200 OK", [])
            return [b"opened"]

        log_to_stderr()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with Server(application, Settings.parse({"port": 0})) as server:
            print(server.addresses[0], flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        address = process.stdout.readline().strip()
        with FrontEnd(address) as first:
            assert first.ask().body == b"opened"
            host, port = address.split(":")
            others = [socket.create_connection((host, int(port))) for _ in range(80)]
            while (seen := first.ask()).reuse:  # until it makes room
                assert seen.body == b"opened"
            assert seen.body == b"opened"
            for sock in others:
                sock.close()
        _, errors = process.communicate(timeout=DEADLINE)
    assert "at most 40 connections, not max_connections = 16384" in errors
    assert errors.count("all 40 connections are open that the limit of 64") == 1


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="a thread sends each file")
def test_files_that_are_sent_later_leave_descriptors_to_others(tmp_path):
    program = """
        import resource, sys
        from paste_ajp.engine.threaded import ThreadedServer
        from paste_ajp.settings import Settings

        def application(environ, start_response):
            start_response("200 OK", [])
            return environ["wsgi.file_wrapper"](open(sys.argv[1], "rb"))

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        settings = Settings.parse({"port": 0, "threads": 4})
        with ThreadedServer(application, settings) as server:
            print(server.addresses[0], flush=True)
            sys.stdin.read()
    """
    size = 16 << 20
    path = tmp_path / "big"
    path.write_bytes(bytes(size))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        address = process.stdout.readline().strip()

        def open_files():
            found = Path(f"/proc/{process.pid}/fd").iterdir()
            return sum(os.path.realpath(entry) == str(path) for entry in found)

        slow = [FrontEnd(address) for _ in range(20)]
        most = 8 + 4  # an eighth of 64, and what the application has open
        for front_end in slow:
            front_end.send(forward())
        wait_until(lambda: open_files() == most)
        for front_end in slow:
            assert len(front_end.answer().body) == size
            assert open_files() <= most
            front_end.close()
        process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
