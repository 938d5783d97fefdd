"""The shell commands, from their arguments to output and exit status."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from paste_ajp.cli import main
from paste_ajp.client import Client
from paste_ajp.engine.signals import DOUBLED_SECONDS
from paste_ajp.protocol import Role
from paste_ajp.testing import serve_app
from paste_ajp.tracing import TraceWriter
from tests.apps.site import application
from tests.engine.scripted import CPING, CPONG, HEAD, ScriptedServer, body

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "paste_ajp"]


@pytest.fixture(scope="module")
def site():
    with serve_app(application, secret="s3cret") as served:
        yield served


@pytest.fixture
def run(site, capfdbinary):
    """Run a command on the site; returns (exit status, stdout, stderr)."""

    def call(command, *arguments, path="", url=None):
        flags = ["--secret", "s3cret"] if command in ("ping", "request") else []
        if command in ("ping", "request"):
            arguments = (*arguments, url or site.url + path)
        status = main([command, *flags, *arguments])
        out, error = capfdbinary.readouterr()
        return status, out, error.decode()

    return call


# -- ping


def test_ping_says_ok_in_one_line_with_its_time(run, site):
    status, out, _ = run("ping")
    line = out.decode()
    assert status == 0
    assert line.startswith(f"AJP OK - {site.address} answered CPing in ")
    assert " | time=0." in line
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/hello?token=x", 0, "AJP OK"),
        ("/status?status=404 No", 1, "AJP WARNING"),
        ("/status?status=500 No", 2, "AJP CRITICAL"),
        ("/fail?when=after", 2, "AJP CRITICAL"),
    ],
)
def test_ping_with_a_path_asks_the_application(run, path, status, word):
    code, out, _ = run("ping", path=path.replace(" ", "%20"))
    assert (code, out.decode()[: len(word)]) == (status, word)
    assert b"token" not in out


@pytest.mark.parametrize(("flag", "status"), [("-w", 1), ("-c", 2)])
def test_ping_that_takes_too_long(run, flag, status):
    assert run("ping", flag, "0.0000001")[0] == status


def test_ping_of_nobody_is_critical(run):
    status, out, _ = run("ping", url="127.0.0.1:1")
    assert status == 2
    assert out == b"AJP CRITICAL - 127.0.0.1:1: Connection refused (while connecting)\n"


def test_ping_of_nonsense_is_unknown(run):
    status, out, _ = run("ping", url="http://x")
    assert status == 3
    assert out.startswith(b"AJP UNKNOWN - URL = 'http://x': expected ajp://")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("-t", "-1"), "argument -t/--timeout: "),
        (
            ("-t", "nan"),
            "argument -t/--timeout: 'nan': expected seconds from 0 to 86400, or a",
        ),
        (("-t", "inf"), "argument -t/--timeout: "),
        (("-t", "0"), "argument -t/--timeout: '0': expected more than 0 seconds"),
        (("-w", "x"), "argument -w/--warning: "),
        (("--nosuch",), "no such flag: --nosuch"),
        (("--host", "a\nb"), "header Host: the value holds a control character"),
        (("--packet-size", "1"), "argument --packet-size: '1': expected a number of"),
        (("--secret-file", "/none"), "--secret-file = '/none': cannot be read: No su"),
    ],
)
def test_ping_that_is_asked_wrongly_is_unknown(capfd, site, flags, problem):
    try:
        status = main(["ping", *flags, f"{site.url}/hello"])
    except SystemExit as end:
        status = end.code
    out, error = capfd.readouterr()
    assert (status, error) == (3, "")
    assert out.startswith(f"AJP UNKNOWN - {problem}")
    assert out.count("\n") == 1


def test_ping_bounds_the_whole(capfd):
    def trickling(peer):
        peer.packet()
        peer.send(CPONG)
        peer.packet()
        peer.send(HEAD)
        peer.sock.settimeout(0.01)
        with contextlib.suppress(ConnectionError):
            while True:
                with contextlib.suppress(TimeoutError):
                    peer.sock.recv(1)
                    return
                peer.send(body(b"x"))

    with ScriptedServer(trickling) as server:
        assert main(["ping", "-t", "0.2", f"{server.url}/x"]) == 2
    assert "not done within" in capfd.readouterr().out


def test_ping_can_be_quiet(run):
    assert run("ping", "-q") == (0, b"", "")


def test_ping_reads_the_secret_from_a_file(site, tmp_path, capsys):
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    assert main(["ping", "--secret-file", str(file), f"{site.url}/hello"]) == 0


# -- request


def test_request_writes_the_body(run):
    assert run("request", path="/hello") == (0, b"Hello, World!\n", "")


def test_request_shows_headers(run):
    _, out, _ = run("request", "-i", path="/hello")
    head, _, text = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert text == b"Hello, World!\n"


def test_request_head(run):
    _, out, _ = run("request", "-I", path="/hello")
    assert out.endswith(b"\r\n\r\n")
    assert b"Content-Length: 14\r\n" in out


def told(out):
    return json.loads(out)


def test_request_sends_a_form(run):
    _, out, _ = run("request", "-d", "a=1", "--data-urlencode", "b=x y&", path="/dump")
    facts = told(out)
    assert facts["REQUEST_METHOD"] == "POST"
    assert facts["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert facts["body.sha256"] == hashlib.sha256(b"a=1&b=x+y%26").hexdigest()


def test_request_puts_data_into_the_query(run):
    _, out, _ = run("request", "-G", "-d", "b=2", path="/dump?a=1")
    assert told(out)["QUERY_STRING"] == "a=1&b=2"
    _, out, _ = run("request", "-G", "-d", "b=é%20#+ &", path="/dump?a=é")
    assert told(out)["QUERY_STRING"] == "a=%C3%A9&b=%C3%A9%20%23+%20&"


@pytest.mark.parametrize(
    ("flag", "sent"), [("-d", b"onetwo"), ("--data-binary", b"one\r\ntwo\n")]
)
def test_request_reads_data_from_a_file(run, tmp_path, flag, sent):
    (tmp_path / "data").write_bytes(b"one\r\ntwo\n")
    _, out, _ = run("request", flag, f"@{tmp_path}/data", path="/upload")
    assert told(out)["sha256"] == hashlib.sha256(sent).hexdigest()


def test_request_takes_headers_cookies_and_credentials(run):
    _, out, _ = run(
        "request",
        *("-H", "X-Mine: 1", "-H", "Accept:", "-H", "Host: www.example.com:81"),
        *("-b", "a=b", "-u", "bob:pw", "-A", "me", "-e", "http://there/"),
        path="/dump",
    )
    facts = told(out)
    assert "HTTP_ACCEPT" not in facts
    expected = {
        "HTTP_X_MINE": "1",
        "HTTP_HOST": "www.example.com:81",
        "SERVER_NAME": "www.example.com",
        "SERVER_PORT": "81",
        "HTTP_COOKIE": "a=b",
        "HTTP_AUTHORIZATION": "Basic Ym9iOnB3",
        "HTTP_USER_AGENT": "me",
        "HTTP_REFERER": "http://there/",
    }
    assert {key: facts.get(key) for key in expected} == expected


def test_request_speaks_for_a_front_end(run):
    _, out, _ = run(
        "request",
        *("--remote-user", "bob", "--attribute", "auth_type=Basic", "--ssl"),
        *("--remote-addr", "192.0.2.7", "--attribute", "ssl_key_size=256"),
        path="/dump",
    )
    facts = told(out)
    expected = {
        "REMOTE_USER": "bob",
        "AUTH_TYPE": "Basic",
        "HTTPS": "on",
        "REMOTE_ADDR": "192.0.2.7",
        "SSL_CIPHER_USEKEYSIZE": "256",
    }
    assert {key: facts.get(key) for key in expected} == expected


def test_request_uploads_a_file(run, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100_000)
    _, out, _ = run("request", "-T", str(file), path="/upload")
    assert told(out)["length"] == 100_000


def test_request_uploads_what_is_said_to_be_empty(run):
    file = Path("/proc/self/status")
    if not file.exists():
        pytest.skip("no /proc here")
    _, out, _ = run("request", "-T", str(file), path="/dump")
    assert told(out)["body.length"] > 100
    assert "CONTENT_LENGTH" not in told(out)


def test_request_uploads_an_empty_file_with_its_length(run, tmp_path):
    (tmp_path / "empty").touch()
    _, out, _ = run("request", "-T", f"{tmp_path}/empty", path="/dump")
    assert told(out)["CONTENT_LENGTH"] == "0"


def test_request_uploads_a_pipe(run, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"piped",))
    writer.start()
    _, out, _ = run("request", "-T", str(pipe), path="/dump")
    writer.join()
    assert told(out)["body.length"] == 5


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("-d", "@-"), "--data = '@-'"),
        (("-F", "a=@-"), "--form = 'a=@-'"),
        (("-T", "-"), "--upload-file = '-'"),
    ],
)
def test_request_that_cannot_read_stdin_is_26(site, flags, named):
    error = f"paste-ajp: {named}: Bad file descriptor\n"
    assert shell("<&-", "request", *flags, site.url) == (26, error)


def test_form_that_does_not_read_stdin_needs_none(site):
    command = ["request", "--secret", "s3cret", "-F", "a=1", f"{site.url}/upload"]
    assert shell("<&-", *command) == (0, "")


def test_request_sends_a_form_with_files(run, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"x" * 100_000)
    flags = ("-F", "a=1", "-F", f"f=@{tmp_path}/file.bin", "--form-string", "b=@2")
    _, out, _ = run("request", *flags, path="/dump")
    facts = told(out)
    assert facts["REQUEST_METHOD"] == "POST"
    assert facts["CONTENT_TYPE"].startswith("multipart/form-data; boundary=")
    assert int(facts["CONTENT_LENGTH"]) == facts["body.length"] > 100_000

    _, sent, _ = run("request", *flags, path="/echo")

    assert sent.count(b"x" * 100_000) == 1
    assert b'name="a"\r\n\r\n1\r\n' in sent
    assert b'name="b"\r\n\r\n@2\r\n' in sent


def test_request_sends_chunks_on_demand(run):
    _, out, _ = run("request", "--chunked", "-d", "abc", path="/dump")
    facts = told(out)
    assert "CONTENT_LENGTH" not in facts
    assert facts["body.length"] == 3


def test_request_writes_to_a_file(run, tmp_path):
    status, out, _ = run("request", "-o", str(tmp_path / "o"), path="/hello")
    assert (status, out) == (0, b"")
    assert (tmp_path / "o").read_bytes() == b"Hello, World!\n"


def test_request_writes_out_facts(run):
    form = r"%{http_code} %{size_download} %{size_upload} %{content_type}\n"
    _, out, _ = run("request", "-w", form, path="/hello")
    assert out == b"Hello, World!\n200 14 0 text/plain\n"
    assert run("request", "-I", "-w", "%{method}", path="/hello")[1][-4:] == b"HEAD"


def shell(ending, *arguments):
    """Run a command with what a shell puts behind it; gives (exit status, stderr)."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {ending}', "sh", *COMMAND, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("ending", ["-o /dev/full", "-o - >/dev/full", ">&-"])
