"""Servers that are restarted again and again under load, and what that costs.

Each of these runs for so many seconds and returns the tally of all requests that the
remotes have sent in the meantime.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.integration.frontends import HTTPD_MODULES, FrontEnd, Httpd, HttpdJk
from tests.integration.load import Load, Tally
from tests.integration.programs import (
    Program,
    free_port,
    private_folder,
    require_file,
    wait_until,
)
from tests.integration.server import ROOT, answers_cping

APPLICATION = "tests.apps.pid:application"

#: Threads of the front end: more than remotes, or it closes their connections.
THREADS = 128

FRONT_ENDS: dict[str, Callable[[int], FrontEnd]] = {
    "httpd": lambda port: Httpd(ajp_port=port, threads=THREADS),
    "httpd, ping": lambda port: Httpd(ajp_port=port, threads=THREADS, worker="ping=10"),
    "mod_jk": lambda port: HttpdJk(ajp_port=port, threads=THREADS),
}


class OurServer(Program):
    """Ours, started by the shell's door."""

    start_seconds = 30.0


def our_server(
    folder: Path, *flags: str, said: str = "serves AJP", pass_fds: tuple[int, ...] = ()
) -> OurServer:
    """Make one that has started when its log says so."""
    log = folder / "output.log"
    begin = log.stat().st_size if log.exists() else 0
    return OurServer(
        "paste_ajp",
        [sys.executable, "-m", "paste_ajp", "serve", APPLICATION, *flags],
        folder,
        env={"PYTHONPATH": str(ROOT)},
        pass_fds=pass_fds,
        answers=lambda: said in log.read_text()[begin:],
    )


def pause(rest: float, seconds: float) -> float:
    """Wait for so long, but not beyond the rest; the rest that is left."""
    time.sleep(max(0.0, min(rest, seconds)))
    return rest - seconds


def wait_for_lines(server: Program, text: str, count: int) -> None:
    """Wait until the log has so many lines with that text."""
    wait_until(
        lambda: server.log.count(text) >= count,
        20,
        lambda: f"{count} times {text!r} in:\n{server.log}",
    )


def reload_again_and_again(
    front_end: str, seconds: float, every: float = 3.0, clients: int = 50
) -> Tally:
    """SIGHUP every few seconds, to two processes."""
    port = free_port()
    with (
        private_folder("reload") as folder,
        our_server(
            folder, "--port", str(port), "--processes", "2", said="children serve"
        ) as server,
        FRONT_ENDS[front_end](port) as before,
        Load(before.port, clients=clients) as load,
    ):
        rest = pause(seconds, 0.5)
        reloads = 0
        while rest > 0:
            server.send_signal(signal.SIGHUP)
            reloads += 1
            wait_for_lines(server, "new children serve", reloads)
            rest = pause(rest, every)
        tally = load.take()
    print(f"{front_end}: {reloads} reloads, {tally}")
    return tally


