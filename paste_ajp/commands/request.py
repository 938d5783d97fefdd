"""``paste-ajp request``: curl for AJP.

The flags are curl's wherever curl has one, and so are the exit statuses. What
curl has no word for (the attributes that a front end adds) has a long flag.
"""

from __future__ import annotations

import argparse
import base64
import functools
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote_from_bytes, quote_plus

from paste_ajp.client import BadAnswer, Client, ClientError, ConnectionLost, Stage
from paste_ajp.client.response import Response
from paste_ajp.commands.connecting import (
    EXIT_HTTP_ERROR,
    EXIT_MALFORMED_URL,
    EXIT_PARTIAL,
    EXIT_READ,
    EXIT_UNSUPPORTED,
    EXIT_WRITE,
    URL_HELP,
    add_connection_arguments,
    exit_status,
    make_client,
    read_address,
    seconds_or_zero,
    taking,
)
from paste_ajp.commands.forms import Form, FormError, parse_field
from paste_ajp.commands.input import open_input, read_input, stdin
from paste_ajp.commands.output import (
    Output,
    OutputError,
    complain,
    flush_stdout,
    say,
)
from paste_ajp.commands.progress import Progress
from paste_ajp.options import SettingError, Whole
from paste_ajp.tracing import Conversation, Event, format_event
from paste_ajp.version import SERVER_SOFTWARE

#: At most this much is put on a terminal at once, so that Ctrl-C is heard.
_PIECE = 65536
#: What data for the query may hold as it is: all but what no URL may.
_QUERY_SAFE = "".join(map(chr, range(0x21, 0x7F))).replace("#", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help=URL_HELP)
    _add_request_arguments(parser.add_argument_group("request"))
    _add_output_arguments(parser.add_argument_group("output"))
    _add_front_end_arguments(parser.add_argument_group("as a front end"))
    add_connection_arguments(parser)
    parser.add_argument(
        "-m",
        "--max-time",
        type=seconds_or_zero,
        default=0.0,
        metavar="SECONDS",
        help="how long all may take; 0: for ever (0)",
    )
    parser.add_argument(
        "--timeout",
        type=seconds_or_zero,
        default=60.0,
        metavar="SECONDS",
        help="how long the server may stay silent; 0: for ever (60)",
    )


def _add_request_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-X", "--request", dest="method", metavar="METHOD")
    group.add_argument(
        "-H",
        "--header",
        dest="headers",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="add a header; 'NAME:' leaves one out that would be sent; @FILE has many",
    )
    for kind, flags, text in (
        ("text", ["-d", "--data", "--data-ascii"], "a form's data; @FILE reads it"),
        ("binary", ["--data-binary"], "the body as it is; @FILE reads it"),
        ("raw", ["--data-raw"], "the body as it is, an @ too"),
        ("encode", ["--data-urlencode"], "NAME=VALUE, percent-encoded"),
    ):
        group.add_argument(
            *flags, dest="data", action=_Data, kind=kind, metavar="DATA", help=text
        )
    for kind, flags, text in (
        ("field", ["-F", "--form"], "a form's field; @FILE sends a file"),
        ("string", ["--form-string"], "a form's field as it is, an @ too"),
    ):
        group.add_argument(
            *flags, dest="form", action=_Data, kind=kind, metavar="NAME=TEXT", help=text
        )
    group.add_argument(
        "-G", "--get", action="store_true", help="put the data into the query"
    )
    group.add_argument(
        "-T", "--upload-file", metavar="FILE", help="PUT a file; - is stdin, chunked"
    )
    group.add_argument("-I", "--head", action="store_true", help="HEAD; show headers")
    group.add_argument("-u", "--user", metavar="USER:PASSWORD", help="Authorization")
    group.add_argument("-b", "--cookie", metavar="'NAME=VALUE; ...'")
    group.add_argument("-A", "--user-agent", metavar="NAME")
    group.add_argument("-e", "--referer", metavar="URL")
    group.add_argument(
        "--chunked", action="store_true", help="send the body without its length"
    )
    group.add_argument(
        "-0", "--http1.0", dest="http10", action="store_true", help="as HTTP/1.0"
    )


def _add_output_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-o", "--output", metavar="FILE", help="write the body there")
    group.add_argument(
        "-i", "--include", action="store_true", help="show the response's headers too"
    )
    group.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="show each packet, decoded; secrets are masked",
    )
    group.add_argument("-s", "--silent", action="store_true", help="no progress bar")
    group.add_argument(
        "-S", "--show-error", action="store_true", help="show errors though -s is given"
    )
    group.add_argument(
        "-f", "--fail", action="store_true", help="exit with 22 on a status from 400"
    )
    group.add_argument(
        "-w",
        "--write-out",
        metavar="FORMAT",
        help="print %%{http_code}, %%{time_total}, %%{size_download}, ... at the end",
    )


