"""A trace that is written while connections are busy."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path

from paste_ajp.protocol import Role
from paste_ajp.tracing.conversation import Conversation
from paste_ajp.tracing.dissect import PacketView
from paste_ajp.tracing.event import HEADING, Event, format_line

log = logging.getLogger("paste_ajp.trace")

#: Connections that are followed at a time; the one silent longest is forgotten.
MOST_CONNECTIONS = 10_000


class TraceWriter:
    """Appends a line for each packet to a file, secrets masked before they get there.

    ``received`` and ``sent`` take the bytes of a connection as they pass, in any
    pieces, from any thread; ``closed`` forgets the connection. ``role`` is whose
    view that is. The file is readable by its owner alone. When it has grown to
    ``most_bytes`` it is renamed to ``FILE.1``, in place of an older one, so that
    a forgotten trace takes twice that at most.

    No call ever raises: a trace that fails (a full disk, a bug in here) is
    logged once as an error and switched off, and the server goes on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        role: Role = Role.CONTAINER,
        most_bytes: int = 100 * 1024 * 1024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the file; this alone raises OSError."""
        self.path = Path(path)
        self._received_to_container = role is Role.CONTAINER
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()
        self._file: TextIOWrapper | None = self._open()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_on(self) -> bool:
        """False once it was closed, or has failed."""
        return self._file is not None

    def received(self, connection_id: str, data: bytes) -> None:
        """Take bytes that came in on a connection."""
        self._take(connection_id, data, to_container=self._received_to_container)

    def sent(self, connection_id: str, data: bytes) -> None:
        """Take bytes that went out on a connection."""
        self._take(connection_id, data, to_container=not self._received_to_container)

    def closed(self, connection_id: str) -> None:
        """Forget a connection; a packet that it cut short is written down."""
        with self._lock, self._never_raising():
            conversation = self._conversations.pop(connection_id, None)
            if conversation is not None:
                self._write(connection_id, conversation.finish())

    def reopen(self) -> None:
        """Open the file again under its name, after somebody renamed it."""
        with self._lock, self._never_raising():
            if self._file is not None:
                self._file.close()
                self._file = self._open()

    def close(self) -> None:
        """End the trace."""
        with self._lock, self._never_raising():
            file, self._file = self._file, None
            self._conversations.clear()
            if file is not None:
                file.close()

    def _take(self, connection_id: str, data: bytes, *, to_container: bool) -> None:
        if self._file is None:  # looked at again under the lock
            return
        with self._lock, self._never_raising():
            conversation = self._conversations.get(connection_id)
            if conversation is None:
                conversation = self._conversations[connection_id] = Conversation()
                if len(self._conversations) > MOST_CONNECTIONS:
                    self._conversations.popitem(last=False)
            self._conversations.move_to_end(connection_id)
            views = conversation.feed(bytes(data), to_container=to_container)
            self._write(connection_id, views)

    def _write(self, connection_id: str, views: list[PacketView]) -> None:
        if self._file is None or not views:
            return
        now = self._clock()
        lines = [format_line(Event(view, connection_id, now)) for view in views]
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()
        if os.fstat(self._file.fileno()).st_size >= self._most_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """Rename the file, unless another process did, and begin a new one."""
        assert self._file is not None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), os.fstat(self._file.fileno())):
                self.path.replace(f"{self.path}.1")
        self._file.close()
        self._file = self._open()

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode) and mode & 0o077 and hasattr(os, "fchmod"):
                os.fchmod(descriptor, 0o600)  # it was there before
        except OSError:
            os.close(descriptor)
            raise
        file = os.fdopen(descriptor, "a", encoding="ascii")
        if not os.fstat(descriptor).st_size:
            file.write(HEADING + "\n")
            file.flush()
        return file

    @contextlib.contextmanager
    def _never_raising(self) -> Iterator[None]:
        """Switch off at the first failure, and say so once. Under the lock."""
        try:
            yield
        except Exception:  # a trace must not stop what it watches
            log.exception("the trace to %s failed and is off now", self.path)
            file, self._file = self._file, None
            self._conversations.clear()
            with contextlib.suppress(OSError, ValueError):
                if file is not None:
                    file.close()
