"""The gateway and the HTTP door, in front of our server and of scripted ones."""

import http.client
import importlib
import io
import logging
import socket
import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from webtest import TestApp
from webtest.lint import middleware as lint

from paste_ajp.client import Gateway
from paste_ajp.http_door import (
    GatewaySettings,
    HttpDoorError,
    build_http_door,
    make_gateway,
    start_http_door,
)
from paste_ajp.options import SettingError
from paste_ajp.testing import serve_app
from tests.apps.site import application, pattern_sha256
from tests.engine.scripted import END_REUSE, HEAD, ScriptedServer, ask, body


@pytest.fixture(scope="module")
def site():
    with serve_app(
        application, threads=16, allowed_request_attributes="X_.*"
    ) as served:
        yield served


@pytest.fixture
def browser(site):
    """A WebTest browser in front of a gateway, WebTest's lint between them."""
    return TestApp(lint(site.gateway))


class QuietHandler(WSGIRequestHandler):
    """wsgiref's, without its lines on stderr."""

    def log_message(self, *arguments):
        pass


def call(gateway, **keys):
    told = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/x",
        "SCRIPT_NAME": "",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
    } | keys
    result = gateway(environ, lambda *head: told.append(head))
    text = b"".join(result)
    getattr(result, "close", lambda: None)()
    return told[0][0], dict(told[0][1]), text


# -- what goes through


def test_facts_about_the_request_go_through(browser):
    told = browser.get(
        "/dump/a%20b/caf%C3%A9?x=%41",
        headers={"Host": "www.example.com:8443", "X-Mine": "1"},
        extra_environ={
            "wsgi.url_scheme": "https",
            "SERVER_PORT": "8443",
            "REMOTE_ADDR": "192.0.2.7",
            "REMOTE_PORT": "5555",
            "REMOTE_USER": "bob",
            "AUTH_TYPE": "Digest",
            "SSL_CIPHER": "TLS_AES_256_GCM_SHA384",
            "SSL_CIPHER_USEKEYSIZE": "256",
            "SSL_PROTOCOL": "TLSv1.3",
            "SERVER_ADDR": "192.0.2.1",
        },
    ).json
    expected = {
        "PATH_INFO": "/dump/a b/caf\xc3\xa9",
        "QUERY_STRING": "x=%41",
        "HTTP_HOST": "www.example.com:8443",
        "HTTP_X_MINE": "1",
        "SERVER_NAME": "www.example.com",
        "SERVER_PORT": "8443",
        "HTTPS": "on",
        "wsgi.url_scheme": "https",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "5555",
        "REMOTE_USER": "bob",
        "AUTH_TYPE": "Digest",
        "SSL_CIPHER": "TLS_AES_256_GCM_SHA384",
        "SSL_CIPHER_USEKEYSIZE": "256",
        "SSL_PROTOCOL": "TLSv1.3",
        "SERVER_ADDR": "192.0.2.1",
    }
    assert {key: told.get(key) for key in expected} == expected


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")  # of WebTest's lint
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"]
)
def test_methods_go_through(browser, method):
    response = browser.request("/dump", method=method)
    assert response.json["REQUEST_METHOD"] == method


def test_a_mount_keeps_its_script_name(site):
    gateway = Gateway(site.client, send_script_name=True)
    told = TestApp(gateway).get("/m/dump", extra_environ={"SCRIPT_NAME": "/m"}).json
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/m", "/dump")


def test_a_path_in_the_target_takes_the_place_of_the_mount(site):
    gateway = Gateway(f"{site.url}/dump")
    told = TestApp(gateway).get("/m/x", extra_environ={"SCRIPT_NAME": "/m"}).json
    gateway.close()
    assert told["PATH_INFO"] == "/dump/x"


def test_chosen_environ_keys_become_request_attributes(site):
    gateway = Gateway(site.client, attributes=["X_MINE", "X_NONE"])
    told = TestApp(gateway).get("/dump", extra_environ={"X_MINE": "1"}).json
    assert told["X_MINE"] == "1"
    assert "X_NONE" not in told


