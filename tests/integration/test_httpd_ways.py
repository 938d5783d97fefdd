"""httpd reaches the server over a Unix socket, and through a balancer's checks."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from tests.integration.frontends import READY_PATH, Httpd
from tests.integration.programs import private_folder, wait_until
from tests.integration.remote import ask
from tests.integration.server import CPING, CPONG, Server, python_program


@dataclass(kw_only=True)
class HttpdToUnixSocket(Httpd):
    """httpd that knows the container by a path."""

    path: Path

    def forwarding(self, folder: Path) -> str:
        return (
            f'ProxyPass "{READY_PATH}" "!"\n'
            f'ProxyPass "/" "unix:{self.path}|ajp://localhost/" retry=0'
        )


@dataclass(kw_only=True)
class HttpdBalancer(Httpd):
    """httpd with a balancer over one member, which CPing checks each 100 ms."""

    modules: ClassVar[tuple[str, ...]] = (
        "proxy",
        "proxy_ajp",
        "proxy_balancer",
        "proxy_hcheck",
        "lbmethod_byrequests",
        "slotmem_shm",
    )

    def forwarding(self, folder: Path) -> str:
        return (
            f'ProxyPass "{READY_PATH}" "!"\n'
            '<Proxy "balancer://app">\n'
            f'  BalancerMember "ajp://127.0.0.1:{self.ajp_port}" retry=0 ping=500ms'
            " hcmethod=CPING hcinterval=100ms hcfails=1 hcpasses=1\n"
            "</Proxy>\n"
            'ProxyPass "/" "balancer://app/"'
        )


def answers_over(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.settimeout(5)
            peer.connect(str(path))
            peer.sendall(CPING)
            return peer.recv(16) == CPONG
        except OSError:
            return False


@pytest.mark.smoke
def test_unix_socket_is_served_and_removed() -> None:
    with private_folder("unix") as folder:
        path = folder / "ajp.sock"
        arguments = ["-m", "paste_ajp", "serve", "tests.apps.site:application"]
        # httpd's children run as another user
        arguments += ["--listen", f"unix:{path}", "--unix-socket-mode", "666"]
        server = python_program("paste_ajp", arguments, folder, 0)
        server.launch()
        try:
            wait_until(lambda: answers_over(path), 20, "a CPong over the Unix socket")
            with HttpdToUnixSocket(ajp_port=0, path=path) as front_end:
                told = ask(front_end.port, "POST", "/dump", bytes(20_000)).json()
                assert told["body.length"] == 20_000
                assert told["REMOTE_ADDR"] == "127.0.0.1"
        finally:
            assert server.stop() == 0
        assert not path.exists()


def test_balancer_with_health_checks_is_served(server: Server) -> None:
    extra = "LogLevel warn proxy_hcheck:debug"
    with HttpdBalancer(ajp_port=server.port, extra=extra) as front_end:
        wait_until(lambda: "[proxy_hcheck:" in front_end.log, 20, "a health check")
        for _ in range(20):
            assert ask(front_end.port, "GET", "/hello").status == 200
        assert "DISABLING" not in front_end.log
