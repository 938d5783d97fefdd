"""The examples in the documentation work: each is run as it is printed.

``tests/examples.py`` reads them. Ports, folders and module files are put in here,
and nothing else is changed.
"""

from __future__ import annotations

import configparser
import contextlib
import grp
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from paste_ajp.client import Client, ClientError
from tests.examples import CONFIGURATIONS, Example, read_examples
from tests.integration.certificates import Certificates
from tests.integration.frontends import (
    HTTPD_MODULES,
    LIGHTTPD_MODULES,
    PASSWORD,
    USER,
    FrontEnd,
)
from tests.integration.programs import (
    Program,
    free_port,
    private_folder,
    require,
    require_file,
)
from tests.integration.remote import Answer, Remote, ask, basic
from tests.integration.server import ROOT

EXAMPLES = read_examples()


def whole(example: Example, language: str) -> str:
    return example.file(language, EXAMPLES)


#: Those that a front end can run.
RUNNABLE = [
    name
    for name, example in EXAMPLES.items()
    if any(whole(example, language) for language in CONFIGURATIONS)
]


# -- front ends that take their configuration from the page --------------------


@dataclass(kw_only=True)
class Documented(FrontEnd):
    """A front end whose configuration is ``text``, with the least around it.

    ``shared`` is the folder that it has in common with the servers.
    """

    text: str
    shared: Path

    def answers(self) -> bool:
        """Whether it answers at all, be it from the application."""
        try:
            return ask(self.port, "GET", "/", timeout=5).status > 0
        except OSError:
            return False

    def placed(self, text: str, folder: Path) -> str:
        """Put the files there that the examples name, and their places in the text."""
        shutil.copy(folder / "users", folder / "members")
        if self.certificates:
            shutil.copy(self.certificates.server_pem, folder / "server.pem")
            shutil.copy(self.certificates.authority, folder / "clients-ca.pem")
        for place in (
            "/etc/apache2/",
            "/etc/libapache2-mod-jk/",
            "/etc/lighttpd/",
            "/var/log/apache2/",
        ):
            text = text.replace(place, f"{folder}/")
        https = f"127.0.0.1:{self.https_port}"
        text = text.replace("Listen 443\n", f"Listen {https} https\n")
        text = text.replace("*:443", https).replace('":443"', f'"{https}"')
        # the certificates of the tests have no common name
        text = text.replace("SSL_CLIENT_S_DN_CN", "SSL_CLIENT_S_DN_OU")
        return text.replace("/run/app/", f"{self.shared}/")


@dataclass(kw_only=True)
class DocumentedHttpd(Documented):
    name: ClassVar[str] = "httpd"
    product: ClassVar[str] = "Apache httpd"

    properties: str = ""

    def configure(self, folder: Path) -> list[str]:
        program = require("apache2", "httpd")
        modules = require_file("httpd's modules", *HTTPD_MODULES)
        if self.properties:
            (folder / "workers.properties").write_text(self.properties)
        wanted = ["mpm_event", "authz_core"]
        for line in re.findall(r"^# a2enmod ([\w ]+)$", self.text, re.MULTILINE):
            wanted += [name for name in line.split() if name not in wanted]
        lines = []
        for name in wanted:
            path = require_file(f"mod_{name}", str(modules / f"mod_{name}.so"))
            lines.append(f"LoadModule {name}_module {path}")
        if os.geteuid() == 0:
            lines += ["User www-data", "Group www-data"]
        lines += [
            "ServerName localhost",
            f"ServerRoot {folder}",
            f"DefaultRuntimeDir {folder}/tmp",
            f"DocumentRoot {folder}/htdocs",
            "PidFile httpd.pid",
            f"ErrorLog {folder}/error.log",
            f"Listen 127.0.0.1:{self.port}",
            self.placed(self.text, folder),
        ]
        (folder / "httpd.conf").write_text("\n".join(lines) + "\n")
        command = [program, "-f", f"{folder}/httpd.conf"]
        checked = subprocess.run(
            [*command, "-t"], capture_output=True, text=True, check=False
        )
        assert checked.stderr.strip() == "Syntax OK"
        return [*command, "-DFOREGROUND"]


