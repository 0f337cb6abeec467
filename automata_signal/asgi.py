"""The ASGI application of the process `live`: streams, and what tells of the process. The API is served by WSGI."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")

_django = get_asgi_application()

from apps.messaging.inbox import live  # noqa: E402  (not before Django is set up)
from automata_signal.envelope import error_body, written  # noqa: E402

_OWN = frozenset({"/healthz", "/readyz", "/metrics"})
"""What Django answers here; all other addresses are the web's."""


async def application(scope: dict[str, Any], receive: live.Receive, send: live.Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == live.PATH:
        await live.live(scope, receive, send)
    elif scope["path"] in _OWN:
        await _django(scope, receive, send)
    else:
        body = written(error_body("NOT_FOUND", "There is no such address in this process."))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": body})
