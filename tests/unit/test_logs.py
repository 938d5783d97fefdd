import logging

import pytest

from paste_ajp.logs import access_line, log_to_stderr

REQUEST = {
    "remote_addr": "192.0.2.7",
    "remote_user": "",
    "method": "GET",
    "uri": "/a?b=c",
    "protocol": "HTTP/1.1",
    "status": 200,
    "body_bytes": 5,
    "referer": "",
    "user_agent": "curl/8",
    "seconds": 0.25,
    "ended_at": 1_000_000_000.5,
}


def test_access_line_is_the_combined_format_and_the_duration():
    assert access_line(**REQUEST) == (
        '192.0.2.7 - - [09/Sep/2001:01:46:40 +0000] "GET /a?b=c HTTP/1.1" 200 5'
        ' "-" "curl/8" 0.250000'
    )


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("uri", '/"\n\\\x1b[31m', '"GET /\\"\\x0a\\\\\\x1b[31m HTTP/1.1"'),
        ("user_agent", "x\x85y", '"x\\x85y"'),
        ("remote_user", "a b", " - a\\x20b ["),
        ("remote_addr", "", "- - - ["),
    ],
)
def test_fields_cannot_break_the_line(field, value, shown):
    assert shown in access_line(**{**REQUEST, field: value})


@pytest.fixture
def root():
    """The root logger. pytest gives it handlers after the fixtures have run."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    yield root
    root.level, root.handlers[:] = before


def test_records_go_to_stderr(root, capsys):
    root.handlers.clear()
    log_to_stderr()
    logging.getLogger("paste_ajp").info("hello")
    assert capsys.readouterr().err.endswith(" INFO    paste_ajp: hello\n")


def test_handler_that_is_there_is_enough(root):
    handler = logging.NullHandler()
    root.handlers[:] = [handler]
    log_to_stderr()
    assert root.handlers == [handler]
