"""Everything that changes webhooks: endpoints, their secrets, tests and replays.

`by` is who does it, for the history.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.messaging.webhooks.models import (
    ASKED_LANE,
    DeliveryState,
    EventSource,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookLane,
)
from apps.messaging.webhooks.payloads import EVENT_TYPES, KINDS
from apps.messaging.webhooks.signing import new_secret
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal import outgoing
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import first_id_at, new_id
from automata_signal.positions import read_horizon

DESCRIPTION_MAX = 200
OVERLAP_MAX = timedelta(days=7)
REPLAY_MAX = 10_000
"""Deliveries that one replay sends again: up to a million events."""
ASKED_MAX = 20_000
"""Tests and replays of an endpoint that may wait."""


class NewEndpoint(NamedTuple):
    endpoint: WebhookEndpoint
    secret: str
    """Shown once; stored encrypted."""


# --- Endpoints -----------------------------------------------------------------------------------------------------


@transaction.atomic
def endpoint_create(
    *,
    application: Application,
    url: str,
    description: str = "",
    event_types: Sequence[str] = (),
    channels: Sequence[str] = (),
    by: str = "",
) -> NewEndpoint:
    """Tell this address from now on what happens; empty types and channels: all.

    Raise `ValidationFailed`, and `Conflict` (TOO_MANY_WEBHOOKS).
    """
    Application.objects.select_for_update().get(pk=application.pk)  # of two at once each counts the other
    if WebhookEndpoint.objects.for_application(application).count() >= settings.WEBHOOK_ENDPOINTS_MAX:
        raise Conflict(
            f"An application has {settings.WEBHOOK_ENDPOINTS_MAX} webhooks at most.", code="TOO_MANY_WEBHOOKS"
        )
    secret = new_secret()
    endpoint = WebhookEndpoint(
        application=application,
        url=_address(url),
        description=_description(description),
        secret=secret,
        event_types=_event_types(event_types),
        channels=_channels(channels),
        lanes=max(1, settings.WEBHOOK_LANES),
        from_position=read_horizon(),
    )
    _save(endpoint, by)
    numbers = (ASKED_LANE, *range(endpoint.lanes))
    WebhookLane.objects.bulk_create([WebhookLane(endpoint=endpoint, number=number) for number in numbers])
    return NewEndpoint(endpoint, secret)


@transaction.atomic
def endpoint_update(
    *,
    endpoint: WebhookEndpoint,
    url: str | None = None,
    description: str | None = None,
    event_types: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
    is_active: bool | None = None,
    by: str = "",
) -> WebhookEndpoint:
    """Change what is given. Types and channels hold for what happens from now on; what waits is delivered as it is.

    To activate it forgets its failures: what waits is tried at once, with all its time anew.
    """
    row = _locked(endpoint.pk)
    if url is not None:
        row.url = _address(url)
    if description is not None:
        row.description = _description(description)
    if event_types is not None:
        row.event_types = _event_types(event_types)
    if channels is not None:
        row.channels = _channels(channels)
    if is_active is not None and is_active != row.is_active:
        row.is_active = is_active
        if is_active:
            _forget_failures(row)
    _save(row, by)
    return row


def _forget_failures(row: WebhookEndpoint) -> None:
    row.disabled_at, row.disabled_reason, row.tell_at = None, "", None
    row.consecutive_failures = 0
    WebhookLane.objects.filter(endpoint=row).update(retry_at=None)
    tried = WebhookDelivery.objects.filter(endpoint=row, state=DeliveryState.WAITING, first_attempt_at__isnull=False)
    tried.update(first_attempt_at=None, attempts=0)


@transaction.atomic
def endpoint_delete(*, endpoint: WebhookEndpoint, by: str = "") -> None:
    """Forget it, with its log and what waits."""
    row = _locked(endpoint.pk)
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    WebhookDelivery.objects.filter(endpoint=row)._raw_delete(using="default")
    row.delete()


@transaction.atomic
def secret_rotate(*, endpoint: WebhookEndpoint, overlap: timedelta, by: str = "") -> NewEndpoint:
    """Make a new secret. For `overlap` deliveries are signed with the one before as well.

    One that cannot be decrypted any more is replaced all the same, and has no overlap.
    """
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise ValidationFailed.of("overlap_s", f"must be from 0 to {int(OVERLAP_MAX.total_seconds())}")
    row = _locked(endpoint.pk)
    secret = new_secret()
    row.previous_until = timezone.now() + overlap if overlap else None
    _save(row, by)
    # The old value is moved as it is stored: nobody has to be able to read it.
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE messaging_webhookendpoint SET previous_secret = CASE WHEN %s THEN secret END WHERE id = %s",
            [bool(overlap), row.pk],
        )
    WebhookEndpoint.objects.filter(pk=row.pk).update(secret=secret)
    return NewEndpoint(row, secret)


def _locked(endpoint_id: UUID) -> WebhookEndpoint:
    """Without the secrets: one that cannot be decrypted any more must not keep anybody from replacing it."""
    rows = WebhookEndpoint.objects.select_for_update().defer("secret", "previous_secret")
    row = rows.filter(pk=endpoint_id).first()
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def _save(row: WebhookEndpoint, by: str) -> None:
    row.updated_at = timezone.now()
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.save()


# --- Checks --------------------------------------------------------------------------------------------------------


def _address(url: str) -> str:
    url = url.strip()
    try:
        outgoing.check_url(url)
    except outgoing.OutgoingRefused as error:
        raise ValidationFailed.of("url", str(error)) from None
    return url


def _description(text: str) -> str:
    text = text.strip()
    if len(text) > DESCRIPTION_MAX or "\0" in text:
        raise ValidationFailed.of("description", f"must have {DESCRIPTION_MAX} characters at most")
    return text


def _event_types(given: Sequence[str]) -> list[str]:
    return _chosen(given, (*KINDS, *EVENT_TYPES), "event_types", "there is no event")


def _channels(given: Sequence[str]) -> list[str]:
    return _chosen(given, ChannelType.values, "channels", "there is no channel")


def _chosen(given: Sequence[str], known: Sequence[str], field: str, problem: str) -> list[str]:
    if unknown := sorted(set(given) - set(known)):
        raise ValidationFailed.of(field, f"{problem} {unknown[0][:40]!r}")
    return [name for name in known if name in set(given)]


# --- Tests and replays ---------------------------------------------------------------------------------------------


@transaction.atomic
def endpoint_test(*, endpoint: WebhookEndpoint, by: str = "") -> WebhookDelivery:
    """Send it an event that says nothing. Raise `Conflict` (WEBHOOK_INACTIVE, TOO_MANY_WAITING)."""
    row = _askable(endpoint, 1)
    return WebhookDelivery.objects.create(
        application_id=row.application_id,
        endpoint=row,
        source=EventSource.TEST,
        lane=ASKED_LANE,
        sequence=_asked_sequence(),
        event_ids=[new_id()],
        requested_by=by[:200],
    )


@transaction.atomic
def delivery_replay(*, delivery: WebhookDelivery, by: str = "") -> WebhookDelivery:
    """Send its events once more, as a delivery of its own. Raise `Conflict` (DELIVERY_WAITS, WEBHOOK_INACTIVE, …)."""
    row = _askable(delivery.endpoint, 1)
    if delivery.state == DeliveryState.WAITING:
        raise Conflict("The delivery still waits for its turn, or for another attempt.", code="DELIVERY_WAITS")
    return WebhookDelivery.objects.create(
        application_id=row.application_id,
        endpoint=row,
        source=delivery.source,
        lane=ASKED_LANE,
        sequence=_asked_sequence(),
        event_ids=delivery.event_ids,
        replay_of=delivery.pk,
        requested_by=by[:200],
    )


_REPLAY = """
INSERT INTO messaging_webhookdelivery
    (id, application_id, endpoint_id, source, lane, sequence, event_ids, replay_of, requested_by, created_at)
