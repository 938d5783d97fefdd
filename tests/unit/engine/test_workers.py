"""The crew over a fake Work: its channels are callables that it calls in a thread."""

import hashlib
import sys
import threading
import time
from collections import deque

import pytest

from paste_ajp.engine.workers import (
    CRASH_PAUSE,
    LONGEST_LOOK,
    Crew,
    Role,
    Worker,
    runners_that_help,
)

DEADLINE = 10.0


def wait_until(is_so):
    end = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < end, "the deadline has passed"
        time.sleep(0.001)


class FakeWork:
    """`put` makes a channel readable. What is queued is called by serve_queued."""

    def __init__(self):
        self.ready = deque()
        self.changed = threading.Condition()
        self.wakes = 0
        self.queued = []
        self.reports = []
        self.on_poll = lambda: None
        self.on_queue = lambda: None

    def put(self, *channels):
        with self.changed:
            self.ready.extend(channels)
            self.changed.notify()

    def poll(self, timeout):
        self.on_poll()
        with self.changed:
            if not self.ready and not self.wakes:
                self.changed.wait(timeout)
            self.wakes = 0

    def poll_timeout(self):
        return None

    def wake(self):
        with self.changed:
            self.wakes += 1
            self.changed.notify_all()

    def serve(self, channel):
        channel()

    def queue(self, channel):
        self.queued.append(channel)
        self.on_queue()
        return True

    def serve_queued(self, channel):
        channel()

    def overdue(self, worker, seconds):
        self.reports.append((worker.busy, seconds))


class Call:
    """A channel: notes who served it, and blocks until it is let go if asked to."""

    def __init__(self, blocks=False):
        self.entered = threading.Event()
        self.done = threading.Event()
        self.gate = threading.Event()
        if not blocks:
            self.gate.set()
        self.thread = ""

    def __call__(self):
        self.thread = threading.current_thread().name
        self.entered.set()
        assert self.gate.wait(DEADLINE)
        self.done.set()


@pytest.fixture
def make_crew():
    made = []

    def make(limit=2, **keywords):
        work = FakeWork()
        crew = Crew(work, limit=limit, name="paste_ajp-unit", **keywords)
        crew.start()
        made.append((crew, work))
        return crew, work

    yield make
    for crew, work in made:
        crew.stop()
        for _ in range(100):  # each wake may reach one thread alone
            work.wake()
            if crew.join(0.1):
                break
        assert crew.join(0)
        assert crew.threads == 0


def block(work, count):
    """Have so many requests inside."""
    calls = [Call(blocks=True) for _ in range(count)]
    for call in calls:
        work.put(call)
        assert call.entered.wait(DEADLINE)
    return calls


def release(*calls):
    for call in calls:
        call.gate.set()
        assert call.done.wait(DEADLINE)


def serve(work, count=1):
    calls = [Call() for _ in range(count)]
    for call in calls:
        work.put(call)
        assert call.done.wait(DEADLINE)
    return calls


def test_quick_requests_are_served_by_few_threads(make_crew):
    crew, work = make_crew(8, runners=1)
    names = {call.thread for call in serve(work, 50)}
    assert all(name.startswith("paste_ajp-unit-worker-") for name in names)
    assert crew.threads <= 4
    wait_until(lambda: crew.served == 50)


def test_request_behind_one_that_waits_is_served(make_crew):
    _, work = make_crew(2)
    blocked = block(work, 1)
    serve(work, 10)
    release(*blocked)


def test_request_behind_one_that_computes_is_served(make_crew):
    _, work = make_crew(2)
    served = threading.Event()

    def compute():
        end = time.monotonic() + DEADLINE
        while not served.is_set():
            assert time.monotonic() < end

    work.put(compute)
    serve(work)
    served.set()


@pytest.fixture
def computing():
    """A thread that computes, without the interpreter's lock, for most of its time."""
    done = threading.Event()

    def compute():
        while not done.is_set():
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 100_000)

    thread = threading.Thread(target=compute, name="paste_ajp-unit) R")
    thread.start()
    yield thread
    done.set()
    thread.join(DEADLINE)


