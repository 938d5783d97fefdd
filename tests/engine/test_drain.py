"""A server that stops gracefully, seen from connections that are open."""

from __future__ import annotations

import logging

import pytest

from paste_ajp.engine.poller import SelectPoller
from paste_ajp.protocol import CPing
from tests.engine.conftest import hello, wait_until
from tests.engine.front_end import FrontEnd, forward


@pytest.fixture
def draining(serve, gate):
    """A site that drains while a request runs, with two idle connections.

    Gives the site, a connection that has served, and one that has not.
    """
    site = serve(gate)
    used, fresh, busy = site.connect(), site.connect(), site.connect()
    used.ask("GET", "/")
    fresh.cping()  # so that it is accepted
    busy.send(forward("GET", "/wait"))
    gate.wait_for()
    site.server.shutdown(grace_seconds=5)
    yield site, used, fresh
    gate.open.set()


def test_idle_connection_is_served_once_more(draining):
    _, used, _ = draining
    answer = used.ask("GET", "/")
    assert (answer.status, answer.reuse) == (200, False)
    assert used.is_closed()


def test_probe_on_a_used_connection_sends_the_front_end_elsewhere(draining):
    _, used, _ = draining
    used.send(CPing())
    assert used.is_closed()


def test_probe_on_a_new_connection_is_answered_and_its_request_served(draining):
    _, _, fresh = draining
    fresh.cping()
    answer = fresh.ask("GET", "/")
    assert (answer.status, answer.reuse) == (200, False)


def test_new_connections_are_refused(draining):
    site, _, _ = draining
    wait_until(lambda: not site.server.listeners[0].socket.fileno() >= 0)
    with pytest.raises(ConnectionRefusedError):
        FrontEnd(site.address)


class Deaf(SelectPoller):
    """Never tells that somebody connects."""

    def watch_listener(self, fd):
        pass


def test_log_says_where_threads_wait_in_select(serve, caplog):
    caplog.set_level(logging.INFO)
    serve(hello, engine={"poller": SelectPoller})
    assert "neither epoll nor kqueue" in caplog.text


def test_connections_that_wait_to_be_accepted_are_served(serve):
    """More than are accepted in one go."""
    site = serve(hello, engine={"poller": Deaf})
    waiting = [site.connect() for _ in range(100)]
    for front_end in waiting:
        front_end.send(forward("GET", "/"))
    site.server.shutdown()
    assert [front_end.answer().status for front_end in waiting] == [200] * 100
    assert site.server.wait(5)


def test_idle_connections_are_closed_after_the_grace_period(serve):
    site = serve(hello)
    idle = site.connect()
    idle.ask("GET", "/")
    site.server.shutdown(grace_seconds=0.05)
    assert idle.is_closed()
    assert site.server.wait(5)


def test_request_that_has_come_in_part_is_awaited(serve):
    site = serve(hello)
    front_end = site.connect()
    front_end.cping()
    packet = front_end.connection.send(forward("GET", "/"))
    front_end.send_raw(packet[:20])
    site.server.shutdown(grace_seconds=0.05)
    assert not site.server.wait(0.3)
    front_end.send_raw(packet[20:])
    answer = front_end.answer()
    assert (answer.status, answer.reuse) == (200, False)
    assert site.server.wait(5)


def test_what_waits_for_a_thread_in_vain_is_named_in_the_log(serve, gate, caplog):
    site = serve(gate, threads=1, graceful_timeout=0.1)
    first, second = site.connect(), site.connect()
    first.send(forward("GET", "/wait"))
    gate.wait_for()
    second.send(forward("GET", "/queued"))
    wait_until(lambda: site.server._crew.waiting == 1)
    site.server.shutdown()
    assert second.answer().status == 503
    assert site.server.wait(5)
    assert "GET /queued from 127.0.0.1" in caplog.text
    assert "refused with 503: no thread came free for it" in caplog.text


def test_what_is_cut_is_named_in_the_log(serve, gate, caplog):
    site = serve(gate, graceful_timeout=0.1)
    front_end = site.connect()
    front_end.send(forward("GET", "/wait"))
    gate.wait_for()
    site.server.shutdown()
    assert site.server.wait(5)
    assert "GET /wait from 127.0.0.1" in caplog.text
    assert front_end.is_closed()
