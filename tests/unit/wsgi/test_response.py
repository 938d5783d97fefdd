import sys

import pytest

from paste_ajp.protocol import (
    HeaderRefused,
    HeadersTooLarge,
    SendBodyChunk,
    SendHeaders,
)
from paste_ajp.wsgi import response as module
from paste_ajp.wsgi.exchange import FrontEndGone
from paste_ajp.wsgi.file_wrapper import FileWrapper
from paste_ajp.wsgi.response import (
    LEARNT,
    LEARNT_LENGTH,
    ONE_JOIN,
    ApplicationError,
    HttpDate,
    Response,
    error_page,
    parse_status,
    standard_reason,
)
from tests.unit.wsgi.fake_exchange import FakeExchange, forward

TEXT = ("Content-Type", "text/plain")


def response_to(method="GET", *, body=(), packet_size=8192, strict=False, **keywords):
    exchange = FakeExchange(forward(method), body=body, **keywords)
    is_head = exchange.request.method == "HEAD"
    return exchange, Response(exchange, packet_size, strict, is_head)


def sent_for(result, status="200 OK", headers=(TEXT,), **keywords):
    """What a front end sees of a result."""
    exchange, response = response_to(**keywords)
    response.start_response(status, list(headers))
    response.send_result(result)
    assert exchange.finished == 1
    return exchange.response


def length(number):
    return "Content-Length", str(number)


class Pieces:
    """An iterable that is neither list nor generator; it notes what was asked."""

    def __init__(self, *pieces, on_next=lambda: None):
        self.asked = 0
        self._pieces = list(pieces)
        self._on_next = on_next

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        self._on_next()
        if not self._pieces:
            raise StopIteration
        piece = self._pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece


class Sized(Pieces):
    def __len__(self):
        return len(self._pieces)


# -- status and headers ----------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "parsed"),
    [
        ("200 OK", (200, "OK")),
        ("200 Alles gut", (200, "Alles gut")),
        ("404 ", (404, "Not Found")),
        ("404", (404, "Not Found")),
        ("299 ", (299, "Unknown")),
        ("999 \xfcber", (999, "\xfcber")),
        ("200  OK ", (200, "OK")),
    ],
)
def test_status_is_code_and_reason_which_is_never_empty(status, parsed):
    assert parse_status(status) == parsed


@pytest.mark.parametrize(
    "status",
    [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "100 Continue",
        "101 Switching Protocols",
        "103 Early Hints",
        "000 Zero",
        "200OK",
        "200 O\r\nK",
        "200 O\nK",
        "200 OK\n",
        "200 \N{EURO SIGN}",
        "\N{ARABIC-INDIC DIGIT TWO}00 OK",
        " 200 OK",
        b"200 OK",
        200,
        None,
    ],
)
def test_status_that_no_front_end_could_relay_is_refused(status):
    _, response = response_to()
    with pytest.raises(ApplicationError, match="status"):
        response.start_response(status, [])


def test_what_an_application_invents_does_not_fill_the_memory():
    for number in range(LEARNT + 10):
        status = f"200 Number {number}"
        seen = sent_for([b"x"], status, [TEXT, (f"X-{number}", "1"), ("X", status)])
        assert seen.reason == f"Number {number}"
        assert seen.header(f"X-{number}") == "1"
        assert seen.header("X") == status
    assert parse_status("200 Rather long ago") == (200, "Rather long ago")
    assert len(module._statuses) <= LEARNT
    assert len(module._headers) <= LEARNT


def test_long_values_are_not_kept():
    value = "v" * (LEARNT_LENGTH + 1)
    assert sent_for([b"x"], headers=[TEXT, ("X", value)]).header("X") == value
    assert ("X", value) not in module._headers


def test_headers_in_lists_are_taken():
    seen = sent_for([b"x"], headers=[list(TEXT), ["X", "1"]])
    assert seen.header("X") == "1"


def test_headers_arrive_as_they_were_given_coded_ones_first():
    headers = [
        ("X-One", "1"),
        ("Set-Cookie", "a=1"),
        ("X-Two", "caf\xe9"),
        ("Set-Cookie", "b=2"),
        ("content-type", "text/html"),
        ("X-Empty", ""),
    ]
    assert sent_for([b"x"], headers=headers).headers == [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Type", "text/html"),
        ("Content-Length", "1"),
        ("X-One", "1"),
        ("X-Two", "caf\xe9"),
        ("X-Empty", ""),
    ]


