"""Who waits, and until when. Nobody is dropped: a message that waits is pending, and its batch comes back for it.

- Advertising in Korea from 21:00 to 08:00 (Asia/Seoul, wherever the recipient is) without night consent: until 08:00.
- Quiet hours of the application, by the recipient's clock: until they are over.
- A campaign's local time or the recipient's active hour: until then, the first time after the launch.

What waits for what the sender chose, and advertising, lives as long as if it had been sent then: the batch's time to
live begins anew. A transactional message that would come back after its end fails as expired.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection
from django.utils import timezone

from apps.messaging.courtesy.rules import Quiet, Rules, rules_of
from apps.messaging.courtesy.zones import SEOUL, is_within, next_time, zone_of
from apps.messaging.models import Dispatch, Purpose
from apps.subscriptions.preferences.models import SendTiming

NIGHT_BEGINS, NIGHT_ENDS = time(21), time(8)
"""정보통신망법 50 ③: from 21:00 to 08:00 of the next day."""


class Person(NamedTuple):
    """What is looked at of a recipient."""

    subject_id: UUID
    own_zone: str | None
    country: str
    has_night_consent: bool
    active_hour: int | None
    """UTC."""


class Plan(NamedTuple):
    """What a batch of a dispatch is to keep to, now."""

    rules: Rules
    is_night_asked: bool
    """Whether night consent counts at any time of the day."""
    quiet: Quiet | None
    timing: SendTiming | None

    @property
    def looks_at_people(self) -> bool:
        return self.quiet is not None or self.timing is not None or self.is_night_asked


class Waits(NamedTuple):
    """Of the recipients of a claim: who waits (subscription → until when), and when sending has to stop for others."""

    until: dict[str, datetime]
    send_before: datetime | None
    """When some rule begins that does not hold now; None: nothing does."""
    extends: bool
    """Whether the time to live begins anew at the end of the wait."""


NO_WAITS = Waits({}, None, False)


def plan_of(dispatch: Dispatch) -> Plan | None:
    """What the dispatch is to keep to; None if nothing, as for a plain transactional message of high priority."""
    rules = rules_of(dispatch.application_id)
    timing = None
    if dispatch.campaign_id is not None:
        timing = _timing_of(dispatch.application_id, dispatch.campaign_id)
    plan = Plan(
        rules,
        rules.has_night(channel=dispatch.channel_type, purpose=dispatch.purpose),
        rules.quiet_for(channel=dispatch.channel_type, purpose=dispatch.purpose, priority=dispatch.priority),
        timing,
    )
    return plan if plan.looks_at_people else None


@lru_cache(maxsize=10_000)
def _timing_of(application_id: UUID, campaign_id: UUID) -> SendTiming | None:
    """Of a campaign that was launched, whose timing is fixed: asked once by each process, not for each batch."""
    return SendTiming.objects.filter(application_id=application_id, pk=campaign_id).first()


# By the primary keys of subscriptions and users, and the unique keys of consents and active hours; each only where the
# plan asks for it.
_PEOPLE = """
    SELECT s.id::text, coalesce(s.user_id, s.id), {zone}, s.country_code, {night}, {hour}
    FROM subscriptions_subscription s {join}
    WHERE s.application_id = %s AND s.id = ANY(%s::uuid[])
"""
_ZONE = "u.properties ->> 'time_zone'"
_USER = "LEFT JOIN subscriptions_appuser u ON u.id = s.user_id AND u.application_id = s.application_id"
_NIGHT = """EXISTS (
    SELECT 1 FROM subscriptions_marketingconsent mc WHERE mc.application_id = s.application_id
      AND mc.subject_id = coalesce(s.user_id, s.id) AND mc.channel = %s AND mc.is_given AND mc.is_night_given)"""
_HOUR = """(
    SELECT h.best_hour FROM subscriptions_activehours h WHERE h.application_id = s.application_id
      AND h.subject_id = coalesce(s.user_id, s.id))"""


def people(dispatch: Dispatch, plan: Plan | None, subscription_ids: Sequence[str]) -> dict[str, Person]:
    """What the plan looks at of these subscriptions, in one query."""
    has_clock = plan is not None and (plan.quiet is not None or plan.timing is not None)
    is_night = plan is not None and plan.is_night_asked
    has_hour = plan is not None and plan.timing is not None and plan.timing.at_active_hours
    statement = _PEOPLE.format(
        zone=_ZONE if has_clock else "NULL",
        join=_USER if has_clock else "",
        night=_NIGHT if is_night else "false",
        hour=_HOUR if has_hour else "NULL",
    )
    params = [dispatch.channel_type] if is_night else []
    with connection.cursor() as cursor:
        cursor.execute(statement, [*params, dispatch.application_id, list(subscription_ids)])
        return {key: Person(*row) for key, *row in cursor.fetchall()}


def waits_of(dispatch: Dispatch, plan: Plan, known: dict[str, Person], *, now: datetime | None = None) -> Waits:
    """Who of these waits now, and until when."""
    now = now or timezone.now()
    until: dict[str, datetime] = {}
    bounds: list[datetime] = []
    ends: dict[str, datetime | None] = {}
    """By zone, since most people share a few: when quiet hours are over, None if they are not."""
    is_night = plan.is_night_asked and is_within(now, NIGHT_BEGINS, NIGHT_ENDS, SEOUL)
    if plan.is_night_asked and not is_night:
        bounds.append(next_time(now, NIGHT_BEGINS, SEOUL))
    morning = next_time(now, NIGHT_ENDS, SEOUL) if is_night else None
    has_chosen_time = False
    for subscription_id, person in known.items():
        zone = zone_of(person.own_zone, person.country, plan.rules.time_zone)
        moments: list[datetime] = []
        if plan.timing is not None and (chosen := _chosen_moment(dispatch, plan.timing, person, zone)) > now:
            moments.append(chosen)
            has_chosen_time = True
        if morning is not None and not person.has_night_consent:
            moments.append(morning)
        if plan.quiet is not None:
            if zone.key not in ends:
                ends[zone.key] = _quiet_until(plan.quiet, now, zone)
                if ends[zone.key] is None:
                    bounds.append(next_time(now, plan.quiet.begins, zone))
            if (over := ends[zone.key]) is not None:
                moments.append(over)
        if moments:
            until[subscription_id] = max(moments)
    extends = has_chosen_time or dispatch.purpose == Purpose.MARKETING
    return Waits(until, min(bounds, default=None), extends)


def _quiet_until(quiet: Quiet, now: datetime, zone: ZoneInfo) -> datetime | None:
    return next_time(now, quiet.ends, zone) if is_within(now, quiet.begins, quiet.ends, zone) else None


def _chosen_moment(dispatch: Dispatch, timing: SendTiming, person: Person, zone: ZoneInfo) -> datetime:
    """When the campaign is for this person: at their active hour if it is known and asked for, else at the local time,
    else at once."""
    if timing.at_active_hours and person.active_hour is not None:
        return next_time(dispatch.created_at, time(person.active_hour), zone_of("UTC", None, "UTC"))
    if timing.local_time is not None:
        return next_time(dispatch.created_at, timing.local_time, zone)
    return dispatch.created_at


def end_of_life(waits: Waits, ttl: timedelta) -> datetime | None:
    """Until when a batch lives that comes back for those who wait; None: as long as it did."""
    return max(waits.until.values()) + ttl if waits.until and waits.extends else None
