"""Which signal asks for what, while a server runs in the main thread."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

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

#: Seconds after which a waiting main thread looks whether a handler is due.
LOOK_SECONDS = 1.0
#: Seconds in which stop signals of two kinds are one wish: hupper sends SIGTERM and
#: interrupts the main thread besides, a terminal's Ctrl-C goes to it and to us.
ONE_WISH_SECONDS = 2.0


def in_main_thread() -> bool:
    """Signals can be handled in the main thread alone."""
    return threading.current_thread() is threading.main_thread()


def wait_for(event: threading.Event, timeout: float | None = None) -> bool:
    """Wait as ``event.wait`` does, and hear of signals that nobody has sent.

    ``_thread.interrupt_main()`` calls SIGINT's handler, but wakes nobody who
    waits for ever: with it hupper, the ``--reload`` of pserve, ends its worker.
    """
    if timeout is not None or not in_main_thread() or "hupper" not in sys.modules:
        return event.wait(timeout)  # without a timer: an idle server takes no time
    while not event.wait(LOOK_SECONDS):
        pass
    return True


@contextmanager
def handled(handlers: Mapping[str, Callable[[], None]]) -> Iterator[None]:
    """Install handlers by the signals' names, and put the former ones back.

    A signal that this system does not have is passed over, one that was ignored
    on purpose (SIGHUP under nohup or hupper) stays ignored.
    """
    former: dict[int, object] = {}
    try:
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is None:
                continue
            if name == RELOAD_SIGNAL and signal.getsignal(number) is signal.SIG_IGN:
                continue
            former[number] = signal.signal(number, _ignoring_arguments(handler))
        yield
    finally:
        for number, before in former.items():
            signal.signal(
                number,
                signal.SIG_DFL if before is None else before,  # type: ignore[arg-type]
            )


def _ignoring_arguments(
    handler: Callable[[], None],
) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        handler()

    return handle