def test_date_is_added_where_no_header_has_a_code():
    seen = sent_for(Pieces(b"x"), headers=[("ETag", '"1"')])
    assert [name for name, _ in seen.headers] == ["Date", "ETag"]


def test_date_is_made_once_a_second():
    moments = [784111777.0, 784111777.9, 784111778.0]
    date = HttpDate(lambda: moments.pop(0))
    assert [date(), date(), date()] == [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:38 GMT",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "Connection",
        "keep-alive",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "UPGRADE",
        "Status",
    ],
)
def test_header_that_is_not_for_applications_is_dropped_and_logged_once(name, caplog):
    module._warned.discard(name)
    for _ in range(2):
        assert sent_for([b"x"], headers=[TEXT, (name, "x")]).header(name) is None
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().startswith(f"response header {name} dropped")


def test_header_that_is_not_for_applications_is_an_error_in_strict_mode():
    _, response = response_to(strict=True)
    with pytest.raises(HeaderRefused, match="only the server may send it"):
        response.start_response("200 OK", [("Connection", "close")])


@pytest.mark.parametrize(
    "header",
    [
        ("X Y", "1"),
        ("X:", "1"),
        ("", "1"),
        ("X", "a\r\nSet-Cookie: b=1"),
        ("X", "a\nb"),
        ("X", "a\0b"),
        ("X", "\N{EURO SIGN}"),
        ("X", 5),
        ("X", None),
        ("X", b"bytes"),
        (b"X", "1"),
        (None, "1"),
        ("Content-Length", "-1"),
        ("Content-Length", "+1"),
        ("Content-Length", "1, 1"),
        ("Content-Length", ""),
        ("Content-Length", "\N{SUPERSCRIPT TWO}"),
        ("Content-Length", 5),
    ],
)
def test_broken_header_is_refused_while_the_application_runs(header):
    _, response = response_to()
    with pytest.raises((ApplicationError, HeaderRefused)):
        response.start_response("200 OK", [TEXT, header])
    assert response.status == 0


@pytest.mark.parametrize(
    "header", ["X", ("X",), ("X", "1", "2"), ["X"], (), 5, None, {"X": "1"}]
)
def test_header_that_is_no_pair_is_shown(header):
    _, response = response_to()
    with pytest.raises(ApplicationError) as caught:
        response.start_response("200 OK", [TEXT, header])
    assert str(caught.value) == f"header {header!r}: expected a tuple of name and value"


class Odd(str):
    """A str that says it is shorter than it is, and another one in lower case."""

    __slots__ = ()

    def __len__(self):
        return 2

    def lower(self):
        return "content-length"


def test_header_is_sent_as_its_text_is_whatever_a_subclass_says():
    seen = sent_for([b"x"], headers=[(Odd("X-One"), Odd("12345"))])
    assert seen.headers == [length(1), ("X-One", "12345")]


def test_length_given_twice_is_refused():
    _, response = response_to()
    with pytest.raises(ApplicationError, match="Content-Length given twice"):
        response.start_response("200 OK", [length(1), length(1)])


def test_headers_that_fit_no_packet_are_refused_and_an_error_can_be_sent():
    exchange, response = response_to()
    response.start_response("200 OK", [("X-Big", "x" * 8192)])
    with pytest.raises(HeadersTooLarge):
        response.send_result([b"x"])
    response.send_error(500)
    assert exchange.response.status == 500


# -- start_response and write ----------------------------------------------------


def test_start_response_is_not_called_twice():
    _, response = response_to()
    response.start_response("200 OK", [])
    with pytest.raises(ApplicationError, match="called twice without exc_info"):
        response.start_response("200 OK", [])


def exc_info():
    try:
        raise KeyError("of the application")
    except KeyError:
        return sys.exc_info()


def test_nothing_is_sent_by_start_response_itself():
    exchange, response = response_to()
    response.start_response("200 OK", [TEXT])
    assert exchange.sent == []


def test_error_replaces_what_has_not_been_sent():
    exchange, response = response_to()
    response.start_response("200 OK", [("X-One", "1"), length(5)])
    response.start_response("500 Oops", [TEXT], exc_info())
    response.send_result([b"sorry!"])
    seen = exchange.response
    assert (seen.status, seen.reason, seen.body) == (500, "Oops", b"sorry!")
    assert seen.headers == [TEXT, length(6)]


