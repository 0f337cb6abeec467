"""What the services of campaigns share: the locked row, its refusals, and saving it without its counters."""

from __future__ import annotations

from typing import NoReturn

from django.utils import timezone
from django_fsm import can_proceed

from apps.campaigns.models import CampaignStatus, MessageCampaign
from automata_signal.errors import Conflict, FieldProblem, NotFound


def locked(campaign: MessageCampaign) -> MessageCampaign:
    """The campaign as it is now, and nobody else changes its state until the transaction ends."""
    rows = MessageCampaign.objects.select_for_update(of=("self",)).select_related("application", "template", "dispatch")
    row = rows.filter(pk=campaign.pk).first()
    if row is None:
        raise NotFound("There is no such campaign.")
    return row


def refuse_wrong_state(campaign: MessageCampaign, step: str) -> None:
    """Raises `Conflict` unless the transition `step` starts from the present state."""
    if not can_proceed(getattr(campaign, step)):
        transitions = MessageCampaign._meta.get_field("status").get_all_transitions(MessageCampaign)
        refuse_state(campaign, step, [str(t.source) for t in transitions if t.name == step])


def refuse_state(campaign: MessageCampaign, step: str, possible: list[str]) -> NoReturn:
    raise Conflict(
        f"The campaign is {campaign.status}; {step} needs one that is {' or '.join(sorted(possible))}.",
        code="CAMPAIGN_STATE",
        details=[FieldProblem("status", str(campaign.status))],
    )


def move(campaign: MessageCampaign, step: str, *fields: str, by: str) -> None:
    """Make the transition, and save it together with `fields`."""
    refuse_wrong_state(campaign, step)
    getattr(campaign, step)()
    reason = f"{step} · {by}" if by else step
    save(campaign, "status", "sent_at", "completed_at", *fields, by=reason)


def save(campaign: MessageCampaign, *fields: str, by: str) -> None:
    """Save these fields only: the counters belong to the transactions that move messages."""
    campaign.updated_at = timezone.now()
    campaign._change_reason = by[:100] or None  # type: ignore[attr-defined]
    campaign.save(update_fields=[*fields, "updated_at"])


EDITABLE = (CampaignStatus.DRAFT, CampaignStatus.SCHEDULED)
