import logging
import sys

import pytest

from paste_ajp.protocol.codes import FRONT_END_ATTRIBUTES
from paste_ajp.settings import Settings
from paste_ajp.version import SERVER_SOFTWARE
from paste_ajp.wsgi.environ import (
    BUILT_IN_ATTRIBUTES,
    LEARNT_NAMES,
    LOGGED_NAMES,
    EnvironBuilder,
    RequestRefused,
)
from paste_ajp.wsgi.input import RequestBody
from tests.unit.wsgi.fake_exchange import PORT, FakeExchange, forward


def environ_of(
    method="GET",
    req_uri="/",
    headers=(),
    *,
    settings=None,
    builder=None,
    **fields,
):
    """Build the environ of one request, as one server with `settings` does."""
    request = forward(method, req_uri, headers, **fields)
    builder = builder or EnvironBuilder(Settings.parse(settings or {}))
    return builder.build(request, FakeExchange(request))


def refusal_of(*args, **keywords):
    with pytest.raises(RequestRefused) as caught:
        environ_of(*args, **keywords)
    return caught.value.status, str(caught.value)


def test_path_of_a_front_end_that_says_little_is_decoded():
    environ = environ_of(req_uri="/a%20b%2Fc", request_attributes=())
    assert environ["PATH_INFO"] == "/a b/c"


# -- the whole of it -------------------------------------------------------------


def test_environ_of_a_plain_request_is_all_this_and_no_more():
    environ = environ_of("POST", "/a%20b", [("Host", "h:81")], server_port=81)
    assert type(environ.pop("wsgi.input")) is RequestBody
    assert environ == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "",
        "REQUEST_URI": "/a%20b",
        "RAW_URI": "/a%20b",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "81",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": SERVER_SOFTWARE,
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50112",
        "HTTP_HOST": "h:81",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


def test_environ_is_a_dict_that_the_application_may_change():
    builder = EnvironBuilder(Settings())
    first = environ_of(builder=builder)
    first.clear()
    assert type(first) is dict
    assert environ_of(builder=builder)["PATH_INFO"] == "/"


def test_every_cgi_value_is_a_str_of_latin_1():
    environ = environ_of(
        "GET",
        "/%E2%82%AC",
        [("X-Raw", "\xe2\x82\xac"), ("Content-Length", "5")],
        is_ssl=True,
        attributes={"query_string": "\xff", "ssl_key_size": 256},
    )
    texts = {key: value for key, value in environ.items() if "." not in key}
    assert {type(value) for value in texts.values()} == {str}
    assert b"".join(value.encode("latin-1") for value in texts.values())
    assert environ["PATH_INFO"].encode("latin-1") == "/\N{EURO SIGN}".encode()
    assert environ["HTTP_X_RAW"].encode("latin-1") == "\N{EURO SIGN}".encode()


def test_flags_say_what_the_settings_make_of_the_server():
    environ = environ_of(settings={"threads": 1, "processes": 3})
    assert environ["wsgi.multithread"] is False
    assert environ["wsgi.multiprocess"] is True


def test_file_wrapper_and_further_keys_come_from_the_server():
    builder = EnvironBuilder(Settings(), extra={"x.y": 1}, file_wrapper=print)
    environ = environ_of(builder=builder)
    assert environ["wsgi.file_wrapper"] is print
    assert environ["x.y"] == 1


# -- headers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Accept-Language", "HTTP_ACCEPT_LANGUAGE"),
        ("x-MiXeD", "HTTP_X_MIXED"),
        ("Content-Type", "CONTENT_TYPE"),
        ("Authorization", "HTTP_AUTHORIZATION"),
        ("HTTPS", "HTTP_HTTPS"),
        ("Remote-User", "HTTP_REMOTE_USER"),
    ],
)
def test_header_becomes_a_key(header, key):
    environ = environ_of(headers=[(header, "v")])
    assert environ[key] == "v"
    assert set(environ) - set(environ_of()) == {key}


@pytest.mark.parametrize("header", ["Proxy", "X_Y", "Content_Length", "_"])
def test_header_that_would_pass_for_another_is_dropped(header):
    assert set(environ_of(headers=[(header, "v")])) == set(environ_of())


