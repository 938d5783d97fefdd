#!/usr/bin/env python3
"""Start a server that has no command line of its own:  launch.py NAME PORT

Every function below is one NAME.  The servers run benchapp.app on 127.0.0.1;
the raw_* ones run nothing at all, they show how fast the interpreter can go.
"""

import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent


def listener(port):
    return socket.create_server(("127.0.0.1", port), backlog=1024)


# ---- AJP servers -----------------------------------------------------------


def flup(module, port, tuned):
    import importlib

    from benchapp import app

    # As it is, flup leaves Nagle's algorithm on (40 ms for every small response),
    # gives a burst of connections no more workers than maxSpare, 5, and logs a line
    # for every request.
    options = (
        {"minSpare": 5, "maxSpare": 64, "loggingLevel": logging.WARNING}
        if tuned
        else {}
    )
    server = importlib.import_module(f"flup.server.{module}").WSGIServer(
        app, bindAddress=("127.0.0.1", port), **options
    )
    if tuned:
        setup = server._setupSocket

        def setup_nodelay():
            sock = setup()
            # accept() inherits it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock

        server._setupSocket = setup_nodelay
    server.run()


def flup_thread(port, tuned=""):
    """flup 1.0.3: a thread for each connection."""
    flup("ajp", port, tuned)


def flup_fork(port, tuned=""):
    """flup 1.0.3: a process for each connection."""
    flup("ajp_fork", port, tuned)


def tomcat(port, connector="AJP/1.3", packet_size="8192"):
    """Tomcat 10 with one connector and BenchServlet, in a private CATALINA_BASE."""
    home = Path(os.environ.get("CATALINA_HOME", "/usr/share/tomcat10"))
    jar = home / "lib/servlet-api.jar"
    if not jar.exists() or not shutil.which("javac"):
        sys.exit(f"needs Tomcat 10 in {home} (or CATALINA_HOME) and a JDK (javac)")
    base = Path(tempfile.gettempdir()) / f"ajpbench-tomcat-{port}"
    shutil.rmtree(base, ignore_errors=True)
    classes = base / "webapps/ROOT/WEB-INF/classes"
    for name in ("conf", "logs", "temp", "work"):
        (base / name).mkdir(parents=True)
    classes.mkdir(parents=True)
    if connector.startswith("AJP"):
        options = f'secretRequired="false" packetSize="{packet_size}"'
    else:
        options = 'maxKeepAliveRequests="-1"'
    (base / "conf/server.xml").write_text(f"""<Server port="-1">
  <Service name="Catalina">
    <Connector protocol="{connector}" address="127.0.0.1" port="{port}" {options} />
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" appBase="webapps" autoDeploy="false" />
    </Engine>
  </Service>
</Server>
""")
    (base / "conf/web.xml").write_text("<web-app/>\n")
    (base / "webapps/ROOT/WEB-INF/web.xml").write_text("""<web-app>
  <servlet>
    <servlet-name>bench</servlet-name><servlet-class>BenchServlet</servlet-class>
  </servlet>
  <servlet-mapping>
    <servlet-name>bench</servlet-name><url-pattern>/*</url-pattern>
  </servlet-mapping>
</web-app>
""")
    source = HERE / "BenchServlet.java"
    subprocess.run(["javac", "-d", classes, "-cp", jar, source], check=True)
    os.environ.update(
        CATALINA_HOME=str(home), CATALINA_BASE=str(base), JAVA_OPTS="-Xmx512m"
    )
    os.execv(home / "bin/catalina.sh", ["catalina.sh", "run"])


def tomcat_http(port):
    tomcat(port, "HTTP/1.1")


def bayserver(port):
    """BayServer for Python 3.0.0: WSGI through its 'maccaferri' docker, one agent."""
    home = Path(tempfile.gettempdir()) / f"ajpbench-bayserver-{port}"
    (home / "plan").mkdir(parents=True, exist_ok=True)
    (home / "plan/bayserver.plan").write_text(f"""[harbor]
    grandAgents 1
    maxShips 1000
[port 127.0.0.1:{port}]
    docker ajp
[city *]
    [town /]
        location {HERE}
        [club *]
            docker maccaferri
            project {HERE}
            module benchapp
            app application
""")
    # it needs its home, and a locale that it has messages for
    os.environ.update(BSERV_HOME=str(home), LANG="en_US.UTF-8")
    os.chdir(home)
    program = str(Path(sys.executable).parent / "bayserver_py")
    os.execv(sys.executable, [sys.executable, program, "-loglevel=warn"])


