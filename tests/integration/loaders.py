"""Programs that load an INI file and serve it: pserve, gearbox, paster, ours."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.integration.programs import free_port, missing, private_folder
from tests.integration.server import Server, python_program

#: What each needs before the file's name.
LOADERS: Final = {
    "pserve": [],
    "gearbox": ["serve", "-c"],
    "paster": ["serve"],
    "paste-ajp": ["serve"],
}


def loader_command(name: str, file: Path) -> list[str]:
    """Arguments for Python that serve ``file``; skips when it is not installed."""
    program = Path(sys.executable).parent / name
    if not program.exists():
        missing(name)
    return [str(program), *LOADERS[name], str(file)]


def write_ini(folder: Path, application: str, server: str) -> Path:
    """An INI file with these lines in its two sections."""
    file = folder / "site.ini"
    file.write_text(
        "[app:main]\n"
        + textwrap.dedent(application).strip()
        + "\n\n[server:main]\n"
        + textwrap.dedent(server).strip()
        + "\n"
    )
    return file


@contextlib.contextmanager
def served_by(
    loader: str,
    application: str,
    server: str = "use = egg:paste_ajp\nhost = 127.0.0.1\nport = {port}",
) -> Iterator[Server]:
    """Serve an INI file of these sections; ``{port}`` stands for a free port."""
    port = free_port()
    with private_folder("loaded") as folder:
        file = write_ini(folder, application, server.replace("{port}", str(port)))
        program = python_program(loader, loader_command(loader, file), folder, port)
        with program:
            yield program
