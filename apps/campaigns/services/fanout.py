"""From a launched campaign to its batches, in steps that can stop and go on anywhere.

A step is one transaction: the next slice of the audience becomes batches, and the checkpoint on the campaign moves
behind it. Both or neither are there after a crash, so nobody is skipped and nobody gets a second message.

The checkpoint is moved by comparing it: the row is not locked while the slice is made, so a pause or a cancel goes
through at once and the step in progress then changes nothing, and the counters of messages that are being sent at
the same time need not wait. An advisory lock keeps a second fan-out of a campaign from doing the work for nothing.

Messages are reserved before they are cut: at launch, where quota or credit limit the channel (`reserved_left`), or by
the step itself. The audience may have grown since; what then does not fit is cut all the same, into batches that are
over the quota, whose messages fail. So everybody in the audience is accounted for.

A campaign with variants is cut by `experiments.running` in the same steps, with the same checkpoint.
"""

from __future__ import annotations

import enum
import time
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from apps.campaigns.experiments import running
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.messaging import charges
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.stopping import is_stopping
from automata_signal.celery import Task, send_tasks
from automata_signal.time_limits import limit_statements

STEP_RECIPIENTS = 50_000
"""Short beside the time-outs of statements and locks, long beside a commit."""
FIRST_STEP_BATCHES = 4
"""The first step is small, so that the first messages leave at once."""
TASK_MAX_S = 20.0
"""Then the fan-out goes on in a new task, and other tasks of the control queue get their turn."""


STATEMENT_MAX_S = 300
"""A rare audience is looked for among all subscriptions of an application in one statement."""


class Step(enum.Enum):
    MORE = "more"
    DONE = "done"
    STOPPED = "stopped"
    """Not running (any more), or another worker fans it out."""


def queue_fan_out(campaign_id: UUID) -> None:
    """If the broker does not answer, the sweep `campaigns.continue_fanouts` makes up for it."""
    send_tasks([Task("campaigns.fan_out", [str(campaign_id)], "control")])


def fan_out(campaign_id: UUID, *, max_s: float = TASK_MAX_S) -> Step:
    """Fan out until it is done or stopped, or until `max_s` are over: then `MORE`."""
    ends_at = time.monotonic() + max_s
    while (step := _patient_step(campaign_id)) is Step.MORE and time.monotonic() < ends_at and not is_stopping():
        pass
    return step


@transaction.atomic
def _patient_step(campaign_id: UUID) -> Step:
    limit_statements(STATEMENT_MAX_S)
    return fan_out_step(campaign_id)


class _Short(Exception):
    """The quota has room for fewer than were cut."""

    def __init__(self, fits: int) -> None:
        super().__init__(fits)
        self.fits = fits


@transaction.atomic
def fan_out_step(campaign_id: UUID, *, limit: int = STEP_RECIPIENTS) -> Step:
    """Cut the next slice of the audience, at most `limit` recipients, and move the checkpoint behind it."""
    try:
        return _cut(campaign_id, limit)
    except _Short as short:  # nothing was cut: once more, as many as fit, and then those that do not
        if short.fits:
            return fan_out_step(campaign_id, limit=short.fits)
        MessageCampaign.objects.filter(pk=campaign_id).update(is_over_quota=True)
        return Step.MORE


@transaction.atomic
def _cut(campaign_id: UUID, limit: int) -> Step:
    """Raises `_Short`, and has then changed nothing."""
    campaign = _next_to_cut(campaign_id)
    if campaign is None or campaign.dispatch is None or not _try_lock(campaign_id):
        return Step.STOPPED
    if campaign.fanout_after_id is None:
        limit = min(limit, FIRST_STEP_BATCHES * settings.BATCH_SIZE)
    reserved = campaign.reserved_left
    limit = min(limit, reserved) if reserved else limit
    is_over_quota = campaign.is_over_quota and not reserved
    cut = None
    if campaign.has_variants:
        cut = running.parts_slice(campaign, limit=limit, is_over_quota=is_over_quota)
        sliced = cut.sliced
    else:
        sliced = dispatch_slice(
            dispatch=campaign.dispatch,
            after_id=campaign.fanout_after_id,
            limit=limit,
            is_over_quota=is_over_quota,
        )
    is_last = sliced.last_id is None
    awaits_winner = cut is not None and cut.awaits_winner
    left = reserved - sliced.recipients if reserved else 0
    unmoved = MessageCampaign.objects.filter(pk=campaign_id, status=CampaignStatus.RUNNING, fanout_done_at=None)
    if campaign.fanout_after_id is None:
        unmoved = unmoved.filter(fanout_after_id__isnull=True)
    else:
        unmoved = unmoved.filter(fanout_after_id=campaign.fanout_after_id)
    moved = unmoved.update(
        fanout_after_id=sliced.last_id or campaign.fanout_after_id,
        fanout_done_at=timezone.now() if is_last else None,
        total_recipients=F("total_recipients") + sliced.recipients,
        reserved_left=0 if is_last and not awaits_winner else left,
        awaits_winner=awaits_winner,
    )
    if not moved:  # paused or canceled while the slice was made: it never was
        transaction.set_rollback(True)
        return Step.STOPPED
    if cut is not None:
        running.parts_count(cut)
    if not reserved and not campaign.is_over_quota:
        _reserve(campaign, sliced.recipients)
    if is_last and left and not awaits_winner:
        give_back(campaign, left)
    return Step.DONE if is_last else Step.MORE


def _reserve(campaign: MessageCampaign, recipients: int) -> None:
    """Reserve what was cut; after the campaign's row, as everybody does. Raises `_Short`."""
    fits = charges.reserve(
        application_id=campaign.application_id,
        channel_type=campaign.channel_type,
        messages=recipients,
        at_most=True,
    )
    if fits < recipients:
        raise _Short(fits)


def give_back(campaign: MessageCampaign, messages: int) -> None:
    """Give back what was reserved at launch and will not be cut."""
    assert campaign.dispatch is not None
    charges.release(
        application_id=campaign.application_id,
        channel_type=campaign.channel_type,
        messages=messages,
        reserved_at=campaign.dispatch.created_at,
    )


def campaigns_continue_fanouts() -> int:
    """Queue the fan-outs that nobody is working on: their worker died, or the broker lost them. Returns how many."""
    unfinished = MessageCampaign.objects.filter(status=CampaignStatus.RUNNING, fanout_done_at=None)
    idle = [pk for pk in unfinished.order_by("id").values_list("pk", flat=True) if _is_idle(pk)]
    for campaign_id in idle:
        queue_fan_out(campaign_id)
    return len(idle)


def _next_to_cut(campaign_id: UUID) -> MessageCampaign | None:
    rows = MessageCampaign.objects.select_related("dispatch", "application")
    return rows.filter(pk=campaign_id, status=CampaignStatus.RUNNING, fanout_done_at=None).first()


@transaction.atomic
def _is_idle(campaign_id: UUID) -> bool:
    return _try_lock(campaign_id)


def _try_lock(campaign_id: UUID) -> bool:
    """Until the transaction ends. The key is 64 bits of a hash; if two collide, one waits for the sweep."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"fan_out:{campaign_id}"])
        (is_ours,) = cursor.fetchone()
    return bool(is_ours)
