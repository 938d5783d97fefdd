"""Pollers: what is readable, for listeners, channels and wake-ups."""

import fcntl
import os
import select
import socket
import threading

import pytest

from paste_ajp.engine import poller as poller_module
from paste_ajp.engine.poller import (
    READABLE,
    EpollPoller,
    KqueuePoller,
    SelectPoller,
    best_poller,
)
from tests.engine.front_end import DEADLINE

KINDS = [SelectPoller]
if hasattr(select, "epoll"):
    KINDS.append(EpollPoller)
if hasattr(select, "kqueue"):
    KINDS.append(KqueuePoller)


@pytest.fixture
def idle():
    return set()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def poller(request, idle):
    made = request.param(idle) if request.param is SelectPoller else request.param()
    yield made
    made.close()


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    with left, right:
        yield left, right


def settle(poller):
    """Take the wake-ups that watching has made."""
    while poller.wait(0):
        poller.clear_waker()


def watch(poller, idle, sock):
    idle.add(sock.fileno())
    poller.watch(sock.fileno())
    settle(poller)


def test_nothing_is_reported_where_nothing_has_come(poller, idle, pair):
    watch(poller, idle, pair[0])
    assert poller.wait(0) == []


def test_bytes_are_reported(poller, idle, pair):
    watch(poller, idle, pair[0])
    pair[1].send(b"x")
    assert poller.wait(DEADLINE) == [(pair[0].fileno(), READABLE)]


def test_end_is_reported(poller, idle, pair):
    watch(poller, idle, pair[0])
    pair[1].close()
    ((descriptor, _),) = poller.wait(DEADLINE)
    assert descriptor == pair[0].fileno()


def test_channel_that_is_owned_is_reported_again_when_it_is_idle(poller, idle, pair):
    left, right = pair
    watch(poller, idle, left)
    right.send(b"x")
    poller.wait(DEADLINE)
    idle.discard(left.fileno())
    assert left.recv(10) == b"x"
    idle.add(left.fileno())
    poller.rearm(left.fileno())
    settle(poller)
    right.send(b"y")
    assert [fd for fd, _ in poller.wait(DEADLINE)] == [left.fileno()]


def test_listener_is_reported_until_it_is_unwatched(poller):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        poller.watch_listener(listener.fileno())
        with socket.create_connection(listener.getsockname()):
            poller.wait(DEADLINE)
            settled = [fd for fd, _ in poller.wait(0)]
            assert listener.fileno() in settled
            poller.clear_waker()
            poller.unwatch_listener(listener.fileno())
            poller.unwatch_listener(listener.fileno())
            assert poller.wait(0) == []


def test_thread_that_waits_is_woken(poller):
    settled = []
    thread = threading.Thread(target=lambda: settled.append(poller.wait(DEADLINE)))
    thread.start()
    poller.wake()
    thread.join(DEADLINE)
    assert [fd for fd, _ in settled[0]] == [poller.waker_fd]


def test_wake_stays_until_it_is_cleared(poller):
    poller.wake()
    assert [fd for fd, _ in poller.wait(0)] == [poller.waker_fd]
    assert [fd for fd, _ in poller.wait(0)] == [poller.waker_fd]
    poller.clear_waker()
    assert poller.wait(0) == []


def test_any_number_of_wakes_is_one(poller):
    for _ in range(5000):
        poller.wake()
    for _ in range(10):
        poller.clear_waker()
    assert poller.wait(0) == []


def test_wake_of_a_closed_poller_is_nothing(poller):
    poller.close()
    poller.wake()
    poller.clear_waker()


def test_descriptor_closed_meanwhile_does_not_end_the_wait(idle, pair):
    poller = SelectPoller(idle)
    left, right = pair
    watch(poller, idle, left)
    gone = socket.socket()
    idle.add(gone.fileno())
    gone.close()
    right.send(b"x")
    assert poller.wait(DEADLINE) == []
    idle.intersection_update({left.fileno()})
    assert [fd for fd, _ in poller.wait(DEADLINE)] == [left.fileno()]
    poller.close()


def test_descriptor_that_select_cannot_take_is_refused(pair, idle):
    try:
        high = fcntl.fcntl(pair[0].fileno(), fcntl.F_DUPFD, 2000)
    except OSError:
        pytest.skip("so many descriptors are not allowed here")
    poller = SelectPoller(idle)
    try:
        with pytest.raises(OSError, match=f"descriptor {high}: "):
            poller.watch(high)
    finally:
        os.close(high)
        poller.close()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll here")
def test_end_that_comes_with_bytes_is_told_apart(idle, pair):
    poller = EpollPoller()
    watch(poller, idle, pair[0])
    pair[1].send(b"x")
    pair[1].shutdown(socket.SHUT_WR)
    ((_, event),) = poller.wait(DEADLINE)
    assert event != READABLE
    poller.close()


@pytest.mark.parametrize(
    ("missing", "kind"),
    [((), "EpollPoller"), (("epoll",), "KqueuePoller"), (("epoll", "kqueue"), None)],
)
def test_best_of_what_the_system_has_is_taken(monkeypatch, missing, kind):
    class Select:
        epoll = kqueue = select = None

    for name in missing:
        monkeypatch.delattr(Select, name)
    monkeypatch.setattr(poller_module, "select", Select)
    for name in ("EpollPoller", "KqueuePoller"):
        monkeypatch.setattr(poller_module, name, lambda name=name: name)
    monkeypatch.setattr(poller_module, "SelectPoller", lambda idle: None)
    assert best_poller(set()) == kind
