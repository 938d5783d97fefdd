"""Server and serve(): starts, signals, stops of one process."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from paste_ajp import BindError, Server, SettingError, Settings, serve
from paste_ajp.engine.signals import DOUBLED_SECONDS
from tests.engine.conftest import hello, open_descriptors, server_threads
from tests.engine.front_end import DEADLINE, FrontEnd, forward

ANY_PORT = Settings.parse({"port": 0, "graceful_timeout": 5})


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    before = open_descriptors()
    yield
    assert server_threads() == []
    assert open_descriptors() == before


def ask(server):
    with FrontEnd(server.addresses[0]) as front_end:
        return front_end.ask().body


# -- in this process -------------------------------------------------------------


def test_server_is_a_context_manager():
    with Server(hello, ANY_PORT) as server:
        assert ask(server) == b"hello"


def test_server_starts_again_after_a_stop():
    server = Server(hello, ANY_PORT)
    for _ in range(2):
        server.start()
        assert ask(server) == b"hello"
        server.shutdown()
        assert server.wait(DEADLINE)


def test_application_may_be_set_after_the_address_is_bound():
    server = Server(None, ANY_PORT)
    server.bind()
    address = server.addresses[0]
    server.application = hello
    with server:
        assert server.addresses == [address]
        assert ask(server) == b"hello"


def test_run_ends_after_a_shutdown_from_elsewhere_and_no_signal_is_touched():
    before = signal.getsignal(signal.SIGTERM)
    server = Server(hello, ANY_PORT)
    server.bind()
    results = []
    thread = threading.Thread(target=lambda: results.append(server.run()))
    thread.start()
    assert ask(server) == b"hello"
    server.shutdown()
    thread.join(DEADLINE)
    assert results == [False]
    assert signal.getsignal(signal.SIGTERM) is before


def test_wait_gives_up_in_time():
    with Server(hello, ANY_PORT) as server:
        assert not server.wait(0.01)
    assert server.wait(0)


def test_port_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for use in (
            lambda: serve(hello, port=port),
            lambda: Server(hello, Settings(port=port)).start(),
            lambda: Server(hello, Settings(port=port)).bind(),
        ):
            with pytest.raises(BindError, match=f"127.0.0.1:{port}"):
                use()


def test_wrong_setting_is_an_error():
    with pytest.raises(SettingError, match="did you mean threads"):
        serve(hello, thread=4)
    with pytest.raises(SettingError, match="a whole number"):
        serve(hello, Settings(), threads="many")


def failing_load():
    raise ImportError("no such application")


@pytest.mark.parametrize(
    ("load", "problem"),
    [(failing_load, "no such application"), (None, "no application to serve")],
)
@pytest.mark.parametrize("way", ["start", "run", "__enter__"])
def test_start_that_fails_gives_the_address_back(load, problem, way):
    server = Server(None, ANY_PORT, load_application=load)
    with pytest.raises((ImportError, RuntimeError), match=problem):
        getattr(server, way)()


# -- signals ---------------------------------------------------------------------

PROGRAM = """
    import _thread, logging, os, sys, time
    from paste_ajp import Server, Settings

    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            os.write(1, b"inside\\n")
            time.sleep(float(environ["QUERY_STRING"]))
        if environ["PATH_INFO"] == "/interrupt":
            _thread.interrupt_main()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    server = Server(application, Settings.parse({"port": 0, "graceful_timeout": 30}))
    server.bind()
    print(server.addresses[0], flush=True)
    again = server.run()
    print("run returned", again, flush=True)
"""


@contextmanager
def running_program():
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            address = process.stdout.readline().decode().strip()
            with FrontEnd(address) as front_end:
                front_end.cping()  # so it handles signals by now
                yield process, front_end
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("name", "result"),
    [("SIGTERM", b"False"), ("SIGINT", b"False"), ("SIGHUP", b"True")],
)
def test_signal_ends_run_when_the_running_request_has_ended(name, result):
    with running_program() as (process, front_end):
        front_end.send(forward("GET", "/wait", attributes={"query_string": "0.3"}))
        assert process.stdout.readline() == b"inside\n"
        os.kill(process.pid, getattr(signal, name))
        assert front_end.answer()[3::2] == (b"hello", False)
        front_end.close()
        out, errors = process.communicate(timeout=DEADLINE)
    assert out == b"run returned " + result + b"\n"
    assert errors.splitlines()[-1] == b"stopped"
    assert process.returncode == 0


def test_signals_of_two_kinds_at_once_are_one_wish():
    """hupper sends SIGTERM and interrupts the main thread besides."""
    with running_program() as (process, front_end):
        front_end.send(forward("GET", "/wait", attributes={"query_string": "0.3"}))
        assert process.stdout.readline() == b"inside\n"
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
        assert front_end.answer()[3::2] == (b"hello", False)
        _, errors = process.communicate(timeout=DEADLINE)
    assert b"once more" not in errors
    assert process.returncode == 0


def test_a_signal_that_comes_doubled_is_one_wish():
    """timeout(1) sends it to its child, and to its group besides; make(1) forwards."""
    with running_program() as (process, front_end):
        front_end.send(forward("GET", "/wait", attributes={"query_string": "0.3"}))
        assert process.stdout.readline() == b"inside\n"
        os.kill(process.pid, signal.SIGTERM)
        while b"running requests may end" not in process.stderr.readline():
            pass
        os.kill(process.pid, signal.SIGTERM)
        assert front_end.answer()[3::2] == (b"hello", False)
        _, errors = process.communicate(timeout=DEADLINE)
    assert b"once more" not in errors
    assert process.returncode == 0


def test_interrupt_that_is_no_signal_ends_run():
    """With it hupper ends a worker whose monitor was killed."""
    with running_program() as (process, front_end):
        front_end.send(forward("GET", "/interrupt"))
        assert front_end.answer().body == b"hello"
        _, errors = process.communicate(timeout=DEADLINE)
    assert b"asked to stop" in errors
    assert process.returncode == 0


def test_second_signal_does_not_wait_for_requests():
    with running_program() as (process, front_end):
        front_end.send(forward("GET", "/wait", attributes={"query_string": "60"}))
        assert process.stdout.readline() == b"inside\n"
        os.kill(process.pid, signal.SIGTERM)
        while b"running requests may end" not in process.stderr.readline():
            pass
        time.sleep(2 * DOUBLED_SECONDS)
        os.kill(process.pid, signal.SIGTERM)
        with pytest.raises(EOFError):
            front_end.answer()
        out, errors = process.communicate(timeout=DEADLINE)
    assert out == b"run returned False\n"
    assert b"cut off, as the server stops at once" in errors
    assert process.returncode == 0