def _add_front_end_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--remote-user", metavar="NAME", help="the user that the front end let in"
    )
    group.add_argument(
        "--attribute",
        dest="attributes",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="auth_type, jvm_route, ssl_cipher, ...; any other is a request attribute",
    )
    group.add_argument("--remote-addr", default="127.0.0.1", metavar="ADDRESS")
    group.add_argument("--server-name", metavar="NAME")
    group.add_argument("--server-port", type=taking(Whole(1, 65535)), metavar="PORT")
    group.add_argument("--ssl", action="store_true", help="as if it came over TLS")


class _Given(NamedTuple):
    """One flag of those that add to the body, by its long name, and what it has."""

    kind: str
    text: str
    flag: str


class _Data(argparse.Action):
    """Keeps the data flags in the order in which they were given."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, kind: str, **keywords: str
    ) -> None:
        super().__init__(
            option_strings,
            dest,
            metavar=keywords.get("metavar"),
            help=keywords.get("help"),
        )
        self._kind = kind
        self._flag = next(name for name in option_strings if name.startswith("--"))

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        del parser, option_string
        one = _Given(self._kind, str(values), self._flag)
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), one])


class _Failure(Exception):
    """Ends the command with one line and the exit status that curl has for it."""

    def __init__(self, problem: SettingError, status: int) -> None:
        super().__init__(str(problem))
        self.status = status


def run(arguments: argparse.Namespace) -> int:
    """Send the request, write the response, return curl's exit status."""
    try:
        return _run(arguments)
    except _Failure as failure:
        complain(f"paste-ajp: {failure}")
        return failure.status


def _run(arguments: argparse.Namespace) -> int:
    try:
        read_address(arguments)
    except SettingError as error:
        scheme, mark, _ = arguments.url.partition("://")
        is_other = mark and scheme.isalnum() and scheme.lower() not in ("ajp", "ajp13")
        status = EXIT_UNSUPPORTED if is_other else EXIT_MALFORMED_URL
        raise _Failure(error, status) from error
    trace = VerboseTrace() if arguments.verbose else None
    timeout = arguments.timeout or None
    with ExitStack() as stack:
        client = stack.enter_context(
            make_client(arguments, timeout=timeout, trace=trace)
        )
        return _Run(arguments, client, stack).run()


class VerboseTrace:
    """Prints each packet of a client on stderr, decoded and masked."""

    def __init__(self) -> None:
        self._conversations: dict[str, Conversation] = {}

    def sent(self, connection_id: str, data: bytes) -> None:
        self._take(connection_id, data, to_container=True)

    def received(self, connection_id: str, data: bytes) -> None:
        self._take(connection_id, data, to_container=False)

    def _take(self, connection_id: str, data: bytes, *, to_container: bool) -> None:
        conversation = self._conversations.setdefault(connection_id, Conversation())
        for view in conversation.feed(data, to_container=to_container):
            complain(format_event(Event(view)))


