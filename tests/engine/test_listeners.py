"""Listening sockets: TCP, UNIX and inherited ones, and what is wrong with them."""

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from paste_ajp.engine.listeners import BindError, adopt, open_listeners
from paste_ajp.engine.upgrade import Inheritance
from paste_ajp.settings import Settings
from tests.engine.conftest import hello, open_descriptors
from tests.engine.front_end import FrontEnd


@pytest.fixture
def listen():
    """Open listeners, and see in the end that closing them leaves nothing."""
    before = open_descriptors()
    opened = []

    def listen(**settings):
        if not {"listen", "port"} & settings.keys():
            settings["port"] = 0
        found = open_listeners(Settings.parse(settings))
        opened.extend(found)
        return found

    yield listen
    for listener in opened:
        listener.close()
    assert open_descriptors() == before


def refusal(opening, **settings):
    before = open_descriptors()
    with pytest.raises(BindError) as caught:
        opening(**settings)
    assert open_descriptors() == before
    return caught.value


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A path short enough for a socket, whatever the folder."""
    monkeypatch.chdir(tmp_path)
    return Path("ajp.sock")


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


# -- TCP -------------------------------------------------------------------------


def test_port_0_becomes_a_number(listen):
    (listener,) = listen()
    host, _, port = str(listener.address).partition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_several_addresses_are_listened_on(serve, path):
    site = serve(hello, listen=f"127.0.0.1:0 127.0.0.1:0 unix:{path}")
    assert len(site.server.addresses) == 3
    for address in site.server.addresses:
        with FrontEnd(address) as front_end:
            assert front_end.ask().body == b"hello"


def test_all_addresses_of_a_name_are_listened_on(listen):
    found = listen(host="localhost")
    assert {listener.address.host for listener in found} <= {"127.0.0.1", "::1"}
    assert len({listener.address.port for listener in found}) == 1


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("listening", ["[::1]:0", "*:0"])
def test_ipv6_is_served(serve, listening):
    site = serve(hello, listen=listening, secret_required="off")
    port = site.address.rpartition(":")[2]
    with FrontEnd(f"[::1]:{port}") as front_end:
        assert front_end.ask().body == b"hello"


def test_star_serves_ipv4(serve):
    site = serve(hello, listen="*:0", secret_required="off")
    with FrontEnd("127.0.0.1:" + site.address.rpartition(":")[2]) as front_end:
        assert front_end.ask().body == b"hello"


def test_all_addresses_are_served_where_ipv6_is_missing(listen, monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (listener,) = listen(listen="*:0")
    assert listener.address.host == "0.0.0.0"


def test_port_that_is_taken_is_named_with_what_helps(listen):
    (listener,) = listen()
    error = refusal(listen, port=listener.address.port)
    assert error.errno == errno.EADDRINUSE
    assert f"cannot listen on 127.0.0.1:{listener.address.port}: " in str(error)
    assert "another process listens there" in str(error)


def test_none_is_opened_where_one_cannot_be(listen):
    (taken,) = listen()
    refusal(listen, listen=f"127.0.0.1:0 {taken.address}")


def test_address_of_another_machine_is_refused(listen):
    error = refusal(listen, host="192.0.2.1")
    assert error.errno == errno.EADDRNOTAVAIL
    assert "no interface of this machine has that address" in str(error)


def test_name_that_does_not_exist_is_refused(listen, monkeypatch):
    def getaddrinfo(*arguments, **keywords):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    error = refusal(listen, host="nowhere.invalid")
    assert "cannot listen on nowhere.invalid:0: Name or service not known" in str(error)


def test_name_of_which_one_address_is_missing_here_is_served_at_the_other(
    listen, monkeypatch
):
    places = [("192.0.2.1", 0), ("127.0.0.1", 0)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (listener,) = listen(host="two.example")
    assert listener.address.host == "127.0.0.1"


# -- UNIX sockets ----------------------------------------------------------------


def test_unix_socket_is_served_and_removed(serve, path):
    site = serve(hello, listen=f"unix:{path}")
    assert site.address == f"unix:{path}"
    environ = site.connect()
    assert environ.ask().body == b"hello"
    site.stop()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_unix_socket_has_its_mode_whatever_the_umask(listen, path, mode):
    before = os.umask(0o077)
    try:
        listen(listen=f"unix:{path}", unix_socket_mode=f"{mode:o}")
        assert mode_of(path) == mode
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_unix_socket_follows_the_umask_without_a_mode(listen, path):
    before = os.umask(0o027)
    try:
        listen(listen=f"unix:{path}")
    finally:
        os.umask(before)
    assert mode_of(path) == 0o750


def test_owner_of_a_unix_socket_may_be_a_name_or_a_number(listen, path):
    import grp
    import pwd

    for owner, group in [
        (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name),
        (str(os.getuid()), str(os.getgid())),
    ]:
        (listener,) = listen(
            listen=f"unix:{path}", unix_socket_owner=owner, unix_socket_group=group
        )
        assert (path.stat().st_uid, path.stat().st_gid) == (os.getuid(), os.getgid())
        listener.close()


@pytest.mark.parametrize("setting", ["unix_socket_owner", "unix_socket_group"])
def test_owner_that_does_not_exist_is_refused_and_no_file_left(listen, path, setting):
    error = refusal(listen, listen=f"unix:{path}", **{setting: "no-such-one"})
    assert f"{setting} = 'no-such-one': no such name on this machine" in str(error)
    assert not path.exists()


def test_stale_unix_socket_is_replaced(listen, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    listen(listen=f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_unix_socket_of_a_living_server_is_left_alone(listen, path):
    listen(listen=f"unix:{path}")
    error = refusal(listen, listen=f"unix:{path}")
    assert error.errno == errno.EADDRINUSE
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_other_file_in_its_place_is_left_alone(listen, path):
    path.write_text("precious")
    error = refusal(listen, listen=f"unix:{path}")
    assert "a file that is no socket is in its place" in str(error)
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("missing/ajp.sock", "the folder of the socket does not exist"),
        ("x" * 200, "bytes; Linux takes 107, other systems fewer"),
    ],
)
def test_path_that_cannot_be_is_refused(listen, path, place, text):
    error = refusal(listen, listen=f"unix:{path.parent / place}")
    assert text in str(error)
    assert "None" not in str(error)


def test_unix_socket_of_a_successor_is_left_alone(listen, path):
    (first,) = listen(listen=f"unix:{path}")
    path.unlink()
    listen(listen=f"unix:{path}")
    first.close()
    assert path.exists()


def test_unix_socket_can_be_left_to_a_successor(listen, path):
    (listener,) = listen(listen=f"unix:{path}")
    listener.leave_to_successor()
    listener.close()
    assert path.exists()


def test_child_process_does_not_remove_the_file(listen, path):
    (listener,) = listen(listen=f"unix:{path}")
    listener._owner = os.getpid() + 1
    listener.close()
    assert path.exists()


# -- inherited -------------------------------------------------------------------


def test_inherited_socket_is_served(serve):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        site = serve(hello, listen=f"fd://{sock.fileno()}")
        assert site.address == f"127.0.0.1:{port}"
        assert site.ask().body == b"hello"
        site.stop()
        assert sock.getsockname()[1] == port  # the descriptor is not ours to close


def test_inherited_unix_socket_is_served_and_its_file_stays(serve, path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        site = serve(hello, listen=f"fd://{sock.fileno()}")
        assert site.address == f"unix:{path}"
        assert site.ask().body == b"hello"
        site.stop()
    assert path.exists()


def test_socket_can_be_inherited_by_another_process():
    program = """
        import sys
        from paste_ajp.engine.threaded import ThreadedServer
        from paste_ajp.settings import Settings

        def hello(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"hello"]

        settings = Settings.parse({"listen": "fd://" + sys.argv[1]})
        with ThreadedServer(hello, settings) as server:
            print("ready", flush=True)
            sys.stdin.read()
    """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = "{}:{}".format(*sock.getsockname())
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), str(sock.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[sock.fileno()],
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout.readline() == b"ready\n"
            with FrontEnd(address) as front_end:
                assert front_end.ask().body == b"hello"
            process.communicate(timeout=10)
        assert process.returncode == 0


def test_activated_sockets_of_a_predecessor_stand_for_host_and_port():
    """The service manager's variables are gone by the time of an upgrade."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        left = {"systemd": [os.dup(sock.fileno())]}
        (listener,) = open_listeners(
            Settings(port=1), take_over=lambda written: left.pop(written, [])
        )
        with listener.socket:
            assert listener.address.port == sock.getsockname()[1]
            assert (listener.written, listener.inherited) == ("systemd", True)


def test_socket_that_is_written_no_more_is_closed(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        kept = os.dup(sock.fileno())
    Inheritance(-1, [(f"unix:{path}", kept)]).close_rest()
    assert not path.exists()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept)


def test_successor_that_fails_leaves_the_socket_file(path):
    (listener,) = open_listeners(Settings(listen=f"unix:{path}"))
    left = {f"unix:{path}": [os.dup(listener.fileno())]}
    (adopted,) = open_listeners(
        Settings(listen=f"unix:{path}"), take_over=lambda name: left.pop(name, [])
    )
    adopted.close()
    assert path.exists()
    adopted = adopt(os.dup(listener.fileno()), inherited=False)
    adopted.own_file()  # it serves
    listener.leave_to_successor()
    listener.close()
    assert path.exists()
    adopted.close()
    assert not path.exists()


def test_socket_whose_file_is_gone_can_be_taken_over(path):
    (listener,) = open_listeners(Settings(listen=f"unix:{path}"))
    path.unlink()
    adopt(os.dup(listener.fileno()), inherited=False).close()
    listener.close()


def not_open():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_descriptor_that_is_not_open_is_refused(listen):
    descriptor = not_open()
    error = refusal(listen, listen=f"fd://{descriptor}")
    assert f"cannot listen on fd://{descriptor}: Bad file descriptor" in str(error)


def test_descriptor_of_something_else_is_refused(listen, tmp_path):
    with (tmp_path / "file").open("w") as file:
        refusal(listen, listen=f"fd://{file.fileno()}")
    with socket.socket() as sock:
        error = refusal(listen, listen=f"fd://{sock.fileno()}")
        assert "not a listening stream socket" in str(error)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        refusal(listen, listen=f"fd://{sock.fileno()}")
