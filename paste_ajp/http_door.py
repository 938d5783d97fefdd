"""Doors from HTTP: the gateway in an INI file, and on waitress for development.

AJP is no HTTP, and a browser speaks nothing else. ``make_gateway`` is
``egg:paste_ajp#gateway``, the gateway as an application for any WSGI server;
``start_http_door`` serves it at once, by waitress (``pip install
paste_ajp[http]``), so that ``make run`` has a URL to open and every byte still
goes through AJP.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import re
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from paste_ajp import addresses
from paste_ajp.client import Gateway, Trace, parse_address
from paste_ajp.options import (
    Maybe,
    Seconds,
    Secret,
    SettingError,
    Size,
    Switch,
    Text,
    UnfitError,
    Whole,
    convert,
    matched,
    option,
    rows_of,
)

log = logging.getLogger("paste_ajp.gateway")


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """What can be set of a gateway, one row each."""

    target: str = option(
        "",
        Text("an address, as ajp://127.0.0.1:8009 or ajp+unix:///run/app.sock"),
        "The AJP server; a path in it takes the place of SCRIPT_NAME.",
        group="gateway",
        aliases=("url",),
    )
    secret: str | bytes | None = option(
        None,
        Secret(),
        "The secret that the AJP server asks for.",
        group="gateway",
        secret=True,
    )
    secret_file: str | None = option(
        None,
        Maybe(Text("the path of a file"), word="", takes_empty=False),
        "A file with the secret in its first line.",
        group="gateway",
    )
    timeout: float | None = option(
        60.0,
        Maybe(Seconds()),
        "How long the AJP server may stay silent.",
        group="gateway",
    )
    connect_timeout: float | None = option(
        10.0,
        Maybe(Seconds()),
        "How long connecting may take.",
        group="gateway",
    )
    pool_size: int = option(
        32,
        Whole(1, 10000),
        "Connections to the AJP server, so requests at a time.",
        group="gateway",
    )
    packet_size: int = option(
        8192,
        Size(8192, 65536),
        "Largest packet with its header; the AJP server's must match.",
        group="gateway",
    )
    attributes: str = option(
        "",
        Text("names with blanks between them"),
        "environ keys to send as request attributes.",
        group="gateway",
    )
    send_script_name: bool = option(
        False,
        Switch(),
        "Send SCRIPT_NAME as the request attribute WSGI_SCRIPT_NAME.",
        group="gateway",
    )
    show_details: bool = option(
        False,
        Switch(),
        "Name the address and the error on error pages; for development.",
        group="gateway",
        aliases=("debug",),
    )

    @classmethod
    def parse(cls, given: Mapping[str, object]) -> GatewaySettings:
        """Convert what a person wrote; raises SettingError."""
        rows = rows_of(cls)
        by_name = {row.name: row for row in rows}
        with matched(rows, given, {}) as named:
            values = {
                name: convert(name, by_name[name].convert, value)
                for name, value in named.items()
            }
            settings = cls(**values)
            settings._check()
        return settings

    def _check(self) -> None:
        for name in ("timeout", "connect_timeout"):
            if getattr(self, name) == 0:
                problem = "expected more than 0 seconds, or none"
                raise SettingError(name, 0, problem)
        try:
            parse_address(self.target)
        except ValueError as error:
            problem = str(error).partition(": ")[2]
            raise SettingError("target", self.target, problem) from None
        self.load_secret()

    def load_secret(self) -> str | bytes | None:
        """Give the secret, from its file if it is there; raises SettingError."""
        if self.secret_file is None:
            return self.secret
        if self.secret is not None:
            problem = "{secret} is given too"
            raise SettingError(
                "secret_file", self.secret_file, problem, beside=["secret"]
            )
        try:
            content = Path(self.secret_file).read_bytes()
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            raise SettingError("secret_file", self.secret_file, problem) from error
        secret = content.partition(b"\n")[0].strip()
        if not secret:
            problem = "expected a secret in its first line"
            raise SettingError("secret_file", self.secret_file, problem)
        return secret


def make_gateway(
    global_conf: Mapping[str, str] | None = None, **settings: object
) -> Gateway:
    """Make a gateway of an INI section: PasteDeploy's ``egg:paste_ajp#gateway``.

    ``target`` is required; GatewaySettings has the rest. Raises SettingError.
    """
    del global_conf  # its keys are for everybody, none of them is ours
    return build_gateway(GatewaySettings.parse(settings))


def build_gateway(settings: GatewaySettings, *, trace: Trace | None = None) -> Gateway:
    """Make a gateway of settings that were converted already."""
    keywords: dict[str, Any] = {
        field.name: getattr(settings, field.name) for field in fields(settings)
    }
    del keywords["secret_file"]
    keywords["secret"] = settings.load_secret()
    keywords["attributes"] = settings.attributes.replace(",", " ").split()
    return Gateway(keywords.pop("target"), trace=trace, **keywords)


class HttpDoorError(RuntimeError):
    """The HTTP door cannot be opened; the text says why, and what to do."""


class HttpDoor:
    """An open HTTP door: its ``url``, and ``drain`` and ``close``.

    Any thread may call all of it, and a signal handler ``drain`` and ``stop``.
    """

    def __init__(
        self, waitress: Any, listener: socket.socket, gateway: Gateway, threads: int
    ) -> None:
        """Take over ``listener`` and ``gateway``; waitress has no types."""
        host, port = listener.getsockname()[:2]
        self.host: str = host
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}/"
        self._gateway = gateway
        self._former: Gateway | None = None
        self._loop = waitress.wasyncore
        self._sockets: dict[int, Any] = {}
        self._server = waitress.create_server(
            gateway,
            map=self._sockets,
            sockets=[listener],
            threads=threads,
            ident=None,
            # It spools uploads to a file; what is too large, the AJP server says.
            max_request_body_size=1 << 40,
            channel_timeout=600,
            clear_untrusted_proxy_headers=False,
        )
        self._stopping = threading.Event()
        self._deadline: float | None = None  # of what runs, once it drains
        self._thread: threading.Thread | None = None
        # Held to wake the loop and to end it: its trigger must not be pulled
        # once it is closed, when its descriptor may be somebody else's. A signal
        # handler may interrupt who holds it.
        self._lock = threading.RLock()
        self._is_running = False
        self._has_ended = False
        _doors.add(self)

    def __enter__(self) -> HttpDoor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(
            target=self.run, name="paste_ajp-http-door", daemon=True
        )
        self._thread.start()

    def run(self) -> None:
        """Serve in this thread, until ``close`` or the end of ``drain``."""
        with self._lock:
            self._is_running = not self._has_ended
        try:
            while self._sockets and not self._is_done():
                self._turn(1.0)
        finally:
            with self._lock:
                self._is_running = False
                self._end()

    def _turn(self, seconds: float) -> None:
        if self._deadline is not None:
            seconds = min(seconds, max(0.0, self._deadline - time.monotonic()))
        self._loop.loop(timeout=seconds, use_poll=True, map=self._sockets, count=1)

    def _is_done(self) -> bool:
        """Whether the loop is to end; while it drains, close what has nothing to do."""
        if self._stopping.is_set():
            return True
        if self._deadline is None:
            return False
        if self._server.accepting:
            self._stop_listening()
        channels = self._server.active_channels
        for channel in list(channels.values()):
            # In this order: a request moves from the first to the last of them.
            if not (channel.request or channel.requests or channel.total_outbufs_len):
                channel.handle_close()
        if channels and time.monotonic() >= self._deadline:
            log.warning("%d requests over HTTP were cut off", len(channels))
            return True
        return not channels

    def _stop_listening(self) -> None:
        """Refuse who connects from now on; take, and read, who has by now."""
        known = -1
        while known < len(self._server.active_channels):
            known = len(self._server.active_channels)
            self._server.handle_accept()
        self._loop.dispatcher.close(self._server)  # its own close() ends the loop, too
        self._turn(0.0)

    def renew(self, settings: GatewaySettings) -> None:
        """Lead there by other settings from now on; raises SettingError."""
        former, self._former = self._former, self._gateway
        self._gateway = self._server.application = build_gateway(settings)
        # Not the last one yet, by which a request may be just about to begin.
        if former is not None:
            former.close()

    def drain(self, seconds: float) -> None:
        """Take no more requests, and let those that run end; returns at once.

        What has not ended after so many seconds is cut off.
        """
        if self._deadline is None:
            self._deadline = time.monotonic() + seconds
            self._wake()

    def stop(self) -> None:
        """Stop serving, and cut off what runs; returns at once."""
        self._stopping.set()
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._is_running:
                self._server.pull_trigger()
            elif self._stopping.is_set():
                self._end()

    def join(self) -> None:
        """Wait until what runs has ended, if this drains."""
        thread = self._thread
        if (
            self._deadline is not None
            and thread is not None
            and thread is not threading.current_thread()
        ):
            thread.join()  # which its deadline bounds

    def close(self) -> None:
        """Stop serving, and close every connection. From any thread, also twice."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=10)

    def _after_fork(self) -> None:
        """In a child process, leave all to the parent.

        Who connects would wait for nobody once that has ended, and connections would
        stay open that it has closed.
        """
        self._lock = threading.RLock()  # a thread that is not here may hold it
        self._thread = None
        self._is_running = False
        self._has_ended = True
        self._loop.close_all(self._sockets, ignore_all=True)

    def _end(self) -> None:
        """Give everything back. Under the lock, and in the loop's thread or without."""
        if not self._has_ended:
            self._has_ended = True
            self._loop.close_all(self._sockets, ignore_all=True)
            self._server.task_dispatcher.shutdown(timeout=1)
            for gateway in (self._gateway, self._former):
                if gateway is not None:
                    gateway.close()


