import gzip
import io
import os
import tempfile

import pytest

from paste_ajp.wsgi import file_wrapper
from paste_ajp.wsgi.exchange import FrontEndGone
from paste_ajp.wsgi.file_wrapper import FileUnreadable, FileWrapper
from paste_ajp.wsgi.response import ApplicationError
from tests.unit.wsgi.test_response import TEXT, length, pattern, response_to

SIZES = [0, 1, 8183, 8184, 8185, 16368, 32 * 8184, 32 * 8184 + 1, 1000000]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def sent_for(wrapper, headers=(TEXT,), **keywords):
    exchange, response = response_to(**keywords)
    response.start_response("200 OK", list(headers))
    response.send_result(wrapper)
    assert exchange.finished == 1
    return exchange.response


def is_read_directly(filelike):
    return FileWrapper(filelike).packets(8192, None) is not None


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("packet_size", [8192, 65536])
def test_file_arrives_whole(path, size, packet_size):
    path.write_bytes(pattern(size))
    with path.open("rb") as file:
        assert is_read_directly(file)
        seen = sent_for(FileWrapper(file), packet_size=packet_size)
    assert seen.body == pattern(size)
    assert max(seen.pieces, default=0) <= packet_size - 8
    assert 0 not in seen.pieces


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("offset", [0, 1, 8184, 50000])
def test_file_is_sent_from_where_it_stands(path, size, offset):
    path.write_bytes(pattern(size))
    with path.open("rb") as file:
        file.seek(offset)
        assert sent_for(FileWrapper(file)).body == pattern(size)[offset:]


def test_file_that_was_read_in_part_is_sent_from_there(path):
    """The buffer has read further than the application has."""
    path.write_bytes(pattern(10000))
    with path.open("rb") as file:
        file.read(10)
        assert sent_for(FileWrapper(file)).body == pattern(10000)[10:]


@pytest.mark.parametrize("limit", [0, 1, 8184, 8185, 32 * 8184, 300000, 999999])
def test_no_more_of_a_file_is_sent_than_was_declared(path, limit):
    path.write_bytes(pattern(1000000))
    with path.open("rb") as file:
        assert sent_for(FileWrapper(file), [length(limit)]).body == pattern(limit)


def test_written_bytes_count_for_the_length(path):
    path.write_bytes(b"0123456789")
    exchange, response = response_to()
    write = response.start_response("200 OK", [length(7)])
    write(b"abc")
    with path.open("rb") as file:
        response.send_result(FileWrapper(file))
    assert exchange.response.body == b"abc0123"


def test_file_shorter_than_declared_is_an_error(path):
    path.write_bytes(pattern(9000))
    exchange, response = response_to()
    response.start_response("200 OK", [length(9001)])
    with path.open("rb") as file, pytest.raises(ApplicationError, match="ended after"):
        response.send_result(FileWrapper(file))
    assert not exchange.finished


def test_file_that_gives_nothing_leaves_room_for_an_error_page(path):
    path.write_bytes(b"")
    exchange, response = response_to()
    response.start_response("200 OK", [length(1)])
    with path.open("rb") as file, pytest.raises(ApplicationError, match="after 0"):
        response.send_result(FileWrapper(file))
    assert not response.headers_sent
    assert exchange.sent == []


def test_unreadable_file_behind_written_bytes_leaves_no_room_for_an_error_page(path):
    _, response = response_to()
    response.start_response("200 OK", [TEXT])(b"abc")
    with path.open("wb", 0) as file, pytest.raises(FileUnreadable):
        response.send_result(FileWrapper(file))
    assert response.headers_sent


def test_file_is_not_sent_for_head(path):
    path.write_bytes(pattern(9000))
    with path.open("rb") as file:
        assert sent_for(FileWrapper(file), method="HEAD").pieces == []


def test_file_without_start_response_is_an_error(path):
    path.write_bytes(b"x")
    _, response = response_to()
    with path.open("rb") as file, pytest.raises(ApplicationError):
        response.send_result(FileWrapper(file))


def test_front_end_that_leaves_is_reported(path):
    path.write_bytes(pattern(1000000))
    _, response = response_to(gone_after=2)
    response.start_response("200 OK", [TEXT])
    with path.open("rb") as file, pytest.raises(FrontEndGone):
        response.send_result(FileWrapper(file))


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda path: path.open("rb"), id="buffered"),
        pytest.param(lambda path: path.open("rb", buffering=0), id="raw"),
        pytest.param(lambda path: path.open("r+b"), id="for writing too"),
    ],
)
def test_plain_file_is_read_directly(path, opened):
    path.write_bytes(pattern(9000))
    with opened(path) as file:
        assert is_read_directly(file)
        assert sent_for(FileWrapper(file)).body == pattern(9000)


def test_temporary_file_is_read_directly_with_what_was_just_written():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"hello")
        file.seek(0)
        file.write(b"J")
        file.seek(0)
        assert is_read_directly(file)
        assert sent_for(FileWrapper(file)).body == b"Jello"


class Subclass(io.FileIO):
    """What it gives out need not be what is in the file."""

    def read(self, size=-1):
        return super().read(size).upper()


def in_gzip(path):
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes())))


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        pytest.param(lambda path: io.BytesIO(b"abc"), b"abc", id="BytesIO"),
        pytest.param(lambda path: Subclass(path), b"PLAIN", id="subclass"),
        pytest.param(in_gzip, b"plain", id="GzipFile"),
        pytest.param(
            lambda path: io.BufferedReader(Subclass(path)), None, id="buffered subclass"
        ),
        pytest.param(
            lambda path: io.BufferedReader(io.BytesIO(b"abc")), b"abc", id="wrapped"
        ),
    ],
)
def test_what_is_no_plain_file_is_read_through_its_read(path, opened, expected):
    path.write_bytes(b"plain")
    with opened(path) as file:
        assert not is_read_directly(file)
        if expected is not None:
            assert sent_for(FileWrapper(file)).body == expected


