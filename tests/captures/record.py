"""Record what real front ends send to a container, into the .hex files here.

    python -m tests.captures.record [NAME ...]

runs each front end against a small responder, sends it one scripted HTTP
request after another, and writes the packets that came over AJP. NAME picks
front ends: httpd, mod_jk, lighttpd. The responder knows just enough of AJP to
make a front end go on; it shares no code with paste_ajp, so that a mistake of
paste_ajp's cannot hide in the evidence against it.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.integration.certificates import Certificates, make_certificates
from tests.integration.frontends import (
    PASSWORD,
    USER,
    FrontEnd,
    Httpd,
    HttpdJk,
    Lighttpd,
)
from tests.integration.programs import private_folder, wait_until
from tests.integration.remote import Remote, basic

HERE = Path(__file__).parent

#: 200 OK, Content-Type: text/plain; "ok"; End Response(1)
ANSWER = bytes.fromhex(
    "41420019 04 00c8 0002 4f4b00 0001 a001 000a 746578742f706c61696e 00"
    "41420006 03 0002 6f6b 00"
    "41420002 05 01"
)
GET_BODY_CHUNK = bytes.fromhex("41420003 06 1ffa")
CPONG = bytes.fromhex("41420001 09")


class Responder:
    """Answers every request with 200, after having read its whole body.

    ``packets`` are what came, whole packets, since ``take`` was last called.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._packets: list[bytes] = []
        self.open_connections = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def take(self) -> list[bytes]:
        with self._lock:
            packets, self._packets = self._packets, []
        return packets

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.open_connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as stream:

            def read() -> bytes:
                """One packet's payload, noted down; EOFError at the end."""
                head = stream.read(4)
                if len(head) < 4:
                    raise EOFError
                payload = stream.read(int.from_bytes(head[2:], "big"))
                with self._lock:
                    self._packets.append(head + payload)
                return payload

            try:
                while True:
                    payload = read()
                    if payload == b"\x0a":
                        peer.sendall(CPONG)
                    elif payload[:1] == b"\x02":
                        self._read_body(payload, read, peer)
                        peer.sendall(ANSWER)
            except (EOFError, ConnectionError):
                pass
            finally:
                with self._lock:
                    self.open_connections -= 1

    @staticmethod
    def _read_body(
        request: bytes, read: Callable[[], bytes], peer: socket.socket
    ) -> None:
        coded = re.search(rb"\xa0\x08\x00[\x01-\x14](\d+)\x00", request)
        left = int(coded[1]) if coded else 0
        if left:
            while True:
                left -= _content_length(read(), left)
                if left <= 0:
                    return
                peer.sendall(GET_BODY_CHUNK)
        elif re.search(rb"(?i)transfer-encoding\x00\x00\x07chunked", request):
            while True:
                peer.sendall(GET_BODY_CHUNK)
                if len(read()) <= 2:
                    return

    def close(self) -> None:
        self._listener.close()


def _content_length(payload: bytes, left: int) -> int:
    """How much of the body a chunk brings, in either form that is in use."""
    standard = int.from_bytes(payload[:2], "big") == len(payload) - 2
    raw = len(payload) == min(left, 8188)
    return len(payload) - 2 if standard and not raw else len(payload)


