"""Messages that something happened to, and what the rollups have to say of them, counted in Python from the events."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.db import connection, transaction
from django.utils import timezone

from apps.analytics import fills
from apps.analytics.clocks import hour_of
from apps.analytics.metrics import WAIT_BOUNDS_S
from apps.analytics.models import DeviceHour, MessageHour, SubscriptionHour, WaitHour
from apps.analytics.models.rollups import NOBODY
from apps.messaging import lifecycle
from apps.messaging.models import Dispatch, Message, MessageEvent
from apps.subscriptions.models import Subscription, SubscriptionEvent

STATE_COLUMNS = {
    "successful": "sent",
    "failed": "failed",
    "received": "received",
    "converted": "converted",
    "errored": "errored",
    "pending": "retried",
}


def move(step: str, source: str, messages, *, at: datetime | None = None, reason: str | None = None, **fields) -> None:
    """A transition as messaging makes it, in a transaction of its own."""
    details = {"reason": reason} if step == "error" else None
    with transaction.atomic():
        lifecycle.apply(
            step,
            source=source,
            ids=[message.pk for message in messages],
            application_id=messages[0].application_id,
            at=at or timezone.now(),
            reason=reason,
            metadata=details,
            attempted=step in ("send", "error"),
            **fields,
        )


def fill_up() -> None:
    """Count all there is."""
    assert not fills.fill_all(max_s=60)


# --- What the tables should hold -----------------------------------------------------------------------------------


def expected_message_hours() -> Counter:
    counts: Counter = Counter()
    for event, message, template_id in _with_messages():
        reason = message.error_reason if event.event_type == "failed" else ""
        reason = event.metadata["reason"] if event.event_type == "errored" and event.metadata else reason
        hour = hour_of(event.application, event.occurred_at)
        scope = (message.channel_type, message.campaign_id or NOBODY, template_id or NOBODY)
        key = (event.application_id, hour, *scope, (reason or "").partition(":")[0])
        counts[key, STATE_COLUMNS[event.event_type]] += 1
    return counts


def found_message_hours() -> Counter:
    columns = ("application_id", "hour", "channel_type", "campaign_id", "template_id", "reason")
    return _found(MessageHour, columns, STATE_COLUMNS.values())


def expected_device_hours() -> Counter:
    counts: Counter = Counter()
    for event, message, _ in _with_messages():
        column = STATE_COLUMNS[event.event_type]
        if column in ("errored", "retried"):
            continue
        device = Subscription.with_archived.filter(pk=message.subscription_id).first()
        system = {"iOSPush": "iOS ", "AndroidPush": "Android "}.get(device.type, "") if device else ""
        values = {
            "country": device.country_code if device else "",
            "device_model": device.device_model[:64] if device else "",
            "os": (system + device.device_os).strip()[:64] if device else "",
            "app_version": device.app_version[:64] if device else "",
        }
        hour = hour_of(event.application, event.occurred_at)
        for dimension, value in values.items():
            counts[(event.application_id, dimension, hour, message.channel_type, value), column] += 1
    return counts


def found_device_hours() -> Counter:
    columns = ("application_id", "dimension", "hour", "channel_type", "value")
    return _found(DeviceHour, columns, ("sent", "failed", "received", "converted"))


def expected_wait_hours() -> Counter:
    counts: Counter = Counter()
    for event, message, _ in _with_messages():
        wait = {"received": "receipt", "converted": "open"}.get(event.event_type)
        if wait is None or message.sent_at is None:
            continue
        seconds = (event.occurred_at - message.sent_at).total_seconds()
        bucket = sum(bound <= seconds for bound in WAIT_BOUNDS_S)
        hour = hour_of(event.application, event.occurred_at)
        scope = (message.channel_type, message.campaign_id or NOBODY)
        counts[(event.application_id, wait, hour, *scope, bucket), "messages"] += 1
    return counts


def found_wait_hours() -> Counter:
    return _found(WaitHour, ("application_id", "wait", "hour", "channel_type", "campaign_id", "bucket"), ("messages",))


def expected_subscription_hours() -> Counter:
    counts: Counter = Counter()
    columns = {"registered": "registered", "subscribed": "gained", "unsubscribed": "lost"}
    for event in SubscriptionEvent.objects.select_related("application"):
        if column := columns.get(event.event_type):
            hour = hour_of(event.application, event.occurred_at)
            counts[(event.application_id, hour, event.channel, event.source, event.new_status or 0), column] += 1
    return counts


def found_subscription_hours() -> Counter:
    columns = ("application_id", "hour", "subscription_type", "source", "status")
    return _found(SubscriptionHour, columns, ("registered", "gained", "lost"))


def rollups_equal_events() -> None:
    """Every rollup says what its events say, and says something."""
    assert found_message_hours() == expected_message_hours() != Counter()
    assert found_device_hours() == expected_device_hours()
    assert found_wait_hours() == expected_wait_hours()
    assert found_subscription_hours() == expected_subscription_hours()


def all_rollups() -> dict[str, Counter]:
    return {
        "messages": found_message_hours(),
        "devices": found_device_hours(),
        "waits": found_wait_hours(),
        "subscriptions": found_subscription_hours(),
    }


def _found(model, keys, measures) -> Counter:
    rows = model.objects.values_list(*keys, *measures)
    return Counter(
        {
            (row[: len(keys)], measure): count
            for row in rows
            for measure, count in zip(measures, row[len(keys) :], strict=True)
            if count
        }
    )


def _with_messages():
    messages = {message.pk: message for message in Message.objects.all()}
    templates = dict(Dispatch.objects.values_list("pk", "template_version__template_id"))
    for event in MessageEvent.objects.select_related("application"):
        message = messages[event.message_id]
        yield event, message, templates.get(message.dispatch_id)


def run_sql(statement: str, *parameters) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []
