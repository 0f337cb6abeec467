"""`docs/statistics.md`, run: each example against a live server, its table against the routes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import httpx
import pytest
from django.utils import timezone

from apps.analytics.api import parameters as asked
from apps.analytics.models import (
    AudienceDay,
    DeviceHour,
    FillState,
    MessageHour,
    SdkHour,
    SubscriptionHour,
    WaitHour,
)
from apps.analytics.urls import urlpatterns
from apps.billing.models import LedgerTransaction, TransactionKind
from apps.campaigns.services import campaign_create
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.models import KeyKind
from apps.tenants.services import key_create
from tests.docs import guide
from tests.docs.guide import Call, Wrong
from tests.docs.markdown import codes, tables, text
from tests.docs.test_api_guide import call

PAGE = text("statistics.md")


def at(moment: str) -> datetime:
    """By the clocks of Seoul."""
    return datetime.fromisoformat(f"{moment}+09:00").astimezone(UTC)


@pytest.fixture
def variables(application, live_server) -> dict[str, str]:
    """What the reader has, and what had happened in the week of the examples."""
    campaign = campaign_create(application=application, name="Spring", title="t", targeting_criteria={})
    one = {"application": application, "hour": at("2020-11-10T10:00")}
    sent = {"sent": 600, "received": 300, "converted": 60}
    for fields in (
        {**sent, "campaign_id": campaign.pk},
        {"sent": 400, "received": 100, "retried": 5},
        {"failed": 80, "reason": "Unregistered"},
        {"failed": 20, "reason": TIMED_OUT},
        {"errored": 7, "reason": "TooManyRequests"},
        {"hour": at("2020-11-03T10:00"), "sent": 500, "received": 200},
    ):
        MessageHour.objects.create(**{**one, "channel_type": "push"} | fields)
    DeviceHour.objects.create(**one, dimension="country", channel_type="push", value="KR", **sent)
    DeviceHour.objects.create(**one, dimension="country", channel_type="push", value="", sent=400)
    WaitHour.objects.create(**one, wait="receipt", channel_type="push", bucket=0, messages=400)
    change = {**one, "subscription_type": "iOSPush", "source": "device"}
    SubscriptionHour.objects.create(**change, status=1, gained=10, registered=8)
    SubscriptionHour.objects.create(**change, status=-2, lost=3)
    AudienceDay.objects.create(
        application=application,
        day=date(2020, 11, 10),
        **{"total": 50, "reachable": 40, "active_1d": 5, "active_7d": 12, "active_30d": 20},
    )
    LedgerTransaction.objects.create(
        application=application,
        kind=TransactionKind.USAGE,
        channel_type="push",
        quantity=900,
        unit_price=Decimal("0.35"),
        posted_at=at("2020-11-10T10:01"),
    )
    for figure, label, count in (
        ("initialised", "2", 10),
        ("registration_ok", "", 9),
        ("registration_failed", "", 1),
        ("client_error", "network_timeout", 4),
    ):
        SdkHour.objects.create(**one, platform="ios", sdk_version="1.4.0", figure=figure, label=label, count=count)
    FillState.objects.update_or_create(name="messages", defaults={"caught_up_at": timezone.now()})
    return {
        "API": f"{live_server.url}/api/v1",
        "SECRET_KEY": key_create(application=application, name="server", kind=KeyKind.SECRET).plaintext,
        "CAMPAIGN_ID": str(campaign.pk),
    }


@pytest.mark.django_db(transaction=True)
def test_every_example_answers_as_shown(variables):
    wrong = []
    with httpx.Client(timeout=30) as client:
        for step in guide.read(PAGE):
            assert isinstance(step, Call)
            try:
                call(step, variables, client)
            except Wrong as problem:
                wrong.append(str(problem).replace("api.md", "statistics.md"))
    assert not wrong, "\n\n".join(wrong)


def test_the_tables_have_every_route_and_parameter():
    routes, parameters = tables(PAGE, "Questions")
    known = {str(one.pattern) for one in urlpatterns if str(one.pattern).startswith("statistics/")}
    assert {codes(row["Route"])[0] for row in routes} == known
    queries = [kind for kind in vars(asked).values() if isinstance(kind, type) and issubclass(kind, asked.PeriodQuery)]
    assert {name for row in parameters for name in codes(row["Parameter"])} == {
        name for query in queries for name in query().fields
    }
