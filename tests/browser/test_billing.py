"""What an application used and may use, on one page."""

from __future__ import annotations

import pytest
from django.urls import reverse
from djmoney.money import Money
from playwright.sync_api import expect

from apps.billing.models import MessageQuota, Plan
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.plans import plan_set
from apps.billing.services.quota import billing_of
from apps.billing.statements import plain
from apps.tenants.models import Application
from tests.browser.conftest import PHONE


@pytest.fixture
def application(db) -> Application:
    application = Application.objects.create(name="Corner shop", time_zone="Asia/Seoul")
    plan_set(application=application, plan=Plan.objects.get(code="basic"), by="tests")
    profile = billing_of(application)
    amount = Money(50_000, profile.currency)
    credit_top_up(application=application, amount=amount, reason="payment", by="tests")
    quota = MessageQuota.objects.get(application=application, channel_type="push")
    MessageQuota.objects.filter(pk=quota.pk).update(daily_quota=10_000, daily_used=8_500, monthly_used=20_000)
    return application


def test_bars_plans_and_statements_stand_on_one_page(browse, application):
    console = browse("root")
    page = console.open(reverse("admin:application_plan", args=[application.pk]))
    bar = page.get_by_role("progressbar", name="Push: Today")
    expect(bar).to_have_attribute("aria-valuenow", "85")
    expect(page.get_by_text("8,500 / 10,000")).to_be_visible()
    push = MessageQuota.objects.get(application=application, channel_type="push")
    assert 0 < push.unit_price.amount < 1
    expect(page.get_by_text(f"{plain(push.unit_price.amount)} KRW a message").first).to_be_visible()
    console.axe()
    console.shot("billing-plan")
    page.get_by_role("link", name="Change plan").click()
    page.get_by_label("Plan").select_option(label="Free")
    page.get_by_role("button", name="Change plan").click()
    expect(page.get_by_text("This field is required.")).to_be_visible()
    page.get_by_label("Why").fill("they asked for it")
    page.get_by_role("button", name="Change plan").click()
    console.settle()
    billing_of(application).refresh_from_db()
    assert "they asked for it" in billing_of(application).history.first().history_change_reason


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_quotas_fits_a_phone(browse, application, scheme):
    console = browse("owner", viewport=PHONE, color_scheme=scheme)
    console.open(reverse("admin:application_plan", args=[application.pk]))
    console.shot(f"billing-plan-phone-{scheme}")
    console.fits()