#: All there are, for a fork.
_doors: weakref.WeakSet[HttpDoor] = weakref.WeakSet()


def _leave_after_fork() -> None:
    for door in list(_doors):
        door._after_fork()


if hasattr(os, "register_at_fork"):  # POSIX; elsewhere nothing forks
    os.register_at_fork(after_in_child=_leave_after_fork)


def url_from_here(ajp_target: str) -> str:
    """Say how the client gets to where a server listens, from any folder."""
    if ajp_target.startswith("unix:"):  # the client takes no relative path
        ajp_target = f"unix:{Path(ajp_target[5:]).absolute()}"
    target = parse_address(re.sub(r"^(?:\*|0\.0\.0\.0):", "127.0.0.1:", ajp_target))
    if target.host == "::":  # it listens everywhere
        target = target._replace(host="::1")
    return target.url


def door_settings(
    url: str, settings: object = None, *, threads: int = 16
) -> GatewaySettings:
    """Make the settings of a door beside an AJP port; see start_http_door()."""
    load_secret = getattr(settings, "load_secret", None)
    return GatewaySettings(
        target=url,
        secret=load_secret() if load_secret else None,
        packet_size=getattr(settings, "packet_size", 8192),
        timeout=None,
        pool_size=threads,
        show_details=True,
    )


