"""The console: what applications used and paid, and what operators of the platform do about it."""

from __future__ import annotations

import pytest
from djmoney.money import Money

from apps.billing.models import BillingAlert, BillingProfile, LedgerTransaction, MessageQuota, Plan
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.quota import billing_of
from apps.tenants.models import Role
from tests.admin.conftest import member, root  # noqa: F401  (fixtures)
from tests.admin.pages import address, button, list_of, page_of, text_of


@pytest.fixture
def profile(application) -> BillingProfile:
    return billing_of(application)


def plan_form(**changes) -> dict:
    given = {"name": "Campus", "code": "campus", "analytics_depth": "basic", "currency": "KRW", "is_active": "on"}
    given |= {"features": ["api", "campaigns"], "applications_max": "2", "retention_days_max": "60"}
    given |= {"push_included": "on", "push_daily_quota": "50", "push_monthly_quota": "", "push_unit_price": "0.5"}
    return given | changes


def test_an_operator_of_the_platform_defines_and_changes_a_plan(root, profile):  # noqa: F811
    answer = root.post(address("billing.Plan", "add"), plan_form())
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    plan = Plan.objects.get(code="campus")
    assert (plan.features, plan.applications_max) == (["api", "campaigns"], 2)
    channel = plan.channels.get()
    assert (channel.daily_quota, channel.monthly_quota, channel.unit_price) == (50, None, Money("0.5", "KRW"))
    shown = text_of(root.get(page_of(plan)))
    assert 'name="push_daily_quota" value="50"' in shown
    changed = plan_form(name="Campus 2", push_daily_quota="60", sms_included="on", sms_unit_price="9")
    assert root.post(page_of(plan), changed).status_code == 302
    plan.refresh_from_db()
    assert (plan.name, plan.channels.get(channel_type="push").daily_quota) == ("Campus 2", 60)
    assert plan.channels.get(channel_type="sms").unit_price == Money(9, "KRW")
    assert "Campus 2" in text_of(root.get(page_of(plan, "history")))


def test_a_wrong_plan_is_an_error_on_its_field(root):  # noqa: F811
    answer = root.post(address("billing.Plan", "add"), plan_form(code="free"))
    assert "code" in answer.context["adminform"].form.errors
    answer = root.post(address("billing.Plan", "add"), plan_form(applications_max="0"))
    assert "applications_max" in answer.context["adminform"].form.errors
    assert Plan.objects.count() == 4


def test_money_is_moved_with_a_reason_and_once_for_a_reference(root, profile):  # noqa: F811
    given = {"amount": "1500.5", "reason": "bank transfer", "reference": "pay-7"}
    for _ in range(2):
        assert root.post(button(profile, "top_up"), given).status_code == 302
    posted = LedgerTransaction.objects.get()
    assert (posted.kind, posted.reason, posted.posted_by) == ("top_up", "bank transfer", "root@example.com")
    assert root.post(button(profile, "adjust"), {"amount": "-100", "reason": "mistake"}).status_code == 302
    assert root.post(button(profile, "refund"), {"amount": "10", "reason": "lost"}).status_code == 302
    page = text_of(root.get(page_of(profile)))
    assert "1410.5 KRW" in page
    refused = root.post(button(profile, "adjust"), {"amount": "-9000", "reason": "too much"})
    assert refused.status_code == 200
    assert "At most" in text_of(refused)
    assert root.post(button(profile, "top_up"), {"amount": "5", "reason": ""}).status_code == 200
    assert LedgerTransaction.objects.count() == 3


def test_the_plan_and_the_terms_of_one_application_are_changed_by_buttons(root, profile):  # noqa: F811
    free = Plan.objects.get(code="free")
    assert root.post(button(profile, "change_plan"), {"plan": str(free.pk), "reason": "smaller"}).status_code == 302
    quota = MessageQuota.objects.get(application=profile.application, channel_type="push")
    assert quota.daily_quota == 1_000
    given = {"daily_quota": "5000", "monthly_quota": "", "unit_price": "0", "reason": "agreed"}
    assert root.post(button(quota, "set_terms"), given).status_code == 302
    quota.refresh_from_db()
    assert (quota.is_own, quota.daily_quota, quota.monthly_quota) == (True, 5_000, None)
    assert root.post(button(quota, "reset_terms")).status_code == 302
    quota.refresh_from_db()
    assert (quota.is_own, quota.daily_quota) == (False, 1_000)
    assert (
        root.post(button(profile, "change_credit_limit"), {"credit_limit": "", "reason": "paid by invoice"}).status_code
        == 302
    )
    profile.refresh_from_db()
    assert profile.credit_limit is None