@pytest.mark.parametrize("path", ["/hello", "/download?size=1000000"])
def test_request_that_cannot_write_is_23(site, path, ending):
    command = ["request", "--secret", "s3cret", site.url + path]
    problem = "Bad file descriptor" if "&" in ending else "No space left on device"
    name = "/dev/full" if ending == "-o /dev/full" else "-"
    error = f"paste-ajp: --output = '{name}': {problem}\n"
    assert shell(ending, *command) == (23, error)


def test_request_that_cannot_write_out_facts_is_23(site, tmp_path):
    command = ["request", "--secret", "s3cret", "-o", str(tmp_path / "o"), "-w", "x"]
    error = "paste-ajp: --write-out = 'x': No space left on device\n"
    assert shell(">/dev/full", *command, f"{site.url}/hello") == (23, error)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    path = tmp_path_factory.mktemp("dump") / "dump"
    path.write_bytes(CPING * 5000)  # more than what a stream keeps
    return str(path)


COMMANDS_THAT_PRINT = [
    pytest.param(["explain"], 1, id="explain"),
    pytest.param(["settings"], 1, id="settings"),
    pytest.param(["--help"], 1, id="help"),
    pytest.param(["serve", "--help"], 1, id="help of a command"),
    pytest.param(["--version"], 1, id="version"),
    pytest.param(["serve", "--check", "wsgiref.simple_server:demo_app"], 1, id="check"),
    pytest.param(["ping", "127.0.0.1:1"], 3, id="ping"),
    pytest.param(["ping"], 3, id="ping without an argument"),
]