def test_gzip_file_over_a_real_file_gives_what_it_unpacks(path):
    path.write_bytes(gzip.compress(pattern(100000)))
    with gzip.open(path) as file:
        assert sent_for(FileWrapper(file)).body == pattern(100000)


def test_pipe_is_read_until_its_end():
    reader, writer = os.pipe()
    os.write(writer, b"through a pipe")
    os.close(writer)
    with open(reader, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        assert not is_read_directly(file)
        assert sent_for(FileWrapper(file)).body == b"through a pipe"


def test_text_file_is_an_error(path):
    path.write_bytes(b"abc")
    _, response = response_to()
    response.start_response("200 OK", [TEXT])
    with (
        path.open(encoding="ascii") as file,
        pytest.raises(ApplicationError, match="the body must be bytes, not str"),
    ):
        response.send_result(FileWrapper(file))


def test_file_is_read_through_its_read_where_the_system_has_no_preadv(
    path, monkeypatch
):
    monkeypatch.delattr(os, "preadv")
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        assert not is_read_directly(file)
        assert sent_for(FileWrapper(file)).body == b"abc"


def test_file_that_grows_or_shrinks_meanwhile_does_no_harm(path, monkeypatch):
    """Short reads at any place: each packet tells its own length."""
    path.write_bytes(pattern(100000))
    takes = [1, 8183, 8184, 8185, 20000, 1, 50000]
    real = os.preadv

    def preadv(descriptor, targets, offset):
        view = memoryview(bytearray(takes.pop(0) if takes else 100000))
        count = real(descriptor, [view], offset)
        left = bytes(view[:count])
        for target in targets:
            target[: len(left)] = left[: len(target)]
            left = left[len(target) :]
        return count - len(left)

    monkeypatch.setattr(os, "preadv", preadv)
    with path.open("rb") as file:
        assert sent_for(FileWrapper(file)).body == pattern(100000)


def test_file_that_cannot_be_read_is_told_from_a_socket_that_cannot(path):
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        packets = FileWrapper(file).packets(8192, None)
    with pytest.raises(FileUnreadable, match="from byte 0 on: Bad file descriptor"):
        next(packets)


def test_detached_file_may_be_closed(path):
    path.write_bytes(pattern(100000))
    with path.open("rb") as file:
        packets = FileWrapper(file).packets(8192, 100000)
        packets.detach()
        packets.detach()
    descriptor = packets._descriptor
    assert os.fstat(descriptor).st_size == 100000
    assert sum(map(len, packets)) == 100000 + 13 * 8
    assert packets.is_complete
    packets.close()
    packets.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("limit", [None, 540000])
def test_what_has_not_gone_out_is_told_byte_by_byte(path, limit):
    path.write_bytes(pattern(540000))
    with path.open("rb") as file:
        packets = FileWrapper(file).packets(8192, limit)
        assert packets.missing(0) == 540000
        before = 0
        for batch in packets:
            wire = bytes(batch)
            heads = range(0, len(wire), 8192)
            body = {
                place
                for head in heads
                for place in range(head + 7, min(head + 8192, len(wire)) - 1)
            }
            sent = 0
            for place in range(len(wire)):
                if place % 8192 in (0, 6, 7, 8, 9, 8190, 8191):
                    missing = packets.missing(len(wire) - place)
                    assert missing == 540000 - before - sent
                sent += place in body
            before += sent
            assert packets.missing(0) == 540000 - before
    assert before == 540000


def test_file_that_has_grown_or_shrunk_lacks_what_was_expected_of_it(path):
    path.write_bytes(pattern(1000))
    with path.open("rb") as file:
        packets = FileWrapper(file).packets(8192, None)
        path.write_bytes(pattern(1100))
        next(packets)
        assert packets.missing(0) == -100
        packets = FileWrapper(file).packets(8192, None)
        path.write_bytes(pattern(900))
        next(packets)
        assert packets.missing(0) == 200


def test_wrapper_is_an_iterable_over_blocks():
    wrapper = FileWrapper(io.BytesIO(b"abcdefg"), 3)
    assert list(wrapper) == [b"abc", b"def", b"g"]


@pytest.mark.parametrize("limit", [0, 1, 4, 6])
def test_no_more_is_read_of_what_is_no_file_than_was_declared(limit, caplog):
    reader = io.BytesIO(b"abcdefgh")
    seen = sent_for(FileWrapper(reader, 3), [length(limit)])
    assert seen.body == b"abcdefgh"[:limit]
    assert reader.tell() == limit
    assert caplog.records == []


def test_blocks_of_a_subclass_are_its_own(path):
    class Upper(FileWrapper):
        def __iter__(self):
            return (block.upper() for block in super().__iter__())

    path.write_bytes(b"abc")
    with path.open("rb") as file:
        assert sent_for(Upper(file), [length(3)]).body == b"ABC"


def test_wrapper_closes_its_file():
    file = io.BytesIO()
    FileWrapper(file).close()
    assert file.closed


def test_wrapper_has_no_close_where_the_file_has_none():
    class Reader:
        def read(self, size):
            return b""

    assert not hasattr(FileWrapper(Reader()), "close")


def test_memory_for_a_file_is_bounded():
    assert file_wrapper.BATCH <= 1 << 20
