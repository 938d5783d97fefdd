"""Applications that go on when their response is out: nobody else waits for that."""

from __future__ import annotations

import logging
import threading

import pytest

from paste_ajp.protocol import BodyChunk
from paste_ajp.wsgi.exchange import FrontEndGone
from tests.engine.conftest import wait_until
from tests.engine.front_end import CHUNK, DEADLINE, forward
from tests.engine.test_slow_readers import BODY

TEXT = [("Content-Type", "text/plain"), ("Content-Length", "5")]
WAYS = ["/close", "/yield", "/write", "/file", "/large"]


class Site:
    """An application that waits, when its response is out, until it is let go."""

    def __init__(self, tmp_path):
        self.file = tmp_path / "file"
        self.file.write_bytes(b"hello")
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.body = None
        self.error = None
        self.read = b""

    def __call__(self, environ, start_response):
        way = environ["PATH_INFO"]
        if way in WAYS:
            self.body = environ["wsgi.input"]
            if environ["QUERY_STRING"] == "read":
                self.body.read()
        if way == "/large":
            start_response("200 OK", [("Content-Length", str(len(BODY)))])
            return _Closed([BODY], self.go_on)
        write = start_response("200 OK", TEXT)
        if way == "/yield":
            return self.pieces()
        if way == "/write":
            write(b"hello")
            self.go_on()
            return []
        if way == "/file":
            file = self.file.open("rb")
            return environ["wsgi.file_wrapper"](_Slow(file, self.go_on))
        if way == "/close":
            return _Closed([b"hello"], self.go_on)
        return [b"hello"]

    def pieces(self):
        yield b"hello"
        self.go_on()

    def go_on(self):
        self.entered.release()
        assert self.open.wait(DEADLINE)
        try:
            while piece := self.body.read(1000):
                self.read += piece
        except FrontEndGone as error:
            self.error = str(error)

    def wait_for(self):
        assert self.entered.acquire(timeout=DEADLINE)


class _Closed(list):
    """No list as PEP 3333 knows it: it has a close()."""

    def __init__(self, pieces, close):
        super().__init__(pieces)
        self.close = close


class _Slow:
    """What is no regular file, and takes long to be closed."""

    def __init__(self, file, close):
        self.file = file
        self.read = file.read
        self._close = close

    def close(self):
        self.file.close()
        self._close()


@pytest.fixture
def busy(tmp_path):
    site = Site(tmp_path)
    yield site
    site.open.set()


@pytest.mark.parametrize("way", WAYS)
def test_connection_serves_others_while_the_application_goes_on(serve, busy, way):
    site = serve(busy, check=False, threads=2)
    with site.connect() as front_end:
        found = front_end.ask("GET", way)
        assert found.body == (BODY if way == "/large" else b"hello")
        assert found.reuse is True
        busy.wait_for()
        front_end.cping()
        assert front_end.ask().body == b"hello"
        busy.open.set()
        assert front_end.ask().body == b"hello"


def test_slow_front_end_gets_all_while_the_application_goes_on(serve, busy):
    site = serve(busy, check=False, threads=1)
    with site.connect() as slow:
        slow.send(forward("GET", "/large"))
        busy.wait_for()
        assert slow.answer().body == BODY


