"""A blocking AJP client over TCP or a Unix socket.

One exchange at a time runs over each connection, strictly in order: write the
Forward Request and the first body chunk where one is due, then read what the
server sends and answer each Get Body Chunk at once, until End Response. So the
server's count of the chunks that it is owed and ours never differ, and an answer
that comes before the body has been sent ends the exchange there.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from paste_ajp.client.address import Address, parse_address
from paste_ajp.client.body import Body, BodySource, open_body
from paste_ajp.client.deadline import Deadline, check_seconds, shown_seconds
from paste_ajp.client.errors import (
    BadAnswer,
    BodyFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    PoolExhausted,
    Stage,
    TimedOut,
    UnknownHost,
)
from paste_ajp.client.pool import Pool
from paste_ajp.client.request import (
    Headers,
    Query,
    build_request,
    declared_length,
    declares_chunks,
)
from paste_ajp.client.response import Response
from paste_ajp.protocol import (
    BodyChunk,
    Connection,
    CPing,
    CPong,
    DecodeError,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Role,
    SendBodyChunk,
    SendHeaders,
    State,
)
from paste_ajp.protocol.codes import DEFAULT_PACKET_SIZE, REQUEST_CHUNK_OVERHEAD

#: Doing them twice is doing them once, so they may be sent again when a pooled
#: connection turns out to be dead. Source: RFC 9110, 9.2.2, and RFC 4918.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PROPFIND"})

_RECEIVE_SIZE = 65536


class Trace(Protocol):
    """Who wants to see the bytes of every connection, such as a TraceWriter."""

    def sent(self, connection_id: str, data: bytes) -> None: ...

    def received(self, connection_id: str, data: bytes) -> None: ...


class Client:
    """Speaks to one AJP server, from any number of threads.

    ``url`` is in any form of ``paste_ajp.client.address``; a path in it is what
    ``request`` asks for by default. ``secret`` goes with every request.
    ``timeout`` is how many seconds the server may stay silent, or not read, or
    leave us waiting for one of the ``pool_size`` connections; None waits for
    ever. ``packet_size`` must be the server's. An idle connection is closed
    after ``max_idle`` seconds. ``trace`` sees all bytes.

    Usable as a context manager, which closes the pool. A forked child process
    begins with an empty pool: the connections stay the parent's.
    """

    def __init__(
        self,
        url: str | Address,
        *,
        secret: str | bytes | None = None,
        timeout: float | None = 60.0,
        connect_timeout: float | None = 10.0,
        pool_size: int = 8,
        packet_size: int = 8192,
        max_idle: float = 60.0,
        trace: Trace | None = None,
    ) -> None:
        if not 8192 <= packet_size <= 65536:
            raise ValueError(
                f"packet_size = {packet_size}: expected a whole number "
                "from 8192 to 65536"
            )
        check_seconds("timeout", timeout)
        check_seconds("connect_timeout", connect_timeout)
        self.address = parse_address(url) if isinstance(url, str) else url
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self.packet_size = packet_size
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._trace = trace
        self._pool: Pool[_Link] = Pool(pool_size, max_idle)
        self._numbers = itertools.count(1)
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the pool; exchanges that are under way still finish."""
        self._pool.close()

    def _after_fork(self) -> None:
        """In a child process, leave the connections to the parent."""
        pool, self._pool = self._pool, self._pool.renewed()
        pool.abandon()

    @property
    def connections(self) -> tuple[int, int]:
        """How many connections are in use, and how many idle, at this moment."""
        return self._pool.counts

    def request(
        self,
        method: str,
        path: str | None = None,
        *,
        query: Query = None,
        headers: Headers = (),
        body: Body = None,
        attributes: Mapping[str, str | int | None] | None = None,
        is_ssl: bool = False,
        server_name: str | None = None,
        server_port: int | None = None,
        remote_addr: str = "127.0.0.1",
        remote_host: str | None = None,
        remote_port: int | str | None = None,
        protocol: str = "HTTP/1.1",
        max_time: float | None = None,
    ) -> Response:
        """Send a request; return when the response's headers are there.

        ``path`` is percent-encoded, and may hold the query. ``headers`` is a
        mapping or pairs. ``body`` is bytes, a file, or an iterable of bytes; its
        length is found out, or taken from a Content-Length among the headers, or
        else it goes as a chunked one. ``attributes`` are those of
        ``request.CODED_ATTRIBUTES`` (remote_user, auth_type, ssl_cipher, ...) by
        name; every other name becomes a request attribute, and what is None is left
        out. ``max_time`` is how many
        seconds all may take, from here to the last byte of the response's body; what
        ``body`` takes to give its bytes counts, but is not interrupted.

        A connection from the pool that is found dead is replaced unseen. Once
        bytes of the request have left on it, the request is repeated only if it
        is idempotent and has no body and no byte of an answer came.

        Raises ClientError, and LocalProtocolError or ValueError for what cannot
        be sent at all. An exception of ``body`` itself passes through; the
        server sees a closed connection then, never a short body.
        """
        check_seconds("max_time", max_time)
        deadline = Deadline(max_time)
        if not isinstance(headers, Mapping):
            headers = list(headers)
        length = declared_length(headers)
        source = open_body(body, length)
        if declares_chunks(headers):
            source.length = None
        has_length = body is not None or length is not None

        def build(link: _Link) -> ForwardRequest:
            return build_request(
                method,
                self.address.target or "/" if path is None else path,
                query=query,
                headers=headers,
                content_length=source.length if has_length else None,
                is_chunked=source.length is None,
                attributes=attributes,
                is_ssl=is_ssl,
                server_name=server_name,
                server_port=server_port,
                remote_addr=remote_addr,
                remote_host=remote_host,
                remote_port=link.local_port if remote_port is None else remote_port,
                protocol=protocol,
                secret=self._secret,
                fallback_host=self.address.host,
            )

        link = self._take_link(deadline)
        try:
            while True:
                exchange = _Exchange(link, self._pool, source)
                try:
                    exchange.begin(build(link))
                    head = exchange.next_answer(Stage.HEADERS)
                    if not isinstance(head, SendHeaders):
                        raise exchange.refuse(
                            Stage.HEADERS, f"{type(head).__name__} came first"
                        )
                    return Response(head, exchange, method)
                except ConnectionLost:
                    repeatable = body is None and method in IDEMPOTENT
                    if not link.may_repeat(idempotent=repeatable):
                        raise
                    link.close()
                    link = self._open_link(deadline)
                    if source.at_hand:  # its first chunk may have been taken
                        length = source.length
                        source = open_body(body, length)
                        source.length = length  # None: still a chunked one
        except BaseException:
            link.close()
            self._pool.give_up()
            raise

    def cping(self, *, max_time: float | None = None) -> float:
        """Ask whether the server is there; return the seconds that it took.

        Costs the server no worker: a CPong says that its process reads, nothing
        of the application. Opening a connection counts in, also for ``max_time``, the
        seconds that all may take.
        """
        check_seconds("max_time", max_time)
        deadline = Deadline(max_time)
        started = time.monotonic()
        link = self._take_link(deadline)
        try:
            try:
                link.cping()
            except ConnectionLost:
                if not link.is_reused:
                    raise
                link.close()
                link = self._open_link(deadline)
                link.cping()
        except BaseException:
            link.close()
            self._pool.give_up()
            raise
        _put_back(link, self._pool)
        return time.monotonic() - started

    def _take_link(self, deadline: Deadline) -> _Link:
        """Take a live connection from the pool, or open one in its place."""
        limit = deadline.limit(self.timeout)
        got_place, link = self._pool.take(limit)
        if not got_place:
            busy, _ = self._pool.counts
            raise PoolExhausted(
                Stage.POOL,
                str(self.address),
                f"all {busy} connections stayed busy for {shown_seconds(limit)} s",
            )
        try:
            while link is not None and link.is_stale():
                link.close()
                link = self._pool.another()
            if link is None:
                return self._open_link(deadline)
            link.deadline = deadline
            return link
        except BaseException:
            self._pool.give_up()
            raise

    def _open_link(self, deadline: Deadline) -> _Link:
        address = str(self.address)
        connecting = Deadline(deadline.limit(self.connect_timeout))
        try:
            sock = self._connect(connecting)
        except TimeoutError as error:
            problem = f"no answer within {self.connect_timeout} s"
            if deadline.has_passed:
                problem = deadline.problem
            raise TimedOut(Stage.CONNECT, address, problem) from error
        except (socket.gaierror, UnicodeError) as error:  # the latter: no such name
            problem = getattr(error, "strerror", None) or "no name of a host"
            raise UnknownHost(Stage.CONNECT, address, problem) from error
        except OSError as error:
            problem = error.strerror or str(error)
            raise ConnectFailed(Stage.CONNECT, address, problem) from error
        sock.settimeout(self.timeout)
        connection = Connection(Role.FRONT_END, packet_size=self.packet_size)
        number = next(self._numbers)
        link = _Link(sock, connection, address, f"client-{number}", self._trace)
        link.chunk_size = self.packet_size - REQUEST_CHUNK_OVERHEAD
        link.deadline = deadline
        return link

    def _connect(self, deadline: Deadline) -> socket.socket:
        """Connect to the first of the server's addresses that lets us."""
        if self.address.socket_path:
            return _connected(socket.AF_UNIX, self.address.socket_path, deadline)
        host, port, *_ = self.address
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for number, (family, _, _, _, place) in enumerate(found, 1):
            try:
                sock = _connected(family, place, deadline)
            except OSError:
                if number == len(found) or deadline.has_passed:
                    raise
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        raise OSError("the name has no address")


