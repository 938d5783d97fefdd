"""One child of a PreforkServer: loads the application, and serves until told to end.

The main thread loads, waits, and ends; the server has threads of its own. Another one,
the *link*, hears the parent's orders and sends a beat every second. It needs the
interpreter's lock for that, so a child whose lock is held for good falls silent.

A child ends as any Python program does, by leaving its main function: `atexit`
functions run, and so does what the application has behind it.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from paste_ajp.addresses import Address
from paste_ajp.engine.balance import Share, SharedCounts
from paste_ajp.engine.link import Link
from paste_ajp.engine.listeners import Listener, inherit
from paste_ajp.engine.signals import TRACE_SIGNAL, let_in
from paste_ajp.engine.supervision import (
    BEAT_SECONDS,
    CLOSING_SECONDS,
    Beat,
    Order,
)
from paste_ajp.engine.threaded import GRACE_SECONDS, ThreadedServer
from paste_ajp.logs import server_log
from paste_ajp.settings import Settings
from paste_ajp.wsgi.task import Application

#: Seconds for which idle connections are served once more where others take the new
#: ones: nobody waits for that, and the longer it is the fewer are closed in the very
#: moment in which a front end sends a request. AJP notes 8.5.
DRAIN_GRACE_SECONDS: Final = 5.0

#: Writes the stacks of all threads to the parent's log; as in a Java container.
STACKS_SIGNAL: Final = "SIGQUIT"

#: What a terminal, or a careless kill, sends to the whole group: the parent's affair.
_PARENTS_SIGNALS: Final = ("SIGINT", "SIGHUP", "SIGUSR2", "SIGTTIN", "SIGTTOU")

#: How a traceback begins.
_TRACEBACK: Final = "\nTraceback (most recent call last):\n"


class Source(Protocol):
    """Where a child gets from what it serves; goes to it as a pickle."""

    def set_up_logging(self) -> None:
        """Do what the parent's program did for its logs."""

    def settings(self) -> Settings:
        """Read the settings anew. Raises SettingError."""

    def application(self) -> Application:
        """Load the application. May raise anything."""

    def close(self) -> None:
        """Do what the parent's program does for the application behind the server."""


@dataclass(frozen=True)
class Loaded:
    """The Source of a child that was forked: all is here already."""

    loaded_settings: Settings
    loaded_application: Application

    def set_up_logging(self) -> None:
        """Nothing to do."""

    def settings(self) -> Settings:
        """Give what the parent has."""
        return self.loaded_settings

    def application(self) -> Application:
        """Give what the parent has."""
        return self.loaded_application

    def close(self) -> None:
        """Nothing to do: what stands behind run() runs here too."""


@dataclass(frozen=True)
class Birth:
    """What a parent tells a new child first. `source` is a pickle where it is bytes."""

    parent: int
    number: int
    slot: int
    counts: int  # descriptors, these three
    stacks: int
    listeners: Sequence[tuple[int, bool]]  # and whether others than us have them
    addresses: Sequence[Address]  # theirs
    source: Source | bytes
    path: Sequence[str] = ()
    environ: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """The child shall write each packet to its trace from now on, or no more."""

    on: bool


@dataclass(frozen=True)
class Ready:
    """The child has its application, and these settings."""

    settings: Settings


@dataclass(frozen=True)
class Failed:
    """The child cannot load its application."""

    problem: str


@dataclass(frozen=True)
class Leaving:
    """The child ends, for somebody else has asked it to."""


def main(descriptor: int) -> int:
    """Be a child that was started as a program of its own; give the exit status."""
    link = Link.of_descriptor(descriptor)
    while not (messages := link.receive()):
        link.wait(60)
    birth, *orders = messages  # a parent that ends at once has more to say
    assert isinstance(birth, Birth)  # always the first message
    sys.path[:] = birth.path
    return be_child(link, birth, orders)


def be_child(link: Link, birth: Birth, orders: Sequence[object] = ()) -> int:
    """Load, serve, and return the exit status when it is time to end.

    `orders` are messages that came together with the birth.
    """
    return _Child(link, birth, orders).live()


