"""Quotas: reserved before anything is sent, settled when it was, given back when it failed.

A reservation is one statement that locks the quota's row, begins a new day or month where the old one is over, looks
at quotas and credit, and takes what was asked for, or nothing. So no two can take the same message, however many come
at once. What becomes of the messages is one UPDATE of the same row for each slice.

Locks are taken in one order everywhere: quotas by channel, then ledger accounts. Whoever also locks messages, batches
or campaigns does that before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import transaction
from django.utils import timezone
from djmoney.money import Money

from apps.billing.models import AccountKind, BillingProfile, LedgerAccount, MessageQuota, Plan
from apps.billing.periods import day_of, month_of
from apps.billing.plans import default_plan, terms_of
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.errors import CreditExhausted, Forbidden, QuotaExceeded, SignalError
from automata_signal.prepared import prepared_cursor

# --- Rows ----------------------------------------------------------------------------------------------------------


def billing_of(application: Application) -> BillingProfile:
    """How the application is billed. Its rows are made at the first question: the default plan, a quota for each
    channel by its terms, and an empty credit account. Safe to ask at once from anywhere."""
    profiles = BillingProfile.objects.select_related("plan").defer("alert_webhook_secret")
    return profiles.filter(application=application).first() or _made(application)


@transaction.atomic
def _made(application: Application) -> BillingProfile:
    plan = default_plan()
    currency = _currency(plan)
    profile, _ = BillingProfile.objects.select_related("plan").get_or_create(
        application=application, defaults={"plan": plan, "currency": currency}
    )
    quotas_complete(application, profile)
    LedgerAccount.objects.bulk_create(
        [LedgerAccount(application=application, kind=AccountKind.CREDIT, **money("balance", 0, profile.currency))],
        ignore_conflicts=True,
    )
    return profile


def quotas_complete(application: Application, profile: BillingProfile) -> None:
    """Make the quotas that are missing, by the terms of the plan; the others stay as they are."""
    now, zone = timezone.now(), ZoneInfo(application.time_zone)
    day, month = day_of(now, zone), month_of(now, zone)
    MessageQuota.objects.bulk_create(
        [
            MessageQuota(
                application=application,
                channel_type=channel,
                daily_quota=terms.daily_quota,
                monthly_quota=terms.monthly_quota,
                **money("unit_price", terms.unit_price, profile.currency),
                day_began_at=day.began_at,
                reset_date=day.ends_at,
                month_began_at=month.began_at,
                monthly_reset_date=month.ends_at,
            )
            for channel, terms in terms_of(profile.plan).items()
        ],
        ignore_conflicts=True,
    )


def money(name: str, amount: Decimal | int, currency: str) -> dict[str, Any]:
    """The value of a money field, as keywords: the type checker takes it for a number."""
    return {name: Money(amount, currency)}


def _currency(plan: Plan) -> str:
    terms = terms_of(plan).values()
    priced = [row.currency for row in terms if row.unit_price]
    return priced[0] if priced else next(iter(terms)).currency


def quota_of(application: Application, channel_type: str) -> MessageQuota:
    """The quota of a channel, made if it is missing."""
    profile = billing_of(application)
    quota = MessageQuota.objects.for_application(application).filter(channel_type=channel_type).first()
    if quota is None:
        quotas_complete(application, profile)
        quota = MessageQuota.objects.get(application=application, channel_type=channel_type)
    return quota


# --- Reserving -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a reservation found and took. Figures of the periods are as they were before it took anything."""

    channel_type: str
    asked: int
    messages: int
    """Taken: all that was asked for, or less if that was allowed, or none."""
    available: int
    """What would have fitted; `asked` if nothing limits it."""
    is_included: bool
    """False for a channel that the plan does not have."""
    daily_quota: int | None
    daily_used: int
    reset_date: datetime
    monthly_quota: int | None
    monthly_used: int
    monthly_reset_date: datetime
    unit_price: Decimal
    currency: str
    credit: Decimal | None
    """What is left to spend, the credit limit included; None if the credit does not limit it."""

    @property
    def refusal(self) -> SignalError:
        """Why not all of it was taken: the limit that leaves least."""
        if not self.is_included:
            return Forbidden(
                f"The plan does not include this channel: {ChannelType(self.channel_type).label}.",
                code="PLAN_CHANNEL",
                facts=self._facts("channel", limit=0, used=0, resets_at=None),
            )
        daily, monthly = _left(self.daily_quota, self.daily_used), _left(self.monthly_quota, self.monthly_used)
        fits_quotas = min(left for left in (daily, monthly, self.asked) if left is not None)
        if self.credit is not None and self.available < fits_quotas:
            return self._credit_refusal(self.credit)
        is_daily = daily is not None and (monthly is None or daily <= monthly)
        what, period = ("daily_quota", "day") if is_daily else ("monthly_quota", "month")
        limit, used = getattr(self, what), self.daily_used if is_daily else self.monthly_used
        resets_at = self.reset_date if is_daily else self.monthly_reset_date
        return QuotaExceeded(
            f"{self.asked:,} messages do not fit the quota of this {period}: {used:,} of {limit:,} are used,"
            f" {self.available:,} would fit.",
            facts=self._facts(what, limit=limit, used=used, resets_at=resets_at),
            retry_at=resets_at,
        )

    def _credit_refusal(self, credit: Decimal) -> CreditExhausted:
        needed = self.asked * self.unit_price
        money = {"currency": self.currency, "unit_price": str(self.unit_price), "needed": str(needed)}
        return CreditExhausted(
            f"{self.asked:,} messages cost {needed.normalize():f} {self.currency}, and the credit left is"
            f" {credit.normalize():f}: {self.available:,} would fit.",
            facts=self._facts("credit", limit=str(credit), used=None, resets_at=None) | money,
        )

    def _facts(self, what: str, *, limit: Any, used: Any, resets_at: datetime | None) -> dict[str, Any]:
        return {
            "what": what,
            "channel_type": self.channel_type,
            "limit": limit,
            "used": used,
            "resets_at": resets_at and resets_at.isoformat(),
            "asked": self.asked,
            "available": self.available,
        }


