import pytest

from paste_ajp.client.request import (
    build_request,
    declared_length,
    declares_chunks,
    split_host,
)
from paste_ajp.protocol import encode_forward_request


def test_a_plain_request_says_what_httpd_would_say():
    request = build_request("GET", "/app", fallback_host="app")
    # by hand from the tables of AJPv13
    assert encode_forward_request(request) == bytes.fromhex(
        "1234 004d"
        "02 02"
        "0008 485454502f312e31 00"  # HTTP/1.1
        "0004 2f617070 00"  # /app
        "0009 3132372e302e302e31 00"  # 127.0.0.1
        "ffff"
        "0003 617070 00"  # app
        "0050 00"
        "0001 a00b 0003 617070 00"  # host: app
        "0a 000f 414a505f52454d4f54455f504f5254 00 0001 30 00"  # AJP_REMOTE_PORT=0
        "ff"
    )


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
        ("/caf\xe9", "/caf%C3%A9"),
        ("/x#y", "/x%23y"),
        ("relative", "/relative"),
        ("*", "*"),
        ("/a%2Fb;v=1", "/a%2Fb;v=1"),
    ],
)
def test_a_path_is_encoded_where_it_was_not(path, uri):
    assert build_request("GET", path).req_uri == uri


@pytest.mark.parametrize(
    ("path", "query", "sent"),
    [
        ("/x", None, None),
        ("/x?", None, ""),
        ("/x?a=1?b", None, "a=1?b"),
        ("/x?a=1", "b=2", "b=2"),
        ("/x", {"a": "1 2", "b": ["3", "4"]}, "a=1+2&b=3&b=4"),
        ("/x", [("a", "\xe9")], "a=%C3%A9"),
        ("/x", "a=b c", "a=b%20c"),
    ],
)
def test_the_query_comes_from_the_path_or_apart(path, query, sent):
    request = build_request("GET", path, query=query)
    assert request.attributes.get("query_string") == sent


def test_server_and_port_come_from_the_host_header():
    request = build_request("GET", "/", headers={"Host": "[::1]:8080"})
    assert (request.server_name, request.server_port) == ("::1", 8080)


def test_the_host_header_comes_from_server_and_port():
    request = build_request("GET", "/", server_name="::1", server_port=8080)
    assert request.headers == [("host", "[::1]:8080")]


def test_the_usual_port_is_left_out():
    request = build_request("GET", "/", server_name="x", server_port=443, is_ssl=True)
    assert request.headers == [("host", "x")]


def test_tls_has_its_own_port():
    assert build_request("GET", "/", is_ssl=True).server_port == 443


@pytest.mark.parametrize(
    ("method", "length", "chunked", "sent"),
    [
        ("GET", None, False, []),
        ("POST", None, False, [("content-length", "0")]),
        ("GET", 5, False, [("content-length", "5")]),
        ("POST", None, True, [("transfer-encoding", "chunked")]),
    ],
)
def test_the_body_is_declared(method, length, chunked, sent):
    request = build_request(
        method, "/", content_length=length, is_chunked=chunked, headers={"Host": "h"}
    )
    assert request.headers == [("host", "h"), *sent]


def test_what_callers_say_of_the_body_is_said_once():
    given = {"Content-Length": "7", "Transfer-Encoding": "chunked", "Host": "h"}
    request = build_request("POST", "/", headers=given, content_length=5)
    assert request.headers == [("host", "h"), ("content-length", "5")]


def test_attributes_go_where_they_belong():
    request = build_request(
        "GET",
        "/",
        attributes={"remote_user": "bob", "ssl_key_size": "256", "X": "1"},
        remote_port=5000,
        secret=b"\xc3\xa9",
    )
    assert request.attributes == {
        "remote_user": "bob",
        "ssl_key_size": 256,
        "secret": "\xc3\xa9",
    }
    assert request.request_attributes == [("AJP_REMOTE_PORT", "5000"), ("X", "1")]


def test_a_remote_port_of_the_caller_wins():
    request = build_request("GET", "/", attributes={"AJP_REMOTE_PORT": "1"})
    assert request.request_attributes == [("AJP_REMOTE_PORT", "1")]


def test_text_beyond_latin_1_goes_as_utf_8():
    request = build_request("GET", "/", headers=[("Host", "h"), ("X", "\u20ac")])
    assert request.headers[1] == ("x", "\xe2\x82\xac")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"X": "a\r\nY: b"}, "header X: the value holds a control character"),
        ({"X Y": "a"}, "header 'X Y': the name is not a token (RFC 9110)"),
        ({"": "a"}, "header '': the name is not a token (RFC 9110)"),
    ],
)
def test_headers_that_would_split_are_refused(headers, problem):
    with pytest.raises(ValueError) as caught:
        build_request("GET", "/", headers=headers)
    assert str(caught.value) == problem


def test_a_method_that_is_no_token_is_refused():
    with pytest.raises(ValueError) as caught:
        build_request("GET /", "/")
    assert str(caught.value) == "method 'GET /': not a token (RFC 9110)"


def test_an_attribute_that_is_none_is_left_out():
    given = {"remote_user": None, "ssl_key_size": None, "X": None}
    request = build_request("GET", "/", attributes=given)
    assert request.attributes == {}
    assert [name for name, _ in request.request_attributes] == ["AJP_REMOTE_PORT"]


def test_two_declared_lengths_must_be_one():
    twice = [("Content-Length", "3"), ("content-length", "3")]
    assert declared_length(twice) == 3
    with pytest.raises(ValueError) as caught:
        declared_length([*twice, ("Content-Length", "2")])
    assert str(caught.value) == "Content-Length = '2': it is 3, too"


def test_a_declared_length_is_read_strictly():
    assert declared_length([("content-LENGTH", "12")]) == 12
    assert declared_length({}) is None
    with pytest.raises(ValueError):
        declared_length({"Content-Length": "+1"})


def test_chunks_are_declared_by_their_header():
    assert declares_chunks({"Transfer-Encoding": "Chunked"})
    assert not declares_chunks({"Transfer-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("host", "parts"),
    [
        ("h:80", ("h", 80)),
        ("h", ("h", None)),
        ("[::1]:80", ("::1", 80)),
        ("h:", ("h", None)),
        ("h:99999", ("h", None)),
        ("a:b:c", ("a:b:c", None)),
    ],
)
def test_host_headers_are_cut(host, parts):
    assert split_host(host) == parts