@pytest.mark.parametrize(("command", "status"), COMMANDS_THAT_PRINT)
def test_command_that_cannot_print_says_so(dump, command, status):
    command = [*command, dump] if command == ["explain"] else command
    error = "paste-ajp: stdout: No space left on device\n"
    assert shell(">/dev/full", *command) == (status, error)


@pytest.mark.parametrize("command", ["explain", "settings"])
def test_command_whose_stdout_is_closed_says_so(dump, command):
    command = [command, dump] if command == "explain" else [command]
    assert shell(">&-", *command) == (1, "paste-ajp: stdout: Bad file descriptor\n")


@pytest.mark.parametrize(("command", "status"), COMMANDS_THAT_PRINT)
def test_command_whose_reader_has_left_is_quiet(dump, command, status):
    command = [*command, dump] if command == ["explain"] else command
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*COMMAND, *command],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(write)
    assert (ended.returncode, ended.stderr) == (status, "")


@pytest.mark.parametrize("ending", [">/dev/full 2>/dev/full", ">/dev/full 2>&-"])
def test_exit_status_is_right_where_no_error_can_be_told(ending):
    assert shell(ending, "settings") == (1, "")
    assert shell(ending, "serve", "nothing") == (2, "")


@pytest.mark.parametrize("ending", ["2>/dev/full", "2>&-"])
def test_request_whose_packets_cannot_be_shown_is_made(site, tmp_path, ending):
    output = tmp_path / "o"
    command = ["request", "-v", "--secret", "s3cret", "-o", str(output)]
    assert shell(ending, *command, f"{site.url}/hello") == (0, "")
    assert output.read_bytes() == b"Hello, World!\n"


