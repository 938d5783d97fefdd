"""An application that is served over AJP while a test runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paste_ajp.client import Client, Gateway
from paste_ajp.serving import Server
from paste_ajp.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: A test that takes longer than this for one answer is stuck.
TIMEOUT = 30.0


@dataclass(frozen=True)
class ServedApp:
    """What a test needs of the server.

    ``address`` is ``host:port`` or ``unix:/path``; ``url`` is the same for
    ``paste-ajp`` and Client. ``client`` is ready to use, and ``gateway`` is a WSGI
    application over it, for tools that test WSGI applications.
    """

    address: str
    url: str
    client: Client
    gateway: Gateway
    server: Server


@contextlib.contextmanager
def serve_app(application: WSGIApplication, **settings: object) -> Iterator[ServedApp]:
    """Serve an application in threads of this process, on a free port.

    Takes every setting of the server by keyword; ``port`` is 0 and the host is
    loopback unless they say otherwise. At the end requests that are still running
    have ``graceful_timeout`` (2 seconds here) to come to theirs.
    """
    if not {"host", "port", "listen"} & settings.keys():
        settings["port"] = 0
    settings.setdefault("graceful_timeout", 2)
    parsed = Settings.parse(settings)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(application, parsed))
        address = server.addresses[0]
        client = Client(
            address,
            secret=parsed.load_secret(),
            timeout=TIMEOUT,
            packet_size=parsed.packet_size,
        )
        stack.enter_context(client)
        gateway = Gateway(client, show_details=True, send_script_name=True)
        yield ServedApp(address, client.address.url, client, gateway, server)
