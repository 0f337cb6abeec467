"""A report as an e-mail: HTML, the same as text, and one picture inside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from email.mime.image import MIMEImage
from email.utils import parseaddr
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.dateformat import format as date_format
from django.utils.translation import gettext as _

from apps.analytics.models.reports import ReportKind, ReportSchedule
from apps.analytics.reports.figures import Figures, gathered
from apps.analytics.reports.periods import Period
from apps.analytics.reports.picture import COLOURS, drawn
from apps.analytics.reports.services import unsubscribe_token
from apps.tenants.models import Operator
from automata_signal.ids import new_id

UNSUBSCRIBE_PAGE = "/reports/unsubscribe"
PICTURE_ID = "picture"
NAME_MAX = 80
"""Characters of the application's name in a subject."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class Letter(EmailMultiAlternatives):
    """Its picture belongs to the text, and is no attachment of its own."""

    mixed_subtype = "related"


@dataclass(frozen=True)
class Draft:
    """A report that is written and has no address yet: all who get it get the same but for their link to end it."""

    schedule: ReportSchedule
    subject: str
    context: dict[str, Any]
    picture: bytes

    @classmethod
    def of(cls, schedule: ReportSchedule, period: Period) -> Draft:
        """The report of a period, in the schedule's language."""
        with translation.override(schedule.language):
            figures = gathered(schedule.application, period)
            return cls(schedule, _subject(schedule, figures), _context(schedule, figures), drawn(figures.bars))

    def html(self, *, picture: str = f"cid:{PICTURE_ID}", unsubscribe: str = "") -> str:
        return self._rendered("analytics/report.html", picture=picture, unsubscribe=unsubscribe)

    def text(self, *, unsubscribe: str = "") -> str:
        return self._rendered("analytics/report.txt", unsubscribe=unsubscribe)

    def _rendered(self, template: str, **more: str) -> str:
        with translation.override(self.schedule.language):
            return render_to_string(template, {**self.context, **more})

    def to(self, operator: Operator, connection: Any = None, *, run_id: UUID | None = None) -> Letter:
        """The letter to one person. With the report's id a second sending has the same Message-ID, so that mail
        programs show it once."""
        link = unsubscribe_link(self.schedule, operator)
        message = Letter(
            subject=self.subject,
            body=self.text(unsubscribe=link),
            to=[operator.email],
            connection=connection,
            headers={
                "Message-ID": f"<report.{(run_id or new_id()).hex}.{operator.pk.hex}@{_own_domain()}>",
                "List-Unsubscribe": f"<{link}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                "Auto-Submitted": "auto-generated",
            },
        )
        message.attach_alternative(self.html(unsubscribe=link), "text/html")
        image = MIMEImage(self.picture, "png")
        image.add_header("Content-ID", f"<{PICTURE_ID}>")
        image.add_header("Content-Disposition", "inline", filename="report.png")
        message.attach(image)
        return message


def unsubscribe_link(schedule: ReportSchedule, operator: Operator) -> str:
    token = quote(unsubscribe_token(schedule, operator))
    return f"{settings.PUBLIC_URL.rstrip('/')}{UNSUBSCRIBE_PAGE}?token={token}"


def one_line(text: str) -> str:
    """Fit for a header: nothing that ends a line or turns its direction."""
    return " ".join(_UNPRINTABLE.sub(" ", text).split())


def _own_domain() -> str:
    return parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"


def _subject(schedule: ReportSchedule, figures: Figures) -> str:
    words = {
        "name": one_line(schedule.application.name)[:NAME_MAX],
        "day": _day(figures.period.first),
        "last": _day(figures.period.last),
    }
    if schedule.kind == ReportKind.DAILY:
        return _("%(name)s: report of %(day)s") % words
    return _("%(name)s: report of %(day)s to %(last)s") % words


def _day(day: Any) -> str:
    return date_format(day, "Y-m-d")


def _context(schedule: ReportSchedule, figures: Figures) -> dict[str, Any]:
    """Everything as text, in the schedule's language."""
    console = settings.PUBLIC_URL.rstrip("/")
    application = f"application={schedule.application_id}"
    return {
        "language": schedule.language,
        "name": one_line(schedule.application.name),
        "kind": schedule.get_kind_display(),
        "first": _day(figures.period.first),
        "last": _day(figures.period.last),
        "is_one_day": figures.period.days == 1,
        "zone": schedule.application.time_zone,
        "colours": COLOURS,
        "rows": _rows(figures),
        "failures": [(reason or "–", f"{count:,}") for reason, count in figures.failures],
        "lost": [(reason or "–", f"{count:,}") for reason, count in figures.lost],
        "campaigns": [
            (one_line(c.name), f"{c.sent:,}", share(c.received, c.sent), share(c.converted, c.received))
            for c in figures.campaigns
        ],
        "quotas": [
            (q.channel, used(q.used_today, q.daily), used(q.used_this_month, q.monthly)) for q in figures.quotas
        ],
        "credit": "" if figures.credit is None else money(figures.credit, figures.currency),
        "statistics": f"{console}/admin/statistics/?{application}&from={_day(figures.period.first)}"
        f"&to={_day(figures.period.last)}",
        "manage": f"{console}/admin/analytics/reportschedule/{schedule.pk}/change/",
    }


def _rows(figures: Figures) -> list[dict[str, str]]:
    """The table of the letter: what, how many, and against the period before."""
    now, before = figures.now, figures.before
    counts = [
        (_("Sent"), now.sent, before.sent),
        (_("Received"), now.received, before.received),
        (_("Opened"), now.converted, before.converted),
        (_("Failed"), now.failed, before.failed),
        (_("Subscriptions gained"), now.gained, before.gained),
        (_("Subscriptions lost"), now.lost, before.lost),
        (_("Active users"), now.active_users, before.active_users),
    ]
    shares = {
        _("Received"): share(now.received, now.sent),
        _("Opened"): share(now.converted, now.received),
        _("Failed"): share(now.failed, now.sent + now.failed),
    }
    rows = [
        {"label": label, "value": f"{new:,}", "share": shares.get(label, ""), "change": change(new, old)}
        for label, new, old in counts
    ]
    cost = money(figures.cost, figures.currency)
    rows.append({"label": _("Cost"), "value": cost, "share": "", "change": change(figures.cost, figures.cost_before)})
    return rows


def share(part: int, whole: int) -> str:
    """`12.3 %`; nothing where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else ""


def change(new: float | Decimal, old: float | Decimal) -> str:
    """`+12.3 %`, `−4.0 %`, `=`, or `new` where there was nothing before."""
    if new == old:
        return "="
    if not old:
        return _("new")
    percent = 100 * (float(new) - float(old)) / float(old)
    return f"{'+' if percent > 0 else '−'}{abs(percent):,.1f} %"


def used(count: int, limit: int | None) -> str:
    if limit is None:
        return f"{count:,}"
    return _("%(used)s of %(limit)s (%(share)s)") % {
        "used": f"{count:,}",
        "limit": f"{limit:,}",
        "share": share(count, limit) or "–",
    }


def money(amount: Decimal, currency: str) -> str:
    """With the decimals that are there, and thousands."""
    text = f"{amount:,.6f}".rstrip("0").rstrip(".")
    return f"{text} {currency}".strip()