@dataclass(kw_only=True)
class DocumentedLighttpd(Documented):
    name: ClassVar[str] = "lighttpd"
    product: ClassVar[str] = "lighttpd"

    def set_up_program(self) -> None:
        self.program.stop_signal = signal.SIGTERM

    def configure(self, folder: Path) -> list[str]:
        program = require("lighttpd")
        modules = require_file("lighttpd's modules", *LIGHTTPD_MODULES)
        if "mod_openssl" in self.text:  # Debian has it in a package of its own
            require_file("mod_openssl", str(modules / "mod_openssl.so"))
        lines = [
            f'server.document-root = "{folder}/htdocs"',
            f'server.errorlog = "{folder}/error.log"',
            f'server.upload-dirs = ("{folder}/tmp")',
            'server.bind = "127.0.0.1"',
            f"server.port = {self.port}",
            self.placed(self.text, folder),
        ]
        (folder / "lighttpd.conf").write_text("\n".join(lines) + "\n")
        command = [program, "-f", f"{folder}/lighttpd.conf"]
        checked = subprocess.run(
            [*command, "-tt"], capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stderr) == (0, "")
        return [*command, "-D"]


# -- an example, running -------------------------------------------------------


@dataclass
class Running:
    """A front end and our servers, as an example says."""

    front_end: Documented
    servers: list[Program]
    certificates: Certificates

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        return ask(self.front_end.port, method, path, body, headers)

    def told(
        self, path: str = "/app/dump", headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """What the application was told of a request."""
        told: dict[str, Any] = self.ask("GET", path, None, headers).json()
        return told

    def told_over_tls(self, *, with_client: bool = False) -> dict[str, Any]:
        tls = self.certificates.context(with_client=with_client)
        port = self.front_end.https_port
        told: dict[str, Any] = ask(port, "GET", "/app/dump", tls=tls).json()
        return told


def answers_cping(target: str) -> bool:
    try:
        with Client(target, timeout=5) as client:
            client.cping()
            return True
    except (OSError, ClientError):
        return False


@contextlib.contextmanager
def servers_of(ini: str, folder: Path) -> Iterator[list[Program]]:
    """Serve every server section of the file, each by a process."""
    for place in ("/run/app/", "/etc/app/"):
        ini = ini.replace(place, f"{folder}/")
    (folder / "ajp-secret").write_text("the-text-in-that-file\n")
    (folder / "ajp-secret").chmod(0o600)
    if os.geteuid() != 0:  # only root may give files to others
        own = grp.getgrgid(os.getegid()).gr_name
        ini = ini.replace("= www-data", f"= {own}")
    file = folder / "app.ini"
    ini = ini[ini.index("[server:") :]
    file.write_text(f"[app:main]\nuse = call:tests.apps.site:make_app\n\n{ini}")
    parser = configparser.RawConfigParser()
    parser.read_string(ini)
    with contextlib.ExitStack() as stack:
        servers = []
        for section in parser.sections():
            place = parser[section].get("listen")
            target = place or f"127.0.0.1:{parser[section]['port']}"
            name = section.partition(":")[2]
            (folder / name).mkdir()
            command = [sys.executable, "-m", "paste_ajp", "serve", str(file)]
            server = Program(
                section,
                [*command, "--server-name", name],
                folder / name,
                env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                answers=lambda target=target: answers_cping(target),
            )
            servers.append(stack.enter_context(server))
        yield servers


@contextlib.contextmanager
def run(example: Example, certificates: Certificates) -> Iterator[Running]:
    """Run an example."""
    ports = {"8009": str(free_port()), "8010": str(free_port())}

    def text(language: str) -> str:
        found = re.sub(r"\b10\.0\.0\.\d\b", "127.0.0.1", whole(example, language))
        return re.sub(r"\b80(09|10)\b", lambda match: ports[match[0]], found)

    with (
        private_folder("docs") as folder,
        servers_of(text("ini"), folder) as servers,
    ):
        common: dict[str, Any] = {
            "ajp_port": int(ports["8009"]),
            "certificates": certificates,
            "shared": folder,
        }
        made: Documented
        if text("lighttpd"):
            made = DocumentedLighttpd(text=text("lighttpd"), **common)
        else:
            made = DocumentedHttpd(
                text=text("apache"), properties=text("properties"), **common
            )
        with made:
            yield Running(made, servers, certificates)


# -- what each example promises ------------------------------------------------

CHECKS: dict[str, Callable[[Running], None]] = {}


def promises(*names: str) -> Callable[[Callable[[Running], None]], None]:
    """Check the examples of these names by the function."""

    def add(check: Callable[[Running], None]) -> None:
        CHECKS.update(dict.fromkeys(names, check))

    return add


def is_mounted(running: Running) -> None:
    told = running.told("/app/dump?x=1")
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("/app", "/dump")
    told = running.ask("POST", "/app/upload", bytes(100_000)).json()
    assert told["length"] == 100_000
    assert running.ask("GET", "/elsewhere").status == 404


@promises("httpd", "mod_jk", "lighttpd", "lighttpd-only")
def _(running: Running) -> None:
    is_mounted(running)
    streams(running)


promises(
    "httpd-mount",
    "httpd-removed",
    "httpd-unix",
    "quickstart",
    "quickstart-secret",
    "quickstart-unix",
    "readme-httpd",
    "readme-mod_jk",
    "readme-lighttpd",
)(is_mounted)


def streams(running: Running) -> None:
    """A piece reaches the remote while the application waits before the next."""
    name = uuid.uuid4().hex
    with Remote(running.front_end.port) as remote:
        response = remote.send("GET", f"/app/stream?name={name}&pieces=2")
        assert response.readline() == b"piece 0\n"
        running.ask("GET", f"/app/release?name={name}&piece=1")
        assert response.read() == b"piece 1\n"


@promises("httpd-root")
def _(running: Running) -> None:
    told = running.told("/dump")
    assert (told["SCRIPT_NAME"], told["PATH_INFO"]) == ("", "/dump")
    assert running.ask("GET", "/server-status").status == 404


@promises("httpd-user", "lighttpd-unix")
def _(running: Running) -> None:
    assert running.ask("GET", "/app/dump").status == 401
    told = running.told(headers=basic(USER, PASSWORD))
    assert (told["REMOTE_USER"], told["AUTH_TYPE"]) == (USER, "Basic")


@promises("httpd-tls")
def _(running: Running) -> None:
    told = running.told_over_tls()
    assert told["wsgi.url_scheme"] == "https"
    assert "REMOTE_USER" not in told
    assert told["SSL_CLIENT_VERIFY"] == "NONE"
    assert told["SSL_PROTOCOL"].startswith("TLS")
    told = running.told_over_tls(with_client=True)
    certificate = running.certificates.client_certificate().strip()
    assert told["SSL_CLIENT_CERT"].strip() == certificate
    assert told["REMOTE_USER"].startswith("Testing cert")
    assert told["SSL_CLIENT_VERIFY"] == "SUCCESS"
    for key in ("HTTPS", "SSL_CIPHER", "SSL_CIPHER_USEKEYSIZE", "SSL_SESSION_ID"):
        assert key in told


@promises("mod_jk-tls", "lighttpd-tls")
def _(running: Running) -> None:
    told = running.told_over_tls()
    assert told["wsgi.url_scheme"] == "https"
    assert "SSL_CLIENT_CERT" not in told
    told = running.told_over_tls(with_client=True)
    certificate = told["SSL_CLIENT_CERT"].replace("\r\n", "\n")
    assert certificate.strip() == running.certificates.client_certificate().strip()
    plain = running.ask("GET", "/app/dump").status
    assert plain == (403 if running.front_end.name == "lighttpd" else 200)


@promises("httpd-attributes", "mod_jk-attributes")
def _(running: Running) -> None:
    assert running.told()["DEPARTMENT"] == "physics"


@promises("httpd-packets", "mod_jk-packets")
def _(running: Running) -> None:
    ticket = "x" * 40_000
    assert running.told(headers={"X-Ticket": ticket})["HTTP_X_TICKET"] == ticket


@promises("httpd-slashes", "mod_jk-slashes")
def _(running: Running) -> None:
    told = running.told("/app/dump/a%2Fb")
    assert told["PATH_INFO"] == "/dump/a/b"
    assert told["REQUEST_URI"] == "/app/dump/a%2Fb"


@promises("httpd-length")
def _(running: Running) -> None:
    got = running.ask("GET", "/app/hello")
    assert got.header("Content-Length") == str(len(got.body))
    assert running.ask("HEAD", "/app/hello").header("Content-Length") == str(
        len(got.body)
    )


@promises("httpd-balancer")
def _(running: Running) -> None:
    for route in ("a", "b"):
        told = running.told(headers={"Cookie": f"SESSIONID=x.{route}"})
        assert told["AJP_JVM_ROUTE"] == route
    running.servers[0].send_signal(signal.SIGTERM)
    assert running.servers[0].wait() == 0
    for _ in range(10):
        assert running.ask("GET", "/app/hello").status == 200


def test_every_example_is_checked() -> None:
    assert sorted(CHECKS) == sorted(RUNNABLE)


@pytest.mark.parametrize("name", RUNNABLE)
def test_example_works_as_printed(name: str, certificates: Certificates) -> None:
    with run(EXAMPLES[name], certificates) as running:
        CHECKS[name](running)
