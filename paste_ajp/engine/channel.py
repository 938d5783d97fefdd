"""One accepted socket with its Connection: an Exchange for the WSGI layer.

A channel has one owner at a time: the poller while it is idle, one worker while it
is assigned. So it has no lock. Its socket blocks, with the kernel's own timeouts
(SO_RCVTIMEO, SO_SNDTIMEO); what may not block says MSG_DONTWAIT.
"""

from __future__ import annotations

import enum
import math
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from paste_ajp.engine.afterwards import Afterwards
from paste_ajp.engine.outgoing import CAN_GATHER, FILE_HELD, GATHERED, Outgoing
from paste_ajp.engine.traced import TracedSocket, Tracer
from paste_ajp.logs import (
    MAY_REPEAT,
    app_log,
    printable,
    protocol_log,
    request_name,
    server_log,
)
from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    DecodeError,
    ForwardRequest,
    FramingError,
    Message,
    Role,
)
from paste_ajp.protocol import BodyOverrun as LongBody
from paste_ajp.protocol import BodyTruncated as ShortBody
from paste_ajp.protocol.to_front_end import (
    CPONG,
    END_CLOSE,
    END_REUSE,
)
from paste_ajp.wsgi.access import log_access
from paste_ajp.wsgi.exchange import (
    Batches,
    BodyOverrun,
    BodyTimeout,
    BodyTooLarge,
    BodyTruncated,
    Exchange,
    FrontEndGone,
)
from paste_ajp.wsgi.response import error_packets, error_page

if TYPE_CHECKING:
    from paste_ajp.engine.threaded import ThreadedServer

#: What one recv() takes when a request is expected, and when a body is.
REQUEST_BYTES: Final = 8192
BODY_BYTES: Final = 65536

#: Bytes of a response that are sent before others get their turn.
SENDING_TURN: Final = 4 << 20

#: Bytes and seconds for which a closing connection is listened to. Source: AJP notes
#: 8.4: closing with unread bytes sends a reset, which may overtake the answer. The
#: largest body chunk that can be owed, 65539 bytes, is well below it.
LINGER_BYTES = 131072
LINGER_SECONDS = 2.0

#: Linux's option that sends a delayed acknowledgement now; None elsewhere.
QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)

#: Seconds to wait for lighttpd's first body chunk before it is asked for: with
#: server.stream-request-body = 1 it is never sent unasked. Source: AJP notes 6.2.
FIRST_CHUNK_SECONDS = 3.0

#: What a process is told that an application has forked.
NOT_OURS: Final = "the process that forked this one has the connection"

DONTWAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)


class Phase(enum.Enum):
    """Whose the channel is, and what for."""

    IDLE = "idle"
    ASSIGNED = "assigned"
    SENDING = "sending"  # the poller tells when more of the response can be sent
    LINGERING = "lingering"
    CLOSED = "closed"


# Global names for the hot path: an Enum's members are slow to look up.
_IDLE: Final = Phase.IDLE
_ASSIGNED: Final = Phase.ASSIGNED
_SENDING: Final = Phase.SENDING
_LINGERING: Final = Phase.LINGERING


#: What a channel serves while it serves nothing.
_NO_REQUEST: Final = ForwardRequest(
    *("-", "HTTP/1.1", "-", None, None, None, 0, False, [], {}, [], None, False)
)


