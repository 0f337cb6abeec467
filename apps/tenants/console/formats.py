"""Numbers, shares, money and moments as the console shows them: by the operator's language, in the operator's zone.

The zone is the active one of Django, which `console.middleware` sets from who is signed in.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from djmoney.money import Money
from moneyed.l10n import format_money

NOTHING = "–"


def number(value: float | None) -> str:
    """1234567 → 1,234,567; with two decimals if it is not whole."""
    if value is None:
        return NOTHING
    decimals = 0 if value == int(value) else 2
    return str(formats.number_format(value, decimals, use_l10n=True, force_grouping=True))


def share(part: float, whole: float) -> str:
    """Part of a whole as a percentage with one decimal; a dash for a part of nothing."""
    return f"{formats.number_format(100 * part / whole, 1)} %" if whole else NOTHING


def money(amount: Money | None) -> str:
    """With its currency's sign and decimals."""
    if amount is None:
        return NOTHING
    return str(format_money(amount, locale=get_language() or "en"))


def moment(value: datetime | None) -> SafeString | str:
    """A `<time>` in the active zone, to the minute; the exact moment in UTC is its tooltip."""
    if value is None:
        return NOTHING
    shown = formats.date_format(timezone.localtime(value), "DATETIME_FORMAT")
    exact = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}" class="as-nowrap">{}</time>', value.isoformat(), exact, shown)


def day(value: date | None) -> str:
    return NOTHING if value is None else formats.date_format(value, "DATE_FORMAT")