def test_length_is_given_as_it_was_sent():
    environ = environ_of("POST", headers=[("Content-Length", "007")])
    assert environ["CONTENT_LENGTH"] == "007"
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_chunked_body_has_no_length_and_no_transfer_encoding():
    environ = environ_of("POST", headers=[("Transfer-Encoding", "chunked")])
    assert not [key for key in environ if "LENGTH" in key or "ENCODING" in key]
    assert environ["wsgi.input_terminated"] is True


@pytest.mark.parametrize(
    ("header", "key", "joined"),
    [("Cookie", "HTTP_COOKIE", "a=1; b=2"), ("X-Id", "HTTP_X_ID", "a=1,b=2")],
)
def test_header_that_comes_twice_is_joined(header, key, joined):
    environ = environ_of(headers=[(header, "a=1"), (header, "b=2")])
    assert environ[key] == joined


def test_invented_header_names_do_not_fill_the_memory():
    builder = EnvironBuilder(Settings())
    numbers = range(LEARNT_NAMES + 100)
    for number in numbers:
        environ = environ_of(headers=[(f"X-{number}", "v")], builder=builder)
        assert environ[f"HTTP_X_{number}"] == "v"
    assert len(builder._keys) == LEARNT_NAMES


# -- who and where ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "host", "expected"),
    [
        ("www.example.com", "other", "www.example.com"),
        ("", "www.example.com:8080", "www.example.com"),
        (None, "[::1]:8080", "[::1]"),
        (None, "[::1]", "[::1]"),
        (None, "", "fallback"),
        (None, None, "fallback"),
        (None, ":80", "fallback"),
    ],
)
def test_server_name_is_never_empty(name, host, expected):
    builder = EnvironBuilder(Settings(), server_name="fallback")
    headers = [] if host is None else [("Host", host)]
    environ = environ_of(headers=headers, server_name=name, builder=builder)
    assert environ["SERVER_NAME"] == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"remote_addr": None}, {"REMOTE_ADDR": ""}),
        ({"remote_host": "pc.example"}, {"REMOTE_HOST": "pc.example"}),
        ({"remote_host": ""}, {"REMOTE_HOST": None}),
        ({"is_ssl": True}, {"HTTPS": "on", "wsgi.url_scheme": "https"}),
        ({"is_ssl": False}, {"HTTPS": None, "wsgi.url_scheme": "http"}),
        ({"protocol": "HTTP/2.0"}, {"SERVER_PROTOCOL": "HTTP/2.0"}),
    ],
)
def test_field_of_the_request_becomes_a_key(fields, expected):
    environ = environ_of(**fields)
    assert {key: environ.get(key) for key in expected} == expected


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "VERSION-CONTROL", "get"])
def test_method_is_given_as_it_was_sent(method):
    assert environ_of(method)["REQUEST_METHOD"] == method


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("query_string", "a=%41", {"QUERY_STRING": "a=%41"}),
        ("query_string", "", {"QUERY_STRING": ""}),
        ("remote_user", "anna", {"REMOTE_USER": "anna"}),
        ("auth_type", "Basic", {"AUTH_TYPE": "Basic"}),
        ("jvm_route", "a", {"AJP_JVM_ROUTE": "a", "JVM_ROUTE": "a"}),
        ("ssl_cert", "PEM", {"SSL_CLIENT_CERT": "PEM", "SSL_CERT": "PEM"}),
        ("ssl_cipher", "AES", {"SSL_CIPHER": "AES"}),
        ("ssl_session", "0A", {"SSL_SESSION_ID": "0A", "SSL_SESSION": "0A"}),
        (
            "ssl_key_size",
            256,
            {"SSL_CIPHER_USEKEYSIZE": "256", "SSL_KEY_SIZE": "256"},
        ),
        ("secret", "s3cret", {}),
        ("context", "/c", {}),
        ("servlet_path", "/s", {}),
        ("remote_user", None, {}),
    ],
)
def test_attribute_becomes_the_keys_of_mod_ssl_and_of_flup(attribute, value, expected):
    without = environ_of()
    environ = environ_of(attributes={attribute: value})
    for key in ("wsgi.input", "REQUEST_URI", "RAW_URI"):
        del environ[key]
    assert {k: v for k, v in environ.items() if without.get(k) != v} == {
        key: value for key, value in expected.items() if value != without.get(key)
    }


def test_remote_user_can_be_distrusted():
    environ = environ_of(
        headers=[("Remote-User", "mallory")],
        attributes={"remote_user": "anna", "auth_type": "Basic"},
        settings={"trust_remote_user": False},
    )
    assert "REMOTE_USER" not in environ
    assert "AUTH_TYPE" not in environ


