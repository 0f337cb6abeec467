"""A campaign from its name to its result, by clicks: a marketer builds it and asks, a manager approves, it is launched
and watched. The pictures are those of the README."""

from __future__ import annotations

import secrets
from datetime import timedelta

import pytest
from django.utils import timezone
from djmoney.money import Money

from apps.analytics.models.rollups import MessageHour
from apps.billing.models import MessageQuota
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.quota import billing_of
from apps.campaigns.models import CampaignFailure, CampaignStatus, MessageCampaign
from apps.campaigns.services import campaign_create, campaign_duplicate, fan_out, segment_create
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.subscriptions.models import AppUser, MarketingConsent, Subscription
from apps.tenants.models import ChannelCredential
from automata_signal.ids import new_range
from tests.browser.conftest import PHONE

LIST = "/admin/campaigns/messagecampaign/"
NAMES = ("김지민", "이서연", "박도윤", "최하은", "정시우", "강예린", "조민준", "윤채원", "장우진", "임수아")
PEOPLE = 240


@pytest.fixture
def shop(application):
    """A Korean fashion shop: people who agreed to advertising, and a few who did not."""
    application.name = "하늘옷장"
    application.settings = {
        "advertising_rules": "kr",
        "ad_sender_name": "하늘옷장",
        "ad_mark_add": True,
        "quiet_hours": {"from": "21:00", "to": "08:00"},
        "campaign_approval": {"mode": "required"},
    }
    application.save()
    now = timezone.now()
    for provider in ("fcm", "apns"):
        ChannelCredential.objects.create(
            application=application, provider=provider, name=f"하늘옷장 {provider.upper()}", secret={"key": "x"}
        )
    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(
        unit_price=Money("1.5", "KRW"), daily_quota=100_000, monthly_quota=None
    )
    credit_top_up(application=application, amount=Money(250_000, "KRW"), reason="Payment", by="tests")
    users = AppUser.objects.bulk_create(
        AppUser(
            application=application,
            external_id=f"customer-{1001 + n}",
            properties={"name": NAMES[n % 10], "grade": "VIP" if n % 3 == 0 else "일반"},
            is_test=n < 3,
        )
        for n in range(PEOPLE)
    )
    subscriptions = Subscription.objects.bulk_create(
        Subscription(
            application=application,
            type="AndroidPush" if n % 3 else "iOSPush",
            token=secrets.token_hex(32),
            token_digest=secrets.token_bytes(32),
            user=user,
            subscription_status=1,
            country_code="KR" if n % 12 else "JP",
            device_language="ko-KR",
            app_version=f"3.{n % 4}.0",
            tags={"style": "minimal" if n % 2 else "street"},
            last_active_at=now - timedelta(days=n % 40),
        )
        for n, user in enumerate(users)
    )
    assert subscriptions
    MarketingConsent.objects.bulk_create(
        MarketingConsent(
            application=application,
            user=user,
            subject_id=user.pk,
            channel="push",
            is_given=True,
            given_at=now,
            source="api",
            is_night_given=True,
        )
        for n, user in enumerate(users)
        if n % 8
    )
    segment_create(
        application=application, name="VIP 고객", criteria={"field": "user.grade", "op": "eq", "value": "VIP"}
    )
    return application


def past_campaign(application, name: str, sent: int, received: int, converted: int, failed: int) -> MessageCampaign:
    """One that was sent some days ago, with its rollups."""
    campaign = campaign_create(
        application=application,
        name=name,
        title=f"(광고) {name}",
        body="하늘옷장",
        purpose="marketing",
        targeting_criteria={},
        created_by="marketer@example.com",
    )
    dispatch = Dispatch.objects.create(
        application=application, campaign_id=campaign.pk, channel_type="push", priority="low", ttl_s=3_600
    )
    launched = timezone.now() - timedelta(days=3)
    MessageCampaign.objects.filter(pk=campaign.pk).update(
        status=CampaignStatus.COMPLETED,
        dispatch=dispatch,
        sent_at=launched,
        completed_at=launched + timedelta(minutes=9),
        fanout_done_at=launched,
        total_recipients=sent + failed,
        successful_count=sent,
        failed_count=failed,
        received_count=received,
        converted_count=converted,
    )
    spread = (0.62, 0.18, 0.08, 0.05, 0.03, 0.02, 0.01, 0.01)
    hour = launched.replace(minute=0, second=0, microsecond=0)
    rows = [
        MessageHour(
            application=application,
            hour=hour + timedelta(hours=n),
            channel_type="push",
            campaign_id=campaign.pk,
            sent=sent if n == 0 else 0,
            received=int(received * part),
            converted=int(converted * spread[max(0, n - 1)]),
        )
        for n, part in enumerate(spread)
    ]
    rows.append(
        MessageHour(
            application=application,
            hour=hour,
            channel_type="push",
            campaign_id=campaign.pk,
            reason="Unregistered",
            failed=failed,
        )
    )
    MessageHour.objects.bulk_create(rows)
    CampaignFailure.objects.create(application=application, campaign=campaign, reason="Unregistered", count=failed)
    messages_of(dispatch, launched)
    return campaign


