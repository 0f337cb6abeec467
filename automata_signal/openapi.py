"""The OpenAPI description of the envelope, and of the refusals that every route can give."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

PAGE_PARAMETERS = [
    OpenApiParameter("cursor", OpenApiTypes.STR, description="`meta.next_cursor` of the page before"),
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
]
"""For views that answer with `SignalView.page`."""

_META_SCHEMA = {
    "type": "object",
    "properties": {
        "timestamp": {"type": "string", "format": "date-time"},
        "version": {"type": "string"},
        "request_id": {"type": ["string", "null"]},
        "next_cursor": {"type": ["string", "null"]},
        "limit": {"type": "integer"},
    },
    "required": ["timestamp", "version"],
}
_ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "success": {"type": "boolean", "const": False},
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                        "required": ["field", "message"],
                    },
                },
            },
            "required": ["code", "message", "details"],
        },
        "meta": _META_SCHEMA,
    },
    "required": ["success", "error", "meta"],
}


class EnvelopeSchema(AutoSchema):
    """Describes the envelope around each answer, and the refusals that every route can give."""

    REFUSALS = {
        "400": "The input is wrong; `error.details` names the fields.",
        "401": "No key or token, or one that is not valid.",
        "403": "The key or role does not allow this.",
        "404": "There is no such thing for this application.",
        "409": "The request does not fit the present state.",
        "413": "The body is too large.",
        "415": "The body is not JSON.",
        "429": "Too many requests; see `Retry-After`.",
        "503": "A part that we need does not answer; try again.",
    }

    def _get_response_bodies(self, *args: Any, **kwargs: Any) -> Any:
        responses = super()._get_response_bodies(*args, **kwargs)
        for code, response in responses.items():
            content = response.get("content", {}).get("application/json")
            if content and code.startswith("2"):
                content["schema"] = {
                    "type": "object",
                    "properties": {
                        "success": {"type": "boolean", "const": True},
                        "data": content["schema"],
                        "meta": _META_SCHEMA,
                    },
                    "required": ["success", "data", "meta"],
                }
        for code, description in self.REFUSALS.items():
            responses.setdefault(
                code, {"description": description, "content": {"application/json": {"schema": _ERROR_SCHEMA}}}
            )
        return responses
