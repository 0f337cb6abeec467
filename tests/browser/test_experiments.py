"""A test of two texts by clicks: begun, written, split, launched, watched and decided."""

from __future__ import annotations

import secrets

import pytest

from apps.campaigns.experiments.models import Experiment, VariantTally
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import campaign_create, campaign_launch, fan_out
from apps.messaging.models import DispatchBatch
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.models import ChannelCredential
from tests.browser.conftest import PHONE

PEOPLE = 200


@pytest.fixture
def shop(application):
    application.name = "하늘옷장"
    application.save()
    for provider in ("fcm", "apns"):
        ChannelCredential.objects.create(application=application, provider=provider, name=provider, secret={"key": "x"})
    users = AppUser.objects.bulk_create(
        AppUser(application=application, external_id=f"customer-{1001 + n}", is_test=n < 2) for n in range(PEOPLE)
    )
    Subscription.objects.bulk_create(
        Subscription(
            application=application,
            type="AndroidPush" if n % 3 else "iOSPush",
            token=secrets.token_hex(32),
            token_digest=secrets.token_bytes(32),
            user=user,
            subscription_status=1,
        )
        for n, user in enumerate(users)
    )
    return application


def test_two_texts_are_tested_and_the_better_one_goes_to_the_rest(browse, shop):
    campaign = campaign_create(
        application=shop,
        name="Autumn coats",
        title="가을 코트가 도착했어요",
        body="오늘부터 20% 할인합니다.",
        targeting_criteria={},
    )
    console = browse("manager")
    page = console.open(step_address(campaign))
    console.shot("experiment-begin")
    page.get_by_role("button", name="Test variants").click()
    console.settle()
    page.locator("#id_v-B-name").fill("With a question")
    page.locator("[name='c-B-title']").fill("아직도 코트를 고르세요?")
    page.locator("#id_test_percent").fill("40")
    page.locator("#id_holdout_percent").fill("5")
    page.locator("#id_v-A-share_percent").fill("45")
    assert page.locator("#id_v-B-share_percent").input_value() == "55"
    assert "100" in page.locator("[data-sum]").inner_text()
    page.get_by_label("A rule").check()
    page.get_by_role("button", name="Save", exact=True).click()
    console.settle()
    page.get_by_text("Side by side, as saved").scroll_into_view_if_needed()
    page.locator(".cv-previews").wait_for()
    console.settle()
    assert page.get_by_text("The test goes to 40 % of the recipients").count()
    console.fits()
    console.axe()
    console.shot("experiment-step")
    phone = browse("manager", viewport=PHONE, color_scheme="dark")
    phone.open(step_address(campaign))
    phone.fits()
    phone.shot("experiment-step-phone-dark")

    campaign_launch(campaign=MessageCampaign.objects.get())
    fan_out(campaign.pk)
    DispatchBatch.objects.update(state="done")
    for letter, sent, opened in (("A", 12_480, 399), ("B", 15_260, 626)):
        VariantTally.objects.filter(variant__letter=letter).update(
            total=sent + 40, successful=sent, failed=40, received=sent - 900, converted=opened
        )
    MessageCampaign.objects.update(
        total_recipients=27_820, successful_count=27_740, failed_count=80, received_count=25_940, converted_count=1_025
    )
    Experiment.objects.update(held_out=3_650, activity={"A": [12480, 1497], "B": [15260, 2137], "-": [3650, 361]})
    result = f"/admin/campaigns/messagecampaign/{campaign.pk}/change/"
    page = console.open(result)
    assert page.get_by_text("B is better than A with").count() == 1
    console.fits()
    console.axe()
    console.shot("experiment-result")
    phone.open(result)
    phone.fits()
    phone.shot("experiment-result-phone-dark")
    page.locator("summary", has_text="Choose B").click()
    page.get_by_role("button", name="Yes, B wins").click()
    console.settle()
    assert page.get_by_text("has chosen B.").count() == 1
    fan_out(campaign.pk)
    page = console.open(result)
    assert page.get_by_text("B to the rest").count() == 1
    console.shot("experiment-decided")


def step_address(campaign: MessageCampaign) -> str:
    from django.urls import reverse

    return reverse("admin:campaigns_messagecampaign_step", args=[campaign.pk, "variants"])