@pytest.mark.parametrize("first", ["204 No Content", "304 Not Modified"])
def test_error_has_a_body_where_the_first_status_had_none(first):
    exchange, response = response_to()
    response.start_response(first, [])
    response.start_response("500 Oops", [TEXT], exc_info())
    response.send_result([b"sorry"])
    assert exchange.response.body == b"sorry"


def test_error_after_the_headers_is_raised_again():
    _, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    write(b"x")
    info = exc_info()
    with pytest.raises(KeyError, match="of the application") as caught:
        response.start_response("500 Oops", [TEXT], info)
    assert caught.value is info[1]
    assert response.status == 200


def test_empty_exc_info_does_not_replace_what_was_sent():
    _, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    write(b"x")
    with pytest.raises(ApplicationError, match="headers had been sent"):
        response.start_response("500 Oops", [TEXT], (None, None, None))


@pytest.mark.parametrize(
    "info", [True, False, (), "text", [None] * 3, (1, 2), ValueError("x"), (1, 2, 3, 4)]
)
def test_exc_info_is_looked_into_only_when_it_is_to_be_raised(info):
    exchange, response = response_to()
    response.start_response("500 Oops", [TEXT], info)
    response.send_result([])
    assert exchange.response.status == 500


def test_list_of_exc_info_is_raised_again():
    _, response = response_to()
    response.start_response("200 OK", [TEXT])(b"x")
    with pytest.raises(KeyError, match="of the application"):
        response.start_response("500 Oops", [TEXT], list(exc_info()))


def test_empty_exc_info_before_the_headers_replaces_them():
    exchange, response = response_to()
    response.start_response("200 OK", [TEXT])
    response.start_response("500 Oops", [TEXT], (None, None, None))
    response.send_result([])
    assert exchange.response.status == 500


def test_write_sends_at_once_and_flushes():
    exchange, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    write(b"one")
    kinds = [type(message) for message in exchange.messages]
    assert kinds == [SendHeaders, SendBodyChunk, SendBodyChunk]
    assert exchange.messages[2].data == b""
    write(b"two")
    response.send_result([b"three"])
    assert exchange.response.body == b"onetwothree"
    assert exchange.response.header("Content-Length") is None


def test_write_of_nothing_sends_nothing():
    exchange, response = response_to()
    response.start_response("200 OK", [TEXT])(b"")
    assert exchange.sent == []


def test_write_before_start_response_is_refused():
    _, response = response_to()
    with pytest.raises(ApplicationError, match="write called before start_response"):
        response.write(b"x")


def test_write_after_the_end_is_refused():
    _, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    response.send_result([b"x"])
    write(b"")
    with pytest.raises(ApplicationError, match="after the response was complete"):
        write(b"y")


@pytest.mark.parametrize("data", ["text", 5, None])
def test_write_takes_bytes_alone(data):
    _, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    with pytest.raises(ApplicationError, match="the body must be bytes, not"):
        write(data)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_things_like_bytes_are_taken_for_them(kind):
    exchange, response = response_to()
    write = response.start_response("200 OK", [TEXT])
    write(kind(b"one"))
    response.send_result(Pieces(kind(b"two")))
    assert exchange.response.body == b"onetwo"


# -- bodies that are there at once -----------------------------------------------

SUMS = [(1, 2), (0, 5, 0), (8184, 1), (60000, 60000), (70000, 70000), (0, 0)]
SIZES = [1, 100, 8183, 8184, 8185, ONE_JOIN, ONE_JOIN + 1, 65536, 1000000]


def pattern(size):
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [list, tuple])
def test_one_piece_gets_its_length_and_arrives_whole(size, kind):
    seen = sent_for(kind([pattern(size)]))
    assert seen.body == pattern(size)
    assert seen.header("Content-Length") == str(size)
    assert seen.reuse is True
    assert max(seen.pieces) <= 8184
    assert 0 not in seen.pieces


@pytest.mark.parametrize("size", [1, 8184, ONE_JOIN, ONE_JOIN + 1, 1000000])
def test_response_of_one_piece_leaves_in_one_send(size):
    exchange, response = response_to()
    response.start_response("200 OK", [TEXT])
    response.send_result([pattern(size)])
    assert len(exchange.sent) == 1


def test_many_small_pieces_of_a_list_share_packets():
    seen = sent_for([b"line %5d\n" % number for number in range(5000)])
    assert len(seen.body) == 55000
    assert len(seen.pieces) == 7