class _Run:
    """One request from the flags to the exit status."""

    def __init__(
        self, arguments: argparse.Namespace, client: Client, stack: ExitStack
    ) -> None:
        self._arguments = arguments
        self._client = client
        self._stack = stack
        self._show_bar = not (arguments.silent or arguments.verbose) and (
            sys.stderr.isatty()
            and (
                arguments.output not in (None, "-")
                or not (sys.stdout and sys.stdout.isatty())
            )
        )
        self._method = arguments.method or ""
        self._uploaded = 0
        self._downloaded = 0
        self._started = time.monotonic()

    def run(self) -> int:
        response: Response | None = None
        try:
            response = self._request()
            status = self._write(response)
        except OutputError as error:
            name = "-" if self._arguments.output is None else self._arguments.output
            problem = SettingError("--output", name, str(error))
            raise _Failure(problem, EXIT_WRITE) from error
        except ClientError as error:
            self._complain(error)
            is_partial = error.stage is Stage.RESPONSE_BODY and isinstance(
                error, ConnectionLost | BadAnswer
            )
            status = EXIT_PARTIAL if is_partial else exit_status(error)
        except SettingError:
            raise
        except ValueError as error:  # what no request may hold
            raise SettingError("request", self._arguments.url, str(error)) from error
        if self._arguments.write_out is not None:
            self._write_out(response)
        return status

    def _complain(self, error: Exception) -> None:
        if not self._arguments.silent or self._arguments.show_error:
            complain(f"paste-ajp: {error}")

    # -- the request

    def _request(self) -> Response:
        arguments = self._arguments
        target = self._client.address.target or "/"
        path, _, query = target.partition("?")
        body, kind = self._body()
        if body is not None and arguments.get:
            data = quote_from_bytes(body, safe=_QUERY_SAFE)
            query = "&".join(part for part in (query, data) if part)
            body = None
        form = self._form()
        source: Iterator[bytes] | None = None
        length: int | None = None
        if body is not None:
            source, length = self._counted([body], len(body)), len(body)
        elif form is not None:
            kind, length = form.content_type, form.length
            source = self._counted(form.pieces(), length)
        else:
            kind = ""
        self._method = arguments.method or self._usual_method(source is not None)
        headers = self._headers(kind)
        if arguments.upload_file is not None:
            file, length = self._open_upload(arguments.upload_file)
            source = self._counted(_pieces(file), length)
        if source is not None:
            if arguments.chunked or length is None:
                headers.append(("transfer-encoding", "chunked"))
            else:
                headers.append(("content-length", str(length)))
        return self._client.request(
            self._method,
            path,
            query=query if query or "?" in target else None,
            headers=headers,
            body=source,
            attributes=self._attributes(),
            is_ssl=arguments.ssl,
            server_name=arguments.server_name,
            server_port=arguments.server_port,
            remote_addr=arguments.remote_addr,
            protocol="HTTP/1.0" if arguments.http10 else "HTTP/1.1",
            max_time=arguments.max_time or None,
        )

    def _usual_method(self, has_body: bool) -> str:
        if self._arguments.head:
            return "HEAD"
        if self._arguments.upload_file is not None:
            return "PUT"
        return "POST" if has_body else "GET"

    def _form(self) -> Form | None:
        """Make the body of -F."""
        arguments = self._arguments
        if not arguments.form:
            return None
        for flag, other in (
            ("--data", arguments.data),
            ("--upload-file", arguments.upload_file),
            ("--get", arguments.get),
        ):
            if other:
                first: _Given = arguments.form[0]
                raise SettingError(first.flag, first.text, f"{flag} is there too")
        read_stdin = functools.cache(lambda: stdin().read())
        fields = []
        for kind, text, flag in arguments.form:
            try:
                field = parse_field(text, read_stdin, is_plain=kind == "string")
            except FormError as error:
                raise SettingError(flag, text, str(error)) from error
            except OSError as error:  # of stdin: files are opened later
                problem = SettingError(flag, text, error.strerror or "?")
                raise _Failure(problem, EXIT_READ) from error
            fields.append(field)
        try:
            form = Form(fields)
        except OSError as error:
            problem = SettingError("--form", str(error.filename), error.strerror or "?")
            raise _Failure(problem, EXIT_READ) from error
        self._stack.callback(form.close)
        return form

    def _body(self) -> tuple[bytes | None, str]:
        """Join all data, as curl does; with the Content-Type that goes with it."""
        if not self._arguments.data:
            return None, ""
        if self._arguments.upload_file is not None:
            raise SettingError(
                "--upload-file", self._arguments.upload_file, "--data is there too"
            )
        parts = [read_data(*given) for given in self._arguments.data]
        return b"&".join(parts), "application/x-www-form-urlencoded"

    def _headers(self, content_type: str) -> list[tuple[str, str]]:
        arguments = self._arguments
        own = {
            "user-agent": SERVER_SOFTWARE
            if arguments.user_agent is None
            else arguments.user_agent,
            "accept": "*/*",
            "content-type": content_type,
            "cookie": arguments.cookie,
            "referer": arguments.referer,
        }
        if arguments.user is not None:
            credentials = base64.b64encode(arguments.user.encode()).decode("ascii")
            own["authorization"] = f"Basic {credentials}"
        given = []
        for line in _header_lines(arguments.headers):
            name, colon, value = line.partition(":")
            if not colon and not name.endswith(";"):
                raise SettingError("--header", line, "expected NAME: VALUE")
            name = name.strip().rstrip(";")
            own.pop(name.lower(), None)
            if value.strip() or not colon:
                given.append((name, value.strip()))
        return [(name, value) for name, value in own.items() if value] + given

    def _attributes(self) -> dict[str, str | int]:
        found: dict[str, str | int] = {}
        if self._arguments.remote_user is not None:
            found["remote_user"] = self._arguments.remote_user
        for text in self._arguments.attributes:
            name, equals, value = text.partition("=")
            if not (name and equals):
                raise SettingError("--attribute", text, "expected NAME=VALUE")
            if name == "ssl_key_size" and not value.isdigit():
                raise SettingError("--attribute", text, "expected a number of bits")
            found[name] = value
        return found

    def _open_upload(self, name: str) -> tuple[BinaryIO, int | None]:
        try:
            if name in ("-", "."):
                return stdin(), None
            file, size = open_input(Path(name))
            self._stack.callback(file.close)
            return file, size
        except OSError as error:
            problem = SettingError("--upload-file", name, error.strerror or "?")
            raise _Failure(problem, EXIT_READ) from error

    def _counted(self, pieces: Iterable[bytes], total: int | None) -> Iterator[bytes]:
        """Pass a body on, and show how much of it has gone."""
        bar = Progress("up  ", total, enabled=self._show_bar)
        try:
            for piece in pieces:
                for start in range(0, len(piece), _PIECE):
                    part = piece[start : start + _PIECE]
                    self._uploaded += len(part)
                    bar.add(len(part))
                    yield part
        finally:
            bar.finish()

    # -- the response

    def _write(self, response: Response) -> int:
        arguments = self._arguments
        is_failure = response.status >= 400
        with response, ExitStack() as stack:
            shows_heading = arguments.include or arguments.head
            if arguments.fail and is_failure:
                # A FILE that is there keeps what it has.
                if shows_heading and arguments.output in (None, "-"):
                    stack.enter_context(Output(None)).write(heading(response))
                self._complain(
                    ValueError(f"the server answered with {response.status}")
                )
                return EXIT_HTTP_ERROR
            output = stack.enter_context(Output(arguments.output))
            if shows_heading:
                output.write(heading(response), flush=True)
            bar = Progress("down", response.content_length, enabled=self._show_bar)
            stack.callback(bar.finish)
            for piece in response.chunks(flushes=True):
                self._downloaded += len(piece)
                bar.add(len(piece))
                output.write(piece, flush=not piece)
        return 0

    def _write_out(self, response: Response | None) -> None:
        try:
            say(self._written_out(response))
            flush_stdout()
        except OutputError as error:
            form = self._arguments.write_out
            raise _Failure(
                SettingError("--write-out", form, str(error)), EXIT_WRITE
            ) from error

    def _written_out(self, response: Response | None) -> str:
        facts = {
            "http_code": f"{response.status if response else 0:03}",
            "response_code": f"{response.status if response else 0:03}",
            "content_type": (response and response.header("content-type")) or "",
            "method": self._method,
            "size_download": str(self._downloaded),
            "size_upload": str(self._uploaded),
            "time_total": f"{time.monotonic() - self._started:.6f}",
        }
        text = self._arguments.write_out
        for name, value in facts.items():
            text = text.replace(f"%{{{name}}}", value)
        return str(text).replace("\\n", "\n").replace("\\t", "\t").replace("%%", "%")


