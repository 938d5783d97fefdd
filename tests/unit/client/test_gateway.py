import io
from urllib.parse import unquote

import pytest

from paste_ajp.client import (
    BadAnswer,
    BodyFailed,
    ConnectFailed,
    PoolExhausted,
    Stage,
    TimedOut,
)
from paste_ajp.client.gateway import (
    LengthRequired,
    end_to_end,
    error_page,
    find_body,
    request_headers,
    request_path,
    status_line,
    status_of,
)
from paste_ajp.protocol import LocalProtocolError


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"PATH_INFO": "/a b"}, "/a%20b"),
        ({"PATH_INFO": "/caf\xc3\xa9"}, "/caf%C3%A9"),
        ({"PATH_INFO": "/%41"}, "/%2541"),
        ({"SCRIPT_NAME": "/s", "PATH_INFO": "/x"}, "/s/x"),
        ({"SCRIPT_NAME": "", "PATH_INFO": ""}, "/"),
        ({"PATH_INFO": "/a/b", "REQUEST_URI": "/a%2Fb?x=%2F"}, "/a%2Fb"),
        ({"PATH_INFO": "/a/b", "RAW_URI": "/a%2Fb"}, "/a%2Fb"),
        ({"PATH_INFO": "/a/b", "REQUEST_URI": "http://h/a%2Fb"}, "/a%2Fb"),
        ({"PATH_INFO": "//d", "REQUEST_URI": "//d"}, "//d"),
        ({"PATH_INFO": "/\xe9", "REQUEST_URI": "/\xe9"}, "/%E9"),
        ({"PATH_INFO": "*", "REQUEST_URI": "*"}, "*"),
    ],
)
def test_the_path_is_spelled_as_the_remote_did(environ, path):
    assert request_path(environ) == path


def test_a_path_that_a_middleware_changed_wins():
    environ = {"PATH_INFO": "/new", "REQUEST_URI": "/old"}
    assert request_path(environ) == "/new"


@pytest.mark.parametrize("uri", [None, "/x/a%2Fb", "/%78/a%2Fb"])
def test_a_path_in_the_address_takes_the_place_of_script_name(uri):
    environ = {"SCRIPT_NAME": "/x", "PATH_INFO": "/a/b"}
    if uri:
        environ["REQUEST_URI"] = uri
    assert request_path(environ, "/app") == ("/app/a%2Fb" if uri else "/app/a/b")


@pytest.mark.parametrize(
    "spelled",
    [
        *("/../admin", "/%2e%2e/admin", "/x/..;/admin", "/..%3Bv=1/admin", "/.."),
        *("/..%2Fadmin", "/%252e%252e/admin", "/..\\admin", "/..%5Cadmin", "/x/.%2E"),
    ],
)
@pytest.mark.parametrize("is_raw", [True, False])
def test_nothing_leads_out_of_a_path_in_the_address(spelled, is_raw):
    environ = {"PATH_INFO": unquote(spelled)}
    if is_raw:
        environ["REQUEST_URI"] = spelled
    with pytest.raises(ValueError) as caught:
        request_path(environ, "/app")
    assert str(caught.value) == "the path leads out of the target's by a '..'"
    assert ".." in unquote(unquote(request_path(environ)))  # without one it goes on


@pytest.mark.parametrize("path", ["/a..b", "/...", "/x..;y", "/.hidden"])
def test_other_dots_lead_nowhere(path):
    assert request_path({"PATH_INFO": path}, "/app") == f"/app{path}"


def test_headers_of_the_connection_stay_here():
    environ = {
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "h",
        "HTTP_CONNECTION": "close, X-Mine",
        "HTTP_X_MINE": "1",
        "HTTP_X_THEIRS": "2",
        "HTTP_TE": "trailers",
        "HTTP_EXPECT": "100-continue",
        "HTTP_PROXY": "evil",
        "HTTP_UPGRADE": "websocket",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "HTTP_PROXY_AUTHORIZATION": "Basic x",
    }
    assert request_headers(environ) == [
        ("content-type", "text/plain"),
        ("host", "h"),
        ("x-theirs", "2"),
    ]


