import pytest

from paste_ajp.client import BadAnswer, ConnectionLost, Response, Stage
from paste_ajp.protocol import EndResponse, SendBodyChunk, SendHeaders


class Exchange:
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.told = []
        self.has_ended = False

    def next_answer(self, stage):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def refuse(self, stage, problem):
        return BadAnswer(stage, "h:1", problem)

    def finish(self, *, reuse):
        self.told.append(f"finish {reuse}")

    def abort(self):
        self.told.append("abort")


def body(*pieces):
    return [*map(SendBodyChunk, pieces), EndResponse(True)]


def respond(*answers, headers=(), status=200, method="GET"):
    exchange = Exchange(*answers)
    return Response(
        SendHeaders(status, "OK", list(headers)), exchange, method
    ), exchange


def test_read_takes_all_and_finishes_the_exchange():
    response, exchange = respond(*body(b"ab", b"", b"c"))
    assert response.read() == b"abc"
    assert exchange.told == ["finish True"]
    assert response.is_complete


def test_read_of_a_size_joins_and_cuts_chunks():
    response, _ = respond(*body(b"abc", b"defg"))
    assert [response.read(5), response.read(5), response.read(5)] == [
        b"abcde",
        b"fg",
        b"",
    ]


def test_read1_gives_what_is_there():
    response, _ = respond(*body(b"abc", b"de"))
    assert [response.read1(2), response.read1(9), response.read1()] == [
        b"ab",
        b"c",
        b"de",
    ]


def test_lines_run_across_chunks():
    response, _ = respond(*body(b"one\ntw", b"o\nthr", b"ee"))
    lines = [response.readline() for _ in range(4)]
    assert lines == [b"one\n", b"two\n", b"three", b""]


def test_a_line_is_cut_at_its_limit():
    response, _ = respond(*body(b"one\ntwo"))
    assert [response.readline(2), response.readline(9)] == [b"on", b"e\n"]


def test_chunks_come_as_they_arrived_and_flushes_on_demand():
    response, _ = respond(*body(b"a", b"", b"b"))
    assert list(response.chunks(flushes=True)) == [b"a", b"", b"b"]
    response, _ = respond(*body(b"a", b"", b"b"))
    assert list(response) == [b"a", b"b"]


def test_headers_are_found_whatever_their_case():
    response, _ = respond(headers=[("Via", "a"), ("via", "b")])
    assert response.header("VIA") == "a, b"
    assert response.header("None", "default") == "default"


@pytest.mark.parametrize(
    ("pieces", "word"), [([b"abc"], "only 3"), ([b"abcdef"], "already 6")]
)
def test_a_body_of_another_length_than_declared_is_an_error(pieces, word):
    response, exchange = respond(*body(*pieces), headers=[("Content-Length", "5")])
    with pytest.raises(BadAnswer) as caught:
        response.read()
    assert caught.value.problem == (
        f"5 bytes were declared by Content-Length, {word} came"
    )
    assert exchange.told == ["abort"]


@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (304, "GET")])
def test_bodyless_answers_may_declare_a_length(status, method):
    response, exchange = respond(
        EndResponse(True),
        headers=[("Content-Length", "5")],
        status=status,
        method=method,
    )
    assert response.read() == b""
    assert exchange.told == ["finish True"]


def test_closing_in_the_middle_gives_the_connection_up():
    response, exchange = respond(*body(b"a", b"b"))
    response.read(1)
    response.close()
    assert exchange.told == ["abort"]
    with pytest.raises(ValueError):
        response.read()


def test_closing_after_the_last_byte_keeps_the_connection():
    response, exchange = respond(*body(b"abc"), headers=[("Content-Length", "3")])
    with response:
        assert response.read(3) == b"abc"
    assert exchange.told == ["finish True"]


def test_closing_an_answer_without_body_keeps_the_connection():
    response, exchange = respond(EndResponse(False), method="HEAD")
    response.close()
    assert exchange.told == ["finish False"]


def test_closing_when_all_is_here_keeps_the_connection():
    response, exchange = respond(*body(b"a", b"b"))
    exchange.has_ended = True
    response.close()
    assert exchange.told == ["finish True"]


def test_closing_never_raises():
    lost = ConnectionLost(Stage.RESPONSE_BODY, "h:1", "closed")
    response, exchange = respond(lost, method="HEAD")
    response.close()
    assert exchange.told == ["abort"]


def test_a_forgotten_response_gives_its_connection_up():
    response, exchange = respond(*body(b"a"))
    del response
    assert exchange.told == ["abort"]


def test_send_headers_twice_is_an_error():
    response, exchange = respond(SendHeaders(200, "OK", []))
    with pytest.raises(BadAnswer) as caught:
        response.read()
    assert caught.value.problem == "Send Headers came twice"
    assert exchange.told == ["abort"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2", "5"], "2, 5"),
        (["2, 5"], "2, 5"),
        (["-2"], "-2"),
        (["+2"], "+2"),
        ([""], ""),
        (["\xb2"], "\xb2"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_length_that_is_not_one_number_is_an_error(values, said, method):
    headers = [("Content-Length", value) for value in values]
    with pytest.raises(BadAnswer) as caught:
        respond(headers=headers, method=method)
    assert caught.value.stage is Stage.HEADERS
    assert caught.value.problem == (
        f"Content-Length = {said!r}: expected one whole number"
    )


@pytest.mark.parametrize("values", [["5", "5"], ["5, 5"], [" 5"]])
def test_a_length_that_is_repeated_stands_once(values):
    headers = [("A", "1"), *(("Content-Length", value) for value in values)]
    response, _ = respond(*body(b"hello"), headers=[*headers, ("B", "2")])
    assert response.headers == [("A", "1"), ("Content-Length", "5"), ("B", "2")]
    assert response.read() == b"hello"


@pytest.mark.parametrize(
    ("status", "method"), [(200, "HEAD"), (204, "GET"), (304, "GET")]
)
def test_the_body_of_an_answer_that_has_none_is_dropped(status, method):
    response, exchange = respond(*body(b"ab", b"c"), status=status, method=method)
    assert response.read() == b""
    assert exchange.told == ["finish True"]


def test_closing_does_not_wait_for_the_end_of_such_a_body():
    response, exchange = respond(*body(b"ab", b"c"), method="HEAD")
    response.close()
    assert exchange.told == ["abort"]


@pytest.mark.parametrize("status", [0, 99, 103, 199, 1000, 65535])
def test_a_status_that_http_does_not_know_is_an_error(status):
    with pytest.raises(BadAnswer) as caught:
        respond(status=status)
    assert caught.value.problem == f"status {status}: expected 200 to 999"


def test_a_response_may_be_asked_like_a_file():
    response, _ = respond(*body(b"a"))
    assert response.readable()
