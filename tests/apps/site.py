"""One site of small applications, each at its own first path segment.

``application`` is what the integration tests serve. All of it runs behind
webtest.lint, so that the server breaks a test when it breaks PEP 3333.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final
from urllib.parse import parse_qs

from webtest.lint import middleware

#: The largest piece that is read or written at once.
PIECE: Final = 65536
#: How long a streamed answer waits to be released, in seconds.
PATIENCE: Final = 20.0

Environ = dict[str, Any]  # PEP 3333 sets no type for the values
StartResponse = Callable[..., Any]  # start_response's exc_info is optional

#: What ``/release`` sets and ``/stream`` waits for, by name and number.
_released: dict[str, threading.Event] = {}
_released_lock = threading.Lock()


def pattern(size: int) -> Iterator[bytes]:
    """``size`` bytes that differ from place to place, the same every time."""
    block = b"".join(i.to_bytes(4, "big") for i in range(PIECE // 4))
    for start in range(0, size, PIECE):
        yield block[: size - start]


def pattern_sha256(size: int) -> str:
    digest = hashlib.sha256()
    for piece in pattern(size):
        digest.update(piece)
    return digest.hexdigest()


def answer_json(start_response: StartResponse, value: object) -> list[bytes]:
    body = json.dumps(value, sort_keys=True).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]


def parameters(environ: Environ) -> dict[str, str]:
    """The first value of each parameter in the query string."""
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    return {name: values[0] for name, values in query.items()}


def dump(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The environ as JSON, with the body's length and SHA-256."""
    length, digest = read_all(environ)
    told = {
        key: value if isinstance(value, str | int | bool) else repr(value)
        for key, value in environ.items()
    }
    told["wsgi.version"] = list(environ["wsgi.version"])
    told |= {"body.length": length, "body.sha256": digest}
    return answer_json(start_response, told)


def read_all(environ: Environ) -> tuple[int, str]:
    digest = hashlib.sha256()
    length = 0
    while data := environ["wsgi.input"].read(PIECE):
        digest.update(data)
        length += len(data)
    return length, digest.hexdigest()


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body to its end; its length and SHA-256 as JSON."""
    length, digest = read_all(environ)
    return answer_json(start_response, {"length": length, "sha256": digest})


def download(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """``?size=N`` bytes of the pattern; ``&length=no`` leaves the length out."""
    asked = parameters(environ)
    size = int(asked["size"])
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("X-Sha256", pattern_sha256(size)),
    ]
    if asked.get("length") != "no":
        headers.append(("Content-Length", str(size)))
    start_response("200 OK", headers)
    return pattern(size)


def echo(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The body again, piece by piece while it still comes."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while data := environ["wsgi.input"].read(8000):
        yield data


def unread(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Answers without a look at the body."""
    return answer_json(start_response, {"read": 0})


def half(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Reads half of the body, by its length, or ``?read=N`` bytes of it."""
    asked = parameters(environ)
    wanted = int(asked.get("read") or int(environ.get("CONTENT_LENGTH") or 0) // 2)
    count = 0
    while count < wanted:
        data = environ["wsgi.input"].read(min(PIECE, wanted - count))
        if not data:
            break
        count += len(data)
    return answer_json(start_response, {"read": count})


def cookies(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """``?count=N`` Set-Cookie headers."""
    count = int(parameters(environ)["count"])
    body = b"cookies\n"
    headers = [("Set-Cookie", f"cookie{i}=value{i}; Path=/") for i in range(count)]
    headers += [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]


def status(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """``?status=418 I am a teapot`` and ``&header=Name: value``."""
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    line = query["status"][0]
    headers = []
    for header in query.get("header", []):
        name, _, value = header.partition(": ")
        headers.append((name, value))
    body = b""
    if line[:3] not in ("204", "304"):
        body = f"{line}\n".encode("latin-1")
        headers.append(("Content-Type", "text/plain"))
        headers.append(("Content-Length", str(len(body))))
    start_response(line, headers)
    return [body]


def event(name: str) -> threading.Event:
    with _released_lock:
        return _released.setdefault(name, threading.Event())


def stream(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """``?name=X&pieces=N``: a first piece at once, each other when released.

    Piece i waits for ``/release?name=X&piece=i``. A piece that nobody releases
    says so, and is the last.
    """
    asked = parameters(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"piece 0\n"
    for number in range(1, int(asked["pieces"])):
        if not event(f"{asked['name']}/{number}").wait(PATIENCE):
            yield b"nobody released it\n"
            return
        yield b"piece %d\n" % number


def release(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Let go of one piece of a ``/stream``."""
    asked = parameters(environ)
    event(f"{asked['name']}/{asked['piece']}").set()
    return answer_json(start_response, {"released": asked["piece"]})


def fail(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Raises: ``?when=before`` the headers, or after the first piece.

    ``length`` is the Content-Length that it does not keep.
    """
    given = parameters(environ)
    if given.get("when") == "before":
        raise RuntimeError("failed on purpose, before the headers")
    headers = [("Content-Type", "text/plain")]
    if "length" in given:
        headers.append(("Content-Length", given["length"]))
    start_response("200 OK", headers)
    yield b"a beginning\n"
    raise RuntimeError("failed on purpose, after the first piece")


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = b"Hello, World!\n"
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
    )
    return [body]


APPLICATIONS: Final = {
    "dump": dump,
    "private": dump,
    "upload": upload,
    "download": download,
    "echo": echo,
    "unread": unread,
    "half": half,
    "cookies": cookies,
    "status": status,
    "stream": stream,
    "release": release,
    "fail": fail,
    "hello": hello,
}


def route(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Pick an application by the first segment; any other path is dumped."""
    segment = environ["PATH_INFO"].split("/")[1:2]
    chosen = APPLICATIONS.get(segment[0] if segment else "", dump)
    return chosen(environ, start_response)


application = middleware(route)


def make_app(global_conf: dict[str, str], **settings: str) -> object:
    """For ``use = call:tests.apps.site:make_app``."""
    return application
