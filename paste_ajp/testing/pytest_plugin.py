"""A pytest fixture that serves applications over AJP.

Name it in a conftest.py: ``pytest_plugins = ["paste_ajp.testing.pytest_plugin"]``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from paste_ajp.testing.serving import ServedApp, serve_app


@pytest.fixture
def ajp_server() -> Iterator[Callable[..., ServedApp]]:
    """Call it with an application, and settings as keywords; get a ServedApp.

    Any number of times in a test. The servers stop when the test is over.
    """
    with contextlib.ExitStack() as stack:
        yield lambda application, **settings: stack.enter_context(
            serve_app(application, **settings)
        )
