import io

import pytest

from paste_ajp.multipart import (
    MOST_HEADER_BYTES,
    MOST_PARTS,
    MultipartError,
    boundary_of,
    read_parts,
)

BODY = (
    b"--B\r\n"
    b'Content-Disposition: form-data; name="text"\r\n'
    b"\r\n"
    b"a line\r\n--and -- hyphens\r\n"
    b"--B \t\r\n"
    b'content-disposition: form-data; name="file"; filename="a \\"b\\".txt"\r\n'
    b"Content-Type: image/png\r\n"
    b"\r\n"
    b"\r\n--\x00\xff\r\n--C\r"
    b"\r\n"
    b"--B--\r\n"
    b"epilogue"
)


def parts_of(body, boundary=b"B", piece=65536):
    source = io.BytesIO(body)
    return [
        (part.name, part.filename, part.content_type, b"".join(part.pieces))
        for part in read_parts(lambda size: source.read(min(size, piece)), boundary)
    ]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 65536])
def test_parts_are_read_wherever_the_body_is_split(piece):
    assert parts_of(BODY, piece=piece) == [
        ("text", None, "text/plain", b"a line\r\n--and -- hyphens"),
        ("file", 'a "b".txt', "image/png", b"\r\n--\x00\xff\r\n--C\r"),
    ]


def test_part_may_be_empty():
    body = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n--B--'
    assert parts_of(body) == [("x", None, "text/plain", b"")]


def test_form_may_have_no_part():
    assert parts_of(b"--B--\r\n") == []


def test_preamble_is_dropped():
    assert parts_of(b"to whom it concerns\r\n--B--\r\n") == []


def test_unread_part_is_dropped_for_the_next():
    source = io.BytesIO(BODY)
    assert [part.name for part in read_parts(source.read, b"B")] == ["text", "file"]


def test_large_part_comes_in_pieces():
    head = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
    source = io.BytesIO(head + b"x" * 300_000 + b"\r\n--B--")
    (sizes,) = [
        [len(piece) for piece in part.pieces] for part in read_parts(source.read, b"B")
    ]
    assert sum(sizes) == 300_000
    assert max(sizes) < 2 * 65536


def part(head):
    return b"--B\r\n" + head + b"\r\n\r\nx\r\n--B--"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body ends before its last boundary"),
        (BODY[:-30], "the body ends before its last boundary"),
        (b"--B\r\n", "the body ends before its last boundary"),
        (b"--Bx\r\n\r\n", "a boundary is followed by other text"),
        (b"--B\r\n\r\nx\r\n--B--", "a part has no name"),
        (part(b"Content-Disposition: form-data"), "a part has no name"),
        (part(b'Content-Disposition: file; name="x"'), "a part has no name"),
        (part(b"no colon"), "a part's header has no colon"),
        (
            part(b"x: " + b"y" * MOST_HEADER_BYTES),
            f"a part's header is longer than {MOST_HEADER_BYTES} bytes",
        ),
        (
            b"--B" + b" " * 2 * MOST_HEADER_BYTES,
            f"a boundary's line is longer than {MOST_HEADER_BYTES} bytes",
        ),
        (
            b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n\r\n' * 101,
            f"more than {MOST_PARTS} parts",
        ),
    ],
)
def test_broken_body_is_refused_by_its_problem(body, problem):
    with pytest.raises(MultipartError) as caught:
        parts_of(body)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="a b;c" ; x=y', b"a b;c"),
        ("text/plain; boundary=abc", None),
        ("", None),
    ],
)
def test_boundary_is_found(content_type, boundary):
    assert boundary_of(content_type) == boundary


def test_missing_boundary_is_refused():
    with pytest.raises(MultipartError):
        boundary_of("multipart/form-data; charset=utf-8")
