import io
import json
import logging

import pytest
from webtest.lint import middleware as lint

from paste_ajp.settings import Settings
from paste_ajp.wsgi.environ import EnvironBuilder
from paste_ajp.wsgi.exchange import (
    BodyOverrun,
    BodyTimeout,
    BodyTooLarge,
    BodyTruncated,
    FrontEndGone,
)
from paste_ajp.wsgi.file_wrapper import FileWrapper
from paste_ajp.wsgi.task import SPOOL_IN_MEMORY, Task
from tests.unit.wsgi.fake_exchange import PORT, FakeExchange, forward

TEXT = ("Content-Type", "text/plain")


def run(
    application, *, request=None, body=(), gone_after=None, unsent=None, **settings
):
    """Serve one exchange, and return it."""
    parsed = Settings.parse(settings)
    exchange = FakeExchange(request, body, gone_after)
    exchange.unsent = unsent
    environs = EnvironBuilder(parsed, file_wrapper=FileWrapper)
    exchange.status = Task(application, parsed, environs).serve(exchange).status
    return exchange


class Result:
    """An iterable that notes its close()."""

    def __init__(self, *pieces, on_close=lambda: None):
        self._pieces = iter(pieces)
        self._on_close = on_close
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self._pieces)
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def close(self):
        self.closed += 1
        self._on_close()


def answering(result, status="200 OK", headers=(TEXT,)):
    def application(environ, start_response):
        start_response(status, list(headers))
        return result

    return application


# -- when all goes well ----------------------------------------------------------


def test_application_is_called_and_answered():
    def application(environ, start_response):
        start_response("201 Created", [TEXT])
        return [environ["PATH_INFO"].encode() + environ["wsgi.input"].read()]

    exchange = run(lint(application), request=forward("POST", "/x"), body=[b"abc"])
    assert exchange.status == 201
    assert exchange.response.body == b"/xabc"
    assert exchange.response.reuse is True


def test_lint_finds_nothing_wrong_with_what_the_server_does():
    def application(environ, start_response):
        lines = list(environ["wsgi.input"])
        lines.append(environ["wsgi.input"].readline())
        environ["wsgi.errors"].flush()
        write = start_response("200 OK", [TEXT], None)
        write(b"one")
        return iter(lines)

    exchange = run(lint(application), request=forward("POST"), body=[b"a\nb", b"c\n"])
    assert exchange.response.body == b"onea\nbc\n"


