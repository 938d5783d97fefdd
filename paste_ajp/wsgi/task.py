"""One application call, from the Forward Request to the End Response.

Whatever the application does, exactly one of these happens: a complete response, a
complete error response, or, once headers have gone out, a cut connection.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from types import GeneratorType
from typing import IO, Any

from paste_ajp.logs import app_log, protocol_log, request_name
from paste_ajp.protocol import ForwardRequest, HeadersTooLarge, LocalProtocolError
from paste_ajp.settings import Settings
from paste_ajp.wsgi.access import log_access
from paste_ajp.wsgi.environ import Environ, EnvironBuilder, RequestRefused
from paste_ajp.wsgi.exchange import (
    BodyOverrun,
    BodyTimeout,
    BodyTooLarge,
    BodyTruncated,
    Exchange,
    FrontEndGone,
)
from paste_ajp.wsgi.input import RequestBody, spool
from paste_ajp.wsgi.response import ApplicationError, Response

Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

#: A spooled body up to this many bytes stays in memory.
SPOOL_IN_MEMORY = 1 << 20


class LoggedResponse(Response):
    """A Response with a line in the access log, which tells how it has ended.

    It is written when that is so: an application may go on for long after it, and what
    the exchange holds go out long after the application.
    """

    __slots__ = ("started",)

    #: By time.perf_counter(); None once the line is written, or sure to be.
    started: float | None

    def let_go(self) -> None:
        """Have the connection serve others, where the response is out."""
        if self.finished:
            self.log()
        super().let_go()

    def log(self) -> None:
        """Write the line, now or when nothing more goes out; once."""
        started = self.started
        if started is None:
            return
        self.started = None
        exchange = self.exchange
        unsent = exchange.unsent
        if unsent is None:
            _log(exchange.request, self.status, self.body_bytes, started)
        else:
            unsent.on_end = partial(
                _log, exchange.request, self.status, self.body_bytes, started
            )


class Task:
    """Runs an application for one exchange after another; threads may share it."""

    def __init__(
        self, application: Application, settings: Settings, environs: EnvironBuilder
    ) -> None:
        self.application = application
        self._settings = settings
        self._environs = environs
        # Here and not by way of settings: each is asked for at every request.
        self._packet_size = settings.packet_size
        self._strict = settings.strict
        self._spools = settings.spool_body
        self._logs_access = settings.access_log

    def serve(self, exchange: Exchange) -> Response:
        """Serve one exchange and return its response.

        Raises nothing: what goes wrong is answered, or the connection cut, and logged.
        Where the response's exchange is another than this one, that was let go, and is
        the caller's no more.
        """
        request = exchange.request
        is_head = request.method == "HEAD"
        response: Response
        logged: LoggedResponse | None = None
        if not self._logs_access:
            response = Response(exchange, self._packet_size, self._strict, is_head)
        else:
            response = logged = LoggedResponse(
                exchange, self._packet_size, self._strict, is_head
            )
            logged.started = time.perf_counter()
        spooled: IO[bytes] | None = None
        try:
            environ = self._environs.build(request, exchange)
            response.body = environ["wsgi.input"]
            if self._spools and (request.is_chunked or request.content_length):
                spooled = _spool(environ)
            result = self.application(environ, response.start_response)
            if type(result) is list:
                response.send_list(result)
            else:
                try:
                    response.send_result(result)
                finally:
                    close = getattr(result, "close", None)
                    if close is not None:
                        if not _is_exhausted(result):
                            response.let_go()
                        close()
        except FrontEndGone as gone:
            self._front_end_gone(gone, response)
        except RequestRefused as refused:
            protocol_log.warning(
                "%s: refused with %d: %s", _name(response), refused.status, refused
            )
            if refused.status != 404:  # a path elsewhere breaks no rule
                response.exchange.do_not_reuse()
            self._error(refused.status, response)
        except BaseException as error:  # noqa: BLE001 - the outermost frame of a request
            self._application_failed(error, response)
        body = response.body
        if type(body) is RequestBody:
            body.detach()
        if spooled is not None:
            try:
                spooled.close()
            except BaseException as error:  # noqa: BLE001 - the application had the file
                self._application_failed(error, response)
        if logged is not None:
            logged.log()
        return response

    # -- when something goes wrong ----------------------------------------------

    def _front_end_gone(self, gone: FrontEndGone, response: Response) -> None:
        status = 0
        if isinstance(gone, BodyTooLarge):
            status = 413
        elif isinstance(gone, BodyTimeout):
            status = 408
        elif isinstance(gone, (BodyTruncated, BodyOverrun)):
            status = 400
        protocol_log.info("%s: %s", _name(response), gone)
        if status:
            self._error(status, response)
        else:
            response.exchange.abort()

    def _application_failed(self, error: BaseException, response: Response) -> None:
        if isinstance(error, HeadersTooLarge):
            app_log.error("%s: response %s", _name(response), error, exc_info=error)
        elif isinstance(error, (ApplicationError, LocalProtocolError)):
            # The message says what the application did; where it did is below it.
            app_log.error(
                "%s: broke PEP 3333: %s", _name(response), error, exc_info=error
            )
        elif response.finished:
            app_log.error(
                "%s: failed after its response was complete",
                _name(response),
                exc_info=error,
            )
        else:
            app_log.error(
                "%s: the application failed%s",
                _name(response),
                ", its response is cut off" if response.headers_sent else "",
                exc_info=error,
            )
        detail = ""
        if self._settings.debug:
            detail = "".join(traceback.format_exception(error))
        self._error(500, response, detail)

    def _error(self, status: int, response: Response, detail: str = "") -> None:
        """Send an error page if that is still possible, else cut the connection."""
        if response.finished:
            return
        if response.headers_sent:
            response.exchange.abort()
            return
        try:
            response.send_error(status, detail)
        except FrontEndGone as gone:
            protocol_log.info("%s: %s", _name(response), gone)
            response.exchange.abort()


def _log(
    request: ForwardRequest,
    status: int,
    body_bytes: int,
    started: float,
    missing: int = 0,
) -> None:
    """Log a request whose response has ended, `missing` bytes of body short."""
    log_access(
        request,
        status=status,
        body_bytes=body_bytes - missing,
        seconds=time.perf_counter() - started,
    )


def _is_exhausted(result: object) -> bool:
    """Is this a generator that has ended, whose close() can do nothing more?"""
    return type(result) is GeneratorType and result.gi_frame is None


def _spool(environ: Environ) -> IO[bytes]:
    """Read the body first, state its length, and make it a file that can seek.

    For applications that read CONTENT_LENGTH bytes and no more (Django), or that
    go back in their input (Zope's WebDAV).
    """
    body = environ["wsgi.input"]
    file, length = spool(body, SPOOL_IN_MEMORY)
    environ["CONTENT_LENGTH"] = str(length)
    body.detach()
    environ["wsgi.input"] = file
    return file


def _name(response: Response) -> str:
    """Return method and path for a log line; the query may hold secrets."""
    request = response.exchange.request
    return request_name(request.method, request.req_uri)