def test_remote_user_that_is_distrusted_does_not_stay_in_the_request():
    """Where the access log would find it."""
    request = forward(attributes={"remote_user": "anna", "auth_type": "Basic"})
    builder = EnvironBuilder(Settings(trust_remote_user=False))
    builder.build(request, FakeExchange(request))
    assert request.attributes == {}


def test_decoder_checks_every_attribute_that_is_taken_unasked():
    assert set(BUILT_IN_ATTRIBUTES) == FRONT_END_ATTRIBUTES


def test_certificate_has_lines():
    certificate = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    environ = environ_of(attributes={"ssl_cert": certificate})
    assert environ["SSL_CLIENT_CERT"] == certificate


def test_what_nobody_sees_may_hold_anything():
    assert environ_of(attributes={"context": "\n", "secret": "\n"})


# -- request attributes ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("AJP_REMOTE_PORT", "REMOTE_PORT"),
        ("AJP_LOCAL_ADDR", "SERVER_ADDR"),
        ("AJP_SSL_PROTOCOL", "SSL_PROTOCOL"),
        ("JK_LB_ACTIVATION", "JK_LB_ACTIVATION"),
    ],
)
def test_attribute_of_a_front_end_itself_becomes_a_key(name, key):
    assert environ_of(request_attributes=[(name, "v")])[key] == "v"


def test_request_attribute_that_nobody_allowed_is_dropped_and_logged_once(caplog):
    builder = EnvironBuilder(Settings())
    for _ in range(2):
        attributes = [PORT, ("javax.servlet.include.request_uri", "/")]
        environ = environ_of(builder=builder, request_attributes=attributes)
        assert "javax.servlet.include.request_uri" not in environ
    (record,) = caplog.records
    assert record.getMessage() == (
        "request attribute 'javax.servlet.include.request_uri' is not in"
        " allowed_request_attributes: dropped, here and from now on"
    )


def test_log_of_dropped_attributes_is_bounded(caplog):
    names = [(f"X{number}", "v") for number in range(LOGGED_NAMES + 10)]
    environ_of(request_attributes=names)
    assert len(caplog.records) == LOGGED_NAMES


def test_request_attribute_that_nobody_allowed_is_refused_in_strict_mode():
    assert refusal_of(request_attributes=[("X", "v")], settings={"strict": True}) == (
        403,
        "request attribute 'X' is not in allowed_request_attributes (strict = on)",
    )


def test_allowed_request_attribute_becomes_a_key_by_its_whole_name():
    environ = environ_of(
        request_attributes=[PORT, ("X_ONE", "1"), ("X_ONE_MORE", "2"), ("AX_ONE", "3")],
        settings={"allowed_request_attributes": "X_ONE"},
    )
    assert environ["X_ONE"] == "1"
    assert not {"X_ONE_MORE", "AX_ONE"} & set(environ)


def test_variable_of_mod_ssl_can_be_allowed():
    """JkEnvVar SSL_CLIENT_S_DN is how mod_jk passes on who has which certificate."""
    environ = environ_of(
        request_attributes=[PORT, ("SSL_CLIENT_S_DN", "CN=anna")],
        settings={"allowed_request_attributes": "SSL_CLIENT_.*"},
    )
    assert environ["SSL_CLIENT_S_DN"] == "CN=anna"


@pytest.mark.parametrize(
    "name",
    [
        "REMOTE_USER",
        "HTTP_HOST",
        "HTTP_PROXY",
        "wsgi.input",
        "wsgi.url_scheme",
        "PATH_INFO",
        "CONTENT_LENGTH",
        "HTTPS",
        "SSL_CLIENT_CERT",
        "REQUEST_METHOD",
        "SERVER_NAME",
    ],
)
def test_allowed_request_attribute_sets_no_key_of_the_server(name, caplog):
    environ = environ_of(
        request_attributes=[PORT, (name, "forged")],
        settings={"allowed_request_attributes": ".*"},
    )
    assert "forged" not in environ.values()
    assert "names a key that only the server may set: dropped" in caplog.text