@dataclass
class Scene:
    """One HTTP request, or several, and what a container should see of them."""

    name: str
    setup: str
    method: str
    path: str
    body: bytes | Iterable[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    tls: str = ""  # "", "server" or "client": with a certificate of its own
    #: What ``expectation`` cannot tell from the request.
    expect: dict[str, Any] = field(default_factory=dict)
    #: The front end's setting, by the names of its dataclass.
    options: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ("httpd", "mod_jk", "lighttpd")


def scenes() -> list[Scene]:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    big = bytes(range(250)) * 48  # 12,000 bytes: more than one chunk
    both = ("httpd", "mod_jk")
    return [
        Scene("get", "plain GET", "GET", "/app/page"),
        Scene(
            "get-query",
            "GET with a query string",
            "GET",
            "/app/a%20b?x=1&y=%C3%A9",
        ),
        Scene("get-empty-query", "GET with an empty query string", "GET", "/app/q?"),
        Scene("get-utf8", "GET of a UTF-8 path", "GET", "/caf%C3%A9"),
        Scene(
            "get-encoded-slash",
            "GET with %2F in the path, AllowEncodedSlashes NoDecode, mod_jk with"
            " +ForwardURICompatUnparsed",
            "GET",
            "/a%2Fb",
        ),
        Scene(
            "get-headers",
            "GET with header names that have no code, Latin-1 and UTF-8 values,"
            " a repeated cookie",
            "GET",
            "/headers",
            headers={
                "Accept": "text/html",
                "Accept-Language": "de",
                "Cookie": "a=1; b=2",
                "User-Agent": "capture/1",
                "X-Latin": "caf\xe9",
                "X-Utf-8": "caf\xc3\xa9",
                "X-Empty": "",
                "X_Under_Score": "1",
                "Proxy": "http://127.0.0.1/",
            },
        ),
        Scene("head", "HEAD", "HEAD", "/app/page"),
        Scene("options", "OPTIONS", "OPTIONS", "/app/page"),
        Scene("delete", "DELETE", "DELETE", "/app/page"),
        Scene(
            "propfind",
            "PROPFIND with Depth and a body",
            "PROPFIND",
            "/dav/",
            body=b"<propfind/>",
            headers={"Depth": "1", "Content-Type": "text/xml"},
        ),
        Scene("search", "SEARCH, which only some encode", "SEARCH", "/dav/"),
        Scene(
            "patch",
            "PATCH, a stored method",
            "PATCH",
            "/app/page",
            body=b"change",
            only=both,
        ),
        Scene("m-search", "an unknown method", "M-SEARCH", "/app", only=both),
        Scene("post-empty", "POST with Content-Length: 0", "POST", "/p", body=b""),
        Scene("post-1", "POST of one byte", "POST", "/p", body=b"x", headers=form),
        Scene("post-2", "POST of two bytes", "POST", "/p", body=b"\0\0", headers=form),
        Scene("post", "POST of a form", "POST", "/p", body=b"a=1&b=2", headers=form),
        Scene(
            "post-looks-like-chunk",
            "POST whose first two bytes read as the length of the others",
            "POST",
            "/p",
            body=b"\x00\x05hello",
        ),
        Scene(
            "post-12000",
            "POST of 12,000 bytes, in several body chunks",
            "POST",
            "/p",
            body=big,
        ),
        Scene(
            "put-8186",
            "PUT of 8186 bytes, one full body chunk",
            "PUT",
            "/p",
            body=big[:8186],
        ),
        Scene(
            "put-chunked",
            "PUT without Content-Length, in HTTP chunks of 5000 bytes",
            "PUT",
            "/p",
            body=[big[at : at + 5000] for at in range(0, 10000, 5000)],
            chunked=True,
        ),
        Scene(
            "put-chunked-empty",
            "PUT without Content-Length, of no bytes",
            "PUT",
            "/p",
            body=[],
            chunked=True,
        ),
        Scene(
            "expect-continue",
            "POST with Expect: 100-continue",
            "POST",
            "/p",
            body=b"late",
            headers={"Expect": "100-continue"},
        ),
        Scene(
            "basic-auth",
            "basic authentication by the front end",
            "GET",
            "/private/page",
            headers=basic(USER, PASSWORD),
            expect={"attributes": {"remote_user": USER, "auth_type": "Basic"}},
        ),
        Scene("https", "HTTPS", "GET", "/secure", tls="server"),
        Scene(
            "https-client",
            "HTTPS with a client certificate",
            "GET",
            "/secure",
            tls="client",
        ),
        Scene(
            "secret",
            "a shared secret",
            "GET",
            "/secret",
            options={"secret": "s3cret"},
            expect={"attributes": {"secret": "s3cret"}},
            only=both,
        ),
        Scene(
            "secret-https",
            "a shared secret, over HTTPS (lighttpd sends it only there)",
            "GET",
            "/secret",
            tls="server",
            options={"secret": "s3cret"},
            expect={"attributes": {"secret": "s3cret"}},
            only=("lighttpd",),
        ),
        Scene(
            "env",
            "SetEnv AJP_WSGI_SCRIPT_NAME /app, AJP_EMPTY ''",
            "GET",
            "/app/x",
            options={"extra": "SetEnv AJP_WSGI_SCRIPT_NAME /app\nSetEnv AJP_EMPTY ''"},
            expect={"request_attributes": {"WSGI_SCRIPT_NAME": "/app", "EMPTY": ""}},
            only=("httpd",),
        ),
        Scene(
            "env",
            "JkEnvVar WSGI_SCRIPT_NAME /app",
            "GET",
            "/app/x",
            options={"extra": "JkEnvVar WSGI_SCRIPT_NAME /app"},
            expect={"request_attributes": {"WSGI_SCRIPT_NAME": "/app"}},
            only=("mod_jk",),
        ),
        Scene(
            "cping",
            "CPing before the request, worker parameter ping=2",
            "GET",
            "/pinged",
            options={"worker": "ping=2"},
            only=("httpd",),
        ),
        Scene(
            "cping",
            "CPing before the request, ping_mode=A",
            "GET",
            "/pinged",
            options={"properties": "worker.app.ping_mode=A"},
            only=("mod_jk",),
        ),
        Scene(
            "balanced",
            "a load balancer of one member, member1",
            "GET",
            "/app;jsessionid=A.member1?q=1",
            options={"balanced": True},
            expect={
                "attributes": {"jvm_route": "member1"},
                "request_attributes": {"JK_LB_ACTIVATION": "ACT"},
            },
            only=("mod_jk",),
        ),
        Scene(
            "large-packet",
            "GET with 10,000 bytes of cookie, packet size 65536",
            "GET",
            "/large",
            headers={"Cookie": "big=" + "c" * 10000},
            options={"packet_size": 65536},
            only=both,
        ),
        Scene(
            "large-packet-post",
            "POST of 12,000 bytes, packet size 65536",
            "POST",
            "/large",
            body=big,
            options={"packet_size": 65536},
            only=both,
        ),
    ]


def play(scene: Scene, front_end: FrontEnd, certificates: Certificates) -> None:
    """Send the scene's request through the front end."""
    tls = None
    port = front_end.port
    if scene.tls:
        tls = certificates.context(with_client=scene.tls == "client")
        port = front_end.https_port
    with Remote(port, tls=tls) as remote:
        answer = remote.ask(
            scene.method,
            scene.path,
            scene.body,
            {"Accept-Encoding": "identity", "Host": "www.example.com"} | scene.headers,
            chunked=scene.chunked,
        )
        if answer.status != 200:
            raise AssertionError(f"{scene.name}: {answer}\n{front_end.log}")


KINDS: dict[str, type[FrontEnd]] = {
    kind.name: kind for kind in (Httpd, HttpdJk, Lighttpd)
}


def record(kind: type[FrontEnd], certificates: Certificates) -> None:
    """Play every scene for one front end and write what it sent."""
    folder = HERE / kind.name
    folder.mkdir(exist_ok=True)
    wanted = [scene for scene in scenes() if kind.name in scene.only]
    groups: list[tuple[dict[str, Any], list[Scene]]] = []
    for scene in wanted:
        for options, members in groups:
            if options == scene.options:
                members.append(scene)
                break
        else:
            groups.append((scene.options, [scene]))
    responder = Responder()
    for options, members in groups:
        if kind is HttpdJk:
            options = {"options": "+ForwardURICompatUnparsed"} | options
        front_end = kind(ajp_port=responder.port, certificates=certificates, **options)
        with front_end:
            for scene in members:
                responder.take()
                play(scene, front_end, certificates)
                if kind is Lighttpd:  # its stray packet may follow the answer
                    wait_until(
                        lambda: not responder.open_connections, 5, "lighttpd's close"
                    )
                packets = responder.take()
                assert packets, f"{scene.name}: nothing came over AJP"
                write(folder, kind, scene, packets)
    responder.close()


def write(
    folder: Path, kind: type[FrontEnd], scene: Scene, packets: list[bytes]
) -> None:
    """Write one capture, with what a decoder should find in it as its head."""
    lines = [
        f"# product: {kind.product}",
        f"# version: {kind.version()}",
        f"# setup: {scene.setup}",
    ]
    lines += [
        f"# expect {key}: {json.dumps(value)}"
        for key, value in expectation(kind.name, scene).items()
    ]
    for packet in packets:
        lines.append("")
        lines += dump(packet)
    path = folder / f"{scene.name}.hex"
    path.write_text("\n".join(lines) + "\n")
    print(f"{kind.name}/{path.name}: {len(packets)} packets")


def expectation(front_end: str, scene: Scene) -> dict[str, Any]:
    """What must arrive, told from the HTTP request and not from the packets."""
    path, question, query = scene.path.partition("?")
    headers = {"host": "www.example.com"}
    headers |= {name.lower(): value for name, value in scene.headers.items()}
    if front_end == "lighttpd":
        path = unquote(path, "latin-1")
        # it leaves empty headers out, and blanks an Expect that it has answered
        headers = {name: value for name, value in headers.items() if value}
        if "expect" in headers:
            headers["expect"] = ""
        question = query  # an empty one is not sent
    body = scene.body or b""
    if not isinstance(body, bytes):
        body = b"".join(body)
    told: dict[str, Any] = {
        "method": scene.method,
        "req_uri": path,
        "query_string": query if question else None,
        "is_ssl": bool(scene.tls),
        "headers": headers,
        "body_length": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    return told | scene.expect


def dump(packet: bytes) -> list[str]:
    """The packet's bytes in hex, 32 in a line, with their text beside them."""
    lines = []
    for at in range(0, len(packet), 32):
        row = packet[at : at + 32]
        text = "".join(chr(c) if 0x20 <= c < 0x7F else "." for c in row)
        lines.append(f"{row.hex():<64}  |{text}|")
    return lines


def main(names: list[str]) -> None:
    with private_folder("certificates") as folder:
        certificates = make_certificates(folder)
        for name in names or KINDS:
            record(KINDS[name], certificates)


if __name__ == "__main__":
    main(sys.argv[1:])
