"""Who is let in, by address and by secret, and what nobody gets to see."""

from __future__ import annotations

import io
import logging
import os
import socket
import stat
import threading

import pytest

from paste_ajp.addresses import Peers, parse_address
from paste_ajp.engine import threaded
from paste_ajp.engine.admission import NAMES_LAST, Admission
from paste_ajp.engine.listeners import BindError, open_listeners
from paste_ajp.engine.threaded import MOST_UNDECIDED
from paste_ajp.options import SettingError
from paste_ajp.serving import demand_secret
from paste_ajp.settings import Settings
from tests.engine.conftest import hello, wait_until
from tests.engine.front_end import forward

SECRET = "s3cret-and-long-enough-to-be-found"
GIVEN = {"attributes": {"secret": SECRET}}


# -- the secret ----------------------------------------------------------------------


def test_secret_lets_in_who_brings_it(serve):
    site = serve(hello, secret=SECRET)
    with site.connect() as front_end:
        assert front_end.ask(**GIVEN).body == b"hello"
        front_end.cping()  # which has none
        assert front_end.ask(**GIVEN).body == b"hello"
        assert front_end.ask().status == 403
        assert front_end.is_closed()


def test_secret_beyond_ascii_is_compared_as_its_bytes(serve):
    site = serve(hello, secret="gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}m")
    given = "gehe\xc3\xafm"  # UTF-8, as the front end's configuration file has it
    assert site.ask(attributes={"secret": given}).status == 200
    assert site.ask(attributes={"secret": "gehe\xefm"}).status == 403


def test_secret_is_read_from_a_file(serve, tmp_path):
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\nand a comment\n")
    site = serve(hello, secret_file=str(file))
    assert site.ask(**GIVEN).status == 200
    assert site.ask().status == 403


def test_secret_that_nobody_demands_is_ignored(serve):
    assert serve(hello).ask(**GIVEN).status == 200


@pytest.mark.parametrize("settings", [{"secret": SECRET}, {}], ids=["demanded", "not"])
def test_secret_is_nowhere_to_be_seen(serve, caplog, settings):
    """Not in environ, a repr, a log at DEBUG or a page with a traceback."""
    caplog.set_level(logging.DEBUG)
    errors = io.StringIO()
    seen = []

    def application(environ, start_response):
        request = environ["wsgi.input"]._exchange.request  # what a debugger reaches
        seen.append(f"{environ!r} {request!r}")
        environ["wsgi.errors"] = errors
        raise RuntimeError(f"failed with {environ!r} {request!r}")

    site = serve(application, check=False, debug=True, strict=True, **settings)
    page = site.ask("GET", "/a", headers=[("Cookie", "c=1")], **GIVEN)
    assert page.status == 500
    assert b"RuntimeError: failed with" in page.body
    wrong = site.ask(attributes={"secret": SECRET + "x"})
    site.ask(req_uri="/%zz", **GIVEN)
    assert wrong.status == (403 if settings else 500)
    everything = "".join(
        [
            *seen,
            page.body.decode(),
            wrong.body.decode(),
            caplog.text,
            errors.getvalue(),
            repr(site.server.settings),
            repr(site.server),
            repr(site.server._admission),
            repr(getattr(site.server, "__dict__", "compiled: it has none")),
            str(site.server.stats.as_dict()),
        ]
    )
    assert SECRET not in everything


def test_credentials_are_in_no_log(serve, caplog):
    caplog.set_level(logging.DEBUG)
    headers = [("Authorization", "Basic cGFzcw=="), ("Cookie", "session=77aa88")]
    site = serve(hello, access_log=True)
    site.ask("GET", "/a", headers=headers)
    site.ask("GET", "/%", headers=headers)
    assert "/a HTTP/1.1" in caplog.text
    assert "cGFzcw" not in caplog.text
    assert "77aa88" not in caplog.text


@pytest.mark.parametrize(
    ("listen", "settings", "starts"),
    [
        ("127.0.0.1:0", {}, True),
        ("[::1]:0", {}, True),
        ("unix:/run/ajp.sock", {}, True),
        ("0.0.0.0:0", {}, False),
        ("*:0", {}, False),
        ("192.0.2.1:0", {}, False),
        ("192.0.2.1:0", {"secret": SECRET}, True),
        ("192.0.2.1:0", {"secret_required": "false"}, True),
        ("127.0.0.1:0", {"secret_required": "true"}, False),
        ("127.0.0.1:0 192.0.2.1:0", {}, False),
    ],
)
def test_address_within_reach_of_others_needs_a_secret(listen, settings, starts):
    addresses = [parse_address(text) for text in listen.split()]
    made = Settings.parse({"listen": listen, **settings})
    if starts:
        demand_secret(made, addresses)
        return
    with pytest.raises(SettingError) as caught:
        demand_secret(made, addresses)
    for help_for in ("set secret", "ProxyPass", "worker.NAME.secret", "127.0.0.1"):
        assert help_for in str(caught.value)
    assert "secret_required = false" in str(caught.value)


