import pytest

from paste_ajp.addresses import Peers
from paste_ajp.engine.admission import NAMES_LAST, Admission
from tests.unit.wsgi.fake_exchange import forward


def admission(allowed=None, secret=None, **more):
    more.setdefault("resolve", lambda name: pytest.fail("looked up"))
    more.setdefault("clock", lambda: 0.0)
    return Admission(Peers()(allowed) if allowed else None, secret, **more)


@pytest.mark.parametrize(
    ("allowed", "peer", "admitted"),
    [
        (None, ("192.0.2.1", 5), True),
        ("*", ("192.0.2.1", 5), True),
        ("127.0.0.1", ("127.0.0.1", 5), True),
        ("127.0.0.1", ("127.0.0.2", 5), False),
        ("10.0.0.0/8", ("10.255.0.1", 5), True),
        ("10.0.0.0/8", ("::ffff:10.0.0.1", 5, 0, 0), True),
        ("localhost", ("::1", 5, 0, 0), True),
        ("fe80::/10", ("fe80::1%eth0", 5, 0, 2), True),
        ("10.0.0.0/8", "", True),
        ("10.0.0.0/8", b"", True),
    ],
)
def test_peer_is_admitted_by_its_address(allowed, peer, admitted):
    assert admission(allowed).admits_peer(peer) is admitted
    assert admission(allowed).must_look_up(peer) is False


def test_name_is_looked_up_and_believed_for_a_while():
    now = [100.0]
    addresses = {"web.example": ["192.0.2.1"], "other.example": []}
    judge = admission(
        "web.example, other.example", resolve=addresses.get, clock=lambda: now[0]
    )
    known, other = ("192.0.2.1", 5), ("192.0.2.2", 5)
    assert not judge.admits_peer(known)
    assert judge.must_look_up(known)
    judge.look_up()
    assert judge.admits_peer(known)
    assert not judge.admits_peer(other)
    assert not judge.must_look_up(other)
    now[0] += NAMES_LAST + 1
    addresses["web.example"] = ["192.0.2.2"]
    assert judge.must_look_up(other)
    judge.look_up()
    assert judge.admits_peer(other)
    assert not judge.admits_peer(known)


def test_look_up_without_names_finds_nobody():
    judge = admission()
    judge.look_up()
    assert judge.admits_peer(("192.0.2.1", 5))


SECRET = {"attributes": {"secret": "s3cret"}}


@pytest.mark.parametrize(
    ("limits", "request_", "status"),
    [
        ({}, forward(), None),
        ({"secret": b"s3cret"}, forward(**SECRET), None),
        ({"secret": b"s3cret"}, forward(), 403),
        ({"secret": b"S3CRET"}, forward(**SECRET), 403),
        ({"secret": b"s3"}, forward(**SECRET), 403),
        ({}, forward(**SECRET), None),
        ({"secret": b""}, forward(), 403),
        ({"secret": b"\xe9"}, forward(attributes={"secret": "\xe9"}), None),
        ({"max_body": 9}, forward("POST", headers=[("Content-Length", "9")]), None),
        ({"max_body": 9}, forward("POST", headers=[("Content-Length", "10")]), 413),
        ({"max_body": 9}, forward("POST"), None),
        ({"max_header_bytes": 5}, forward(headers=[("X", "1234")]), None),
        ({"max_header_bytes": 5}, forward(headers=[("X", "12345")]), 431),
    ],
)
def test_request_is_refused_for_what_the_settings_forbid(limits, request_, status):
    judge = admission(**limits)
    refusal = judge.refusal(request_)
    assert (refusal[0] if refusal else None) == status
    assert judge.judges_requests is bool(limits)


def test_secret_does_not_stay_in_the_request():
    request = forward(**SECRET)
    admission(secret=b"s3cret").refusal(request)
    assert request.attributes == {}
