"""What has to hold for any input; each function raises where it does not.

`try_decoder` and `try_connection` have no I/O; LiveTarget has a server of its own
in this process. The atheris harness and the property tests use the same.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    CPong,
    DecodeError,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Role,
    SendBodyChunk,
    SendHeaders,
    decode_forward_request,
    decode_from_container,
    to_container,
)
from paste_ajp.settings import Settings
from tests.fuzz.mutations import cut

#: Statuses that a refusal may have.
STATUSES: Final = {400, 431, 501}

#: Seconds after which an answer that has not come is a hang.
HANG: Final = 10.0


def try_decoder(payload: bytes) -> ForwardRequest | None:
    """Decode a payload as each of the things that it could be."""
    for raw in (False, True):
        with contextlib.suppress(DecodeError):
            to_container.decode_body_chunk(payload, raw)
    length = to_container.find_content_length(payload)
    assert 0 <= length < 2**63
    to_container.is_raw_chunk(payload, length)
    try:
        request = decode_forward_request(payload)
    except DecodeError as error:
        _check_refusal(error, payload)
        return None
    assert request == to_container._decode_exactly(payload, to_container.MAX_HEADERS)
    assert request.req_uri.startswith("/") or request.req_uri == "*"
    assert not set(request.req_uri) & set(map(chr, (*range(32), 127)))
    assert sum(name == "content-length" for name, _ in request.headers) <= 1
    assert not (request.is_chunked and request.content_length is not None)
    for name, value in request.headers:
        assert name == name.lower()
        assert not set(value) & {"\r", "\n", "\0"}
    secret = request.attributes.get("secret")
    if isinstance(secret, str) and len(secret) > 8:
        shown = repr(request._replace(headers=[], request_attributes=[], req_uri="/"))
        assert f"'secret': {secret!r}" not in shown
    return request


def _check_refusal(error: DecodeError, payload: bytes) -> None:
    assert error.status in STATUSES, error
    assert 0 <= error.offset <= len(payload), error
    assert str(error).isprintable(), error


def try_connection(stream: bytes) -> None:
    """Feed a stream to a container's Connection, and answer as a server does.

    How the stream is split and how requests are answered follows from its bytes,
    so that a find can be repeated.
    """
    chance = random.Random(zlib.crc32(stream))
    connection = Connection(
        Role.CONTAINER,
        receive_limit=chance.choice((8192, 65536)),
        body_framing=chance.choice(("auto", "standard", "raw")),
    )
    pos = 0
    body_bytes = 0
    declared: int | None = None
    while pos < len(stream):
        end = pos + chance.choice((1, 2, 5, 300, 9000, 65536))
        piece, pos = stream[pos:end], end
        try:
            messages = connection.receive(piece)
        except DecodeError as error:
            assert connection.failure is not None
            assert not connection.may_reuse
            _answer_failure(connection, error)
            return
        assert connection.owed in (0, 1)
        for message in messages:
            if type(message) is ForwardRequest:
                assert message is messages[-1] or connection.owed == 0
                body_bytes = 0
                declared = message.content_length
            elif type(message) is BodyChunk:
                body_bytes += len(message.data)
                assert declared is None or body_bytes <= declared
                assert declared is None or (
                    connection.body_complete == (body_bytes == declared)
                )
            elif type(message) is CPing:
                if connection.is_idle:
                    connection.send(CPong())
            else:
                raise AssertionError(f"a container got {message}")
        if connection.state.value == "request" and chance.random() < 0.7:
            if chance.random() < 0.6 and _ask(connection):
                continue
            connection.sent_response(connection.may_reuse and chance.random() < 0.9)
    with contextlib.suppress(DecodeError):
        connection.receive_eof()


def _ask(connection: Connection) -> bool:
    """Ask for a body chunk, if one can be had; tell whether one is to come."""
    if connection.body_complete:
        return False
    if not connection.owed:
        try:
            connection.ask_body()
        except DecodeError:
            return False
    return True


def _answer_failure(connection: Connection, error: DecodeError) -> None:
    """Whatever went wrong, one complete answer can go out where headers have not."""
    assert error.offset >= 0
    if connection.state.value in ("request", "response"):
        connection.sent_response(False)
    assert connection.state.value in ("closing", "idle")


# -- a live server -------------------------------------------------------------------


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Read all, half or nothing of the body; answer at once or piece by piece."""
    for key, value in environ.items():
        assert type(key) is str
        assert key != "HTTP_PROXY"
        if isinstance(value, str):
            value.encode("latin-1")
    assert "secret" not in environ
    assert environ["PATH_INFO"][:1] in ("", "/")
    assert "\0" not in environ["PATH_INFO"]
    body = environ["wsgi.input"]
    path = environ["PATH_INFO"].encode("latin-1")
    if path == b"/probe":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"probe:" + body.read()]
    style = zlib.crc32(path)
    if style % 3 == 0:
        body.read()
    elif style % 3 == 1:
        body.read(10)
    start_response("200 OK", [("Content-Type", "text/plain")])
    if style % 2:
        return [b"done\n"]
    return iter([b"one\n", b"", b"two\n"])