def test_file_is_sent_by_wsgi_file_wrapper(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    file = path.open("rb")

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        return environ["wsgi.file_wrapper"](file, 8192)

    assert run(application).response.body == b"abc"
    assert file.closed


def test_result_is_closed_when_the_response_is_complete():
    exchange = []
    result = Result(b"x", on_close=lambda: exchange.append("closed"))
    assert run(answering(result)).finished == 1
    assert (result.closed, exchange) == (1, ["closed"])


def test_response_is_complete_for_the_remote_before_close_is_called():
    result = Result(b"x")

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        exchange = environ["wsgi.input"]._exchange
        result._on_close = lambda: seen.append(exchange.finished)
        return result

    seen = []
    run(application)
    assert seen == [1]


def test_body_cannot_be_read_when_the_request_is_over():
    kept = []

    def application(environ, start_response):
        kept.append(environ["wsgi.input"])
        start_response("200 OK", [TEXT])
        return []

    run(application, body=[b"abc"])
    with pytest.raises(ValueError, match="after the response had ended"):
        kept[0].read()


def test_application_may_put_another_input_into_environ():
    def application(environ, start_response):
        environ["wsgi.input"] = io.BytesIO()
        start_response("200 OK", [TEXT])
        return []

    assert run(application).status == 200


# -- when the application fails --------------------------------------------------


def failing_in_call(environ, start_response):
    raise KeyError("secret detail")


def failing_after_start(environ, start_response):
    start_response("200 OK", [TEXT])
    raise KeyError("secret detail")


def exiting(environ, start_response):
    raise SystemExit(3)


@pytest.mark.parametrize(
    "application",
    [
        failing_in_call,
        failing_after_start,
        exiting,
        answering(Result(KeyError("secret detail"))),
        answering(Result(b"", KeyError("secret detail"))),
        answering(["secret detail"]),
        answering(None),
        answering([b"x"], headers=[("Content-Length", "2")]),
        answering([b"x"], headers=[("X", "a\nb")]),
        answering([b"x"], headers=[("X", "y" * 9000)]),
        answering([b"x"], status="200"[:2]),
        lambda environ, start_response: [b"no start_response"],
        lambda environ, start_response: 1 / 0,
    ],
)
def test_failure_before_the_headers_becomes_a_neutral_500(application, caplog):
    exchange = run(application)
    seen = exchange.response
    assert (exchange.status, seen.status, seen.reuse) == (500, 500, True)
    assert b"500 Internal Server Error" in seen.body
    assert b"secret" not in seen.body
    assert len(caplog.records) == 1
    assert caplog.records[0].name == "paste_ajp.app"
    assert caplog.records[0].exc_info


def test_failure_shows_its_traceback_in_debug_mode():
    seen = run(failing_in_call, debug=True).response
    assert b"KeyError: &#x27;secret detail&#x27;" in seen.body


@pytest.mark.parametrize(
    "result",
    [
        Result(b"x", KeyError("oops")),
        Result(b"x", "text"),
        Result(b"x" * 100000, KeyError("oops")),
    ],
)
def test_failure_after_the_headers_cuts_the_connection(result, caplog):
    exchange = run(answering(result))
    assert exchange.aborted
    assert exchange.response.reuse is None
    assert result.closed == 1
    assert len(caplog.records) == 1


def test_body_shorter_than_declared_cuts_the_connection(caplog):
    exchange = run(answering(Result(b"x"), headers=[("Content-Length", "2")]))
    assert exchange.aborted
    assert "ended after 1 bytes, its Content-Length is 2" in caplog.text


def test_headers_that_do_not_fit_a_packet_are_no_breach_of_the_rules(caplog):
    exchange = run(answering([b"abc"], headers=[TEXT, ("X-Long", "x" * 9000)]))
    assert exchange.response.status == 500
    assert "GET /: response headers make a packet of 90" in caplog.text
    assert "at most 8192 fit, the packet_size" in caplog.text
    assert "broke" not in caplog.text


def test_failure_after_the_response_is_only_logged(caplog):
    exchange = run(answering(Result(b"x", on_close=lambda: 1 / 0)))
    assert (exchange.status, exchange.response.reuse) == (200, True)
    assert "failed after its response was complete" in caplog.text


def test_failure_behind_the_declared_length_is_only_logged(caplog):
    result = Result(b"x", KeyError("oops"))
    exchange = run(answering(result, headers=[("Content-Length", "1")]))
    assert (exchange.status, exchange.response.body) == (200, b"x")
    assert result.closed == 1
    assert "failed after its response was complete" in caplog.text


def test_exc_info_after_the_headers_ends_the_response(caplog):
    import sys

    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        yield b"x"
        try:
            raise KeyError("oops")
        except KeyError:
            start_response("500 Oops", [TEXT], sys.exc_info())
        yield b"never"

    exchange = run(application)
    assert exchange.aborted
    assert "KeyError: 'oops'" in caplog.text


# -- when the front end or the remote leaves -------------------------------------


@pytest.mark.parametrize("gone_after", [0, 1])
def test_front_end_that_leaves_ends_the_request(gone_after, caplog):
    caplog.set_level(logging.INFO)
    result = Result(b"x", b"y", b"z")
    exchange = run(answering(result), gone_after=gone_after)
    assert exchange.aborted
    assert result.closed == 1
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_front_end_that_leaves_before_an_error_page_is_no_error(caplog):
    caplog.set_level(logging.INFO)
    exchange = run(failing_in_call, gone_after=0)
    assert exchange.aborted
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def reading(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [TEXT])
    return [body]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (BodyTruncated("3 of 6 bytes came"), 400),
        (BodyOverrun("7 bytes of a body of 6"), 400),
        (BodyTimeout("a body chunk is due"), 408),
        (BodyTooLarge("beyond the limit"), 413),
    ],
)
def test_body_that_does_not_come_is_answered(failure, status, caplog):
    caplog.set_level(logging.INFO)
    exchange = run(reading, request=forward("POST"), body=[b"abc", failure])
    assert (exchange.status, exchange.response.status) == (status, status)
    assert str(failure) in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}


