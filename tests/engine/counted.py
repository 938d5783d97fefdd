"""A server that does nothing but what its requests ask for, and what it asks of the
kernel, call by call.

`python -m tests.engine.counted FILE` is such a server, to be run under strace: it
writes its address, serves until its input ends, and does nothing by the clock.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.protocol.to_container import (
    build_forward_request,
    encode_body_chunk,
    encode_forward_request,
)
from paste_ajp.settings import Settings
from tests.apps.cost import make_application
from tests.integration.programs import in_ci, require, wait_until

ROOT: Final = Path(__file__).resolve().parents[2]

#: Bytes of a body that fit into one packet.
CHUNK: Final = 8186
#: Codes of what a container sends. Source: AJPv13, "Packet Headers".
END_RESPONSE: Final = 5
GET_BODY_CHUNK: Final = 6

#: Seconds after which something has gone wrong: nothing here takes as long.
DEADLINE: Final = 20.0


#: l_onoff and l_linger of SO_LINGER: whatever was not read, close with a reset.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class Ask:
    """One request, as bytes: making it anew each time would count as ours."""

    def __init__(
        self,
        uri: str,
        body_bytes: int = 0,
        *,
        method: str = "",
        chunked: bool = False,
        attributes: dict[str, str | int | None] | None = None,
    ) -> None:
        headers = [
            ("host", "localhost"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)"),
            ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
            ("accept-encoding", "gzip, deflate, br"),
            ("cookie", "session=0123456789abcdef"),
        ]
        if chunked:
            headers.append(("transfer-encoding", "chunked"))
        elif body_bytes:
            headers.append(("content-length", str(body_bytes)))
        request = build_forward_request(
            method or ("POST" if body_bytes else "GET"),
            uri,
            headers,
            attributes=attributes,
            request_attributes=[("AJP_REMOTE_PORT", "50112")],
        )
        self.uri = uri
        self.first = encode_forward_request(request)
        sizes = [min(CHUNK, body_bytes - at) for at in range(0, body_bytes, CHUNK)]
        chunks = [encode_body_chunk(b"u" * size) for size in sizes]
        if chunked:
            chunks.append(encode_body_chunk(b""))
        elif chunks:
            # One send, so that one recv() of the server's never has less than it can
            # take. A front end sends the first chunk unasked.
            self.first += chunks.pop(0)
        self.chunks = chunks


class Caller:
    """One connection of a front end that remembers nothing of what it is answered."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._sock = socket.create_connection((host, int(port)), DEADLINE)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Close so that the server's next read or write fails."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._sock.close()

    def send(self, ask: Ask) -> None:
        self._sock.sendall(ask.first)

    def send_raw(self, data: bytes) -> None:
        self._sock.sendall(data)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def read_to_the_end(self) -> bytes:
        data = b""
        while piece := self._sock.recv(1 << 20):
            data += piece
        return data

    def send_part(self, ask: Ask, chunks: int) -> None:
        """Send a request, and the first of the body chunks that are asked for.

        Returns when the next is asked for.
        """
        self.send(ask)
        for number in range(chunks + 1):
            assert self.read(7)[4] == GET_BODY_CHUNK
            if number < chunks:
                self._sock.sendall(ask.chunks[number])

    def finish(self, ask: Ask) -> int:
        """Send the body as it is asked for, and return the response's status."""
        chunks = iter(ask.chunks)
        status = 0
        buffer = b""
        while True:
            while len(buffer) < 4 or len(buffer) < 4 + int.from_bytes(
                buffer[2:4], "big"
            ):
                data = self._sock.recv(1 << 20)
                if not data:
                    raise EOFError
                buffer += data
            length = int.from_bytes(buffer[2:4], "big")
            payload, buffer = buffer[4 : 4 + length], buffer[4 + length :]
            if payload[0] == END_RESPONSE:
                assert not buffer
                return status
            if payload[0] == GET_BODY_CHUNK:
                self._sock.sendall(next(chunks))
            elif not status:
                status = int.from_bytes(payload[1:3], "big")

    def ask(self, ask: Ask, times: int = 1, *, status: int = 200) -> None:
        for _ in range(times):
            self.send(ask)
            assert self.finish(ask) == status


