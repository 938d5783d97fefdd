import dataclasses
import os

import pytest

from paste_ajp.addresses import Address
from paste_ajp.options import SettingError
from paste_ajp.settings import Settings


def refused(given):
    with pytest.raises(SettingError) as caught:
        Settings.parse(given)
    return caught.value


def test_defaults_are_loopback_and_quiet():
    settings = Settings()
    assert settings.addresses == (Address("tcp", host="127.0.0.1", port=8009),)
    assert settings.debug is False
    assert settings == Settings.parse({})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("script_name", "script_name"),
        ("scriptName", "script_name"),
        ("Script-Name", "script_name"),
        ("removedPrefix", "removed_prefix"),
    ],
)
def test_name_is_found_in_any_spelling(name, field):
    assert getattr(Settings.parse({name: "/x"}), field) == "/x"


@pytest.mark.parametrize(
    ("alias", "field"),
    [
        ("maxThreads", "threads"),
        ("minSpare", "min_spare"),
        ("maxSpare", "max_spare"),
        ("maxChildren", "processes"),
        ("maxRequests", "max_requests"),
        ("acceptCount", "backlog"),
        ("maxConnections", "max_connections"),
    ],
)
def test_other_servers_names_are_known(alias, field):
    assert getattr(Settings.parse({alias: "7"}), field) == 7


def test_tomcats_names_are_known():
    settings = Settings.parse(
        {"packetSize": "64K", "address": "::1", "requiredSecret": "x",
         "secretRequired": "false", "allowedRequestAttributesPattern": "A.*"}
    )  # fmt: skip
    assert settings.packet_size == 65536
    assert settings.host == "::1"
    assert settings.secret == "x"
    assert settings.secret_required is False
    assert settings.allowed_request_attributes.pattern == "A.*"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"threads": "many"},
            "threads = 'many': expected a whole number from 1 to 1000",
            id="value",
        ),
        pytest.param(
            {"thread": 4},
            "thread: no such setting; did you mean threads?",
            id="near name",
        ),
        pytest.param(
            {"scriptNam": "/x"},
            "scriptNam: no such setting; did you mean script_name?",
            id="near name of flup's",
        ),
        pytest.param({"colour": "red"}, "colour: no such setting", id="far name"),
        pytest.param(
            {"threads": "4", "maxThreads": "5"},
            "maxThreads (threads) = '5': given twice, as threads and as maxThreads",
            id="twice",
        ),
        pytest.param(
            {"listen": "*:1", "port": "2"},
            "listen = '*:1': given with port; name every address in listen alone",
            id="listen and port",
        ),
        pytest.param(
            {"min_spare": "9"}, "min_spare = 9: more than threads = 8", id="spare"
        ),
        pytest.param(
            {"min_spare": 4, "max_spare": 3},
            "min_spare = 4: more than max_spare = 3",
            id="spares",
        ),
        pytest.param(
            {"packet_size": "64K", "receive_limit": "8K"},
            "receive_limit = 8192: less than packet_size = 65536",
            id="packets",
        ),
        pytest.param(
            {"secret": "x", "secret_file": "/x"},
            "secret_file = '/x': given with secret; one is enough",
            id="secrets",
        ),
        pytest.param(
            {"scriptName": "/app", "removed_prefix": "/app"},
            "removed_prefix = '/app': given with scriptName; the front"
            " end either takes the prefix away or leaves it",
            id="prefixes",
        ),
        pytest.param(
            {"tomcatAuthentication": "false"},
            "tomcatAuthentication = 'false': no such setting; trust_remote_user is"
            " its inverse",
            id="other meaning",
        ),
        pytest.param(
            {"keepAliveTimeout": "60000"},
            "keepAliveTimeout = '60000': Tomcat's is in milliseconds; set"
            " keep_alive_timeout, in seconds",
            id="other unit",
        ),
        pytest.param(
            {"connection_timeout": "5"},
            "connection_timeout = '5': Tomcat's is in milliseconds; set read_timeout,"
            " in seconds",
            id="other unit, spelled as ours",
        ),
    ],
)
def test_wrong_setting_is_refused_by_a_sentence(given, message):
    assert str(refused(given)) == message


