"""The response of one application call: start_response, write, and the body.

What PEP 3333 leaves to the server is done here, and every rule of the AJP notes'
section 7 that protects front ends from an application: one Send Headers before
anything else, no hop-by-hop header, no body where HTTP allows none, never more bytes
than the Content-Length says.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sized
from http import HTTPStatus
from typing import Any, Final

from paste_ajp.logs import app_log, request_name
from paste_ajp.protocol import HeaderRefused
from paste_ajp.protocol.codes import RESPONSE_CHUNK_OVERHEAD
from paste_ajp.protocol.to_front_end import (
    FLUSH,
    assemble_response,
    assemble_send_headers,
    body_buffers,
    encode_body,
    encode_opening,
    encode_response_header,
)
from paste_ajp.wsgi.exchange import Exchange, FrontEndGone
from paste_ajp.wsgi.file_wrapper import FileEndsEarly, FileUnreadable, FileWrapper
from paste_ajp.wsgi.input import RequestBody

Headers = Iterable[tuple[str, str]]

#: A body up to this many bytes is joined with its packet heads; a larger one is sent
#: from where it lies, by a gathered write: 64 KB 32 -> 20 us.
ONE_JOIN: Final = 16384

#: The pieces of a list are joined where they have fewer bytes than this each.
LEAST_PIECE: Final = 4096

#: Status lines and headers learnt, at the most, and how long a header's value may be.
LEARNT: Final = 1000
LEARNT_LENGTH: Final = 64

#: Headers that an application has no say in: PEP 3333 forbids the hop-by-hop ones,
#: mod_jk passes Transfer-Encoding on, lighttpd obeys Status.
NOT_FOR_APPLICATIONS: Final = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "status",
    ]
)
#: Statuses that have no body, whatever the application gives.
BODILESS: Final = frozenset({204, 205, 304})
#: Of these, the ones whose Content-Length is dropped: 204 may have none, and 205 none
#: but 0. Source: RFC 9110, 8.6 and 15.3.6.
LENGTHLESS: Final = frozenset({204, 205})

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)

_STATUS = re.compile(r"([2-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")


class ApplicationError(Exception):
    """The application broke PEP 3333; the text says how. Answered 500."""


def date_text(seconds: float) -> str:
    """Return seconds since the epoch as RFC 9110's IMF-fixdate.

    email.utils.formatdate does so too, and takes 5 ms and 1.3 MB to be imported.
    """
    moment = time.gmtime(seconds)
    day = _DAYS[moment.tm_wday]
    month = _MONTHS[moment.tm_mon - 1]
    clock = f"{moment.tm_hour:02}:{moment.tm_min:02}:{moment.tm_sec:02}"
    return f"{day}, {moment.tm_mday:02} {month} {moment.tm_year:04} {clock} GMT"


class HttpDate:
    """The Date header's value, made once a second."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._made_at = -1
        self._text = ""

    def __call__(self) -> str:
        now = int(self._clock())
        if now != self._made_at:
            self._text = date_text(now)
            self._made_at = now
        return self._text


http_date: Final = HttpDate()

#: Status line as an application gave it -> code, reason, whether it has no body, and
#: what opens the payload of Send Headers.
_statuses: Final[dict[str, tuple[int, str, bool, bytes]]] = {}
#: Header as an application gave it -> on the wire, and what it says as Content-Length.
#: Most headers of an application are the same in each response: 0.1 us instead of 0.45.
_headers: Final[dict[tuple[str, str], tuple[bytes, int]]] = {}
_warned: Final[set[str]] = set()

#: The length in `_headers` of what is no Content-Length.
_PLAIN: Final = -1


def parse_status(status: object) -> tuple[int, str]:
    """Return code and reason of ``"200 OK"``. Raises ApplicationError."""
    if not isinstance(status, str):
        raise ApplicationError(f"status must be a str, not {type(status).__name__}")
    match = _STATUS.fullmatch(status)
    if match is None:
        raise ApplicationError(
            f"status {status[:100]!r}: expected three digits from 200 to 999, a space"
            " and a Latin-1 reason without control characters"
        )
    parsed = int(match[1]), (match[2] or "").strip()
    if not parsed[1]:
        parsed = parsed[0], standard_reason(parsed[0])
    return parsed


