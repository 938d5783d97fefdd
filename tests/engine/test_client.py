"""The client against servers that misbehave in every stage."""

import contextlib
import io
import socket
import struct
import subprocess
import sys
import threading

import pytest

from paste_ajp.client import (
    BadAnswer,
    BodyFailed,
    Client,
    ConnectFailed,
    ConnectionLost,
    PoolExhausted,
    Stage,
    TimedOut,
    UnknownHost,
)
from paste_ajp.protocol import LocalProtocolError
from tests.engine.scripted import (
    CPING,
    CPONG,
    END_CLOSE,
    END_REUSE,
    EOF_CHUNK,
    FLUSH,
    HEAD,
    Peer,
    ScriptedServer,
    ask,
    body,
)
from tests.garbage import left_to_the_collector


@contextlib.contextmanager
def talking(*scripts, **settings):
    """A scripted server, and a client for it."""
    settings.setdefault("timeout", 10)
    with ScriptedServer(*scripts) as server, Client(server.url, **settings) as client:
        yield server, client


def answer(peer, *pieces, end=END_REUSE):
    """Read a request without body, and answer it."""
    packet = peer.packet()
    assert packet[:5] == b"\x12\x34" + packet[2:4] + b"\x02"
    peer.send(HEAD, *map(body, pieces), end)


# -- it works


def test_a_request_and_its_answer():
    with talking(lambda peer: answer(peer, b"ab", b"c")) as (_, client):
        response = client.request("GET", "/x")
        assert (response.status, response.reason, response.read()) == (
            200,
            "OK",
            b"abc",
        )


def test_a_connection_serves_again_where_the_server_allows():
    def twice(peer):
        answer(peer)
        answer(peer)

    with talking(twice) as (server, client):
        client.request("GET").read()
        assert client.connections == (0, 1)
        client.request("GET").read()
        assert server.accepted == 1


def test_a_connection_that_will_be_closed_is_not_used_again():
    with talking(lambda peer: answer(peer, end=END_CLOSE), answer) as (server, client):
        client.request("GET").read()
        assert client.connections == (0, 0)
        client.request("GET").read()
        assert server.accepted == 2


@pytest.mark.parametrize(
    "surplus",
    [
        pytest.param(FLUSH, id="packet"),
        pytest.param(FLUSH[:2], id="half a head"),
        pytest.param(FLUSH[:6], id="half a packet"),
    ],
)
def test_bytes_after_the_end_spoil_a_connection(surplus):
    def chatter(peer):
        answer(peer, end=END_REUSE + surplus)
        peer.packet()

    with talking(chatter, answer) as (_, client):
        client.request("POST").read()
        assert client.connections == (0, 0)
        assert client.request("POST").status == 200


def test_cping():
    def pong(peer):
        for _ in range(2):
            assert peer.packet() == CPING
            peer.send(CPONG)

    with talking(pong) as (server, client):
        assert 0 < client.cping() < 10
        client.cping()
        assert server.accepted == 1


@pytest.mark.parametrize(
    "surplus",
    [
        pytest.param(CPONG, id="packet"),
        pytest.param(CPONG[:2], id="half a head"),
        pytest.param(b"zz", id="no packet"),
    ],
)
def test_bytes_after_a_cpong_spoil_a_connection(surplus):
    def chatter(peer):
        assert peer.packet() == CPING
        peer.send(CPONG + surplus)
        peer.packet()

    with talking(chatter, answer) as (_, client):
        assert client.cping() > 0
        assert client.connections == (0, 0)
        assert client.request("POST").status == 200


def test_a_unix_socket(tmp_path):
    path = tmp_path / "ajp.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            sock, _ = listener.accept()
            with sock:
                sock.recv(100)
                sock.sendall(CPONG)

        thread = threading.Thread(target=serve)
        thread.start()
        with Client(f"ajp+unix://{path}") as client:
            client.cping()
        thread.join(10)


# -- bodies


def packets_of(count, got, *, ask_for=8186):
    """A script that asks for chunks until it has had ``count`` packets."""

    def script(peer):
        peer.packet()
        got.append(peer.packet())
        for _ in range(count - 1):
            peer.send(ask(ask_for))
            got.append(peer.packet())
        peer.send(HEAD, END_REUSE)

    return script


