"""pserve, gearbox, paster and paste-ajp start the server, serve, and stop it."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.integration.frontends import Httpd
from tests.integration.loaders import LOADERS, loader_command, served_by, write_ini
from tests.integration.programs import free_port, private_folder
from tests.integration.remote import ask
from tests.integration.server import ROOT, answers_cping, python_program

SITE = "use = call:tests.apps.site:make_app"

#: The ways to name the server in an INI file.
SECTIONS = {
    "egg": "use = egg:paste_ajp",
    "egg main": "use = egg:paste_ajp#main",
    "egg ajp": "use = egg:paste_ajp#ajp",
    "egg ajp_thread": "use = egg:paste_ajp#ajp_thread",
    "factory": "paste.server_factory = paste_ajp.deploy:server_factory",
    "runner": "paste.server_runner = paste_ajp.deploy:server_runner",
    "call": "use = call:paste_ajp.deploy:server_factory",
}
ADDRESS = "\nhost = 127.0.0.1\nport = {port}"


@pytest.mark.smoke
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_loader_serves_and_stops(loader: str, stop: signal.Signals) -> None:
    with served_by(loader, SITE) as server:
        with Httpd(ajp_port=server.port) as front_end:
            told = ask(front_end.port, "POST", "/upload", b"hello").json()
            assert told["length"] == 5
        server.send_signal(stop)
        assert server.wait() == 0


@pytest.mark.parametrize("section", SECTIONS.values(), ids=list(SECTIONS))
def test_section_names_the_server(section: str) -> None:
    with served_by("pserve", SITE, section + ADDRESS) as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_section_is_inherited_with_use() -> None:
    port = free_port()
    with private_folder("inherit") as folder:
        file = write_ini(folder, SITE, "use = egg:paste_ajp\nport = 1")
        with file.open("a") as stream:
            stream.write(f"\n[server:other]\nuse = main\nport = {port}\n")
        command = [*loader_command("pserve", file), "--server-name", "other"]
        with python_program("pserve", command, folder, port) as server:
            assert answers_cping(server.port)


def fails(loader: str, section: str, port: int) -> str:
    """Serve what cannot be served; the output, after an exit status not 0."""
    with private_folder("failing") as folder:
        file = write_ini(folder, SITE, section)
        program = python_program(loader, loader_command(loader, file), folder, port)
        program.launch()
        try:
            assert program.wait() not in (0, None)
            return program.log
        finally:
            program.stop()


@pytest.mark.parametrize("loader", LOADERS)
def test_port_that_is_taken_is_a_failure(loader: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        text = fails(loader, f"use = egg:paste_ajp\nport = {port}", port)
    assert f"127.0.0.1:{port}" in text
    assert "in use" in text


@pytest.mark.parametrize("loader", LOADERS)
def test_wrong_value_is_a_failure(loader: str) -> None:
    text = fails(loader, "use = egg:paste_ajp\nthreads = many", 1)
    assert "threads = 'many': expected a whole number from 1 to 1000" in text


@pytest.mark.parametrize("loader", LOADERS)
def test_unknown_setting_is_a_failure(loader: str) -> None:
    text = fails(loader, "use = egg:paste_ajp\nthread = 4", 1)
    assert "no such setting; did you mean threads?" in text


def test_development_ini_is_served_as_it_stands() -> None:
    with private_folder("development") as folder:
        port, http_port = free_port(), free_port()
        text = (ROOT / "development.ini").read_text()
        assert "port = 8009" in text
        assert "http = 127.0.0.1:8080" in text
        text = text.replace("port = 8009", f"port = {port}")
        file = folder / "development.ini"
        file.write_text(text.replace("127.0.0.1:8080", f"127.0.0.1:{http_port}"))
        command = loader_command("pserve", file)
        with python_program("pserve", command, folder, port) as server:
            with Httpd(ajp_port=port) as front_end:
                answer = ask(front_end.port, "GET", "/")
            assert answer.status == 200
            assert b"<html" in answer.body
            # and without a front end, for a browser
            assert b"<html" in ask(http_port, "GET", "/").body
            assert f"127.0.0.1:{port}" in server.log
            assert f"http://127.0.0.1:{http_port}/" in server.log
