"""Rows of the past, written as the engine would have left them: set by set, in the server."""

from __future__ import annotations

import random
import re
import secrets
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection
from django.utils import timezone

from apps.campaigns.experiments.models import LETTERS, Experiment, Part, Variant, VariantTally, WinnerBy
from apps.campaigns.management.commands._history_plan import (
    MARKETER,
    ORDER_MESSAGES,
    REASONS,
    TYPES,
    Past,
    Words,
)
from apps.campaigns.management.commands.seed_demo import ANDROID, IOS, fcm_token
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, Purpose
from apps.subscriptions.models import AppUser
from apps.subscriptions.services.subscriptions import token_digest
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.encryption import keyring
from automata_signal.ids import SLICE_MAX, IdRange, new_range

CAMPAIGN_MAX = 20_000
"""Recipients of a past campaign, whatever the demo's size: a history is to be looked at, and made in seconds."""
LEAVERS = 240
TTL = timedelta(days=3)


@dataclass
class Used:
    """What was sent, by day (its beginning by the shop's clock) and channel."""

    sent: dict[tuple[datetime, str], int] = field(default_factory=lambda: defaultdict(int))
    messages: int = 0

    def add(self, at: datetime, channel: str, messages: int, sent: int) -> None:
        self.messages += messages
        if sent:
            self.sent[at.replace(hour=0, minute=0, second=0, microsecond=0), channel] += sent

    def of_channel(self, channel: str, since: datetime | None = None) -> int:
        return sum(n for (day, of), n in self.sent.items() if of == channel and (since is None or day >= since))


# --- Campaigns -----------------------------------------------------------------------------------------------------