def _connected(
    family: int, place: str | tuple[object, ...], deadline: Deadline
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(deadline.limit(None))
        sock.connect(place)
    except BaseException:
        sock.close()
        raise
    return sock


#: All there are, for a fork.
_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _renew_after_fork() -> None:
    for client in list(_clients):
        client._after_fork()


if hasattr(os, "register_at_fork"):  # POSIX; elsewhere nothing forks
    os.register_at_fork(after_in_child=_renew_after_fork)


class _Link:
    """One connection: a socket with its half of the protocol.

    Owned by one thread at a time, the one that took it from the pool.
    """

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        address: str,
        connection_id: str,
        trace: Trace | None,
    ) -> None:
        self._sock = sock
        self.connection = connection
        self.address = address
        self._id = connection_id
        self._trace = trace
        self._inbox: deque[object] = deque()
        self._sent_a_byte = False
        self._got_a_byte = False
        self.is_reused = False
        self._timeout = sock.gettimeout()
        #: Of the exchange that runs.
        self.deadline = Deadline(None)
        #: The most bytes of a body that a packet holds.
        self.chunk_size = DEFAULT_PACKET_SIZE - REQUEST_CHUNK_OVERHEAD
        local = sock.getsockname()
        self.local_port: int = local[1] if isinstance(local, tuple) else 0

    def close(self) -> None:
        self._sock.close()

    def rest(self) -> None:
        """Get ready for the next exchange."""
        self.is_reused = True
        self._sent_a_byte = self._got_a_byte = False
        if self.deadline.is_set:
            self.deadline = Deadline(None)
            self._sock.settimeout(self._timeout)

    @property
    def may_rest(self) -> bool:
        """Is the connection in order, with nothing left over in either direction?

        A packet that has begun counts: it would become the start of the next answer.
        """
        connection = self.connection
        return connection.may_reuse and connection.is_idle and not self._inbox

    @property
    def has_ended(self) -> bool:
        """Has the End Response arrived, though it was not read yet?"""
        return any(isinstance(message, EndResponse) for message in self._inbox)

    def is_stale(self) -> bool:
        """Is an idle connection of no use any more?

        Nothing may arrive between exchanges, so what is readable is its end, or
        bytes that would be taken for the next answer.
        """
        timeout = self._sock.gettimeout()
        try:
            self._sock.settimeout(0)
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._sock.settimeout(timeout)
            return False
        except OSError:
            pass
        return True

    def may_repeat(self, *, idempotent: bool) -> bool:
        """May what was begun here be begun again on a new connection?"""
        if not self.is_reused or self._got_a_byte:
            return False
        return idempotent or not self._sent_a_byte

    def send(self, data: bytes, stage: Stage) -> None:
        """Send whole packets."""
        try:
            self._limit_wait()
            count = self._sock.send(data)
            self._sent_a_byte = True
            if count < len(data):
                self._limit_wait()
                self._sock.sendall(memoryview(data)[count:])
        except OSError as error:
            raise self._error(stage, error) from error
        if self._trace is not None:
            self._trace.sent(self._id, data)

    def receive(self, stage: Stage) -> object:
        """Wait for the next message."""
        while not self._inbox:
            if self.connection.failure is not None:
                problem = str(self.connection.failure)
                raise BadAnswer(stage, self.address, problem)
            try:
                self._limit_wait()
                data = self._sock.recv(_RECEIVE_SIZE)
            except OSError as error:
                raise self._error(stage, error) from error
            if not data:
                problem = "the server closed the connection"
                here, due = self.connection.reader.missing
                if here:
                    problem += f" after {here} of {due} bytes of a packet"
                raise ConnectionLost(stage, self.address, problem)
            self._got_a_byte = True
            if self._trace is not None:
                self._trace.received(self._id, data)
            try:
                self._inbox.extend(self.connection.receive(data))
            except DecodeError as error:
                raise BadAnswer(stage, self.address, str(error)) from error
        return self._inbox.popleft()

    def cping(self) -> None:
        self.send(self.connection.send(CPing()), Stage.CPING)
        answer = self.receive(Stage.CPING)
        if not isinstance(answer, CPong):
            problem = f"{type(answer).__name__} came, not CPong"
            raise BadAnswer(Stage.CPING, self.address, problem)

    def _limit_wait(self) -> None:
        """Have the next call wait no longer than the exchange may still take."""
        if self.deadline.is_set:
            if self.deadline.has_passed:
                raise TimeoutError
            self._sock.settimeout(self.deadline.limit(self._timeout))

    def _error(self, stage: Stage, error: OSError) -> ClientError:
        if isinstance(error, TimeoutError):
            problem = f"silent for {self._timeout} s"
            if self.deadline.has_passed:
                problem = self.deadline.problem
            return TimedOut(stage, self.address, problem)
        return ConnectionLost(stage, self.address, error.strerror or str(error))


