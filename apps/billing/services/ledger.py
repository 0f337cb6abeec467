"""The ledger: the one way entries are written, and money moved by hand.

Of each transaction the entries sum to zero, in one currency (a constraint, on commit), and nothing written is changed
(a trigger). What is spent leaves `credit` for `usage` of its channel; a month's end moves that to `revenue`. What is
paid in comes from `funding`; what is corrected or given back, from `adjustments`.

Locks: quotas in the order of their channels, then accounts in the order of `_ORDER`, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone
from djmoney.money import Money

from apps.billing.models import (
    AccountKind,
    BillingProfile,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    MessageQuota,
    TransactionKind,
)
from apps.billing.services.quota import billing_of, money
from apps.tenants.models import Application
from automata_signal.errors import Conflict, CreditExhausted, ValidationFailed

AMOUNT_MAX = Decimal(10) ** 12
_ORDER = [kind.value for kind in AccountKind]


class AccountName(NamedTuple):
    """Which account of an application; `channel_type` is of usage only."""

    kind: AccountKind
    channel_type: str = ""


class Posting(NamedTuple):
    """What one transaction says beside its amounts."""

    kind: TransactionKind
    channel_type: str = ""
    quantity: int = 0
    unit_price: Decimal = Decimal(0)
    reason: str = ""
    by: str = ""
    reference: str = ""
    at: datetime | None = None
    """Now unless told; only the demo tells of a past."""


@transaction.atomic
def ledger_post(
    *, application_id: UUID, posting: Posting, amounts: Mapping[AccountName, Decimal], currency: str
) -> LedgerTransaction:
    """Write one transaction with an entry for each amount that is not zero, and move the balances.

    Positive goes to the account, negative leaves it. Raises `IntegrityError` on commit if they do not sum to zero, and
    `Conflict` (CURRENCY_DIFFERS) for an account that is kept in another currency.
    """
    moved = {name: amount for name, amount in amounts.items() if amount}
    accounts = {name: _locked_account(application_id, name, currency) for name in sorted(moved, key=_place)}
    row = LedgerTransaction.objects.create(
        application_id=application_id,
        kind=posting.kind,
        channel_type=posting.channel_type,
        quantity=posting.quantity,
        **money("unit_price", posting.unit_price, currency),
        reason=posting.reason,
        posted_by=posting.by[:200],
        reference=posting.reference,
        posted_at=posting.at or timezone.now(),
    )
    LedgerEntry.objects.bulk_create(
        LedgerEntry(transaction=row, account=accounts[name], **money("amount", amount, currency))
        for name, amount in moved.items()
    )
    for name, amount in moved.items():
        LedgerAccount.objects.filter(pk=accounts[name].pk).update(
            balance=F("balance") + amount, updated_at=row.posted_at
        )
    return row


def _place(name: AccountName) -> tuple[int, str]:
    return _ORDER.index(name.kind), name.channel_type


def _locked_account(application_id: UUID, name: AccountName, currency: str) -> LedgerAccount:
    rows = LedgerAccount.objects.select_for_update(no_key=True).filter(application_id=application_id, **name._asdict())
    account = rows.first()
    if account is None:
        empty = LedgerAccount(application_id=application_id, **name._asdict(), **money("balance", 0, currency))
        LedgerAccount.objects.bulk_create([empty], ignore_conflicts=True)
        account = rows.get()
    if str(account.balance.currency) != currency:
        raise Conflict(
            f"The account {account} is kept in {account.balance.currency}, not in {currency}.",
            code="CURRENCY_DIFFERS",
        )
    return account


# --- By hand -------------------------------------------------------------------------------------------------------


def credit_top_up(
    *, application: Application, amount: Money, reason: str, by: str, reference: str = ""
) -> LedgerTransaction:
    """Add what was paid in. Raises `ValidationFailed` unless the amount is above 0 and in the right currency.

    `reference` is the caller's own number: a second call with it gives the first transaction and moves nothing, or
    raises `Conflict` (REFERENCE_USED) if it says something else.
    """
    _refuse_unless_positive(amount)
    posting = Posting(TransactionKind.TOP_UP, reason=reason, by=by, reference=reference)
    return _move_credit(application, posting, amount, against=AccountKind.FUNDING)


def credit_refund(
    *, application: Application, amount: Money, reason: str, by: str, reference: str = ""
) -> LedgerTransaction:
    """Give back what messages had cost. As `credit_top_up`."""
    _refuse_unless_positive(amount)
    posting = Posting(TransactionKind.REFUND, reason=reason, by=by, reference=reference)
    return _move_credit(application, posting, amount, against=AccountKind.ADJUSTMENTS)


def credit_adjust(
    *, application: Application, amount: Money, reason: str, by: str, reference: str = ""
) -> LedgerTransaction:
    """Correct the credit, up or down. As `credit_top_up`; raises `CreditExhausted` for a correction after which what is
    reserved already could not be paid within the credit limit."""
    if not amount.amount:
        raise ValidationFailed.of("amount", "must not be 0")
    posting = Posting(TransactionKind.ADJUSTMENT, reason=reason, by=by, reference=reference)
    return _move_credit(application, posting, amount, against=AccountKind.ADJUSTMENTS)


def _refuse_unless_positive(amount: Money) -> None:
    if amount.amount <= 0:
        raise ValidationFailed.of("amount", "must be above 0")


@transaction.atomic
def _move_credit(
    application: Application, posting: Posting, amount: Money, *, against: AccountKind
) -> LedgerTransaction:
    billing_of(application)
    lock_quotas(application.pk)  # one at a time, and no change of the currency or the credit limit meanwhile
    profile = billing_of(application)
    _check(posting, amount, profile)
    value = amount.amount
    if earlier := _earlier(application, posting, value):
        return earlier
    if value < 0:
        _refuse_overdraft(profile, taking=-value)
    return ledger_post(
        application_id=application.pk,
        posting=posting,
        amounts={AccountName(AccountKind.CREDIT): value, AccountName(against): -value},
        currency=profile.currency,
    )


def _check(posting: Posting, amount: Money, profile: BillingProfile) -> None:
    if str(amount.currency) != profile.currency:
        raise ValidationFailed.of("amount", f"must be in {profile.currency}")
    if not amount.amount.is_finite() or abs(amount.amount) > AMOUNT_MAX or amount.amount != round(amount.amount, 6):
        raise ValidationFailed.of("amount", f"must be at most {AMOUNT_MAX:f}, with 6 decimals at most")
    if not 1 <= len(posting.reason.strip()) <= 500:
        raise ValidationFailed.of("reason", "must say why, in 1 to 500 characters")
    if len(posting.reference) > 100:
        raise ValidationFailed.of("reference", "must have at most 100 characters")


def _earlier(application: Application, posting: Posting, value: Decimal) -> LedgerTransaction | None:
    """The transaction that has this reference. Index: `one_posting_per_reference`."""
    if not posting.reference:
        return None
    rows = LedgerTransaction.objects.for_application(application).filter(reference=posting.reference)
    earlier = rows.first()
    if earlier is None:
        return None
    credit = LedgerEntry.objects.filter(transaction=earlier, account__kind=AccountKind.CREDIT)
    is_same = earlier.kind == posting.kind and credit.aggregate(sum=Sum("amount"))["sum"] == value
    if not is_same:
        raise Conflict("The reference stands for another transaction.", code="REFERENCE_USED")
    return earlier


def _refuse_overdraft(profile: BillingProfile, *, taking: Decimal) -> None:
    """The caller holds the quotas."""
    if profile.credit_limit is None:
        return
    _locked_account(profile.application_id, AccountName(AccountKind.CREDIT), profile.currency)
    credit = credit_left(profile)
    assert credit is not None
    if taking > credit:
        raise CreditExhausted(
            f"At most {max(credit, Decimal(0)).normalize():f} {profile.currency} can be taken: the rest is spent,"
            " reserved, or not there.",
            facts={"what": "credit", "limit": str(credit), "used": None, "resets_at": None, "needed": str(taking)},
        )


# --- What is left --------------------------------------------------------------------------------------------------


def lock_quotas(application_id: UUID) -> list[MessageQuota]:
    """The application's quotas, in the order of channels: nothing is reserved or settled until the transaction ends."""
    rows = MessageQuota.objects.select_for_update(no_key=True).filter(application_id=application_id)
    return list(rows.order_by("channel_type"))