def silence(server: ThreadedServer) -> None:
    """Take away what the server does by the clock.

    The watcher looks every few milliseconds, but only while there is traffic. When it
    has gone to sleep nobody shall remember to wake it. Under strace, or on a busy
    machine, it would take a slow request for one that waits, and step in.
    """
    crew: Any = server._crew
    wait_until(lambda: crew._watcher_sleeps, DEADLINE, "the watcher to sleep")
    crew._watcher_sleeps = False


def main(file: str) -> None:
    application = make_application(Path(file))
    settings = Settings.parse({"port": 0, "graceful_timeout": 1})
    with ThreadedServer(application, settings) as server:
        silence(server)
        print(server.addresses[0], flush=True)
        sys.stdin.read()


# -- strace --------------------------------------------------------------------------

#: Nothing of the kernel's, where the machine's clock allows it. Source: vdso(7).
FROM_VDSO: Final = frozenset({"clock_gettime", "gettimeofday", "time"})
#: One call has several names, by architecture and C library.
SAME: Final = {
    "epoll_pwait": "epoll_wait",
    "newfstatat": "fstat",
    "preadv2": "preadv",
    "recv": "recvfrom",
    "send": "sendto",
}

_CALL: Final = re.compile(r"(\d+) +(\w+)\((.*)")
_REST: Final = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_REQUEST: Final = re.compile(r"HTTP/1\.1\\0\\0.{1,4}(/[\w/]+)\\0")


class Call:
    """One system call, and, if it brought a request, the URI of that.

    strace writes a call in two parts when another thread's comes between.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = SAME.get(name, name)
        self.uri = ""
        self.add(text)

    def add(self, text: str) -> None:
        found = _REQUEST.search(text)
        if found:
            self.uri = found[1]


def read_calls(log: str) -> list[Call]:
    """Return the calls in a log of strace -f, in the order of their beginnings."""
    calls: list[Call] = []
    latest: dict[str, Call] = {}
    for line in log.splitlines():
        if begun := _CALL.match(line):
            thread, name, text = begun.groups()
            latest[thread] = Call(name, text)
            if name not in FROM_VDSO:
                calls.append(latest[thread])
        elif rest := _REST.match(line):
            latest[rest[1]].add(rest[3])
    return calls


def cut(calls: Sequence[Call]) -> dict[str, list[Counter[str]]]:
    """Return what each request has cost, by its URI: up to the next one's arrival."""
    costs: dict[str, list[Counter[str]]] = {}
    current: Counter[str] = Counter()
    for call in calls:
        if call.uri:
            current = Counter()
            costs.setdefault(call.uri, []).append(current)
        current[call.name] += 1
    return costs


@contextmanager
def traced_server(file: Path, log: Path) -> Iterator[str]:
    """Serve in a process under strace, and yield the address.

    The log is complete when the server has ended. Skips the test where nothing can be
    traced; in CI that is a failure.
    """
    strace = require("strace")
    options = [strace, "-f", "-qq", "-s", "64", "-e", "signal=none", "-o"]
    probe = subprocess.run(
        [*options, "/dev/null", "true"], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        reason = f"strace may not trace here: {probe.stderr.strip()}"
        if in_ci():
            pytest.fail(reason)
        pytest.skip(reason)
    process = subprocess.Popen(
        [*options, log, sys.executable, "-m", "tests.engine.counted", file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the server has not started"
        yield address
    finally:
        # At the end of its input the server ends by itself, and strace with it.
        try:
            process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise


if __name__ == "__main__":
    main(sys.argv[1])
