"""The console's pages of statistics and reports: what they show, to whom, and what their buttons do."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from unittest.mock import patch

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.analytics.models import DeviceHour, FillState, MessageHour, ReportRun, ReportSchedule, WaitHour
from apps.analytics.pages import TABS
from apps.analytics.reports import services
from apps.billing.models import BillingProfile, Plan
from apps.billing.services.quota import billing_of
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import campaign_create
from apps.messaging.services import template_create
from apps.tenants.access import rate_counters
from apps.tenants.models import Application, Operator, Role
from apps.tenants.scopes import ROLE_SCOPES
from apps.tenants.services import membership_set

PAGE = "/admin/statistics/"


@pytest.fixture
def clean_redis():
    """Rates start at nothing, and nothing that was queued stays behind."""
    rate_counters()._redis.flushdb()
    yield
    rate_counters()._redis.flushdb()


def signed_in(application: Application, role: str) -> Client:
    operator = Operator.objects.create_user(f"{role}-{application.pk.hex[-6:]}@example.com", "a long enough one")
    membership_set(operator=operator, application=application, role=role)
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def analyst(application) -> Client:
    return signed_in(application, Role.ANALYST)


@pytest.fixture
def marketer(application) -> Client:
    return signed_in(application, Role.MARKETER)


@pytest.fixture
def figures(application):
    """Today's."""
    campaign = campaign_create(application=application, name="Spring <sale>", title="t", targeting_criteria={})
    template = template_create(application=application, created_by="x", name="Welcome", body_template="b")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    common = {"application": application, "hour": hour, "channel_type": "push"}
    MessageHour.objects.create(**common, sent=123_456, received=60_000, converted=6_000, campaign_id=campaign.pk)
    MessageHour.objects.create(**common, failed=789, reason="Unregistered")
    MessageHour.objects.create(**common, sent=1_000, template_id=template.pk)
    MessageHour.objects.create(**common | {"hour": hour - timedelta(days=30)}, sent=100_000)
    DeviceHour.objects.create(**common, dimension="country", value="KR", sent=50_000, received=20_000)
    DeviceHour.objects.create(**common, dimension="country", value="<script>", sent=5)
    WaitHour.objects.create(**common, wait="receipt", bucket=3, messages=50)
    FillState.objects.update_or_create(name="messages", defaults={"caught_up_at": timezone.now()})
    return campaign, template


def shown(client: Client, **query) -> str:
    """What all tabs that are offered show, one after the other."""
    answer = client.get(PAGE, query)
    assert answer.status_code == 200
    tabs = [entry["address"] for entry in answer.context.get("tabs", ()) if not entry["is_chosen"]]
    answers = [answer, *(client.get(PAGE + address) for address in tabs)]
    assert {answer.status_code for answer in answers} == {200}
    return "".join(answer.content.decode() for answer in answers)


def test_the_page_shows_the_figures_of_the_last_thirty_days_against_those_before(analyst, figures):
    page = shown(analyst)
    assert "124,456" in page
    assert "+24.5 %" in page
    assert "60,000" in page
    for name in ("Spring &lt;sale&gt;", "Welcome", "Unregistered", "KR", "&lt;script&gt;"):
        assert name in page
    assert "<script>alert" not in page
    assert "Spring <sale>" not in page


def test_charts_are_svg_with_their_numbers_as_a_table_and_need_no_script(analyst, figures):
    page = shown(analyst)
    charts = re.findall(r"<svg viewBox.*?</svg>", page, re.DOTALL)
    assert len(charts) >= 4
    for chart in charts:
        assert re.search(r'role="img" aria-label="[^"]+"', chart)
        assert "<title>" in chart
        assert not re.search(r"<script|\son\w+=|href=", chart)
    numbers = '<details class="mt-3">'
    assert page.count(numbers) == len(charts)
    first = page[page.index('id="content"') :]
    assert "<script" not in first[: first.index(numbers)]


def test_a_failure_reason_leads_to_its_messages(analyst, figures, application):
    [address] = re.findall(r'href="([^"]+reason=Unregistered)"', shown(analyst))
    answer = analyst.get(unescape(address))
    assert answer.status_code == 200
    assert answer.context["cl"].result_count == 0  # the rollup is all there is of them


def test_the_links_lead_to_the_campaign_and_the_template(marketer, figures):
    page = shown(marketer)
    for row in figures:
        assert reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]) in page


def test_a_period_and_a_channel_can_be_chosen(analyst, figures, application):
    assert "124,456" in shown(analyst, period="today")
    assert "124,456" not in shown(analyst, period="7d", channel="email")
    before = (timezone.now() - timedelta(days=40)).date().isoformat()
    page = shown(analyst, application=str(application.pk), period="", since=before, until=before)
    assert "124,456" not in page
    assert "Nothing yet." in page


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2020-13-01", "period": ""},
        {"since": "2020-01-02", "until": "2020-01-01", "period": ""},
        {"since": "2000-01-01", "until": "2020-01-01", "period": ""},
        {"channel": "pigeon"},
        {"period": "for ever"},
        {"since": "\0", "period": ""},
    ],
)
def test_what_cannot_be_shown_is_said_on_the_form(analyst, query):
    page = shown(analyst, **query)
    assert "text-red-600" in page or "errornote" in page or "bg-red" in page


