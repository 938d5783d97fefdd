"""What a service manager, and a predecessor, say by the environment."""

from __future__ import annotations

import errno
import json
import os

import pytest

from paste_ajp.engine.notify import Notifier, descriptors_from_environment
from paste_ajp.engine.upgrade import VARIABLE, Inheritance

ME = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, []),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "many"}, []),
        ({"LISTEN_PID": ME}, []),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "0"}, []),
    ],
    ids=["nothing", "another's", "no number", "no count", "none"],
)
def test_no_sockets_for_us(environ, found):
    assert descriptors_from_environment(environ) == found


def test_sockets_of_another_process_stay_for_it():
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "2"}
    descriptors_from_environment(environ)
    assert environ == {"LISTEN_PID": "1", "LISTEN_FDS": "2"}


def test_sockets_for_us_are_counted_from_three(monkeypatch):
    kept = []
    monkeypatch.setattr(os, "set_inheritable", lambda fd, on: kept.append((fd, on)))
    environ = {
        "LISTEN_PID": ME,
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "a:b",
        "HOME": "/",
    }
    assert descriptors_from_environment(environ) == [3, 4]
    assert environ == {"HOME": "/"}
    assert kept == [(3, False), (4, False)]


def test_sockets_that_are_closed_are_left_to_who_opens_them(monkeypatch):
    def set_inheritable(descriptor, on):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "set_inheritable", set_inheritable)
    environ = {"LISTEN_PID": ME, "LISTEN_FDS": "1"}
    assert descriptors_from_environment(environ) == [3]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "3000000"}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": ME}, 3),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
    ],
    ids=["none", "for all", "for us", "for another", "no number"],
)
def test_watchdog(environ, seconds):
    environ["NOTIFY_SOCKET"] = "/run/notify"
    notifier = Notifier.from_environment(environ)
    assert notifier.watchdog_seconds == seconds
    assert environ == {}


def test_watchdog_without_a_socket_is_none():
    assert Notifier.from_environment({"WATCHDOG_USEC": "1"}).watchdog_seconds == 0


def test_manager_that_is_not_there_is_no_trouble():
    Notifier("").ready()
    Notifier("/nowhere/notify").ready()


def test_successor_learns_of_the_manager():
    environ = {"NOTIFY_SOCKET": "@abstract", "WATCHDOG_USEC": "2500000"}
    notifier = Notifier.from_environment(dict(environ))
    assert notifier.environment() == environ
    notifier.successor(1)
    assert notifier.environment() == {}


# -- a predecessor ----------------------------------------------------------------


def left(**changes):
    found = {"parent": os.getppid(), "pipe": 90, "sockets": [["*:1", 91], ["*:1", 92]]}
    return {VARIABLE: json.dumps({**found, **changes})}


@pytest.fixture(autouse=True)
def _kept(monkeypatch):
    monkeypatch.setattr(os, "set_inheritable", lambda fd, on: None)


def test_sockets_are_inherited_by_address():
    environ = left()
    inheritance = Inheritance.from_environment(environ)
    assert inheritance.take("*:2") == []
    assert inheritance.take("*:1") == [91, 92]
    assert inheritance.take("*:1") == []
    assert environ == {}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        left(parent=1 if os.getppid() != 1 else 2),
        {VARIABLE: "rubbish"},
        {VARIABLE: "[]"},
        left(sockets=[["*:1"]]),
    ],
    ids=["nothing", "another's", "no JSON", "no object", "no descriptor"],
)
def test_nothing_is_inherited(environ):
    assert Inheritance.from_environment(environ).take("*:1") == []