def _left(quota: int | None, used: int) -> int | None:
    return None if quota is None else max(0, quota - used)


# Indexes: `one_quota_per_channel`, the profile's on its application, `one_ledger_account_per_kind`.
#
# A snapshot is taken before the locks are waited for, so only what is locked is read as it is now. That is why, where
# credit counts, all rows that draw on it are locked: the quotas with a price, and the credit account after them. And if
# the terms were changed while the row was waited for (`updated_at`), nothing is taken: the caller asks once more.
#
# After a change of the time zone midnight may be before the rollover: what was reserved until then is of the old day.
_RESERVE = """
    WITH profile AS MATERIALIZED (
        SELECT p.credit_limit, p.currency, a.time_zone
        FROM billing_billingprofile p JOIN tenants_application a ON a.id = p.application_id
        WHERE p.application_id = %(application_id)s
    ), locked AS MATERIALIZED (
        SELECT q.* FROM billing_messagequota q
        WHERE q.application_id = %(application_id)s
          AND (q.channel_type = %(channel_type)s
               OR q.unit_price > 0 AND (SELECT credit_limit IS NOT NULL FROM profile)
                  AND EXISTS (SELECT FROM billing_messagequota m WHERE m.application_id = %(application_id)s
                              AND m.channel_type = %(channel_type)s AND m.unit_price > 0))
        ORDER BY q.channel_type FOR NO KEY UPDATE
    ), committed AS MATERIALIZED (
        SELECT sum((reserved + sent_total - posted_total) * unit_price) AS amount,
               bool_or(channel_type = %(channel_type)s AND unit_price > 0) AS is_priced
        FROM locked
    ), account AS MATERIALIZED (
        SELECT balance FROM billing_ledgeraccount
        WHERE application_id = %(application_id)s AND kind = 'credit' AND channel_type = ''
          AND (SELECT c.is_priced AND p.credit_limit IS NOT NULL FROM committed c, profile p)
        FOR NO KEY UPDATE
    ), begun AS MATERIALIZED (
        SELECT q.id, q.daily_quota, q.monthly_quota, q.unit_price, p.currency,
               NOT (q.daily_quota = 0 AND q.monthly_quota = 0) IS TRUE AS is_included,
               q.reset_date <= %(now)s AS is_new_day, q.monthly_reset_date <= %(now)s AS is_new_month,
               CASE WHEN q.reset_date <= %(now)s THEN 0 ELSE q.daily_used END AS daily_used,
               CASE WHEN q.monthly_reset_date <= %(now)s THEN 0 ELSE q.monthly_used END AS monthly_used,
               date_trunc('day', %(now)s::timestamptz AT TIME ZONE p.time_zone) AS today,
               date_trunc('month', %(now)s::timestamptz AT TIME ZONE p.time_zone) AS this_month, p.time_zone,
               CASE WHEN c.is_priced AND p.credit_limit IS NOT NULL
                    THEN coalesce((SELECT balance FROM account), 0) + p.credit_limit - c.amount END AS credit
        FROM locked q, profile p, committed c, billing_messagequota seen
        WHERE q.channel_type = %(channel_type)s AND seen.id = q.id AND seen.updated_at = q.updated_at
    ), verdict AS MATERIALIZED (
        SELECT *, least(%(messages)s::bigint, daily_quota - daily_used, monthly_quota - monthly_used,
                        floor(credit / nullif(unit_price, 0))) AS fits
        FROM begun
    ), taken AS MATERIALIZED (
        SELECT *, CASE WHEN fits >= %(messages)s THEN %(messages)s::bigint
                       WHEN %(at_most)s THEN greatest(fits, 0) ELSE 0 END::bigint AS messages
        FROM verdict
    )
    UPDATE billing_messagequota q
    SET daily_used = t.daily_used + t.messages, monthly_used = t.monthly_used + t.messages,
        reserved = q.reserved + t.messages,
        day_began_at = CASE WHEN t.is_new_day THEN greatest(t.today AT TIME ZONE t.time_zone, q.reset_date)
                            ELSE q.day_began_at END,
        reset_date = CASE WHEN t.is_new_day THEN (t.today + interval '1 day') AT TIME ZONE t.time_zone
                          ELSE q.reset_date END,
        month_began_at = CASE WHEN t.is_new_month
                              THEN greatest(t.this_month AT TIME ZONE t.time_zone, q.monthly_reset_date)
                              ELSE q.month_began_at END,
        monthly_reset_date = CASE WHEN t.is_new_month THEN (t.this_month + interval '1 month') AT TIME ZONE t.time_zone
                                  ELSE q.monthly_reset_date END,
        daily_alerted = CASE WHEN t.is_new_day THEN 0 ELSE q.daily_alerted END,
        monthly_alerted = CASE WHEN t.is_new_month THEN 0 ELSE q.monthly_alerted END
    FROM taken t WHERE q.id = t.id AND q.application_id = %(application_id)s
    RETURNING t.messages, greatest(t.fits, 0)::bigint, t.is_included, t.daily_quota, t.daily_used, q.reset_date,
              t.monthly_quota, t.monthly_used, q.monthly_reset_date, t.unit_price, t.currency, t.credit
"""