# -- paths -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("req_uri", "path"),
    [
        ("/", "/"),
        ("/a%20b", "/a b"),
        ("/a%2Fb", "/a/b"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/%2541", "/%41"),
        ("/%25", "/%"),
        ("/a+b", "/a+b"),
        ("/x;jsessionid=A.r1", "/x;jsessionid=A.r1"),
        ("/%e2%82%ac", "/\xe2\x82\xac"),
        ("/\xe2\x82\xac%20", "/\xe2\x82\xac "),
        ("//a//b", "//a//b"),
        ("/./a/../b", "/./a/../b"),
        ("http://www.example.com/a%20b", "/a b"),
    ],
)
def test_path_is_decoded_exactly_once(req_uri, path):
    assert environ_of(req_uri=req_uri)["PATH_INFO"] == path


@pytest.mark.parametrize(
    ("query", "uri"), [("x=%41", "/a%20b?x=%41"), ("", "/a%20b"), (None, "/a%20b")]
)
def test_request_uri_is_as_it_was_sent(query, uri):
    environ = environ_of(req_uri="/a%20b", attributes={"query_string": query})
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == uri


@pytest.mark.parametrize("req_uri", ["/a", "/a%20b"])
def test_query_with_other_bytes_passes_as_it_is(req_uri):
    environ = environ_of(req_uri=req_uri, attributes={"query_string": "\xe9\x85 %"})
    assert environ["QUERY_STRING"] == "\xe9\x85 %"


#: It sends no request attribute at all, and a length with every request.
LIGHTTPD = {"request_attributes": (), "headers": [("Content-Length", "0")]}


@pytest.mark.parametrize(
    ("sent", "uri"),
    [
        ("/sp ace", "/sp%20ace"),
        ("/%41", "/%2541"),
        ("/x%zz", "/x%25zz"),
        ("/caf\xc3\xa9", "/caf%C3%A9"),
        ("/a;b?c#d", "/a;b%3Fc%23d"),
        ("/~a:b@c!$&'()*+,=", "/~a:b@c!$&'()*+,="),
    ],
)
@pytest.mark.parametrize("how", ["by its looks", "by the setting"])
def test_path_from_lighttpd_is_not_decoded_again(sent, uri, how):
    if how == "by its looks":
        environ = environ_of(req_uri=sent, **LIGHTTPD)
    else:
        environ = environ_of(req_uri=sent, settings={"uri_encoding": "decoded"})
    assert environ["PATH_INFO"] == sent
    assert environ["REQUEST_URI"] == uri


def test_setting_tells_that_what_looks_like_lighttpd_is_another():
    environ = environ_of(
        req_uri="/%41",
        **LIGHTTPD,
        settings={"uri_encoding": "escaped"},
    )
    assert environ["PATH_INFO"] == "/A"


@pytest.mark.parametrize(
    ("req_uri", "problem"),
    [
        ("/x%zz", "req_uri at byte 2: expected two hexadecimal digits after %, "),
        ("/%", "req_uri at byte 1: expected two hexadecimal digits after %, "),
        ("/%4", "req_uri at byte 1: expected two hexadecimal digits after %, "),
        ("/a%00b", "req_uri holds a NUL once decoded"),
    ],
)
@pytest.mark.parametrize("unquote", [True, False])
def test_path_that_cannot_be_decoded_is_refused(req_uri, problem, unquote):
    status, text = refusal_of(req_uri=req_uri, settings={"unquote_path": unquote})
    assert status == 400
    assert text.startswith(problem)


@pytest.mark.parametrize(
    "req_uri",
    ["/a/../b", "/a/..", "/.", "/%2e%2e/b", "/a/..;x=1/b", "/a%5Cb", "/a/.%2E/"],
)
@pytest.mark.parametrize("unquote", [True, False])
def test_path_that_climbs_is_refused_in_strict_mode(req_uri, unquote):
    settings = {"strict": True, "unquote_path": unquote}
    assert refusal_of(req_uri=req_uri, settings=settings)[0] == 400


@pytest.mark.parametrize(
    ("req_uri", "found"),
    [("/%0d%0aX", "\r"), ("/a%7F", "\x7f"), ("/caf%C3%A9%1b", "\x1b"), ("/%09", "\t")],
)
@pytest.mark.parametrize("unquote", [True, False])
def test_path_with_a_control_character_is_refused_in_strict_mode(
    req_uri, found, unquote
):
    """httpd and mod_jk let remotes send them, so others may want them."""
    settings = {"strict": True, "unquote_path": unquote}
    assert refusal_of(req_uri=req_uri, settings=settings) == (
        400,
        f"req_uri has {found!r} once decoded (strict = on)",
    )
    assert environ_of(req_uri=req_uri)


