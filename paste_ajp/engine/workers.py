"""Threads that take turns at the poller and serve what it hands them.

Only as many threads run as can make progress: one where the interpreter has a global
lock, one for each processor where it has none. Such a thread is a *runner*: it polls,
and serves what became readable itself, so that neither a queue nor a wake-up stands
between a request and its thread. More runners would only fight for the lock.

A second thread is the *watcher*. Every few milliseconds (less when it finds cause)
it looks whether a runner is still in the request it was in at the last look, and has
neither used processor time since nor waited for a processor: the application waits
for something else. The watcher then *detaches* that runner, which will come back when
its request ends, and runs in its place; a parked thread becomes the next watcher. So
no request waits behind a sleeping neighbour. When nothing happens the watcher sleeps
too, without a timer, until a runner has work again.

A runner that knows that it is going to wait, for a piece of an upload, steps aside
without being found out.

There is one thread more than may be in the application (`limit`). When `limit`
threads are detached the one that is left is a runner that only does I/O: it answers
CPings, reads requests and lets them wait, and refuses those that have waited too
long. A thread that comes back from the application takes a waiting request at once.

    parked -> watcher -> runner -> detached -> runner, watcher, parked or ended
"""

from __future__ import annotations

import enum
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

from paste_ajp.logs import server_log

#: Seconds between two looks of the watcher: least, most. A look costs 60 us (the lock
#: changes hands twice), a request that waits for one takes all others with it.
SHORTEST_LOOK: Final = 0.0001
LONGEST_LOOK: Final = 0.005

#: Seconds from the look that found a runner busy to the one that tells why.
SECOND_LOOK: Final = 0.00005

#: Seconds by which a look that only waited for a processor is late at the most.
LATE: Final = 0.002

#: Seconds for which a runner may compute before another thread may compete with it.
PATIENCE: Final = 0.02

#: Seconds from the crash of a thread to the start of another in its place.
CRASH_PAUSE: Final = 0.1

#: Looks without any activity after which the watcher sleeps.
QUIET_LOOKS: Final = 40


class Role(enum.Enum):
    """What a worker does at present."""

    PARKED = "parked"
    WATCHER = "watcher"
    RUNNER = "runner"
    ENDED = "ended"


class Work(Protocol):
    """What the workers do. `serve` and `queue` must not raise."""

    #: Channels that became readable; poll() puts them here.
    ready: deque[Any]

    def poll(self, timeout: float | None) -> None:
        """Wait for channels to become readable, deal with timers."""

    def poll_timeout(self) -> float | None:
        """Return how long poll() may wait at most, None for ever."""

    def wake(self) -> None:
        """Make a thread that waits in poll() return."""

    def serve(self, channel: Any) -> None:
        """Read from a channel; run the application if that completed a request."""

    def queue(self, channel: Any) -> bool:
        """Read from a channel; tell whether a request is now waiting for a thread."""

    def serve_queued(self, channel: Any) -> None:
        """Run the application for a request that was waiting."""

    def overdue(self, worker: Worker, seconds: float) -> None:
        """Report a request that has run for longer than application_timeout."""


