"""``egg:paste_ajp#demo``: an application that shows what reaches it, and how.

It uses nothing of the server, so that it can stand behind any other one for
comparison. Whatever comes from the remote is escaped where it is shown.
"""

from __future__ import annotations

import hashlib
import html
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote

from paste_ajp.multipart import MultipartError, boundary_of, read_parts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PIECE_SIZE = 65536

#: A form is read into memory, an upload never.
MOST_FORM_BYTES = 65536

_STATUS = {
    200: "200 OK",
    400: "400 Bad Request",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    413: "413 Content Too Large",
}

#: Shown as present, without what they say.
_MASKED = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"})


class DemoError(Exception):
    """What /error raises."""


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: Iterable[bytes]
    headers: tuple[tuple[str, str], ...] = ()


class _RefusalError(Exception):
    """Ends a request with an error page."""

    def __init__(
        self, status: int, problem: str, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.headers = headers


def make_demo(
    global_conf: Mapping[str, str] | None = None,
    title: str = "paste_ajp demo",
) -> WSGIApplication:
    """Make the application; PasteDeploy's app factory. ``title`` is its heading."""
    del global_conf  # has nothing for it
    return Demo(title)


class Demo:
    """The WSGI application. ``sleep`` is what stands between streamed pieces."""

    def __init__(
        self, title: str = "paste_ajp demo", sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._title = title
        self._sleep = sleep
        self._pages: dict[str, tuple[str, Callable[[WSGIEnvironment], _Answer]]] = {
            "/": ("GET", self._front),
            "/environ": ("GET", _environ_text),
            "/form": ("GET POST", self._form),
            "/upload": ("POST PUT", self._upload),
            "/stream": ("GET", self._stream),
            "/error": ("GET POST", _fail),
        }

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one request."""
        try:
            answer = self._page(environ)(environ)
        except _RefusalError as refusal:
            answer = self._refused(environ, refusal)
        start_response(
            _STATUS[answer.status],
            [
                ("Content-Type", answer.content_type),
                ("Cache-Control", "no-store"),
                (
                    "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'",
                ),
                *answer.headers,
            ],
        )
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return answer.body

    def _page(self, environ: WSGIEnvironment) -> Callable[[WSGIEnvironment], _Answer]:
        path = environ.get("PATH_INFO") or "/"
        if path not in self._pages:
            raise _RefusalError(404, f"There is nothing at {_text(path)}.")
        methods, page = self._pages[path]
        allowed = methods.replace("GET", "GET HEAD").split()
        if environ["REQUEST_METHOD"] not in allowed:
            raise _RefusalError(
                405, f"{path} takes {', '.join(allowed)}.", (_allow(allowed),)
            )
        return page

    def _refused(self, environ: WSGIEnvironment, refusal: _RefusalError) -> _Answer:
        problem = html.escape(str(refusal))
        page = self._html(environ, _STATUS[refusal.status], f"<p>{problem}</p>")
        return page._replace(status=refusal.status, headers=refusal.headers)

    # -- Pages

    def _front(self, environ: WSGIEnvironment) -> _Answer:
        root = _link(environ, "")
        return self._html(
            environ,
            self._title,
            _FRONT.format(root=html.escape(root)) + _environ_tables(environ),
        )

    def _form(self, environ: WSGIEnvironment) -> _Answer:
        query = _pairs(environ.get("QUERY_STRING", ""))
        fields = []
        if environ["REQUEST_METHOD"] == "POST":
            content_type = environ.get("CONTENT_TYPE", "").partition(";")[0].strip()
            if content_type.lower() != "application/x-www-form-urlencoded":
                raise _RefusalError(
                    400, f"A form is not sent as {content_type or 'that'}."
                )
            body = b"".join(_body(environ, MOST_FORM_BYTES))
            fields = _pairs(body.decode("latin-1"))
        return self._html(
            environ,
            "What the form said",
            _table("In the query", query) + _table("In the body", fields),
        )

    def _upload(self, environ: WSGIEnvironment) -> _Answer:
        try:
            boundary = boundary_of(environ.get("CONTENT_TYPE", ""))
            if boundary is None:
                size, digest = _measure(_body(environ))
                text = f"bytes: {size}\nsha256: {digest}\n"
                return _Answer(200, "text/plain; charset=utf-8", [text.encode()])
            rows = []
            for part in read_parts(_reader(environ), boundary):
                size, digest = _measure(part.pieces)
                name = part.name if part.filename is None else part.filename
                rows.append((name or "(no file)", f"{size} bytes, SHA-256 {digest}"))
        except MultipartError as error:
            raise _RefusalError(400, f"The upload is broken: {error}.") from error
        return self._html(environ, "What arrived", _table("", rows))

    def _stream(self, environ: WSGIEnvironment) -> _Answer:
        query = dict(_pairs(environ.get("QUERY_STRING", "")))
        count = int(_number(query, "count", 10, 1, 100))
        delay = _number(query, "delay", 1, 0, 5)
        return _Answer(
            200,
            "text/plain; charset=utf-8",
            self._pieces(count, delay),
            # nginx, where it stands before the front end, holds answers back.
            (("X-Accel-Buffering", "no"),),
        )

    def _pieces(self, count: int, delay: float) -> Iterator[bytes]:
        for number in range(1, count + 1):
            if number > 1:
                self._sleep(delay)
            yield f"piece {number} of {count}\n".encode()

    def _html(self, environ: WSGIEnvironment, heading: str, content: str) -> _Answer:
        page = _PAGE.format(
            title=html.escape(heading),
            home=html.escape(_link(environ, "/")),
            content=content,
        )
        return _Answer(200, "text/html; charset=utf-8", [page.encode()])


def _fail(environ: WSGIEnvironment) -> _Answer:
    """Raise, so that the server's own error page is seen."""
    raise DemoError(f"{environ['REQUEST_METHOD']} /error was asked for")


def _allow(methods: list[str]) -> tuple[str, str]:
    return ("Allow", ", ".join(methods))


# -- environ

_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Request",
        ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI",
         "RAW_URI", "CONTENT_TYPE", "CONTENT_LENGTH", "SERVER_PROTOCOL"),
    ),
    (
        "Told by the front end over AJP",
        ("REMOTE_", "AUTH_TYPE", "AJP_", "JK_", "HTTPS", "SSL_", "JVM_ROUTE",
         "SERVER_ADDR"),
    ),
    ("Headers", ("HTTP_",)),
    ("Server", ("SERVER_", "GATEWAY_INTERFACE")),
    ("WSGI", ("wsgi.",)),
    ("Other", ("",)),
)  # fmt: skip