@pytest.mark.parametrize("size", [0, 1, 8186, 8187, 300_000])
def test_bodies_go_through_both_ways(browser, size):
    sent = browser.post("/upload", b"x" * size).json
    assert sent["length"] == size
    got = browser.get(f"/download?size={size}")
    assert len(got.body) == size
    assert got.headers["X-Sha256"] == pattern_sha256(size)


def test_a_body_of_unknown_length_goes_through(site):
    status, _, text = call(
        site.gateway,
        REQUEST_METHOD="POST",
        PATH_INFO="/upload",
        HTTP_TRANSFER_ENCODING="chunked",
        **{"wsgi.input": io.BytesIO(b"x" * 20000), "wsgi.input_terminated": True},
    )
    assert status == "200 OK"
    assert b'"length": 20000' in text


def test_chunks_under_a_server_that_does_not_undo_them_are_411(site):
    """wsgiref gives the socket for wsgi.input, and the chunks with their framing."""
    with make_server(
        "127.0.0.1", 0, site.gateway, handler_class=QuietHandler
    ) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.create_connection(server.server_address, 10) as sock:
            sock.sendall(
                b"POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
                b"\r\n5\r\nhello\r\n0\r\n\r\n"
            )
            assert sock.recv(65536).startswith(b"HTTP/1.0 411 Length Required\r\n")
        thread.join(10)


def test_cookies_come_one_by_one(browser):
    response = browser.get("/cookies?count=30")
    assert len(response.headers.getall("Set-Cookie")) == 30


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified", "418 Teapot"])
def test_statuses_come_through(browser, line):
    response = browser.get("/status", {"status": line}, status="*")
    assert response.status == line


def test_pieces_are_passed_on_as_they_come(site):
    pieces = iter(
        site.gateway(
            {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/stream",
                "QUERY_STRING": "name=gateway&pieces=2",
                "wsgi.input": io.BytesIO(),
            },
            lambda *head: None,
        )
    )
    assert next(pieces) == b"piece 0\n"
    site.client.request("GET", "/release?name=gateway&piece=1").read()
    assert next(pieces) == b"piece 1\n"
    pieces.close()