def test_error_names_setting_value_and_problem():
    error = refused({"port": "x"})
    assert (error.name, error.value, error.problem) == (
        "port",
        "x",
        "expected a whole number from 0 to 65535",
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"scriptName": "app"},
            "scriptName = 'app': expected a URL path that begins with /,"
            " percent-decoded, or nothing (it does not begin with /)",
            id="spelling",
        ),
        pytest.param(
            {"maxThreads": "many"},
            "maxThreads (threads) = 'many': expected a whole number from 1 to 1000",
            id="other name",
        ),
        pytest.param(
            {"requiredSecret": ""},
            "requiredSecret (secret): expected a printable text (it is empty)",
            id="secret",
        ),
        pytest.param(
            {"minSpareThreads": "9", "maxThreads": "5"},
            "minSpareThreads (min_spare) = 9: more than maxThreads (threads) = 5",
            id="two",
        ),
        pytest.param(
            {"minSpare": "9"}, "minSpare = 9: more than threads = 8", id="default"
        ),
        pytest.param(
            {"minSpare": "9", "maxSpare": "3", "threads": "9"},
            "minSpare = 9: more than maxSpare = 3",
            id="two spellings",
        ),
        pytest.param(
            {"Listen": "*:1", "address": "::1"},
            "Listen = '*:1': given with address (host); name every address in Listen"
            " alone",
            id="addresses",
        ),
        pytest.param(
            {"requiredSecret": "x", "secretFile": "/x"},
            "secretFile = '/x': given with requiredSecret (secret); one is enough",
            id="secrets",
        ),
    ],
)
def test_error_tells_names_as_they_were_written(given, message):
    assert str(refused(given)) == message


def test_name_of_an_error_is_the_one_in_the_table():
    assert refused({"maxThreads": "many"}).name == "threads"
    assert refused({"minSpareThreads": "9", "maxThreads": "5"}).problem == (
        "more than maxThreads (threads) = 5"
    )


def test_error_keeps_its_names_with_a_place():
    error = refused({"maxThreads": "many"}).at("x.ini [server:main]")
    assert str(error) == (
        "x.ini [server:main]: maxThreads (threads) = 'many': expected a whole number"
        " from 1 to 1000"
    )


def test_empty_listen_leaves_host_and_port():
    assert Settings.parse({"listen": "", "port": "1"}).port == 1


def test_listen_replaces_host_and_port():
    settings = Settings.parse({"listen": "[::1]:1, unix:/x"})
    assert [str(address) for address in settings.addresses] == ["[::1]:1", "unix:/x"]


def test_constructor_converts_too():
    assert Settings(threads="4", listen="*:1").threads == 4


def test_constructor_refuses_too():
    with pytest.raises(SettingError, match="expected a whole number"):
        Settings(threads="x")


def test_replace_takes_any_spelling_and_checks():
    settings = Settings(port=1).replace(maxThreads="2")
    assert (settings.port, settings.threads) == (1, 2)
    with pytest.raises(SettingError, match=r"^minSpare = 3: more than threads"):
        settings.replace(minSpare=3)


def test_settings_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1


# -- Secrets


def test_secret_is_not_in_repr():
    assert "hunter2" not in repr(Settings(secret="hunter2"))


@pytest.mark.parametrize(
    "name", ["secret", "secrets", "requiredSecrets", "password", "secert", "scret"]
)
def test_secret_is_not_in_an_error(name):
    error = refused({name: "hunter2\n2"})
    for found in (error, error.at("x.ini")):
        assert "hunter2" not in f"{found}{found!r}{found.value}"


def test_empty_secret_is_refused():
    assert str(refused({"secret": " "})) == (
        "secret: expected a printable text (it is empty)"
    )


@pytest.mark.parametrize("empty", ["", " \n"])
@pytest.mark.parametrize("name", ["allowed_servers", "secret_file", "allowedServers"])
def test_empty_value_that_would_let_everybody_in_is_refused(name, empty):
    """It comes from a variable that nobody set."""
    error = refused({name: empty})
    assert error.problem.endswith(" (it is empty)")


def test_secret_is_given_in_the_bytes_of_the_wire():
    assert Settings(secret="gehe\u00efm").load_secret() == "gehe\u00efm".encode()


def test_no_secret_is_none():
    assert Settings().load_secret() is None


def test_secret_is_the_first_line_of_its_file(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b" s3cret\r\nnote\n")
    assert Settings(secret_file=str(path)).load_secret() == b"s3cret"


def test_secret_file_without_a_secret_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"\n")
    with pytest.raises(SettingError) as caught:
        Settings(secret_file=str(path)).load_secret()
    assert caught.value.problem == "expected the secret in its first line"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_secret_file_that_is_no_file_is_refused(tmp_path, make):
    """Reading a FIFO would wait for ever, without a word."""
    make(tmp_path / "secret")
    with pytest.raises(SettingError) as caught:
        Settings(secret_file=str(tmp_path / "secret")).load_secret()
    assert caught.value.problem == "expected a regular file"


def test_missing_secret_file_is_named(tmp_path):
    path = str(tmp_path / "none")
    with pytest.raises(SettingError) as caught:
        Settings(secret_file=path).load_secret()
    assert str(caught.value) == (
        f"secret_file = {path!r}: cannot be read: No such file or directory"
    )
