"""What remotes leave behind in the server, whatever they do: nothing.

Each scenario is one thing that a remote can do again and again. Afterwards there is no
garbage that the cycle collector alone would free, no more memory in use and no
descriptor open. Nothing here is measured by the clock.
"""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.logs import access_log, app_log, protocol_log, server_log
from paste_ajp.protocol.codes import REQUEST_CHUNK_OVERHEAD
from paste_ajp.protocol.to_container import encode_body_chunk
from paste_ajp.settings import Settings
from paste_ajp.wsgi.file_wrapper import BATCH
from tests.apps import failing
from tests.apps.cost import (
    Application,
    Environ,
    StartResponse,
    hello,
    page,
    stream,
    upload,
)
from tests.engine.conftest import open_descriptors
from tests.engine.counted import CHUNK, DEADLINE, Ask, Caller, silence
from tests.engine.scripted import CPING, CPONG, END_CLOSE, END_REUSE, EOF_CHUNK
from tests.garbage import left_to_the_collector
from tests.integration.programs import wait_until

Act = Callable[[str, int], None]

#: How often things are done before it counts: so often that the numbers of timers are
#: above 256, for Python has the lower ones ready, and that half the timers are there
#: which are kept.
WARM_UP: Final = 350

#: How often they are done then: more often than there may be stray blocks, and more
#: than DEAD_TIMERS, as the timer of a connection that has closed keeps it from being
#: garbage.
TIMES: Final = 300

#: Blocks of memory that may be more after any number of requests: a further thread
#: has some, and Python 3.10 gives every function a cache at its 1024th call.
STRAY_BLOCKS: Final = 150

#: Rounds more where they are more: a busy machine starts threads late, and one that
#: started three in one round had 273. What leaks grows in each.
FURTHER_ROUNDS: Final = 3

#: What is sent in two batches.
FILE_BYTES: Final = BATCH + 1
#: More than the kernel takes from us while nobody reads: a file that ends would have
#: been sent to its end.
LARGE_FILE_BYTES: Final = 1 << 27


@dataclass(frozen=True)
class Scenario:
    """What remotes do, and to what server."""

    #: Is given the server's address, and how often.
    act: Act
    application: Application = hello
    settings: Mapping[str, object] = field(default_factory=dict)
    times: int = TIMES


# -- what remotes do -----------------------------------------------------------------


def on_one_connection(ask: Ask, *, status: int = 200) -> Act:
    def act(address: str, times: int) -> None:
        caller = Caller(address)
        caller.ask(ask, times, status=status)
        caller.close()

    return act


def on_one_each(do: Callable[[Caller], None]) -> Act:
    def act(address: str, times: int) -> None:
        for _ in range(times):
            caller = Caller(address)
            do(caller)
            caller.close()

    return act


def ask(ask: Ask, *, status: int = 200) -> Act:
    return on_one_each(lambda caller: caller.ask(ask, status=status))


def status_of(answer: bytes) -> int:
    """Return the status in an answer, 0 where there is none."""
    # Behind magic, length and the code of Send Headers.
    return int.from_bytes(answer[5:7], "big")


def send(data: bytes, *, status: int) -> Act:
    """Send bytes, and take the answer to its end; `status` 0 for none at all."""

    def send(caller: Caller) -> None:
        caller.send_raw(data)
        assert status_of(caller.read_to_the_end()) == status

    return on_one_each(send)


def send_after_a_question(ask: Ask, data: bytes, *, status: int) -> Act:
    """The same, in place of the second body chunk."""

    def send(caller: Caller) -> None:
        caller.send_part(ask, 0)
        caller.send_raw(data)
        assert status_of(caller.read_to_the_end()) == status

    return on_one_each(send)


def leave_amid_the_body(ask: Ask, chunks: int = 0) -> Act:
    return on_one_each(lambda caller: caller.send_part(ask, chunks))


