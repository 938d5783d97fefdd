import argparse
import re

import pytest

from paste_ajp.addresses import (
    Address,
    Addresses,
    AllowedServers,
    Host,
    OneAddress,
    Peers,
    is_loopback,
    parse_address,
)
from paste_ajp.options import (
    Account,
    Choice,
    Maybe,
    Mode,
    PathPrefix,
    Seconds,
    Secret,
    SettingError,
    Size,
    Switch,
    Text,
    UnfitError,
    Whole,
    WholeNamePattern,
    add_flags,
    as_ini,
    as_markdown,
    as_text,
    as_written,
    convert,
    fold,
)
from paste_ajp.settings import Settings

FITTING = [
    (Whole(1, 9), "8", 8),
    (Whole(1, 9), 8, 8),
    (Whole(1, 9), " 8 ", 8),
    (Size(0, 2**40), "65536", 65536),
    (Size(0, 2**40), "64K", 65536),
    (Size(0, 2**40), "512 MB", 512 * 1024**2),
    (Size(0, 2**40), "1GiB", 1024**3),
    (Size(0, 2**40), 10, 10),
    (Seconds(), "30", 30.0),
    (Seconds(), "0.5", 0.5),
    (Seconds(), ".5", 0.5),
    (Seconds(), "500ms", 0.5),
    (Seconds(), "2m", 120.0),
    (Seconds(), "1 h", 3600.0),
    (Seconds(), 30, 30.0),
    (Seconds(), 0.25, 0.25),
    (Switch(), "Yes", True),
    (Switch(), "on", True),
    (Switch(), "1", True),
    (Switch(), "off", False),
    (Switch(), "F", False),
    (Switch(), False, False),
    (Choice("auto", "raw"), " RAW ", "raw"),
    (Text("a text"), " x y ", "x y"),
    (Maybe(Whole(1, 9)), "", None),
    (Maybe(Whole(1, 9)), "None", None),
    (Maybe(Whole(1, 9)), None, None),
    (Maybe(Whole(1, 9)), "3", 3),
    (Maybe(Text("a text"), word=""), "none", "none"),
    (Secret(), " s3cret ", "s3cret"),
    (Secret(), None, None),
    (PathPrefix(), "/", ""),
    (PathPrefix(), "", ""),
    (PathPrefix(), "/app/", "/app"),
    (PathPrefix(), "/café au lait", "/café au lait"),
    (Account("a user"), " www-data ", "www-data"),
    (Account("a user"), 33, "33"),
    (Account("a user"), "4294967294", "4294967294"),
    (Mode(), "660", 0o660),
    (Mode(), "0o600", 0o600),
    (Mode(), 0o640, 0o640),
    (Host(), "*", ""),
    (Host(), "", ""),
    (Host(), "::", "::"),
    (Host(), "[::1]", "::1"),
    (Host(), "app.example.com", "app.example.com"),
    (OneAddress(), "127.0.0.1:80", Address("tcp", host="127.0.0.1", port=80)),
    (Addresses(), "", ()),
    (
        Addresses(),
        "127.0.0.1:8009, [::1]:8009\nunix:/run/app.sock fd://3",
        (
            Address("tcp", host="127.0.0.1", port=8009),
            Address("tcp", host="::1", port=8009),
            Address("unix", path="/run/app.sock"),
            Address("fd", fd=3),
        ),
    ),
    (Addresses(), ["unix:/a b"], (Address("unix", path="/a b"),)),
    (Addresses(), "*:0 *:0", (Address("tcp"), Address("tcp"))),
]


@pytest.mark.parametrize(("converter", "written", "value"), FITTING)
def test_fitting_value_is_converted(converter, written, value):
    assert converter(written) == value


@pytest.mark.parametrize(("converter", "written", "value"), FITTING)
def test_converted_value_passes_its_converter_unchanged(converter, written, value):
    assert converter(converter(written)) == value


