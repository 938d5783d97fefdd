"""Servers for a test, and the proof that nothing of them is left."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from webtest.lint import middleware as lint

from paste_ajp.engine import threaded
from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.settings import Settings
from tests.engine.front_end import DEADLINE, FrontEnd


def wait_until(is_so, seconds=DEADLINE):
    """Look again and again until `is_so()`; fail at the deadline."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "the deadline has passed"
        time.sleep(0.002)


#: For tests that put something else in the place of a method, or of a class.
NOT_COMPILED = pytest.mark.skipif(
    not threaded.__file__.endswith(".py"),
    reason="a compiled object has the methods that it has",
)


def open_descriptors():
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)  # noqa: PTH115 - no file
        except OSError:
            continue  # the one that lists the folder
    return found


def server_threads():
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("paste_ajp")
    ]


class Site:
    """One running server. `connect` makes connections that are closed with it."""

    def __init__(self, server):
        self.server = server
        self.address = server.addresses[0]
        self._front_ends = []

    def connect(self, **keywords):
        front_end = FrontEnd(self.address, **keywords)
        self._front_ends.append(front_end)
        return front_end

    def ask(self, *args, **keywords):
        """One exchange on a connection of its own."""
        with self.connect() as front_end:
            return front_end.ask(*args, **keywords)

    def stop(self, graceful=True):
        self.server.shutdown(graceful)
        assert self.server.wait(DEADLINE)

    def close(self):
        for front_end in self._front_ends:
            front_end.close()
        self.stop()


@pytest.fixture
def serve():
    """Start servers by their settings; afterwards no thread and no descriptor is left.

    Applications are checked by webtest.lint unless `check` is false.
    """
    before = open_descriptors()
    assert server_threads() == []
    sites = []

    def start(application, *, check=True, engine=None, **settings):
        if not {"listen", "port"} & settings.keys():
            settings["port"] = 0
        settings.setdefault("graceful_timeout", 5)
        server = ThreadedServer(
            lint(application) if check else application,
            Settings.parse(settings),
            **(engine or {}),
        )
        server.start()
        sites.append(Site(server))
        return sites[-1]

    yield start
    for site in sites:
        site.close()
    wait_until(lambda: server_threads() == [])
    wait_until(lambda: open_descriptors() == before)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


class Gate:
    """An application that waits inside until it is let go."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.calls = 0

    def __call__(self, environ, start_response):
        self.calls += 1
        if environ["PATH_INFO"] == "/wait":
            self.entered.release()
            assert self.open.wait(DEADLINE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    def wait_for(self, count=1):
        """Wait until so many requests are inside."""
        for _ in range(count):
            assert self.entered.acquire(timeout=DEADLINE)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()