@pytest.mark.parametrize("sizes", SUMS)
def test_list_gets_the_sum_as_its_length(sizes):
    seen = sent_for([pattern(size) for size in sizes])
    assert seen.header("Content-Length") == str(sum(sizes))
    assert seen.body == b"".join(map(pattern, sizes))


def test_piece_of_something_that_knows_to_have_one_gets_its_length():
    assert sent_for(Sized(b"abc")).header("Content-Length") == "3"
    assert sent_for(Sized(b"abc", b"d")).header("Content-Length") is None


def test_own_length_stays():
    assert sent_for([b"abc"], headers=[length(3)]).headers == [length(3)]


def test_nothing_at_all_has_length_0():
    for result in ([], [b""], (), iter(()), Pieces(b"", b"")):
        seen = sent_for(result)
        assert (seen.body, seen.header("Content-Length")) == (b"", "0")


def test_bytes_like_piece_in_a_list_is_sent():
    assert sent_for([bytearray(b"one")]).body == b"one"
    assert sent_for((memoryview(b"one"),)).body == b"one"
    assert sent_for([b"one", memoryview(b"two")]).body == b"onetwo"


@pytest.mark.parametrize("packet_size", [8192, 65536])
@pytest.mark.parametrize("result", [list, Pieces], ids=["list", "pieces"])
def test_no_packet_is_larger_than_the_front_end_takes(packet_size, result):
    data = pattern(200000)
    body = [data] if result is list else Pieces(data)
    seen = sent_for(body, packet_size=packet_size)
    assert seen.body == data
    assert max(seen.pieces) == packet_size - 8


@pytest.mark.parametrize(
    "result", ["text", [5], ["text"], [b"x", "text"], Pieces("text"), [None], 5, None]
)
def test_result_that_is_no_bytes_is_an_error_and_nothing_is_sent(result):
    exchange, response = response_to()
    response.start_response("200 OK", [TEXT])
    with pytest.raises((ApplicationError, TypeError)):
        response.send_result(result)
    assert exchange.sent == []


@pytest.mark.parametrize("result", [[], [b"x"], [b"x" * 70000], Pieces(b"x"), Pieces()])
def test_result_without_start_response_is_an_error(result):
    _, response = response_to()
    with pytest.raises(ApplicationError, match="start_response"):
        response.send_result(result)


# -- bodies that come piece by piece ---------------------------------------------


def test_each_piece_has_been_sent_and_flushed_before_the_next_is_asked_for():
    exchange, response = response_to()
    seen = []
    pieces = Pieces(
        b"one", b"", b"two", on_next=lambda: seen.append(len(exchange.sent))
    )
    response.start_response("200 OK", [TEXT])
    response.send_result(pieces)
    assert seen == [0, 1, 1, 2]
    assert exchange.response.pieces == [3, 0, 3, 0]
    assert exchange.response.header("Content-Length") is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_headers_wait_for_the_first_piece_that_is_not_empty(method):
    exchange, response = response_to(method)

    def application():
        yield b""
        assert exchange.sent == []
        response.start_response("200 OK", [TEXT], exc_info())
        yield b""
        assert exchange.sent == []
        yield b"x"

    response.start_response("500 Oops", [])
    response.send_result(application())
    assert exchange.response.status == 200


def test_start_response_may_wait_for_the_first_piece():
    exchange, response = response_to()

    def application():
        response.start_response("200 OK", [TEXT])
        yield b"x"

    response.send_result(application())
    assert exchange.response.body == b"x"


def test_response_ends_with_the_last_byte_that_was_declared():
    """What a generator does after it need not keep the remote waiting."""
    exchange, response = response_to()

    def application():
        yield b"abc"
        assert exchange.finished == 0
        yield b"def"
        assert exchange.finished == 1
        yield b""

    response.start_response("200 OK", [length(6)])
    response.send_result(application())
    assert exchange.response.body == b"abcdef"


def test_response_does_not_end_while_the_request_body_may_still_be_read():
    exchange, response = response_to(body=[b"upload"])

    def application():
        yield b"abc"
        assert exchange.finished == 0
        assert exchange.read_body() == b"upload"

    response.start_response("200 OK", [length(3)])
    response.send_result(application())
    assert exchange.response.body == b"abc"
    assert exchange.finished == 1