def start_http_door(
    http_address: object,
    ajp_target: str,
    settings: object = None,
    *,
    threads: int = 16,
    listener: socket.socket | None = None,
) -> HttpDoor:
    """Open an HTTP door beside an AJP port, for development, and return at once.

    ``http_address`` is ``host:port`` (port 0 takes a free one), ``ajp_target`` an
    address as the client takes it, or as a server listens at it. Of ``settings``,
    a Settings of the server, the secret and ``packet_size`` are used. ``listener``
    is what open_http_listener() gave for the address, if it was called before. The
    door has a ``url`` and ``close()``. Raises HttpDoorError where waitress is
    missing, OSError where the address cannot be had.
    """
    url = url_from_here(ajp_target)
    door = build_http_door(
        http_address,
        door_settings(url, settings, threads=threads),
        threads=threads,
        listener=listener,
    )
    log.warning(
        "HTTP door at %s, over AJP to %s: FOR DEVELOPMENT ONLY, a web server is the "
        "front end in production",
        door.url,
        parse_address(url),
    )
    door.start()
    return door


def build_http_door(
    http_address: object,
    settings: GatewaySettings,
    *,
    threads: int = 16,
    trace: Trace | None = None,
    listener: socket.socket | None = None,
) -> HttpDoor:
    """Make a door without serving yet; it takes ``listener`` over, or opens one."""
    if listener is None:
        listener = open_http_listener(http_address)
    try:
        gateway = build_gateway(settings, trace=trace)
        door = HttpDoor(_import_waitress(), listener, gateway, threads)
    except BaseException:
        listener.close()
        raise
    if not ipaddress.ip_address(door.host).is_loopback:
        log.warning(
            "%s: other hosts can open it, and the AJP server believes whatever comes "
            "through it; nothing asks them for a password",
            door.url,
        )
    return door


def open_http_listener(http_address: object, inherited: int = -1) -> socket.socket:
    """Listen for HTTP; who connects waits until a door takes the socket over.

    ``inherited`` is the descriptor of a socket that listens there already, left by a
    predecessor. Raises HttpDoorError where waitress is missing, which the door will
    need, and OSError where the address cannot be had.
    """
    _import_waitress()
    if inherited >= 0:
        return socket.socket(fileno=inherited)
    host, port = _tcp_address(str(http_address))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Two sockets may be bound to a port; only one may listen.
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener


def _import_waitress() -> ModuleType:
    try:
        importlib.import_module("waitress.wasyncore")
        return importlib.import_module("waitress")
    except ImportError as error:
        raise HttpDoorError(
            "needs waitress, which is not installed: pip install paste_ajp[http]"
        ) from error


def _tcp_address(text: str) -> tuple[str, int]:
    """Read ``host:port``; raises SettingError."""
    try:
        address = addresses.parse_address(text)
    except UnfitError as error:
        raise SettingError("http", text, f"expected host:port ({error})") from None
    if address.kind != "tcp":
        raise SettingError("http", text, "expected host:port")
    return address.host, address.port


__all__ = [
    "GatewaySettings",
    "HttpDoor",
    "HttpDoorError",
    "build_gateway",
    "build_http_door",
    "door_settings",
    "make_gateway",
    "open_http_listener",
    "start_http_door",
    "url_from_here",
]
