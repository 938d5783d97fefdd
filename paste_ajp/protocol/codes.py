"""Every number that AJP/1.3 assigns, each table written once.

Tables stand in the order of the specification ("The Apache Tomcat Connectors -
AJP Protocol Reference"), their inverses are derived. Text is Latin-1 ``str``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

#: What opens each packet that a front end sends.
MAGIC_TO_CONTAINER: Final = b"\x12\x34"
#: What opens each packet that a container sends.
MAGIC_TO_FRONT_END: Final = b"AB"

#: Bytes of a packet before its payload: magic and payload length.
PACKET_HEADER: Final = 4
#: The packet size, header included, that every party starts out with.
DEFAULT_PACKET_SIZE: Final = 8192
#: The largest packet size that a front end can be set to.
LARGEST_PACKET_SIZE: Final = 65536
#: Bytes of a request body chunk that are not body: header and length.
REQUEST_CHUNK_OVERHEAD: Final = 6
#: Bytes of a Send Body Chunk that are not body: header, type, length and NUL.
RESPONSE_CHUNK_OVERHEAD: Final = 8

#: The length that marks the null string; nothing follows it, not even a NUL.
NULL_STRING: Final = 0xFFFF
#: First byte of a header name that is a code. Literal names are shorter than this.
HEADER_CODE: Final = 0xA0


class ToContainer(IntEnum):
    """Type codes of what a front end sends. A request body chunk has none."""

    FORWARD_REQUEST = 2
    SHUTDOWN = 7
    PING = 8
    CPING = 10


class ToFrontEnd(IntEnum):
    """Type codes of what a container sends."""

    SEND_BODY_CHUNK = 3
    SEND_HEADERS = 4
    END_RESPONSE = 5
    GET_BODY_CHUNK = 6
    CPONG = 9


#: Methods with a code, the first 1. Source: AJPv13, "Method".
METHODS: Final = (
    "OPTIONS",
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "TRACE",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "ACL",
    "REPORT",
    "VERSION-CONTROL",
    "CHECKIN",
    "CHECKOUT",
    "UNCHECKOUT",
    "SEARCH",
    "MKWORKSPACE",
    "UPDATE",
    "LABEL",
    "MERGE",
    "BASELINE-CONTROL",
    "MKACTIVITY",
)
METHOD_BY_CODE: Final = dict(enumerate(METHODS, 1))
CODE_BY_METHOD: Final = {name: code for code, name in METHOD_BY_CODE.items()}
#: The method code that means: look at the attribute stored_method.
STORED_METHOD: Final = 0xFF

#: Request header names with a code, the first 0xA001. Source: AJPv13, "Headers".
REQUEST_HEADERS: Final = (
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-type",
    "content-length",
    "cookie",
    "cookie2",
    "host",
    "pragma",
    "referer",
    "user-agent",
)
REQUEST_HEADER_BY_CODE: Final = dict(enumerate(REQUEST_HEADERS, 0xA001))
CODE_BY_REQUEST_HEADER: Final = {n: code for code, n in REQUEST_HEADER_BY_CODE.items()}

#: Response header names with a code, the first 0xA001. Source: AJPv13, "Headers".
RESPONSE_HEADERS: Final = (
    "Content-Type",
    "Content-Language",
    "Content-Length",
    "Date",
    "Last-Modified",
    "Location",
    "Set-Cookie",
    "Set-Cookie2",
    "Servlet-Engine",
    "Status",
    "WWW-Authenticate",
)
RESPONSE_HEADER_BY_CODE: Final = dict(enumerate(RESPONSE_HEADERS, 0xA001))
#: Keys are lower-case: an application's spelling does not matter.
CODE_BY_RESPONSE_HEADER: Final = {
    name.lower(): code for code, name in RESPONSE_HEADER_BY_CODE.items()
}

#: Code of the attribute that carries a name of its own.
REQUEST_ATTRIBUTE: Final = 10
#: Code of the one attribute whose value is an integer.
SSL_KEY_SIZE: Final = 11
#: What ends the list of attributes.
END_OF_ATTRIBUTES: Final = 0xFF
#: Attributes with one value each. Source: AJPv13, "Attributes".
ATTRIBUTE_BY_CODE: Final = {
    1: "context",
    2: "servlet_path",
    3: "remote_user",
    4: "auth_type",
    5: "query_string",
    6: "jvm_route",
    7: "ssl_cert",
    8: "ssl_cipher",
    9: "ssl_session",
    11: "ssl_key_size",
    12: "secret",
    13: "stored_method",
}
#: Of these, the ones that may hold control characters: a certificate has lines, and
#: the others reach nobody.
ANY_TEXT_ATTRIBUTES: Final = frozenset(
    {"context", "secret", "servlet_path", "ssl_cert"}
)
#: Request attributes that front ends set by themselves. AJP notes 5.4.
FRONT_END_ATTRIBUTES: Final = frozenset(
    {"AJP_LOCAL_ADDR", "AJP_REMOTE_PORT", "AJP_SSL_PROTOCOL", "JK_LB_ACTIVATION"}
)
CODE_BY_ATTRIBUTE: Final = {name: code for code, name in ATTRIBUTE_BY_CODE.items()}