def _grouped_environ(
    environ: WSGIEnvironment,
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Give environ as texts under headings, each key under the first that fits."""
    left = sorted(environ)
    for heading, prefixes in _GROUPS:
        keys = [key for key in left if key.startswith(prefixes)]
        left = [key for key in left if key not in keys]
        if keys:
            yield heading, [(key, _shown(key, environ[key])) for key in keys]


def _shown(key: str, value: object) -> str:
    if key in _MASKED:
        return "(given, not shown)"
    return _text(value) if isinstance(value, str) else repr(value)


def _environ_tables(environ: WSGIEnvironment) -> str:
    return "".join(_table(*group) for group in _grouped_environ(environ))


def _environ_text(environ: WSGIEnvironment) -> _Answer:
    lines = [
        f"{key} = {value!r}"
        for _, rows in _grouped_environ(environ)
        for key, value in rows
    ]
    text = "\n".join(lines) + "\n"
    return _Answer(200, "text/plain; charset=utf-8", [text.encode()])


def _text(value: str) -> str:
    """Undo WSGI's Latin-1 for the eye: UTF-8 where it is that."""
    raw = value.encode("latin-1", "replace")
    return raw.decode("utf-8", "backslashreplace")


# -- Bodies and fields


def _reader(environ: WSGIEnvironment) -> Callable[[int], bytes]:
    """Give a read(size) that ends where the request body does.

    A server need not end ``wsgi.input`` there unless it says that it does.
    """
    read: Callable[[int], bytes] = environ["wsgi.input"].read
    if environ.get("wsgi.input_terminated"):
        return read
    left = int(environ.get("CONTENT_LENGTH") or 0)

    def read_some(size: int) -> bytes:
        nonlocal left
        data = read(min(size, left)) if left else b""
        left -= len(data)
        return data

    return read_some


def _body(environ: WSGIEnvironment, most: int | None = None) -> Iterator[bytes]:
    """Yield the body; of more than ``most`` bytes, refuse it."""
    read = _reader(environ)
    total = 0
    while data := read(PIECE_SIZE):
        total += len(data)
        if most is not None and total > most:
            raise _RefusalError(413, f"A form of more than {most} bytes is too large.")
        yield data


def _measure(pieces: Iterable[bytes]) -> tuple[int, str]:
    size = 0
    digest = hashlib.sha256()
    for piece in pieces:
        size += len(piece)
        digest.update(piece)
    return size, digest.hexdigest()


def _pairs(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=1000)
    except ValueError as error:
        raise _RefusalError(400, "More than 1000 fields are too many.") from error


def _number(
    query: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    """Read a number of the query, brought into its bounds."""
    try:
        number = float(query.get(name, default))
    except ValueError:
        raise _RefusalError(400, f"{name} is to be a number.") from None
    if number != number:  # NaN, which no bound catches
        raise _RefusalError(400, f"{name} is to be a number.")
    return min(max(number, least), most)


def _link(environ: WSGIEnvironment, path: str) -> str:
    """Make a link that holds wherever the application is mounted."""
    return quote(environ.get("SCRIPT_NAME", "").encode("latin-1")) + path


# -- HTML


def _table(caption: str, rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th scope=row>{html.escape(name)}<td>{html.escape(value)}\n"
        for name, value in rows
    )
    heading = f"<h2>{html.escape(caption)}</h2>\n" if caption else ""
    return f"{heading}<table>\n{cells or '<tr><td>nothing'}</table>\n"


_PAGE = """\
<!DOCTYPE html>
<html lang=en>
<head>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }}
h2 {{ font-size: 1.1rem; margin: 2rem 0 .5rem; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; }}
th, td {{ text-align: left; vertical-align: top; padding: .25rem .5rem;
  border-bottom: 1px solid #8884; overflow-wrap: anywhere; font-size: .9rem; }}
th {{ width: 19rem; font-weight: 600; }}
td {{ font-family: ui-monospace, monospace; white-space: pre-wrap; }}
fieldset {{ border: 1px solid #8886; border-radius: .5rem; margin: 1rem 0; }}
input, button {{ font: inherit; margin: .25rem .5rem .25rem 0; }}
@media (max-width: 45rem) {{ th, td {{ display: block; width: auto; }}
  th {{ border: 0; padding-bottom: 0; }} td:empty::after {{ content: "\\200b"; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{content}
<p><a href="{home}">Front page</a></p>
</body>
</html>
"""

_FRONT = """\
<p>This page came through a web server, an AJP/1.3 connection and a WSGI
application. Below are the things to try, and all that the application was told
of this request.</p>
<ul>
<li><a href="{root}/stream?count=10&amp;delay=1">A response that arrives piece by
piece</a>, one a second</li>
<li><a href="{root}/environ">environ as plain text</a></li>
<li><a href="{root}/error">An application that fails</a></li>
</ul>
<form action="{root}/form?from=query" method=post><fieldset>
<legend>A form</legend>
<input name=text value="Zo&euml; &amp; &lt;friends&gt;" aria-label=Text>
<button>Send by POST</button> <button formmethod=get>Send by GET</button>
</fieldset></form>
<form action="{root}/upload" method=post enctype="multipart/form-data"><fieldset>
<legend>An upload, of any size</legend>
<input type=file name=file multiple aria-label=File> <button>Send</button>
</fieldset></form>
"""