def test_an_owner_sees_what_is_used_and_moves_no_money(member, profile):  # noqa: F811
    MessageQuota.objects.filter(channel_type="push").update(daily_quota=100, daily_used=85)
    owner = member(Role.OWNER)
    assert "85 / 100 (85 %)" in text_of(owner.get(page_of(profile)))
    assert "85 / 100 (85 %)" in text_of(owner.get(list_of("billing.MessageQuota")))
    for name in ("top_up", "adjust", "refund", "change_plan", "change_credit_limit"):
        assert owner.post(button(profile, name), {"amount": "1", "reason": "x"}).status_code == 403
    assert not LedgerTransaction.objects.exists()


def test_the_list_has_applications_that_nothing_was_asked_about_yet(root, application):  # noqa: F811
    assert "Shop" in text_of(root.get(list_of("billing.BillingProfile")))
    assert BillingProfile.objects.get().application == application


def test_the_webhooks_secret_is_shown_once(member, profile):  # noqa: F811
    owner = member(Role.OWNER)
    answer = owner.post(button(profile, "webhook"), {"webhook_url": "https://hooks.example/a"})
    secret = answer.context["plaintext"]
    assert secret.startswith("whsec_")
    assert "no-store" in answer["Cache-Control"]
    assert text_of(answer).count(secret) == 1
    assert secret not in text_of(owner.get(page_of(profile)))
    assert secret not in text_of(owner.get(page_of(profile, "history")))
    refused = owner.post(button(profile, "webhook"), {"webhook_url": "https://169.254.169.254/"})
    assert "webhook_url" in refused.context["form"].errors


def test_owners_set_from_when_on_the_credit_is_low(member, profile):  # noqa: F811
    owner = member(Role.OWNER)
    assert owner.post(page_of(profile), {"low_credit_at": "5000"}).status_code == 302
    profile.refresh_from_db()
    assert profile.low_credit_at == 5_000


def test_a_statement_is_a_page_to_print_and_a_file(member, profile):  # noqa: F811
    credit_top_up(
        application=profile.application,
        amount=Money(700, "KRW"),
        reason="<script>alert(1)</script>",
        by="=HYPERLINK(1)",
    )
    owner = member(Role.ANALYST)
    shown = text_of(owner.get(page_of(profile)))
    month = f"{LedgerTransaction.objects.get().posted_at:%Y}"
    place = next(part for part in shown.split('"') if "/statement/" in part and month in part)
    page = text_of(owner.get(place))
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "700" in page
    file = owner.get(place + "?format=csv&bom=true")
    assert file["Content-Type"] == "text/csv; charset=utf-8"
    assert file.content.startswith(b"\xef\xbb\xbf")
    assert b"'=HYPERLINK(1)" in file.content
    assert owner.get(place.rsplit("/", 2)[0] + "/2026-99/").status_code == 404


def test_anothers_statement_is_one_that_does_not_exist(member, profile, other_application):  # noqa: F811
    stranger = member(Role.OWNER, other_application)
    place = address("billing.BillingProfile", "statement", profile.pk, "2026-11")
    assert stranger.get(place).status_code == 404
    assert member(Role.SUPPORT).get(place).status_code in (403, 404)


def test_an_alert_is_a_notice_on_the_applications_page_and_can_be_sent_again(member, profile):  # noqa: F811
    alert = BillingAlert.objects.create(
        application=profile.application,
        kind="monthly_quota",
        channel_type="push",
        threshold=100,
        facts={"limit": 10, "used": 10, "resets_at": "2026-12-01T00:00:00+09:00"},
        last_error="webhook: the server answered 500",
        attempts=8,
        due_at=None,
    )
    owner = member(Role.OWNER)
    assert "the monthly quota is used up (Push)" in text_of(owner.get(page_of(profile.application)))
    assert "the server answered 500" in text_of(owner.get(page_of(alert)))
    assert owner.post(button(alert, "deliver_again")).status_code == 302
    alert.refresh_from_db()
    assert (alert.attempts, alert.due_at is not None) == (0, True)
    assert member(Role.ANALYST).post(button(alert, "deliver_again")).status_code == 403
