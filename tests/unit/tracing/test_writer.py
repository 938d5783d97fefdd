import logging
import os
import stat
import threading
from pathlib import Path

from paste_ajp.protocol import Role
from paste_ajp.tracing import TraceWriter, read_capture

CPING = bytes.fromhex("123400010a")
CPONG = bytes.fromhex("4142000109")


def lines(path):
    return path.read_text("ascii").splitlines()


def test_a_trace_says_when_who_which_way_and_what(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path, clock=lambda: 0.5) as trace:
        trace.received("c1", CPING)
        trace.sent("c1", CPONG)
    assert lines(path) == [
        "# paste_ajp trace 1: secrets, cookies and credentials are masked",
        "1970-01-01T00:00:00.500000Z c1 > 5 CPing {}",
        "1970-01-01T00:00:00.500000Z c1 < 5 CPong {}",
    ]


def test_a_front_end_sends_to_the_container(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path, role=Role.FRONT_END) as trace:
        trace.sent("c1", CPING)
    assert " c1 > 5 CPing " in lines(path)[1]


def test_packets_in_pieces_are_whole_in_the_trace(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path) as trace:
        for byte in CPING:
            trace.received("c1", bytes((byte,)))
        trace.received("c2", CPING[:2])
        trace.closed("c2")
    assert [line.split()[4] for line in lines(path)[1:]] == ["CPing", "cut"]


def test_only_the_owner_may_read_it(tmp_path):
    with TraceWriter(tmp_path / "trace") as trace:
        assert stat.S_IMODE(trace.path.stat().st_mode) == 0o600


def test_only_the_owner_may_read_a_file_that_was_there(tmp_path):
    path = tmp_path / "trace"
    path.write_text("old\n")
    path.chmod(0o644)
    with TraceWriter(path) as trace:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        trace.received("c1", CPING)
    assert lines(path)[0] == "old"


def test_device_keeps_its_permissions():
    before = Path(os.devnull).stat().st_mode
    with TraceWriter(os.devnull):
        assert Path(os.devnull).stat().st_mode == before


def test_a_trace_that_has_grown_begins_anew(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path, most_bytes=1000) as trace:
        for _ in range(100):
            trace.received("c1", CPING)
    assert path.stat().st_size < 1100
    assert (tmp_path / "trace.1").stat().st_size < 1100


def test_it_is_opened_again_after_somebody_renamed_it(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path) as trace:
        path.rename(tmp_path / "old")
        trace.reopen()
        trace.received("c1", CPING)
    assert len(lines(path)) == 2


def test_many_threads_write_whole_lines(tmp_path):
    path = tmp_path / "trace"
    with TraceWriter(path) as trace:

        def write(name):
            for _ in range(50):
                trace.received(name, CPING)
                trace.sent(name, CPONG)

        threads = [threading.Thread(target=write, args=(f"c{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    events = list(read_capture(path.read_bytes()))
    assert len(events) == 800
    assert not any(event.packet.problem for event in events)


def test_a_failure_is_logged_once_and_the_trace_is_off(tmp_path, caplog):
    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    trace = TraceWriter(tmp_path / "trace")
    trace._file.close()
    trace._file = Full()
    with caplog.at_level(logging.ERROR, "paste_ajp.trace"):
        trace.received("c1", CPING)
        trace.received("c1", CPING)
    assert not trace.is_on
    assert len(caplog.records) == 1


def test_a_closed_trace_takes_anything_in_silence(tmp_path):
    trace = TraceWriter(tmp_path / "trace")
    trace.close()
    trace.close()
    trace.received("c1", CPING)
    trace.closed("c1")
    trace.reopen()
    assert len(lines(trace.path)) == 1
