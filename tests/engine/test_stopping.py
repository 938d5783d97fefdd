"""Stops: running requests end, idle connections go, and nothing is left behind."""

import threading
import time

import pytest

from paste_ajp.engine.poller import SelectPoller
from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.protocol.to_container import CPING
from paste_ajp.settings import Settings
from tests.engine.conftest import hello, server_threads, wait_until
from tests.engine.front_end import DEADLINE, FrontEnd, forward
from tests.engine.test_connections import POLLERS, REQUEST
from tests.engine.test_exchanges import TEXT, length
from tests.engine.test_threads import block


@POLLERS
def test_running_request_ends_and_its_connection_with_it(serve, gate, engine):
    site = serve(gate, engine=engine)
    (running,) = block(site, gate, 1)
    idle = site.connect()
    idle.ask()
    site.server.shutdown()
    assert idle.is_closed()
    assert not site.server.wait(0)
    gate.open.set()
    assert running.answer()[3::2] == (b"hello", False)
    assert running.is_closed()
    running.close()
    assert site.server.wait(DEADLINE)
    assert server_threads() == []


def test_connections_are_refused_as_soon_as_it_stops(serve, gate):
    site = serve(gate)
    block(site, gate, 1)
    site.server.shutdown()
    with pytest.raises(ConnectionRefusedError):
        site.connect()


def test_successor_may_listen_while_requests_end(serve, gate):
    site = serve(gate)
    block(site, gate, 1)
    site.server.shutdown()
    port = site.address.rpartition(":")[2]
    successor = serve(hello, port=port)
    assert successor.address == site.address
    assert successor.ask().body == b"hello"


def test_server_restarts_on_its_port_again_and_again(serve):
    port = 0
    for _ in range(3):
        site = serve(hello, port=port)
        port = site.address.rpartition(":")[2]
        kept = site.connect()
        kept.ask()
        site.ask()
        site.stop()
        assert kept.is_closed()


def test_request_on_its_way_when_it_stops_is_served(serve):
    site = serve(hello)
    front_end = site.connect()
    front_end.ask()
    site.server.shutdown()
    assert front_end.ask()[3::2] == (b"hello", False)


def test_connection_that_waits_to_be_accepted_is_served(serve, gate):
    site = serve(hello)
    site.server._pause_accepting()
    front_end = site.connect()
    front_end.send(forward())
    site.server.shutdown()
    assert front_end.answer().body == b"hello"


def test_cping_is_not_answered_while_it_stops(serve, gate):
    """The front end then asks another container, and has lost nothing."""
    site = serve(gate)
    block(site, gate, 1)
    front_end = site.connect()
    front_end.ask()  # one that has not served yet does get an answer
    site.server.shutdown()
    front_end.send_raw(CPING)
    assert front_end.is_closed()


@POLLERS
def test_idle_and_half_sent_connections_do_not_hold_it_up(serve, engine):
    site = serve(hello, read_timeout=0.5, graceful_timeout=20, engine=engine)
    for number in range(100):
        site.connect().send_raw(REQUEST[: number % 5])
    wait_until(lambda: len(site.server._channels) == 100)
    started = time.monotonic()
    site.stop()
    assert time.monotonic() - started < 3


# -- cut off ---------------------------------------------------------------------


def test_request_that_does_not_end_is_cut_off_and_logged(serve, gate, caplog):
    site = serve(gate, graceful_timeout=0.2)
    (running,) = block(site, gate, 1)
    started = time.monotonic()
    site.server.shutdown()
    with pytest.raises(EOFError):
        running.answer()
    assert site.server.wait(DEADLINE)
    assert 0.2 <= time.monotonic() - started < 3
    assert "within graceful_timeout = 0.2 s: GET /wait from 127.0.0.1" in caplog.text
    gate.open.set()
    wait_until(lambda: server_threads() == [])


def test_second_stop_is_immediate(serve, gate):
    site = serve(gate, graceful_timeout=60)
    (running,) = block(site, gate, 1)
    started = time.monotonic()
    site.server.shutdown()
    site.server.shutdown(graceful=False)
    assert site.server.wait(DEADLINE)
    assert time.monotonic() - started < 3
    with pytest.raises((EOFError, ConnectionResetError)):
        running.answer()


def test_log_of_a_stop_at_once_speaks_of_no_time(serve, gate, caplog):
    site = serve(gate, threads=1, graceful_timeout=60)
    block(site, gate, 1)
    waiting = site.connect()
    waiting.send(forward())
    wait_until(lambda: site.server._crew.waiting == 1)
    site.server.shutdown(graceful=False)
    assert site.server.wait(DEADLINE)
    assert "cut off, as the server stops at once: GET /wait from" in caplog.text
    assert "refused with 503: no thread is free, and the server stops" in caplog.text
    assert "graceful_timeout" not in caplog.text


