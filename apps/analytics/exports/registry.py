"""The kinds of exports. Upper apps register their own at start-up (`AppConfig.ready`)."""

from __future__ import annotations

from typing import Any

from apps.analytics.exports.columns import Resource
from automata_signal.errors import ValidationFailed

_resources: dict[str, Resource] = {}


def register_resource(resource: Resource) -> None:
    if _resources.setdefault(resource.kind, resource) is not resource:
        raise ValueError(f"there is an export of {resource.kind!r} already")


def resource_of(kind: str) -> Resource:
    """Raises `ValidationFailed` of `kind`."""
    try:
        return _resources[kind]
    except KeyError:
        raise ValidationFailed.of("kind", f"is not one of {', '.join(kinds())}") from None


def kinds() -> list[str]:
    return list(_resources)


def resources() -> list[Resource]:
    return list(_resources.values())


def kind_choices() -> list[tuple[str, Any]]:
    return [(resource.kind, resource.label) for resource in _resources.values()]
