"""HTTP in, AJP out: a WSGI application that makes any HTTP server a front end.

It does for a WSGI server what mod_proxy_ajp does for httpd: each request goes to
an AJP server as a Forward Request, bodies stream both ways, and what belongs to
the HTTP connection alone stays there. Expect: 100-continue is the HTTP server's
to answer, as it is at httpd; it does when the body is first read.
"""

from __future__ import annotations

import html
import http
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from paste_ajp.client.client import Client, Trace
from paste_ajp.client.errors import (
    BodyFailed,
    ClientError,
    ConnectFailed,
    PoolExhausted,
    Stage,
    TimedOut,
)
from paste_ajp.client.request import split_host
from paste_ajp.client.response import Response
from paste_ajp.protocol import LocalProtocolError

Environ: TypeAlias = dict[str, Any]  # PEP 3333 lets servers put anything into it
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]

log = logging.getLogger("paste_ajp.gateway")

#: Headers that mean the connection, not the message. Source: RFC 9110, 7.6.1;
#: the proxy-* of RFC 9110, 11.7 are for us, who ask for nothing.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

#: Not passed on to the AJP server: Expect is answered on this side, Proxy would
#: become HTTP_PROXY in a CGI script's environment ("httpoxy"), and the two of
#: the body are rebuilt from what the HTTP server says.
_REQUEST_ONLY = frozenset({"expect", "proxy", "content-length", "content-type"})

#: Not passed on to the browser: Status would change it under some servers.
_RESPONSE_ONLY = frozenset({"status"})

#: environ keys that HTTP servers with TLS set (mod_ssl's names), as attributes.
_TLS_FACTS = {
    "SSL_CLIENT_CERT": "ssl_cert",
    "SSL_CIPHER": "ssl_cipher",
    "SSL_SESSION_ID": "ssl_session",
    "SSL_CIPHER_USEKEYSIZE": "ssl_key_size",
    "SSL_PROTOCOL": "AJP_SSL_PROTOCOL",
}

#: One byte of a path, however it is spelled.
_ONE_BYTE = re.compile("%[0-9A-Fa-f]{2}|.", re.DOTALL)
_METHODS_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: What a path may hold unescaped. Source: RFC 3986, pchar and "/".
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
_QUERY_SAFE = "".join(map(chr, range(0x21, 0x7F)))


