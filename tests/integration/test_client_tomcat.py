"""The client and the gateway against Tomcat, a container that is not ours.

Our client and our server could agree in error; Tomcat does not agree by itself.
"""

import contextlib
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from webtest import TestApp
from webtest.lint import middleware as lint

from paste_ajp.client import BadAnswer, Client, ConnectionLost, Gateway
from paste_ajp.protocol import LocalProtocolError
from tests.apps.site import pattern, pattern_sha256
from tests.integration.tomcat import Tomcat

SECRET = "s3cret, of Tomcat"
LARGE = 100_000_000


@pytest.fixture(
    scope="module",
    params=[
        pytest.param({}, id="plain"),
        pytest.param({"secret": SECRET}, id="secret"),
        pytest.param({"packet_size": 65536}, id="64K packets"),
    ],
)
def tomcat(request):
    with Tomcat(**request.param) as tomcat:
        yield tomcat


@pytest.fixture
def client(tomcat):
    with Client(
        f"ajp://127.0.0.1:{tomcat.port}",
        secret=tomcat.secret,
        packet_size=tomcat.packet_size,
    ) as client:
        yield client


def told(response):
    """The lines of the servlet as a mapping."""
    lines = response.read().decode().splitlines()
    return dict(line.split(": ", 1) for line in lines)


def uploaded(response):
    facts = told(response)
    return int(facts["length"]), facts["sha256"]


@pytest.mark.smoke
def test_a_request_arrives_as_it_was_meant(client):
    facts = told(
        client.request(
            "GET",
            "/dump/a%20b;v=1",
            query="x=%41&y",
            headers={"Host": "www.example.com:8443", "X-Mine": "caf\xe9"},
            attributes={
                "remote_user": "bob",
                "ssl_cipher": "TLS_AES_256_GCM_SHA384",
                "ssl_key_size": 256,
            },
            is_ssl=True,
            remote_addr="192.0.2.7",
            remote_port=5555,
        )
    )
    expected = {
        "method": "GET",
        "protocol": "HTTP/1.1",
        "uri": "/dump/a%20b;v=1",
        "query": "x=%41&y",
        "remote_addr": "192.0.2.7",
        "remote_port": "5555",
        "server_name": "www.example.com",
        "server_port": "8443",
        "scheme": "https",
        "remote_user": "bob",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "key_size": "256",
        "header x-mine": "caf\xe9",
    }
    assert {name: facts.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    "method",
    ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "SEARCH", "get"],
)
def test_methods(client, method):
    assert told(client.request(method, "/dump"))["method"] == method


def test_head_has_headers_and_no_body(client):
    response = client.request("HEAD", "/download?size=12345")
    assert response.header("content-length") == "12345"
    assert response.read() == b""
    assert client.connections == (0, 1)


@pytest.mark.parametrize("size", [0, 1, 8185, 8186, 8187, 65530, 65531, 1_000_000])
@pytest.mark.parametrize("kind", ["bytes", "file", "chunks"])
def test_uploads(client, size, kind):
    data = b"".join(pattern(size))
    makers = {
        "bytes": lambda: data,
        "file": lambda: io.BytesIO(data),
        "chunks": lambda: pattern(size),
    }
    response = client.request("POST", "/upload", body=makers[kind]())
    assert uploaded(response) == (size, hashlib.sha256(data).hexdigest())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["length", "chunks"])
def test_a_large_upload(client, kind):
    headers = {"Content-Length": str(LARGE)} if kind == "length" else {}
    body = pattern(LARGE)
    response = client.request("PUT", "/upload", body=body, headers=headers)
    assert uploaded(response) == (LARGE, pattern_sha256(LARGE))


@pytest.mark.slow
def test_a_large_download(client):
    digest = hashlib.sha256()
    with client.request("GET", f"/download?size={LARGE}") as response:
        for piece in response:
            digest.update(piece)
    assert digest.hexdigest() == pattern_sha256(LARGE)


def test_one_connection_serves_request_after_request(client):
    for size in (0, 10, 20_000):
        client.request("POST", "/unread", body=b"x" * size).read()
        assert uploaded(client.request("POST", "/upload", body=b"y" * size))[0] == size
        client.cping()
    assert client.connections == (0, 1)


def test_cookies_and_statuses(client):
    response = client.request("GET", "/cookies?count=50")
    cookies = [value for name, value in response.headers if name == "Set-Cookie"]
    assert cookies == [f"cookie{n}=value{n}" for n in range(50)]
    response.close()
    with client.request("GET", "/status?status=418") as response:
        assert response.status == 418


def test_flushes_arrive(client):
    response = client.request("GET", "/flush")
    pieces = list(response.chunks(flushes=True))
    assert pieces[:3] == [b"first\n", b"", b"second\n"]


def test_an_answer_that_breaks_off_never_looks_complete(client):
    response = client.request("POST", "/fail", query="length=10", body=b"x")
    # A closed connection would do, too; Tomcat 10.1.55 sends an End Response.
    with pytest.raises((BadAnswer, ConnectionLost)):
        response.read()


def test_a_connection_is_not_kept_after_an_answer_that_broke_off(client):
    response = client.request("POST", "/fail", body=b"x")
    # Without a length the client cannot tell an End Response from a good one.
    with contextlib.suppress(ConnectionLost):
        response.read()
    assert client.connections == (0, 0)


def test_headers_up_to_the_packet_size(client, tomcat):
    value = "a" * (tomcat.packet_size - 400)
    facts = told(client.request("GET", "/dump", headers={"X-Large": value}))
    assert facts["header x-large"] == value
    with pytest.raises(LocalProtocolError):
        client.request("GET", "/dump", headers={"X-Large": value + "a" * 400})


def test_a_wrong_secret_is_403_and_no_connection_is_kept(tomcat):
    with Client(f"ajp://127.0.0.1:{tomcat.port}", secret="wrong") as client:
        response = client.request("POST", "/upload", body=b"x" * 20_000)
        assert response.status == (403 if tomcat.secret else 200)
        response.read()
        assert client.connections == ((0, 0) if tomcat.secret else (0, 1))


def test_many_threads_share_the_pool(client):
    def ask(number):
        data = b"%d" % number * 1000
        sent = uploaded(client.request("POST", "/upload", body=data))
        return sent == (len(data), hashlib.sha256(data).hexdigest())

    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(ask, range(200)))
    taken, idle = client.connections
    assert taken == 0
    assert idle <= 8


def test_the_gateway_leads_there(client):
    browser = TestApp(lint(Gateway(client)))
    response = browser.post("/upload", b"x" * 50_000)
    assert "length: 50000" in response.text
    response = browser.get(
        "/dump/a%2Fb?x=1",
        extra_environ={"REQUEST_URI": "/dump/a%2Fb?x=1", "REMOTE_USER": "bob"},
        status="*",
    )
    # Tomcat refuses encoded slashes, which shows that it has seen one
    assert response.status_int == 400
    response = browser.get("/dump/caf%C3%A9", extra_environ={"REMOTE_USER": "bob"})
    assert "uri: /dump/caf%C3%A9\n" in response.text
    assert "remote_user: bob\n" in response.text
