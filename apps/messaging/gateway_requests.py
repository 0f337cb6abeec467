"""Requests to gateways whose reports name the request, and not our messages: kept when they are answered."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from apps.messaging import retry
from apps.messaging.adapters.base import Result
from apps.messaging.models import GatewayRequest
from apps.tenants.models import ChannelCredential
from automata_signal.ids import first_id_at

log = logging.getLogger(__name__)


def keep_requests(credential: ChannelCredential, results: Sequence[Result], now: datetime) -> None:
    """Remember which messages a gateway's request carried; in the transaction that records its answer."""
    by_request: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.request_id and _fits(result):
            by_request[result.request_id].append(result)
    if by_request:
        ask_at = now + timedelta(seconds=settings.GATEWAY_ASK_AFTER_S)
        GatewayRequest.objects.bulk_create(
            GatewayRequest(
                application_id=credential.application_id,
                credential_id=credential.pk,
                provider=credential.provider,
                request_id=request_id,
                message_ids=[UUID(result.message_id) for result in of_request],
                references=[result.provider_message_id for result in of_request],
                sent_at=now,
                ask_at=ask_at,
            )
            for request_id, of_request in by_request.items()
        )


def _fits(result: Result) -> bool:
    """Whether the ids are such as can be kept; without them there are no reports of the message, and it stays
    successful."""
    fits = all(retry.word_of(said) == said for said in (result.request_id, result.provider_message_id))
    if not fits:
        log.error("a gateway's id cannot be kept: there will be no report", extra={"message_id": result.message_id})
    return fits


def messages_of(credential: ChannelCredential, references: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """(request id, the provider's id in it) → our message id, of those known. Index: `gateway_request_by_id`."""
    wanted = set(references)
    rows = GatewayRequest.objects.filter(
        application_id=credential.application_id,
        credential_id=credential.pk,
        request_id__in={request_id for request_id, _ in wanted},
    )
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        for message_id, reference in zip(row.message_ids, row.references, strict=True):
            if (row.request_id, reference) in wanted:
                found[row.request_id, reference] = str(message_id)
    return found


KEEP_DAYS = 40
"""The longest that a gateway reports late: LMS 80 hours, and questions up to a month (providers.md 4.3)."""


def forget_requests(limit: int = 10_000) -> int:
    """Delete the oldest requests about which nothing is asked any more. By the primary key, which begins with time."""
    before = first_id_at(int((timezone.now() - timedelta(days=KEEP_DAYS)).timestamp() * 1_000))
    old = GatewayRequest.objects.filter(pk__lt=before, ask_at=None).order_by("pk").values("pk")[:limit]
    deleted, _ = GatewayRequest.objects.filter(pk__in=old).delete()
    return deleted


# --- Asking for reports that have not come -----------------------------------------------------------------------

ASK_LEASE_S = 120


def take_due(limit: int, *, but: Collection[UUID] = ()) -> list[GatewayRequest]:
    """Requests to be asked about now, the longest due first, not those of the credentials `but`; nobody else gets them
    for `ASK_LEASE_S`."""
    now = timezone.now()
    with transaction.atomic():
        due = GatewayRequest.objects.select_for_update(skip_locked=True).filter(ask_at__lte=now).order_by("ask_at")
        rows = list(due.exclude(credential_id__in=but)[:limit])
        for row in rows:
            row.asked += 1
            row.ask_at = now + timedelta(seconds=ASK_LEASE_S)
        GatewayRequest.objects.bulk_update(rows, ["asked", "ask_at"])
    return rows


def ask_again(row: GatewayRequest, *, is_open: bool) -> None:
    """Ask about the request again, later each time; not when every message has its report, or after the last time."""
    waits_s: Sequence[int] = settings.GATEWAY_ASK_WAITS_S
    if not is_open or row.asked > len(waits_s):
        row.ask_at = None
    else:
        row.ask_at = timezone.now() + timedelta(seconds=waits_s[row.asked - 1])
    row.save(update_fields=["ask_at"])
