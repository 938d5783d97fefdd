"""A parent and its children, as real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from paste_ajp.engine.signals import DOUBLED_SECONDS
from tests.engine.front_end import FrontEnd, forward
from tests.integration.programs import Program, free_port, wait_until
from tests.integration.server import ROOT, answers_cping

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")

#: What is served: it answers with its version and its process.
APPLICATION = """
import atexit, os, re, sys, time
from pathlib import Path

VERSION = "one"
HERE = Path(__file__).parent

@atexit.register
def note_the_end():
    (HERE / f"ended-{os.getpid()}").touch()

hoard = []

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        (HERE / "sleeping").touch()
        time.sleep(float(path.rpartition("/")[2]))
    elif path == "/hang":
        (HERE / "hanging").touch()
        re.match(r"(a+)+$", "a" * 60 + "b")  # keeps the interpreter's lock
    elif path == "/eat":
        hoard.append(bytearray(64 << 20))
    elif path == "/environ":
        VERSION = str(environ["wsgi.multiprocess"])
        start_response("200 OK", [])
        return [VERSION.encode()]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{globals()['VERSION']} {os.getpid()}".encode()]
"""


#: The shell's door, with arguments to be filled in.
SHELL = """
import sys
from paste_ajp.cli import main
sys.exit(main(["serve", %s]))
"""


class Parent(Program):
    """A server of several processes, in a folder with what it serves."""

    start_seconds = 30.0
    port = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def answer(self, path="/"):
        """The version and the process that answers a new connection."""
        with FrontEnd(self.address) as front_end:
            version, pid = front_end.ask("GET", path).body.decode().split()
            return version, int(pid)

    def children(self):
        """The processes that this one has started, dead ones left out."""
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == self.pid and stat[0] != "Z":
                    found.add(int(entry.name))
        return found

    def wait_for_log(self, text, seconds=20):
        wait_until(lambda: text in self.log, seconds, lambda: f"{text}\n{self.log}")

    def write_version(self, version):
        self.folder.joinpath("served.py").write_text(
            APPLICATION.replace('"one"', version)
        )


def is_alive(pid):
    """Whether the process runs; one that nobody has waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def parent_of(pid):
    """The process that has started it."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def is_refused(port):
    """Whether nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:  # somebody listens, but takes nobody
        pass
    return False


@pytest.fixture
def start(tmp_path):
    """Start servers by flags, or by a program that has {port} in it."""
    started = []
    (tmp_path / "served.py").write_text(APPLICATION)

    def begin(
        *flags,
        program="",
        processes=2,
        wait_for="children serve",
        env=None,
        prefix=(),
    ):
        port = free_port()
        arguments = ["-B", "-m", "paste_ajp", "serve", "served:application"]
        arguments += ["--port", str(port), "--processes", str(processes), *flags]
        if program:
            (tmp_path / "program.py").write_text(program.replace("{port}", str(port)))
            arguments = ["-B", "program.py"]
        parent = Parent(
            "paste_ajp",
            [*prefix, sys.executable, *arguments],
            tmp_path,
            env={"PYTHONPATH": str(ROOT), **(env or {})},
            answers=lambda: wait_for in parent.log,
        )
        parent.port = port
        started.append(parent)
        parent.start()
        return parent

    yield begin
    for parent in started:
        parent.stop()


# -- serving ----------------------------------------------------------------------


def test_connections_are_shared_out_evenly(start):
    parent = start(processes=3)
    with contextlib.ExitStack() as stack:
        counts = dict.fromkeys(parent.children(), 0)
        for _ in range(30):
            front_end = stack.enter_context(FrontEnd(parent.address))
            pid = int(front_end.ask("GET", "/").body.split()[1])
            counts[pid] += 1
    assert max(counts.values()) - min(counts.values()) <= 4


def test_new_child_gets_its_share_of_busy_connections(start):
    parent = start()
    with contextlib.ExitStack() as stack:
        front_ends = [stack.enter_context(FrontEnd(parent.address)) for _ in range(12)]
        for front_end in front_ends:
            front_end.ask("GET", "/")
        parent.send_signal(signal.SIGTTIN)
        parent.wait_for_log("one child more")
        shares = {}

        def ask_all():
            """As a front end does: a connection that ended is opened anew."""
            shares.clear()
            for number, front_end in enumerate(front_ends):
                answer = front_end.ask("GET", "/")
                pid = int(answer.body.split()[1])
                shares[pid] = shares.get(pid, 0) + 1
                if not answer.reuse:
                    front_ends[number] = stack.enter_context(FrontEnd(parent.address))
            return len(shares) == 3 and max(shares.values()) <= 5

        wait_until(ask_all, 15, lambda: f"even shares: {shares}")


def test_application_is_told_that_there_are_other_processes(start):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        assert front_end.ask("GET", "/environ").body == b"True"


