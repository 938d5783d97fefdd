"""An application that keeps its thread for a second and a half."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    threading.Event().wait(1.5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"at last\n"]