SELECT (%(time)s || '7' || %(random)s || '9' || lpad(to_hex(%(sequence)s::bigint + n), 15, '0'))::uuid, application_id,
       endpoint_id, source, %(lane)s, %(sequence)s::bigint + n, event_ids, id, %(by)s, %(now)s
FROM (
    SELECT d.*, row_number() OVER (ORDER BY d.id) AS n FROM messaging_webhookdelivery d
    WHERE d.endpoint_id = %(endpoint_id)s AND d.id >= %(first)s AND d.id < %(last)s
      AND d.state <> 'waiting' AND d.lane <> %(lane)s
) d
"""


@transaction.atomic
def deliveries_replay(*, endpoint: WebhookEndpoint, since: datetime, until: datetime, by: str = "") -> int:
    """Send the deliveries that were made from `since` to `until` once more, in their order; how many.

    Those that wait come anyway. Raise `ValidationFailed` for a time that is none or has more than `REPLAY_MAX`, and
    `Conflict` (WEBHOOK_INACTIVE, TOO_MANY_WAITING). Index: `webhook_delivery_of`.
    """
    if until <= since:
        raise ValidationFailed.of("until", "must be after since")
    row = _askable(endpoint, 0)
    first, last = (first_id_at(_unix_ms(moment)) for moment in (since, until))
    done = WebhookDelivery.objects.filter(endpoint=row, pk__gte=first, pk__lt=last).exclude(lane=ASKED_LANE)
    found = done.exclude(state=DeliveryState.WAITING).order_by()[: REPLAY_MAX + 1].count()
    if found > REPLAY_MAX:
        raise ValidationFailed.of("until", f"more than {REPLAY_MAX} deliveries were made in this time: choose less")
    _askable(endpoint, found)
    now = timezone.now()
    parameters: dict[str, Any] = {
        "time": first_id_at(_unix_ms(now)).hex[:12],
        "random": secrets.token_hex(2)[1:],
        "sequence": _asked_sequence(),
        "lane": ASKED_LANE,
        "by": by[:200],
        "now": now,
        "endpoint_id": row.pk,
        "first": first,
        "last": last,
    }
    with connection.cursor() as cursor:
        cursor.execute(_REPLAY, parameters)
        return int(cursor.rowcount)


def _unix_ms(moment: datetime) -> int:
    return min(max(0, int(moment.timestamp() * 1_000)), (1 << 48) - 1)


def _asked_sequence() -> int:
    """What was asked for later comes later: microseconds. A replay takes one for each of its deliveries."""
    return time.time_ns() // 1_000


def _askable(endpoint: WebhookEndpoint, more: int) -> WebhookEndpoint:
    """The endpoint, locked, if it may be asked for so many deliveries more."""
    row = _locked(endpoint.pk)
    if not row.is_active:
        raise Conflict("The webhook is not active.", code="WEBHOOK_INACTIVE")
    asked = WebhookDelivery.objects.filter(endpoint=row, lane=ASKED_LANE, state=DeliveryState.WAITING)
    if asked.order_by()[:ASKED_MAX].count() + more > ASKED_MAX:
        raise Conflict("Too many tests and replays wait for their turn.", code="TOO_MANY_WAITING")
    return row
