"""The statistics' routes: each question with its answer, its filters, its limits, and as a table."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.analytics.models import (
    AudienceDay,
    DeviceHour,
    FillState,
    MessageHour,
    SdkHour,
    SubscriptionHour,
    WaitHour,
)
from apps.billing.models import BillingProfile, LedgerTransaction, Plan, TransactionKind
from apps.campaigns.services import campaign_create
from apps.messaging.services import template_create
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.models import KeyKind
from apps.tenants.services import key_create
from tests.analytics.happenings import fill_up, move
from tests.conftest import ApiClient
from tests.factories import make_messages

WEEK = "from=2020-11-09&to=2020-11-15"


def at(text: str) -> datetime:
    """A moment by the clocks of Seoul."""
    return datetime.fromisoformat(f"{text}+09:00").astimezone(UTC)


def asked(client, question: str, **headers):
    answer = client.get(f"statistics/{question}", **headers)
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]


def refused(client, question: str) -> tuple[int, str, str]:
    """Status, code, and the field that is named."""
    answer = client.get(f"statistics/{question}")
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["details"][0]["field"] if error["details"] else ""


def hour(application, moment: str, **fields):
    return MessageHour.objects.create(application=application, hour=at(moment), **{"channel_type": "push"} | fields)


@pytest.fixture
def campaign(application):
    return campaign_create(application=application, name="=Spring", title="t", targeting_criteria={})


@pytest.fixture
def template(application):
    return template_create(application=application, created_by="x", name="Welcome", body_template="b")


@pytest.fixture
def figures(application, other_application, campaign, template):
    """A week with the one before it, and another application's."""
    hour(application, "2020-11-09T10:00", sent=600, received=300, converted=60, campaign_id=campaign.pk)
    hour(application, "2020-11-10T10:00", sent=300, received=100, template_id=template.pk, channel_type="email")
    hour(application, "2020-11-10T11:00", failed=80, reason="Unregistered")
    hour(application, "2020-11-10T11:00", failed=20, reason=TIMED_OUT)
    hour(application, "2020-11-15T23:00", sent=100, retried=5)
    hour(application, "2020-11-15T23:00", errored=7, reason="TooManyRequests")
    hour(application, "2020-11-02T10:00", sent=500, received=200)
    hour(application, "2020-11-16T00:00", sent=9_999)
    hour(other_application, "2020-11-10T10:00", sent=77_777, received=1)
    FillState.objects.update_or_create(name="messages", defaults={"caught_up_at": timezone.now()})


# --- Messages --------------------------------------------------------------------------------------------------------


def test_an_overview_has_totals_rates_reasons_and_the_period_before(server, figures):
    data = asked(server, f"overview?{WEEK}")
    assert data["period"] == {
        "from": "2020-11-09T00:00:00+09:00",
        "to": "2020-11-16T00:00:00+09:00",
        "time_zone": "Asia/Seoul",
    }
    assert data["as_of"]
    messages = data["messages"]
    assert {name: messages[name] for name in ("sent", "failed", "received", "converted", "timed_out")} == {
        "sent": 1_000,
        "failed": 100,
        "received": 400,
        "converted": 60,
        "timed_out": 20,
    }
    assert messages["rates"] == {
        "success": 0.9259,
        "failure": 0.0741,
        "receipt": 0.4,
        "open": 0.15,
        "conversion": 0.06,
    }
    assert (data["before"]["sent"], data["before"]["period"]["from"]) == (500, "2020-11-02T00:00:00+09:00")
    assert data["change"]["sent"] == 1.0
    assert data["change"]["failed"] is None
    assert [(row["reason"], row["messages"], row["share"]) for row in data["failures"]] == [
        ("Unregistered", 80, 0.8),
        (TIMED_OUT, 20, 0.2),
    ]
    assert [row["reason"] for row in data["put_off"]] == ["TooManyRequests"]


def test_an_overview_can_be_of_a_channel_a_campaign_or_a_template(server, figures, campaign, template):
    assert asked(server, f"overview?{WEEK}&channel=email")["messages"]["sent"] == 300
    assert asked(server, f"overview?{WEEK}&campaign_id={campaign.pk}")["messages"]["sent"] == 600
    assert asked(server, f"overview?{WEEK}&template_id={template.pk}")["messages"]["sent"] == 300
    assert asked(server, f"overview?{WEEK}&campaign_id={uuid4()}")["messages"]["sent"] == 0


