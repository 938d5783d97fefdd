"""Requests and responses over a real socket."""

import gzip
import hashlib
import io
import sys
import threading
import time
from contextlib import suppress

import pytest

from paste_ajp.engine import channel as channel_module
from paste_ajp.protocol import (
    BodyChunk,
    EndResponse,
    GetBodyChunk,
    SendBodyChunk,
    SendHeaders,
)
from paste_ajp.protocol.to_front_end import END_CLOSE, END_REUSE
from paste_ajp.wsgi.exchange import FrontEndGone
from paste_ajp.wsgi.response import ApplicationError
from tests.engine.conftest import NOT_COMPILED, hello, wait_until
from tests.engine.front_end import DEADLINE, forward

TEXT = ("Content-Type", "text/plain")
CHUNKED = ("Transfer-Encoding", "chunked")


def length(number):
    return "Content-Length", str(number)


def pattern(size):
    return (b"0123456789abcdefghi" * (size // 19 + 1))[:size]


def echo(environ, start_response):
    """Answer with the request's body, read in pieces of an odd size."""
    body = environ["wsgi.input"]
    start_response("200 OK", [TEXT])
    return [b"".join(iter(lambda: body.read(5000), b""))]


# -- request bodies --------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, 8185, 8186, 8187, 100000])
def test_upload_arrives_whole(serve, size, chunked):
    with serve(echo).connect() as front_end:
        for _ in range(2):
            headers = [CHUNKED] if chunked else []
            body = pattern(size)
            seen = front_end.ask("POST", body=body, headers=headers, chunked=chunked)
            assert (seen.body, seen.reuse) == (body, True)


def test_large_upload_and_download_arrive_whole(serve):
    size = 8_000_000

    def application(environ, start_response):
        digest = hashlib.sha256()
        while data := environ["wsgi.input"].read(65536):
            digest.update(data)
        start_response("200 OK", [TEXT, ("X-Digest", digest.hexdigest())])
        return [pattern(size)]

    seen = serve(application).ask("POST", body=pattern(size))
    expected = hashlib.sha256(pattern(size)).hexdigest()
    assert seen.header("X-Digest") == expected
    assert hashlib.sha256(seen.body).hexdigest() == expected


@pytest.mark.parametrize("reads", [0, 1, 5000, 8186, 8187])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_body_that_is_not_read_does_not_disturb_the_next_request(serve, reads, chunked):
    """Its bytes look like requests, which must not run (CVE-2011-3190)."""
    calls = []

    def application(environ, start_response):
        calls.append(environ["PATH_INFO"])
        if reads:
            environ["wsgi.input"].read(reads)
        start_response("200 OK", [TEXT])
        return [environ["PATH_INFO"].encode()]

    forged = b"\x12\x34\x00\x30\x02\x02\x00\x08HTTP/1.1\x00\x00\x04/bad\x00" * 2000
    with serve(application).connect() as front_end:
        for number in range(5):
            seen = front_end.ask(
                "POST",
                f"/{number}",
                body=forged[number % 4 :],
                headers=[CHUNKED] if chunked else [],
                chunked=chunked,
            )
            assert (seen.body, seen.reuse) == (b"/%d" % number, True)
        front_end.cping()
    assert calls == ["/0", "/1", "/2", "/3", "/4"]


def test_nothing_is_asked_for_where_no_body_was_announced_and_nobody_reads(serve):
    with serve(hello).connect() as front_end:
        front_end.send(forward("POST"))
        assert isinstance(front_end.receive(), SendHeaders)


def test_body_that_was_not_announced_is_asked_for_when_it_is_read(serve):
    """mod_jk with JK_IGNORE_CL sends one."""
    assert serve(echo).ask("POST", body=pattern(20000), chunked=True).body == pattern(
        20000
    )


def test_no_more_is_asked_for_than_was_announced(serve):
    with serve(echo).connect() as front_end:
        front_end.send(forward("POST", headers=[length(10000)]))
        front_end.send(BodyChunk(pattern(8186)))
        assert front_end.receive() == GetBodyChunk(10000 - 8186)
        front_end.send(BodyChunk(b"x" * (10000 - 8186)))
        assert isinstance(front_end.receive(), SendHeaders)


def raising(caught):
    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            caught.append(error)
            raise
        raise AssertionError("the body looked complete")

    return application


@pytest.mark.parametrize("first", [b"", b"abc"], ids=["at once", "in its middle"])
def test_upload_that_ends_too_soon_raises_and_is_answered(serve, first):
    caught = []
    with serve(raising(caught)).connect() as front_end:
        front_end.send(forward("POST", headers=[length(9)]))
        front_end.send_raw(b"\x12\x34\x00\x05\x00\x03abc" * bool(first))
        if first:
            assert front_end.receive() == GetBodyChunk(6)
        front_end.send_raw(b"\x12\x34\x00\x02\x00\x00")
        front_end.connection.owed = 0
        seen = front_end.answer()
    assert (seen.status, seen.reuse) == (400, False)
    assert type(caught[0]).__name__ == "BodyTruncated"


@pytest.mark.parametrize("headers", [[length(9)], [CHUNKED]], ids=["length", "chunked"])
def test_upload_cut_by_a_closed_connection_raises(serve, headers):
    caught = []
    site = serve(raising(caught))
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=headers))
        if headers == [CHUNKED]:
            front_end.receive()
        front_end.send_raw(b"\x12\x34\x00\x05\x00\x03abc")
        front_end.receive()
    wait_until(lambda: caught)
    assert type(caught[0]).__name__ == "BodyTruncated"
    wait_until(lambda: not site.server._channels)


