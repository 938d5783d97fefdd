"""What child processes load: INI files and command lines, sent to them as pickles."""

from __future__ import annotations

import pickle
import sys

import pytest

from paste_ajp import cli, deploy
from paste_ajp.options import SettingError
from tests.unit.fake_server import FakeServer

INI = """
[app:main]
use = call:made_here:make
word = main

[app:other]
use = call:made_here:make
word = other

[server:main]
use = egg:paste_ajp
threads = {threads}
{more}

[server:second]
use = egg:paste_ajp#ajp_fork
maxChildren = 3
timeout = 7
"""

MODULE = """
def make(global_conf, word):
    def application(environ, start_response):
        return [word.encode()]
    return application

application = make({}, "module")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "made_here.py").write_text(MODULE)
    (tmp_path / "x.ini").write_text(INI.format(threads=4, more=""))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(deploy, "Server", FakeServer)
    monkeypatch.setattr(cli, "Server", FakeServer)
    FakeServer.made.clear()
    yield tmp_path
    sys.modules.pop("made_here", None)


def source_of_ini(folder, factory=deploy.server_factory, **given):
    factory({"__file__": str(folder / "x.ini"), "here": str(folder)}, **given)
    return pickle.loads(pickle.dumps(FakeServer.made[-1].source))


def word_of(source):
    return source.application()({}, None)[0].decode()


def test_ini_file_is_read_anew(folder):
    source = source_of_ini(folder, threads="4")
    (folder / "x.ini").write_text(INI.format(threads=9, more=""))
    assert source.settings().threads == 9
    assert word_of(source) == "main"


def test_wrong_setting_is_heard_of_when_it_is_read_anew(folder):
    source = source_of_ini(folder, threads="4")
    (folder / "x.ini").write_text(INI.format(threads="many", more=""))
    with pytest.raises(SettingError):
        source.settings()


def test_fork_section_stays_one(folder):
    source = source_of_ini(
        folder, deploy.fork_server_factory, maxChildren="3", timeout="7"
    )
    settings = source.settings()
    assert (settings.processes, settings.threads) == (3, 1)
    assert settings.read_timeout == settings.keep_alive_timeout == 7


def test_settings_of_no_known_section_stay_as_they_are(folder):
    assert source_of_ini(folder, threads="77").settings().threads == 77


def test_other_application_of_the_file_is_loaded(folder):
    (folder / "x.ini").write_text(INI.format(threads=4, more="app_name = other"))
    assert word_of(source_of_ini(folder, threads="4", app_name="other")) == "other"


def test_server_without_a_file_has_no_source(folder):
    deploy.server_factory({}, port="0")
    assert FakeServer.made[-1].source is None


def source_of_shell(*arguments):
    assert cli.main(["serve", *arguments]) == 0
    return pickle.loads(pickle.dumps(FakeServer.made[-1].source))


def test_flags_stay_above_what_the_file_says(folder, monkeypatch):
    source = source_of_shell("x.ini", "--port", "9")
    (folder / "x.ini").write_text(INI.format(threads=9, more="port = 1"))
    monkeypatch.chdir("/")  # as an application may do
    settings = source.settings()
    assert (settings.threads, settings.port) == (9, 9)
    assert word_of(source) == "main"


def test_application_of_the_file_is_named_on_the_shell(folder):
    assert word_of(source_of_shell("x.ini#other")) == "other"


def test_module_is_imported(folder):
    source = source_of_shell("made_here:application", "--threads", "3")
    assert source.settings().threads == 3
    assert word_of(source) == "module"
