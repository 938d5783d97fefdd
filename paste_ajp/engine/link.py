"""Messages between a parent and its child, over a pair of sockets.

Python objects, as pickles: both ends are the same program, run by the same user.
"""

from __future__ import annotations

import pickle
import select
import socket
import struct
import threading
from contextlib import suppress

_LENGTH = struct.Struct("!I")


class Link:
    """One end. Any thread may send, one receives. The other end's death is EOFError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._lock = threading.Lock()  # so that messages do not mix

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        """Make both ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    @classmethod
    def of_descriptor(cls, descriptor: int) -> Link:
        """Take over an end that was inherited."""
        return cls(socket.socket(fileno=descriptor))

    def fileno(self) -> int:
        """The descriptor, -1 when closed."""
        return self._sock.fileno()

    def send(self, message: object) -> None:
        """Send a message, if the other end is there."""
        data = pickle.dumps(message)
        with self._lock, suppress(OSError):
            self._sock.sendall(_LENGTH.pack(len(data)) + data)

    def wait(self, seconds: float) -> bool:
        """Wait for something to receive; tell whether there is."""
        # Not select(): an application may have opened a thousand descriptors.
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def receive(self) -> list[object]:
        """Return the messages that are here, complete ones alone; do not wait.

        Raises EOFError where the other end is closed and nothing is left.
        """
        ended = False
        try:
            while data := self._sock.recv(65536, socket.MSG_DONTWAIT):
                self._buffer += data
            ended = True
        except BlockingIOError:
            pass
        except OSError:
            ended = True
        messages = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            messages.append(pickle.loads(bytes(self._buffer[_LENGTH.size : end])))
            del self._buffer[:end]
        if ended and not messages:
            raise EOFError
        return messages

    def close(self) -> None:
        """Close this end."""
        self._sock.close()
