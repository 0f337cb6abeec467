"""Sending messages, canceling them, and keeping templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from apps.messaging import charges, lifecycle, retry
from apps.messaging.adapters.base import ContentError
from apps.messaging.adapters.registry import OPTION_CHECKS
from apps.messaging.chains.following import Due, follow
from apps.messaging.chains.steps import Chain, chain_create, check_chain, fallback_of, of_chain
from apps.messaging.content import ContentSource, check_template, is_html
from apps.messaging.courtesy.skipping import who_want_it
from apps.messaging.dispatches import dispatch_create
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
from apps.messaging.named import Recipients, SentMessage, Skipped, insert, rendered_for, resolve
from apps.messaging.recorders import record
from apps.messaging.variants import read_variants
from apps.subscriptions.models import AppUser
from apps.tenants.application_settings import DEFAULT_TTL_S
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import IdRange

# --- Messages ----------------------------------------------------------------------------------------------------


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
    chain: Chain | None = None,
) -> SendResult:
    """Accept messages: rows in one transaction, queued on commit. Accepted means that they will not be lost.

    Recipients who cannot be reached, or do not want such a message, are named in `skipped`. With a `chain`, users whom
    the channel does not reach begin with the first step that does. Raises `ValidationFailed` if nobody is left, if
    `send_at` is past, or if a recipient's rendered content would be refused by the provider, and as `quota_reserve` if
    they do not fit the quota or the credit; then nothing is sent to anybody.
    """
    now = timezone.now()
    if send_at is not None and send_at <= now:
        raise ValidationFailed.of("send_at", "is in the past")
    if send_at is not None and send_at > now + timedelta(seconds=settings.MESSAGE_TTL_MAX_S):
        raise ValidationFailed.of("send_at", "is more than 28 days ahead")
    chain = chain or fallback_of(application, content)
    if chain is not None:
        check_chain(channel_type, chain)
    reachable, skipped = resolve(application, channel_type, recipients)
    by_id = frozenset(recipients.subscription_ids)
    reachable, unwilling = who_want_it(application.pk, channel_type, purpose, category, reachable, by_id=by_id)
    skipped += unwilling
    if not reachable and chain is None:
        raise ValidationFailed.of("recipients", "none of them can be reached on this channel")
    rows = rendered_for(application, content, reachable)
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
        steps = chain_create(application=application, first=dispatch, chain=chain) if chain else []
        messages = insert(dispatch, rows, due_at=due_at, queue_now=send_at is None)
        if chain is not None:
            charges.hold(application.pk)  # further steps reserve on other channels
        charges.reserve(application_id=application.pk, channel_type=channel_type, messages=len(messages))
        if chain is not None:
            later, skipped = _begin_later(application, steps[0], skipped, send_at)
            messages += later
        if not messages:
            raise ValidationFailed.of("recipients", "none of them can be reached on these channels")
    return SendResult(dispatch, messages, skipped)


def _begin_later(
    application: Application, step: Dispatch, skipped: Sequence[Skipped], send_at: datetime | None
) -> tuple[list[SentMessage], list[Skipped]]:
    """Take the next steps for users whom the first does not reach, or who do not want it on that channel; their
    messages, and who is still skipped."""
    reasons = {one.value: one.reason for one in skipped if one.field == "external_ids"}
    known = AppUser.objects.for_application(application).filter(external_id__in=reasons)
    users: dict[UUID, str] = dict(known.values_list("pk", "external_id"))
    follow(step, [Due(user_id, None, reasons[name]) for user_id, name in users.items()], send_at=send_at)
    sent = Message.objects.for_application(application).filter(
        dispatch_id__in=of_chain(application.pk, step.chain_id).values("pk"), id__gt=step.pk, user_id__in=users
    )
    messages = [SentMessage(row.pk, row.subscription_id, users[row.user_id]) for row in sent if row.user_id]
    reached = {message.external_id for message in messages}
    return messages, [one for one in skipped if one.field != "external_ids" or one.value not in reached]


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
        record(counts, reserved_at=batch.reserved_at)
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
