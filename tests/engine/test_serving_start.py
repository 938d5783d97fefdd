"""A stop that comes while the server starts is not lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
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


#: The shell's door, which gets a signal when it comes to import a module.
PROGRAM = """
import os, sys

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sender())
from paste_ajp.__main__ import main
sys.argv[1:] = ["serve", "served:application", "--listen", "unix:ajp.sock", *{flags}]
sys.exit(main())
"""

HELLO = "def application(environ, start_response): raise NotImplementedError\n"

#: An application that waits for a signal while it is loaded, and what it makes of it.
SIGNALLED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except {caught}:
    {answer}
"""


def start_and_stop(
    folder: Path, module: str, number: int, *flags: str, served: str = HELLO
) -> tuple[int, str]:
    """Give the exit status, and what was said; see that nothing is left behind."""
    (folder / "served.py").write_text(served)
    program = PROGRAM.format(module=module, number=int(number), flags=flags)
    (folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-B", "program.py"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert not (folder / "ajp.sock").exists()
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "module", ["argparse", "paste_ajp.settings", "paste_ajp.engine.threaded", "served"]
)
def test_stop_signal_during_the_start_ends_it(
    tmp_path: Path, module: str, number: int
) -> None:
    status, said = start_and_stop(tmp_path, module, number)
    (line,) = said.splitlines()
    assert line.endswith("paste_ajp: asked to stop: the start is given up")
    assert status == 0


def test_stop_signal_ends_the_loading_for_forks(tmp_path: Path) -> None:
    flags = "--processes=2", "--preload"
    status, said = start_and_stop(tmp_path, "served", signal.SIGTERM, *flags)
    assert said.count("the start is given up") == len(said.splitlines()) == 1
    assert status == 0


@pytest.mark.parametrize(
    ("caught", "answer"),
    [
        pytest.param("SystemExit", "pass", id="left alone"),
        pytest.param("BaseException", "pass", id="swallowed"),
        pytest.param("BaseException", "raise ValueError", id="made an error"),
    ],
)
def test_stop_signal_ends_the_loading_whatever_that_makes_of_it(
    tmp_path: Path, caught: str, answer: str
) -> None:
    served = SIGNALLED.format(caught=caught, answer=answer) + HELLO
    status, said = start_and_stop(tmp_path, "", signal.SIGTERM, served=served)
    (line,) = said.splitlines()
    assert line.endswith("paste_ajp: asked to stop: the start is given up")
    assert status == 0


#: An application with a wish of its own, which stops the server when that serves.
SETS_HANDLERS = """
import os, signal, socket, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.set_wakeup_fd(-1)

def stop():
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect("ajp.sock")
        asking.sendall(b"\\x12\\x34\\0\\1\\x0a")
        assert asking.recv(5) == b"AB\\0\\1\\x09"
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=stop).start()
"""


@pytest.mark.parametrize(
    "flags", [(), ("--processes=2", "--preload")], ids=["one process", "forks"]
)
def test_stop_signal_ends_the_server_whatever_the_application_has_set(
    tmp_path: Path, flags: Sequence[str]
) -> None:
    served = SETS_HANDLERS + HELLO
    status, said = start_and_stop(tmp_path, "", signal.SIGTERM, *flags, served=served)
    assert "asked to stop: running requests may end first" in said
    assert status == 0


def test_hangup_ends_the_loading_of_one_process(tmp_path: Path) -> None:
    status, said = start_and_stop(tmp_path, "served", signal.SIGHUP)
    assert "asked to reload: one process cannot" in said
    assert status == 0


def test_hangup_is_no_matter_while_the_parent_loads(tmp_path: Path) -> None:
    served = SIGNALLED.format(caught="SystemExit", answer="pass")
    flags = "--processes=2", "--preload"
    status, said = start_and_stop(
        tmp_path, "served", signal.SIGHUP, *flags, served=served
    )
    assert "asked to reload: what is being loaded is new already" in said
    assert "the start is given up" in said
    assert status == 0


def test_interrupted_check_is_not_fine(tmp_path: Path) -> None:
    status, _ = start_and_stop(tmp_path, "served", signal.SIGINT, "--check")
    assert status == 130