@pytest.fixture
def waiting():
    done = threading.Event()
    thread = threading.Thread(target=done.wait, args=(DEADLINE,))
    thread.start()
    yield thread
    done.set()
    thread.join(DEADLINE)


def worker_of(thread):
    worker = Worker(thread.name, Role.RUNNER)
    worker.thread = thread
    return worker


on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks Linux's /proc"
)


@on_linux
def test_thread_is_runnable_while_it_computes_and_not_while_it_waits(
    computing, waiting
):
    wait_until(worker_of(computing).is_runnable)
    wait_until(lambda: not worker_of(waiting).is_runnable())


@on_linux
def test_thread_that_has_ended_is_not_runnable():
    thread = threading.Thread(target=bool)
    thread.start()
    thread.join()
    worker = worker_of(thread)
    wait_until(lambda: not worker.is_runnable())  # its end may take a moment


@on_linux
@pytest.mark.parametrize(
    ("is_computing", "seconds", "is_late", "expected"),
    [
        (True, 0.001, False, False),
        (True, 2 * LONGEST_LOOK, False, True),  # it had time to get one
        (True, 0.001, True, True),  # another computes with the lock, and nobody asks
        (False, 0.001, False, True),
    ],
)
def test_request_that_lacks_nothing_but_a_processor_is_not_taken_for_waiting(
    make_crew, computing, waiting, is_computing, seconds, is_late, expected
):
    crew, _ = make_crew()
    worker = worker_of(computing if is_computing else waiting)
    worker.cpu_clock = time.pthread_getcpuclockid(waiting.ident)  # which stands still
    worker.busy = object()
    assert not crew._is_stuck(worker, 100.0, False)  # its first look
    wait_until(lambda: crew._is_stuck(worker, 100.0 + seconds, is_late) is expected)


def test_watcher_does_not_sleep_beside_a_runner_that_is_busy():
    crew = Crew(FakeWork(), limit=2)
    runner = Worker("paste_ajp-unit", Role.RUNNER)
    crew._runners.append(runner)  # since the watcher has looked last
    runner.busy = object()
    assert crew._sleep(Worker("paste_ajp-unit", Role.WATCHER))
    assert not crew._watcher_sleeps


def test_thread_that_steps_aside_is_replaced_before_it_waits(make_crew):
    crew, work = make_crew(limit=2)
    others = []

    def wait_for_another():
        crew.step_aside()
        crew.step_aside()  # once more does no harm
        others.extend(serve(work))

    channel = Call()
    channel.gate.wait = lambda _: wait_for_another() or True
    work.put(channel)
    assert channel.done.wait(DEADLINE)
    assert others[0].thread != channel.thread
    serve(work, 20)
    assert crew.threads <= 3


def test_threads_may_step_aside_up_to_the_limit(make_crew):
    crew, work = make_crew(limit=2)
    calls = [Call(blocks=True) for _ in range(3)]
    for call in calls:
        call.gate.wait = lambda _, wait=call.gate.wait: (
            crew.step_aside() or wait(DEADLINE)
        )
        work.put(call)
    assert calls[0].entered.wait(DEADLINE)
    assert calls[1].entered.wait(DEADLINE)
    assert not calls[2].entered.wait(0.05)
    release(*calls)


def test_step_aside_means_nothing_in_another_thread(make_crew):
    crew, work = make_crew(limit=2)
    (call,) = block(work, 1)
    crew.step_aside()
    serve(work)
    release(call)


def test_threads_are_started_as_they_are_needed(make_crew):
    crew, work = make_crew(5)
    assert crew.threads == 2
    blocked = block(work, 3)
    assert 4 <= crew.threads <= 5
    release(*blocked)


def test_spare_threads_are_started_beforehand(make_crew):
    crew, _ = make_crew(8, min_spare=5)
    assert crew.threads == 6


