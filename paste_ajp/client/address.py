"""Where an AJP server is, as people write it.

========================================  ==================  =================
written                                   server              request target
========================================  ==================  =================
``ajp://host:8009/app?x=1``               host, port 8009     ``/app?x=1``
``ajp://[::1]`` or ``host:8009``          ::1, port 8009      none
``ajp+unix:///run/app.sock``              /run/app.sock       none
``unix:/run/app.sock``                    /run/app.sock       none
``ajp+unix://%2Frun%2Fapp.sock/app``      /run/app.sock       ``/app``
``unix:/run/app.sock|ajp://name/app``     /run/app.sock       ``/app``
========================================  ==================  =================

The last one is how httpd writes it in ProxyPass.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

DEFAULT_PORT = 8009

_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/?#\[\]@|]+))(?::(?P<port>\d*))?"
)


class Address(NamedTuple):
    """One AJP server, and what a URL asked of it.

    ``socket_path`` is empty for TCP. ``host`` is a name for the server in either
    case (``localhost`` for a nameless Unix socket). ``target`` is the path and
    query of the URL as written, empty when it had neither.
    """

    host: str
    port: int
    socket_path: str = ""
    target: str = ""

    def __str__(self) -> str:
        """Name the server alone, for messages."""
        if self.socket_path:
            return f"unix:{self.socket_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Write the address so that parse_address reads it back."""
        if not self.socket_path:
            return f"ajp://{self}{self.target}"
        if not self.target:
            return f"ajp+unix://{self.socket_path}"
        return f"ajp+unix://{quote(self.socket_path, safe='')}{self.target}"


def parse_address(url: str) -> Address:
    """Read an address in any of the forms of this module's table.

    Raises ValueError that quotes the address and says what was expected.
    """
    text = url.strip()
    if text.startswith("unix:") and "|" in text:
        socket_path, _, rest = text[5:].partition("|")
        named = parse_address(rest)
        if named.socket_path:
            raise _refusal(url, "after the | an ajp:// address")
        return named._replace(socket_path=_checked_path(socket_path, url))
    for prefix in ("ajp+unix://", "ajp+unix:", "unix://", "unix:"):
        if text.lower().startswith(prefix):
            return _parse_unix(text[len(prefix) :], url)
    scheme, separator, rest = text.partition("://")
    if not separator:
        rest = text
    elif scheme.lower() not in ("ajp", "ajp13"):
        raise _refusal(url, "ajp://host:port, or ajp+unix:///path")
    match = _HOST_AND_PORT.match(rest)
    if match is None:
        raise _refusal(url, "a host name or address after ajp://")
    target = rest[match.end() :].partition("#")[0]
    if target and target[0] not in "/?":
        raise _refusal(url, "ajp://host:port/path")
    if (match["host"] or "").isdigit():  # it would be taken for 0.0.0.8
        raise _refusal(url, f"host:port, as 127.0.0.1:{match['host']}")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port < 65536:
        raise _refusal(url, "a port from 1 to 65535")
    if target.startswith("?"):
        target = "/" + target
    return Address(match["v6"] or match["host"], port, "", target)


def _parse_unix(rest: str, url: str) -> Address:
    """A path as it is, or percent-encoded as the authority before a target."""
    if rest.startswith("/"):
        return Address("localhost", DEFAULT_PORT, _checked_path(rest, url))
    authority, slash, target = rest.partition("/")
    path = _checked_path(unquote(authority), url)
    return Address("localhost", DEFAULT_PORT, path, slash + target)


def _checked_path(path: str, url: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise _refusal(url, "the absolute path of a socket")
    return path


def _refusal(url: str, expected: str) -> ValueError:
    return ValueError(f"address {url!r}: expected {expected}")