class Channel:
    """One accepted connection. Public methods are called by the owner only."""

    __slots__ = (
        "_body_bytes",
        "_body_flags",
        "_body_was_asked_for",
        "_body_was_read",
        "_chunks",
        "_connection",
        "_ended",
        "_is_partial",
        "_is_paused",
        "_is_shared",
        "_lingered",
        "_may_reuse",
        "_reader",
        "_seen_at_rest",
        "_server",
        "_sock",
        "_tracer",
        "answer_claim",
        "deadline",
        "fd",
        "peer",
        "phase",
        "queued_at",
        "request",
        "timer_at",
        "unsent",
    )

    request: ForwardRequest

    def __init__(self, sock: socket.socket, peer: str, server: ThreadedServer) -> None:
        settings = server.settings
        self._sock = sock
        self._tracer: Tracer | None = None
        self._server = server
        self.fd = sock.fileno()
        self.peer = peer
        self.phase = Phase.IDLE
        self.deadline = 0.0  # monotonic seconds; 0 for none
        self.timer_at = 0.0  # when the server will look at the deadline
        self.queued_at = 0.0
        self._connection = connection = Connection(
            Role.CONTAINER,
            packet_size=settings.packet_size,
            receive_limit=settings.receive_limit,
            max_headers=settings.max_request_headers,
            body_framing=server.body_framing,
        )
        self._reader = connection.reader
        self._chunks: list[bytes] = []  # rarely two; a deque has 600 bytes
        self.request = _NO_REQUEST
        self._forget_body()
        self._ended: bool | None = None
        # False as well while a thread waits for the front end. The application may have
        # threads of its own, and end the response meanwhile: one would get what the
        # next request sends, or send into its response.
        self._may_reuse = True
        # Have two waited so at a time? The first one back must not set it again.
        self._is_shared = False
        self.unsent: Outgoing | None = None  # what is left of a response
        self._lingered = 0
        self._is_partial = False  # has a packet come in part, or is one owed?
        self._is_paused = False  # does the poller look away from it?
        self.answer_claim: Any = None
        self._seen_at_rest = 0.0  # when has_rested() was asked first

    def __repr__(self) -> str:
        return f"<Channel {self.fd} {self.peer} {self.phase.value}>"

    # -- idle: what the poller saw -----------------------------------------------

    def receive(self, has_more: bool = False) -> bool:
        """Read what has come; tell whether a request is complete now.

        If not, the channel is idle again, lingering, or closed. `has_more`: there
        may be more than the next recv() gives, if only the end.
        """
        phase = self.phase
        if phase is not _IDLE:
            if phase is _SENDING:
                return self._send_on()
            if phase is _ASSIGNED:
                return True  # a request that was here when the last one let go
            self._listen_to_the_end()
            return False
        if self._server.tracer is not self._tracer:
            self._follow_tracer()
        while True:
            try:
                data = self._sock.recv(REQUEST_BYTES, DONTWAIT)
            except BlockingIOError:
                if not self._rest():
                    return False
                has_more = True
                continue
            except OSError as error:
                self._lost(error)
                return False
            if not data:
                self._at_eof()
                return False
            try:
                # Nearly always one whole request and no more.
                request = self._connection.receive_request(data)
                if request is not None:
                    self._begin(request)
                    found = True
                else:
                    found = self._take(self._connection.receive(data))
            except DecodeError as error:
                self.refuse(error)
                return False
            if found:
                if has_more or len(data) == REQUEST_BYTES:
                    self._server.look_again(self)
                return True
            if self.phase is not _IDLE:
                return False
            # An edge-triggered poller does not report the rest of a full buffer.
            if len(data) < REQUEST_BYTES and not has_more and not self._rest():
                return False
            has_more = True

    def _follow_tracer(self) -> None:
        """Begin or end to show what passes, as the server has been told since."""
        sock = self._sock
        if isinstance(sock, TracedSocket):
            sock = sock.untraced()
        tracer = self._server.tracer
        if tracer is not None:
            sock = TracedSocket(sock, tracer, self.peer)
        self._tracer = tracer
        self._sock = sock

    def _take(self, messages: list[Message]) -> bool:
        """Deal with what came in; tell whether a request is complete."""
        connection = self._connection
        found = False
        for message in messages:
            if type(message) is ForwardRequest:
                self._begin(message)
                found = True
            elif type(message) is BodyChunk:
                if message.data:
                    self._chunks.append(message.data)
            elif type(message) is CPing and not self._answer_cping():
                return False
        if found:
            return True
        if connection.failure is not None:
            self.refuse(connection.failure)
        return False

    def _answer_cping(self) -> bool:
        """Answer at once; while the server drains, close: a probing front end then
        goes elsewhere without having sent anything.

        But answer on a connection that has not served yet. httpd opens one for its
        second and last attempt, and it may have been accepted just before the drain.
        """
        if self._server.draining and self._ended is not None:
            self.close()
            return False
        self._seen_at_rest = 0.0  # a request will follow
        try:
            whole = self._sock.send(CPONG, DONTWAIT) == len(CPONG)
        except OSError as error:
            self._lost(error)
            return False
        if not whole:
            self.close()
        return whole

    def _rest(self) -> bool:
        """Give the channel to the poller; True if it has to be read again at once."""
        server = self._server
        if server.closing_idle and not self._connection.has_buffered:
            self.close()
            return False
        settings = server.settings
        if self._connection.has_buffered or self._connection.owed:
            # The time runs from the first byte, or from the response that did not wait
            # for the chunk that is owed: a trickle does not stretch it.
            if self._is_partial and self.deadline:
                if server.is_past(self.deadline):
                    # Bytes that drip in keep it busy whenever the timer looks.
                    self.on_deadline()
                    return False
            elif settings.read_timeout:
                server.set_timer(self, settings.read_timeout)
            self._is_partial = True
            self._acknowledge()
        else:
            self._is_partial = False
            if settings.keep_alive_timeout:
                server.set_timer(self, settings.keep_alive_timeout)
            else:
                self.deadline = 0.0
        return server.release(self)

    def _at_eof(self) -> None:
        try:
            self._connection.receive_eof()
        except DecodeError as error:
            protocol_log.info("%s: connection closed early: %s", self.peer, error)
        self.close()

    def _lost(self, error: OSError) -> None:
        protocol_log.info("%s: connection lost: %s", self.peer, error)
        self.close()

    def on_deadline(self) -> None:
        """The time is up; the channel belongs to the caller."""
        if self.phase is Phase.IDLE:
            if self._is_partial:
                protocol_log.warning(
                    "%s: connection closed: %s within read_timeout = %g s",
                    self.peer,
                    "an incomplete packet, and no more of it"
                    if self._connection.has_buffered
                    else "a body chunk that the last request owes did not come",
                    self._server.settings.read_timeout,
                )
            elif self._has_news():
                self._server.serve_later(self)
                return
        elif self.phase is _SENDING:
            protocol_log.info("%s: %s", self._name(), self._gone(BlockingIOError()))
        self.close()

    @property
    def is_at_rest(self) -> bool:
        """Is it between two requests, and nothing of the next one here?"""
        return self.phase is Phase.IDLE and not self._is_partial

    @property
    def has_served(self) -> bool:
        """Has it brought a request since it was accepted? Asked while it is idle."""
        return self._ended is not None

    def has_rested(self, now: float, seconds: float) -> bool:
        """Has an idle channel been asked this `seconds` ago, and not used since?

        Any thread may ask.
        """
        seen = self._seen_at_rest
        if not seen:
            self._seen_at_rest = now
            return False
        return now - seen >= seconds

    def make_room(self) -> None:
        """Close for another connection, unless something comes in this moment."""
        if self._has_news():
            self._server.serve_later(self)
        else:
            protocol_log.info("%s: idle connection closed for another", self.peer)
            self.close()

    def _has_news(self) -> bool:
        """Has a request come in the very moment in which the time was up?"""
        try:
            return bool(self._sock.recv(1, DONTWAIT | socket.MSG_PEEK))
        except OSError:
            return False

    # -- refusals ----------------------------------------------------------------

    def refuse(self, error: DecodeError) -> None:
        """Answer a request that the protocol forbids, or close where it is lost."""
        if isinstance(error, FramingError):
            protocol_log.warning(
                "%s: connection closed: %s", self.peer, printable(str(error))
            )
            self._server.stats.broken += 1
            self.close()
            return
        protocol_log.warning(
            "%s: request refused with %d: %s",
            self.peer,
            error.status,
            printable(str(error)),
        )
        self._send_answer(error.status, self._connection.refused_head)

    def answer(self, status: int, seconds: float, **headers: str) -> None:
        """Send a complete error response and End Response(0); then linger.

        Does not block: the response is small and nothing else is on its way.
        `seconds` is how long the request has waited for it.
        """
        request = self.request
        is_head = request.method == "HEAD"
        self._send_answer(status, is_head, **headers)
        settings = self._server.settings
        if settings.access_log:
            log_access(
                request,
                status=status,
                body_bytes=0 if is_head else len(error_page(status)),
                seconds=seconds,
                shows_user=settings.trust_remote_user,
            )

    def _send_answer(self, status: int, is_head: bool, **headers: str) -> None:
        self._server.stats.refused += 1
        packets = error_packets(
            status,
            packet_size=self._server.settings.packet_size,
            with_body=not is_head,
            headers=[(name.replace("_", "-"), text) for name, text in headers.items()],
        )
        try:
            sent = self._sock.send(packets + END_CLOSE, DONTWAIT)
        except OSError as error:
            self._lost(error)
            return
        if sent < len(packets) + len(END_CLOSE):
            self.close()
            return
        self._linger()

    # -- closing -------------------------------------------------------------------

    def _linger(self) -> None:
        """Close, but read what is on its way first."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)
        self.phase = Phase.LINGERING
        self._lingered = 0
        self._server.set_timer(self, LINGER_SECONDS)
        self._listen_to_the_end()

    def _listen_to_the_end(self) -> None:
        while self._lingered < LINGER_BYTES:
            try:
                data = self._sock.recv(REQUEST_BYTES, DONTWAIT)
            except BlockingIOError:
                if self._server.release(self):
                    continue
                return
            except OSError:
                break
            if not data:
                break
            self._lingered += len(data)
        self.close()

    def cut(self) -> None:
        """Make the owner's next read or write fail, or the one that it waits in.

        The one method for a thread that is not the owner.
        """
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. The server forgets the channel."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self._end_unsent()
        try:
            self._server.forget(self)
        finally:
            self._sock.close()

    def abandon(self) -> None:
        """Close the copy of the socket that a forked process has, and no more."""
        self.phase = Phase.CLOSED
        with suppress(OSError):
            socket.close(self._sock.detach())

    # -- assigned: an Exchange -------------------------------------------------------

    def _begin(self, request: ForwardRequest) -> None:
        """Get ready to run the application for `request`."""
        self.request = request
        self.phase = _ASSIGNED
        self._seen_at_rest = 0.0
        self.deadline = 0.0
        self._ended = None

    def _forget_body(self) -> None:
        """Get ready for the body of the next request."""
        self._chunks.clear()
        self._body_was_asked_for = False
        self._body_was_read = False  # to its end
        self._body_bytes = 0
        self._body_flags = DONTWAIT  # for recv(), until there is a chunk to wait for

    def let_claim(self) -> None:
        """Let answer_for_application() answer the request as well."""
        self.answer_claim = threading.Lock()

    @property
    def body_is_complete(self) -> bool:
        """Is there nothing more of the request body to come?

        A request that announces none has none, though it may be asked for.
        """
        if self._chunks:
            return False
        request = self.request
        return self._connection.body_complete or (
            request.content_length is None and not request.is_chunked
        )

    def read_body(self) -> bytes:
        """Return the next piece of the body, ``b""`` at its end. Blocks."""
        self._body_was_asked_for = True
        chunks = self._chunks
        give_up_at = 0.0
        while not chunks:
            if self._connection.body_complete:
                self._check_body_end()
                return b""
            self._receive_body()
            if not chunks:
                give_up_at = self._bound_trickle(give_up_at)
        data = chunks.pop(0)
        self._body_bytes += len(data)
        limit = self._server.settings.max_request_body
        if limit and self._body_bytes > limit:
            self._may_reuse = False
            raise BodyTooLarge(f"the request body exceeds max_request_body = {limit}")
        return data

    def _check_body_end(self) -> None:
        """Raise FrontEndGone where the body ends because the response has ended."""
        if self._ended is None:
            self._body_was_read = True
        elif self._lacks_body():
            raise FrontEndGone("the response has ended, and the request body with it")

    def _lacks_body(self) -> bool:
        """Has the application not read all of the request body?"""
        request = self.request
        return not self._body_was_read and (
            request.is_chunked or self._body_bytes < (request.content_length or 0)
        )

    def _receive_body(self) -> None:
        """Ask for a body chunk unless one is owed, and read what comes."""
        connection = self._connection
        if connection.failure is not None:  # it came along with the request
            raise self._body_broken(connection.failure)
        if self._server.is_copy:
            raise FrontEndGone(NOT_OURS)
        if not connection.owed:
            if not self._is_paused:
                self._is_paused = True
                self._server.pause(self)
            self._send_ask(connection.ask_body)
            if self._body_flags:
                self._let_others_poll()  # it cannot be here yet
        elif connection.has_buffered or not self._body_bytes:
            self._acknowledge()
            if not self._body_bytes and self.request.looks_like_lighttpd:
                self._expect_first_chunk()
        data = self._await_body()
        chunk = connection.receive_chunk(data)
        if chunk is not None:
            self._chunks.append(chunk)
            return
        try:
            if not data:
                connection.receive_eof()
                raise FrontEndGone("the front end closed the connection")
            for message in connection.receive(data):
                if type(message) is BodyChunk:
                    if message.data:
                        self._chunks.append(message.data)
                else:
                    found = type(message).__name__
                    raise FrontEndGone(f"expected a body chunk, found {found}")
        except DecodeError as error:
            raise self._body_broken(error) from None

    def _await_body(self) -> bytes:
        """Return what comes next; where that takes time, another thread polls."""
        may_reuse, self._may_reuse = self._may_reuse, False
        if not may_reuse:
            self._is_shared = True
        while True:
            try:
                data = self._sock.recv(BODY_BYTES, self._body_flags)
                break
            except BlockingIOError:
                if not self._body_flags:
                    raise self._body_late() from None
            except OSError as error:
                gone = f"the front end left while sending: {error}"
                raise FrontEndGone(gone) from error
            self._let_others_poll()
        self._may_reuse = may_reuse and not self._is_shared
        return data

    def _let_others_poll(self) -> None:
        """From here on this thread waits for the front end, chunk by chunk."""
        self._body_flags = 0
        self._server.step_aside()

    def _body_late(self) -> BodyTimeout:
        self._may_reuse = False
        return BodyTimeout(
            "a body chunk is due and did not come within read_timeout ="
            f" {self._server.settings.read_timeout:g} s"
        )

    def _bound_trickle(self, give_up_at: float) -> float:
        """Return when to give a chunk up that has come in part; raise if it is past.

        Each recv() has read_timeout for itself: without this, a byte now and then
        would hold the thread for ever.
        """
        timeout = self._server.settings.read_timeout
        if not timeout:
            return 0.0
        now = self._server.clock()
        if not give_up_at:
            return now + timeout
        if now > give_up_at:
            raise self._body_late()
        return give_up_at

    def _acknowledge(self) -> None:
        """Acknowledge at once what has come in part, so that the rest may come.

        A peer with Nagle's algorithm on that writes twice (lighttpd: a packet's
        header and its content) holds the second until we acknowledge the first,
        which the kernel would put off by 40 ms (an upload of 1 MB took 5.6 s, and
        10 ms with this).
        """
        if QUICKACK is not None:
            with suppress(OSError):  # a unix socket has none
                self._sock.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def _send_ask(self, ask: Callable[[], bytes]) -> None:
        """Send a Get Body Chunk, unless the front end has broken the order."""
        try:
            data = ask()
        except DecodeError as error:
            raise self._body_broken(error) from None
        claim = self.answer_claim
        self.send(data)
        if claim is not None and claim is not True:
            # That was no answer: the application may still take too long for one.
            self.answer_claim = claim
            claim.release()

    def _body_broken(self, error: DecodeError) -> FrontEndGone:
        """Say what became of the body, as the application's read shall raise it."""
        self._may_reuse = False
        if isinstance(error, ShortBody):
            return BodyTruncated(str(error))
        if isinstance(error, LongBody):
            return BodyOverrun(str(error))
        protocol_log.warning(
            "%s: connection closed while its request was served: %s",
            self.peer,
            printable(str(error)),
        )
        self._server.stats.broken += 1
        return FrontEndGone(f"the request body broke the protocol: {error}")

    def _expect_first_chunk(self) -> None:
        """Ask lighttpd for its first chunk if that does not come by itself.

        The chunk that then comes is the first: the count stays right.
        """
        timeout = self._server.settings.read_timeout
        wait = min(timeout, FIRST_CHUNK_SECONDS) if timeout else FIRST_CHUNK_SECONDS
        set_timeout(self._sock, socket.SO_RCVTIMEO, wait)
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._may_reuse = False
            server_log.warning(
                "%s: asked lighttpd for a body that it had to send unasked; set"
                " server.stream-request-body = 0 there",
                self.peer,
                extra=MAY_REPEAT,
            )
            self._send_ask(self._connection.ask_body_again)
        except OSError as error:
            raise FrontEndGone(f"the front end left while sending: {error}") from error
        finally:
            set_timeout(self._sock, socket.SO_RCVTIMEO, timeout)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. Raises FrontEndGone where that cannot be."""
        if self.answer_claim is not None:
            self._claim_answer()
        may_reuse, self._may_reuse = self._may_reuse, False
        if not may_reuse:
            self._is_shared = True
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise self._gone(error) from None
        self._may_reuse = may_reuse and not self._is_shared

    def send_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:
        """Send buffers, ``size`` bytes in all, as if joined. Raises FrontEndGone."""
        if self.answer_claim is not None:
            self._claim_answer()
        may_reuse, self._may_reuse = self._may_reuse, False
        if not may_reuse:
            self._is_shared = True
        try:
            for start in range(0, len(buffers), GATHERED):
                batch = buffers[start : start + GATHERED]
                sent = self._sock.sendmsg(batch) if CAN_GATHER else 0
                # Nearly always all are one batch, whose bytes need not be counted.
                due = size if len(batch) == len(buffers) else sum(map(len, batch))
                if sent < due:  # the time was up, or a signal came
                    self._sock.sendall(b"".join(batch)[sent:])
        except OSError as error:
            raise self._gone(error) from None
        self._may_reuse = may_reuse and not self._is_shared

    def _gone(self, error: OSError, missing: int | None = None) -> FrontEndGone:
        """Say why nothing more can be sent."""
        if self._server.is_copy:
            gone = FrontEndGone(NOT_OURS)
        elif isinstance(error, BlockingIOError):
            gone = FrontEndGone(
                "the front end took no data for write_timeout ="
                f" {self._server.settings.write_timeout:g} s"
            )
        else:
            gone = FrontEndGone(f"the front end is gone: {error}")
        gone.missing = missing
        return gone

    def _claim_answer(self) -> None:
        """The first who sends answers; the other finds the request answered."""
        if self.answer_claim is not True:
            if not self.answer_claim.acquire(False):
                raise FrontEndGone("application_timeout has answered already")
            self.answer_claim = True

    def finish(self, data: bytes) -> None:
        """Send `data` and the End Response in one piece."""
        server = self._server
        reuse = self._may_reuse and self._connection.may_reuse
        if reuse and server.surplus:
            reuse = server.keeps_connection()
        if self.answer_claim is not None:
            self._claim_answer()
        try:
            self._sock.sendall(data + (END_REUSE if reuse else END_CLOSE))
        except OSError as error:
            raise self._gone(error) from None
        self._connection.sent_response(reuse)
        self._ended = reuse

    def finish_gathered(self, buffers: list[bytes | memoryview], size: int) -> None:
        """Send buffers, ``size`` bytes in all, and the End Response in one piece."""
        reuse = self._begin_end()
        buffers.append(END_REUSE if reuse else END_CLOSE)
        size += len(END_REUSE)
        sent = 0
        if CAN_GATHER and len(buffers) <= GATHERED:
            # Nearly always it takes all.
            try:
                sent = self._sock.sendmsg(buffers, [], DONTWAIT)
            except BlockingIOError:
                pass
            except OSError as error:
                raise self._gone(error) from None
        if sent < size:
            self._send_rest(Outgoing(buffers, sent), size)
        self._connection.sent_response(reuse)
        self._ended = reuse

    def finish_batches(self, head: bytes, batches: Batches) -> None:
        """Send `head`, all batches, and the End Response."""
        reuse = self._begin_end()
        end = END_REUSE if reuse else END_CLOSE
        outgoing = Outgoing([head] if head else [], 0, batches, end)
        self._send_rest(outgoing, FILE_HELD)
        self._connection.sent_response(reuse)
        self._ended = reuse

    def _begin_end(self) -> bool:
        """Claim the answer; tell whether the connection stays open after it."""
        server = self._server
        reuse = self._may_reuse and self._connection.may_reuse
        if reuse and server.surplus:
            reuse = server.keeps_connection()
        if self.answer_claim is not None:
            self._claim_answer()
        return reuse

    # -- what the front end does not take at once -----------------------------------

    def _send_rest(self, outgoing: Outgoing, held: int) -> None:
        """Send what can be sent; leave the rest to the poller, or wait for it.

        `held` is how many bytes of memory the rest may hold on to.
        """
        try:
            try:
                if outgoing.send(self._sock, DONTWAIT, SENDING_TURN):
                    return
            except BlockingIOError:
                pass
            if self._server.hold_unsent(held, outgoing.is_file):
                outgoing.held = held
                try:
                    outgoing.detach()
                except OSError as error:
                    protocol_log.info(
                        "%s: a thread sends the rest of its file, as no descriptor is"
                        " left for it: %s",
                        self._name(),
                        error,
                    )
                    self._server.drop_unsent(held, outgoing.is_file)
                else:
                    self.unsent = outgoing
                    return
            outgoing.send(self._sock, 0, math.inf)
        except OSError as error:
            raise self._gone(error, outgoing.missing()) from None

    def _send_later(self) -> bool:
        """The application call is over, and its response is not all sent."""
        self.phase = _SENDING
        self._is_paused = True  # as far as complete() is concerned
        self._server.watch_writes(self)
        return self._send_on()

    def _send_on(self) -> bool:
        """Send what the socket takes; at the end, tell as complete() does."""
        outgoing = self.unsent
        assert outgoing is not None  # else the phase is another
        server = self._server
        timeout = server.settings.write_timeout
        before = outgoing.sent if self.deadline else -1
        while True:
            try:
                if outgoing.send(self._sock, DONTWAIT, SENDING_TURN):
                    break
                # The poller tells of it again at once, and of others that wait.
                server.watch_writes(self)
            except BlockingIOError:
                pass
            except OSError as error:
                protocol_log.info("%s: %s", self._name(), self._gone(error))
                self.close()
                return False
            except Exception as error:  # noqa: BLE001 - the file's, say it was cut short
                app_log.error("%s: its response is cut off: %s", self._name(), error)
                self.close()
                return False
            # What comes in does not put the deadline off.
            if timeout:
                if outgoing.sent != before:
                    server.set_timer(self, timeout)
                elif server.is_past(self.deadline):
                    # Bytes that drip in keep it busy whenever the timer looks.
                    self.on_deadline()
                    return False
            before = outgoing.sent
            if not server.release(self):
                return False
        self._end_unsent()
        self.phase = _ASSIGNED
        self.deadline = 0.0
        return self.complete()

    def _end_unsent(self) -> None:
        outgoing, self.unsent = self.unsent, None
        if outgoing is not None:
            self._server.drop_unsent(outgoing.held, outgoing.is_file)
            outgoing.end()

    def _name(self) -> str:
        """Name the request for a log line."""
        return request_name(self.request.method, self.request.req_uri)

    def do_not_reuse(self) -> None:
        """Have the End Response say that the connection closes."""
        self._may_reuse = False

    def let_go(self) -> Exchange:
        """Serve others while the application goes on; return what it has then."""
        pieces: list[bytes] = []
        if self._chunks:
            pieces, self._chunks = self._chunks, pieces
            self._body_bytes += sum(map(len, pieces))
            self._body_was_asked_for = True  # so complete() forgets the body
        is_whole = not self._lacks_body()
        afterwards = Afterwards(self.request, self.peer, pieces, is_whole)
        self._server.take_aside(afterwards)
        if self.complete():
            self._server.serve_later(self)
        return afterwards

    def abort(self) -> None:
        """Cut the connection unless its End Response has gone out.

        That has promised what becomes of it, say while a result's close() fails.
        """
        if self._ended is None:
            self.cut()  # the kernel keeps it open while a thread still reads from it
            self.close()

    def answer_for_application(self, status: int, claim: Any) -> None:
        """Answer in place of an application that takes too long.

        Called by the watcher, while the worker that owns the channel is inside the
        application: whoever claims the answer first may send. `claim` is answer_claim
        as it was when that request was surely the one that runs.
        """
        if claim is None or claim is True or not claim.acquire(False):
            return
        packets = error_packets(
            status,
            packet_size=self._server.settings.packet_size,
            with_body=self.request.method != "HEAD",
        )
        with suppress(OSError):
            self._sock.send(packets + END_CLOSE, DONTWAIT)
            self._sock.shutdown(socket.SHUT_WR)

    def complete(self) -> bool:
        """The application call is over; tell whether another request is here.

        Otherwise the channel is the poller's again, lingering, or closed.
        """
        if self.phase is not _ASSIGNED:  # so it is closed
            return False
        if self.unsent is not None:
            return self._send_later()
        if self._chunks or self._body_was_asked_for:
            self._forget_body()
        self.request = _NO_REQUEST  # an idle connection shall not keep it
        self.answer_claim = None
        if self._is_paused:
            self._is_paused = False
            self._server.resume(self)
        if not self._ended:
            if self._ended is None:  # no End Response went out
                self.close()
            else:
                self._linger()
            return False
        self.phase = _IDLE
        self._is_partial = False
        if not self._reader.is_empty:
            try:
                if self._take(self._connection.receive(b"")):
                    return True
            except DecodeError as error:
                self.refuse(error)
            if self.phase is not _IDLE:
                return False
            return self._rest() and self.receive(has_more=True)
        server = self._server
        if server.closing_idle:
            return self.receive()
        if self._connection.owed:
            return self._rest() and self.receive(has_more=True)
        if server.settings.keep_alive_timeout:
            server.set_timer(self, server.settings.keep_alive_timeout)
        return server.release(self) and self.receive(has_more=True)


def set_timeout(sock: socket.socket, which: int, seconds: float) -> None:
    """Set SO_RCVTIMEO or SO_SNDTIMEO; 0 waits for ever.

    The kernel's timeouts leave the descriptor in blocking mode, and cost no call
    per operation; Python's own would poll before each.
    """
    if sys.platform == "win32":
        value = struct.pack("L", int(seconds * 1000))
    else:
        whole = int(seconds)
        value = struct.pack("ll", whole, int((seconds - whole) * 1e6))
    sock.setsockopt(socket.SOL_SOCKET, which, value)
