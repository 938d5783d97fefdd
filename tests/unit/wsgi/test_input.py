import io
from contextlib import suppress
from operator import index

import pytest

from paste_ajp.wsgi.exchange import BodyTimeout, BodyTruncated
from paste_ajp.wsgi.input import RequestBody, spool
from tests.garbage import left_to_the_collector
from tests.unit.wsgi.fake_exchange import FakeExchange

TEXT = b"one\ntwo\n\nlast"


def body_of(*pieces):
    return RequestBody(FakeExchange(body=pieces))


def split_everywhere(data):
    """The same bytes whole, byte by byte, and cut in two at each place."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for place in range(1, len(data)):
        yield [data[:place], data[place:]]


ALL_SPLITS = pytest.mark.parametrize(
    "pieces", list(split_everywhere(TEXT)), ids=lambda pieces: str(len(pieces[0]))
)


@ALL_SPLITS
def test_read_gives_all_of_the_body(pieces):
    assert body_of(*pieces).read() == TEXT


@ALL_SPLITS
@pytest.mark.parametrize("size", [1, 3, 4, len(TEXT), 100])
def test_read_gives_the_size_that_was_asked_for_until_the_end(pieces, size):
    body = body_of(*pieces)
    expected = io.BytesIO(TEXT)
    for _ in range(len(TEXT) + 2):
        assert body.read(size) == expected.read(size)


@ALL_SPLITS
@pytest.mark.parametrize("size", [None, -1, 1, 2, 3, 4, 5, 100])
def test_readline_gives_what_a_file_would_give(pieces, size):
    body = body_of(*pieces)
    expected = io.BytesIO(TEXT)
    for _ in range(len(TEXT) + 2):
        assert body.readline(size) == expected.readline(size)


@ALL_SPLITS
@pytest.mark.parametrize("hint", [None, -1, 0, 1, 4, 5, 100])
def test_readlines_gives_what_a_file_would_give(pieces, hint):
    assert body_of(*pieces).readlines(hint) == io.BytesIO(TEXT).readlines(hint)


class Whole:
    """A number that is no int, as numpy's are."""

    def __index__(self):
        return 4


@pytest.mark.parametrize("name", ["read", "read1", "readline", "readlines"])
@pytest.mark.parametrize("size", [Whole(), True, False])
def test_size_may_be_any_whole_number(name, size):
    read = getattr(body_of(TEXT), name)
    assert read(size) == getattr(io.BytesIO(TEXT), name)(index(size))


@pytest.mark.parametrize("name", ["read", "read1", "readline", "readlines"])
@pytest.mark.parametrize("size", ["4", b"4", 4.0, [4]])
def test_size_that_is_no_whole_number_is_refused_and_nothing_lost(name, size):
    body = body_of(TEXT)
    kind = type(size).__name__
    with pytest.raises(TypeError, match=f"'{kind}' object cannot be interpreted as"):
        getattr(body, name)(size)
    assert body.read() == TEXT


def test_body_cannot_be_said_to_be_closed():
    with pytest.raises(AttributeError):
        body_of(TEXT).closed = True


@ALL_SPLITS
def test_iteration_gives_the_lines(pieces):
    assert list(body_of(*pieces)) == [b"one\n", b"two\n", b"\n", b"last"]


@ALL_SPLITS
def test_ways_to_read_can_be_mixed(pieces):
    body = body_of(*pieces)
    found = [body.read(2), body.readline(), next(body), body.read(0), body.read()]
    assert found == [b"on", b"e\n", b"two\n", b"", b"\nlast"]


@pytest.mark.parametrize("read", ["read", "readline", "read1"])
def test_nothing_is_asked_of_the_front_end_for_no_bytes(read):
    exchange = FakeExchange(body=[b"abc"])
    assert getattr(RequestBody(exchange), read)(0) == b""
    assert exchange.reads == 0


def test_read_does_not_wait_for_more_than_was_asked_for():
    exchange = FakeExchange(body=[b"abc", b"def"])
    assert RequestBody(exchange).read(3) == b"abc"
    assert exchange.reads == 1