def leave_before_the_body(ask: Ask) -> Act:
    return on_one_each(lambda caller: caller.send(ask))


def be_lost_amid_the_body(ask: Ask) -> Act:
    def be_lost(caller: Caller) -> None:
        caller.send_part(ask, 1)
        caller.reset()

    return on_one_each(be_lost)


def leave_amid_the_response(caller: Caller) -> None:
    caller.send(GET)
    caller.read(1)


def see_the_response_cut(caller: Caller) -> None:
    caller.send(GET)
    assert not caller.read_to_the_end().endswith((END_REUSE, END_CLOSE))


def ping(caller: Caller) -> None:
    caller.send_raw(CPING)
    assert caller.read(len(CPONG)) == CPONG


def send_nonsense_behind_a_cping(caller: Caller) -> None:
    caller.send_raw(CPING + NONSENSE)
    assert caller.read(len(CPONG)) == CPONG
    assert status_of(caller.read_to_the_end()) == 400


def ask_while_every_thread_is_taken(address: str, times: int) -> None:
    holder = Caller(address)
    holder.send_part(UPLOAD, 0)
    ask(GET, status=503)(address, times)
    holder.close()


GET: Final = Ask("/page")
HEAD: Final = Ask("/page", method="HEAD")
#: Whole chunks, several of them.
UPLOAD: Final = Ask("/upload", 8 * CHUNK)
CHUNKED: Final = Ask("/upload", 8 * CHUNK, chunked=True)
#: What goes to a temporary file, and is left when most of it is there.
LARGE_UPLOAD: Final = Ask("/upload", 256 * CHUNK)
MOST_CHUNKS: Final = 140
#: A request whose first chunk is due, and does not come.
BODILESS: Final = UPLOAD.first[: -(CHUNK + REQUEST_CHUNK_OVERHEAD)]
#: A Forward Request with an unknown method.
NONSENSE: Final = bytes.fromhex("1234 0003 02 ee 00")
#: Longer than SMALL_PACKETS allow.
OVERLONG: Final = bytes.fromhex("1234 2400 02 02") + bytes(0x23FE)

SMALL_PACKETS: Final = {"receive_limit": 8192}
OTHER_PREFIX: Final = {"script_name": "/other", "script_name_mismatch": "404"}
ELSEWHERE: Final = {"allowed_servers": "192.0.2.1"}
#: Seconds to wait for what will not come.
AT_ONCE: Final = 0.001


def send_file(size: int) -> Application:
    """Return an application that sends a file of its own, which has so many bytes."""

    def application(environ: Environ, start_response: StartResponse) -> Any:
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the server closes it
        file.truncate(size)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](file)

    return application


class Zeros:
    """A file without an end, and without a descriptor."""

    def read(self, size: int) -> bytes:
        return bytes(size)


def send_zeros(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](Zeros())


