"""Reading campaigns, segments and audiences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from apps.billing.checking import Held
from apps.campaigns.audience import compiled, freeze
from apps.campaigns.models import CampaignFailure, CampaignStatus, MessageCampaign, Segment
from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.dispatches import dispatch_progress, dispatches_of
from apps.subscriptions.models import Subscription
from apps.subscriptions.targeting import REACHABLE, Criteria, Predicate
from apps.tenants.models import Application
from automata_signal.caches import AUDIENCE_COUNTS, cached
from automata_signal.errors import NotFound

SAMPLE_MAX = 20


def campaign_get(*, application: Application, campaign_id: UUID) -> MessageCampaign:
    """Raises `NotFound`, also for another application's campaign."""
    campaign = MessageCampaign.objects.for_application(application).filter(pk=campaign_id).first()
    if campaign is None:
        raise NotFound("There is no such campaign.")
    return campaign


def campaign_names(application: Application, ids: Sequence[UUID]) -> dict[UUID, str]:
    """The names of the application's own campaigns among these. Index: the primary key."""
    return dict(MessageCampaign.objects.for_application(application).filter(pk__in=ids).values_list("pk", "name"))


def reserved_messages(application_id: UUID) -> dict[str, Held]:
    """What the application's campaigns have reserved and not cut into slices yet (`billing.checking`)."""
    rows = MessageCampaign.objects.filter(application_id=application_id, reserved_left__gt=0)
    sums = rows.order_by().values_list("channel_type").annotate(messages=Sum("reserved_left"))
    return {channel_type: Held(reserved=messages) for channel_type, messages in sums}


def segment_get(*, application: Application, segment_id: UUID) -> Segment:
    """Raises `NotFound`, also for another application's segment."""
    segment = Segment.objects.for_application(application).filter(pk=segment_id).first()
    if segment is None:
        raise NotFound("There is no such segment.")
    return segment


# --- Audiences -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SampleRow:
    """One of an audience, told apart but not given away."""

    id: UUID
    type: str
    token: str
    external_id: str | None
    country_code: str
    device_language: str
    app_version: str
    last_active_at: datetime | None


def audience_count(
    *, application: Application, criteria: object, channel_type: str, field: str = "targeting_criteria"
) -> int:
    """How many subscriptions a send would reach, as of now or a little before (`caches.AUDIENCE_COUNTS`).

    One statement; index `subscription_reachable`, with those of the criteria. Raises `ValidationFailed`.
    """
    predicate = compiled(application, criteria, field=field)
    # By the criteria of the segments, not their ids: an edited segment is another question.
    asked = {"channel": channel_type, "criteria": freeze(application, cast(Criteria, criteria))}
    return cached(
        AUDIENCE_COUNTS,
        application.pk,
        asked,
        lambda: audience_size(application=application, predicate=predicate, channel_type=channel_type),
    )


def audience_size(*, application: Application, predicate: Predicate, channel_type: str) -> int:
    """How many subscriptions a send would reach now, counted. Index: `subscription_reachable`."""
    return int(_rows("SELECT count(*)", application, predicate, channel_type)[0][0])


def audience_size_up_to(*, application: Application, predicate: Predicate, channel_type: str, limit: int) -> int:
    """As `audience_size`, but no further than `limit`: for who asks whether it is more than that."""
    sql, params = _statement("SELECT 1", application, predicate, channel_type, f"LIMIT {limit:d}")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM ({sql}) found", params)
        (count,) = cursor.fetchone()
    return int(count)


def audience_types(*, application: Application, predicate: Predicate, channel_type: str) -> set[str]:
    """The types of subscriptions in an audience, each found by its first one (index `subscription_reachable`)."""
    return {
        subscription_type
        for subscription_type in subscription_types_of(channel_type)
        if _rows("SELECT 1", application, predicate, channel_type, "LIMIT 1", types=[subscription_type])
    }


def audience_sample(
    *,
    application: Application,
    criteria: object,
    channel_type: str,
    size: int = SAMPLE_MAX,
    field: str = "targeting_criteria",
) -> list[SampleRow]:
    """The newest of an audience, at most `size` (20), masked. Raises `ValidationFailed`."""
    predicate = compiled(application, criteria, field=field)
    tail = f"ORDER BY s.id DESC LIMIT {min(size, SAMPLE_MAX):d}"
    ids = [row[0] for row in _rows("SELECT s.id", application, predicate, channel_type, tail)]
    found = Subscription.objects.for_application(application).select_related("user").filter(pk__in=ids)
    return [
        SampleRow(
            id=row.pk,
            type=row.type,
            token=row.masked_token,
            external_id=_masked(row.user.external_id) if row.user else None,
            country_code=row.country_code,
            device_language=row.device_language,
            app_version=row.app_version,
            last_active_at=row.last_active_at,
        )
        for row in found.order_by("-id")
    ]