def test_fifty_at_once_share_a_bounded_pool(site):
    gateway = Gateway(site.url, pool_size=8)
    statuses = []

    def ask_often():
        for _ in range(10):
            statuses.append(call(gateway, PATH_INFO="/hello")[0])

    threads = [threading.Thread(target=ask_often) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    taken, idle = gateway.client.connections
    gateway.close()
    assert statuses == ["200 OK"] * 500
    assert taken == 0
    assert idle <= 8


# -- what fails


def test_a_backend_that_is_down_is_503_with_what_to_check(tmp_path):
    gateway = Gateway(f"unix:{tmp_path}/none.sock", show_details=True)
    status, headers, text = call(gateway)
    assert status == "503 Service Unavailable"
    assert headers["Retry-After"] == "5"
    assert b"No such file or directory" in text
    assert text.count(b"none.sock") == 1
    assert b"paste-ajp ping" in text


def test_without_details_a_page_names_no_address(tmp_path):
    _, _, text = call(Gateway(f"unix:{tmp_path}/none.sock"))
    assert str(tmp_path).encode() not in text


def test_head_gets_no_page(tmp_path):
    gateway = Gateway(f"unix:{tmp_path}/none.sock")
    _, headers, text = call(gateway, REQUEST_METHOD="HEAD")
    assert text == b""
    assert int(headers["Content-Length"]) > 100


def failing(script, **settings):
    """The gateway's status for a scripted server."""
    with ScriptedServer(script) as server:
        gateway = Gateway(server.url, **settings)
        status, _, _ = call(gateway)
        gateway.close()
    return status


def test_silence_is_504():
    status = failing(lambda peer: (peer.packet(), peer.packet()), timeout=0.05)
    assert status == "504 Gateway Timeout"


def test_a_closed_connection_is_502():
    assert failing(lambda peer: peer.packet()) == "502 Bad Gateway"


def test_an_http_server_instead_of_an_ajp_server_is_502():
    def http_server(peer):
        peer.packet()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.packet()

    assert failing(http_server) == "502 Bad Gateway"


def test_a_header_that_would_split_is_502():
    def splitting(peer):
        peer.packet()
        # X: a CR LF Y: b
        peer.send(
            bytes.fromhex("41420018 04 00c8 0002 4f4b 00 0001 0001 58 00")
            + bytes.fromhex("0006 610d0a593a62 00"),
            END_REUSE,
        )
        peer.packet()

    assert failing(splitting) == "502 Bad Gateway"


def answering(head, *rest, **keys):
    """What the gateway makes of one answer."""

    def script(peer):
        peer.packet()
        peer.send(head, *rest, END_REUSE)
        peer.packet()

    with ScriptedServer(script) as server:
        gateway = Gateway(server.url)
        answer = call(gateway, **keys)
        gateway.close()
    return answer


def head_with_lengths(*values, status="00c8"):
    """Send Headers with these for Content-Length."""
    packet = bytes.fromhex(f"04 {status} 0002 4f4b 00 00 {len(values):02x}")
    for value in values:
        packet += b"\xa0\x03" + len(value).to_bytes(2, "big") + value + b"\0"
    return b"AB" + len(packet).to_bytes(2, "big") + packet


@pytest.mark.parametrize("values", [(b"2", b"5"), (b"-2",)])
def test_lengths_that_nobody_can_agree_on_are_502(values):
    status, _, _ = answering(head_with_lengths(*values), body(b"hello"))
    assert status == "502 Bad Gateway"


@pytest.mark.parametrize(
    ("method", "code", "length"),
    [("HEAD", "00c8", "5"), ("GET", "00cc", None), ("GET", "0130", "5")],
)
def test_an_answer_without_body_stays_without(method, code, length):
    head = head_with_lengths(b"5", b"5", status=code)
    _, headers, text = answering(head, body(b"hello"), REQUEST_METHOD=method)
    assert text == b""
    assert headers.get("Content-Length") == length


def test_headers_too_large_for_a_packet_are_431(site):
    status, _, _ = call(site.gateway, HTTP_X="a" * 9000)
    assert status == "431 Request Header Fields Too Large"


def test_an_upload_that_the_browser_gave_up_is_400_and_never_complete():
    seen = []

    def script(peer):
        peer.packet()
        peer.packet()
        peer.send(ask(100))
        seen.append(peer.packet())

    with ScriptedServer(script) as server:
        gateway = Gateway(server.url)
        status, _, _ = call(
            gateway,
            REQUEST_METHOD="POST",
            CONTENT_LENGTH="10",
            **{"wsgi.input": io.BytesIO(b"abc")},
        )
        server.done()
        gateway.close()
    assert status == "400 Bad Request"
    assert seen == [b""]


def test_a_browser_that_leaves_ends_the_exchange():
    gone = []

    def script(peer):
        peer.packet()
        peer.send(HEAD, body(b"one"))
        gone.append(peer.packet())

    with ScriptedServer(script) as server:
        gateway = Gateway(server.url)
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
        result = gateway(environ, lambda *head: None)
        assert next(iter(result)) == b"one"
        result.close()
        server.done()
        gateway.close()
    assert gone == [b""]


# -- the doors


def test_an_ini_section_makes_a_gateway():
    gateway = make_gateway(
        {"here": "/"},
        target="ajp://app:8010/x",
        timeout="500ms",
        packet_size="64K",
        poolSize="3",
    )
    assert str(gateway.client.address) == "app:8010"
    assert gateway.client.timeout == 0.5
    assert gateway.client.packet_size == 65536


def test_the_secret_of_a_gateway_may_stand_in_a_file(tmp_path):
    (tmp_path / "secret").write_text("s3cret\nsomething else\n")
    with serve_app(application, secret="s3cret") as served:
        gateway = make_gateway(
            {}, target=served.url, secret_file=str(tmp_path / "secret")
        )
        assert call(gateway, PATH_INFO="/hello")[0] == "200 OK"
        gateway.close()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "target = '': expected a host name or address after ajp://"),
        ({"target": "h", "timout": "1"}, "timout: no such setting; did you"),
        ({"target": "h", "poolSize": "x"}, "poolSize = 'x': expected"),
        ({"target": "h", "connectTimeout": "0"}, "connectTimeout = 0: expected"),
        (
            {"target": "h", "secret_file": "/none"},
            "secret_file = '/none': cannot be read: No such file",
        ),
        (
            {"target": "h", "secret_file": "/none", "secret": "x"},
            "secret_file = '/none': secret is given too",
        ),
        ({"target": "h", "timeout": "0"}, "timeout = 0: expected more than 0"),
        ({"target": "h", "pool_size": "0"}, "pool_size = '0': expected a whole"),
        ({"target": "http://h"}, "target = 'http://h': expected ajp://host:port"),
    ],
)
def test_a_wrong_section_is_refused_by_name(settings, problem):
    with pytest.raises(SettingError) as caught:
        make_gateway({}, **settings)
    assert str(caught.value).startswith(problem)


