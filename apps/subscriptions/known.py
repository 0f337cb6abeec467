"""What an application's people have: names of tags and properties, languages, versions. For forms that offer them.

Read from the newest rows alone, so that it costs the same at any size: what nobody new has is not offered, and can
still be typed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from apps.subscriptions.models import AppUser, Subscription

SUBSCRIPTIONS, USERS = 1_000, 500
"""How many of the newest are looked at."""
OFFERED = 60
"""Names or values of one kind."""
VALUES_SHORT = 40


class Known(NamedTuple):
    """The most frequent first."""

    tags: list[str]
    tag_values: dict[str, list[str]]
    """Of a tag, texts that several have: a value of one person alone is theirs."""
    properties: list[str]
    """Names, with a dot between those of an object inside of another."""
    languages: list[str]
    app_versions: list[str]
    sdk_versions: list[str]
    os_versions: list[str]
    device_models: list[str]


def known_of(application_id: UUID) -> Known:
    """Two queries. Indexes `subscription_by_application` and `user_by_application`."""
    columns = ("tags", "device_language", "app_version", "sdk_version", "device_os", "device_model")
    rows = list(
        Subscription.objects.filter(application_id=application_id).order_by("-pk").values_list(*columns)[:SUBSCRIPTIONS]
    )
    tags: Counter[str] = Counter()
    values: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row[0].items():
            tags[name] += 1
            if isinstance(value, str) and 0 < len(value) <= VALUES_SHORT:
                values.setdefault(name, Counter())[value] += 1
    names = _most(tags)
    return Known(
        tags=names,
        tag_values={name: _most({v: n for v, n in values.get(name, {}).items() if n > 1})[:20] for name in names},
        properties=known_properties(application_id),
        languages=_most(Counter(row[1] for row in rows)),
        app_versions=_most(Counter(row[2] for row in rows)),
        sdk_versions=_most(Counter(row[3] for row in rows)),
        os_versions=_most(Counter(row[4] for row in rows)),
        device_models=_most(Counter(row[5] for row in rows)),
    )


def known_properties(application_id: UUID) -> list[str]:
    """Names of the properties of the newest users. Index: `user_by_application`."""
    rows = AppUser.objects.filter(application_id=application_id).order_by("-pk").values_list("properties", flat=True)
    return _most(Counter(name for properties in rows[:USERS] for name in _names(properties)))


def _names(properties: Mapping[str, Any], before: str = "") -> Iterable[str]:
    """With a dot between the names of an object and of what is in it, one level deep."""
    for name, value in properties.items():
        if "." in name:
            continue
        if isinstance(value, dict) and not before:
            yield from _names(value, f"{name}.")
        else:
            yield f"{before}{name}"


def _most(counts: Mapping[str, int]) -> list[str]:
    return [name for name, _count in Counter(counts).most_common(OFFERED) if name]
