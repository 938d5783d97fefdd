"""ThreadedServer: one process that serves an application with a crew of threads.

    listeners -> poller -> ready channels -> a worker: read, decode, call, answer

A channel that nobody owns is in `_idle`. Whoever takes it out of there owns it, so
that an event is served by exactly one worker. An event of a channel that is owned is
noted in `_missed`, and the owner looks there when it puts the channel back.

The server goes through these states, and never back:

    new -> bound -> serving -> draining -> stopped
"""

from __future__ import annotations

import errno
import heapq
import itertools
import math
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from paste_ajp.engine.admission import Admission
from paste_ajp.engine.afterwards import Afterwards
from paste_ajp.engine.balance import YIELD_SECONDS, Share
from paste_ajp.engine.channel import Channel, Phase, set_timeout
from paste_ajp.engine.listeners import Listener, open_listeners
from paste_ajp.engine.poller import READABLE, Poller, SelectPoller, best_poller
from paste_ajp.engine.room import REST_SECONDS, longest_idle, room_for_connections
from paste_ajp.engine.signals import tell_main_thread, wait_for
from paste_ajp.engine.stats import Stats
from paste_ajp.engine.workers import Crew, Worker
from paste_ajp.logs import MAY_REPEAT, protocol_log, request_name, server_log
from paste_ajp.protocol import BodyFraming, ForwardRequest
from paste_ajp.settings import Settings
from paste_ajp.wsgi.environ import EnvironBuilder
from paste_ajp.wsgi.file_wrapper import FileWrapper
from paste_ajp.wsgi.task import Application, Task

if TYPE_CHECKING:
    from paste_ajp.tracing.writer import TraceWriter

#: Connections accepted in one go before others get their turn.
ACCEPT_BATCH: Final = 64

#: Connections that wait for a look-up at a time; more are left in the backlog.
MOST_UNDECIDED: Final = 256

#: Seconds after which accepting is tried again when descriptors ran out.
ACCEPT_PAUSE: Final = 0.5

#: Timers of closed channels that are kept, at least.
DEAD_TIMERS: Final = 100

#: Seconds without exhaustion after which the next one is logged again.
EXHAUSTION_SILENCE: Final = 60.0

#: Seconds after which a channel whose time is up is looked at again: a worker had it.
BUSY_SECONDS: Final = 0.05

#: Seconds for which idle connections are still served while the server drains: a
#: request that is on its way at that moment must not be lost. AJP notes 8.5.
GRACE_SECONDS: Final = 0.5

#: Seconds to wait for threads to end; one in an application may not.
JOIN_SECONDS: Final = 1.0

#: Of connections to UNIX sockets.
_unix_numbers = itertools.count(1)