def test_children_and_stop_signal_end_clean(start, tmp_path):
    parent = start()
    children = parent.children()
    assert parent.answer()[1] in children
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert {f"ended-{pid}" for pid in children} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_whole_group_ends_all_clean(start, number):
    parent = start()
    os.killpg(os.getpgid(parent.pid), number)
    assert parent.wait() == 0
    assert_one_stop(parent)


def test_stop_that_comes_to_the_children_first_is_one_stop(start):
    """As of systemd with KillMode=control-group, which sends it to one by one."""
    parent = start()
    for pid in parent.children():
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.05)  # the parent hears of it before it hears the signal
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert_one_stop(parent)


def assert_one_stop(parent):
    """The log tells of a stop, and of no child that ended for itself or came new."""
    assert "stopped" in parent.log
    for text in ("Traceback", "WARNING", "ERROR", "child 3"):
        assert text not in parent.log


def test_signal_to_the_whole_group_while_children_start_ends_all_clean(start):
    parent = start(wait_for="serves AJP")
    wait_until(lambda: len(parent.children()) == 2, 10, "the children")
    os.killpg(os.getpgid(parent.pid), signal.SIGINT)
    assert parent.wait() == 0
    assert_one_stop(parent)


def test_signal_to_the_trace_waits_for_children_that_start(start):
    """It would kill them."""
    parent = start(wait_for="serves AJP")
    wait_until(lambda: len(parent.children()) == 2, 10, "the children")
    parent.send_signal(signal.SIGUSR1)
    parent.wait_for_log("children serve")
    wait_until(lambda: parent.log.count("every packet is written") == 2, 10, "traces")
    assert "ERROR" not in parent.log


def start_traced(start):
    """A parent whose two children write their traces."""
    parent = start()
    parent.send_signal(signal.SIGUSR1)
    wait_until(lambda: parent.log.count("every packet is written") == 2, 10, "traces")
    return parent


def assert_replacement_traces(parent):
    """A child that replaces another traces, and the next signal ends it for both."""
    os.kill(min(parent.children()), signal.SIGKILL)
    wait_until(
        lambda: parent.log.count("every packet is written") == 3, 10, "the third"
    )
    parent.send_signal(signal.SIGUSR1)
    wait_until(lambda: parent.log.count("trace switched off") == 2, 10, "the end")


def test_trace_that_was_switched_on_is_written_by_a_replacement_too(start):
    """It followed the settings, and the next signal switched it the other way."""
    parent = start_traced(start)
    assert_replacement_traces(parent)


def test_trace_goes_on_where_a_reload_fails(start):
    """The signal that was to end it began it once more."""
    parent = start_traced(start)
    parent.write_version("1 / 0")
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("reload failed")
    parent.write_version('"two"')
    assert_replacement_traces(parent)


def test_trace_ends_with_a_reload(start):
    parent = start_traced(start)
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("2 new children serve")
    assert parent.log.count("every packet is written") == 2
    parent.send_signal(signal.SIGUSR1)
    wait_until(lambda: parent.log.count("every packet is written") == 4, 10, "new ones")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_request_ends_before_the_server(start, tmp_path, number):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/0.5"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        parent.send_signal(number)
        answer = front_end.answer()
    assert answer.status == 200
    assert answer.reuse is False
    assert parent.wait() == 0


def test_nobody_can_connect_while_the_server_stops(start, tmp_path):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/1"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        parent.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(parent.port), 0.9, "a refusal")
        assert front_end.answer().status == 200


@pytest.mark.parametrize("whom", ["parent", "group"])
def test_connections_that_wait_at_the_stop_are_served(start, whom):
    """More than a process takes in one go."""
    parent = start("--graceful-timeout", "8")
    children = parent.children()
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(FrontEnd(parent.address)) for _ in range(150)]
        for front_end in waiting:
            front_end.send(forward("GET", "/"))
        for pid in children if whom == "group" else ():
            os.kill(pid, signal.SIGTERM)
        parent.send_signal(signal.SIGTERM)
        parent.wait_for_log("asked to stop")
        for pid in children:
            os.kill(pid, signal.SIGCONT)
        for front_end in waiting:
            assert front_end.answer().status == 200
    assert parent.wait() == 0


def test_second_signal_ends_at_once(start, tmp_path):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/60"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        parent.send_signal(signal.SIGTERM)
        parent.wait_for_log("asked to stop")
        time.sleep(2 * DOUBLED_SECONDS)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(8) == 0
    parent.wait_for_log("GET /sleep/60 from")


def test_port_is_free_again_at_once(start):
    parent = start()
    parent.stop()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", parent.port))
        listener.listen()


