"""Every check of the AJP notes 9.4, byte by byte, on a live server.

A refused request gets one complete answer and End Response(0), the application is
not called, what the front end owes is drained before the socket closes, and others
are served meanwhile. A stream that cannot be trusted is closed without a word.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest

from tests.engine.conftest import hello
from tests.engine.front_end import DEADLINE

REASONS = {
    400: "Bad Request",
    403: "Forbidden",
    413: HTTPStatus(413).phrase,  # Python 3.13 has the newer one
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}
SECRET = {"secret": "s3cret"}
STRICT = {"strict": True}


# -- bytes by hand -------------------------------------------------------------------


def number(value):
    return value.to_bytes(2, "big")


def text(data):
    return number(len(data)) + data + b"\0"


NULL = b"\xff\xff"
HOST = b"\xa0\x0b" + text(b"www.example.com")
PORT = b"\x0a" + text(b"AJP_REMOTE_PORT") + text(b"50112")


def length(value):
    return b"\xa0\x08" + text(value)


def literal(name, value):
    return text(name) + text(value)


def packet(payload):
    return b"\x12\x34" + number(len(payload)) + payload


VERSION = text(b"HTTP/1.1")
PAGE = text(b"/page")
REMOTE = text(b"192.0.2.7")
NAME = text(b"www.example.com")


def request(
    method=b"\x02",
    protocol=VERSION,
    uri=PAGE,
    addr=REMOTE,
    name=NAME,
    headers=(HOST,),
    count=None,
    attributes=b"",
    end=b"\xff",
):
    return packet(
        b"\x02"
        + method
        + protocol
        + uri
        + addr
        + NULL
        + name
        + number(80)
        + b"\0"
        + number(len(headers) if count is None else count)
        + b"".join(headers)
        + PORT
        + attributes
        + end
    )


def answer(status, with_body=True):
    """The bytes of a refusal: Send Headers, Send Body Chunk, End Response(0)."""
    title = f"{status} {REASONS[status]}"
    page = (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1>\n</body></html>\n"
    ).encode()
    head = (
        b"\x04"
        + number(status)
        + text(REASONS[status].encode())
        + number(2)
        + b"\xa0\x01"
        + text(b"text/html; charset=utf-8")
        + b"\xa0\x03"
        + text(str(len(page)).encode())
    )
    body = b"\x03" + text(page)
    packets = [head, body] if with_body else [head]
    return (
        b"".join(b"AB" + number(len(one)) + one for one in packets)
        + b"AB\x00\x02\x05\x00"
    )


# -- the tables ----------------------------------------------------------------------


@dataclass
class Case:
    """What is sent, and the status of the answer; 0 for a silent close."""

    name: str
    sent: bytes
    status: int
    settings: dict[str, object] = field(default_factory=dict)
    #: What the front end owes, sent once the answer is there.
    owed: bytes = b""


#: A body chunk that would read as a request, to show that it is dropped.
CHUNK = packet(text(b"\x02\x02 not a request")[:-1])
LARGEST_CHUNK = packet(number(65533) + bytes(65533))

FRAMING = [
    Case("magic of HTTP", b"GET / HTTP/1.1\r\n\r\n", 0),
    Case("second byte of the magic", b"\x12\x35\x00\x01\x0a", 0),
    Case("magic of a container", b"AB\x00\x02\x05\x01", 0),
    Case("Shutdown", b"\x12\x34\x00\x01\x07", 0),
    Case("Ping", b"\x12\x34\x00\x01\x08", 0),
    Case("a container's message", packet(b"\x05\x01"), 0),
    Case("extension of the protocol", packet(b"\x10"), 0),
    Case("CPing with more in it", packet(b"\x0a\x00"), 0),
    Case("body chunk that nobody asked for", CHUNK, 0),
    Case("empty chunks without end", b"\x12\x34\x00\x00" * 5, 0),
]

OVERLONG = [
    Case(
        "Forward Request over the receive limit",
        request(attributes=b"\x05" + text(b"q" * 9000)),
        400,
        {"receive_limit": "8192"},
    ),
    Case(
        "Forward Request over the largest packet",
        packet(request(attributes=b"\x05" + text(b"q" * 65000))[4:].ljust(65535)),
        400,
    ),
]

STRUCTURE = [
    Case("empty message", packet(b"\x02"), 400),
    Case("string past the payload", packet(b"\x02\x02\x00\x09HTTP/1.1\x00"), 400),
    Case("length past the payload", packet(b"\x02\x02\x00"), 400),
    Case("NUL missing", request(protocol=b"\x00\x08HTTP/1.1x"), 400),
    Case("NUL inside", request(addr=text(b"192.0\x002.7")), 400),
    Case("too few headers", request(count=2), 400),
    Case("no end of attributes", request(end=b""), 400),
    Case("bytes after the end", request(end=b"\xff\x00"), 400),
    Case("attribute without code", request(attributes=b"\x00"), 400),
    Case("attribute of code 14", request(attributes=b"\x0e" + text(b"x")), 400),
    Case(
        "attribute twice",
        request(attributes=b"\x05" + text(b"a=1") + b"\x05" + text(b"a=2")),
        400,
    ),
    Case(
        "request attribute without name",
        request(attributes=b"\x0a" + text(b"") + text(b"x")),
        400,
    ),
    Case(
        "request attribute with a null name",
        request(attributes=b"\x0a" + NULL + text(b"x")),
        400,
    ),
]

METHOD = [
    Case("method 0", request(method=b"\x00"), 400),
    Case("method 28", request(method=b"\x1c"), 400),
    Case("method 254", request(method=b"\xfe"), 400),
    Case("no stored method", request(method=b"\xff"), 400),
    Case(
        "stored method of two words",
        request(method=b"\xff", attributes=b"\x0d" + text(b"GET /")),
        400,
    ),
    Case("null stored method", request(method=b"\xff", attributes=b"\x0d" + NULL), 400),
    Case(
        "two stored methods",
        request(method=b"\xff", attributes=(b"\x0d" + text(b"PATCH")) * 2),
        400,
    ),
    Case("no HTTP", request(protocol=text(b"GOPHER/1")), 400),
    Case("version of two digits", request(protocol=text(b"HTTP/1.11")), 400),
    Case("null protocol", request(protocol=NULL), 400),
]

URI = [
    Case("null URI", request(uri=NULL), 400),
    Case("empty URI", request(uri=text(b"")), 400),
    Case("relative URI", request(uri=text(b"page")), 400),
    Case("* of another method", request(uri=text(b"*")), 400),
    Case("URI of another scheme", request(uri=text(b"ftp://host/")), 400),
    Case("line feed in the URI", request(uri=text(b"/a\nb")), 400),
    Case("control character in the URI", request(uri=text(b"/a\x1fb")), 400),
    Case("DEL in the URI", request(uri=text(b"/a\x7fb")), 400),
    Case("NUL in the URI", request(uri=text(b"/a\x00b")), 400),
    Case("escape cut short", request(uri=text(b"/a%4")), 400),
    Case("escape that is none", request(uri=text(b"/a%zz")), 400),
    Case("NUL once decoded", request(uri=text(b"/a%00b")), 400),
    Case(
        "NUL once decoded, for an application that decodes",
        request(uri=text(b"/a%00b")),
        400,
        {"unquote_path": False},
    ),
    Case("dot segment", request(uri=text(b"/a/../b")), 400, STRICT),
    Case("dot segment once decoded", request(uri=text(b"/a/%2e%2E/b")), 400, STRICT),
    Case("dot segment with parameters", request(uri=text(b"/a/..;x=1/b")), 400, STRICT),
    Case("dots at the end", request(uri=text(b"/a/..")), 400, STRICT),
    Case("backslash", request(uri=text(b"/a\\b")), 400, STRICT),
    Case("backslash once decoded", request(uri=text(b"/a%5Cb")), 400, STRICT),
    Case(
        "control character in the query",
        request(attributes=b"\x05" + text(b"a=\r\nb")),
        400,
    ),
]

HEADERS = [
    Case("header code 0", request(headers=[b"\xa0\x00" + text(b"x")]), 400),
    Case("header code 15", request(headers=[b"\xa0\x0f" + text(b"x")]), 400),
    Case("empty header name", request(headers=[literal(b"", b"x")]), 400),
    Case("null header name", request(headers=[NULL + text(b"x")]), 400),
    Case("blank in a header name", request(headers=[literal(b"X Y", b"x")]), 400),
    Case("colon in a header name", request(headers=[literal(b"X:Y", b"x")]), 400),
    Case("header name beyond ASCII", request(headers=[literal(b"X\xe9", b"x")]), 400),
    Case("CR in a value", request(headers=[literal(b"X", b"a\rb")]), 400),
    Case("LF in a value", request(headers=[literal(b"X", b"a\nb")]), 400),
    Case("NUL in a value", request(headers=[literal(b"X", b"a\0b")]), 400),
    Case("LF in a coded value", request(headers=[b"\xa0\x09" + text(b"a\nb")]), 400),
    Case("two hosts", request(headers=[HOST, literal(b"host", b"other")]), 400),
    Case("list of hosts", request(headers=[b"\xa0\x0b" + text(b"a, b")]), 400),
    Case("201 headers", request(headers=[literal(b"X", b"x")] * 201), 431),
    Case(
        "more headers than max_request_headers",
        request(headers=[HOST] + [literal(b"X", b"x")] * 5),
        431,
        {"max_request_headers": 5},
    ),
    Case(
        "more bytes than max_header_bytes",
        request(headers=[HOST, literal(b"X", b"x" * 1000)]),
        431,
        {"max_header_bytes": 1000},
    ),
]

LENGTHS = [
    Case(
        f"Content-Length {value!r}",
        request(method=b"\x04", headers=[length(value)]),
        400,
    )
    for value in (
        b"",
        b"+3",
        b"-1",
        b"3, 3",
        b"3,3",
        b"1.0",
        b"0x3",
        b"3 ",
        b"\xb3",
        b"9223372036854775808",
        b"9" * 20,
    )
]
SMUGGLING = [
    *LENGTHS,
    Case("two lengths", request(headers=[length(b"3"), length(b"3")]), 400),
    Case(
        "two lengths, one in letters",
        request(headers=[length(b"3"), literal(b"CONTENT-length", b"4")]),
        400,
    ),
    Case(
        "length beside chunked",
        request(headers=[literal(b"Transfer-Encoding", b"chunked"), length(b"3")]),
        400,
        owed=CHUNK,
    ),
    *(
        Case(
            f"Transfer-Encoding {value.decode()}",
            request(method=b"\x04", headers=[literal(b"Transfer-Encoding", value)]),
            501,
        )
        for value in (b"gzip", b"gzip, chunked", b"chunked, chunked", b"identity", b"")
    ),
    Case(
        "Transfer-Encoding twice",
        request(headers=[literal(b"Transfer-Encoding", b"chunked")] * 2),
        501,
    ),
    Case(
        "body over max_request_body",
        request(method=b"\x04", headers=[HOST, length(b"1001")]),
        413,
        {"max_request_body": 1000},
        owed=CHUNK,
    ),
]

TRUST = [
    Case("no secret", request(), 403, SECRET),
    Case("wrong secret", request(attributes=b"\x0c" + text(b"S3cret")), 403, SECRET),
    Case("half the secret", request(attributes=b"\x0c" + text(b"s3c")), 403, SECRET),
    Case("empty secret", request(attributes=b"\x0c" + text(b"")), 403, SECRET),
    Case("null secret", request(attributes=b"\x0c" + NULL), 403, SECRET),
    Case(
        "secret in a request attribute",
        request(attributes=b"\x0a" + text(b"secret") + text(b"s3cret")),
        403,
        SECRET,
    ),
    Case(
        "no secret, and a body on its way",
        request(method=b"\x04", headers=[HOST, length(b"17")]),
        403,
        SECRET,
        owed=CHUNK,
    ),
    Case(
        "no secret, and the largest chunk on its way",
        request(method=b"\x04", headers=[HOST, length(b"65533")]),
        403,
        SECRET,
        owed=LARGEST_CHUNK,
    ),
    Case(
        "unknown request attribute",
        request(attributes=b"\x0a" + text(b"javax.servlet.include.path") + text(b"x")),
        403,
        STRICT,
    ),
    Case(
        "malformed, and a body on its way",
        request(method=b"\x04", uri=text(b"page"), headers=[length(b"17")]),
        400,
        owed=CHUNK,
    ),
]

CASES = [
    *FRAMING,
    *OVERLONG,
    *STRUCTURE,
    *METHOD,
    *URI,
    *HEADERS,
    *SMUGGLING,
    *TRUST,
]


class Counted:
    """An application that nobody may reach."""

    def __init__(self):
        self.calls = []

    def __call__(self, environ, start_response):
        self.calls.append(environ["PATH_INFO"])
        return hello(environ, start_response)


def connect(site):
    host, _, port = site.address.rpartition(":")
    return socket.create_connection((host, int(port)), DEADLINE)


def read_to_the_end(sock):
    """All that comes until the server has ended its side."""
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


def secret_of(case):
    if "secret" in case.settings:
        return {"attributes": {"secret": case.settings["secret"]}}
    return {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_violation_gets_the_answer_that_the_table_names(serve, case):
    application = Counted()
    site = serve(application, check=False, **case.settings)
    with site.connect() as bystander, connect(site) as sock:
        bystander.ask(**secret_of(case))
        application.calls.clear()
        sock.sendall(case.sent)
        if case.status:
            assert read_to_the_end(sock) == answer(case.status)
            # The answer is here; what is owed is drained, and no reset comes.
            for part in (case.owed[:5], case.owed[5:]):
                sock.sendall(part)
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        else:
            with suppress(ConnectionResetError):  # with bytes that nobody read
                assert read_to_the_end(sock) == b""
        assert application.calls == []
        # Whoever was there before is served as ever.
        assert bystander.ask(**secret_of(case)).body == b"hello"


@pytest.mark.parametrize("piece", [1, 7], ids=["bytes", "sevens"])
def test_violation_in_pieces_gets_the_same_answer(serve, piece):
    cases = [case for case in CASES if not case.settings and len(case.sent) < 400]
    site = serve(hello)
    for case in cases[::4]:
        with connect(site) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for place in range(0, len(case.sent), piece):
                    sock.sendall(case.sent[place : place + piece])
                found = read_to_the_end(sock)
            except (ConnectionResetError, BrokenPipeError):
                found = b""  # closed at the first wrong byte
            assert found == (answer(case.status) if case.status else b""), case.name


@pytest.mark.parametrize(
    "case",
    [
        Case("malformed", request(method=b"\x03", uri=text(b"page")), 400),
        Case("no secret", request(method=b"\x03"), 403, SECRET),
        Case("unknown attribute", request(method=b"\x03", uri=text(b"/%")), 400),
        Case(
            "overlong",
            request(method=b"\x03", attributes=b"\x05" + text(b"q" * 9000)),
            400,
            {"receive_limit": 8192},
        ),
    ],
    ids=lambda case: case.name,
)
def test_answer_to_head_has_no_body(serve, case):
    site = serve(hello, check=False, **case.settings)
    with connect(site) as sock:
        sock.sendall(case.sent)
        assert read_to_the_end(sock) == answer(case.status, with_body=False)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request(protocol=text(b"HTTP/0.9")), id="HTTP/0.9"),
        pytest.param(request(protocol=text(b"HTTP/2.0")), id="HTTP/2.0"),
        pytest.param(request(protocol=text(b"HTTP/2")), id="HTTP/2"),
        pytest.param(request(uri=text(b"http://other/page")), id="absolute URI"),
        pytest.param(request(uri=text(b"HTTPS://other")), id="absolute without path"),
        pytest.param(request(method=b"\x01", uri=text(b"*")), id="OPTIONS *"),
        pytest.param(request(uri=text(b"/a/../b\\c")), id="dots, not strict"),
        pytest.param(request(name=NULL), id="null server name"),
        pytest.param(request(headers=[b"\xa0\x01" + NULL]), id="null header value"),
        pytest.param(request(headers=[literal(b"X", b"a\tb\xe9")]), id="tab, Latin-1"),
        pytest.param(request(headers=[literal(b"Content_Length", b"9")]), id="_"),
        pytest.param(
            request(headers=[literal(b"transfer-encoding", b"Chunked")]), id="Chunked"
        ),
        pytest.param(request(headers=[length(b"0")]), id="empty body"),
        pytest.param(request(attributes=b"\x0c" + text(b"any")), id="needless secret"),
        pytest.param(
            request(attributes=b"\x0a" + text(b"unknown") + text(b"x")), id="attribute"
        ),
        pytest.param(request(headers=[literal(b"X", b"x")] * 200), id="200 headers"),
        pytest.param(b"\x12\x34\x00\x00" * 4 + request(), id="stray empty chunks"),
    ],
)
def test_what_is_merely_odd_is_served(serve, sent):
    application = Counted()
    site = serve(application, check=False)
    with connect(site) as sock:
        for count in (1, 2):
            sock.sendall(sent)
            head = sock.recv(65536)
            while not head.endswith(b"AB\x00\x02\x05\x01"):
                more = sock.recv(65536)
                assert more, head
                head += more
            assert head[4:7] == b"\x04\x00\xc8"
            assert len(application.calls) == count


# -- a body that breaks the rules ----------------------------------------------------


def reader(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % len(body)]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(packet(b"\x00\x09hello"), 0, id="inner length"),
        pytest.param(packet(b"\x00"), 0, id="half a length"),
        pytest.param(packet(b"\x00\x12" + bytes(18)), 400, id="more than declared"),
        pytest.param(b"GET / HTTP/1.1\r\n", 0, id="no packet"),
        pytest.param(packet(b"\x00\x00"), 400, id="end instead of the first chunk"),
        pytest.param(packet(b""), 400, id="end as mod_jk writes it"),
    ],
)
def test_broken_body_is_never_a_request_or_a_short_success(serve, sent, status):
    site = serve(reader, check=False)
    with connect(site) as sock, site.connect() as bystander:
        sock.sendall(request(method=b"\x04", headers=[HOST, length(b"17")]))
        sock.sendall(sent)
        try:
            found = read_to_the_end(sock)
        except ConnectionResetError:
            found = b""
        if found.startswith(b"AB\x00\x03\x06"):  # Get Body Chunk
            found = found[7:]
        assert found == (answer(status) if status else b"")
        assert bystander.ask(body=b"x" * 20000).body == b"20000"


def test_body_that_ends_before_its_length_is_refused(serve):
    site = serve(reader, check=False)
    with connect(site) as sock:
        sock.sendall(
            request(method=b"\x04", headers=[HOST, length(b"17")])
            + packet(b"\x00\x05hello")
        )
        assert sock.recv(7, socket.MSG_WAITALL) == b"AB\x00\x03\x06\x00\x0c"
        sock.sendall(packet(b"\x00\x00"))
        assert read_to_the_end(sock) == answer(400)


def test_chunk_beyond_the_length_is_not_the_next_request(serve):
    """CVE-2011-3190: what looks like a request is a chunk that nobody asked for."""
    application = Counted()
    site = serve(application, check=False)
    with connect(site) as sock:
        sock.sendall(
            request(method=b"\x04", headers=[HOST, length(b"5")])
            + packet(b"\x00\x05hello")
            + packet(b"\x00\x40" + bytes(64))
            + request(uri=text(b"/forged"))
        )
        try:
            found = read_to_the_end(sock)
        except ConnectionResetError:
            found = b""
        assert found.count(b"AB\x00\x02\x05") <= 1
    assert application.calls == ["/page"]


def test_unread_chunk_is_not_the_next_request(serve):
    application = Counted()
    site = serve(application, check=False)
    with connect(site) as sock:
        body = request(uri=text(b"/forged"))[4:]  # begins with 02, as a request does
        sock.sendall(request(method=b"\x04", headers=[length(b"%d" % (len(body) - 2))]))
        found = b""
        while not found.endswith(b"AB\x00\x02\x05\x01"):
            found += sock.recv(65536)
        sock.sendall(packet(body) + request(uri=text(b"/next")))
        found = b""
        while not found.endswith(b"AB\x00\x02\x05\x01"):
            found += sock.recv(65536)
    assert application.calls == ["/page", "/next"]


@pytest.mark.parametrize("size", [1001, 30_000])
def test_body_of_unknown_length_over_the_limit_is_cut_off_with_413(serve, size):
    site = serve(reader, check=False, max_request_body=1000)
    with site.connect() as front_end:
        found = front_end.ask(
            "PUT",
            headers=[("Transfer-Encoding", "chunked")],
            chunked=True,
            body=bytes(size),
            chunk=400,
        )
        assert (found.status, found.reuse) == (413, False)
        assert front_end.is_closed()
    assert site.ask("PUT", body=bytes(1000)).body == b"1000"