def _masked(text: str) -> str:
    return f"{text[:2]}…" if len(text) > 4 else "…"


def _rows(
    select: str,
    application: Application,
    predicate: Predicate,
    channel_type: str,
    tail: str = "",
    *,
    types: list[str] | None = None,
) -> list[tuple[Any, ...]]:
    sql, params = _statement(select, application, predicate, channel_type, tail, types=types)
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _statement(
    select: str,
    application: Application,
    predicate: Predicate,
    channel_type: str,
    tail: str,
    *,
    types: list[str] | None = None,
) -> tuple[str, list[Any]]:
    sql = (
        f"{select} FROM {predicate.from_clause} WHERE s.application_id = %s AND s.type = ANY(%s)"
        f" AND {REACHABLE} AND ({predicate.sql}) {tail}"
    )
    return sql, [application.pk, types or list(subscription_types_of(channel_type)), *predicate.params]


# --- Figures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CampaignStats:
    """A campaign's figures. `total` grows until the fan-out is done.

    `by_status` counts messages by the state they are in now, and adds up to `total`. The counts count everything that
    got so far: a message that was converted is also among the successful (the provider took it) and the received.
    """

    status: str
    total: int
    successful: int
    failed: int
    received: int
    converted: int
    by_status: dict[str, int]
    failures: dict[str, int]
    """Failed messages by `error_reason`, the most frequent first."""
    progress: float
    """Messages that are successful or failed, 0 to 1 of `total`; 1 only when nothing is left to cut into slices."""
    rates: dict[str, float | None]
    fanout_done: bool
    awaits_winner: bool
    """The test of its variants is cut, and the rest of the audience waits for the winner."""
    started_at: datetime | None
    finished_at: datetime | None
    elapsed_s: float | None
    messages_per_second: float | None


def campaign_stats(campaign: MessageCampaign) -> CampaignStats:
    """The figures of `campaign` as it was read, with the batches of its dispatches.

    The counters are on the row, so messages are read only of the batches that are being sent.
    """
    waiting = dispatch_progress(*dispatches_of(application_id=campaign.application_id, campaign_id=campaign.pk))
    settled = campaign.successful_count + campaign.failed_count
    elapsed_s = None
    if campaign.sent_at is not None:
        elapsed_s = ((campaign.completed_at or timezone.now()) - campaign.sent_at).total_seconds()
    return CampaignStats(
        status=campaign.status,
        total=campaign.total_recipients,
        successful=campaign.successful_count,
        failed=campaign.failed_count,
        received=campaign.received_count,
        converted=campaign.converted_count,
        by_status={
            "pending": waiting.unclaimed + waiting.pending,
            "errored": waiting.errored,
            "successful": campaign.successful_count - campaign.received_count,
            "received": campaign.received_count - campaign.converted_count,
            "converted": campaign.converted_count,
            "failed": campaign.failed_count,
        },
        failures=dict(
            CampaignFailure.objects.filter(application_id=campaign.application_id, campaign=campaign, count__gt=0)
            .order_by("-count", "reason")
            .values_list("reason", "count")
        ),
        progress=_progress(campaign, settled),
        rates={
            "successful": _share(campaign.successful_count, settled),
            "received": _share(campaign.received_count, campaign.successful_count),
            "converted": _share(campaign.converted_count, campaign.received_count),
        },
        fanout_done=campaign.fanout_done_at is not None and not campaign.awaits_winner,
        awaits_winner=campaign.awaits_winner and campaign.status in _UNDER_WAY,
        started_at=campaign.sent_at,
        finished_at=campaign.completed_at,
        elapsed_s=elapsed_s,
        messages_per_second=round(settled / elapsed_s, 1) if elapsed_s else None,
    )


_UNDER_WAY = (CampaignStatus.RUNNING, CampaignStatus.PAUSED)


def _progress(campaign: MessageCampaign, settled: int) -> float:
    if campaign.status == CampaignStatus.COMPLETED:
        return 1.0
    share = _share(settled, campaign.total_recipients) or 0.0
    if campaign.awaits_winner:  # the recipients so far are those of the test
        return round(share * campaign.experiment.test_percent / 100, 4)
    return share if campaign.fanout_done_at else min(share, 0.99)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
