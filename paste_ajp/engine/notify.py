"""The service manager: what it tells us, and what we tell it.

systemd's two protocols, both of environment variables: sockets that it has opened
(LISTEN_FDS, see sd_listen_fds(3)), and our state (NOTIFY_SOCKET, see sd_notify(3)).
What is read here is taken out of the environment, so that no process that we start
mistakes it for its own.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Final

#: The first descriptor that systemd hands over.
FIRST_DESCRIPTOR: Final = 3


class Notifier:
    """Tells the service manager our state; does nothing where there is none.

    `watchdog_seconds` is how often it wants to hear of us at least; 0 for never.
    """

    def __init__(self, address: str, watchdog_seconds: float = 0.0) -> None:
        self._address = address
        self.watchdog_seconds = watchdog_seconds if address else 0.0

    @classmethod
    def from_environment(
        cls, environ: MutableMapping[str, str] | None = None
    ) -> Notifier:
        """Take what the service manager has said; to be called once."""
        environ = os.environ if environ is None else environ
        address = environ.pop("NOTIFY_SOCKET", "")
        seconds = 0.0
        with suppress(ValueError):
            seconds = int(environ.pop("WATCHDOG_USEC", "0")) / 1e6
        process = environ.pop("WATCHDOG_PID", "")
        if process and process != str(os.getpid()):
            seconds = 0.0
        return cls(address, seconds)

    def environment(self) -> dict[str, str]:
        """Give what a process needs that takes our place."""
        if not self._address:
            return {}
        given = {"NOTIFY_SOCKET": self._address}
        if self.watchdog_seconds:
            given["WATCHDOG_USEC"] = str(int(self.watchdog_seconds * 1e6))
        return given

    def send(self, *lines: str) -> None:
        """Send assignments; a manager that does not listen is no trouble of ours."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto("\n".join(lines).encode(), address)

    def ready(self) -> None:
        """We serve; also after a reload, whether it went well or not."""
        self.send("READY=1")

    def reloading(self) -> None:
        """We reload; ready() follows."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={int(time.monotonic() * 1e6)}")

    def stopping(self) -> None:
        """We are about to end."""
        self.send("STOPPING=1")

    def watchdog(self) -> None:
        """We are alive."""
        self.send("WATCHDOG=1")

    def successor(self, pid: int) -> None:
        """That process takes our place; not a word from us after this."""
        self.send(f"MAINPID={pid}")
        self._address = ""
        self.watchdog_seconds = 0.0


@functools.cache
def service_manager() -> Notifier:
    """Give the Notifier of this process."""
    return Notifier.from_environment()


@functools.cache
def activated_descriptors() -> list[int]:
    """Give the listening sockets that systemd has opened for this very process."""
    return descriptors_from_environment(os.environ)


def descriptors_from_environment(environ: MutableMapping[str, str]) -> list[int]:
    """Take the descriptors that systemd has opened for this very process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environ.get("LISTEN_FDS", "")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    if not count.isdigit():
        return []
    descriptors = list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))
    for descriptor in descriptors:
        with suppress(OSError):  # whoever opens it says that it is closed
            os.set_inheritable(descriptor, False)
    return descriptors
