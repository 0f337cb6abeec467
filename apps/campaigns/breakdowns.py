"""What a launched campaign's batches and messages say of it, in bounded reads: how fast it goes, by which provider, and
how it went by platform and country."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q, Sum
from django.utils import timezone

from apps.campaigns.models import MessageCampaign
from apps.messaging.dispatches import dispatches_of
from apps.messaging.models import BatchState, DispatchBatch
from automata_signal.ids import IdRange

RECENT = timedelta(seconds=60)
SAMPLED_BATCHES = 12
"""So many of a campaign's batches are looked at for who got it, evenly from the first to the last."""


@dataclass(frozen=True)
class Pace:
    """How far the batches are, by the type of their subscriptions."""

    by_type: Sequence[tuple[str, int, int]]
    """Subscription type, recipients, how many of them in batches that are done."""
    recent_per_s: float | None
    """Recipients of the batches that were done in the last minute."""


def pace_of(campaign: MessageCampaign) -> Pace:
    """One query over the campaign's batches, one for each 2,000 recipients. Index: `batch_of_dispatch`."""
    dispatches = dispatches_of(application_id=campaign.application_id, campaign_id=campaign.pk)
    since = timezone.now() - RECENT
    batches = DispatchBatch.objects.filter(application_id=campaign.application_id, dispatch__in=dispatches)
    rows = (
        batches.order_by()
        .values_list("subscription_type")
        .annotate(
            total=Sum("recipient_count"),
            done=Sum("recipient_count", filter=Q(state=BatchState.DONE)),
            recent=Sum("recipient_count", filter=Q(state=BatchState.DONE, finished_at__gte=since)),
            batches=Count("pk"),
        )
    )
    found = [(kind, total or 0, done or 0, recent or 0) for kind, total, done, recent, _batches in rows]
    recent = sum(row[3] for row in found)
    return Pace(
        [(kind, total, done) for kind, total, done, _recent in sorted(found)],
        recent / RECENT.total_seconds() if recent else None,
    )


@dataclass(frozen=True)
class Group:
    """Messages of one platform or country. A message that was opened is also among the received and the sent."""

    key: str
    """Empty: not known, such as of an erased subscription."""
    messages: int
    sent: int
    received: int
    converted: int
    failed: int


@dataclass(frozen=True)
class Breakdown:
    messages: int
    """That were looked at."""
    is_whole: bool
    by_type: Sequence[Group]
    by_country: Sequence[Group]


_GROUPS = """
    SELECT coalesce(s.type, ''), coalesce(s.country_code, ''), count(*), count(m.sent_at), count(m.received_at),
           count(m.converted_at), count(*) FILTER (WHERE m.status = 'failed')
    FROM unnest(%s::uuid[], %s::uuid[]) AS r (base, last)
         JOIN messaging_message m ON m.application_id = %s AND m.id BETWEEN r.base AND r.last
         LEFT JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = m.application_id
    GROUP BY GROUPING SETS ((coalesce(s.type, '')), (coalesce(s.country_code, ''))) ORDER BY 3 DESC
"""


def evenly(bases: list[UUID]) -> list[UUID]:
    """`SAMPLED_BATCHES` of these, the first and the last among them."""
    if len(bases) <= SAMPLED_BATCHES:
        return bases
    return [bases[place * (len(bases) - 1) // (SAMPLED_BATCHES - 1)] for place in range(SAMPLED_BATCHES)]


def breakdown_of(campaign: MessageCampaign) -> Breakdown:
    """By ranges of the messages' primary key: of `SAMPLED_BATCHES` batches, which are all of a small campaign."""
    dispatches = dispatches_of(application_id=campaign.application_id, campaign_id=campaign.pk)
    batches = DispatchBatch.objects.filter(
        application_id=campaign.application_id, dispatch__in=dispatches, first_id__isnull=False
    )
    bases = [base for base in batches.order_by("id").values_list("first_id", flat=True) if base is not None]
    chosen = evenly(bases)
    if not chosen:
        return Breakdown(0, True, [], [])
    with connection.cursor() as cursor:
        ranges = [IdRange(base) for base in chosen]
        cursor.execute(_GROUPS, [chosen, [one.last for one in ranges], campaign.application_id])
        rows = cursor.fetchall()
    by_type = [Group(kind, *figures) for kind, country, *figures in rows if kind is not None]
    by_country = [Group(country, *figures) for kind, country, *figures in rows if kind is None]
    return Breakdown(
        messages=sum(group.messages for group in by_type),
        is_whole=len(chosen) == len(bases),
        by_type=by_type,
        by_country=by_country,
    )
