"""Steady load of many remotes, and what became of each request."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """What was sent, and what came of it, since the last ``take``."""

    answered: Counter[str] = field(default_factory=Counter)  # good ones, by body
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def sent(self) -> int:
        return self.answered.total() + len(self.failed)

    def __str__(self) -> str:
        text = f"{len(self.failed)} failed of {self.sent} sent"
        text += f", the slowest took {self.slowest:.2f} s"
        if self.failed:
            text += "\n" + "\n".join(
                f"  {count} x {what}" for what, count in Counter(self.failed).items()
            )
        return text


class Load:
    """So many remotes, each with a connection of its own, that ask without a pause.

    Every third request is a POST with a body, unless ``posts`` is off: front ends
    may repeat a GET in silence, a POST not. A context manager.
    """

    def __init__(
        self,
        port: int,
        *,
        clients: int = 50,
        path: str = "/pid",
        posts: bool = True,
        pause: float = 0.0,
    ) -> None:
        self._port = port
        self._pause = pause
        get = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        post = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
        ).encode()
        self._requests = [
            ("GET", get),
            ("GET", get),
            ("POST" if posts else "GET", post if posts else get),
        ]
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._threads = [
            threading.Thread(
                target=self._be_remote, args=(number,), name=f"remote-{number}"
            )
            for number in range(clients)
        ]

    def take(self) -> Tally:
        """What has happened since the last time."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def run_for(self, seconds: float) -> Tally:
        """Let it go on for so long; what happened in that time."""
        self.take()
        time.sleep(seconds)
        return self.take()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _be_remote(self, number: int) -> None:
        sock: socket.socket | None = None
        count = number
        while not self._over.is_set():
            method, request = self._requests[count % len(self._requests)]
            count += 1
            began = time.monotonic()
            try:
                if sock is None:
                    sock = socket.create_connection(("127.0.0.1", self._port), 60)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(request)
                status, body, closes = _read_response(sock)
                problem = "" if status == "200" else f"{method}: {status} {body[:60]!r}"
            except OSError as error:
                problem, closes, body = f"{method}: {error!r}", True, b""
            if closes and sock is not None:
                sock.close()
                sock = None
            took = time.monotonic() - began
            with self._lock:
                tally = self._tally
                tally.slowest = max(tally.slowest, took)
                if problem:
                    tally.failed.append(problem)
                else:
                    tally.answered[body.decode("latin-1")] += 1
            if self._pause:
                self._over.wait(self._pause)
        if sock is not None:
            sock.close()


def _read_response(sock: socket.socket) -> tuple[str, bytes, bool]:
    """Read a response: status, body (its first chunk), does it close."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    status = lines[0].split()[1].decode()
    closes = b"connection: close" in lines
    if b"transfer-encoding: chunked" in lines:
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(sock)
        return status, body.partition(b"\r\n")[2].partition(b"\r\n")[0], closes
    length = 0
    for line in lines[1:]:
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += _more(sock)
    return status, body, closes


def _more(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the front end closed within a response")
    return data