def quota_reserve(
    *, application_id: UUID, channel_type: str, messages: int, at_most: bool = False, now: datetime | None = None
) -> Reservation:
    """Reserve so many messages of today's and this month's quota, and of the credit; `at_most`: as many as fit.

    Raises `QuotaExceeded`, `CreditExhausted` or `Forbidden` (PLAN_CHANNEL) with the figures if they do not fit, and
    has then reserved nothing; with `at_most` it never refuses, and the reservation says how many it took. Runs in the
    caller's transaction and holds the quota's row until its end: last, so that results need not wait to be recorded.
    """
    parameters = {"application_id": application_id, "channel_type": channel_type, "messages": messages}
    parameters |= {"at_most": at_most, "now": now or timezone.now()}
    row = _run_reserve(parameters)
    if row is None:  # there was no quota; or its terms have just changed, and it is locked now
        quota_of(Application.objects.get(pk=application_id), channel_type)
        row = _run_reserve(parameters)
    assert row is not None
    reservation = Reservation(channel_type, messages, *row)
    if reservation.messages < messages and not at_most:
        raise reservation.refusal
    return reservation


def _run_reserve(parameters: dict[str, Any]) -> tuple[Any, ...] | None:
    with prepared_cursor() as cursor:
        cursor.execute(_RESERVE, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def quota_is_limited(*, application_id: UUID, channel_type: str) -> bool:
    """Whether a quota, the credit or the plan could refuse messages of this channel."""
    quota = MessageQuota.objects.filter(application_id=application_id, channel_type=channel_type).first()
    if quota is None:
        quota = quota_of(Application.objects.get(pk=application_id), channel_type)
    if quota.daily_quota is not None or quota.monthly_quota is not None:
        return True
    profiles = BillingProfile.objects.filter(application_id=application_id, credit_limit__isnull=False)
    return bool(quota.unit_price.amount) and profiles.exists()


# --- Settling ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Settlement:
    """What became of reserved messages of one channel."""

    closed: int = 0
    """They are open no longer."""
    sent: int = 0
    """Of them, those that a provider took."""
    given_back: int = 0
    """Of them, those that count as not used, if their day and month still run."""

    def __bool__(self) -> bool:
        return bool(self.closed or self.sent or self.given_back)


# Index: `one_quota_per_channel`. No index names a counter, so the update stays HOT. Figures that nobody reserved
# (billing was off) must not keep results from being recorded: no counter falls below zero, and `check_ledger` tells.
_SETTLE = """
    UPDATE billing_messagequota
    SET reserved = greatest(reserved - %(closed)s::bigint, 0), sent_total = sent_total + %(sent)s::bigint,
        daily_used = CASE WHEN %(reserved_at)s::timestamptz >= day_began_at
                          THEN greatest(daily_used - %(given_back)s::bigint, 0) ELSE daily_used END,
        monthly_used = CASE WHEN %(reserved_at)s::timestamptz >= month_began_at
                            THEN greatest(monthly_used - %(given_back)s::bigint, 0) ELSE monthly_used END
    WHERE application_id = %(application_id)s AND channel_type = %(channel_type)s
"""


def quota_settle(
    *, application_id: UUID, channel_type: str, settlement: Settlement, reserved_at: datetime | None = None
) -> None:
    """Count what became of reserved messages. What is given back goes to the day and month of `reserved_at` only: a
    message that was reserved yesterday leaves no more room for today. Last in the transaction that moves the messages.
    """
    if not settlement:
        return
    parameters: dict[str, Any] = {"application_id": application_id, "channel_type": channel_type}
    parameters |= {"reserved_at": reserved_at}
    parameters |= {"closed": settlement.closed, "sent": settlement.sent, "given_back": settlement.given_back}
    with prepared_cursor() as cursor:
        cursor.execute(_SETTLE, parameters)


def quota_release(*, application_id: UUID, channel_type: str, messages: int, reserved_at: datetime | None) -> None:
    """Give back what was reserved and will not be sent."""
    given_back = Settlement(closed=messages, given_back=messages)
    quota_settle(
        application_id=application_id, channel_type=channel_type, settlement=given_back, reserved_at=reserved_at
    )


_FORGET = """
    UPDATE billing_messagequota
    SET forgotten_total = forgotten_total + %(sent)s, reserved = greatest(reserved - %(opened)s, 0)
    WHERE application_id = %(application_id)s AND channel_type = %(channel_type)s
"""


def quota_forget(*, application_id: UUID, channel_type: str, sent: int, opened: int = 0) -> None:
    """Retention has deleted so many messages that were sent, and so many that were still open."""
    parameters: dict[str, Any] = {"application_id": application_id, "channel_type": channel_type}
    parameters |= {"sent": sent, "opened": opened}
    with prepared_cursor() as cursor:
        cursor.execute(_FORGET, parameters)
