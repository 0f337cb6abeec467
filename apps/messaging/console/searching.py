"""Finding messages among tens of millions: every way goes by an index that is there, or looks so far and no further.

The table has no index that names a state or a reason, so that updates stay HOT (docs/architecture.md). A partial one on
the reason was measured: the update of a message that fails took PostgreSQL three to four times as long, of one that is
put off twice, for what is asked a few times a day. So a reason is looked for where failures are known to be: batches
say whether they have some (`batch_with_failed`), and each is a range of the primary key. A search looks through
`MESSAGES` of them, tells how far it came, and goes on from there when it is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Max, Min, QuerySet, Sum, TextField
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.dateparse import parse_date

from apps.messaging.models import Dispatch, DispatchBatch, GatewayRequest, MessageStatus, MessageTemplateVersion
from apps.subscriptions.admin import subscription_ids_by_token, user_ids
from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.tenants.console.lists import COUNT_MAX, as_uuid, newest
from apps.tenants.models import ChannelCredential
from automata_signal.ids import IdRange, first_id_at

MESSAGES = 150_000
"""Messages that one search for a reason looks through: those of batches in which something failed."""
BATCHES = 3_000
FOUND = 1_000
"""Messages that it finds, at most."""
DISPATCHES = 200
CLOSE_PER_MINUTE = 200
"""Messages of the same dispatches in a minute, with which others' between them are not many."""
SUBSCRIPTIONS = 1_000
FIRST, LAST = UUID(int=0), UUID(int=(1 << 128) - 1)

# --- By a reason ---------------------------------------------------------------------------------------------------

# Index: `batch_with_failed`, backward; then ranges of the primary key.
_BATCHES = """
    SELECT first_id FROM (
        SELECT first_id, recipient_count, sum(recipient_count) OVER (ORDER BY first_id DESC) AS reached
        FROM (
            SELECT b.first_id, greatest(b.recipient_count, 1) AS recipient_count FROM messaging_dispatchbatch b
            WHERE b.application_id = %(application_id)s AND b.has_failed
              AND b.first_id >= %(first)s AND b.first_id < %(last)s
              AND (%(campaign_id)s::uuid IS NULL OR b.dispatch_id IN (
                  SELECT id FROM messaging_dispatch
                  WHERE application_id = %(application_id)s AND campaign_id = %(campaign_id)s
              ))
            ORDER BY b.first_id DESC LIMIT %(batches)s
        ) newest
    ) counted WHERE reached - recipient_count < %(messages)s ORDER BY first_id DESC
"""
_OF_REASON = """
    SELECT m.id FROM unnest(%(bases)s::uuid[]) AS b (first_id) CROSS JOIN LATERAL (
        SELECT m.id FROM messaging_message m
        WHERE m.id BETWEEN b.first_id AND overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid
          AND m.id BETWEEN %(least)s AND %(most)s AND m.id < %(last)s
          AND m.application_id = %(application_id)s AND m.status = 'failed' AND m.error_reason = %(reason)s
        ORDER BY m.id DESC
    ) m LIMIT %(limit)s
"""


class Found(NamedTuple):
    """What a search for a reason came upon."""

    ids: list[UUID]
    looked_to: UUID | None
    """What is older than this was not looked at; None: nothing was there to look at."""
    is_whole: bool
    """Nothing older is left to be looked at."""


def failed_of_reason(
    *,
    application_id: UUID,
    reason: str,
    campaign_id: UUID | None = None,
    first: UUID = FIRST,
    last: UUID = LAST,
) -> Found:
    """The newest messages between two ids that failed of `reason`. What fails in a batch that is being sent is found
    when that is given back."""
    parameters: dict[str, Any] = {
        "application_id": application_id,
        "campaign_id": campaign_id,
        "first": UUID(int=first.int & ~0xFFFFFF),
        "last": last,
        "batches": BATCHES + 1,
        "messages": MESSAGES,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BATCHES, parameters)
        bases: list[UUID] = [row[0] for row in cursor.fetchall()]
        if not bases:
            return Found([], None, is_whole=True)
        parameters |= {"bases": bases, "least": max(first, bases[-1]), "most": IdRange(bases[0]).last}
        parameters |= {"reason": reason, "limit": FOUND}
        cursor.execute(_OF_REASON, parameters)
        ids = [row[0] for row in cursor.fetchall()]
    if len(ids) == FOUND:  # what lies behind the last one found was not looked at, in its own batch neither
        return Found(ids, ids[-1], is_whole=False)
    older = DispatchBatch.objects.filter(
        application_id=application_id, has_failed=True, first_id__lt=bases[-1], first_id__gte=parameters["first"]
    )
    if campaign_id:
        older = older.filter(dispatch__campaign_id=campaign_id)
    return Found(ids, bases[-1], is_whole=not older.exists())


# --- By what it was sent for ---------------------------------------------------------------------------------------


# By ranges of the primary key, newest first. The planner takes an array that it does not know for a short one, and goes
# by the key for each of its ids, whatever it thinks of the table.
_WITHIN = """
    messaging_message.id = ANY(ARRAY(
        SELECT m.id FROM unnest(%s::uuid[]) AS b (first_id) CROSS JOIN LATERAL (
            SELECT m.id FROM messaging_message m
            WHERE m.id BETWEEN b.first_id AND overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid
            ORDER BY m.id DESC
        ) m LIMIT %s
    ))
"""


