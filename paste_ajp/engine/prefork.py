"""PreforkServer: a parent over several ThreadedServers, one in each child.

    listening sockets --- inherited by all ---> child 1, child 2, ...
    parent  <--- link: beats, orders --->  child

The parent owns the sockets, starts and watches the children, and touches no request.
When the server stops it closes them at once, and the children take what waits there
before they do; where a successor or a service manager has them too, that waits for it.
A child is a new interpreter that loads the application for itself (a Source says how),
so it shares neither database connections nor code with others. Where there is no
Source, or `preload` is set, a child is a fork of the parent and what that has loaded.

What to do is decided in supervision.py; this file does it: processes, links, signals.
One thread does all of it. Others, and signal handlers, leave a note and wake it.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from paste_ajp.addresses import Address
from paste_ajp.engine.balance import SharedCounts
from paste_ajp.engine.child import (
    STACKS_SIGNAL,
    Birth,
    Failed,
    Leaving,
    Loaded,
    Ready,
    Source,
    Trace,
    be_child,
    leave,
)
from paste_ajp.engine.link import Link
from paste_ajp.engine.listeners import Listener
from paste_ajp.engine.notify import Notifier
from paste_ajp.engine.processes import ChildrenFailed
from paste_ajp.engine.signals import (
    STOP_SIGNALS,
    held_back,
    in_main_thread,
    tell_main_thread,
    wait_for,
)
from paste_ajp.engine.supervision import Beat, Order, Phase, Supervisor
from paste_ajp.logs import server_log
from paste_ajp.settings import Settings
from paste_ajp.wsgi.task import Application

#: Seconds between two looks whether a child is dead that has hung up.
_REAP_SECONDS: Final = 0.01

#: Seconds that a child may take from hanging up to its death before that is noted.
_HANG_UP_SECONDS: Final = 0.25

#: Seconds of silence after which stacks are taken for complete: they come in pieces,
#: and nothing says which is the last.
_STACKS_SECONDS: Final = 0.1

_PROGRAM: Final = str(Path(__file__).with_name("__main__.py"))


class _Born(BaseException):
    """Raised in a forked child, to get it out of the parent's loop."""

    def __init__(self, link: Link, birth: Birth) -> None:
        super().__init__()
        self.link = link
        self.birth = birth


class _End(NamedTuple):
    """What a child died of, and whether a stop signal ends one so."""

    how: str
    may_be_stop: bool