# ---- ours, with the simplest threads there are -------------------------------


def thread_per_connection(port, packet_size="8192"):
    """Our protocol and WSGI layers under a blocking thread for each connection.

    What the engine's way to share threads is measured against.
    """
    from benchapp import app

    import paste_ajp.protocol as ajp
    from paste_ajp.settings import Settings
    from paste_ajp.wsgi.environ import EnvironBuilder
    from paste_ajp.wsgi.file_wrapper import FileWrapper
    from paste_ajp.wsgi.task import Task

    settings = Settings(packet_size=int(packet_size))
    environs = EnvironBuilder(settings, file_wrapper=FileWrapper)
    task = Task(app, settings, environs)

    class Exchange:
        """One connection and its thread."""

        def __init__(self, sock):
            self.sock = sock
            self.send = sock.sendall
            self.connection = ajp.Connection(ajp.Role.CONTAINER)

        def serve(self):
            while data := self.sock.recv(8192):
                self.chunks = []
                request = self.connection.receive_request(data)
                for message in [] if request else self.connection.receive(data):
                    if type(message) is ajp.ForwardRequest:
                        request = message
                    else:
                        self.chunks.append(message.data)
                if request is not None:
                    self.request = request
                    task.serve(self)
            self.sock.close()

        @property
        def body_is_complete(self):
            return self.connection.body_complete and not self.chunks

        def read_body(self):
            while not self.chunks:
                if self.connection.body_complete:
                    return b""
                if not self.connection.owed:
                    self.send(self.connection.ask_body())
                messages = self.connection.receive(self.sock.recv(65536))
                self.chunks += [message.data for message in messages]
            return self.chunks.pop(0)

        def finish(self, data):
            self.send(data + b"AB\x00\x02\x05\x01")
            self.connection.sent_response(True)

        def do_not_reuse(self):
            pass

        def abort(self):
            self.sock.shutdown(socket.SHUT_RDWR)

    accepting = listener(port)
    while True:
        sock, _ = accepting.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Exchange(sock).serve, daemon=True).start()


# ---- HTTP servers ----------------------------------------------------------


def waitress(port, threads="4"):
    import waitress as server
    from benchapp import app

    # Else it logs a line for each queued request.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server.serve(app, host="127.0.0.1", port=port, threads=int(threads))


def cheroot(port, threads="4"):
    from benchapp import app
    from cheroot.wsgi import Server

    server = Server(
        ("127.0.0.1", port),
        app,
        numthreads=int(threads),
        max=int(threads),
        request_queue_size=1024,
    )
    server.keep_alive_conn_limit = 1000  # 10 by default: it would close the others
    server.start()


def bjoern(port, processes="1"):
    import bjoern as server
    from benchapp import app

    sock = listener(port)
    for _ in range(int(processes) - 1):
        if not os.fork():
            break
    server.server_run(sock, app)


# ---- the limit of the interpreter: no parsing, no application ---------------


def ajp_constant():
    def string(s):
        return len(s).to_bytes(2, "big") + s + b"\0"

    def packet(payload):
        return b"AB" + len(payload).to_bytes(2, "big") + payload

    headers = b"\xa0\x01" + string(b"text/plain") + b"\xa0\x03" + string(b"13")
    return (
        packet(b"\x04\x00\xc8" + string(b"OK") + b"\x00\x02" + headers)
        + packet(b"\x03" + string(b"Hello, World!"))
        + packet(b"\x05\x01")
    )


def raw_thread(port):
    """A blocking thread for each connection: recv, sendall of a constant."""
    answer = ajp_constant()

    def serve(sock):
        while sock.recv(8192):
            sock.sendall(answer)
        sock.close()

    accepting = listener(port)
    while True:
        sock, _ = accepting.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def raw_epoll(port):
    """One thread and an epoll loop: recv, send of a constant."""
    answer = ajp_constant()
    accepting = listener(port)
    accepting.setblocking(False)
    poll = select.epoll()
    poll.register(accepting, select.EPOLLIN)
    socks = {}
    while True:
        for fd, _ in poll.poll():
            sock = socks.get(fd)
            if sock is None:
                sock, _ = accepting.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                socks[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
                continue
            try:
                data = sock.recv(8192)
            except ConnectionError:
                data = b""
            if data:
                sock.send(answer)
            else:
                del socks[fd]
                sock.close()


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    name, port, *rest = sys.argv[1:]
    globals()[name.replace("-", "_")](int(port), *rest)
