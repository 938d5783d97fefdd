"""A response whose body is read while it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from paste_ajp.client.errors import ClientError, Stage
from paste_ajp.protocol import EndResponse, SendBodyChunk, SendHeaders


class AnswerReader(Protocol):
    """The exchange that a response belongs to, as the response needs it."""

    def next_answer(self, stage: Stage) -> SendHeaders | SendBodyChunk | EndResponse:
        """Wait for the next of these three; body chunks are sent meanwhile."""

    def refuse(self, stage: Stage, problem: str) -> Exception:
        """Give the connection up, and make the error to raise."""

    def finish(self, *, reuse: bool) -> None:
        """End Response came: the connection goes back to the pool, or is closed."""

    def abort(self) -> None:
        """Close the connection in the middle."""

    @property
    def has_ended(self) -> bool:
        """Is all up to the End Response here, so that reading it cannot wait?"""


class Response:
    """Status and headers, and the body as a stream of bytes.

    ``headers`` is a list of pairs in the order of the wire, names as the server
    spelled them. The body must be read to its end, or the response closed:
    until then it holds a connection of the pool. Closing early closes the
    connection, since AJP cannot tell a server to stop.

    A repeated Content-Length that always says the same stands there once. What
    comes as the body of an answer that has none (to HEAD, 204, 304) is dropped.

    Reads raise ClientError at the stage "reading the response body"; among these
    is a body that is shorter or longer than its Content-Length. One thread at a
    time.
    """

    def __init__(self, head: SendHeaders, exchange: AnswerReader, method: str) -> None:
        """Raises BadAnswer for a status or a Content-Length that is none."""
        self.status = head.status
        self.reason = head.reason
        self._closed = False
        self._rest = memoryview(b"")
        self._received = 0
        self._bodyless = method == "HEAD" or self.status in (204, 304)
        self.headers: Sequence[tuple[str, str]]
        try:
            # AJP has no place for an interim response: what comes is the answer.
            if not 200 <= self.status <= 999:
                raise ValueError(f"status {self.status}: expected 200 to 999")
            self.headers, length = _settle_length(head.headers)
        except ValueError as error:
            raise exchange.refuse(Stage.HEADERS, str(error)) from None
        self._declared = None if self._bodyless else length
        # Only now: what was refused is the client's to close.
        self._exchange: AnswerReader | None = exchange

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason!r}>"

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        # A response that somebody forgot must not keep its place in the pool.
        exchange = getattr(self, "_exchange", None)
        if exchange is not None:
            self._exchange = None
            exchange.abort()

    def header(self, name: str, default: str | None = None) -> str | None:
        """Find a header, whatever its case; repeated ones are joined by ", "."""
        values = [value for n, value in self.headers if n.lower() == name.lower()]
        return ", ".join(values) if values else default

    @property
    def content_length(self) -> int | None:
        """The body's length as the server declared it, where a body may come."""
        return self._declared

    @property
    def is_complete(self) -> bool:
        """The whole body has arrived (though perhaps not been read by you)."""
        return self._exchange is None and not self._closed

    def chunks(self, *, flushes: bool = False) -> Iterator[bytes]:
        """Yield the body in the pieces that arrive, each as soon as it does.

        With ``flushes`` an empty piece stands where the server asked that all
        before it be passed on at once.
        """
        if self._rest:
            yield self._take(len(self._rest))
        while (piece := self._next_piece()) is not None:
            if piece or flushes:
                yield piece

    __iter__ = chunks

    def readable(self) -> bool:
        """Say yes, as a file does, to those who wrap one."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, fewer only at the end; all that is left if -1."""
        if size < 0:
            return b"".join(self.chunks())
        pieces = []
        while size > 0 and (piece := self.read1(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """Read what has arrived, up to ``size`` bytes; wait only if nothing has.

        b"" is the end of the body.
        """
        if size == 0:
            return b""
        while not self._rest:
            piece = self._next_piece()
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        return self._take(len(self._rest) if size < 0 else size)

    def readline(self, limit: int = -1) -> bytes:
        """Read to the next line feed, which is included, or ``limit`` bytes."""
        line = bytearray()
        while limit < 0 or len(line) < limit:
            piece = self.read1(-1 if limit < 0 else limit - len(line))
            if not piece:
                break
            end = piece.find(b"\n") + 1
            if end:
                line += piece[:end]
                self._rest = memoryview(piece[end:] + bytes(self._rest))
                break
            line += piece
        return bytes(line)

    def close(self) -> None:
        """Let go of the connection; harmless when the body was read to its end.

        Where only the End Response is missing, or all is here already, it is read,
        so that the connection can serve again.
        """
        try:
            while self._exchange is not None and (
                self._exchange.has_ended or self._has_whole_body
            ):
                self._next_piece()
        except ClientError:
            return
        finally:
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                self._closed = True
                exchange.abort()

    def _take(self, size: int) -> bytes:
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def _next_piece(self) -> bytes | None:
        """Wait for a piece of the body; None after the last."""
        exchange = self._exchange
        if exchange is None:
            if self._closed:
                raise ValueError("the response was closed before its body ended")
            return None
        try:
            answer = exchange.next_answer(Stage.RESPONSE_BODY)
            if isinstance(answer, SendBodyChunk):
                self._received += len(answer.data)
                if self._bodyless:
                    return b""
                if self._declared is not None and self._received > self._declared:
                    raise self._wrong_length(exchange, "already")
                return bytes(answer.data)
            if isinstance(answer, SendHeaders):
                raise exchange.refuse(Stage.RESPONSE_BODY, "Send Headers came twice")
            if self._declared is not None and self._received < self._declared:
                raise self._wrong_length(exchange, "only")
        except BaseException:
            self._exchange = None
            self._closed = True
            exchange.abort()
            raise
        self._exchange = None
        exchange.finish(reuse=answer.reuse)
        return None

    def _wrong_length(self, exchange: AnswerReader, word: str) -> Exception:
        problem = (
            f"{self._declared} bytes were declared by Content-Length, "
            f"{word} {self._received} came"
        )
        return exchange.refuse(Stage.RESPONSE_BODY, problem)

    @property
    def _has_whole_body(self) -> bool:
        return self._received == (0 if self._bodyless else self._declared)


def _settle_length(
    headers: Sequence[tuple[str, str]],
) -> tuple[Sequence[tuple[str, str]], int | None]:
    """Return the headers with one Content-Length at most, and what it says.

    Whoever passes an answer on must not leave it to the next to choose between
    lengths. Raises ValueError. Source: RFC 9110, 8.6.
    """
    given = [value for name, value in headers if name.lower() == "content-length"]
    if not given:
        return headers, None
    texts = {text.strip(" \t") for value in given for text in value.split(",")}
    text = min(texts)
    if len(texts) > 1 or not re.fullmatch("[0-9]{1,18}", text):
        said = ", ".join(given)
        raise ValueError(f"Content-Length = {said!r}: expected one whole number")
    if given != [text]:
        place = next(
            at
            for at, (name, _) in enumerate(headers)
            if name.lower() == "content-length"
        )
        others = [pair for pair in headers if pair[0].lower() != "content-length"]
        others.insert(place, (headers[place][0], text))
        headers = others
    return headers, int(text)