def messages_of(dispatch: Dispatch, launched) -> None:
    """A batch of it: who got it, by platform and country."""
    ids = new_range()
    subscriptions = list(Subscription.objects.filter(application=dispatch.application).only("id", "user_id"))
    DispatchBatch.objects.create(
        dispatch=dispatch,
        application=dispatch.application,
        subscription_type="AndroidPush",
        priority="low",
        state="done",
        expires_at=launched,
        first_id=ids.base,
        recipient_count=len(subscriptions),
        finished_at=launched,
    )
    Message.objects.bulk_create(
        Message(
            id=ids.at(n),
            application=dispatch.application,
            dispatch=dispatch,
            campaign_id=dispatch.campaign_id,
            subscription=subscription,
            user_id=subscription.user_id,
            channel_type="push",
            status="converted" if n % 7 == 0 else "received" if n % 3 else "successful",
            sent_at=launched,
            received_at=launched if n % 3 or n % 7 == 0 else None,
            converted_at=launched if n % 7 == 0 else None,
        )
        for n, subscription in enumerate(subscriptions)
    )


def step(console, name: str) -> None:
    """Save the step, and go on to the one of this name."""
    console.page.get_by_role("button", name="Save and go on").click()
    try:
        console.page.wait_for_url(f"**/step/{name}/", timeout=30_000)
    except Exception:
        console.shot(f"campaign-failed-before-{name}")
        raise
    console.settle()


