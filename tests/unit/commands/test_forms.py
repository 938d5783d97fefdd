"""Forms as they are written, read back by the standard library's MIME parser."""

import email.parser
import email.policy
import os
import threading
from pathlib import Path

import pytest

from paste_ajp.commands.forms import Field, Form, FormError, parse_field


def no_stdin():
    raise AssertionError("nothing asks for standard input")


def read_back(form):
    """Return (disposition, Content-Type or None, content) of each part."""
    body = b"".join(form.pieces())
    assert len(body) == form.length
    head = f"Content-Type: {form.content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    assert not message.defects
    return [
        (part["Content-Disposition"], part["Content-Type"], part.get_payload())
        for part in message.get_payload()
    ]


@pytest.mark.parametrize(
    ("text", "content", "filename", "content_type"),
    [
        ("a=1", b"1", None, ""),
        ("a=", b"", None, ""),
        ("a=b=c", b"b=c", None, ""),
        ("a=one; two", b"one; two", None, ""),
        ("a=1;type=text/html", b"1", None, "text/html"),
        ("a=1;type=text/html;filename=x", b"1", "x", "text/html"),
        ("a=1;type=text/html;charset=utf-8", b"1", None, "text/html;charset=utf-8"),
        ("a=1;type=a/b;x=y;filename=z", b"1", "z", "a/b;x=y"),
        ('a="1;type=a/b"', b'"1;type=a/b"', None, ""),
        ('a=1;filename="x;type=y"', b"1", "x;type=y", ""),
        ("a=é", "é".encode(), None, ""),
        ("a=@-", b"in", "-", "application/octet-stream"),
        ("a=@-;filename=x.txt", b"in", "x.txt", "application/octet-stream"),
        ("a=<-", b"in", None, ""),
    ],
)
def test_field_is_read_as_curl_does(text, content, filename, content_type):
    expected = Field("a", content, filename, content_type)
    assert parse_field(text, lambda: b"in") == expected


def test_field_names_a_file(tmp_path):
    path = tmp_path / 'odd;"name.txt'
    quoted = str(path).replace('"', '\\"')
    for text in (f'a=@"{quoted}"', f'a=@"{quoted}";type=text/plain'):
        expected = Field("a", path, path.name, "text/plain")
        assert parse_field(text, no_stdin) == expected
    assert parse_field(f"a=<{tmp_path}/x.txt", no_stdin) == Field(
        "a", tmp_path / "x.txt", None, ""
    )


def test_plain_field_is_taken_as_it_is():
    field = parse_field("a=@x;type=y", no_stdin, is_plain=True)
    assert field.content == b"@x;type=y"


@pytest.mark.parametrize("text", ["", "a", "a=@", "a=<", 'a=@""', "a=@;type=x"])
def test_field_that_is_none(text):
    with pytest.raises(FormError):
        parse_field(text, no_stdin)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a=@-", True), ("a=<-;type=x", True), ("a=-", False), ("a=@-x", False)],
)
def test_stdin_is_read_where_a_file_is_a_dash(text, expected):
    asked = []

    def read_stdin():
        asked.append(text)
        return b""

    parse_field(text, read_stdin)

    assert bool(asked) is expected


def test_form_can_be_read_back(tmp_path):
    data = bytes(range(128)) * 1000
    (tmp_path / "file").write_bytes(data)
    form = Form(
        [
            Field("plain", b"1", None, ""),
            Field('odd"\r\n', b"", None, "text/x-empty"),
            Field("file", tmp_path / "file", 'n"', "text/x-data"),
        ]
    )
    try:
        assert read_back(form) == [
            ('form-data; name="plain"', None, "1"),
            ('form-data; name="odd%22%0D%0A"', "text/x-empty", ""),
            (
                'form-data; name="file"; filename="n%22"',
                "text/x-data",
                data.decode(),
            ),
        ]
    finally:
        form.close()


def test_content_type_keeps_its_quotes():
    form = Form([Field("a", b"1", None, 'text/plain; charset="utf-8"')])
    assert b'\r\nContent-Type: text/plain; charset="utf-8"\r\n' in b"".join(
        form.pieces()
    )


def test_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"piped",))
    writer.start()
    form = Form([Field("a", pipe, None, "")])
    writer.join()
    assert [content for _, _, content in read_back(form)] == ["piped"]
    form.close()


def test_file_that_is_said_to_be_empty_is_read_to_its_end():
    file = Path("/proc/self/status")
    if not file.exists():
        pytest.skip("no /proc here")
    form = Form([Field("a", file, None, "")])
    assert [content[:5] for _, _, content in read_back(form)] == ["Name:"]
    form.close()


def test_each_form_has_a_boundary_of_its_own():
    assert Form([]).content_type != Form([]).content_type


def test_file_that_has_grown_is_sent_as_long_as_it_was(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    form = Form([Field("a", file, None, "")])
    file.write_bytes(b"older")
    assert [content for _, _, content in read_back(form)] == ["old"]
    form.close()


def test_file_that_has_shrunk_ends_the_body(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old")
    form = Form([Field("a", file, None, ""), Field("b", b"1", None, "")])
    file.write_bytes(b"")
    assert len(b"".join(form.pieces())) < form.length
    form.close()


def test_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        Form([Field("a", tmp_path / "none", None, "")])
    assert str(caught.value.filename) == str(tmp_path / "none")