def test_response_headers_of_the_connection_stay_there():
    headers = [
        ("Content-Type", "text/plain"),
        ("Connection", "X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Status", "418"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]
    assert end_to_end(headers) == [headers[0], headers[6], headers[7]]


def environ_with(method="POST", **keys):
    return {"REQUEST_METHOD": method, "wsgi.input": io.BytesIO(b"abc")} | {
        key.replace("__", "."): value for key, value in keys.items()
    }


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        (environ_with(CONTENT_LENGTH="3"), (True, 3, False)),
        (environ_with(CONTENT_LENGTH="0"), (False, 0, False)),
        (environ_with(CONTENT_LENGTH=""), (False, None, False)),
        (
            environ_with(HTTP_TRANSFER_ENCODING="Chunked", wsgi__input_terminated=True),
            (True, None, True),
        ),
        (
            environ_with(
                HTTP_TRANSFER_ENCODING="chunked",
                CONTENT_LENGTH="2",
                wsgi__input_terminated=True,
            ),
            (True, None, True),
        ),
        (environ_with(wsgi__input_terminated=True), (True, None, True)),
        (environ_with("GET", wsgi__input_terminated=True), (False, None, False)),
    ],
)
def test_the_body_is_found(environ, found):
    source, length, is_chunked = find_body(environ)
    assert (source is not None, length, is_chunked) == found


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        (environ_with(CONTENT_LENGTH="+3"), "CONTENT_LENGTH = '+3': expected digits"),
        (
            environ_with(HTTP_TRANSFER_ENCODING="gzip, chunked"),
            "Transfer-Encoding = 'gzip, chunked': expected chunked",
        ),
    ],
)
def test_an_odd_body_is_refused(environ, problem):
    with pytest.raises(ValueError) as caught:
        find_body(environ)
    assert str(caught.value) == problem


@pytest.mark.parametrize("keys", [{}, {"CONTENT_LENGTH": "3"}])
def test_chunks_that_the_http_server_does_not_undo_are_refused(keys):
    with pytest.raises(LengthRequired):
        find_body(environ_with(HTTP_TRANSFER_ENCODING="chunked", **keys))


@pytest.mark.parametrize(
    ("status", "reason", "line"),
    [
        (200, "Fine", "200 Fine"),
        (404, "", "404 Not Found"),
        (404, "404", "404 Not Found"),
        (299, "", "299 Unknown"),
        (200, "a\r\nb", "200 a  b"),
    ],
)
def test_a_status_line_always_has_a_reason(status, reason, line):
    assert status_line(status, reason) == line


@pytest.mark.parametrize("status", [0, 100, 199, 1000])
def test_a_status_that_is_no_answer_is_refused(status):
    with pytest.raises(ValueError):
        status_line(status, "x")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectFailed(Stage.CONNECT, "h:1", "refused"), 503),
        (PoolExhausted(Stage.POOL, "h:1", "busy"), 503),
        (TimedOut(Stage.CONNECT, "h:1", "late"), 503),
        (TimedOut(Stage.HEADERS, "h:1", "late"), 504),
        (BadAnswer(Stage.HEADERS, "h:1", "odd"), 502),
        (BodyFailed(Stage.REQUEST_BODY, "h:1", "short"), 400),
        (LocalProtocolError("large"), 431),
        (LengthRequired("chunks"), 411),
        (ValueError("odd"), 400),
    ],
)
def test_every_failure_has_a_status_and_a_page_with_advice(error, status):
    assert status_of(error) == status
    assert "What to check:</p><ul>" in error_page(status, error)


def test_details_are_escaped():
    page = error_page(502, ValueError(), "<script>")
    assert "<pre>&lt;script&gt;</pre>" in page