@pytest.mark.parametrize("processes", [1, 2])
def test_databases_of_zope_are_closed(start, tmp_path, processes):
    """As Zope's runwsgi does behind the server: here a package that looks like it."""
    (tmp_path / "Zope2.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "class Database:\n"
        "    def close(self):\n"
        "        (Path(__file__).parent / f'closed-{os.getpid()}').touch()\n"
        "opened = [Database()]\n"
    )
    (tmp_path / "portal.py").write_text(
        "import Zope2\nfrom served import application\n"
    )
    program = SHELL % (
        f"'portal:application', '--port', '{{port}}', '--processes', '{processes}'"
    )
    parent = start(program=program, wait_for="serves AJP")
    served_by = parent.answer()[1]
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert (tmp_path / f"closed-{served_by}").exists()


def test_section_for_another_server_is_warned_of_by_the_parent_alone(start, tmp_path):
    (tmp_path / "site.ini").write_text(
        "[app:main]\nuse = egg:paste_ajp#demo\n[server:main]\nuse = egg:waitress\n"
    )
    program = SHELL % "'site.ini', '--port', '{port}', '--processes', '2'"
    parent = start(program=program)
    warned = [line for line in parent.log.splitlines() if "is for egg:waitress" in line]
    assert len(warned) == 1
    assert f" [{parent.pid}] WARNING paste_ajp: site.ini: [server:main]" in warned[0]


# -- deaths -----------------------------------------------------------------------


def test_killed_child_is_replaced(start):
    parent = start()
    victim = parent.answer()[1]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in parent.children(), 5, "the death")
    wait_until(lambda: len(parent.children()) == 2, 5, "the replacement")
    assert answers_cping(parent.port)
    parent.wait_for_log(f"(pid {victim}) was killed by SIGKILL after it had served")


def test_child_that_is_sent_away_finishes_and_is_replaced(start, tmp_path):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        pid = int(front_end.ask("GET", "/").body.split()[1])
        front_end.send(forward("GET", "/sleep/0.5"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        os.kill(pid, signal.SIGTERM)
        assert front_end.answer().status == 200
    wait_until(lambda: pid not in parent.children(), 10, "the child to end")
    wait_until(lambda: len(parent.children()) == 2, 10, "the replacement")


def test_children_that_are_sent_away_as_they_begin_to_serve_are_replaced(start):
    parent = start()
    former = parent.children()
    for pid in former:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not parent.children() & former, 5, "the children to end")
    wait_until(lambda: len(parent.children()) == 2, 5, "the replacements")


@pytest.mark.parametrize("flags", [(), ("--preload",)], ids=["fresh", "forked"])
def test_children_end_when_the_parent_is_killed(start, flags):
    parent = start(*flags)
    children = parent.children()
    assert len(children) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(map(is_alive, children)), 5, "the children to end")


#: Catches what ends a child that loads, and goes on.
STUBBORN = """
import time
from pathlib import Path

here = Path(__file__).parent
try:
    (here / "loading").touch()
    for _ in range(600):
        time.sleep(0.1)
except BaseException:
    (here / "caught").touch()
from served import application
"""


def test_child_that_loads_ends_with_the_parent(start, tmp_path):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    program = SHELL % "'stubborn:application', '--port', '{port}', '--processes', '2'"
    parent = start(program=program, wait_for="")
    wait_until((tmp_path / "loading").exists, 10, "the child to load")
    children = parent.children()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until((tmp_path / "caught").exists, 5, "SystemExit")
    wait_until(lambda: not any(map(is_alive, children)), 5, "the children to end")


def test_running_request_outlives_the_parent(start, tmp_path):
    parent = start()
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/0.5"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        os.kill(parent.pid, signal.SIGKILL)
        assert front_end.answer().status == 200


def test_hanging_child_is_reported_with_its_stacks_and_replaced(start, tmp_path):
    parent = start("--heartbeat-timeout", "2")
    children = parent.children()
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/hang"))
        wait_until((tmp_path / "hanging").exists, 10, "the request to begin")
        parent.wait_for_log("hangs: no sign of life")
        parent.wait_for_log('served.py", line 21 in application')
        with pytest.raises((EOFError, ConnectionResetError)):
            front_end.answer()
    wait_until(
        lambda: len(parent.children()) == 2 and parent.children() != children,
        10,
        "the replacement",
    )


def test_stacks_of_a_child_are_one_record(start):
    parent = start()
    for child in parent.children():
        os.kill(child, signal.SIGQUIT)
        parent.wait_for_log(f"(pid {child}):\n")
    for child in parent.children():
        assert parent.log.count(f"(pid {child}):\n") == 1
        record = parent.log.partition(f"(pid {child}):\n")[2]
        # The last line of the main thread's, which come last.
        assert 'engine/__main__.py"' in record.partition("the stacks of")[0]


def test_stopped_child_is_replaced(start):
    parent = start("--heartbeat-timeout", "1.5")
    victim = parent.answer()[1]
    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: victim not in parent.children(), 15, "the kill")
    wait_until(lambda: len(parent.children()) == 2, 10, "the replacement")


def test_request_without_end_is_reported_and_its_child_replaced(start, tmp_path):
    parent = start("--request-timeout-kill", "1", "--graceful-timeout", "0.5")
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/60"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        parent.wait_for_log("is replaced: GET /sleep/60 from 127.0.0.1")
        parent.wait_for_log("line 18 in application")
        with pytest.raises((EOFError, ConnectionResetError)):
            front_end.answer()
    parent.wait_for_log("has left")