def test_the_first_chunk_of_a_known_length_goes_unasked():
    got = []
    with talking(packets_of(1, got)) as (server, client):
        client.request("POST", body=b"hello").read()
        server.done()
    assert got == [bytes.fromhex("12340007 0005") + b"hello"]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda data: data, id="bytes"),
        pytest.param(io.BytesIO, id="file"),
    ],
)
def test_no_chunk_is_longer_than_asked_for(make):
    got = []
    with talking(packets_of(3, got, ask_for=5)) as (server, client):
        client.request("POST", body=make(b"x" * 8190)).read()
        server.done()
    assert [len(packet) - 6 for packet in got] == [8186, 4, 0]


def test_a_chunked_body_is_sent_on_demand_alone_and_ends_in_eof():
    got = []

    def script(peer):
        got.append(b"transfer-encoding\0\0\7chunked" in peer.packet())
        for _ in range(4):
            peer.send(ask(8186))
            got.append(peer.packet())
        peer.send(HEAD, END_REUSE)

    with talking(script) as (server, client):
        client.request("POST", body=iter([b"one", b"two"])).read()
        server.done()
    chunks = [bytes.fromhex("12340005 0003") + piece for piece in (b"one", b"two")]
    assert got == [True, *chunks, EOF_CHUNK, EOF_CHUNK]


@pytest.mark.parametrize(
    ("body", "unasked"),
    [
        pytest.param(b"x" * 9000, 1, id="of known length"),
        pytest.param([b"x" * 8186, b"x" * 814], 0, id="chunked"),
    ],
)
def test_a_server_that_asks_for_no_bytes_gets_a_chunk_as_from_httpd(body, unasked):
    got = []

    def script(peer):
        peer.packet()
        for number in range(2):
            if number >= unasked:
                peer.send(ask(0))
            got.append(len(peer.packet()) - 6)
        peer.send(HEAD, END_REUSE)

    with talking(script) as (server, client):
        client.request("POST", body=body).read()
        server.done()
    assert got == [8186, 814]


def test_a_server_with_larger_packets_gets_larger_chunks():
    got = []
    with talking(packets_of(1, got), packet_size=65536) as (server, client):
        client.request("POST", body=b"x" * 100_000).close()
        server.done()
    assert len(got[0]) == 65536


def test_an_answer_before_the_body_ends_the_exchange():
    def early(peer):
        peer.packet()
        peer.send(HEAD, body(b"no thanks"), END_CLOSE)
        peer.packet()  # the first chunk

    with talking(early) as (_, client):
        response = client.request("POST", body=iter([b"x"] * 1000))
        assert response.read() == b"no thanks"


def test_an_answer_is_read_though_the_body_could_not_be_sent():
    sent = threading.Event()

    def refuse(peer):
        peer.packet()
        peer.send(ask(10), HEAD, body(b"too large"), END_CLOSE)
        peer.sock.shutdown(socket.SHUT_RDWR)
        sent.set()

    def pieces():
        sent.wait(10)
        while True:
            yield b"x" * 10

    with talking(refuse) as (_, client):
        response = client.request("POST", body=pieces())
        assert response.read() == b"too large"


def test_body_that_cannot_be_sent_leaves_nothing_to_the_garbage_collector():
    asked, gone = threading.Event(), threading.Event()

    def leave(peer):
        peer.packet()
        peer.send(ask(10))
        asked.wait(10)
        at_once = struct.pack("ii", 1, 0)  # close with a reset
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        peer.sock.close()
        gone.set()

    def pieces():
        asked.set()
        gone.wait(10)
        yield b"x" * 10

    stages = []
    with talking(leave) as (server, client):
        with left_to_the_collector() as left:
            try:
                client.request("POST", body=pieces())
            except ConnectionLost as error:
                stages.append(error.stage)
        server.done()
    assert (stages, left) == ([Stage.REQUEST_BODY], {})


def test_chunks_are_sent_while_the_answer_comes():
    def echo(peer):
        peer.packet()
        peer.send(HEAD)
        while True:
            peer.send(ask(100))
            packet = peer.packet()
            if packet == EOF_CHUNK:
                break
            peer.send(body(packet[6:]))
        peer.send(END_REUSE)

    with talking(echo) as (_, client):
        response = client.request("POST", body=iter([b"one", b"two"]))
        assert list(response) == [b"one", b"two"]
        assert client.connections == (0, 1)


