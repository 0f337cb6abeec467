"""Asking for a launch, and the second person's answer.

Each step locks the campaign's row, so what is approved is what is there, and a change that comes at the same time is
before it or after it. Nobody approves what they have made, changed or asked for.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NoReturn

from django.db import OperationalError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.campaigns.approvals.digest import AS_PLANNED, approval_digest
from apps.campaigns.approvals.models import ApprovalState, CampaignApproval
from apps.campaigns.approvals.selectors import approval_current, approval_last, is_author, rule_of
from apps.campaigns.audience import compiled
from apps.campaigns.models import MessageCampaign
from apps.campaigns.selectors import audience_size_up_to
from apps.campaigns.services.rows import EDITABLE, locked, refuse_state
from apps.messaging.courtesy.wanted import wanted
from apps.subscriptions.targeting import Predicate
from apps.tenants.models import Operator
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, FieldProblem, Forbidden, ValidationFailed
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

COUNTED_MAX = 100_000_000
COUNT_MAX_S = 5


@transaction.atomic
def approval_ask(
    *, campaign: MessageCampaign, asked_by: str, operator: Operator | None = None, note: str = ""
) -> CampaignApproval:
    """Ask that somebody else approves the launch of the campaign as it stands now; those who may are told.

    Raises `Conflict` (CAMPAIGN_STATE, APPROVAL_ASKED) and, for what could not be launched anyway, what the launch
    raises.
    """
    from apps.campaigns.services.lifecycle import check_ready

    row = locked(campaign)
    if row.status not in EDITABLE:
        refuse_state(row, "asking for approval", list(EDITABLE))
    if len(note) > 1_000:
        raise ValidationFailed.of("note", "must have at most 1000 characters")
    digest = approval_digest(row)
    current = approval_current(row)
    if current is not None and current.digest == digest:
        raise Conflict("The approval is asked for already, or given.", code="APPROVAL_ASKED")
    _content, predicate = check_ready(row)
    if current is not None:
        _withdraw(current, _("Something was changed."))
    asked = CampaignApproval.objects.create(
        application=row.application,
        campaign=row,
        digest=digest,
        recipients=_counted(row, predicate),
        asked_by=asked_by[:200],
        asked_by_id=operator.pk if operator else None,
        note=note,
        tell_due_at=timezone.now(),
    )
    transaction.on_commit(lambda: send_tasks([Task("campaigns.tell_approvers", [], "control")]), robust=True)
    return asked


def approval_approve(
    *, campaign: MessageCampaign, operator: Operator, comment: str = "", digest: str = ""
) -> CampaignApproval:
    """`digest` is of what the operator has looked at. Raises `Conflict` (APPROVAL_NOT_ASKED, APPROVAL_OUTDATED) and
    `Forbidden` (APPROVAL_OWN) for who made it."""
    return _decide(campaign, operator, ApprovalState.APPROVED, comment, digest)


def approval_reject(*, campaign: MessageCampaign, operator: Operator, comment: str) -> CampaignApproval:
    """With a comment that says why. Also what was approved and is not launched yet. Raises as `approval_approve`."""
    if not comment.strip():
        raise ValidationFailed.of("comment", "say what has to be changed")
    return _decide(campaign, operator, ApprovalState.REJECTED, comment, "")


@transaction.atomic
def _decide(
    campaign: MessageCampaign, operator: Operator, state: ApprovalState, comment: str, digest: str
) -> CampaignApproval:
    row = locked(campaign)
    if row.status not in EDITABLE:
        refuse_state(row, "an approval", list(EDITABLE))
    if len(comment) > 1_000:
        raise ValidationFailed.of("comment", "must have at most 1000 characters")
    approval = approval_current(row)
    is_open = approval is not None and (approval.state == ApprovalState.ASKED or state == ApprovalState.REJECTED)
    if approval is None or not is_open:
        raise Conflict("Nobody has asked for an approval of this campaign.", code="APPROVAL_NOT_ASKED")
    if is_author(row, operator, approval):
        raise Forbidden(
            "Who made, changed or asked for a campaign does not approve it: somebody else has to.", code="APPROVAL_OWN"
        )
    present = approval_digest(row)
    if state == ApprovalState.APPROVED and (approval.digest != present or digest not in ("", present)):
        raise Conflict(
            "Something was changed since: look at it again, and ask for the approval anew.", code="APPROVAL_OUTDATED"
        )
    approval.state, approval.comment = state, comment.strip()
    approval.decided_by, approval.decided_by_id = str(operator)[:200], operator.pk
    approval.decided_at, approval.tell_due_at = timezone.now(), None
    approval.save()
    return approval


def approval_withdraw_if_changed(campaign: MessageCampaign) -> bool:
    """In the transaction of a change, which holds the campaign's row: what was asked or approved no longer holds if it
    was something else. Returns whether it was withdrawn."""
    approval = approval_current(campaign)
    if approval is None or approval.digest == approval_digest(campaign):
        return False
    _withdraw(approval, _("Something was changed."))
    return True


def _withdraw(approval: CampaignApproval, because: str) -> None:
    approval.state, approval.comment, approval.tell_due_at = ApprovalState.WITHDRAWN, because, None
    approval.save(update_fields=["state", "comment", "tell_due_at"])


# --- At the launch -------------------------------------------------------------------------------------------------


def approval_is_needed(campaign: MessageCampaign, predicate: Predicate | None = None) -> bool:
    """By the application's setting; with a threshold the audience is counted, up to it."""
    rule = rule_of(campaign.application)
    if not rule.is_required or not rule.above:
        return rule.is_required
    if predicate is None:
        predicate = audience_of(campaign)
    counted = audience_size_up_to(
        application=campaign.application,
        predicate=predicate,
        channel_type=campaign.channel_type,
        limit=rule.above + 1,
    )
    return counted > rule.above


