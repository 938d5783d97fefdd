"""Many connections beside each other, and many requests on one."""

from __future__ import annotations

import contextlib
import socket
import statistics
import time
from pathlib import Path

import pytest

from tests.captures import load_captures
from tests.integration.server import CPING, CPONG, Server, serving_process

#: A GET of /app/page (its Content-Length is 0, so nobody asks for a body) and a
#: POST of 12,000 bytes, as mod_jk sends them.
GET = load_captures("mod_jk/get")[0].packets[0]
POST = load_captures("mod_jk/post-12000")[0].packets
END_RESPONSE = bytes.fromhex("4142 0002 05 01")


class Peer:
    """One connection as a front end holds it, in raw packets."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        # as httpd and mod_jk do: it is our side whose pauses are looked for
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.sock.makefile("rb")

    def read_packet(self) -> bytes:
        head = self.stream.read(4)
        assert head[:2] == b"AB", head
        return head + self.stream.read(int.from_bytes(head[2:], "big"))

    def read_response(self) -> int:
        """The status of a response, read to its End Response, which must reuse."""
        headers = self.read_packet()
        assert headers[4] == 4, headers
        while (packet := self.read_packet())[4] == 3:
            pass
        assert packet == END_RESPONSE
        return int.from_bytes(headers[5:7], "big")

    def get(self) -> int:
        self.sock.sendall(GET)
        return self.read_response()

    def post(self) -> int:
        self.sock.sendall(POST[0])
        self.sock.sendall(POST[1])
        assert self.read_packet()[4] == 6  # Get Body Chunk
        self.sock.sendall(POST[2])
        return self.read_response()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stream.close()
        self.sock.close()


def threads(server: Server) -> int:
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("Threads:")]
    return int(line.split()[1])


def median_seconds(peer: Peer, count: int) -> float:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        assert peer.get() == 200
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@pytest.mark.smoke
def test_500_idle_connections_cost_no_thread_and_no_time() -> None:
    with (
        serving_process(flags=["--threads", "4"]) as server,
        contextlib.ExitStack() as stack,
    ):
        busy = stack.enter_context(Peer(server.port))
        median_seconds(busy, 100)
        before, threads_before = median_seconds(busy, 300), threads(server)
        for number in range(500):
            idle = stack.enter_context(Peer(server.port))
            if number % 2:  # half of them have been in use
                assert idle.get() == 200
        assert median_seconds(busy, 300) < before * 3 + 0.001
        assert threads(server) <= max(threads_before, 4 + 2)
        # and a connection whose request is half sent costs no thread either
        for _ in range(20):
            half = stack.enter_context(Peer(server.port))
            half.sock.sendall(GET[:50])
        assert busy.get() == 200


@pytest.mark.smoke
def test_cping_is_answered_while_every_thread_is_busy() -> None:
    application = "tests.apps.slow:application"
    with (
        serving_process(application, flags=["--threads", "2"]) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(4):
            busy = stack.enter_context(Peer(server.port))
            busy.sock.sendall(GET)
        probe = stack.enter_context(Peer(server.port))
        start = time.monotonic()
        for _ in range(10):
            probe.sock.sendall(CPING)
            assert probe.read_packet() == CPONG
        assert time.monotonic() - start < 1


@pytest.mark.smoke
def test_requests_on_one_connection_do_not_pause(server: Server) -> None:
    # With Nagle's algorithm against a delayed acknowledgement each request would
    # take 40 ms, 200 of them 8 seconds.
    with Peer(server.port) as peer:
        start = time.monotonic()
        for _ in range(200):
            assert peer.get() == 200
        for _ in range(200):
            assert peer.post() == 200
        assert time.monotonic() - start < 4