# -- limits -----------------------------------------------------------------------


def test_child_is_replaced_after_its_requests(start):
    parent = start("--max-requests", "20", processes=1, wait_for="1 children serve")
    first = parent.answer()[1]
    with FrontEnd(parent.address) as front_end:
        for _ in range(25):
            front_end.ask("GET", "/")
    parent.wait_for_log("is replaced: it has served")
    wait_until(lambda: parent.answer()[1] != first, 10, "another process")


def test_child_is_replaced_for_its_memory(start):
    parent = start("--max-memory", "100M")
    eater = parent.answer("/eat")[1]
    while parent.answer("/eat")[1] != eater:
        pass
    parent.wait_for_log("max_memory is 100 MiB")
    wait_until(lambda: eater not in parent.children(), 15, "its end")


# -- reload -----------------------------------------------------------------------


def test_reload_brings_the_new_version(start):
    parent = start()
    parent.write_version('"two"')
    parent.send_signal(signal.SIGHUP)
    wait_until(lambda: parent.answer()[0] == "two", 15, "the new version")
    assert {parent.answer()[0] for _ in range(6)} == {"two"}
    wait_until(lambda: len(parent.children()) == 2, 15, "the old ones to leave")


def test_broken_version_leaves_the_old_one_serving(start):
    parent = start()
    children = parent.children()
    parent.write_version("1 / 0")
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("reload failed, the former version goes on serving")
    assert parent.log.count("ZeroDivisionError: division by zero") == 2
    assert parent.log.count("Traceback (most recent call last)") == 1
    assert parent.answer()[0] == "one"
    wait_until(lambda: parent.children() == children, 10, "the new one to go")


def test_reload_of_forked_children_keeps_the_code(start):
    parent = start("--preload")
    before = parent.children()
    parent.write_version('"two"')
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("2 new children serve")
    wait_until(lambda: not parent.children() & before, 15, "the old ones to leave")
    assert parent.answer()[0] == "one"
    assert "the code stays the one that was preloaded" in parent.log


def test_forked_children_do_not_log_that_the_server_has_stopped(start):
    parent = start("--preload")
    before = parent.children()
    parent.send_signal(signal.SIGHUP)
    wait_until(lambda: not parent.children() & before, 15, "the old ones to leave")
    assert "stopped" not in parent.log
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert parent.log.count("stopped") == 1


#: Gets a stop signal as soon as it is forked, if there is a file `once`.
STOPPED_AT_BIRTH = """1
here = Path(__file__).parent
def stop():
    if (here / "once").exists():
        (here / "once").unlink()
        os.kill(os.getpid(), 15)
os.register_at_fork(after_in_child=stop)
"""


def test_signal_to_a_child_that_is_being_forked_is_not_lost(start, tmp_path):
    """The parent's handler took it there, and it was the parent's note, too."""
    served = tmp_path / "served.py"
    served.write_text(served.read_text().replace('"one"', STOPPED_AT_BIRTH))
    parent = start("--preload")
    (tmp_path / "once").touch()
    os.kill(min(parent.children()), signal.SIGKILL)
    parent.wait_for_log("ended with status 0 while it loaded its application")
    wait_until(lambda: len(parent.children()) == 2, 10, "the replacement")
    assert "asked to stop" not in parent.log


PRELOADED = """
[app:main]
use = egg:paste_ajp#demo
[server:main]
use = egg:paste_ajp
port = {port}
processes = {processes}
preload = true
"""


def test_reload_of_forked_children_reads_the_settings_anew(start, tmp_path):
    port = free_port()
    ini = tmp_path / "site.ini"
    ini.write_text(PRELOADED.format(port=port, processes=2))
    parent = start(program=SHELL % "'site.ini'")
    before = parent.children()
    ini.write_text(PRELOADED.format(port=port, processes=3))
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("3 new children serve")
    wait_until(lambda: not parent.children() & before, 15, "the old one to leave")
    ini.write_text(PRELOADED.format(port=port, processes="many"))
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("reload failed")
    assert "processes = 'many': expected a whole number" in parent.log
    assert len(parent.children()) == 3


@pytest.mark.parametrize("preload", ["false", "true"], ids=["fresh", "forked"])
def test_reload_does_not_open_the_port_by_leaving_the_secret_out(
    start, tmp_path, preload
):
    port = free_port()
    ini = tmp_path / "site.ini"
    text = PRELOADED.format(port=port, processes=2).replace("true", preload)
    ini.write_text(f"{text}host = 0.0.0.0\nsecret = wallaby\n")
    parent = start(program=SHELL % "'site.ini'")
    before = parent.children()
    ini.write_text(f"{text}host = 0.0.0.0\n")
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("reload failed, the former version goes on serving")
    assert f"0.0.0.0:{port} needs a secret" in parent.log
    wait_until(lambda: parent.children() == before, 10, "the new one to go")
    ini.write_text(f"{text}host = 0.0.0.0\nsecret_required = false\n")
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("2 new children serve")


