"""The whole server replaced by a new one, without a moment in which nobody listens.

On SIGUSR2 the server starts its own command line once more, and hands its listening
sockets over. The new one loads everything anew: interpreter, packages, settings,
application. When it serves it says so through a pipe, and the old one drains and ends.
When it fails the old one has only heard of it, and goes on. Who asks once more while
one loads, or for the end of all, gives up the one that loads: it may hang.

    PASTE_AJP_UPGRADE = {"parent": 123, "pipe": 7, "sockets": [["127.0.0.1:8009", 5]]}
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paste_ajp.engine.listeners import Listener, adopt
from paste_ajp.engine.notify import Notifier
from paste_ajp.logs import server_log

if TYPE_CHECKING:
    import subprocess

VARIABLE: Final = "PASTE_AJP_UPGRADE"

_READY: Final = b"ready"

#: Seconds that a successor gets to end which is given up. It has served nobody.
_ENDING_SECONDS: Final = 2.0


class Inheritance:
    """What a predecessor has left to this process; empty where there was none."""

    def __init__(self, pipe: int = -1, sockets: Iterable[tuple[str, int]] = ()) -> None:
        self._pipe = pipe
        self._sockets = list(sockets)

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str] | None = None
    ) -> Inheritance:
        """Take what is there for this very process; to be called once."""
        environ = os.environ if environ is None else environ
        text = environ.pop(VARIABLE, "")
        if not text:
            return cls()
        import json

        try:
            left = json.loads(text)
            if left["parent"] != os.getppid():
                return cls()
            sockets = [(str(name), int(number)) for name, number in left["sockets"]]
            found = cls(int(left["pipe"]), sockets)
        except (ValueError, TypeError, KeyError):
            return cls()
        for descriptor in (found._pipe, *(fd for _, fd in found._sockets)):
            os.set_inheritable(descriptor, False)
        return found

    def take(self, written: str) -> list[int]:
        """Take the sockets of an address, as it is written in the settings."""
        taken = [fd for name, fd in self._sockets if name == written]
        self._sockets = [(name, fd) for name, fd in self._sockets if name != written]
        return taken

    def close_rest(self) -> None:
        """Close the sockets of addresses that are no longer written.

        Who connects there shall be refused, and not wait for nobody.
        """
        left, self._sockets = self._sockets, []
        for name, descriptor in left:
            with suppress(OSError):
                listener = adopt(descriptor, inherited=not name.startswith("unix:"))
                listener.own_file()
                listener.close()

    def tell_ready(self) -> None:
        """Let the predecessor go: we serve."""
        if self._pipe >= 0:
            with suppress(OSError):
                os.write(self._pipe, _READY)
                os.close(self._pipe)
            self._pipe = -1


@functools.cache
def inheritance() -> Inheritance:
    """Give what a predecessor has left to this process."""
    return Inheritance.from_environment()


class Upgrade:
    """Starts successors, one at a time.

    `when_ready` is called, in a thread, with the process id of one that serves. Any
    thread, and signal handlers, may call the methods: those take no lock.
    """

    def __init__(self, when_ready: Callable[[int], None]) -> None:
        self._when_ready = when_ready
        self._lock = threading.Lock()  # none is ready while it is given up for another
        self._loading: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        self._folder = _folder()  # the application may change it

    def begin(self, listeners: Iterable[Listener], notifier: Notifier) -> None:
        """Start a successor; give up one that was started before and still loads."""
        threading.Thread(
            target=self._replace,
            args=(list(listeners), notifier.environment()),
            name="paste_ajp-upgrade",
            daemon=False,  # this process must not end before it knows its successor
        ).start()

    def give_up(self) -> None:
        """Have no successor: end one that loads. The server stops."""
        self._over.set()
        process, self._loading = self._loading, None
        if process is not None:
            server_log.info("upgrade given up: process %d ends too", process.pid)
            threading.Thread(
                target=_end, args=(process,), name="paste_ajp-upgrade-end"
            ).start()

    def _replace(self, listeners: list[Listener], more: Mapping[str, str]) -> None:
        with self._lock:
            former, self._loading = self._loading, None
            if former is not None:
                server_log.warning(
                    "asked to upgrade anew: process %d, which loads, is given up",
                    former.pid,
                )
                _end(former)
            if self._over.is_set():
                return
            started = self._start(listeners, more)
            if started is None:
                return
            process, reader = started
            self._loading = process
            if self._over.is_set():  # that came meanwhile
                self.give_up()
        threading.Thread(
            target=self._await,
            args=(process, reader),
            name="paste_ajp-successor",
            daemon=True,
        ).start()

    def _start(
        self, listeners: list[Listener], more: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], int] | None:
        """Start a successor; give it, and the pipe by which it says that it serves.

        None where the system has no process to give.
        """
        import json
        import subprocess

        command = [sys.executable, *sys.orig_argv[1:]]
        reader, writer = os.pipe()
        try:
            left = {
                "parent": os.getpid(),
                "pipe": writer,
                "sockets": [(one.written, one.fileno()) for one in listeners],
            }
            server_log.info("upgrading: starting %s", " ".join(command))
            process = subprocess.Popen(
                command,
                cwd=self._folder if self._folder != _folder() else None,
                env={**os.environ, **more, VARIABLE: json.dumps(left)},
                pass_fds=[writer, *(one.fileno() for one in listeners)],
            )
        except OSError as error:
            os.close(reader)
            server_log.error("upgrade failed, this server goes on: %s", error)
            return None
        except ValueError:  # a descriptor is -1: a stop has closed the listeners
            os.close(reader)
            return None
        finally:
            os.close(writer)
        return process, reader

    def _await(self, process: subprocess.Popen[bytes], reader: int) -> None:
        """Wait until a successor serves, or has ended: that may take for ever."""
        is_ready = os.read(reader, len(_READY)) == _READY  # nothing: it has ended
        os.close(reader)
        with self._lock:
            if self._loading is not process:
                return  # it was given up
            self._loading = None
        if is_ready:
            server_log.info("upgraded: process %d serves, this one ends", process.pid)
            process.returncode = 0  # it outlives us
            self._when_ready(process.pid)
            return
        status = process.wait()
        server_log.error(
            "upgrade failed, this server goes on: the new one ended with status %d,"
            " its own words are above",
            status,
        )


def _folder() -> Path | None:
    """Where this process is; None where that folder has been removed."""
    with suppress(OSError):
        return Path.cwd()
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force where it does not listen."""
    import subprocess

    process.terminate()
    try:
        process.wait(_ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