def get(url, path="/", method="GET", data=None):
    host = url.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request(method, path, data)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def threads_but_workers():
    """The server's workers, which come as they are needed, left out."""
    return {t for t in threading.enumerate() if "-worker-" not in t.name}


def test_the_http_door_leads_to_the_server(site, caplog):
    before = threads_but_workers()
    with caplog.at_level(logging.WARNING, "paste_ajp.gateway"):
        door = start_http_door("127.0.0.1:0", site.address)
    assert get(door.url, "/hello") == (200, b"Hello, World!\n")
    assert b'"length": 100000' in get(door.url, "/upload", "POST", b"x" * 100_000)[1]
    door.close()
    door.close()
    assert "FOR DEVELOPMENT ONLY" in caplog.text
    deadline = time.monotonic() + 10
    while left := threads_but_workers() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    with pytest.raises(OSError):
        get(door.url)


@pytest.mark.parametrize("requests", [0, 1])
def test_a_door_closes_at_any_moment(site, requests):
    """Its loop may wake, and end, while close() is about to wake it."""
    for _ in range(10):
        door = start_http_door("127.0.0.1:0", site.address)
        for _ in range(requests):
            get(door.url, "/hello")
        closing = [threading.Thread(target=door.close) for _ in range(3)]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join(10)
        assert not any(thread.is_alive() for thread in closing)


@pytest.mark.parametrize(("host", "warns"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_a_door_to_everybody_is_warned_of(site, caplog, host, warns):
    with caplog.at_level(logging.WARNING, "paste_ajp.gateway"):
        build_http_door(f"{host}:0", GatewaySettings(target=site.url)).close()
    assert ("other hosts can open it" in caplog.text) is warns


def test_a_door_that_was_never_started_closes(site):
    door = build_http_door("127.0.0.1:0", GatewaySettings(target=site.url))
    door.close()
    door.run()  # returns at once


def test_the_door_knows_the_secret_and_the_packet_size():
    settings = {"secret": "s3cret", "packet_size": 65536}
    with serve_app(application, **settings) as served:
        door = start_http_door("127.0.0.1:0", served.address, served.server.settings)
        with door:
            assert get(door.url, "/hello")[0] == 200


def test_a_port_that_is_taken_is_an_error(site):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            start_http_door(f"127.0.0.1:{port}", site.address)


@pytest.mark.parametrize("address", ["nowhere", "unix:/x", "h:99999"])
def test_an_odd_http_address_is_refused(address):
    with pytest.raises(SettingError):
        start_http_door(address, "127.0.0.1:1")


def test_without_waitress_the_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(HttpDoorError) as caught:
        start_http_door("127.0.0.1:0", "127.0.0.1:1")
    assert "pip install paste_ajp[http]" in str(caught.value)