class _Complaints(logging.Handler):
    """Keeps what the server logs with a traceback: nobody's input may cause that."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


PROBE: Final = to_container.encode_forward_request(
    to_container.build_forward_request(
        "POST",
        "/probe",
        [("Host", "localhost"), ("Content-Length", "5")],
        request_attributes=[("AJP_REMOTE_PORT", "1")],
    )
) + to_container.encode_body_chunk(b"hello")


class LiveTarget:
    """A server on loopback, and what it is asked."""

    def __init__(self) -> None:
        self.complaints = _Complaints()
        self._log = logging.getLogger("paste_ajp")
        self._propagated = self._log.propagate
        self._log.propagate = False
        self._log.addHandler(self.complaints)
        settings = Settings(port=0, threads=3, read_timeout=1, write_timeout=5)
        self.server = ThreadedServer(application, settings)
        self.server.start()
        self._place = ("127.0.0.1", int(self.server.addresses[0].rpartition(":")[2]))
        self._probe = self._connect()
        self.sequences = 0
        self.answers = 0
        self.probe()
        # Threads start when they are needed, up to the limit and one more.
        self._most_threads = threading.active_count() + settings.threads + 1
        self.descriptors = self.count_descriptors()

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._place, HANG)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def close(self) -> None:
        """Stop the server; no thread may be left."""
        self._probe.close()
        self.server.shutdown()
        assert self.server.wait(HANG), "the server did not stop"
        self._log.removeHandler(self.complaints)
        self._log.propagate = self._propagated
        _wait(lambda: not _our_threads(), lambda: f"left over: {_our_threads()}")

    def probe(self) -> None:
        """Ask something right over a connection that is kept, and check the answer."""
        self._probe.sendall(PROBE)
        connection = Connection(Role.FRONT_END)
        connection.send(_probe_request())
        connection.send(BodyChunk(b"hello"))
        messages = []
        while not messages or type(messages[-1]) is not EndResponse:
            data = self._probe.recv(65536)
            assert data, f"the probe was cut off after {messages}"
            messages += connection.receive(data)
        head, body, end = messages
        assert type(head) is SendHeaders and head.status == 200, head
        assert body == SendBodyChunk(b"probe:hello"), body
        assert end == EndResponse(True), end

    def send_sequence(self, packets: list[bytes]) -> bytes:
        """Send packets over a connection of their own; return all that came back."""
        chance = random.Random(zlib.crc32(b"".join(packets)))
        with self._connect() as sock:
            try:
                if chance.random() < 0.3:
                    for packet in packets:
                        sock.sendall(packet)
                else:
                    sock.sendall(b"".join(packets))
                if chance.random() < 0.1:
                    return b""  # gone without a word
                sock.shutdown(socket.SHUT_WR)
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                return answer
            except TimeoutError:
                raise AssertionError("no end of the answer: a hang") from None
            except OSError:
                return b""  # closed, as a stream that makes no sense is

    def try_sequence(self, packets: list[bytes]) -> None:
        """Send packets, check the answers' form, and that the server goes on."""
        answer = self.send_sequence(packets)
        self.sequences += 1
        self.answers += bool(answer)
        check_answers(answer)
        self.probe()
        assert not self.complaints.found, self.complaints.found[0]
        if self.sequences % 1000 == 0:
            self.check_leaks()

    def check_leaks(self) -> None:
        """No channel, thread or descriptor is left of what is over."""
        _wait(
            lambda: len(self.server._channels) == 1,
            lambda: f"channels: {self.server._channels}",
        )
        assert len(self.server._idle) <= 1
        assert threading.active_count() <= self._most_threads, _our_threads()
        assert self.count_descriptors() == self.descriptors
        for channel in self.server._channels.values():
            assert channel._connection.owed == 0

    @staticmethod
    def count_descriptors() -> int:
        """How many descriptors are open in this process."""
        folder = Path("/proc/self/fd")
        return len(list(folder.iterdir())) if folder.exists() else 0


def _our_threads() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("paste_ajp")
    ]


def _probe_request() -> ForwardRequest:
    return decode_forward_request(cut(PROBE)[0], 200, 4)


def _wait(condition: Callable[[], object], problem: Callable[[], str]) -> None:
    deadline = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < deadline, problem()
        time.sleep(0.002)


def check_answers(answer: bytes) -> None:
    """Check that whole packets came in an order that front ends understand."""
    is_open = False  # between Send Headers and End Response?
    is_over = False
    while answer:
        assert answer[:2] == b"AB", answer[:20]
        length = int.from_bytes(answer[2:4], "big")
        assert len(answer) >= 4 + length, "cut inside a packet"
        message = decode_from_container(answer[4 : 4 + length])
        answer = answer[4 + length :]
        assert not is_over, f"{message} after the last End Response"
        if type(message) is SendHeaders:
            assert not is_open, "Send Headers twice"
            assert 200 <= message.status <= 599
            is_open = True
        elif type(message) is SendBodyChunk:
            assert is_open, "a body without headers"
        elif type(message) is EndResponse:
            assert is_open, "End Response without headers"
            is_open = False
            is_over = not message.reuse
        elif type(message) is CPong:
            assert not is_open, "CPong inside an exchange"
        else:
            assert type(message) is GetBodyChunk, message
