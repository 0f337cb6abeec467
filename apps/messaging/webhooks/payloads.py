"""What a webhook is sent: events as JSON, without addresses of people.

An event is `{"id", "type", "created_at", "application_id", "data"}`. It is read anew for each attempt, from rows that
are written once: the same event is the same JSON each time, but for what erasure has taken out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection

from apps.messaging.adapters.registry import CHANNELS
from apps.messaging.models import MessageStatus
from apps.messaging.webhooks.models import EventSource, WebhookDelivery
from apps.subscriptions.models import AppUser, SubscriptionEvent, SubscriptionEventType
from automata_signal.masking import masked

TEST_TYPE = "webhook.test"
EVENT_TYPES: tuple[str, ...] = (
    *(f"{EventSource.MESSAGES}.{event}" for event in MessageStatus.values),
    *(f"{EventSource.SUBSCRIPTIONS}.{event}" for event in SubscriptionEventType.values),
)
"""All that is told."""
KINDS = tuple(f"{source}.*" for source in (EventSource.MESSAGES, EventSource.SUBSCRIPTIONS))
"""All of a kind."""

_WITH_REASON = (MessageStatus.FAILED, MessageStatus.ERRORED)
_SUSPICIOUS = re.compile(r"@|://|[+\d][\d ().-]{7,}|[\w-]{32,}|eyJ|as_|(?i:bearer|basic|token|key)\s")
"""Whether a text is worth the rules of `masking`, which take 20 µs."""


def body_of(delivery: WebhookDelivery) -> tuple[bytes, int]:
    """The JSON array of a delivery's events in their order, and how many they are.

    Those that are not kept any more (retention, a deleted application's rows) are left out.
    """
    events = list(_READERS[EventSource(delivery.source)](delivery))
    return orjson.dumps(events, option=orjson.OPT_UTC_Z), len(events)


def _event(delivery: WebhookDelivery, key: UUID | str, kind: str, at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(key),
        "type": kind,
        "created_at": at,
        "application_id": str(delivery.application_id),
        "data": data,
    }


# --- Messages ------------------------------------------------------------------------------------------------------

# By the keys of both tables, whose bounds stand beside them for the planner (`lifecycle._Form`). Ids come as text: to
# make UUIDs of them, only to write them down again, would take most of the time.
_MESSAGES = """
    SELECT e.id::text, e.event_type, e.occurred_at, e.metadata, m.id::text, u.external_id, m.subscription_id::text,
           m.campaign_id::text, m.requeued_from::text, m.channel_type, m.created_at, m.error_reason,
           m.error_details->>'class'
    FROM messaging_messageevent e
    JOIN messaging_message m ON m.id = e.message_id AND m.application_id = e.application_id
         AND m.id BETWEEN %(first_message)s AND %(last)s AND m.id = ANY(%(messages)s::uuid[])
    LEFT JOIN subscriptions_appuser u ON u.id = m.user_id
    WHERE e.application_id = %(application_id)s
      AND e.id BETWEEN %(first)s AND %(last)s AND e.id = ANY(%(events)s::uuid[])
"""


class _Row(NamedTuple):
    """An event with its message; ids are text."""

    id: str
    event_type: str
    occurred_at: datetime
    metadata: str | None
    message_id: str
    external_id: str | None
    subscription_id: str
    campaign_id: str | None
    requeued_from: str | None
    channel: str
    accepted_at: datetime
    error_reason: str | None
    error_class: str | None


def _messages(delivery: WebhookDelivery) -> Iterator[dict[str, Any]]:
    ids = [str(key) for key in delivery.event_ids]
    messages = [f"{key[:-2]}00" for key in ids]  # an event's id is its message's but for the last byte
    parameters: dict[str, Any] = {
        "application_id": delivery.application_id,
        "events": _array(ids),
        "messages": _array(dict.fromkeys(messages)),
        "first": min(ids),
        "first_message": min(messages),
        "last": max(ids),
    }
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGES, parameters)
        rows = {row[0]: _Row(*row) for row in cursor.fetchall()}
    for key in ids:
        if row := rows.get(key):
            kind = f"{EventSource.MESSAGES.value}.{row.event_type}"
            yield _event(delivery, key, kind, row.occurred_at, _message_data(row))


def _array(ids: Iterable[str]) -> str:
    """PostgreSQL's text of an array."""
    return f"{{{','.join(ids)}}}"


def _message_data(row: _Row) -> dict[str, Any]:
    metadata = orjson.loads(row.metadata) if row.metadata else {}
    details = metadata if isinstance(metadata, dict) else {}
    reason, error_class = None, None
    if row.event_type in _WITH_REASON:
        is_last = row.event_type == MessageStatus.FAILED
        reason = (row.error_reason if is_last else None) or details.get("reason") or row.error_reason
        error_class = details.get("class") or row.error_class
    return {
        "message_id": row.message_id,
        "external_id": row.external_id,
        "subscription_id": row.subscription_id,
        "campaign_id": row.campaign_id,
        "requeued_from": row.requeued_from,
        "channel": row.channel,
        "status": row.event_type,
        "reason": without_people(reason),
        "error_class": error_class,
        "accepted_at": row.accepted_at,
        "metadata": without_people(details),
    }


# --- Subscriptions -------------------------------------------------------------------------------------------------


def _subscriptions(delivery: WebhookDelivery) -> Iterator[dict[str, Any]]:
    rows = SubscriptionEvent.objects.filter(application_id=delivery.application_id, id__in=delivery.event_ids)
    events = {row.pk: row for row in rows}
    users = {row.user_id for row in events.values() if row.user_id}
    names = dict(AppUser.with_archived.filter(pk__in=users).values_list("pk", "external_id")) if users else {}
    for key in delivery.event_ids:
        if row := events.get(key):
            name = names.get(row.user_id) if row.user_id else None
            kind = f"{EventSource.SUBSCRIPTIONS}.{row.event_type}"
            yield _event(delivery, key, kind, row.occurred_at, _subscription_data(row, name))


def _subscription_data(row: SubscriptionEvent, external_id: str | None) -> dict[str, Any]:
    reach = CHANNELS.get(row.channel)
    return {
        "subscription_id": str(row.subscription_id),
        "external_id": external_id,
        "subscription_type": row.channel,
        "channel": reach.channel if reach else None,
        "source": row.source,
        "reason": without_people(row.reason) or None,
        "old_status": row.old_status,
        "new_status": row.new_status,
    }


# --- Tests ---------------------------------------------------------------------------------------------------------


def _tests(delivery: WebhookDelivery) -> Iterator[dict[str, Any]]:
    for key in delivery.event_ids:
        data = {"message": "This is a test. Nothing happened."}
        yield _event(delivery, key, TEST_TYPE, delivery.created_at, data)


_READERS = {EventSource.MESSAGES: _messages, EventSource.SUBSCRIPTIONS: _subscriptions, EventSource.TEST: _tests}


# --- Addresses of people -------------------------------------------------------------------------------------------


def without_people(value: Any) -> Any:
    """A JSON value whose texts hold no tokens, e-mail addresses or telephone numbers: providers quote them."""
    if isinstance(value, str):
        return masked(value) if _SUSPICIOUS.search(value) else value
    if isinstance(value, dict):
        return {without_people(key): without_people(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [without_people(inner) for inner in value]
    return value
