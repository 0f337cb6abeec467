"""Reading plans, quotas and credit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.utils import timezone

from apps.billing.models import AccountKind, BillingProfile, LedgerAccount, LedgerEntry, LedgerTransaction, MessageQuota
from apps.billing.services.ledger import credit_left
from apps.billing.services.quota import billing_of
from apps.tenants.models import Application

RATE_KEPT_S = 10.0
"""How old a plan's rate may be that a worker sends by."""
_rates: dict[UUID, tuple[float, int | None]] = {}


def messages_per_second(application_id: UUID) -> int | None:
    """How fast the application's plan lets it send, all channels together; None: as fast as it goes."""
    asked_at, rate = _rates.get(application_id, (-RATE_KEPT_S, None))
    if time.monotonic() - asked_at >= RATE_KEPT_S:
        profiles = BillingProfile.objects.filter(application_id=application_id)
        rate = profiles.values_list("plan__messages_per_second", flat=True).first()
        _rates[application_id] = time.monotonic(), rate
    return rate


def open_messages(application_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """Messages of these applications that are accepted and neither sent nor failed, by channel: quotas count them."""
    rows = MessageQuota.objects.filter(application_id__in=application_ids, reserved__gt=0)
    found: dict[UUID, dict[str, int]] = {}
    for application_id, channel_type, reserved in rows.values_list("application_id", "channel_type", "reserved"):
        found.setdefault(application_id, {})[channel_type] = reserved
    return found


# --- For people ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class QuotaState:
    """A channel's quotas as they are now: of a day or month that is over, nothing is used."""

    channel_type: str
    is_included: bool
    is_own: bool
    daily_quota: int | None
    daily_used: int
    daily_resets_at: datetime
    monthly_quota: int | None
    monthly_used: int
    monthly_resets_at: datetime
    unit_price: Decimal
    currency: str
    reserved: int
    sent_total: int

    @classmethod
    def of(cls, quota: MessageQuota, now: datetime) -> QuotaState:
        return cls(
            channel_type=quota.channel_type,
            is_included=not (quota.daily_quota == 0 and quota.monthly_quota == 0),
            is_own=quota.is_own,
            daily_quota=quota.daily_quota,
            daily_used=quota.daily_used if quota.reset_date > now else 0,
            daily_resets_at=quota.reset_date,
            monthly_quota=quota.monthly_quota,
            monthly_used=quota.monthly_used if quota.monthly_reset_date > now else 0,
            monthly_resets_at=quota.monthly_reset_date,
            unit_price=quota.unit_price.amount,
            currency=quota.billing_currency,
            reserved=quota.reserved,
            sent_total=quota.sent_total,
        )


def quota_states(*, application: Application) -> list[QuotaState]:
    """Of every channel; made with the first question."""
    billing_of(application)
    now = timezone.now()
    rows = MessageQuota.objects.for_application(application).order_by("channel_type")
    return [QuotaState.of(row, now) for row in rows]


@dataclass(frozen=True)
class Prices:
    """What a message costs now, by channel."""

    currency: str
    by_channel: Mapping[str, Decimal]

    def of(self, channel_type: str) -> Decimal:
        return self.by_channel.get(channel_type, Decimal(0))


def prices_of(application: Application) -> Prices:
    """By the application's plan, or what was agreed for it."""
    states = quota_states(application=application)
    currency = states[0].currency if states else ""
    return Prices(currency, {state.channel_type: state.unit_price for state in states})


def plan_state(*, application: Application) -> dict[str, Any]:
    """The plan, what is left to spend, and every quota."""
    profile = billing_of(application)
    accounts = LedgerAccount.objects.for_application(application).filter(kind=AccountKind.CREDIT)
    credit = {
        "currency": profile.currency,
        "balance": accounts.values_list("balance", flat=True).first() or Decimal(0),
        "credit_limit": profile.credit_limit,
        "available": credit_left(profile),
    }
    return {"plan": profile.plan, "credit": credit, "quotas": quota_states(application=application)}


def ledger_of(*, application: Application) -> QuerySet[LedgerTransaction]:
    """With entries and their accounts. Index: `ledger_by_application`."""
    entries = LedgerEntry.objects.select_related("account").order_by("id")
    return LedgerTransaction.objects.for_application(application).prefetch_related(
        Prefetch("entries", queryset=entries)
    )
