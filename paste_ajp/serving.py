"""serve(): the one place that joins settings, application and engine."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from paste_ajp.addresses import Address
from paste_ajp.engine.listeners import (
    BindError,
    Listener,
    bind_error,
    open_listeners,
)
from paste_ajp.engine.notify import activated_descriptors, service_manager
from paste_ajp.engine.processes import ChildrenFailed, missing_for_processes
from paste_ajp.engine.room import room_for_connections
from paste_ajp.engine.signals import (
    ADD_SIGNAL,
    CHILD_SIGNAL,
    RELOAD_SIGNAL,
    REMOVE_SIGNAL,
    STOP_SIGNALS,
    TRACE_SIGNAL,
    UPGRADE_SIGNAL,
    StopAsked,
    StopWish,
    handled,
    in_main_thread,
)
from paste_ajp.engine.threaded import ThreadedServer
from paste_ajp.engine.upgrade import Upgrade, inheritance
from paste_ajp.logs import server_log
from paste_ajp.options import SettingError
from paste_ajp.settings import Settings
from paste_ajp.version import SERVER_SOFTWARE
from paste_ajp.wsgi.task import Application

if TYPE_CHECKING:
    from paste_ajp.engine.child import Source
    from paste_ajp.engine.prefork import PreforkServer
    from paste_ajp.http_door import HttpDoor

__all__ = ["BindError", "ChildrenFailed", "Server", "serve"]

#: Seconds beyond graceful_timeout that the HTTP door gets, to pass on what has ended.
_PASSING_ON_SECONDS = 1.0

#: Parts of the time that a watchdog allows, after which it hears of us.
_WATCHDOG_PARTS = 3


class Server:
    """A server for one application, whatever the settings make of it.

    `application` may be set later, before run() or start(): the doors bind first and
    load the application then; `load_application` makes it where there is none. `source`
    is what child processes load for themselves; without it, and with the setting
    `preload`, they are forked with the application. `environ` holds further keys for
    every request.
    """

    def __init__(
        self,
        application: Application | None,
        settings: Settings | None = None,
        *,
        load_application: Callable[[], Application] | None = None,
        source: Source | None = None,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        self.application = application
        self.settings = settings or Settings()
        self._load_application = load_application
        self._source = source
        self._environ = environ
        self._listeners: list[Listener] = []
        self._engine: ThreadedServer | PreforkServer | None = None
        self._parent: PreforkServer | None = None  # the engine, where it is one
        self._notifier = service_manager()
        self._upgrade = Upgrade(self._make_way)
        self._http_listener: Listener | None = None
        self._http_door: HttpDoor | None = None
        self._http_target = ""  # for a client, who may be in another folder by then
        self._reload = False
        self._process = os.getpid()  # which has called start() or run()
        #: Whether start() is under way, and whether a stop came meanwhile.
        self._is_starting = False
        self._stop_asked = False
        self._stop_at_once = False
        #: Whether the application is being loaded, and whether a signal ended that.
        self._is_loading = False
        self._load_ended = False
        self._stop_wish: StopWish | None = None
        self._handle_again: Callable[[], None] = _nothing_to_do

    # -- start --------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where this listens; port 0 has become a number once it is bound."""
        if self._listeners:
            return [str(listener.address) for listener in self._listeners]
        return [str(address) for address in self.settings.addresses]

    def bind(self) -> None:
        """Open the listening sockets unless that is done.

        Raises BindError, which names the address, and SettingError where an address
        can be reached from outside and there is no secret, or the trace cannot be
        written.
        """
        if self._listeners:
            return
        check_trace(self.settings.trace)
        listeners = open_listeners(
            self.settings,
            activated=activated_descriptors(),
            take_over=inheritance().take,
        )
        try:
            demand_secret(self.settings, [listener.address for listener in listeners])
            if self.settings.http is not None:
                self._http_listener = _listen_for_http(self.settings.http)
                self._http_target = _url_from_here(listeners[0].address)
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        self._listeners = listeners

    @property
    def loads_application(self) -> bool:
        """Whether this very process loads the application, or only its children."""
        settings = self.settings
        return (
            not settings.needs_parent
            or settings.preload
            or self._source is None
            or bool(missing_for_processes())
        )

    def start(self) -> None:
        """Serve in the background; return when that is so. No signal is handled.

        A shutdown() that comes meanwhile, say while the application loads, holds:
        what was begun ends again. Raises ChildrenFailed where processes are asked for
        and none can load the application, and RuntimeError where it serves already.
        """
        self._claim()
        self._begin()
        if self._parent is not None:
            try:
                self._parent.start()
            except BaseException:
                self.close()
                raise

    def _claim(self) -> None:
        """Have the start under way: a stop holds from now on."""
        if self._is_starting or self._engine is not None:
            raise RuntimeError("this server was started already, and has not ended")
        self._is_starting = True
        self._process = os.getpid()
        self._stop_asked = self._stop_at_once = self._load_ended = False
        self._stop_wish = None
        self._upgrade = Upgrade(self._make_way)

    def _begin(self) -> None:
        """Make the engine, and start it if it has no parent."""
        try:
            self.bind()
            self._start_engine()
        except BaseException:
            self._end_engine()
            self.close()
            raise
        finally:
            self._is_starting = False
        if self._stop_asked:
            self.shutdown(graceful=not self._stop_at_once)

    def _end_engine(self) -> None:
        """Stop what serves already where the rest of the start fails."""
        engine = self._engine
        if isinstance(engine, ThreadedServer):  # the other kind has not begun
            engine.shutdown(graceful=False)
            engine.wait()

    def _start_engine(self) -> None:
        application = self.application
        load = self._load_application
        if application is None and load is not None and self.loads_application:
            try:
                application = self._load(load)
            except BaseException:
                if not self._load_ended:  # else it comes of our StopAsked
                    raise
            self._handle_again()
        if self._stop_asked:
            return
        settings = self.settings
        missing = missing_for_processes()
        if settings.needs_parent and missing:
            server_log.warning(
                "one process serves, without a parent: this system has no %s", missing
            )
            settings = settings.replace(processes=1)
        addresses = self.addresses  # a stop closes them at any time from now on
        if settings.needs_parent and not missing:
            from paste_ajp.engine.prefork import PreforkServer

            self._engine = self._parent = PreforkServer(
                settings,
                self._listeners,
                source=None if self.loads_application else self._source,
                application=application,
                read_settings=self._source.settings if self._source else None,
                environ=self._environ,
                notifier=self._notifier,
                when_serving=self._succeed,
                when_reloaded=self._renew_http_door,
            )
        else:
            engine = ThreadedServer(
                application,
                settings,
                listeners=self._listeners,
                environ=self._environ,
            )
            engine.start()
            self._engine = engine
            self._tell_ready()
        server_log.info(
            "%s serves AJP/1.3 on %s, %d threads%s",
            SERVER_SOFTWARE,
            ", ".join(addresses),
            settings.threads,
            f" in each of {settings.processes} processes"
            if settings.processes > 1
            else "",
        )
        most, limit_name, _ = room_for_connections(settings)
        if most < settings.max_connections:
            server_log.info(
                "at most %d connections%s, not max_connections = %d, for %s",
                most,
                " in each" if settings.processes > 1 else "",
                settings.max_connections,
                limit_name,
            )
        if settings.http is not None:
            self._open_http_door()

    def _load(self, load: Callable[[], Application]) -> Application:
        self._is_loading = True
        try:
            return load()
        finally:
            self._is_loading = False

    def _succeed(self) -> None:
        """Take the place of a predecessor, if there is one, now that this serves.

        Not before: it would go on if this process failed, with its sockets and files.
        """
        for listener in self._listeners:
            listener.own_file()
        inheritance().close_rest()
        inheritance().tell_ready()

    def _tell_ready(self) -> None:
        """Tell a service manager and a predecessor that this process serves."""
        self._succeed()
        self._notifier.ready()
        if self._notifier.watchdog_seconds:
            threading.Thread(
                target=self._reassure, name="paste_ajp-watchdog", daemon=True
            ).start()

    def _reassure(self) -> None:
        """Tell the service manager again and again that we live."""
        engine = self._engine
        while engine is not None and self._notifier.watchdog_seconds:
            self._notifier.watchdog()
            if engine.wait(self._notifier.watchdog_seconds / _WATCHDOG_PARTS):
                return

    def _open_http_door(self) -> None:
        from paste_ajp.http_door import start_http_door

        assert self._http_listener is not None  # bind() has opened it
        self._http_door = start_http_door(
            self.settings.http,
            self._http_target,
            self.settings,
            listener=self._http_listener.socket,
        )

    def _renew_http_door(self, settings: Settings) -> None:
        """Have the HTTP door speak as a reload wants it: the secret may be another."""
        if self._http_door is None:
            return
        from paste_ajp.http_door import door_settings

        try:
            self._http_door.renew(door_settings(self._http_target, settings))
        except SettingError as error:
            server_log.error("the HTTP door keeps its former settings: %s", error)

    def run(self, *, install_signal_handlers: bool = True) -> bool:
        """Serve until a signal or shutdown() ends it.

        Returns True after SIGHUP, else False, as flup's run() does; with several
        processes SIGHUP replaces those, and this goes on. Outside the main
        thread no signal is handled. A signal that ends the server ends
        `load_application`, too, by an exception. Raises ChildrenFailed as start()
        does, and SystemExit in a child that was forked, when that is done.
        """
        self._reload = False
        self.bind()
        self._claim()
        handlers: dict[str, Callable[[], None]] = {}
        if install_signal_handlers and in_main_thread():
            handlers = {
                name: partial(self._on_stop_signal, name) for name in STOP_SIGNALS
            }
            handlers[RELOAD_SIGNAL] = self._on_reload_signal
            handlers[UPGRADE_SIGNAL] = self._on_upgrade_signal
            handlers[TRACE_SIGNAL] = self._on_trace_signal
            if self.settings.needs_parent:
                handlers[ADD_SIGNAL] = self._on_add_signal
                handlers[REMOVE_SIGNAL] = self._on_remove_signal
                handlers[CHILD_SIGNAL] = self._on_child_signal
        try:
            with handled(handlers) as self._handle_again:
                self._begin()
                if self._parent is not None:
                    try:
                        self._parent.run()
                    finally:
                        self.close()
                else:
                    self.wait()
        finally:
            self._handle_again = _nothing_to_do
            self._is_starting = False  # should a signal have come before _begin()
        return self._reload

    def _on_stop_signal(self, name: str) -> None:
        engine = self._engine
        wished, wish = self._stop_wish, StopWish(name, time.monotonic())
        if wished is not None and wished.is_same(wish):
            return
        self._stop_wish = wish
        if wished is not None or (engine is not None and engine.draining):
            server_log.warning("asked to stop once more: stopping at once")
            self._shut_down_aside(graceful=False)
        else:
            server_log.info(
                "asked to stop: %s",
                "the start is given up"
                if self._is_loading
                else "running requests may end first",
            )
            self._shut_down_aside()

    def _shut_down_aside(self, graceful: bool = True) -> None:
        """Do what a signal asks for, but not in its handler.

        A second signal may interrupt that, and would wait for a lock that the first
        one has taken.
        """
        if isinstance(self._engine, ThreadedServer):
            threading.Thread(
                target=self.shutdown, args=(graceful,), name="paste_ajp-stop"
            ).start()
        else:
            self.shutdown(graceful)
        if self._is_loading:
            self._load_ended = True
            raise StopAsked

    def _on_reload_signal(self) -> None:
        if self._parent is not None:
            self._parent.reload()
            return
        if self._is_starting and self.settings.needs_parent:
            server_log.info("asked to reload: what is being loaded is new already")
            return
        self._reload = True
        server_log.warning(
            "asked to reload: one process cannot, and ends for whoever started it to"
            " start it again (run() returns True); SIGUSR2 and processes = 2 can"
        )
        self._notifier.reloading()
        self._shut_down_aside()

    def _on_upgrade_signal(self) -> None:
        engine = self._engine
        if os.getpid() == 1:
            server_log.warning(
                "asked to upgrade: this is process 1 of a container, and its end would"
                " be the new server's too; start a new container"
            )
        elif engine is not None and not engine.draining:
            http = [self._http_listener] if self._http_listener is not None else []
            self._upgrade.begin([*self._listeners, *http], self._notifier)

    def _on_trace_signal(self) -> None:
        if self._engine is not None:
            # Not in here: the interrupted code may hold what the switch waits for.
            threading.Thread(target=self._engine.switch_trace).start()

    def _make_way(self, successor: int) -> None:
        """A successor serves on our sockets: end."""
        self._notifier.successor(successor)
        for listener in self._listeners:
            listener.leave_to_successor()
        if self._parent is not None:
            self._parent.make_way()
        self.shutdown()

    def _on_add_signal(self) -> None:
        if self._parent is not None:
            self._parent.add_child()

    def _on_remove_signal(self) -> None:
        if self._parent is not None:
            self._parent.remove_child()

    def _on_child_signal(self) -> None:
        if self._parent is not None:
            self._parent.wake()

    # -- stop ---------------------------------------------------------------------

    def shutdown(self, graceful: bool = True) -> None:
        """Stop; running requests get graceful_timeout, or none. Returns at once."""
        if not graceful:
            self._stop_at_once = True
        self._upgrade.give_up()
        self._stop_asked = True  # before the question: start() asks the other way
        if self._is_starting:
            return
        engine = self._engine
        if engine is None:
            self.close()
            return
        door = self._http_door
        if door is not None and graceful:
            door.drain(engine.settings.graceful_timeout + _PASSING_ON_SECONDS)
        elif door is not None:
            door.stop()
        if isinstance(engine, ThreadedServer) and not self._reload:
            self._notifier.stopping()  # the other engine does so itself
        engine.shutdown(graceful)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; False if it has not in time."""
        engine = self._engine
        if engine is None:
            return True
        if not engine.wait(timeout):
            return False
        self.close()
        return True

    def close(self) -> None:
        """Give the listening sockets back. run() and wait() do so by themselves.

        Where a shutdown() was graceful, wait for what the HTTP door passes on still.
        """
        door = self._http_door
        if door is not None and self._process == os.getpid():
            door.join()
            door.close()
            self._http_door = None
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        if self._http_listener is not None:
            self._http_listener.close()
            self._http_listener = None
        if self._engine is not None:
            self._engine = self._parent = None
            if self._process == os.getpid():  # no child that was forked
                server_log.info("stopped")

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.wait()


def _nothing_to_do() -> None:
    """Install no handler: there is none outside run()."""


def _listen_for_http(address: Address) -> Listener:
    """Open the HTTP door's socket, before an application is loaded for nothing.

    Or take the predecessor's, under a name that no address for AJP has.
    """
    from paste_ajp.http_door import HttpDoorError, open_http_listener

    written = f"http:{address}"
    left = inheritance().take(written)
    try:
        listener = Listener(open_http_listener(address, *left))
    except HttpDoorError as error:
        raise SettingError("http", str(address), str(error)) from error
    except OSError as error:
        raise bind_error(f"{address} for HTTP", error) from error
    listener.written = written
    return listener


def _url_from_here(address: Address) -> str:
    from paste_ajp.http_door import url_from_here

    return url_from_here(str(address))


def demand_secret(settings: Settings, addresses: Iterable[Address]) -> None:
    """Refuse to be reachable from outside, at `addresses`, without a secret.

    Raises SettingError. Where that is what is wanted a warning tells what it means,
    and another one if everybody can read the secret's file.
    """
    addresses = list(addresses)
    settings.demand_secret(addresses)
    if settings.load_secret() is not None:
        _warn_of_open_file(settings.secret_file)
        return
    outside = [address for address in addresses if not address.is_local]
    allowed = settings.allowed_servers
    if outside and (allowed is None or allowed.is_unlimited):
        server_log.warning(
            "everybody who reaches %s can claim to be any user: set secret, or"
            " name the front ends in allowed_servers (secret_required = false)",
            ", ".join(map(str, outside)),
        )


def _warn_of_open_file(path: str | None) -> None:
    if path is not None and os.name == "posix" and Path(path).stat().st_mode & 0o004:
        server_log.warning(
            "every user of this machine can read secret_file = %s: chmod o-r it", path
        )


def check_trace(path: str | None) -> None:
    """Refuse a trace that cannot be written, before an application is loaded.

    It leaves no file behind. What goes wrong later costs the trace alone.
    """
    if path is None:
        return
    try:
        problem = _problem_of_writing(Path(path))
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise SettingError("trace", path, f"cannot be written: {problem}")


def _problem_of_writing(path: Path) -> str:
    if path.is_dir():
        return "it is a folder"
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.exists():
        return "" if os.access(path, os.W_OK) else "no permission"
    may_create = os.access(path.parent, os.W_OK | os.X_OK)
    return "" if may_create else f"no permission for the folder {path.parent}"


def close_databases() -> None:
    """Close Zope's databases, as its runwsgi does behind the server.

    For programs in which that is not behind the server: children, and our own.
    """
    zope = sys.modules.get("Zope2")
    for database in getattr(zope, "opened", ()):
        database.close()


def serve(
    application: Application, settings: Settings | None = None, **keywords: Any
) -> bool:
    """Serve `application` until a signal ends it; keywords are settings.

    ``serve(app, port=8010, threads=4)``. Returns True after SIGHUP, else False.
    Raises SettingError and BindError.
    """
    if settings is None:
        settings = Settings.parse(keywords)
    elif keywords:
        settings = settings.replace(**keywords)
    return Server(application, settings).run()
