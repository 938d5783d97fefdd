import importlib
import inspect
import logging
import sys

import pytest
import webtest
from webtest.lint import middleware as lint

from paste_ajp import flup
from paste_ajp.options import SettingError
from tests.unit.fake_server import FakeServer


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("WORD", "hello").encode()]


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setattr(flup, "Server", FakeServer)
    monkeypatch.setattr(FakeServer, "made", [])
    level = flup.server_log.level
    yield
    flup.server_log.setLevel(level)


def settings_of(*arguments, cls=flup.WSGIServer, **keywords):
    return cls(application, *arguments, **keywords).settings


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(flup.WSGIServer, "ajp"), (flup.ForkWSGIServer, "ajp_fork")],
)
def test_arguments_have_flups_names_and_order(ours, theirs):
    module = pytest.importorskip(f"flup.server.{theirs}")
    assert [
        (parameter.name, parameter.kind)
        for parameter in inspect.signature(ours).parameters.values()
    ] == [
        (parameter.name, parameter.kind)
        for parameter in inspect.signature(module.WSGIServer).parameters.values()
    ]


def test_arguments_become_settings():
    settings = settings_of(
        "/app", {"X": "y"}, True, False, ("::1", 81), ["10.0.0.1"], logging.DEBUG, True
    )
    assert settings.script_name == "/app"
    assert (settings.host, settings.port) == ("::1", 81)
    assert str(settings.allowed_servers) == "10.0.0.1"
    assert settings.debug is True
    assert FakeServer.made[-1].environ == {"X": "y"}
    assert flup.server_log.level == logging.DEBUG


def test_defaults_are_flups_address_and_our_caution():
    settings = settings_of()
    assert (settings.host, settings.port) == ("localhost", 8009)
    assert settings.allowed_servers is None
    assert settings.debug is False


def test_none_lets_everybody_in():
    assert settings_of(allowedServers=None).allowed_servers.everyone


def test_string_address_is_the_path_of_a_socket():
    (address,) = settings_of(bindAddress="/run/a b.sock").addresses
    assert (address.kind, address.path) == ("unix", "/run/a b.sock")


def test_empty_host_is_every_address():
    assert str(settings_of(bindAddress=("", 81)).addresses[0]) == "*:81"


@pytest.mark.parametrize("address", [None, 8009, ("localhost",), b"/x"])
def test_other_address_is_refused(address):
    with pytest.raises(SettingError, match="expected \\(host, port\\)"):
        settings_of(bindAddress=address)


@pytest.mark.parametrize("cls", [flup.WSGIServer, flup.ForkWSGIServer])
@pytest.mark.parametrize(
    ("keywords", "addresses"),
    [
        ({"bindAddress": ("::1", 81)}, ["[::1]:81"]),
        ({"host": "::1"}, ["[::1]:8009"]),
        ({"address": "::1", "Port": 81}, ["[::1]:81"]),
        ({"port": 81}, ["localhost:81"]),
        ({"listen": "*:81, unix:/x"}, ["*:81", "unix:/x"]),
    ],
)
def test_address_may_be_given_in_either_way(cls, keywords, addresses):
    settings = settings_of(cls=cls, **keywords)
    assert [str(address) for address in settings.addresses] == addresses


@pytest.mark.parametrize("cls", [flup.WSGIServer, flup.ForkWSGIServer])
@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 8010), ("host", "::1"), ("address", "::1"), ("listen", "*:81")],
)
def test_address_may_be_given_in_one_way_alone(cls, name, value):
    with pytest.raises(SettingError) as caught:
        settings_of(cls=cls, bindAddress=("localhost", 9000), **{name: value})
    assert str(caught.value) == (
        f"bindAddress = ('localhost', 9000): given with {name} = {value!r};"
        " give the address once"
    )


def test_thread_numbers_keep_their_names():
    settings = settings_of(minSpare=2, maxSpare=3, maxThreads=4)
    assert (settings.min_spare, settings.max_spare, settings.threads) == (2, 3, 4)


@pytest.mark.parametrize(
    ("keywords", "threads"),
    [
        ({"maxThreads": sys.maxsize}, 1000),
        ({"minSpare": 5, "maxThreads": 2}, 5),
        ({"multithreaded": False, "minSpare": 5, "maxThreads": 9}, 1),
    ],
)
def test_thread_numbers_bend_as_flups_did(keywords, threads):
    assert settings_of(**keywords).threads == threads


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"minSpare": 10}, (10, 0, 10)),
        ({"minSpare": 10, "maxSpare": 5}, (10, 10, 10)),
        ({"minSpare": 1, "maxSpare": 5}, (1, 5, 8)),
        ({"maxSpare": 20}, (1, 20, 20)),
        ({"minSpare": 10, "maxSpare": 20, "threads": 15}, (10, 20, 15)),
    ],
)
def test_spare_threads_need_no_limit(keywords, expected):
    settings = settings_of(**keywords)
    assert (settings.min_spare, settings.max_spare, settings.threads) == expected


