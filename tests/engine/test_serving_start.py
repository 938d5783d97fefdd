"""A stop that comes while the server starts is not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from paste_ajp.serving import Server
from paste_ajp.settings import Settings

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
