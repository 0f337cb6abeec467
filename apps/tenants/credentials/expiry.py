"""Until when a credential is good, and telling the owners before it is not any more.

Most providers' keys have no end. What has one says so itself (a certificate), or somebody tells us the date.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from smtplib import SMTPException
from typing import Any

from cryptography import x509
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Case, F, IntegerField, Q, Value, When
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from apps.tenants.models import ChannelCredential, Operator, Role

log = logging.getLogger(__name__)

TOLD_DAYS = (30, 7, 1)
"""Days before the end at which the owners are told."""
SHOWN_DAYS = TOLD_DAYS[0]
RECIPIENTS_MAX = 50
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def expiry_in(secret: Mapping[str, Any]) -> datetime | None:
    """The end of the first certificate in a secret to end; None if there is none, as in most."""
    ends = [_end_of(pem) for text in _texts(secret) for pem in _CERTIFICATE.findall(text)]
    return min((end for end in ends if end is not None), default=None)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)


def _end_of(pem: str) -> datetime | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    except ValueError:
        return None


def days_left(credential: ChannelCredential, now: datetime | None = None) -> int | None:
    """Whole days until it ends, negative once it has; None if no end is known."""
    if credential.expires_at is None:
        return None
    return (credential.expires_at - (now or timezone.now())) // timedelta(days=1)


# --- Telling -------------------------------------------------------------------------------------------------------


def tell_expiring() -> int:
    """E-mail to the owners of active credentials that end in 30, 7 or 1 days, once for each; how many were told of.

    What cannot be sent is tried again with the next call.
    """
    told = 0
    for credential in _due(timezone.now()):
        days = _threshold(credential)
        try:
            _send_email(credential)
        except (OSError, SMTPException) as error:
            log.warning("nobody could be told of a credential's end", extra={"cause": type(error).__name__})
            continue
        with transaction.atomic():
            same = ChannelCredential.objects.filter(pk=credential.pk, expires_at=credential.expires_at)
            told += same.update(expiry_told_days=days)
    return told


def _threshold(credential: ChannelCredential) -> int:
    left = days_left(credential) or 0
    return min(days for days in TOLD_DAYS if left < days)


def _due(now: datetime) -> list[ChannelCredential]:
    """Those that passed a threshold which nobody was told of. Credentials are a handful for each application."""
    whens = [When(expires_at__lt=now + timedelta(days=days), then=Value(days)) for days in sorted(TOLD_DAYS)]
    rows = ChannelCredential.objects.defer("secret").select_related("application")
    rows = rows.filter(is_active=True, application__is_active=True, expires_at__isnull=False)
    due = rows.annotate(threshold=Case(*whens, default=None, output_field=IntegerField(null=True)))
    untold = Q(expiry_told_days=None) | Q(expiry_told_days__gt=F("threshold"))
    return list(due.filter(untold, threshold__isnull=False, expires_at__gt=now - timedelta(days=7))[:500])


def owners_of(credential: ChannelCredential) -> list[str]:
    """Who is told: the active owners of its application."""
    owners = Operator.objects.filter(
        is_active=True, memberships__application_id=credential.application_id, memberships__role=Role.OWNER
    )
    return list(owners.order_by("email").values_list("email", flat=True)[:RECIPIENTS_MAX])


def _send_email(credential: ChannelCredential) -> None:
    """One e-mail to all of them, in the application's language; none if there is nobody."""
    recipients = owners_of(credential)
    if not recipients:
        return
    application = credential.application
    with translation.override(application.default_language):
        # A name may hold line breaks, which would be headers of their own.
        subject = " ".join(f"{application.name}: {_('a provider credential ends soon')}".split())[:200]
        link = reverse("admin:tenants_channelcredential_change", args=[credential.pk])
        context = {
            "application": application,
            "credential": credential,
            "link": settings.PUBLIC_URL.rstrip("/") + link,
        }
        body = render_to_string("tenants/credential_expires.txt", context)
    EmailMessage(subject, body, None, recipients).send()