def test_front_end_that_leaves_while_sending_ends_the_request():
    exchange = run(reading, request=forward("POST"), body=[FrontEndGone("it left")])
    assert exchange.aborted
    assert exchange.sent == []


def test_body_that_does_not_come_after_the_headers_cuts_the_connection():
    def application(environ, start_response):
        start_response("200 OK", [TEXT])
        yield b"x"
        environ["wsgi.input"].read()

    exchange = run(application, body=[BodyTruncated("it ended")])
    assert exchange.aborted


def test_application_may_answer_for_a_body_that_does_not_come():
    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError:
            start_response("418 Short", [TEXT])
            return [b"short"]

    assert run(application, body=[BodyTruncated("it ended")]).response.status == 418


# -- refusals --------------------------------------------------------------------


def test_request_against_policy_is_refused_without_the_application(caplog):
    exchange = run(lambda *_: pytest.fail("called"), request=forward("GET", "/%zz"))
    assert (exchange.status, exchange.response.status) == (400, 400)
    assert "GET /%zz: refused with 400: req_uri at byte 1" in caplog.text


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (forward("GET", "/%zz"), {}),
        (forward("GET", "/%00"), {}),
        (forward("GET", "/a/../b"), {"strict": True}),
        (forward(request_attributes=[PORT, ("X", "1")]), {"strict": True}),
    ],
)
def test_connection_does_not_outlive_what_broke_the_rules(request_, settings):
    """AJP notes 9.5: after a violation the connection is not used again."""
    exchange = run(lambda *_: pytest.fail("called"), request=request_, **settings)
    assert exchange.response.reuse is False


def test_path_outside_of_the_mount_breaks_no_rule():
    settings = {"script_name": "/app", "script_name_mismatch": "404"}
    seen = run(lambda *_: pytest.fail("called"), **settings).response
    assert (seen.status, seen.reuse) == (404, True)


# -- spooled bodies --------------------------------------------------------------

CHUNKED = ("Transfer-Encoding", "chunked")


def telling(environ, start_response):
    told = {
        "CONTENT_LENGTH": environ.get("CONTENT_LENGTH"),
        "body": environ["wsgi.input"].read().decode(),
    }
    start_response("200 OK", [TEXT])
    return [json.dumps(told).encode()]


@pytest.mark.parametrize("header", [CHUNKED, ("Content-Length", "6")])
def test_body_received_first_can_be_read_twice(header):
    def rereading(environ, start_response):
        body = environ["wsgi.input"]
        first = body.read()
        body.seek(0)
        start_response("200 OK", [TEXT])
        return [first + b" " + body.read()]

    exchange = run(
        rereading,
        request=forward("PUT", "/", [header]),
        body=[b"abc", b"def"],
        spool_body=True,
    )
    assert exchange.response.body == b"abcdef abcdef"


@pytest.mark.parametrize("size", [6, SPOOL_IN_MEMORY, SPOOL_IN_MEMORY + 1])
def test_body_received_first_is_a_complete_file(size):
    """On Python 3.10 as well, whose SpooledTemporaryFile is none."""

    def application(environ, start_response):
        body = environ["wsgi.input"]
        assert body.readable()
        assert body.seekable()
        assert body.read1(2) == b"ab"
        assert body.readinto(bytearray(3)) == 3
        with io.TextIOWrapper(body) as text:
            assert text.read() == "x" * (size - 5)
        assert environ["CONTENT_LENGTH"] == str(size)
        start_response("200 OK", [TEXT])
        return [b"ok"]

    exchange = run(
        application,
        request=forward("PUT", "/", [CHUNKED]),
        body=[b"abcde", b"x" * (size - 5)],
        spool_body=True,
    )
    assert exchange.response.body == b"ok"


def test_request_without_body_is_not_asked_for_one():
    exchange = run(
        lambda environ, start_response: [start_response("200 OK", []), b"ok"][1:],
        request=forward("GET", "/", []),
        body=[AssertionError("the body was read")],
        spool_body=True,
    )
    assert exchange.response.status == 200


