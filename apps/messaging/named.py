"""Messages to recipients who are named: found, rendered and written, each set in a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection
from django.utils import timezone

from apps.messaging.adapters.base import Adapter, ContentError
from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.content import ContentSource, recipient_variables, used_adapters
from apps.messaging.dispatches import expires_at, follow_up_at
from apps.messaging.models import Dispatch, DispatchBatch, MessageStatus
from apps.messaging.queues import QueuedBatch, enqueue_on_commit
from apps.messaging.recorders import StatusCount, record
from apps.messaging.rendering import RenderError
from apps.subscriptions.models import AppUser
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed
from automata_signal.ids import new_range
from automata_signal.prepared import insert_row, prepared_cursor

RECIPIENTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Recipients:
    """Who is to receive: users by external id (all their subscriptions of the channel), or subscriptions by id."""

    external_ids: Sequence[str] = field(default_factory=tuple)
    subscription_ids: Sequence[UUID] = field(default_factory=tuple)


class SentMessage(NamedTuple):
    id: UUID
    subscription_id: UUID
    external_id: str | None


class Skipped(NamedTuple):
    """A recipient who was named and gets nothing, and why: `not_found`, `not_reachable`."""

    field: str
    value: str
    reason: str


class NewMessage(NamedTuple):
    subscription_id: UUID
    user_id: UUID | None
    external_id: str | None
    type: str
    title: str | None
    body: str | None
    data: str | None


class Named(NamedTuple):
    """A subscription that was named, with what of it and its user goes into content of its own."""

    id: UUID
    type: str
    is_subscribed: bool
    user_id: UUID | None
    external_id: str | None
    properties: str | None
    tags: str
    language: str
    country: str


_NAMED = """
    SELECT s.id, s.type, s.subscription_status > 0, u.id, u.external_id, u.properties::text, s.tags::text,
           s.device_language, s.country_code
"""
# By `one_user_per_external_id`, and the index on the subscription's user.
_OF_USERS = f"""{_NAMED}
    FROM subscriptions_appuser u
         JOIN subscriptions_subscription s ON s.user_id = u.id AND s.application_id = u.application_id
    WHERE u.application_id = %(application_id)s AND s.application_id = %(application_id)s
      AND u.external_id = ANY(%(names)s::text[]) AND NOT u.is_archived
      AND s.type = ANY(%(types)s::text[]) AND NOT s.is_archived
"""
_BY_ID = f"""{_NAMED}
    FROM subscriptions_subscription s
         LEFT JOIN subscriptions_appuser u ON u.id = s.user_id AND u.application_id = %(application_id)s
    WHERE s.application_id = %(application_id)s AND s.id = ANY(%(names)s::uuid[])
      AND s.type = ANY(%(types)s::text[]) AND NOT s.is_archived
"""


def resolve(application: Application, channel_type: str, recipients: Recipients) -> tuple[list[Named], list[Skipped]]:
    """The reachable subscriptions in one query for each way to name them, each once, and the named who have none."""
    external_ids, subscription_ids = set(recipients.external_ids), set(recipients.subscription_ids)
    if len(external_ids) + len(subscription_ids) > RECIPIENTS_MAX:
        raise ValidationFailed.of("recipients", f"are more than {RECIPIENTS_MAX}")
    scope: dict[str, Any] = {"application_id": application.pk, "types": subscription_types_of(channel_type)}
    found: dict[UUID, Named] = {}
    with prepared_cursor() as cursor:
        for sql, names in ((_BY_ID, [str(key) for key in subscription_ids]), (_OF_USERS, list(external_ids))):
            if names:
                cursor.execute(sql, {**scope, "names": names})
                found |= {row[0]: Named(*row) for row in cursor.fetchall()}
    reachable = sorted((row for row in found.values() if row.is_subscribed), key=lambda row: row.id)
    skipped = _skipped_users(application, external_ids - {row.external_id for row in reachable})
    skipped += [
        Skipped("subscription_ids", str(key), "not_reachable" if key in found else "not_found")
        for key in sorted(subscription_ids - {row.id for row in reachable})
    ]
    return reachable, skipped


# By the index on the subscription's user.
_BY_USER = f"""{_NAMED}
    FROM subscriptions_appuser u
         JOIN subscriptions_subscription s ON s.user_id = u.id AND s.application_id = u.application_id
    WHERE u.application_id = %(application_id)s AND s.application_id = %(application_id)s
      AND u.id = ANY(%(names)s::uuid[]) AND NOT u.is_archived
      AND s.type = ANY(%(types)s::text[]) AND NOT s.is_archived
