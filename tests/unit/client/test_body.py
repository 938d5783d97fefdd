import io

import pytest

from paste_ajp.client.body import open_body


def drain(source, size=4):
    return list(iter(lambda: source.read(size), b""))


def test_no_body_is_empty_and_has_length_zero():
    source = open_body(None)
    assert (source.length, source.read(9), source.at_hand) == (0, b"", True)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_cut_to_what_is_asked_for(kind):
    source = open_body(kind(b"123456789"))
    assert source.length == 9
    assert drain(source) == [b"1234", b"5678", b"9"]


def test_text_is_refused_with_the_remedy():
    with pytest.raises(TypeError) as caught:
        open_body("text")
    assert "body.encode('utf-8')" in str(caught.value)


@pytest.mark.parametrize("length", [3, 10])
def test_bytes_of_another_length_than_declared_are_refused(length):
    with pytest.raises(ValueError) as caught:
        open_body(b"123456789", length)
    assert str(caught.value) == f"Content-Length = {length}: the body has 9 bytes"


def test_a_file_of_text_is_refused_with_the_remedy():
    with pytest.raises(TypeError) as caught:
        open_body(io.StringIO("text"))
    assert "binary mode" in str(caught.value)


def test_a_file_is_measured_from_where_it_stands():
    file = io.BytesIO(b"123456789")
    file.seek(4)
    source = open_body(file)
    assert source.length == 5
    assert drain(source) == [b"5678", b"9"]


def test_a_pipe_has_no_length():
    class Pipe(io.BytesIO):
        def seek(self, *place):
            raise OSError("Illegal seek")

    assert open_body(Pipe(b"1")).length is None


def test_a_slow_sender_is_not_waited_for():
    class Slow(io.RawIOBase):
        def read1(self, size):
            return b"so far"[:size]

        def read(self, size=-1):
            raise AssertionError("would wait for more")

    assert open_body(Slow(), 100).read(50) == b"so far"


def test_an_iterator_is_cut_and_its_empty_pieces_passed_over():
    source = open_body(iter([b"12", b"", b"3456789", b""]))
    assert source.length is None
    assert drain(source) == [b"12", b"3456", b"789"]


def test_no_more_is_read_than_was_declared():
    source = open_body(io.BytesIO(b"123456789"), 5)
    assert drain(source) == [b"1234", b"5"]
    assert not source.is_short


def test_a_body_that_ends_early_is_short():
    source = open_body([b"123"], 5)
    assert drain(source) == [b"123"]
    assert source.is_short


def test_a_source_that_gives_too_much_is_found_out():
    class Wrong:
        def read(self, size):
            return b"x" * (size + 1)

    with pytest.raises(ValueError) as caught:
        open_body(Wrong(), 100).read(4)
    assert str(caught.value) == "the body gave 5 bytes for read(4)"
