"""Bind, or inherit, the sockets that front ends connect to."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

try:
    import grp
    import pwd
except ImportError:  # only POSIX has users and groups
    grp = pwd = None  # type: ignore[assignment]  # so that one test tells

from paste_ajp.addresses import Address
from paste_ajp.logs import server_log
from paste_ajp.settings import Settings

#: What to do about a failed bind, by the kernel's reason.
_ADVICE = {
    errno.EADDRINUSE: "another process listens there; stop it or take another address",
    errno.EACCES: "ports below 1024 and foreign folders need more rights",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address",
    errno.EBADF: "no such descriptor was handed to this process",
    errno.ENOENT: "the folder of the socket does not exist",
}


_SYSTEMD = Address("systemd")


class BindError(OSError):
    """An address cannot be listened on; the text names it, why, and what helps."""

    def __str__(self) -> str:
        return str(self.strerror or super().__str__())


def bind_error(address: object, error: OSError) -> BindError:
    """Make a BindError that keeps the errno."""
    advice = _ADVICE.get(error.errno or 0)
    reason = error.strerror or str(error)
    if error.errno is None and str(address).startswith("unix:"):  # Python's own check
        size = len(os.fsencode(str(address).removeprefix("unix:")))
        advice = f"it has {size} bytes; Linux takes 107, other systems fewer"
    text = f"cannot listen on {address}: {reason}"
    return BindError(error.errno, f"{text} ({advice})" if advice else text)


class Listener:
    """A listening socket, and what there is to tidy when it goes."""

    def __init__(
        self, sock: socket.socket, *, inherited: bool = False, owns_file: bool = True
    ) -> None:
        self.socket = sock
        self.inherited = inherited
        self._owns_file = owns_file
        self.written = ""  # the address in the settings that asked for this
        self._file: tuple[str, int, int] | None = None
        self._owner = os.getpid()
        if _is_unix(sock) and not inherited:
            path = sock.getsockname()
            if path and isinstance(path, str) and not path.startswith("\0"):
                with suppress(FileNotFoundError):
                    found = Path(path).stat()
                    # What is loaded may change the folder.
                    absolute = str(Path(path).absolute())
                    self._file = (absolute, found.st_dev, found.st_ino)

    @property
    def address(self) -> Address:
        """Where this listens in fact: a port 0 has become a number."""
        name = self.socket.getsockname()
        if _is_unix(self.socket):
            path = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            return Address("unix", path=path)
        return Address("tcp", host=name[0], port=name[1])

    def fileno(self) -> int:
        """The descriptor."""
        return self.socket.fileno()

    def close(self) -> None:
        """Stop listening; remove the socket file if it still is the one made here."""
        self.socket.close()
        is_ours = self._owns_file and os.getpid() == self._owner
        if self._file is not None and is_ours:
            path, device, inode = self._file
            with suppress(OSError):
                found = Path(path).stat()
                if (found.st_dev, found.st_ino) == (device, inode):
                    Path(path).unlink()
            self._file = None

    def own_file(self) -> None:
        """Remove the socket file in the end: its maker has left it to us."""
        self._owns_file = True

    def leave_to_successor(self) -> None:
        """Another process goes on with this socket, and with its file."""
        self.inherited = True
        self._file = None


def _is_unix(sock: socket.socket) -> bool:
    return sock.family == getattr(socket, "AF_UNIX", None)


def open_listeners(
    settings: Settings,
    *,
    activated: Sequence[int] = (),
    take_over: Callable[[str], Sequence[int]] = lambda written: (),  # noqa: ARG005
) -> list[Listener]:
    """Open every address of the settings, or none: raises BindError.

    `activated` are the sockets that a service manager has opened: they are what
    ``systemd`` in listen means, and take the place of all other addresses but
    descriptors. `take_over` gives the sockets that a predecessor had for an address;
    such as a service manager had opened for it are taken as if that were so for us.
    """
    addresses = settings.addresses
    passed_on: Sequence[int] = ()
    if all(address.kind in ("tcp", "unix") for address in addresses):
        passed_on = () if activated else take_over(str(_SYSTEMD))
        if activated or passed_on:
            server_log.info(
                "the service manager has opened the sockets: they are used in place"
                " of %s",
                ", ".join(map(str, addresses)),
            )
            addresses = (_SYSTEMD,)
    opened: list[Listener] = []
    try:
        for address in addresses:
            left = passed_on or take_over(str(address))
            if left:
                ours = address.kind in ("tcp", "unix")
                found = [adopt(descriptor, inherited=not ours) for descriptor in left]
            elif address.kind == "systemd":
                found = _open_activated(activated, settings)
            else:
                found = list(_open(address, settings))
            for listener in found:
                listener.written = str(address)
            opened.extend(found)
    except BaseException:
        for listener in opened:
            listener.close()
        raise
    return opened


def _open_activated(activated: Sequence[int], settings: Settings) -> list[Listener]:
    if not activated:
        raise BindError(
            errno.ENOENT,
            "cannot listen on systemd: it has opened no sockets for this process"
            " (LISTEN_FDS; is there a .socket unit, and was it that which started us?)",
        )
    return [inherit(descriptor, settings) for descriptor in activated]


def adopt(descriptor: int, *, inherited: bool) -> Listener:
    """Take the socket that a predecessor has left.

    Its file stays the predecessor's, which may go on after all, until own_file().
    """
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return Listener(sock, inherited=inherited, owns_file=False)


def _open(address: Address, settings: Settings) -> Iterable[Listener]:
    if address.kind == "unix":
        return [_open_unix(address.path, settings)]
    if address.kind == "fd":
        return [inherit(address.fd, settings)]
    return _open_tcp(address, settings)


def inherit(descriptor: int, settings: Settings) -> Listener:
    """Take over a listening socket that another process opened."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOTSOCK, "not a socket")
        sock = socket.socket(fileno=os.dup(descriptor))
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            sock.close()
            raise OSError(errno.EINVAL, "not a listening stream socket")
    except OSError as error:
        raise bind_error(f"fd://{descriptor}", error) from error
    sock.listen(settings.backlog)
    sock.setblocking(False)
    return Listener(sock, inherited=True)