class Worker:
    """One thread. `busy` and `serial` are its own, the rest is the crew's."""

    __slots__ = (
        "busy",
        "busy_since",
        "cpu",
        "cpu_clock",
        "detached",
        "ident",
        "name",
        "overdue",
        "role",
        "seen_serial",
        "seen_since",
        "serial",
        "thread",
        "wake",
    )

    def __init__(self, name: str, role: Role) -> None:
        self.name = name
        self.role = role
        self.wake = threading.Lock()
        self.wake.acquire()
        self.serial = 0  # requests (or readings) served so far
        self.busy: Any | None = None  # the channel that is being served
        self.detached = False
        self.busy_since = 0.0  # when the watcher first saw it busy with this one
        self.overdue = False
        self.seen_serial = -1
        self.seen_since = 0.0
        self.cpu = 0.0
        self.cpu_clock: int | None = None
        self.ident = 0
        self.thread: threading.Thread | None = None

    def rouse(self) -> None:
        """End its wait, or the next one."""
        try:
            self.wake.release()
        except RuntimeError:
            return  # somebody was faster

    def cpu_seconds(self) -> float | None:
        """Processor time used so far, None where the system does not tell."""
        if self.cpu_clock is None:
            return None
        try:
            return time.clock_gettime(self.cpu_clock)
        except OSError:
            return None

    def is_runnable(self) -> bool:
        """Does it run, or wait for a processor only? False where nothing tells.

        A runner that wakes a front end on its own processor lets it go first. Taking
        that for waiting replaced 350 runners a second, for a fifth of the time that
        a request took.
        """
        thread = self.thread
        if thread is None or not sys.platform.startswith("linux"):
            return False
        try:
            path = f"/proc/self/task/{thread.native_id}/stat"
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fields = os.read(descriptor, 256)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        # After the name, which is in brackets and may hold some. Source: proc(5).
        return fields[fields.rfind(b")") + 2 :][:1] == b"R"


def runners_that_help() -> int:
    """Return how many threads can run Python code at the same time."""
    is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
    if is_gil_enabled is None or is_gil_enabled():
        return 1
    return os.cpu_count() or 1


