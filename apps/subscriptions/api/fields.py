"""Input fields that take a JSON type as it is: `"5"` is no number, 1 is not true, and 5 is no text."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.subscriptions.validation import NAME_MAX, TAG_VALUE_MAX, TAGS_MAX


class Text(serializers.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class WholeNumber(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class TrueOrFalse(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field({"type": "object", "additionalProperties": {}})
class JSONObject(serializers.Field[Any, Any, Any, Any]):
    default_error_messages = {"invalid": "Must be an object."}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field(
    {
        "type": "object",
        "maxProperties": TAGS_MAX,
        "propertyNames": {"type": "string", "minLength": 1, "maxLength": NAME_MAX},
        "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": TAG_VALUE_MAX},
        "description": "Laid over the tags there are; null removes one.",
        "example": {"plan": "pro", "visits": 12, "vip": True},
    }
)
class Tags(JSONObject):
    pass