def _open_tcp(address: Address, settings: Settings) -> list[Listener]:
    """Open every IP address that a host name has: localhost may have two."""
    if not address.host:
        return [_open_any(address, settings)]
    try:
        found = socket.getaddrinfo(
            address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except socket.gaierror as error:
        raise BindError(
            error.errno, f"cannot listen on {address}: {error.strerror}: no such host"
        ) from error
    listeners: list[Listener] = []
    port = address.port
    failure: OSError | None = None
    for family, _, _, _, place in dict.fromkeys(found):
        target = (place[0], port, *place[2:])
        try:
            listeners.append(_listen(family, target, settings))
        except OSError as error:
            # A machine may resolve ::1 and have no IPv6 for all that.
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                failure = error
                continue
            for listener in listeners:
                listener.close()
            raise bind_error(address, error) from error
        port = listeners[0].address.port
    if not listeners:
        assert failure is not None  # getaddrinfo gives an entry or raises
        raise bind_error(address, failure) from failure
    return listeners


def _open_any(address: Address, settings: Settings) -> Listener:
    """Listen on all addresses: one socket for both families where that works."""
    try:
        if socket.has_dualstack_ipv6():
            with suppress(OSError):
                return _listen(
                    socket.AF_INET6, ("::", address.port), settings, dual=True
                )
        return _listen(socket.AF_INET, ("0.0.0.0", address.port), settings)
    except OSError as error:
        raise bind_error(address, error) from error


def _listen(
    family: int, target: tuple[object, ...], settings: Settings, *, dual: bool = False
) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(target)
        sock.listen(settings.backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return Listener(sock)


def _open_unix(path: str, settings: Settings) -> Listener:
    """Listen on a UNIX socket; its permissions are right from its first moment."""
    if not hasattr(socket, "AF_UNIX"):
        raise BindError(
            errno.EAFNOSUPPORT, f"cannot listen on unix:{path}: no UNIX sockets here"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener = None
    try:
        _remove_stale(path)
        mode = settings.unix_socket_mode
        before = os.umask(0o777 & ~mode) if mode is not None else None
        try:
            sock.bind(path)
        finally:
            if before is not None:
                os.umask(before)
        listener = Listener(sock)
        if mode is not None:
            Path(path).chmod(mode)
        _give_away(path, settings)
        sock.listen(settings.backlog)
        sock.setblocking(False)
    except BaseException as error:
        if listener is not None:
            listener.close()
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, BindError):
            raise bind_error(f"unix:{path}", error) from error
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket file of a dead server; leave a living one, or other files."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise BindError(
            errno.EEXIST,
            f"cannot listen on unix:{path}: a file that is no socket is in its place",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            server_log.info("removed the stale socket file %s", path)
            Path(path).unlink()
            return
        except OSError as error:
            raise bind_error(f"unix:{path}", error) from error
    raise bind_error(
        f"unix:{path}", OSError(errno.EADDRINUSE, "Address already in use")
    )


def _give_away(path: str, settings: Settings) -> None:
    owner = _number_of(settings.unix_socket_owner, "unix_socket_owner")
    group = _number_of(settings.unix_socket_group, "unix_socket_group")
    if owner >= 0 or group >= 0:
        os.chown(path, owner, group)


def _number_of(name: str | None, setting: str) -> int:
    """Look up a user or group; -1 for none, as os.chown wants it."""
    if name is None:
        return -1
    if name.isascii() and name.isdigit():
        return int(name)
    if grp is None or pwd is None:
        raise BindError(errno.EINVAL, f"{setting} = {name!r}: not on this system")
    try:
        if setting == "unix_socket_owner":
            return pwd.getpwnam(name).pw_uid
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise BindError(
            errno.EINVAL, f"{setting} = {name!r}: no such name on this machine"
        ) from None