def test_what_stdout_has_no_characters_for_is_escaped(tmp_path):
    (tmp_path / "x\xe9.ini").write_text("[app:main]\nuse = egg:paste_ajp#demo\n")
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "paste_ajp",
            "serve",
            "--check",
            f"{tmp_path}/x\xe9.ini",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 0
    assert b"/x\\xe9.ini: settings and application are fine" in ended.stdout


def test_request_shows_packets_and_no_secret(run):
    _, _, error = run(
        "request",
        *("-v", "-u", "bob:pw", "-b", "sid=123456", "-d", "hidden"),
        path="/upload?password=123456",
    )
    assert "> ForwardRequest  POST /upload?password=*** HTTP/1.1" in error
    assert "> BodyChunk  6 bytes of body" in error
    assert "< SendHeaders  200 OK" in error
    assert "< EndResponse  reuse" in error
    for secret in ("s3cret", "123456", "Ym9iOnB3", "hidden"):
        assert secret not in error


@pytest.mark.parametrize(
    ("flags", "path", "status", "message"),
    [
        ((), "/status?status=404%20No", 0, ""),
        (("-f",), "/status?status=404%20No", 22, "paste-ajp: the server answered with"),
        (("-f", "-s"), "/status?status=404%20No", 22, ""),
        ((), "/fail?when=after", 18, "paste-ajp: 127.0.0.1:"),
    ],
)
def test_request_exits_as_curl_does(run, flags, path, status, message):
    code, _, error = run("request", *flags, path=path)
    lines = [line for line in error.splitlines() if line.startswith("paste-ajp:")]
    assert code == status
    assert (lines or [""])[0].startswith(message)


