"""The console's page of statistics: a period of an application at a glance, by the same answers as the API gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, prefetch_related_objects
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.analytics import answers, asking, sections
from apps.analytics.answers import Asked
from apps.analytics.asking import may_ask
from apps.billing.models import BillingProfile
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.choosing import applications_with, chosen_application
from apps.tenants.console.pages import console_page
from apps.tenants.models import Application
from automata_signal.errors import SignalError

READ = "analytics:read"
PRESETS = {"today": 1, "7d": 7, "30d": 30, "90d": 90}
HOURLY_UP_TO = timedelta(days=3)
WEEKLY_FROM = timedelta(days=120)
Section = dict[str, Any]


class DayInput(widgets.UnfoldAdminTextInputWidget):  # type: ignore[misc]
    input_type = "date"


class PeriodForm(forms.Form):
    """Which application, days and channel."""

    application = forms.ChoiceField(label=gettext_lazy("Application"), widget=widgets.UnfoldAdminSelectWidget)
    period = forms.ChoiceField(
        label=gettext_lazy("Period"),
        required=False,
        choices=[
            ("today", gettext_lazy("today")),
            ("7d", gettext_lazy("the last 7 days")),
            ("30d", gettext_lazy("the last 30 days")),
            ("90d", gettext_lazy("the last 90 days")),
            ("", gettext_lazy("from … to …")),
        ],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    since = forms.DateField(label=gettext_lazy("From"), required=False, widget=DayInput)
    until = forms.DateField(label=gettext_lazy("To"), required=False, widget=DayInput)
    channel = forms.ChoiceField(
        label=gettext_lazy("Channel"),
        required=False,
        choices=[("", gettext_lazy("all")), *ChannelType.choices],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    was = forms.CharField(required=False, widget=forms.HiddenInput)
    """The period that the form was shown with."""

    def __init__(self, *args: Any, applications: list[Application], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["application"].choices = [(str(one.pk), one.name) for one in applications]  # type: ignore[attr-defined]


@console_page(
    "statistics",
    "statistics/",
    scope=READ,
    title=gettext_lazy("Overview"),
    icon="monitoring",
    area=gettext_lazy("Statistics"),
)
def statistics_page(request: HttpRequest) -> HttpResponse:
    """404 for an application where the operator may not read statistics, as for one that there is not."""
    applications = applications_with(request, READ)
    chosen = chosen_application(request, applications)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": _("Statistics"),
        "subtitle": chosen.name if chosen else None,
        "application": chosen,
    }
    if chosen is not None:
        profiles = BillingProfile.objects.select_related("plan").defer("alert_webhook_secret")
        prefetch_related_objects([chosen], Prefetch("billing", queryset=profiles))  # each part of the page asks for it
        context |= _filled(request, chosen, applications)
    return TemplateResponse(request, "admin/analytics/statistics.html", context)


def _filled(request: HttpRequest, application: Application, applications: list[Application]) -> dict[str, Any]:
    """The form and what it asks for; with a refusal, only the form and why."""
    data = _form_data(request, application)
    form = PeriodForm(data, applications=applications)
    if not form.is_valid():
        return {"form": form}
    try:
        asked = _asked(application, form.cleaned_data)
    except SignalError as error:
        return {"form": form, "problem": error.message}
    offered = _offered(request, application)
    chosen = request.GET.get("tab", "overview")
    if chosen not in offered:
        raise Http404
    return {
        "form": form,
        "asked": asked,
        "first": asked.period.since.astimezone(asked.period.zone).date(),
        "last": (asked.period.until - timedelta(seconds=1)).astimezone(asked.period.zone).date(),
        "zone": asked.period.zone.key,
        "tabs": [
            {"title": tab.title, "address": _address_of(request, name), "is_chosen": name == chosen}
            for name, tab in offered.items()
        ],
        "tab": chosen,
        "sections": list(offered[chosen].sections(asked)),
        "refused": [tab.title for tab in TABS.values() if tab.question and not may_ask(application, tab.question)],
    }


def _address_of(request: HttpRequest, tab: str) -> str:
    """The same question at another tab."""
    query = request.GET.copy()
    query["tab"] = tab
    return f"?{query.urlencode()}"


def _form_data(request: HttpRequest, application: Application) -> dict[str, str]:
    """What was chosen; of a link of a report's, the days; the last 30 days unless told.

    Who types days means them, and who chooses another period means that, though days stand beside it.
    """
    given = request.GET
    since, until = given.get("since") or given.get("from", ""), given.get("until") or given.get("to", "")
    period = given.get("period", "" if since else "30d")
    if since and given.get("was") == period:
        period = ""
    return {
        "application": str(application.pk),
        "period": period,
        "since": "" if period else since,
        "until": "" if period else until,
        "channel": given.get("channel", ""),
        "was": period,
    }


def _asked(application: Application, chosen: dict[str, Any]) -> Asked:
    since, until = chosen["since"], chosen["until"]
    if chosen["period"]:
        until = timezone.now().astimezone(ZoneInfo(application.time_zone)).date()
        since = until - timedelta(days=PRESETS[chosen["period"]] - 1)
    return asking.asked(
        application,
        since=since.isoformat() if since else "",
        until=until.isoformat() if until else "",
        channel_type=chosen["channel"],
    )


def _interval(asked: Asked) -> str:
    length = asked.period.until - asked.period.since
    if length <= HOURLY_UP_TO and may_ask(asked.application, "hours"):
        return "hour"
    return "week" if length > WEEKLY_FROM else "day"


def _overview(asked: Asked) -> Iterator[Section]:
    overview = answers.overview(asked)
    yield sections.cards(overview)
    yield sections.series(answers.series(asked, _interval(asked)))
    yield sections.failures(overview, asked.application)
    yield sections.channels(answers.breakdown(asked, "channel"))


def _devices(asked: Asked) -> Iterator[Section]:
    yield sections.hours(answers.breakdown(asked, "hour_of_day"))
    for by in ("country", "os", "app_version", "device_model"):
        yield sections.devices(answers.breakdown(asked, by))


def _campaigns(asked: Asked) -> Iterator[Section]:
    yield sections.campaigns(answers.campaigns(asked))
    yield sections.templates(answers.templates(asked))


def _audience(asked: Asked) -> Iterator[Section]:
    yield sections.subscriptions(answers.subscriptions(asked, _interval(asked)))
    yield sections.active_users(answers.active_users(asked))


def _waiting(asked: Asked) -> Iterator[Section]:
    yield sections.waiting(answers.distribution(asked, "receipt"), _("Time to receipt"))
    yield sections.waiting(answers.distribution(asked, "open"), _("Time to open"))
    yield sections.sdk(answers.sdk(asked))


def _costs(asked: Asked) -> Iterator[Section]:
    interval = _interval(asked)
    yield sections.costs(answers.costs(asked, "day" if interval == "hour" else interval))


class Tab(NamedTuple):
    """Sections that are shown together: a page asks for no more than it shows."""

    title: Any
    sections: Callable[[Asked], Iterator[Section]]
    question: str = ""
    """What the plan must include (`asking.may_ask`); empty: nothing."""
    scope: str = READ


TABS = {
    "overview": Tab(gettext_lazy("Overview"), _overview),
    "devices": Tab(gettext_lazy("Devices and hours"), _devices, "breakdown"),
    "campaigns": Tab(gettext_lazy("Campaigns and templates"), _campaigns, "breakdown"),
    "audience": Tab(gettext_lazy("Audience"), _audience, "breakdown"),
    "waiting": Tab(gettext_lazy("Time to receipt and open"), _waiting, "distributions"),
    "costs": Tab(gettext_lazy("Cost"), _costs, scope="billing:read"),
}


def _offered(request: HttpRequest, application: Application) -> dict[str, Tab]:
    """The tabs that the operator's role and the application's plan include."""
    grants = grants_of(request)
    return {
        name: tab
        for name, tab in TABS.items()
        if grants.has(tab.scope, application.pk) and (not tab.question or may_ask(application, tab.question))
    }
