"""The OpenAPI description of the envelope, and of the refusals that every route can give."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from automata_signal.api import StrictSerializer

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
        "request_id": {"type": ["string", "null"], "description": "The one in our logs."},
        "next_cursor": {"type": ["string", "null"], "description": "For `?cursor=`; null on the last page."},
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
                "code": {"type": "string", "description": "Stable; for programs."},
                "message": {"type": "string", "description": "For people."},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "field": {"type": "string", "description": "Such as `recipients.external_ids[3]`."},
                            "message": {"type": "string"},
                        },
                        "required": ["field", "message"],
                    },
                },
                "limits": {
                    "type": "object",
                    "description": "Of a refusal by plan, quota or credit: what is limited, to how much, what is used "
                    "of it, and when that resets (null: never by itself).",
                    "properties": {
                        "what": {"type": "string"},
                        "limit": {"description": "null: none."},
                        "used": {},
                        "resets_at": {"type": ["string", "null"], "format": "date-time"},
                        "asked": {"type": "integer", "description": "Messages."},
                        "available": {"type": "integer", "description": "Messages that would fit now."},
                    },
                    "required": ["what", "limit", "used", "resets_at"],
                },
            },
            "required": ["code", "message", "details"],
        },
        "meta": {"$ref": "#/components/schemas/Meta"},
    },
    "required": ["success", "error", "meta"],
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


def _is_strict(serializer: Any) -> bool:
    kind = serializer if isinstance(serializer, type) else type(serializer)
    return issubclass(kind, StrictSerializer)


class EnvelopeSchema(AutoSchema):
    """Describes the envelope around each answer, the refusals that every route can give, and strict bodies."""

    REFUSALS = {
        "400": "The input is wrong; `error.details` names the fields.",
        "401": "No key or token, or one that is not valid.",
        "402": "The credit does not cover it; `error.limits` has the figures.",
        "403": "The key, the role or the plan does not allow this.",
        "404": "There is no such thing for this application.",
        "405": "The route has no such method.",
        "406": "The answer is JSON, and `Accept` does not take it.",
        "409": "The request does not fit the present state.",
        "413": "The body is too large.",
        "415": "The body is not JSON.",
        "429": "Too many requests, or a quota is used up (`error.limits`); see `Retry-After`.",
        "503": "A part that we need does not answer; try again.",
    }
    OF_BODIES = ("402", "413", "415")

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if direction == "request" and _is_strict(serializer):
            schema["additionalProperties"] = False
        return schema

    def _get_response_bodies(self, *args: Any, **kwargs: Any) -> Any:
        responses = super()._get_response_bodies(*args, **kwargs)
        for code, response in responses.items():
            types = response.get("content", {"application/json": {}})  # a file has no envelope
            if code.startswith("2") and code != "204" and "application/json" in types:
                content = response.setdefault("content", {}).setdefault("application/json", {})
                content["schema"] = self._envelope(content.get("schema", {"type": "null"}))
        for code in self.REFUSALS:
            if code not in self.OF_BODIES or self.method not in ("GET", "DELETE"):
                responses.setdefault(code, self._refusal(code))
        return responses

    def _refusal(self, code: str) -> Any:
        error = self._component("Error", _ERROR_SCHEMA)
        refusal = {"description": self.REFUSALS[code], "content": {"application/json": {"schema": error}}}
        if code in ("429", "503"):
            refusal["headers"] = _RETRY_AFTER
        return self._component(f"Refusal{code}", refusal, ResolvedComponent.RESPONSE)

    def _envelope(self, data: Any) -> dict[str, Any]:
        meta = self._component("Meta", _META_SCHEMA)
        return {
            "type": "object",
            "properties": {"success": {"type": "boolean", "const": True}, "data": data, "meta": meta},
            "required": ["success", "data", "meta"],
        }

    def _component(self, name: str, schema: dict[str, Any], kind: Any = ResolvedComponent.SCHEMA) -> Any:
        component = ResolvedComponent(name=name, type=kind, object=name, schema=schema)  # type: ignore[no-untyped-call]
        self.registry.register_on_missing(component)
        return component.ref