def credit_left(profile: BillingProfile) -> Decimal | None:
    """What can still be reserved, the credit limit included; None if any amount can."""
    if profile.credit_limit is None:
        return None
    quotas = MessageQuota.objects.filter(application_id=profile.application_id, unit_price__gt=0)
    open_messages = F("reserved") + F("sent_total") - F("posted_total")
    rows = quotas.annotate(open_messages=open_messages).values_list("open_messages", "unit_price")
    committed = sum((messages * price for messages, price in rows), Decimal(0))
    accounts = LedgerAccount.objects.filter(application_id=profile.application_id, kind=AccountKind.CREDIT)
    balance = accounts.values_list("balance", flat=True).first() or Decimal(0)
    return balance + profile.credit_limit - committed


def refuse_unpayable(profile: BillingProfile, *, before: Decimal | None = None) -> None:
    """Raise `Conflict` (CREDIT_LIMIT) if what is reserved costs more than the credit allows, as after a rise of prices.

    `before` is what was left before the change (`credit_left`): one that makes a lack no worse is not refused. The
    caller holds the quotas (`lock_quotas`), and changes nothing then.
    """
    credit = credit_left(profile)
    if credit is not None and credit < 0 and (before is None or credit < before):
        raise Conflict(
            f"What is reserved would cost {-credit.normalize():f} {profile.currency} more than the credit allows.",
            code="CREDIT_LIMIT",
            facts={"what": "credit", "limit": str(credit), "used": None, "resets_at": None},
        )
