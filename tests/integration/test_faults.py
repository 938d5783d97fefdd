"""Remotes, front ends and disks that fail: the next request works."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.site import pattern
from tests.integration.frontends import FrontEnd, Httpd, HttpdJk, Lighttpd
from tests.integration.programs import free_port, private_folder, wait_until
from tests.integration.remote import Remote, ask
from tests.integration.server import ROOT, Server, answers_cping, serving_process

HELLO = b"Hello, World!\n"
FLAGS = ["--read-timeout", "2", "--write-timeout", "2", "--max-request-body", "1M"]


@pytest.fixture(scope="module")
def hard_server() -> Iterator[Server]:
    """A server that gives up soon, and checks no PEP 3333, which costs time."""
    with serving_process("tests.apps.site:route", flags=FLAGS) as server:
        yield server


@pytest.fixture(scope="module", params=["httpd", "mod_jk", "lighttpd"])
def proud(request: pytest.FixtureRequest, hard_server: Server) -> Iterator[FrontEnd]:
    """A front end that does not forgive: a container that fails stays out of use."""
    made: FrontEnd
    if request.param == "httpd":
        made = Httpd(ajp_port=hard_server.port, worker="retry=600")
    elif request.param == "mod_jk":
        made = HttpdJk(
            ajp_port=hard_server.port,
            balanced=True,
            properties="worker.app.recover_time=600",
        )
    else:
        made = Lighttpd(ajp_port=hard_server.port)
    with made:
        yield made


@pytest.fixture(scope="module")
def proud_httpd(hard_server: Server) -> Iterator[Httpd]:
    with Httpd(ajp_port=hard_server.port, worker="retry=600") as made:
        yield made


def assert_serves(front_end: FrontEnd) -> None:
    """More than once: a pool of connections must be clean, too."""
    for _ in range(5):
        assert ask(front_end.port, "GET", "/hello").body == HELLO
    told = ask(front_end.port, "POST", "/upload", b"x" * 20_000).json()
    assert told["length"] == 20_000


def say(port: int, data: bytes, timeout: float = 5.0) -> bytes:
    """Send bytes as they are; return what comes back within the time, or less."""
    with socket.create_connection(("127.0.0.1", port), timeout) as remote:
        found = b""
        with contextlib.suppress(OSError):
            remote.sendall(data)
            remote.shutdown(socket.SHUT_WR)
            while more := remote.recv(65536):
                found += more
        return found


def reset(remote: socket.socket) -> None:
    """Close so that the other side gets a reset."""
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    remote.close()


def descriptors(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.pid}/task").iterdir()))


# -- remotes -------------------------------------------------------------------------

GET = b"GET /dump HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /upload HTTP/1.1\r\nHost: x\r\n"
RUBBISH = [
    b"GET\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"\x12\x34\x00\x01\x0a",
    b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%0d%0aX:y HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /dump/%2e%2e/%5c..%5c HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe?\xff=\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://other/dump HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"get /dump HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW-IT-NOW /dump HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /dump HTTP/1.0\r\n\r\n",
    b"GET /dump\r\n",
    GET + b"X: a\r\n b\r\n\r\n",
    GET + b"X\r\n\r\n",
    GET + b"X: a\x00b\r\n\r\n",
    GET + b"X: \x01\x7f\x80\r\n\r\n",
    GET + b"Connection: Host, X, close\r\nX: 1\r\n\r\n",
    GET + b"Proxy: http://evil/\r\nA_B: 1\r\n\r\n",
    GET + b"Expect: 100-continue\r\n\r\n",
    GET + b"Upgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    GET + b"Cookie: " + b"c" * 7000 + b"\r\n\r\n",
    GET + b"Cookie: " + b"c" * 9000 + b"\r\n\r\n",
    b"GET /" + b"p" * 8000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    GET + b"X: y\r\n" * 99 + b"\r\n",
    GET + b"X: y\r\n" * 200 + b"\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: +3\r\n\r\nabc",
    POST + b"Content-Length: 3, 3\r\n\r\nabc",
    POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    POST + b"Content-Length: 99999999999999999999\r\n\r\n",
    POST + b"Content-Length: 9\r\n\r\nabc",
    b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nabc",
    POST + b"Content-Length: 2000000\r\n\r\nabc",
    POST + b"Transfer-Encoding: gzip\r\n\r\nabc",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    + b"0\r\n\r\nGET /forged HTTP/1.1\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc",
    POST + b"Content-Length: 9\r\n\r\n\x12\x34\x00\x05\x02\x02\x00\x00\xff",
]


@pytest.mark.smoke
def test_no_rubbish_takes_the_container_out_of_use(proud: FrontEnd) -> None:
    assert_serves(proud)
    for rubbish in RUBBISH:
        answer = say(proud.port, rubbish)
        assert not answer.startswith(b"HTTP/1.1 503"), rubbish
        assert ask(proud.port, "GET", "/hello").body == HELLO, rubbish
    assert_serves(proud)


def test_aborted_uploads_cost_nothing(proud: FrontEnd, hard_server: Server) -> None:
    for count in range(30):  # more than there are threads
        remote = socket.create_connection(("127.0.0.1", proud.port))
        remote.sendall(
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"
            + bytes(count * 700)
        )
        (reset if count % 2 else socket.socket.close)(remote)
    assert_serves(proud)
    assert threads(hard_server) <= 10


def test_aborted_downloads_cost_nothing(proud: FrontEnd, hard_server: Server) -> None:
    for count in range(30):
        remote = socket.create_connection(("127.0.0.1", proud.port))
        remote.sendall(b"GET /download?size=3000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        if count % 3:
            remote.recv(1000)
        (reset if count % 2 else socket.socket.close)(remote)
    assert_serves(proud)
    assert threads(hard_server) <= 10


def test_slow_upload_arrives_whole(proud: FrontEnd) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(0.1)
            yield b"x" * 1000

    headers = {"Content-Length": "10000"}
    told = ask(proud.port, "POST", "/upload", pieces(), headers).json()
    assert told["length"] == 10_000


def test_slow_download_arrives_whole(proud: FrontEnd) -> None:
    size = 3_000_000
    with Remote(proud.port) as remote:
        response = remote.send("GET", f"/download?size={size}")
        found = b""
        for _ in range(10):
            time.sleep(0.1)
            found += response.read(10_000)
        found += response.read()
    assert found == b"".join(pattern(size))


def test_uploads_that_stop_do_not_hold_threads_for_longer_than_read_timeout(
    proud_httpd: Httpd,
) -> None:
    """httpd itself waits for them for 60 s, and reads our 408 only then."""
    with contextlib.ExitStack() as stack:
        for _ in range(8):  # all threads there are
            remote = socket.create_connection(("127.0.0.1", proud_httpd.port), 10)
            stack.enter_context(remote)
            remote.sendall(POST + b"Content-Length: 50000\r\n\r\n" + bytes(10_000))
        started = time.monotonic()
        assert_serves(proud_httpd)
        assert time.monotonic() - started < 10
    assert_serves(proud_httpd)


def test_upload_over_the_limit_is_refused_while_it_comes(proud_httpd: Httpd) -> None:
    for chunked in (False, True):
        body = [b"x" * 50_000] * 40
        headers = {} if chunked else {"Content-Length": "2000000"}
        with Remote(proud_httpd.port) as remote:
            answer = remote.ask("POST", "/upload", body, headers, chunked=chunked)
        assert answer.status == 413
    assert_serves(proud_httpd)


def test_refused_upload_of_a_slow_remote_is_answered() -> None:
    """The front end puts the first chunk on the wire long after our answer."""
    flags = ["--secret", "right"]
    with (
        serving_process("tests.apps.site:route", flags=flags) as server,
        Httpd(ajp_port=server.port, secret="wrong", worker="retry=600") as front_end,
    ):
        for pause in (0.0, 0.5, 3.0):  # after 3 s we have closed
            remote = socket.create_connection(("127.0.0.1", front_end.port), 10)
            with remote:
                remote.sendall(
                    b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n"
                )
                time.sleep(pause)
                remote.sendall(bytes(9000))
                assert remote.recv(12) == b"HTTP/1.1 403", pause
        assert ask(front_end.port, "GET", "/hello").status == 403


# -- front ends ----------------------------------------------------------------------


def test_front_end_with_more_connections_than_places_waits_for_none() -> None:
    """Each child of this httpd keeps a connection of its own."""
    flags = ["--max-connections", "2"]
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(
            serving_process("tests.apps.site:route", flags=flags)
        )
        httpd = Httpd(ajp_port=server.port, mpm="prefork", threads=8)
        opened.enter_context(httpd)
        for _ in range(4):  # browsers that keep their connections, and so the children
            browser = http.client.HTTPConnection("127.0.0.1", httpd.port, timeout=8)
            opened.callback(browser.close)
            browser.request("GET", "/hello")
            answer = browser.getresponse()
            assert (answer.status, answer.read()) == (200, HELLO)


def test_front_end_that_is_killed_leaves_nothing_behind() -> None:
    with serving_process("tests.apps.site:route", flags=FLAGS) as server:
        before = descriptors(server)
        for _ in range(2):
            with Httpd(ajp_port=server.port) as front_end:
                remotes = []
                for path in ("/download?size=50000000", "/upload") * 6:
                    method = "POST" if path == "/upload" else "GET"
                    remote = socket.create_connection(("127.0.0.1", front_end.port), 5)
                    remote.sendall(
                        f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
                        "Content-Length: 90000\r\n\r\n".encode()
                        + bytes(9000)
                    )
                    remotes.append(remote)
                wait_until(lambda: descriptors(server) > before + 8, 10, "requests")
                os.killpg(front_end.program.pid, signal.SIGKILL)
                front_end.program.wait()
                for remote in remotes:
                    remote.close()
            wait_until(
                lambda: descriptors(server) <= before,
                10,
                lambda: f"{descriptors(server)} descriptors, {before} before",
            )
        with Httpd(ajp_port=server.port) as front_end:
            assert_serves(front_end)
        assert threads(server) <= 10


def test_container_that_was_stopped_goes_on(
    proud_httpd: Httpd, hard_server: Server
) -> None:
    assert_serves(proud_httpd)
    answers: list[bytes] = []

    def visit() -> None:
        answers.append(ask(proud_httpd.port, "GET", "/hello").body)

    hard_server.send_signal(signal.SIGSTOP)
    try:
        remotes = [threading.Thread(target=visit) for _ in range(20)]
        for remote in remotes:
            remote.start()
        time.sleep(2.5)  # longer than read_timeout: time that we did not have
        assert answers == []
    finally:
        hard_server.send_signal(signal.SIGCONT)
    for remote in remotes:
        remote.join(20)
    assert answers == [HELLO] * 20
    assert_serves(proud_httpd)


def test_container_that_stops_in_an_upload_goes_on(
    proud_httpd: Httpd, hard_server: Server
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proud_httpd.port, timeout=20)
    connection.putrequest("POST", "/upload")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(bytes(50_000))
    hard_server.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    connection.send(bytes(50_000))
    time.sleep(0.3)
    hard_server.send_signal(signal.SIGCONT)
    response = connection.getresponse()
    assert response.status == 200
    assert b'"length": 100000' in response.read()
    connection.close()


# -- disks ---------------------------------------------------------------------------


def test_full_disk_for_the_log_stops_nobody() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    port = free_port()
    serve = [sys.executable, "-m", "paste_ajp", "serve", "tests.apps.site:route"]
    serve += ["--port", str(port), "--access-log", "--max-request-headers", "50"]
    with private_folder("server") as folder:
        server = Server(
            "paste_ajp",
            ["sh", "-c", 'exec "$@" >/dev/full 2>&1', "sh", *serve],
            folder,
            env={"PYTHONPATH": str(ROOT)},
            answers=lambda: answers_cping(port),
        )
        server.port = port
        with server, Httpd(ajp_port=port, worker="retry=600") as front_end:
            for _ in range(3):
                assert ask(front_end.port, "GET", "/hello").body == HELLO
                assert ask(front_end.port, "GET", "/fail?when=before").status == 500
                with contextlib.suppress(http.client.IncompleteRead):
                    ask(front_end.port, "GET", "/fail?when=after")
                say(
                    front_end.port,
                    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 60 + b"\r\n",
                )
            assert_serves(front_end)
            assert server.is_running()