@pytest.mark.parametrize(
    ("converter", "written"),
    [
        (Whole(1, 9), "0"),
        (Whole(1, 9), "10"),
        (Whole(1, 9), "4.0"),
        (Whole(1, 9), "1_0"),
        (Whole(1, 9), "٣"),
        (Whole(1, 9), ""),
        (Whole(0, 9), True),
        (Whole(0, 9), None),
        (Size(0, 9), "10"),
        (Size(0, 9), "-1"),
        (Size(0, 2**30), "1X"),
        (Size(0, 2**30), b"1"),
        (Seconds(), "-1"),
        (Seconds(), "nan"),
        (Seconds(), "inf"),
        (Seconds(), "1y"),
        (Seconds(10), "11"),
        (Seconds(), "9" * 400),
        (Switch(), "maybe"),
        (Switch(), ""),
        (Switch(), None),
        (Choice("a", "b"), "c"),
        (Text("a text"), 5),
        (Secret(), ""),
        (Secret(), "a\nb"),
        (Secret(), b"bytes"),
        (PathPrefix(), "app"),
        (PathPrefix(), "/app?x"),
        (PathPrefix(), "/a\nb"),
        (PathPrefix(), None),
        (WholeNamePattern(), "("),
        (WholeNamePattern(), 5),
        (Mode(), "888"),
        (Mode(), "1777"),
        (Mode(), "rw-r--r--"),
        (Host(), "a b"),
        (Host(), "1.2.3"),
        (Host(), ":::"),
        (Host(), None),
        (OneAddress(), "unix:/x"),
        (OneAddress(), 80),
        (Addresses(), "*:80 *:80"),
        (Addresses(), [80]),
        (Addresses(), 80),
        (Addresses(), b"x"),
        (Peers(), ""),
        (Peers(), "* 10.0.0.1"),
        (Account("a user"), ""),
        (Account("a user"), "99999999999"),
        (Account("a user"), "4294967295"),
        (Account("a user"), "-1"),
        (Account("a user"), "9" * 5000),
        (Account("a user"), "a\0b"),
        (Peers(), "10.0.0.0/33"),
        (Peers(), "::ffff:10.0.0.0/90"),
        (Peers(), "10.0.0"),
        (Peers(), "bad name!"),
        (Peers(), 5),
    ],
)
def test_unfit_value_is_refused_by_what_is_expected(converter, written):
    with pytest.raises(SettingError) as caught:
        convert("it", converter, written)
    assert str(caught.value).startswith(
        f"it = {written!r}: expected {converter.expects}"
    )


def test_reason_follows_what_is_expected():
    with pytest.raises(SettingError) as caught:
        convert("script_name", PathPrefix(), "app")
    assert caught.value.problem == (
        "expected a URL path that begins with /, percent-decoded, or nothing"
        " (it does not begin with /)"
    )


def test_unfit_secret_is_not_in_its_error():
    with pytest.raises(SettingError) as caught:
        convert("secret", Secret(), "hunter2\x00x")
    error = caught.value
    assert "hunter2" not in f"{error} {error.args} {error.value} {error.__context__}"


def test_pattern_keeps_what_was_written():
    assert WholeNamePattern()(" SSL_.* ").pattern == "SSL_.*"


def test_compiled_pattern_is_taken():
    assert WholeNamePattern()(re.compile("X")).pattern == "X"


# -- Addresses


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:8009", "*:0", "[::1]:8009", "[fe80::1%eth0]:1", "unix:/x", "fd://3"],
)
def test_address_gives_back_its_text(text):
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "same_as"),
    [(":80", "*:80"), ("unix:///run/x", "unix:/run/x"), ("FD://3", "fd://3")],
)
def test_address_has_other_spellings(text, same_as):
    assert parse_address(text) == parse_address(same_as)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unix:", "no path after unix:"),
        ("::1:80", "::1:80: an IPv6 address stands in brackets, as [::1]:8009"),
        ("host", "host: no port, or not an address"),
        ("http://host:80", "http://host:80: an address is no URL"),
        ("", "nothing: no port, or not an address"),
        ("host:70000", "host:70000: no port is above 65535"),
        ("[host]:80", "host: not an IPv6 address"),
        ("300.0.0.1:80", "300.0.0.1: not an IPv4 address"),
        ("a&b:80", "a&b: not a host name or an IP address"),
    ],
)
def test_wrong_address_is_refused_by_its_reason(text, problem):
    with pytest.raises(UnfitError) as caught:
        parse_address(text)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("unix:/x", True),
        ("*:1", False),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
        ("www.example.com:1", False),
        ("fd://3", False),
    ],
)
def test_address_is_local_or_not(text, expected):
    assert parse_address(text).is_local is expected


