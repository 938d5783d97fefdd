import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import paste_ajp
from paste_ajp import cli, inifile
from paste_ajp.protocol import codes
from paste_ajp.serving import BindError, demand_secret
from tests.unit.fake_server import FakeServer

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No sockets, an empty directory to be in, logging as it was afterwards."""
    monkeypatch.setattr(cli, "Server", FakeServer)
    monkeypatch.setattr(FakeServer, "made", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    ours = logging.getLogger("paste_ajp")
    before = ours.level, ours.handlers[:], logging.root.level, logging.root.handlers[:]
    yield
    ours.level, ours.handlers[:], logging.root.level, logging.root.handlers[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("web_"):
            del sys.modules[name]


def write(name, text):
    Path(name).write_text(text)


APPLICATION = """\
def make(global_conf, **local):
    return Application(local)

class Application:
    def __init__(self, local):
        self.local = local

    def __call__(self, environ, start_response):
        raise NotImplementedError
"""

APPS = """\
[app:main]
use = call:web_app:make
name = main
[app:two]
use = call:web_app:make
name = two
"""


def ini(server="", rest=""):
    write("web_app.py", APPLICATION)
    write("x.ini", f"{APPS}{server}\n{rest}")


def module(text):
    write("web_app.py", text)


def fails(capsys, *arguments):
    """Run a command that is to fail; give its exit status and its error."""
    try:
        status = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    return status, capsys.readouterr().err


def settings():
    return FakeServer.made[-1].settings


# -- serve: what


def test_module_attribute_is_served():
    module("app = lambda environ, start_response: []")
    assert cli.main(["serve", "web_app:app"]) == 0
    (server,) = FakeServer.made
    assert server.told == ["bind", "run", "close"]
    assert server.application is sys.modules["web_app"].app


def test_attribute_may_be_deeper():
    module("class Site:\n    app = print")
    assert cli.main(["serve", "web_app:Site.app"]) == 0
    assert FakeServer.made[-1].application is print


def test_factory_is_called():
    module("def make():\n    return print")
    assert cli.main(["serve", "web_app:make()"]) == 0
    assert FakeServer.made[-1].application is print


def test_ini_file_is_served():
    ini("[server:main]\nuse = egg:paste_ajp\nport = 81")
    assert cli.main(["serve", "x.ini"]) == 0
    assert FakeServer.made[-1].application.local == {"name": "main"}
    assert settings().port == 81


def test_other_sections_can_be_named():
    ini(
        "[server:main]\nuse = egg:paste_ajp\nport = 81\n"
        "[server:b]\nuse = main\nport = 82"
    )
    assert cli.main(["serve", "x.ini#two", "--server-name", "b"]) == 0
    assert FakeServer.made[-1].application.local == {"name": "two"}
    assert settings().port == 82


@pytest.mark.parametrize(
    ("server", "flags", "served"),
    [
        ("app_name = two", (), "two"),
        ("", ("--app-name", "two"), "two"),
        ("app_name = main", ("--app-name", "two"), "two"),
        ("app_name = main", ("x.ini#two",), "two"),
    ],
)
def test_application_of_the_file_is_the_one_that_is_named(server, flags, served):
    ini(f"[server:main]\nuse = egg:paste_ajp\n{server}")
    target = () if "x.ini#two" in flags else ("x.ini",)
    assert cli.main(["serve", *target, *flags]) == 0
    assert FakeServer.made[-1].application.local == {"name": served}
    assert FakeServer.made[-1].source.application().local == {"name": served}


def test_application_that_the_file_does_not_have_is_an_error(capsys):
    ini()
    status, error = fails(capsys, "serve", "--check", "x.ini", "--app-name", "none")
    assert status == 1
    assert error.startswith("paste-ajp: cannot load x.ini#none: ")


def test_app_name_is_for_ini_files(capsys):
    module("app = print")
    status, error = fails(capsys, "serve", "web_app:app", "--app-name", "two")
    assert (status, error) == (
        2,
        "paste-ajp: web_app:app: --app-name is for INI files\n",
    )


def serves_on_defaults(caplog):
    """Serve an INI file; give the level and the text of what the log says of it."""
    caplog.set_level(logging.INFO, "paste_ajp")
    assert cli.main(["serve", "x.ini"]) == 0
    assert settings().port == 8009
    ((_, level, text),) = caplog.record_tuples
    return logging.getLevelName(level), text


def test_ini_file_needs_no_server_section(caplog):
    ini()
    assert serves_on_defaults(caplog) == (
        "INFO",
        (
            "x.ini: no [server:main]: flags and defaults hold, on 127.0.0.1:8009"
            " (for other settings write one, with use = egg:paste_ajp)"
        ),
    )


def test_sections_that_nobody_asks_for_are_told(caplog):
    ini(
        "[server:http]\nuse = egg:waitress\nport = 80\n"
        "[server:b]\nuse = egg:paste_ajp\nport = 82"
    )
    assert serves_on_defaults(caplog) == (
        "WARNING",
        (
            "x.ini: no [server:main], and --server-name is not given for [server:http]"
            " or [server:b]: flags and defaults hold, on 127.0.0.1:8009 (give it, or"
            " write [server:main] with use = egg:paste_ajp)"
        ),
    )


def test_section_of_another_server_is_not_used(caplog):
    ini("[server:main]\nuse = egg:waitress\nport = 80")
    assert serves_on_defaults(caplog) == (
        "WARNING",
        (
            "x.ini: [server:main] is for egg:waitress; its settings are not used: flags"
            " and defaults hold, on 127.0.0.1:8009 (--server-name names another"
            " section)"
        ),
    )


def test_section_without_use_is_told_what_to_write(caplog):
    ini("[server:main]\nport = 80")
    assert serves_on_defaults(caplog) == (
        "WARNING",
        (
            "x.ini: [server:main] has no use = ..., so its settings are not used: flags"
            " and defaults hold, on 127.0.0.1:8009 (write use = egg:paste_ajp in it)"
        ),
    )


@pytest.mark.parametrize("name", ["server main", "Server:main"])
def test_section_that_is_nearly_ours_is_told(caplog, name):
    ini(f"[{name}]\nuse = egg:paste_ajp\nport = 80")
    assert serves_on_defaults(caplog) == (
        "WARNING",
        (
            f"x.ini: no [server:main], and [{name}] is no server section: flags and"
            " defaults hold, on 127.0.0.1:8009 (write [server:main], in just these"
            " letters)"
        ),
    )


def test_section_of_ours_needs_no_word(caplog):
    ini("[server]\nuse = egg:paste_ajp")
    caplog.set_level(logging.INFO, "paste_ajp")
    assert cli.main(["serve", "x.ini"]) == 0
    assert caplog.record_tuples == []


def test_defaults_are_told_once_and_with_the_address_of_the_flags(caplog):
    ini()
    caplog.set_level(logging.INFO, "paste_ajp")
    assert cli.main(["serve", "x.ini", "--port=83", "--host=::1"]) == 0
    FakeServer.made[-1].source.application()
    FakeServer.made[-1].source.settings()
    (text,) = caplog.messages
    assert "on [::1]:83 (" in text


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "use = egg:paste_ajp#foo",
            (
                "egg:paste_ajp#foo: no such entry point for a server; there are ajp,"
                " ajp_fork, ajp_thread, main"
            ),
        ),
        (
            "use = egg:Paste-AJP#demo",
            (
                "egg:Paste-AJP#demo: no such entry point for a server; there are ajp,"
                " ajp_fork, ajp_thread, main"
            ),
        ),
        (
            "use = call:paste_ajp.deploy:foo",
            (
                "call:paste_ajp.deploy:foo: it cannot be loaded: module"
                " 'paste_ajp.deploy' has no attribute 'foo'"
            ),
        ),
        (
            "paste.server_factory = paste_ajp.none:foo",
            "paste_ajp.none:foo: it cannot be loaded: No module named 'paste_ajp.none'",
        ),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--check",)])
def test_server_that_we_do_not_have_is_refused(capsys, code, problem, flags):
    ini(f"[server:main]\n{code}")
    assert fails(capsys, "serve", "x.ini", *flags) == (
        2,
        f"paste-ajp: x.ini [server:main]: {problem}\n",
    )


@pytest.mark.parametrize(
    "code",
    [
        "use = egg:paste_ajp",
        "use = egg:paste-ajp#main",
        "use = egg:paste_ajp#ajp_thread",
        "use = call:paste_ajp.deploy:server_runner",
        "paste.server_factory = paste_ajp.deploy:fork_server_factory",
        "paste.server_runner = paste_ajp.deploy:server_runner",
    ],
)
def test_server_that_we_have_is_taken(code):
    ini(f"[server:main]\n{code}\nport = 81")
    assert cli.main(["serve", "x.ini"]) == 0
    assert settings().port == 81


def test_code_of_a_package_that_is_not_installed_is_taken():
    assert inifile.problem_of("egg:paste_ajp_elsewhere#foo") == ""


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("use = none", "No section 'none' (prefixed by 'server') found in config"),
        ("use = main", "[server:main] in {here}/x.ini uses itself"),
        (
            "use = egg:paste_ajp\nget port = none",
            "[server:main] in {here}/x.ini: get port = none: no such global option",
        ),
    ],
)
def test_main_section_that_cannot_be_read_is_refused(capsys, tmp_path, server, problem):
    ini(f"[server:main]\n{server}")
    status, error = fails(capsys, "serve", "x.ini")
    assert status == 2
    assert error.startswith(f"paste-ajp: x.ini: {problem.format(here=tmp_path)}")


def test_variables_are_interpolated():
    ini("[server:main]\nuse = egg:paste_ajp\nport = %(http_port)s")
    assert cli.main(["serve", "x.ini", "http_port=83"]) == 0
    assert settings().port == 83


def test_what_pastedeploy_would_drop_is_used():
    ini("[server:main]\nuse = egg:paste_ajp\nport = 81", "[DEFAULT]\nport = 80")
    assert cli.main(["serve", "x.ini"]) == 0
    assert settings().port == 81


def test_spare_threads_of_a_section_need_no_limit():
    ini("[server:main]\nuse = egg:paste_ajp\nminSpare = 10\nmaxSpare = 20")
    assert cli.main(["serve", "x.ini"]) == 0
    assert settings().threads == 20


def test_fork_section_is_understood():
    ini("[server:main]\nuse = egg:paste_ajp#ajp_fork\nmaxSpare = 3")
    assert cli.main(["serve", "x.ini"]) == 0
    assert (settings().processes, settings().threads) == (3, 1)


def test_application_can_be_loaded_anew():
    module("app = print")
    cli.main(["serve", "web_app:app"])
    assert FakeServer.made[-1].load_application() is print


# -- serve: flags


def test_flags_are_settings():
    module("app = print")
    cli.main(["serve", "--port=0", "--threads", "3", "--debug", "web_app:app"])
    assert (settings().port, settings().threads, settings().debug) == (0, 3, True)


def test_flags_override_the_file():
    ini("[server:main]\nuse = egg:paste_ajp\nmaxThreads = 4\nport = 81")
    cli.main(["serve", "x.ini", "--threads", "3"])
    assert (settings().port, settings().threads) == (81, 3)


@pytest.mark.parametrize(
    ("written", "flags", "addresses"),
    [
        ("host = ::1\nport = 81", ["--listen", "*:82"], ["*:82"]),
        ("listen = *:82", ["--port", "81"], ["127.0.0.1:81"]),
        ("listen = *:82", ["--host", "::1"], ["[::1]:8009"]),
        ("listen = *:82", ["--threads", "9"], ["*:82"]),
    ],
)
def test_address_overrides_an_address_of_the_other_kind(written, flags, addresses):
    ini(f"[server:main]\nuse = egg:paste_ajp\n{written}")
    cli.main(["serve", "x.ini", *flags])
    assert [str(address) for address in settings().addresses] == addresses


def test_secret_overrides_a_secret_of_the_other_kind():
    ini("[server:main]\nuse = egg:paste_ajp\nsecret_file = /x")
    cli.main(["serve", "x.ini", "--secret", "s"])
    assert (settings().secret, settings().secret_file) == ("s", None)


# -- serve --check


def test_check_loads_and_does_not_serve(capsys):
    module("app = print")
    assert cli.main(["serve", "--check", "web_app:app"]) == 0
    assert FakeServer.made[-1].told == []
    assert capsys.readouterr().out == (
        "web_app:app: settings and application are fine\n"
    )


def test_check_reads_the_secret(capsys):
    module("app = print")
    status, error = fails(capsys, "serve", "--check", "--secret-file=no", "web_app:app")
    assert status == 2
    assert error.startswith("paste-ajp: --secret-file = 'no': cannot be read")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("none/trace", "there is no folder none"),
        ("folder", "it is a folder"),
        ("file/trace", "there is no folder file"),
        ("shut/trace", "no permission for the folder shut"),
        ("shut_file", "no permission"),
    ],
)
def test_check_tells_that_the_trace_cannot_be_written(
    capsys, monkeypatch, path, problem
):
    module("raise AssertionError('it was loaded')")
    Path("folder").mkdir()
    Path("shut").mkdir()
    write("file", "")
    write("shut_file", "")
    monkeypatch.setattr(  # root may do all
        os, "access", lambda path, mode: "shut" not in str(path)
    )
    arguments = ("serve", "--check", "--trace", path, "web_app:app")
    assert fails(capsys, *arguments) == (
        2,
        f"paste-ajp: --trace = '{path}': cannot be written: {problem}\n",
    )


@pytest.mark.parametrize("path", ["trace", "folder/trace", "file"])
def test_check_leaves_no_trace_behind(path):
    module("app = print")
    Path("folder").mkdir()
    write("file", "kept")
    before = sorted(Path.cwd().rglob("*"))
    assert cli.main(["serve", "--check", "--trace", path, "web_app:app"]) == 0
    after = [
        found for found in Path.cwd().rglob("*") if "__pycache__" not in str(found)
    ]
    assert sorted(after) == before
    assert Path("file").read_text() == "kept"


def test_check_demands_a_secret_where_others_can_come(capsys):
    module("app = print")
    status, error = fails(capsys, "serve", "--check", "--host=*", "web_app:app")
    assert status == 2
    assert error.startswith("paste-ajp: secret_required = 'auto': *:8009 needs")


def test_check_loads_the_application(capsys):
    status, error = fails(capsys, "serve", "--check", "web_none:app")
    assert (status, error) == (
        1,
        "paste-ajp: cannot load web_none:app: no module named web_none\n",
    )


# -- serve: errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--port=x", "web_app:app"],
            "--port = 'x': expected a whole number from 0 to 65535",
            id="flag",
        ),
        pytest.param(
            ["--scriptName", "app", "web_app:app"],
            "--scriptName = 'app': expected a URL path that begins with /,"
            " percent-decoded, or nothing (it does not begin with /)",
            id="flag in another spelling",
        ),
        pytest.param(
            ["--max_threads=x", "web_app:app"],
            "--max_threads (threads) = 'x': expected a whole number from 1 to 1000",
            id="flag by another name",
        ),
        pytest.param(
            ["--listen=*:1", "--host=::1", "web_app:app"],
            "--listen = '*:1': given with --host; name every address in --listen alone",
            id="two flags",
        ),
        pytest.param(
            ["web_app"],
            "web_app: expected an INI file, module:attribute or module:factory()",
            id="target",
        ),
        pytest.param(
            ["web_app.py:app"],
            "web_app.py:app: expected an INI file, module:attribute or"
            " module:factory(); did you mean web_app:app?",
            id="module as a file",
        ),
        pytest.param(
            ["web_app.py"],
            "web_app.py: expected an INI file, module:attribute or module:factory();"
            " did you mean web_app:NAME?",
            id="file of Python",
        ),
        pytest.param(
            ["./site/web.py:app"],
            "./site/web.py:app: expected an INI file, module:attribute or"
            " module:factory(); did you mean site.web:app?",
            id="module in a folder",
        ),
        pytest.param(
            ["/site/web.py"],
            "/site/web.py: expected an INI file, module:attribute or"
            " module:factory(); did you mean web:NAME?",
            id="module elsewhere",
        ),
        pytest.param(
            ["web_app.make()"],
            "web_app.make(): expected an INI file, module:attribute or"
            " module:factory(); did you mean web_app:make()?",
            id="dot for the colon",
        ),
        pytest.param(
            [""],
            "nothing: expected an INI file, module:attribute or module:factory()",
            id="nothing",
        ),
        pytest.param(
            ["--host=127.0.0.1:80", "web_app:app"],
            "--host = '127.0.0.1:80': expected a host name, an IP address, or * for"
            " every address (the port has a setting of its own)",
            id="host with a port",
        ),
        pytest.param(
            ["none.ini"], "none.ini: No such file or directory", id="no such file"
        ),
        pytest.param(
            ["web_app:app", "a=b"],
            "web_app:app: name=value and --server-name are for INI files",
            id="variables of a module",
        ),
        pytest.param(["x.ini", "a"], "a: expected name=value", id="variable"),
        pytest.param(
            ["x.ini", "--server-name=b"],
            "x.ini: No section 'b' (prefixed by 'server') found in config {here}/x.ini",
            id="no such section",
        ),
        pytest.param(
            ["bad.ini"],
            "bad.ini: File contains no section headers. file: '{here}/bad.ini',"
            " line: 1 'what?'",
            id="no INI file",
        ),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, tmp_path, arguments, message):
    module("app = print")
    ini()
    write("bad.ini", "what?")
    status, error = fails(capsys, "serve", *arguments)
    assert status == 2
    assert error == f"paste-ajp: {message.format(here=tmp_path)}\n"


def test_wrong_setting_of_a_file_is_named_with_its_place(capsys):
    ini("[server:main]\nuse = egg:paste_ajp\nthread = 3")
    assert fails(capsys, "serve", "x.ini") == (
        2,
        (
            "paste-ajp: x.ini [server:main]: thread: no such setting;"
            " did you mean threads?\n"
        ),
    )


def test_setting_of_a_file_that_does_not_go_with_a_flag_is_told_as_written(capsys):
    ini("[server:main]\nuse = egg:paste_ajp\nminSpareThreads = 4")
    status, error = fails(capsys, "serve", "x.ini", "--threads=2")
    assert status == 2
    assert error == (
        "paste-ajp: x.ini [server:main]: minSpareThreads (min_spare) = 4: more than"
        " --threads = 2\n"
    )


def bind_as_servers_do(self):
    """Check what Server.bind() checks, without a socket."""
    demand_secret(self.settings, self.settings.addresses)


@pytest.mark.parametrize("check", [(), ("--check",)])
@pytest.mark.parametrize(
    ("server", "flags", "message"),
    [
        pytest.param(
            "secretFile = none",
            [],
            "x.ini [server:main]: secretFile = 'none': cannot be read: ",
            id="secret_file of the file",
        ),
        pytest.param(
            "secretFile = none",
            ["--secret-file=other"],
            "--secret-file = 'other': cannot be read: ",
            id="secret_file of a flag",
        ),
        pytest.param(
            "secret_file = web_app.py",
            [],
            "x.ini [server:main]: secret_file = 'web_app.py': expected the secret in",
            id="secret_file without a secret",
        ),
        pytest.param(
            "address = 0.0.0.0",
            [],
            "x.ini [server:main]: secret_required = 'auto': 0.0.0.0:8009 needs a",
            id="host of the file",
        ),
        pytest.param(
            "listen = *:1",
            ["--threads=2"],
            "x.ini [server:main]: secret_required = 'auto': *:1 needs a",
            id="listen of the file",
        ),
        pytest.param(
            "host = 0.0.0.0",
            ["--host=::"],
            "secret_required = 'auto': [::]:8009 needs a",
            id="host of a flag",
        ),
        pytest.param(
            "host = 0.0.0.0",
            ["--listen=*:1"],
            "secret_required = 'auto': *:1 needs a",
            id="listen of a flag",
        ),
        pytest.param(
            "secretRequired = yes",
            ["--host=::1"],
            "x.ini [server:main]: secretRequired = True: any address needs a",
            id="secret_required of the file",
        ),
    ],
)
def test_setting_that_fails_late_is_told_with_its_place(
    capsys, monkeypatch, server, flags, message, check
):
    monkeypatch.setattr(FakeServer, "bind", bind_as_servers_do)
    ini(f"[server:main]\nuse = egg:paste_ajp\n{server}")
    write("web_app.py", "\n")  # which is not loaded, and holds no secret
    status, error = fails(capsys, "serve", "x.ini", *flags, *check)
    assert status == 2
    assert error.startswith(f"paste-ajp: {message}")


def test_setting_of_a_flag_is_told_without_a_place_where_the_file_has_its_like(capsys):
    ini("[server:main]\nuse = egg:paste_ajp\nmaxThreads = 3")
    assert fails(capsys, "serve", "x.ini", "--min-spare=4") == (
        2,
        "paste-ajp: --min-spare = 4: more than maxThreads (threads) = 3\n",
    )


def test_trace_of_the_file_is_told_with_its_place(capsys):
    ini("[server:main]\nuse = egg:paste_ajp\ntrace = none/trace")
    status, error = fails(capsys, "serve", "--check", "x.ini")
    assert status == 2
    assert error.startswith("paste-ajp: x.ini [server:main]: trace = 'none/trace': ")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ("egg:paste_ajp\nscriptName = app", "scriptName = 'app': expected a URL path"),
        (
            "egg:paste_ajp#ajp_fork\nmaxSpare = x",
            "maxSpare (processes) = 'x': expected a whole number",
        ),
    ],
)
def test_wrong_setting_of_a_file_is_told_as_written(capsys, server, message):
    ini(f"[server:main]\nuse = {server}")
    status, error = fails(capsys, "serve", "x.ini")
    assert status == 2
    assert error.startswith(f"paste-ajp: x.ini [server:main]: {message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["serve", "--thread=3", "web_app:app"],
            "serve: no such flag: --thread; did you mean --threads?",
        ),
        (["settings", "--thread"], "settings: no such flag: --thread"),
        (["settings", "all"], "settings: no such argument: all"),
    ],
)
def test_unknown_flag_is_named_and_gets_a_hint(capsys, arguments, message):
    command = message.partition(":")[0]
    assert fails(capsys, *arguments) == (
        2,
        f"paste-ajp {message}; see paste-ajp {command} --help\n",
    )


@pytest.mark.parametrize(
    "flags",
    [
        ["--script-name", "/x", "--no-trust-remote-user"],
        ["--script_name=/x", "--no_trust_remote_user"],
        ["--scriptName", "/x", "--noTrustRemoteUser"],
    ],
)
def test_spelling_of_a_flag_is_free(flags):
    module("app = print")
    assert cli.main(["serve", *flags, "--maxThreads=3", "web_app:app"]) == 0
    assert (settings().script_name, settings().trust_remote_user) == ("/x", False)
    assert settings().threads == 3


@pytest.mark.parametrize(
    ("first", "second", "flag"),
    [
        ("--threads=3", "--threads=4", "--threads"),
        ("--threads=3", "--maxThreads=4", "--threads"),
        ("--debug", "--no-debug", "--debug"),
    ],
)
def test_flag_that_is_given_twice_is_refused(capsys, first, second, flag):
    names = [word.partition("=")[0] for word in (first, second)]
    status, error = fails(capsys, "serve", first, second, "web_app:app")
    assert status == 2
    assert error.startswith(
        f"paste-ajp serve: {flag} given twice, as {names[0]} and as {names[1]}; see"
    )


def test_what_follows_two_dashes_is_no_flag(capsys):
    status, error = fails(capsys, "serve", "--threads=3", "--", "--threads=4")
    assert (status, error.split(": ")[1]) == (2, "--threads=4")


@pytest.mark.parametrize("command", ["serve", "settings", "ping", "request",
                                     "gateway", "explain"])  # fmt: skip
def test_command_has_its_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: paste-ajp {command} " in capsys.readouterr().out


def test_no_command_is_wrong_usage(capsys):
    assert fails(capsys) == (
        2,
        (
            "paste-ajp: the following arguments are required: COMMAND;"
            " see paste-ajp --help\n"
        ),
    )


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("app = 5", "web_app:app", "a int is no WSGI application"),
        ("apple = print", "web_app:app", "web_app has no app; did you mean apple?"),
        ("x = 5", "web_app:x()", "web_app.x cannot be called"),
        ("", "web_app.sub:app", "no module named web_app.sub"),
    ],
)
def test_application_that_is_none_is_one_line_and_status_1(
    capsys, text, target, message
):
    module(text)
    status, error = fails(capsys, "serve", target)
    assert status == 1
    assert error == f"paste-ajp: cannot load {target}: {message}\n"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("def broken():\n    return 1 / 0\nbroken()", "web_app:app"),
        (
            "def make():\n    return broken()\ndef broken():\n    1 / 0",
            "web_app:make()",
        ),
        ("def make(global_conf, **local):\n    1 / 0", "y.ini"),
    ],
)
def test_application_that_fails_shows_its_own_frames(capsys, text, target):
    module(text)
    write("y.ini", "[app:main]\nuse = call:web_app:make")
    status, error = fails(capsys, "serve", target)
    assert status == 1
    first, *lines = error.splitlines()
    assert first == (
        f"paste-ajp: cannot load {target}: ZeroDivisionError: division by zero"
    )
    frames = [line for line in lines if line.startswith("  File ")]
    assert frames
    assert [frame for frame in frames if "web_app.py" not in frame] == []


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("import sys\nsys.exit(0)", "web_app:app"),
        ("import sys\ndef make():\n    sys.exit(0)", "web_app:make()"),
        ("import sys\ndef make(global_conf):\n    sys.exit(0)", "y.ini"),
    ],
)
def test_application_that_exits_is_a_failure(capsys, text, target):
    module(text)
    write("y.ini", "[app:main]\nuse = call:web_app:make")
    status, error = fails(capsys, "serve", "--check", target)
    assert status == 1
    assert error.startswith(f"paste-ajp: cannot load {target}: SystemExit: 0\n")


def test_import_that_is_missing_deeper_shows_who_wanted_it(capsys):
    module("import web_nothing")
    status, error = fails(capsys, "serve", "web_app:app")
    assert status == 1
    assert "ModuleNotFoundError: No module named 'web_nothing'" in error
    assert 'web_app.py", line 1' in error


def test_causes_are_shown_without_our_frames(capsys):
    module(
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError from e"
    )
    _, error = fails(capsys, "serve", "web_app:app")
    assert "ZeroDivisionError" in error
    assert "targets.py" not in error


def test_address_that_is_taken_is_status_1(capsys, monkeypatch):
    def taken(self):
        raise BindError("127.0.0.1:8009: address in use")

    monkeypatch.setattr(FakeServer, "bind", taken)
    module("app = print")
    assert fails(capsys, "serve", "web_app:app") == (
        1,
        "paste-ajp: 127.0.0.1:8009: address in use\n",
    )


def test_interrupt_while_loading_ends_as_shells_expect():
    module("raise KeyboardInterrupt")
    assert cli.main(["serve", "web_app:app"]) == 130


# -- serve: logging

LOGGERS = """\
[loggers]
keys = root
[handlers]
keys = file
[formatters]
keys =
[logger_root]
level = INFO
handlers = file
[handler_file]
class = FileHandler
args = (%s,)
"""


def test_logging_of_the_file_is_used():
    ini(rest=LOGGERS % "'%(here)s/log', 'w'")
    cli.main(["serve", "x.ini"])
    (handler,) = [h for h in logging.root.handlers if type(h) is logging.FileHandler]
    handler.close()
    assert Path("log").exists()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server:main]\nuse = egg:paste_ajp\nsecret = hun%ter2", "server:main"),
        ("[DEFAULT]\nsecret = hun%ter2", "DEFAULT"),
        ("[app:three]\nuse = main\nsecret = hun%ter2", "app:three"),
        ("[loggers]\n[formatters]\nkeys = hun%ter2", "formatters"),
    ],
)
def test_percent_sign_in_a_value_is_told_without_the_value(capsys, text, place):
    ini(rest=text)
    name = "keys" if place == "formatters" else "secret"
    target = "x.ini#three" if "three" in text else "x.ini"
    status, error = fails(capsys, "serve", "--check", target)
    assert status == 2
    assert error == (
        f"paste-ajp: {Path('x.ini').resolve()} [{place}]: {name}: a % in it begins no"
        " %(name)s: write %% for each % that is meant\n"
    )


def test_reference_to_no_option_is_told_by_its_name(capsys):
    ini("[server:main]\nuse = egg:paste_ajp\nsecret = hunter2 %(none)s")
    status, error = fails(capsys, "serve", "x.ini")
    assert status == 2
    assert error.endswith(
        "[server:main]: secret: it refers to %(none)s, and there is no such option\n"
    )


def test_broken_logging_is_one_line(capsys):
    ini(rest=LOGGERS % "nonsense")
    status, error = fails(capsys, "serve", "x.ini")
    assert status == 2
    assert error.startswith("paste-ajp: x.ini: [loggers]: NameError: ")


def test_logging_without_its_sections_is_told_what_is_missing(capsys):
    ini(rest="[loggers]\nkeys = root")
    assert fails(capsys, "serve", "x.ini") == (
        2,
        (
            "paste-ajp: x.ini: [loggers]: there is no 'formatters' for it, neither"
            " section nor option\n"
        ),
    )


def test_stderr_is_the_default(capsys):
    logging.root.handlers.clear()
    module("app = print")
    cli.main(["serve", "-v", "web_app:app"])
    logging.getLogger("paste_ajp").debug("seen")
    assert "DEBUG   paste_ajp: seen" in capsys.readouterr().err


# -- settings


def test_settings_page_is_up_to_date(capsys):
    cli.main(["settings", "--markdown"])
    page = (ROOT / "docs" / "settings.md").read_text()
    assert page == capsys.readouterr().out, (
        "run: paste-ajp settings --markdown > docs/settings.md"
    )


def test_settings_ini_loads(capsys):
    cli.main(["settings", "--ini"])
    ini(capsys.readouterr().out)
    assert cli.main(["serve", "x.ini"]) == 0


def test_settings_text_names_them(capsys):
    assert cli.main(["settings"]) == 0
    assert "threads = 8\n    Worker threads" in capsys.readouterr().out


# -- The rest


@pytest.mark.parametrize(
    ("use", "problem"),
    [
        ("egg:no-such-distribution", "no-such-distribution"),
        ("egg:paste_ajp#nope", "Entry point 'nope' not found in egg 'paste_ajp'"),
    ],
)
def test_application_that_an_ini_file_names_in_vain_takes_one_line(
    capsys, use, problem
):
    write("x.ini", f"[app:main]\nuse = {use}\n")
    status, error = fails(capsys, "serve", "--check", "x.ini")
    assert status == 1
    assert error.startswith("paste-ajp: cannot load x.ini: ")
    assert problem in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("target", "text", "place"),
    [
        ("x.ini", "[app:main]\nuse = egg:paste_ajp#gateway", "x.ini [app:main]"),
        ("x.ini#b", "[app:b]\nuse = egg:Paste-AJP#gateway", "x.ini [app:b]"),
        (
            "x.ini",
            (
                "[pipeline:main]\npipeline = b\n"
                "[app:b]\npaste.app_factory = paste_ajp.http_door:make_gateway"
            ),
            "x.ini",
        ),
    ],
)
def test_gateway_of_a_file_with_a_wrong_setting_is_one_line(
    capsys, target, text, place
):
    write("x.ini", f"{text}\ntarget = ajp://h\ntimeuot = 3\n")
    assert fails(capsys, "serve", "--check", target) == (
        2,
        f"paste-ajp: {place}: timeuot: no such setting; did you mean timeout?\n",
    )


def test_missing_argument_is_named(capsys):
    status, error = fails(capsys, "serve")
    assert status == 2
    assert "the following arguments are required: APP; see" in error


def test_development_ini_loads(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["serve", "--check", "development.ini"]) == 0
    assert settings().addresses[0].is_local


def test_help_tells_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--help"])
    assert ended.value.code == 0
    assert "--allowed-servers VALUE" in capsys.readouterr().out


def test_reader_that_has_enough_is_no_error(monkeypatch):
    def gone(arguments):
        raise BrokenPipeError

    command = cli.Command("gone", "", lambda parser: None, gone)
    monkeypatch.setattr(cli, "COMMANDS", (command,))
    monkeypatch.setattr(cli, "forget_stdout", lambda: None)
    assert cli.main(["gone"]) == 1


@pytest.mark.parametrize("name", paste_ajp.__all__)
def test_public_name_is_there(name):
    assert getattr(paste_ajp, name) is not None
    assert name in dir(paste_ajp)


def test_other_name_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = paste_ajp.nothing


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "paste_ajp", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_module_is_the_command():
    ended = run_module("--version")
    assert (ended.returncode, ended.stdout.split()[:2]) == (
        0,
        ["paste-ajp", paste_ajp.__version__],
    )


@pytest.mark.parametrize(
    ("file", "more"),
    [("codes.py", ""), ("codes.cpython-311-x86_64-linux-gnu.so", " (compiled)")],
)
def test_version_says_whether_it_is_compiled(monkeypatch, capsys, file, more):
    monkeypatch.setattr(codes, "__file__", file)
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"paste-ajp {paste_ajp.__version__}{more}\n"


def test_exit_status_reaches_the_shell():
    assert run_module("serve", "nothing").returncode == 2
