"""What statistics tell on the console's home: today by state and channel, rates against last week, the last days, why
messages failed; and of the platform, each application's figures of the last 24 hours.

One question of the rollups for all of it, kept as other answers are (`automata_signal.caches`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils import formats, timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.analytics import selectors
from apps.analytics.as_json import COUNTED, moment_text, rows_of
from apps.analytics.charts import COLOURS, Line, share_bar, stacked_chart
from apps.analytics.clocks import HOUR, zone_of
from apps.analytics.selectors import ChannelHour, Figures, Period
from apps.analytics.selectors.messages import rate
from apps.billing.selectors import open_messages
from apps.messaging.console.words import page_of_step
from apps.messaging.next_steps import next_step
from apps.messaging.operations.failed import FailedCount, register_failed
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import NOTHING, moment, number, share
from apps.tenants.console.home import Cell, PlatformFigures, Shown, home_section, platform_figures
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application
from automata_signal import replica
from automata_signal.caches import STATISTICS, cached

READ = "analytics:read"
DAYS = 14
CHART_WIDTH = 620
REASONS_SHOWN = 8
NO_CHANGE = "±0"
COMPARED_FROM = 30
"""Of fewer messages last week, a share, and how much it has grown since, says nothing."""
FAILED_BADLY = 0.2
"""Of what was decided about: with more failures somebody is to look."""

Answer = dict[str, Any]

# --- The figures ---------------------------------------------------------------------------------------------------


def figures_of(request: HttpRequest, application: Application) -> Answer:
    """Everything that the sections show, asked once a page."""
    known: dict[UUID, Answer] = request.__dict__.setdefault("_home_figures", {})
    if application.pk not in known:
        known[application.pk] = read_figures(application)
    return known[application.pk]


def read_figures(application: Application, *, now: datetime | None = None) -> Answer:
    """Today and the days before by the application's calendar, as JSON has it."""
    now = now or timezone.now()
    zone = zone_of(application.time_zone)
    period = selectors.days_of(application=application, days=DAYS, now=now)
    lately = Period(now - timedelta(hours=24), now, zone)

    def make() -> Answer:
        return replica.read(lambda using: _read(application, period, lately, now, using))

    asked = {"question": "home", "since": period.since.isoformat(), "hour": now.astimezone(zone).hour}
    return cached(STATISTICS, application.pk, asked, make)


