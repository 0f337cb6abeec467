"""The parts of the page of statistics, made of answers: cards, charts with their numbers as a table, tables."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from django.utils.html import format_html
from django.utils.translation import gettext as _
from djmoney.money import Money

from apps.analytics.as_json import Answer
from apps.analytics.charts import COLOURS, NARROW, WIDE, Line, column_chart, line_chart
from apps.tenants.channels import ChannelType
from apps.tenants.console.formats import duration, money, month_day, number, percent
from apps.tenants.console.panels import admin_link, list_address
from apps.tenants.models import Application

Section = dict[str, Any]
ROWS_MAX = 10
"""Of a table beside the others; the API gives all."""


def cards(overview: Answer) -> Section:
    """The figures that matter most, each against the period before."""
    now, change, rates = overview["messages"], overview["change"], overview["messages"]["rates"]
    told = [
        (_("sent"), now["sent"], rates["success"], change["sent"], True),
        (_("received"), now["received"], rates["receipt"], change["received"], True),
        (_("converted"), now["converted"], rates["open"], change["converted"], True),
        (_("failed"), now["failed"], rates["failure"], change["failed"], False),
        (_("put off"), now["errored"], None, change["errored"], False),
        (_("no receipt in time"), now["timed_out"], None, change["timed_out"], False),
    ]
    return {
        "template": "admin/analytics/cards.html",
        "title": _("Overview"),
        "as_of": datetime.fromisoformat(overview["as_of"]) if overview["as_of"] else None,
        "cards": [
            {
                "label": label,
                "value": number(value),
                "share": percent(share),
                "change": signed(share_of_change),
                "tone": tone(share_of_change, is_good=is_good),
            }
            for label, value, share, share_of_change, is_good in told
        ],
        "wide": True,
    }


def series(answer: Answer) -> Section:
    names = ("sent", "received", "converted", "failed")
    labels = {"sent": _("sent"), "received": _("received"), "converted": _("converted"), "failed": _("failed")}
    return _chart(
        {"hour": _("By hour"), "day": _("By day"), "week": _("By week")}[answer["interval"]],
        _moments(answer),
        [Line(labels[name], COLOURS[name], [item[name] for item in answer["items"]]) for name in names],
        wide=True,
    )


def failures(overview: Answer, application: Application) -> Section:
    """Why messages failed, each reason with a link to the messages; and what was put off."""
    address = {"application": str(application.pk)}
    rows: list[tuple[Any, str, str]] = [
        (
            format_html(
                '<a class="text-link" href="{}">{}</a>',
                list_address("messaging.Message", **address, reason=row["reason"]),
                row["reason"] or "–",
            ),
            number(row["messages"]),
            percent(row["share"]),
        )
        for row in overview["failures"][:ROWS_MAX]
    ]
    rows += [
        (_("put off: %(reason)s") % {"reason": row["reason"] or "–"}, number(row["messages"]), percent(row["share"]))
        for row in overview["put_off"][:ROWS_MAX]
    ]
    return _table(_("Failed, by reason"), (_("reason"), _("messages"), _("share")), rows)


def channels(answer: Answer) -> Section:
    return _groups(_("By channel"), _("channel"), answer, lambda key: dict(ChannelType.choices).get(key, key))


def hours(answer: Answer) -> Section:
    """When messages are received, by the hour of the day."""
    return _chart(
        _("By hour of the day"),
        [f"{int(item['key']):02}" for item in answer["items"]],
        [
            Line(_("sent"), COLOURS["sent"], [item["sent"] for item in answer["items"]]),
            Line(_("received"), COLOURS["received"], [item["received"] for item in answer["items"]]),
            Line(_("converted"), COLOURS["converted"], [item["converted"] for item in answer["items"]]),
        ],
    )


def devices(answer: Answer) -> Section:
    titles = {
        "country": _("By country"),
        "os": _("By operating system"),
        "app_version": _("By version of the app"),
        "device_model": _("By device"),
    }
    names = {"": _("not known"), "other": _("others")}
    return _groups(titles[answer["by"]], _("value"), answer, lambda key: names.get(key, key))


def campaigns(answer: Answer) -> Section:
    return _compared(_("Campaigns"), answer, "campaigns.MessageCampaign", _("without a campaign"))


def templates(answer: Answer) -> Section:
    return _compared(_("Templates"), answer, "messaging.MessageTemplate", _("without a template"))


def subscriptions(answer: Answer) -> Section:
    section = _chart(
        _("Subscriptions gained and lost"),
        _moments(answer),
        [
            Line(_("gained"), COLOURS["gained"], [item["gained"] for item in answer["items"]]),
            Line(_("lost"), COLOURS["lost"], [item["lost"] for item in answer["items"]]),
        ],
    )
    now, before = answer["totals"], answer["before"]
    section["note"] = _("gained %(gained)s, lost %(lost)s; before %(gained_before)s and %(lost_before)s") % {
        "gained": number(now["gained"]),
        "lost": number(now["lost"]),
        "gained_before": number(before["gained"]),
        "lost_before": number(before["lost"]),
    }
    section["more"] = {
        "headers": [_("lost because"), _("says"), _("subscriptions")],
        "rows": [
            [row["label"], row["source"], number(row["subscriptions"])] for row in answer["lost_by_reason"][:ROWS_MAX]
        ],
    }
    return section


def active_users(answer: Answer) -> Section:
    items = answer["items"]
    section = _chart(
        _("Active users"),
        [month_day(date.fromisoformat(item["day"])) for item in items],
        [
            Line(_("in 1 day"), "#14b8a6", [item["users"]["active_1d"] for item in items]),
            Line(_("in 7 days"), "#3b82f6", [item["users"]["active_7d"] for item in items]),
            Line(_("in 30 days"), COLOURS["active"], [item["users"]["active_30d"] for item in items]),
        ],
    )
    if items:
        last = items[-1]["users"]
        section["note"] = _("%(total)s users, %(reachable)s of them can be reached") % {
            "total": number(last["total"]),
            "reachable": number(last["reachable"]),
        }
    return section


def waiting(answer: Answer, title: str) -> Section:
    """A histogram of waiting times, and what share of messages waits no longer than how long."""
    items = answer["items"]
    while items and not items[-1]["messages"]:
        items = items[:-1]
    section = _section(
        title,
        column_chart(
            title,
            [_bucket(item) for item in items],
            Line(_("messages"), COLOURS["received"], [item["messages"] for item in items]),
        ),
        [_("time"), _("messages"), _("share")],
        [[_bucket(item), number(item["messages"]), percent(item["share"])] for item in items],
    )
    shares = {"p50": "50 %", "p90": "90 %", "p99": "99 %"}
    told = answer["percentiles"]
    if answer["messages"]:
        section["note"] = " · ".join(f"{shares[name]}: {duration(told[name])}" for name in shares)
    return section


def sdk(answer: Answer) -> Section:
    """Initialisation, registration and identification by version of the SDK, and the commonest errors."""
    rows = [
        (
            f"{item['platform']} {item['sdk_version']}",
            number(item["initialisations"]),
            percent(item["registrations"]["rate"]),
            percent(item["identifications"]["rate"]),
            number(item["client_errors"]),
        )
        for item in answer["items"][:ROWS_MAX]
    ]
    headers = (_("SDK"), _("initialised"), _("registered"), _("identified"), _("errors"))
    section = _table(_("SDK"), headers, rows)
    told = answer["initialisations"]["percentiles"]
    if told["p50"] is not None:
        section["note"] = _("initialisation: half within %(p50)s ms, 95 %% within %(p95)s ms") % {
            "p50": number(round(told["p50"])),
            "p95": number(round(told["p95"])),
        }
    section["more"] = {
        "headers": [_("client error"), _("times")],
        "rows": [[row["label"], number(row["count"])] for row in answer["client_errors"][:ROWS_MAX]],
    }
    return section


def costs(answer: Answer) -> Section:
    section = _chart(
        _("Cost"),
        _moments(answer),
        [Line(_("cost"), COLOURS["sent"], [float(item["amount"]) for item in answer["items"]])],
    )
    section["note"] = ", ".join(
        f"{dict(ChannelType.choices).get(row['channel_type'], row['channel_type'])}: "
        f"{money(Money(row['amount'], row['currency']))} ({number(row['messages'])})"
        for row in answer["channels"]
    )
    section["more"] = {
        "headers": [_("quota of"), _("today"), _("this month"), _("open")],
        "rows": [
            [
                dict(ChannelType.choices).get(row["channel_type"], row["channel_type"]),
                _used(row["daily_used"], row["daily_quota"], row["daily_share"]),
                _used(row["monthly_used"], row["monthly_quota"], row["monthly_share"]),
                number(row["open"]),
            ]
            for row in answer["quotas"]
        ],
    }
    return section


# --- Shapes ----------------------------------------------------------------------------------------------------------


def _chart(title: str, labels: Sequence[str], lines: Sequence[Line], *, wide: bool = False) -> Section:
    rows = [[label, *(number(line.values[n]) for line in lines)] for n, label in enumerate(labels)]
    picture = line_chart(title, labels, lines, width=WIDE if wide else NARROW)
    section = _section(title, picture, [_("time"), *(line.label for line in lines)], rows)
    section["legend"] = lines
    section["wide"] = wide
    return section


def _section(title: str, picture: Any, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> Section:
    return {
        "template": "admin/analytics/chart.html",
        "title": title,
        "picture": picture if rows else "",
        "headers": headers,
        "rows": rows,
    }


def _table(title: str, headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Section:
    return {"template": "admin/analytics/table.html", "title": title, "headers": headers, "rows": rows}


def _groups(title: str, of: str, answer: Answer, name: Any) -> Section:
    items = sorted(answer["items"], key=lambda item: item["sent"] + item["failed"], reverse=True)
    rows = [[name(item["key"]), *_figures(item)] for item in items[:ROWS_MAX] if item["sent"] or item["failed"]]
    return _table(title, (of, *_headers()), rows)


def _compared(title: str, answer: Answer, label: str, nothing: str) -> Section:
    rows = [
        [admin_link(label, item["id"], item["name"] or item["id"]) if item["id"] else nothing, *_figures(item)]
        for item in answer["items"][:ROWS_MAX]
    ]
    return _table(title, (_("name"), *_headers()), rows)


def _headers() -> tuple[str, ...]:
    return _("sent"), _("failed"), _("received"), _("opened")


def _figures(item: Answer) -> list[str]:
    rates = item["rates"]
    return [number(item["sent"]), number(item["failed"]), percent(rates["receipt"]), percent(rates["open"])]


def _moments(answer: Answer) -> list[str]:
    """The begin of each, on the application's clock."""
    begins = [datetime.fromisoformat(item["begins"]) for item in answer["items"]]
    if answer["interval"] == "hour":
        return [f"{month_day(at)} {at:%H}:00" for at in begins]
    return [month_day(at) for at in begins]


def _bucket(item: Answer) -> str:
    if item["below"] is None:
        return f"≥ {duration(item['at_least'])}"
    return f"< {duration(item['below'])}"


def signed(share: float | None) -> str:
    """Against the period before; nothing where there was nothing."""
    if share is None:
        return ""
    return "=" if share == 0 else f"{'+' if share > 0 else '−'}{percent(abs(share))}"


def tone(share: float | None, *, is_good: bool) -> str:
    """Whether more of it is good news, as a colour of unfold's labels."""
    if not share:
        return "default"
    return "success" if (share > 0) is is_good else "danger"


def _used(count: int, limit: int | None, share: float | None) -> str:
    return number(count) if limit is None else f"{number(count)} / {number(limit)} ({percent(share)})"
