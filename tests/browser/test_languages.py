"""The console in Korean and in English: words, days and numbers, and the switch between the two."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest

from apps.tenants.models import Application
from tests.browser.conftest import operator_of
from tests.factories import make_messages, make_user

LIST = "/admin/subscriptions/appuser/"
HANGUL = re.compile("[가-힣]")


@pytest.fixture
def application(transactional_db) -> Application:
    return Application.objects.create(name="Hanbit Books", time_zone="Asia/Seoul")


def test_the_language_is_switched_and_the_page_stays(browse, application):
    make_user(application, "reader-1042")
    console = browse("owner")
    page = console.open(f"{LIST}?q=reader")
    assert page.locator("html").get_attribute("lang") == "en"
    page.locator("form:has(input[name=language][value=ko]) button").first.evaluate("button => button.click()")
    page.wait_for_function("document.documentElement.lang === 'ko'")
    console.settle()
    assert page.url.endswith(f"{LIST}?q=reader"), "on the same page, with the same question"
    assert page.get_by_role("heading", level=1).first.inner_text().strip() != ""
    assert HANGUL.search(page.locator("#nav-sidebar-apps").inner_text())
    console.shot("korean-users")
    console.open("/admin/campaigns/messagecampaign/")
    assert page.locator("html").get_attribute("lang") == "ko", "and on every other"


def test_days_and_times_are_by_language_and_in_the_operators_zone(browse, application):
    [message] = make_messages(application, ["received"])
    operator = operator_of("owner", application)
    operator.time_zone = "Asia/Seoul"
    operator.save()
    at = message.created_at.astimezone(ZoneInfo("Asia/Seoul"))
    english, korean = f"{at.day} {at:%b %Y}", f"{at.year}년 {at.month}월 {at.day}일"
    console = browse("owner")
    for language, shown in (("en", english), ("ko", korean)):
        console.choose_language(language)
        page = console.open(f"/admin/messaging/message/{message.pk}/change/")
        text = page.locator("#content").inner_text()
        assert shown in text
        assert f"{at:%H:%M}" in text
        console.shot(f"message-{language}")
