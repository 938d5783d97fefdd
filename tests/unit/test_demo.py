import hashlib
import io

import pytest
import webtest

from paste_ajp.demo import Demo, DemoError, make_demo


@pytest.fixture
def app():
    return webtest.TestApp(Demo(sleep=lambda seconds: None))


def test_front_page_shows_environ_escaped(app):
    page = app.get("/?x=<script>", headers={"X-Test": "<b>"})
    assert "<tr><th scope=row>QUERY_STRING<td>x=&lt;script&gt;" in page
    assert "<tr><th scope=row>HTTP_X_TEST<td>&lt;b&gt;" in page
    assert "<script>" not in page


def test_front_page_groups_what_the_front_end_told(app):
    page = app.get("/", extra_environ={"AJP_JVM_ROUTE": "r1", "REMOTE_PORT": "5"})
    table = page.text.partition("<h2>Told by the front end over AJP</h2>")[2]
    told = table.partition("</table>")[0]
    assert "AJP_JVM_ROUTE<td>r1" in told
    assert "REMOTE_PORT<td>5" in told


def test_utf8_is_shown_as_text(app):
    page = app.get("/environ", extra_environ={"SSL_X": "Zo\xc3\xab \xff"})
    assert "SSL_X = 'Zo\u00eb \\\\xff'" in page.text


def test_credentials_are_not_shown(app):
    headers = {"Authorization": "Basic c2VjcmV0", "Cookie": "a=c2VjcmV0"}
    for path in ("/", "/environ"):
        page = app.get(path, headers=headers)
        assert "HTTP_AUTHORIZATION" in page
        assert "c2VjcmV0" not in page


def test_links_hold_wherever_it_is_mounted():
    app = webtest.TestApp(make_demo(), extra_environ={"SCRIPT_NAME": "/a b\xc3\xab"})
    page = app.get("/")
    assert page.html.find("form")["action"] == "/a%20b%C3%AB/form?from=query"
    assert page.html.find("a")["href"].startswith("/a%20b%C3%AB/stream?")


def test_empty_path_is_the_front_page():
    environ = webtest.TestRequest.blank("/").environ | {"PATH_INFO": ""}
    status = []
    body = b"".join(Demo()(environ, lambda *start: status.append(start[0])))
    assert status == ["200 OK"]
    assert b"<title>paste_ajp demo</title>" in body


def test_title_comes_from_the_ini_file():
    app = webtest.TestApp(make_demo({}, title="<My> demo"))
    assert "<h1>&lt;My&gt; demo</h1>" in app.get("/")


def test_head_has_no_body(app):
    assert app.head("/").body == b""


# -- The form


def test_form_shows_query_and_body(app):
    page = app.post("/form?from=query", {"text": "Zo\u00eb & <friends>"})
    assert "<th scope=row>from<td>query" in page
    assert "<th scope=row>text<td>Zo\u00eb &amp; &lt;friends&gt;" in page


def test_form_takes_get(app):
    assert "<th scope=row>text<td>\n" in app.get("/form?text=")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("x=" + "y" * 65536, "application/x-www-form-urlencoded", 413),
        ("&x" * 1001, "application/x-www-form-urlencoded", 400),
        ("{}", "application/json", 400),
    ],
)
def test_form_of_another_kind_is_refused(app, body, content_type, status):
    app.post("/form", body, content_type=content_type, status=status)


# -- The upload


def test_uploaded_files_are_measured(app):
    data = b"\r\n--x" * 100_000
    page = app.post(
        "/upload",
        {"note": "hi"},
        upload_files=[("file", "a<b.bin", data), ("file", "", b"")],
    )
    digest = hashlib.sha256(data).hexdigest()
    assert f"a&lt;b.bin<td>500000 bytes, SHA-256 {digest}" in page
    assert "<th scope=row>note<td>2 bytes" in page


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_plain_body_is_measured(app, method):
    answer = app.request(
        "/upload", method=method, body=b"hello", content_type="application/x-any"
    )
    assert answer.text == f"bytes: 5\nsha256: {hashlib.sha256(b'hello').hexdigest()}\n"


def test_body_of_unknown_length_is_read_to_its_end():
    answer = call("/upload", **{"wsgi.input_terminated": True})
    assert answer.startswith(b"bytes: 7\n")


def test_input_that_does_not_end_is_read_as_far_as_announced():
    assert call("/upload", CONTENT_LENGTH="4").startswith(b"bytes: 4\n")


def test_input_that_announces_nothing_is_not_read():
    assert call("/upload").startswith(b"bytes: 0\n")


def call(path, **environ):
    base = webtest.TestRequest.blank(path, method="POST").environ
    base.pop("CONTENT_LENGTH", None)
    base["wsgi.input"] = io.BytesIO(b"1234567")
    return b"".join(Demo()({**base, **environ}, lambda *start: None))


def test_broken_upload_is_refused(app):
    page = app.request(
        "/upload",
        method="POST",
        body=b"--B\r\n",
        content_type="multipart/form-data; boundary=B",
        status=400,
    )
    assert "the body ends before its last boundary" in page


# -- The stream


def test_pieces_arrive_one_by_one():
    told = []
    demo = Demo(sleep=lambda seconds: told.append(f"slept {seconds:g}"))
    environ = webtest.TestRequest.blank("/stream?count=3&delay=0.5").environ
    for piece in demo(environ, lambda *start: None):
        told.append(piece.decode())
    assert told == [
        "piece 1 of 3\n",
        "slept 0.5",
        "piece 2 of 3\n",
        "slept 0.5",
        "piece 3 of 3\n",
    ]


@pytest.mark.parametrize(
    ("query", "pieces", "delay"),
    [
        ("", 10, 1),
        ("count=5000&delay=99", 100, 5),
        ("count=-2&delay=-2", 1, None),
        ("count=1e300&delay=1e-300", 100, 1e-300),
        ("count=2&delay=inf", 2, 5),
    ],
)
def test_stream_is_bounded(query, pieces, delay):
    slept = set()
    environ = webtest.TestRequest.blank(f"/stream?{query}").environ
    body = list(Demo(sleep=slept.add)(environ, lambda *start: None))
    assert len(body) == pieces
    assert slept == ({delay} if delay is not None else set())


@pytest.mark.parametrize("query", ["count=x", "delay=nan"])
def test_stream_of_no_number_is_refused(app, query):
    app.get(f"/stream?{query}", status=400)


# -- The rest


def test_error_page_is_the_servers(app):
    with pytest.raises(DemoError, match="GET /error was asked for"):
        app.get("/error")


def test_unknown_page_is_named_escaped(app):
    assert "nothing at /&lt;b&gt;" in app.get("/<b>", status=404)


def test_wrong_method_learns_the_right_ones(app):
    assert app.put("/form", status=405).headers["Allow"] == "GET, HEAD, POST"
