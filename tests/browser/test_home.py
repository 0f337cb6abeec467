"""The first page as an operator sees it: how the application is, how to begin, and the platform."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.analytics.models.rollups import MessageHour
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services import campaign_create
from apps.messaging.models import DispatchBatch
from apps.tenants.models import Application, BreakerCause, ChannelCredential
from apps.tenants.operations import switches
from tests.admin.conftest import make_world
from tests.browser.conftest import PHONE, browse, chromium  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def switches_forgotten():
    switches.forget()
    yield
    switches.forget()


def hours_of(application: Application) -> None:
    """Two weeks of a shop, as the rollups have them."""
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    rows = []
    for days_ago in range(14):
        for n, (channel, size) in enumerate((("push", 9_000), ("email", 2_600), ("sms", 700))):
            for hours in (0, 2, 5):
                sent = size - 300 * days_ago % 2_000 + 137 * n * hours + (size if days_ago % 7 == 5 else 0)
                hour = now - timedelta(days=days_ago, hours=hours)
                common = {"application": application, "hour": hour, "channel_type": channel}
                rows.append(
                    MessageHour(**common, sent=sent, received=int(sent * 0.91), converted=int(sent * (0.12 + 0.02 * n)))
                )
                reasons = {"push": "BadDeviceToken", "email": "5.1.1", "sms": "quota_exceeded"}
                rows.append(MessageHour(**common, reason=reasons[channel], failed=sent // 30))
    rows.append(MessageHour(application=application, hour=now, channel_type="push", reason="Unregistered", failed=412))
    MessageHour.objects.bulk_create(rows)


@pytest.fixture
def shop(application, provider_keys):
    """An application at work: campaigns, a queue, a stopped credential."""
    world = make_world(application, "Aurora", provider_keys)
    hours_of(application)
    running = campaign_create(application=application, name="Autumn sale", title="Sale", body="Today only")
    now = timezone.now()
    MessageCampaign.objects.filter(pk=running.pk).update(
        status=CampaignStatus.RUNNING,
        sent_at=now,
        total_recipients=182_400,
        successful_count=96_210,
        failed_count=1_312,
        received_count=80_000,
        converted_count=9_420,
    )
    later = campaign_create(application=application, name="Weekend reminder", title="Soon", body="…")
    MessageCampaign.objects.filter(pk=later.pk).update(
        status=CampaignStatus.SCHEDULED, scheduled_at=now + timedelta(hours=5)
    )
    ChannelCredential.objects.filter(application=application, provider="fcm").update(
        breaker_opened_at=now - timedelta(minutes=4),
        breaker_cause=BreakerCause.OUTAGE,
        breaker_reason="92% of the requests fail (UNAVAILABLE)",
        breaker_probe_at=now + timedelta(seconds=40),
        last_error="UNAVAILABLE",
        last_error_at=now,
    )
    DispatchBatch.objects.filter(application=application).update(due_at=now - timedelta(minutes=3), state="waiting")
    return world


@pytest.fixture(scope="session")
def provider_keys():
    from apps.sandbox.credentials import make_apns_key, make_fcm_account

    return make_apns_key(["com.example.shop"]), make_fcm_account("demo-shop", "https://oauth2.googleapis.com/token")


def test_home_tells_an_owner_how_the_application_is(browse, shop):  # noqa: F811
    console = browse("owner")
    page = console.open("/admin/")
    assert page.locator("#home-today").is_visible()
    assert "Autumn sale" in page.locator("#home-campaigns").inner_text()
    assert "stopped" in page.locator("#home-providers").inner_text().lower()
    assert "bundle id" in page.locator("#home-failures").inner_text()
    console.shot("home")
    console.axe()
    console.fits()
    MessageCampaign.objects.filter(name="Autumn sale").update(successful_count=182_400 - 1_312)
    page.wait_for_selector("#home-campaigns [aria-valuenow='100']")
    page.locator("#home-failures").get_by_role("link", name="Credentials").first.click()
    page.wait_for_url("**/channelcredential/**")


def test_home_on_a_phone_and_in_the_dark(browse, shop):  # noqa: F811
    console = browse("owner", viewport=PHONE, color_scheme="dark")
    console.open("/admin/")
    console.shot("home-phone-dark")
    console.fits()
    console.axe()


def test_a_new_application_is_shown_how_to_begin_and_the_platform_sees_all(browse, shop):  # noqa: F811
    new = Application.objects.create(name="Brand new", time_zone="Asia/Seoul")
    console = browse("owner", of=new)
    page = console.open("/admin/")
    assert page.locator("#getting-started li").count() == 5
    console.shot("home-getting-started")
    console.axe()
    root = browse("root")
    page = root.open("/admin/")
    assert page.locator("table tbody tr th a").first.inner_text() == shop.application.name
    root.shot("home-platform")
    root.axe()
    page.get_by_label("Application", exact=True).select_option(label="Brand new")
    page.wait_for_selector("#getting-started")
    page.locator(".as-switcher summary").click()
    root.shot("home-switcher", full=False)
