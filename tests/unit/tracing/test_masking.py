import pytest

from paste_ajp.tracing.masking import mask_attribute, mask_header, mask_uri


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Basic YTpi", "Basic ***"),
        ("authorization", "YTpi", "***"),
        ("Authorization", "a:b c", "***"),
        ("Proxy-Authorization", "Digest username=x", "Digest ***"),
        ("Cookie", "sid=1; theme=dark", "sid=***; theme=***"),
        ("Cookie", "sid=1, b=2", "sid=***; b=***"),
        ("Cookie", "loose", "***"),
        (
            "Cookie",
            "$Version=1; sid=2; path=3; domain=4",
            "$Version=***; sid=***; path=***; domain=***",
        ),
        ("Set-Cookie", "sid=1; Path=/; HttpOnly", "sid=***; Path=/; HttpOnly"),
        (
            "Set-Cookie",
            "sid=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure",
            "sid=***; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure",
        ),
        ("Set-Cookie", "path=secret", "path=***"),
        ("Set-Cookie", "sid=1, other=2", "sid=***; other=***"),
        ("Set-Cookie", "sid=1, 21 Oct abc", "sid=***"),
        ("Set-Cookie", "sid=1; Path=/, 21 Oct abc", "sid=***; Path=***"),
        ("X-Authorization", "k", "***"),
        ("X-Forwarded-Authorization", "k", "***"),
        ("X-Auth-User", "k", "***"),
        ("X-AuthKey", "k", "***"),
        ("X-Cookie-Copy", "k", "***"),
        ("X-Session-Id", "k", "***"),
        ("X-Credential", "k", "***"),
        ("X-JWT-Assertion", "k", "***"),
        ("Apikey", "k", "***"),
        ("WWW-Authenticate", 'Basic realm="x"', 'Basic realm="x"'),
        ("Author", "k", "k"),
        ("Referer", "https://bob:pw@h/x", "https://***@h/x"),
        ("Referer", "https://bob:p@w@h/x", "https://***@h/x"),
        ("Location", "//bob:pw@h/x", "//***@h/x"),
        ("Location", "/x#access_token=1&y=2", "/x#access_token=***&y=2"),
        ("Location", "/x#/page?access_token=1", "/x#/page?access_token=***"),
        ("X-Original-Url", "/x?sid=1", "/x?sid=***"),
        ("Refresh", "0; url=/x;jsessionid=1", "0; url=/x;jsessionid=***"),
        ("Content-Type", "text/html; charset=utf-8", "text/html; charset=utf-8"),
        ("X-Api-Key", "k", "***"),
        ("X-CSRF-Token", "k", "***"),
        (
            "Referer",
            "/x;jsessionid=A.r1?token=1&a=2",
            "/x;jsessionid=***?token=***&a=2",
        ),
        ("Accept", "*/*", "*/*"),
    ],
)
def test_headers(name, value, shown):
    assert mask_header(name, value) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("secret", "s3cret", "***"),
        (
            "query_string",
            "a=1&password=2&access_token=3;b=4",
            "a=1&password=***&access_token=***",
        ),
        ("MY_SECRET", "x", "***"),
        ("HTTP_COOKIE", "x", "***"),
        ("secret", None, None),
        ("ssl_key_size", 256, 256),
        ("remote_user", "bob", "bob"),
        ("auth_type", "Basic", "Basic"),
        ("ssl_session", "abc", "***"),
        ("MY_SESSION", "abc", "***"),
        ("AUTHENTICATE_CN", "abc", "***"),
        ("DB_PASS", "abc", "***"),
    ],
)
def test_attributes(name, value, shown):
    assert mask_attribute(name, value) == shown


def test_a_session_in_the_path_is_masked():
    assert mask_uri("/a;jsessionid=AB.r1/b;v=1") == "/a;jsessionid=***/b;v=1"


@pytest.mark.parametrize(
    "name",
    [
        *("pwd", "pass", "passphrase", "PassWord", "user_pass", "auth", "key", "code"),
        *("access_key", "signature", "X-Amz-Signature", "sig", "session", "session_id"),
        *("sid", "phpsessid", "jsessionid", "jwt", "credential", "credentials"),
        *("token", "id_token", "tokens", "api-key", "%70wd", "pa%73sword", "p%2577d"),
    ],
)
def test_secret_parameters_are_masked_to_the_next_ampersand(name):
    query = f"a=1&{name}=x=y;z?w&b=2"
    assert mask_attribute("query_string", query) == f"a=1&{name}=***&b=2"
    assert mask_uri(f"/p?{query}") == f"/p?a=1&{name}=***&b=2"
    assert mask_uri(f"/p?u=1;{name}=x;y=z") == f"/p?u=1;{name}=***"


@pytest.mark.parametrize("query", ["author=1", "keyword=2", "codec=3", "a", "monkey=4"])
def test_other_parameters_are_shown(query):
    assert mask_attribute("query_string", query) == query


def test_a_url_in_a_parameter_is_masked():
    query = "next=https://bob:pw@h/?token=1&a=2"
    assert mask_attribute("query_string", query) == "next=https://***@h/?token=***&a=2"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a%3Bjsessionid=AB/b", "/a%3Bjsessionid=***/b"),
        ("/a%3bjsessionid%3DAB;v=1", "/a%3bjsessionid%3D***;v=1"),
        ("/a;j%73essionid=AB%3Bv=1", "/a;j%73essionid=***%3Bv=1"),
        ("/a;sid=1;token=2", "/a;sid=***;token=***"),
        ("/a//b@c", "/a//b@c"),
    ],
)
def test_secret_path_parameters_are_masked(path, shown):
    assert mask_uri(path) == shown