def test_line_that_is_here_is_given_without_waiting_for_more():
    exchange = FakeExchange(body=[b"abc\n", b"def"])
    assert RequestBody(exchange).readline() == b"abc\n"
    assert exchange.reads == 1


@pytest.mark.parametrize("read", ["read", "readline", "read1"])
def test_end_of_the_body_stays_the_end(read):
    body = body_of(b"abc")
    found = [getattr(body, read)() for _ in range(3)]
    assert found == [b"abc", b"", b""]


def test_empty_body_has_no_lines():
    assert body_of().readlines() == []


def test_read1_gives_one_piece_or_a_part_of_it():
    body = body_of(b"abc", b"def")
    assert [body.read1(2), body.read1(), body.read1(9), body.read1(None)] == [
        b"ab",
        b"c",
        b"def",
        b"",
    ]


def test_readinto_fills_what_it_is_given():
    body = body_of(b"abc", b"def")
    buffer = bytearray(4)
    assert (body.readinto(buffer), buffer) == (4, b"abcd")
    assert (body.readinto(memoryview(buffer)), buffer) == (2, b"efcd")


def test_text_can_be_read_through_the_standard_wrappers():
    body = body_of("caf\xe9\n".encode(), b"two")
    text = io.TextIOWrapper(io.BufferedReader(body), encoding="utf-8")
    assert text.read() == "caf\xe9\ntwo"
    text.detach().detach()
    body.flush()
    body.close()
    assert not body.closed
    assert (body.readable(), body.writable(), body.seekable()) == (True, False, False)


READS = pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda body: body.read(), id="read"),
        pytest.param(lambda body: body.read(6), id="read with a size"),
        pytest.param(lambda body: body.readline(), id="readline"),
        pytest.param(lambda body: body.readlines(), id="readlines"),
        pytest.param(lambda body: list(body), id="iteration"),
        pytest.param(lambda body: [body.read1() for _ in range(2)], id="read1"),
        pytest.param(lambda body: body.readinto(bytearray(6)), id="readinto"),
    ],
)


@READS
def test_body_that_ends_too_soon_raises_and_is_never_a_short_one(read):
    body = body_of(b"abc", BodyTruncated("3 of 6 bytes of the body came"))
    with pytest.raises(BodyTruncated, match="3 of 6"):
        read(body)


@READS
def test_body_that_failed_once_fails_for_good(read):
    """What was read before the failure is lost, so what comes after it is no body."""
    body = body_of(b"abc", BodyTimeout("a body chunk is due"), b"def")
    with pytest.raises(BodyTimeout):
        read(body)
    for again in (body.read, body.readline, body.read1):
        with pytest.raises(BodyTimeout, match="a body chunk is due"):
            again()


def test_failure_of_a_body_is_not_left_to_the_garbage_collector():
    with left_to_the_collector() as left:
        body = RequestBody(FakeExchange(body=[BodyTimeout("a body chunk is due")]))
        for _ in range(2):
            with suppress(BodyTimeout):
                body.read()
        del body
    assert left == {}


def test_body_cannot_be_read_when_its_exchange_is_over():
    body = body_of(b"abc", b"def")
    assert body.read(1) == b"a"
    body.detach()
    assert body.read(2) == b"bc"
    with pytest.raises(ValueError, match="read after the response had ended"):
        body.read()


@pytest.mark.parametrize("in_memory", [0, 1, 9, 13, 14, 15])
def test_spooled_body_is_all_of_it_from_its_start(in_memory):
    body = body_of(*(b"%d" % n for n in range(12)))
    file, length = spool(body, in_memory)
    with file:
        assert (file.read(), length) == (b"01234567891011", 14)
        assert isinstance(file, io.BytesIO) is (in_memory >= 14)


def test_body_that_breaks_off_is_no_spooled_one():
    for in_memory in (0, 100):
        with pytest.raises(BodyTruncated):
            spool(body_of(b"abc", BodyTruncated("it ended")), in_memory)
