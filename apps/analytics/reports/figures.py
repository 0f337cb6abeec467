"""What stands in a report, read once for all who get it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from apps.analytics import selectors
from apps.analytics.reports.periods import Period
from apps.analytics.reports.picture import Bar
from apps.billing.models import DEFAULT_CURRENCY, AccountKind, LedgerAccount
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal import replica

CAMPAIGNS_MAX = 5
FAILURES_MAX = 5


@dataclass(frozen=True, slots=True)
class Totals:
    """Messages of a period, and subscriptions gained and lost in it."""

    sent: int = 0
    received: int = 0
    converted: int = 0
    failed: int = 0
    gained: int = 0
    lost: int = 0
    active_users: int = 0
    """In the 30 days up to the last day of it that is known."""


@dataclass(frozen=True, slots=True)
class Best:
    """A campaign that was sent in the period."""

    name: str
    sent: int
    received: int
    converted: int


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one channel, at the time of the report. A limit of None is none."""

    channel: str
    used_today: int
    daily: int | None
    used_this_month: int
    monthly: int | None


@dataclass(frozen=True, slots=True)
class Figures:
    period: Period
    now: Totals
    before: Totals
    bars: list[Bar]
    """By hour for one day, else by day."""
    failures: list[tuple[str, int]] = field(default_factory=list)
    lost: list[tuple[str, int]] = field(default_factory=list)
    campaigns: list[Best] = field(default_factory=list)
    quotas: list[Quota] = field(default_factory=list)
    cost: Decimal = Decimal(0)
    cost_before: Decimal = Decimal(0)
    credit: Decimal | None = None
    currency: str = ""


def gathered(application: Application, period: Period) -> Figures:
    """The figures of a period and of as many days before it. From the replica where there is one."""
    return replica.read(lambda using: _gathered(application, period, using))


def _gathered(application: Application, period: Period, using: str) -> Figures:
    hours = _hours(period)
    common: Any = {"application": application, "period": hours, "using": using}
    costs = selectors.costs(**common)
    changes = selectors.subscription_changes(**common)
    credit = _credit(application, using)
    return Figures(
        period=period,
        now=_totals(application, period, changes, using),
        before=_totals(application, period.before, None, using),
        bars=_bars(application, period, using),
        failures=[(f.reason, f.messages) for f in selectors.failures_by_reason(limit=FAILURES_MAX, **common)],
        lost=[(str(one.label), one.subscriptions) for one in changes.lost_by_reason[:FAILURES_MAX]],
        campaigns=_best(selectors.by_campaign(**common)),
        quotas=_quotas(selectors.quota_usage(application=application, using=using)),
        cost=_sum(costs),
        cost_before=_sum(selectors.costs(application=application, period=_hours(period.before), using=using)),
        credit=credit.balance.amount if credit else None,
        currency=costs[0].currency if costs else str(credit.balance.currency) if credit else DEFAULT_CURRENCY,
    )


def _hours(period: Period) -> selectors.Period:
    return selectors.Period(period.start_at, period.end_at, period.zone)


def _totals(
    application: Application, period: Period, changes: selectors.SubscriptionChanges | None, using: str
) -> Totals:
    common: Any = {"application": application, "period": _hours(period), "using": using}
    messages = selectors.message_totals(**common)
    changes = changes or selectors.subscription_changes(**common)
    audience = selectors.active_users(**common)
    return Totals(
        sent=messages.sent,
        received=messages.received,
        converted=messages.converted,
        failed=messages.failed,
        gained=changes.gained,
        lost=changes.lost,
        active_users=audience[-1].users.active_30d if audience else 0,
    )


def _bars(application: Application, period: Period, using: str) -> list[Bar]:
    step, form = (selectors.Step.HOUR, "%H") if period.days == 1 else (selectors.Step.DAY, "%m-%d")
    points = selectors.message_series(application=application, period=_hours(period), step=step, using=using)
    return [Bar(p.begins.strftime(form), p.figures.sent, p.figures.received, p.figures.failed) for p in points]


def _best(found: Sequence[selectors.Comparison]) -> list[Best]:
    """Those that were opened by the largest share of who received them, of those that sent most."""
    campaigns = [one for one in found if one.id is not None and one.figures.sent]
    campaigns.sort(key=lambda one: (one.figures.open_rate or 0.0, one.figures.sent), reverse=True)
    return [
        Best(one.name, one.figures.sent, one.figures.received, one.figures.converted)
        for one in campaigns[:CAMPAIGNS_MAX]
    ]


def _quotas(found: Sequence[selectors.QuotaUsage]) -> list[Quota]:
    """Of channels that have a limit, or are used."""
    return [
        Quota(
            str(ChannelType(one.channel_type).label),
            one.daily_used,
            one.daily_quota,
            one.monthly_used,
            one.monthly_quota,
        )
        for one in found
        if one.monthly_used or one.daily_quota or one.monthly_quota
    ]


def _sum(costs: Sequence[selectors.Cost]) -> Decimal:
    return sum((one.amount for one in costs), start=Decimal(0))


def _credit(application: Application, using: str) -> LedgerAccount | None:
    rows = LedgerAccount.objects.using(using).filter(application_id=application.pk, kind=AccountKind.CREDIT)
    return rows.first()