@pytest.mark.parametrize("section", ["", "[server:main]\nuse = egg:waitress\n"])
@pytest.mark.parametrize("preload", ["false", "true"], ids=["fresh", "forked"])
def test_reload_without_the_server_section_is_none(start, tmp_path, section, preload):
    """Defaults held, without a word: one process, no secret."""
    ini = tmp_path / "site.ini"
    text = PRELOADED.format(port=free_port(), processes=2).replace("true", preload)
    ini.write_text(text)
    parent = start(program=SHELL % "'site.ini'")
    before = parent.children()
    ini.write_text(text.partition("[server")[0] + section)
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("reload failed")
    assert "the server section that was there at the start is gone" in parent.log
    wait_until(lambda: parent.children() == before, 10, "the new one to go")


def test_reload_reads_the_ini_file_anew(start, tmp_path):
    ini = tmp_path / "site.ini"
    text = """
[app:main]
use = call:made:make
word = {word}
[server:main]
use = egg:paste_ajp
port = {port}
processes = {processes}
"""
    (tmp_path / "made.py").write_text(
        "import os\n"
        "def make(global_conf, word):\n"
        "    def app(environ, start_response):\n"
        "        start_response('200 OK', [])\n"
        "        return [f'{word} {os.getpid()}'.encode()]\n"
        "    return app\n"
    )
    port = free_port()
    ini.write_text(text.format(word="one", port=port, processes=1))
    program = SHELL % "'site.ini', '--max-requests', '1000000'"
    parent = start(program=program, wait_for="1 children serve")
    parent.port = port
    assert parent.answer()[0] == "one"
    ini.write_text(text.format(word="two", port=port, processes=3))
    parent.send_signal(signal.SIGHUP)
    wait_until(lambda: parent.answer()[0] == "two", 15, "the new word")
    wait_until(lambda: len(parent.children()) == 3, 15, "three processes")


def test_upgrade_replaces_the_parent_too(start):
    parent = start()
    parent.write_version('"two"')
    parent.send_signal(signal.SIGUSR2)
    try:
        assert parent.wait(20) == 0
        version, pid = parent.answer()
        assert version == "two"
        successor = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
        assert f"process {successor} serves, this one ends" in parent.log
    finally:
        for text in parent.log.splitlines():
            if "upgraded: process" in text:
                os.kill(int(text.split("process ")[1].split()[0]), signal.SIGTERM)
    wait_until(lambda: not answers_cping(parent.port), 10, "the successor to end")


def test_upgrade_that_fails_changes_nothing(start):
    parent = start()
    parent.write_version("1 / 0")
    parent.send_signal(signal.SIGUSR2)
    parent.wait_for_log("upgrade failed, this server goes on")
    assert parent.answer()[0] == "one"


#: A version that takes long to load, unless there is a file `quick`. A signal right
#: before a sleep waits for its end, so it has many.
SLOW = """1
here = Path(__file__).parent
if not (here / "quick").exists():
    (here / f"loading-{os.getpid()}").touch()
    for _ in range(600):
        time.sleep(0.1)
"""


def loading(folder):
    """The processes that load SLOW."""
    return [int(path.name[8:]) for path in folder.glob("loading-*")]


def test_stop_that_comes_first_to_children_that_load_is_one_stop(start, tmp_path):
    """The end of what loads was taken for an error of the application."""
    parent = start_to_load(start, tmp_path)
    for pid in loading(tmp_path):
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.1)  # the parent hears of it before it hears the signal
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert_one_stop(parent)


def test_child_that_is_sent_away_while_it_loads_is_replaced(start, tmp_path):
    parent = start_to_load(start, tmp_path)
    (tmp_path / "quick").touch()
    for pid in loading(tmp_path):
        os.kill(pid, signal.SIGTERM)
    parent.wait_for_log("children serve")
    assert "ended with status 0 while it loaded" in parent.log
    assert "could not load" not in parent.log


def start_to_load(start, folder):
    """Start a server; return when its children load SLOW."""
    served = folder / "served.py"
    served.write_text(served.read_text().replace('"one"', SLOW))
    parent = start(wait_for="serves AJP")
    wait_until(lambda: len(loading(folder)) == 2, 10, "the children to load")
    return parent


@pytest.mark.parametrize(
    ("processes", "wait_for"), [(1, "serves AJP"), (2, "children serve")]
)
def test_stop_while_an_upgrade_loads_ends_both(start, tmp_path, processes, wait_for):
    parent = start(processes=processes, wait_for=wait_for)
    parent.write_version(SLOW)
    parent.send_signal(signal.SIGUSR2)
    wait_until(lambda: loading(tmp_path), 10, "the successor to load")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    wait_until(
        lambda: not any(map(is_alive, loading(tmp_path))), 5, "the successor to end"
    )


