"""Whose turn it is to accept, and who has too many, by counts in shared memory."""

from __future__ import annotations

import pytest

from paste_ajp.engine.balance import SharedCounts


@pytest.fixture
def counts():
    made = SharedCounts()
    yield made
    made.close()


def shares_of(counts, *connections):
    """Processes with so many connections; None for one that takes none."""
    shares = []
    for number in connections:
        share = counts.share(counts.take_slot())
        if number is None:
            share.close()
        else:
            share.set(number)
        shares.append(share)
    return shares


@pytest.mark.parametrize(
    ("connections", "may"),
    [
        ([0, 0], [True, True]),
        ([1, 0], [False, True]),
        ([3, 2, 2], [False, True, True]),
        ([5, None], [True, False]),
        ([7], [True]),
    ],
    ids=["none yet", "one more", "two have fewer", "the other takes none", "alone"],
)
def test_who_has_fewest_may_accept(counts, connections, may):
    shares = shares_of(counts, *connections)
    told = [
        share.may_accept()
        for share, number in zip(shares, connections, strict=True)
        if number is not None
    ]
    assert told == [
        m for m, number in zip(may, connections, strict=True) if number is not None
    ]


@pytest.mark.parametrize(
    ("connections", "surplus"),
    [
        ([21, 21, 22, 0], [5, 5, 6, 0]),
        ([17, 16, 16, 15], [0, 0, 0, 0]),
        ([2, 1], [0, 0]),
        ([4, 0], [2, 0]),
        ([40, 30, 30], [7, 0, 0]),
        ([9, None], [0, 0]),
        ([9], [0]),
    ],
    ids=[
        "a new one",
        "even",
        "few",
        "few, but uneven",
        "one more",
        "draining",
        "alone",
    ],
)
def test_who_has_more_than_its_share_gives_some_back(counts, connections, surplus):
    shares = shares_of(counts, *connections)
    assert [share.surplus() for share in shares] == surplus


def test_closed_share_stays_closed(counts):
    (share,) = shares_of(counts, 3)
    share.close()
    share.set(2)
    assert share.surplus() == 0
    assert shares_of(counts, 5)[0].may_accept()


def test_slot_of_a_dead_process_is_used_again(counts):
    first, second = counts.take_slot(), counts.take_slot()
    counts.share(first).set(0)
    counts.share(second).set(9)
    counts.free_slot(first)
    assert counts.share(second).may_accept()
    assert counts.take_slot() == first


def test_other_process_sees_the_same_counts(counts):
    slot, other = counts.take_slot(), counts.take_slot()
    seen_there = SharedCounts(counts.descriptor)
    counts.share(slot).set(4)
    there = seen_there.share(other)
    there.set(5)
    assert not there.may_accept()
    assert counts.share(slot).may_accept()
    del there