SCENARIOS: Final = {
    # in order
    "hello": Scenario(on_one_connection(GET), times=1600),
    "connections": Scenario(ask(GET)),
    "page": Scenario(on_one_connection(GET), page),
    "stream": Scenario(on_one_connection(GET), stream),
    "form": Scenario(on_one_connection(Ask("/form", 100)), upload),
    "upload": Scenario(on_one_connection(UPLOAD), upload),
    "chunked upload": Scenario(on_one_connection(CHUNKED), upload),
    "spooled upload": Scenario(
        on_one_connection(UPLOAD), upload, {"spool_body": "true"}
    ),
    "file": Scenario(on_one_connection(GET), send_file(FILE_BYTES)),
    "HEAD": Scenario(on_one_connection(HEAD), page),
    "HEAD of a stream": Scenario(on_one_connection(HEAD), stream),
    "HEAD of a file": Scenario(on_one_connection(HEAD), send_file(FILE_BYTES)),
    "CPing": Scenario(on_one_each(ping)),
    # the application fails
    "exception": Scenario(on_one_connection(GET, status=500), failing.fail),
    "exception shown": Scenario(
        on_one_connection(GET, status=500), failing.fail, {"debug": "true"}
    ),
    "exception at a HEAD": Scenario(on_one_connection(HEAD, status=500), failing.fail),
    "exception after headers": Scenario(
        on_one_each(see_the_response_cut), failing.fail_amid_the_body
    ),
    "exc_info after headers": Scenario(
        on_one_each(see_the_response_cut), failing.start_again_amid_the_body
    ),
    "broken PEP 3333": Scenario(
        on_one_connection(GET, status=500), failing.break_pep_3333
    ),
    # the request is refused
    "nonsense": Scenario(send(NONSENSE, status=400)),
    "nonsense behind a CPing": Scenario(
        on_one_each(send_nonsense_behind_a_cping),
    ),
    "no packet": Scenario(send(b"GET / HTTP/1.1\r\n\r\n", status=0)),
    "overlong request": Scenario(send(OVERLONG, status=400), hello, SMALL_PACKETS),
    "404": Scenario(on_one_connection(GET, status=404), hello, OTHER_PREFIX),
    "403": Scenario(
        ask(Ask("/", attributes={"secret": "wrong"}), status=403),
        hello,
        {"secret": "right"},
    ),
    "413": Scenario(ask(UPLOAD, status=413), upload, {"max_request_body": 1000}),
    "413 amid the body": Scenario(
        ask(CHUNKED, status=413), upload, {"max_request_body": 1000}
    ),
    "503": Scenario(
        ask_while_every_thread_is_taken,
        upload,
        {"threads": 1, "queue_timeout": AT_ONCE},
    ),
    "peer not allowed": Scenario(send(b"", status=0), hello, ELSEWHERE),
    # the remote leaves
    "left before the body": Scenario(leave_before_the_body(UPLOAD), upload),
    "left amid the body": Scenario(leave_amid_the_body(UPLOAD), upload),
    "left amid a chunked body": Scenario(leave_amid_the_body(CHUNKED), upload),
    "lost amid the body": Scenario(be_lost_amid_the_body(UPLOAD), upload),
    "left amid a spooled body": Scenario(
        leave_amid_the_body(UPLOAD), upload, {"spool_body": "true"}
    ),
    "left amid a body spooled to a file": Scenario(
        leave_amid_the_body(LARGE_UPLOAD, MOST_CHUNKS),
        upload,
        {"spool_body": "true"},
        times=160,
    ),
    "left, and read again": Scenario(
        leave_amid_the_body(UPLOAD), failing.read_again_after_a_failure
    ),
    "left, and answered": Scenario(
        leave_amid_the_body(UPLOAD), failing.answer_after_a_failure
    ),
    "left amid a stream": Scenario(
        on_one_each(leave_amid_the_response), failing.send_for_ever
    ),
    "left amid a write": Scenario(
        on_one_each(leave_amid_the_response), failing.write_for_ever
    ),
    # Without write_timeout: some of them would set a timer, which keeps a channel.
    "left amid a file": Scenario(
        on_one_each(leave_amid_the_response),
        send_file(LARGE_FILE_BYTES),
        {"write_timeout": 0},
    ),
    "left amid a file that is logged at its end": Scenario(
        on_one_each(leave_amid_the_response),
        send_file(LARGE_FILE_BYTES),
        {"access_log": True, "write_timeout": 0},
    ),
    "left amid a file without descriptor": Scenario(
        on_one_each(leave_amid_the_response), send_zeros
    ),
    # the remote breaks the protocol, or waits, amid the body
    "body ended early": Scenario(
        send_after_a_question(UPLOAD, EOF_CHUNK, status=400), upload
    ),
    "body ended early at once": Scenario(
        send(BODILESS + EOF_CHUNK, status=400), upload
    ),
    "body too long": Scenario(
        send_after_a_question(
            Ask("/upload", CHUNK + 1), encode_body_chunk(b"too long"), status=400
        ),
        upload,
    ),
    "no packet amid the body": Scenario(
        send_after_a_question(UPLOAD, b"no packet", status=0), upload
    ),
    "no packet amid the body, and read again": Scenario(
        send_after_a_question(UPLOAD, b"no packet", status=0),
        failing.read_again_after_a_failure,
    ),
    "408": Scenario(
        send(BODILESS, status=408), upload, {"read_timeout": AT_ONCE}, times=160
    ),
    "408 of a spooled body": Scenario(
        send(BODILESS, status=408),
        upload,
        {"read_timeout": AT_ONCE, "spool_body": "true"},
        times=160,
    ),
    "part of a packet": Scenario(
        send(BODILESS[:20], status=0), hello, {"read_timeout": AT_ONCE}
    ),
    "silence": Scenario(send(b"", status=0), hello, {"keep_alive_timeout": AT_ONCE}),
}


