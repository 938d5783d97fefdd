"""The demo's own tests once more, with real packets between them and the demo.

They were written for webtest.TestApp; here the fixture ``app`` is an AjpTestApp,
and nothing else is changed.
"""

import inspect

import pytest
from webtest.lint import middleware as lint

from paste_ajp.demo import Demo
from paste_ajp.testing.webtest_app import AjpTestApp
from tests.unit import test_demo

#: These give keys in extra_environ that no front end sends.
NEED_MORE_THAN_AJP = {
    "test_front_page_groups_what_the_front_end_told",
    "test_utf8_is_shown_as_text",
}


@pytest.fixture(scope="module")
def app():
    with AjpTestApp(lint(Demo(sleep=lambda seconds: None))) as app:
        yield app


globals().update(
    (name, test)
    for name, test in vars(test_demo).items()
    if name.startswith("test_")
    and "app" in inspect.signature(test).parameters
    and name not in NEED_MORE_THAN_AJP
)
