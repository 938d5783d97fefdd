"""flup's door: WSGIServer with the arguments, and the manners, of flup's.

camelCase lives here alone. What differs from flup is in docs/from-flup.md.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from paste_ajp import deploy
from paste_ajp.addresses import Address
from paste_ajp.logs import server_log
from paste_ajp.options import SettingError, by_folded_name, fold, match_names
from paste_ajp.serving import Server
from paste_ajp.settings import FOREIGN, Settings
from paste_ajp.wsgi.response import is_one_piece

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: flup's way to say that an argument was not given, where None means another.
NoDefault: Final = object()


#: The host of a flup server that is given no address.
_HOST: Final = "localhost"

#: The settings that say what bindAddress says.
_ADDRESS: Final = frozenset({"host", "port", "listen"})


class Request:
    """What :meth:`WSGIServer.handler` and :meth:`WSGIServer.error` work on.

    It has what flup's request had that does not depend on flup's innards:
    ``environ``, ``input``, ``startResponse`` and ``write``.
    """

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.environ = environ
        self.input = environ["wsgi.input"]
        self.server: object = None
        self._start_response: Callable[..., Any] = start_response
        self._write: Callable[[bytes], object] | None = None
        self._held: list[bytes] = []
        self.hasWritten = False

    @property
    def hasStarted(self) -> bool:
        """True once :meth:`startResponse` was called."""
        return self._write is not None

    def startResponse(
        self,
        statusCode: int,
        statusMsg: str | bytes,
        headers: Iterable[tuple[str | bytes, str | bytes]],
        exc_info: Any = None,  # the shape that PEP 3333 gives it
    ) -> None:
        """Begin the response; text may be bytes, as flup wanted it.

        With ``exc_info``, replace one of which nothing has been sent.
        """
        more = (exc_info,) if exc_info else ()
        self._write = self._start_response(
            f"{statusCode} {_native(statusMsg)}",
            [(_native(name), _native(value)) for name, value in headers],
            *more,
        )

    def write(self, data: bytes) -> None:
        """Send a piece of the body. Raises RuntimeError before startResponse."""
        if self._write is None:
            raise RuntimeError("write() before startResponse()")
        self.hasWritten = True
        for piece in self.held():
            self._write(piece)
        self._write(data)

    def hold(self, pieces: list[bytes]) -> None:
        """Keep the body, all of it being there: if no more comes it has a length."""
        self._held += pieces

    def held(self) -> list[bytes]:
        """Give back what hold() keeps, and keep it no longer."""
        pieces, self._held = self._held, []
        return pieces


def _native(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


class _FlupServer:
    """What flup's two servers have in common."""

    #: Settings of a server that is given none of the same name; install() has more.
    defaults: ClassVar[Mapping[str, Any]] = {}

    application: WSGIApplication
    environ: dict[str, Any]
    settings: Settings

    def __init__(
        self,
        application: WSGIApplication,
        environ: Mapping[str, Any] | None,
        loggingLevel: int,
        settings: dict[str, Any],
    ) -> None:
        settings = _defaulted(settings, self.defaults)
        for name in ("jobClass", "jobArgs"):  # flup takes them, and drops them
            settings.pop(name, None)
        self.application = application
        self.environ = dict(environ or {})
        self.settings = Settings.parse(settings)
        self.logger = server_log
        self.logger.setLevel(loggingLevel)
        self._server = Server(
            self._serveRequest if self._isOverridden() else application,
            self.settings,
            environ=self.environ,
        )

    def run(self) -> bool:
        """Serve until a signal or :meth:`shutdown`; True after SIGHUP.

        Raises BindError where flup logged the error and returned False.
        """
        return self._server.run()

    def shutdown(self) -> None:
        """Let running requests end, then make :meth:`run` return. Any thread."""
        self._server.shutdown()

    def handler(self, request: Request) -> None:
        """Call the application and send its answer. May be overridden."""

        def start_response(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: Any = None,  # the shape that PEP 3333 gives it
        ) -> Callable[[bytes], object]:
            if exc_info and request.hasWritten:
                raise exc_info[1].with_traceback(exc_info[2])
            more = {"exc_info": exc_info} if exc_info else {}
            code, _, reason = status.partition(" ")
            request.startResponse(int(code), reason, headers, **more)
            return request.write

        result = self.application(request.environ, start_response)
        try:
            if isinstance(result, (list, tuple)) or is_one_piece(result):
                request.hold(list(result))
            else:
                for data in result:
                    if data:
                        request.write(data)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def error(self, request: Request) -> None:  # noqa: ARG002  # for overriders
        """Answer for an exception of :meth:`handler`. May be overridden.

        This one raises it again, so that the server logs it and answers 500.
        """
        raise  # it is called in an except clause

    def _serveRequest(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Be the application where handler() or error() is overridden."""
        request = Request(environ, start_response)
        request.server = self
        try:
            self.handler(request)
        except Exception:  # the application's, for error() to answer
            if request.hasStarted:
                for piece in request.held():
                    request.write(piece)
                raise
            self.error(request)
        return request.held()

    def _isOverridden(self) -> bool:
        mine = type(self)
        return (
            mine.handler is not _FlupServer.handler
            or mine.error is not _FlupServer.error
        )


class WSGIServer(_FlupServer):
    """Stands in for ``flup.server.ajp.WSGIServer``.

    Takes its arguments, in its order, and besides them every setting of this
    server by keyword. ``bindAddress`` may also be the path of a UNIX socket; without
    it and ``host``, ``port`` or ``listen`` it is ``("localhost", 8009)``.
    ``allowedServers=None`` lets everybody in, as it did; when it is not given,
    the setting's default holds. Raises SettingError.
    """

    def __init__(
        self,
        application: WSGIApplication,
        scriptName: str = "",
        environ: Mapping[str, Any] | None = None,
        multithreaded: bool = True,
        multiprocess: bool = False,
        bindAddress: Any = NoDefault,  # (host, port), or the path of a socket
        allowedServers: Any = NoDefault,  # None, a text, or texts
        loggingLevel: int = logging.INFO,
        debug: bool = False,
        **kw: Any,  # of as many types as there are settings
    ) -> None:
        settings = {
            "scriptName": scriptName,
            "debug": debug,
            **_bound(bindAddress, kw),
            **_allowed(allowedServers),
            **kw,
        }
        self.multithreaded = multithreaded
        self.multiprocess = multiprocess
        if "maxThreads" in settings:
            most = max(settings["maxThreads"], settings.get("minSpare", 1))
            settings["maxThreads"] = min(most, deploy.MOST_THREADS)
        if not multithreaded:
            for name in ("minSpare", "maxSpare", "maxThreads"):
                settings.pop(name, None)
            settings["threads"] = 1
        settings = deploy.in_thread_terms(settings)
        extra = dict(environ or {})
        if multiprocess:
            extra["wsgi.multiprocess"] = True
        super().__init__(application, extra, loggingLevel, settings)


class ForkWSGIServer(_FlupServer):
    """Stands in for ``flup.server.ajp_fork.WSGIServer``.

    Several processes with one thread each: ``maxChildren``, else ``maxSpare``,
    else 5 of them. ``timeout`` becomes read_timeout and keep_alive_timeout.
    """

    def __init__(
        self,
        application: WSGIApplication,
        scriptName: str = "",
        environ: Mapping[str, Any] | None = None,
        bindAddress: Any = NoDefault,  # (host, port), or the path of a socket
        allowedServers: Any = NoDefault,  # None, a text, or texts
        loggingLevel: int = logging.INFO,
        debug: bool = False,
        timeout: float | None = None,
        **kw: Any,  # of as many types as there are settings
    ) -> None:
        kw.pop("sockTimeout", None)  # how long flup waited to hand a socket over
        settings = deploy.in_fork_terms(
            {
                "scriptName": scriptName,
                "debug": debug,
                "timeout": timeout,
                **_bound(bindAddress, kw),
                **_allowed(allowedServers),
                **kw,
            }
        )
        super().__init__(application, environ, loggingLevel, settings)


def _bound(
    bindAddress: Any,  # whatever the caller gave
    keywords: Mapping[str, object],
) -> dict[str, object]:
    """Make settings of bindAddress, which must be the only address if it is given."""
    known = by_folded_name(Settings.rows())
    rows = {name: known[fold(name)].name for name in keywords if fold(name) in known}
    stated = [name for name, row in rows.items() if row in _ADDRESS]
    if bindAddress is NoDefault:
        return {} if {"host", "listen"} & set(rows.values()) else {"host": _HOST}
    for name in stated:
        problem = f"given with {name} = {keywords[name]!r}; give the address once"
        raise SettingError("bindAddress", bindAddress, problem)
    if isinstance(bindAddress, str):
        return {"listen": Address("unix", path=bindAddress)}
    if (
        isinstance(bindAddress, Sequence)
        and not isinstance(bindAddress, (bytes, bytearray))
        and len(bindAddress) >= 2
    ):
        return {"host": bindAddress[0], "port": bindAddress[1]}
    raise SettingError(
        "bindAddress", bindAddress, "expected (host, port) or the path of a socket"
    )


def _allowed(allowedServers: Any) -> dict[str, object]:  # as the callers' own
    if allowedServers is NoDefault:
        return {}
    return {"allowedServers": "*" if allowedServers is None else allowedServers}


def _defaulted(given: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults that ``given`` does not speak of, in whatever spelling."""
    if not defaults:
        return given
    named = Settings.spellings(given)
    if "secret" in named or "secret_file" in named:
        defaults = {n: v for n, v in defaults.items() if not n.startswith("secret")}
    return {n: v for n, v in defaults.items() if n not in named} | given


def install(*, unquotePath: bool = True, **settings: Any) -> None:
    """Make ``from flup.server.ajp import WSGIServer`` give ours.

    For code that cannot be changed; call it before that code is imported, or
    at any time when it imports flup as late as tracd does. flup itself need not
    be installed. ``unquotePath=False`` leaves PATH_INFO encoded, as flup did,
    for callers that decode it themselves. Other settings, as ``secret`` or
    ``allowed_servers``, hold for each server that is not given them: that code
    cannot name them. Raises SettingError.
    """
    given = {"unquotePath": unquotePath, **settings}
    defaults = match_names(Settings.rows(), given, FOREIGN)
    for name in _ADDRESS & defaults.keys():
        raise SettingError(name, defaults[name], "the code that is served decides it")
    Settings.parse(given)
    package = _package("flup.server")
    for name, server in (("ajp", WSGIServer), ("ajp_fork", ForkWSGIServer)):
        full_name = f"flup.server.{name}"
        module = sys.modules.get(full_name) or ModuleType(full_name, server.__doc__)
        ours = type(
            "WSGIServer",
            (server,),
            {
                "__doc__": server.__doc__,
                "__module__": full_name,
                "defaults": defaults,
            },
        )
        vars(module)["WSGIServer"] = ours
        vars(module).setdefault("__all__", ["WSGIServer"])
        sys.modules[full_name] = module
        setattr(package, name, module)


def _package(name: str) -> ModuleType:
    """Import a package, or make an empty one of that name, parents first."""
    parent_name, _, own_name = name.rpartition(".")
    parent = _package(parent_name) if parent_name else None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        made = ModuleType(name, "Stands in for flup; made by paste_ajp.flup.install.")
        made.__path__ = []
        sys.modules[name] = made
        if parent is not None:
            setattr(parent, own_name, made)
        return made
