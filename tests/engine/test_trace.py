"""The setting trace, and its switch at run time."""

import signal
import socket
import subprocess
import sys

import pytest

from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.options import SettingError
from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    EndResponse,
    Role,
    build_forward_request,
)
from paste_ajp.serving import Server
from paste_ajp.settings import Settings
from tests.engine.conftest import wait_until


def app(environ, start_response):
    start_response("200 OK", [("Set-Cookie", "sid=hush")])
    return [b"Hello"]


def exchange(sock):
    """One request on an open connection; returns once its End Response is here."""
    connection = Connection(Role.FRONT_END)
    headers = [("host", "h"), ("authorization", "Basic aHVzaA==")]
    sock.sendall(
        connection.send(
            build_forward_request(
                req_uri="/traced", headers=headers, attributes={"secret": "hush"}
            )
        )
    )
    while True:
        data = sock.recv(65536)
        assert data, "the server closed the connection"
        if any(isinstance(found, EndResponse) for found in connection.receive(data)):
            return


def connect(server):
    kind, _, place = server.addresses[0].rpartition(":")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place)
    else:
        sock = socket.create_connection((kind, int(place)))
    sock.settimeout(10)
    return sock


def test_trace_shows_packets_and_masks_secrets(tmp_path):
    path = tmp_path / "trace"
    settings = Settings(port=0, secret="hush", trace=str(path))
    with ThreadedServer(app, settings) as server, connect(server) as sock:
        exchange(sock)
    lines = path.read_text()
    assert "ForwardRequest" in lines
    assert "SendHeaders" in lines
    assert "/traced" in lines
    assert "hush" not in lines
    assert "aHVzaA" not in lines


def test_trace_tells_the_connections_of_a_unix_socket_apart(tmp_path):
    """One may be in the middle of a body while another brings a request."""
    path = tmp_path / "trace"
    settings = Settings(listen=f"unix:{tmp_path}/s", trace=str(path))
    posted = build_forward_request("POST", "/1", headers=[("content-length", "4")])
    connection = Connection(Role.FRONT_END)
    with (
        ThreadedServer(app, settings) as server,
        connect(server) as first,
        connect(server) as second,
    ):
        first.sendall(connection.send(posted))
        wait_until(lambda: "/1" in path.read_text())
        exchange(second)
        first.sendall(connection.send(BodyChunk(b"hush")))
        wait_until(lambda: " BodyChunk " in path.read_text())
    lines = path.read_text().splitlines()[1:]
    names = {line.split()[1] for line in lines}
    assert len(names) == 2
    assert all(name.startswith("unix_socket_#") for name in names)
    assert not [line for line in lines if " ! " in line]


def test_trace_is_switched_on_and_off_for_open_connections(tmp_path):
    path = tmp_path / "trace"
    settings = Settings(port=0, trace=str(path))
    with ThreadedServer(app, settings) as server, connect(server) as sock:
        server.switch_trace()  # off
        exchange(sock)
        assert "ForwardRequest" not in path.read_text()
        server.switch_trace()
        exchange(sock)
        assert path.read_text().count("ForwardRequest") == 1
        server.switch_trace()
        exchange(sock)
        assert path.read_text().count("ForwardRequest") == 1


def test_trace_that_cannot_be_written_is_told_and_the_server_serves(tmp_path, caplog):
    settings = Settings(port=0, trace=str(tmp_path / "missing" / "trace"))
    with ThreadedServer(app, settings) as server, connect(server) as sock:
        exchange(sock)
    assert "missing/trace: cannot be written: " in caplog.text


def test_trace_that_cannot_be_written_is_told_before_the_application_is_loaded(
    tmp_path,
):
    loaded = []
    path = tmp_path / "missing" / "trace"
    settings = Settings(port=0, trace=str(path))
    server = Server(None, settings, load_application=lambda: loaded.append("it"))
    with pytest.raises(SettingError) as caught:
        server.start()
    assert str(caught.value) == (
        f"trace = '{path}': cannot be written: there is no folder {path.parent}"
    )
    assert (loaded, server.addresses) == ([], ["127.0.0.1:0"])


def test_trace_may_be_a_file_that_is_there(tmp_path):
    path = tmp_path / "trace"
    path.touch()
    server = Server(app, Settings(port=0, trace=str(path)))
    server.bind()
    server.close()
    assert path.read_text() == ""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_signal_switches_the_trace_on_and_off(tmp_path, processes):
    path = tmp_path / "trace"
    command = [sys.executable, "-m", "paste_ajp", "serve", "paste_ajp.demo:Demo()"]
    command += ["--port", "0", "--processes", processes, "--trace", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        log = []

        def wait_for(text, times=1):
            """Read the log up to a line; a program that ends closes it."""
            for line in program.stderr:
                log.append(line)
                if sum(text in earlier for earlier in log) >= times:
                    return line
            raise AssertionError(f"{text!r} never came: {''.join(log)}")

        try:
            wait_for("every packet is written there", int(processes))
            if processes == "1":
                wait_for("serves AJP/1.3 on")
            elif "children serve" not in "".join(log):
                wait_for("children serve")
            program.send_signal(signal.SIGUSR1)
            wait_for("trace switched off", int(processes))
            program.send_signal(signal.SIGUSR1)
            wait_for("every packet is written there", 2 * int(processes))
        finally:
            program.terminate()
            program.stderr.read()
        assert program.wait(20) == 0
