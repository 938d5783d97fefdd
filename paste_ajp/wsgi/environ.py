"""ForwardRequest -> environ, as PEP 3333 and section 10 of the AJP notes want it.

All text is Latin-1 `str`, the bytes of the wire one for one. A path is decoded
exactly once: front ends that escape it (httpd, mod_jk) are told from lighttpd, which
sends it decoded, by settings.uri_encoding or by what only lighttpd leaves out.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from paste_ajp.logs import server_log
from paste_ajp.protocol import ForwardRequest
from paste_ajp.settings import Settings
from paste_ajp.version import SERVER_SOFTWARE
from paste_ajp.wsgi.exchange import Exchange
from paste_ajp.wsgi.input import RequestBody

Environ = dict[str, Any]

#: Request header names learnt, at the most: a remote can invent any number.
LEARNT_NAMES: Final = 1000

#: Names of refused request attributes that are logged, at the most; also of the first
#: segments of paths that are outside script_name.
LOGGED_NAMES: Final = 100

#: AJP attribute -> environ keys: mod_ssl's and CGI's name, then flup's.
ATTRIBUTE_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "query_string": ("QUERY_STRING",),
    "remote_user": ("REMOTE_USER",),
    "auth_type": ("AUTH_TYPE",),
    "jvm_route": ("AJP_JVM_ROUTE", "JVM_ROUTE"),
    "ssl_cert": ("SSL_CLIENT_CERT", "SSL_CERT"),
    "ssl_cipher": ("SSL_CIPHER",),
    "ssl_session": ("SSL_SESSION_ID", "SSL_SESSION"),
    "ssl_key_size": ("SSL_CIPHER_USEKEYSIZE", "SSL_KEY_SIZE"),
    "context": (),
    "servlet_path": (),
    "secret": (),
    "stored_method": (),
}

#: Request attributes that front ends set by themselves -> environ key.
#: Source: AJP notes 5.4; the remote port decides nothing and is taken as it is.
BUILT_IN_ATTRIBUTES: Final[dict[str, str]] = {
    "AJP_REMOTE_PORT": "REMOTE_PORT",
    "AJP_LOCAL_ADDR": "SERVER_ADDR",
    "AJP_SSL_PROTOCOL": "SSL_PROTOCOL",
    "JK_LB_ACTIVATION": "JK_LB_ACTIVATION",
}
SCRIPT_NAME_ATTRIBUTE: Final = "WSGI_SCRIPT_NAME"

#: Keys that a request attribute may never set, whatever the operator allows.
RESERVED_KEYS: Final = frozenset(
    [
        "AUTH_TYPE",
        "CONTENT_LENGTH",
        "CONTENT_TYPE",
        "DOCUMENT_ROOT",
        "GATEWAY_INTERFACE",
        "HTTPS",
        "PATH_INFO",
        "PATH_TRANSLATED",
        "QUERY_STRING",
        "RAW_URI",
        "REMOTE_ADDR",
        "REMOTE_HOST",
        "REMOTE_IDENT",
        "REMOTE_PORT",
        "REMOTE_USER",
        "REQUEST_METHOD",
        "REQUEST_URI",
        "SCRIPT_NAME",
        "SCRIPT_URI",
        "SCRIPT_URL",
        "SERVER_ADDR",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "SERVER_SOFTWARE",
    ]
) | {key for keys in ATTRIBUTE_KEYS.values() for key in keys}
RESERVED_PREFIXES: Final = ("HTTP_", "wsgi.")

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\.\.?(?:;[^/\\]*)?(?:[/\\]|$)|\\")


class RequestRefused(Exception):
    """A well-formed request that this server will not hand to the application.

    `status` is the answer; the text is for the log, never for the remote.
    """

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


def header_key(name: str) -> str | None:
    """Return the environ key of a lower-case header name, None to drop the header.

    Dropped: ``proxy`` (it would become HTTP_PROXY, which many HTTP clients obey:
    "httpoxy"), names with ``_`` (they would alias the name with ``-``, and pass all
    front ends), and Transfer-Encoding, which the front end has undone.
    """
    if name in ("proxy", "transfer-encoding") or "_" in name:
        return None
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def normal_prefix(path: str) -> str:
    """Return a path prefix with a leading slash and no trailing one, or ``""``."""
    path = path.strip("/")
    return f"/{path}" if path else ""


def wsgi_text(text: str) -> str:
    """Return configured text as PEP 3333 wants it: UTF-8 bytes read as Latin-1."""
    return text.encode().decode("latin-1")


class EnvironBuilder:
    """Builds the environ of each request of one server; threads may share it."""

    def __init__(
        self,
        settings: Settings,
        *,
        server_name: str = "localhost",
        extra: Mapping[str, Any] | None = None,
        file_wrapper: Callable[..., Any] | None = None,
    ) -> None:
        self._settings = settings
        self._server_name = server_name
        self._extra = dict(extra or {})
        self._script_name = wsgi_text(normal_prefix(settings.script_name))
        self._removed_prefix = wsgi_text(normal_prefix(settings.removed_prefix))
        self._plain_mount = not self._script_name and not self._removed_prefix
        self._trusts_users = settings.trust_remote_user
        allowed = settings.allowed_request_attributes
        self._takes_script_name = self._plain_mount and (
            not settings.strict
            or (allowed is not None and bool(allowed.fullmatch(SCRIPT_NAME_ATTRIBUTE)))
        )
        # Where the path of most requests can be taken as it is.
        self._is_plain = not settings.strict and settings.uri_encoding in (
            "auto",
            "escaped",
        )
        self._keys: dict[str, str] = {}
        self._dropped: set[str] = set()  # names that have no key
        self._logged_names: set[str] = set()
        self._logged_segments: set[str] = set()  # of paths outside script_name
        # With the keys that every request sets, so that a copy is large enough for
        # headers, too: not to grow it for each request saves 0.9 us.
        self._base: Environ = {
            "REQUEST_METHOD": "",
            "SCRIPT_NAME": self._removed_prefix,
            "PATH_INFO": "",
            "QUERY_STRING": "",
            "REQUEST_URI": "",
            "RAW_URI": "",
            "SERVER_NAME": "",
            "SERVER_PORT": "",
            "SERVER_PROTOCOL": "",
            "REMOTE_ADDR": "",
            "REMOTE_PORT": "",
            "wsgi.input": None,
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_SOFTWARE": SERVER_SOFTWARE,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": settings.threads > 1,
            "wsgi.multiprocess": settings.processes > 1,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
        }
        if file_wrapper is not None:
            self._base["wsgi.file_wrapper"] = file_wrapper

    def build(self, request: ForwardRequest, exchange: Exchange) -> Environ:
        """Return the environ. Raises RequestRefused where policy forbids the request.

        The hot path: a copy of what never changes, then item by item.
        """
        (
            method,
            protocol,
            req_uri,
            remote_addr,
            remote_host,
            server_name,
            server_port,
            is_ssl,
            headers,
            attributes,
            request_attributes,
            _,
            _,
        ) = request
        environ = self._base.copy()
        keys = self._keys
        try:
            for name, value in headers:
                environ[keys[name]] = value
        except KeyError:
            environ = self._start_environ(headers)
        else:
            if len(environ) != len(self._base) + len(headers):
                environ = self._start_environ(headers)
        environ["REQUEST_METHOD"] = method
        environ["SERVER_PROTOCOL"] = protocol
        environ["wsgi.input"] = RequestBody(exchange)
        if remote_addr:
            environ["REMOTE_ADDR"] = remote_addr
        if remote_host:
            environ["REMOTE_HOST"] = remote_host
        if server_name:
            environ["SERVER_NAME"] = server_name
        else:
            environ["SERVER_NAME"] = self._name_from_host(environ)
        environ["SERVER_PORT"] = str(server_port)
        if is_ssl:
            environ["HTTPS"] = "on"
            environ["wsgi.url_scheme"] = "https"

        if attributes:
            if not self._trusts_users:
                # Out of the request: no log shall show them either.
                attributes.pop("remote_user", None)
                attributes.pop("auth_type", None)
            for attribute, found in attributes.items():
                if found is not None:
                    text = str(found)
                    for key in ATTRIBUTE_KEYS[attribute]:
                        environ[key] = text

        script_name = None
        for name, value in request_attributes:
            known = BUILT_IN_ATTRIBUTES.get(name)
            if known is not None:
                environ[known] = value
            elif name == SCRIPT_NAME_ATTRIBUTE and self._takes_script_name:
                script_name = value
            else:
                self._take_attribute(environ, name, value)
        has_port = environ["REMOTE_PORT"] != ""  # so it is not lighttpd
        if not has_port:
            del environ["REMOTE_PORT"]

        if (
            has_port
            and self._is_plain
            and script_name is None
            and "%" not in req_uri
            and "?" not in req_uri
            and req_uri != "*"
        ):
            # Nearly every request: nothing to decode.
            if self._script_name:
                self._mount(environ, req_uri, None)
            else:
                environ["PATH_INFO"] = req_uri
            query = environ["QUERY_STRING"]
            if query:
                req_uri = f"{req_uri}?{query}"
            environ["REQUEST_URI"] = environ["RAW_URI"] = req_uri
        else:
            self._set_path(environ, request, req_uri, script_name)
        if self._extra:
            environ.update(self._extra)
        return environ

    def _start_environ(self, headers: list[tuple[str, str]]) -> Environ:
        """Return what never changes, and headers of any kind.

        The hot path has no place for names that are new or dropped, nor for those
        that stand twice.
        """
        environ = self._base.copy()
        for name, value in headers:
            key = self._keys.get(name) or self._learn(name)
            if key is not None:
                if key in environ:
                    value = environ[key] + ("; " if name == "cookie" else ",") + value
                environ[key] = value
        return environ

    def _learn(self, name: str) -> str | None:
        """Return the key of a name that has none yet, None to drop the header."""
        if name in self._dropped:
            return None
        key = header_key(name)
        if len(self._keys) + len(self._dropped) < LEARNT_NAMES:
            if key is None:
                self._dropped.add(name)
            else:
                self._keys[name] = key
        return key

    def _name_from_host(self, environ: Environ) -> str:
        """The host of the Host header, else the listener's: PEP 3333 wants a name."""
        host = str(environ.get("HTTP_HOST", "")).strip()
        if host.startswith("["):
            host = host.partition("]")[0] + "]"
        else:
            host = host.partition(":")[0]
        return host or self._server_name

    def _take_attribute(self, environ: Environ, name: str, value: str) -> None:
        """Take a request attribute that the operator allows; refuse or drop others.

        Ghostcat (CVE-2020-1938) was a container that took any.
        """
        allowed = self._settings.allowed_request_attributes
        is_allowed = allowed is not None and allowed.fullmatch(name) is not None
        if is_allowed and name != SCRIPT_NAME_ATTRIBUTE:
            if name not in RESERVED_KEYS and not name.startswith(RESERVED_PREFIXES):
                environ.setdefault(name, value)
                return
            problem = "names a key that only the server may set"
        elif self._settings.strict and not is_allowed:
            raise RequestRefused(
                403,
                f"request attribute {name[:100]!r} is not in"
                " allowed_request_attributes (strict = on)",
            )
        elif name == SCRIPT_NAME_ATTRIBUTE:
            problem = "has no say beside script_name and removed_prefix"
        else:
            problem = "is not in allowed_request_attributes"
        if _is_to_be_logged(name, self._logged_names):
            server_log.warning(
                "request attribute %r %s: dropped, here and from now on",
                name[:100],
                problem,
            )

    def _set_path(
        self,
        environ: Environ,
        request: ForwardRequest,
        req_uri: str,
        script_name: str | None,
    ) -> None:
        """Set PATH_INFO, SCRIPT_NAME, REQUEST_URI and RAW_URI."""
        settings = self._settings
        path = req_uri
        if req_uri == "*":  # OPTIONS of the server itself: no path at all
            path = ""
        elif settings.uri_encoding == "decoded" or (
            settings.uri_encoding == "auto" and request.looks_like_lighttpd
        ):
            # Decoding again would let %2541 become A, and break names with %.
            req_uri = quote(path.encode("latin-1"), safe="/:@!$&'()*+,;=~")
        elif "?" in path:
            # Decoded, or with its query: what REQUEST_URI would say is another path.
            raise RequestRefused(
                400,
                f"req_uri at byte {path.index('?')}: expected %3F in a path, found ?",
            )
        elif "%" in path:
            if bad := _BAD_ESCAPE.search(path):
                raise RequestRefused(
                    400,
                    f"req_uri at byte {bad.start()}: expected two hexadecimal"
                    f" digits after %, found {path[bad.start() + 1 :][:2]!r}",
                )
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        if "\0" in path:
            raise RequestRefused(400, "req_uri holds a NUL once decoded")
        if settings.strict and (
            found := _DOT_SEGMENT.search(path) or _CONTROL.search(path)
        ):
            raise RequestRefused(
                400, f"req_uri has {found.group()!r} once decoded (strict = on)"
            )
        if not settings.unquote_path and path:
            path = req_uri  # escaped, also where lighttpd has decoded it
        query = environ["QUERY_STRING"]
        uri = f"{req_uri}?{query}" if query else req_uri
        environ["REQUEST_URI"] = environ["RAW_URI"] = uri
        if (self._plain_mount and script_name is None) or not path:
            environ["PATH_INFO"] = path
        else:
            self._mount(environ, path, script_name)

    def _mount(self, environ: Environ, path: str, script_name: str | None) -> None:
        """Split `path` by whole segments; flup cut blindly."""
        if script_name is not None:
            prefix = normal_prefix(script_name)
        elif self._removed_prefix:
            environ["PATH_INFO"] = path  # SCRIPT_NAME is in the base
            return
        else:
            prefix = self._script_name
        if path == prefix or path.startswith(prefix + "/"):
            environ["SCRIPT_NAME"] = prefix
            environ["PATH_INFO"] = path[len(prefix) :]
            return
        if not self._settings.unquote_path:
            # The path is escaped, the prefix need not be: /caf%C3%A9 is below /café.
            parts = path.split("/", prefix.count("/") + 1)
            head = "/".join(parts[: prefix.count("/") + 1])
            if unquote_to_bytes(head.encode("latin-1")).decode("latin-1") == prefix:
                environ["SCRIPT_NAME"] = head
                environ["PATH_INFO"] = path[len(head) :]
                return
        if self._settings.script_name_mismatch == "404":
            raise RequestRefused(
                404, f"path {path[:200]!r} is not below script_name {prefix!r}"
            )
        segment = path.lstrip("/").partition("/")[0][:200]
        is_new = _is_to_be_logged(segment, self._logged_segments)
        server_log.log(
            logging.WARNING if is_new else logging.DEBUG,
            "path %r is not below script_name %r: served with an empty SCRIPT_NAME,"
            " here and from now on (logged once for each first segment of a path);"
            " does the front end remove the prefix? then set removed_prefix;"
            " script_name_mismatch = 404 refuses such paths",
            path[:200],
            prefix,
        )
        environ["SCRIPT_NAME"] = ""
        environ["PATH_INFO"] = path


def _is_to_be_logged(name: str, logged: set[str]) -> bool:
    """Tell whether a remote's `name` is logged, and note it: once, and not any number.

    The set is shared by threads: two may log the same one.
    """
    if name in logged or len(logged) >= LOGGED_NAMES:
        return False
    logged.add(name)
    return True