@pytest.mark.parametrize(("max_spare", "left"), [(1, 2), (2, 2), (5, 5)])
def test_threads_beyond_the_spare_ones_end(make_crew, max_spare, left):
    """Runner and watcher are spare, too; without both of them there is no crew."""
    crew, work = make_crew(8, max_spare=max_spare)
    blocked = block(work, 8)
    wait_until(lambda: crew.full and len(crew.busy_workers()) == 8)
    for call in blocked:
        release(call)
    wait_until(lambda: crew.threads <= left and not crew.busy_workers())
    assert crew.threads == left
    release(*block(work, 8))


def test_spare_threads_stay_without_a_limit(make_crew):
    crew, work = make_crew(4)
    release(*block(work, 4))
    serve(work, 20)
    assert crew.threads == 5


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_requests_run_than_the_limit_and_the_others_wait_in_order(
    make_crew, limit
):
    crew, work = make_crew(limit)
    blocked = block(work, limit)
    wait_until(lambda: crew.full)
    waiting = [Call(blocks=True) for _ in range(3)]
    work.put(*waiting)
    wait_until(lambda: crew.waiting == 3)
    assert crew.threads == limit + 1
    assert crew.waiting_channels() == waiting
    assert work.queued == waiting
    release(blocked[0])
    assert waiting[0].entered.wait(DEADLINE)
    release(waiting[0])
    assert waiting[1].entered.wait(DEADLINE)
    assert not waiting[2].entered.is_set()
    release(*blocked[1:], *waiting[1:])
    serve(work, 5)
    wait_until(lambda: not crew.full)


def test_waiting_request_can_be_taken_back(make_crew):
    crew, work = make_crew(1)
    (blocked,) = block(work, 1)
    wait_until(lambda: crew.full)
    call = Call()
    work.put(call)
    wait_until(lambda: crew.waiting == 1)
    assert crew.take_waiting(call)
    assert not crew.take_waiting(call)
    release(blocked)
    assert not call.done.is_set()


def test_never_more_than_the_limit_run_at_a_time(make_crew):
    crew, work = make_crew(3)
    lock = threading.Lock()
    inside = most = done = 0

    def call():
        nonlocal inside, most, done
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)  # what a database would take
        with lock:
            inside -= 1
            done += 1

    for _ in range(300):
        work.put(call)
    wait_until(lambda: done == 300)
    assert most <= 3
    assert crew.threads <= 4


def test_request_read_while_a_thread_comes_free_does_not_stop_the_others(make_crew):
    """The thread that only reads runs it, and must be watched like any other."""
    crew, work = make_crew(1)
    (blocked,) = block(work, 1)
    wait_until(lambda: crew.full)

    def come_free():
        release(blocked)
        wait_until(lambda: not crew.full)

    work.on_queue = come_free
    second = Call(blocks=True)
    work.put(second)
    assert second.entered.wait(DEADLINE)
    work.on_queue = lambda: None
    third = Call()
    work.put(third)
    wait_until(lambda: crew.waiting_channels() == [third])
    release(second)
    assert third.done.wait(DEADLINE)


def test_busy_workers_are_those_that_serve(make_crew):
    crew, work = make_crew(2)
    assert crew.busy_workers() == []
    (blocked,) = block(work, 1)
    assert [worker.busy for worker in crew.busy_workers()] == [blocked]
    release(blocked)
    wait_until(lambda: crew.busy_workers() == [])


# -- reports ---------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3])
def test_request_that_takes_too_long_is_reported_once(make_crew, limit):
    """Without any other traffic, and also where no thread is left to watch."""
    _, work = make_crew(limit, application_timeout=0.1)
    (blocked,) = block(work, 1)
    wait_until(lambda: work.reports)
    if limit > 1:
        serve(work, 5)
    release(blocked)
    (report,) = work.reports
    assert report[0] is blocked
    assert 0.1 <= report[1] < 2


def test_request_that_waited_is_reported_by_its_own_time(make_crew):
    _, work = make_crew(1, application_timeout=0.2)
    (blocked,) = block(work, 1)
    second = Call(blocks=True)
    work.put(second)
    wait_until(lambda: len(work.reports) == 1)
    release(blocked)
    assert second.entered.wait(DEADLINE)
    wait_until(lambda: len(work.reports) == 2)
    assert work.reports[1][0] is second
    assert work.reports[1][1] < 2
    release(second)