class Gateway:
    """Forwards every request to the AJP server at ``target``.

    ``target`` is an address in any of the forms that Client takes, or a Client,
    which stays the caller's to close. A path in the address takes the place of
    SCRIPT_NAME: ``ajp://host/app`` under ``/x`` turns ``/x/page`` into
    ``/app/page``. Without one the whole path goes as it came. Every other
    keyword goes to Client.

    ``attributes`` names environ keys to send as request attributes, as SetEnv
    does with httpd (Tomcat refuses those that it was not told of). With
    ``show_details`` the error pages name the address and the error; without it
    only the log does. ``send_script_name`` sends SCRIPT_NAME as the request
    attribute WSGI_SCRIPT_NAME, from which paste_ajp takes it.
    """

    def __init__(
        self,
        target: str | Client,
        *,
        attributes: Iterable[str] = (),
        show_details: bool = False,
        send_script_name: bool = False,
        secret: str | bytes | None = None,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 10.0,
        pool_size: int = 8,
        packet_size: int = 8192,
        max_idle: float = 60.0,
        trace: Trace | None = None,
    ) -> None:
        self._owns_client = not isinstance(target, Client)
        self.client = (
            target
            if isinstance(target, Client)
            else Client(
                target,
                secret=secret,
                timeout=timeout,
                connect_timeout=connect_timeout,
                pool_size=pool_size,
                packet_size=packet_size,
                max_idle=max_idle,
                trace=trace,
            )
        )
        self._base = self.client.address.target.partition("?")[0].rstrip("/")
        self._attributes = tuple(attributes)
        self._show_details = show_details
        self._send_script_name = send_script_name

    def close(self) -> None:
        """Close the pool of connections."""
        if self._owns_client:
            self.client.close()

    def __call__(
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        try:
            response = self._forward(environ)
        except (ClientError, LocalProtocolError, ValueError) as error:
            return self._fail(environ, start_response, error)
        try:
            status = status_line(response.status, response.reason)
            headers = end_to_end(response.headers)
            if response.status == 204:  # RFC 9110, 8.6: it must not have one
                headers = [h for h in headers if h[0].lower() != "content-length"]
            _refuse_control(headers)
        except ValueError as error:
            response.close()
            return self._fail(environ, start_response, error, 502)
        start_response(status, headers)
        return _Body(response)

    def _forward(self, environ: Environ) -> Response:
        source, length, is_chunked = find_body(environ)
        headers = request_headers(environ)
        if is_chunked:
            headers.append(("transfer-encoding", "chunked"))
        elif length is not None:
            headers.append(("content-length", str(length)))
        query = environ.get("QUERY_STRING", "")
        host, _ = split_host(environ.get("HTTP_HOST", ""))
        return self.client.request(
            environ["REQUEST_METHOD"],
            request_path(environ, self._base),
            query=quote(query, _QUERY_SAFE, "latin-1") or None,
            headers=headers,
            body=source,
            attributes=self._attributes_of(environ),
            is_ssl=environ.get("wsgi.url_scheme") == "https",
            server_name=host or environ.get("SERVER_NAME"),
            server_port=_port(environ.get("SERVER_PORT")),
            remote_addr=environ.get("REMOTE_ADDR") or "127.0.0.1",
            remote_host=_looked_up_name(environ),
            remote_port=environ.get("REMOTE_PORT") or 0,
            protocol=environ.get("SERVER_PROTOCOL") or "HTTP/1.1",
        )

    def _attributes_of(self, environ: Environ) -> dict[str, str | int]:
        found: dict[str, str | int] = {}
        if environ.get("REMOTE_USER"):
            found["remote_user"] = environ["REMOTE_USER"]
            if environ.get("AUTH_TYPE"):
                found["auth_type"] = environ["AUTH_TYPE"]
        if environ.get("SERVER_ADDR"):
            found["AJP_LOCAL_ADDR"] = environ["SERVER_ADDR"]
        for key, name in _TLS_FACTS.items():
            value = str(environ.get(key) or "")
            if value and (name != "ssl_key_size" or value.isdigit()):
                found[name] = value
        if self._send_script_name and environ.get("SCRIPT_NAME"):
            found["WSGI_SCRIPT_NAME"] = environ["SCRIPT_NAME"]
        for key in self._attributes:
            if isinstance(environ.get(key), str):
                found[key] = environ[key]
        return found

    def _fail(
        self,
        environ: Environ,
        start_response: StartResponse,
        error: Exception,
        status: int | None = None,
    ) -> list[bytes]:
        status = status or status_of(error)
        log.error(
            "%s %s: %d: %s",
            environ.get("REQUEST_METHOD"),
            _CONTROL.sub("?", environ.get("PATH_INFO", "")),
            status,
            error,
        )
        details = str(error) if self._show_details else ""
        if details and not isinstance(error, ClientError):  # which names it itself
            details = f"{self.client.address}: {details}"
        page = error_page(status, error, details).encode("utf-8")
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Cache-Control", "no-store"),
        ]
        if status == 503:
            headers.append(("Retry-After", "5"))
        start_response(status_line(status, ""), headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [page]


class _Body:
    """The response's body, for a WSGI server to send piece by piece.

    ``close``, which the server calls too when the browser went away, ends the
    exchange. An error in the middle is logged and raised: the HTTP server must
    cut its connection then, so that nothing looks complete.
    """

    def __init__(self, response: Response) -> None:
        self._response = response
        self._pieces = response.chunks()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except ClientError as error:
            log.error("the response was cut short: %s", error)
            raise

    def close(self) -> None:
        self._response.close()


class LengthRequired(ValueError):
    """A chunked body that the HTTP server leaves as it came; nobody can read it."""


class _Input:
    """wsgi.input as a body: read and nothing else, whatever else it can do.

    Its seek and tell, where a server has them, say nothing about the length.
    """

    def __init__(self, source: Any) -> None:  # a server's own class
        self._source = source

    def read(self, size: int, /) -> bytes:
        data: bytes = self._source.read(size)
        return data


def find_body(environ: Environ) -> tuple[_Input | None, int | None, bool]:
    """Find the request's body: (where to read it, its length, is it chunked).

    A chunked body can be read only where the HTTP server has undone the chunks,
    and ends the input where the body ends: it says so by wsgi.input_terminated.
    Without that (wsgiref) reading would give the chunks' framing for the body, and
    then wait for ever: LengthRequired. Some servers say wsgi.input_terminated of
    every request, so alone it counts only where a body is likely.
    """
    is_terminated = bool(environ.get("wsgi.input_terminated"))
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    if coding not in ("", "identity", "chunked"):
        raise ValueError(f"Transfer-Encoding = {coding!r}: expected chunked")
    is_chunked = coding == "chunked"
    if is_chunked and not is_terminated:
        raise LengthRequired(
            "a chunked body, and the HTTP server does not say that it undoes chunks "
            "(wsgi.input_terminated)"
        )
    # Beside chunks a length is only what the remote says; httpd drops it, too.
    text = "" if is_chunked else environ.get("CONTENT_LENGTH") or ""
    if text:
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"CONTENT_LENGTH = {text!r}: expected digits")
        length = int(text)
        return (_Input(environ["wsgi.input"]) if length else None), length, False
    if not is_chunked and is_terminated:
        is_chunked = environ["REQUEST_METHOD"] not in _METHODS_WITHOUT_BODY
    if is_chunked:
        return _Input(environ["wsgi.input"]), None, True
    return None, None, False


