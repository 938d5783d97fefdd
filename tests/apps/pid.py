"""Who has answered? ``/pid`` says which process, ``/sleep/2`` so after 2 seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]  # PEP 3333 sets no type for the values


def application(
    environ: Environ, start_response: Callable[..., Any]
) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        time.sleep(float(path.rpartition("/")[2]))
    environ["wsgi.input"].read()
    body = str(os.getpid()).encode()
    start_response(
        "200 OK",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))],
    )
    return [body]


def make_app(global_conf: dict[str, str]) -> Callable[..., Iterable[bytes]]:
    """The same for INI files."""
    del global_conf
    return application
