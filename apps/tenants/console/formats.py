"""Numbers, shares, money and moments as the console shows them: by the operator's language, in the operator's zone.

The zone is the active one of Django, which `console.middleware` sets from who is signed in.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from djmoney.money import Money
from moneyed.l10n import format_money

NOTHING = "–"


def number(value: float | None) -> str:
    """1234567 → 1,234,567; with two decimals if it is not whole."""
    if value is None:
        return NOTHING
    return _rounded(value, 0 if value == int(value) else 2)


def share(part: float, whole: float) -> str:
    """Part of a whole as a percentage with one decimal; a dash for a part of nothing."""
    return _("%(share)s %%") % {"share": _rounded(100 * part / whole, 1)} if whole else NOTHING


def percent(part: float | None) -> str:
    """0.123 → 12.3 %; a dash for what is not known."""
    return NOTHING if part is None else share(part, 1)


def duration(seconds: float) -> str:
    """`0.8 s`, `45 s`, `10 min`, `2.5 h`, `3 d`: one decimal where it says something."""
    if seconds >= 86_400:
        return _("%(days)s d") % {"days": _short(seconds / 86_400)}
    if seconds >= 3_600:
        return _("%(hours)s h") % {"hours": _short(seconds / 3_600)}
    if seconds >= 60:
        return _("%(minutes)s min") % {"minutes": _short(seconds / 60)}
    return _("%(seconds)s s") % {"seconds": _short(seconds)}


def _short(value: float) -> str:
    value = round(value, 1)
    return _rounded(value, 0 if value == int(value) else 1)


def _rounded(value: float, decimals: int) -> str:
    """Django's cuts off what is behind the last decimal, and writes none that the number does not have."""
    return str(formats.number_format(f"{value:.{decimals}f}", decimals, use_l10n=True, force_grouping=True))


def money(amount: Money | None) -> str:
    """With its currency's sign and decimals; a price of less than one of it with all of its own: ₩0.2."""
    if amount is None:
        return NOTHING
    is_small = 0 < abs(amount.amount) < 1
    return str(format_money(amount, locale=get_language() or "en", decimal_quantization=not is_small))


def moment(value: datetime | None) -> SafeString | str:
    """A `<time>` in the active zone, to the minute; the exact moment in UTC is its tooltip."""
    if value is None:
        return NOTHING
    shown = moment_text(value)
    exact = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return format_html('<time datetime="{}" title="{}" class="as-nowrap">{}</time>', value.isoformat(), exact, shown)


def moment_text(value: datetime | None) -> str:
    """The same where no tag may stand, as in a message."""
    return NOTHING if value is None else formats.date_format(timezone.localtime(value), "DATETIME_FORMAT")


def day(value: date | None) -> str:
    return NOTHING if value is None else formats.date_format(value, "DATE_FORMAT")


def month_day(value: date) -> str:
    """Without the year, for the foot of a chart."""
    return formats.date_format(value, "MONTH_DAY_FORMAT")