def test_a_series_has_a_point_for_each_hour_day_or_week_of_the_time_zone(server, figures):
    days = asked(server, f"series?{WEEK}")["items"]
    assert [(p["begins"], p["sent"]) for p in days[:2]] == [
        ("2020-11-09T00:00:00+09:00", 600),
        ("2020-11-10T00:00:00+09:00", 300),
    ]
    assert len(days) == 7
    hours = asked(server, "series?interval=hour&from=2020-11-09&to=2020-11-09")["items"]
    assert len(hours) == 24
    assert hours[10]["sent"] == 600
    weeks = asked(server, "series?interval=week&from=2020-11-01&to=2020-11-15")["items"]
    assert [(p["begins"][:10], p["sent"]) for p in weeks] == [
        ("2020-11-01", 0),
        ("2020-11-02", 500),
        ("2020-11-09", 1_000),
    ]
    utc = asked(server, f"series?{WEEK}&time_zone=UTC")["items"]
    assert utc[0]["begins"] == "2020-11-09T00:00:00+00:00"


def test_a_period_may_be_instants_and_is_the_last_thirty_days_unless_told(server, figures):
    data = asked(server, "overview?from=2020-11-09T10:00:00%2B09:00&to=2020-11-10T10:00:00%2B09:00")
    assert data["messages"]["sent"] == 600
    days = asked(server, "series")["items"]
    assert len(days) == 30
    assert days[-1]["begins"][:10] == (timezone.now() + timedelta(hours=9)).date().isoformat()
    assert len(asked(server, "series?to=2020-11-15")["items"]) == 30


def test_messages_are_told_apart_by_channel_and_hour_of_the_day(server, figures, template):
    channels = {item["key"]: item["sent"] for item in asked(server, f"breakdown?by=channel&{WEEK}")["items"]}
    assert channels == {"push": 700, "email": 300}
    [email] = asked(server, f"breakdown?by=channel&{WEEK}&template_id={template.pk}")["items"]
    assert (email["key"], email["sent"]) == ("email", 300)
    hours = asked(server, f"breakdown?by=hour_of_day&{WEEK}")["items"]
    assert [item["key"] for item in hours] == [str(n) for n in range(24)]
    assert (hours[10]["sent"], hours[23]["sent"]) == (900, 100)


@pytest.mark.parametrize("by", ["country", "device_model", "os", "app_version"])
def test_messages_are_told_apart_by_attributes_of_devices(server, application, other_application, by):
    common = {"dimension": by, "hour": at("2020-11-10T10:00"), "channel_type": "push"}
    DeviceHour.objects.create(application=application, value="A", sent=10, received=4, **common)
    DeviceHour.objects.create(application=application, value="", sent=30, **common)
    DeviceHour.objects.create(application=other_application, value="B", sent=99, **common)
    items = asked(server, f"breakdown?by={by}&{WEEK}")["items"]
    assert [(item["key"], item["sent"], item["rates"]["receipt"]) for item in items] == [("", 30, 0.0), ("A", 10, 0.4)]


@pytest.mark.parametrize("wait", ["receipt", "open"])
def test_waiting_times_have_percentiles_and_a_histogram(server, application, wait):
    common = {"application": application, "wait": wait, "hour": at("2020-11-10T10:00"), "channel_type": "push"}
    for bucket, messages in ((0, 50), (4, 40), (21, 10)):
        WaitHour.objects.create(bucket=bucket, messages=messages, **common)
    data = asked(server, f"distribution?wait={wait}&{WEEK}")
    assert (data["unit"], data["messages"]) == ("s", 100)
    assert data["percentiles"]["p50"] == 1.0
    assert 10 < data["percentiles"]["p75"] <= 20
    assert data["percentiles"]["p99"] == 604_800
    assert data["items"][0] == {"at_least": 0.0, "below": 1, "messages": 50, "share": 0.5}
    assert data["items"][-1]["below"] is None


def test_campaigns_and_templates_stand_beside_each_other(server, stranger, figures, campaign, template):
    items = asked(server, f"campaigns?{WEEK}")["items"]
    assert [(item["id"], item["name"], item["sent"]) for item in items] == [
        (str(campaign.pk), "=Spring", 600),
        (None, items[1]["name"], 400),
    ]
    [item] = asked(server, f"campaigns?{WEEK}&ids={campaign.pk}")["items"]
    assert item["rates"]["open"] == 0.2
    [item] = asked(server, f"templates?{WEEK}&ids={template.pk},{uuid4()}")["items"]
    assert (item["name"], item["sent"]) == ("Welcome", 300)
    assert asked(stranger, f"campaigns?{WEEK}&ids={campaign.pk}")["items"] == []


