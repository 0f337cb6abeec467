"""The console's first page: what each role sees of its applications, and no more queries for more rows."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.analytics.models.rollups import MessageHour
from apps.billing.models import MessageQuota
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.messaging.next_steps import OWN, UNKNOWN, next_step
from apps.messaging.sweeps import TIMED_OUT
from apps.tenants.console import home
from apps.tenants.models import Application, BreakerCause, ChannelCredential, Operator, Role
from apps.tenants.operations import switches
from apps.tenants.services import membership_set
from tests.admin.conftest import PASSWORD, make_world, signed_in
from tests.admin.pages import text_of

HOME = "/admin/"
QUERIES_MAX = 20
SECTIONS = {
    "today": "analytics:read",
    "channels": "analytics:read",
    "days": "analytics:read",
    "failures": "analytics:read",
    "campaigns": "campaigns:read",
    "queue": "messages:read",
    "providers": "settings:read",
    "quota": "billing:read",
}


@pytest.fixture(autouse=True)
def switches_forgotten():
    switches.forget()
    yield
    switches.forget()


def add_figures(application, *, hours_ago=0, channel="push", reason="", **counts):
    hour = (timezone.now() - timedelta(hours=hours_ago)).replace(minute=0, second=0, microsecond=0)
    return MessageHour.objects.create(
        application=application, hour=hour, channel_type=channel, reason=reason, campaign_id=uuid4(), **counts
    )


def sections_of(answer) -> set[str]:
    return {entry["section"].name for entry in answer.context["sections"]}


@pytest.mark.parametrize("role", ["owner", "manager", "marketer", "analyst", "support"])
def test_each_role_sees_the_sections_of_its_scopes(world, member, role):
    from apps.tenants.scopes import ROLE_SCOPES

    client = member(role)
    answer = client.get(HOME)
    assert answer.status_code == 200
    expected = {name for name, scope in SECTIONS.items() if scope in ROLE_SCOPES[role]}
    assert sections_of(answer) == expected
    for name in SECTIONS:
        alone = client.get(f"{HOME}home/{name}/", {"application": str(world.application.pk)})
        assert alone.status_code == (200 if name in expected else 403), name


def test_another_applications_home_is_one_that_does_not_exist(world, other, member):
    owner = member("owner")
    theirs = {"application": str(other.application.pk)}
    assert owner.get(HOME, theirs).status_code == 404
    assert owner.get(f"{HOME}home/today/", theirs).status_code == 404
    assert owner.get(HOME, {"application": "nonsense"}).status_code == 404
    shown = text_of(owner.get(HOME))
    assert not any(mark in shown for mark in [*other.marks, other.application.name])
    assert owner.get(f"{HOME}home/nothing/").status_code == 404


def test_figures_of_today_are_beside_last_weeks_and_lead_to_their_rows(world, member):
    application = world.application
    add_figures(application, sent=1_200, received=900, converted=90)
    add_figures(application, sent=0, failed=300, reason="BadDeviceToken")
    add_figures(application, hours_ago=7 * 24, sent=2_000, received=1_000, converted=50)
    answer = member("owner").get(HOME)
    cards = {str(card["label"]): card for card in answer.context["sections"][0]["shown"].context["cards"]}
    assert cards["Sent"]["value"] == "1,200"
    assert cards["Delivered"]["value"] == "75.0 %"
    assert cards["Failed"]["value"] == "20.0 %"
    assert cards["Failed"]["address"].startswith("/admin/messaging/message/?application=")
    shown = text_of(answer)
    assert "reason=BadDeviceToken" in shown
    assert "/admin/tenants/channelcredential/" in shown


def test_what_few_messages_or_those_of_yesterday_would_say_is_not_said(world, member):
    add_figures(world.application, sent=2, received=96)
    add_figures(world.application, hours_ago=7 * 24, sent=6, received=90)
    answer = member("owner").get(HOME)
    cards = {str(card["label"]): card for card in answer.context["sections"][0]["shown"].context["cards"]}
    assert cards["Delivered"]["value"] == "–"
    assert cards["Delivered"]["note"] == "96 messages"
    assert "change" not in cards["Sent"] | cards["Delivered"]


def test_who_had_no_receipt_in_time_was_sent_to_and_is_counted_once(world, member):
    add_figures(world.application, sent=100)
    add_figures(world.application, failed=10, reason="BadDeviceToken")
    add_figures(world.application, failed=20, reason=TIMED_OUT)
    shown = {entry["section"].name: entry["shown"].context for entry in member("owner").get(HOME).context["sections"]}
    cards = {str(card["label"]): card for card in shown["today"]["cards"]}
    assert cards["Failed"]["value"] == "9.1 %"  # 10 of 110 that were decided about
    (push,) = [entry for entry in shown["channels"]["entries"] if str(entry["label"]) == "Push"]
    values = [value for _label, _colour, value in push["parts"]]
    assert values[:4] == [0, 0, 80, 30]


def test_what_runs_is_shown_however_much_is_scheduled_and_the_next_of_that_first(world, member):
    application, now = world.application, timezone.now()
    MessageCampaign.objects.for_application(application).delete()
    common = {"application": application, "channel_type": "push"}
    MessageCampaign.objects.create(**common, name="Runs", status=CampaignStatus.RUNNING, sent_at=now)
    MessageCampaign.objects.create(
        **common, name="Next", status=CampaignStatus.SCHEDULED, scheduled_at=now + timedelta(hours=1)
    )
    for n in range(30):
        at = now + timedelta(days=n + 1)
        MessageCampaign.objects.create(**common, name=f"Later {n}", status=CampaignStatus.SCHEDULED, scheduled_at=at)
    shown = {entry["section"].name: entry["shown"].context for entry in member("owner").get(HOME).context["sections"]}
    assert [entry["name"] for entry in shown["campaigns"]["entries"]][:3] == ["Runs", "Next", "Later 0"]


def test_a_reason_leads_only_to_pages_that_the_role_may_see(world, member):
    add_figures(world.application, failed=5, reason="BadDeviceToken")
    rows = [
        entry["shown"].context["rows"]
        for entry in member("analyst").get(HOME).context["sections"]
        if entry["section"].name == "failures"
    ]
    assert rows[0][0]["page"] == ""  # credentials are an owner's and a manager's


def test_queries_are_few_and_the_same_for_more_rows(world, member):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert owner.get(HOME).status_code == 200
        scanned = [q["sql"] for q in queries if 'FROM "messaging_message"' in q["sql"] and "LIMIT" not in q["sql"]]
        assert not scanned
        return len(queries)

    owner = member("owner")
    owner.get(HOME)  # makes the profile, and what is read once per process
    few = count()
    assert few <= QUERIES_MAX
    for n in range(30):
        add_figures(world.application, hours_ago=n, sent=10, failed=n, reason=f"reason {n}")
    campaign = MessageCampaign.objects.get(pk=world["campaigns.MessageCampaign"].pk)
    for n in range(20):
        MessageCampaign.objects.create(
            application=world.application,
            name=f"More {n}",
            channel_type=campaign.channel_type,
            status=CampaignStatus.SCHEDULED,
            scheduled_at=timezone.now(),
        )
    assert count() == few


def test_only_what_goes_on_asks_again(world, member):
    MessageCampaign.objects.update(status=CampaignStatus.COMPLETED)
    owner = member("owner")
    entries = {entry["section"].name: entry for entry in owner.get(HOME).context["sections"]}
    assert not entries["campaigns"]["shown"].is_live
    MessageCampaign.objects.update(status=CampaignStatus.RUNNING)
    entries = {entry["section"].name: entry for entry in owner.get(HOME).context["sections"]}
    assert entries["campaigns"]["shown"].is_live
    alone = owner.get(entries["campaigns"]["address"])
    assert 'hx-trigger="every 5s"' in text_of(alone)


def test_quotas_stand_as_bars_and_the_full_ones_are_told(world, member):
    MessageQuota.objects.filter(application=world.application, channel_type="push").update(
        daily_quota=1_000, daily_used=1_000, reset_date=timezone.now() + timedelta(hours=1)
    )
    shown = text_of(member("owner").get(HOME))
    assert "1,000 of 1,000" in shown
    assert "as-bar-bad" in shown


def test_a_new_application_is_shown_how_to_begin_until_it_is_under_way(other_application, db):
    owner = Operator.objects.create_user("new-owner@example.com", PASSWORD)
    membership_set(operator=owner, application=other_application, role=Role.OWNER)
    answer = signed_in(owner).get(HOME)
    steps = [(str(entry["step"].title), entry["is_done"]) for entry in answer.context["started"]]
    assert [done for _title, done in steps] == [False] * 5
    MessageCampaign.objects.create(
        application=other_application, name="First", channel_type="push", sent_at=timezone.now()
    )
    assert signed_in(owner).get(HOME).context["started"] == []


def test_the_platform_sees_all_applications_with_most_trouble_first(world, root, other_application):
    add_figures(other_application, sent=100, received=90)
    add_figures(world.application, sent=100, failed=900, reason="Unregistered")
    ChannelCredential.objects.filter(application=world.application, provider="apns").update(
        breaker_opened_at=timezone.now(), breaker_cause=BreakerCause.OUTAGE
    )
    root.get(HOME)  # the first request of a session is written down
    with CaptureQueriesContext(connection) as queries:
        answer = root.get(HOME)
    assert len(queries) <= QUERIES_MAX
    rows = answer.context["platform"]["rows"]
    assert rows[0]["application"].pk == world.application.pk
    assert rows[0]["trouble"] > rows[1]["trouble"]
    for n in range(5):
        Application.objects.create(name=f"More {n}")
    with CaptureQueriesContext(connection) as more:
        root.get(HOME)
    assert len(more) == len(queries)


def test_a_superuser_goes_into_an_application_and_back(world, root):
    inside = root.get(HOME, {"application": str(world.application.pk)})
    assert inside.context["application"].pk == world.application.pk
    assert root.get(HOME).context["application"].pk == world.application.pk  # it is remembered
    assert root.get(HOME, {"application": home.ALL}).context["application"] is None
    assert root.get(HOME).context["application"] is None


def test_who_is_a_member_of_nothing_sees_only_that(db, world):
    nobody = Operator.objects.create_user("nobody@example.com", PASSWORD)
    answer = signed_in(nobody).get(HOME)
    assert answer.status_code == 200
    assert "sections" not in answer.context
    assert world.application.name not in text_of(answer)


def test_the_switch_of_applications_offers_only_ones_own(world, other, member):
    owner = member("owner")
    assert owner.get(HOME).context["site_dropdown"] == []
    operator = Operator.objects.get(pk=owner.session["_auth_user_id"])
    membership_set(operator=operator, application=other.application, role=Role.ANALYST)
    titles = [item.title for item in owner.get(HOME).context["site_dropdown"]]
    assert titles == ["Shop", "Stranger"]


def test_everybody_is_told_what_is_stopped(world, member, root):
    owner = member("owner")
    assert not owner.get(HOME).context["notices"]
    switches.switch_set(name="sending", is_on=False, reason="secret of the platform")
    switches.forget()
    answer = owner.get(HOME)
    assert [notice.tone for notice in answer.context["notices"]] == ["bad"]
    assert "secret of the platform" not in text_of(answer)
    assert answer.context["notices"][0].address == ""
    assert root.get(HOME).context["notices"][0].address == "/admin/operations/switches/"


def test_reasons_have_a_next_step(db):
    for reason in (
        "BadDeviceToken",
        "Unregistered",
        "ExpiredProviderToken",
        "quota_exceeded",
        "no_credential",
        "5.1.1",
    ):
        assert next_step(reason) is not UNKNOWN, reason
    assert next_step("render_error: name is missing") is OWN["render_error"]
    assert next_step("something new") is UNKNOWN


def test_a_worlds_home_shows_no_secret(world, member, other_application, provider_keys):
    make_world(other_application, "Corona", provider_keys)
    shown = text_of(member("owner").get(HOME))
    assert not [secret for secret in world.secrets if secret in shown]
