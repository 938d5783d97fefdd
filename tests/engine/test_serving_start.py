"""A stop that comes while the server starts is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from paste_ajp import serving
from paste_ajp.serving import Server
from paste_ajp.settings import Settings
from tests.engine.front_end import FrontEnd

SETTINGS = Settings.parse({"host": "127.0.0.1", "port": "0"})


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def test_stop_while_the_application_loads_ends_run() -> None:
    def load() -> Any:
        server.shutdown()
        return application

    server = Server(None, load_application=load, settings=SETTINGS)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_server_can_start_again_after_such_a_stop() -> None:
    stops = [True, False]

    def load() -> Any:
        if stops.pop(0):
            server.shutdown()
        return application

    server = Server(None, load_application=load, settings=SETTINGS)
    server.run()
    server.start()
    assert not server.wait(0)
    server.shutdown()
    assert server.wait(10)


def test_server_that_serves_cannot_start_once_more() -> None:
    with Server(application, SETTINGS) as server:
        with pytest.raises(RuntimeError, match="was started already"):
            server.start()
        with FrontEnd(server.addresses[0]) as front_end:
            assert front_end.ask("GET", "/").status == 200


def test_system_without_fork_serves_with_one_process(
    monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr(serving, "missing_for_processes", lambda: "fork()")
    settings = SETTINGS.replace(processes=4, max_requests=5)
    with (
        Server(application, settings) as server,
        FrontEnd(server.addresses[0]) as front_end,
    ):
        assert front_end.ask("GET", "/").body == b"hello"
    assert "one process serves, without a parent: this system has no fork()" in (
        caplog.text
    )
