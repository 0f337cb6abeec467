"""What stands around every page: both languages and schemes, a screen and a phone, and nobody is kept out."""

from __future__ import annotations

import pytest

from tests.browser.conftest import PHONE

PAGES = ["/admin/", "/admin/statistics/", "/admin/campaigns/messagecampaign/", "/admin/campaigns/messagecampaign/add/"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_pages_open_in_both_languages(browse, language):
    console = browse("owner")
    console.choose_language(language)
    for path in PAGES:
        page = console.open(path)
        assert page.locator("html").get_attribute("lang") == language
        console.shot(f"frame-{language}{path.replace('/', '-').rstrip('-')}")
        console.axe()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(browse, scheme):
    console = browse("owner", viewport=PHONE, color_scheme=scheme)
    for path in PAGES:
        console.open(path)
        console.shot(f"frame-phone-{scheme}{path.replace('/', '-').rstrip('-')}")
        console.fits()


def test_the_api_can_be_tried_in_the_browser(browse):
    """Under the same content policy as every page."""
    console = browse("")
    page = console.open("/api/docs/")
    page.get_by_text("Automata-Signal API").first.wait_for()
    page.locator("#operations-tag-messages, [id^=operations-]").first.wait_for()
    console.shot("api-docs", full=False)
