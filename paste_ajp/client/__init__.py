"""The front end's half of AJP: a client, and a gateway from HTTP.

``Client`` speaks to any AJP server, ours or Tomcat; ``Gateway`` is a WSGI
application that forwards to one, so that any HTTP server for Python becomes a
front end.
"""

from paste_ajp.client.address import Address, parse_address
from paste_ajp.client.body import Body
from paste_ajp.client.client import Client, Trace
from paste_ajp.client.errors import (
    BadAnswer,
    BodyFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    PoolExhausted,
    Stage,
    TimedOut,
    UnknownHost,
)
from paste_ajp.client.gateway import Gateway
from paste_ajp.client.response import Response

__all__ = [
    "Address",
    "BadAnswer",
    "Body",
    "BodyFailed",
    "Client",
    "ClientError",
    "ConnectFailed",
    "ConnectionLost",
    "Gateway",
    "PoolExhausted",
    "Response",
    "Stage",
    "TimedOut",
    "Trace",
    "UnknownHost",
    "parse_address",
]