@pytest.mark.parametrize(
    ("spool", "headers", "length"),
    [
        (True, [CHUNKED], "6"),
        (False, [CHUNKED], None),
        (True, [("Content-Length", "6")], "6"),
    ],
)
def test_body_of_unknown_length_can_be_received_first(spool, headers, length):
    exchange = run(
        telling,
        request=forward("POST", "/", headers),
        body=[b"abc", b"def"],
        spool_body=spool,
    )
    told = json.loads(exchange.response.body)
    assert told == {"CONTENT_LENGTH": length, "body": "abcdef"}


def test_body_that_does_not_come_is_not_spooled():
    exchange = run(
        lambda *_: pytest.fail("called"),
        request=forward("POST", "/", [CHUNKED]),
        body=[b"abc", BodyTruncated("it ended")],
        spool_body=True,
    )
    assert exchange.response.status == 400


def test_spooled_body_that_cannot_be_closed_costs_a_log_line(caplog):
    """Say because what the application has written there does not fit the disk."""

    def application(environ, start_response):
        body = environ["wsgi.input"]
        close = body.close

        def close_badly():
            close()
            raise OSError("No space left on device")

        body.close = close_badly
        start_response("200 OK", [])
        return [b"ok"]

    exchange = run(
        application,
        request=forward("POST", "/", [CHUNKED]),
        body=[b"x" * SPOOL_IN_MEMORY, b"y"],  # into a file
        spool_body=True,
    )
    assert (exchange.response.body, exchange.response.reuse) == (b"ok", True)
    assert not exchange.aborted
    assert "failed after its response was complete" in caplog.text


# -- the access log --------------------------------------------------------------


def test_access_is_logged_in_the_combined_format(caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    request = forward(
        "GET",
        "/a",
        [("Referer", "http://r/"), ("User-Agent", "curl")],
        attributes={"query_string": "x=1", "remote_user": "anna"},
    )
    run(answering([b"abc"]), request=request, access_log=True)
    line = caplog.records[0].getMessage()
    assert line.startswith("127.0.0.1 - anna [")
    assert '] "GET /a?x=1 HTTP/1.1" 200 3 "http://r/" "curl" 0.' in line


def test_access_log_of_a_failure_tells_its_status(caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    run(failing_in_call, access_log=True)
    assert '"GET / HTTP/1.1" 500 ' in caplog.records[-1].getMessage()


def access_lines(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "paste_ajp.access"
    ]


class Rest:
    on_end = None


def test_access_is_logged_when_all_has_gone_out(caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    rest = Rest()
    run(answering([b"abc"]), access_log=True, unsent=rest)
    assert access_lines(caplog) == []
    rest.on_end(0)
    (line,) = access_lines(caplog)
    assert '"GET / HTTP/1.1" 200 3 ' in line


def test_access_log_counts_what_has_gone_out(caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    rest = Rest()
    run(answering([b"abc"]), access_log=True, unsent=rest)
    rest.on_end(2)
    (line,) = access_lines(caplog)
    assert '"GET / HTTP/1.1" 200 1 ' in line


@pytest.mark.parametrize("piece", [b"abc", b"x" * 100000], ids=["small", "large"])
def test_access_is_logged_before_the_application_goes_on(caplog, piece):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    seen = []

    def go_on():
        seen.append(len(access_lines(caplog)))
        raise LookupError("too late")

    result = Result(piece, on_close=go_on)
    length = "Content-Length", str(len(piece))
    run(answering(result, headers=[length]), access_log=True)
    assert seen == [1]
    (line,) = access_lines(caplog)
    assert f'"GET / HTTP/1.1" 200 {len(piece)} ' in line
    assert "failed after its response was complete" in caplog.text


def test_access_is_logged_when_all_has_gone_out_though_the_application_goes_on(caplog):
    caplog.set_level(logging.INFO, "paste_ajp.access")
    rest = Rest()
    seen = []

    def go_on():
        seen.append(len(access_lines(caplog)))
        rest.on_end(1)
        seen.append(len(access_lines(caplog)))

    result = Result(b"x" * 100000, on_close=go_on)
    length = "Content-Length", "100000"
    run(answering(result, headers=[length]), access_log=True, unsent=rest)
    assert seen == [0, 1]
    (line,) = access_lines(caplog)
    assert '"GET / HTTP/1.1" 200 99999 ' in line


def test_where_no_access_is_logged_nobody_waits_for_the_end():
    rest = Rest()
    run(answering([b"abc"]), unsent=rest)
    assert rest.on_end is None