def messages_of_dispatches(rows: QuerySet[Any], dispatches: QuerySet[Dispatch], **conditions: Any) -> QuerySet[Any]:
    """Messages between the first and the last batch of these dispatches, where these made most of what lies between.

    Else (a message now and then; what is sent again after weeks) each batch is a range of its own, and of all of them
    the newest `COUNT_MAX` are looked at, and one more."""
    ids = list(dispatches.order_by("-pk").values_list("pk", flat=True)[:DISPATCHES])
    batches = DispatchBatch.objects.filter(dispatch_id__in=ids, first_id__isnull=False)
    text = Cast(
        "first_id", TextField()
    )  # PostgreSQL has no least of UUIDs before 18; as texts they are in the same order
    ends = batches.aggregate(first=Min(text), last=Max(text), messages=Sum("recipient_count"))
    if ends["first"] is None:
        return rows.none()
    first, last = UUID(ends["first"]), UUID(ends["last"])
    rows = rows.filter(pk__range=(first, IdRange(last).last), **(conditions or {"dispatch_id__in": ids}))
    minutes = ((last.int >> 80) - (first.int >> 80)) / 60_000
    if ends["messages"] >= CLOSE_PER_MINUTE * max(1.0, minutes):
        return rows
    bases = list(batches.order_by("-first_id").values_list("first_id", flat=True)[:BATCHES])
    return rows.extra(where=[_WITHIN], params=[bases, COUNT_MAX + 1])  # noqa: S610 - no value stands in the text


def messages_of_campaign(rows: QuerySet[Any], campaign_id: UUID) -> QuerySet[Any]:
    """Of all its dispatches: of each variant, each step of a chain, and what was sent again."""
    return messages_of_dispatches(rows, Dispatch.objects.filter(campaign_id=campaign_id), campaign_id=campaign_id)


def messages_of_dispatch(rows: QuerySet[Any], dispatch_id: UUID) -> QuerySet[Any]:
    return messages_of_dispatches(rows, Dispatch.objects.filter(pk=dispatch_id))


def messages_of_template(rows: QuerySet[Any], template_id: UUID) -> QuerySet[Any]:
    """Of the latest dispatches of any version of it, among the newest messages that these may be."""
    versions = list(MessageTemplateVersion.objects.filter(template_id=template_id).values_list("pk", flat=True))
    return newest(messages_of_dispatches(rows, Dispatch.objects.filter(template_version_id__in=versions)))


def messages_of_users(rows: QuerySet[Any], users: Sequence[UUID]) -> QuerySet[Any]:
    """By the subscriptions that the users have and had, since messages have no index by user. Indexes: those of
    subscriptions by user, and `subscription_event_of_user`."""
    now = Subscription.with_archived.filter(user_id__in=users).values_list("pk", flat=True)
    once = SubscriptionEvent.objects.filter(user_id__in=users).values_list("subscription_id", flat=True).distinct()
    subscriptions = {*now[:SUBSCRIPTIONS], *once[:SUBSCRIPTIONS]}
    return rows.filter(subscription_id__in=subscriptions, user_id__in=users)


def messages_of_request(rows: QuerySet[Any], applications: Sequence[UUID], request_id: str) -> QuerySet[Any]:
    """Of a gateway's request, by the id that it gave. Index: `gateway_request_by_id`."""
    credentials = list(ChannelCredential.objects.filter(application_id__in=applications).values_list("pk", flat=True))
    requests = GatewayRequest.objects.filter(credential_id__in=credentials, request_id=request_id[:100])
    ids = [key for keys in requests.values_list("message_ids", flat=True)[:20] for key in keys]
    return rows.filter(pk__in=ids[:FOUND])


# --- Whatever was typed --------------------------------------------------------------------------------------------


def messages_found(rows: QuerySet[Any], applications: Sequence[UUID], term: str) -> QuerySet[Any]:
    """One question after the other, each by an index of its own: the first that finds something answers."""
    if key := as_uuid(term):
        for found in (rows.filter(pk=key), rows.filter(subscription_id=key)):
            if found.exists():
                return found
        if Dispatch.objects.filter(campaign_id=key).exists():
            return messages_of_campaign(rows, key)
        if Dispatch.objects.filter(pk=key).exists():
            return messages_of_dispatch(rows, key)
        if MessageTemplateVersion.objects.filter(template_id=key).exists():
            return messages_of_template(rows, key)
        return messages_of_users(rows, [key])
    keys = list(applications)
    if users := user_ids(keys, term):
        return messages_of_users(rows, users)
    if subscriptions := subscription_ids_by_token(keys, term):
        return rows.filter(subscription_id__in=subscriptions)
    found = messages_of_request(rows, keys, term)
    if found.exists():
        return found
    if len(keys) == 1:
        return rows.filter(pk__in=failed_of_reason(application_id=keys[0], reason=term[:100]).ids)
    return newest(rows).filter(status=MessageStatus.FAILED, error_reason=term)


# --- Days ----------------------------------------------------------------------------------------------------------


def day_begins(text: str, *, after: bool = False) -> UUID | None:
    """The least id of the day, or `after` it, by the operator's clock; None for what is no day."""
    try:
        day = parse_date(text)
    except ValueError:
        return None
    if day is None or not date(2000, 1, 1) <= day <= date(2200, 1, 1):
        return None
    begins = datetime.combine(day + timedelta(days=1 if after else 0), time(), timezone.get_current_timezone())
    return first_id_at(int(begins.astimezone(UTC).timestamp() * 1_000))