def test_open_port_without_secret_is_warned_of(caplog):
    address = parse_address("192.0.2.1:8009")
    demand_secret(Settings(secret_required=False), [address])
    assert "192.0.2.1:8009 can claim to be any user" in caplog.text
    caplog.clear()
    allowed = Settings(secret_required=False, allowed_servers="192.0.2.7")
    demand_secret(allowed, [address])
    assert caplog.text == ""
    for everybody in ("*", "0.0.0.0/0", "192.0.2.7 ::/0", "::ffff:0.0.0.0/96"):
        allowed = Settings(secret_required=False, allowed_servers=everybody)
        demand_secret(allowed, [address])
        assert "192.0.2.1:8009 can claim to be any user" in caplog.text
        caplog.clear()


def test_secret_file_that_all_can_read_is_warned_of(tmp_path, caplog):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o644)
    demand_secret(Settings(secret_file=str(file)), [])
    assert f"can read secret_file = {file}: chmod o-r it" in caplog.text
    caplog.clear()
    file.chmod(0o640)
    demand_secret(Settings(secret_file=str(file)), [])
    assert caplog.text == ""


# -- the peer ------------------------------------------------------------------------


def test_peer_that_is_not_allowed_is_closed_at_once(serve, caplog):
    site = serve(hello, allowed_servers="192.0.2.0/24, 2001:db8::/32")
    with site.connect() as front_end:
        assert front_end.is_closed()
    assert "not in allowed_servers = 192.0.2.0/24, 2001:db8::/32" in caplog.text
    assert site.server.stats.turned_away == 1
    assert not site.server._channels


@pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.0/8", "localhost", "*"])
def test_peer_that_is_allowed_is_served(serve, allowed):
    assert serve(hello, allowed_servers=allowed).ask().body == b"hello"


def admission(names, resolve, clock=lambda: 0.0, **more):
    return Admission(Peers()(names), None, resolve=resolve, clock=clock, **more)


def test_allowed_name_is_looked_up_again_after_a_minute():
    places, now, asked = ["192.0.2.7"], [0.0], []

    def resolve(name):
        asked.append(name)
        return places

    judge = admission("10.0.0.0/8 front.example", resolve, lambda: now[0])
    assert not judge.must_look_up(("10.1.1.1", 1))  # a network needs no look-up
    assert judge.must_look_up(("192.0.2.7", 1))
    judge.look_up()
    assert judge.admits_peer(("192.0.2.7", 1))
    assert not judge.must_look_up(("192.0.2.8", 1))  # the answer still holds
    places[:] = ["192.0.2.8", "2001:db8::1"]
    now[0] = NAMES_LAST + 1
    assert not judge.must_look_up(("192.0.2.7", 1))  # it is served meanwhile
    assert judge.may_look_up(("192.0.2.7", 1))
    assert judge.must_look_up(("192.0.2.8", 1))
    assert not judge.may_look_up(("10.1.1.1", 1))
    judge.look_up()
    assert judge.admits_peer(("192.0.2.8", 1))
    assert judge.admits_peer(("2001:db8::1", 1, 0, 0))
    assert not judge.admits_peer(("192.0.2.7", 1))
    assert asked == ["front.example"] * 2


def test_name_without_an_answer_keeps_its_addresses():
    places = {"one.example": ["192.0.2.1"], "two.example": ["192.0.2.2"]}
    judge = admission("one.example two.example", places.get)
    judge.look_up()
    places.update({"one.example": [], "two.example": ["192.0.2.3"]})
    judge.look_up()
    judge.look_up()
    peers = [("192.0.2.1", 1), ("192.0.2.2", 1), ("192.0.2.3", 1)]
    assert [judge.admits_peer(peer) for peer in peers] == [True, False, True]


def test_peer_of_a_unix_socket_has_permissions_instead():
    judge = admission("192.0.2.1", lambda name: [])
    assert judge.admits_peer("")


