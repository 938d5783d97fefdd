"""Messages between a parent and a child."""

from __future__ import annotations

import pytest

from paste_ajp.engine.link import Link


@pytest.fixture
def ends():
    one, other = Link.pair()
    yield one, other
    one.close()
    other.close()


def test_messages_arrive_in_their_order(ends):
    one, other = ends
    one.send("first")
    one.send({"second": 2})
    assert other.receive() == ["first", {"second": 2}]
    assert other.receive() == []


def test_long_message_arrives_whole(ends):
    one, other = ends
    one.send("x" * 100_000)
    assert other.receive() == ["x" * 100_000]


def test_waiting_ends_with_a_message(ends):
    one, other = ends
    assert not other.wait(0)
    one.send("here")
    assert other.wait(5)


def test_last_words_come_before_the_end(ends):
    one, other = ends
    one.send("farewell")
    one.close()
    assert other.receive() == ["farewell"]
    with pytest.raises(EOFError):
        other.receive()


def test_nobody_to_hear_is_no_trouble(ends):
    one, other = ends
    other.close()
    one.send("hello?")
    one.send("hello?")
