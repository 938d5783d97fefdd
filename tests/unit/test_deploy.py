import configparser
import logging
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from paste.deploy import loadapp, loadserver

from paste_ajp import deploy
from paste_ajp.deploy import IniSource
from paste_ajp.options import SettingError
from tests.unit.fake_server import FakeServer

SETUP_CFG = Path(__file__).parents[2] / "setup.cfg"


def application(environ, start_response):
    raise NotImplementedError


def make_application(global_conf, **local_conf):
    return [dict(global_conf), local_conf]


@pytest.fixture(autouse=True)
def server(monkeypatch):
    monkeypatch.setattr(deploy, "Server", FakeServer)
    monkeypatch.setattr(FakeServer, "made", [])


@pytest.fixture
def load(tmp_path):
    """Load a server section as PasteDeploy does: load(text, name, **globals)."""

    def load(text, name=None, **global_conf):
        path = tmp_path / "app.ini"
        path.write_text(text)
        return loadserver(f"config:{path}", name=name, global_conf=global_conf)

    return load


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The distribution of setup.cfg's entry points, installed or not."""
    config = configparser.RawConfigParser()
    config.optionxform = str
    config.read(SETUP_CFG)
    groups = config["options.entry_points"]
    place = tmp_path / "site" / "paste_ajp-0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: paste_ajp\nVersion: 0\n"
    )
    (place / "entry_points.txt").write_text(
        "".join(f"[{group}]{groups[group]}\n" for group in groups)
    )
    monkeypatch.syspath_prepend(str(place.parent))


def settings():
    return FakeServer.made[-1].settings


# -- Ways to name the server


@pytest.mark.parametrize(
    "use",
    [
        "use = egg:paste_ajp",
        "use = egg:paste_ajp#main",
        "use = egg:paste_ajp#ajp",
        "use = egg:paste_ajp#ajp_thread",
        "use = call:paste_ajp.deploy:server_factory",
        "use = call:paste_ajp.deploy:server_runner",
        "paste.server_factory = paste_ajp.deploy:server_factory",
        "paste.server_runner = paste_ajp.deploy:server_runner",
    ],
)
@pytest.mark.usefixtures("installed")
def test_server_is_found_and_runs_the_application(load, use):
    load(f"[server:main]\n{use}\nport = 81\nscriptName = /x")(application)
    (server,) = FakeServer.made
    assert server.application is application
    assert server.told == ["bind", "run"]
    assert (server.settings.port, server.settings.script_name) == (81, "/x")


@pytest.mark.parametrize(
    "use",
    [
        "use = egg:paste_ajp#ajp_fork",
        "use = call:paste_ajp.deploy:fork_server_factory",
        "use = call:paste_ajp.deploy:fork_server_runner",
        "paste.server_runner = paste_ajp.deploy:fork_server_runner",
    ],
)
@pytest.mark.usefixtures("installed")
def test_fork_server_is_of_processes_with_one_thread(load, use):
    load(f"[server:main]\n{use}\nmaxSpare = 3\nminSpare = 2")(application)
    assert FakeServer.made[-1].told == ["bind", "run"]
    assert (settings().processes, settings().threads, settings().min_spare) == (3, 1, 1)


def test_fork_server_has_five_processes_like_flups():
    deploy.fork_server_factory({})
    assert settings().processes == 5


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"maxSpare": "many"}, "maxSpare (processes) = 'many'"),
        ({"timeout": "soon"}, "timeout (read_timeout) = 'soon'"),
    ],
)
def test_option_of_flups_fork_server_is_refused_by_its_name(given, label):
    with pytest.raises(SettingError) as caught:
        deploy.fork_server_factory({}, **given)
    assert str(caught.value).startswith(f"{label}: expected ")


def test_spare_children_have_nothing_to_say_where_children_are_counted():
    deploy.fork_server_factory({}, maxChildren="7", maxSpare="0", minSpare="x")
    assert settings().processes == 7


