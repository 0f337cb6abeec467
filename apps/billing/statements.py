"""What an application used and paid in one month of its own calendar, from the ledger.

Money is summed by PostgreSQL: from the first moment of the month on, by the index `ledger_by_time`. The credit at the
end of the month is the balance of now without what came since, so an old ledger costs no more than a young one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import connection
from django.utils import timezone

from apps.billing.models import AccountKind, LedgerTransaction, TransactionKind
from apps.billing.services.quota import billing_of
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

MOVEMENTS_MAX = 1_000
"""Top-ups, adjustments and refunds that a statement lists, the first of the month; its sums are of all of them."""
YEAR_MIN, YEAR_MAX = 2000, 2999
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
BY_HAND = (TransactionKind.TOP_UP, TransactionKind.ADJUSTMENT, TransactionKind.REFUND)


@dataclass(frozen=True)
class UsageLine:
    """Messages of one channel at one price."""

    channel_type: str
    messages: int
    unit_price: Decimal
    amount: Decimal
    """What they cost: positive."""


@dataclass(frozen=True)
class Movement:
    """A top-up, an adjustment or a refund."""

    id: UUID
    kind: str
    amount: Decimal
    """What it did to the credit."""
    reason: str
    posted_by: str
    reference: str
    posted_at: datetime


@dataclass(frozen=True)
class Statement:
    """`opening_credit` + `top_ups` + `adjustments` + `refunds` − `usage` = `closing_credit`."""

    application: Application
    month: str
    since: datetime
    until: datetime
    currency: str
    opening_credit: Decimal
    closing_credit: Decimal
    lines: list[UsageLine]
    top_ups: Decimal
    adjustments: Decimal
    refunds: Decimal
    movements: list[Movement]
    is_closed: bool
    """The month is over."""

    @property
    def usage(self) -> Decimal:
        return sum((line.amount for line in self.lines), Decimal(0))

    @property
    def unlisted(self) -> Decimal:
        """What the movements did to the credit that are not listed."""
        listed = sum((moved.amount for moved in self.movements), Decimal(0))
        return self.top_ups + self.adjustments + self.refunds - listed

    @property
    def messages(self) -> int:
        return sum(line.messages for line in self.lines)


def month_of(text: str) -> tuple[int, int]:
    """Year and month of `2026-11`. Raise `ValidationFailed`."""
    found = _MONTH.fullmatch(text)
    if found is None or not YEAR_MIN <= int(found[1]) <= YEAR_MAX:
        raise ValidationFailed.of("month", "must be a month such as 2026-11")
    return int(found[1]), int(found[2])


def month_bounds(application: Application, month: str) -> tuple[datetime, datetime]:
    """The first moments of the month and of the next one, in the application's time zone."""
    zone = ZoneInfo(application.time_zone)
    year, number = month_of(month)
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    return datetime(year, number, 1, tzinfo=zone), datetime(*following, 1, tzinfo=zone)


def months_of(application: Application, *, limit: int = 36) -> list[str]:
    """The months since the first posting, the newest first, with the present one."""
    zone = ZoneInfo(application.time_zone)
    first = (
        LedgerTransaction.objects.for_application(application).order_by("posted_at").values_list("posted_at", flat=True)
    )
    now = timezone.now().astimezone(zone)
    begin = (first.first() or now).astimezone(zone)
    count = min(limit, (now.year - begin.year) * 12 + now.month - begin.month + 1)
    numbers = [now.year * 12 + now.month - 1 - back for back in range(max(1, count))]
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in numbers]


# The credit side of each transaction: usage that costs nothing has none, and its messages count all the same. One
# statement, so that the balance and the sums are of one moment.
_SUMS = """
WITH credit AS (
    SELECT id, balance FROM billing_ledgeraccount
    WHERE application_id = %(application)s AND kind = 'credit' AND channel_type = ''
)
SELECT 'balance' AS what, '' AS channel_type, 0::numeric AS unit_price, 0::numeric AS quantity, balance AS amount
FROM credit
UNION ALL
SELECT CASE WHEN t.posted_at < %(until)s THEN t.kind ELSE 'later' END,
       t.channel_type, t.unit_price, sum(t.quantity), coalesce(sum(e.amount), 0)
FROM billing_ledgertransaction t
LEFT JOIN billing_ledgerentry e ON e.transaction_id = t.id AND e.account_id = (SELECT id FROM credit)
WHERE t.application_id = %(application)s AND t.posted_at >= %(since)s
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3
"""