def test_request_to_nobody_is_7(run):
    status, _, error = run("request", url="127.0.0.1:1")
    assert status == 7
    assert error == "paste-ajp: 127.0.0.1:1: Connection refused (while connecting)\n"


@pytest.mark.parametrize(
    ("flag", "said"), [("-m", "not done within"), ("--timeout", "silent for")]
)
def test_request_that_waits_too_long_is_28(capfd, flag, said):
    def silent(peer):
        peer.packet()
        peer.send(HEAD, body(b"x"))
        peer.packet()

    with ScriptedServer(silent) as server:
        assert main(["request", flag, "0.05", server.url]) == 28
    assert f"{said} 0.05 s (while reading the response body)" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("-H", "novalue"), "--header = 'novalue': expected NAME: VALUE"),
        (("--attribute", "x"), "--attribute = 'x': expected NAME=VALUE"),
        (("-F", "x"), "--form = 'x': expected NAME=TEXT, NAME=@FILE or NAME=<FILE"),
        (("-F", "x=@"), "--form = 'x=@': no file after @"),
        (("-F", "a=1", "-d", "b=2"), "--form = 'a=1': --data is there too"),
        (("-F", "a=1", "-T", "b"), "--form = 'a=1': --upload-file is there too"),
        (("-F", "a=1", "-G"), "--form = 'a=1': --get is there too"),
        (("--form-string", "x"), "--form-string = 'x': expected NAME=TEXT, "),
        (("-T", "b", "-d", "a"), "--upload-file = 'b': --data is there too"),
        (("-X", "BAD METHOD"), "request = "),
        (("-H", "X-A: a\nb"), "request = "),
        (("-H", "Content-Length: x", "-d", "a"), "request = "),
        (("--secret-file", "/none"), "--secret-file = '/none': "),
        (("-H", "X: " + "a" * 9000), "request = "),
    ],
)
def test_request_that_cannot_be_sent_is_2(run, flags, problem):
    status, _, error = run("request", *flags)
    assert status == 2
    assert error.startswith(f"paste-ajp: {problem}")


@pytest.mark.parametrize(
    ("flags", "status", "problem"),
    [
        (("-d", "@/none"), 26, "--data = '@/none': No such file or directory"),
        (
            ("--data-urlencode", "a@/none"),
            26,
            "--data-urlencode = '@/none': No such file or directory",
        ),
        (("-H", "@/none"), 26, "--header = '@/none': No such file or directory"),
        (("-F", "a=@/none"), 26, "--form = '/none': No such file or directory"),
        (("-F", "a=</"), 26, "--form = '/': Is a directory"),
        (("-o", ""), 23, "--output = '': Is a directory"),
        (("-T", "/none"), 26, "--upload-file = '/none': No such file or directory"),
        (("-o", "/none/x"), 23, "--output = '/none/x': No such file or directory"),
    ],
)
def test_request_exits_as_curl_does_for_files(run, flags, status, problem):
    code, _, error = run("request", *flags, path="/hello")
    assert (code, error) == (status, f"paste-ajp: {problem}\n")