@pytest.mark.parametrize(
    "req_uri", ["/a..b", "/.well-known/x", "/...", "/a;..", "/caf%C3%A9%C2%85"]
)
def test_path_that_has_mere_dots_passes_in_strict_mode(req_uri):
    assert environ_of(req_uri=req_uri, settings={"strict": True})["PATH_INFO"]


@pytest.mark.parametrize("req_uri", ["/a?b", "/a%20b?", "/?a=%41"])
@pytest.mark.parametrize("settings", [{}, {"uri_encoding": "escaped"}])
def test_path_with_a_query_in_it_is_refused(req_uri, settings):
    """It has a field of its own; only lighttpd, which decodes, sends ? in a path."""
    status, problem = refusal_of(req_uri=req_uri, settings=settings)
    assert status == 400
    assert problem.endswith("expected %3F in a path, found ?")


def test_options_of_the_whole_server_has_no_path():
    environ = environ_of("OPTIONS", "*")
    assert (environ["PATH_INFO"], environ["REQUEST_URI"]) == ("", "*")


@pytest.mark.parametrize(
    ("sent", "marks", "path"),
    [
        ("/a%20b%2541", {"request_attributes": [PORT]}, "/a%20b%2541"),
        ("/a b%41", LIGHTTPD, "/a%20b%2541"),
    ],
    ids=["httpd", "lighttpd"],
)
def test_path_stays_encoded_for_applications_that_decode_it(sent, marks, path):
    environ = environ_of(req_uri=sent, settings={"unquote_path": False}, **marks)
    assert environ["PATH_INFO"] == environ["REQUEST_URI"] == path


@pytest.mark.parametrize(
    ("req_uri", "script_name", "path_info"),
    [
        ("/a/caf%C3%A9%20x/%41", "/a/caf%C3%A9%20x", "/%41"),
        ("/%61/caf%c3%a9%20x", "/%61/caf%c3%a9%20x", ""),
        ("/a/caf%C3%A9%20xy/b", "", "/a/caf%C3%A9%20xy/b"),
        ("/a%2Fcaf%C3%A9%20x/b", "", "/a%2Fcaf%C3%A9%20x/b"),
    ],
)
def test_prefix_is_cut_from_a_path_that_stays_encoded(req_uri, script_name, path_info):
    environ = environ_of(
        req_uri=req_uri, settings={"unquote_path": False, "script_name": "/a/café x"}
    )
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


# -- where the application is mounted --------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "req_uri", "script_name", "path_info"),
    [
        ("/app", "/app/x", "/app", "/x"),
        ("/app", "/app", "/app", ""),
        ("/app", "/app/", "/app", "/"),
        ("/app/", "/app/x", "/app", "/x"),
        ("/", "/app/x", "", "/app/x"),
        ("", "/app/x", "", "/app/x"),
        ("/a/b", "/a/b/c", "/a/b", "/c"),
        ("/a b", "/a%20b/c%20d", "/a b", "/c d"),
        ("/caf\xe9", "/caf%C3%A9/x", "/caf\xc3\xa9", "/x"),
        ("/app", "/app//x", "/app", "//x"),
    ],
)
def test_prefix_is_taken_off_by_whole_segments(
    prefix, req_uri, script_name, path_info, caplog
):
    environ = environ_of(req_uri=req_uri, settings={"script_name": prefix})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)
    assert environ["REQUEST_URI"] == req_uri
    assert not caplog.records


@pytest.mark.parametrize("req_uri", ["/", "/apple", "/x/app", "/APP/x"])
def test_path_outside_the_prefix_is_served_with_a_warning(req_uri, caplog):
    with caplog.at_level(logging.WARNING):
        environ = environ_of(req_uri=req_uri, settings={"script_name": "/app"})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", req_uri)
    assert f"path {req_uri!r} is not below script_name '/app'" in caplog.text


