"""Pyramid, Django, Flask and WsgiDAV, unchanged, from INI files, behind httpd."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.site import pattern
from tests.integration.frontends import Httpd
from tests.integration.loaders import served_by
from tests.integration.programs import free_port, missing, private_folder
from tests.integration.remote import ask, basic
from tests.integration.server import Server, python_program

SERVER = "use = egg:paste_ajp\nport = {port}"
CONTENT = b"".join(pattern(200_001))
TOLD = {"length": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}


@contextlib.contextmanager
def behind_httpd(package: str, application: str, server: str = SERVER) -> Iterator[int]:
    """The HTTP port of an httpd before that application, served by pserve."""
    if importlib.util.find_spec(package) is None:
        missing(package)
    with (
        served_by("pserve", application, server) as container,
        Httpd(ajp_port=container.port) as front_end,
    ):
        yield front_end.port


def form(content: bytes) -> tuple[bytes, dict[str, str]]:
    """A multipart form with one file, and the header that says so."""
    boundary = "-----------------7d0-boundary"
    body = (
        (
            f"--{boundary}\r\nContent-Disposition: form-data;"
            ' name="file"; filename="f.bin"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        + content
        + f"\r\n--{boundary}--\r\n".encode()
    )
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def test_pyramid_is_served() -> None:
    application = """
        use = call:tests.apps.pyramid_site:main
        title = from the file
    """
    server = SERVER + "\nscript_name = /mounted"
    with behind_httpd("pyramid", application, server) as port:
        root = f"http://127.0.0.1:{port}/mounted"
        told = ask(port, "GET", "/mounted/page/caf%C3%A9?x=1").json()
        assert told == {
            "name": "caf\xe9",
            "url": f"{root}/page/caf%C3%A9?x=1",
            "route": f"{root}/page/b",
            "title": "from the file",
        }
        body, headers = form(CONTENT)
        assert ask(port, "POST", "/mounted/upload", body, headers).json() == TOLD
        answer = ask(port, "GET", "/mounted/nowhere")
        assert (answer.status, answer.body) == (404, b"not here")


def test_django_is_served() -> None:
    server = SERVER + "\nspool_body = true"
    application = "use = call:tests.apps.django_site:make_app"
    with behind_httpd("django", application, server) as port:
        told = ask(port, "GET", "/page/caf%C3%A9?x=%20").json()
        assert told == {
            "name": "caf\xe9",
            "url": f"http://127.0.0.1:{port}/page/caf%C3%A9?x=%20",
            "secure": False,
            "query": {"x": " "},
        }
        body, headers = form(CONTENT)
        assert ask(port, "POST", "/upload", body, headers).json() == TOLD
        assert ask(port, "POST", "/upload", CONTENT).json() == TOLD
        # Django reads no more than Content-Length says: that is what
        # spool_body is for
        chunks = [CONTENT[:150_000], CONTENT[150_000:]]
        assert ask(port, "POST", "/upload", chunks, chunked=True).json() == TOLD


def test_flask_is_served() -> None:
    with behind_httpd("flask", "use = call:tests.apps.flask_site:make_app") as port:
        told = ask(port, "GET", "/page/caf%C3%A9?x=%20").json()
        assert told["name"] == "caf\xe9"
        assert told["query"] == {"x": " "}
        body, headers = form(CONTENT)
        assert ask(port, "POST", "/upload", body, headers).json() == TOLD
        chunks = [CONTENT[:150_000], CONTENT[150_000:]]
        assert ask(port, "POST", "/upload", chunks, chunked=True).json() == TOLD
        answer = ask(port, "GET", "/stream")
        assert answer.body.split() == [str(i).encode() for i in range(100)]


@pytest.fixture
def share() -> Iterator[tuple[int, Path]]:
    """An HTTP port that is a WebDAV share, and its folder."""
    with private_folder("share") as folder:
        application = f"use = call:tests.apps.dav_site:make_app\nfolder = {folder}"
        with behind_httpd("wsgidav", application) as port:
            yield port, folder


def test_wsgidav_is_served(share: tuple[int, Path]) -> None:
    port, folder = share
    root = f"http://127.0.0.1:{port}"

    def dav(method: str, path: str, body: bytes | None = None, **headers: str) -> int:
        return ask(port, method, path, body, headers).status

    assert dav("MKCOL", "/docs") == 201
    assert dav("PUT", "/docs/one%20%C3%A9.txt", CONTENT) == 201
    assert (folder / "docs" / "one \xe9.txt").read_bytes() == CONTENT
    listing = ask(port, "PROPFIND", "/docs", headers={"Depth": "1"})
    assert listing.status == 207
    assert b"/docs/one%20%C3%A9.txt" in listing.body
    here = "/docs/one%20%C3%A9.txt"
    assert dav("COPY", here, Destination=f"{root}/docs/two.txt") == 201
    assert dav("MOVE", here, Destination=f"{root}/three.txt", Depth="infinity") == 201
    assert sorted(path.name for path in folder.rglob("*.txt")) == [
        "three.txt",
        "two.txt",
    ]
    patch = (
        b'<?xml version="1.0"?><D:propertyupdate xmlns:D="DAV:" xmlns:X="urn:x">'
        b"<D:set><D:prop><X:colour>red</X:colour></D:prop></D:set>"
        b"</D:propertyupdate>"
    )
    assert dav("PROPPATCH", "/three.txt", patch) == 207
    lock = (
        b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope>'
        b"<D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>"
        b"</D:lockinfo>"
    )
    locked = ask(port, "LOCK", "/three.txt", lock, {"Timeout": "Second-60"})
    assert locked.status == 200
    token = locked.header("Lock-Token") or ""
    assert dav("PUT", "/three.txt", b"refused") == 423
    assert dav("UNLOCK", "/three.txt", None, **{"Lock-Token": token}) == 204
    answer = ask(port, "GET", "/three.txt", headers={"Range": "bytes=10-19"})
    assert (answer.status, answer.body) == (206, CONTENT[10:20])
    assert dav("DELETE", "/docs") == 204
    assert not (folder / "docs").exists()


@contextlib.contextmanager
def zope(folder: Path) -> Iterator[Server]:
    """A new Zope instance in ``folder``, run by runwsgi with our server section."""
    scripts = Path(sys.executable).parent
    if not (scripts / "runwsgi").exists():
        missing("Zope")
    make = [sys.executable, scripts / "mkwsgiinstance", "-d", folder, "-u", "admin:pw"]
    subprocess.run(make, check=True)
    file = folder / "etc" / "zope.ini"
    port = free_port()
    text, count = re.subn(
        r"use = egg:waitress#main\nhost = 127.0.0.1\nport = 8080",
        f"use = egg:paste_ajp\nhost = 127.0.0.1\nport = {port}",
        file.read_text(),
    )
    assert count == 1
    file.write_text(text)
    command = [str(scripts / "runwsgi"), str(file)]
    server = python_program("runwsgi", command, folder, port)
    server.start_seconds = 60
    with server:
        yield server


def test_zope_is_served() -> None:
    with private_folder("zope") as folder, zope(folder) as server:
        admin = basic("admin", "pw")
        with Httpd(ajp_port=server.port) as front_end:
            port = front_end.port
            assert ask(port, "GET", "/manage_main").status == 401
            assert ask(port, "GET", "/", headers=admin).status == 200
            headers = admin | {"Content-Type": "application/x-www-form-urlencoded"}
            body = b"id=docs&title=Caf%C3%A9"
            answer = ask(port, "POST", "/manage_addFolder", body, headers)
            assert answer.status in (200, 302), answer
            body, headers = form(CONTENT)
            path = "/docs/manage_addFile?id=file.bin"
            answer = ask(port, "POST", path, body, admin | headers)
            assert answer.status in (200, 302), answer
            answer = ask(port, "GET", "/docs/file.bin", headers=admin)
            assert answer.body == CONTENT
        # it closes its databases once the server returns
        assert (folder / "var" / "Z4.pid").exists()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not (folder / "var" / "Z4.pid").exists()
        assert (folder / "var" / "Data.fs.index").exists()
