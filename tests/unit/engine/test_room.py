"""How descriptors are shared out, and so how many connections there may be."""

from __future__ import annotations

import pytest

from paste_ajp.engine import room
from paste_ajp.engine.room import Room, room_for_connections
from paste_ajp.settings import Settings

resource = pytest.importorskip("resource")

NO_LIMIT = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch):
    """The process's limits of descriptors, soft and hard, as the test sets them."""
    limits = [1024, 1024]

    def set_limits(which, found):
        assert which == resource.RLIMIT_NOFILE
        limits[:] = found

    monkeypatch.setattr(room.resource, "getrlimit", lambda which: tuple(limits))
    monkeypatch.setattr(room.resource, "setrlimit", set_limits)
    return limits


def room_with(**settings):
    return room_for_connections(Settings.parse({"threads": 8, **settings}))


def test_soft_limit_is_raised_for_connections_application_and_files(limits):
    limits[:] = [1024, 1 << 20]
    assert room_with(max_connections=5000) == Room(5000, "max_connections", 128)
    assert limits == [5000 + 64 + 8 * 4 + 128, 1 << 20]


@pytest.mark.parametrize(
    ("limit", "settings", "connections", "files"),
    [
        pytest.param(1024, {}, 1024 - 96 - 128, 128, id="usual"),
        pytest.param(1024, {"max_unsent": 0}, 1024 - 96, 0, id="no files"),
        pytest.param(1024, {"max_unsent": "1G"}, 1024 - 96 - 128, 128, id="many files"),
        pytest.param(1024, {"max_connections": 0}, 1024 - 96 - 128, 128, id="any"),
        pytest.param(64, {}, 64 - 16 - 8, 8, id="scarce"),
    ],
)
def test_limit_is_shared_out(limits, limit, settings, connections, files):
    limits[:] = [limit, limit]
    named = f"the limit of {limit} descriptors"
    assert room_with(**settings) == Room(connections, named, files)


def test_no_more_files_than_connections(limits):
    limits[:] = [1024, 1024]
    assert room_with(max_connections=10) == Room(10, "max_connections", 10)


def test_without_a_limit_the_settings_hold(limits):
    limits[:] = [NO_LIMIT, NO_LIMIT]
    assert room_with(max_connections=0) == Room(0, "max_connections", 128)