class _Child:
    """What the two threads of a child share: the main one and the link."""

    def __init__(self, link: Link, birth: Birth, orders: Sequence[object]) -> None:
        self._link = link
        self._orders = orders
        self._birth = birth
        self._counts = SharedCounts(birth.counts)
        self._share: Share = self._counts.share(birth.slot)
        self._may_serve = threading.Event()
        self._ending = False
        self._server: ThreadedServer | None = None
        self._source: Source | None = None
        self._trace_wish: bool | None = None  # the parent's; None for the settings'
        self._trace_flips = False
        self._patience = 0.0  # heartbeat_timeout, once it is known

    def live(self) -> int:
        """The main thread, first to last."""
        self._handle_signals()
        threading.Thread(
            target=self._keep_in_touch, name="paste_ajp-link", daemon=True
        ).start()
        try:
            return self._load_and_serve()
        finally:
            if self._source is not None:
                self._source.close()

    def _load_and_serve(self) -> int:
        loaded = self._load()
        if loaded is None:
            return 0 if self._ending else 1
        settings, application = loaded
        self._patience = settings.heartbeat_timeout
        if not self._ending:
            self._link.send(Ready(settings))
            self._may_serve.wait()
        if self._ending:  # what loads may have caught our SystemExit, and gone on
            return 0
        try:
            server = self._serve(settings, application)
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells
            self._failed(error)
            return 1
        server.wait()
        return 0

    def _load(self) -> tuple[Settings, Application] | None:
        try:
            source = self._birth.source
            if isinstance(source, bytes):
                source = pickle.loads(source)
            self._source = source
            source.set_up_logging()
            settings = source.settings()
            # The parent has looked when it started, but that may be long ago.
            settings.demand_secret(self._birth.addresses)
            return settings, source.application()
        except BaseException as error:  # noqa: BLE001 - an application may raise anything
            if not self._ending:  # else it comes of our own: see _on_stop_signal
                self._failed(error)
        return None

    def _failed(self, error: BaseException) -> None:
        said = str(error)
        problem = f"{type(error).__name__}: {said}"
        if _TRACEBACK in said:  # a LoadError's, of the application's own frames
            problem = said
        else:
            problem += "\n" + "".join(traceback.format_exception(error)).rstrip()
        self._link.send(Failed(problem))

    def _serve(self, settings: Settings, application: Application) -> ThreadedServer:
        listeners: list[Listener] = [
            inherit(number, settings) for number, _ in self._birth.listeners
        ]
        for number, _ in self._birth.listeners:
            os.close(number)
        server = ThreadedServer(
            application,
            settings,
            listeners=listeners,
            environ=self._birth.environ,
            share=self._share,
        )
        server.start()
        self._server = server
        if self._trace_wish is not None:
            server.switch_trace(self._trace_wish)
        if self._trace_flips:  # the signal came while it started
            server.switch_trace()
        if self._ending:  # the order, or a signal, came while it started
            self._link.send(Leaving())
            self._take_what_waits(server)
            server.shutdown()
        return server

    # -- signals: the main thread ---------------------------------------------------

    def _handle_signals(self) -> None:
        for name in _PARENTS_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                # A function, not SIG_IGN, which programs started here would inherit.
                signal.signal(number, _leave_to_parent)
        signal.signal(signal.SIGTERM, self._on_stop_signal)
        signal.signal(getattr(signal, TRACE_SIGNAL), self._on_trace_signal)
        number = getattr(signal, STACKS_SIGNAL, None)
        if number is not None and hasattr(faulthandler, "register"):
            faulthandler.register(
                number, file=self._birth.stacks, all_threads=True, chain=False
            )
        let_in()

    def _on_trace_signal(self, number: int, frame: object) -> None:  # noqa: ARG002
        if self._server is None:
            self._trace_flips = not self._trace_flips
        else:
            # Not in here: the interrupted code may hold what the switch waits for.
            threading.Thread(target=self._server.switch_trace).start()

    def _on_stop_signal(self, number: int, frame: object) -> None:  # noqa: ARG002
        server = self._server
        if server is None:
            if not self._may_serve.is_set():
                self._ending = True
                raise SystemExit(0)  # out of whatever loads at present
            self._ending = True  # _serve() looks when it has started
            return
        if not self._ending:
            self._ending = True
            self._link.send(Leaving())
        # Perhaps the whole group has got the signal, and nobody is left to accept.
        self._take_what_waits(server)
        server.shutdown()

    # -- the link: its own thread -----------------------------------------------------

    def _keep_in_touch(self) -> None:
        try:
            self._hear(self._orders)
            while self._link.fileno() >= 0:
                if self._link.wait(BEAT_SECONDS):
                    self._hear(self._link.receive())
                else:
                    self._beat()
                if os.getppid() != self._birth.parent:
                    raise EOFError  # a program of the parent's may hold its end
        except EOFError:
            self._parent_is_gone()
        except BaseException:  # noqa: BLE001 - the outermost frame of a thread
            server_log.exception("the link to the parent broke; ending")
            self._end(GRACE_SECONDS)

    def _hear(self, messages: Sequence[object]) -> None:
        for message in messages:
            if isinstance(message, Order):
                self._obey(message)
            elif isinstance(message, Trace):
                self._trace_wish = message.on
                if self._server is not None:
                    self._server.switch_trace(message.on)

    def _obey(self, order: Order) -> None:
        if order is Order.SERVE:
            self._may_serve.set()
        elif order is Order.DRAIN:
            self._end(DRAIN_GRACE_SECONDS, others_accept=True)
        elif order is Order.FINISH:
            self._end(GRACE_SECONDS)
        else:
            self._end(0.0, graceful=False)

    def _parent_is_gone(self) -> None:
        server_log.warning(
            "the parent of child %d (pid %d) is gone: ending",
            self._birth.number,
            os.getpid(),
        )
        server = self._server
        patience = 0.0 if server is None else server.settings.graceful_timeout
        self._exit_by_force_after(patience)
        self._end(GRACE_SECONDS)

    def _take_what_waits(self, server: ThreadedServer) -> None:
        """Have the server accept what waits at sockets that nobody has but us.

        To be called before its shutdown(). All children do so in the same moment;
        which of them takes what does not matter.
        """
        kept = [is_kept for _, is_kept in self._birth.listeners]
        for listener, is_kept in zip(server.listeners, kept, strict=True):
            listener.inherited = is_kept

    def _end(
        self,
        grace_seconds: float,
        *,
        graceful: bool = True,
        others_accept: bool = False,
    ) -> None:
        server = self._server
        self._share.close()
        if server is not None:
            self._ending = True
            if not others_accept:
                self._take_what_waits(server)
            server.shutdown(graceful, grace_seconds=grace_seconds)
        elif not self._may_serve.is_set():
            # The main thread loads, or waits: a signal gets it out of both.
            ident = threading.main_thread().ident
            assert ident is not None  # it runs
            signal.pthread_kill(ident, signal.SIGTERM)
        else:
            self._ending = True

    def _beat(self) -> None:
        server = self._server
        if self._patience:
            # Should even this thread stop for good, and the parent be gone too.
            self._exit_by_force_after(2 * self._patience)
        if server is None:
            self._link.send(Beat(memory=resident_bytes()))
            return
        server.shed_surplus()
        longest, name = server.longest_request()
        self._link.send(
            Beat(
                connections=server.connections,
                requests=server.stats.requests,
                memory=resident_bytes(),
                longest=longest,
                longest_request=name,
                stats=server.stats.as_dict(),
            )
        )

    def _exit_by_force_after(self, seconds: float) -> None:
        """End the process after that time, in C, whoever holds what."""
        if hasattr(faulthandler, "dump_traceback_later"):
            faulthandler.dump_traceback_later(
                seconds + CLOSING_SECONDS, exit=True, file=self._birth.stacks
            )


def _leave_to_parent(number: int, frame: object) -> None:
    """The parent gets this signal too, and says what is to be done."""


def resident_bytes() -> int:
    """Give the memory that this process holds; 0 where the system does not tell."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def leave(status: int, *, in_main_thread: bool) -> NoReturn:
    """End a forked child as a program ends, wherever in the parent it was forked.

    In the main thread SystemExit goes through all that has called us, so that what
    stands in `finally` there (Zope closes its databases so) is done here too.
    """
    if in_main_thread:
        raise SystemExit(status)
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