def statement_of(*, application: Application, month: str) -> Statement:
    """The statement of `month` (`2026-11`), of what is posted until now. Raise `ValidationFailed` for no month."""
    since, until = month_bounds(application, month)
    profile = billing_of(application)
    with connection.cursor() as cursor:
        cursor.execute(_SUMS, {"application": application.pk, "since": since, "until": until})
        rows = cursor.fetchall()
    outside = {what: sum(row[4] for row in rows if row[0] == what) for what in ("balance", "later")}
    closing = Decimal(outside["balance"] - outside["later"])
    inside = [row for row in rows if row[0] not in outside]

    def total(kind: str) -> Decimal:
        return sum((row[4] for row in inside if row[0] == kind), Decimal(0))

    return Statement(
        application=application,
        month=month,
        since=since,
        until=until,
        currency=profile.currency,
        opening_credit=closing - sum((row[4] for row in inside), Decimal(0)),
        closing_credit=closing,
        lines=[
            UsageLine(channel_type, int(quantity), price, -amount)
            for what, channel_type, price, quantity, amount in inside
            if what == TransactionKind.USAGE
        ],
        top_ups=total(TransactionKind.TOP_UP),
        adjustments=total(TransactionKind.ADJUSTMENT),
        refunds=total(TransactionKind.REFUND),
        movements=_movements(application, since, until),
        is_closed=until <= timezone.now(),
    )


def _movements(application: Application, since: datetime, until: datetime) -> list[Movement]:
    """What people have posted, in the order of time. Index: `ledger_by_time`."""
    rows = LedgerTransaction.objects.for_application(application).filter(
        kind__in=BY_HAND, posted_at__gte=since, posted_at__lt=until, entries__account__kind=AccountKind.CREDIT
    )
    columns = ("id", "kind", "entries__amount", "reason", "posted_by", "reference", "posted_at")
    return [Movement(*row) for row in rows.order_by("posted_at", "id").values_list(*columns)[:MOVEMENTS_MAX]]


def plain(amount: Decimal) -> str:
    """An amount without needless zeros: `1500`, `0.05`."""
    text = f"{amount:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


# --- As a file -----------------------------------------------------------------------------------------------------

CSV_COLUMNS = (
    *("month", "line", "channel", "messages", "unit_price", "amount", "currency"),
    *("posted_at", "reason", "posted_by", "reference"),
)


def csv_rows(statement: Statement) -> Iterator[list[Any]]:
    """The head, the opening credit, usage by channel and price, what people posted, the closing credit.

    `amount` is what each line did to the credit, so the column adds up to the last line: what more was posted than is
    listed (`MOVEMENTS_MAX`) is one line, `not_listed`.
    """
    yield list(CSV_COLUMNS)
    yield _row(statement, "opening_credit", amount=statement.opening_credit)
    for line in statement.lines:
        yield _row(
            statement,
            "usage",
            channel=line.channel_type,
            messages=line.messages,
            unit_price=plain(line.unit_price),
            amount=-line.amount,
        )
    for moved in statement.movements:
        yield _row(
            statement,
            moved.kind,
            amount=moved.amount,
            posted_at=moved.posted_at.astimezone(statement.since.tzinfo).isoformat(timespec="seconds"),
            reason=moved.reason,
            posted_by=moved.posted_by,
            reference=moved.reference,
        )
    if statement.unlisted:
        yield _row(statement, "not_listed", amount=statement.unlisted)
    yield _row(statement, "closing_credit", amount=statement.closing_credit)


def _row(statement: Statement, line: str, *, amount: Decimal, **given: Any) -> list[Any]:
    known = {"month": statement.month, "line": line, "amount": plain(amount), "currency": statement.currency, **given}
    return [known.get(column) for column in CSV_COLUMNS]


def channel_label(channel_type: str) -> str:
    return str(ChannelType(channel_type).label) if channel_type in ChannelType.values else channel_type


# --- As a page -----------------------------------------------------------------------------------------------------


def shown(statement: Statement) -> dict[str, Any]:
    """What the page says: amounts without needless zeros, times on the application's clock."""
    names = ("opening_credit", "top_ups", "adjustments", "refunds", "usage", "closing_credit")
    return {
        "statement": statement,
        "period": f"{statement.since:%Y-%m-%d} – {statement.until - timedelta(seconds=1):%Y-%m-%d}",
        "amounts": {name: plain(getattr(statement, name)) for name in names},
        "lines": [
            {
                "channel": channel_label(line.channel_type),
                "messages": f"{line.messages:,}",
                "unit_price": plain(line.unit_price),
                "amount": plain(line.amount),
            }
            for line in statement.lines
        ],
        "movements": [
            {
                "at": f"{moved.posted_at.astimezone(statement.since.tzinfo):%Y-%m-%d %H:%M}",
                "kind": TransactionKind(moved.kind).label,
                "reason": moved.reason,
                "by": moved.posted_by,
                "reference": moved.reference,
                "amount": plain(moved.amount),
            }
            for moved in statement.movements
        ],
    }
