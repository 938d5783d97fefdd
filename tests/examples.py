"""The examples in README.md and docs/ that say of themselves that they work.

A fenced block is an example when a comment stands before it:

    <!-- checked: NAME -->               one file of the example NAME
    <!-- checked: NAME, with BASE -->    to be added to that file of BASE

The language of the block says which file it is: ``apache``, ``properties`` (mod_jk's
workers), ``lighttpd``, or ``ini``, of which a block without a section goes on with
``[server:main]``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

#: What a front end reads; every such block in docs/front-ends.md is checked.
CONFIGURATIONS: Final = frozenset({"apache", "properties", "lighttpd"})

_BLOCK = re.compile(
    r"(?:^<!-- checked: (?P<name>[\w-]+)(?:, with (?P<base>[\w-]+))? -->\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass
class Example:
    """Files by language; ``base`` names the example that they are added to."""

    name: str
    page: Path
    base: str | None
    files: dict[str, str] = field(default_factory=dict)

    def file(self, language: str, examples: dict[str, Example]) -> str:
        """The whole text of one file, with that of the base before it."""
        before = examples[self.base].file(language, examples) if self.base else ""
        return before + self.files.get(language, "")


@dataclass(frozen=True)
class Block:
    """A fenced block that names its language; ``name`` is None for a mere picture."""

    language: str
    text: str
    name: str | None
    base: str | None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page that name a language."""
    return [
        Block(found["language"], found["text"], found["name"], found["base"])
        for found in _BLOCK.finditer(page.read_text("utf-8"))
    ]


def read_examples() -> dict[str, Example]:
    """All examples of all pages, by name."""
    found: dict[str, Example] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.name is None:
                continue
            example = found.setdefault(
                block.name, Example(block.name, page, block.base)
            )
            assert (example.page, example.base) == (page, block.base), block.name
            text = example.files.get(block.language, "")
            example.files[block.language] = text + block.text
    return found