def test_upload_that_stops_is_answered_after_read_timeout(serve):
    caught = []
    with serve(raising(caught), read_timeout=0.2).connect() as front_end:
        front_end.send(forward("POST", headers=[length(9)]))
        front_end.connection.owed = 0
        seen = front_end.answer()
    assert (seen.status, seen.reuse) == (408, False)
    assert type(caught[0]).__name__ == "BodyTimeout"


def test_chunk_beyond_the_announced_length_is_refused(serve):
    """httpd sends such where a filter of its own inflates the body."""
    caught = []
    with serve(raising(caught)).connect() as front_end:
        front_end.send(forward("POST", headers=[length(3)]))
        front_end.connection.owed = 0
        front_end.send_raw(b"\x12\x34\x00\x06\x00\x04abcd")
        seen = front_end.answer()
        assert (seen.status, seen.reuse) == (400, False)
        assert front_end.is_closed()
    assert type(caught[0]).__name__ == "BodyOverrun"
    assert str(caught[0]) == "body chunk at byte 0: 4 bytes of a body of 3"


def test_upload_beyond_the_limit_is_refused_at_once_or_when_it_gets_there(serve):
    site = serve(echo, max_request_body=10000)
    assert site.ask("POST", body=pattern(10000)).status == 200
    assert site.ask("POST", body=pattern(10001)).status == 413
    seen = site.ask("POST", body=pattern(20000), headers=[CHUNKED], chunked=True)
    assert (seen.status, seen.reuse) == (413, False)


def test_body_read_after_the_response_raises(serve):
    """What close() gets must not look like the end of an upload."""
    found = []

    class Result:
        def __init__(self, body, first):
            self.body = body
            body.read(first)

        def __iter__(self):
            return iter([b"hello"])

        def close(self):
            try:
                found.append(self.body.read())
            except OSError as error:
                found.append(type(error))

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return Result(environ["wsgi.input"], int(environ["QUERY_STRING"]))

    with serve(application, check=False).connect() as front_end:
        for sent, chunked, read, expected in [
            (20000, False, 0, FrontEndGone),
            (20000, False, 10, FrontEndGone),
            (20000, False, 20000, b""),
            (20000, True, 0, FrontEndGone),
            (20000, True, 10, FrontEndGone),
            (20000, True, 30000, b""),
            (0, True, -1, b""),
            (0, False, 0, b""),
        ]:
            seen = front_end.ask(
                "POST",
                body=pattern(sent),
                chunked=chunked,
                headers=[CHUNKED] if chunked else [],
                attributes={"query_string": str(read)},
            )
            assert (seen.body, seen.reuse) == (b"hello", True)
            wait_until(lambda: found)
            assert found.pop() == expected


class Leaves:
    """An application that ends while a thread of its own still reads the body."""

    def __init__(self, fails=False):
        self.fails = fails
        self.reader = None

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"]

        def read():
            with suppress(OSError, ValueError):
                body.read()

        self.reader = threading.Thread(target=read)
        start_response("200 OK", [TEXT])
        return self.end()

    def end(self):
        yield b"hello"
        self.reader.start()
        wait_until(lambda: waits_in_recv(self.reader))
        assert not self.fails


def waits_in_recv(thread):
    frame = sys._current_frames().get(thread.ident)
    return frame is not None and frame.f_code.co_name == "_await_body"