def test_an_error_of_the_body_passes_through_and_the_server_sees_the_end():
    def pieces():
        yield b"x"
        raise KeyError("the producer")

    seen = []

    def script(peer):
        peer.packet()
        peer.packet()
        peer.send(ask(10))
        seen.append(peer.packet())

    with talking(script) as (server, client):
        with pytest.raises(KeyError):
            client.request("POST", body=pieces(), headers={"Content-Length": "5"})
        server.done()
        assert client.connections == (0, 0)
    assert seen == [b""]


def test_a_body_shorter_than_declared_is_never_taken_for_the_whole():
    def script(peer):
        peer.packet()
        peer.packet()
        peer.send(ask(10))
        assert peer.packet() == b""

    with talking(script) as (server, client):
        with pytest.raises(BodyFailed) as caught:
            client.request("POST", body=[b"abc"], headers={"Content-Length": "5"})
        server.done()
    assert caught.value.problem == "the body ended after 3 bytes, 5 were declared"
    assert caught.value.stage is Stage.REQUEST_BODY


# -- failures


def test_nobody_listens():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with Client(f"127.0.0.1:{port}") as client:
        with pytest.raises(ConnectFailed) as caught:
            client.request("GET")
        assert client.connections == (0, 0)
    assert str(caught.value) == (
        f"127.0.0.1:{port}: Connection refused (while connecting)"
    )


def test_silence_is_a_timeout_that_names_the_stage():
    def silent(peer):
        while peer.packet():
            pass

    with talking(silent, timeout=0.05) as (_, client):
        with pytest.raises(TimedOut) as caught:
            client.request("POST", body=b"x")
        assert isinstance(caught.value, TimeoutError)
    assert caught.value.stage is Stage.HEADERS
    assert caught.value.problem == "silent for 0.05 s"


def test_silence_in_the_middle_of_the_body():
    def stall(peer):
        peer.packet()
        peer.send(HEAD, body(b"x"))
        peer.packet()

    with talking(stall, timeout=0.05) as (_, client):
        response = client.request("GET")
        with pytest.raises(TimedOut) as caught:
            response.read()
    assert caught.value.stage is Stage.RESPONSE_BODY


def test_a_connection_closed_without_an_answer():
    talk = talking(lambda peer: peer.packet())
    with talk as (_, client), pytest.raises(ConnectionLost) as caught:
        client.request("GET")
    assert caught.value.stage is Stage.HEADERS


def test_a_connection_closed_within_a_packet_says_how_far_it_came():
    def cut(peer):
        peer.packet()
        peer.send(HEAD[:9])

    with talking(cut) as (_, client), pytest.raises(ConnectionLost) as caught:
        client.request("GET")
    assert caught.value.problem == (
        "the server closed the connection after 9 of 14 bytes of a packet"
    )


def test_a_connection_closed_within_the_body():
    def cut(peer):
        peer.packet()
        peer.send(HEAD, body(b"half"))

    with talking(cut) as (_, client):
        response = client.request("GET")
        assert response.read(4) == b"half"
        with pytest.raises(ConnectionLost):
            response.read()
        assert client.connections == (0, 0)


@pytest.mark.parametrize(
    ("bytes_sent", "problem"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "magic"),
        (END_REUSE, "found EndResponse"),
        (body(b"x"), "found SendBodyChunk"),
        (CPONG, "found CPong"),
        (bytes.fromhex("41420001 1e"), "found 30"),
    ],
)
def test_what_is_no_answer_is_named(bytes_sent, problem):
    def wrong(peer):
        peer.packet()
        peer.send(bytes_sent)
        peer.packet()

    with talking(wrong) as (_, client):
        with pytest.raises(BadAnswer) as caught:
            client.request("GET")
        assert client.connections == (0, 0)
    assert problem in caught.value.problem


def test_a_fault_after_a_good_beginning_comes_after_it():
    def wrong(peer):
        peer.packet()
        peer.send(HEAD, body(b"good"), HEAD)
        peer.packet()

    with talking(wrong) as (_, client):
        response = client.request("GET")
        assert response.read(4) == b"good"
        with pytest.raises(BadAnswer):
            response.read()


