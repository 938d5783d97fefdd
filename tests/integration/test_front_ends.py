"""Requests and responses arrive whole through each front end."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.apps.site import pattern, pattern_sha256
from tests.integration.certificates import Certificates
from tests.integration.frontends import (
    PASSWORD,
    USER,
    FrontEnd,
    Httpd,
    HttpdJk,
    Lighttpd,
)
from tests.integration.relay import Relay
from tests.integration.remote import Remote, ask, basic
from tests.integration.server import Server, serving_process

MEGABYTE = 1 << 20


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def some_bytes(size: int) -> bytes:
    return b"".join(pattern(size))


# -- methods, paths, headers ---------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "REPORT"]
)
def test_method_arrives(front_end: FrontEnd, method: str) -> None:
    if method == "PATCH" and front_end.name == "lighttpd":
        pytest.skip("lighttpd does not forward PATCH over AJP")
    body = None if method in ("GET", "DELETE", "OPTIONS") else b"some body"
    told = ask(front_end.port, method, "/dump", body).json()
    assert told["REQUEST_METHOD"] == method
    assert told["body.length"] == len(body or b"")


@pytest.mark.smoke
def test_head_has_the_headers_and_no_body(front_end: FrontEnd) -> None:
    with Remote(front_end.port) as remote:
        answer = remote.ask("HEAD", "/hello")
        assert (answer.status, answer.body) == (200, b"")
        assert answer.header("Content-Type") == "text/plain"
        # and nothing of a body stands in the way of what follows
        assert remote.get("/hello").body == b"Hello, World!\n"


@pytest.mark.parametrize(
    ("sent", "path_info"),
    [
        pytest.param("/dump/plain", "/dump/plain", id="plain"),
        pytest.param("/dump/sp%20ace", "/dump/sp ace", id="space"),
        pytest.param("/dump/caf%C3%A9", "/dump/caf\xc3\xa9", id="UTF-8"),
        pytest.param("/dump/caf%E9", "/dump/caf\xe9", id="Latin-1"),
        pytest.param("/dump/a%2Fb", "/dump/a/b", id="slash"),
        pytest.param("/dump/%2541", "/dump/%41", id="decoded once only"),
        pytest.param("/dump/a%3Bb%3Fc%23d", "/dump/a;b?c#d", id="delimiters"),
        pytest.param("/dump/x;session=1", "/dump/x;session=1", id="parameters"),
        pytest.param("/", "/", id="root"),
    ],
)
def test_path_is_decoded_once(front_end: FrontEnd, sent: str, path_info: str) -> None:
    told = ask(front_end.port, "GET", sent).json()
    assert told["PATH_INFO"] == path_info
    assert told["SCRIPT_NAME"] == ""


@pytest.mark.parametrize("path", ["/dump/sp%20ace", "/dump/%2541", "/dump/caf%C3%A9"])
def test_request_uri_is_as_the_remote_sent_it(front_end: FrontEnd, path: str) -> None:
    told = ask(front_end.port, "GET", f"{path}?q=%20").json()
    assert told["REQUEST_URI"] == f"{path}?q=%20"


@pytest.mark.parametrize("query", ["a=1&b=2", "q=%C3%A9+x%26", "", "no-equals-sign"])
def test_query_string_arrives(front_end: FrontEnd, query: str) -> None:
    told = ask(front_end.port, "GET", f"/dump?{query}").json()
    assert told["QUERY_STRING"] == query


@pytest.mark.smoke
def test_environ_tells_both_ends(front_end: FrontEnd) -> None:
    told = ask(
        front_end.port, "GET", "/dump", headers={"X-Test": "1", "Host": "example.com"}
    ).json()
    assert told["REMOTE_ADDR"] == "127.0.0.1"
    assert told["SERVER_NAME"] == "example.com"
    assert told["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert told["HTTP_HOST"] == "example.com"
    assert told["HTTP_X_TEST"] == "1"
    assert told["wsgi.url_scheme"] == "http"
    assert told["wsgi.version"] == [1, 0]
    assert told["wsgi.multithread"] is True
    assert "HTTPS" not in told
    if front_end.name != "lighttpd":
        assert told["REMOTE_PORT"].isdigit()
        assert told["SERVER_ADDR"] == "127.0.0.1"


def test_header_values_keep_their_bytes(front_end: FrontEnd) -> None:
    headers = {"X-Latin": "caf\xe9", "X-Utf-8": "caf\xc3\xa9"}
    told = ask(front_end.port, "GET", "/dump", headers=headers).json()
    assert told["HTTP_X_LATIN"] == "caf\xe9"
    assert told["HTTP_X_UTF_8"] == "caf\xc3\xa9"


def test_dangerous_headers_do_not_arrive(front_end: FrontEnd) -> None:
    headers = {"Proxy": "http://127.0.0.1/", "X_Forwarded_For": "1.2.3.4"}
    told = ask(front_end.port, "GET", "/dump", headers=headers).json()
    assert "HTTP_PROXY" not in told
    assert "HTTP_X_FORWARDED_FOR" not in told


@pytest.mark.smoke
def test_hundred_cookies_reach_the_remote(front_end: FrontEnd) -> None:
    answer = ask(front_end.port, "GET", "/cookies?count=100")
    assert answer.all_headers("Set-Cookie") == [
        f"cookie{i}=value{i}; Path=/" for i in range(100)
    ]
    assert answer.body == b"cookies\n"


@pytest.mark.parametrize("line", ["201 Created", "404 Not Found", "503 Closed"])
def test_status_and_headers_reach_the_remote(front_end: FrontEnd, line: str) -> None:
    asked = f"{line}&header=X-One: 1&header=ETag: %22x%22&header=X-One: 2"
    answer = ask(front_end.port, "GET", f"/status?status={asked}".replace(" ", "+"))
    assert answer.status == int(line[:3])
    assert answer.all_headers("X-One") == ["1", "2"]
    assert answer.header("ETag") == '"x"'
    assert answer.body == f"{line}\n".encode()


@pytest.mark.parametrize("line", ["204 No Content", "304 Not Modified"])
def test_status_without_body_leaves_the_connection_usable(
    front_end: FrontEnd, line: str
) -> None:
    with Remote(front_end.port) as remote:
        answer = remote.get(f"/status?status={line.replace(' ', '+')}")
        assert (answer.status, answer.body) == (int(line[:3]), b"")
        assert remote.get("/hello").body == b"Hello, World!\n"


def test_failure_before_the_headers_is_a_500(front_end: FrontEnd) -> None:
    answer = ask(front_end.port, "GET", "/fail?when=before")
    assert answer.status == 500
    assert b"on purpose" not in answer.body


@pytest.mark.parametrize("length", ["", "&length=100"])
def test_failure_after_the_headers_does_not_look_complete(
    front_end: FrontEnd, length: str
) -> None:
    if front_end.name == "mod_jk" or (front_end.name == "lighttpd" and not length):
        # lighttpd tells if it had begun to stream, which depends on the moment.
        pytest.skip(f"{front_end.name} may hide that the container broke off")
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(front_end.port, "GET", f"/fail?when=after{length}")
    assert caught.value.partial.endswith(b"a beginning\n")
    assert ask(front_end.port, "GET", "/hello").status == 200


# -- bodies --------------------------------------------------------------------

SIZES = [0, 1, 2, 5, 8183, 8184, 8185, 8186, 8187, 8188, 16372, 16376, MEGABYTE + 1]


@pytest.mark.smoke
@pytest.mark.parametrize("size", SIZES)
def test_upload_arrives_whole(front_end: FrontEnd, size: int) -> None:
    body = some_bytes(size)
    told = ask(front_end.port, "POST", "/upload", body).json()
    assert told == {"length": size, "sha256": sha256(body)}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\0\0", id="reads as EOF"),
        pytest.param(b"\x00\x03abc", id="reads as a chunk"),
        pytest.param(b"\x02\x04\x00\x08HTTP/1.1\x00", id="reads as a request"),
        pytest.param(b"\x0a", id="reads as CPing"),
        pytest.param(b"\x12\x34\x00\x01\x0a", id="reads as a CPing packet"),
    ],
)
def test_upload_that_looks_like_ajp_arrives_whole(
    front_end: FrontEnd, body: bytes
) -> None:
    told = ask(front_end.port, "POST", "/upload", body).json()
    assert told == {"length": len(body), "sha256": sha256(body)}


@pytest.mark.smoke
@pytest.mark.parametrize("size", SIZES)
def test_download_arrives_whole(front_end: FrontEnd, size: int) -> None:
    answer = ask(front_end.port, "GET", f"/download?size={size}")
    assert answer.body == some_bytes(size)


@pytest.mark.parametrize("size", [0, 8184, MEGABYTE])
def test_download_of_unknown_length_arrives_whole(
    front_end: FrontEnd, size: int
) -> None:
    answer = ask(front_end.port, "GET", f"/download?size={size}&length=no")
    assert answer.body == some_bytes(size)


@pytest.mark.slow
def test_upload_of_100_megabytes_arrives_whole(front_end: FrontEnd) -> None:
    size = 100 * MEGABYTE
    told = ask(
        front_end.port,
        "POST",
        "/upload",
        pattern(size),
        {"Content-Length": str(size)},
        timeout=120,
    ).json()
    assert told == {"length": size, "sha256": pattern_sha256(size)}


@pytest.mark.slow
def test_download_of_100_megabytes_arrives_whole(front_end: FrontEnd) -> None:
    size = 100 * MEGABYTE
    digest = hashlib.sha256()
    with Remote(front_end.port, timeout=120) as remote:
        response = remote.send("GET", f"/download?size={size}")
        length = 0
        while data := response.read(65536):
            digest.update(data)
            length += len(data)
    assert length == size
    assert digest.hexdigest() == response.headers["X-Sha256"] == pattern_sha256(size)


@pytest.mark.smoke
@pytest.mark.parametrize("size", [0, 1, 8186, 100_000])
def test_upload_without_length_arrives_whole(front_end: FrontEnd, size: int) -> None:
    body = some_bytes(size)
    pieces = [body[at : at + 3001] for at in range(0, size, 3001)]
    told = ask(front_end.port, "POST", "/upload", pieces, chunked=True).json()
    assert told == {"length": size, "sha256": sha256(body)}


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_body_comes_back_while_it_still_arrives(
    front_end: FrontEnd, chunked: bool
) -> None:
    body = some_bytes(300_000)
    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    headers = {} if chunked else {"Content-Length": str(len(body))}
    answer = ask(front_end.port, "POST", "/echo", pieces, headers, chunked=chunked)
    assert answer.body == body


@contextlib.contextmanager
def over_one_connection(front_end: str, relay: Relay) -> Iterator[FrontEnd]:
    """A front end that may have but one connection to the container."""
    made: FrontEnd
    if front_end == "httpd":
        made = Httpd(ajp_port=relay.port, worker="max=1")
    elif front_end == "mod_jk":
        made = HttpdJk(
            ajp_port=relay.port, properties="worker.app.connection_pool_size=1"
        )
    else:
        made = Lighttpd(ajp_port=relay.port)
    with made:
        yield made


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["httpd", "mod_jk", "lighttpd"])
def test_request_after_an_unread_body_is_not_confused(
    name: str, server: Server
) -> None:
    # what an unread chunk would say if it were taken for a packet
    trap = b"\x12\x34\x00\x05\x02\x02\x00\x00\xff" * 30_000
    asked = 0
    with Relay(server.port) as relay, over_one_connection(name, relay) as front_end:
        for size in (1, 8186, 8187, 20_000, len(trap)):
            body = trap[:size]
            for path, chunked in [
                ("/unread", False),
                ("/unread", True),
                (f"/half?read={size // 2}", False),
                (f"/half?read={size // 2}", True),
            ]:
                pieces = [body] if chunked else body
                answer = ask(front_end.port, "POST", path, pieces, chunked=chunked)
                assert answer.status == 200, (path, size, chunked)
                told = ask(front_end.port, "POST", "/upload", b"next").json()
                assert told == {"length": 4, "sha256": sha256(b"next")}
                asked += 2
        # lighttpd never uses a connection twice
        assert relay.connections == (asked if name == "lighttpd" else 1)


def test_remote_that_gives_up_an_upload_costs_nothing(front_end: FrontEnd) -> None:
    for _ in range(20):  # more than there are worker threads
        with socket.create_connection(("127.0.0.1", front_end.port)) as remote:
            remote.sendall(
                b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"
                + bytes(20_000)
            )
    told = ask(front_end.port, "POST", "/upload", b"whole").json()
    assert told["length"] == 5


def test_remote_that_leaves_a_download_costs_nothing(front_end: FrontEnd) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", front_end.port)) as remote:
            remote.sendall(b"GET /download?size=2000000 HTTP/1.1\r\nHost: x\r\n\r\n")
            remote.recv(1000)
    assert ask(front_end.port, "GET", "/hello").status == 200


@pytest.mark.smoke
def test_stream_is_seen_piece_by_piece(front_end: FrontEnd) -> None:
    name = uuid.uuid4().hex
    with Remote(front_end.port) as remote, Remote(front_end.port) as second:
        response = remote.send("GET", f"/stream?name={name}&pieces=4")
        assert response.readline() == b"piece 0\n"
        for number in range(1, 4):
            # it is still held back when the piece before is read
            second.get(f"/release?name={name}&piece={number}").json()
            assert response.readline() == b"piece %d\n" % number
        assert response.read() == b""


# -- who the remote is ---------------------------------------------------------


def test_basic_authentication_tells_the_user(front_end: FrontEnd) -> None:
    assert ask(front_end.port, "GET", "/private").status == 401
    told = ask(front_end.port, "GET", "/private", headers=basic(USER, PASSWORD)).json()
    assert told["REMOTE_USER"] == USER
    assert told["AUTH_TYPE"] == "Basic"


@pytest.mark.smoke
def test_https_is_told(front_end: FrontEnd, certificates: Certificates) -> None:
    told = ask(front_end.https_port, "GET", "/dump", tls=certificates.context()).json()
    assert told["wsgi.url_scheme"] == "https"
    assert told["HTTPS"] == "on"
    assert told["SERVER_PORT"] == str(front_end.https_port)
    assert told["SSL_CIPHER"].startswith("TLS_")
    assert not told.get("SSL_CLIENT_CERT")
    if front_end.name != "lighttpd":
        assert told["SSL_CIPHER_USEKEYSIZE"] in ("128", "256")
        assert told["SSL_PROTOCOL"].startswith("TLSv1.")
        assert "SSL_SESSION_ID" in told


@pytest.mark.smoke
def test_client_certificate_is_told(
    front_end: FrontEnd, certificates: Certificates
) -> None:
    told = ask(
        front_end.https_port,
        "GET",
        "/dump",
        tls=certificates.context(with_client=True),
    ).json()
    certificate = told["SSL_CLIENT_CERT"].replace("\r\n", "\n")
    assert certificate.strip() == certificates.client_certificate().strip()
    assert told["SSL_CERT"] == told["SSL_CLIENT_CERT"]


# -- settings on both sides ----------------------------------------------------


@pytest.mark.parametrize(
    ("path", "script_name", "path_info"),
    [
        ("/app/dump", "/app", "/dump"),
        ("/app/", "/app", "/"),
        ("/app", "/app", ""),
        ("/application/dump", "", "/application/dump"),
    ],
)
def test_mount_is_told_by_setting(path: str, script_name: str, path_info: str) -> None:
    with (
        serving_process(flags=["--script-name", "/app"]) as server,
        Httpd(ajp_port=server.port) as front_end,
    ):
        told = ask(front_end.port, "GET", path).json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == (script_name, path_info)


def test_mount_is_told_by_httpd(server: Server) -> None:
    extra = "SetEnv AJP_WSGI_SCRIPT_NAME /app"
    with Httpd(ajp_port=server.port, extra=extra) as front_end:
        told = ask(front_end.port, "GET", "/app/dump").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/app", "/dump")


def test_mount_is_told_by_mod_jk(server: Server) -> None:
    extra = "JkEnvVar WSGI_SCRIPT_NAME /app"
    with HttpdJk(ajp_port=server.port, extra=extra) as front_end:
        told = ask(front_end.port, "GET", "/app/dump").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/app", "/dump")


def test_removed_prefix_is_told_by_setting() -> None:
    with (
        serving_process(flags=["--removed-prefix", "/app"]) as server,
        Httpd(ajp_port=server.port, mounts=(("/app/", "/"),)) as front_end,
    ):
        told = ask(front_end.port, "GET", "/app/dump").json()
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/app", "/dump")


@pytest.mark.parametrize("kind", [Httpd, HttpdJk], ids=["httpd", "mod_jk"])
def test_large_packets_carry_large_headers(kind: type[Httpd]) -> None:
    cookie = "c=" + "x" * 40_000
    value = "y" * 40_000
    with (
        serving_process(flags=["--packet-size", "65536"]) as server,
        kind(ajp_port=server.port, packet_size=65536) as front_end,
    ):
        told = ask(front_end.port, "GET", "/dump", headers={"Cookie": cookie}).json()
        assert told["HTTP_COOKIE"] == cookie
        path = "/status?status=200+OK&header=X-Large:+" + value
        answer = ask(front_end.port, "GET", path)
        assert answer.header("X-Large") == value
        body = some_bytes(200_000)
        told = ask(front_end.port, "POST", "/upload", body).json()
        assert told == {"length": len(body), "sha256": sha256(body)}
        answer = ask(front_end.port, "GET", "/download?size=200000")
        assert answer.body == body


@pytest.mark.parametrize("size", [8187, 30_000, MEGABYTE])
def test_lighttpd_uploads_where_others_have_large_packets(size: int) -> None:
    body = some_bytes(size)
    with (
        serving_process(flags=["--packet-size", "65536"]) as server,
        Lighttpd(ajp_port=server.port) as front_end,
    ):
        for _ in range(2):
            told = ask(front_end.port, "POST", "/upload", body).json()
            assert told == {"length": size, "sha256": sha256(body)}


def test_headers_too_large_for_a_packet_are_a_500(front_end: FrontEnd) -> None:
    for _ in range(2):
        answer = ask(front_end.port, "GET", "/cookies?count=400")
        assert answer.status == 500
        assert answer.all_headers("Set-Cookie") == []
    assert ask(front_end.port, "GET", "/cookies?count=150").status == 200


@pytest.mark.parametrize("kind", [Httpd, HttpdJk], ids=["httpd", "mod_jk"])
def test_secret_lets_in_who_knows_it(kind: type[Httpd]) -> None:
    with serving_process(flags=["--secret", "open sesame".replace(" ", "-")]) as server:
        with kind(ajp_port=server.port, secret="open-sesame") as front_end:
            assert ask(front_end.port, "GET", "/hello").status == 200
        with kind(ajp_port=server.port, secret="wrong") as front_end:
            assert ask(front_end.port, "GET", "/hello").status == 403
        with kind(ajp_port=server.port) as front_end:
            assert ask(front_end.port, "GET", "/hello").status == 403


def test_cping_before_each_request_is_answered(server: Server) -> None:
    with Httpd(ajp_port=server.port, worker="ping=2") as front_end:
        for _ in range(5):
            assert ask(front_end.port, "GET", "/hello").status == 200
    properties = "worker.app.ping_mode=A\nworker.app.ping_timeout=2000"
    with HttpdJk(ajp_port=server.port, properties=properties) as jk:
        for _ in range(5):
            assert ask(jk.port, "GET", "/hello").status == 200


def test_balancing_mod_jk_tells_its_member(server: Server) -> None:
    with HttpdJk(ajp_port=server.port, balanced=True) as front_end:
        told = ask(front_end.port, "GET", "/dump").json()
    assert told["AJP_JVM_ROUTE"] == "member1"
    assert told["JK_LB_ACTIVATION"] == "ACT"


def test_prefork_httpd_is_served(server: Server) -> None:
    with Httpd(ajp_port=server.port, mpm="prefork", threads=8) as front_end:
        body = some_bytes(20_000)
        told = ask(front_end.port, "POST", "/upload", body).json()
        assert told == {"length": len(body), "sha256": sha256(body)}


# -- load ----------------------------------------------------------------------


def visit(port: int, until: float, failures: list[str], done: list[int]) -> None:
    """One remote that asks one thing after another, and checks each answer."""
    count = 0
    body = some_bytes(9000)
    digest = sha256(body)
    try:
        with Remote(port) as remote:
            while time.monotonic() < until:
                answer = remote.get("/hello")
                assert (answer.status, answer.body) == (200, b"Hello, World!\n")
                told = remote.ask("POST", "/upload", body).json()
                assert told == {"length": 9000, "sha256": digest}
                answer = remote.get("/download?size=20000")
                assert (answer.status, len(answer.body)) == (200, 20_000)
                answer = remote.ask("POST", "/unread", body)
                assert answer.status == 200
                count += 4
    except Exception as error:  # noqa: BLE001  # whatever it is, the test reports it
        failures.append(f"after {count} requests: {error!r}")
    done.append(count)


@pytest.mark.slow
def test_fifty_remotes_for_ten_seconds_see_no_error(front_end: FrontEnd) -> None:
    failures: list[str] = []
    done: list[int] = []
    until = time.monotonic() + 10
    remotes = [
        threading.Thread(target=visit, args=(front_end.port, until, failures, done))
        for _ in range(50)
    ]
    for remote in remotes:
        remote.start()
    for remote in remotes:
        remote.join(60)
    assert failures == []
    assert len(done) == 50
    assert min(done) > 0