#: The shell's door, where the system takes its time to start a process.
SLOW_TO_START = (
    """
import subprocess, time
class Popen(subprocess.Popen):
    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        time.sleep(1)
subprocess.Popen = Popen
"""
    + SHELL % "'served:application', '--port', '{port}'"
)


def test_stop_while_a_successor_is_being_started_ends_both(start):
    """It was left behind, and nothing stopped it."""
    parent = start(program=SLOW_TO_START, wait_for="serves AJP")
    parent.send_signal(signal.SIGUSR2)
    wait_until(parent.children, 10, "the successor")
    (successor,) = parent.children()
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    try:
        assert not is_alive(successor)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(successor, signal.SIGKILL)


def test_second_upgrade_gives_up_one_that_hangs(start, tmp_path):
    parent = start()
    parent.write_version(SLOW)
    parent.send_signal(signal.SIGUSR2)
    wait_until(lambda: loading(tmp_path), 10, "the successor to load")
    (tmp_path / "quick").touch()
    parent.send_signal(signal.SIGUSR2)
    assert parent.wait(20) == 0
    version, pid = parent.answer()
    assert version == "1"
    assert not any(map(is_alive, loading(tmp_path)))
    os.kill(parent_of(pid), signal.SIGTERM)
    wait_until(lambda: not answers_cping(parent.port), 10, "the successor to end")


def test_address_that_is_written_no_more_is_refused_after_an_upgrade(start, tmp_path):
    kept, former = free_port(), free_port()
    ini = tmp_path / "site.ini"
    text = (
        "[app:main]\nuse = egg:paste_ajp#demo\n"
        "[server:main]\nuse = egg:paste_ajp\nlisten = 127.0.0.1:%d %s\n"
    )
    ini.write_text(text % (kept, f"127.0.0.1:{former}"))
    parent = start(program=SHELL % "'site.ini'", wait_for="serves AJP")
    ini.write_text(text % (kept, ""))
    parent.send_signal(signal.SIGUSR2)
    assert parent.wait(20) == 0
    try:
        assert answers_cping(kept)
        assert is_refused(former)
    finally:
        successor = parent.log.partition("upgraded: process ")[2].split()[0]
        os.kill(int(successor), signal.SIGTERM)
    wait_until(lambda: not answers_cping(kept), 10, "the successor to end")


def assert_one_process_is_upgraded(parent):
    parent.write_version('"two"')
    parent.send_signal(signal.SIGUSR2)
    assert parent.wait(20) == 0
    version, successor = parent.answer()
    os.kill(successor, signal.SIGTERM)
    assert version == "two"
    wait_until(lambda: not answers_cping(parent.port), 10, "the successor to end")


def test_one_process_is_upgraded_as_well(start):
    parent = start(processes=1, wait_for="serves AJP")
    assert_one_process_is_upgraded(parent)


def test_upgrade_starts_where_this_server_was_started(start, tmp_path):
    """The application is somewhere else by now."""
    moves = f"import os\n{APPLICATION}\nos.chdir('/')\n"
    (tmp_path / "served.py").write_text(moves)
    parent = start(processes=1, wait_for="serves AJP")
    assert_one_process_is_upgraded(parent)