class _Process:
    """The parent's side of one child."""

    def __init__(self, pid: int, link: Link, stacks: int, slot: int) -> None:
        self.pid = pid
        self.link = link
        self.stacks = stacks  # descriptor of the pipe that stacks come through
        self.slot = slot
        self.hung_up_at = 0.0
        self.told_leaving = False
        self.stack_bytes = b""
        self.stacks_at = 0.0  # when the last of them came

    def end(self) -> _End | None:
        """Tell what it died of; None while it lives."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # somebody else waits for all children
            return _End("is gone", may_be_stop=False)
        if not pid:
            return None
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = f"signal {number}"
            with suppress(ValueError):
                name = signal.Signals(number).name
            return _End(f"was killed by {name}", may_be_stop=name in STOP_SIGNALS)
        code = os.waitstatus_to_exitcode(status)
        return _End(f"ended with status {code}", may_be_stop=code == 0)


class PreforkServer:
    """Serves on `listeners` with several processes.

    `source` is what children load, `application` what they have without one; a reload
    has `read_settings` for those then. `when_serving` is called when they serve for the
    first time, `when_reloaded` with the settings that a reload has put in force.
    run() is for the thread that shall watch over the children; every other method may
    be called by any thread, and by signal handlers of that one.
    """

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        *,
        source: Source | None = None,
        application: Application | None = None,
        read_settings: Callable[[], Settings] | None = None,
        environ: Mapping[str, Any] | None = None,
        notifier: Notifier | None = None,
        when_serving: Callable[[], None] = lambda: None,
        when_reloaded: Callable[[Settings], None] = lambda settings: None,  # noqa: ARG005
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if source is None and application is None:
            raise ValueError("neither a source nor an application to serve")
        self._source = source
        self._pickled = pickle.dumps(source) if source is not None else b""
        self._application = application
        self._read_settings = read_settings
        self._settings_of_fork = settings  # of those that are forked from now on
        self._listeners = list(listeners)
        self._addresses = [listener.address for listener in listeners]
        self._environ = dict(environ or {})
        self._notifier = notifier or Notifier("")
        self._when_serving = when_serving
        self._when_reloaded = when_reloaded
        self._settings_told = settings
        self._clock = clock
        self._supervisor = Supervisor(settings, self)
        self._processes: dict[int, _Process] = {}
        self._counts = SharedCounts()
        self._notes: deque[Callable[[float], None]] = deque()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector: selectors.BaseSelector = selectors.DefaultSelector()
        self._selector.register(self._wakened, selectors.EVENT_READ, self._clear_waker)
        self._phase = Phase.STARTING
        #: Whether children trace, by their generation; others do as their settings say.
        self._traces: dict[int, bool] = {}
        self._refused: tuple[Address, ...] = ()  # that a reload has brought in vain
        self._next_watchdog = 0.0
        self._serving = threading.Event()
        self._stopped = threading.Event()
        self.draining = False

    # -- for others ------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        """The settings in force: a reload may have brought others."""
        return self._supervisor.settings

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that live."""
        return [process.pid for process in list(self._processes.values())]

    @property
    def stats(self) -> dict[str, int]:
        """The counters of all children, those that are gone included."""
        total = dict(self._supervisor.gone_stats)
        for child in list(self._supervisor.children.values()):
            for name, count in child.beat.stats.items():
                total[name] = total.get(name, 0) + count
        return total

    def start(self) -> None:
        """Serve in the background; return when children serve.

        Raises ChildrenFailed.
        """
        threading.Thread(
            target=self._run_in_thread, name="paste_ajp-parent", daemon=True
        ).start()
        while not self._serving.wait(0.1):
            if self._stopped.is_set():
                break
        self._raise_fatal()

    def run(self) -> None:
        """Start the children, watch over them, return when all have ended.

        Raises ChildrenFailed where not one could ever serve. In a child that was
        forked this raises SystemExit when it is done.
        """
        main = (
            in_main_thread()
        )  # asked here: in a fork, its only thread is the main one
        try:
            self._watch()
        except _Born as born:
            leave(be_child(born.link, born.birth), in_main_thread=main)
        finally:
            self._stopped.set()
            tell_main_thread()
        self._raise_fatal()

    def _run_in_thread(self) -> None:
        try:
            self._watch()
        except _Born as born:
            leave(be_child(born.link, born.birth), in_main_thread=False)
        finally:
            self._stopped.set()
            tell_main_thread()

    def _raise_fatal(self) -> None:
        if self._supervisor.fatal:
            raise ChildrenFailed(self._supervisor.fatal)

    def shutdown(self, graceful: bool = True) -> None:
        """Stop: let running requests end within graceful_timeout, or at once."""
        self.draining = True
        order = Order.FINISH if graceful else Order.STOP
        self._note(lambda now: self._stop(order, now))

    def make_way(self) -> None:
        """Stop, and leave what waits to be accepted to a successor on our sockets."""
        self.draining = True
        self._note(lambda now: self._stop(Order.DRAIN, now))

    def _stop(self, order: Order, now: float) -> None:
        for listener in self._listeners:
            listener.close()  # whoever connects from now on shall be refused
        self._supervisor.stop(order, now)

    def reload(self) -> None:
        """Have new children load settings and code anew, and take over when ready."""
        self._note(self._reload)

    def _reload(self, now: float) -> None:
        if self.draining:
            return
        if self._source is not None or self._prepare_to_fork():
            self._traces.pop(self._supervisor.generation + 1, None)
            self._supervisor.reload(now)

    def _prepare_to_fork(self) -> bool:
        """Read the settings of children that are forked; tell whether they are good."""
        if self._read_settings is None:
            server_log.warning(
                "reloading: the application is an object of this process, so the new"
                " children have the same code and settings; for others upgrade"
                " (SIGUSR2) or start anew"
            )
            return True
        try:
            self._settings_of_fork = self._read_settings()
        except Exception as error:  # noqa: BLE001 - a Source reads what it likes
            server_log.error(
                "reload failed, the former settings stay in force: %s", error
            )
            return False
        server_log.warning(
            "reloading: the settings are read anew, but the code stays the one that was"
            " preloaded; for other code upgrade (SIGUSR2) or start anew"
        )
        return True

    def add_child(self) -> None:
        """Have one child more."""
        self._note(self._supervisor.add)

    def remove_child(self) -> None:
        """Have one child less."""
        self._note(self._supervisor.remove)

    def switch_trace(self) -> None:
        """Have every child begin, or end, to write each packet to its trace.

        Those that come later do as the others, up to a reload.
        """
        self._note(self._switch_trace)

    def _switch_trace(self, _now: float) -> None:
        generation = self._supervisor.generation
        is_on = self._traces.get(generation, self.settings.trace is not None)
        # What a reload loads at present does as the others; if it fails they go on.
        self._traces = {generation: not is_on, generation + 1: not is_on}
        for process in self._processes.values():
            if not process.hung_up_at:
                process.link.send(Trace(not is_on))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; False if it has not in time."""
        return wait_for(self._stopped, timeout)

    def wake(self) -> None:
        """Have the loop look around."""
        with suppress(OSError):
            self._waker.send(b"\0")

    def _note(self, what: Callable[[float], None]) -> None:
        self._notes.append(what)
        self.wake()

    def _clear_waker(self) -> None:
        with suppress(OSError):
            self._wakened.recv(4096)

    # -- the loop --------------------------------------------------------------------

    def _watch(self) -> None:
        supervisor = self._supervisor
        supervisor.begin(self._clock())
        self._announce()
        while supervisor.phase is not Phase.STOPPED:
            for key, _ in self._selector.select(self._wait_seconds()):
                key.data()
            while self._notes:
                self._notes.popleft()(self._clock())
            self._reap()
            supervisor.tick(self._clock())
            self._announce()
        self._selector.close()
        self._waker.close()
        self._wakened.close()
        self._counts.close()

    def _wait_seconds(self) -> float:
        now = self._clock()
        seconds = self._supervisor.wait_seconds(now)
        if any(process.hung_up_at for process in self._processes.values()):
            seconds = min(seconds, _REAP_SECONDS)
        if any(process.stack_bytes for process in self._processes.values()):
            seconds = min(seconds, _STACKS_SECONDS)
        if self._next_watchdog:
            seconds = min(seconds, max(0.0, self._next_watchdog - now))
        return seconds

    def _announce(self) -> None:
        """Tell the service manager, and whoever waits for us, where we are."""
        phase = self._supervisor.phase
        if self.settings is not self._settings_told:
            self._settings_told = self.settings
            self._when_reloaded(self.settings)
        now = self._clock()
        if self._notifier.watchdog_seconds and now >= self._next_watchdog:
            self._notifier.watchdog()
            self._next_watchdog = now + self._notifier.watchdog_seconds / 2
        if phase is self._phase:
            return
        before, self._phase = self._phase, phase
        if phase is Phase.SERVING:
            self._notifier.ready()
            if before is Phase.STARTING:
                server_log.info("%d children serve", self._supervisor.target)
                self._when_serving()
                self._serving.set()
        elif phase is Phase.RELOADING:
            self._notifier.reloading()
        elif phase is Phase.STOPPING:
            self._notifier.stopping()

    # -- what children say -----------------------------------------------------------

    def _hear(self, number: int) -> None:
        """Take what a child has sent."""
        process = self._processes.get(number)
        if process is None:
            return
        try:
            messages = process.link.receive()
        except EOFError:
            self._selector.unregister(process.link)
            process.link.close()
            process.hung_up_at = self._clock()
            return
        now = self._clock()
        supervisor = self._supervisor
        for message in messages:
            if isinstance(message, Beat):
                supervisor.on_beat(number, message, now)
            elif isinstance(message, Ready):
                self._compare_addresses(message.settings)
                supervisor.on_ready(number, message.settings, now)
            elif isinstance(message, Failed):
                supervisor.on_failed(number, message.problem)
            elif isinstance(message, Leaving):
                supervisor.on_leaving(number, now)

    def _compare_addresses(self, settings: Settings) -> None:
        if settings.addresses not in (self.settings.addresses, self._refused):
            self._refused = settings.addresses
            server_log.warning(
                "other addresses are written now (%s) than this server has (%s): it"
                " keeps its own until it is started anew or upgraded (SIGUSR2)",
                ", ".join(map(str, settings.addresses)),
                ", ".join(map(str, self.settings.addresses)),
            )

    def _read_stacks(self, number: int) -> None:
        process = self._processes.get(number)
        if process is None:
            return
        data = b""
        with suppress(OSError):
            data = os.read(process.stacks, 1 << 16)
        if not data:
            self._selector.unregister(process.stacks)
            os.close(process.stacks)
            process.stacks = -1
            return
        process.stack_bytes += data
        process.stacks_at = self._clock()

    def _tell_stacks(self, number: int, process: _Process) -> None:
        text = process.stack_bytes.decode("utf-8", "replace").rstrip()
        process.stack_bytes = b""
        server_log.error(
            "the stacks of child %d (pid %d):\n%s", number, process.pid, text
        )

    def _reap(self) -> None:
        """Look which children have died."""
        now = self._clock()
        for number, process in list(self._processes.items()):
            if process.stack_bytes and now - process.stacks_at >= _STACKS_SECONDS:
                self._tell_stacks(number, process)
            end = process.end()
            if end is not None:
                if not process.hung_up_at:
                    self._hear(number)  # its last words
                self._bury(number, process)
                self._supervisor.on_ended(
                    number, end.how, now, may_be_stop=end.may_be_stop
                )
            elif (
                process.hung_up_at
                and not process.told_leaving
                and now - process.hung_up_at > _HANG_UP_SECONDS
            ):
                process.told_leaving = True
                self._supervisor.on_leaving(number, now)
        if os.getpid() == 1 and self._source is not None:
            self._reap_orphans()

    def _reap_orphans(self) -> None:
        """Bury what applications leave behind, as process 1 of a container has to.

        Not where this process has an application too, which may wait for its own.
        """
        ours = {process.pid for process in self._processes.values()}
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, look):
                if found.si_pid in ours:
                    return  # it has died this moment, and is looked at next time
                os.waitpid(found.si_pid, os.WNOHANG)

    def _bury(self, number: int, process: _Process) -> None:
        del self._processes[number]
        if process.link.fileno() >= 0:
            self._selector.unregister(process.link)
            process.link.close()
        if process.stacks >= 0:
            self._processes[number] = process
            self._read_stacks(number)
            del self._processes[number]
        if process.stack_bytes:
            self._tell_stacks(number, process)
        if process.stacks >= 0:
            self._selector.unregister(process.stacks)
            os.close(process.stacks)
        self._counts.free_slot(process.slot)

    # -- Hands of the supervisor -----------------------------------------------------

    def start_child(self, number: int, generation: int) -> int:
        """Start a child; see Hands."""
        ours, theirs = Link.pair()
        stacks, their_stacks = os.pipe()
        os.set_blocking(stacks, False)
        slot = self._counts.take_slot()
        try:
            if self._source is not None:
                pid = self._spawn(number, slot, ours, theirs, their_stacks)
            else:
                assert self._application is not None  # there is no source
                is_new = generation > self._supervisor.generation
                settings = self._settings_of_fork if is_new else self.settings
                loaded = Loaded(settings, self._application)
                pid = self._fork(
                    number, slot, ours, theirs, (stacks, their_stacks), loaded
                )
        except OSError:
            ours.close()
            os.close(stacks)
            self._counts.free_slot(slot)
            raise
        finally:
            theirs.close()
            os.close(their_stacks)
        self._processes[number] = _Process(pid, ours, stacks, slot)
        if generation in self._traces:
            ours.send(Trace(self._traces[generation]))
        read = selectors.EVENT_READ
        self._selector.register(ours, read, lambda: self._hear(number))
        self._selector.register(stacks, read, lambda: self._read_stacks(number))
        return pid

    def _spawn(
        self, number: int, slot: int, ours: Link, theirs: Link, their_stacks: int
    ) -> int:
        """Start a child as a new interpreter."""
        listeners = [(one.fileno(), one.inherited) for one in self._listeners]
        counts = self._counts.descriptor
        import subprocess

        # Private, but there is no other way to get -W, -X and their like.
        flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
        # Not `with`: it is waited for by its number, beside those that are forked.
        with held_back():
            child = subprocess.Popen(
                [sys.executable, *flags, _PROGRAM, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[
                    theirs.fileno(),
                    their_stacks,
                    counts,
                    *(fd for fd, _ in listeners),
                ],
            )
        child.returncode = 0  # so that it does not mind who waits
        ours.send(
            Birth(
                parent=os.getpid(),
                number=number,
                slot=slot,
                counts=counts,
                stacks=their_stacks,
                listeners=listeners,
                addresses=self._addresses,
                source=self._pickled,
                path=sys.path,
                environ=self._environ,
            )
        )
        return child.pid

    def _fork(
        self,
        number: int,
        slot: int,
        ours: Link,
        theirs: Link,
        stacks: tuple[int, int],
        source: Loaded,
    ) -> int:
        """Start a child as a copy of this process; raises _Born in it."""
        parent = os.getpid()
        with held_back():
            pid = os.fork()
        if pid:
            return pid
        # All that belongs to the parent is closed, or its death would go unnoticed.
        self._selector.close()
        self._waker.close()
        self._wakened.close()
        for process in self._processes.values():
            process.link.close()
            if process.stacks >= 0:
                os.close(process.stacks)
        ours.close()
        os.close(stacks[0])
        listeners = [(os.dup(one.fileno()), one.inherited) for one in self._listeners]
        for listener in self._listeners:
            listener.close()
        counts = os.dup(self._counts.descriptor)
        self._counts.close()
        raise _Born(
            Link.of_descriptor(os.dup(theirs.fileno())),
            Birth(
                parent=parent,
                number=number,
                slot=slot,
                counts=counts,
                stacks=os.dup(stacks[1]),
                listeners=listeners,
                addresses=self._addresses,
                source=source,
                environ=self._environ,
            ),
        )

    def order(self, number: int, order: Order) -> None:
        """Tell a child something; see Hands."""
        process = self._processes.get(number)
        if process is not None and not process.hung_up_at:
            process.link.send(order)

    def write_stacks(self, number: int) -> None:
        """Have a child's stacks written; see Hands."""
        process = self._processes.get(number)
        if process is not None and hasattr(signal, STACKS_SIGNAL):
            with suppress(ProcessLookupError):
                os.kill(process.pid, getattr(signal, STACKS_SIGNAL))

    def kill(self, number: int) -> None:
        """Kill a child; see Hands."""
        process = self._processes.get(number)
        if process is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