def refuse_unapproved(
    campaign: MessageCampaign, predicate: Predicate, *, at: datetime | object | None = AS_PLANNED
) -> None:
    """Raise `Conflict` (APPROVAL_REQUIRED) unless somebody has approved exactly this, to be launched `at`. The
    campaign's row is locked."""
    campaign.application.refresh_from_db(fields=["settings"])
    if not approval_is_needed(campaign, predicate):
        return
    approval = approval_current(campaign)
    if approval is not None and approval.state == ApprovalState.APPROVED:
        if approval.digest == approval_digest(campaign, at=at):
            return
        _refuse("What was approved is something else: ask for the approval of this launch, at this time.", "outdated")
    if approval is not None:
        _refuse("The launch waits for the approval of somebody else.", approval.state)
    last = approval_last(campaign)
    if last is not None and last.state == ApprovalState.REJECTED:
        _refuse("The launch was rejected: change what was asked for, and ask again.", last.state)
    if last is not None and last.state == ApprovalState.WITHDRAWN:
        _refuse("Something was changed since the launch was approved: ask for the approval anew.", last.state)
    _refuse("A launch needs the approval of somebody else: ask for it first.", "none")


def _refuse(message: str, state: str) -> NoReturn:
    raise Conflict(message, code="APPROVAL_REQUIRED", details=[FieldProblem("approval", str(state))])


def audience_of(campaign: MessageCampaign) -> Predicate:
    """Who is in the audience and wants such a message."""
    return wanted(
        compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria"),
        application_id=campaign.application_id,
        channel=campaign.channel_type,
        purpose=campaign.purpose,
        category=campaign.category,
    )


def _counted(campaign: MessageCampaign, predicate: Predicate) -> int | None:
    """For who is asked; None if it takes longer than `COUNT_MAX_S`."""
    try:
        with transaction.atomic():
            limit_statements(COUNT_MAX_S)
            return audience_size_up_to(
                application=campaign.application,
                predicate=predicate,
                channel_type=campaign.channel_type,
                limit=COUNTED_MAX,
            )
    except OperationalError:
        return None
