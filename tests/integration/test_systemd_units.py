"""The units in docs/operations.md are such as systemd takes them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.integration.programs import require
from tests.integration.server import ROOT

PAGE = ROOT / "docs" / "operations.md"


def units() -> dict[str, str]:
    """The units on the page, by the file's name."""
    text = PAGE.read_text("utf-8")
    found = re.findall(
        r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", text, re.DOTALL
    )
    return dict(found)


def test_page_has_both_units() -> None:
    assert set(units()) == {"site.socket", "site.service"}


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    analyze = require("systemd-analyze")
    files = []
    for name, text in units().items():
        file = tmp_path / name
        # programs that are not here would be a fault
        file.write_text(text.replace("/srv/site/bin/pserve", sys.executable))
        files.append(str(file))
    done = subprocess.run(
        [analyze, "verify", "--man=no", *files], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if "site." in line]
    assert complaints == []
