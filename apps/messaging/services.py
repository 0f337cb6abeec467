"""Sending messages, canceling them, and keeping templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from apps.messaging import charges, lifecycle, retry
from apps.messaging.adapters.base import Adapter, ContentError
from apps.messaging.adapters.registry import OPTION_CHECKS, subscription_types_of
from apps.messaging.content import ContentSource, check_template, is_html, recipient_variables, used_adapters
from apps.messaging.dispatches import dispatch_create, expires_at
from apps.messaging.models import (
    BatchState,
    Dispatch,
    DispatchBatch,
    Message,
    MessageStatus,
    MessageTemplate,
    MessageTemplateVersion,
    Purpose,
)
from apps.messaging.queues import QueuedBatch, enqueue_on_commit
from apps.messaging.recorders import StatusCount, record
from apps.messaging.rendering import RenderError
from apps.messaging.variants import read_variants
from apps.subscriptions.models import AppUser
from apps.tenants.application_settings import DEFAULT_TTL_S
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import IdRange, new_range
from automata_signal.prepared import insert_row, prepared_cursor

RECIPIENTS_MAX = 2_000


# --- Messages ----------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class SendResult:
    dispatch: Dispatch
    messages: list[SentMessage]
    skipped: list[Skipped]


def ttl_of(application: Application, ttl_s: int | None) -> int:
    """The time to live in seconds: what was asked for, or the application's own."""
    if ttl_s is not None:
        return ttl_s
    return int(application.settings.get("default_ttl_s", DEFAULT_TTL_S))


def messages_send(
    *,
    application: Application,
    channel_type: str,
    recipients: Recipients,
    content: ContentSource,
    priority: str,
    ttl_s: int | None = None,
    send_at: datetime | None = None,
    campaign_id: UUID | None = None,
    purpose: str = Purpose.TRANSACTIONAL,
    category: str = "",
) -> SendResult:
    """Accept messages: rows in one transaction, queued on commit. Accepted means that they will not be lost.

    Recipients who cannot be reached are named in `skipped`. Raises `ValidationFailed` if nobody is left, if `send_at`
    is past, or if a recipient's rendered content would be refused by the provider, and as `quota_reserve` if they do
    not fit the quota or the credit; then nothing is sent to anybody.
    """
    now = timezone.now()
    if send_at is not None and send_at <= now:
        raise ValidationFailed.of("send_at", "is in the past")
    if send_at is not None and send_at > now + timedelta(seconds=settings.MESSAGE_TTL_MAX_S):
        raise ValidationFailed.of("send_at", "is more than 28 days ahead")
    reachable, skipped = _resolve(application, channel_type, recipients)
    if not reachable:
        raise ValidationFailed.of("recipients", "none of them can be reached on this channel")
    rows = _rendered(application, content, reachable)
    due_at = send_at or now
    with transaction.atomic():
        dispatch = dispatch_create(
            application=application,
            channel_type=channel_type,
            priority=priority,
            content=content,
            ttl_s=ttl_of(application, ttl_s),
            campaign_id=campaign_id,
            purpose=purpose,
            category=category,
        )
        messages = _insert(dispatch, rows, due_at=due_at, queue_now=send_at is None)
        charges.reserve(application_id=application.pk, channel_type=channel_type, messages=len(messages))
    return SendResult(dispatch, messages, skipped)


class _Row(NamedTuple):
    subscription_id: UUID
    user_id: UUID | None
    external_id: str | None
    type: str
    title: str | None
    body: str | None
    data: str | None


class _Named(NamedTuple):
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


def _resolve(application: Application, channel_type: str, recipients: Recipients) -> tuple[list[_Named], list[Skipped]]:
    """The reachable subscriptions in one query for each way to name them, each once, and the named who have none."""
    external_ids, subscription_ids = set(recipients.external_ids), set(recipients.subscription_ids)
    if len(external_ids) + len(subscription_ids) > RECIPIENTS_MAX:
        raise ValidationFailed.of("recipients", f"are more than {RECIPIENTS_MAX}")
    scope: dict[str, Any] = {"application_id": application.pk, "types": subscription_types_of(channel_type)}
    found: dict[UUID, _Named] = {}
    with prepared_cursor() as cursor:
        for sql, names in ((_BY_ID, [str(key) for key in subscription_ids]), (_OF_USERS, list(external_ids))):
            if names:
                cursor.execute(sql, {**scope, "names": names})
                found |= {row[0]: _Named(*row) for row in cursor.fetchall()}
    reachable = sorted((row for row in found.values() if row.is_subscribed), key=lambda row: row.id)
    skipped = _skipped_users(application, external_ids - {row.external_id for row in reachable})
    skipped += [
        Skipped("subscription_ids", str(key), "not_reachable" if key in found else "not_found")
        for key in sorted(subscription_ids - {row.id for row in reachable})
    ]
    return reachable, skipped


def _skipped_users(application: Application, external_ids: set[str]) -> list[Skipped]:
    if not external_ids:
        return []
    users = AppUser.objects.for_application(application).filter(external_id__in=external_ids)
    known = set(users.values_list("external_id", flat=True))
    return [
        Skipped("external_ids", value, "not_reachable" if value in known else "not_found")
        for value in sorted(external_ids)
    ]


