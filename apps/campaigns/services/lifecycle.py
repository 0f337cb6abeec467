"""A campaign from draft to its end. Each step locks the row, so two at once are one after the other."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from apps.billing.entitlements import require_feature
from apps.billing.models import Feature
from apps.campaigns.experiments import running
from apps.campaigns.experiments.planning import variant_view, variants_check
from apps.campaigns.models import CampaignStatus, CampaignType, MessageCampaign, OverQuota
from apps.campaigns.moments import scheduled_moment
from apps.campaigns.selectors import audience_size, audience_types
from apps.campaigns.services.approval import audience_of, refuse_unapproved
from apps.campaigns.services.drafts import campaign_chain, campaign_content
from apps.campaigns.services.fanout import give_back, queue_fan_out
from apps.campaigns.services.orders import order_create
from apps.campaigns.services.rows import locked, move, refuse_state, refuse_wrong_state
from apps.messaging import charges
from apps.messaging.adapters.registry import adapters_for, subscription_types_of
from apps.messaging.chains.following import is_waiting
from apps.messaging.content import ContentSource
from apps.messaging.dispatches import (
    dispatch_cancel,
    dispatch_is_done,
    dispatch_pause,
    dispatch_resume,
    dispatches_of,
)
from apps.messaging.models import Dispatch, MessageRequeue, Priority
from apps.messaging.named import Recipients
from apps.messaging.requeue import FailedFilter, requeue_start
from apps.messaging.services import SendResult, messages_send
from apps.subscriptions.targeting import Predicate
from apps.tenants.models import ChannelCredential
from automata_signal.errors import Conflict, SignalError, ValidationFailed

log = logging.getLogger(__name__)

TEST_RECIPIENTS_MAX = 20
REQUEUED_IN = (CampaignStatus.RUNNING, CampaignStatus.COMPLETED)


@transaction.atomic
def campaign_schedule(*, campaign: MessageCampaign, at: datetime, time_zone: str = "", by: str = "") -> MessageCampaign:
    """Launch it at `at`: an instant, or a local time in `time_zone` (the application's unless told). Again to move it.

    All but the audience must be ready now: who is in it, and whether anybody is, is found out at launch. Raises as
    `campaign_launch` does, and `ValidationFailed` for the time.
    """
    require_feature(campaign.application, Feature.CAMPAIGNS)
    row = locked(campaign)
    refuse_wrong_state(row, "schedule")
    moment = scheduled_moment(at, time_zone=time_zone, default_time_zone=row.application.time_zone)
    _content, predicate = check_ready(row)
    refuse_unapproved(row, predicate, at=moment.at)
    row.scheduled_at, row.scheduled_time_zone = moment
    row.campaign_type = CampaignType.SCHEDULED
    move(row, "schedule", "scheduled_at", "scheduled_time_zone", "campaign_type", by=by)
    return row


@transaction.atomic
def campaign_unschedule(*, campaign: MessageCampaign, by: str = "") -> MessageCampaign:
    """Make it a draft again."""
    row = locked(campaign)
    row.scheduled_at, row.scheduled_time_zone = None, ""
    row.campaign_type = CampaignType.ONE_TIME
    move(row, "unschedule", "scheduled_at", "scheduled_time_zone", "campaign_type", by=by)
    return row


@transaction.atomic
def campaign_launch(*, campaign: MessageCampaign, by: str = "") -> MessageCampaign:
    """Start sending: content and audience are fixed as they are now, and the fan-out is queued.

    Raises `ValidationFailed` for a content that cannot be sent, and `Conflict` with one of the codes CAMPAIGN_STATE,
    APPLICATION_INACTIVE, TEMPLATE_INACTIVE, CREDENTIAL_MISSING, AUDIENCE_EMPTY, APPROVAL_REQUIRED; and, with the number
    that would fit, `QuotaExceeded` or `CreditExhausted` for an audience that does not, unless it may be sent in part.
    """
    row = locked(campaign)
    refuse_wrong_state(row, "launch")
    _launch(row, at=None, by=by)
    return row


@transaction.atomic
def campaign_pause(*, campaign: MessageCampaign, by: str = "") -> MessageCampaign:
    """Nothing more leaves until it is resumed; a step of the fan-out in progress is undone."""
    row = locked(campaign)
    move(row, "pause", by=by)
    for dispatch in _dispatches(row):
        dispatch_pause(dispatch)
    return row


@transaction.atomic
def campaign_resume(*, campaign: MessageCampaign, by: str = "") -> MessageCampaign:
    """Go on where it was paused, to the audience that was fixed at launch."""
    row = locked(campaign)
    move(row, "resume", by=by)
    for dispatch in _dispatches(row):
        dispatch_resume(dispatch)
    if row.fanout_done_at is None:
        transaction.on_commit(lambda: queue_fan_out(row.pk), robust=True)
    return row


@transaction.atomic
def campaign_cancel(*, campaign: MessageCampaign, by: str = "") -> MessageCampaign:
    """End it. What has not left is failed as canceled; those not yet cut into batches never become messages."""
    row = locked(campaign)
    left, row.reserved_left = row.reserved_left, 0
    move(row, "cancel", "reserved_left", by=by)
    for dispatch in _dispatches(row):
        dispatch_cancel(dispatch)
    if left:
        give_back(row, left)
    return row


def campaign_test(
    *,
    campaign: MessageCampaign,
    external_ids: Sequence[str] = (),
    subscription_ids: Sequence[UUID] = (),
    variant: str = "",
) -> SendResult:
    """Send what the campaign would send now to up to 20 recipients, at once (priority high), in any state.

    The messages are exactly those of the campaign, without a mark, and do not belong to it: its figures stay those of
    its audience. Of a campaign with variants it is that of the letter `variant`, the first unless told. Raises
    `ValidationFailed`, and `Conflict` (TEMPLATE_INACTIVE, CREDENTIAL_MISSING).
    """
    count = len(external_ids) + len(subscription_ids)
    if not 1 <= count <= TEST_RECIPIENTS_MAX:
        raise ValidationFailed.of("recipients", f"must name 1 to {TEST_RECIPIENTS_MAX} recipients")
    refuse_missing_credentials(campaign, None)
    return messages_send(
        application=campaign.application,
        channel_type=campaign.channel_type,
        recipients=Recipients(external_ids=list(external_ids), subscription_ids=list(subscription_ids)),
        content=_active_content(variant_view(campaign, variant)),
        priority=Priority.HIGH,
        ttl_s=campaign.ttl_s,
    )


def campaign_requeue_failed(
    *, campaign: MessageCampaign, error_reason: str = "", error_class: str = "", by: str = ""
) -> MessageRequeue:
    """Send the failed messages of a running or completed campaign again, as new messages that belong to it.

    Raises `Conflict` in another state: what is paused or canceled stays so. The campaign's row is not locked, since
    messages come before counters in the order of locks.
    """
    if campaign.status not in REQUEUED_IN:
        refuse_state(campaign, "requeue", list(REQUEUED_IN))
    which = FailedFilter(campaign_id=campaign.pk, error_reason=error_reason, error_class=error_class)
    return requeue_start(application=campaign.application, which=which, requested_by=by)


# --- Sweeps --------------------------------------------------------------------------------------------------------


def campaigns_launch_due(*, now: datetime | None = None) -> int:
    """Launch the scheduled campaigns whose time has come; one that cannot be launched is failed, and says why.

    Each in a transaction of its own; one that somebody else holds is left to the next sweep, and so is one that meets a
    fault of ours, which must not hold up the others. Returns how many were launched. Index: `campaign_scheduled`.
    """
    now = now or timezone.now()
    due = MessageCampaign.objects.filter(status=CampaignStatus.SCHEDULED, scheduled_at__lte=now)
    launched = 0
    for campaign_id in list(due.order_by("scheduled_at").values_list("pk", flat=True)):
        try:
            launched += _launch_due(campaign_id, now)
        except Exception:
            log.exception("a scheduled campaign could not be launched", extra={"campaign": str(campaign_id)})
    return launched


@transaction.atomic
def _launch_due(campaign_id: UUID, now: datetime) -> bool:
    rows = MessageCampaign.objects.select_for_update(of=("self",), skip_locked=True)
    rows = rows.select_related("application", "template")
    row = rows.filter(pk=campaign_id, status=CampaignStatus.SCHEDULED, scheduled_at__lte=now).first()
    if row is None:
        return False
    try:
        with transaction.atomic():
            _launch(row, at=row.scheduled_at, by="schedule")
    except SignalError as error:
        log.warning("a scheduled campaign failed", extra={"campaign": str(campaign_id), "cause": error.message})
        row = locked(row)
        row.failure_reason = f"{error.code}: {error.message}"[:300]
        move(row, "fail", "failure_reason", by="schedule")
        return False
    return True


def campaigns_finish_done() -> int:
    """Complete the running campaigns that have nothing more to send. Returns how many. Index: `campaign_running`."""
    cut = MessageCampaign.objects.filter(
        status=CampaignStatus.RUNNING, fanout_done_at__isnull=False, awaits_winner=False
    )
    return sum([_finish(campaign) for campaign in cut.select_related("dispatch") if _is_done(campaign)])


@transaction.atomic
def _finish(campaign: MessageCampaign) -> bool:
    row = locked(campaign)
    if row.status != CampaignStatus.RUNNING or row.fanout_done_at is None or row.awaits_winner or not _is_done(row):
        return False
    move(row, "complete", by="")
    return True


def _is_done(campaign: MessageCampaign) -> bool:
    dispatches = _dispatches(campaign)
    return dispatch_is_done(*dispatches) and not is_waiting(dispatches)


def _dispatches(campaign: MessageCampaign) -> list[Dispatch]:
    """Of its launch and of its requeues."""
    return dispatches_of(application_id=campaign.application_id, campaign_id=campaign.pk)


# --- Launching -----------------------------------------------------------------------------------------------------


def _launch(row: MessageCampaign, *, at: datetime | None, by: str) -> None:
    """Make the dispatch and start the fan-out. The row is locked, and can be launched from its state.

    `at` is the moment for which it was planned, None if somebody launches it now: an approval is of one or the other.
    """
    require_feature(row.application, Feature.CAMPAIGNS)
    content, predicate = check_ready(row)
    refuse_unapproved(row, predicate, at=at)
    types = audience_types(application=row.application, predicate=predicate, channel_type=row.channel_type)
    if not types:
        raise Conflict("Nobody in the audience can be reached on this channel.", code="AUDIENCE_EMPTY")
    refuse_missing_credentials(row, types)
    if row.has_variants:
        row.dispatch = running.variants_launch(row, _active_content)
        predicate = running.without_held_out(predicate, row)
    else:
        row.dispatch = order_create(row, content)
    row.reserved_left = _reserve(row, predicate)
    move(row, "launch", "dispatch", "reserved_left", by=by)
    transaction.on_commit(lambda: queue_fan_out(row.pk), robust=True)


def _reserve(row: MessageCampaign, predicate: Predicate) -> int:
    """Reserve a message for each of the audience; how many. The fan-out takes from them, and gives back the rest.

    Where nothing limits the channel nobody is counted, and the fan-out reserves what it cuts. The quota's row is held
    from here to the end of the launch.
    """
    if not charges.is_limited(application_id=row.application_id, channel_type=row.channel_type):
        return 0
    size = audience_size(application=row.application, predicate=predicate, channel_type=row.channel_type)
    is_partial = row.when_over_quota == OverQuota.PARTIAL
    if is_partial and (
        some := charges.reserve(
            application_id=row.application_id, channel_type=row.channel_type, messages=size, at_most=True
        )
    ):
        return some
    # All or nothing; and where not even one fits there is nothing to send in part.
    return charges.reserve(application_id=row.application_id, channel_type=row.channel_type, messages=size)


def check_ready(row: MessageCampaign) -> tuple[ContentSource, Predicate]:
    """All that must be right but the audience being somebody: the content, and the criteria compiled."""
    row.application.refresh_from_db(fields=["is_active"])
    if not row.is_audience_chosen:
        raise ValidationFailed.of("targeting_criteria", "nobody has chosen yet who gets it")
    if not row.application.is_active:
        raise Conflict("The application is not active.", code="APPLICATION_INACTIVE")
    if row.has_variants:
        content = variants_check(row, _active_content)
    else:
        content = _active_content(row)
        campaign_chain(row)
    predicate = audience_of(row)
    refuse_missing_credentials(row, None)
    return content, predicate


def _active_content(row: MessageCampaign) -> ContentSource:
    if row.template is not None and not row.template.is_active:
        raise Conflict(f"The template {row.template.name} is not active.", code="TEMPLATE_INACTIVE")
    return campaign_content(row)


def refuse_missing_credentials(row: MessageCampaign, types: Collection[str] | None) -> None:
    """Every type of the audience needs a credential of its provider; without an audience, the channel needs any one.

    Half of an audience that fails is found out too late: whoever wants it targets the other type. A credential whose
    breaker is open counts: it opens for minutes, and what cannot be sent waits.
    """
    active = ChannelCredential.objects.for_application(row.application).filter(is_active=True)
    usable = set(active.values_list("provider", flat=True))
    needed = {type_: adapters_for(type_) for type_ in types or subscription_types_of(row.channel_type)}
    missing = sorted(
        " or ".join(adapter.name for adapter in adapters)
        for adapters in needed.values()
        if adapters[0].needs_secret and usable.isdisjoint(adapter.name for adapter in adapters)
    )
    if missing and (types is not None or len(missing) == len(needed)):
        raise Conflict(
            f"The application has no active credential for {' and '.join(missing)}, which this audience needs.",
            code="CREDENTIAL_MISSING",
        )