@pytest.mark.django_db(transaction=True)
def test_what_happens_to_messages_is_in_the_figures_after_the_next_fill(server, application):
    campaign = campaign_create(application=application, name="Real", title="t", targeting_criteria={})
    messages = make_messages(application, ["pending"] * 5, campaign_id=campaign.pk)
    move("send", "pending", messages[:4])
    move("fail", "pending", messages[4:], reason="Unregistered")
    move("receive", "successful", messages[:2])
    move("convert", "received", messages[:1])
    fill_up()
    data = asked(server, f"overview?campaign_id={campaign.pk}")
    told = data["messages"]
    assert [told[name] for name in ("sent", "failed", "received", "converted")] == [4, 1, 2, 1]
    assert [row["reason"] for row in data["failures"]] == ["Unregistered"]
    [item] = asked(server, "campaigns")["items"]
    assert (item["name"], item["sent"]) == ("Real", 4)
    assert asked(server, "distribution")["messages"] == 2
    assert asked(server, "breakdown?by=os")["items"][0]["sent"] == 4


# --- Others ----------------------------------------------------------------------------------------------------------


def test_subscriptions_gained_and_lost_have_their_reasons(server, application):
    def row(moment: str, **fields):
        common = {"application": application, "hour": at(moment), "subscription_type": "iOSPush"}
        SubscriptionHour.objects.create(**common, **{"source": "device", "status": 1} | fields)

    row("2020-11-10T10:00", gained=10, registered=8)
    row("2020-11-11T10:00", lost=3, status=-2)
    row("2020-11-11T11:00", lost=4, status=-13, source="provider")
    row("2020-11-03T10:00", gained=5)
    data = asked(server, f"subscriptions?{WEEK}")
    assert data["totals"] == {"registered": 8, "gained": 10, "lost": 7, "net": 3}
    assert data["before"]["gained"] == 5
    assert [(r["status"], r["source"], r["subscriptions"]) for r in data["lost_by_reason"]] == [
        (-13, "provider", 4),
        (-2, "device", 3),
    ]
    assert [(p["gained"], p["lost"]) for p in data["items"]][:3] == [(0, 0), (10, 0), (0, 7)]
    weeks = asked(server, "subscriptions?interval=week&from=2020-11-02&to=2020-11-15")["items"]
    assert [(p["gained"], p["lost"]) for p in weeks] == [(5, 0), (10, 7)]
    assert asked(server, f"subscriptions?{WEEK}&type=AndroidPush")["totals"]["gained"] == 0


def test_active_users_are_those_of_each_day(server, application):
    AudienceDay.objects.create(application=application, day=date(2020, 11, 10), total=50, active_1d=5, active_30d=20)
    AudienceDay.objects.create(
        application=application, day=date(2020, 11, 10), subscription_type="iOSPush", total=40, reachable=30
    )
    [day] = asked(server, f"active-users?{WEEK}")["items"]
    assert (day["day"], day["users"]["total"], day["users"]["active_30d"]) == ("2020-11-10", 50, 20)
    assert day["subscriptions"]["iOSPush"]["reachable"] == 30


def test_costs_are_exact_and_of_the_ledger(server, stranger, application):
    LedgerTransaction.objects.create(
        application=application,
        kind=TransactionKind.USAGE,
        channel_type="push",
        quantity=3,
        unit_price=Decimal("0.100001"),
        posted_at=at("2020-11-10T10:00"),
    )
    data = asked(server, f"costs?{WEEK}")
    assert data["channels"] == [{"channel_type": "push", "messages": 3, "amount": "0.300003", "currency": "KRW"}]
    assert [item["amount"] for item in data["items"] if item["messages"]] == ["0.300003"]
    assert asked(stranger, f"costs?{WEEK}")["channels"] == []


def test_money_needs_the_scope_of_money(application):
    key = key_create(application=application, name="k", kind=KeyKind.SECRET, scopes=["analytics:read"])
    client = ApiClient(key.plaintext)
    assert client.get("statistics/costs").status_code == 403
    assert client.get("statistics/overview").status_code == 200


