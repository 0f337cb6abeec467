"""What a plan does not include is refused with the facts, before anything is done."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.billing import entitlements
from apps.billing.models import AnalyticsDepth, BillingProfile, Feature, Plan
from apps.billing.services.plans import plan_set
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import campaigns_launch_due
from apps.messaging.retention import kept_since
from apps.tenants.access import known_keys
from apps.tenants.models import Application, Membership, Operator, Role
from apps.tenants.services import application_create, membership_set
from automata_signal.errors import Forbidden
from tests.factories import make_subscription


@pytest.fixture
def on_plan(application):
    """`on_plan("free")`, or a plan of its own with `on_plan(features=[])`."""

    def put(code: str = "", of: Application = application, **fields) -> None:
        plan = Plan.objects.get(code=code) if code else Plan.objects.create(code="own", name="Own", **fields)
        plan_set(application=of, plan=plan, by="test")

    return put


def refusal_of(answer) -> dict:
    assert answer.status_code == 403, answer.content
    return answer.json()["error"]


# --- The API -------------------------------------------------------------------------------------------------------


def test_a_secret_key_is_refused_where_the_plan_has_no_api(server, on_plan):
    on_plan(features=["campaigns"])
    error = refusal_of(server.get("users"))
    assert error["code"] == "PLAN_FEATURE"
    limits = {"what": "feature", "limit": 0, "used": None, "resets_at": None, "plan": "own", "feature": "api"}
    assert error["limits"] == limits


def test_the_sdk_and_operators_work_without_the_api(application, sdk, on_plan):
    on_plan(features=[])
    assert sdk.post("subscriptions", {"type": "iOSPush", "token": "ab" * 32}).status_code == 201


def test_asking_for_the_plan_costs_a_request_no_query(application, server, on_plan, settings):
    on_plan("premium")
    settings.API_KEY_CACHE_S = 60
    known_keys.forget()
    server.get("keys")
    with CaptureQueriesContext(connection) as queries:
        assert server.get("keys").status_code == 200
    assert not [query for query in queries if "billing_" in query["sql"]]
    known_keys.forget()


def test_a_key_that_is_kept_learns_of_another_plan_when_it_is_read_anew(server, on_plan, settings):
    settings.API_KEY_CACHE_S = 60
    known_keys.forget()
    assert server.get("users").status_code == 200
    on_plan(features=[])
    known_keys.forget()
    assert server.get("users").status_code == 403
    known_keys.forget()


def test_a_webhook_secret_that_cannot_be_decrypted_keeps_no_key_out(application, server, on_plan):
    on_plan("premium")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_billingprofile SET alert_webhook_secret = '\\x0962726f6b656e'")
    assert server.get("users").status_code == 200
    assert server.get("billing/plan").status_code == 200


# --- Campaigns, exports, analytics -----------------------------------------------------------------------------------


def campaign_of(server) -> str:
    body = {"name": "c", "title": "t", "body": "b", "targeting_criteria": {}}
    return server.post("campaigns", body).json()["data"]["id"]


def test_campaigns_are_neither_launched_nor_scheduled_without_the_feature(application, server, on_plan):
    on_plan("free")
    make_subscription(application)
    campaign = campaign_of(server)
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    for answer in (
        server.post(f"campaigns/{campaign}/launch"),
        server.post(f"campaigns/{campaign}/schedule", {"at": soon}),
    ):
        error = refusal_of(answer)
        assert (error["code"], error["limits"]["feature"]) == ("PLAN_FEATURE", "campaigns")
    assert MessageCampaign.objects.get(pk=campaign).status == "draft"


def test_a_scheduled_campaign_fails_with_the_reason_when_the_plan_has_changed(application, server, on_plan):
    campaign = campaign_of(server)
    past = timezone.now() - timedelta(minutes=1)
    MessageCampaign.objects.filter(pk=campaign).update(status="scheduled", scheduled_at=past)
    on_plan("free")
    assert campaigns_launch_due() == 0
    row = MessageCampaign.objects.get(pk=campaign)
    assert (row.status, row.failure_reason.partition(":")[0]) == ("failed", "PLAN_FEATURE")


def test_exports_and_depth_of_analytics_go_by_the_plan(application, on_plan):
    entitlements.require_feature(application, Feature.EXPORTS)
    assert entitlements.analytics_depth(application) == AnalyticsDepth.FULL
    on_plan("basic")
    with pytest.raises(Forbidden) as refusal:
        entitlements.require_feature(application, Feature.EXPORTS)
    assert refusal.value.facts["feature"] == "exports"
    entitlements.require_depth(application, AnalyticsDepth.BASIC)
    with pytest.raises(Forbidden):
        entitlements.require_depth(application, AnalyticsDepth.ADVANCED)


# --- Retention -------------------------------------------------------------------------------------------------------


def test_retention_above_the_plans_is_refused_on_its_field(application, server, on_plan):
    on_plan("free")
    error = refusal_of(server.patch("application", {"settings": {"retention_days": 31}}))
    assert error["code"] == "PLAN_LIMIT"
    assert error["details"][0]["field"] == "settings.retention_days"
    assert (error["limits"]["limit"], error["limits"]["used"]) == (30, 31)
    assert server.patch("application", {"settings": {"retention_days": 30}}).status_code == 200


def test_a_new_application_is_held_to_the_default_plan(db, settings):
    settings.DEFAULT_PLAN = "free"
    with pytest.raises(Forbidden):
        application_create(name="Long", settings={"retention_days": 31})
    assert not Application.objects.exists()


def test_nothing_is_kept_for_longer_than_the_plan_keeps(application, on_plan):
    now = timezone.now()
    assert kept_since(application, now) is None
    on_plan("free")
    assert kept_since(application, now) == now - timedelta(days=30)
    application.settings = {"retention_days": 7}
    assert kept_since(application, now) == now - timedelta(days=7)


# --- Number of applications ------------------------------------------------------------------------------------------


def operator(email: str = "owner@example.com", **fields) -> Operator:
    return Operator.objects.create_user(email, "x", **fields)


def test_an_owner_has_as_many_applications_as_the_best_of_their_plans_allows(db, settings):
    settings.DEFAULT_PLAN = "free"
    owner = operator()
    first = application_create(name="One", owner=owner)
    with pytest.raises(Forbidden) as refusal:
        application_create(name="Two", owner=owner)
    assert refusal.value.code == "PLAN_LIMIT"
    facts = {"what": "applications", "limit": 1, "used": 1, "resets_at": None, "plan": "free"}
    assert refusal.value.facts == facts
    assert [a.name for a in Application.objects.all()] == ["One"]
    plan_set(application=first, plan=Plan.objects.get(code="basic"), by="test")
    for name in ("Two", "Three"):
        application_create(name=name, owner=owner)
    with pytest.raises(Forbidden):
        application_create(name="Four", owner=owner)
    assert Membership.objects.filter(operator=owner).count() == 3


def test_becoming_an_owner_of_another_application_counts_too(db, settings):
    settings.DEFAULT_PLAN = "free"
    owner = operator()
    application_create(name="One", owner=owner)
    theirs = application_create(name="Theirs", owner=operator("other@example.com"))
    membership_set(operator=owner, application=theirs, role=Role.MANAGER)
    with pytest.raises(Forbidden):
        membership_set(operator=owner, application=theirs, role=Role.OWNER)
    assert Membership.objects.get(operator=owner, application=theirs).role == Role.MANAGER


def test_platform_operators_own_as_many_as_they_like(db, settings):
    settings.DEFAULT_PLAN = "free"
    root = Operator.objects.create_superuser("root@example.com", "x")
    for name in ("One", "Two"):
        application_create(name=name, owner=root)
    assert BillingProfile.objects.count() == 0
