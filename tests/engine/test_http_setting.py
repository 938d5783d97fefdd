"""The setting ``http``: a door for browsers beside the AJP port."""

from __future__ import annotations

import importlib
import logging
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from paste_ajp import cli
from paste_ajp.options import SettingError
from paste_ajp.serving import BindError, Server
from paste_ajp.settings import Settings

LOADED = []


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def load() -> Any:
    LOADED.append(application)
    return application


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    LOADED.clear()


@pytest.fixture
def taken() -> Iterable[str]:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def settings(http: str) -> Settings:
    return Settings.parse({"port": "0", "http": http})


def test_door_is_open_while_the_server_runs(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "paste_ajp"):
        with Server(application, settings("127.0.0.1:0")) as server:
            url = next(word for word in caplog.text.split() if word[:4] == "http")
            with urllib.request.urlopen(url.rstrip(","), timeout=10) as answer:
                assert answer.read() == b"hello"
        assert server.wait(10)
    host, port = url.strip("/,").removeprefix("http://").split(":")
    with pytest.raises(OSError):
        socket.create_connection((host, int(port)), 5)


def test_door_leads_to_a_socket_with_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    listening = Settings.parse({"listen": "unix:ajp.sock", "http": "127.0.0.1:0"})
    with caplog.at_level(logging.INFO, "paste_ajp"), Server(application, listening):
        url = next(word for word in caplog.text.split() if word[:4] == "http")
        with urllib.request.urlopen(url.rstrip(","), timeout=10) as answer:
            assert answer.read() == b"hello"


def test_door_and_the_end_find_a_relative_path_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load_elsewhere() -> Any:
        monkeypatch.chdir("/")
        return application

    monkeypatch.chdir(tmp_path)
    listening = Settings.parse({"listen": "unix:ajp.sock", "http": "127.0.0.1:0"})
    server = Server(None, listening, load_application=load_elsewhere)
    with caplog.at_level(logging.INFO, "paste_ajp"), server:
        url = next(word for word in caplog.text.split() if word[:4] == "http")
        with urllib.request.urlopen(url.rstrip(","), timeout=10) as answer:
            assert answer.read() == b"hello"
    assert not (tmp_path / "ajp.sock").exists()


def test_door_that_does_not_open_leaves_no_thread_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError("no more threads")

    monkeypatch.setattr("paste_ajp.http_door.start_http_door", fail)
    before = set(threading.enumerate())
    server = Server(application, settings("127.0.0.1:0"))
    with pytest.raises(OSError, match="no more threads"):
        server.start()
    assert set(threading.enumerate()) <= before


def test_stop_at_once_does_not_wait_for_the_door() -> None:
    inside, gate = threading.Event(), threading.Event()

    def waits(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        inside.set()
        gate.wait(30)
        return application(environ, start_response)

    server = Server(waits, settings("127.0.0.1:0"))
    server.bind()
    assert server._http_listener is not None
    port = server._http_listener.address.port
    server.start()
    with socket.create_connection(("127.0.0.1", port), 30) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert inside.wait(10)
        server.shutdown()
        server.shutdown(graceful=False)
        assert server.wait(20)
        assert b"hello" not in browser.recv(4096)
    gate.set()


def test_taken_port_is_heard_of_before_the_application_is_loaded(taken: str) -> None:
    server = Server(None, settings(taken), load_application=load)
    with pytest.raises(BindError) as caught:
        server.start()
    assert f"cannot listen on {taken} for HTTP: " in str(caught.value)
    assert LOADED == []


def test_taken_http_port_leaves_no_ajp_port_behind(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = Server(application, settings(taken).replace(port=port))
    with pytest.raises(BindError):
        server.bind()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 5)


def test_bound_door_is_closed_when_nothing_was_served(taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = Server(application, settings(f"127.0.0.1:{port}"))
    server.bind()
    server.close()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_missing_waitress_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SettingError) as caught:
        Server(application, settings("127.0.0.1:0")).bind()
    assert str(caught.value) == (
        "http = '127.0.0.1:0': needs waitress, which is not installed: "
        "pip install paste_ajp[http]"
    )


def test_shell_says_in_one_line_that_the_port_is_taken(
    taken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["serve", "paste_ajp.demo:make_demo()", "--port=0", "--http", taken]
    assert cli.main(arguments) == cli.EXIT_FAILED
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"paste-ajp: cannot listen on {taken} for HTTP: ")
