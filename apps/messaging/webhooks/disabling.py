"""An endpoint that is not to be tried any more, and telling its application's members so."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from apps.billing.alerts import recipients_of
from apps.messaging.webhooks.models import WebhookEndpoint

log = logging.getLogger(__name__)

TELL_AGAIN = timedelta(minutes=5)


def endpoint_disable(endpoint_id: UUID, *, reason: str, now: datetime) -> None:
    """Stop delivering to it; what waits stays. Its application's members will be told. Once disabled it stays so."""
    rows = WebhookEndpoint.objects.filter(pk=endpoint_id, is_active=True)
    if rows.update(is_active=False, disabled_at=now, disabled_reason=reason, tell_at=now):
        log.warning("a webhook was disabled", extra={"webhook": str(endpoint_id), "cause": reason})


def tell_disabled() -> int:
    """E-mail to the owners and managers of endpoints that were disabled and are still; how many were told of.

    What cannot be sent is tried again after five minutes.
    """
    told = 0
    while (endpoint := _claim()) is not None:
        try:
            _send_email(endpoint)
        except (OSError, SMTPException) as error:
            log.warning("nobody could be told of a disabled webhook", extra={"cause": type(error).__name__})
        else:
            WebhookEndpoint.objects.filter(pk=endpoint.pk).update(tell_at=None)
            told += 1
    return told


@transaction.atomic
def _claim() -> WebhookEndpoint | None:
    now = timezone.now()
    rows = WebhookEndpoint.objects.select_for_update(skip_locked=True).defer("secret", "previous_secret")
    endpoint = rows.filter(tell_at__lte=now, is_active=False).order_by("tell_at").first()
    if endpoint is not None:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(tell_at=now + TELL_AGAIN)
    return endpoint


def _send_email(endpoint: WebhookEndpoint) -> None:
    """One e-mail to all of them, in the application's language; none if there is nobody."""
    recipients = recipients_of(endpoint.application_id)
    if not recipients:
        return
    application = endpoint.application
    with translation.override(application.default_language):
        # A name may hold line breaks, which would be headers of their own.
        subject = " ".join(f"{application.name}: {_('a webhook was disabled')}".split())[:200]
        link = reverse("admin:messaging_webhookendpoint_change", args=[endpoint.pk])
        context = {
            "application": application,
            "endpoint": endpoint,
            "keep_days": settings.WEBHOOK_KEEP_DAYS,
            "link": settings.PUBLIC_URL.rstrip("/") + link,
        }
        body = render_to_string("messaging/webhook_disabled.txt", context)
    EmailMessage(subject, body, None, recipients).send()
