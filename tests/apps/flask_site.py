"""A Flask application with uploads and a stream."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request

application = Flask(__name__)


@application.get("/page/<name>")
def page(name: str) -> dict[str, Any]:
    return {"name": name, "url": request.url, "query": request.args.to_dict()}


@application.post("/upload")
def upload() -> dict[str, Any]:
    if request.files:
        content = request.files["file"].read()
    else:
        content = request.get_data()
    return {"length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@application.get("/stream")
def stream() -> Response:
    def pieces() -> Iterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return Response(pieces(), mimetype="text/plain")


def make_app(global_conf: dict[str, str], **local: str) -> Flask:
    return application