def test_empty_host_is_not_loopback():
    assert not is_loopback("")


# -- Who may connect


@pytest.mark.parametrize(
    ("allowed", "peer", "expected"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.1.2.3/8", "10.200.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("[::1]", "::1", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("::ffff:10.0.0.7", "10.0.0.7", True),
        ("::ffff:10.0.0.7", "10.0.0.8", False),
        ("::ffff:a00:0/104", "10.1.2.3", True),
        ("::/0", "10.1.2.3", False),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("*", "anything", True),
        ("web.example.com", "10.0.0.1", False),
        ("10.0.0.0/8", "", False),
    ],
)
def test_peer_is_allowed_or_not(allowed, peer, expected):
    assert Peers()(allowed).matches(peer) is expected


def test_names_are_left_to_be_looked_up():
    assert Peers()("Web.Example.COM, 10.0.0.1").names == ("web.example.com",)


@pytest.mark.parametrize(
    "text", ["*", "10.0.0.1, ::1, web.example.com", "10.0.0.0/8", "127.0.0.0/8, ::1"]
)
def test_allowed_servers_give_back_their_text(text):
    assert str(Peers()(text)) == text


def test_converted_allowed_servers_are_taken():
    allowed = AllowedServers(names=("a",))
    assert Peers()(allowed) is allowed


# -- Names, flags and texts


@pytest.mark.parametrize("name", ["scriptName", "script_name", "SCRIPT-NAME"])
def test_names_match_whatever_their_case_and_hyphens(name):
    assert fold(name) == "scriptname"


@pytest.mark.parametrize("row", Settings.rows(), ids=lambda row: row.name)
def test_default_is_read_back_from_its_text(row):
    if row.default_text:
        assert convert(row.name, row.convert, row.default_text) == row.default


@pytest.mark.parametrize("row", Settings.rows(), ids=lambda row: row.name)
def test_purpose_is_a_sentence(row):
    assert row.purpose[0].isupper() and row.purpose.endswith(".")


def test_written_values_are_read_back():
    addresses = Addresses()("127.0.0.1:1 unix:/x")
    assert as_written(addresses) == "127.0.0.1:1, unix:/x"
    assert as_written(re.compile("X.*")) == "X.*"
    assert as_written(0.5) == "0.5"


def parse_flags(*arguments):
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings.rows())
    return vars(parser.parse_args(arguments))


def test_no_flag_gives_no_setting():
    assert parse_flags() == {}


def test_flags_are_texts_by_the_rows_names():
    assert parse_flags("--script-name", "/x", "--threads=4") == {
        "script_name": "/x",
        "threads": "4",
    }


def test_switches_have_a_flag_for_each_side():
    assert parse_flags("--debug", "--no-unquote-path") == {
        "debug": True,
        "unquote_path": False,
    }


def test_help_of_the_flags_can_be_printed():
    parser = argparse.ArgumentParser()
    add_flags(parser, Settings.rows())
    assert "a whole number from 0 to 65535; default: 8009." in " ".join(
        parser.format_help().split()
    )


@pytest.mark.parametrize("render", [as_text, as_markdown])
def test_every_setting_is_in_the_text(render):
    text = render(Settings.rows())
    assert [row.name for row in Settings.rows() if row.name not in text] == []


def test_page_names_the_flag_that_switches_off():
    page = as_markdown(Settings.rows())
    line = "- On the command line: `--unquote-path`, `--no-unquote-path`"
    assert line in page.splitlines()


def test_ini_text_has_every_setting_commented():
    lines = as_ini(Settings.rows(), "server:main", ["use = egg:x"]).splitlines()
    assert lines[:2] == ["[server:main]", "use = egg:x"]
    assert [line for line in lines[2:] if line and not line.startswith("#")] == []
    assert "#port = 8009" in lines
