"""The panel of statistics on the pages of campaigns and templates: how theirs are beside all of the application's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from apps.analytics import answers, asking
from apps.analytics.answers import Asked
from apps.analytics.as_json import Answer
from apps.analytics.selectors import RANGE_MAX_DAYS
from apps.messaging.models import MessageTemplate
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import number, percent
from apps.tenants.console.panels import Panel, panel_for, table_panel
from apps.tenants.models import Application

READ = "analytics:read"
TEMPLATE_DAYS = 30


def statistics_panel(
    request: HttpRequest,
    application: Application,
    *,
    since: datetime,
    until: datetime | None = None,
    campaign_id: UUID | None = None,
    template_id: UUID | None = None,
) -> Panel | None:
    """Of messages between two moments; None for whose role or plan does not include it."""
    if not grants_of(request).has(READ, application.pk) or not asking.may_ask(application, "filters"):
        return None
    asked = _asked(application, since, until, campaign_id=campaign_id, template_id=template_id)
    answer = answers.beside_all(asked)
    rows = [
        (_("this one"), *_row(answer["own"])),
        (_("all of the application in these days"), *_row(answer["all"])),
    ]
    address = f"{reverse('admin:statistics')}?{urlencode({'application': str(application.pk), **_days(asked)})}"
    headers = ("", _("sent"), _("failed"), _("received"), _("opened"), _("no receipt in time"))
    return table_panel(_("Statistics"), headers, rows, more=address, more_label=_("All statistics of these days"))


@panel_for(MessageTemplate)
def template_panel(request: HttpRequest, row: Any) -> Panel | None:
    """Of the last thirty days."""
    since = timezone.now() - timedelta(days=TEMPLATE_DAYS)
    return statistics_panel(request, row.application, since=since, template_id=row.pk)


def _asked(application: Application, since: datetime, until: datetime | None, **which: UUID | None) -> Asked:
    """Whole hours, so that the next minute asks the same and gets what is kept; of what is longer ago, the start."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    last = min(until or timezone.now(), first + timedelta(days=RANGE_MAX_DAYS - 1))
    end = last.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return asking.asked(application, since=first.isoformat(), until=end.isoformat(), **which)  # type: ignore[arg-type]


def _days(asked: Asked) -> dict[str, str]:
    """The days that its period touches, for the page."""
    ends = {"from": asked.period.since, "to": asked.period.until - timedelta(seconds=1)}
    return {name: moment.astimezone(asked.period.zone).date().isoformat() for name, moment in ends.items()}


def _row(found: Answer) -> tuple[str, ...]:
    rates = found["rates"]
    return (
        number(found["sent"]),
        f"{number(found['failed'])} ({percent(rates['failure'])})",
        f"{number(found['received'])} ({percent(rates['receipt'])})",
        f"{number(found['converted'])} ({percent(rates['open'])})",
        number(found["timed_out"]),
    )
