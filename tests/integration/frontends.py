"""The front ends: httpd with mod_proxy_ajp, httpd with mod_jk, lighttpd.

Each is the real program in the foreground, configured in a folder of its own,
on loopback ports of its own. Each forwards every path to the container at
``ajp_port``, but for ``/front-end-ready``, which it answers itself.

Every one has a folder ``/private`` that asks for basic authentication (USER and
PASSWORD) and, given certificates, an HTTPS port that takes a client certificate
from who has one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from tests.integration.certificates import Certificates
from tests.integration.programs import (
    Program,
    free_port,
    private_folder,
    require,
    require_file,
)

USER: Final = "arthur"
PASSWORD: Final = "dent42"
READY_PATH: Final = "/front-end-ready"

HTTPD_MODULES: Final = ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules")
LIGHTTPD_MODULES: Final = ("/usr/lib/lighttpd", "/usr/lib64/lighttpd")


@dataclass(kw_only=True)
class FrontEnd:
    """What all front ends have in common; a context manager that runs it."""

    name: ClassVar[str]
    #: The product's own name for itself, for captures.
    product: ClassVar[str]

    ajp_port: int
    secret: str | None = None
    certificates: Certificates | None = None
    #: More of its own configuration, for the main server.
    extra: str = ""

    port: int = field(init=False, default=0)
    https_port: int = field(init=False, default=0)
    program: Program = field(init=False)
    _stack: contextlib.ExitStack = field(init=False, repr=False)

    @classmethod
    def version(cls) -> str:
        """The program's version, as it prints it."""
        raise NotImplementedError

    def configure(self, folder: Path) -> list[str]:
        """Write the configuration into ``folder``; return the command."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.program.log

    def answers(self) -> bool:
        """Whether it answers a request for a path of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", READY_PATH)
            return connection.getresponse().status == 404
        except OSError:
            return False
        finally:
            connection.close()

    def __enter__(self):  # type: ignore[no-untyped-def]  # Self is 3.11's
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(private_folder(self.name))
            (folder / "htdocs").mkdir()
            (folder / "tmp").mkdir()
            (folder / "users").write_text(f"{USER}:{{SHA}}{_sha1(PASSWORD)}\n")
            self.port = free_port()
            if self.certificates:
                self.https_port = free_port()
            self.program = Program(
                self.name, self.configure(folder), folder, answers=self.answers
            )
            self.set_up_program()
            stack.enter_context(self.program)
            self._stack = stack.pop_all()
        return self

    def set_up_program(self) -> None:
        """A last word on the program before it starts."""

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def _sha1(password: str) -> str:
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found[1]


