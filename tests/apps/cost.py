"""The kinds of answers whose cost is counted; each spends nothing of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

Environ = dict[str, Any]  # PEP 3333 sets no type for the values
StartResponse = Callable[..., Any]  # start_response's exc_info is optional
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

#: The body of a page that is one block.
PAGE: Final = b"p" * 102400
#: The pieces of a streamed page.
PIECE: Final = b"s" * 65536
PIECES: Final = 4
#: The file's size.
FILE_BYTES: Final = 1 << 20

_TEXT: Final = ("Content-Type", "text/plain")


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [_TEXT, ("Content-Length", "5")])
    return [b"hello"]


def page(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [_TEXT, ("Content-Length", str(len(PAGE)))])
    return [PAGE]


def stream(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    for _ in range(PIECES):
        yield PIECE


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    while environ["wsgi.input"].read(65536):
        pass
    return hello(environ, start_response)


def make_application(file: Path) -> Application:
    """Return the application; `/file` sends that file, `/open` only opens it.

    What follows the first segment of a path is for the test, to tell requests apart.
    """

    def send_file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        opened = file.open("rb", buffering=0)
        start_response("200 OK", [_TEXT])
        sent: Iterable[bytes] = environ["wsgi.file_wrapper"](opened)
        return sent

    def open_file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        file.open("rb", buffering=0).close()
        return hello(environ, start_response)

    pages: dict[str, Application] = {
        "/hello": hello,
        "/page": page,
        "/stream": stream,
        "/form": upload,
        "/upload": upload,
        "/file": send_file,
        "/open": open_file,
    }

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        page = "/" + environ["PATH_INFO"].split("/")[1]
        return pages[page](environ, start_response)

    return application
