"""Telling those who may approve that somebody asks: by e-mail, outside of any transaction, with back-off.

The rows are an outbox. One that is claimed is due again later, should its worker be lost; so at most one letter comes
twice. On the console what waits is seen in any case.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from apps.campaigns.approvals.models import ApprovalState, CampaignApproval
from apps.campaigns.approvals.selectors import APPROVERS_MAX, approvers_of
from apps.campaigns.services.rows import EDITABLE

log = logging.getLogger(__name__)

BACKOFF_S = 60
AT_ONCE = 50


def approvers_tell() -> int:
    """Send what is due, at most `AT_ONCE`; how many letters went out."""
    return sum([_tell(approval) for approval in iter(_claim, None)])


@transaction.atomic
def _claim() -> CampaignApproval | None:
    """One that is due, for the caller alone. Index: `approval_untold`."""
    now = timezone.now()
    due = CampaignApproval.objects.select_for_update(skip_locked=True, of=("self",)).filter(tell_due_at__lte=now)
    approval = due.select_related("application", "campaign").order_by("tell_due_at").first()
    if approval is None:
        return None
    attempts = approval.tell_attempts + 1
    is_last = attempts >= settings.ALERT_MAX_ATTEMPTS
    again = None if is_last else now + timedelta(seconds=BACKOFF_S * 2 ** min(attempts, 10))
    CampaignApproval.objects.filter(pk=approval.pk).update(tell_attempts=F("tell_attempts") + 1, tell_due_at=again)
    return approval


def _tell(approval: CampaignApproval) -> bool:
    """One letter to all who may approve, but whoever asked; in the application's language."""
    if approval.state != ApprovalState.ASKED or approval.campaign.status not in EDITABLE:
        CampaignApproval.objects.filter(pk=approval.pk).update(tell_due_at=None)
        return False
    told = approvers_of(approval.application).values_list("pk", "email")[: APPROVERS_MAX + 1]
    recipients = [email for key, email in told if key != approval.asked_by_id]
    if recipients and not _sent(approval, recipients):
        return False
    CampaignApproval.objects.filter(pk=approval.pk).update(tell_due_at=None, told_at=timezone.now())
    return bool(recipients)


def _sent(approval: CampaignApproval, recipients: list[str]) -> bool:
    address = reverse("admin:campaigns_messagecampaign_step", args=[approval.campaign_id, "launch"])
    with translation.override(approval.application.default_language):
        names = {"application": approval.application.name, "campaign": approval.campaign.name}
        # A name may hold line breaks, which would be headers of their own.
        subject = " ".join((_("%(application)s: “%(campaign)s” waits for your approval") % names).split())[:200]
        body = render_to_string(
            "campaigns/approval_asked.txt",
            {"approval": approval, "campaign": approval.campaign, "link": settings.PUBLIC_URL.rstrip("/") + address},
        )
    try:
        EmailMessage(subject, body, None, recipients).send()
    except (OSError, SMTPException) as error:
        log.warning("approvers could not be told", extra={"approval": str(approval.pk), "cause": str(error)[:200]})
        return False
    return True
