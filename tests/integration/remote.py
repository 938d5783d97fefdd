"""The remote: a browser's part, over HTTP."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# http.client takes 100 header lines and no more; there is no public way to say so
vars(http.client)["_MAXHEADERS"] = 1000


@dataclass(frozen=True)
class Answer:
    """A whole HTTP response."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name, or None."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def all_headers(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def json(self) -> Any:  # whatever the application put there
        assert self.status == 200, (self.status, self.reason, self.body[:2000])
        return json.loads(self.body)


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


class Remote:
    """One HTTP connection; a context manager that closes it."""

    def __init__(
        self, port: int, *, tls: ssl.SSLContext | None = None, timeout: float = 30
    ) -> None:
        self.connection: http.client.HTTPConnection
        if tls:
            self.connection = http.client.HTTPSConnection(
                "localhost", port, context=tls, timeout=timeout
            )
        else:
            self.connection = http.client.HTTPConnection(
                "127.0.0.1", port, timeout=timeout
            )

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> http.client.HTTPResponse:
        """Send a request; the response is still to be read."""
        headers = dict(headers or {})
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        self.connection.request(method, path, body, headers, encode_chunked=chunked)
        return self.connection.getresponse()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Answer:
        """Send a request and read the whole response."""
        response = self.send(method, path, body, headers, chunked=chunked)
        content = response.read()
        return Answer(
            response.status, response.reason, list(response.headers.items()), content
        )

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    chunked: bool = False,
    tls: ssl.SSLContext | None = None,
    timeout: float = 30,
) -> Answer:
    """One request on a connection of its own."""
    with Remote(port, tls=tls, timeout=timeout) as remote:
        return remote.ask(method, path, body, headers, chunked=chunked)
