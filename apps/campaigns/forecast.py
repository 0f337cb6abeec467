"""What a launch would do, as far as it can be told beforehand: whom it reaches, whom it leaves out and why, who waits
until when, what it costs. Estimates: people come, go and change their minds until the launch.

Each question is one statement over the audience, as the launch would ask it; the caller limits how long it may take
(`console.words.quick_statements`), and answers are kept for a while (`caches.AUDIENCE_COUNTS`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, cast
from uuid import UUID

from django.db import connection
from django.utils import timezone

from apps.billing.selectors import QuotaState, plan_state
from apps.campaigns.audience import compiled, freeze
from apps.campaigns.experiments.assignment import held_out_condition
from apps.campaigns.experiments.planning import experiment_of
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.timing import timing_of
from apps.messaging.adapters.base import ContentError
from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.content import ContentSource, recipient_variables, used_adapters
from apps.messaging.courtesy.caps import CAPPED
from apps.messaging.courtesy.rules import Cap, rules_of
from apps.messaging.courtesy.waiting import NIGHT_BEGINS, NIGHT_ENDS
from apps.messaging.courtesy.wanted import Condition, conditions_of, reason_of
from apps.messaging.courtesy.zones import SEOUL, is_within, next_time, zone_named, zone_of
from apps.messaging.rendering import RenderError
from apps.subscriptions.models import Subscription
from apps.subscriptions.targeting import REACHABLE, Criteria
from automata_signal.caches import AUDIENCE_COUNTS, cached

HELD_OUT = "held_out"
"""Of the test's plan: who is to get nothing, for comparison."""
SIMILAR_DAYS = 7
SIMILAR_MAX = 3
SAMPLED = 20

# --- Who -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipients:
    """Subscriptions of the audience: who gets it by type, and who does not by reason."""

    by_type: Mapping[str, int]
    excluded: Mapping[str, int]
    """Reason → how many: `no_consent`, `opted_out`, `suppressed`, `frequency_capped`; `held_out` of a test."""
    by_clock: Sequence[tuple[str, bool, int]]
    """Country, whether they agreed to advertising at night, how many of those who get it."""

    @property
    def total(self) -> int:
        return sum(self.by_type.values())

    @property
    def matched(self) -> int:
        return self.total + sum(self.excluded.values())


_NIGHT_CONSENT = """EXISTS (
    SELECT 1 FROM subscriptions_marketingconsent mc WHERE mc.application_id = s.application_id
      AND mc.subject_id = coalesce(s.user_id, s.id) AND mc.channel = %s AND mc.is_given AND mc.is_night_given)"""
_CAPPED_DAY = """NOT EXISTS (
    SELECT 1 FROM subscriptions_sendcount c WHERE c.application_id = s.application_id
      AND c.subject_id = coalesce(s.user_id, s.id) AND c.key = %s AND c.day = %s AND c.messages >= %s)"""
_CAPPED_WEEK = """coalesce((
    SELECT sum(c.messages) FROM subscriptions_sendcount c WHERE c.application_id = s.application_id
      AND c.subject_id = coalesce(s.user_id, s.id) AND c.key = %s AND c.day BETWEEN %s::date - 6 AND %s::date
    ), 0) < %s"""


def recipients_of(campaign: MessageCampaign) -> Recipients:
    """Index: `subscription_reachable`, and the unique keys of consents, preferences, suppressions and counts."""
    experiment = experiment_of(campaign)
    held_out = held_out_condition(experiment) if experiment is not None else None
    asked = {"forecast": "recipients", "held_out": held_out and [str(one) for one in held_out[1]], **_asked(campaign)}
    rows = cached(AUDIENCE_COUNTS, campaign.application_id, asked, lambda: _read_recipients(campaign, held_out))
    by_type: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    by_clock: Counter[tuple[str, bool]] = Counter()
    for kind, country, reason, has_night, count in rows:
        if reason:
            excluded[reason] += count
        else:
            by_type[kind] += count
            by_clock[country, has_night] += count
    clocks = [(country, has_night, count) for (country, has_night), count in by_clock.items()]
    return Recipients(dict(by_type), dict(excluded.most_common()), clocks)


def _read_recipients(campaign: MessageCampaign, held_out: tuple[str, list[Any]] | None) -> list[list[Any]]:
    predicate = compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria")
    conditions = [
        *conditions_of(campaign.application_id, campaign.channel_type, campaign.purpose, campaign.category),
        *_cap_conditions(campaign),
        *([Condition(*held_out, HELD_OUT)] if held_out else []),
    ]
    reason, params = reason_of(conditions) if conditions else ("NULL", [])
    rules = rules_of(campaign.application_id)
    has_night = rules.has_night(channel=campaign.channel_type, purpose=campaign.purpose)
    night = _NIGHT_CONSENT if has_night else "true"
    sql = (
        f"SELECT s.type, s.country_code, {reason}, {night}, count(*) FROM {predicate.from_clause}"
        f" WHERE s.application_id = %s AND s.type = ANY(%s) AND {REACHABLE} AND ({predicate.sql}) GROUP BY 1, 2, 3, 4"
    )
    params = [*params, *([campaign.channel_type] if has_night else []), *_of(campaign), *predicate.params]
    return [list(row) for row in _rows(sql, params)]


def _cap_conditions(campaign: MessageCampaign) -> list[Condition]:
    """Who had as many marketing messages as the caps allow, as of now."""
    rules = rules_of(campaign.application_id)
    caps = rules.caps_for(channel=campaign.channel_type, purpose=campaign.purpose, category=campaign.category)
    start = campaign.scheduled_at or timezone.now()
    day = start.astimezone(zone_named(rules.time_zone)).date().isoformat()
    return [condition for cap in caps for condition in _of_cap(cap, day)]


def _of_cap(cap: Cap, day: str) -> list[Condition]:
    found = []
    if cap.per_day is not None:
        found.append(Condition(_CAPPED_DAY, [cap.key, day, cap.per_day], CAPPED))
    if cap.per_week is not None:
        found.append(Condition(_CAPPED_WEEK, [cap.key, day, day, cap.per_week], CAPPED))
    return found


def unreachable_of(campaign: MessageCampaign) -> int:
    """Subscriptions that meet the conditions and have ended, or are refused on the device."""
    predicate = compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria")
    sql = (
        f"SELECT count(*) FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
        f" AND s.subscription_status <= 0 AND NOT s.is_archived AND ({predicate.sql})"
    )
    asked = {"forecast": "unreachable", **_asked(campaign)}
    params = [*_of(campaign), *predicate.params]
    return cached(AUDIENCE_COUNTS, campaign.application_id, asked, lambda: int(_rows(sql, params)[0][0]))


def several_devices_of(campaign: MessageCampaign) -> int:
    """Users who would get it more than once, on several subscriptions of the channel."""
    predicate = compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria")
    sql = (
        f"SELECT count(*) FROM (SELECT s.user_id FROM {predicate.from_clause} WHERE s.application_id = %s"
        f" AND s.type = ANY(%s) AND {REACHABLE} AND ({predicate.sql}) AND s.user_id IS NOT NULL"
        " GROUP BY s.user_id HAVING count(*) > 1) found"
    )
    asked = {"forecast": "several", **_asked(campaign)}
    params = [*_of(campaign), *predicate.params]
    return cached(AUDIENCE_COUNTS, campaign.application_id, asked, lambda: int(_rows(sql, params)[0][0]))


def _asked(campaign: MessageCampaign) -> dict[str, Any]:
    start = campaign.scheduled_at
    return {
        "channel": campaign.channel_type,
        "purpose": campaign.purpose,
        "category": campaign.category,
        "day": start.date().isoformat() if start else None,
        "criteria": freeze(campaign.application, cast(Criteria, campaign.targeting_criteria)),
    }


def _of(campaign: MessageCampaign) -> list[Any]:
    return [campaign.application_id, list(subscription_types_of(campaign.channel_type))]