def campaign_make(application: Application, past: Past, at: datetime, used: Used) -> None:
    """A campaign that was launched at a moment, with its messages, events, counters and failures."""
    campaign = MessageCampaign(
        id=range_at(at - timedelta(hours=2)).base,
        application=application,
        name=past.name,
        channel_type=past.channel,
        title=past.title,
        body=past.body,
        purpose=past.purpose,
        category=past.category,
        status=past.status,
        created_by=MARKETER,
        created_at=at - timedelta(hours=2),
        updated_at=at,
        sent_at=at,
        completed_at=at + timedelta(minutes=4),
        fanout_done_at=at + timedelta(seconds=40),
    )
    campaign._history_date = at - timedelta(hours=2)  # type: ignore[attr-defined]
    campaign._change_reason = MARKETER  # type: ignore[attr-defined]
    campaign.save(force_insert=True)
    experiment = _experiment(campaign, at) if past.others else None
    words = [Words(past.title, past.body, past.opened), *past.others]
    for place, own in enumerate(words):
        letter = LETTERS[place] if experiment else ""
        order = _order(
            application,
            at,
            past.channel,
            own.title,
            own.body,
            campaign_id=campaign.pk,
            purpose=past.purpose,
            variant=letter,
        )
        campaign.dispatch = campaign.dispatch or order
        first = range_at(at)
        figures = _messages_make(
            order,
            first,
            types=TYPES[past.channel],
            shares=(past.share * place / len(words), past.share * (place + 1) / len(words)),
            rates=(past.failed, past.received, own.opened),
            reasons=REASONS[past.channel],
            is_canceled=past.status == CampaignStatus.CANCELED,
        )
        _batch(order, first, figures["messages"], TYPES[past.channel][0])
        if experiment:
            _variant(experiment, letter, own, order, figures, share=100 // len(words))
        campaign.total_recipients += figures["messages"]
        campaign.successful_count += figures["sent"]
        campaign.failed_count += figures["failed"]
        campaign.received_count += figures["received"]
        campaign.converted_count += figures["converted"]
        used.add(at, past.channel, figures["messages"], figures["sent"])
    campaign.save_without_historical_record()  # type: ignore[attr-defined]
    _run(_FAILURES, {"campaign_id": campaign.pk, "application_id": application.pk})


def _experiment(campaign: MessageCampaign, at: datetime) -> Experiment:
    campaign.has_variants = True
    return Experiment.objects.create(
        application_id=campaign.application_id, campaign=campaign, winner_by=WinnerBy.HAND, created_at=at
    )


def _variant(
    experiment: Experiment, letter: str, own: Words, order: Dispatch, figures: dict[str, int], *, share: int
) -> None:
    variant = Variant.objects.create(
        application_id=experiment.application_id,
        experiment=experiment,
        letter=letter,
        name=own.name,
        share_percent=share,
        title=own.title,
        body=own.body,
        dispatch_id=order.pk,
    )
    tally = VariantTally.objects.create(
        application_id=experiment.application_id,
        variant=variant,
        part=Part.TEST,
        total=figures["messages"],
        successful=figures["sent"],
        failed=figures["failed"],
        received=figures["received"],
        converted=figures["converted"],
    )
    Dispatch.objects.filter(pk=order.pk).update(tally_id=tally.pk)


def order_message_make(application: Application, at: datetime, chance: random.Random, used: Used) -> None:
    """One of a shop's own messages: to one user, on each of their devices."""
    title, body = chance.choice(ORDER_MESSAGES)
    users = AppUser.objects.filter(application=application, external_id=f"customer-{chance.randrange(1, 2_000):07d}")
    user = users.first()
    if user is None:
        return
    order = _order(application, at, ChannelType.PUSH, title, body, priority="high")
    first = range_at(at)
    figures = _messages_make(
        order,
        first,
        types=TYPES[ChannelType.PUSH],
        shares=(0, 100),
        rates=(1.2, 84, 38),
        reasons=("Unregistered",),
        user=user,
    )
    _batch(order, first, figures["messages"], IOS)
    used.add(at, ChannelType.PUSH, figures["messages"], figures["sent"])


def range_at(at: datetime) -> IdRange:
    return new_range(unix_ms=int(at.timestamp() * 1_000))


def _order(application: Application, at: datetime, channel: str, title: str, body: str, **fields: Any) -> Dispatch:
    defaults = {"priority": "low", "purpose": Purpose.TRANSACTIONAL, "ttl_s": int(TTL.total_seconds())}
    return Dispatch.objects.create(
        id=range_at(at).base,
        application=application,
        channel_type=channel,
        title=title,
        body=body,
        created_at=at,
        **defaults | fields,
    )


def _batch(order: Dispatch, first: IdRange, messages: int, type: str) -> None:
    DispatchBatch.objects.create(
        dispatch=order,
        application_id=order.application_id,
        subscription_type=type,
        priority=order.priority,
        state=BatchState.DONE,
        due_at=order.created_at,
        expires_at=order.created_at + TTL,
        claims=1,
        first_id=first.base,
        recipient_count=messages,
        created_at=order.created_at,
        finished_at=order.created_at + timedelta(minutes=4),
        receipts_closed=True,
        has_failed=True,
    )


def _messages_make(
    order: Dispatch,
    first: IdRange,
    *,
    types: tuple[str, ...],
    shares: tuple[float, float],
    rates: tuple[float, float, float],
    reasons: tuple[str, ...],
    is_canceled: bool = False,
    user: AppUser | None = None,
) -> dict[str, int]:
    """Messages of a share of who can be reached, and their events; how many of each state there are.

    `shares`: from where to where, of a hundred who could be reached. `rates`: per hundred, failed of all, received of
    the sent, opened of the received.
    """
    failed, received, opened = rates
    parameters = {
        "prefix": first.prefix,
        "application_id": order.application_id,
        "dispatch_id": order.pk,
        "campaign_id": order.campaign_id,
        "channel_type": order.channel_type,
        "types": list(types),
        "user_id": user.pk if user else None,
        "share_from": shares[0] * 100,
        "share_to": shares[1] * 100,
        "campaign_salt": str(order.campaign_id or order.pk),
        "salt": str(order.pk),
        "at": order.created_at,
        "now": timezone.now(),
        "failed": failed * 100,
        "received": received * 100,
        "opened": opened * 100,
        "reasons": list(reasons),
        "canceled_from": 6_000 if is_canceled else 10_000,
        "limit": min(CAMPAIGN_MAX, SLICE_MAX),
        **_bounds(first),
    }
    _run(_MESSAGES, parameters)
    for state, column, number in _EVENTS_OF:
        _run(_EVENTS.format(column=column), {**parameters, "state": state, "number": number})
    with connection.cursor() as cursor:
        cursor.execute(_FIGURES, parameters)
        row = cursor.fetchone()
    return dict(zip(("messages", "sent", "failed", "received", "converted"), map(int, row), strict=True))


def _bounds(first: IdRange) -> dict[str, UUID]:
    return {"first": first.base, "last": first.last}


def _run(sql: str, parameters: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


# Three numbers below 10,000 of a recipient and an order: whether it is among the recipients, whether it failed, and
# what became of it. Receipts come after seconds to hours, most of them soon.
_MESSAGES = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                                   status, attempts, created_at, sent_at, received_at, converted_at, failed_at,
                                   error_reason, error_details)
    SELECT (%(prefix)s || lpad(to_hex(n), 4, '0') || '00')::uuid, %(application_id)s, %(dispatch_id)s, %(campaign_id)s,
           id, user_id, %(channel_type)s,
           CASE WHEN is_canceled OR has_failed THEN 'failed' WHEN opened_at < %(now)s THEN 'converted'
                WHEN arrived_at < %(now)s THEN 'received' ELSE 'successful' END,
           CASE WHEN is_canceled THEN 0 ELSE 1 END, %(at)s,
           CASE WHEN NOT is_canceled AND NOT has_failed THEN sent END,
           CASE WHEN arrived_at < %(now)s THEN arrived_at END,
           CASE WHEN opened_at < %(now)s THEN opened_at END,
           CASE WHEN is_canceled OR has_failed THEN sent END,
           CASE WHEN is_canceled THEN 'canceled'
                WHEN has_failed THEN (%(reasons)s::text[])[1 + lot2 %% cardinality(%(reasons)s::text[])] END,
           CASE WHEN has_failed AND NOT is_canceled THEN '{"class": "recipient_gone"}'::jsonb END
    FROM (
        SELECT *, CASE WHEN reaches THEN sent + wait END AS arrived_at,
               CASE WHEN reaches AND lot3 < %(opened)s THEN sent + wait + wait * (0.4 + lot3 / 4000.0) END AS opened_at
        FROM (
            SELECT *, row_number() OVER (ORDER BY id) - 1 AS n,
                   lot1 >= %(canceled_from)s AS is_canceled, lot2 < %(failed)s AS has_failed,
                   lot1 < %(canceled_from)s AND lot2 >= %(failed)s AND lot4 < %(received)s AS reaches,
                   %(at)s::timestamptz + lot1 * interval '9 ms' AS sent,
                   power(2, 1 + lot4 %% 1370 / 100.0) * interval '1 s' AS wait
            FROM (
                SELECT id, user_id, lot(id, %(salt)s, 1) AS lot1, lot(id, %(salt)s, 2) AS lot2,
                       lot(id, %(salt)s, 3) AS lot3, lot(id, %(salt)s, 4) AS lot4
                FROM subscriptions_subscription
                WHERE application_id = %(application_id)s AND type = ANY(%(types)s) AND subscription_status > 0
                  AND NOT is_archived AND (%(user_id)s::uuid IS NULL OR user_id = %(user_id)s)
                  AND lot(id, %(campaign_salt)s, 5) >= %(share_from)s
                  AND lot(id, %(campaign_salt)s, 5) < %(share_to)s
                LIMIT %(limit)s
            ) s
        ) s
    ) s
"""
_MESSAGES = re.sub(
    r"lot\(id, (%\(\w+\)s), (\d)\)",
    r"(('x' || substr(md5(id::text || \1 || '\2'), 1, 7))::bit(28)::int %% 10000)",
    _MESSAGES,
)
_EVENTS_OF = (
    ("successful", "sent_at", "01"),
    ("failed", "failed_at", "04"),
    ("received", "received_at", "02"),
    ("converted", "converted_at", "03"),
)
_EVENTS = """
    INSERT INTO messaging_messageevent (id, application_id, message_id, event_type, occurred_at, metadata)
    SELECT overlay(id::text PLACING %(number)s FROM 35)::uuid, application_id, id, %(state)s, {column},
           CASE WHEN %(state)s = 'successful' THEN jsonb_build_object('status', 200) END
    FROM messaging_message WHERE id BETWEEN %(first)s AND %(last)s AND {column} IS NOT NULL
"""
_FIGURES = """
    SELECT count(*), count(sent_at), count(failed_at), count(received_at), count(converted_at)
    FROM messaging_message WHERE id BETWEEN %(first)s AND %(last)s
"""
_FAILURES = """
    INSERT INTO campaigns_campaignfailure (id, application_id, campaign_id, reason, count)
    SELECT gen_random_uuid(), %(application_id)s, %(campaign_id)s, error_reason, count(*)
    FROM messaging_message WHERE campaign_id = %(campaign_id)s AND application_id = %(application_id)s
      AND error_reason IS NOT NULL GROUP BY error_reason
"""


# --- Who came and left ---------------------------------------------------------------------------------------------


def leavers_make(application: Application, now: datetime, chance: random.Random) -> None:
    """Devices that registered and have left since: by their users, or found gone by a provider."""
    with connection.cursor() as cursor:
        subscriptions, events = [], []
        for place in range(LEAVERS):
            left = now - timedelta(days=chance.random() * 30)
            joined = left - timedelta(days=5 + chance.random() * 90)
            key, type = range_at(joined).base, (IOS, ANDROID)[place % 2]
            token = "b7" + secrets.token_hex(31) if type == IOS else fcm_token(gone=False)
            is_gone = place % 3 == 0
            status, source = (-21 if is_gone else -2), ("provider" if is_gone else "device")
            encrypted, digest = keyring().encrypt(token.encode()), token_digest(type, token)
            subscriptions.append((key, application.pk, type, encrypted, digest, status, source, joined, left))
            events.append((range_at(joined).base, key, "registered", type, "device", 1, 1, joined))
            events.append((range_at(left).base, key, "unsubscribed", type, source, 1, status, left))
        with cursor.copy(_COPY_LEAVERS) as copy:
            for key, owner, type, encrypted, digest, status, source, joined, left in subscriptions:
                copy.write_row(
                    (
                        *(key, owner, type, encrypted, digest, joined, 1, "", "", "ko", "2.10.0", "1.0.0", "KR", 0),
                        *("{}", status, source, joined, left, left, 0, 0, joined, left, False),
                    )
                )
        with cursor.copy(_COPY_EVENTS) as copy:
            for key, subscription, kind, type, source, old, new, at in events:
                copy.write_row((key, application.pk, subscription, None, kind, type, source, "", old, new, at))


_COPY_LEAVERS = """
    COPY subscriptions_subscription (
        id, application_id, type, token, token_digest, token_registered_at, handle_version, device_model, device_os,
        device_language, app_version, sdk_version, country_code, test_type, tags, subscription_status, status_source,
        subscribed_at, unsubscribed_at, last_active_at, total_messages_received, total_messages_converted, created_at,
        updated_at, is_archived
    ) FROM STDIN
"""
_COPY_EVENTS = """
    COPY subscriptions_subscriptionevent (
        id, application_id, subscription_id, user_id, event_type, channel, source, reason, old_status, new_status,
        occurred_at
    ) FROM STDIN
"""


def audience_days_make(application: Application, now: datetime, days: int, zone: ZoneInfo) -> None:
    """How many there were at the end of each day: from when each subscription began and ended."""
    today = now.astimezone(zone).date()
    for days_ago in range(days, 0, -1):
        day = today - timedelta(days=days_ago)
        ends_at = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(days=1)
        wave = (0.19, 0.18, 0.18, 0.2, 0.24, 0.27, 0.25)[day.weekday()]
        parameters = {"application_id": application.pk, "day": day, "ends_at": ends_at, "now": now, "wave": wave}
        _run(_AUDIENCE_DAY.format(kind="type", group="GROUP BY type", rows=_SUBSCRIPTIONS_BY), parameters)
        _run(_AUDIENCE_DAY.format(kind="''", group="", rows=_USERS_BY), parameters)


_SUBSCRIPTIONS_BY = """
    SELECT type, unsubscribed_at IS NULL OR unsubscribed_at > %(ends_at)s AS is_reachable
    FROM subscriptions_subscription WHERE application_id = %(application_id)s AND created_at <= %(ends_at)s
"""
_USERS_BY = """
    SELECT true AS is_reachable FROM subscriptions_appuser
    WHERE application_id = %(application_id)s AND created_at <= %(ends_at)s
"""
_AUDIENCE_DAY = """
    INSERT INTO analytics_audienceday
        (application_id, day, subscription_type, total, reachable, active_1d, active_7d, active_30d, taken_at)
    SELECT %(application_id)s, %(day)s, {kind}, count(*), count(*) FILTER (WHERE is_reachable),
           count(*) * %(wave)s, count(*) * 0.46, count(*) * 0.78, %(now)s
    FROM ({rows}) r {group} HAVING count(*) > 0
    ON CONFLICT (application_id, day, subscription_type) DO NOTHING
"""
