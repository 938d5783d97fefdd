"""WebTest's TestApp, with real AJP packets between it and the application."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from paste.deploy import loadapp
from webtest import TestApp

from paste_ajp.client import ClientError, Gateway, TimedOut
from paste_ajp.testing.serving import TIMEOUT, ServedApp, serve_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class AjpTestApp(TestApp):  # type: ignore[misc]  # WebTest has no types
    """A TestApp that serves its application over AJP and asks it there.

    A suite that uses TestApp needs no other change: ``AjpTestApp(app)`` takes its
    arguments, and the server's settings as ``settings``. ``close`` it at the end, or
    use it in a ``with``. What the application raises is raised in the test, as
    TestApp does; with ``raise_errors=False`` the test sees the 500 of the server.
    A response is there when the application has ended, its ``close()`` included.

    ``app`` may also be ``config:FILE.ini``, as for TestApp, and ``app.app`` has the
    attributes of the application (``testapp.app.registry``).

    Of ``extra_environ`` only what a front end can send arrives: REMOTE_USER,
    AUTH_TYPE, REMOTE_ADDR, SCRIPT_NAME, wsgi.url_scheme, the SSL_ facts, headers.
    The application finds the test's own ``paste.testing_variables``, so what it puts
    there becomes attributes of the response, as with TestApp. ``wsgi.errors`` stays
    on the server's side.
    """

    # pytest would take it for a class of tests
    __test__ = False

    def __init__(
        self,
        app: WSGIApplication | str,
        *arguments: Any,
        settings: dict[str, object] | None = None,
        raise_errors: bool = True,
        relative_to: str | None = None,
        **keywords: Any,
    ) -> None:
        if isinstance(app, str):
            folder = relative_to or str(Path.cwd())
            application: WSGIApplication = loadapp(app, relative_to=folder)
        else:
            application = app
        self._stack = contextlib.ExitStack()
        witness = _Witness(application)
        self.served: ServedApp = self._stack.enter_context(
            serve_app(witness, **(settings or {}))
        )
        bridge = _Bridge(self.served.gateway, witness, raise_errors=raise_errors)
        super().__init__(bridge, *arguments, **keywords)

    def __enter__(self) -> AjpTestApp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the server. Twice is fine."""
        self._stack.close()


class _Witness:
    """The application, and what it last raised, on the server's side."""

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application
        self.error: BaseException | None = None
        self.testing_variables: object = None
        #: No request is in the application, nor in its result's close().
        self.has_ended = threading.Event()
        self.has_ended.set()

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        self.has_ended.clear()
        if self.testing_variables is not None:
            environ["paste.testing"] = True
            environ["paste.testing_variables"] = self.testing_variables
        try:
            result = self.application(environ, start_response)
            # A list can raise nothing more, and the server sends it faster as it is.
            if type(result) is not list:
                return _WitnessedBody(result, self)
        except BaseException as error:
            self.error = error
            self.has_ended.set()
            raise
        self.has_ended.set()
        return result


class _WitnessedBody:
    """What the application returned, watched while it is iterated and closed."""

    def __init__(self, result: Iterable[bytes], witness: _Witness) -> None:
        self._result = result
        self._pieces = iter(result)
        self._witness = witness

    def __iter__(self) -> _WitnessedBody:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            raise
        except BaseException as error:
            self._witness.error = error
            raise

    def close(self) -> None:
        close = getattr(self._result, "close", None)
        try:
            if close is not None:
                close()
        except BaseException as error:
            self._witness.error = error
            raise
        finally:
            self._witness.has_ended.set()


class _Bridge:
    """The gateway, on the test's side; it raises what the application raised.

    Its attributes are otherwise those of the application, for which tests take it.
    """

    def __init__(
        self, gateway: Gateway, witness: _Witness, *, raise_errors: bool
    ) -> None:
        self._gateway = gateway
        self._witness = witness
        self._raise_errors = raise_errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._witness.application, name)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> list[bytes]:
        self._witness.error = None
        # Both sides are in one process, so an object need not fit a packet.
        self._witness.testing_variables = environ.get("paste.testing_variables")
        result = self._gateway(environ, start_response)
        try:
            body = list(result)
        except TimedOut:  # a stuck application is not waited for once more
            raise
        except ClientError:
            self._raise()
            raise
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        self._raise()
        return body

    def _raise(self) -> None:
        """Raise what the application has raised, once it has ended.

        The End Response leaves with the last byte of a body of known length, before
        the application knows, and may raise or write to its database.
        """
        self._witness.has_ended.wait(TIMEOUT)
        error, self._witness.error = self._witness.error, None
        if error is not None and self._raise_errors:
            raise error
