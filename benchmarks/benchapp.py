"""The WSGI application that every server under test runs.

/              'Hello, World!'
/NNN           a body of NNN bytes: one block up to 1 MB, above that 64 KB blocks
/stream/NNN    NNN bytes from a generator of 64 KB blocks, no Content-Length
/file/NNN      NNN bytes of a file, through wsgi.file_wrapper
/echo          reads the request body to its end and answers with its length
/sleep         'Hello, World!' after 50 ms
/sleep-5       likewise, 5 % of the requests after 20 ms, the others at once
/sleep-0.5     likewise, 0.5 % of them
/cpu           likewise, after 0.4 ms of computing
"""

import itertools
import tempfile
import time
from pathlib import Path

BLOCK = b"x" * 65536
HELLO = [b"Hello, World!"]

_bodies = {}
_numbers = itertools.count()


def blocks(size):
    while size > 0:
        yield BLOCK[:size] if size < len(BLOCK) else BLOCK
        size -= len(BLOCK)


def body_of(size):
    """A body of `size` bytes, as applications give it."""
    if size > 1 << 20:
        return blocks(size)
    return _bodies.get(size) or _bodies.setdefault(size, [b"x" * size])


def file_of(size):
    """An open file of `size` bytes."""
    path = Path(tempfile.gettempdir()) / f"ajpbench-{size}"
    if not path.exists():
        made = path.with_name(f"{path.name}.{time.monotonic_ns()}")
        with made.open("wb") as file:
            file.writelines(blocks(size))
        made.rename(path)
    return path.open("rb")


def echo(environ):
    """The length of the request body, which is read to its end."""
    read = environ["wsgi.input"].read
    left = int(environ["CONTENT_LENGTH"])
    size = 0
    while left > 0:
        data = read(min(left, 65536))
        if not data:
            break
        size += len(data)
        left -= len(data)
    return b"%d" % size


def compute(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = HELLO
    size = 13
    if path == "/":
        pass
    elif path == "/echo":
        body = [echo(environ)]
        size = len(body[0])
    elif path == "/sleep":
        time.sleep(0.05)
    elif path == "/sleep-5":
        if next(_numbers) % 20 == 0:
            time.sleep(0.02)
    elif path == "/sleep-0.5":
        if next(_numbers) % 200 == 0:
            time.sleep(0.02)
    elif path == "/cpu":
        compute(0.0004)
    else:
        kind, _, number = path.rpartition("/")
        size = int(number)
        if kind == "/file":
            wrap = environ.get("wsgi.file_wrapper")
            body = wrap(file_of(size), 65536) if wrap else blocks(size)
        elif kind == "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return blocks(size)
        else:
            body = body_of(size)
    start_response(
        "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(size))]
    )
    return body


application = app  # the name that mod_wsgi looks for
