import io

import pytest

from paste_ajp.commands.progress import Progress, readable


def test_a_long_transfer_shows_a_bar():
    now = [0.0]
    shown = io.StringIO()
    bar = Progress("up", 2048, enabled=True, stream=shown, clock=lambda: now[0])
    bar.add(512)
    assert shown.getvalue() == ""
    now[0] = 2.0
    bar.add(512)
    bar.finish()
    assert (
        "[###############...............]  50%  1.0 KiB of 2.0 KiB" in shown.getvalue()
    )
    assert shown.getvalue().endswith("\n")


def test_a_transfer_of_unknown_length_shows_what_has_gone():
    now = [0.0]
    shown = io.StringIO()
    bar = Progress("down", None, enabled=True, stream=shown, clock=lambda: now[0])
    now[0] = 2.0
    bar.add(3 * 1024 * 1024)
    assert "down 3.0 MiB  1.5 MiB/s" in shown.getvalue()


def test_no_bar_where_none_is_wanted():
    shown = io.StringIO()
    bar = Progress("up", 1, enabled=False, stream=shown, clock=lambda: 99.0)
    bar.add(1)
    bar.finish()
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1536, "1.5 KiB"), (1 << 31, "2.0 GiB")],
)
def test_sizes_are_readable(count, text):
    assert readable(count) == text