def request_headers(environ: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rebuild the request's headers from environ, without what must stay here."""
    dropped = HOP_BY_HOP | _REQUEST_ONLY | _named_by(environ.get("HTTP_CONNECTION"))
    headers = []
    if environ.get("CONTENT_TYPE"):
        headers.append(("content-type", str(environ["CONTENT_TYPE"])))
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            name = key[5:].replace("_", "-").lower()
            if name not in dropped:
                headers.append((name, value))
    return headers


def request_path(environ: Mapping[str, Any], base: str = "") -> str:
    """Find the percent-encoded path to ask for.

    The remote's own spelling, where the server keeps it (REQUEST_URI, RAW_URI)
    and it still means SCRIPT_NAME + PATH_INFO: only that tells ``/a%2Fb`` from
    ``/a/b``. Where a middleware has changed the path, the change wins.

    Raises ValueError where the path might lead out of ``base``.
    """
    script_name = environ.get("SCRIPT_NAME", "").encode("latin-1")
    path_info = environ.get("PATH_INFO", "").encode("latin-1")
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    if raw == "*" or path_info == b"*":
        return "*"
    if not raw.startswith("/"):
        raw = urlsplit(raw).path  # the absolute form that proxies are sent
    raw = raw.partition("#")[0].partition("?")[0]
    spelled = _ONE_BYTE.findall(quote(raw, safe=_PATH_SAFE + "%", encoding="latin-1"))
    if unquote_to_bytes("".join(spelled)) == script_name + path_info:
        path = "".join(spelled[len(script_name) :] if base else spelled)
    else:
        path = quote(path_info if base else script_name + path_info, safe=_PATH_SAFE)
    if base:
        _refuse_way_out(path)
    return (base + path) or "/"


def _refuse_way_out(path: str) -> None:
    """Refuse ``..`` in any spelling that some server takes for one.

    Percent-encoded, once or twice; with a parameter, which Tomcat cuts off; behind
    a backslash, which others take for a slash. It stays refused where it would lead
    back: what the AJP server makes of it nobody here knows.
    """
    plain = unquote(path, "latin-1")
    segments = re.split(r"[/\\]", plain) + re.split(r"[/\\]", unquote(plain, "latin-1"))
    if any(segment.partition(";")[0].strip() == ".." for segment in segments):
        raise ValueError("the path leads out of the target's by a '..'")
    if path and not path.startswith("/"):
        raise ValueError("the path does not begin with a slash")


def end_to_end(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out the response headers that a WSGI application may not send."""
    connection = [value for name, value in headers if name.lower() == "connection"]
    dropped = HOP_BY_HOP | _RESPONSE_ONLY | _named_by(",".join(connection))
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def status_line(status: int, reason: str) -> str:
    """Write "200 OK", with the standard reason where the server gave none.

    Tomcat gives the number again for its reason, which says as much.
    """
    if not 200 <= status <= 999:
        raise ValueError(f"status = {status}: expected 200 to 999")
    if reason.strip() in ("", str(status)):
        try:
            reason = http.HTTPStatus(status).phrase
        except ValueError:
            reason = "Unknown"
    return f"{status} {_CONTROL.sub(' ', reason).strip()}"


def status_of(error: Exception) -> int:
    """Choose the HTTP status that tells a browser about this error."""
    if isinstance(error, ConnectFailed | PoolExhausted):
        return 503
    if isinstance(error, TimedOut):
        return 503 if error.stage is Stage.CONNECT else 504
    if isinstance(error, BodyFailed):
        return 400
    if isinstance(error, LengthRequired):
        return 411
    if isinstance(error, ClientError):
        return 502
    return 431 if isinstance(error, LocalProtocolError) else 400


_ADVICE = {
    400: """
        <li>The request could not be passed on as it came, or its body ended early.
        """,
    411: """
        <li>The upload is chunked, and the HTTP server before the gateway does not say
        that it can read that. Send a Content-Length, or use another HTTP server
        (waitress, gunicorn).
        """,
    431: """
        <li>The request's headers do not fit one AJP packet. Set packet_size higher
        here and at the AJP server, to the same number.
        """,
    502: """
        <li>Is it an AJP port that the gateway was given, and not an HTTP port?
        <li>Is packet_size the same on both sides?
        <li>Does the AJP server's log say why it closed the connection? It closes
        without an answer on a peer that it does not allow.
        """,
    503: """
        <li>Does the AJP server run, and listen at the address that the gateway was
        given? <code>paste-ajp ping ajp://HOST:PORT</code> tells.
        <li>May this host connect there (firewall, container network, permissions of
        a Unix socket)?
        <li>Are all connections busy? pool_size here and threads at the AJP server
        say how many requests run at a time.
        """,
    504: """
        <li>The AJP server took the request, and stayed silent for longer than the
        gateway's timeout. Is the application slow, or stuck?
        <li>Are all its workers busy? A ping is answered even then.
        """,
}


def error_page(status: int, error: Exception, details: str = "") -> str:
    """Write a page that says what happened and what to check."""
    title = status_line(status, "")
    stage = (
        f"<p>It happened while {html.escape(error.stage.value)}.</p>"
        if isinstance(error, ClientError)
        else ""
    )
    shown = f"<pre>{html.escape(details)}</pre>" if details else ""
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title></head><body><h1>{title}</h1>"
        f"<p>The AJP gateway has no answer to pass on.</p>{stage}{shown}"
        f"<p>What to check:</p><ul>{_ADVICE[status]}</ul></body></html>\n"
    )


def _named_by(connection: str | None) -> frozenset[str]:
    """The headers that a Connection header makes hop-by-hop."""
    return frozenset(
        name.strip().lower() for name in (connection or "").split(",") if name.strip()
    )


def _refuse_control(headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        if _CONTROL.search(value):
            raise ValueError(f"response header {name}: holds a control character")


def _looked_up_name(environ: Mapping[str, Any]) -> str | None:
    """The remote's name, unless a server that looks none up repeats the address."""
    name = environ.get("REMOTE_HOST") or None
    return None if name == environ.get("REMOTE_ADDR") else name


def _port(text: object) -> int | None:
    value = str(text or "")
    return int(value) if value.isascii() and value.isdigit() and int(value) else None