@pytest.mark.parametrize(
    ("url", "status"),
    [("http://h/", 1), ("ajp:///x", 3), ("ajp://no-such-host.invalid/", 6)],
)
def test_request_exits_as_curl_does_for_urls(run, url, status):
    code, _, error = run("request", url=url)
    assert code == status
    assert error.startswith("paste-ajp: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "flag", "expected"),
    [
        ("request", "--max-time=nan", "'nan': expected seconds from 0 to 86400, or a"),
        ("request", "--max-time=-1", "'-1': expected seconds from 0 to 86400, or a"),
        ("request", "--timeout=inf", "'inf': expected seconds from 0 to 86400, or a"),
        ("request", "--connect-timeout=0", "'0': expected more than 0 seconds"),
        ("request", "--packet-size=1", "'1': expected a number of bytes from 8192"),
        ("request", "--server-port=0", "'0': expected a whole number from 1 to 65535"),
        ("gateway", "--threads=x", "'x': expected a whole number from 1 to 1000"),
        ("gateway", "--packet-size=1M", "'1M': expected a number of bytes from 8192"),
    ],
)
def test_flag_that_does_not_fit_is_told_with_what_is_expected(
    capsys, command, flag, expected
):
    with pytest.raises(SystemExit) as caught:
        main([command, flag, "ajp://h"])
    assert caught.value.code == 2
    name = flag.partition("=")[0]
    error = capsys.readouterr().err
    assert error.startswith(f"paste-ajp {command}: argument ")
    assert f"{name}: {expected}" in error


def test_gateway_to_an_ini_file_is_refused(capsys, tmp_path):
    file = tmp_path / "x.ini"
    file.write_text("[app:main]\nuse = egg:paste_ajp#gateway\n")
    assert main(["gateway", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"paste-ajp: URL = '{file}': expected ajp://host:port, and this is a file,"
        " which serve takes\n"
    )


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--http=x", "--http = 'x': expected host:port (x: no port, or not an addre"),
        ("--secret-file=/none", "--secret-file = '/none': cannot be read: No such"),
        ("--secret-file=/dev/null", "--secret-file = '/dev/null': expected the secr"),
        ("--trace=/none/x", "--trace = '/none/x': cannot be written: there is no fo"),
    ],
)
def test_setting_of_the_gateway_is_told_as_it_was_typed(capsys, flag, problem):
    assert main(["gateway", flag, "ajp://h"]) == 2
    assert capsys.readouterr().err.startswith(f"paste-ajp: {problem}")


def test_request_to_a_server_with_an_odd_status_is_an_error(capfd):
    def script(peer):
        peer.packet()
        peer.send(HEAD.replace(b"\x00\xc8", b"\x03\xe8"))  # 1000
        peer.packet()

    with ScriptedServer(script) as server:
        assert main(["request", "-i", server.url]) == 56
    assert "status 1000: expected 200 to 999" in capfd.readouterr().err


def test_request_that_fails_leaves_the_file_alone(run, tmp_path):
    file = tmp_path / "o"
    file.write_text("precious")
    flags = ("-f", "-o", str(file))
    assert run("request", *flags, path="/status?status=404%20No")[0] == 22
    assert file.read_text() == "precious"


def test_request_can_do_without_user_agent(run):
    _, out, _ = run("request", "-A", "", path="/dump")
    assert "HTTP_USER_AGENT" not in told(out)


def test_request_over_a_unix_socket(tmp_path, capfd):
    with serve_app(application, listen=f"unix:{tmp_path}/ajp.sock") as served:
        url = "ajp://app/hello"
        assert main(["request", "--unix-socket", f"{tmp_path}/ajp.sock", url]) == 0
        assert main(["request", served.url]) == 0
    assert capfd.readouterr().out.startswith("Hello, World!\n{")


# -- explain


def test_explain_reads_a_file(tmp_path, capsys):
    file = tmp_path / "dump"
    file.write_text((CPING + CPONG).hex())
    assert main(["explain", str(file)]) == 0
    assert capsys.readouterr().out == "> CPing  (5 bytes)\n< CPong  (5 bytes)\n"


