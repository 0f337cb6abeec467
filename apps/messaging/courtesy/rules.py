"""What an application chose, as it stands now: read once in a while by each process, not for each batch."""

from __future__ import annotations

import time as clocks
from collections.abc import Mapping
from datetime import time
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings

from apps.messaging.models import Priority, Purpose
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application

QUIET_CHANNELS = frozenset({ChannelType.PUSH.value, ChannelType.SMS.value, ChannelType.KAKAO_TALK.value})
"""Those that quiet hours are for unless told: they make a sound."""
NIGHT_EXEMPT = frozenset({ChannelType.EMAIL.value, ChannelType.IN_APP.value})
"""No consent of its own at night: e-mail by the decree (61 ②); an in-app message is shown to who opens the app."""
KEPT_MAX = 10_000


class Quiet(NamedTuple):
    begins: time
    ends: time
    channels: frozenset[str]


class Cap(NamedTuple):
    """So many marketing messages by day or week (7 days), of a channel, a category, both or all."""

    channel: str
    category: str
    per_day: int | None
    per_week: int | None

    @property
    def key(self) -> str:
        """What its counts are kept under."""
        return f"{self.channel or '*'}:{self.category or '*'}"[:64]

    def is_for(self, channel: str, category: str) -> bool:
        return self.channel in ("", channel) and self.category in ("", category)


class Rules(NamedTuple):
    time_zone: str
    is_korean: bool
    quiet: Quiet | None
    caps: tuple[Cap, ...]

    def quiet_for(self, *, channel: str, purpose: str, priority: str) -> Quiet | None:
        """The quiet hours that a message keeps. What is transactional and of high priority goes through."""
        if self.quiet is None or channel not in self.quiet.channels:
            return None
        is_urgent = purpose == Purpose.TRANSACTIONAL and priority == Priority.HIGH
        return None if is_urgent else self.quiet

    def has_night(self, *, channel: str, purpose: str) -> bool:
        """Whether it is advertising that needs a consent of its own from 21:00 to 08:00 in Korea."""
        return self.is_korean and purpose == Purpose.MARKETING and channel not in NIGHT_EXEMPT

    def caps_for(self, *, channel: str, purpose: str, category: str) -> list[Cap]:
        """In the order of their keys: counts are locked in it."""
        if purpose != Purpose.MARKETING:
            return []
        return sorted((cap for cap in self.caps if cap.is_for(channel, category)), key=lambda cap: cap.key)


_kept: dict[UUID, tuple[float, Rules]] = {}


def rules_of(application_id: UUID) -> Rules:
    """The application's rules, as they were `API_KEY_CACHE_S` ago at most."""
    kept = _kept.get(application_id)
    if kept is not None and clocks.monotonic() < kept[0]:
        return kept[1]
    row = Application.objects.filter(pk=application_id).values_list("settings", "time_zone").get()
    rules = _read(*row)
    if settings.API_KEY_CACHE_S > 0:
        if len(_kept) >= KEPT_MAX:
            _kept.clear()
        _kept[application_id] = (clocks.monotonic() + settings.API_KEY_CACHE_S, rules)
    return rules


def _read(chosen: Mapping[str, Any], time_zone: str) -> Rules:
    quiet = chosen.get("quiet_hours")
    return Rules(
        time_zone=time_zone,
        is_korean=chosen.get("advertising_rules") == "kr",
        quiet=quiet
        and Quiet(
            time.fromisoformat(quiet["from"]),
            time.fromisoformat(quiet["to"]),
            frozenset(quiet.get("channels", QUIET_CHANNELS)),
        ),
        caps=tuple(
            Cap(cap.get("channel", ""), cap.get("category", ""), cap.get("per_day"), cap.get("per_week"))
            for cap in chosen.get("frequency_caps", ())
        ),
    )
