"""What a trace must not show, and what stands in its place.

The shared secret, cookies and credentials are masked before anything is written
or printed. Names of cookies stay, and the scheme of an Authorization, because
they are what one debugs with. Bodies are never part of a trace. The query is
shown but for parameters whose names say that they are secret: an application
that puts secrets into other places of a URL has them in every access log too.

Where a name might mean either, it is masked: a trace that shows too little costs
a look at the application, one that shows too much costs a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

MASK = "***"

#: Names that are secret wherever they stand in a name.
_SECRET_PARTS = (
    "secret",
    "pass",
    "pwd",
    "token",
    "apikey",
    "accesskey",
    "csrf",
    "xsrf",
    "credential",
    "cookie",
    "session",
    "sessid",
    "jwt",
    "signature",
    "authorization",
    "authentication",
)
#: Names that are secret as one of the words of a name: x-auth-user, but no author.
_SECRET_WORDS = frozenset({"auth", "oauth", "oauth2", "sid", "sig", "otp"})
#: Names of parameters that are secret where they are the whole name.
_SECRET_PARAMETERS = frozenset({"code", "key"})

#: Headers and attributes that sound secret, and are not.
_HARMLESS = frozenset({"auth_type", "access-control-allow-credentials"})

_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_COOKIES = frozenset({"cookie", "cookie2"})
_SET_COOKIES = frozenset({"set-cookie", "set-cookie2"})
#: What a Set-Cookie says beside its value.
_COOKIE_FACTS = re.compile(
    r"version|path|domain|port|comment|commenturl|discard|expires|httponly"
    r"|max-age|partitioned|priority|samesite|secure",
    re.IGNORECASE,
)

#: An authority with who it is before the @: https://bob:pw@host
_USER_INFO = re.compile(r"(://|^//)[^/?#@\s]*(?:@[^/?#@\s]*)*@")
#: A path parameter, its semicolon as it is or percent-encoded. Its value ends at
#: the next segment or parameter.
_PATH_PARAMETER = re.compile(
    r"(?P<mark>;|%3B)(?P<name>(?:(?!%3B)[^=;/?#])*?)(?P<equals>=|%3D)"
    r"(?P<value>(?:(?!%3B)[^;/?#])*)",
    re.IGNORECASE,
)
#: Where a name begins inside of a part of a query: some applications take ``;`` for
#: another ``&``, and a value may be a URL.
_NAME_IN_PART = re.compile(r"(?:^|[;?])([^=;?]*)=")


def mask_header(name: str, value: str) -> str:
    """Return what may be shown of a header's value."""
    lowered = name.lower()
    if lowered in _CREDENTIALS:
        scheme, blank, rest = value.partition(" ")
        known = blank and rest and re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", scheme)
        return f"{scheme} {MASK}" if known else MASK
    if lowered in _COOKIES:
        return _mask_cookies(value)
    if lowered in _SET_COOKIES:
        return _mask_set_cookie(value)
    if _sounds_secret(lowered):
        return MASK
    return _mask_text(value)


def mask_attribute(name: str, value: object) -> object:
    """Return what may be shown of an attribute's value."""
    if name == "query_string" and isinstance(value, str):
        return mask_query(value)
    if not isinstance(value, str):
        return value  # ssl_key_size, or nothing
    lowered = name.lower()
    if _sounds_secret(lowered) or ("auth" in lowered and lowered not in _HARMLESS):
        return MASK
    return _mask_text(value)


def mask_query(query: str) -> str:
    """Mask the parameters of a query whose names say that they are secret.

    What is masked goes to the next ``&``: a ``;`` may be part of it.
    """
    query = _USER_INFO.sub(rf"\g<1>{MASK}@", query)
    return "&".join(map(_mask_parameter, query.split("&")))


def mask_uri(uri: str) -> str:
    """Mask credentials in a URL: its user, parameters of path, query and fragment."""
    uri = _USER_INFO.sub(rf"\g<1>{MASK}@", uri)
    rest, hash_mark, fragment = uri.partition("#")
    path, mark, query = rest.partition("?")
    path = _PATH_PARAMETER.sub(_masked_in_path, path)
    if hash_mark:
        # As OAuth's access_token, or a route with a query of its own.
        before, inner, after = fragment.rpartition("?")
        fragment = before + inner + mask_query(after)
    return path + mark + (mask_query(query) if mark else "") + hash_mark + fragment


def _mask_text(value: str) -> str:
    """Mask what is secret in a value that may be, or hold, a URL."""
    return mask_uri(value) if re.search(r"[?#;@]|%3b", value, re.I) else value


def _masked_in_path(match: re.Match[str]) -> str:
    if not _is_secret_parameter(match["name"]):
        return match[0]
    return f"{match['mark']}{match['name']}{match['equals']}{MASK}"


def _mask_parameter(part: str) -> str:
    for match in _NAME_IN_PART.finditer(part):
        if _is_secret_parameter(match[1]):
            return part[: match.end()] + MASK
    return part


def _mask_cookies(value: str) -> str:
    """Keep the names. What a Cookie header says besides is some cookie too."""
    return "; ".join(_mask_cookie(part) for part in re.split("[;,]", value))


def _mask_cookie(part: str) -> str:
    name, equals, _ = part.strip().partition("=")
    return f"{name}={MASK}" if equals else MASK


def _mask_set_cookie(value: str) -> str:
    """Keep names, and what a Set-Cookie says beside its value."""
    shown: list[str] = []
    # A comma begins another cookie, but for the one in a date.
    for part in re.split(r";|,(?!\s*\d\d[ -]\w{3}[ -])", value):
        text = part.strip()
        name, _, fact = text.partition("=")
        is_fact = bool(shown) and _COOKIE_FACTS.fullmatch(name.strip())
        if is_fact and ("," not in fact or name.strip().lower() == "expires"):
            shown.append(text)
        else:
            shown.append(_mask_cookie(text))
    return "; ".join(shown)


def _is_secret_parameter(name: str) -> bool:
    """Compare a name as the application will see it, decoded up to twice."""
    plain = unquote(unquote(name.replace("+", " "))).strip().lower()
    return plain in _SECRET_PARAMETERS or _sounds_secret(plain)


def _sounds_secret(name: str) -> bool:
    if name in _HARMLESS:
        return False
    squeezed = re.sub("[^a-z0-9]", "", name)
    if any(part in squeezed for part in _SECRET_PARTS):
        return True
    words = re.split("[^a-z0-9]+", name)
    return not _SECRET_WORDS.isdisjoint(words) or "xauth" in squeezed