def test_fork_server_may_be_told_of_children_and_threads():
    deploy.fork_server_factory({}, maxChildren="7", maxThreads="2", maxSpare="3")
    assert (settings().processes, settings().threads) == (7, 2)


def test_spare_threads_need_no_limit():
    deploy.server_factory({}, minSpare="10", maxSpare="20")
    assert (settings().min_spare, settings().max_spare, settings().threads) == (
        10,
        20,
        20,
    )


def test_spare_threads_that_are_no_number_are_refused_by_name():
    with pytest.raises(SettingError, match=r"^minSpare = 'many': expected a whole"):
        deploy.server_factory({}, minSpare="many")


def test_section_may_inherit_from_another(load):
    load(
        "[server:main]\npaste.server_runner = paste_ajp.deploy:server_runner\n"
        "port = 81\nthreads = 2\n"
        "[server:two]\nuse = main\nport = 82\n",
        "two",
    )(application)
    assert (settings().port, settings().threads) == (82, 2)


def test_factory_binds_before_there_is_an_application(load):
    load("[server:main]\nuse = call:paste_ajp.deploy:server_factory")
    assert FakeServer.made[-1].told == ["bind"]


def test_runner_and_factory_can_be_called_without_a_file():
    deploy.server_runner(application, {}, port="81")
    deploy.server_factory(None, port="82")(application)
    assert [server.settings.port for server in FakeServer.made] == [81, 82]


def test_wrong_setting_is_a_real_exception(load, tmp_path):
    with pytest.raises(SettingError) as caught:
        load("[server:main]\nuse = call:paste_ajp.deploy:server_factory\nthread = 4")
    assert str(caught.value) == (
        f"{tmp_path / 'app.ini'} [server:main]: thread: no such setting; did you"
        " mean threads?"
    )


def test_error_of_bind_tells_what_was_written(load, tmp_path, monkeypatch):
    def bind(self):
        self.settings.load_secret()

    monkeypatch.setattr(FakeServer, "bind", bind)
    with pytest.raises(SettingError) as caught:
        load("[server:main]\nuse = egg:paste_ajp\nsecretFile = /none")
    assert str(caught.value).startswith(
        f"{tmp_path}/app.ini [server:main]: secretFile = '/none': cannot be read: "
    )


def test_wrong_setting_of_no_file_has_no_place():
    with pytest.raises(SettingError, match=r"^thread: no such setting"):
        deploy.server_factory({}, thread="4")


def test_loader_keys_are_no_settings():
    deploy.server_factory(
        {}, **{"paste.server_runner": "x", "paste.server_factory": "y"}
    )
    assert FakeServer.made


def test_global_options_are_no_settings(load):
    load(
        "[DEFAULT]\nthreads = 2\ndebug = true\n"
        "[server:main]\nuse = call:paste_ajp.deploy:server_factory"
    )
    assert (settings().threads, settings().debug) == (8, False)


# -- The application, loaded anew


def test_application_can_be_loaded_anew(tmp_path):
    path = tmp_path / "a b#c.ini"
    path.write_text(
        "[DEFAULT]\nname = file\n"
        f"[app:main]\nuse = call:{__name__}:make_application\nx = %(extra)s\n"
        "[server:main]\nuse = call:paste_ajp.deploy:server_factory\n"
    )
    loadserver(f"config:{quote(str(path))}", global_conf={"extra": "1"})
    path.write_text(path.read_text().replace("= file", "= changed"))
    global_conf, local_conf = FakeServer.made[-1].load_application()
    assert (global_conf["name"], local_conf) == ("changed", {"x": "1"})


def test_without_a_file_nothing_can_be_loaded_anew():
    deploy.server_factory({"__file__": "/no/such/file"})
    assert FakeServer.made[-1].load_application is None


# -- What PasteDeploy drops

OURS = "use = call:paste_ajp.deploy:server_factory\n"


@pytest.fixture
def warnings(caplog, tmp_path):
    def texts():
        place = f"{tmp_path / 'app.ini'}: "
        return [
            record.getMessage().removeprefix(place)
            for record in caplog.records
            if record.levelno >= logging.WARNING
        ]

    return texts


