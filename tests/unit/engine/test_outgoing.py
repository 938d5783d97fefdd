"""The rest of a response, sent piece by piece as a socket takes it."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest

from paste_ajp.engine import outgoing as outgoing_module
from paste_ajp.engine.outgoing import GATHERED, Outgoing


class Socket:
    """Takes so many bytes at a time as `takes` says, then BlockingIOError."""

    def __init__(self, *takes):
        self.takes = list(takes)
        self.got = b""

    def sendmsg(self, buffers, ancillary, flags):
        assert (list(ancillary), flags) == ([], 64)
        assert 0 < len(buffers) <= GATHERED
        if not self.takes:
            raise BlockingIOError
        data = b"".join(buffers)[: self.takes.pop(0)]
        self.got += data
        return len(data)


class PlainSocket:
    """The same, of a system without sendmsg()."""

    def __init__(self, *takes):
        self._socket = Socket(*takes)

    @property
    def got(self):
        return self._socket.got

    def send(self, data, flags):
        return self._socket.sendmsg([data], (), flags)


class Batches:
    """Gives batches in one buffer, as a file does: each is valid until the next."""

    def __init__(self, *texts, knows_its_end=True, error=None):
        self.left = list(texts)
        self.buffer = bytearray(10)
        self.knows_its_end = knows_its_end
        self.error = error
        self.closed = 0
        self.detached = 0
        self.is_complete = False

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            if self.error is not None:
                raise self.error
            raise StopIteration
        text = self.left.pop(0)
        self.buffer[: len(text)] = text
        self.is_complete = self.knows_its_end and not self.left
        return memoryview(self.buffer)[: len(text)]

    def detach(self):
        self.detached += 1

    def close(self):
        self.closed += 1

    def missing(self, unsent):
        return f"{unsent} of the last batch"


def send(outgoing, sock, most=math.inf):
    return outgoing.send(sock, 64, most)


@pytest.mark.parametrize("sent", range(7))
@pytest.mark.parametrize("takes", range(1, 8))
def test_every_byte_goes_out_once(sent, takes):
    outgoing = Outgoing([b"ab", memoryview(b"c"), b"", b"def"], sent)
    sock = Socket(*[takes] * 7)
    assert send(outgoing, sock) is True
    assert sock.got == b"abcdef"[sent:]
    assert outgoing.sent == 6


def test_full_socket_is_told_and_sending_goes_on_where_it_stood():
    outgoing = Outgoing([b"abc", b"def"])
    first, second = Socket(2, 2), Socket(9)
    with pytest.raises(BlockingIOError):
        send(outgoing, first)
    assert (first.got, outgoing.sent) == (b"abcd", 4)
    assert send(outgoing, second) is True
    assert second.got == b"ef"


def test_system_without_gathered_writes_is_served_too(monkeypatch):
    monkeypatch.setattr(outgoing_module, "CAN_GATHER", False)
    sock = PlainSocket(1, 4, 100)
    assert send(Outgoing([b"ab", memoryview(b"cd")], 0, Batches(b"one"), b"END"), sock)
    assert sock.got == b"abcdoneEND"


def test_others_get_their_turn():
    outgoing = Outgoing([b"abc", b"def", b"ghi"])
    sock = Socket(3, 3, 3)
    assert send(outgoing, sock, 4) is False
    assert sock.got == b"abcdef"
    assert send(outgoing, sock, 4) is True
    assert sock.got == b"abcdefghi"


def test_more_buffers_than_one_call_takes():
    outgoing = Outgoing([b"%d" % (number % 10) for number in range(2 * GATHERED + 1)])
    sock = Socket(*[GATHERED - 1] * 4)
    assert send(outgoing, sock) is True
    assert len(sock.got) == 2 * GATHERED + 1
    assert sock.got.startswith(b"0123456789012345")
    assert sock.got == b"".join(b"%d" % (n % 10) for n in range(2 * GATHERED + 1))


@pytest.mark.parametrize("knows_its_end", [True, False])
@pytest.mark.parametrize("takes", [1, 2, 3, 100])
def test_batches_follow_and_the_end_behind_them(knows_its_end, takes):
    batches = Batches(b"one", b"two", b"three", knows_its_end=knows_its_end)
    outgoing = Outgoing([b"head"], 0, batches, b"END")
    sock = Socket(*[takes] * 30)
    assert send(outgoing, sock) is True
    assert sock.got == b"headonetwothreeEND"
    assert batches.closed == 1


def test_last_batch_and_the_end_leave_in_one_go():
    outgoing = Outgoing([b"head"], 0, Batches(b"one"), b"END")
    sock = Socket(100)
    assert send(outgoing, sock) is True
    assert sock.got == b"headoneEND"


def test_no_batch_at_all():
    outgoing = Outgoing([b"head"], 0, Batches(), b"END")
    sock = Socket(100)
    assert send(outgoing, sock) is True
    assert sock.got == b"headEND"


def test_error_of_a_batch_comes_through_and_nothing_follows():
    batches = Batches(b"one", error=ValueError("cut short"), knows_its_end=False)
    outgoing = Outgoing([], 0, batches, b"END")
    sock = Socket(100, 100)
    with pytest.raises(ValueError, match="cut short"):
        send(outgoing, sock)
    assert sock.got == b"one"
    outgoing.end()
    assert batches.closed == 1


def test_batches_are_detached_unless_they_are_through():
    batches = Batches(b"one", b"two")
    outgoing = Outgoing([], 0, batches, b"END")
    outgoing.detach()
    assert batches.detached == 1
    assert send(outgoing, Socket(100, 100)) is True
    outgoing.detach()
    outgoing.end()
    assert (batches.detached, batches.closed) == (1, 1)


@pytest.mark.parametrize(
    ("sent", "missing"),
    [(0, 5), (2, 5), (3, 4), (4, 3), (5, 3), (6, 2), (7, 1), (8, 0), (9, 0)],
)
def test_end_is_told_with_the_bytes_of_body_that_are_missing(sent, missing):
    body = memoryview(b"cdfgh")
    outgoing = Outgoing([b"ab", body[:2], b"e", body[2:], b"END"])
    told = []
    outgoing.on_end = told.append
    with pytest.raises(BlockingIOError):
        send(outgoing, Socket(*[1] * sent))
    outgoing.end()
    assert told == [missing]


@pytest.mark.parametrize(
    ("takes", "missing"),
    [
        pytest.param([], 3, id="nothing"),
        pytest.param([5], 2, id="in the first batch"),
        pytest.param([7, 1], 2, id="in the last batch"),
        pytest.param([7, 3], 0, id="before the end"),
        pytest.param([7, 6], 0, id="all"),
    ],
)
def test_batches_say_what_is_missing_themselves(takes, missing):
    outgoing = Outgoing([b"head"], 0, Batches(b"one", b"two"), b"END")
    with suppress(BlockingIOError):
        send(outgoing, Socket(*takes))
    assert outgoing.missing() == f"{missing} of the last batch"