@pytest.mark.parametrize("way", WAYS)
def test_access_is_logged_when_the_response_has_ended(serve, busy, way, caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    site = serve(busy, check=False, threads=2, access_log=True)
    with site.connect() as front_end:
        body = front_end.ask("GET", way).body
        busy.wait_for()
        wait_until(lambda: caplog.messages)
        assert f'"GET {way} HTTP/1.1" 200 {len(body)} ' in caplog.text
        busy.open.set()
        assert front_end.ask().body == b"hello"
        wait_until(lambda: len(caplog.messages) > 1)
    assert ['"GET / ' in line for line in caplog.messages] == [False, True]


def test_access_is_logged_when_all_is_sent_and_not_when_the_application_ends(
    serve, busy, caplog
):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    site = serve(busy, check=False, threads=1, access_log=True)
    with site.connect() as slow:
        slow.send(forward("GET", "/large"))
        busy.wait_for()
        busy.open.set()
        wait_until(lambda: site.server._crew.busy_workers() == [])
        assert caplog.messages == []
        assert slow.answer().body == BODY
        wait_until(lambda: caplog.messages)
    (line,) = caplog.messages
    assert f'"GET /large HTTP/1.1" 200 {len(BODY)} ' in line


def test_request_that_comes_while_the_only_thread_goes_on_waits_for_it(serve, busy):
    site = serve(busy, check=False, threads=1)
    with site.connect() as front_end:
        front_end.ask("GET", "/close")
        busy.wait_for()
        front_end.send(forward())
        wait_until(lambda: site.server._crew.waiting == 1)
        busy.open.set()
        assert front_end.answer().body == b"hello"


@pytest.mark.parametrize("way", ["/close", "/yield", "/write"])
def test_input_that_was_read_is_at_its_end(serve, busy, way):
    site = serve(busy, check=False, threads=2)
    with site.connect() as front_end:
        query = {"query_string": "read"}
        front_end.ask("POST", way, body=b"x" * 20000, attributes=query)
        busy.wait_for()
        assert front_end.ask("POST", "/", body=b"y" * 20000).body == b"hello"
        busy.open.set()
    wait_until(lambda: site.server._crew.busy_workers() == [])
    assert (busy.read, busy.error) == (b"", None)


@pytest.mark.parametrize("size", [100, 20000])
def test_input_that_was_not_read_has_what_came_with_the_request(serve, busy, size):
    site = serve(busy, check=False, threads=2)
    with site.connect() as front_end:
        headers = [("Content-Length", str(size))]
        request = forward("POST", "/close", headers)
        front_end.send(request, BodyChunk(b"x" * min(size, CHUNK)))  # in one packet
        assert front_end.answer().body == b"hello"
        busy.wait_for()
        assert front_end.ask("POST", "/", body=b"y" * 20000).body == b"hello"
        busy.open.set()
    wait_until(lambda: site.server._crew.busy_workers() == [])
    assert busy.read == b"x" * len(busy.read)
    if size == 100:
        assert (len(busy.read), busy.error) == (100, None)
    else:
        assert len(busy.read) <= CHUNK
        assert busy.error == "the response has ended, and the request body with it"


@pytest.mark.parametrize("way", ["/close", "/yield", "/large"])
def test_stop_waits_for_the_application(serve, busy, way):
    site = serve(busy, check=False, threads=2)
    site.ask("GET", way)
    busy.wait_for()
    site.server.shutdown(grace_seconds=0)
    assert not site.server.wait(0.2)
    busy.open.set()
    assert site.server.wait(5)


def test_stop_at_once_names_what_it_does_not_wait_for(serve, busy, caplog):
    site = serve(busy, check=False, threads=2)
    site.ask("GET", "/close")
    busy.wait_for()
    site.stop(graceful=False)
    assert "cut off, as the server stops at once: GET /close from " in caplog.text


def test_what_fails_afterwards_is_logged_by_its_own_name(serve, busy, caplog):
    site = serve(busy, check=False, threads=2)

    def fail():
        raise LookupError("too late")

    busy.go_on = lambda: (Site.go_on(busy), fail())
    with site.connect() as front_end:
        front_end.ask("GET", "/close")
        busy.wait_for()
        assert front_end.ask("GET", "/other").body == b"hello"
        busy.open.set()
        wait_until(lambda: "too late" in caplog.text)
        assert front_end.ask().body == b"hello"
    assert "GET /close: failed after its response was complete" in caplog.text


def test_application_timeout_reports_it_and_answers_nobody(serve, busy, caplog):
    site = serve(
        busy,
        check=False,
        threads=3,
        application_timeout=0.2,
        application_timeout_action="answer",
    )
    with site.connect() as front_end:
        front_end.ask("GET", "/close")
        busy.wait_for()
        wait_until(lambda: "application_timeout is 0.2 s" in caplog.text)
        assert front_end.ask().body == b"hello"
        assert front_end.is_silent()
    assert "GET /close from " in caplog.text
