"""A Pyramid application, as a project's ``main`` makes it for PasteDeploy."""

from __future__ import annotations

import hashlib
from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response


def page(request: Request) -> dict[str, Any]:
    return {
        "name": request.matchdict["name"],
        "url": request.url,
        "route": request.route_url("page", name="b"),
        "title": request.registry.settings["title"],
    }


def upload(request: Request) -> dict[str, Any]:
    content = request.POST["file"].file.read()
    return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def missing(request: Request) -> Response:
    return Response("not here", status=404)


def main(global_conf: dict[str, str], **settings: str) -> Any:  # a WSGI application
    with Configurator(settings=settings) as config:
        config.add_route("page", "/page/{name}")
        config.add_route("upload", "/upload")
        config.add_view(page, route_name="page", renderer="json")
        config.add_view(upload, route_name="upload", renderer="json")
        config.add_notfound_view(missing)
        return config.make_wsgi_app()