@NOT_COMPILED
@pytest.mark.parametrize("chunked", [False, True])
def test_connection_is_given_up_that_a_thread_still_reads_from(serve, chunked):
    """That would get the next request, or ask for the body of it."""
    application = Leaves()
    site = serve(application, check=False)
    headers = [CHUNKED] if chunked else [length(20000)]
    with site.connect() as front_end:
        front_end.send(forward("POST", headers=headers))
        messages = [front_end.receive() for _ in range(5 if chunked else 4)]
        assert messages[-1] == EndResponse(False)
    application.reader.join(DEADLINE)
    assert not application.reader.is_alive()


@NOT_COMPILED
def test_connection_is_given_up_that_one_of_two_threads_still_reads_from(serve):
    """Whichever of them gets the chunk for which both wait."""
    readers = []

    def application(environ, start_response):
        came = threading.Event()

        def read():
            with suppress(OSError, ValueError):
                environ["wsgi.input"].read(1)
                came.set()

        for _ in range(2):
            readers.append(threading.Thread(target=read))
            readers[-1].start()
            wait_until(lambda: waits_in_recv(readers[-1]))
        gate.set()
        assert came.wait(DEADLINE)
        start_response("200 OK", [TEXT])
        return [b"hello"]

    gate = threading.Event()
    with serve(application, check=False).connect() as front_end:
        front_end.send(forward("POST", headers=[length(20)]))
        assert gate.wait(DEADLINE)
        front_end.send(BodyChunk(bytes(20)))
        messages = [front_end.receive() for _ in range(3)]
        assert messages[-1] == EndResponse(False)
    for reader in readers:
        reader.join(DEADLINE)
        assert not reader.is_alive()


def test_connection_is_given_up_that_a_thread_still_writes_to(serve):
    """What it has left would go into the response to the next request."""
    is_read = threading.Event()
    has_failed = threading.Event()

    def application(environ, start_response):
        write = start_response("200 OK", [TEXT])
        piece = bytes(10_000_000)  # so that it waits nearly always

        def go_on():
            try:
                while True:
                    write(piece)
            except (OSError, ApplicationError):
                has_failed.set()

        threading.Thread(target=go_on).start()
        assert is_read.wait(DEADLINE)
        return [b"hello"]

    with serve(application, check=False).connect() as front_end:
        front_end.send(forward())
        front_end.receive()
        front_end.receive()
        is_read.set()
        # What two send at a time is no AJP: it is looked for as it comes.
        came = b""
        while END_CLOSE not in came:
            more = front_end.sock.recv(65536)
            assert more
            came = came[-len(END_CLOSE) :] + more
            assert END_REUSE not in came
    assert has_failed.wait(DEADLINE)


@NOT_COMPILED
def test_connection_is_cut_that_a_thread_still_reads_from(serve):
    application = Leaves(fails=True)
    with serve(application, check=False).connect() as front_end:
        front_end.send(forward("POST", headers=[length(20000)]))
        with pytest.raises(EOFError):
            [front_end.receive() for _ in range(9)]
        application.reader.join(DEADLINE)
        assert not application.reader.is_alive()


# -- lighttpd --------------------------------------------------------------------

LIGHTTPD = {"request_attributes": ()}
STRAY = b"\x12\x34\x00\x00"


def test_connection_is_kept_as_promised_when_close_reads_the_body(serve):
    class Result(list):
        def close(self):
            self.environ["wsgi.input"].read()

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        result = Result([b"hello"])
        result.environ = environ
        return result

    with serve(application, check=False).connect() as front_end:
        for _ in range(2):
            seen = front_end.ask("POST", body=pattern(20000))
            assert (seen.body, seen.reuse) == (b"hello", True)


def raw(data):
    return b"\x12\x34" + len(data).to_bytes(2, "big") + data


def test_body_as_lighttpd_frames_it_is_read(serve):
    body = pattern(20000)
    site = serve(echo)
    for size in (1, 2, 8188, 8189, 20000):
        with site.connect() as front_end:
            front_end.send(forward("POST", headers=[length(size)], **LIGHTTPD))
            front_end.send_raw(raw(body[: min(size, 8188)]))
            sent = min(size, 8188)
            while sent < size:
                message = front_end.receive()
                front_end.send_raw(raw(body[sent : sent + message.length][:size]))
                sent += message.length
            front_end.connection.owed = 0
            assert front_end.answer().body == body[:size]


def test_empty_chunk_that_lighttpd_adds_to_each_request_is_passed_over(serve):
    site = serve(echo)
    for _ in range(5):
        with site.connect() as front_end:
            front_end.send(forward("GET", headers=[length(0)], **LIGHTTPD))
            front_end.send_raw(STRAY)
            assert front_end.answer().reuse is True


