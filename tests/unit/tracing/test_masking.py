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
        ("Cookie", "$Version=1; sid=2; path=3", "$Version=1; sid=***; path=3"),
        ("Set-Cookie", "sid=1; Path=/; HttpOnly", "sid=***; Path=/; HttpOnly"),
        (
            "Set-Cookie",
            "sid=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure",
            "sid=***; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Secure",
        ),
        ("Set-Cookie", "path=secret", "path=***"),
        ("Set-Cookie", "sid=1, other=2", "sid=***; other=***"),
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
            "a=1&password=***&access_token=***;b=4",
        ),
        ("MY_SECRET", "x", "***"),
        ("HTTP_COOKIE", "x", "***"),
        ("secret", None, None),
        ("ssl_key_size", 256, 256),
        ("remote_user", "bob", "bob"),
    ],
)
def test_attributes(name, value, shown):
    assert mask_attribute(name, value) == shown


def test_a_session_in_the_path_is_masked():
    assert mask_uri("/a;jsessionid=AB.r1/b;v=1") == "/a;jsessionid=***/b;v=1"