@pytest.mark.parametrize("unread", [[], [b"upload"]], ids=["no body", "unread body"])
@pytest.mark.parametrize(
    "pieces",
    [
        (b"abcdef",),
        (b"abc", b"def"),
        (b"ab", b"cd", b"ef"),
        (b"abcd", b""),
        (b"abcd", b"ef"),
        (b"abcd", b"", b"ef"),
        (b"abcd", b"e" * 100000),
        (b"abcde" * 30000, b"ef"),
    ],
)
@pytest.mark.parametrize("kind", [list, Pieces])
def test_no_more_is_sent_than_was_declared(unread, pieces, kind, caplog):
    result = kind(pieces) if kind is list else kind(*pieces)
    seen = sent_for(result, headers=[length(4)], body=unread)
    assert seen.body == b"abcd"
    assert seen.reuse is True
    if sum(map(len, pieces)) > 4:
        assert "longer than its Content-Length 4" in caplog.records[0].getMessage()


def test_no_further_piece_is_asked_for_when_there_was_one_too_many():
    exchange, response = response_to()
    pieces = Pieces(b"abc", b"d", b"e", b"f")
    response.start_response("200 OK", [length(3)])
    response.send_result(pieces)
    assert pieces.asked == 2
    assert exchange.finished == 1


def test_write_beyond_the_length_is_refused(caplog):
    exchange, response = response_to()
    write = response.start_response("200 OK", [length(3)])
    with pytest.raises(ApplicationError, match="beyond the Content-Length 3"):
        write(b"abcd")
    with pytest.raises(ApplicationError):
        write(b"e")
    response.send_result([b"f"])
    assert exchange.response.body == b"abc"
    assert len(caplog.records) == 2


def test_write_beyond_the_length_sends_nothing_where_nothing_is_left():
    exchange, response = response_to(body=[b"unread"])
    write = response.start_response("200 OK", [length(3)])
    write(b"abc")
    sent = len(exchange.sent)
    with pytest.raises(ApplicationError, match="beyond the Content-Length 3"):
        write(b"d")
    assert len(exchange.sent) == sent


@pytest.mark.parametrize("error", [TypeError, AttributeError, NotImplementedError])
def test_result_that_cannot_tell_its_length_is_sent(error):
    class Lazy(Pieces):
        def __len__(self):
            raise error

    seen = sent_for(Lazy(b"ab", b"c"))
    assert (seen.body, seen.reuse) == (b"abc", True)


@pytest.mark.parametrize(
    "result", [[b"abc"], [b"a", b"bc"], Pieces(b"abc"), [], Pieces()]
)
def test_body_shorter_than_declared_is_an_error(result):
    exchange, response = response_to()
    response.start_response("200 OK", [length(5)])
    with pytest.raises(ApplicationError, match=r"ended after \d bytes, its Content-Le"):
        response.send_result(result)
    assert exchange.finished == 0


def test_error_of_the_application_passes():
    _, response = response_to()
    response.start_response("200 OK", [TEXT])
    with pytest.raises(KeyError):
        response.send_result(Pieces(b"x", KeyError()))


@pytest.mark.parametrize("size", [1, ONE_JOIN + 1, 400000])
def test_front_end_that_leaves_is_reported(size):
    for gone_after in range(2):
        _, response = response_to(gone_after=gone_after)
        response.start_response("200 OK", [TEXT])
        with pytest.raises(FrontEndGone):
            response.send_result(Pieces(pattern(size), b"more"))


class Leaving(FakeExchange):
    """Its front end leaves amid a response that is finished with."""

    missing = None

    def finish_gathered(self, buffers, size):
        gone = FrontEndGone("the front end is gone: Broken pipe")
        gone.missing = self.missing
        raise gone

    def finish_batches(self, head, batches):
        self.finish_gathered([], 0)


@pytest.mark.parametrize(
    ("missing", "body_bytes"), [(None, 0), (400000, 0), (1, 399999), (0, 400000)]
)
@pytest.mark.parametrize("way", ["list", "pieces", "file"])
def test_what_did_not_reach_the_front_end_does_not_count(
    tmp_path, missing, body_bytes, way
):
    path = tmp_path / "file"
    path.write_bytes(pattern(400000))
    exchange = Leaving(forward())
    exchange.missing = missing
    response = Response(exchange, 8192)
    response.start_response("200 OK", [length(400000)])
    with path.open("rb") as file:
        results = {
            "list": [pattern(400000)],
            "pieces": Pieces(pattern(400000)),
            "file": FileWrapper(file),
        }
        with pytest.raises(FrontEndGone):
            response.send_result(results[way])
    assert response.body_bytes == body_bytes