def test_first_chunk_that_lighttpd_holds_back_is_asked_for(serve, monkeypatch, caplog):
    monkeypatch.setattr(channel_module, "FIRST_CHUNK_SECONDS", 0.1)
    with serve(echo).connect() as front_end:
        front_end.send(forward("POST", headers=[length(5)], **LIGHTTPD))
        front_end.connection.owed = 0
        assert front_end.receive() == GetBodyChunk(5)
        front_end.send_raw(raw(b"hello"))
        front_end.connection.owed = 0
        assert front_end.answer()[-3:] == (b"hello", [5, 0], False)
    assert "server.stream-request-body = 0" in caplog.text


def test_first_chunk_of_a_slow_client_may_take_its_time(serve, monkeypatch):
    """It is asked for once, and waited for as long as any other."""
    monkeypatch.setattr(channel_module, "FIRST_CHUNK_SECONDS", 0.05)
    with serve(echo).connect() as front_end:
        front_end.send(forward("POST", headers=[length(5)], **LIGHTTPD))
        front_end.connection.owed = 0
        assert front_end.receive() == GetBodyChunk(5)
        time.sleep(0.3)
        assert front_end.is_silent()
        front_end.send_raw(raw(b"hello"))
        front_end.connection.owed = 0
        assert front_end.answer()[-3:] == (b"hello", [5, 0], False)


# -- responses -------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8184, 8185, 65536, 65537, 3_000_000])
def test_response_arrives_whole(serve, size):
    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return [pattern(size)]

    seen = serve(application, check=False).ask()
    assert seen.body == pattern(size)
    assert seen.header("Content-Length") == str(size)


def test_streamed_response_arrives_piece_by_piece(serve):
    steps = threading.Semaphore(0)

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        for number in range(4):
            yield b"piece %d" % number
            assert steps.acquire(timeout=DEADLINE)

    with serve(application).connect() as front_end:
        front_end.send(forward())
        assert isinstance(front_end.receive(), SendHeaders)
        for number in range(4):
            assert front_end.receive() == SendBodyChunk(b"piece %d" % number)
            assert front_end.receive() == SendBodyChunk(b"")
            assert front_end.is_silent()
            steps.release()
        assert front_end.receive().reuse is True


def test_answer_may_follow_the_upload_piece_by_piece(serve):
    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        while data := environ["wsgi.input"].read(3):
            yield data.upper()

    with serve(application).connect() as front_end:
        front_end.send(forward("POST", headers=[length(6)]))
        front_end.send(BodyChunk(b"abc"))
        assert isinstance(front_end.receive(), SendHeaders)
        assert front_end.receive() == SendBodyChunk(b"ABC")
        assert front_end.receive() == SendBodyChunk(b"")
        assert front_end.receive() == GetBodyChunk(3)
        front_end.send(BodyChunk(b"def"))
        assert front_end.receive() == SendBodyChunk(b"DEF")


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
def test_connection_is_in_step_after_a_response_without_body(serve, method, status):
    def application(environ, start_response):
        start_response(status, [])
        return [b"hello"]

    with serve(application, check=False).connect() as front_end:
        for _ in range(3):
            seen = front_end.ask(method)
            assert (seen.pieces, seen.reuse) == ([], True)


def test_connection_is_in_step_after_a_generator_that_went_on_too_long(serve):
    def application(environ, start_response):
        start_response("200 OK", [TEXT, length(5)])
        for _ in range(5):
            yield b"hello"

    with serve(application).connect() as front_end:
        for _ in range(3):
            assert front_end.ask().body == b"hello"
        front_end.cping()
        assert front_end.is_silent()


def failing(environ, start_response):
    start_response("200 OK", [TEXT])
    if environ["PATH_INFO"] == "/late":
        yield b"x"
    raise KeyError("a bug")


def test_failure_before_the_headers_is_answered_and_the_connection_kept(serve):
    with serve(failing).connect() as front_end:
        for _ in range(2):
            assert front_end.ask()[::5] == (500, True)


def test_failure_after_the_headers_cuts_the_connection(serve):
    site = serve(failing)
    with site.connect() as front_end, pytest.raises(EOFError):
        front_end.ask("GET", "/late")
    wait_until(lambda: not site.server._channels)
    assert site.ask().status == 500