def _rows(sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


# --- Who waits -----------------------------------------------------------------------------------------------------


def waiting_of(campaign: MessageCampaign, recipients: Recipients) -> dict[datetime, int]:
    """Until when, how many of the recipients: by quiet hours and the Korean night, if it starts as it is planned.

    By country: who has a time zone of their own is counted with their country. Nothing is said of a campaign at each
    one's active hours.
    """
    rules = rules_of(campaign.application_id)
    planned = campaign.scheduled_at or timezone.now()
    local_time, at_active_hours = timing_of(campaign)
    if at_active_hours:
        return {}
    quiet = rules.quiet_for(channel=campaign.channel_type, purpose=campaign.purpose, priority=campaign.priority)
    has_night = rules.has_night(channel=campaign.channel_type, purpose=campaign.purpose)
    waits: Counter[datetime] = Counter()
    for country, has_night_consent, count in recipients.by_clock:
        moments = []
        zone = zone_of(None, country, rules.time_zone)
        start = planned if local_time is None else next_time(planned, local_time, zone)
        if quiet is not None and is_within(start, quiet.begins, quiet.ends, zone):
            moments.append(next_time(start, quiet.ends, zone))
        if has_night and not has_night_consent and is_within(start, NIGHT_BEGINS, NIGHT_ENDS, SEOUL):
            moments.append(next_time(start, NIGHT_ENDS, SEOUL))
        if moments:
            waits[max(moments)] += count
    return dict(sorted(waits.items()))


# --- What it costs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Of `messages` on the first channel, against what is left. None: not limited."""

    messages: int
    amount: Decimal
    currency: str
    is_included: bool
    left: int | None
    """Messages of the narrower of the two quotas, before."""
    daily_left: int | None
    monthly_left: int | None
    credit: Decimal | None

    @property
    def fits(self) -> bool:
        is_payable = self.credit is None or self.amount <= self.credit or not self.amount
        return self.is_included and (self.left is None or self.messages <= self.left) and is_payable

    @property
    def credit_after(self) -> Decimal | None:
        return None if self.credit is None else self.credit - self.amount


def cost_of(campaign: MessageCampaign, messages: int) -> Cost:
    state = plan_state(application=campaign.application)
    quota: QuotaState = next(row for row in state["quotas"] if row.channel_type == campaign.channel_type)
    start = campaign.scheduled_at or timezone.now()
    used_day = quota.daily_used if start < quota.daily_resets_at else 0
    used_month = quota.monthly_used if start < quota.monthly_resets_at else 0
    daily = None if quota.daily_quota is None else max(0, quota.daily_quota - used_day)
    monthly = None if quota.monthly_quota is None else max(0, quota.monthly_quota - used_month)
    limits = [left for left in (daily, monthly) if left is not None]
    return Cost(
        messages=messages,
        amount=quota.unit_price * messages,
        currency=quota.currency,
        is_included=quota.is_included,
        left=min(limits) if limits else None,
        daily_left=daily,
        monthly_left=monthly,
        credit=state["credit"]["available"],
    )


# --- The same again ------------------------------------------------------------------------------------------------


class Similar(NamedTuple):
    """Another campaign of the last days with the same content; `overlap` of the audience gets both."""

    campaign: MessageCampaign
    overlap: int


def similar_to(campaign: MessageCampaign) -> list[MessageCampaign]:
    """Campaigns with the same words or the same template, launched in the last days or scheduled; the newest first."""
    since = timezone.now() - timedelta(days=SIMILAR_DAYS)
    states = (CampaignStatus.SCHEDULED, CampaignStatus.RUNNING, CampaignStatus.PAUSED, CampaignStatus.COMPLETED)
    rows = MessageCampaign.objects.for_application(campaign.application).filter(
        status__in=states, channel_type=campaign.channel_type
    )
    if campaign.template_id:
        rows = rows.filter(template_id=campaign.template_id, variables=campaign.variables)
    else:
        rows = rows.filter(template=None, title=campaign.title, body=campaign.body)
        if not (campaign.title or campaign.body):  # what it says stands in the channel's own fields
            rows = rows.filter(data=campaign.data, options=campaign.options)
    # Campaigns of an application are hundreds; `campaign_by_application` gives the order.
    newest = rows.exclude(pk=campaign.pk).select_related("application", "dispatch").order_by("-id")[:20]
    found = [row for row in newest if row.sent_at is None or row.sent_at >= since]
    return found[:SIMILAR_MAX]


def overlap_of(campaign: MessageCampaign, other: MessageCampaign) -> int:
    """How many of the audience are in the other's audience too, as of now."""
    theirs = other.dispatch.audience if other.dispatch is not None else other.targeting_criteria
    parts = [criteria for criteria in (campaign.targeting_criteria, theirs) if criteria]
    both: Any = {"all": parts} if len(parts) == 2 else parts[0] if parts else {}
    predicate = compiled(campaign.application, both, field="targeting_criteria")
    sql = (
        f"SELECT count(*) FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
        f" AND {REACHABLE} AND ({predicate.sql})"
    )
    return int(_rows(sql, [*_of(campaign), *predicate.params])[0][0])


# --- What they would see -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampled:
    """Some real recipients, with their own words: for whom they fail, and what they lack."""

    people: int
    failed: Sequence[tuple[UUID, str, str]]
    """Subscription, field, why."""
    missing: Mapping[str, int]
    """Name of a variable → how many have no value for it."""


def sampled(campaign: MessageCampaign, content: ContentSource) -> Sampled:
    """The newest of the audience. Index: `subscription_reachable`."""
    predicate = compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria")
    sql = (
        f"SELECT s.id FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
        f" AND {REACHABLE} AND ({predicate.sql}) ORDER BY s.id DESC LIMIT {SAMPLED:d}"
    )
    ids = [row[0] for row in _rows(sql, [*_of(campaign), *predicate.params])]
    rows = Subscription.objects.for_application(campaign.application).defer("token").select_related("user")
    adapters = {
        kind: used_adapters(campaign.application, kind) for kind in subscription_types_of(campaign.channel_type)
    }
    names = content.compiled().variables if content.is_personalised else set()
    failed: list[tuple[UUID, str, str]] = []
    missing: Counter[str] = Counter()
    for row in rows.filter(pk__in=ids):
        variables = recipient_variables(
            external_id=row.user.external_id if row.user else "",
            properties=row.user.properties if row.user else {},
            tags=row.tags,
            language=row.device_language or campaign.application.default_language,
            country=row.country_code,
        )
        known = {**content.variables, **variables}
        missing.update(name for name in names if known.get(name) in (None, "", {}))
        try:
            rendered = content.render(variables)
            for adapter in adapters[row.type]:
                adapter.check_content(rendered)
        except (RenderError, ContentError) as error:
            failed.append((row.pk, error.field, error.message))
    return Sampled(len(ids), failed, dict(missing.most_common()))