def _put_back(link: _Link, pool: Pool[_Link]) -> None:
    """Give a connection back for the next exchange, unless it is not in order."""
    if link.may_rest:
        link.rest()
        pool.give_back(link)
    else:
        link.close()
        pool.give_up()


class _Exchange:
    """One Forward Request up to its End Response; what a Response reads from."""

    def __init__(self, link: _Link, pool: Pool[_Link], body: BodySource) -> None:
        self._link = link
        self._pool = pool
        self._body = body
        self._chunk_size = link.chunk_size
        # Why the body could not be sent on, once that is so. Not the error: its
        # traceback holds us, and would wait with us for the garbage collector.
        self._cannot_send: str | None = None

    def begin(self, request: ForwardRequest) -> None:
        """Send the request, and the first body chunk if one is due unasked."""
        connection = self._link.connection
        data = connection.send(request)
        if not request.content_length:
            self._link.send(data, Stage.REQUEST)
        elif self._body.at_hand:
            self._link.send(data + self._next_chunk(self._chunk_size), Stage.REQUEST)
        else:
            self._link.send(data, Stage.REQUEST)
            self._send_chunk(self._chunk_size)

    def next_answer(self, stage: Stage) -> SendHeaders | SendBodyChunk | EndResponse:
        while True:
            try:
                message = self._link.receive(stage)
            except ConnectionLost:
                if self._cannot_send is None:
                    raise
                raise ConnectionLost(
                    Stage.REQUEST_BODY, self._link.address, self._cannot_send
                ) from None
            if isinstance(message, GetBodyChunk):
                # Asked for none, send as httpd does: an empty one would end the body.
                most = self._chunk_size
                self._send_chunk(min(message.length or most, most))
            elif isinstance(message, SendBodyChunk | SendHeaders | EndResponse):
                return message
            else:
                raise self.refuse(stage, f"{type(message).__name__} came")

    def refuse(self, stage: Stage, problem: str) -> BadAnswer:
        return BadAnswer(stage, self._link.address, problem)

    def finish(self, *, reuse: bool) -> None:
        if reuse and self._cannot_send is None:
            _put_back(self._link, self._pool)
        else:
            self.abort()

    def abort(self) -> None:
        self._link.close()
        self._pool.give_up()

    @property
    def has_ended(self) -> bool:
        return self._link.has_ended

    def _send_chunk(self, size: int) -> None:
        """Send the next body chunk.

        A server that has answered already may have closed; its answer is still
        to be read then, and the error counts only if there is none.
        """
        if self._link.connection.state is State.CLOSING:
            return  # the answer is complete, and says that the server will close
        data = self._next_chunk(size)
        if self._cannot_send is None:
            try:
                self._link.send(data, Stage.REQUEST_BODY)
            except ConnectionLost as error:
                self._cannot_send = error.problem

    def _next_chunk(self, size: int) -> bytes:
        data = self._body.read(size)
        if not data and self._body.is_short:
            problem = (
                f"the body ended after {self._body.sent} bytes, "
                f"{self._body.length} were declared"
            )
            raise BodyFailed(Stage.REQUEST_BODY, self._link.address, problem)
        return self._link.connection.send(BodyChunk(data))
