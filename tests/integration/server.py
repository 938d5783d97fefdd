"""Our server as a process of its own, and the least that speaks AJP to it."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.integration.programs import Program, free_port, private_folder

ROOT: Final = Path(__file__).resolve().parents[2]

CPING: Final = bytes.fromhex("1234 0001 0a")
CPONG: Final = bytes.fromhex("4142 0001 09")


def answers_cping(port: int, timeout: float = 5.0) -> bool:
    """Whether a CPing to that port gets its CPong."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as peer:
            peer.sendall(CPING)
            answer = b""
            while len(answer) < len(CPONG):
                data = peer.recv(len(CPONG) - len(answer))
                if not data:
                    return False
                answer += data
            return answer == CPONG
    except OSError:
        return False


class Server(Program):
    """A process that listens for AJP on ``port``."""

    port: int


def python_program(
    name: str,
    arguments: list[str],
    folder: Path,
    port: int,
    env: Mapping[str, str] | None = None,
) -> Server:
    """A Python process that listens for AJP on ``port``, not yet started."""
    server = Server(
        name,
        [sys.executable, *arguments],
        folder,
        env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
        answers=lambda: answers_cping(port),
    )
    server.port = port
    return server


@contextlib.contextmanager
def serving_process(
    application: str = "tests.apps.site:application",
    *,
    flags: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve an application with ``python -m paste_ajp serve`` until the end.

    ``flags`` are further settings, as on the command line:
    ``["--script-name", "/app"]``.
    """
    port = free_port()
    arguments = ["-m", "paste_ajp", "serve", application]
    arguments += ["--host", "127.0.0.1", "--port", str(port), *flags]
    with private_folder("server") as folder:
        server = python_program("paste_ajp", arguments, folder, port, env)
        with server:
            yield server
