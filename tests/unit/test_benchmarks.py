"""The programs in benchmarks/ say what is wrong, and leave nothing behind.

Nothing is measured here, and nothing compiled.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

needs_tomllib = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="benchmarks/ needs Python 3.11"
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@needs_tomllib
@pytest.mark.parametrize(
    ("program", "arguments", "expected"),
    [
        ("compare.py", ["--only", "paste"], "no such server: 'paste'; there are ajp"),
        ("endtoend.py", ["--only", "paste"], "no such route: 'paste'; there are stat"),
        ("atrest.py", ["--only", "paste"], "no such server: 'paste'; there are ajp"),
        ("atrest.py", ["--idle", "-1"], "--idle: -1: expected 0 or more"),
        ("compare.py", ["--group", "ajp,c"], "no such group: 'c'; there are ajp, ours"),
        ("compare.py", ["--case", "hi"], "no such case: 'hi'; there are hello, "),
        ("compare.py", ["--rounds", "0"], "--rounds: 0: expected 1 or more"),
        ("compare.py", ["--secs", "0"], "--secs: 0: expected 0.1 or more"),
        ("compare.py", ["--secs", "nan"], "--secs: nan: expected 0.1 or more"),
        ("compare.py", ["--servers", "none"], "--servers none: [Errno 2] No such"),
        ("compare.py", ["--json", "none/x"], "--json none/x: there is no folder none"),
    ],
)
def test_wrong_arguments_are_named(program, arguments, expected):
    ended = run(program, *arguments)
    assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 2


WITHOUT_TOMLLIB = """
import runpy, sys
sys.modules["tomllib"] = None
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[1]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("program", ["atrest.py", "compare.py", "endtoend.py"])
def test_python_that_is_too_old_is_told_so(program):
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TOMLLIB, BENCHMARKS / program, BENCHMARKS],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    version = ".".join(map(str, sys.version_info[:3]))
    assert ended.stderr == (
        f"{program}: needs Python 3.11 or newer, this is {version}\n"
    )
    assert ended.returncode == 1


#: A server of two processes, both of which keep the FIFO open.
KILLED = """
import shlex, sys, time
import compare
program = f"exec 3>{shlex.quote(sys.argv[1])}; echo >&3; sleep 60 & wait"
command = shlex.join(["sh", "-c", program])
try:
    compare.Server({"name": "x", "kind": "http", "cmd": "/none"}, 1, {}).start(None)
except OSError:
    pass
stopped = compare.Server({"name": "x", "kind": "http", "cmd": "sleep 60"}, 1, {})
stopped.start(None)
stopped.stop()
server = compare.Server({"name": "x", "kind": "http", "cmd": command}, 1, {})
server.start(None)
time.sleep(60)
"""


@needs_tomllib
def test_servers_end_with_a_benchmark_that_is_killed(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    benchmark = subprocess.Popen(
        [sys.executable, "-c", KILLED, fifo],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
    )
    try:
        select.select([held], [], [], 30)
        assert os.read(held, 9) == b"\n"
        benchmark.send_signal(signal.SIGKILL)
        assert select.select([held], [], [], 30)[0]
        assert os.read(held, 9) == b""  # the end: nobody has it open any more
    finally:
        benchmark.kill()
        benchmark.wait()
        os.close(held)
