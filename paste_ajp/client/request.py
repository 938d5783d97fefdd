"""From a caller's words to a Forward Request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import urlencode

from paste_ajp.protocol import ForwardRequest

Headers: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
Query: TypeAlias = "str | Mapping[str, object] | Sequence[tuple[str, object]] | None"

#: The attributes that have a code of their own; any other name goes as a
#: request attribute. Source: AJPv13, "Attributes".
CODED_ATTRIBUTES = (
    "context",
    "servlet_path",
    "remote_user",
    "auth_type",
    "query_string",
    "jvm_route",
    "ssl_cert",
    "ssl_cipher",
    "ssl_session",
    "ssl_key_size",
    "secret",
)

#: Requests that a server answers without a body expect none to be declared.
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNSAFE_IN_URI = re.compile(rb"[^\x21\x22\x24-\x3e\x40-\x7e]")  # and not # or ?
_UNSAFE_IN_QUERY = re.compile(rb"[^\x21\x22\x24-\x7e]")


def build_request(
    method: str,
    path: str,
    *,
    query: Query = None,
    headers: Headers = (),
    content_length: int | None = None,
    is_chunked: bool = False,
    attributes: Mapping[str, str | int | None] | None = None,
    is_ssl: bool = False,
    server_name: str | None = None,
    server_port: int | None = None,
    remote_addr: str = "127.0.0.1",
    remote_host: str | None = None,
    remote_port: int | str = 0,
    protocol: str = "HTTP/1.1",
    secret: bytes | None = None,
    fallback_host: str = "localhost",
) -> ForwardRequest:
    """Build a Forward Request as httpd or mod_jk would send it.

    ``path`` is percent-encoded already; what no URI may hold (blanks, control
    and non-ASCII characters) is encoded here, as UTF-8, and what follows a ``?``
    is the query unless ``query`` is given too. The Host header names the server
    and its port unless the arguments do; without one it is made from them.

    ``content_length`` and ``is_chunked`` replace whatever the headers say.
    AJP_REMOTE_PORT is always there, because a server takes a front end that
    never sends it for lighttpd, whose paths are decoded already.
    """
    if not _TOKEN.fullmatch(method):
        raise ValueError(f"method {method!r}: not a token (RFC 9110)")
    path, mark, own_query = path.partition("?")
    if query is None:
        query = own_query if mark else None
    fields = _clean_headers(headers)
    host = next((value for name, value in fields if name == "host"), None)
    if host is None:
        name = server_name or fallback_host
        host = f"[{name}]" if ":" in name else name
        if server_port is not None and server_port != (443 if is_ssl else 80):
            host = f"{host}:{server_port}"
        fields.insert(0, ("host", host))
    host_name, host_port = split_host(host)
    if content_length is None and not is_chunked and method in _METHODS_WITH_BODY:
        content_length = 0
    if is_chunked:
        content_length = None
        fields.append(("transfer-encoding", "chunked"))
    elif content_length is not None:
        fields.append(("content-length", str(content_length)))
    coded, others = _sort_attributes(attributes or {}, remote_port)
    if secret is not None:
        coded.setdefault("secret", secret.decode("latin-1"))
    if query is not None:
        coded["query_string"] = _encode_query(query)
    return ForwardRequest(
        method=method,
        protocol=protocol,
        req_uri=quote_path(path),
        remote_addr=remote_addr,
        remote_host=remote_host,
        server_name=server_name or host_name or fallback_host,
        server_port=server_port or host_port or (443 if is_ssl else 80),
        is_ssl=is_ssl,
        headers=fields,
        attributes=coded,
        request_attributes=others,
        content_length=content_length,
        is_chunked=is_chunked,
    )


def declared_length(headers: Headers) -> int | None:
    """Read the Content-Length that a caller gave among the headers, if any.

    Raises ValueError for what is no number, or for two that differ.
    """
    found: int | None = None
    for name, value in _pairs(headers):
        if name.lower() == "content-length":
            if not (value.isascii() and value.isdigit()):
                raise ValueError(f"Content-Length = {value!r}: expected digits")
            if found not in (None, int(value)):
                raise ValueError(f"Content-Length = {value!r}: it is {found}, too")
            found = int(value)
    return found


def declares_chunks(headers: Headers) -> bool:
    """Did the caller ask for a chunked body by a Transfer-Encoding header?"""
    return any(
        name.lower() == "transfer-encoding" and value.strip().lower() == "chunked"
        for name, value in _pairs(headers)
    )


def quote_path(path: str) -> str:
    """Percent-encode what a path may not hold; what is encoded already stays."""
    if path == "*":
        return path
    if not path.startswith("/"):
        path = "/" + path
    return _UNSAFE_IN_URI.sub(_escape, path.encode("utf-8")).decode("ascii")


def split_host(host: str) -> tuple[str, int | None]:
    """Cut a Host header into its name, without brackets, and its port."""
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:]*))(?::(\d{0,5}))?", host.strip())
    if match is None:
        return host, None
    port = int(match[3]) if match[3] else None
    return match[1] or match[2] or "", port if port and port < 65536 else None


def _clean_headers(headers: Headers) -> list[tuple[str, str]]:
    """Lower-case names; without the two that this module writes itself."""
    clean = []
    for name, value in _pairs(headers):
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"header {name!r}: the name is not a token (RFC 9110)")
        if _CONTROL.search(value):
            raise ValueError(f"header {name}: the value holds a control character")
        if name.lower() not in ("content-length", "transfer-encoding"):
            clean.append((name.lower(), _wire_text(value)))
    return clean


def _pairs(headers: Headers) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


def _wire_text(value: str) -> str:
    """Latin-1 text stays, as WSGI's strings must; any other becomes UTF-8."""
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8").decode("latin-1")
    return value


def _sort_attributes(
    attributes: Mapping[str, str | int | None], remote_port: int | str
) -> tuple[dict[str, str | int | None], list[tuple[str, str]]]:
    coded: dict[str, str | int | None] = {}
    others: list[tuple[str, str]] = []
    for name, value in attributes.items():
        if value is None:
            continue
        if name == "ssl_key_size":
            coded[name] = int(value)
        elif name in CODED_ATTRIBUTES:
            coded[name] = _wire_text(str(value))
        else:
            others.append((_wire_text(name), _wire_text(str(value))))
    if all(name != "AJP_REMOTE_PORT" for name, _ in others):
        others.insert(0, ("AJP_REMOTE_PORT", str(remote_port)))
    return coded, others


def _encode_query(query: Query) -> str:
    text = query if isinstance(query, str) else urlencode(query or (), doseq=True)
    return _UNSAFE_IN_QUERY.sub(_escape, text.encode("utf-8")).decode("ascii")


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