"""


def of_users(application: Application, channel_type: str, *, user_ids: Sequence[UUID]) -> list[Named]:
    """The subscriptions of these users on the channel, in the order of their ids."""
    parameters: dict[str, Any] = {
        "application_id": application.pk,
        "types": subscription_types_of(channel_type),
        "names": sorted(str(user_id) for user_id in user_ids),
    }
    with prepared_cursor() as cursor:
        cursor.execute(_BY_USER, parameters)
        return sorted((Named(*row) for row in cursor.fetchall()), key=lambda row: row.id)


def by_subscription_ids(application: Application, channel_type: str, ids: Sequence[UUID]) -> list[Named]:
    """These subscriptions, if they are of the channel, subscribed or not."""
    parameters: dict[str, Any] = {
        "application_id": application.pk,
        "types": subscription_types_of(channel_type),
        "names": [str(key) for key in ids],
    }
    with prepared_cursor() as cursor:
        cursor.execute(_BY_ID, parameters)
        return [Named(*row) for row in cursor.fetchall()]


def _skipped_users(application: Application, external_ids: set[str]) -> list[Skipped]:
    if not external_ids:
        return []
    users = AppUser.objects.for_application(application).filter(external_id__in=external_ids)
    known = set(users.values_list("external_id", flat=True))
    return [
        Skipped("external_ids", value, "not_reachable" if value in known else "not_found")
        for value in sorted(external_ids)
    ]


def rendered_for(application: Application, content: ContentSource, recipients: Sequence[Named]) -> list[NewMessage]:
    """Each recipient's own content where it differs, checked against the providers' limits. Raises `ValidationFailed`,
    which names the recipient."""
    rows = []
    adapters = {type_: used_adapters(application, type_) for type_ in {row.type for row in recipients}}
    for row in recipients:
        own: tuple[str | None, str | None, str | None] = (None, None, None)
        if content.is_personalised:
            own = _render_for(application, content, row, adapters[row.type])
        rows.append(NewMessage(row.id, row.user_id, row.external_id, row.type, *own))
    return rows


def _render_for(
    application: Application, content: ContentSource, recipient: Named, adapters: Sequence[Adapter]
) -> tuple[str, str, str]:
    variables = recipient_variables(
        external_id=recipient.external_id or "",
        properties=orjson.loads(recipient.properties or "{}"),
        tags=orjson.loads(recipient.tags),
        language=recipient.language or application.default_language,
        country=recipient.country,
    )
    try:
        # What the caller sent with this request is meant for this request, so it comes before stored properties.
        rendered = content.render({**variables, **content.variables})
        for adapter in adapters:
            adapter.check_content(rendered)
    except (RenderError, ContentError) as error:
        who = recipient.external_id or str(recipient.id)
        raise ValidationFailed.of(error.field, f"{error.message} (for recipient {who})") from None
    return rendered.title, rendered.body, orjson.dumps(dict(rendered.data)).decode()


_INSERT = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                                   status, attempts, title, body, data, created_at)
    SELECT r.id, %s, %s, %s, r.subscription_id, r.user_id, %s, 'pending', 0, r.title, r.body, r.data::jsonb, %s
    FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::text[])
         r(id, subscription_id, user_id, title, body, data)
"""


def insert(dispatch: Dispatch, rows: Sequence[NewMessage], *, due_at: datetime, queue_now: bool) -> list[SentMessage]:
    """One batch for each type of subscription, with its messages; returns the messages in the order of `rows`."""
    now = timezone.now()
    sent: list[SentMessage] = []
    batches: list[QueuedBatch] = []
    for type_ in sorted({row.type for row in rows}):
        of_type = [row for row in rows if row.type == type_]
        ids = new_range()
        message_ids = [ids.at(position) for position in range(len(of_type))]
        batch = DispatchBatch(
            dispatch=dispatch,
            application_id=dispatch.application_id,
            subscription_type=type_,
            priority=dispatch.priority,
            due_at=due_at,
            queued_at=now if queue_now else None,
            expires_at=expires_at(due_at, dispatch.ttl_s),
            first_id=ids.base,
            recipient_count=len(of_type),
            follow_up_at=follow_up_at(dispatch, due_at),
        )
        insert_row(batch)
        with connection.cursor() as cursor:
            cursor.execute(
                _INSERT,
                [
                    *(dispatch.application_id, dispatch.pk, dispatch.campaign_id, dispatch.channel_type, now),
                    message_ids,
                    *([getattr(row, name) for row in of_type] for name in _COLUMNS),
                ],
            )
        sent += [SentMessage(i, r.subscription_id, r.external_id) for i, r in zip(message_ids, of_type, strict=True)]
        batches.append(QueuedBatch(batch.pk, dispatch.application_id, dispatch.channel_type, dispatch.priority, type_))
    scope = (dispatch.application_id, dispatch.campaign_id, dispatch.channel_type)
    record([StatusCount(*scope, old="", new=MessageStatus.PENDING.value, reason="", messages=len(sent))])
    if queue_now:
        enqueue_on_commit(batches)
    return sent


_COLUMNS = ("subscription_id", "user_id", "title", "body", "data")
