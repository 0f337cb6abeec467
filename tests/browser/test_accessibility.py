"""Everybody can use the console: by keyboard, with a screen reader, in light and dark, on a screen and on a phone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin
from django.urls import reverse

from apps.tenants.console.pages import pages
from apps.tenants.models import Application
from tests.admin.conftest import World, make_world, provider_keys  # noqa: F401 (a fixture)
from tests.admin.pages import address, list_of, page_of
from tests.browser.conftest import DESKTOP, PHONE, SERIOUS, Console, operator_of

pytestmark = pytest.mark.timeout(300)
ALL = {"resultTypes": ["violations"]}
ONLY_CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}
MAIN = (
    *("tenants.Application", "tenants.ApiKey", "tenants.ChannelCredential", "tenants.Membership"),
    *("subscriptions.AppUser", "subscriptions.Subscription", "subscriptions.Import", "subscriptions.Suppression"),
    *("campaigns.MessageCampaign", "campaigns.Segment", "messaging.MessageTemplate", "messaging.Message"),
    *("messaging.WebhookEndpoint", "billing.BillingProfile", "analytics.Export", "analytics.ReportSchedule"),
)
"""What people work with every day; the other models' pages are made of the same parts."""


@pytest.fixture
def application(transactional_db) -> Application:
    return Application.objects.create(name="Shop", time_zone="Asia/Seoul")


@pytest.fixture
def world(application, provider_keys) -> World:  # noqa: F811
    return make_world(application, "Aurora", provider_keys)


def pages_without_a_row() -> Iterator[str]:
    yield reverse("admin:index")
    for page in pages():
        if page.area:  # the others answer parts of a page
            yield reverse(f"admin:{page.name}")


def pages_of(world: World, labels, *others: str) -> Iterator[str]:
    """List and row of each, and `others` of its pages."""
    for label in labels:
        yield list_of(label)
        if row := world.rows.get(label):
            yield page_of(row)
            yield from (address(label, name) if name == "add" else page_of(row, name) for name in others)


def problems_of(console: Console, path: str, *, in_the_dark: bool = False) -> list[str]:
    """What axe finds serious, and whether the page is wider than a phone; nothing where this person has no page."""
    page = console.page
    page.set_viewport_size(DESKTOP)
    answer = page.goto(f"{console.base}{path}")
    if answer is None or answer.status in (403, 404, 405):
        return []
    if answer.status != 200:
        return [f"{path}: {answer.status}"]
    if in_the_dark:
        page.evaluate("document.documentElement.classList.add('dark')")
    problems = [
        f"{path}: {violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]!r}"
        for violation in Axe().run(page, options=ONLY_CONTRAST if in_the_dark else ALL).response["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"][:3]
    ]
    page.set_viewport_size(PHONE)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 1:
        problems.append(f"{path} is {wide} px wider than a phone")
    return problems


FOCUSED = """() => {
  const one = document.activeElement, at = one.getBoundingClientRect();
  return {
    text: (one.innerText || one.value || "").trim(), name: one.name || "", isInContent: !!one.closest("#content"),
    isSeen: at.width > 0 && at.bottom > 0 && at.top < innerHeight && getComputedStyle(one).visibility === "visible",
  };
}"""


def tab_to(page, wanted) -> dict:
    """Presses Tab until what has the focus is `wanted`; whatever had it on the way could be seen."""
    for _ in range(120):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if wanted(focused):
            assert focused["isSeen"], focused
            return focused
    raise AssertionError("the keyboard does not come there")


def test_a_keyboard_is_enough_for_the_menu_and_for_a_form(browse, application):
    console = browse("owner")
    page = console.open("/admin/subscriptions/appuser/")
    assert tab_to(page, lambda one: True)["text"] == "Skip to the content"
    page.keyboard.press("Enter")
    assert tab_to(page, lambda one: True)["isInContent"], "past the menu"
    page.reload()
    tab_to(page, lambda one: one["text"].endswith("Segments"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/campaigns/segment/")

    page = console.open("/account/")
    tab_to(page, lambda one: one["name"] == "name")
    page.keyboard.press("Control+a")
    page.keyboard.type("Somebody with a keyboard")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert operator_of("owner", application).name == "Somebody with a keyboard"


def test_main_pages_have_no_serious_problem_and_fit_a_phone(browse, world):
    console = browse("root")
    found = [problem for path in pages_of(world, MAIN) for problem in problems_of(console, path)]
    assert not found, "\n".join(found)


def test_colours_of_the_dark_scheme_can_be_read(browse, world):
    console = browse("root")
    places = [reverse("admin:index"), reverse("admin:statistics"), *pages_of(world, MAIN[:8])]
    found = [problem for path in places for problem in problems_of(console, path, in_the_dark=True)]
    assert not found, "\n".join(found)


def test_pages_without_a_row_have_no_serious_problem_and_fit_a_phone(browse, world):
    console = browse("root")
    found = [problem for path in pages_without_a_row() for problem in problems_of(console, path)]
    assert not found, "\n".join(found)


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_no_page_has_a_serious_problem(browse, world):
    console = browse("root")
    labels = {model._meta.label for model in admin.site._registry} - set(MAIN)
    places = [*pages_of(world, sorted(labels), "add", "history"), *pages_of(world, MAIN, "add", "history")]
    found = [problem for path in places for problem in problems_of(console, path)]
    assert not found, "\n".join(found)
