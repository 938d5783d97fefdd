"""The ten messages of AJP/1.3. They cannot change on the way to another thread.

Text is ``str`` that holds bytes as Latin-1, as PEP 3333 wants it; bodies are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

#: Headers whose values are for the application alone.
_CONFIDENTIAL: Final = frozenset(
    {"authorization", "cookie", "cookie2", "proxy-authorization"}
)


#: Attributes that httpd and mod_jk send and lighttpd never does. AJP notes 5.3.
NOT_FROM_LIGHTTPD: Final = ("jvm_route", "ssl_session", "ssl_key_size", "stored_method")


class ForwardRequest(NamedTuple):
    """A request, complete but for its body. Front end to container.

    A named tuple, unlike the other messages: it is built once per request on the
    hot path, in a quarter of the time that a frozen dataclass takes.
    """

    #: As the remote sent it, also where it has no code of its own.
    method: str
    #: ``HTTP/1.1`` and the like.
    protocol: str
    #: Path without query string; percent-encoded by all front ends but lighttpd.
    req_uri: str
    remote_addr: str | None
    #: Practically always None: front ends do not look names up.
    remote_host: str | None
    server_name: str | None
    server_port: int
    is_ssl: bool
    #: Name in lower case and value, in the order of the wire.
    headers: list[tuple[str, str]]
    #: By the names in codes.ATTRIBUTE_BY_CODE; ``ssl_key_size`` is an int.
    attributes: dict[str, str | int | None]
    #: The attributes that carry their own name, in the order of the wire.
    request_attributes: list[tuple[str, str]]
    #: From the header, checked; None where there is none.
    content_length: int | None
    #: Whether the remote used ``Transfer-Encoding: chunked`` (length unknown).
    is_chunked: bool

    def __repr__(self) -> str:
        """Show what may be seen in a log or a debugger: no secret, no credentials."""
        headers = [
            (name, "***" if name in _CONFIDENTIAL else value)
            for name, value in self.headers
        ]
        attributes = {
            name: "***" if name == "secret" else value
            for name, value in self.attributes.items()
        }
        shown = self._replace(headers=headers, attributes=attributes)
        fields = ", ".join(
            f"{name}={value!r}" for name, value in zip(self._fields, shown, strict=True)
        )
        return f"{type(self).__name__}({fields})"

    @property
    def looks_like_lighttpd(self) -> bool:
        """Whether everything that tells lighttpd's mod_ajp13 from others fits.

        It sends neither a remote host nor any request attribute, but a
        Content-Length with every request. Remotes cannot influence the first two.
        """
        if (
            self.remote_host is not None
            or self.content_length is None
            or self.request_attributes
        ):
            return False
        return not any(name in self.attributes for name in NOT_FROM_LIGHTTPD)


@dataclass(frozen=True, slots=True)
class BodyChunk:
    """A piece of request body; empty at its end. Front end to container."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Asks a container to stop. No front end sends it, and nobody may obey it."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Part of a login that was planned and never came. No front end sends it."""


@dataclass(frozen=True, slots=True)
class CPing:
    """Asks whether the container is alive. Front end to container, while idle."""


@dataclass(frozen=True, slots=True)
class SendBodyChunk:
    """A piece of response body; an empty one asks to flush. To the front end."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendHeaders:
    """Status and headers of the response. Container to front end, exactly once."""

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class EndResponse:
    """Ends the exchange; ``reuse`` says whether the connection stays open."""

    reuse: bool


@dataclass(frozen=True, slots=True)
class GetBodyChunk:
    """Asks for up to ``length`` more bytes of request body. To the front end."""

    length: int


@dataclass(frozen=True, slots=True)
class CPong:
    """Answers a CPing. Container to front end."""


#: What a front end may send.
MessageToContainer: TypeAlias = ForwardRequest | BodyChunk | CPing | Ping | Shutdown
#: What a container may send.
MessageToFrontEnd: TypeAlias = (
    SendHeaders | SendBodyChunk | EndResponse | GetBodyChunk | CPong
)
Message: TypeAlias = MessageToContainer | MessageToFrontEnd
