"""The layers of the package: who imports whom, and who may touch what.

A part is a folder of ``paste_ajp/`` or a file at its root. Parts stand bottom to top;
each may import what its row names, and itself.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2] / "paste_ajp"

ROWS: dict[str, set[str] | None] = {
    "version": set(),
    "logs": set(),
    "options": set(),
    "addresses": {"options"},
    "settings": {"options", "addresses", "logs"},
    "protocol": set(),
    "wsgi": {"protocol", "settings", "logs", "version"},
    "client": {"protocol"},
    "tracing": {"protocol"},
    # A trace is written where the bytes pass: each child process has its own.
    "engine": {
        "protocol",
        "wsgi",
        "settings",
        "logs",
        "addresses",
        "version",
        "tracing",
    },
    "multipart": set(),
    "demo": {"multipart"},
    "inifile": {"options"},
    "http_door": {"client", "addresses", "options", "logs"},
    # From here on all that stands above them in this table.
    "status": None,
    "serving": None,
    "deploy": None,
    "flup": None,
    "targets": None,
    "commands": None,
    "cli": None,
    "testing": None,
    "__init__": None,
    "__main__": None,
}
PARTS = list(ROWS)
MAY_IMPORT = {
    part: set(PARTS[: PARTS.index(part)]) if row is None else row
    for part, row in ROWS.items()
}

#: All that the protocol needs of the standard library: no socket, thread, clock,
#: log, setting or operating system.
PROTOCOL_USES = {
    "__future__",
    "collections.abc",
    "dataclasses",
    "enum",
    "re",
    "struct",
    "typing",
}

#: Modules of the standard library that only these files or folders may import.
#: What is not named here is free to all but the protocol.
RESERVED: dict[str, set[str]] = {
    "asyncio": set(),
    "multiprocessing": set(),
    "select": {"engine/poller.py", "engine/link.py"},
    "selectors": {"engine/prefork.py"},
    "signal": {
        "__main__.py",
        "engine/signals.py",
        "engine/prefork.py",
        "engine/child.py",
    },
    "socket": {
        "client/client.py",
        "engine/channel.py",
        "engine/link.py",
        "engine/listeners.py",
        "engine/notify.py",
        "engine/outgoing.py",
        "engine/poller.py",
        "engine/prefork.py",
        "engine/processes.py",
        "engine/signals.py",
        "engine/threaded.py",
        "engine/traced.py",
        "http_door.py",
    },
    "subprocess": {"engine/prefork.py", "engine/upgrade.py"},
    "threading": {
        "client/pool.py",
        "engine",
        "http_door.py",
        "logs.py",
        "serving.py",
        # Two sides in one process: the test waits for the application's.
        "testing/webtest_app.py",
        "tracing/writer.py",
    },
}

#: The only imports inside functions, and why they are there.
LATE = {
    # What takes its time: stop signals are held back before.
    ("__main__.py", "paste_ajp.cli"),
    # Needs the extra `http`, and the time to load it, only where the setting is on.
    ("serving.py", "paste_ajp.http_door"),
    # Start and memory: what most servers never use takes 60 ms and 5 MB together.
    ("targets.py", "paste.deploy"),
    ("targets.py", "paste_ajp.deploy"),
    ("targets.py", "paste_ajp.inifile"),
    ("engine/admission.py", "hmac"),
    ("engine/balance.py", "tempfile"),
    ("engine/prefork.py", "subprocess"),
    ("serving.py", "paste_ajp.engine.prefork"),
    ("engine/upgrade.py", "json"),
    ("engine/upgrade.py", "subprocess"),
    ("engine/threaded.py", "paste_ajp.tracing.writer"),
    ("engine/threaded.py", "tempfile"),
    ("options.py", "difflib"),
    ("wsgi/file_wrapper.py", "tempfile"),
    ("wsgi/response.py", "html"),
    ("wsgi/input.py", "tempfile"),
}

#: What belongs to the process as a whole is for the shell's door, and for the
#: programs that a server starts and the supervisor that started it.
PROCESS_WIDE = {"sys.argv", "sys.exit", "os.environ", "os.getenv", "os.putenv"}
PROGRAMS = {
    "cli.py",
    "__main__.py",
    "engine/__main__.py",
    "engine/notify.py",
    "engine/upgrade.py",
}


class Import(NamedTuple):
    """One imported module, and the function that it is imported in, if any."""

    file: str
    module: str
    function: str

    def __str__(self) -> str:
        place = f" in {self.function}()" if self.function else ""
        return f"paste_ajp/{self.file} imports {self.module}{place}"


FILES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}


def imports_of(file: str, node: ast.AST, function: str = "") -> Iterator[Import]:
    """Find all imports below ``node``, those for the type checker included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(file, alias.name, function)
        elif isinstance(child, ast.ImportFrom):
            module = "." * child.level + (child.module or "")
            if module == "paste_ajp":
                for alias in child.names:
                    yield Import(file, f"{module}.{alias.name}", function)
            else:
                yield Import(file, module, function)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_of(file, child, child.name)
        else:
            yield from imports_of(file, child, function)


