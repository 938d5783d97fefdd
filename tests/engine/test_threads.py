"""All threads busy, requests that wait, requests that take too long."""

import threading
import time

import pytest

from paste_ajp.protocol import BodyChunk
from tests.engine.conftest import hello, server_threads, wait_until
from tests.engine.front_end import DEADLINE, forward
from tests.engine.test_connections import POLLERS, REQUEST
from tests.engine.test_exchanges import CHUNKED, TEXT, length


def block(site, gate, count):
    """Have so many requests inside the application."""
    front_ends = [site.connect() for _ in range(count)]
    for front_end in front_ends:
        front_end.send(forward("GET", "/wait"))
        gate.wait_for()
    return front_ends


@POLLERS
@pytest.mark.parametrize("threads", [1, 3])
def test_cping_is_answered_while_all_threads_are_busy(serve, gate, threads, engine):
    site = serve(gate, threads=threads, engine=engine)
    known = site.connect()
    known.cping()
    blocked = block(site, gate, threads)
    known.cping()
    site.connect().cping()
    waiting = site.connect()
    waiting.send(forward())
    wait_until(lambda: site.server._crew.waiting == 1)
    known.cping()
    assert len(server_threads()) == threads + 1
    gate.open.set()
    for front_end in [*blocked, waiting]:
        assert front_end.answer().body == b"hello"


@POLLERS
def test_request_beside_one_that_waits_is_served(serve, gate, engine):
    site = serve(gate, threads=2, engine=engine)
    (blocked,) = block(site, gate, 1)
    with site.connect() as front_end:
        for _ in range(50):
            assert front_end.ask().status == 200
    gate.open.set()
    assert blocked.answer().status == 200


@POLLERS
def test_half_sent_packets_and_bodies_hold_no_thread(serve, gate, engine):
    site = serve(gate, threads=1, engine=engine)
    for size in range(1, 20):
        site.connect().send_raw(REQUEST[:size])
    for _ in range(5):
        assert site.ask().status == 200


def test_upload_that_is_not_read_holds_no_thread(serve):
    """httpd sends the first chunk when the remote does."""
    site = serve(hello, threads=1)
    front_end = site.connect()
    front_end.send(forward("POST", headers=[length(5)]))
    assert front_end.connection.owed == 1
    assert site.ask().status == 200
    front_end.send(BodyChunk(b"hello"))
    assert front_end.answer().status == 200


def test_waiting_requests_are_served_first_come_first_served(serve, gate):
    order = []

    def application(environ, start_response):
        order.append(environ["PATH_INFO"])
        return gate(environ, start_response)

    site = serve(application, threads=1)
    (blocked,) = block(site, gate, 1)
    waiting = []
    for number in range(5):
        waiting.append(site.connect())
        waiting[-1].send(forward("GET", f"/{number}"))
        wait_until(lambda: site.server._crew.waiting == len(waiting))
    gate.open.set()
    for front_end in [blocked, *waiting]:
        front_end.answer()
    assert order == ["/wait", "/0", "/1", "/2", "/3", "/4"]


@POLLERS
def test_request_that_waits_too_long_is_answered_503(serve, gate, engine, caplog):
    site = serve(gate, threads=1, queue_timeout=0.2, engine=engine)
    (blocked,) = block(site, gate, 1)
    with site.connect() as front_end:
        seen = front_end.ask()
        assert (seen.status, seen.reuse) == (503, False)
        assert seen.header("Retry-After") == "1"
        assert front_end.is_closed()
    assert site.ask("HEAD").pieces == []
    assert "all 1 threads were busy for queue_timeout = 0.2 s" in caplog.text
    gate.open.set()
    assert blocked.answer().status == 200
    assert site.ask().status == 200
    assert site.server.stats.timed_out == 2


def test_front_end_that_leaves_while_it_waits_does_no_harm(serve, gate):
    site = serve(gate, threads=1)
    (blocked,) = block(site, gate, 1)
    with site.connect() as front_end:
        front_end.send(forward())
        wait_until(lambda: site.server._crew.waiting == 1)
    gate.open.set()
    assert blocked.answer().status == 200
    assert site.ask().status == 200


def test_threads_come_as_needed_and_go(serve, gate):
    site = serve(gate, threads=6, max_spare=1)
    assert len(server_threads()) == 2
    blocked = block(site, gate, 6)
    assert len(server_threads()) == 7
    gate.open.set()
    for front_end in blocked:
        front_end.answer()
    wait_until(lambda: len(server_threads()) <= 3)
    assert site.ask().status == 200


def test_spare_threads_are_there_beforehand(serve):
    serve(hello, threads=6, min_spare=4)
    assert len(server_threads()) == 5


# -- application_timeout ---------------------------------------------------------


def test_request_that_takes_too_long_is_reported_with_its_stack(serve, gate, caplog):
    site = serve(gate, threads=1, application_timeout=0.1)
    (blocked,) = block(site, gate, 1)
    wait_until(lambda: "application_timeout is 0.1 s" in caplog.text)
    gate.open.set()
    assert blocked.answer().status == 200
    assert "self.open.wait(DEADLINE)" in caplog.text
    assert caplog.text.count("application_timeout is") == 1


ANSWER = {"application_timeout": 0.1, "application_timeout_action": "answer"}


@pytest.mark.parametrize("threads", [1, 2])
def test_request_that_takes_too_long_can_be_answered(serve, gate, threads):
    site = serve(gate, threads=threads, **ANSWER)
    (blocked,) = block(site, gate, 1)
    seen = blocked.answer()
    assert (seen.status, seen.reuse) == (504, False)
    gate.open.set()
    assert blocked.is_closed()
    assert site.ask().body == b"hello"


def test_request_that_took_its_upload_before_can_be_answered(serve, gate):
    def application(environ, start_response):
        environ["wsgi.input"].read()
        return gate(environ, start_response)

    site = serve(application, **ANSWER)
    with site.connect() as front_end:
        assert front_end.ask("POST", "/wait", body=b"x" * 20000).status == 504
        gate.open.set()
        assert front_end.is_closed()


def test_upload_is_not_asked_for_when_another_has_answered(serve, gate):
    caught = []

    def application(environ, start_response):
        gate.entered.release()
        assert gate.open.wait(DEADLINE)
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            caught.append(str(error))
            raise

    site = serve(application, **ANSWER)
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=[CHUNKED]))
        assert front_end.answer().status == 504
        gate.open.set()
        assert front_end.is_closed()
    wait_until(lambda: caught)
    assert caught == ["application_timeout has answered already"]


def test_response_that_has_begun_is_not_answered_for(serve, gate, caplog):
    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        yield b"one"
        assert gate.open.wait(DEADLINE)
        yield b"two"

    site = serve(application, **ANSWER)
    with site.connect() as front_end:
        front_end.send(forward())
        wait_until(lambda: "application_timeout is" in caplog.text)
        gate.open.set()
        assert front_end.answer()[::3] == (200, b"onetwo")


def test_every_request_has_its_own_time(serve):
    site = serve(hello, application_timeout=0.2, application_timeout_action="answer")
    end = time.monotonic() + 0.6
    with site.connect() as front_end:
        while time.monotonic() < end:
            assert front_end.ask().status == 200


def test_threads_are_named_by_their_work(serve, gate):
    names = []

    def application(environ, start_response):
        names.append(threading.current_thread().name)
        return hello(environ, start_response)

    serve(application).ask()
    assert names[0].startswith("paste_ajp-worker-")