def test_large_pieces_are_flushed_once_each():
    seen = sent_for(Pieces(pattern(100000), pattern(100000)))
    assert seen.body == pattern(100000) * 2
    assert seen.pieces.count(0) == 2


def test_large_piece_that_completes_the_length_ends_the_response():
    seen = sent_for(Pieces(pattern(100000)), headers=[length(100000)])
    assert 0 not in seen.pieces


# -- responses without a body ----------------------------------------------------

BODILESS = pytest.mark.parametrize(
    ("method", "status"),
    [
        ("HEAD", "200 OK"),
        ("GET", "204 No Content"),
        ("GET", "205 Reset Content"),
        ("GET", "304 Not Modified"),
    ],
)


@BODILESS
@pytest.mark.parametrize(
    "make",
    [
        lambda: [b"abc"],
        lambda: [b"abc", b"def"],
        lambda: [pattern(100000)],
        lambda: Pieces(b"abc", b"def"),
        lambda: Pieces(b"", b"def"),
        list,
        Pieces,
    ],
)
def test_body_is_not_sent_where_http_has_none(method, status, make):
    seen = sent_for(make(), status, method=method)
    assert (seen.body, seen.pieces, seen.reuse) == (b"", [], True)


@BODILESS
def test_written_body_is_not_sent_where_http_has_none(method, status):
    exchange, response = response_to(method)
    write = response.start_response(status, [TEXT])
    write(b"one")
    write(b"two")
    response.send_result([b"three"])
    assert exchange.response.pieces == []


@pytest.mark.parametrize(
    ("method", "status", "given", "kept"),
    [
        ("HEAD", "200 OK", True, True),
        ("HEAD", "404 Not Found", True, True),
        ("GET", "304 Not Modified", True, True),
        ("GET", "204 No Content", True, False),
        ("GET", "205 Reset Content", True, False),
        ("HEAD", "200 OK", False, False),
        ("GET", "304 Not Modified", False, False),
    ],
)
def test_length_without_a_body_stays_where_http_allows_it(method, status, given, kept):
    headers = [TEXT, length(500)] if given else [TEXT]
    seen = sent_for([], status, headers, method=method)
    assert seen.header("Content-Length") == ("500" if kept else None)


def test_head_gets_the_length_that_get_would_have():
    assert sent_for([b"abc"], method="HEAD").header("Content-Length") == "3"


def test_endless_body_is_not_read_for_head():
    pieces = Pieces(*[b"x"] * 100)
    sent_for(pieces, method="HEAD")
    assert pieces.asked == 1


# -- errors ----------------------------------------------------------------------


def test_error_page_says_the_status_and_no_more():
    exchange, response = response_to()
    response.start_response("200 OK", [("X-One", "1")])
    response.send_error(503, Retry_After="5")
    seen = exchange.response
    assert (seen.status, seen.reason) == (503, "Service Unavailable")
    assert seen.header("Retry-After") == "5"
    assert seen.header("X-One") is None
    assert seen.header("Content-Length") == str(len(seen.body))
    assert b"<h1>503 Service Unavailable</h1>" in seen.body
    assert (response.status, response.finished) == (503, True)


def test_error_page_of_head_has_no_body():
    exchange, response = response_to("HEAD")
    response.send_error(500)
    assert exchange.response.pieces == []
    assert int(exchange.response.header("Content-Length")) > 0


def test_detail_is_escaped():
    page = error_page(500, "<script>\N{EURO SIGN}\udcff")
    assert b"&lt;script&gt;\xe2\x82\xac?" in page


def test_long_detail_takes_several_packets():
    exchange, response = response_to()
    response.send_error(500, "x" * 50000)
    assert exchange.response.body.count(b"x") == 50000


def test_status_without_a_name_has_a_reason_for_all_that():
    assert standard_reason(299) == "Unknown"


def test_counts_of_a_response_are_for_the_access_log():
    _, response = response_to()
    assert (response.status, response.body_bytes) == (0, 0)
    response.start_response("200 OK", [TEXT])
    response.send_result([b"abc"])
    assert (response.status, response.body_bytes) == (200, 3)
