"""The metadata is in setup.cfg; here is the compiled build alone, off by default.

    PASTE_AJP_COMPILE=1 pip install .

compiles the hot path, from the same source files, with mypyc. That must be there, and
what builds (``pip install mypy setuptools wheel``; add ``--no-build-isolation``).
``paste-ajp --version`` tells of it; benchmarks/README.md says what it brings.
"""

import os

from setuptools import setup

#: What a request passes on its way from recv() to send().
COMPILED = [
    *(
        f"paste_ajp/protocol/{name}.py"
        for name in (
            "codes",
            "connection",
            "errors",
            "messages",
            "packets",
            "states",
            "to_container",
            "to_front_end",
            "wire",
        )
    ),
    *(f"paste_ajp/wsgi/{name}.py" for name in ("environ", "input", "response", "task")),
    *(
        f"paste_ajp/engine/{name}.py"
        for name in ("admission", "channel", "stats", "threaded", "workers")
    ),
]


def extensions():
    """Return the extension modules that the environment asks for."""
    asked = os.environ.get("PASTE_AJP_COMPILE", "0").strip().lower()
    if asked in ("", "0", "no", "false", "off"):
        return []
    if asked not in ("1", "yes", "true", "on"):
        raise SystemExit(f"PASTE_AJP_COMPILE = {asked!r}: expected 1 or 0")
    try:
        from mypyc.build import mypycify
    except ImportError as error:
        raise SystemExit(
            "PASTE_AJP_COMPILE = 1 needs mypy: pip install mypy setuptools wheel, then"
            f" pip install --no-build-isolation . ({error})"
        ) from error
    return mypycify(
        ["--ignore-missing-imports", "--follow-imports=silent", *COMPILED],
        opt_level="3",
    )


setup(ext_modules=extensions())