def test_slow_look_up_stops_nobody(serve, monkeypatch):
    answer, asked = threading.Event(), threading.Event()

    def resolve(name):
        asked.set()
        assert answer.wait(10)
        return ["127.0.0.1"]

    monkeypatch.setattr(threaded, "_resolve", resolve)
    site = serve(hello, allowed_servers="front.example", threads=1)
    with site.connect() as first, site.connect() as second:
        first.send(forward())
        second.send(forward())
        assert asked.wait(10)
        wait_until(lambda: len(site.server._undecided) == 2)
        assert first.is_silent()
        answer.set()
        assert first.answer().body == b"hello"
        assert second.answer().body == b"hello"
        # Who has been let in is served while others wait for their judgement.
        answer.clear()
        site.server._admission._named = Peers()("192.0.2.1")
        site.server._admission._named_at -= NAMES_LAST + 1
        with site.connect() as third:
            wait_until(lambda: len(site.server._undecided) == 1)
            assert first.ask().body == b"hello"
            third.send(forward())
            answer.set()
            assert third.answer().body == b"hello"


def test_look_up_keeps_no_front_end_out_however_many_connections(
    serve, monkeypatch, caplog
):
    answer = threading.Event()

    def resolve(name):
        assert answer.wait(10)
        return ["127.0.0.1"]

    monkeypatch.setattr(threaded, "_resolve", resolve)
    site = serve(hello, allowed_servers="front.example")
    front_ends = [site.connect() for _ in range(MOST_UNDECIDED + 20)]
    for front_end in front_ends:
        front_end.send(forward())
    wait_until(lambda: len(site.server._undecided) == MOST_UNDECIDED)
    assert all(front_end.is_silent() for front_end in front_ends)
    answer.set()
    assert {front_end.answer().body for front_end in front_ends} == {b"hello"}
    assert site.server.stats.turned_away == 0
    assert "not in allowed_servers" not in caplog.text


def test_moved_name_is_noticed_without_a_stranger(serve, monkeypatch):
    """Whoever has the old address is served once more, and then no longer."""
    asked = []

    def resolve(name):
        asked.append(name)
        return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.8"]

    monkeypatch.setattr(threaded, "_resolve", resolve)
    site = serve(hello, allowed_servers="front.example")
    assert site.ask().body == b"hello"
    site.server._admission._named_at -= NAMES_LAST + 1
    assert site.ask().body == b"hello"
    wait_until(lambda: len(asked) == 2 and not site.server._looks_up)
    with site.connect() as front_end:
        assert front_end.is_closed()


def test_name_without_address_lets_nobody_in(serve, monkeypatch, caplog):
    look_up = socket.getaddrinfo

    def fail(host, *more, **named):
        if host == "front.example":
            raise socket.gaierror(-2, "Name or service not known")
        return look_up(host, *more, **named)

    monkeypatch.setattr(threaded.socket, "getaddrinfo", fail)
    with serve(hello, allowed_servers="front.example").connect() as front_end:
        assert front_end.is_closed()
    assert "front.example lets nobody new in" in caplog.text


# -- UNIX sockets --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["600", "660", "0666"])
def test_unix_socket_has_its_permissions(serve, tmp_path, mode):
    path = tmp_path / "ajp.sock"
    site = serve(hello, listen=f"unix:{path}", unix_socket_mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    assert site.ask().body == b"hello"
    site.stop()
    assert not path.exists()


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
)
def test_unix_socket_is_given_away(serve, tmp_path):
    path = tmp_path / "ajp.sock"
    serve(
        hello, listen=f"unix:{path}", unix_socket_owner="daemon", unix_socket_group="1"
    )
    found = path.stat()
    assert path.owner() == "daemon"
    assert found.st_gid == 1


@pytest.mark.parametrize("name", ["no-such-name", "²", "٣"])
@pytest.mark.parametrize("setting", ["unix_socket_owner", "unix_socket_group"])
def test_unix_socket_owner_must_exist(tmp_path, setting, name):
    path = tmp_path / "ajp.sock"
    made = Settings.parse({"listen": f"unix:{path}", setting: name})
    with pytest.raises(BindError, match=f"{setting} = '{name}': no such name"):
        open_listeners(made)
    assert not path.exists()


def test_socket_file_of_a_dead_server_is_replaced(serve, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "ajp.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert serve(hello, listen=f"unix:{path}").ask().body == b"hello"
    assert f"removed the stale socket file {path}" in caplog.text


def test_socket_file_of_a_living_server_stays(serve, tmp_path):
    path = tmp_path / "ajp.sock"
    site = serve(hello, listen=f"unix:{path}")
    with pytest.raises(BindError, match="Address already in use"):
        open_listeners(Settings.parse({"listen": f"unix:{path}"}))
    assert site.ask().body == b"hello"


def test_file_that_is_no_socket_stays(tmp_path):
    path = tmp_path / "ajp.sock"
    path.write_text("precious")
    with pytest.raises(BindError, match="no socket is in its place"):
        open_listeners(Settings.parse({"listen": f"unix:{path}"}))
    assert path.read_text() == "precious"