#: The servers of this process that have been started and not stopped.
_running: Final[set[ThreadedServer]] = set()

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def _resolve(name: str) -> Iterable[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter: no name can be so long
        server_log.warning(
            "allowed_servers: %s lets nobody new in, its addresses are not to be had:"
            " %s",
            name,
            error,
            extra=MAY_REPEAT,
        )
        return ()
    return {str(place[0]).partition("%")[0] for _, _, _, _, place in found}


class ThreadedServer:
    """Serves `application` on the addresses of `settings`.

    `application` may be given later, before start(). `listeners` are sockets that
    somebody else has opened, `share` is this process's part of the connections where
    several accept them. Every public method may be called by any thread.
    """

    def __init__(
        self,
        application: Application | None,
        settings: Settings,
        *,
        listeners: Sequence[Listener] | None = None,
        environ: Mapping[str, Any] | None = None,
        share: Share | None = None,
        poller: Callable[[Any], Poller] = best_poller,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.application = application
        self.settings = settings
        self.stats = Stats()
        self.draining = False
        #: Is this in a process that was forked while the server ran?
        self.is_copy = False
        #: Is shown what passes on every connection; may be set and taken any time.
        self.tracer: TraceWriter | None = None
        self._listeners: list[Listener] = list(listeners or ())
        self._extra_environ = environ
        self._make_poller = poller
        self._clock = self.clock = clock
        self._lock = threading.Lock()  # guards the life cycle and the timers
        self._channels: dict[int, Channel] = {}
        self._idle: dict[int, Channel] = {}
        self._missed: set[int] = set()
        #: Channels that became readable, for the crew.
        self.ready: deque[Channel] = deque()
        self._timers: list[tuple[float, int, Channel | None]] = []
        self._dead_timers = 0  # timers of closed channels, about
        self._timer_numbers = itertools.count()
        self._accepting: dict[int, Listener] = {}
        self._is_full = False  # is accepting switched off?
        self._most_connections, self._limit_name = 0, ""
        self._is_crowded = False  # do connections wait for others to go?
        self._crowded_at = 0.0  # when they did so last
        self._exhausted_at = 0.0  # when descriptors ran out last
        self._next_try = 0.0  # when accepting is tried again
        self._answers_overdue = (
            settings.application_timeout > 0
            and settings.application_timeout_action == "answer"
        )
        self._rearm: Callable[[int], None] | None = None
        self._wait: Callable[[float | None], list[tuple[int, Any]]]
        self._poller: Poller | None = None
        self._crew: Crew | None = None
        self._task: Task
        self._admission: Admission | None = None
        self._refusal: Callable[[ForwardRequest], tuple[int, str] | None] | None = None
        self._undecided: list[tuple[socket.socket, object]] = []
        self._looks_up = False  # does a thread look names up?
        self._drain_began = 0.0
        self._changed = threading.Event()  # has a channel gone while draining?
        self._grace = GRACE_SECONDS
        self._cut = False  # shall running requests be cut off?
        self._wakes_all = False  # shall no thread wait at the poller any more?
        self._unsent = 0  # see hold_unsent()
        self._most_unsent = 0
        self._unsent_files = 0  # how many descriptors that takes
        self._most_unsent_files = 0
        #: How many connections are to end with their next response.
        self.surplus = 0
        self._share = share
        self._out_of_turn = 1  # how many to take at a time that are others' turn
        self._may_take = 0  # how many of those at this moment
        self._stopped = threading.Event()
        self.closing_idle = False
        #: As Connection takes it; "strict" takes no lighttpd framing by itself.
        self.body_framing: BodyFraming = "auto"
        if settings.body_framing == "raw":
            self.body_framing = "raw"
        elif settings.body_framing == "standard" or settings.strict:
            self.body_framing = "standard"

    # -- life cycle ---------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where the server listens, as text that settings take."""
        return [str(listener.address) for listener in self._listeners]

    @property
    def listeners(self) -> list[Listener]:
        """The open listeners."""
        return list(self._listeners)

    def bind(self) -> None:
        """Open the listening sockets unless that is done. Raises BindError."""
        if not self._listeners:
            self._listeners = open_listeners(self.settings)

    def start(self) -> None:
        """Bind, and serve in threads of the server's own; return at once."""
        if self.application is None:
            raise RuntimeError("no application to serve")
        if self._crew is not None:
            raise RuntimeError("a server starts once")
        self.bind()
        settings = self.settings
        secret = settings.load_secret()
        self._admission = admission = Admission(
            settings.allowed_servers,
            secret,
            max_body=settings.max_request_body,
            max_header_bytes=(
                settings.max_header_bytes
                if settings.max_header_bytes < settings.receive_limit
                else 0  # more cannot come in
            ),
            resolve=_resolve,
            clock=self._clock,
        )
        if admission.judges_requests:
            self._refusal = admission.refusal
        environs = EnvironBuilder(
            settings,
            server_name=settings.server_name_fallback or self._name(),
            extra=self._extra_environ,
            file_wrapper=FileWrapper,
        )
        self._task = Task(self.application, settings, environs)
        room = room_for_connections(settings)
        self._most_connections, self._limit_name, self._most_unsent_files = room
        self._poller = self._make_poller(self._idle)
        self._wait = self._poller.wait
        if self._poller.tells_writable:
            self._most_unsent = settings.max_unsent
        if isinstance(self._poller, SelectPoller):
            self._rearm = self._poller.rearm
            server_log.info(
                "this system has neither epoll nor kqueue: threads wait in select(),"
                " which takes no descriptor above 1023 or so"
            )
        self._crew = Crew(
            self,
            limit=settings.threads,
            min_spare=settings.min_spare,
            max_spare=settings.max_spare,
            application_timeout=settings.application_timeout,
            clock=self._clock,
        )
        for listener in self._listeners:
            self._accepting[listener.fileno()] = listener
            self._poller.watch_listener(listener.fileno())
        if self._share is not None:
            self._share.set(0)
        if settings.trace is not None:
            self.switch_trace()
        _running.add(self)
        self._crew.start()

    def _name(self) -> str:
        """A name for SERVER_NAME where neither front end nor remote gives one."""
        for listener in self._listeners:
            address = listener.address
            if address.kind == "tcp":
                if address.host in ("0.0.0.0", "::"):
                    return socket.gethostname()
                return f"[{address.host}]" if ":" in address.host else address.host
        return "localhost"

    def shutdown(
        self, graceful: bool = True, *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        """Stop: let running requests end within graceful_timeout, or at once.

        Idle connections are served once more for `grace_seconds`, and closed then.
        Returns at once; wait() tells when all is over.
        """
        with self._lock:
            if self._crew is None or self._stopped.is_set():
                for listener in self._listeners:
                    listener.close()
                self._stopped.set()
                tell_main_thread()
                return
            first = not self.draining
            if first:
                self.draining = True
                self.surplus = 1  # every connection ends: see keeps_connection()
                self._grace = grace_seconds
                self._drain_began = self._clock()
        if first:
            self._stop_accepting()
            threading.Thread(
                target=self._drain, name="paste_ajp-drain", daemon=True
            ).start()
        if not graceful:
            self._cut = True
            self._changed.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; False if it has not in time."""
        return wait_for(self._stopped, timeout)

    def __enter__(self) -> ThreadedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.wait()

    # -- draining -----------------------------------------------------------------

    def _stop_accepting(self) -> None:
        assert self._poller is not None  # start() made it
        if self._share is not None:
            self._share.close()
        with self._lock:  # nobody shall switch accepting on again
            for descriptor in self._accepting:
                self._poller.unwatch_listener(descriptor)
            self._accepting = {}
        for listener in self._listeners:
            if not listener.inherited:
                # What waits to be accepted would be reset. An inherited socket goes
                # on elsewhere, and they wait there.
                self._accept_all(listener)
            listener.close()

    def _drain(self) -> None:
        """Wait for running requests, close idle connections, end the threads."""
        deadline = self._drain_began + self.settings.graceful_timeout
        grace_ends = min(self._drain_began + self._grace, deadline)
        while self._is_at_work() and not self._cut:
            now = self._clock()
            if now >= deadline:
                break
            if now >= grace_ends:
                self._close_idle()
            self._changed.clear()
            if self._is_at_work() and not self._cut:
                due = deadline if now >= grace_ends else grace_ends
                self._changed.wait(max(0.0, due - now))
        self._stop()

    def _is_at_work(self) -> bool:
        """Is a connection open, or an application busy behind its response?"""
        assert self._crew is not None  # start() made it
        return bool(self._channels) or any(
            isinstance(worker.busy, Afterwards) and not worker.busy.is_over
            for worker in self._crew.busy_workers()
        )

    def _close_idle(self) -> None:
        """Have idle connections closed, if nothing has arrived there in this moment."""
        self.closing_idle = True
        for descriptor in list(self._idle):
            channel = self._idle.pop(descriptor, None)
            if channel is not None:
                self.ready.append(channel)
        self.wake()

    def _stop(self) -> None:
        crew = self._crew
        poller = self._poller
        assert crew is not None  # start() made both
        assert poller is not None
        allowed = f"graceful_timeout = {self.settings.graceful_timeout:g} s"
        for channel in crew.waiting_channels():
            if crew.take_waiting(channel):
                server_log.warning(
                    "%s refused with 503: no thread %s",
                    _describe(channel),
                    "is free, and the server stops at once"
                    if self._cut
                    else f"came free for it within {allowed}",
                )
                channel.answer(503, self._clock() - channel.queued_at)
        crew.stop()
        for channel in self._unfinished(crew):
            server_log.warning(
                "cut off, as %s: %s",
                "the server stops at once"
                if self._cut
                else f"it did not end within {allowed}",
                _describe(channel),
            )
            channel.cut()
        self._wakes_all = True
        poller.wake()
        crew.join(JOIN_SECONDS)
        for channel in list(self._channels.values()):
            channel.close()
        if self.tracer is not None:
            self.tracer.close()
        if crew.threads == len(crew.busy_workers()):
            # Whoever is still in an application will not poll any more.
            poller.close()
        _running.discard(self)
        self._stopped.set()
        tell_main_thread()

    def abandon(self) -> None:
        """Leave everything to the parent, in a process that was forked.

        The application may fork, and the child come back from its call. It would serve
        like this process then, with this one's poller. And what it holds on to stays
        open when this process closes it: a front end would send to nobody.
        """
        self.is_copy = True
        self._lock = threading.Lock()  # a thread that is not here may have held it
        self._share = None
        if self._crew is not None:
            self._crew.abandon()
        for listener in self._listeners:
            listener.close()
        for channel in self._channels.values():
            channel.abandon()
        self._channels = {}
        for sock, _ in self._undecided:
            sock.close()
        if self._poller is not None:
            self._poller.close()

    def _unfinished(self, crew: Crew) -> list[Channel | Afterwards]:
        """Return what runs in the application, or is not all sent."""
        found = [
            busy
            for busy in (worker.busy for worker in crew.busy_workers())
            if _is_in_application(busy)
        ]
        channels = list(self._channels.values())
        return found + [one for one in channels if one.phase is Phase.SENDING]

    # -- tracing ------------------------------------------------------------------

    def switch_trace(self, on: bool | None = None) -> None:
        """Write each packet to the trace file from now on, or no more.

        Without `on`, the other way than now.
        Without the setting `trace` it is a file of this process in a new temporary
        folder, which only its owner can read. A connection that is in the middle of a
        request follows with its next one.
        """
        with self._lock:
            if on is not None and on == (self.tracer is not None):
                return
            if self.tracer is not None:
                tracer, self.tracer = self.tracer, None
                tracer.close()
                server_log.info("trace switched off")
                return
            path = self.settings.trace
            import tempfile

            from paste_ajp.tracing.writer import TraceWriter

            try:
                if path is None:
                    # A folder of our own: others could await a name in a shared one.
                    path = f"{tempfile.mkdtemp(prefix='paste_ajp-')}/trace"
                self.tracer = TraceWriter(path)
            except OSError as error:
                server_log.error(
                    "trace = %s: cannot be written: %s", path or "(none)", error
                )
            else:
                server_log.warning(
                    "trace = %s: every packet is written there, which costs time;"
                    " paste-ajp explain reads it",
                    path,
                )

    # -- what channels ask for ------------------------------------------------------

    def release(self, channel: Channel) -> bool:
        """Give a channel to the poller; True if it has to be read again instead."""
        descriptor = channel.fd
        self._idle[descriptor] = channel
        if descriptor in self._missed:
            self._missed.discard(descriptor)
            return self._idle.pop(descriptor, None) is not None
        if self._rearm is not None:
            self._rearm(descriptor)
        return False

    def look_again(self, channel: Channel) -> None:
        """Have a channel read again once it is released: there may be more to read,
        and an edge-triggered poller does not report what came before."""
        self._missed.add(channel.fd)

    def forget(self, channel: Channel) -> None:
        """Strike a channel that is being closed off every list."""
        descriptor = channel.fd
        self._idle.pop(descriptor, None)
        self._missed.discard(descriptor)
        if self._channels.pop(descriptor, None) is None:
            return
        if channel.timer_at:
            self._bury_timer()
        if self.draining:
            self._changed.set()
        elif self._share is not None:
            self._share.set(len(self._channels))
        if self._is_full:
            self._resume_accepting()

    def serve_later(self, channel: Channel) -> None:
        """Have a channel served that became readable."""
        self.ready.append(channel)
        self.wake()

    def set_timer(self, channel: Channel, seconds: float) -> None:
        """Set the channel's deadline; on_deadline() is called if it is idle then."""
        when = self._clock() + seconds
        channel.deadline = when
        if not channel.timer_at or when < channel.timer_at:
            self._push_timer(when, channel)

    def _bury_timer(self) -> None:
        """Count the timer of a closed channel; sweep such out when they are many.

        Else all channels of the last keep_alive_timeout seconds would be kept.
        """
        with self._lock:
            self._dead_timers += 1
            if self._dead_timers < max(DEAD_TIMERS, len(self._timers) / 2):
                return
            self._dead_timers = 0
            alive = [
                entry
                for entry in self._timers
                if entry[2] is None or entry[2].phase is not Phase.CLOSED
            ]
            heapq.heapify(alive)
            self._timers = alive  # others look at the first without the lock

    def is_past(self, deadline: float) -> bool:
        """Has a channel's deadline gone by?"""
        return self._clock() >= deadline

    def _first_timer(self) -> float:
        """When the first timer goes off; without the lock."""
        try:
            return self._timers[0][0]
        except IndexError:
            return math.inf

    def _push_timer(self, when: float, channel: Channel | None) -> None:
        with self._lock:
            if channel is not None:
                channel.timer_at = when
            number = next(self._timer_numbers)
            heapq.heappush(self._timers, (when, number, channel))
            # By its number: compiled, a tuple is another object each time.
            is_first = self._timers[0][1] == number
        if is_first:
            self.wake()  # whoever polls must not sleep past it

    def step_aside(self) -> None:
        """Tell that the calling worker is going to wait for a front end."""
        if self._crew is not None:
            self._crew.step_aside()

    def pause(self, channel: Channel) -> None:
        """Have nobody woken by what arrives: its owner waits for it. Else each chunk
        of an upload would wake two threads."""
        assert self._poller is not None  # start() made it
        self._poller.pause(channel.fd)

    def resume(self, channel: Channel) -> None:
        """Watch a channel again that was paused."""
        assert self._poller is not None  # start() made it
        self._poller.resume(channel.fd)

    def watch_writes(self, channel: Channel) -> None:
        """Have a channel served also when its socket takes more, until resume()."""
        assert self._poller is not None  # start() made it
        self._poller.watch_writes(channel.fd)

    def hold_unsent(self, size: int, is_file: bool) -> bool:
        """May `size` bytes of a response be kept until its front end takes them?

        `is_file`: a descriptor is kept, too. What is granted has to be given back by
        drop_unsent().
        """
        with self._lock:
            if self._unsent + size > self._most_unsent or (
                is_file and self._unsent_files >= self._most_unsent_files
            ):
                return False
            self._unsent += size
            self._unsent_files += is_file
            return True

    def drop_unsent(self, size: int, is_file: bool) -> None:
        """Give back what hold_unsent() has granted."""
        with self._lock:
            self._unsent -= size
            self._unsent_files -= is_file

    # -- what workers do ------------------------------------------------------------

    def wake(self) -> None:
        """Make a thread that waits in poll() return."""
        if self._poller is not None:
            self._poller.wake()

    def poll_timeout(self) -> float | None:
        """Return how long poll() may wait at most, None for ever."""
        crew = self._crew
        assert crew is not None  # its threads call this
        if not self._timers and not crew.waiting:
            return None
        due = [self._first_timer()]
        if crew.waiting and self.settings.queue_timeout:
            due += [
                channel.queued_at + self.settings.queue_timeout
                for channel in crew.waiting_channels()[:1]
            ]
        first = min(due)
        return None if first == math.inf else max(0.0, first - self._clock())

    def poll(self, timeout: float | None) -> None:
        """Wait for channels to become readable, deal with timers."""
        claim = self._idle.pop
        ready = self.ready.append
        for descriptor, what in self._wait(timeout):
            channel = claim(descriptor, None)
            if channel is not None:
                if what != READABLE:
                    # The end came with the bytes: no event will tell of it again.
                    self._missed.add(descriptor)
                ready(channel)
            else:
                self._other_event(descriptor)
        if self._timers:
            self._expire()
        if self._crew is not None and self._crew.waiting:
            self._refuse_overdue()

    def _other_event(self, descriptor: int) -> None:
        """Deal with what is readable and no idle channel."""
        poller = self._poller
        assert poller is not None  # it reported the event
        listener = self._accepting.get(descriptor)
        if listener is not None:
            self._accept(listener)
        elif descriptor == poller.waker_fd:
            if not self._wakes_all:
                poller.clear_waker()
        elif descriptor in self._channels:
            self._missed.add(descriptor)
            # Its owner may have put it back before it could see the note.
            channel = self._idle.pop(descriptor, None)
            if channel is not None:
                # The note stays: the event may have told of the end as well.
                self.ready.append(channel)

    def serve(self, channel: Channel, is_admitted: bool = False) -> None:
        """Read from a channel; run the application if that completed a request.

        `is_admitted`: a request is here, and was let in when it began to wait.
        """
        try:
            found = is_admitted or channel.receive()
            while found:
                if (
                    self._refusal is not None
                    and not is_admitted
                    and self._refuses(channel)
                ):
                    break
                self.stats.requests += 1
                if self._answers_overdue:
                    channel.let_claim()
                exchange = self._task.serve(channel).exchange
                if exchange is not channel:  # which others serve by now
                    self._end_afterwards(exchange)
                    break
                is_admitted = False
                found = channel.complete()
        except BaseException:  # noqa: BLE001 - one channel must not end a worker
            self._close_broken(channel)

    def take_aside(self, afterwards: Afterwards) -> None:
        """The calling worker goes on with that; its channel is no more its own."""
        if self._crew is not None:
            self._crew.take_aside(afterwards)

    def _end_afterwards(self, exchange: object) -> None:
        """The application has ended, some time after its response."""
        if isinstance(exchange, Afterwards):
            exchange.is_over = True
        if self.draining:
            self._changed.set()

    def queue(self, channel: Channel) -> bool:
        """Read from a channel; tell whether a request is now waiting for a thread."""
        try:
            if channel.receive() and not self._refuses(channel):
                channel.queued_at = self._clock()
                return True
        except BaseException:  # noqa: BLE001 - one channel must not end a worker
            self._close_broken(channel)
        return False

    def serve_queued(self, channel: Channel) -> None:
        """Run the application for a request that was waiting."""
        self.serve(channel, is_admitted=True)

    def _close_broken(self, channel: Channel) -> None:
        """Close a channel on which something failed that must not, and say what."""
        try:
            channel.close()
        finally:
            server_log.exception("%s: internal error, connection closed", channel.peer)

    def _refuses(self, channel: Channel) -> bool:
        """Answer a request that may not be served; tell whether it was one."""
        refusal = None if self._refusal is None else self._refusal(channel.request)
        if refusal is None:
            return False
        status, reason = refusal
        protocol_log.warning(
            "%s refused with %d: %s", _describe(channel), status, reason
        )
        channel.answer(status, 0.0)
        return True

    def overdue(self, worker: Worker, seconds: float) -> None:
        """Report a request that has run for longer than application_timeout."""
        channel = worker.busy
        serial = worker.serial
        if not _is_in_application(channel):
            return
        claim = channel.answer_claim if isinstance(channel, Channel) else None
        is_the_same = worker.busy is channel and worker.serial == serial
        if not is_the_same:
            return  # it has ended, and the claim may be another request's
        frame = sys._current_frames().get(worker.ident)
        stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
        server_log.error(
            "%s has run for %.1f s, application_timeout is %g s; %s is at\n%s",
            _describe(channel),
            seconds,
            self.settings.application_timeout,
            worker.name,
            stack,
        )
        if self._answers_overdue and isinstance(channel, Channel):
            channel.answer_for_application(504, claim)

    # -- accepting ------------------------------------------------------------------

    def _accept(self, listener: Listener) -> None:
        most = self._most_connections
        for number in range(ACCEPT_BATCH):
            if most and len(self._channels) >= most:
                if not number:  # else the poller tells whether more wait
                    self._places_ran_out()
                return
            if len(self._undecided) >= MOST_UNDECIDED:
                self._pause_accepting()
                if not self._undecided:  # the answer has come in this moment
                    self._resume_accepting()
                return
            if self._share is not None and not self._is_our_turn(self._share):
                return
            try:
                sock, peer = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._descriptors_ran_out(error)
                    return
                if self.draining:
                    return
                protocol_log.info("a connection was lost before its accept: %s", error)
                continue
            self._add(sock, peer)

    def _accept_all(self, listener: Listener) -> None:
        """Accept until nothing waits, but not for ever where ever more come."""
        for _ in range(1 + self.settings.backlog // ACCEPT_BATCH):
            before = self.stats.accepted
            self._accept(listener)
            if self.stats.accepted == before:
                return

    def _add(self, sock: socket.socket, peer: object) -> None:
        """Let an accepted socket in, turn it away, or ask who its peer is."""
        assert self._admission is not None  # start() made it
        self.stats.accepted += 1
        if self._admission.must_look_up(peer):
            with self._lock:
                self._undecided.append((sock, peer))
            self._look_up_aside()
            return
        self._admit(sock, peer)
        if self._admission.may_look_up(peer):
            self._look_up_aside()  # it is served, but its name may have moved

    def _look_up_aside(self) -> None:
        """Look allowed names up in another thread: a resolver may take long.

        Whoever connects meanwhile and is not known waits for the same answer.
        """
        with self._lock:
            if self._looks_up:
                return
            self._looks_up = True
        thread = threading.Thread(
            target=self._decide, name="paste_ajp-names", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            server_log.error("no thread to look names up in: %s", error)
            self._decide()

    def _decide(self) -> None:
        """Look allowed names up, then judge who has waited for it."""
        assert self._admission is not None  # start() made it
        try:
            self._admission.look_up()
        finally:
            with self._lock:
                self._looks_up = False
                undecided, self._undecided = self._undecided, []
            for sock, peer in undecided:
                if self.draining:
                    sock.close()
                else:
                    self._admit(sock, peer)
            self._resume_accepting()

    def _turn_away(self, sock: socket.socket, peer: object) -> None:
        self.stats.turned_away += 1
        server_log.warning(
            "connection from %s closed: not in allowed_servers = %s",
            _name_of(peer),
            self.settings.allowed_servers,
            extra=MAY_REPEAT,
        )
        sock.close()

    def _admit(self, sock: socket.socket, peer: object) -> None:
        """Make a channel of an accepted socket whose peer is allowed."""
        assert self._admission is not None  # start() made both
        assert self._poller is not None
        if not self._admission.admits_peer(peer):
            self._turn_away(sock, peer)
            return
        name = _name_of(peer)
        try:
            # Whatever socket.setdefaulttimeout() or, on BSD, the listener says.
            sock.setblocking(True)
            if sock.family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            set_timeout(sock, socket.SO_RCVTIMEO, self.settings.read_timeout)
            set_timeout(sock, socket.SO_SNDTIMEO, self.settings.write_timeout)
        except OSError as error:
            protocol_log.info("%s: connection lost: %s", name, error)
            sock.close()
            return
        channel = Channel(sock, name, self)
        if self.settings.keep_alive_timeout:
            self.set_timer(channel, self.settings.keep_alive_timeout)
        descriptor = channel.fd
        self._channels[descriptor] = channel
        if self._share is not None:
            self._share.set(len(self._channels))
        self._idle[descriptor] = channel
        try:
            self._poller.watch(descriptor)
        except OSError as error:  # the kernel limits watches, too
            server_log.error("%s: connection closed: cannot watch it: %s", name, error)
            channel.close()

    def _descriptors_ran_out(self, error: OSError) -> None:
        now = self._clock()
        if not self._exhausted_at or now - self._exhausted_at > EXHAUSTION_SILENCE:
            server_log.error(
                "no connection can be accepted at %d open ones: %s; waiting connections"
                " are accepted when others close (see ulimit -n, max_connections)",
                len(self._channels),
                error,
            )
        self._exhausted_at = now
        self._make_room(ACCEPT_PAUSE)

    def _places_ran_out(self) -> None:
        """Leave a connection waiting that has come, but not for ever."""
        if self.draining:
            return
        if self._share is not None and not self._share.may_accept():
            self._pause_accepting()  # it is for a process that has fewer
            self._try_again_in(REST_SECONDS)
            return
        now = self._clock()
        if not self._crowded_at or now - self._crowded_at > EXHAUSTION_SILENCE:
            server_log.warning(
                "all %d connections are open that %s allows, and more wait: for each of"
                " them one ends with its response, or is closed that has been idle for"
                " %g s; see max_connections",
                self._most_connections,
                self._limit_name,
                REST_SECONDS,
            )
        self._crowded_at = now
        self._make_room(REST_SECONDS)

    def _make_room(self, pause: float) -> None:
        """Accept nothing until a connection goes, and see to it that one does."""
        if not self.draining:
            self._is_crowded = True
            self.surplus = max(1, self.surplus)
        self._pause_accepting()
        if self.draining:
            return
        now = self._clock()
        channel = longest_idle(list(self._idle.values()), now)
        if channel is not None and self._claim(channel):
            if channel.has_rested(now, REST_SECONDS):
                channel.make_room()
            else:  # it was used in between
                self.serve_later(channel)
        self._try_again_in(pause)

    def _try_again_in(self, seconds: float) -> None:
        """Accept again in a while, even if no connection goes."""
        now = self._clock()
        if self._next_try <= now:  # else there is such a timer
            self._next_try = now + seconds
            self._push_timer(self._next_try, None)

    def _is_our_turn(self, share: Share) -> bool:
        """Shall this process take the next connection?

        If another has fewer it shall, and this one looks away for a moment.
        """
        if share.may_accept():
            self._out_of_turn = 1
            return True
        if self._may_take:
            self._may_take -= 1
            return True
        self._pause_accepting()
        if self._channels:
            self._push_timer(self._clock() + YIELD_SECONDS, None)
        return False

    def _pause_accepting(self) -> None:
        """Leave new connections in the backlog."""
        assert self._poller is not None  # start() made it
        with self._lock:  # a channel that closes meanwhile switches it on again
            if self.draining:
                return
            self._is_full = True
            for descriptor in self._accepting:
                self._poller.unwatch_listener(descriptor)
        if not self._channels:
            self._push_timer(self._clock() + ACCEPT_PAUSE, None)

    def _resume_accepting(self) -> None:
        assert self._poller is not None  # start() made it
        with self._lock:
            if not self._is_full or self.draining:
                return
            self._is_full = False
            if self._is_crowded:
                self._is_crowded = False
                self.surplus = 0
            for descriptor in self._accepting:
                self._poller.watch_listener(descriptor)

    def _take_what_waits(self) -> None:
        """Accept what those have left waiting whose turn it was.

        One connection at first: they may have been busy for a moment. If they go on
        like that, say because one hangs, more and more.
        """
        if 0 < self._most_connections <= len(self._channels):
            return
        self._may_take = self._out_of_turn
        for listener in list(self._accepting.values()):
            self._accept(listener)
        if not self._may_take:
            self._out_of_turn = min(2 * self._out_of_turn, ACCEPT_BATCH)
        self._may_take = 0

    # -- what a parent process asks for -----------------------------------------------

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._channels)

    def longest_request(self) -> tuple[float, str]:
        """For how many seconds the oldest running request has run, and its name.

        The watcher takes the times: a request that it has not seen yet is young.
        """
        oldest = 0.0
        name = ""
        now = self._clock()
        for worker in self._crew.busy_workers() if self._crew is not None else ():
            channel = worker.busy
            is_timed = worker.detached or worker.seen_serial == worker.serial
            if not is_timed or not _is_in_application(channel):
                continue
            if now - worker.busy_since > oldest:
                oldest = now - worker.busy_since
                name = _describe(channel)
        return oldest, name

    def shed_surplus(self) -> None:
        """End some connections with their next response, if others have fewer."""
        if self._share is None:
            return
        if self.draining:
            self._share.close()  # once more: set() in another thread may have undone it
        else:
            self.surplus = max(self._share.surplus(), int(self._is_crowded))

    def keeps_connection(self) -> bool:
        """May a response that is ready leave its connection open?

        Asked where `surplus` is not 0. Any worker may ask; that one connection more
        or less ends where two do so in one moment does no harm.
        """
        if self.draining:
            return False
        if self.surplus <= 0:
            return True
        self.surplus -= 1
        return False

    # -- timers ---------------------------------------------------------------------

    def _expire(self) -> None:
        """Call on_deadline() of the idle channels whose time is up."""
        now = self._clock()
        while self._first_timer() <= now:
            with self._lock:
                if not self._timers or self._timers[0][0] > now:
                    return  # another thread was faster
                when, _, channel = heapq.heappop(self._timers)
                is_due = channel is None or channel.timer_at == when
                if channel is not None and is_due:
                    channel.timer_at = 0.0
            if channel is None:
                self._resume_accepting()
                if self._share is not None:
                    self._take_what_waits()
            elif not is_due or not channel.deadline:
                continue  # an earlier timer was set, or the channel is busy
            elif channel.deadline > now:
                self._push_timer(channel.deadline, channel)
            elif self._claim(channel):
                channel.on_deadline()
            elif channel.phase is not Phase.CLOSED:
                # A worker reads it in this very moment; it may come to nothing.
                self._push_timer(now + BUSY_SECONDS, channel)

    def _claim(self, channel: Channel) -> bool:
        """Take an idle channel out of the poller's hands."""
        found = self._idle.pop(channel.fd, None)
        if found is not None and found is not channel:
            self._idle[channel.fd] = found
        return found is channel

    def _refuse_overdue(self) -> None:
        """Answer 503 to requests that have waited for a thread for too long."""
        crew = self._crew
        patience = self.settings.queue_timeout
        if crew is None or not patience:
            return
        for channel in crew.waiting_channels():
            waited = self._clock() - channel.queued_at
            if waited < patience:
                return
            if crew.take_waiting(channel):
                self.stats.timed_out += 1
                server_log.warning(
                    "%s refused with 503: all %d threads were busy for queue_timeout ="
                    " %g s",
                    _describe(channel),
                    self.settings.threads,
                    patience,
                    extra=MAY_REPEAT,
                )
                channel.answer(503, waited, Retry_After=str(max(1, round(patience))))


def _is_in_application(busy: object) -> TypeGuard[Channel | Afterwards]:
    """Is that, with which a worker is busy, a running call of the application?"""
    if isinstance(busy, Channel):
        return busy.phase is Phase.ASSIGNED
    return isinstance(busy, Afterwards)


def _describe(channel: Channel | Afterwards) -> str:
    """Name a request for the log; its query may hold secrets."""
    request = channel.request
    return f"{request_name(request.method, request.req_uri)} from {channel.peer}"


def _name_of(peer: object) -> str:
    """Name an accepted socket's peer for the log, and its connection for a trace.

    Peers at a UNIX socket have no names: a number tells their connections apart, and
    the process too, for all processes may write to one trace.
    """
    if isinstance(peer, tuple):
        return f"{peer[0]}:{peer[1]}"
    return f"unix socket #{os.getpid()}.{next(_unix_numbers)}"


def _abandon_all() -> None:
    """Leave to the parent what it serves; called in each process that is forked."""
    while _running:
        _running.pop().abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