def test_multiprocess_is_told_to_the_application():
    settings_of(multiprocess=True)
    assert FakeServer.made[-1].environ == {"wsgi.multiprocess": True}


def test_flups_private_arguments_are_dropped():
    assert settings_of(jobClass=object, jobArgs=()).port == 8009


def test_our_settings_can_be_given_too():
    assert settings_of(secret="x", unquotePath=False).unquote_path is False


def test_unknown_keyword_is_refused():
    with pytest.raises(SettingError, match="no such setting"):
        settings_of(multiplexed=True)


def test_fork_server_has_processes():
    settings = settings_of(
        cls=flup.ForkWSGIServer, maxChildren=4, maxRequests=9, timeout=7, sockTimeout=1
    )
    assert (settings.processes, settings.threads, settings.max_requests) == (4, 1, 9)
    assert (settings.read_timeout, settings.keep_alive_timeout) == (7, 7)


@pytest.mark.parametrize("reload", [True, False])
def test_run_says_whether_to_reload(reload):
    server = flup.WSGIServer(application)
    FakeServer.made[-1].answer = reload
    assert server.run() is reload


def test_shutdown_is_passed_on():
    flup.WSGIServer(application).shutdown()
    assert FakeServer.made[-1].told == ["shutdown"]


# -- handler() and error()


def served(server_class, inner=application):
    """The WSGI application that an instance of the class gives to its Server."""
    server_class(lint(inner))
    return webtest.TestApp(FakeServer.made[-1].application)


def test_application_is_served_as_it_is_when_nothing_is_overridden():
    flup.WSGIServer(application)
    assert FakeServer.made[-1].application is application


def test_handler_may_be_overridden():
    class Server(flup.WSGIServer):
        def handler(self, request):
            request.environ["WORD"] = "changed"
            super().handler(request)

    assert served(Server).get("/").text == "changed"


def test_handler_may_answer_by_itself():
    class Server(flup.WSGIServer):
        def handler(self, request):
            request.startResponse(201, b"Made", [(b"Content-Type", b"text/plain")])
            request.write(b"of ")
            request.write(request.input.read(5))

    answer = served(Server).post("/", b"bytes")
    assert (answer.status, answer.text) == ("201 Made", "of bytes")


def failing(environ, start_response):
    raise LookupError("gone")


def test_error_may_be_overridden():
    class Server(flup.WSGIServer):
        def error(self, request):
            request.startResponse(503, "Sorry", [("Content-Type", "text/plain")])
            request.write(repr(sys.exc_info()[1]).encode())

    answer = served(Server, failing).get("/", status=503)
    assert answer.text == "LookupError('gone')"


def test_exception_reaches_the_server_unless_overridden():
    class Server(flup.WSGIServer):
        def handler(self, request):
            super().handler(request)

    with pytest.raises(LookupError):
        served(Server, failing).get("/")


class Handling(flup.WSGIServer):
    def handler(self, request):
        super().handler(request)

    def error(self, request):
        raise AssertionError("too late for an answer")


def test_error_is_not_asked_once_an_answer_has_begun():
    def late(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])(b"x")
        raise LookupError("gone")

    with pytest.raises(LookupError):
        served(Handling, late).get("/")


def test_close_is_called():
    closed = []

    class Pieces(list):
        def close(self):
            closed.append(True)

    def closing(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Pieces([b"a", b"", b"b"])

    flup_app = served(Handling, closing)
    assert flup_app.get("/").text == "ab"
    assert closed == [True]


def test_start_response_may_replace_an_answer_or_raise():
    def twice(environ, start_response):
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"x")
        try:
            raise LookupError("gone")
        except LookupError:
            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
        return []

    with pytest.raises(LookupError):
        served(Handling, twice).get("/")


def answer_of(inner):
    """The calls of start_response, what write() got and what was returned."""
    Handling(inner)
    calls, written = [], []

    def start_response(*arguments):
        calls.append(arguments)
        return written.append

    environ = {"wsgi.input": None}
    return calls, written, FakeServer.made[-1].application(environ, start_response)