IMPORTS = [found for file, tree in FILES.items() for found in imports_of(file, tree)]


def part_of_file(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def part_of_module(module: str) -> str:
    """Return the part that ``paste_ajp.x.y`` belongs to."""
    name = module.removeprefix("paste_ajp").split(".")
    return name[1] if len(name) > 1 and name[1] in MAY_IMPORT else "__init__"


def matches(file: str, places: set[str]) -> bool:
    return file in places or file.split("/")[0] in places


def listed(found: list[Import]) -> str:
    return "\n".join(sorted(map(str, found)))


def test_every_part_has_its_row():
    assert {part_of_file(file) for file in FILES} <= MAY_IMPORT.keys()


def test_rows_run_one_way():
    below: set[str] = set()
    for part, lower in MAY_IMPORT.items():
        assert lower <= below, part
        below.add(part)


def test_imports_run_one_way():
    wrong = [
        found
        for found in IMPORTS
        if found.module.split(".")[0] == "paste_ajp"
        and part_of_module(found.module)
        not in MAY_IMPORT[part_of_file(found.file)] | {part_of_file(found.file)}
    ]
    assert listed(wrong) == ""


def test_imports_name_the_whole_path():
    assert listed([found for found in IMPORTS if found.module.startswith(".")]) == ""


def test_no_import_hides_inside_a_function():
    late = [
        found
        for found in IMPORTS
        if found.function and (found.file, found.module) not in LATE
    ]
    assert listed(late) == ""


def test_protocol_uses_nothing_but_the_language():
    wrong = [
        found
        for found in IMPORTS
        if found.file.startswith("protocol/")
        and not found.module.startswith("paste_ajp.protocol")
        and found.module not in PROTOCOL_USES
    ]
    assert listed(wrong) == ""


@pytest.mark.parametrize("module", sorted(RESERVED))
def test_module_is_used_where_it_belongs(module):
    wrong = [
        found
        for found in IMPORTS
        if found.module.split(".")[0] == module
        and not matches(found.file, RESERVED[module])
    ]
    assert listed(wrong) == ""


def test_package_needs_paste_deploy_alone():
    extras = {
        # Only for the type checker.
        "_typeshed",
        # The extra `testing`, in paste_ajp.testing alone.
        "pytest",
        "webtest",
    }
    outside = [
        found
        for found in IMPORTS
        if (top := found.module.split(".")[0]) not in sys.stdlib_module_names
        and top not in {"paste_ajp", "paste"}
        and not (top in extras and (top == "_typeshed" or "testing/" in found.file))
    ]
    assert listed(outside) == ""


def test_process_wide_things_are_for_programs_alone():
    wrong = [
        f"paste_ajp/{file}:{node.lineno} uses {node.value.id}.{node.attr}"
        for file, tree in FILES.items()
        if file not in PROGRAMS
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and f"{node.value.id}.{node.attr}" in PROCESS_WIDE
    ]
    assert wrong == []


def test_no_name_says_only_where_code_was_dropped():
    dropped = {"utils", "helpers", "common", "misc", "base", "manager"}
    parts = {part.removesuffix(".py") for file in FILES for part in file.split("/")}
    assert parts & dropped == set()