def test_headers_that_do_not_fit_are_a_500(serve):
    def application(environ, start_response):
        start_response("200 OK", [TEXT, ("X-Big", "x" * int(environ["QUERY_STRING"]))])
        return [b"hello"]

    for packet_size in (8192, 65536):
        site = serve(application, packet_size=packet_size)
        for size, status in ((packet_size - 100, 200), (packet_size, 500)):
            query = {"query_string": str(min(size, 65534))}
            with site.connect(packet_size=packet_size) as front_end:
                assert front_end.ask(attributes=query)[::5] == (status, True)


def test_write_and_exc_info_work_over_the_wire(serve):
    import sys

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        try:
            raise KeyError
        except KeyError:
            write = start_response("500 Oops", [TEXT], sys.exc_info())
        write(b"one")
        write(b"two")
        return [b"three"]

    assert serve(application).ask()[::3] == (500, b"onetwothree")


class Closing:
    """A result that is streamed for as long as somebody reads."""

    def __init__(self, piece):
        self.piece = piece
        self.closed = threading.Event()

    def __iter__(self):
        return iter(lambda: self.piece, None)

    def close(self):
        self.closed.set()


def test_result_is_closed_when_the_front_end_leaves(serve, caplog):
    result = Closing(b"x" * 50000)

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return result

    site = serve(application, check=False)
    with site.connect() as front_end:
        front_end.send(forward())
        front_end.receive()
    assert result.closed.wait(DEADLINE)
    wait_until(lambda: not site.server._channels)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_front_end_that_takes_nothing_is_given_up_after_write_timeout(serve):
    result = Closing(b"x" * 1_000_000)

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return result

    site = serve(application, check=False, write_timeout=0.2)
    front_end = site.connect()
    front_end.send(forward())
    assert result.closed.wait(DEADLINE)
    wait_until(lambda: not site.server._channels)


# -- files -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "headers", "expected"),
    [
        pytest.param(lambda p: p.open("rb"), [], pattern(500000), id="file"),
        pytest.param(
            lambda p: p.open("rb"), [length(300000)], pattern(300000), id="limit"
        ),
        pytest.param(lambda p: io.BytesIO(b"abc"), [], b"abc", id="BytesIO"),
        pytest.param(
            lambda p: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(b"abc"))),
            [],
            b"abc",
            id="GzipFile",
        ),
    ],
)
def test_file_is_sent_and_closed(serve, tmp_path, opened, headers, expected):
    path = tmp_path / "file"
    path.write_bytes(pattern(500000))
    files = []

    def application(environ, start_response):
        start_response("200 OK", [TEXT, *headers])
        files.append(opened(path))
        return environ["wsgi.file_wrapper"](files[-1])

    with serve(application, check=False).connect() as front_end:
        for _ in range(2):
            assert front_end.ask().body == expected
        front_end.cping()
    wait_until(lambda: all(file.closed for file in files))


@pytest.mark.parametrize("max_unsent", [0, 1000000])
@pytest.mark.parametrize(
    ("mode", "headers"), [("rb", [("Content-Length", "1")]), ("wb", [])]
)
def test_file_that_gives_nothing_at_all_is_answered(
    serve, tmp_path, mode, headers, max_unsent
):
    """It has been emptied since its size was asked for, or cannot be read."""
    path = tmp_path / "file"
    path.touch()

    def application(environ, start_response):
        start_response("200 OK", [TEXT, *headers])
        return environ["wsgi.file_wrapper"](path.open(mode, 0))

    site = serve(application, check=False, max_unsent=max_unsent)
    with site.connect() as front_end:
        for _ in range(2):
            seen = front_end.ask()
            assert (seen.status, seen.reuse) == (500, True)


def test_file_that_shrinks_while_it_is_sent_cuts_the_connection(serve, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    def application(environ, start_response):
        start_response("200 OK", [TEXT, length(10)])
        return environ["wsgi.file_wrapper"](path.open("rb"))

    front_end = serve(application, check=False).connect()
    with pytest.raises(EOFError):
        front_end.ask()


# -- several at a time -----------------------------------------------------------


def test_many_front_ends_at_a_time_get_each_their_own(serve):
    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        if len(body) % 7 == 0:
            time.sleep(0.001)  # as a database would
        start_response("200 OK", [TEXT])
        return [environ["PATH_INFO"].encode(), body]

    site = serve(application, threads=4)
    wrong = []

    def client(number):
        with site.connect() as front_end:
            for turn in range(30):
                body = pattern(number * 997 % 30000 + turn)
                seen = front_end.ask("POST", f"/{number}/{turn}", body=body)
                if seen.body != f"/{number}/{turn}".encode() + body:
                    wrong.append((number, turn))

    clients = [threading.Thread(target=client, args=(n,)) for n in range(16)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert wrong == []