@dataclass(kw_only=True)
class Httpd(FrontEnd):
    """Apache httpd with mod_proxy_ajp, one child process."""

    name: ClassVar[str] = "httpd"
    product: ClassVar[str] = "Apache httpd, mod_proxy_ajp"
    modules: ClassVar[tuple[str, ...]] = ("proxy", "proxy_ajp")

    mpm: str = "event"
    threads: int = 64
    #: Parameters for ProxyPass, such as ``ping=2``.
    worker: str = ""
    #: mod_proxy_ajp's packet size; None leaves its 8192.
    packet_size: int | None = None
    #: What stands before the container's address: a path on both sides.
    mounts: tuple[tuple[str, str], ...] = (("/", "/"),)

    @classmethod
    def version(cls) -> str:
        program = require("apache2", "httpd")
        output = subprocess.run(
            [program, "-v"], capture_output=True, text=True, check=True
        ).stdout
        return _first_match(r"Apache/(\S+)", output)

    def forwarding(self, folder: Path) -> str:
        """The lines that send requests to the container."""
        del folder
        secret = f"secret={self.secret}" if self.secret else ""
        lines = [f'ProxyPass "{READY_PATH}" "!"']
        if self.packet_size:
            lines.append(f"ProxyIOBufferSize {self.packet_size}")
        lines += [
            f'ProxyPass "{ours}" "ajp://127.0.0.1:{self.ajp_port}{theirs}"'
            f" retry=0 {secret} {self.worker}"
            for ours, theirs in self.mounts
        ]
        return "\n".join(lines)

    def configure(self, folder: Path) -> list[str]:
        program = require("apache2", "httpd")
        modules = require_file("httpd's modules", *HTTPD_MODULES)
        wanted = [f"mpm_{self.mpm}", "authz_core", "authz_user", "auth_basic"]
        wanted += ["authn_core", "authn_file", "env", "setenvif", *self.modules]
        if self.certificates:
            wanted.append("ssl")
        lines = []
        for name in wanted:
            path = require_file(f"mod_{name}", str(modules / f"mod_{name}.so"))
            lines.append(f"LoadModule {name}_module {path}")
        if os.geteuid() == 0:
            lines += ["User www-data", "Group www-data"]
        if self.mpm == "prefork":
            lines += [
                "StartServers 2",
                "MinSpareServers 1",
                f"MaxRequestWorkers {self.threads}",
                f"ServerLimit {self.threads}",
            ]
        else:
            lines += [
                "StartServers 1",
                "ServerLimit 1",
                f"ThreadLimit {self.threads}",
                f"ThreadsPerChild {self.threads}",
                f"MaxRequestWorkers {self.threads}",
            ]
        lines += [
            "ServerName localhost",
            f"ServerRoot {folder}",
            f"DefaultRuntimeDir {folder}/tmp",
            f"DocumentRoot {folder}/htdocs",
            "PidFile httpd.pid",
            f"ErrorLog {folder}/error.log",
            "LogLevel warn",
            f"Listen 127.0.0.1:{self.port}",
            "AllowEncodedSlashes NoDecode",
            "KeepAliveTimeout 30",
            "MaxKeepAliveRequests 0",
            "Timeout 60",
            # the defaults refuse what the tests of large headers send
            "LimitRequestFieldSize 65000",
            "LimitRequestLine 65000",
            "<Location /private>",
            "  AuthType Basic",
            "  AuthName private",
            f"  AuthUserFile {folder}/users",
            "  Require valid-user",
            "</Location>",
            self.extra,
        ]
        forwarding = self.forwarding(folder)
        lines.append(forwarding)
        if self.certificates:
            lines += [
                f"Listen 127.0.0.1:{self.https_port} https",
                f"<VirtualHost 127.0.0.1:{self.https_port}>",
                "  ServerName localhost",
                "  SSLEngine on",
                f"  SSLCertificateFile {self.certificates.server_pem}",
                f"  SSLCACertificateFile {self.certificates.authority}",
                "  SSLVerifyClient optional",
                # mod_jk takes these from the environment
                "  SSLOptions +StdEnvVars +ExportCertData",
                forwarding if self.name == "httpd" else "  JkMountCopy On",
                "</VirtualHost>",
            ]
        (folder / "httpd.conf").write_text("\n".join(lines) + "\n")
        return [program, "-DFOREGROUND", "-f", f"{folder}/httpd.conf"]


@dataclass(kw_only=True)
class HttpdJk(Httpd):
    """Apache httpd with mod_jk."""

    name: ClassVar[str] = "mod_jk"
    product: ClassVar[str] = "Apache httpd, mod_jk"
    modules: ClassVar[tuple[str, ...]] = ("jk",)

    #: More lines for workers.properties, of the worker ``app``.
    properties: str = ""
    #: Whether requests go through a load balancer of one member, ``member1``.
    balanced: bool = False
    options: str = ""

    @classmethod
    def version(cls) -> str:
        modules = require_file("httpd's modules", *HTTPD_MODULES)
        binary = require_file("mod_jk", str(modules / "mod_jk.so")).read_bytes()
        found = re.search(rb"mod_jk/(\d+\.\d+\.\d+)", binary)
        assert found, "mod_jk.so does not tell its version"
        return f"{found[1].decode()} in httpd {super().version()}"

    def forwarding(self, folder: Path) -> str:
        app = "member1" if self.balanced else "app"
        properties = ["worker.list=app"]
        if self.balanced:
            properties += ["worker.app.type=lb", "worker.app.balance_workers=member1"]
        properties += [
            f"worker.{app}.type=ajp13",
            f"worker.{app}.host=127.0.0.1",
            f"worker.{app}.port={self.ajp_port}",
            # never send a request twice
            f"worker.{app}.recovery_options=7",
        ]
        if self.secret:
            properties.append(f"worker.{app}.secret={self.secret}")
        if self.packet_size:
            properties.append(f"worker.{app}.max_packet_size={self.packet_size}")
        properties += [
            line.replace("worker.app.", f"worker.{app}.")
            for line in self.properties.splitlines()
        ]
        (folder / "workers.properties").write_text("\n".join(properties) + "\n")
        lines = [
            f"JkWorkersFile {folder}/workers.properties",
            f"JkShmFile {folder}/tmp/jk.shm",
            f"JkLogFile {folder}/jk.log",
            "JkLogLevel warn",
            "JkMount /* app",
            "JkMount / app",
            f"JkUnMount {READY_PATH} app",
        ]
        if self.options:
            lines.append(f"JkOptions {self.options}")
        return "\n".join(lines)


