"""Applications that go wrong, or whose remotes do, in one way each."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from tests.apps.cost import PIECE, Environ, StartResponse, hello

_TEXT = ("Content-Type", "text/plain")


def fail(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise ValueError("as the test wants it")


def fail_amid_the_body(
    environ: Environ, start_response: StartResponse
) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    yield PIECE
    raise ValueError("as the test wants it")


def start_again_amid_the_body(
    environ: Environ, start_response: StartResponse
) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    yield PIECE
    try:
        raise ValueError("as the test wants it")
    except ValueError:
        start_response("500 Internal Server Error", [_TEXT], sys.exc_info())


def break_pep_3333(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    return [b"without start_response"]


def send_for_ever(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [_TEXT])
    while True:
        yield PIECE


def write_for_ever(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", [_TEXT])
    while True:
        write(PIECE)


def read_again_after_a_failure(
    environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    body = environ["wsgi.input"]
    try:
        body.read()
    except OSError:
        body.read()
    return hello(environ, start_response)


def answer_after_a_failure(
    environ: Environ, start_response: StartResponse
) -> Iterable[bytes]:
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        start_response("418 I'm a Teapot", [_TEXT], sys.exc_info())
        return [str(error).encode()]
    return hello(environ, start_response)
