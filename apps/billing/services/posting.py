"""What was sent, into the ledger: a few transactions a minute for each channel, never one for each message.

A provider takes a message and `sent_total` grows, in the transaction that records it. `usage_post` writes the
difference to `posted_total` as one ledger transaction and moves `posted_total` in the same database transaction: a
worker that dies in between leaves neither, and of two at once the second finds nothing to post.
"""

from __future__ import annotations

import logging
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone

from apps.billing.models import (
    AccountKind,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    MessageQuota,
    TransactionKind,
)
from apps.billing.periods import month_of
from apps.billing.services.ledger import AccountName, Posting, ledger_post
from apps.tenants.models import Application

log = logging.getLogger(__name__)


@transaction.atomic
def usage_post(*, application: Application, channel_type: str) -> LedgerTransaction | None:
    """Post what was sent on a channel and is not in the ledger yet, at the present price; None if there is nothing.

    Without a price the transaction has no entries: the ledger still says how many. Locks the quota, then the accounts.
    """
    quota = (
        MessageQuota.objects.select_for_update(no_key=True)
        .filter(application=application, channel_type=channel_type, sent_total__gt=F("posted_total"))
        .first()
    )
    if quota is None:
        return None
    quantity = quota.sent_total - quota.posted_total
    price: Decimal = quota.unit_price.amount
    row = ledger_post(
        application_id=application.pk,
        posting=Posting(TransactionKind.USAGE, channel_type, quantity, price),
        amounts={
            AccountName(AccountKind.CREDIT): -quantity * price,
            AccountName(AccountKind.USAGE, channel_type): quantity * price,
        },
        currency=str(quota.unit_price.currency),
    )
    MessageQuota.objects.filter(pk=quota.pk).update(posted_total=quota.sent_total)
    return row


def usage_post_all() -> int:
    """`usage_post` wherever something was sent; returns the number of transactions. One that fails is logged, and holds
    up no other."""
    unposted = MessageQuota.objects.filter(sent_total__gt=F("posted_total"))
    posted = 0
    for quota in unposted.select_related("application").order_by("id"):
        try:
            posted += usage_post(application=quota.application, channel_type=quota.channel_type) is not None
        except Exception:
            log.exception("usage was not posted", extra={"application": str(quota.application_id)})
    return posted


# --- Months --------------------------------------------------------------------------------------------------------


def months_close(*, now: datetime | None = None) -> int:
    """Move the usage of months that are over to revenue, for each application and channel; returns the transactions.

    A month is the application's own. What was posted after its end belongs to the next one.
    """
    now = now or timezone.now()
    closed = 0
    accounts = LedgerAccount.objects.filter(kind=AccountKind.USAGE).exclude(balance=0).select_related("application")
    for account in accounts.order_by("application_id", "channel_type"):
        try:
            closed += usage_close(application=account.application, channel_type=account.channel_type, now=now)
        except Exception:
            log.exception("a month was not closed", extra={"application": str(account.application_id)})
    return closed


@transaction.atomic
def usage_close(*, application: Application, channel_type: str, now: datetime) -> bool:
    """Move a channel's usage from before the present month to revenue, once; whether there was any."""
    accounts = LedgerAccount.objects.for_application(application).select_for_update(no_key=True)
    usage = accounts.filter(kind=AccountKind.USAGE, channel_type=channel_type).first()
    if usage is None:
        return False
    month = month_of(now, ZoneInfo(application.time_zone))
    # What is in the account and was not posted this month is what earlier months have left: a second call finds none.
    # By `ledger_by_time`, and the index on the entry's transaction.
    posted = LedgerEntry.objects.filter(
        account=usage,
        transaction__application=application,
        transaction__kind=TransactionKind.USAGE,
        transaction__posted_at__gte=month.began_at,
    )
    of_this_month = posted.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)
    amount = usage.balance.amount - of_this_month
    if not amount:
        return False
    ledger_post(
        application_id=application.pk,
        posting=Posting(TransactionKind.CLOSING, channel_type, reason=f"usage before {month.began_at:%Y-%m}"),
        amounts={AccountName(AccountKind.USAGE, channel_type): -amount, AccountName(AccountKind.REVENUE): amount},
        currency=str(usage.balance.currency),
    )
    return True