def test_a_campaign_is_built_approved_launched_and_watched(browse, shop):
    console, manager = browse("marketer"), browse("manager")
    page = console.open(f"{LIST}add/")
    page.get_by_label("Name").fill("겨울 코트 시즌오프")
    console.shot("campaign-0-new")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url("**/step/audience/")

    row = page.locator("[data-conditions] [data-node=row]").first
    row.get_by_label("What about them").select_option("country")
    row.get_by_label("How it compares").select_option("in")
    add = row.get_by_label("Add a value, then press Enter")
    add.fill("KR")
    add.press("Enter")
    page.get_by_role("button", name="Add a condition").last.click()
    second = page.locator("[data-conditions] [data-node=row]").nth(1)
    second.get_by_label("What about them").select_option("last_active_at")
    second.locator("input[type=number]").fill("30")
    page.locator(".ab-total").wait_for()
    console.settle()
    console.shot("campaign-1-audience")
    console.axe()
    step(console, "content")

    page.locator("#id_own-title").fill("겨울 코트 최대 50%")
    page.locator("#id_own-body").fill("오늘 단 하루, 찜한 코트를 가장 좋은 가격에 만나 보세요.")
    console.settle()
    page.wait_for_timeout(600)
    console.settle()
    console.shot("campaign-2-content")
    console.axe()
    step(console, "variants")
    page.get_by_role("link", name="Go on without a test").click()
    page.wait_for_url("**/step/schedule/")

    page.get_by_text("At the same time of their own clock").click()
    page.locator("#id_local_time").fill("12:00")
    page.locator("#id_messages_per_minute").fill("20000")
    page.locator("#id_messages_per_minute").blur()
    page.get_by_text("when their own clock shows 12:00").wait_for()
    console.shot("campaign-3-schedule")
    console.axe()
    step(console, "check")

    page.get_by_text("get it, as of now").wait_for()
    page.locator(".ca-counted .ca-spinner").first.wait_for(state="detached")
    console.settle()
    assert page.get_by_text("have not agreed to advertising").count()
    page.locator("#probe label", has_text="customer-1002").click()
    page.get_by_role("button", name="Send a test").click()
    page.get_by_text("test message is on its way").wait_for()
    page.evaluate("scrollTo(0, 0)")
    console.shot("campaign-4-check")
    console.axe()
    page.get_by_role("link", name="Go on").click()
    page.wait_for_url("**/step/launch/")

    page.get_by_label("A note for who approves, if you like").fill("오늘 12시 발송 예정입니다. 확인 부탁드려요.")
    console.shot("campaign-5-approval")
    assert page.get_by_role("button", name="Launch now").count() == 0
    page.get_by_role("button", name="Ask for approval").click()
    page.get_by_text("It waits for an answer").wait_for()
    campaign = MessageCampaign.objects.get(name="겨울 코트 시즌오프")

    manager.open(f"{LIST}{campaign.pk}/step/launch/")
    manager.page.get_by_label("Comment, if you like").fill("좋습니다.")
    manager.shot("campaign-6-approve")
    manager.axe()
    manager.page.get_by_role("button", name="Approve").click()
    manager.page.get_by_text("Approved by").wait_for()

    console.open(f"{LIST}{campaign.pk}/step/launch/")
    console.shot("campaign-7-launch")
    console.axe()
    page.get_by_role("button", name="Launch now").click()
    page.locator("#progress").wait_for()
    assert MessageCampaign.objects.get(pk=campaign.pk).status == "running"
    fan_out(campaign.pk)
    MessageCampaign.objects.filter(pk=campaign.pk).update(
        total_recipients=168, successful_count=101, failed_count=4, received_count=63, converted_count=12
    )
    page.locator("#progress", has_text="62").wait_for()
    console.shot("campaign-8-running")
    console.axe()
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("nothing more leaves").wait_for()
    page.get_by_role("button", name="Resume").click()
    page.get_by_text("The campaign goes on").wait_for()


def test_the_result_and_the_list_look_as_they_should(browse, shop):
    names = ("가을 신상 미리보기", "여름 끝 세일", "VIP 프리세일", "추석 선물 기획전")
    figures = (
        (48_210, 31_870, 6_904, 812),
        (39_110, 24_020, 3_115, 640),
        (9_870, 7_902, 2_204, 41),
        (51_300, 30_100, 4_480, 1_904),
    )
    made = [past_campaign(shop, name, *counts) for name, counts in zip(names, figures, strict=True)]
    campaign_duplicate(campaign=made[1], name="여름 끝 세일 2차")
    console = browse("marketer")
    page = console.open(f"{LIST}{made[0].pk}/change/")
    console.shot("campaign-9-result")
    console.axe()
    console.open(f"{LIST}{made[0].pk}/change/?with={made[1].pk}&with={made[2].pk}")
    console.shot("campaign-10-compare")
    page.get_by_role("button", name="Duplicate").click()
    page.wait_for_url("**/step/**")
    assert "가을 신상 미리보기 (copy)" in page.content()
    console.open(LIST)
    console.shot("campaign-11-list")
    console.axe()
    console.open(f"{LIST}?status__exact=draft")
    assert page.get_by_text("여름 끝 세일 2차").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_steps_fit_a_phone(browse, shop, scheme):
    draft = campaign_create(
        application=shop,
        name="겨울 코트 시즌오프",
        title="겨울 코트 최대 50%",
        body="오늘 단 하루",
        purpose="marketing",
        targeting_criteria={"field": "country", "op": "eq", "value": "KR"},
    )
    console = browse("marketer", viewport=PHONE, color_scheme=scheme)
    for name in ("audience", "content", "schedule", "check", "launch"):
        console.open(f"{LIST}{draft.pk}/step/{name}/")
        console.shot(f"campaign-phone-{scheme}-{name}")
        console.fits()
    past = past_campaign(shop, "가을 신상 미리보기", 48_210, 31_870, 6_904, 812)
    for path, name in ((f"{LIST}{past.pk}/change/", "result"), (LIST, "list")):
        console.open(path)
        console.shot(f"campaign-phone-{scheme}-{name}")
        console.fits()
