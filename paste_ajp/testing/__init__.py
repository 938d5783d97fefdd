"""For the tests of applications: serve one over AJP, and ask it.

``serve_app`` serves an application on a free port for the length of a ``with``;
``paste_ajp.testing.webtest_app.AjpTestApp`` is WebTest's TestApp whose requests
go through real AJP packets; ``paste_ajp.testing.pytest_plugin`` has a fixture.
"""

from paste_ajp.testing.serving import ServedApp, serve_app

__all__ = ["ServedApp", "serve_app"]
