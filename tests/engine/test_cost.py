"""What a request costs, counted and not timed: system calls, calls and instructions.

A count is the same on every machine, busy or not. What the server does by the clock is
taken away first, and what it does once, when it starts or when a connection opens, is
left out: of each series the first requests are not counted.

A number that has fallen is lowered here, so that it does not rise again unnoticed.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import paste_ajp
from paste_ajp.engine import threaded
from tests.apps.cost import FILE_BYTES, Application, make_application
from tests.engine.counted import (
    CHUNK,
    Ask,
    Caller,
    cut,
    read_calls,
    silence,
    traced_server,
)

Serve = Callable[..., Any]  # the fixture's Site is not typed

#: How many requests go first, and how many count.
WARM_UP: Final = 20
REQUESTS: Final = 50

#: How many connections there are where there are several.
CONNECTIONS: Final = 8

#: Whole chunks: the last of an upload is no special case then.
UPLOAD_BYTES: Final = 8 * CHUNK

ASKS: Final = {
    ask.uri: ask
    for ask in (
        Ask("/hello"),
        Ask("/hello/in/turns"),
        Ask("/hello/at/once"),
        Ask("/page"),
        Ask("/stream"),
        Ask("/form", 100),
        Ask("/upload", UPLOAD_BYTES),
        Ask("/open"),
        Ask("/file"),
    )
}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Application:
    return make_application(write_file(tmp_path_factory.mktemp("cost")))


def write_file(folder: Path) -> Path:
    file = folder / "file"
    file.write_bytes(b"f" * FILE_BYTES)
    return file


# -- system calls --------------------------------------------------------------------

#: What the kernel is asked for, at most, for one request. Anything else is too much,
#: and a futex above all: threads have waited for each other then.
SYSTEM_CALLS: Final = {
    # read it, answer it, wait for the next
    "/hello": Counter(recvfrom=1, sendto=1, epoll_wait=1),
    "/hello/in/turns": Counter(recvfrom=1, sendto=1, epoll_wait=1),
    # less where one wait finds several requests
    "/hello/at/once": Counter(recvfrom=1, sendto=1, epoll_wait=1),
    # 100 KB with its headers and its end
    "/page": Counter(recvfrom=1, sendmsg=1, epoll_wait=1),
    # a send for each of four pieces, the first with the headers, and for the end
    "/stream": Counter(recvfrom=1, sendmsg=4, sendto=1, epoll_wait=1),
    # its body came with the request
    "/form": Counter(recvfrom=1, sendto=1, epoll_wait=1),
    # A megabyte: three batches, the first with the headers, and the end. What it is
    # and where it stands.
    "/file": Counter(
        recvfrom=1, sendmsg=4, epoll_wait=1, preadv=4, fstat=1, lseek=1, madvise=1
    ),
    # Eight chunks, seven of which are asked for. The first is too long for one recv(),
    # so its rest is acknowledged at once; and as the buffer was full the socket is
    # read once more before it is waited for. The poller looks away meanwhile, and
    # another thread takes the turn at it where a chunk has to be waited for. If that
    # one is slow, the next watcher asks /proc whether it runs. How often threads wait
    # for the interpreter meanwhile is the scheduler's affair: 40 times, or 50 on a busy
    # machine.
    "/upload": Counter(
        recvfrom=10,
        sendto=8,
        epoll_wait=3,
        setsockopt=1,
        epoll_ctl=2,
        futex=80,
        openat=2,
        read=2,
        close=2,
    ),
}


#: By what memory is had and given back: now and then, and not at our wish. What grows
#: is for test_leftovers.py to find.
OF_THE_ALLOCATOR: Final = ("brk", "madvise", "mmap", "mprotect", "munmap")


@pytest.fixture(scope="module")
def costs(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[Counter[str]]]:
    """The system calls of each request of each kind, one server having had them all."""
    folder = tmp_path_factory.mktemp("strace")
    log = folder / "log"
    with traced_server(write_file(folder), log) as address:
        for uri in ("/open", *SYSTEM_CALLS):
            ask = ASKS[uri]
            several = uri.startswith("/hello/")
            callers = [Caller(address) for _ in range(CONNECTIONS if several else 1)]
            for _ in range((WARM_UP + REQUESTS) // len(callers) + 1):
                if uri == "/hello/at/once":
                    for caller in callers:
                        caller.send(ask)
                    for caller in callers:
                        caller.finish(ask)
                else:
                    for caller in callers:
                        caller.ask(ask)
            for caller in callers:
                caller.close()
    found = cut(read_calls(log.read_text("utf-8", "replace")))
    return {
        uri: requests[WARM_UP : WARM_UP + REQUESTS] for uri, requests in found.items()
    }


@pytest.mark.parametrize("uri", SYSTEM_CALLS)
def test_system_calls_of_a_request(
    costs: dict[str, list[Counter[str]]], uri: str
) -> None:
    most = SYSTEM_CALLS[uri]
    if uri == "/file":
        # What the application does by opening and closing is Python's affair.
        most = most + costs["/open"][0] - SYSTEM_CALLS["/hello"]
    assert len(costs[uri]) == REQUESTS
    too_many: Counter[str] = Counter()
    for cost in costs[uri]:
        too_many += cost - most
    for call in OF_THE_ALLOCATOR:
        too_many.pop(call, None)
    assert too_many.total() <= REQUESTS // 20, (
        f"in {REQUESTS} requests, above what they may cost: {dict(too_many)}"
    )


# -- calls in Python -----------------------------------------------------------------

#: How often a function of ours, or a generator, is entered for one request, at most.
PYTHON_CALLS: Final = {
    "/hello": 21,
    "/page": 26,
    "/stream": 45,
    "/form": 50,
    "/upload": 240,  # 84 to 220 where no chunk has to be waited for
    "/file": 58,
}

PACKAGE: Final = str(Path(paste_ajp.__file__).parent)

#: Functions until Python 3.11, and part of the one around them since.
COMPREHENSIONS: Final = ("<listcomp>", "<dictcomp>", "<setcomp>")


class Profile:
    """Counts calls in the threads that are started while it is in force."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        #: What had been called when the application was: for each request.
        self.seen: list[Counter[str]] = []

    def __enter__(self) -> Profile:
        threading.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if (
            event == "call"
            and code.co_filename.startswith(PACKAGE)
            and code.co_name not in COMPREHENSIONS
        ):
            place = code.co_filename[len(PACKAGE) + 1 :]
            self.calls[f"{place}:{code.co_firstlineno} {code.co_name}"] += 1

    def watching(self, application: Application) -> Application:
        def watched(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
            self.seen.append(self.calls.copy())
            return application(environ, start)

        return watched


def spent_on(
    serve: Serve, application: Application, uri: str, profile: Profile
) -> Counter[str]:
    """What the last REQUESTS of a series have cost, by place."""
    with profile:
        site = serve(profile.watching(application), check=False)
        silence(site.server)
    caller = Caller(site.address)
    caller.ask(ASKS[uri], WARM_UP + REQUESTS)
    caller.close()
    return profile.seen[-1] - profile.seen[-1 - REQUESTS]


@pytest.mark.skipif(
    not threaded.__file__.endswith(".py"),
    reason="of calls in compiled code Python sees nothing",
)
@pytest.mark.parametrize("uri", PYTHON_CALLS)
def test_python_calls_of_a_request(
    serve: Serve, application: Application, uri: str
) -> None:
    spent = spent_on(serve, application, uri, Profile())
    listing = "\n".join(
        f"{count / REQUESTS:5.2f} {name}" for name, count in spent.most_common()
    )
    # Half a call a request is for what comes in two pieces, or a thread that is woken.
    assert spent.total() <= PYTHON_CALLS[uri] * REQUESTS + REQUESTS // 2, (
        f"{spent.total() / REQUESTS} calls for one request:\n{listing}"
    )