def test_a_stranger_sees_nothing(other_application, figures, application):
    stranger = signed_in(other_application, Role.OWNER)
    assert stranger.get(PAGE, {"application": str(application.pk)}).status_code == 404
    assert stranger.get(PAGE, {"application": "x"}).status_code == 404
    page = shown(stranger)
    assert "Shop" not in page
    assert "124,456" not in page


def test_only_roles_that_read_statistics_see_the_page(application, figures):
    assert Client().get(PAGE).status_code == 302
    support = signed_in(application, Role.SUPPORT)
    assert support.get(PAGE).status_code == 403
    assert PAGE not in support.get("/admin/").content.decode()
    for role in (Role.OWNER, Role.MANAGER, Role.MARKETER):
        client = signed_in(application, role)
        assert client.get(PAGE).status_code == 200
        assert PAGE in client.get("/admin/").content.decode()


def test_a_plan_of_basic_analytics_shows_less_and_says_so(analyst, figures, application):
    BillingProfile.objects.update_or_create(application=application, defaults={"plan": Plan.objects.get(code="free")})
    page = shown(analyst)
    assert "124,456" in page
    assert "Spring" not in page
    assert "By country" not in page
    assert "Not in the application's plan" in page


@pytest.mark.parametrize("tab", list(TABS))
def test_each_tab_takes_few_statements(application, figures, django_assert_max_num_queries, tab):
    owner = signed_in(application, Role.OWNER)
    billing_of(application)
    shown(owner)
    with django_assert_max_num_queries(20):
        assert owner.get(PAGE, {"tab": tab}).status_code == 200


def test_a_tab_that_is_not_offered_does_not_exist(analyst, figures):
    for tab in ("nothing", "costs\0", ""):
        assert analyst.get(PAGE, {"tab": tab}).status_code == 404
    fewer = {name for name in ROLE_SCOPES[Role.ANALYST] if name != "billing:read"}
    with patch.dict(ROLE_SCOPES, {Role.ANALYST: frozenset(fewer)}):
        assert analyst.get(PAGE, {"tab": "costs"}).status_code == 404


def test_campaigns_and_templates_have_a_panel_of_their_statistics(marketer, figures):
    campaign, template = figures
    MessageCampaign.objects.update(status="completed", sent_at=timezone.now(), completed_at=timezone.now())
    for row, number in ((campaign, "123,456"), (template, "1,000")):
        address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        page = marketer.get(address).content.decode()
        assert "Statistics" in page
        assert number in page


# --- Reports ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def schedule(application, marketer) -> ReportSchedule:
    return services.schedule_create(application=application, kind="weekly", roles=["marketer"], by="tests")


def test_a_report_is_scheduled_changed_and_deleted_at_the_console(marketer, application):
    [email] = [one.email for one in services.readers_of(application)]
    given = {
        "application": str(application.pk),
        "kind": "weekly",
        "hour": "8",
        "weekday": "0",
        "roles": ["analyst"],
        "members": f"{email}\n",
        "language": "ko",
        "is_active": "on",
    }
    answer = marketer.post(reverse("admin:analytics_reportschedule_add"), given)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    row = ReportSchedule.objects.get()
    assert (row.kind, row.hour, row.roles, row.language) == ("weekly", 8, ["analyst"], "ko")
    assert services.members_of(row) == [email]
    page = reverse("admin:analytics_reportschedule_change", args=[row.pk])
    assert email in marketer.get(page).content.decode()
    answer = marketer.post(page, given | {"hour": "7", "members": "stranger@example.com"})
    assert "is no member who may read statistics" in answer.content.decode()
    assert marketer.post(page, given | {"hour": "7"}).status_code == 302
    row.refresh_from_db()
    assert (row.hour, services.members_of(row)) == (7, [email])
    assert marketer.post(reverse("admin:analytics_reportschedule_delete", args=[row.pk]), {"post": "yes"})
    assert not ReportSchedule.objects.exists()


def test_the_preview_is_the_letter_and_nothing_in_it_can_run(marketer, analyst, schedule, figures):
    answer = marketer.get(reverse("admin:analytics_reportschedule_preview", args=[schedule.pk]))
    assert answer.status_code == 200
    assert "sandbox" in answer["Content-Security-Policy"]
    assert 'src="data:image/png;base64,iVBOR' in answer.content.decode()


def test_send_it_to_me_queues_it_for_me(marketer, schedule, clean_redis, other_application):
    button = reverse("admin:analytics_reportschedule_do", args=[schedule.pk, "send_to_me"])
    answer = marketer.post(button, follow=True)
    assert "is on its way to marketer-" in answer.content.decode()
    queued = rate_counters()._redis.llen("control")
    assert queued == 1
    assert signed_in(other_application, Role.OWNER).post(button).status_code == 404


def test_what_was_sent_and_what_failed_is_on_the_page(marketer, analyst, schedule, application):
    run = ReportRun.objects.create(
        application=application,
        schedule=schedule,
        period_start="2020-11-09",
        period_end="2020-11-16",
        state="failed",
        attempts=8,
        error="SMTPConnectError 421",
        due_at=None,
    )
    page = marketer.get(reverse("admin:analytics_reportschedule_change", args=[schedule.pk])).content.decode()
    assert "SMTPConnectError 421" in page
    assert marketer.get(reverse("admin:analytics_reportrun_change", args=[run.pk])).status_code == 200
    listed = analyst.get(reverse("admin:analytics_reportrun_changelist"), {"schedule": str(schedule.pk)})
    assert "SMTPConnectError 421" in listed.content.decode()
