"""WSGI applications for the tests, checked by webtest.lint at every call."""