@dataclass(kw_only=True)
class Lighttpd(FrontEnd):
    """lighttpd with mod_ajp13."""

    name: ClassVar[str] = "lighttpd"
    product: ClassVar[str] = "lighttpd, mod_ajp13"

    #: server.stream-response-body: 0 holds an answer back until it is complete.
    stream_response: int = 1

    @classmethod
    def version(cls) -> str:
        output = subprocess.run(
            [require("lighttpd"), "-v"], capture_output=True, text=True, check=True
        ).stdout
        return _first_match(r"lighttpd/(\S+)", output)

    def set_up_program(self) -> None:
        # SIGTERM stops at once, SIGINT waits for the connections that are open
        self.program.stop_signal = signal.SIGTERM

    def configure(self, folder: Path) -> list[str]:
        program = require("lighttpd")
        modules = require_file("lighttpd's modules", *LIGHTTPD_MODULES)
        wanted = ["mod_auth", "mod_authn_file", "mod_setenv"]
        if self.certificates:
            require_file("mod_openssl", str(modules / "mod_openssl.so"))
            wanted.append("mod_openssl")
        wanted.append("mod_ajp13")  # after mod_auth, or REMOTE_USER is not sent
        lines = [
            "server.modules = (" + ", ".join(f'"{name}"' for name in wanted) + ")",
            f'server.document-root = "{folder}/htdocs"',
            f'server.errorlog = "{folder}/error.log"',
            f'server.upload-dirs = ("{folder}/tmp")',
            'server.bind = "127.0.0.1"',
            f"server.port = {self.port}",
            "server.stream-request-body = 0",
            f"server.stream-response-body = {self.stream_response}",
            "server.max-keep-alive-requests = 100000",
            'auth.backend = "htpasswd"',
            f'auth.backend.htpasswd.userfile = "{folder}/users"',
            'auth.require = ("/private" => (',
            '  "method" => "basic", "realm" => "private", "require" => "valid-user"',
            "))",
            f'$HTTP["url"] != "{READY_PATH}" {{',
            '  ajp13.server = ("" => ((',
            f'    "host" => "127.0.0.1", "port" => {self.ajp_port},',
            '    "check-local" => "disable"',
            "  )))",
            "}",
        ]
        if self.secret:
            lines.append(
                f'setenv.add-environment = ("AJP13_SECRET" => "{self.secret}")'
            )
        if self.certificates:
            lines += [
                f'$SERVER["socket"] == "127.0.0.1:{self.https_port}" {{',
                '  ssl.engine = "enable"',
                f'  ssl.pemfile = "{self.certificates.server_pem}"',
                f'  ssl.ca-file = "{self.certificates.authority}"',
                '  ssl.verifyclient.activate = "enable"',
                '  ssl.verifyclient.enforce = "disable"',
                '  ssl.verifyclient.exportcert = "enable"',
                "}",
            ]
        lines.append(self.extra)
        (folder / "lighttpd.conf").write_text("\n".join(lines) + "\n")
        return [program, "-D", "-f", f"{folder}/lighttpd.conf"]