def test_hidden_by_default_section(load, warnings):
    load(f"[DEFAULT]\nport = 80\n[server:main]\n{OURS}port = 81\nthreads = 2")
    assert (settings().port, settings().threads) == (81, 2)
    (text,) = warnings()
    assert text == (
        "[server:main] sets port = 81, and [DEFAULT] sets port = 80, for which"
        " PasteDeploy drops the former. Using [server:main]. Rename the latter, or if"
        " it shall decide, write port = %(port)s in [server:main]."
    )


def test_hidden_by_command_line(load, warnings):
    load(f"[server:main]\n{OURS}port = 81", port="90")
    assert settings().port == 81
    (text,) = warnings()
    assert text.startswith(
        "[server:main] sets port = 81, and the command line sets port = 90, for which"
    )


def test_command_line_decides_where_the_section_says_so(load, warnings):
    load(f"[server:main]\n{OURS}port = %(port)s", port="90")
    assert settings().port == 90
    assert warnings() == []


def test_global_option_by_another_name_is_no_case(load, warnings):
    load(f"[server:main]\n{OURS}port = %(ajp_port)s", ajp_port="90")
    assert settings().port == 90
    assert warnings() == []


def test_hidden_value_is_interpolated(load):
    load(f"[DEFAULT]\nlisten = x\nrun = /run\n[server:main]\n{OURS}"
         "listen = unix:%(run)s/a.sock, unix:%(here)s/b.sock")  # fmt: skip
    first, second = settings().addresses
    assert first.path == "/run/a.sock"
    assert second.path.endswith("/b.sock")


def test_same_value_in_both_places_is_used_without_a_word(load, warnings):
    load(f"[DEFAULT]\nport = 81\n[server:main]\n{OURS}port = 81")
    assert settings().port == 81
    assert warnings() == []


def test_hidden_secret_is_used_and_not_shown(load, warnings):
    load(f"[DEFAULT]\nsecret = alpha\n[server:main]\n{OURS}secret = beta")
    assert settings().secret == "beta"
    (text,) = warnings()
    assert "alpha" not in text
    assert "beta" not in text


def test_hidden_mistake_is_refused_too(load):
    with pytest.raises(SettingError, match="did you mean threads"):
        load(f"[DEFAULT]\nthread = 1\n[server:main]\n{OURS}thread = 4")


def test_hidden_in_a_section_that_is_inherited(load):
    load(
        f"[DEFAULT]\nport = 80\nhost = x\n[server:main]\n{OURS}port = 81\nhost = ::1\n"
        "[server:two]\nuse = main\nport = 82\nthreads = 2\n",
        "two",
    )
    assert (settings().port, settings().host) == (82, "::1")


def test_hidden_in_a_file_that_is_inherited(load, tmp_path):
    (tmp_path / "other.ini").write_text(
        f"[server:main]\n{OURS}port = 81\n[server:two]\nuse = main\nthreads = 2"
    )
    load(
        "[DEFAULT]\nport = 80\n"
        "[server:a]\nuse = config:other.ini#two\nbacklog = 5\n"
        "[server:b]\nuse = config:other.ini\nbacklog = 6\n",
        "a",
    )
    assert (settings().port, settings().threads, settings().backlog) == (81, 2, 5)


def test_section_is_told_from_others_by_what_it_delivers(load):
    text = (
        f"[DEFAULT]\nport = 80\n[server:main]\n{OURS}port = 81\nthreads = 1\n"
        f"[server:two]\n{OURS}port = 82\nthreads = 2\n"
    )
    load(text, "two")
    assert settings().port == 82
    load(text)
    assert settings().port == 81


def test_section_of_another_server_is_not_taken_for_ours(load):
    load(
        f"[DEFAULT]\nport = 80\n[server:main]\n{OURS}port = 81\n"
        "[server:http]\nuse = egg:waitress\nport = 82\n"
    )
    assert settings().port == 81


