"""Terms for an application, and the check that its ledger equals its messages."""

from __future__ import annotations

from decimal import Decimal

import pytest
from djmoney.money import Money

from apps.billing.checking import differences
from apps.billing.models import BillingProfile, MessageQuota
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.quota import billing_of
from tests.campaigns.conftest import credentials, draft, launched, people  # noqa: F401  (fixtures)


@pytest.fixture
def terms(application):
    """`terms(daily=100, price="0.5", credit=20)` agrees terms of a channel, and tops the credit up."""

    def agree(*, of=application, channel="push", daily=None, monthly=None, price="0", limit="0", credit=0):
        billing_of(of)
        BillingProfile.objects.filter(application=of).update(credit_limit=None if limit is None else Decimal(limit))
        quotas = MessageQuota.objects.filter(application=of, channel_type=channel)
        quotas.update(daily_quota=daily, monthly_quota=monthly, unit_price=Decimal(price))
        if credit:
            credit_top_up(application=of, amount=Money(credit, "KRW"), reason="paid", by="test")

    return agree


@pytest.fixture
def quota(application):
    """`quota()` is the row of a channel as it is now."""

    def read(channel: str = "push") -> MessageQuota:
        return MessageQuota.objects.get(application=application, channel_type=channel)

    return read


@pytest.fixture
def counters(quota):
    """`counters()` is (used today, used this month, reserved, sent)."""

    def read(channel: str = "push") -> tuple[int, int, int, int]:
        row = quota(channel)
        return row.daily_used, row.monthly_used, row.reserved, row.sent_total

    return read


@pytest.fixture
def agrees(application):
    """`agrees()` holds the ledger against the messages."""

    def check() -> bool:
        found = differences(application)
        assert not found, "\n".join(map(str, found))
        return True

    return check
