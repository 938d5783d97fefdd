"""The version, stated once: setup.cfg reads it from here."""

from __future__ import annotations

from typing import Final

VERSION: Final = "0.1.0.dev0"

#: What environ and the start-up line say.
SERVER_SOFTWARE: Final = f"paste_ajp/{VERSION}"