def test_request_that_has_just_begun_is_not_taken_for_the_one_before():
    work = FakeWork()
    crew = Crew(work, limit=2, application_timeout=1.0, clock=lambda: 1000.0)
    worker = Worker("one", Role.RUNNER)
    crew._workers.add(worker)
    worker.busy = object()
    worker.busy_since = 5.0  # of an earlier request, which the watcher had seen
    worker.seen_serial, worker.serial = 3, 4
    crew._look_for_overdue(1000.0)
    assert work.reports == []
    worker.seen_serial = 4
    crew._look_for_overdue(1000.0)
    assert work.reports == [(worker.busy, 995.0)]


# -- trouble ---------------------------------------------------------------------


def test_thread_that_crashes_is_replaced(make_crew, caplog):
    crew, work = make_crew(2)
    serve(work)

    def crash():
        work.on_poll = lambda: None
        raise ValueError("a bug")

    work.on_poll = crash
    work.wake()
    wait_until(lambda: "crashed; another takes its place" in caplog.text)
    serve(work, 5)
    assert "ValueError: a bug" in caplog.text
    wait_until(lambda: crew.threads == 2)


def test_threads_that_crash_one_after_another_do_so_with_pauses(make_crew, caplog):
    crew, work = make_crew(2)

    def crash():
        raise ValueError("a bug")

    began = time.monotonic()
    work.on_poll = crash
    work.wake()
    wait_until(lambda: caplog.text.count("takes its place") == 4)
    assert time.monotonic() - began >= 3 * CRASH_PAUSE
    work.on_poll = lambda: None
    serve(work, 5)
    wait_until(lambda: crew.threads == 2)


def test_thread_that_crashes_in_a_request_is_replaced(make_crew, caplog):
    crew, work = make_crew(2)

    def crash():
        raise ValueError("a bug")

    work.put(crash)
    wait_until(lambda: "crashed; another takes its place" in caplog.text)
    wait_until(lambda: crew.busy_workers() == [])
    serve(work, 5)
    wait_until(lambda: crew.threads == 2)
    assert caplog.text.count("crashed") == 1


def test_crew_goes_on_where_no_further_thread_can_be_started(
    make_crew, caplog, monkeypatch
):
    _, work = make_crew(5)

    def start(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        (blocked,) = block(work, 1)
        wait_until(lambda: "no further thread can be started" in caplog.text)
        serve(work)
    release(blocked)
    serve(work, 5)
    release(*block(work, 2))


def test_join_tells_that_a_thread_does_not_end(make_crew):
    crew, work = make_crew(1)
    (blocked,) = block(work, 1)
    crew.stop()
    assert not crew.join(0.05)
    release(blocked)


def test_server_can_be_stopped_from_inside(make_crew):
    crew, work = make_crew(2)
    joined = []

    def stop():
        crew.stop()
        work.wake()
        joined.append(crew.join(DEADLINE))

    work.put(stop)
    wait_until(lambda: joined == [True])


@pytest.mark.parametrize(("lock", "expected"), [(True, 1), (False, 4)])
def test_as_many_threads_run_as_can_make_progress(monkeypatch, lock, expected):
    monkeypatch.setattr("sys._is_gil_enabled", lambda: lock, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert runners_that_help() == expected


@pytest.mark.parametrize("spare", [1, 4])
@pytest.mark.parametrize("runners", [2, 4])
def test_several_threads_run_where_they_can(make_crew, runners, spare):
    """As without the interpreter's lock."""
    crew, work = make_crew(4, runners=runners, min_spare=spare)
    calls = block(work, 4)
    wait_until(lambda: crew.full)
    release(*calls)
    serve(work, 50)
    assert crew.threads <= 5


def test_thread_without_a_clock_is_judged_by_time_alone(make_crew, monkeypatch):
    monkeypatch.setattr(Worker, "cpu_seconds", lambda self: None)
    _, work = make_crew(2)
    blocked = block(work, 1)
    serve(work, 5)
    release(*blocked)
