import pytest

from paste_ajp.client import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ajp://app:8010/x?y=1", Address("app", 8010, "", "/x?y=1")),
        ("ajp://app", Address("app", 8009)),
        ("app:8010", Address("app", 8010)),
        ("AJP://app?x=1", Address("app", 8009, "", "/?x=1")),
        ("ajp://[::1]:8010/x#here", Address("::1", 8010, "", "/x")),
        ("[::1]:8010", Address("::1", 8010)),
        ("ajp+unix:///run/a.sock", Address("localhost", 8009, "/run/a.sock")),
        ("unix:/run/a.sock", Address("localhost", 8009, "/run/a.sock")),
        (
            "ajp+unix://%2Frun%2Fa.sock/x?y",
            Address("localhost", 8009, "/run/a.sock", "/x?y"),
        ),
        (
            "unix:/run/a.sock|ajp://name:81/x",
            Address("name", 81, "/run/a.sock", "/x"),
        ),
    ],
)
def test_every_way_to_write_an_address_is_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://app:80", "ajp://host:port, or ajp+unix:///path"),
        ("", "a host name or address after ajp://"),
        ("ajp:///x", "a host name or address after ajp://"),
        ("8010", "host:port, as 127.0.0.1:8010"),
        ("ajp://app:0", "a port from 1 to 65535"),
        ("app:65536", "a port from 1 to 65535"),
        ("ajp://app:8x", "ajp://host:port/path"),
        ("unix:run/a.sock", "the absolute path of a socket"),
        ("unix:/run/a.sock|unix:/b", "after the | an ajp:// address"),
    ],
)
def test_a_wrong_address_is_quoted_with_what_was_expected(text, expected):
    with pytest.raises(ValueError) as caught:
        parse_address(text)
    assert str(caught.value) == f"address {text!r}: expected {expected}"


@pytest.mark.parametrize(
    "text",
    [
        "ajp://app:8010/x?y=1",
        "ajp://[::1]:8009",
        "ajp+unix:///run/a.sock",
        "ajp+unix://%2Frun%2Fa.sock/x?y",
    ],
)
def test_url_is_read_back(text):
    assert parse_address(text).url == text


def test_text_names_the_server_alone():
    assert str(parse_address("ajp://[::1]/x")) == "[::1]:8009"
    assert str(parse_address("unix:/a|ajp://h/x")) == "unix:/a"
