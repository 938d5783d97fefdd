"""The gate that keeps remotes from flooding a log."""

import logging

import pytest

from paste_ajp.logs import (
    GATE_RECORDS,
    GATE_SECONDS,
    MAY_REPEAT,
    FloodGate,
    printable,
    protocol_log,
    server_log,
)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def record(level=logging.WARNING, line=1, **extra):
    made = logging.LogRecord("paste_ajp", level, "x.py", line, "it %s", ("is",), None)
    vars(made).update(extra)
    return made


def test_records_of_one_kind_are_counted_and_the_last_one_says_so():
    clock = Clock()
    gate = FloodGate(everything=True, clock=clock)
    for _ in range(GATE_RECORDS - 1):
        passed = record()
        assert gate.filter(passed)
        assert passed.getMessage() == "it is"
    clock.now += 20
    last = record()
    assert gate.filter(last)
    assert last.getMessage() == "it is (no more of this kind for 40 s)"
    assert not gate.filter(record())
    assert gate.filter(record(line=2))  # another kind


def test_first_record_after_the_silence_tells_how_many_were_missed():
    clock = Clock()
    gate = FloodGate(everything=True, clock=clock)
    for _ in range(GATE_RECORDS + 7):
        gate.filter(record())
    clock.now += GATE_SECONDS
    first = record()
    assert gate.filter(first)
    assert first.getMessage() == "it is (7 more of this kind were not logged)"
    second = record()
    assert gate.filter(second)
    assert second.getMessage() == "it is"


def test_debug_is_never_held_back():
    gate = FloodGate(everything=True)
    assert all(gate.filter(record(logging.DEBUG)) for _ in range(2 * GATE_RECORDS))


def test_server_log_holds_back_only_what_may_repeat():
    gate = FloodGate(everything=False)
    assert all(gate.filter(record()) for _ in range(2 * GATE_RECORDS))
    passed = [gate.filter(record(**MAY_REPEAT)) for _ in range(2 * GATE_RECORDS)]
    assert sum(passed) == GATE_RECORDS


def test_reset_forgets():
    gate = FloodGate(everything=True)
    for _ in range(GATE_RECORDS + 1):
        gate.filter(record())
    gate.reset()
    assert gate.filter(record())


@pytest.mark.parametrize("log", [server_log, protocol_log])
def test_gates_stand_before_the_loggers(log):
    assert any(isinstance(found, FloodGate) for found in log.filters)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a b", "/a b"),
        ("/a\r\nb", "/a\\x0d\\x0ab"),
        ("\x1b[31m\x85\x9b", "\\x1b[31m\\x85\\x9b"),
        ("caf\xe9", "caf\xe9"),
        ("x" * 501, "x" * 500 + "..."),
    ],
)
def test_text_from_outside_takes_one_line(text, shown):
    assert printable(text) == shown