def test_sdks_report_of_themselves(server, application):
    common = {
        "application": application,
        "hour": at("2020-11-10T10:00"),
        "platform": "ios",
        "sdk_version": "1.2.0",
    }
    for figure, label, count in (
        ("initialised", "2", 10),
        ("registration_ok", "", 9),
        ("registration_failed", "", 1),
        ("client_error", "timeout", 4),
    ):
        SdkHour.objects.create(figure=figure, label=label, count=count, **common)
    data = asked(server, f"sdk?{WEEK}")
    assert data["initialisations"]["messages"] == 10
    assert data["registrations"] == {"ok": 9, "failed": 1, "rate": 0.9}
    assert data["identifications"]["rate"] is None
    assert data["client_errors"] == [{"label": "timeout", "count": 4}]
    assert data["items"][0]["sdk_version"] == "1.2.0"
    assert asked(server, f"sdk?{WEEK}&platform=android")["items"] == []


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ("overview?from=yesterday", "from"),
        ("overview?from=2020-02-30", "from"),
        ("overview?from=9999-12-31&to=9999-12-31", "to"),
        ("overview?to=0001-01-05", "to"),
        ("overview?from=2020-11-02&to=2020-11-01", "to"),
        ("overview?from=2019-01-01&to=2020-11-01", "from"),
        ("overview?time_zone=Mars/Olympus", "time_zone"),
        ("overview?time_zone=../../etc/passwd", "time_zone"),
        ("overview?channel=pigeon", "channel"),
        ("overview?campaign_id=1", "campaign_id"),
        ("overview?form=2020-11-01", "form"),
        ("series?interval=minute", "interval"),
        ("series?interval=hour&from=2020-10-01&to=2020-11-01", "interval"),
        ("breakdown?by=tag", "by"),
        ("breakdown?by=country&campaign_id=0196f3d2-0000-7000-8000-000000000000", "campaign_id"),
        ("distribution?wait=ever", "wait"),
        ("distribution?template_id=0196f3d2-0000-7000-8000-000000000000", "template_id"),
        ("campaigns?ids=1,2", "ids"),
        ("campaigns?ids=" + ",".join(["0196f3d2-0000-7000-8000-000000000000"] * 51), "ids"),
        ("subscriptions?type=Pigeon", "type"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_the_name_of_its_parameter(server, question, field):
    assert refused(server, question) == (400, "VALIDATION_ERROR", field)


def test_a_plan_of_basic_analytics_answers_the_overview_and_days(server, application, figures):
    BillingProfile.objects.update_or_create(application=application, defaults={"plan": Plan.objects.get(code="free")})
    for question in ("overview", "series", "series?interval=week", "breakdown?by=channel", "costs"):
        assert server.get(f"statistics/{question}").status_code == 200, question
    for question in (
        *("series?interval=hour&from=2020-11-09&to=2020-11-09", f"overview?campaign_id={uuid4()}", "campaigns"),
        *("breakdown?by=country", "distribution", "subscriptions", "active-users", "templates", "sdk"),
    ):
        answer = server.get(f"statistics/{question}")
        assert answer.status_code == 403, question
        assert answer.json()["error"]["code"] == "PLAN_FEATURE"
        assert answer.json()["error"]["limits"]["limit"] == "basic"


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_csv_that_no_spreadsheet_runs(server, figures, campaign):
    answer = server.get(f"statistics/campaigns?{WEEK}&format=csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="campaigns.csv"'
    rows = list(csv.DictReader(StringIO(answer.content.decode())))
    assert rows[0]["id"] == str(campaign.pk)
    assert (rows[0]["name"], rows[0]["sent"], rows[0]["open_rate"]) == ("'=Spring", "600", "0.2")
    days = server.get(f"statistics/series?{WEEK}", accept="text/csv")
    assert len(days.content.decode().splitlines()) == 8


def test_a_refusal_of_a_table_is_json(server):
    answer = server.get("statistics/campaigns?format=csv&from=never")
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/json")
    assert answer.json()["error"]["details"][0]["field"] == "from"


def test_every_table_can_be_had(server, figures):
    for question in (
        *("series?", "breakdown?by=channel&", "distribution?", "campaigns?", "templates?", "subscriptions?"),
        *("active-users?", "costs?", "sdk?"),
    ):
        answer = server.get(f"statistics/{question}{WEEK}&format=csv")
        assert answer.status_code == 200, question
        assert answer["Content-Type"].startswith("text/csv")


# --- Kept for a while ------------------------------------------------------------------------------------------------


def test_an_answer_is_kept_and_belongs_to_one_application(server, stranger, application, settings, figures):
    settings.CACHE_TTL_S = {**settings.CACHE_TTL_S, "closed_statistics": 60, "statistics": 60}
    first = asked(server, f"overview?{WEEK}")
    MessageHour.objects.filter(application=application).update(sent=1)
    assert asked(server, f"overview?{WEEK}") == first
    assert asked(server, f"overview?{WEEK}&channel=push")["messages"]["sent"] != first["messages"]["sent"]
    assert asked(stranger, f"overview?{WEEK}")["messages"]["sent"] == 77_777
