"""Support finds a person, reads what happened, ends a subscription with a reason, and answers what the person asks."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from apps.messaging import lifecycle
from apps.messaging.models import Message
from apps.subscriptions.data_requests.models import DataRequest
from apps.subscriptions.data_requests.running import data_request_step, data_requests_run
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.preferences.categories import category_create
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.subjects import Subject
from apps.subscriptions.services import subscription_register
from apps.subscriptions.status import Setter
from apps.tenants.models import Application
from tests.browser.conftest import PHONE
from tests.factories import make_messages, make_user

USERS = "/admin/subscriptions/appuser/"


@pytest.fixture
def application(transactional_db) -> Application:
    return Application.objects.create(name="Hanbit Books", time_zone="Asia/Seoul")


@pytest.fixture
def person(application) -> AppUser:
    user = make_user(
        application, "reader-1042", plan="gold", points=1280, newsletter=True, interests=["novels", "history"]
    )
    make_user(application, "reader-2000")
    phone, _ = subscription_register(
        application=application,
        type="iOSPush",
        token="ab" * 32,
        setter=Setter.DEVICE,
        user=user,
        tags={"city": "Seoul", "level": 7},
        device_model="iPhone 15",
        device_os="17.5",
        app_version="4.2.0",
        device_language="ko-KR",
        country_code="KR",
        enabled=True,
    )
    for type_, token in (("Email", "mina.kim@example.com"), ("SMS", "+821055512345")):
        subscription_register(
            application=application, type=type_, token=token, setter=Setter.PERSON, user=user, enabled=True
        )
    category_create(application=application, slug="news", name_en="News")
    category_create(application=application, slug="orders", name_en="Orders", may_opt_out=False)
    preferences_set(
        subject=Subject.of_user(user),
        choices=Choices(
            marketing={"push": MarketingChoice(given=True, evidence="terms 3"), "email": MarketingChoice(given=True)},
            categories={"push": {"news": False}},
        ),
        source="api",
    )
    rows = make_messages(application, ["pending"] * 40)
    Message.objects.filter(pk__in=[row.pk for row in rows]).update(subscription=phone, user=user)
    keys, now = [row.pk for row in rows], timezone.now()
    of = {"application_id": application.pk, "at": now}
    lifecycle.apply("send", source="pending", ids=keys[4:], **of)
    lifecycle.apply("receive", source="successful", ids=keys[10:], **of)
    lifecycle.apply("convert", source="received", ids=keys[30:], **of)
    lifecycle.apply("fail", source="successful", ids=keys[4:6], reason="Unregistered", **of)
    return user


def test_support_finds_a_person_and_answers_what_they_ask(browse, application, person):
    console = browse("support")
    page = console.open(f"{USERS}?q=reader-10")
    page.get_by_role("link", name="reader-1042").click()
    console.settle()
    expect(page.get_by_role("heading", name="reader-1042", exact=True)).to_be_visible()
    channels = page.get_by_role("region", name="Channels")
    expect(channels.get_by_text("m…@example.com", exact=True)).to_be_visible()
    expect(page.get_by_text("mina.kim@example.com")).to_have_count(0)
    console.shot("person")
    console.axe()

    # The timeline: what is older, and only what changed.
    timeline = page.get_by_role("region", name="Timeline")
    before = timeline.get_by_role("listitem").count()
    timeline.get_by_role("button", name="Show what is older").click()
    expect(timeline.get_by_role("listitem").nth(before)).to_be_visible()
    timeline.get_by_label("State").select_option("changes")
    expect(timeline.get_by_text("Registered").first).to_be_visible()
    expect(timeline.get_by_role("listitem").filter(has_text="Converted")).to_have_count(0)

    # A subscription is ended, and comes back, each with a reason.
    channels.get_by_role("link", name=re.compile("End iOS push")).click()
    page.get_by_label("Reason").fill("lost the phone")
    page.get_by_role("button", name="End").click()
    expect(page.get_by_text("The subscription has ended.")).to_be_visible()
    ended = Subscription.with_archived.get(type="iOSPush", user=person)
    assert ended.is_archived
    event = SubscriptionEvent.objects.filter(subscription=ended).order_by("pk").last()
    assert event.reason.startswith("lost the phone")
    page.get_by_role("link", name=re.compile("Restore iOS push")).click()
    page.get_by_label("Reason").fill("found it")
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("The subscription is back.")).to_be_visible()

    # Into the test group; properties as rows of a form; what the person wants.
    page.get_by_role("button", name="Add to the test group").click()
    expect(page.get_by_text("Test sends can go to this user now.")).to_be_visible()
    page.get_by_role("link", name="Edit Properties").click()
    page.get_by_label("Value of points").fill("many")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("must be a number")).to_be_visible()
    console.shot("person-properties")
    page.get_by_label("Value of points").fill("1300")
    page.get_by_label("Take newsletter away").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The properties are saved.")).to_be_visible()
    person.refresh_from_db()
    assert person.properties == {"plan": "gold", "points": 1300, "interests": ["novels", "history"]}
    assert person.is_test
    page.get_by_role("link", name="Edit Consent and preferences").click()
    page.get_by_label("Advertising on E-mail", exact=True).uncheck()
    console.shot("person-choices")
    console.axe()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("What the person wants is written down.")).to_be_visible()

    # A copy of all data, which support may order and not load; and the erasure, with its proof.
    page.get_by_role("link", name="Copy of all data").first.click()
    page.get_by_role("button", name="Copy of all data").click()
    expect(page.get_by_text("You can leave this page: the work goes on")).to_be_visible()
    while data_requests_run():
        pass
    expect(page.get_by_text("Who may see personal data can load it.")).to_be_visible()
    console.shot("data-copy")
    copy = DataRequest.objects.get(kind="export")
    console.open(f"{USERS}{person.pk}/change/")
    page.get_by_role("link", name="Erase").click()
    page.get_by_label("External id, typed once more").fill("reader-1")
    page.get_by_role("button", name="Erase").click()
    expect(page.get_by_text("That is not the external id of this user.")).to_be_visible()
    page.get_by_label("External id, typed once more").fill("reader-1042")
    page.get_by_role("button", name="Erase").click()
    erasure = DataRequest.objects.get(kind="erase")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "0")
    data_request_step(erasure.pk)
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "33")
    console.open("/admin/work/")
    expect(
        page.get_by_role("region", name="Running now").get_by_role("link", name="Erasure", exact=True)
    ).to_be_visible()
    expect(page.locator(".as-work-count")).to_have_text("1")
    console.shot("running-work")
    console.axe()
    while data_requests_run():
        pass
    page.get_by_role("link", name="Erasure").first.click()
    expect(page.get_by_text("Every personal datum of this person is erased.")).to_be_visible()
    console.shot("erasure-proof")
    assert "reader-1042" not in page.content()
    person.refresh_from_db()
    assert person.external_id == f"erased:{person.pk}"
    copy.refresh_from_db()
    assert copy.parts == []


def test_a_manager_loads_the_copy(browse, application, person):
    console = browse("manager", viewport=PHONE, color_scheme="dark")
    page = console.open(f"{USERS}{person.pk}/change/")
    console.shot("person-phone-dark")
    console.fits()
    page.get_by_role("link", name="Copy of all data").first.click()
    page.get_by_role("button", name="Copy of all data").click()
    while data_requests_run():
        pass
    with page.expect_download() as loaded:
        page.get_by_role("button", name="Download").click()
    file = zipfile.ZipFile(io.BytesIO(loaded.value.path().read_bytes()))
    assert {"profile.json", "subscriptions.json", "messages.json", "choices.json", "audit_log.json"} <= set(
        file.namelist()
    )
    assert "mina.kim@example.com" in file.read("subscriptions.json").decode()
    console.open("/admin/work/")
    console.shot("running-work-phone-dark")
    console.fits()
