"""Which signal asks for what, while a server runs in the main thread."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import NamedTuple

#: What stops a server; a second one stops it at once.
STOP_SIGNALS = ("SIGTERM", "SIGINT")
#: What makes flup's run() return True, so that the caller starts anew; with several
#: processes, what replaces them.
RELOAD_SIGNAL = "SIGHUP"
#: What replaces the whole server by a new one on the same sockets.
UPGRADE_SIGNAL = "SIGUSR2"
#: What switches the trace on or off.
TRACE_SIGNAL = "SIGUSR1"
#: One child more, one less, and the death of one.
ADD_SIGNAL = "SIGTTIN"
REMOVE_SIGNAL = "SIGTTOU"
CHILD_SIGNAL = "SIGCHLD"

#: What a child can handle only when it has started.
_CHILDS_SIGNALS = (
    *STOP_SIGNALS,
    RELOAD_SIGNAL,
    UPGRADE_SIGNAL,
    TRACE_SIGNAL,
    ADD_SIGNAL,
    REMOVE_SIGNAL,
)

#: Seconds in which stop signals of two kinds are one wish: hupper sends SIGTERM and
#: interrupts the main thread besides, a terminal's Ctrl-C goes to it and to us.
ONE_WISH_SECONDS = 2.0
#: The same for one kind, which nobody presses or sends twice so fast: timeout(1) sends
#: it to its child and then to its group, make(1) forwards what the group got as well.
DOUBLED_SECONDS = 0.1


class StopWish(NamedTuple):
    """A stop signal, and when it came."""

    name: str
    at: float

    def is_same(self, later: StopWish) -> bool:
        """Whether a later signal is no second wish, but this one once more."""
        is_doubled = later.name == self.name
        return later.at - self.at < (
            DOUBLED_SECONDS if is_doubled else ONE_WISH_SECONDS
        )


class StopAsked(BaseException):
    """A stop signal has come while a program starts: out of whatever is under way.

    Neither Exception nor SystemExit, which what loads an application catches.
    """


def in_main_thread() -> bool:
    """Signals can be handled in the main thread alone."""
    return threading.current_thread() is threading.main_thread()


#: Where a signal, or an event that is set, leaves a byte for the main thread: the
#: process, the end to read and the end to write.
_mailboxes: list[tuple[int, socket.socket, socket.socket]] = []


def wait_for(event: threading.Event, timeout: float | None = None) -> bool:
    """Wait as ``event.wait`` does, and miss no signal.

    One that comes right before a wait on a lock would be handled after it, which may
    be never; the same holds for ``_thread.interrupt_main()``, by which hupper (the
    ``--reload`` of pserve) ends its worker. Both leave a byte in the mailbox.
    Whoever sets the event calls tell_main_thread() then.
    """
    if timeout is not None or not in_main_thread() or not _mailboxes:
        return event.wait(timeout)
    owner, reader, _ = _mailboxes[-1]
    if owner != os.getpid():  # it is the parent's, and we are a child by fork
        return event.wait()
    while not event.is_set():
        reader.recv(4096)
    return True


def tell_main_thread() -> None:
    """Have the main thread look at its event, if it waits for one."""
    for owner, _, writer in list(_mailboxes):
        if owner == os.getpid():
            with suppress(OSError):
                writer.send(b"\0")


@contextmanager
def _mailbox() -> Iterator[None]:
    """Have signals leave a byte for wait_for()."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    former = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    box = (os.getpid(), reader, writer)
    _mailboxes.append(box)
    try:
        yield
    finally:
        _mailboxes.remove(box)
        if box[0] == os.getpid():
            signal.set_wakeup_fd(former)
        reader.close()
        writer.close()


@contextmanager
def handled(
    handlers: Mapping[str, Callable[[], None]],
) -> Iterator[Callable[[], None]]:
    """Install handlers by the signals' names, and put the former ones back.

    A signal that this system does not have is passed over, one that was ignored
    on purpose (SIGHUP under nohup or hupper) stays ignored. Gives a function that
    installs them once more, over what an application has when it was loaded.
    """
    former: dict[int, object] = {}
    ours: dict[int, Callable[[int, FrameType | None], None]] = {}

    def install_again() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)
        if ours:
            signal.set_wakeup_fd(_mailboxes[-1][2].fileno(), warn_on_full_buffer=False)

    try:
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            if name == RELOAD_SIGNAL and signal.getsignal(number) is signal.SIG_IGN:
                continue
            ours[number] = _ignoring_arguments(handler)
            former[number] = signal.signal(number, ours[number])
        with _mailbox() if former else nullcontext():
            yield install_again
    finally:
        for number, before in former.items():
            signal.signal(
                number,
                signal.SIG_DFL if before is None else before,  # type: ignore[arg-type]
            )


@contextmanager
def held_back() -> Iterator[None]:
    """Have signals wait, also in a process that is started now, until its let_in().

    One that came while a program starts would kill it, or show a traceback of its
    imports; in a fork it would be lost, or handled as if that were the parent.
    """
    owner = os.getpid()
    numbers = [getattr(signal, name) for name in _CHILDS_SIGNALS]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        if os.getpid() == owner:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_in() -> None:
    """Take the signals that were held_back() for this process by who started it."""
    numbers = [getattr(signal, name) for name in _CHILDS_SIGNALS]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def let_in_stops() -> None:
    """Take the stop signals that ``__main__`` has had wait."""
    if hasattr(signal, "pthread_sigmask"):
        numbers = [getattr(signal, name) for name in STOP_SIGNALS]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


class Start:
    """The start of a program, out of which a stop signal raises StopAsked."""

    def __init__(self) -> None:
        self._is_asked = self._is_kept = self._is_over = False

    def on_stop_signal(self) -> None:
        """Get the main thread out of whatever it does."""
        if self._is_over:
            return
        self._is_asked = True
        if not self._is_kept:
            raise StopAsked

    @contextmanager
    def undivided(self) -> Iterator[None]:
        """Have StopAsked wait for the end of this, which would leave a half behind."""
        self._is_kept = True
        try:
            yield
        finally:
            self._is_kept = False
        if self._is_asked:
            raise StopAsked

    def over(self) -> None:
        """Let no stop signal interrupt what comes now: the program ends."""
        self._is_over = True


@contextmanager
def starting() -> Iterator[Start]:
    """Handle stop signals while a program starts, those that were held back too."""
    start = Start()
    if not in_main_thread():
        yield start
        return
    with handled(dict.fromkeys(STOP_SIGNALS, start.on_stop_signal)):
        let_in_stops()
        yield start


def _ignoring_arguments(
    handler: Callable[[], None],
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        handler()

    return handle