@pytest.mark.parametrize(
    ("processes", "wait_for"), [(1, "serves AJP"), (2, "children serve")]
)
def test_upgrade_hands_the_http_door_over(start, processes, wait_for):
    http = f"127.0.0.1:{free_port()}"

    def version():
        with urllib.request.urlopen(f"http://{http}/", timeout=10) as answer:
            return answer.read().split()[0]

    parent = start("--http", http, processes=processes, wait_for=wait_for)
    assert version() == b"one"
    parent.write_version('"two"')
    parent.send_signal(signal.SIGUSR2)
    assert parent.wait(20) == 0
    try:
        assert version() == b"two"
    finally:
        successor = parent.log.partition("upgraded: process ")[2].split()[0]
        os.kill(int(successor), signal.SIGTERM)
    wait_until(lambda: not answers_cping(parent.port), 10, "the successor to end")
    assert is_refused(int(http.rpartition(":")[2]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@pytest.mark.parametrize(
    ("processes", "wait_for"), [(1, "serves AJP"), (2, "children serve")]
)
def test_request_through_the_http_door_ends_before_the_server(
    start, tmp_path, processes, wait_for, number
):
    http = f"127.0.0.1:{free_port()}"
    parent = start("--http", http, processes=processes, wait_for=wait_for)
    bodies = []

    def ask():
        with urllib.request.urlopen(f"http://{http}/sleep/4", timeout=20) as answer:
            bodies.append(answer.read())

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until((tmp_path / "sleeping").exists, 10, "the request to run")
    parent.send_signal(number)
    try:
        assert parent.wait(20) == 0
        asking.join(10)
        assert [body.split()[0] for body in bodies] == [b"one"]
    finally:
        if number == signal.SIGUSR2:
            successor = parent.log.partition("upgraded: process ")[2].split()[0]
            os.kill(int(successor), signal.SIGTERM)
    wait_until(lambda: not answers_cping(parent.port), 10, "the successor to end")


def test_forks_have_no_connection_of_the_http_door(start):
    http = f"127.0.0.1:{free_port()}"
    parent = start("--http", http, "--preload")
    host, _, port = http.partition(":")
    with socket.create_connection((host, int(port)), 20) as browser:
        browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in browser.recv(4096)
        former = parent.children()
        parent.send_signal(signal.SIGHUP)
        wait_until(lambda: not former & parent.children(), 20, "new children")
        browser.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with browser.makefile("rb") as answer:
            assert answer.read().split()[-2] == b"one"


def test_forks_do_not_listen_at_the_http_door(start, tmp_path):
    http = f"127.0.0.1:{free_port()}"
    parent = start("--http", http, "--preload", "--graceful-timeout", "60")
    with FrontEnd(parent.address) as front_end:
        front_end.send(forward("GET", "/sleep/60"))
        wait_until((tmp_path / "sleeping").exists, 10, "the request to begin")
        parent.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(int(http.rpartition(":")[2])), 20, "a refusal")
        assert parent.is_running()


@pytest.mark.parametrize("listen", ["", "listen = unix:ajp.sock"])
def test_http_door_knows_the_secret_of_a_reload(start, tmp_path, listen):
    http = f"127.0.0.1:{free_port()}"
    ini = tmp_path / "site.ini"
    text = (
        "[app:main]\nuse = egg:paste_ajp#demo\n[server:main]\nuse = egg:paste_ajp\n"
        f"{listen or f'port = {free_port()}'}\n"
        f"http = {http}\nprocesses = 2\nsecret = "
    )

    def status():
        try:
            with urllib.request.urlopen(f"http://{http}/", timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    ini.write_text(f"{text}before")
    parent = start(program=SHELL % "'site.ini'")
    assert status() == 200
    ini.write_text(f"{text}after")
    parent.send_signal(signal.SIGHUP)
    parent.wait_for_log("child 1 (pid")  # has left
    parent.wait_for_log("child 2 (pid")
    assert status() == 200


# -- process 1 of a container -----------------------------------------------------

IN_A_CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]

#: It leaves an orphan that ends at once, counts the dead, and sends us signals.
ORPHANS = """
import os, signal, subprocess
from pathlib import Path

def zombies():
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found += stat.read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass
    return found

def application(environ, start_response):
    path = environ["PATH_INFO"].strip("/")
    if path == "orphan":
        subprocess.run(["sh", "-c", "true & exit"], check=True)
    elif path != "zombies":
        os.kill(1, getattr(signal, path))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(zombies()).encode()]
"""


@pytest.fixture
def container(start, tmp_path):
    """Start a server as process 1."""
    try:
        tried = subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True)
    except OSError:
        pytest.skip("unshare is not installed")
    if tried.returncode:
        pytest.skip("no process namespace may be made here")

    def begin(*flags, **keywords):
        (tmp_path / "served.py").write_text(ORPHANS)
        return start(*flags, prefix=IN_A_CONTAINER, **keywords)

    return begin


def ask_container(parent, path):
    with FrontEnd(parent.address) as front_end:
        return int(front_end.ask("GET", path).body)


def test_process_1_buries_orphans(container):
    parent = container()
    for _ in range(3):
        ask_container(parent, "/orphan")
    wait_until(lambda: ask_container(parent, "/zombies") == 0, 10, "their burial")


@pytest.mark.parametrize(
    ("processes", "wait_for"), [(1, "serves AJP"), (2, "children serve")]
)
def test_process_1_is_not_upgraded_and_can_be_stopped(container, processes, wait_for):
    parent = container(processes=processes, wait_for=wait_for)
    ask_container(parent, "/SIGUSR2")
    parent.wait_for_log("this is process 1 of a container")
    ask_container(parent, "/SIGTERM")
    assert parent.wait() == 0
    assert "upgrading" not in parent.log


# -- more and less ----------------------------------------------------------------


def test_children_are_added_and_removed(start):
    parent = start()
    parent.send_signal(signal.SIGTTIN)
    wait_until(lambda: len(parent.children()) == 3, 10, "a third child")
    parent.wait_for_log("one child more")
    parent.send_signal(signal.SIGTTOU)
    wait_until(lambda: len(parent.children()) == 2, 10, "two children")


# -- starts that fail -------------------------------------------------------------