def _learn_status(status: object) -> tuple[int, str, bool, bytes]:
    """Parse a status line as `_statuses` keeps it. Raises ApplicationError."""
    code, reason = parse_status(status)
    known = code, reason, code in BODILESS, encode_opening(code, reason)
    if isinstance(status, str) and len(_statuses) < LEARNT:
        _statuses[status] = known
    return known


def standard_reason(code: int) -> str:
    """Return HTTP's reason phrase, or one that is at least not empty."""
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Unknown"


def _learn(name: object, value: object) -> tuple[bytes, int] | None:
    """Check and encode a header as `_headers` keeps it; None if it is not to be sent.

    Raises ApplicationError, HeaderRefused.
    """
    if not isinstance(name, str):
        raise ApplicationError(
            f"header name {name!r} must be a str, not {type(name).__name__}"
        )
    # A subclass may give itself another length, or another name in lower case.
    if type(name) is not str:
        name = str.__str__(name)
    if type(value) is not str and isinstance(value, str):
        value = str.__str__(value)
    lower = name.lower()
    if lower in NOT_FOR_APPLICATIONS:
        return None
    length = _PLAIN
    if lower == "content-length":
        if not (isinstance(value, str) and value.isascii() and value.isdigit()):
            raise ApplicationError(
                f"Content-Length {value!r}: expected digits in a str"
            )
        length = int(value)
    elif not isinstance(value, str):
        kind = type(value).__name__
        raise HeaderRefused(name, f"the value is {kind}, not str")
    learnt = encode_response_header(name, value), length
    if len(name) <= LEARNT_LENGTH and len(value) <= LEARNT_LENGTH:
        if len(_headers) >= LEARNT:
            _headers.clear()
        _headers[name, value] = learnt
    return learnt


