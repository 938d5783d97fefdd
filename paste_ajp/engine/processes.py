"""Several processes: what is known of them before their engine is loaded.

That engine, prefork, costs 0.7 MB with what it needs, and one process does without.
"""

from __future__ import annotations

import os
import socket


class ChildrenFailed(RuntimeError):
    """No child could serve; the text is what the last one said of it."""


def missing_for_processes() -> str:
    """Name what this system lacks to have several processes; empty for nothing."""
    if not hasattr(os, "fork"):
        return "fork()"
    if not hasattr(socket, "AF_UNIX"):
        return "UNIX sockets"
    return ""