def _read(application: Application, period: Period, lately: Period, now: datetime, using: str) -> Answer:
    same: Any = {"application": application, "using": using}
    hours = selectors.message_hours(period=period, **same)
    today = now.astimezone(period.zone).date()
    midnight = now.astimezone(period.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    channels: dict[str, Figures] = {}
    for hour in hours:
        if hour.hour >= midnight:
            channels[hour.channel_type] = channels.get(hour.channel_type, Figures()) + hour.figures
    week_ago = midnight.replace(tzinfo=None) - timedelta(days=7)
    before = Period(week_ago.replace(tzinfo=period.zone), (now - timedelta(days=7)), period.zone)
    return {
        "as_of": moment_text(selectors.freshness(using=using).filled_at),
        "today": today.isoformat(),
        "channels": {channel: _counts(found) for channel, found in sorted(channels.items())},
        "totals": _counts(sum(channels.values(), Figures())),
        "last_week": _counts(_within(hours, before)),
        "days": [{"day": at.isoformat(), **_counts(found)} for at, found in _by_day(hours, period)],
        "failures": rows_of(selectors.failures_by_reason(period=lately, limit=REASONS_SHOWN, **same)),
    }


def waiting_of(request: HttpRequest, application: Application) -> Mapping[str, int]:
    """Messages that are accepted and not sent yet, by channel: the quotas' own counters. Asked once a page."""
    known: dict[UUID, Mapping[str, int]] = request.__dict__.setdefault("_home_waiting", {})
    if application.pk not in known:
        known[application.pk] = open_messages([application.pk]).get(application.pk, {})
    return known[application.pk]


def _within(hours: Sequence[ChannelHour], period: Period) -> Figures:
    """Of the hours that begin in the period; of the last one, which is not over, as much as is over of ours."""
    total = Figures()
    for hour in hours:
        if period.since <= hour.hour < period.until:
            part = min(1.0, (period.until - hour.hour) / HOUR)
            total += Figures(*(round(getattr(hour.figures, name) * part) for name in Figures.__slots__))
    return total


def _by_day(hours: Sequence[ChannelHour], period: Period) -> list[tuple[date, Figures]]:
    first = period.since.astimezone(period.zone).date()
    found = {first + timedelta(days=n): Figures() for n in range(DAYS)}
    for hour in hours:
        at = hour.hour.astimezone(period.zone).date()
        found[at] = found.get(at, Figures()) + hour.figures
    return sorted(found.items())


def _counts(found: Figures) -> dict[str, int]:
    return {name: getattr(found, name) for name in COUNTED}


# --- Sections ------------------------------------------------------------------------------------------------------


@home_section("today", gettext_lazy("Today"), scope=READ, order=10)
def today_section(request: HttpRequest, application: Application) -> Shown:
    """The day's figures, each against the same hours of this weekday last week."""
    found = figures_of(request, application)
    now, before = found["totals"], found["last_week"]
    waiting = sum(waiting_of(request, application).values())
    rows = list_address("messaging.Message", application=application.pk, since=found["today"])
    failures, failures_before = _failures(now), _failures(before)
    cards = [
        {
            "label": _("Sent"),
            "value": number(now["sent"]),
            "address": rows,
            **_against(
                now["sent"],
                before["sent"],
                _("last week by this hour: %(figure)s") % {"figure": number(before["sent"])},
            ),
        },
        _rate_card(
            _("Delivered"),
            (now["received"], now["sent"]),
            (before["received"], before["sent"]),
            f"{rows}&status=received",
        ),
        _rate_card(
            _("Opened"),
            (now["converted"], now["received"]),
            (before["converted"], before["received"]),
            f"{rows}&status=converted",
        ),
        _rate_card(
            _("Failed"),
            failures,
            failures_before,
            f"{rows}&status=failed",
            is_good=False,
        ),
        {
            "label": _("Waiting"),
            "value": number(waiting),
            "address": f"{rows}&status=pending",
            "note": _("accepted, not yet sent"),
        },
    ]
    return Shown(
        "admin/console/home/cards.html",
        {"cards": cards},
        is_live=bool(waiting),
        note=_as_of(found),
        more=_statistics(application, period="today"),
        more_label=_("Statistics of today"),
    )


def _failures(found: Mapping[str, int]) -> tuple[int, int]:
    """What was refused, of what was decided about: without what was sent and only had no receipt in time."""
    figures = Figures(**{name: found[name] for name in COUNTED})
    return figures.failed - figures.timed_out, figures.settled


def _as_of(found: Answer) -> Any:
    if not found["as_of"]:
        return _("nothing was counted yet")
    return moment(datetime.fromisoformat(found["as_of"]))


def _statistics(application: Application, **asked: str) -> str:
    return f"{reverse('admin:statistics')}?{urlencode({'application': str(application.pk), **asked})}"


def _against(now: float, before: float, note: str) -> dict[str, Any]:
    """How a figure has changed, where there is something to compare with."""
    if not before:
        return {"note": _("no figures of last week")}
    if before < COMPARED_FROM:
        return {"note": note}
    grown = (now - before) / before
    return {"note": note, "change": f"{'+' if grown >= 0 else '−'}{formats.number_format(abs(100 * grown), 0)} %"}


def _rate_card(
    label: str, now: tuple[int, int], before: tuple[int, int], address: str, *, is_good: bool = True
) -> dict[str, Any]:
    """A rate, and how many points it is above or below last week's; none where more came of messages that were sent
    before the day began than were sent in it."""
    card: dict[str, Any] = {
        "label": label,
        "value": share(*now) if now[0] <= now[1] else NOTHING,
        "address": address,
        "note": _("%(count)s messages") % {"count": number(now[0])},
    }
    new, old = rate(*now), rate(*before)
    if new is not None and old is not None and before[1] >= COMPARED_FROM and max(new, old) <= 1:
        points = round(100 * (new - old), 1)
        card["change"] = (
            NO_CHANGE
            if not points
            else _("%(points)s points")
            % {"points": f"{'+' if points >= 0 else '−'}{formats.number_format(abs(points), 1)}"}
        )
        if abs(points) >= 1:
            card["tone"] = "good" if (points > 0) is is_good else "bad"
        card["note"] += " · " + _("last week %(share)s") % {"share": share(*before)}
    return card


@home_section("channels", gettext_lazy("Today by channel and state"), scope=READ, order=20, width="half")
def channels_section(request: HttpRequest, application: Application) -> Shown:
    found = figures_of(request, application)
    waiting = waiting_of(request, application)
    channels = sorted({*found["channels"], *(channel for channel, count in waiting.items() if count)})
    names = dict(ChannelType.choices)
    entries = []
    for channel in channels:
        parts = _parts(found["channels"].get(channel, dict.fromkeys(COUNTED, 0)), waiting.get(channel, 0))
        entries.append(
            {
                "label": names.get(channel, channel),
                "total": sum(value for _label, _colour, value in parts),
                "parts": parts,
                "cells": [number(value) for _label, _colour, value in parts],
                "address": _statistics(application, period="today", channel=channel),
            }
        )
    most = max((entry["total"] for entry in entries), default=0)
    for entry in entries:
        told = ", ".join(f"{label} {number(value)}" for label, _colour, value in entry["parts"])
        entry["bar"] = share_bar(f"{entry['label']}: {told}", entry["parts"], whole=most)
    legend = [(label, colour) for label, colour, _value in _parts(dict.fromkeys(COUNTED, 0), 0)]
    return Shown("admin/console/home/channels.html", {"entries": entries, "legend": legend})


def _parts(found: Mapping[str, int], waiting: int) -> list[tuple[str, str, int]]:
    """The states that messages are in now, roughly: what arrived today may have been sent before. One that had no
    receipt in time is among the failed alone."""
    opened = found["converted"]
    received = max(0, found["received"] - opened)
    return [
        (_("opened"), COLOURS["converted"], opened),
        (_("delivered"), COLOURS["received"], received),
        (_("sent"), COLOURS["sent"], max(0, found["sent"] - received - opened - found["timed_out"])),
        (_("failed"), COLOURS["failed"], found["failed"]),
        (_("waiting"), COLOURS["waiting"], waiting),
    ]


@home_section("days", gettext_lazy("The last 14 days"), scope=READ, order=30, width="half")
def days_section(request: HttpRequest, application: Application) -> Shown:
    found = figures_of(request, application)["days"]
    labels = [formats.date_format(date.fromisoformat(point["day"]), "MONTH_DAY_FORMAT") for point in found]
    short = [f"{date.fromisoformat(point['day']):%m-%d}" for point in found]
    layers: list[Line] = []
    for n, (label, colour, _value) in enumerate(_parts(dict.fromkeys(COUNTED, 0), 0)[:4]):
        layers.append(Line(label, colour, [_parts(point, 0)[n][2] for point in found]))
    is_empty = not any(any(layer.values) for layer in layers)
    rows = [(name, *(number(layer.values[n]) for layer in layers)) for n, name in enumerate(labels)]
    context = {
        "picture": ""
        if is_empty
        else stacked_chart(_("Messages of the last 14 days, by state"), short, layers, width=CHART_WIDTH),
        "legend": [(layer.label, layer.colour) for layer in layers],
        "headers": [_("day"), *(layer.label for layer in layers)],
        "rows": rows[::-1],
    }
    more = _statistics(application, period="30d")
    return Shown("admin/console/home/days.html", context, more=more, more_label=_("All statistics"))


@home_section("failures", gettext_lazy("Why messages failed"), scope=READ, order=70, width="full")
def failures_section(request: HttpRequest, application: Application) -> Shown:
    """Of the last 24 hours, each reason with what is to be done about it."""
    found = figures_of(request, application)["failures"]
    grants = grants_of(request)
    may_see_rows = grants.has("messages:read", application.pk)
    rows = []
    for row in found:
        step = next_step(row["reason"])
        rows.append(
            {
                "reason": row["reason"] or NOTHING,
                "messages": number(row["messages"]),
                "share": share(row["share"], 1),
                "text": step.text,
                "page": page_of_step(request, step.page, application.pk),
                "link": step.link,
                "address": list_address(
                    "messaging.Message", application=application.pk, reason=row["reason"], added="24h"
                )
                if may_see_rows and row["reason"]
                else "",
            }
        )
    return Shown("admin/console/home/failures.html", {"rows": rows}, note=_("the last 24 hours"))


# --- The platform --------------------------------------------------------------------------------------------------


def _lately(ids: Sequence[UUID]) -> dict[UUID, list[Cell]]:
    now = timezone.now()
    found = replica.read(
        lambda using: selectors.totals_of_applications(
            application_ids=ids, since=now - timedelta(hours=24), until=now, using=using
        )
    )
    return {key: _platform_cells(key, figures) for key, figures in found.items()}


def _platform_cells(application_id: UUID, found: Figures) -> list[Cell]:
    failing = found.failure_rate or 0.0
    failed = list_address("messaging.Message", application=application_id, status="failed", added="24h")
    told = f"{number(found.failed)} ({share(found.failed - found.timed_out, found.settled)})" if found.failed else "0"
    return [
        Cell(number(found.sent)),
        Cell(share(found.received, found.sent)),
        Cell(share(found.converted, found.received)),
        Cell(told, 1.0 + failing if failing >= FAILED_BADLY else failing, failed if found.failed else ""),
    ]


platform_figures(
    PlatformFigures(
        "messages",
        (gettext_lazy("Sent"), gettext_lazy("Delivered"), gettext_lazy("Opened"), gettext_lazy("Failed")),
        10,
        _lately,
    )
)


def _failed_lately(ids: Sequence[UUID], since: datetime, limit: int) -> list[FailedCount]:
    found = replica.read(lambda using: selectors.failures_of_applications(ids, since, limit, using=using))
    return [FailedCount(*row) for row in found]


register_failed(_failed_lately)