def _rendered(application: Application, content: ContentSource, recipients: Sequence[_Named]) -> list[_Row]:
    """Each recipient's own content where it differs, checked against the provider's limits."""
    rows = []
    adapters = {type_: used_adapters(application, type_) for type_ in {row.type for row in recipients}}
    for row in recipients:
        own: tuple[str | None, str | None, str | None] = (None, None, None)
        if content.is_personalised:
            own = _render_for(application, content, row, adapters[row.type])
        rows.append(_Row(row.id, row.user_id, row.external_id, row.type, *own))
    return rows


def _render_for(
    application: Application, content: ContentSource, recipient: _Named, adapters: Sequence[Adapter]
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


def _insert(dispatch: Dispatch, rows: Sequence[_Row], *, due_at: datetime, queue_now: bool) -> list[SentMessage]:
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


def message_cancel(*, application: Application, message_id: UUID) -> Message:
    """Fail a message that has not left yet, as canceled.

    Raises `NotFound`, or `Conflict` if it is being sent at this moment or has left.
    """
    with transaction.atomic():
        batch = batch_of(application=application, message_id=message_id, lock=True)
        message = Message.objects.for_application(application).filter(pk=message_id).first()
        if message is None or batch is None:
            raise NotFound("There is no such message.")
        if message.status not in (MessageStatus.PENDING, MessageStatus.ERRORED):
            raise Conflict(f"The message is {message.status}: it can no longer be canceled.", code="MESSAGE_LEFT")
        if batch.state == BatchState.CLAIMED:
            raise Conflict("The message is being sent at this moment.", code="MESSAGE_BEING_SENT")
        counts = lifecycle.apply(
            "fail",
            source=message.status,
            ids=[message_id],
            application_id=application.pk,
            at=timezone.now(),
            reason=retry.CANCELED,
        )
        DispatchBatch.objects.for_application(application).filter(pk=batch.pk).update(has_failed=True)
        record(counts, reserved_at=None if batch.is_over_quota else batch.dispatch.created_at)
    return Message.objects.get(pk=message_id)


def batch_of(*, application: Application, message_id: UUID, lock: bool = False) -> DispatchBatch | None:
    """The batch whose range the message's id is in."""
    batches = DispatchBatch.objects.for_application(application).filter(first_id__lte=message_id)
    if lock:
        batches = batches.select_for_update()
    batch = batches.order_by("-first_id").first()
    if batch is None or batch.first_id is None or message_id > IdRange(batch.first_id).last:
        return None
    return batch


# --- Templates ---------------------------------------------------------------------------------------------------

_VERSIONED = ("title_template", "body_template", "data_template", "options", "variants")


def template_create(*, application: Application, created_by: str, **fields: Any) -> MessageTemplate:
    """Make a template and its version 1. Raises `ValidationFailed` for syntax (with line and column) and options."""
    template = MessageTemplate(application=application, **fields)
    _check(template)
    with transaction.atomic():
        try:
            with transaction.atomic():
                template.save()
        except IntegrityError:
            raise Conflict("There is a template of this name.", code="NAME_TAKEN") from None
        _keep_version(template, created_by)
    return template


def template_update(*, template: MessageTemplate, changed_by: str, changes: Mapping[str, Any]) -> MessageTemplate:
    """Change a template; a new text is a new version, and messages keep the one they were made from."""
    with transaction.atomic():
        template = MessageTemplate.objects.select_for_update().get(pk=template.pk)
        is_new_version = any(name in changes and changes[name] != getattr(template, name) for name in _VERSIONED)
        for name, value in changes.items():
            setattr(template, name, value)
        _check(template)
        template.version += is_new_version
        template.updated_at = timezone.now()
        try:
            with transaction.atomic():
                template.save()
        except IntegrityError:
            raise Conflict("There is a template of this name.", code="NAME_TAKEN") from None
        if is_new_version:
            _keep_version(template, changed_by)
    return template


def template_delete(*, template: MessageTemplate) -> None:
    """Delete a template that no campaign names; raises `Conflict` for one that is in use (it can be made inactive)."""
    try:
        template.delete()
    except ProtectedError:
        raise Conflict("Campaigns use this template; make it inactive instead.", code="TEMPLATE_IN_USE") from None


def _check(template: MessageTemplate) -> None:
    """The syntax of all words, and the options: those of a channel's words by that channel's rules. What is said on
    every channel has options that some channel knows; which they are for is seen when it is sent."""
    check_template(template.title_template, template.body_template, template.data_template)
    variants = read_variants(template.variants)
    for index, (channel, _, words) in enumerate(variants):
        html = is_html(channel, words.options)
        check_template(words.title, words.body, words.data, html=html, field=f"variants.{index}.")
        _check_options(words.options, [channel] if channel else list(OPTION_CHECKS), field=f"variants.{index}.")
    _check_options(template.options, list(OPTION_CHECKS))


def _check_options(options: Mapping[str, Any], channels: Sequence[str], *, field: str = "") -> None:
    """Raise `ValidationFailed` unless one of the channels takes the options; the first one's word if none does."""
    problems = []
    for channel in channels:
        try:
            return OPTION_CHECKS[channel](options)
        except ContentError as error:
            problems.append(error)
    raise ValidationFailed.of(f"{field}{problems[0].field}", problems[0].message)


def _keep_version(template: MessageTemplate, created_by: str) -> None:
    MessageTemplateVersion.objects.create(
        template=template,
        version=template.version,
        created_by=created_by,
        **{name: getattr(template, name) for name in _VERSIONED},
    )
