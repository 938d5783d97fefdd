"""An AJP server that does exactly what a test writes down, right or wrong.

It shares no code with paste_ajp: what it sends is written by hand.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

#: 200 OK without any header.
HEAD = bytes.fromhex("4142000a 04 00c8 0002 4f4b 00 0000")
END_REUSE = bytes.fromhex("41420002 0501")
END_CLOSE = bytes.fromhex("41420002 0500")
CPING = bytes.fromhex("12340001 0a")
CPONG = bytes.fromhex("41420001 09")
FLUSH = bytes.fromhex("41420004 03 0000 00")
EOF_CHUNK = bytes.fromhex("12340002 0000")


def ask(length: int) -> bytes:
    """Get Body Chunk."""
    return b"AB\x00\x03\x06" + length.to_bytes(2, "big")


def body(data: bytes) -> bytes:
    """Send Body Chunk."""
    length = len(data).to_bytes(2, "big")
    return b"AB" + (len(data) + 4).to_bytes(2, "big") + b"\x03" + length + data + b"\0"


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)

    def packet(self) -> bytes:
        """The next packet, header and all; b"" when the client closed."""
        head = self._exactly(4)
        return head and head + self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self.sock.recv(count - len(data))
            if not piece:
                return b""
            data += piece
        return data

    def send(self, *data: bytes) -> None:
        self.sock.sendall(b"".join(data))


class ScriptedServer:
    """Gives each connection the next script; a context manager.

    ``done`` waits until the scripts are through, and raises what they raised.
    """

    def __init__(self, *scripts: Callable[[Peer], object]) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"ajp://127.0.0.1:{self.port}"
        self.errors: list[BaseException] = []
        self.accepted = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        for script in self._scripts:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # closed by the test's end
            self.accepted += 1
            with sock:
                try:
                    script(Peer(sock))
                except Exception as error:  # noqa: BLE001 - done() raises it
                    self.errors.append(error)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        # close() alone does not wake a thread that waits in accept()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the script waits for something"

    def done(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), "the script waits for something"
        if self.errors:
            raise self.errors[0]
