"""JSON on the wire: the envelope around every answer, and a strict parser for every body.

The envelope is that of the companion design (`004_…`, section 2.3):

    {"success": true,  "data": …,  "meta": {"timestamp": …, "version": "1.0", "request_id": …}}
    {"success": false, "error": {"code": …, "message": …, "details": [{"field": …, "message": …}]}, "meta": …}

An error about a limit has `limits` too: what is limited, to how much, what is used, and when it resets.

Rest framework loads this module while it loads its own views, so it imports nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from django.conf import settings
from rest_framework import exceptions, status
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from automata_signal.errors import FieldProblem, PayloadTooLarge, ValidationFailed

JSON_DEPTH_MAX = 32
PROBLEMS_MAX = 100
"""Problems that one answer names: a body of megabytes may hold a million."""
TEXT_MAX = 500
"""Characters of a message or of a field's path in an answer."""


def meta() -> dict[str, Any]:
    """What accompanies every answer; the request id is the one in the logs."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return {"timestamp": datetime.now(UTC), "version": settings.API_VERSION, "request_id": request_id}


class EnvelopeRenderer(BaseRenderer):
    """Puts the view's data into the envelope; errors arrive in it already."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        response = (renderer_context or {}).get("response")
        if response is not None and response.status_code == status.HTTP_204_NO_CONTENT:
            return b""
        if response is None or not response.exception:
            data = {"success": True, "data": data, "meta": meta() | getattr(response, "meta", {})}
        return written(data)


def written(data: Any) -> bytes:
    """JSON as every answer has it: what is kept of an answer, to be given again, must read the same."""
    return orjson.dumps(data, default=str, option=orjson.OPT_UTC_Z)


def error_body(
    code: str,
    message: str,
    details: list[FieldProblem] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A refusal. What the caller sent may stand in it, so it is bounded. `limits`, if any, say what was reached."""
    problems = [p._replace(field=_cut(p.field), message=_cut(p.message)) for p in (details or [])[:PROBLEMS_MAX]]
    error: dict[str, Any] = {"code": code, "message": _cut(message), "details": [p._asdict() for p in problems]}
    if limits:
        error["limits"] = dict(limits)
    return {"success": False, "error": error, "meta": meta()}


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"


class StrictJSONParser(BaseParser):
    """JSON by orjson, bounded in size and depth, and free of what PostgreSQL cannot store (NUL)."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        limit = settings.REQUEST_BODY_MAX_BYTES
        body = stream.read(limit + 1)
        if len(body) > limit:
            raise PayloadTooLarge(f"The body is larger than {limit} bytes.")
        if not body:
            return {}
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise exceptions.ParseError(f"The body is not valid JSON: {error}") from None
        if body.count(b"[") + body.count(b"{") > JSON_DEPTH_MAX and _is_deeper(value, JSON_DEPTH_MAX):
            _check_depth(value, "", 0)
        if b"\\u0000" in body:
            _refuse_nul(value, "")
        return value


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield f"{path}.{key}" if path else key, child
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield f"{path}[{index}]", child


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep in it. Cheap: a body has thousands, all flat."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_deeper(child, levels - 1) for child in children if isinstance(child, dict | list))


def _check_depth(value: Any, path: str, depth: int) -> None:
    if depth > JSON_DEPTH_MAX:
        raise ValidationFailed.of(path[:200], f"is nested deeper than {JSON_DEPTH_MAX} levels")
    for child_path, child in _children(value, path):
        if isinstance(child, dict | list):
            _check_depth(child, child_path, depth + 1)


def _refuse_nul(value: Any, path: str) -> None:
    if isinstance(value, str) and "\0" in value:
        raise ValidationFailed.of(path, "holds a NUL character")
    if isinstance(value, dict) and any("\0" in key for key in value):
        raise ValidationFailed.of(path, "has a name that holds a NUL character")
    for child_path, child in _children(value, path):
        _refuse_nul(child, child_path)