def heading(response: Response) -> bytes:
    """Write status and headers as HTTP/1.1 would."""
    lines = [f"HTTP/1.1 {response.status} {response.reason}".rstrip()]
    lines += [f"{name}: {value}" for name, value in response.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_data(kind: str, text: str, flag: str) -> bytes:
    """Turn one data flag into bytes, as curl does."""
    if kind == "encode":
        return _encoded(text, flag)
    if kind == "raw" or not text.startswith("@"):
        return os.fsencode(text)
    data = _read_file(text[1:], flag)
    return data.replace(b"\r", b"").replace(b"\n", b"") if kind == "text" else data


def _encoded(text: str, flag: str) -> bytes:
    """``content``, ``=content``, ``name=content``, ``@file`` and ``name@file``."""
    place = min((at for at in (text.find("="), text.find("@")) if at >= 0), default=-1)
    if place < 0:
        return quote_plus(text).encode()
    name, rest = text[:place], text[place + 1 :]
    content = _read_file(rest, flag) if text[place] == "@" else os.fsencode(rest)
    encoded = quote_plus(content)
    return (f"{name}={encoded}" if name else encoded).encode()


def _header_lines(given: Sequence[str]) -> Iterator[str]:
    for text in given:
        if text.startswith("@"):
            content = _read_file(text[1:], "--header")
            lines = content.decode("utf-8", "replace").splitlines()
            yield from (line for line in lines if line.strip())
        else:
            yield text


def _read_file(name: str, flag: str) -> bytes:
    try:
        return read_input(name)
    except OSError as error:
        problem = SettingError(flag, f"@{name}", error.strerror or "?")
        raise _Failure(problem, EXIT_READ) from error


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    """Read what is there, without waiting for more than that."""
    read = getattr(file, "read1", file.read)
    while piece := read(_PIECE):
        yield piece
