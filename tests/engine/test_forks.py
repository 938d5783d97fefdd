"""Applications that fork within a request: the server is the parent's alone."""

from __future__ import annotations

import os
import socket

import pytest

from paste_ajp.wsgi.exchange import FrontEndGone
from tests.engine.conftest import wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Forks:
    """Forks where it is asked to, and keeps the child's process id."""

    def __init__(self):
        self.child = 0
        self.reader, self.writer = os.pipe()

    def __call__(self, environ, start_response):
        way = environ["PATH_INFO"]
        if way != "/":
            self.child = os.fork()
        if not self.child:
            if way == "/raises":
                raise SystemExit(0)
            if way == "/stays":
                os.read(self.reader, 1)
                os._exit(0)
            if way == "/reads":
                self.read(environ["wsgi.input"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self.closes() if way == "/closes" else [b"hello"]

    def read(self, body):
        try:
            body.read()
        except FrontEndGone as error:
            os.write(self.writer, str(error).encode())
        os._exit(0)

    def closes(self):
        yield b"hello"

    def wait_for_child(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def forks():
    forks = Forks()
    yield forks
    forks.close()


@pytest.mark.parametrize("way", ["/comes-back", "/raises", "/closes"])
def test_a_child_that_comes_back_sends_nothing_and_ends(serve, forks, way):
    site = serve(forks, check=False)
    front_end = site.connect()
    assert front_end.ask("GET", way).body == b"hello"
    assert forks.wait_for_child() == 1
    assert front_end.ask("GET", "/").body == b"hello"
    assert site.ask("GET", "/").body == b"hello"


def test_a_child_that_comes_back_behind_the_response_ends(serve):
    class Closes:
        child = 0

        def __iter__(self):
            return iter([b"hello"])

        def close(self):
            Closes.child = os.fork()

    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "5")])
        return Closes()

    site = serve(application, check=False)
    assert site.ask("GET", "/").body == b"hello"
    wait_until(lambda: Closes.child)
    assert os.waitstatus_to_exitcode(os.waitpid(Closes.child, 0)[1]) == 1


def test_a_child_that_stays_holds_no_connection_and_no_port(serve, forks):
    site = serve(forks, check=False)
    front_end = site.connect()
    idle = site.connect()
    idle.ask("GET", "/")
    assert front_end.ask("GET", "/stays").body == b"hello"
    site.stop()
    assert idle.is_closed()
    port = int(site.address.rpartition(":")[2])
    socket.create_server(("127.0.0.1", port)).close()
    os.write(forks.writer, b".")
    assert forks.wait_for_child() == 0


def test_a_child_reads_nothing_from_the_connection(serve, forks):
    site = serve(forks, check=False)
    assert site.ask("POST", "/reads", body=b"x" * 20_000).body == b"hello"
    assert forks.wait_for_child() == 0
    said = os.read(forks.reader, 1000)
    assert said == b"the process that forked this one has the connection"
