"""The programs in benchmarks/ say what is wrong with their arguments.

Nothing is measured here, and nothing compiled.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tomllib", reason="benchmarks/ needs Python 3.11")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, BENCHMARKS / program, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "arguments", "expected"),
    [
        ("compare.py", ["--only", "paste"], "no such server: 'paste'; there are ajp"),
        ("endtoend.py", ["--only", "paste"], "no such route: 'paste'; there are stat"),
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