def test_answer_of_which_nothing_was_sent_is_replaced():
    def failing_late(environ, start_response):
        start_response("200 OK", [("A", "b")])
        try:
            raise LookupError("gone")
        except LookupError:
            start_response("500 Oh", [("C", "d")], sys.exc_info())
        return [b"sorry"]

    (first, second), written, result = answer_of(failing_late)
    assert first == ("200 OK", [("A", "b")])
    assert second[:2] == ("500 Oh", [("C", "d")])
    assert second[2][0] is LookupError
    assert (written, result) == ([], [b"sorry"])


def test_one_piece_is_left_to_the_server_which_adds_its_length():
    assert answer_of(application)[1:] == ([], [b"hello"])


def test_order_is_kept_where_a_handler_writes_more():
    class Server(flup.WSGIServer):
        def handler(self, request):
            super().handler(request)
            request.write(b" again")

    Server(application)
    app = webtest.TestApp(FakeServer.made[-1].application)
    assert app.get("/").text == "hello again"


def test_body_is_sent_before_a_failure_that_follows_it():
    class Pieces(list):
        def close(self):
            raise LookupError("gone")

    def closing(environ, start_response):
        start_response("200 OK", [])
        return Pieces([b"a", b"b"])

    written = []
    Handling(closing)
    with pytest.raises(LookupError):
        FakeServer.made[-1].application({"wsgi.input": None}, lambda *_: written.append)
    assert written == [b"a", b"b"]


def test_write_before_the_answer_begins_is_a_mistake():
    class Server(flup.WSGIServer):
        def handler(self, request):
            request.write(b"x")

    with pytest.raises(RuntimeError, match="before startResponse"):
        served(Server).get("/")


# -- install()


@pytest.fixture
def modules(monkeypatch):
    """A sys.modules whose flup is forgotten, and is put back afterwards."""
    before = {
        name: module
        for name, module in sys.modules.items()
        if name.partition(".")[0] == "flup"
    }
    forget_flup()
    yield
    forget_flup()
    sys.modules.update(before)


def forget_flup():
    for name in [name for name in sys.modules if name.partition(".")[0] == "flup"]:
        del sys.modules[name]


@pytest.fixture(params=["flup installed", "no flup"])
def maybe_flup(request, modules, monkeypatch):
    if request.param == "no flup":
        real = importlib.import_module

        def no_flup(name, *arguments):
            if name.partition(".")[0] == "flup":
                raise ModuleNotFoundError(name, name=name)
            return real(name, *arguments)

        monkeypatch.setattr(importlib, "import_module", no_flup)
    else:
        pytest.importorskip("flup")


@pytest.mark.usefixtures("maybe_flup")
@pytest.mark.parametrize(
    ("name", "cls"), [("ajp", flup.WSGIServer), ("ajp_fork", flup.ForkWSGIServer)]
)
def test_installed_server_is_imported_as_flups(name, cls):
    flup.install()
    # The way of tracd, which looks for the protocol's module by name.
    module = __import__(f"flup.server.{name}", None, None, [""])
    assert issubclass(module.WSGIServer, cls)
    assert module.WSGIServer(application).settings.unquote_path is True


@pytest.mark.usefixtures("maybe_flup")
def test_installed_server_may_leave_paths_encoded():
    flup.install(unquotePath=False)
    from flup.server.ajp import WSGIServer

    assert WSGIServer(application).settings.unquote_path is False
    assert flup.WSGIServer(application).settings.unquote_path is True


@pytest.mark.usefixtures("maybe_flup")
def test_installed_server_has_settings_that_its_caller_does_not_know():
    flup.install(secret="geheim", allowedServers="10.0.0.1", threads=3)
    from flup.server.ajp import WSGIServer

    settings = WSGIServer(application, bindAddress=("", 8009), maxThreads=4).settings
    assert settings.secret == "geheim"
    assert str(settings.allowed_servers) == "10.0.0.1"
    assert settings.threads == 4
    assert flup.WSGIServer(application).settings.secret is None


@pytest.mark.usefixtures("maybe_flup")
def test_secret_of_a_caller_counts_more_than_an_installed_one():
    flup.install(secret="geheim")
    from flup.server.ajp import WSGIServer

    settings = WSGIServer(application, secret_file="/etc/secret").settings
    assert (settings.secret, settings.secret_file) == (None, "/etc/secret")


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("wrong", "problem"),
    [({"thread": 4}, "no such setting"), ({"port": 1}, "the code that is served")],
)
def test_wrong_setting_is_refused_by_install(wrong, problem):
    with pytest.raises(SettingError, match=problem):
        flup.install(**wrong)


@pytest.mark.usefixtures("modules")
def test_module_that_is_imported_already_is_changed():
    module = pytest.importorskip("flup.server.ajp")
    flup.install()
    assert issubclass(module.WSGIServer, flup.WSGIServer)
