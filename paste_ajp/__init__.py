"""An AJP/1.3 server for WSGI applications.

``serve(application, port=8009)`` serves until a signal comes; ``Server`` is for
those who start and stop it themselves; ``WSGIServer`` takes flup's arguments.
In an INI file it is ``use = egg:paste_ajp``, on the shell ``paste-ajp``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from paste_ajp.version import VERSION

if TYPE_CHECKING:
    from paste_ajp.flup import WSGIServer
    from paste_ajp.options import SettingError
    from paste_ajp.protocol import DecodeError, LocalProtocolError, ProtocolError
    from paste_ajp.serving import BindError, Server, serve
    from paste_ajp.settings import Settings

__version__ = VERSION

__all__ = [
    "BindError",
    "DecodeError",
    "LocalProtocolError",
    "ProtocolError",
    "Server",
    "SettingError",
    "Settings",
    "WSGIServer",
    "__version__",
    "serve",
]

#: Where each name is. It is imported when it is first asked for, so that to use
#: the protocol alone costs nothing else.
_HOMES: Final = {
    "BindError": "paste_ajp.serving",
    "DecodeError": "paste_ajp.protocol",
    "LocalProtocolError": "paste_ajp.protocol",
    "ProtocolError": "paste_ajp.protocol",
    "Server": "paste_ajp.serving",
    "SettingError": "paste_ajp.options",
    "Settings": "paste_ajp.settings",
    "WSGIServer": "paste_ajp.flup",
    "serve": "paste_ajp.serving",
}


def __getattr__(name: str) -> object:
    """Import a public name from where it is."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the names that are here once they are asked for, too."""
    return sorted({*globals(), *_HOMES})