class Response:
    """Turns what one application call gives into packets on an exchange.

    One thread at a time. `headers_sent` tells whether an error page is still
    possible; `finished` whether the End Response has gone out; `exchange` is another
    after let_go().
    """

    __slots__ = (
        "_bodiless",
        "_fields",
        "_is_head",
        "_length",
        "_opening",
        "_packet_size",
        "_reason",
        "_sent",
        "_status",
        "_strict",
        "body",
        "exchange",
        "finished",
        "headers_sent",
    )

    def __init__(
        self,
        exchange: Exchange,
        packet_size: int,
        strict: bool = False,
        is_head: bool = False,
    ) -> None:
        self.exchange = exchange
        # A RequestBody, unless an application's own environ has put another there.
        self.body: Any = None
        self._packet_size = packet_size
        self._strict = strict
        self._is_head = is_head
        self._bodiless = is_head
        self._status = 0  # until start_response
        self._reason = ""
        self._opening = b""
        self._fields: list[bytes] = []
        self._length: int | None = None  # what Content-Length says
        self._sent = 0  # body bytes given by the application and sent
        self.headers_sent = False
        self.finished = False

    def let_go(self) -> None:
        """Have the connection serve others, where the response is out.

        For an application that goes on, with close() or behind its last piece.
        """
        if self.finished:
            self.exchange = self.exchange.let_go()
            if type(self.body) is RequestBody:
                self.body.move(self.exchange)

    @property
    def status(self) -> int:
        """The status code, 0 before start_response."""
        return self._status

    @property
    def body_bytes(self) -> int:
        """How many bytes of body were sent, those that the exchange still holds too."""
        return self._sent

    def start_response(
        self,
        status: Any,
        headers: Any,
        exc_info: Any = None,
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response. Raises ApplicationError, HeaderRefused.

        Whatever an application gives is Any here and below: the compiled build holds
        arguments to their types, and would refuse with a TypeError of its own what
        is taken, or refused by name, in here.
        """
        if exc_info:
            try:
                if self.headers_sent:
                    if exc_info[1] is not None:
                        raise exc_info[1].with_traceback(exc_info[2])
                    raise ApplicationError(
                        "start_response called again after the headers had been sent"
                    )
            finally:
                exc_info = None  # no circle through the traceback
        elif self._status:
            raise ApplicationError("start_response called twice without exc_info")
        known = _statuses.get(status) or _learn_status(status)
        code, reason, bodiless, opening = known
        fields: list[bytes] = []
        length: int | None = None
        for header in headers:
            try:
                learnt = _headers.get(header)
            except TypeError:  # a list is no tuple, and is taken all the same
                learnt = None
            if learnt is None:
                is_pair = True
                try:
                    name, value = header
                except (TypeError, ValueError):
                    is_pair = False  # what it says differs in the compiled build
                if not is_pair:
                    raise ApplicationError(
                        f"header {header!r:.100}: expected a tuple of name and value"
                    )
                learnt = _learn(name, value)
                if learnt is None:
                    self._drop(name)
                    continue
            field, stated = learnt
            if stated != _PLAIN:
                if length is not None:
                    raise ApplicationError("Content-Length given twice")
                length = stated
                if bodiless and code in LENGTHLESS:
                    continue
            fields.append(field)
        self._status = code
        self._reason = reason
        self._opening = opening
        self._fields = fields
        self._length = length
        self._bodiless = bodiless or self._is_head
        return self.write

    def _drop(self, name: str) -> None:
        problem = "only the server may send it (PEP 3333, hop-by-hop headers)"
        if self._strict:
            raise HeaderRefused(name, problem)
        if name not in _warned and len(_warned) < LEARNT:
            _warned.add(name)
            app_log.warning(
                "response header %s dropped, here and from now on: %s", name, problem
            )

    def write(self, data: Any) -> None:
        """PEP 3333's write: sends `data`, and flushes, before it returns.

        Raises ApplicationError where it goes beyond the Content-Length, what fits
        having been sent.
        """
        if type(data) is not bytes:
            data = self._to_bytes(data)
        if not self._status:
            raise ApplicationError("write called before start_response")
        if not data:
            return
        if self.finished:
            raise ApplicationError("write called after the response was complete")
        if not self._send_piece(data):
            raise ApplicationError(
                f"write goes beyond the Content-Length {self._length}"
            )

    @staticmethod
    def _to_bytes(data: object) -> bytes:
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        raise ApplicationError(
            f"the body must be bytes, not {type(data).__name__}: {data!r:.100}"
        )

    # -- the body ---------------------------------------------------------------

    def send_result(self, result: Any) -> None:
        """Send what the application returned, to its End Response.

        Each piece is sent, and flushed, before the next is asked for. Where all of
        the body is there at once, all leaves at once.
        """
        if type(result) is list or type(result) is tuple:
            self.send_list(result)
            return
        # A subclass may give other blocks than its file's.
        wrapper = result if type(result) is FileWrapper else None
        if wrapper is not None and self._send_file(wrapper):
            return
        one_piece = is_one_piece(result)
        piece: Any
        pieces: Iterable[Any] = result
        if wrapper is not None and self._length is not None:
            pieces = wrapper.blocks(self._length - self._sent)
        for piece in pieces:
            if type(piece) is not bytes:
                piece = self._to_bytes(piece)
            if not self._status:
                raise ApplicationError(
                    "the first piece of the body came before start_response"
                )
            if one_piece and self._length is None and not self.headers_sent:
                self._know_length(len(piece))
            # An empty piece may come before start_response is called once more, as
            # with GET; behind any other nothing more can reach the remote for HEAD.
            if piece and (self._bodiless or not self._send_piece(piece)):
                break
        self._finish(b"")

    def send_list(self, result: Any) -> None:
        """Send a body that is all there, a list or tuple of its pieces, to its End."""
        body: Any
        if len(result) == 1 and type(result[0]) is bytes:
            # What nearly every response comes to: headers, a body of one packet and
            # the End Response, in one go, and without a further thought.
            body = result[0]
            size = len(body)
            if (
                (self._length == size or self._length is None)
                and 0 < size <= self._packet_size - RESPONSE_CHUNK_OVERHEAD
                and self._status
                and not self._bodiless
                and not self.headers_sent
            ):
                if self._length is None:
                    self._know_length(size)
                packets = assemble_response(
                    self._opening, self._fields, self._packet_size, http_date, body
                )
                self._sent = size
                self.headers_sent = self.finished = True
                self.exchange.finish(packets)
                return
        if len(result) == 1:
            body = result[0]
            if type(body) is not bytes:
                body = self._to_bytes(body)
            pieces = [body]
            total = len(body)
        else:
            pieces = [
                piece if type(piece) is bytes else self._to_bytes(piece)
                for piece in result
            ]
            total = sum(map(len, pieces))
            body = b"".join(pieces) if total <= ONE_JOIN else b""
        if not self._status:
            raise ApplicationError("start_response was not called")
        if self._length is None and not self.headers_sent:
            # What PEP 3333 asks for one piece holds for any list: the sum is known.
            self._know_length(total)
        if total <= ONE_JOIN:
            self._finish(body)
            return
        if self._bodiless:
            self._finish(b"")
            return
        if self._sent or self._length != total:
            for piece in pieces:
                if piece and not self._send_piece(piece, flush=False):
                    break
            self._finish(b"")
            return
        if total < len(pieces) * LEAST_PIECE:
            pieces = [b"".join(pieces)]  # or each would have a packet of its own
        buffers: list[bytes | memoryview] = []
        size = 0
        if not self.headers_sent:
            head = self._head()
            buffers.append(head)
            size = len(head)
        for piece in pieces:
            cut, count = body_buffers(piece, self._packet_size)
            buffers += cut
            size += count
        self._sent = total
        self.finished = True
        try:
            self.exchange.finish_gathered(buffers, size)
        except FrontEndGone as gone:
            self._cut_off(gone, total)
            raise

    def _know_length(self, total: int) -> None:
        """Add the Content-Length, unless there is none to state."""
        if self._bodiless and (total == 0 or self._status in BODILESS):
            return  # a HEAD that gave no body does not say that GET would give none
        self._length = total
        self._fields.append(encode_response_header("Content-Length", str(total)))

    def _send_piece(self, data: bytes, flush: bool = True) -> bool:
        """Send a piece; False if it went beyond the Content-Length."""
        if self.finished:
            self._report_surplus(len(data))
            return False
        if self._bodiless:
            if not self.headers_sent:
                self.exchange.send(self._head())
            return True
        surplus = False
        if self._length is not None:
            left = self._length - self._sent
            if len(data) > left:
                self._report_surplus(len(data) - left)
                data = data[:left]
                surplus = True
        self._sent += len(data)
        send = self.exchange.send
        complete = self._sent == self._length
        head = b"" if self.headers_sent else self._head()
        if len(data) <= ONE_JOIN:
            packets = head + encode_body(data, self._packet_size) if data else head
            if complete and self.exchange.body_is_complete:
                # The last byte: the End Response goes along, close() comes after.
                self.finished = True
                self.exchange.finish(packets)
                self.let_go()
                return not surplus
            if packets:
                send(packets + FLUSH if flush else packets)
            return not surplus
        buffers, size = body_buffers(data, self._packet_size)
        if head:
            buffers.insert(0, head)
            size += len(head)
        if complete and self.exchange.body_is_complete:
            self.finished = True
            try:
                self.exchange.finish_gathered(buffers, size)
            except FrontEndGone as gone:
                self._cut_off(gone, len(data))
                raise
            self.let_go()
        else:
            if flush:
                buffers.append(FLUSH)
                size += len(FLUSH)
            self.exchange.send_gathered(buffers, size)
        return not surplus

    def _send_file(self, wrapper: FileWrapper) -> bool:
        """Send a regular file without a bytes object per piece, to the End Response.

        False if it is none.
        """
        if not self._status:
            raise ApplicationError("start_response was not called")
        left = None if self._length is None else self._length - self._sent
        batches = wrapper.packets(self._packet_size, left)
        if batches is None or self._bodiless:
            return False
        if self.finished:
            return True  # write() has sent all that Content-Length says
        head = b"" if self.headers_sent else self._head()
        before = self._sent
        self._sent += batches.expected
        try:
            self.exchange.finish_batches(head, batches)
        except FrontEndGone as gone:
            self._cut_off(gone, batches.expected)
            raise
        except BaseException as error:
            self._sent = before + batches.count
            is_files = isinstance(error, (FileEndsEarly, FileUnreadable))
            if is_files and head and not batches.count:
                self.headers_sent = False  # they go out with the first batch
            if isinstance(error, FileEndsEarly):
                raise ApplicationError(self._too_short(self._sent)) from None
            raise
        self.finished = True
        return True

    def _cut_off(self, gone: FrontEndGone, due: int) -> None:
        """Count no byte that has not gone out of the `due` last ones."""
        self._sent -= due if gone.missing is None else gone.missing

    def _finish(self, body: bytes) -> None:
        """Send the last bytes and the End Response; check what was promised."""
        if self.finished:
            if body:
                self._report_surplus(len(body))
            return
        if not self._status:
            raise ApplicationError("start_response was not called")
        if self._length is None and not body and not self.headers_sent:
            self._know_length(self._sent)
        if self._bodiless:
            body = b""
        else:
            length = self._length
            sent = self._sent + len(body)
            if length is not None and sent != length:
                if sent < length:
                    raise ApplicationError(self._too_short(sent))
                self._report_surplus(sent - length)
                body = body[: length - self._sent]
                sent = length
            self._sent = sent
        packets = b"" if self.headers_sent else self._head()
        if body:
            packets += encode_body(body, self._packet_size)
        self.finished = True
        self.exchange.finish(packets)

    def _too_short(self, sent: int) -> str:
        return (
            f"the body ended after {sent} bytes, its Content-Length is {self._length}"
        )

    def _report_surplus(self, count: int) -> None:
        request = self.exchange.request
        app_log.error(
            "%s: the body is %d bytes longer than its Content-Length %s;"
            " the surplus is not sent",
            request_name(request.method, request.req_uri),
            count,
            self._length,
        )

    def _head(self) -> bytes:
        """Encode Send Headers; HeadersTooLarge where they do not fit a packet."""
        packet = assemble_send_headers(
            self._status, self._reason, self._fields, self._packet_size, http_date
        )
        self.headers_sent = True
        return packet

    # -- when all is lost -------------------------------------------------------

    def send_error(self, status: int, detail: str = "", **headers: str) -> None:
        """Replace what was started by a neutral page. Only before headers_sent."""
        packets = error_packets(
            status,
            detail,
            packet_size=self._packet_size,
            with_body=not self._is_head,
            headers=[
                (name.replace("_", "-"), value) for name, value in headers.items()
            ],
        )
        self._status = status
        self._sent = 0 if self._is_head else len(error_page(status, detail))
        self.headers_sent = self.finished = True
        self.exchange.finish(packets)


def is_one_piece(result: Iterable[bytes]) -> bool:
    """Tell whether the result knows that it has one piece; many cannot say."""
    try:
        return isinstance(result, Sized) and len(result) == 1
    except (AttributeError, NotImplementedError, TypeError):
        return False


def error_page(status: int, detail: str = "") -> bytes:
    """Return a page that says no more than the status does, and `detail` if given."""
    title = f"{status} {standard_reason(status)}"
    more = ""
    if detail:
        from html import escape

        more = f"<pre>{escape(detail)}</pre>\n"
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n{more}</body></html>\n"
    ).encode("utf-8", "replace")


def error_packets(
    status: int,
    detail: str = "",
    *,
    packet_size: int,
    with_body: bool = True,
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Return Send Headers and body of a complete error response, no End Response."""
    page = error_page(status, detail)
    fields = [
        encode_response_header("Content-Type", "text/html; charset=utf-8"),
        encode_response_header("Content-Length", str(len(page))),
        *(encode_response_header(name, value) for name, value in headers),
    ]
    head = assemble_send_headers(
        status, standard_reason(status), fields, packet_size, http_date
    )
    return head + encode_body(page, packet_size) if with_body else head