def upgrade_again_and_again(
    front_end: str, seconds: float, every: float = 3.0, clients: int = 50
) -> Tally:
    """SIGUSR2 every few seconds, to a parent of two processes."""
    port = free_port()
    with private_folder("upgrade") as folder, contextlib.ExitStack() as stack:
        server = our_server(
            folder, "--port", str(port), "--processes", "2", said="children serve"
        )
        server.start()
        pid = server.pid
        stack.callback(lambda: _send(pid, signal.SIGTERM))
        before = stack.enter_context(FRONT_ENDS[front_end](port))
        load = stack.enter_context(Load(before.port, clients=clients))
        rest = pause(seconds, 0.5)
        upgrades = 0
        while rest > 0:
            _send(pid, signal.SIGUSR2)
            upgrades += 1
            wait_for_lines(server, "this one ends", upgrades)
            said = server.log.rpartition("upgraded: process ")[2]
            pid = int(said.split()[0])
            rest = pause(rest, every)
        tally = load.take()
    print(f"{front_end}: {upgrades} upgrades, {tally}")
    return tally


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def follow_again_and_again(
    front_end: str, seconds: float, every: float = 3.0, clients: int = 50
) -> Tally:
    """SIGTERM, and when that is over a successor on the same listening socket.

    As systemd does it with a socket unit: the socket is never closed, and who
    connects while nobody serves waits in its backlog.
    """
    with (
        private_folder("successor") as folder,
        socket.create_server(("127.0.0.1", 0), backlog=1024) as listener,
        contextlib.ExitStack() as stack,
    ):
        port = listener.getsockname()[1]
        descriptor = listener.fileno()

        def begin() -> OurServer:
            server = our_server(
                folder, "--listen", f"fd://{descriptor}", pass_fds=(descriptor,)
            )
            server.start()
            return server

        server = begin()
        stack.callback(lambda: server.stop())
        before = stack.enter_context(FRONT_ENDS[front_end](port))
        load = stack.enter_context(Load(before.port, clients=clients))
        rest = pause(seconds, 0.5)
        restarts = 0
        while rest > 0:
            assert server.stop() == 0, server.log
            server = begin()
            restarts += 1
            rest = pause(rest, every)
        tally = load.take()
    print(f"{front_end}: {restarts} successors, {tally}")
    return tally


@dataclass(kw_only=True)
class Balancer(Httpd):
    """httpd before two nodes, which it asks for their health by CPing."""

    modules: ClassVar[tuple[str, ...]] = (
        "proxy",
        "proxy_ajp",
        "proxy_balancer",
        "proxy_hcheck",
        "lbmethod_byrequests",
        "slotmem_shm",
    )

    other_port: int = 0

    def forwarding(self, folder: Path) -> str:
        del folder
        modules = require_file("httpd's modules", *HTTPD_MODULES)
        health = "ping=500ms hcmethod=CPING hcinterval=1 hcfails=1 hcpasses=1"
        return "\n".join(
            [
                # Debian has it built in
                "<IfModule !watchdog_module>",
                f"  LoadModule watchdog_module {modules}/mod_watchdog.so",
                "</IfModule>",
                '<Proxy "balancer://app">',
                *(
                    f'  BalancerMember "ajp://127.0.0.1:{port}" {health}'
                    for port in (self.ajp_port, self.other_port)
                ),
                "</Proxy>",
                'ProxyPass "/front-end-ready" "!"',
                'ProxyPass "/" "balancer://app/"',
            ]
        )


def balance_again_and_again(
    seconds: float, every: float = 3.0, clients: int = 50
) -> Tally:
    """Two nodes behind a balancer; one of them is stopped and started, and so on."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        nodes = []
        for port in ports:
            folder = stack.enter_context(private_folder("node"))
            node = our_server(folder, "--port", str(port))
            stack.enter_context(node)
            nodes.append((folder, node))
        before = stack.enter_context(
            Balancer(ajp_port=ports[0], other_port=ports[1], threads=THREADS)
        )
        load = stack.enter_context(Load(before.port, clients=clients))
        folder, node = nodes[1]
        rest = pause(seconds, 0.5)
        restarts = 0
        while rest > 0:
            assert node.stop() == 0, node.log
            rest = pause(rest, 0.5)
            node = our_server(folder, "--port", str(ports[1]))
            node.start()
            stack.callback(node.stop)
            restarts += 1
            rest = pause(rest, every)
        tally = load.take()
        assert answers_cping(ports[1])
    print(f"balancer: {restarts} restarts of one node of two, {tally}")
    return tally


@contextlib.contextmanager
def several_processes(count: int, *flags: str) -> Iterator[tuple[OurServer, int]]:
    """A server of so many processes, and its port."""
    port = free_port()
    arguments = ["--port", str(port), "--processes", str(count), *flags]
    with (
        private_folder("processes") as folder,
        our_server(folder, *arguments, said="children serve") as server,
    ):
        assert isinstance(server, OurServer)
        yield server, port