def test_explain_reads_a_trace_of_a_client(site, tmp_path, capsys):
    path = tmp_path / "trace"

    with (
        TraceWriter(path, role=Role.FRONT_END) as trace,
        Client(site.url, secret="s3cret", trace=trace) as client,
    ):
        client.request("GET", "/hello").read()
    assert main(["explain", "--connection", "client-1", str(path)]) == 0
    out = capsys.readouterr().out
    assert "> ForwardRequest  GET /hello HTTP/1.1" in out
    assert "s3cret" not in out + path.read_text()


def test_explain_writes_lines(tmp_path, capsys):
    file = tmp_path / "dump"
    file.write_bytes(CPING)
    assert main(["explain", "--lines", str(file)]) == 0
    assert capsys.readouterr().out == "- - > 5 CPing {}\n"


def test_explain_of_nothing_is_an_error(tmp_path, capsys):
    (tmp_path / "empty").touch()
    assert main(["explain", f"{tmp_path}/empty"]) == 1
    assert "no AJP packet in it" in capsys.readouterr().err
    assert main(["explain", f"{tmp_path}/none"]) == 2


def test_explain_of_a_closed_stdin_is_an_error():
    error = "paste-ajp: FILE = '-': Bad file descriptor\n"
    assert shell("<&-", "explain") == (2, error)


def test_explain_of_a_connection_that_is_not_there_is_an_error(tmp_path, capsys):
    (tmp_path / "trace").write_text("- 127.0.0.1:50112 > 5 CPing {}\n")
    command = ["explain", f"{tmp_path}/trace", "--connection"]
    assert main([*command, ":50112"]) == 0
    assert capsys.readouterr().out == "[127.0.0.1:50112] > CPing  (5 bytes)\n"
    assert main([*command, ":50113"]) == 1
    assert capsys.readouterr().err == (
        f"paste-ajp: {tmp_path}/trace: no connection whose name holds ':50113'\n"
    )


# -- gateway


def test_the_gateway_command_serves_until_it_is_stopped(site):
    command = [*COMMAND, "gateway", "--http", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--secret", "s3cret", site.url],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        url = next(word for word in line.split() if word.startswith("http://"))
        with urllib.request.urlopen(f"{url}hello") as response:
            assert response.read() == b"Hello, World!\n"
    finally:
        process.send_signal(2)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in rest


@contextlib.contextmanager
def gateway_with_a_request(number):
    """A gateway that has got a signal while a request runs; and what lets that go."""
    inside, gate = threading.Event(), threading.Event()

    def waits(environ, start_response):
        inside.set()
        gate.wait(30)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    command = [sys.executable, "-m", "paste_ajp", "gateway", "--http", "127.0.0.1:0"]
    with (
        serve_app(waits) as served,
        subprocess.Popen(
            [*command, served.url], cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            line = process.stderr.readline()
            url = next(word for word in line.split() if word.startswith("http://"))
            address = url.removeprefix("http://").strip("/").split(":")
            with socket.create_connection((address[0], int(address[1])), 30) as browser:
                browser.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert inside.wait(10)
                process.send_signal(number)
                # waitress may have said that its threads were slow to start.
                while "asked to stop: running requests may" not in line:
                    line = process.stderr.readline()
                    assert line, "the log has ended"
                yield process, gate, browser
        finally:
            gate.set()
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_gateway_command_ends_its_requests_before_itself(number):
    with gateway_with_a_request(number) as (process, gate, browser):
        gate.set()
        assert browser.makefile("rb").read().endswith(b"\r\n\r\nhello")
        assert process.wait(20) == 0
        assert process.stderr.read().endswith("stopped\n")


def test_the_gateway_command_stops_at_once_when_asked_once_more():
    with gateway_with_a_request(signal.SIGTERM) as (process, _, browser):
        time.sleep(2 * DOUBLED_SECONDS)
        process.send_signal(signal.SIGTERM)
        assert browser.recv(4096) == b""
        assert process.wait(20) == 0


def test_the_gateway_command_refuses_a_taken_port(site, capsys):
    host = site.address
    assert main(["gateway", "--http", host, site.url]) == 1
