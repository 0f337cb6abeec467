"""Questions about quotas and money, from the tables of `apps.billing`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.db.models import DecimalField, ExpressionWrapper, F, Sum
from django.db.models.functions import Trunc
from django.utils import timezone

from apps.analytics.selectors.periods import Period, Step, point_of, points_of
from apps.billing.models import LedgerTransaction, MessageQuota, TransactionKind
from apps.tenants.models import Application

_AMOUNT = ExpressionWrapper(F("quantity") * F("unit_price"), output_field=DecimalField(max_digits=30, decimal_places=6))


class QuotaUsage(NamedTuple):
    channel_type: str
    daily_quota: int | None
    """None: no limit."""
    daily_used: int
    daily_share: float | None
    resets_at: datetime
    monthly_quota: int | None
    monthly_used: int
    monthly_share: float | None
    monthly_resets_at: datetime
    unit_price: Decimal
    currency: str
    open: int
    """Accepted, and neither sent nor failed yet."""


class Cost(NamedTuple):
    channel_type: str
    messages: int
    amount: Decimal
    currency: str


class CostPoint(NamedTuple):
    begins: datetime
    messages: int
    amount: Decimal


def quota_usage(*, application: Application, using: str = "default") -> list[QuotaUsage]:
    """By channel. A period that has ended counts as unused, as the next reservation will have it."""
    now = timezone.now()
    found = []
    for row in MessageQuota.objects.using(using).filter(application_id=application.pk).order_by("channel_type"):
        daily = row.daily_used if row.reset_date > now else 0
        monthly = row.monthly_used if row.monthly_reset_date > now else 0
        found.append(
            QuotaUsage(
                channel_type=row.channel_type,
                daily_quota=row.daily_quota,
                daily_used=daily,
                daily_share=_share(daily, row.daily_quota),
                resets_at=row.reset_date,
                monthly_quota=row.monthly_quota,
                monthly_used=monthly,
                monthly_share=_share(monthly, row.monthly_quota),
                monthly_resets_at=row.monthly_reset_date,
                unit_price=row.unit_price.amount,
                currency=row.billing_currency,
                open=row.reserved,
            )
        )
    return found


def _share(used: int, quota: int | None) -> float | None:
    return round(used / quota, 4) if quota else None


def costs(*, application: Application, period: Period, using: str = "default") -> list[Cost]:
    """What was posted for messages in the period, by channel. Index: `ledger_by_time`."""
    rows = (
        LedgerTransaction.objects.using(using)
        .filter(application_id=application.pk, kind=TransactionKind.USAGE)
        .filter(posted_at__gte=period.since, posted_at__lt=period.until)
        .values_list("channel_type", "unit_price_currency")
        .annotate(messages=Sum("quantity"), amount=Sum(_AMOUNT))
        .order_by("channel_type", "unit_price_currency")
    )
    return [Cost(channel, messages, amount, currency) for channel, currency, messages, amount in rows]


def cost_series(*, application: Application, period: Period, step: Step, using: str = "default") -> list[CostPoint]:
    """A point for each hour or day of what was posted for messages; zeros where nothing was."""
    found: dict[datetime, tuple[int, Decimal]] = {point: (0, Decimal(0)) for point in points_of(period, step)}
    rows = (
        LedgerTransaction.objects.using(using)
        .filter(application_id=application.pk, kind=TransactionKind.USAGE)
        .filter(posted_at__gte=period.since, posted_at__lt=period.until)
        .annotate(hour=Trunc("posted_at", "hour"))
        .values_list("hour")
        .annotate(messages=Sum("quantity"), amount=Sum(_AMOUNT))
        .order_by("hour")
    )
    for hour, messages, amount in rows:
        point = point_of(max(hour, period.since), period, step)
        before = found.get(point, (0, Decimal(0)))
        found[point] = (before[0] + messages, before[1] + amount)
    return [CostPoint(point.astimezone(period.zone), *sums) for point, sums in found.items()]
