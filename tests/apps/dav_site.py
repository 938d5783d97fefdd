"""A WebDAV share of a folder, without a password."""

from __future__ import annotations

from typing import Any

from wsgidav.wsgidav_app import WsgiDAVApp


def make_app(global_conf: dict[str, str], *, folder: str) -> Any:  # a WSGI application
    return WsgiDAVApp(
        {
            "provider_mapping": {"/": folder},
            "simple_dc": {"user_mapping": {"*": True}},
            "http_authenticator": {"domain_controller": None},
            "logging": {"enable": False},
            "verbose": 1,
            "lock_storage": True,
            "property_manager": True,
        }
    )
