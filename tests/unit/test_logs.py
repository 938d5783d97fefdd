import logging
import os

import pytest

from paste_ajp.logs import access_line, app_log, log_to_stderr, request_name

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


def test_records_go_to_stderr_and_name_the_process(root, capsys):
    root.handlers.clear()
    log_to_stderr()
    logging.getLogger("paste_ajp").info("hello")
    said = capsys.readouterr().err
    assert said.endswith(f" [{os.getpid()}] INFO    paste_ajp: hello\n")


def test_handler_that_is_there_is_enough(root):
    handler = logging.NullHandler()
    root.handlers[:] = [handler]
    log_to_stderr()
    assert root.handlers == [handler]


def test_request_is_named_shortly():
    assert request_name("GET", "/a") == "GET /a"
    assert request_name("P\n" * 30_000, "/" * 600) == (
        "P\\x0a" * 20 + "... " + "/" * 500 + "..."
    )


FORGED = "no such page\n2026-01-01 00:00:00 INFO paste_ajp: all is well\x1b[2J\r\x85\t"


def raise_forged(how):
    """Raise an exception that quotes a remote, itself or by its cause."""
    if how == "plain":
        raise RuntimeError(FORGED)
    try:
        raise LookupError(FORGED)
    except LookupError as error:
        raise RuntimeError("other") from error


@pytest.mark.parametrize("name", ["paste_ajp", "paste_ajp.app", "paste_ajp.protocol"])
@pytest.mark.parametrize("how", ["plain", "cause"])
def test_exception_forges_no_record(caplog, name, how):
    try:
        raise_forged(how)
    except Exception as error:
        logging.getLogger(name).error("failed", exc_info=error)
    first, *lines = caplog.handler.format(caplog.records[-1]).split("\n")
    assert first.endswith("failed")
    assert all(line.startswith("  ") for line in lines)
    shown = "2026-01-01 00:00:00 INFO paste_ajp: all is well\\x1b[2J\\x0d\\x85\t"
    assert any(line.endswith(f" {shown}") for line in lines)
    assert not any(c < " " and c != "\t" for line in lines for c in line)


def test_exception_that_cannot_be_shown_does_no_harm(caplog):
    class Odd(Exception):
        def __str__(self):
            raise ValueError("no text")

    app_log.error("failed", exc_info=Odd())
    assert "Odd" in caplog.text