# -- instructions of Python's ---------------------------------------------------------

#: How many of them one request takes in functions of ours, by Python's version: each
#: compiles into others.
INSTRUCTIONS: Final = {
    (3, 10): {"/hello": 1809, "/page": 2177, "/stream": 3415, "/form": 2900},
    (3, 11): {"/hello": 1821, "/page": 2213, "/stream": 3510, "/form": 2941},
    (3, 12): {"/hello": 1746, "/page": 2097, "/stream": 3279, "/form": 2772},
    (3, 13): {"/hello": 1714, "/page": 2036, "/stream": 3218, "/form": 2750},
}
COUNTED: Final = INSTRUCTIONS.get(sys.version_info[:2], {})


class Steps(Profile):
    """Counts instructions instead of calls."""

    def __enter__(self) -> Steps:
        threading.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        threading.settrace(None)  # type: ignore[arg-type] # as the documents say

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        # Python 3.13 counts a frame that goes on for ever, as _run's, or does not.
        if not code.co_filename.startswith(PACKAGE) or code.co_name == "_run":
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.calls[f"{code.co_filename[len(PACKAGE) + 1 :]} {code.co_name}"] += 1
        return self._trace


@pytest.mark.skipif(
    not threaded.__file__.endswith(".py"),
    reason="of compiled code Python sees nothing",
)
@pytest.mark.skipif(not COUNTED, reason="not counted on this version of Python")
@pytest.mark.parametrize("uri", COUNTED)
def test_instructions_of_a_request(
    serve: Serve, application: Application, uri: str
) -> None:
    spent = spent_on(serve, application, uri, Steps())
    listing = "\n".join(
        f"{count / REQUESTS:7.1f} {name}" for name, count in spent.most_common()
    )
    # Two in a hundred are for what comes in two pieces, or a thread that is woken.
    assert spent.total() <= COUNTED[uri] * REQUESTS * 1.02, (
        f"{spent.total() / REQUESTS} instructions for one request:\n{listing}"
    )