def test_cping_wants_a_cpong():
    def wrong(peer):
        peer.packet()
        peer.send(END_REUSE)
        peer.packet()

    with talking(wrong) as (_, client), pytest.raises(BadAnswer) as caught:
        client.cping()
    assert caught.value.stage is Stage.CPING


def test_what_does_not_fit_a_packet_reaches_nobody():
    with talking(lambda peer: peer.packet()) as (_, client):
        with pytest.raises(LocalProtocolError) as caught:
            client.request("GET", headers={"X": "a" * 9000})
        assert "at most 8192 fit" in str(caught.value)
        assert client.connections == (0, 0)


# -- the pool


def dies_after_one(peer):
    answer(peer)


def reset_on_second(peer):
    """Answers once, takes a second request and drops the connection."""
    answer(peer)
    peer.packet()


def test_a_connection_found_dead_is_replaced_for_any_request():
    with talking(dies_after_one, answer) as (server, client):
        client.request("GET").read()
        _until(lambda: server.accepted == 1)
        _wait_for_fin(client)
        client.request("POST").read()
        assert server.accepted == 2


def test_cping_is_repeated_on_a_new_connection():
    def pong(peer):
        assert peer.packet() == CPING
        peer.send(CPONG)

    def pong_once(peer):
        pong(peer)
        peer.packet()

    with talking(pong_once, pong) as (server, client):
        client.cping()
        client.cping()
        assert server.accepted == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_an_idempotent_request_is_repeated_on_a_new_connection(method):
    with talking(reset_on_second, answer) as (server, client):
        client.request("GET").read()
        assert client.request(method).status == 200
        assert server.accepted == 2


@pytest.mark.parametrize(
    ("method", "data"), [("POST", None), ("PATCH", None), ("PUT", b"x"), ("GET", b"x")]
)
def test_another_request_is_never_repeated(method, data):
    with talking(reset_on_second, answer) as (server, client):
        client.request("GET").read()
        with pytest.raises(ConnectionLost):
            client.request(method, body=data)
        assert server.accepted == 1
        assert client.connections == (0, 0)


def test_nothing_is_repeated_once_an_answer_has_begun():
    def begin(peer):
        answer(peer)
        peer.packet()
        peer.send(HEAD[:5])

    with talking(begin, answer) as (server, client):
        client.request("GET").read()
        with pytest.raises(ConnectionLost):
            client.request("GET")
        assert server.accepted == 1


def test_nothing_is_repeated_on_a_connection_that_was_new():
    with talking(lambda peer: peer.packet(), answer) as (server, client):
        with pytest.raises(ConnectionLost):
            client.request("GET")
        assert server.accepted == 1


def test_a_pool_that_stays_busy_is_a_timeout():
    def hold(peer):
        peer.packet()
        peer.send(HEAD)
        peer.packet()

    with talking(hold, pool_size=1, timeout=0.05) as (_, client):
        held = client.request("GET")
        with pytest.raises(PoolExhausted) as caught:
            client.request("GET")
        assert caught.value.problem == "all 1 connections stayed busy for 0.05 s"
        held.close()


def test_a_response_closed_early_gives_its_place_back():
    def endless(peer):
        peer.packet()
        with contextlib.suppress(OSError):
            peer.send(HEAD, *[body(b"x" * 1000)] * 1000)
            peer.packet()

    with talking(endless, answer, pool_size=1) as (server, client):
        with client.request("GET") as response:
            response.read(10)
        client.request("GET").read()
        assert server.accepted == 2


def test_a_trace_sees_all_bytes():
    class Trace:
        def __init__(self):
            self.bytes = {"sent": b"", "received": b""}

        def sent(self, connection_id, data):
            self.bytes["sent"] += data

        def received(self, connection_id, data):
            self.bytes["received"] += data

    def pong(peer):
        peer.packet()
        peer.send(CPONG)

    trace = Trace()
    with talking(pong, trace=trace) as (_, client):
        client.cping()
    assert trace.bytes == {"sent": CPING, "received": CPONG}