def test_application_that_does_not_load_ends_the_start(start, tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    program = SHELL % "'broken:application', '--port', '{port}', '--processes', '2'"
    with pytest.raises(AssertionError) as caught:
        start(program=program)
    said = str(caught.value)
    assert "ended with status 1" in said
    # By the log and by the command, in a line each, and by its traceback, once.
    assert said.count("ZeroDivisionError: division by zero") == 3
    assert said.count("Traceback (most recent call last)") == 1


# -- from code --------------------------------------------------------------------

FROM_CODE = """
import atexit, os, sys
from pathlib import Path
import served
from paste_ajp import Settings, Server

server = Server(served.application, Settings(port={port}, processes=2))
me = os.getpid()
%s
"""


def test_application_object_is_served_by_forks(start, tmp_path):
    program = FROM_CODE % (
        "try:\n    server.run()\nfinally:\n    Path(f'finally-{os.getpid()}').touch()\n"
    )
    parent = start(
        program="from paste_ajp.logs import log_to_stderr; log_to_stderr()\n" + program
    )
    children = parent.children()
    assert len(children) == 2
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    names = {path.name for path in tmp_path.iterdir()}
    for pid in (parent.pid, *children):
        assert {f"finally-{pid}", f"ended-{pid}"} <= names


def test_forks_leave_no_file_of_the_parent_open(start):
    warn = "import warnings; warnings.simplefilter('always', ResourceWarning)\n"
    log = "from paste_ajp.logs import log_to_stderr; log_to_stderr()\n"
    parent = start(program=warn + log + FROM_CODE % "server.run()")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert "ResourceWarning" not in parent.log


def test_server_runs_in_a_thread(start, tmp_path):
    """Children that are forked there end as the program does."""
    program = FROM_CODE % (
        "import signal, threading\n"
        "thread = threading.Thread(target=server.run)\n"
        "thread.start()\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        "server.shutdown()\n"
        "thread.join()\n"
        "Path(f'finally-{os.getpid()}').touch()\n"
    )
    mask = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "from paste_ajp.logs import log_to_stderr; log_to_stderr()\n"
    )
    parent = start(program=mask + program)
    children = parent.children()
    parent.send_signal(signal.SIGUSR1)
    assert parent.wait(5) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"ended-{pid}" for pid in children} <= names
    assert {name for name in names if "finally" in name} == {f"finally-{parent.pid}"}


def test_server_of_several_processes_is_a_context_manager(start, tmp_path):
    program = FROM_CODE % (
        "import signal\n"
        "with server:\n"
        "    print('children serve', server.addresses, file=sys.stderr, flush=True)\n"
        "    signal.sigwait([signal.SIGUSR1])\n"
        "print('all over', file=sys.stderr)\n"
    )
    mask = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    parent = start(program=mask + program)
    children = parent.children()
    assert parent.answer()[1] in children
    parent.send_signal(signal.SIGUSR1)
    assert parent.wait() == 0
    assert "all over" in parent.log
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"ended-{pid}" for pid in children} <= names


# -- the service manager ----------------------------------------------------------


@contextlib.contextmanager
def manager(folder):
    """A socket that notes what it is told, as systemd's; a list of lines."""
    path = folder / "notify"
    lines = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(0.2)
        over = threading.Event()

        def listen():
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    lines.extend(sock.recv(4096).decode().splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield str(path), lines
        finally:
            over.set()
            thread.join()


def test_service_manager_hears_of_start_reload_and_stop(start, tmp_path):
    with manager(tmp_path) as (path, lines):
        parent = start(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"})
        wait_until(lambda: "READY=1" in lines, 5, "READY")
        wait_until(lambda: lines.count("WATCHDOG=1") > 3, 5, "the watchdog")
        parent.send_signal(signal.SIGHUP)
        wait_until(lambda: "RELOADING=1" in lines, 5, "RELOADING")
        wait_until(lambda: lines.count("READY=1") == 2, 15, "READY again")
        parent.send_signal(signal.SIGTERM)
        wait_until(lambda: "STOPPING=1" in lines, 5, "STOPPING")
        assert parent.wait() == 0
    assert any(line.startswith("MONOTONIC_USEC=") for line in lines)


def test_service_manager_hears_of_one_process(start, tmp_path):
    with manager(tmp_path) as (path, lines):
        parent = start(
            processes=1,
            wait_for="serves AJP",
            env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "300000"},
        )
        wait_until(lambda: lines.count("WATCHDOG=1") > 2, 5, "the watchdog")
        parent.send_signal(signal.SIGTERM)
        assert parent.wait() == 0
        wait_until(lambda: "STOPPING=1" in lines, 5, "STOPPING")
    assert lines[0] == "READY=1"


def test_service_manager_hears_of_a_successor(start, tmp_path):
    with manager(tmp_path) as (path, lines):
        parent = start(env={"NOTIFY_SOCKET": path})
        parent.send_signal(signal.SIGUSR2)
        assert parent.wait(20) == 0
        (told,) = [line for line in lines if line.startswith("MAINPID=")]
        assert "STOPPING=1" not in lines
        os.kill(int(told.partition("=")[2]), signal.SIGTERM)
        wait_until(lambda: "STOPPING=1" in lines, 10, "its end")
