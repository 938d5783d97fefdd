"""The access log: one line for each request that has got an answer."""

from __future__ import annotations

import time

from paste_ajp.logs import access_line, access_log
from paste_ajp.protocol import ForwardRequest


def log_access(
    request: ForwardRequest,
    *,
    status: int,
    body_bytes: int,
    seconds: float,
    shows_user: bool = True,
) -> None:
    """Log a request and what became of it; `shows_user` with its REMOTE_USER.

    To be called when its response has ended.
    """
    headers = dict(request.headers)
    query = request.attributes.get("query_string")
    user = request.attributes.get("remote_user") if shows_user else None
    access_log.info(
        "%s",
        access_line(
            remote_addr=request.remote_addr or "",
            remote_user=str(user or ""),
            method=request.method,
            uri=f"{request.req_uri}?{query}" if query else request.req_uri,
            protocol=request.protocol,
            status=status,
            body_bytes=body_bytes,
            referer=headers.get("referer", ""),
            user_agent=headers.get("user-agent", ""),
            seconds=seconds,
            ended_at=time.time(),
        ),
    )
