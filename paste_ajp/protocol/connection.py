"""One connection without its socket: bytes in, messages out, and the reverse.

A payload does not say whether it is a message or a request body chunk. Only the
count of body chunks that the front end owes tells them apart, and it is kept here:

* A Forward Request with a Content-Length above 0 owes one, unasked.
* Each Get Body Chunk owes one more. We ask for one at a time, never beyond the
  Content-Length (lighttpd would not answer), never after the end of the body.
* What is owed when the response ends is dropped as it comes in, whatever its bytes
  look like: a chunk that begins with 02 would read as a Forward Request. Forged
  requests came in that way at other containers (CVE-2011-3190).
* lighttpd sends an empty chunk after each request without body, nginx one after a
  chunked upload, unasked. A few are passed over; anything else unasked is an error.

When the peer breaks the protocol, `receive` raises, and `failure` keeps a copy of the
error.
Messages that came in before the fault are returned first; the error is then raised
by the next call of `receive`, and `may_reuse` is False already. After a DecodeError
over a Forward Request a complete answer can still be sent, ending in
``EndResponse(False)``. After a FramingError close at once, or, where an exchange was
going on and headers are not out yet, after a complete error response.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from paste_ajp.protocol import states, to_container, to_front_end
from paste_ajp.protocol.codes import (
    CODE_BY_METHOD,
    DEFAULT_PACKET_SIZE,
    LARGEST_PACKET_SIZE,
    MAGIC_TO_CONTAINER,
    MAGIC_TO_FRONT_END,
    PACKET_HEADER,
    REQUEST_CHUNK_OVERHEAD,
    ToContainer,
)
from paste_ajp.protocol.errors import (
    BodyOverrun,
    BodyTruncated,
    DecodeError,
    FramingError,
    LocalProtocolError,
)
from paste_ajp.protocol.messages import (
    BodyChunk,
    CPing,
    CPong,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Message,
    Ping,
    SendBodyChunk,
    SendHeaders,
    Shutdown,
)
from paste_ajp.protocol.packets import PacketReader
from paste_ajp.protocol.states import State
from paste_ajp.protocol.to_container import decode_forward_request

#: Empty chunks that nobody asked for, passed over between two requests.
MAX_STRAY_CHUNKS: Final = 4

#: How request body chunks are read: with their inner length, without (lighttpd),
#: or as the first chunk of a request that fits lighttpd's fingerprint suggests.
BodyFraming = Literal["auto", "standard", "raw"]

#: What a container sends.
_FROM_CONTAINER: Final = (CPong, EndResponse, GetBodyChunk, SendBodyChunk, SendHeaders)

#: The method byte of a HEAD request.
_HEAD: Final = bytes((CODE_BY_METHOD["HEAD"],))

# Global names for the hot path: an Enum's members are slow to look up.
_IDLE: Final = State.IDLE
_REQUEST: Final = State.REQUEST
_RESPONSE: Final = State.RESPONSE
_CLOSING: Final = State.CLOSING


class Role(Enum):
    """Which end of the connection we are."""

    CONTAINER = "container"
    FRONT_END = "front end"


class Connection:
    """The state of one AJP connection, from one end.

    ``packet_size`` bounds what we send, ``receive_limit`` what we take, both with
    the packet's header. ``max_headers`` and ``body_framing`` are for the container.
    One thread at a time.
    """

    __slots__ = (
        "_asked_again",
        "_content_length",
        "_failure_raised",
        "_framing",
        "_framing_unsized",
        "_is_container",
        "_is_raw",
        "_max_headers",
        "_moves",
        "_overlong",
        "_packet_size",
        "_receive_limit",
        "_strays",
        "_transferred",
        "body_complete",
        "failure",
        "may_reuse",
        "owed",
        "reader",
        "refused_head",
        "role",
        "state",
    )

    def __init__(
        self,
        role: Role,
        *,
        packet_size: int = DEFAULT_PACKET_SIZE,
        receive_limit: int = LARGEST_PACKET_SIZE,
        max_headers: int = to_container.MAX_HEADERS,
        body_framing: BodyFraming = "auto",
    ) -> None:
        self.role = role
        self._is_container = role is Role.CONTAINER
        self._moves = states.CONTAINER if self._is_container else states.FRONT_END
        self._packet_size = packet_size
        self._receive_limit = receive_limit
        self._max_headers = max_headers
        # Raw, standard, or (None) to be decided; lighttpd always declares a length.
        self._framing = None if body_framing == "auto" else body_framing == "raw"
        self._framing_unsized = bool(self._framing)
        self.reader = PacketReader(
            MAGIC_TO_CONTAINER if self._is_container else MAGIC_TO_FRONT_END
        )
        # These are plain attributes, to be read only: properties cost too much.
        #: Where the connection stands.
        self.state = State.IDLE
        #: Body chunks that the front end has to send, unasked or asked for.
        self.owed = 0
        #: Nothing more of the request body will come, or may be asked for.
        self.body_complete = True
        #: Whether EndResponse(True) may end this exchange.
        self.may_reuse = True
        #: What the peer did wrong, once it has.
        self.failure: DecodeError | None = None
        #: Whether the request that failed was a HEAD: its answer has no body.
        self.refused_head = False
        self._failure_raised = False
        self._overlong = 0  # bytes of a Forward Request that are too many
        self._content_length: int | None = None
        self._transferred = 0
        self._is_raw: bool | None = None
        self._strays = 0
        self._asked_again = False

    # -- looking at it ----------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether it stands between exchanges, with no part of a packet read.

        Chunks owed from the last exchange may still have to come.
        """
        return self.state is _IDLE and self.reader.is_empty

    @property
    def has_buffered(self) -> bool:
        """Whether a part of a packet is here, or of one to be dropped."""
        return not self.reader.is_empty

    @property
    def body_left(self) -> int | None:
        """How many bytes of the request body have yet to come; None if unknown."""
        if self.body_complete:
            return 0
        if self._content_length is None:
            return None
        return self._content_length - self._transferred

    # -- bytes in ---------------------------------------------------------------

    def receive(self, data: bytes) -> list[Message]:
        """Take in bytes from the peer, return the messages that they complete.

        Body chunks owed from an exchange that is over are dropped here. Raises
        DecodeError (with its kinds FramingError and BodyTruncated) once no message
        before the fault is left to return; see the module's text for what to do.
        """
        self._raise_failure()
        messages: list[Message] = []
        self.reader.feed(data)
        try:
            if self._is_container:
                self._read_as_container(messages)
            else:
                self._read_as_front_end(messages)
        except DecodeError as error:
            if self.failure is None:
                self._fail(error)
            if not messages:
                self._failure_raised = True
                raise
        return messages

    def receive_request(self, data: bytes) -> ForwardRequest | None:
        """Take in bytes that are one whole Forward Request, decoded where they lie.

        None, with nothing taken in, where they are anything else or one is not due:
        then `receive` takes them. Raises DecodeError as that does. For a container;
        the hot path: 3.3 us with the decoding, by way of `receive` 5.5 us.
        """
        length = len(data)
        if (
            length <= PACKET_HEADER
            or data[4] != 2
            or data[2] << 8 | data[3] != length - PACKET_HEADER
            or data[0] != 0x12
            or data[1] != 0x34
            or self.owed
            or self.state is not _IDLE
            or not self.reader.is_empty
            or length > self._receive_limit
        ):
            return None
        try:
            request = decode_forward_request(data, self._max_headers, PACKET_HEADER)
        except DecodeError as error:
            self._fail_request(error, data[PACKET_HEADER:])
            self._failure_raised = True
            raise
        self._open_exchange(request)
        return request

    def receive_chunk(self, data: bytes) -> bytes | None:
        """Take in bytes that are one whole request body chunk, return what it holds.

        None, with nothing taken in, where they are anything else, one is not due, or
        its form is not known yet: then `receive` takes them. For a container; 1.1 us
        for a chunk and the question for it, by way of `receive` 3.9 us.
        """
        inner = len(data) - REQUEST_CHUNK_OVERHEAD
        if (
            inner <= 0
            or data[2] << 8 | data[3] != inner + 2
            or data[4] << 8 | data[5] != inner
            or data[0] != 0x12
            or data[1] != 0x34
            or self.owed != 1
            or self._is_raw is not False
            or self._asked_again
            or self.failure is not None
            or (self.state is not _REQUEST and self.state is not _RESPONSE)
            or not self.reader.is_empty
            or inner > self._receive_limit - REQUEST_CHUNK_OVERHEAD
        ):
            return None
        transferred = self._transferred + inner
        declared = self._content_length
        if declared is not None:
            if transferred > declared:
                return None
            self.body_complete = transferred == declared
        self._transferred = transferred
        self.owed = 0
        return data[REQUEST_CHUNK_OVERHEAD:]

    def _raise_failure(self) -> None:
        """Raise what went wrong before: once, and again until the answer is sent."""
        if self.failure is not None and (
            self.state is not _CLOSING or not self._failure_raised
        ):
            self._failure_raised = True
            raise self.failure.again()

    def receive_eof(self) -> None:
        """Take in that the peer has closed.

        Between exchanges that is normal. Raises BodyTruncated where the request body
        was still coming, another FramingError inside a packet or an exchange.
        """
        self._raise_failure()
        if self.state is _CLOSING:
            return
        if self.state is _IDLE and (
            self.reader.is_skipping or not self.reader.missing[0]
        ):
            # A chunk that is dropped anyway need not be whole, nor come at all.
            self.state = _CLOSING
            return
        self._fail(self._describe_eof())
        self._raise_failure()

    def _describe_eof(self) -> DecodeError:
        here, due = self.reader.missing
        in_exchange = self.state is _REQUEST or self.state is _RESPONSE
        if in_exchange and self._is_container and (self.owed or self.body_left):
            return BodyTruncated(
                "body chunk", here, f"{self._progress()}; the connection was closed"
            )
        if here:
            return FramingError(
                "packet", here, f"{due} bytes due, the connection was closed"
            )
        return FramingError(
            "exchange", 0, f"the connection was closed in state {self.state.value}"
        )

    def _progress(self) -> str:
        if self._content_length is None:
            return f"{self._transferred} bytes of the body came, its end did not"
        return f"{self._transferred} of {self._content_length} bytes of the body came"

    def _fail(self, error: DecodeError) -> None:
        self.failure = error.again()
        self.may_reuse = False
        if self.state is _IDLE or not self._is_container:
            self.state = _CLOSING

    def _fail_request(self, error: DecodeError, payload: bytes) -> None:
        """Leave room for an answer to a Forward Request that was refused."""
        self.state = _REQUEST
        self.refused_head = payload[1:2] == _HEAD
        self.owed = 1 if to_container.find_content_length(payload) else 0
        self.body_complete = True
        self._fail(error)

    def _refuse(self, found: str) -> FramingError:
        return FramingError("type", 0, f"{found} in state {self.state.value}")

    # -- the container reads ----------------------------------------------------

    def _open_exchange(self, request: ForwardRequest) -> None:
        # It was idle, so the connection may be reused.
        length = request.content_length
        self.state = _REQUEST
        self._content_length = length
        self._transferred = 0
        self._strays = 0
        self.body_complete = length == 0
        if length != 0:
            self._asked_again = False
            if length is None:
                self._is_raw = self._framing_unsized
            else:
                self.owed = 1
                self._is_raw = self._framing
                if self._framing is None and not request.looks_like_lighttpd:
                    self._is_raw = False

    def _read_as_container(self, messages: list[Message]) -> None:
        reader = self.reader
        while True:
            if self.state is _CLOSING:
                reader.clear()
                return
            if self._overlong:
                if reader.is_skipping:
                    return
                self.state = _REQUEST
                raise DecodeError(
                    "packet",
                    0,
                    f"a Forward Request of {self._overlong} bytes,"
                    f" at most {self._receive_limit} are taken",
                )
            length = reader.payload_length()
            if length is None:
                return
            if self.state is _IDLE:
                if self.owed:
                    self.owed -= 1
                    reader.skip(length)
                elif not self._read_idle(length, messages):
                    return
            elif not self._read_body_chunk(length, messages):
                return

    def _read_idle(self, length: int, messages: list[Message]) -> bool:
        """Read a packet while nothing is owed; False when it is not whole yet."""
        reader = self.reader
        if not length:
            reader.skip(0)
            self._count_stray()
            return True
        head = reader.peek(1)
        if head is None:
            return False
        code = head[0]
        if code == ToContainer.FORWARD_REQUEST:
            if length + PACKET_HEADER > self._receive_limit:
                # The boundary is sure, so this can be answered when it is through.
                opening = reader.peek(2)
                if opening is None:
                    return False
                self.refused_head = opening[1:] == _HEAD
                reader.skip(length)
                self._overlong = length + PACKET_HEADER
                return True
            payload = reader.take(length)
            if payload is None:
                return False
            try:
                request = decode_forward_request(payload, self._max_headers)
            except DecodeError as error:
                self._fail_request(error, payload)
                raise
            self._open_exchange(request)
            messages.append(request)
            return True
        if code == ToContainer.CPING and length == 1:
            reader.skip(length)
            messages.append(CPing())
            return True
        if code == 0 and length == 2:
            payload = reader.take(length)
            if payload is None:
                return False
            if not payload[1]:
                self._count_stray()
                return True
        raise self._refuse(f"unexpected packet of type {code}, {length} bytes")

    def _count_stray(self) -> None:
        self._strays += 1
        if self._strays > MAX_STRAY_CHUNKS:
            raise self._refuse(
                f"{self._strays} empty body chunks that nobody asked for"
            )

    def _read_body_chunk(self, length: int, messages: list[Message]) -> bool:
        """Read a body chunk during an exchange; False when it is not whole yet."""
        if not self.owed:
            if not self._asked_again:
                return self._read_stray(length)
            # One of the two answers to a chunk asked for again; data come in order.
            self._asked_again = False
            self.owed = 1
        if length + PACKET_HEADER > self._receive_limit:
            raise FramingError(
                "body chunk",
                0,
                f"a packet of {length + PACKET_HEADER} bytes,"
                f" at most {self._receive_limit} are taken",
            )
        data = self._take_body_chunk(length)
        if data is None:
            return False
        self.owed -= 1
        self._transferred += len(data)
        declared = self._content_length
        if declared is not None:
            if self._transferred > declared:
                raise BodyOverrun(
                    "body chunk",
                    0,
                    f"{self._transferred} bytes of a body of {declared}",
                )
            if not data and self._transferred < declared:
                raise BodyTruncated("body chunk", 0, self._progress())
            if self._transferred == declared:
                self.body_complete = True
            if data:
                messages.append(BodyChunk(data))
        else:
            self.body_complete = not data
            messages.append(BodyChunk(data))
        return True

    def _read_stray(self, length: int) -> bool:
        """Pass over an empty chunk that nobody asked for; refuse any other."""
        if length in (0, 2):
            payload = self.reader.take(length)
            if payload is None:
                return False
            if not any(payload):
                self._count_stray()
                return True
        raise self._refuse(f"unexpected packet of {length} bytes, none is owed")

    def _take_body_chunk(self, length: int) -> bytes | None:
        """Return the data of the front packet, None while it is not whole."""
        reader = self.reader
        if self._is_raw is False and length >= 2:
            # Nearly all chunks: one copy, of the data alone.
            head = reader.peek(2)
            if head is None:
                return None
            if head[0] << 8 | head[1] == length - 2:
                return reader.take(length, 2)
        payload = reader.take(length)
        if payload is None:
            return None
        if self._is_raw is None:
            # It fits lighttpd's fingerprint, so there is a length.
            self._is_raw = to_container.is_raw_chunk(payload, self._content_length or 0)
        return to_container.decode_body_chunk(payload, self._is_raw)

    # -- the front end reads ----------------------------------------------------

    def _read_as_front_end(self, messages: list[Message]) -> None:
        reader = self.reader
        while True:
            if self.state is _CLOSING:
                reader.clear()
                return
            length = reader.payload_length()
            if length is None:
                return
            if length + PACKET_HEADER > self._receive_limit:
                raise FramingError(
                    "packet",
                    0,
                    f"{length + PACKET_HEADER} bytes, at most {self._receive_limit}"
                    " are taken",
                )
            payload = reader.take(length)
            if payload is None:
                return
            message = to_front_end.decode_from_container(payload)
            state = self._moves.get((self.state, type(message)))
            if state is None:
                raise self._refuse_message(message)
            if isinstance(message, GetBodyChunk):
                self.owed += 1
            elif isinstance(message, EndResponse) and not message.reuse:
                self.may_reuse = False
                state = _CLOSING
            self.state = state
            messages.append(message)

    def _refuse_message(self, message: Message) -> FramingError:
        """Say what the container may send here, and what it has sent."""
        due = [
            kind.__name__
            for state, kind in self._moves
            if state is self.state and kind in _FROM_CONTAINER
        ]
        expected = " or ".join(due) or "nothing"
        return FramingError(
            "type", 0, f"expected {expected}, found {type(message).__name__}"
        )

    # -- messages out -----------------------------------------------------------

    def send(self, message: Message) -> bytes:
        """Return the bytes of a message that is due, and move on.

        Raises LocalProtocolError, with nothing changed, for a message that the
        state forbids or that its packet cannot hold.
        """
        if self._is_container:
            return self._send_to_front_end(message)
        return self._send_to_container(message)

    def _send_to_front_end(self, message: Message) -> bytes:
        data: bytes
        if isinstance(message, SendHeaders):
            self._check(SendHeaders)
            data = to_front_end.encode_send_headers(
                message.status, message.reason, message.headers, self._packet_size
            )
            self.sent_headers()
        elif isinstance(message, SendBodyChunk):
            self.sent_body()
            data = to_front_end.encode_body(message.data, self._packet_size)
            data = data or to_front_end.FLUSH
        elif isinstance(message, EndResponse):
            self.sent_end(message.reuse)
            data = to_front_end.encode_end_response(message.reuse)
        elif isinstance(message, GetBodyChunk):
            data = to_front_end.encode_get_body_chunk(message.length)
            self.asked_body()
        elif isinstance(message, CPong):
            self._check(CPong)
            data = to_front_end.CPONG
        else:
            raise LocalProtocolError(
                f"{type(message).__name__} is not for a container to send"
            )
        return data

    def _send_to_container(self, message: Message) -> bytes:
        if isinstance(message, ForwardRequest):
            self._check(ForwardRequest)
            if self.owed:
                raise LocalProtocolError(
                    f"{self.owed} body chunks of the last request are owed"
                )
            data = to_container.encode_forward_request(message, self._packet_size)
            self._open_exchange(message)
        elif isinstance(message, BodyChunk):
            data = self._send_body_chunk(message.data)
        elif isinstance(message, CPing):
            self.state = self._check(CPing)
            data = to_container.CPING
        elif isinstance(message, (Ping, Shutdown)):
            self.state = self._check(type(message))
            data = (
                to_container.PING
                if isinstance(message, Ping)
                else to_container.SHUTDOWN
            )
        else:
            raise LocalProtocolError(
                f"{type(message).__name__} is not for a front end to send"
            )
        return data

    def _send_body_chunk(self, data: bytes) -> bytes:
        self._check(BodyChunk)
        if not self.owed:
            raise LocalProtocolError("BodyChunk: the container is owed none")
        declared = self._content_length
        transferred = self._transferred + len(data)
        if declared is not None and transferred > declared:
            raise LocalProtocolError(
                f"BodyChunk: {transferred} bytes of a body of {declared}"
            )
        if self.body_complete and data:
            raise LocalProtocolError("BodyChunk: the end of the body was sent")
        packet = to_container.encode_body_chunk(data, self._packet_size)
        self.owed -= 1
        self._transferred = transferred
        if not data or transferred == declared:
            self.body_complete = True
        return packet

    def _check(self, kind: type) -> State:
        """Return where sending a message leads; LocalProtocolError if nowhere."""
        state = self._moves.get((self.state, kind))
        if state is None:
            raise LocalProtocolError(
                f"{kind.__name__} must not be sent in state {self.state.value}"
            )
        return state

    # -- what the container sent by itself --------------------------------------
    #
    # The hot path encodes with the functions of to_front_end and tells us here,
    # right before it sends. A whole response costs one call, sent_response.

    def sent_headers(self) -> None:
        """Send Headers goes out."""
        if self.state is not _REQUEST:
            self._check(SendHeaders)
        self.state = _RESPONSE

    def sent_body(self) -> None:
        """Send Body Chunks go out, any number."""
        if self.state is not _RESPONSE:
            self._check(SendBodyChunk)

    def sent_end(self, reuse: bool) -> None:
        """End Response goes out: the exchange is over.

        What the front end owes is dropped from now on (with ``reuse``, before the
        next message; without, together with all that comes).
        """
        if self.state is not _RESPONSE:
            self._check(EndResponse)
        if not reuse:
            self.state = _CLOSING
        elif self.may_reuse:
            self.state = _IDLE
        else:
            raise LocalProtocolError("EndResponse(True) after the connection failed")
        self.body_complete = True

    def sent_response(self, reuse: bool) -> None:
        """Send Headers, the body and End Response go out together."""
        if reuse and self.state is _REQUEST and self.may_reuse:
            # The hot path: both moves in one.
            self.state = _IDLE
            self.body_complete = True
            return
        self.sent_headers()
        self.sent_end(reuse)

    def asked_body(self) -> None:
        """Get Body Chunk goes out.

        Raises what `failure` says where there is one: no more of this body will come.
        Raises LocalProtocolError while a chunk is owed, and when the body is complete.
        """
        self._check(GetBodyChunk)
        if self.failure is not None:
            raise self.failure.again()
        if self.owed:
            raise LocalProtocolError("GetBodyChunk: a body chunk is owed already")
        if self.body_complete:
            raise LocalProtocolError("GetBodyChunk: the body is complete")
        self.owed = 1

    def ask_body(self) -> bytes:
        """Return a Get Body Chunk for as much as one packet brings, or is left.

        Raises what asked_body raises.
        """
        if (
            self.owed
            or self.body_complete
            or self.failure is not None
            or (self.state is not _REQUEST and self.state is not _RESPONSE)
        ):
            self.asked_body()  # raises
        self.owed = 1
        return to_front_end.encode_get_body_chunk(self._body_request())

    def _body_request(self) -> int:
        most = self._receive_limit
        if self._packet_size < most:
            most = self._packet_size
        if most > DEFAULT_PACKET_SIZE and self._is_raw is not False:
            # lighttpd cuts what is beyond its packet size into several chunks, and
            # one for one is how they are counted. Source: AJP notes 2.1.
            most = DEFAULT_PACKET_SIZE
        most -= REQUEST_CHUNK_OVERHEAD
        if self._content_length is not None:
            left = self._content_length - self._transferred
            if left < most:
                return left
        return most

    def ask_body_again(self) -> bytes:
        """Return a Get Body Chunk for a first chunk that does not come.

        lighttpd with ``server.stream-request-body = 1`` never sends it unasked. A
        front end that was only slow answers twice, so the count is uncertain by one
        from here on, and the exchange has to end with ``EndResponse(False)``.
        Once per request, and only while its first chunk is owed.
        """
        self._check(GetBodyChunk)
        if self.failure is not None:
            raise self.failure.again()
        if (
            not self.owed
            or not self._content_length
            or self._transferred
            or not self.may_reuse
        ):
            raise LocalProtocolError("GetBodyChunk: no first chunk to ask for again")
        self.may_reuse = False
        self._asked_again = True
        return to_front_end.encode_get_body_chunk(self._body_request())
