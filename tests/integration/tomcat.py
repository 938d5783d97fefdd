"""Tomcat as an AJP container that is not ours, with a servlet of ours in it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from tests.integration.programs import (
    Program,
    free_port,
    private_folder,
    require,
    require_file,
)
from tests.integration.server import answers_cping

SERVLET: Final = Path(__file__).parent / "servlet" / "TestServlet.java"

SERVER_XML: Final = """<Server port="-1">
  <Service name="Catalina">
    <Connector {attributes}/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false"/>
    </Engine>
  </Service>
</Server>
"""

WEB_XML: Final = """<web-app>
  <servlet>
    <servlet-name>test</servlet-name>
    <servlet-class>TestServlet</servlet-class>
  </servlet>
  <servlet-mapping>
    <servlet-name>test</servlet-name>
    <url-pattern>/*</url-pattern>
  </servlet-mapping>
</web-app>
"""

LOGGING: Final = """handlers = java.util.logging.ConsoleHandler
.handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = FINE
java.util.logging.ConsoleHandler.formatter = org.apache.juli.OneLineFormatter
"""


@dataclass(kw_only=True)
class Tomcat:
    """Tomcat 10 in a private CATALINA_BASE; a context manager that runs it.

    ``port`` speaks AJP. The servlet answers every path (TestServlet.java says
    what). ``connector`` are further attributes of the Connector.
    """

    secret: str | None = None
    packet_size: int = 8192
    connector: dict[str, str] = field(default_factory=dict)
    port: int = field(init=False, default=0)
    program: Program = field(init=False)
    _stack: contextlib.ExitStack = field(init=False, repr=False)

    def __enter__(self) -> Tomcat:
        java = require("java")
        javac = require("javac")
        home = require_file("Tomcat 10", "/usr/share/tomcat10")
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(private_folder("tomcat"))
            self.port = free_port()
            self.configure(base)
            classes = base / "webapps/ROOT/WEB-INF/classes"
            jar = home / "lib/servlet-api.jar"
            subprocess.run(
                [javac, "-d", str(classes), "-cp", str(jar), str(SERVLET)], check=True
            )
            jars = [home / "bin/bootstrap.jar", home / "bin/tomcat-juli.jar"]
            command = [
                java,
                "-Xmx256m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Djava.util.logging.manager=org.apache.juli.ClassLoaderLogManager",
                f"-Djava.util.logging.config.file={base}/conf/logging.properties",
                f"-Dcatalina.home={home}",
                f"-Dcatalina.base={base}",
                f"-Djava.io.tmpdir={base}/temp",
                "-cp",
                os.pathsep.join(str(path) for path in jars if path.exists()),
                "org.apache.catalina.startup.Bootstrap",
                "start",
            ]
            self.program = Program(
                "tomcat", command, base, answers=lambda: answers_cping(self.port)
            )
            self.program.start_seconds = 60
            stack.enter_context(self.program)
            self._stack = stack.pop_all()
        return self

    def configure(self, base: Path) -> None:
        for name in ("conf", "logs", "temp", "work", "webapps/ROOT/WEB-INF/classes"):
            (base / name).mkdir(parents=True)
        attributes = {
            "protocol": "AJP/1.3",
            "address": "127.0.0.1",
            "port": str(self.port),
            "packetSize": str(self.packet_size),
            "tomcatAuthentication": "false",
            "secretRequired": "true" if self.secret else "false",
        }
        if self.secret:
            attributes["secret"] = self.secret
        attributes |= self.connector
        text = " ".join(f"{name}={quoteattr(v)}" for name, v in attributes.items())
        (base / "conf/server.xml").write_text(SERVER_XML.format(attributes=text))
        (base / "conf/web.xml").write_text("<web-app/>\n")
        (base / "conf/logging.properties").write_text(LOGGING)
        (base / "webapps/ROOT/WEB-INF/web.xml").write_text(WEB_XML)

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