# -- what is left --------------------------------------------------------------------


class WriteAndForget(logging.Filter):
    """Writes a record as a handler would, and lets none of them have it."""

    def filter(self, record: logging.LogRecord) -> bool:
        logging.Formatter().format(record)
        return False


@pytest.fixture(scope="module", autouse=True)
def nobody_keeps_records() -> Iterator[None]:
    """Have records made, written and thrown away: pytest would keep every one."""
    nobody = WriteAndForget()
    loggers = server_log, access_log, protocol_log, app_log
    before = server_log.level
    server_log.setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addFilter(nobody)
    yield
    for logger in loggers:
        logger.removeFilter(nobody)
    server_log.setLevel(before)


@dataclass(frozen=True)
class Leftovers:
    """What is there after a scenario, and was not before."""

    #: What the collector alone would free, by type.
    garbage: Counter[str]
    descriptors: dict[int, str]
    blocks: int


@pytest.fixture(scope="module", params=SCENARIOS)
def leftovers(request: pytest.FixtureRequest) -> Leftovers:
    """Have each scenario done once, for all tests."""
    scenario = SCENARIOS[request.param]
    settings = Settings.parse({"port": 0, **scenario.settings})
    with ThreadedServer(scenario.application, settings) as server:
        silence(server)
        suffer(server, scenario.act, WARM_UP)
        descriptors = open_descriptors()
        gc.collect()
        blocks = sys.getallocatedblocks()
        with left_to_the_collector() as garbage:  # which closes what it frees
            suffer(server, scenario.act, scenario.times)
            opened = opened_since(descriptors)
        grown = sys.getallocatedblocks() - blocks
        for _ in range(FURTHER_ROUNDS):
            if grown < STRAY_BLOCKS:
                break
            blocks = sys.getallocatedblocks()
            suffer(server, scenario.act, scenario.times)
            grown = sys.getallocatedblocks() - blocks
        return Leftovers(garbage, opened, grown)


def opened_since(before: dict[int, str]) -> dict[int, str]:
    """Return what is open and was not: a socket closes right after it is forgotten."""

    def opened() -> dict[int, str]:
        return dict(open_descriptors().items() - before.items())

    with suppress(AssertionError):  # the test says it better
        wait_until(lambda: not opened(), DEADLINE, "all to be closed")
    return opened()


def suffer(server: ThreadedServer, act: Act, times: int) -> None:
    """Have something done, and wait until the server has put away what it needed."""
    crew: Any = server._crew
    act(server.addresses[0], times)
    wait_until(
        lambda: not server.connections and not crew.busy_workers(),
        DEADLINE,
        "the last connection to be closed",
    )


def test_nothing_is_left_to_the_garbage_collector(leftovers: Leftovers) -> None:
    assert leftovers.garbage == {}


def test_no_descriptor_is_left_open(leftovers: Leftovers) -> None:
    assert leftovers.descriptors == {}


def test_memory_does_not_grow(leftovers: Leftovers) -> None:
    assert leftovers.blocks < STRAY_BLOCKS
