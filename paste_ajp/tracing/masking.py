"""What a trace must not show, and what stands in its place.

The shared secret, cookies and credentials are masked before anything is written
or printed. Names of cookies stay, and the scheme of an Authorization, because
they are what one debugs with. Bodies are never part of a trace. The query is
shown but for parameters whose names say that they are secret: an application
that puts secrets into other places of a URL has them in every access log too.
"""

from __future__ import annotations

import re

MASK = "***"

_CREDENTIALS = frozenset({"authorization", "proxy-authorization"})
_COOKIES = frozenset({"cookie", "cookie2", "set-cookie", "set-cookie2"})
#: What stands in cookies beside their values, sent by servers and (with $) back.
_COOKIE_FACTS = re.compile(
    r"\$?(version|path|domain|port)|comment|commenturl|discard|expires|httponly"
    r"|max-age|partitioned|priority|samesite|secure",
    re.IGNORECASE,
)
_SECRET_WORDS = ("secret", "passw", "token", "api-key", "api_key", "apikey", "csrf")

_SESSION_IN_PATH = re.compile(r"(?i)(;\s*jsessionid=)[^;/?#\s\"']+")
_PARAMETER = re.compile(r"([?&;]|^)([^=&;?#]*)=([^&;#\s]*)")


def mask_header(name: str, value: str) -> str:
    """Return what may be shown of a header's value."""
    lowered = name.lower()
    if lowered in _CREDENTIALS:
        scheme, blank, rest = value.partition(" ")
        known = blank and rest and re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", scheme)
        return f"{scheme} {MASK}" if known else MASK
    if lowered in _COOKIES:
        return _mask_cookies(value, is_set="set-" in lowered)
    if _sounds_secret(lowered):
        return MASK
    if lowered in ("referer", "location", "content-location", "origin"):
        return mask_uri(value)
    return value


def mask_attribute(name: str, value: object) -> object:
    """Return what may be shown of an attribute's value."""
    if name == "query_string" and isinstance(value, str):
        return mask_query(value)
    if value is not None and _sounds_secret(name.lower()):
        return MASK
    if name.upper() in ("HTTP_AUTHORIZATION", "HTTP_COOKIE", "AUTHORIZATION", "COOKIE"):
        return MASK
    return mask_uri(value) if isinstance(value, str) else value


def mask_query(query: str) -> str:
    """Mask the parameters of a query whose names say that they are secret."""

    def masked(match: re.Match[str]) -> str:
        if not _sounds_secret(match[2].lower()):
            return match[0]
        return f"{match[1]}{match[2]}={MASK}"

    return _PARAMETER.sub(masked, query)


def mask_uri(uri: str) -> str:
    """Mask a session id in the path, and secret parameters of the query."""
    path, mark, query = uri.partition("?")
    path = _SESSION_IN_PATH.sub(rf"\g<1>{MASK}", path)
    return path + mark + (mask_query(query) if mark else "")


def _mask_cookies(value: str, *, is_set: bool) -> str:
    """Keep names, and what a Set-Cookie says beside its value."""
    shown = []
    for number, part in enumerate(re.split(r"[;,]", value)):
        name, equals, _ = part.strip().partition("=")
        is_fact = (number > 0 or name[:1] == "$") and _COOKIE_FACTS.fullmatch(name)
        if is_fact:
            shown.append(part.strip())
        elif equals:
            shown.append(f"{name}={MASK}")
        elif is_set and number and re.fullmatch(r"\d\d[ -]\w{3}[ -].*", part.strip()):
            shown[-1] += "," + part  # the comma was the one inside a date
        else:
            shown.append(MASK)
    return "; ".join(shown)


def _sounds_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)
