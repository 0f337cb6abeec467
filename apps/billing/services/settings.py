"""What an application's members, and the platform's operators, choose about its billing."""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from apps.billing.models import BillingProfile, MessageQuota
from apps.billing.services.ledger import credit_left, lock_quotas, refuse_unpayable
from apps.billing.services.quota import billing_of
from apps.billing.statements import plain
from apps.tenants.models import Application
from apps.tenants.services import UNSET, _Unset
from automata_signal import outgoing
from automata_signal.errors import ValidationFailed

SECRET_BYTES = 32
AMOUNT_MAX = Decimal(10) ** 13


class AlertSettings(NamedTuple):
    profile: BillingProfile
    new_secret: str
    """Shown once; empty unless one was made."""


@transaction.atomic
def alert_settings_set(
    *,
    application: Application,
    low_credit_at: Decimal | _Unset | None = UNSET,
    webhook_url: str | None = None,
    rotate_secret: bool = False,
    by: str = "",
) -> AlertSettings:
    """Change what is given: below which credit to alert (None: never), and the webhook (empty: none).

    The first webhook, and `rotate_secret`, make the secret by which its receiver knows us. Raise `ValidationFailed`.
    """
    profile = _locked(application)
    if not isinstance(low_credit_at, _Unset):
        profile.low_credit_at = _amount(low_credit_at, "low_credit_at")
    if webhook_url is not None:
        profile.alert_webhook_url = _address(webhook_url)
    new_secret = ""
    if rotate_secret or (profile.alert_webhook_url and not _has_secret(profile)):
        new_secret = f"whsec_{secrets.token_urlsafe(SECRET_BYTES)}"
        profile.alert_webhook_secret = new_secret
    _save(profile, by)
    return AlertSettings(profile, new_secret)


@transaction.atomic
def credit_limit_set(*, application: Application, credit_limit: Decimal | None, by: str) -> BillingProfile:
    """How far the balance may go below zero from now on; None: any distance. For the platform's operators.

    Raise `ValidationFailed`, and `Conflict` (CREDIT_LIMIT) for a lower limit at which what is reserved could not be
    paid.
    """
    profile = _locked(application)
    lock_quotas(application.pk)
    before = credit_left(profile)
    profile.credit_limit = _amount(credit_limit, "credit_limit")
    if profile.credit_limit is not None and profile.credit_limit < 0:
        raise ValidationFailed.of("credit_limit", "must not be negative")
    _save(profile, by)
    # A reservation that waits for the quotas has read the old limit: this makes it look again.
    MessageQuota.objects.filter(application=application).update(updated_at=timezone.now())
    refuse_unpayable(profile, before=before)
    return profile


def _locked(application: Application) -> BillingProfile:
    """Without the secret: one that cannot be decrypted any more must not keep anybody from replacing it."""
    billing_of(application)
    rows = BillingProfile.objects.select_for_update().defer("alert_webhook_secret")
    return rows.get(application=application)


def _has_secret(profile: BillingProfile) -> bool:
    return BillingProfile.objects.filter(pk=profile.pk, alert_webhook_secret__isnull=False).exists()


def _save(profile: BillingProfile, by: str) -> None:
    profile._change_reason = by[:100] or None  # type: ignore[attr-defined]
    profile.save()


def _amount(value: Decimal | None, field: str) -> Decimal | None:
    if value is not None and (abs(value) > AMOUNT_MAX or value != round(value, 6)):
        raise ValidationFailed.of(field, f"must be at most {AMOUNT_MAX}, with 6 decimals at most")
    return value


def _address(url: str) -> str:
    url = url.strip()
    if url:
        try:
            outgoing.check_url(url)
        except outgoing.OutgoingRefused as error:
            raise ValidationFailed.of("webhook_url", str(error)) from None
    return url


def alert_settings(application: Application) -> dict[str, Any]:
    """As they are, without the secret."""
    billing_of(application)
    profile = BillingProfile.objects.defer("alert_webhook_secret").get(application=application)
    return {
        "low_credit_at": None if profile.low_credit_at is None else plain(profile.low_credit_at),
        "webhook_url": profile.alert_webhook_url,
        "has_webhook_secret": _has_secret(profile),
        "currency": profile.currency,
    }
