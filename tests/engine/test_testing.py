"""The test kit, with the demo application and the site as its users."""

import time

import pytest
from webtest.lint import middleware as lint

from paste_ajp.client import Client, ConnectFailed
from paste_ajp.testing import serve_app
from paste_ajp.testing.webtest_app import AjpTestApp
from tests.apps.site import application

pytest_plugins = ["paste_ajp.testing.pytest_plugin"]


def test_an_application_is_served_for_the_length_of_a_with():
    with serve_app(application) as served:
        assert served.address.startswith("127.0.0.1:")
        assert served.url == f"ajp://{served.address}"
        assert served.client.request("GET", "/hello").read() == b"Hello, World!\n"
    with Client(served.url) as client, pytest.raises(ConnectFailed):
        client.cping()


def test_settings_are_the_servers():
    with serve_app(application, secret="s3cret", script_name="/m") as served:
        told = served.client.request("GET", "/m/dump").read()
    assert b'"SCRIPT_NAME": "/m"' in told


def test_a_unix_socket_is_served(tmp_path):
    with serve_app(application, listen=f"unix:{tmp_path}/ajp.sock") as served:
        assert served.client.request("GET", "/hello").status == 200


def test_the_fixture_serves_several(ajp_server):
    one = ajp_server(application)
    two = ajp_server(application, threads=1)
    assert one.address != two.address
    assert two.client.cping() < 10


@pytest.fixture(scope="module")
def app():
    with AjpTestApp(lint(application)) as app:
        yield app


def test_webtest_asks_over_ajp(app):
    told = app.get("/dump/x?y=1", headers={"X-Mine": "1"}).json
    assert told["SERVER_SOFTWARE"].startswith("paste_ajp/")
    assert (told["PATH_INFO"], told["HTTP_X_MINE"]) == ("/dump/x", "1")


def test_webtest_posts_and_keeps_cookies(app):
    assert app.post("/upload", {"a": "b"}).json["length"] == 3
    app.get("/cookies?count=1")
    assert app.get("/dump").json["HTTP_COOKIE"] == "cookie0=value0"


def test_webtest_says_who_asks(app):
    told = app.get(
        "/m/dump", extra_environ={"REMOTE_USER": "bob", "SCRIPT_NAME": "/m"}
    ).json
    assert (told["REMOTE_USER"], told["SCRIPT_NAME"]) == ("bob", "/m")


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_the_application_raises_is_raised_in_the_test(app, when):
    with pytest.raises(RuntimeError) as caught:
        app.get(f"/fail?when={when}")
    assert str(caught.value).startswith("failed on purpose")


class Closing(list):
    """A result whose close() takes a while, and calls back then."""

    def __init__(self, pieces, then):
        super().__init__(pieces)
        self._then = then

    def close(self):
        time.sleep(0.1)
        self._then()


def late_site(then):
    """Calls ``then`` at /late and /close when the response is complete."""

    def pieces():
        yield b"x"
        time.sleep(0.1)
        then()

    def application(environ, start_response):
        headers = [("Content-Type", "text/plain"), ("Content-Length", "1")]
        start_response("200 OK", headers)
        return {
            "/late": pieces(),
            "/close": Closing([b"x"], then),
            "/none": None,
        }.get(environ["PATH_INFO"], [b"x"])

    return application


@pytest.mark.parametrize("path", ["/late", "/close"])
def test_the_application_has_ended_when_the_response_is_there(path):
    ended = []
    with AjpTestApp(late_site(lambda: ended.append(path))) as app:
        app.get(path)
        assert ended == [path]


@pytest.mark.parametrize("path", ["/late", "/close"])
def test_what_is_raised_late_is_raised_in_its_own_request(path):
    def fail():
        raise KeyError(path)

    with AjpTestApp(late_site(fail)) as app:
        with pytest.raises(KeyError):
            app.get(path)
        assert app.get("/").text == "x"


def test_a_result_that_is_none_is_the_applications_error():
    with AjpTestApp(late_site(list)) as app, pytest.raises(TypeError):
        app.get("/none")


def test_the_servers_own_answer_can_be_asked_for():
    with AjpTestApp(application, raise_errors=False) as app:
        assert app.get("/fail?when=before", status=500).status_int == 500


def test_settings_go_to_the_server():
    with AjpTestApp(application, settings={"secret": "s3cret"}) as app:
        assert app.get("/hello").text == "Hello, World!\n"


class Portal:
    """An application with something that tests look at."""

    registry = "things"

    def __call__(self, environ, start_response):
        environ["paste.testing_variables"]["template"] = "page.html"
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]


def test_what_tests_take_from_the_application_is_there():
    with AjpTestApp(Portal()) as app:
        assert app.app.registry == "things"
        assert app.get("/").template == "page.html"
        with pytest.raises(AttributeError):
            app.app.nothing  # noqa: B018


def test_an_ini_file_names_the_application(tmp_path):
    (tmp_path / "x.ini").write_text("[app:main]\nuse = egg:paste_ajp#demo\n")
    for keywords in (
        {"app": f"config:{tmp_path}/x.ini"},
        {"app": "config:x.ini", "relative_to": str(tmp_path)},
    ):
        with AjpTestApp(**keywords) as app:
            assert app.get("/").status_int == 200