def test_a_closed_client_says_so():
    client = Client("127.0.0.1:1")
    client.close()
    with pytest.raises(RuntimeError):
        client.request("GET")


def test_a_secret_stands_in_no_text():
    client = Client("127.0.0.1:1", secret="s3cret")
    assert "s3cret" not in repr(client)


def _wait_for_fin(client):
    """Wait until the idle connection has noticed that its server is gone."""
    [(_, link)] = client._pool._idle
    link._sock.settimeout(10)
    assert link._sock.recv(1, socket.MSG_PEEK) == b""


def _until(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it never came true")


def trickle(peer, first):
    """Answer a little now and then, until the client goes away."""
    peer.packet()
    peer.send(first)
    peer.sock.settimeout(0.01)
    with contextlib.suppress(ConnectionError):
        while True:
            with contextlib.suppress(TimeoutError):
                assert peer.sock.recv(1) == b""
                return
            peer.send(FLUSH)


def test_a_server_that_trickles_runs_into_max_time():
    with ScriptedServer(lambda peer: trickle(peer, HEAD)) as server:
        with Client(server.url) as client, pytest.raises(TimedOut) as caught:
            client.request("GET", "/", max_time=0.1).read()
        server.done()
    assert caught.value.problem == "not done within 0.1 s"
    assert caught.value.stage is Stage.RESPONSE_BODY


def test_a_silent_server_runs_into_the_max_time_of_a_cping():
    with ScriptedServer(lambda peer: (peer.packet(), peer.packet())) as server:
        with Client(server.url) as client, pytest.raises(TimedOut) as caught:
            client.cping(max_time=0.05)
        server.done()
    assert caught.value.problem == "not done within 0.05 s"


def test_max_time_bounds_connecting():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):  # what the backlog takes, and what it does not
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            client = stack.enter_context(Client(f"ajp://127.0.0.1:{port}"))
            with pytest.raises(TimedOut) as caught:
                client.cping(max_time=0.05)
    assert caught.value.stage is Stage.CONNECT
    assert caught.value.problem == "not done within 0.05 s"


def test_max_time_ends_with_its_exchange():
    def script(peer):
        peer.packet()
        peer.send(HEAD, END_REUSE)
        peer.packet()
        threading.Event().wait(0.15)  # longer than the first exchange might take
        peer.send(HEAD, END_REUSE)

    with ScriptedServer(script) as server, Client(server.url) as client:
        client.request("GET", "/", max_time=0.1).read()
        assert client.request("GET", "/").read() == b""
        assert server.accepted == 1


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64])
def test_a_name_that_leads_nowhere_is_said_so(host):
    with Client(f"ajp://{host}") as client, pytest.raises(UnknownHost) as caught:
        client.cping()
    assert caught.value.stage is Stage.CONNECT


FORKING = """
import os, sys
from paste_ajp.client import Client

client = Client(sys.argv[1])
client.request("GET", "/").read()
child = os.fork()
if child == 0:
    assert client.connections == (0, 0)
    client.request("GET", "/").read()
    os._exit(0)
status = os.waitpid(child, 0)[1]
assert client.connections == (0, 1)
client.request("GET", "/").read()
sys.exit(status)
"""


def test_a_forked_process_leaves_the_connections_to_its_parent():
    seen = []

    def twice(peer):
        answer(peer)
        answer(peer)
        seen.append("parent")

    def once(peer):
        answer(peer)
        seen.append("child")

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(20)
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", FORKING, f"ajp://127.0.0.1:{port}"]
        )
        threads = []
        for script in (twice, once):
            sock = stack.enter_context(listener.accept()[0])
            threads.append(threading.Thread(target=script, args=[Peer(sock)]))
            threads[-1].start()
        assert process.wait(20) == 0
        for thread in threads:
            thread.join(10)
    assert sorted(seen) == ["child", "parent"]


def test_a_request_that_is_repeated_stays_chunked():
    packets = []

    def dying(peer):
        answer(peer)
        peer.packet()

    def other(peer):
        packets.append(peer.packet())
        peer.send(HEAD, END_REUSE)

    with talking(dying, other) as (_, client):
        client.request("GET", "/").read()
        client.request("GET", "/", headers={"Transfer-Encoding": "chunked"}).read()
    assert b"chunked" in packets[0]