class Crew:
    """The threads of one server. `start`, `stop` and `join` are for its owner."""

    def __init__(
        self,
        work: Work,
        *,
        limit: int,
        min_spare: int = 1,
        max_spare: int = 0,
        runners: int | None = None,
        application_timeout: float = 0.0,
        name: str = "paste_ajp",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._limit = limit
        self._min_spare = min_spare
        self._max_spare = max_spare or limit + 1
        self._most_runners = min(runners or runners_that_help(), limit)
        self._application_timeout = application_timeout
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()  # guards everything below
        self._workers: set[Worker] = set()
        self._by_ident: dict[int, Worker] = {}
        self._runners: list[Worker] = []
        self._watcher: Worker | None = None
        self._parked: list[Worker] = []
        self._detached = 0
        self._waiting: list[Any] = []  # read requests for which there is no thread
        self._started = 0
        self._stopping = False
        self._is_copy = False  # of another process's crew: see abandon()
        self._watcher_sleeps = False
        self._look = LONGEST_LOOK  # seconds between two looks, at present
        self.full = False  # are all threads but one in the application?
        self.waiting = 0  # how many read requests wait for a thread
        self._finished_serials = 0

    # -- from outside -----------------------------------------------------------

    def start(self) -> None:
        """Start the first threads. Raises RuntimeError where none can be had."""
        with self._lock:
            wanted = min(self._min_spare, self._limit) + 1
            least = self._most_runners + 1  # without a watcher none is replaced
            for _ in range(max(least, min(wanted, self._max_spare))):
                self._start_worker(self._next_role())

    def stop(self) -> None:
        """Make every thread end after what it is serving. Wake the poller besides."""
        with self._lock:
            self._stopping = True
            for worker in self._workers:
                worker.rouse()

    def abandon(self) -> None:
        """End the calling thread's process when it comes back from the application.

        For a process that was forked: of all threads it has the calling one alone.
        """
        self._lock = threading.Lock()  # another may have held it
        self._stopping = self._is_copy = True

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all threads have ended; False if some have not in time."""
        deadline = None if timeout is None else self._clock() + timeout
        for worker in list(self._workers):
            thread = worker.thread
            if thread is None or thread is threading.current_thread():
                continue
            left = None if deadline is None else max(0.0, deadline - self._clock())
            thread.join(left)
            if thread.is_alive():
                return False
        return True

    def busy_workers(self) -> list[Worker]:
        """Return the workers that are serving something."""
        with self._lock:
            return [worker for worker in self._workers if worker.busy is not None]

    def take_aside(self, busy: object) -> None:
        """Note that the calling thread is busy with this now, not with its channel."""
        worker = self._by_ident.get(threading.get_ident())
        if worker is not None:
            worker.busy = busy

    def waiting_channels(self) -> list[Any]:
        """Return the channels whose requests wait for a thread, first come first."""
        with self._lock:
            return list(self._waiting)

    def take_waiting(self, channel: Any) -> bool:
        """Take a waiting request back; False if a thread has it already."""
        with self._lock:
            if channel in self._waiting:
                self._waiting.remove(channel)
                self.waiting = len(self._waiting)
                return True
            return False

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return len(self._workers)

    @property
    def served(self) -> int:
        """How many times a channel was served."""
        with self._lock:
            return self._finished_serials + sum(w.serial for w in self._workers)

    # -- roles; the caller holds the lock ---------------------------------------

    def _next_role(self) -> Role:
        """Say what a thread that has nothing to do shall do."""
        if not self._runners or (
            len(self._runners) < self._most_runners
            and self._detached + len(self._runners) < self._limit
        ):
            return Role.RUNNER
        if self._watcher is None:
            return Role.WATCHER
        idle = sum(runner.busy is None for runner in self._runners)
        if len(self._parked) + idle + 1 >= self._max_spare:  # 1 is the watcher
            return Role.ENDED
        return Role.PARKED

    def _assign(self, worker: Worker, role: Role) -> None:
        worker.role = role
        if role is Role.RUNNER:
            self._runners.append(worker)
        elif role is Role.WATCHER:
            self._watcher = worker
        elif role is Role.PARKED:
            self._parked.append(worker)

    def _start_worker(self, role: Role) -> bool:
        self._started += 1
        worker = Worker(f"{self._name}-worker-{self._started}", role)
        thread = threading.Thread(
            target=self._thread, args=(worker,), name=worker.name, daemon=True
        )
        worker.thread = thread
        self._workers.add(worker)
        self._assign(worker, role)
        try:
            thread.start()
        except RuntimeError as error:
            self._forget(worker)
            server_log.error("no further thread can be started: %s", error)
            return False
        return True

    def _appoint_watcher(self) -> None:
        """Give the watcher's place, which has become free, to a spare thread."""
        if self._parked:
            worker = self._parked.pop()
            self._assign(worker, Role.WATCHER)
            worker.rouse()
        elif len(self._workers) <= self._limit:
            self._start_worker(Role.WATCHER)

    def _forget(self, worker: Worker) -> None:
        self._workers.discard(worker)
        if self._by_ident.get(worker.ident) is worker:
            del self._by_ident[worker.ident]
        self._finished_serials += worker.serial
        if worker in self._runners:
            self._runners.remove(worker)
        if worker in self._parked:
            self._parked.remove(worker)
        if self._watcher is worker:
            self._watcher = None
        if worker.detached:
            self._detached -= 1
            self.full = self._detached >= self._limit

    # -- threads ----------------------------------------------------------------

    def _thread(self, worker: Worker) -> None:
        worker.ident = threading.get_ident()
        self._by_ident[worker.ident] = worker
        if hasattr(time, "pthread_getcpuclockid"):
            worker.cpu_clock = time.pthread_getcpuclockid(worker.ident)
        try:
            while not self._stopping:
                if worker.role is Role.RUNNER:
                    self._run(worker)
                elif worker.role is Role.WATCHER:
                    self._watch(worker)
                elif worker.role is Role.PARKED:
                    worker.wake.acquire()
                else:
                    break
        except BaseException:  # noqa: BLE001 - the outermost frame of a thread
            server_log.exception("%s crashed; another takes its place", worker.name)
            worker.busy = None  # nobody is to wait for it, or to replace it
            if not self._stopping:  # the next may crash of the same, at once
                worker.wake.acquire(timeout=CRASH_PAUSE)
        finally:
            with self._lock:
                self._forget(worker)
                if not self._stopping:
                    if not self._runners:
                        self._start_worker(Role.RUNNER)
                    elif self._watcher is None:
                        self._appoint_watcher()
            if self._is_copy:
                self._end_copy()

    @staticmethod
    def _end_copy() -> NoReturn:
        server_log.error(
            "process %d ends: the application has forked it, and it came back from the"
            " application's call, where it had to end itself by os._exit()",
            os.getpid(),
        )
        os._exit(1)

    def _run(self, worker: Worker) -> None:
        """Poll and serve, until detached. The hot loop."""
        work = self._work
        ready = work.ready
        serve = work.serve
        while not self._stopping:
            try:
                channel = ready.popleft() if ready else None
            except IndexError:  # another thread was faster
                channel = None
            if channel is None:
                if worker.detached:
                    break
                if self.full and self._application_timeout:
                    # There is no watcher now, and perhaps no traffic either.
                    most = self._application_timeout / 4
                    timeout = work.poll_timeout()
                    work.poll(most if timeout is None else min(timeout, most))
                    self._look_for_overdue(self._clock())
                else:
                    work.poll(work.poll_timeout())
                continue
            run = serve
            if self.full:
                if not self._reads_to_run(channel):
                    continue
                run = work.serve_queued
            worker.busy = channel
            if self._watcher_sleeps:
                self._wake_watcher()
            run(channel)
            worker.busy = None
            worker.serial += 1
            if worker.detached:
                break
        if worker.detached:
            self._return(worker)

    def _wake_watcher(self) -> None:
        self._watcher_sleeps = False
        watcher = self._watcher
        if watcher is not None:
            watcher.rouse()

    def _reads_to_run(self, channel: Any) -> bool:
        """Read a request that no thread is free for; has one come free meanwhile?"""
        if not self._work.queue(channel):
            return False
        with self._lock:
            if self.full:
                self._waiting.append(channel)
                self.waiting = len(self._waiting)
                return False
        return True

    def _return(self, worker: Worker) -> None:
        """Come back from the application: serve what waits, take a new role."""
        while True:
            with self._lock:
                if not self._waiting or self._stopping:
                    worker.detached = False
                    worker.overdue = False
                    self._detached -= 1
                    self.full = self._detached >= self._limit
                    if worker in self._runners:  # detached at the very last moment
                        self._runners.remove(worker)
                    role = self._next_role()
                    self._assign(worker, role)
                    return
                channel = self._waiting.pop(0)
                self.waiting = len(self._waiting)
            worker.overdue = False
            worker.busy_since = self._clock()
            worker.busy = channel
            self._work.serve_queued(channel)
            worker.busy = None
            worker.serial += 1

    # -- the watcher ------------------------------------------------------------

    def _watch(self, watcher: Worker) -> None:
        """Look at the runners until one of them has to be replaced."""
        quiet = 0
        activity = -1
        again = False
        while not self._stopping and watcher.role is Role.WATCHER:
            runners = list(self._runners)
            total = sum(runner.serial for runner in runners)
            if total == activity and all(runner.busy is None for runner in runners):
                quiet += 1
            else:
                quiet = 0
            activity = total
            is_late = False
            if quiet > QUIET_LOOKS:
                if self._sleep(watcher):
                    quiet = 0
            else:
                wait = SECOND_LOOK if again else self._look
                due = self._clock() + wait
                watcher.wake.acquire(timeout=wait)
                is_late = self._clock() > due + LATE
            if self._watcher is not watcher:
                return  # a runner has stepped aside
            now = self._clock()
            before = runners
            runners = list(self._runners)  # others, where one has stepped aside
            for runner in runners:
                if self._is_stuck(runner, now, is_late):
                    self._replace(runner, watcher)
                    return
            # A runner that has just begun is looked at once more, and soon.
            again = not again and any(runner.seen_since == now for runner in runners)
            if runners == before:
                self._look = min(LONGEST_LOOK, self._look * 1.05)
            if self._application_timeout:
                self._look_for_overdue(now)

    def _sleep(self, watcher: Worker) -> bool:
        """Sleep until a runner has work; False when it has some already."""
        self._watcher_sleeps = True
        # Asked after that is said, and of those who run now: whoever takes a request
        # from here on wakes the watcher.
        is_busy = any(runner.busy is not None for runner in list(self._runners))
        if is_busy or self._stopping:
            self._watcher_sleeps = False
            return True
        timeout = -1.0
        if self._application_timeout and self._detached:
            timeout = self._application_timeout
        woken = watcher.wake.acquire(timeout=timeout)
        self._watcher_sleeps = False
        return woken

    def _is_stuck(self, runner: Worker, now: float, is_late: bool) -> bool:
        """Is it in the same request as at the last look, and getting nowhere?

        One that could run, and has not got a processor, gets another look's time for
        that. A late look had to wait for the interpreter's lock, which another thread
        computes with, and each question to /proc would have to wait as long again.
        """
        if runner.busy is None or runner.detached:
            return False
        if runner.seen_serial != runner.serial:
            runner.seen_serial = runner.serial
            runner.seen_since = runner.busy_since = now
            runner.cpu = runner.cpu_seconds() or 0.0
            return False
        used = runner.cpu_seconds()
        since = now - runner.seen_since
        if used is None:
            return since >= LONGEST_LOOK
        computed = used - runner.cpu
        runner.cpu = used
        runner.seen_since = now
        if computed >= since / 2:
            return now - runner.busy_since > PATIENCE
        if now - runner.busy_since >= LONGEST_LOOK or is_late:
            return True
        return not runner.is_runnable()

    def _replace(self, runner: Worker, watcher: Worker) -> None:
        """Detach a stuck runner, and run in its place."""
        with self._lock:
            if runner.busy is None or runner.seen_serial != runner.serial:
                return  # it got on meanwhile
            if runner not in self._runners or self._watcher is not watcher:
                return  # it has stepped aside meanwhile
            self._look = max(SHORTEST_LOOK, self._look / 2)
            self._detach(runner, watcher)
        if runner.busy is None:
            # It got on in this very moment, and may wait at the poller: it must
            # come back to be counted.
            self._work.wake()

    def _detach(self, runner: Worker, successor: Worker) -> None:
        """Give a runner's place to another. The caller holds the lock."""
        runner.detached = True
        self._runners.remove(runner)
        self._detached += 1
        self.full = self._detached >= self._limit
        if self._watcher is successor:
            self._watcher = None
        self._assign(successor, self._next_role())
        if self._watcher is None:
            self._appoint_watcher()

    def step_aside(self) -> None:
        """Let another thread run in place of the calling one, which has to wait.

        Without it the watcher would find out, after some time, and others wait that
        long: uploads of 64 KB, 16 at a time, went from 2.4k to 4.4k a second. A parked
        thread is taken first: the watcher would have to be replaced, by a second
        wake-up.
        """
        runner = self._by_ident.get(threading.get_ident())
        if runner is None:
            return  # it is none of ours
        with self._lock:
            if runner not in self._runners or runner.busy is None:
                return  # it has been replaced already
            successor = self._parked.pop() if self._parked else self._watcher
            if successor is None:
                return
            runner.seen_serial = runner.serial
            runner.busy_since = self._clock()
            self._detach(runner, successor)
        successor.rouse()

    def _look_for_overdue(self, now: float) -> None:
        for worker in self.busy_workers():
            seconds = now - worker.busy_since
            # busy_since is of the last request that the watcher has seen.
            is_timed = worker.detached or worker.seen_serial == worker.serial
            if is_timed and not worker.overdue and seconds > self._application_timeout:
                worker.overdue = True
                self._work.overdue(worker, seconds)
