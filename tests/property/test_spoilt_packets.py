"""Real packets and sequences, spoilt: whatever comes in, what has to hold holds.

The checks are those of tests/fuzz, which runs them by the million, by hand.
"""

from __future__ import annotations

import random
import threading

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.captures import load_captures
from tests.fuzz.mutations import payloads, sequences, some_sequence, spoil_payload
from tests.fuzz.targets import LiveTarget, check_answers, try_connection, try_decoder

seeds = st.integers(0, 2**48)
#: Captures that, sent at once and with the end right behind them, were once left
#: waiting for ever: an edge-triggered poller had told of all of it already.
AT_ONCE = [
    ("lighttpd/get",),
    ("lighttpd/post-12000",),
    ("httpd/post-12000", "mod_jk/get"),
    ("lighttpd/put-8186", "lighttpd/post-12000", "lighttpd/get"),
]


@pytest.mark.parametrize("payload", payloads())
def test_captured_payload_decodes(payload):
    assert try_decoder(payload) is not None


@given(seeds)
@settings(max_examples=1500)
def test_spoilt_payload_is_decoded_or_refused(seed):
    chance = random.Random(seed)
    try_decoder(spoil_payload(chance.choice(payloads()), chance))


@given(st.binary(max_size=200))
@example(b"")
@example(b"\x02")
@settings(max_examples=300)
def test_any_bytes_are_decoded_or_refused(data):
    try_decoder(data)
    try_decoder(b"\x02\x02\x00\x08HTTP/1.1\x00\x00\x01/\x00" + data)


@pytest.mark.parametrize("packets", sequences(), ids=lambda packets: None)
def test_captured_sequence_is_taken_in(packets):
    try_connection(b"".join(packets))


@given(seeds)
@settings(max_examples=1500)
def test_spoilt_sequence_never_confuses_a_connection(seed):
    try_connection(b"".join(some_sequence(random.Random(seed))))


@pytest.fixture(scope="module")
def live():
    before = threading.active_count()
    target = LiveTarget()
    yield target
    target.check_leaks()
    target.close()
    assert threading.active_count() == before


@given(seeds)
@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_spoilt_sequence_leaves_a_server_that_serves(live, seed):
    live.try_sequence(some_sequence(random.Random(seed)))


@pytest.mark.parametrize("names", AT_ONCE, ids=" ".join)
def test_sequence_sent_at_once_is_served_to_its_end(live, names):
    packets = [
        packet
        for name in names
        for capture in load_captures(name)
        for packet in capture.packets
    ]
    for repeat in range(20):
        live.try_sequence([*packets, b"\x12\x34\x00\x00" * (repeat % 3)])


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"AB\x00\x02\x05\x01", "without headers"),
        (b"AB\x00\x04\x03\x00\x00\x00", "without headers"),
        (b"AB\x00\x09\x05\x01", "cut inside"),
        (b"XY\x00\x01\x09", "XY"),
    ],
)
def test_answers_out_of_order_would_be_noticed(answer, problem):
    with pytest.raises(AssertionError, match=problem):
        check_answers(answer)