def endless(environ, start_response):
    start_response("200 OK", [TEXT])
    while True:
        yield b"x" * 100000


def reading(environ, start_response):
    environ["wsgi.input"].read()
    return hello(environ, start_response)


@pytest.mark.parametrize("application", [endless, reading])
def test_thread_that_waits_for_the_front_end_ends_at_once(serve, application):
    site = serve(application, check=False, graceful_timeout=0)
    front_end = site.connect()
    front_end.send(forward("POST", headers=[length(9)]))
    wait_until(lambda: site.server._crew.busy_workers())
    wait_until(lambda: site.server._crew.full or site.server._crew._detached)
    started = time.monotonic()
    site.stop()
    assert time.monotonic() - started < 0.9  # for which it waits for threads
    assert server_threads() == []


def test_request_that_waits_for_a_thread_is_answered_when_it_is_cut_off(serve, gate):
    site = serve(gate, threads=1, graceful_timeout=0.2)
    block(site, gate, 1)
    waiting = site.connect()
    waiting.send(forward())
    wait_until(lambda: site.server._crew.waiting == 1)
    site.server.shutdown()
    seen = waiting.answer()
    assert (seen.status, seen.reuse) == (503, False)


def test_slow_close_of_a_result_does_not_hold_up_the_stop(serve, gate):
    """Its End Response has gone out before, and says that the connection stays."""

    class Result(list):
        def close(self):
            gate.entered.release()
            assert gate.open.wait(DEADLINE)

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return Result([b"hello"])

    site = serve(application, graceful_timeout=60)
    front_end = site.connect()
    assert front_end.ask().reuse is True
    gate.wait_for()
    site.server.shutdown()
    wait_until(lambda: site.server.closing_idle)
    gate.open.set()
    assert site.server.wait(DEADLINE)
    assert front_end.is_closed()


# -- life cycle ------------------------------------------------------------------


def test_application_may_stop_its_server(serve):
    def application(environ, start_response):
        site.server.shutdown()
        return hello(environ, start_response)

    site = serve(application)
    assert site.ask()[::5] == (200, False)
    assert site.server.wait(DEADLINE)


def test_server_that_never_started_can_be_stopped():
    server = ThreadedServer(hello, Settings.parse({"port": 0}))
    server.bind()
    address = server.addresses[0]
    server.shutdown()
    assert server.wait(0)
    with pytest.raises(ConnectionRefusedError):
        FrontEnd(address)


def test_stop_of_a_server_that_has_stopped_does_nothing(serve):
    site = serve(hello)
    site.stop()
    site.stop(graceful=False)


def test_server_serves_for_as_long_as_its_context():
    with (
        ThreadedServer(hello, Settings.parse({"port": 0})) as server,
        FrontEnd(server.addresses[0]) as front_end,
    ):
        assert front_end.ask().body == b"hello"
    assert server.wait(0)
    assert server_threads() == []


def test_server_starts_once_and_with_an_application(serve):
    site = serve(hello)
    with pytest.raises(RuntimeError, match="a server starts once"):
        site.server.start()
    with pytest.raises(RuntimeError, match="no application to serve"):
        ThreadedServer(None, Settings()).start()


def test_several_servers_live_in_one_process(serve):
    def named(name):
        def application(environ, start_response):
            start_response("200 OK", [TEXT])
            return [name]

        return application

    sites = [serve(named(b"%d" % n), engine={}) for n in range(3)]
    sites.append(serve(named(b"3"), engine={"poller": SelectPoller}))
    for number, site in enumerate(sites):
        assert site.ask().body == b"%d" % number
    sites[0].stop()
    assert sites[1].ask().body == b"1"


def test_stop_under_load_loses_no_answer(serve):
    """Each request is answered in whole or was never taken."""
    site = serve(hello, threads=4)
    problems = []
    answered = threading.Semaphore(0)

    def client():
        with site.connect() as front_end:
            reuse = True
            while reuse:
                try:
                    seen = front_end.ask()
                except (EOFError, ConnectionError):
                    problems.append("a request was lost")
                    return
                answered.release()
                reuse = seen.reuse
                if seen.body != b"hello":
                    problems.append(seen)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    for _ in range(200):
        assert answered.acquire(timeout=DEADLINE)
    site.stop()
    for thread in clients:
        thread.join(DEADLINE)
    assert problems == []