def test_equal_sections_that_differ_in_what_is_hidden_mean_the_main_one(load, warnings):
    load(
        f"[DEFAULT]\nport = 80\n[server:two]\n{OURS}port = 82\n"
        f"[server:main]\n{OURS}port = 81\n"
    )
    assert settings().port == 81
    assert warnings()[0] == (
        "port = '81': [server:main] and [server:two] set it differently, and"
        " PasteDeploy does not tell which of them it loads, as [DEFAULT] sets it too;"
        " [server:main] is used; to have each section's own, call the one of [DEFAULT]"
        " otherwise, say my_port, and refer to it as %(my_port)s where it is wanted"
    )


def test_equal_sections_without_a_main_one_are_refused(load, tmp_path):
    with pytest.raises(SettingError) as caught:
        load(
            f"[server:one]\n{OURS}port = 81\n[server:two]\n{OURS}port = 82\n",
            "two",
            port="80",
        )
    assert str(caught.value) == (
        f"{tmp_path / 'app.ini'}: port = '81': [server:one] and [server:two] set it"
        " differently, and PasteDeploy does not tell which of them it loads, as the"
        " command line sets it too; to have each section's own, call the one of the"
        " command line otherwise, say my_port, and refer to it as %(my_port)s where it"
        " is wanted"
    )


def test_hidden_in_another_file_is_told_with_both_places(load, warnings, tmp_path):
    (tmp_path / "other.ini").write_text(f"[server:main]\n{OURS}port = 81\n")
    load("[DEFAULT]\nport = 80\n[server:main]\nuse = config:other.ini\n")
    assert settings().port == 81
    (text,) = warnings()
    assert text.startswith(
        f"{tmp_path / 'other.ini'}: [server:main] sets port = 81, and [DEFAULT] of"
        f" {tmp_path / 'app.ini'} sets port = 80, for which"
    )


def test_hidden_in_another_file_by_the_command_line(load, warnings, tmp_path):
    (tmp_path / "other.ini").write_text(f"[server:main]\n{OURS}port = 81\n")
    load("[server:main]\nuse = config:other.ini\n", port="90")
    (text,) = warnings()
    assert ", and the command line sets port = 90, for" in text


def test_equal_sections_that_agree_are_fine(load):
    load(
        f"[DEFAULT]\nport = 80\n[server:main]\n{OURS}port = 81\n"
        f"[server:two]\n{OURS}port = 81\n"
    )
    assert settings().port == 81


def test_get_and_set_are_understood(load):
    load(
        f"[DEFAULT]\nport = 80\nmany = 3\n[server:main]\n{OURS}port = 81\n"
        "set many = 4\nget threads = many\n"
    )
    assert (settings().port, settings().threads) == (81, 4)


def test_broken_section_beside_ours_does_no_harm(load):
    load(
        f"[DEFAULT]\nport = 80\n[server:main]\n{OURS}port = 81\n"
        "[server:two]\nuse = nowhere\n[server:three]\nuse = three\n"
        "[server:four]\nuse = config:none.ini\nport = %(nothing)s\n"
    )
    assert settings().port == 81


def test_broken_value_beside_ours_is_not_shown(load, caplog):
    caplog.set_level("DEBUG")
    load(
        f"[server:main]\n{OURS}port = 81\n[server:two]\n{OURS}secret = hun%ter2\n"
        "port = %(port)s\n"
    )
    assert settings().port == 81
    assert "[server:two]: secret: a % in it begins no %(name)s" in caplog.text
    assert "ter2" not in caplog.text


def test_broken_value_is_not_shown_when_the_file_is_read_anew(tmp_path):
    path = tmp_path / "app.ini"
    path.write_text("[app:main]\nuse = call:x:y\npassword = hun%ter2\n")
    source = IniSource(str(path), {}, None, None, {}, dict)
    with pytest.raises(SettingError) as caught:
        source.application()
    shown = "".join(traceback.format_exception(caught.value))
    assert f"{path} [app:main]: password: a % in it begins no" in shown
    assert "ter2" not in shown


def test_demo_is_found(installed, tmp_path):
    assert loadapp("egg:paste_ajp#demo")
