"""Routes of the statistics: each answers one kind of question about a period, with filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.analytics import answers, asking
from apps.analytics.answers import Asked
from apps.analytics.api import parameters, shapes
from apps.analytics.api.rendering import CSV_RESPONSE, TableView
from apps.analytics.models.rollups import DEVICE_DIMENSIONS
from apps.tenants.views import SignalView
from automata_signal.errors import ValidationFailed

READ = "analytics:read"
OWN = ("interval", "by", "wait", "ids", "type", "platform")
"""Parameters that belong to one question."""
F = TypeVar("F", bound=Callable[..., Any])


def described(
    operation: str, query: type[parameters.PeriodQuery], output: Any, *, as_csv: bool = True
) -> Callable[[F], F]:
    """The description of a question: its parameters and its answers."""
    left_out = () if as_csv else ("format",)
    decorate: Callable[[F], F] = extend_schema(
        operation_id=f"statistics_{operation}",
        tags=["statistics"],
        parameters=[one for one in parameters.described(query) if one.name not in left_out],
        responses={(200, "application/json"): output, **CSV_RESPONSE} if as_csv else output,
    )
    return decorate


class StatisticsView(SignalView):
    """Checks what is asked, and that the plan goes so deep."""

    scopes: ClassVar = {"GET": READ}

    def asked(self, query: type[parameters.PeriodQuery], question: str) -> tuple[Asked, dict[str, Any]]:
        """What is asked about, and the question's own parameters. Raises `ValidationFailed` and `Forbidden`."""
        given = self.query(query)
        own: dict[str, Any] = {name: given.pop(name) for name in OWN if name in given}
        is_by_channel = question == "breakdown" and own["by"] == "channel"
        asking.refuse_deeper(self.application, "channels" if is_by_channel else question)
        if given.keys() & {"campaign_id", "template_id"}:
            asking.refuse_deeper(self.application, "filters")
        if own.get("by") in DEVICE_DIMENSIONS:
            for name in ("campaign_id", "template_id"):
                if name in given:
                    raise ValidationFailed.of(name, "is not known of devices; leave it out, or choose another `by`")
        asked = asking.asked(self.application, **given)
        if own.get("interval") == "hour":
            asking.refuse_deeper(self.application, "hours")
            asking.refuse_too_many_hours(asked, own["interval"])
        return asked, own


class OverviewView(StatisticsView):
    @described("overview", parameters.MessagesQuery, shapes.OverviewOutput, as_csv=False)
    def get(self, request: Request) -> Response:
        """What was sent, received and converted, what failed and why, and how that is against the period before."""
        asked, _own = self.asked(parameters.MessagesQuery, "overview")
        return Response(answers.overview(asked))


class SeriesView(TableView, StatisticsView):
    file_name = "series"

    @described("series", parameters.SeriesQuery, shapes.SeriesOutput)
    def get(self, request: Request) -> Response:
        """The same figures by hour, day or week."""
        asked, own = self.asked(parameters.SeriesQuery, "series")
        return Response(answers.series(asked, own["interval"]))


class BreakdownView(TableView, StatisticsView):
    file_name = "breakdown"

    @described("breakdown", parameters.BreakdownQuery, shapes.BreakdownOutput)
    def get(self, request: Request) -> Response:
        """The same figures by channel, country, device, operating system, version of the app, or hour of the day."""
        asked, own = self.asked(parameters.BreakdownQuery, "breakdown")
        return Response(answers.breakdown(asked, own["by"]))


class DistributionView(TableView, StatisticsView):
    file_name = "distribution"

    @described("distribution", parameters.DistributionQuery, shapes.DistributionOutput)
    def get(self, request: Request) -> Response:
        """How long after sending receipts came, or opens: percentiles and a histogram, in seconds."""
        asked, own = self.asked(parameters.DistributionQuery, "distributions")
        return Response(answers.distribution(asked, own["wait"]))


class CampaignsView(TableView, StatisticsView):
    file_name = "campaigns"

    @described("campaigns", parameters.ComparisonQuery, shapes.ComparisonOutput)
    def get(self, request: Request) -> Response:
        """Campaigns beside each other: those of `ids`, else those that sent most."""
        asked, own = self.asked(parameters.ComparisonQuery, "campaigns")
        return Response(answers.campaigns(asked, own.get("ids")))


class TemplatesView(TableView, StatisticsView):
    file_name = "templates"

    @described("templates", parameters.ComparisonQuery, shapes.ComparisonOutput)
    def get(self, request: Request) -> Response:
        """Templates beside each other: those of `ids`, else those that sent most."""
        asked, own = self.asked(parameters.ComparisonQuery, "templates")
        return Response(answers.templates(asked, own.get("ids")))


class SubscriptionChangesView(TableView, StatisticsView):
    file_name = "subscriptions"

    @described("subscriptions", parameters.SubscriptionsQuery, shapes.SubscriptionChangesOutput)
    def get(self, request: Request) -> Response:
        """Subscriptions gained and lost, by type, reason and source, and by hour, day or week."""
        asked, own = self.asked(parameters.SubscriptionsQuery, "subscriptions")
        return Response(answers.subscriptions(asked, own["interval"], own.get("type", "")))


class ActiveUsersView(TableView, StatisticsView):
    file_name = "active-users"

    @described("active_users", parameters.PeriodQuery, shapes.ActiveUsersOutput)
    def get(self, request: Request) -> Response:
        """Users and subscriptions at the end of each day: all, those who can be reached, those active in 1, 7 and 30
        days."""
        asked, _own = self.asked(parameters.PeriodQuery, "active_users")
        return Response(answers.active_users(asked))


class CostsView(TableView, StatisticsView):
    scopes: ClassVar = {"GET": "billing:read"}
    file_name = "costs"

    @described("costs", parameters.CostsQuery, shapes.CostsOutput)
    def get(self, request: Request) -> Response:
        """What messages cost, by channel and by hour, day or week; and the quotas as they are now."""
        asked, own = self.asked(parameters.CostsQuery, "costs")
        return Response(answers.costs(asked, own["interval"]))


class SdkView(TableView, StatisticsView):
    file_name = "sdk"

    @described("sdk", parameters.SdkQuery, shapes.SdkOutput)
    def get(self, request: Request) -> Response:
        """What SDKs report of themselves: how long initialisation takes, how often registration and identification
        succeed, and errors."""
        asked, own = self.asked(parameters.SdkQuery, "sdk")
        return Response(answers.sdk(asked, own.get("platform", "")))
