"""What a webhook is sent: events as JSON, without addresses of people.

An event is `{"id", "type", "created_at", "application_id", "data"}`. It is read anew for each attempt, from rows that
are written once: the same event is the same JSON each time, but for what erasure has taken out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from apps.messaging.adapters.registry import CHANNELS
from apps.messaging.models import Message, MessageEvent, MessageStatus
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


def _event(delivery: WebhookDelivery, key: UUID, kind: str, at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(key),
        "type": kind,
        "created_at": at,
        "application_id": str(delivery.application_id),
        "data": data,
    }


# --- Messages ------------------------------------------------------------------------------------------------------


def _messages(delivery: WebhookDelivery) -> Iterator[dict[str, Any]]:
    """The bounds stand beside the keys for the planner (`lifecycle._Form`)."""
    ids = delivery.event_ids
    bounds = (min(ids), max(ids))
    found = MessageEvent.objects.filter(application_id=delivery.application_id, id__range=bounds, id__in=ids)
    events = {row[0]: row for row in found.values_list("id", "message_id", "event_type", "occurred_at", "metadata")}
    facts = _facts_of_messages(delivery.application_id, {message_id for _, message_id, *_ in events.values()})
    for key in ids:
        if key in events and events[key][1] in facts:
            _, message_id, event_type, at, metadata = events[key]
            kind = f"{EventSource.MESSAGES}.{event_type}"
            yield _event(delivery, key, kind, at, _message_data(facts[message_id], event_type, metadata))


_FACTS = (
    *("id", "user__external_id", "subscription_id", "campaign_id", "channel_type", "created_at", "error_reason"),
    *("error_details", "requeued_from"),
)


def _facts_of_messages(application_id: UUID, ids: set[UUID]) -> dict[UUID, dict[str, Any]]:
    if not ids:
        return {}
    rows = Message.objects.filter(application_id=application_id, id__range=(min(ids), max(ids)), id__in=ids)
    return {row["id"]: row for row in rows.values(*_FACTS)}


def _message_data(facts: dict[str, Any], event_type: str, metadata: Any) -> dict[str, Any]:
    details = metadata if isinstance(metadata, dict) else {}
    reason, error_class = None, None
    if event_type in _WITH_REASON:
        known = facts["error_details"] if isinstance(facts["error_details"], dict) else {}
        is_last = event_type == MessageStatus.FAILED
        reason = (facts["error_reason"] if is_last else None) or details.get("reason") or facts["error_reason"]
        error_class = details.get("class") or known.get("class")
    return {
        "message_id": str(facts["id"]),
        "external_id": facts["user__external_id"],
        "subscription_id": str(facts["subscription_id"]),
        "campaign_id": str(facts["campaign_id"]) if facts["campaign_id"] else None,
        "requeued_from": str(facts["requeued_from"]) if facts["requeued_from"] else None,
        "channel": facts["channel_type"],
        "status": event_type,
        "reason": without_people(reason),
        "error_class": error_class,
        "accepted_at": facts["created_at"],
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
