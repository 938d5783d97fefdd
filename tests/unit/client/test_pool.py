import threading

import pytest

from paste_ajp.client.pool import Pool


class Connection:
    def __init__(self, name="c"):
        self.name = name
        self.closed = False

    def close(self):
        self.closed = True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_an_empty_pool_asks_to_open_a_connection():
    assert Pool(1, 60).take(0) == (True, None)


def test_a_full_pool_says_so_after_the_timeout():
    pool = Pool(1, 60)
    pool.take(0)
    assert pool.take(0.001) == (False, None)


def test_what_was_given_back_last_is_taken_first():
    pool = Pool(2, 60)
    old, new = Connection(), Connection()
    pool.take(0)
    pool.take(0)
    pool.give_back(old)
    pool.give_back(new)
    assert pool.take(0) == (True, new)
    assert pool.another() is old
    assert pool.another() is None


def test_a_place_given_up_can_be_taken_again():
    pool = Pool(1, 60)
    pool.take(0)
    pool.give_up()
    assert pool.take(0) == (True, None)


def test_whoever_waits_gets_the_place_that_becomes_free():
    pool = Pool(1, 60)
    pool.take(0)
    connection = Connection()
    got = []
    waiting = threading.Thread(target=lambda: got.append(pool.take(10)))
    waiting.start()
    pool.give_back(connection)
    waiting.join(10)
    assert got == [(True, connection)]


def test_idle_connections_grow_old_and_are_closed():
    clock = Clock()
    pool = Pool(2, 60, clock)
    old, new = Connection(), Connection()
    pool.take(0)
    pool.take(0)
    pool.give_back(old)
    clock.now += 50
    pool.give_back(new)
    clock.now += 11
    assert pool.take(0) == (True, new)
    assert (old.closed, new.closed) == (True, False)


def test_a_closed_pool_closes_what_comes_back_and_gives_nothing():
    pool = Pool(2, 60)
    idle, busy = Connection(), Connection()
    pool.take(0)
    pool.take(0)
    pool.give_back(idle)
    pool.close()
    pool.give_back(busy)
    assert (idle.closed, busy.closed) == (True, True)
    with pytest.raises(RuntimeError):
        pool.take(0)


def test_closing_wakes_whoever_waits():
    pool = Pool(1, 60)
    pool.take(0)
    errors = []

    def wait():
        try:
            pool.take(10)
        except RuntimeError as error:
            errors.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    pool.close()
    waiting.join(10)
    assert errors == ["the client is closed"]


def test_counts_tell_taken_and_idle():
    pool = Pool(3, 60)
    pool.take(0)
    pool.take(0)
    pool.give_back(Connection())
    assert pool.counts == (1, 1)


def test_a_pool_of_none_is_refused():
    with pytest.raises(ValueError) as caught:
        Pool(0, 60)
    assert str(caught.value) == "pool_size = 0: expected at least 1"
