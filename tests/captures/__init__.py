"""What real front ends sent over AJP, each with its product, version and setup.

``record.py`` made the ``.hex`` files. A file's head tells what a decoder should
find in it (written from the HTTP request that was sent, not from the packets);
then come the packets, in hex, a blank line between two.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Capture:
    """The packets of one scene, whole and in order, and what they should say.

    ``name`` is like ``httpd/get``. ``expect`` has ``method``, ``req_uri``,
    ``query_string``, ``is_ssl``, ``headers`` (some of them), ``body_length``,
    ``body_sha256``, and where there are any, some of the ``attributes`` and
    ``request_attributes``. Its text is Latin-1.
    """

    name: str
    product: str
    version: str
    setup: str
    expect: dict[str, Any]  # JSON
    packets: list[bytes]

    @property
    def front_end(self) -> str:
        """``httpd``, ``mod_jk`` or ``lighttpd``."""
        return self.name.partition("/")[0]


def load_captures(pattern: str = "*/*") -> list[Capture]:
    """Read the captures whose names match, such as ``httpd/*``, in order."""
    return [load_capture(path) for path in sorted(HERE.glob(f"{pattern}.hex"))]


def load_capture(path: Path) -> Capture:
    """Read one file."""
    facts: dict[str, str] = {}
    expect: dict[str, Any] = {}
    packets: list[bytes] = []
    rows: list[str] = []
    for line in [*path.read_text("ascii").splitlines(), ""]:
        if line.startswith("# expect "):
            key, _, value = line.removeprefix("# expect ").partition(": ")
            expect[key] = json.loads(value)
        elif line.startswith("# "):
            key, _, value = line.removeprefix("# ").partition(": ")
            facts[key] = value
        elif line:
            rows.append(line.partition(" ")[0])
        elif rows:
            packets.append(bytes.fromhex("".join(rows)))
            rows.clear()
    return Capture(
        name=f"{path.parent.name}/{path.stem}",
        product=facts["product"],
        version=facts["version"],
        setup=facts["setup"],
        expect=expect,
        packets=packets,
    )
