"""Whether a launch needs a second person, and what was said of it."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import Q, QuerySet

from apps.campaigns.approvals.models import CURRENT, CampaignApproval
from apps.campaigns.models import MessageCampaign
from apps.tenants.models import Application, Operator
from apps.tenants.scopes import ROLE_SCOPES

APPROVE = "campaigns:approve"
APPROVERS_MAX = 50
"""So many are told, and offered."""


class Rule(NamedTuple):
    """The application's setting `campaign_approval`."""

    is_required: bool
    above: int
    """Only for more recipients than this; 0: always."""


def rule_of(application: Application) -> Rule:
    chosen = application.settings.get("campaign_approval") or {}
    return Rule(chosen.get("mode") == "required", int(chosen.get("above_recipients") or 0))


def approval_current(campaign: MessageCampaign) -> CampaignApproval | None:
    """What is asked or approved now. Index: `one_current_approval`."""
    rows = CampaignApproval.objects.filter(application_id=campaign.application_id)
    return rows.filter(campaign=campaign, state__in=CURRENT).first()


def approval_last(campaign: MessageCampaign) -> CampaignApproval | None:
    rows = CampaignApproval.objects.filter(application_id=campaign.application_id)
    return rows.filter(campaign=campaign).order_by("-id").first()


def approvals_of(campaign: MessageCampaign) -> QuerySet[CampaignApproval]:
    """All that was asked and answered, the newest first."""
    return (
        CampaignApproval.objects.filter(application_id=campaign.application_id)
        .filter(campaign=campaign)
        .order_by("-id")
    )


def approvers_of(application: Application) -> QuerySet[Operator]:
    """The active members whose role may approve."""
    roles = [role for role, scopes in ROLE_SCOPES.items() if APPROVE in scopes]
    told = Operator.objects.filter(
        is_active=True, memberships__application=application, memberships__role__in=roles
    ).distinct()
    return told.order_by("email")


def is_author(campaign: MessageCampaign, operator: Operator, approval: CampaignApproval | None = None) -> bool:
    """Whether the operator made it, changed it or asked for it: then somebody else has to look at it."""
    name = str(operator)
    if campaign.created_by == name or (approval is not None and approval.asked_by_id == operator.pk):
        return True
    wrote = Q(history_user_id=operator.pk) | Q(history_change_reason=name[:100])
    return bool(campaign.history.filter(wrote).exists())