def test_paths_outside_the_prefix_are_warned_of_once_for_a_first_segment(caplog):
    caplog.set_level(logging.DEBUG)
    builder = EnvironBuilder(Settings(script_name="/app"))
    for req_uri in ("/", "/x", "/x/1", "/x/2", "//x/3", "/y/1", "/"):
        environ_of(req_uri=req_uri, builder=builder)
    warned = [r.args[0] for r in caplog.records if r.levelno == logging.WARNING]
    told = [r.args[0] for r in caplog.records if r.levelno == logging.DEBUG]
    assert warned == ["/", "/x", "/y/1"]
    assert told == ["/x/1", "/x/2", "//x/3", "/"]
    assert caplog.records[0].getMessage() == (
        "path '/' is not below script_name '/app': served with an empty SCRIPT_NAME,"
        " here and from now on (logged once for each first segment of a path);"
        " does the front end remove the prefix? then set removed_prefix;"
        " script_name_mismatch = 404 refuses such paths"
    )


def test_warnings_of_paths_outside_the_prefix_are_bounded(caplog):
    builder = EnvironBuilder(Settings(script_name="/app"))
    for number in range(LOGGED_NAMES + 10):
        environ_of(req_uri=f"/x{number}", builder=builder)
    assert len(caplog.records) == LOGGED_NAMES
    assert "no more of this kind" not in caplog.text


def test_path_outside_the_prefix_can_be_refused():
    settings = {"script_name": "/app", "script_name_mismatch": "404"}
    assert refusal_of(req_uri="/apple", settings=settings) == (
        404,
        "path '/apple' is not below script_name '/app'",
    )


@pytest.mark.parametrize("mismatch", ["serve", "404"])
def test_options_of_the_whole_server_is_outside_no_prefix(mismatch, caplog):
    settings = {"script_name": "/app", "script_name_mismatch": mismatch}
    environ = environ_of("OPTIONS", "*", settings=settings)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "")
    assert not caplog.records


def test_prefix_that_the_front_end_removed_is_put_back():
    environ = environ_of(req_uri="/x", settings={"removed_prefix": "/app/"})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/app", "/x")


@pytest.mark.parametrize(
    ("value", "script_name", "path_info"),
    [
        ("/app", "/app", "/x/y"),
        ("/app/x/", "/app/x", "/y"),
        ("/", "", "/app/x/y"),
        ("", "", "/app/x/y"),
        ("/other", "", "/app/x/y"),
    ],
)
@pytest.mark.parametrize(
    "settings",
    [{}, {"strict": True, "allowed_request_attributes": "X|WSGI_SCRIPT_NAME"}],
)
def test_front_end_can_say_the_prefix_with_each_request(
    value, script_name, path_info, settings
):
    environ = environ_of(
        req_uri="/app/x/y",
        request_attributes=[PORT, ("WSGI_SCRIPT_NAME", value)],
        settings=settings,
    )
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)
    assert "WSGI_SCRIPT_NAME" not in environ


@pytest.mark.parametrize(
    ("settings", "script_name", "path_info"),
    [
        ({"script_name": "/app"}, "/app", "/x/y"),
        ({"removed_prefix": "/app"}, "/app", "/app/x/y"),
        (
            {"script_name": "/app", "allowed_request_attributes": ".*", "strict": True},
            "/app",
            "/x/y",
        ),
    ],
)
def test_prefix_of_the_settings_is_not_the_front_ends_to_change(
    settings, script_name, path_info, caplog
):
    environ = environ_of(
        req_uri="/app/x/y",
        request_attributes=[PORT, ("WSGI_SCRIPT_NAME", "/app/x")],
        settings=settings,
    )
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)
    assert "WSGI_SCRIPT_NAME" not in environ
    assert "has no say beside script_name and removed_prefix: dropped" in caplog.text


def test_front_end_cannot_lead_round_the_prefix():
    settings = {"script_name": "/app", "script_name_mismatch": "404"}
    attributes = [PORT, ("WSGI_SCRIPT_NAME", "/")]
    status, _ = refusal_of(
        req_uri="/else", request_attributes=attributes, settings=settings
    )
    assert status == 404


@pytest.mark.parametrize("more", [{}, {"script_name": "/app"}])
def test_prefix_that_nobody_allowed_is_refused_in_strict_mode(more):
    attributes = [PORT, ("WSGI_SCRIPT_NAME", "/app")]
    status, problem = refusal_of(
        req_uri="/app/x",
        request_attributes=attributes,
        settings={"strict": True} | more,
    )
    assert status == 403
    assert "'WSGI_SCRIPT_NAME' is not in allowed_request_attributes" in problem
