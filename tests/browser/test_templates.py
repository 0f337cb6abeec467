"""A template is written with its preview beside it: every channel, a second language, versions and what differs."""

from __future__ import annotations

import pytest

from apps.messaging.media.services import media_create
from apps.messaging.models import MessageTemplate
from apps.messaging.services import template_create, template_update
from apps.subscriptions.services import user_create
from tests.browser.conftest import PHONE
from tests.factories import make_kakao_template, pixels

MAIL = """<div style="font-family:sans-serif;max-width:560px;margin:auto;padding:24px">
<img src="https://pictures.example/hero.png" width="560" height="180" alt="">
<h1>Spring is here, {{ name }}</h1><p>Everything for the garden, and 10 % off until Sunday.</p>
<p><a href="https://shop.example/"
style="background:#4f46e5;color:#fff;padding:12px 20px;border-radius:6px">To the shop</a></p>
<p style="font-size:12px"><a href="{{ unsubscribe_url }}">Unsubscribe</a></p></div>"""


@pytest.fixture
def shop(transactional_db, application, settings):
    settings.PUBLIC_URL = "https://signal.example"
    user_create(
        application=application,
        external_id="customer-7",
        properties={"name": "Minseo", "points": 4200, "address": {"city": "Busan"}},
    )
    kakao = make_kakao_template(application, "shop")
    kakao.content = "Hello #{name},\nyour order #{order} is on its way."
    kakao.title, kakao.subtitle, kakao.emphasis = "On its way", "Order #{order}", "text"
    kakao.buttons = [{"type": "WL", "name": "Follow the parcel", "link_mobile": "https://shop.example/"}]
    kakao.name = "Shipping notice"
    kakao.save()
    media_create(application=application, file_name="garden.png", chunks=[pixels()], by="tests")
    return application


@pytest.fixture
def template(shop) -> MessageTemplate:
    made = template_create(
        application=shop,
        created_by="dana@example.com",
        name="Spring offer",
        title_template="Spring is here",
        body_template="Hello {{ name }}, 10 % off everything for the garden until Sunday.",
        data_template={"link": "shop://garden"},
        options={"badge": 1, "image": "https://pictures.example/hero.png"},
        variants=[
            {
                "channel": "email",
                "title": "Spring is here, {{ name }}",
                "body": MAIL,
                "options": {"preheader": "10 % off until Sunday"},
            },
            {"channel": "sms", "body": "(광고) Spring: 10 % off until Sunday. shop.example"},
            {
                "channel": "in_app",
                "title": "Spring offer",
                "body": "10 % off everything for the garden.",
                "options": {
                    "layout": "modal",
                    "image": "https://pictures.example/hero.png",
                    "buttons": [
                        {"id": "go", "text": "Have a look", "action": {"type": "url", "url": "https://shop.example/"}},
                        {"id": "no", "text": "Not now", "action": {"type": "close"}},
                    ],
                },
            },
            {
                "channel": "kakao_talk",
                "data": {"name": "{{ name }}", "order": "A-1042"},
                "options": {"template_code": "T1", "fallback": {"text": "Your order A-1042 is on its way."}},
            },
        ],
    )
    return template_update(
        template=made,
        changed_by="minji@example.com",
        changes={"body_template": "Hi {{ name }}, 20 % off everything for the garden until Monday."},
    )


def page_of(template: MessageTemplate, query: str = "") -> str:
    return f"/admin/messaging/messagetemplate/{template.pk}/change/{query}"


def test_a_template_is_written_with_its_preview_beside_it(browse, template):
    console = browse("marketer")
    page = console.open(page_of(template))
    page.locator(".ap-iphone", has_text="20 % off").wait_for()
    console.shot("templates-push")
    console.axe()
    body = page.get_by_label("Text", exact=True)
    body.fill("Dear ")
    page.get_by_role("button", name="points", exact=True).click()
    page.locator(".ap-android", has_text="Dear 1250").wait_for()
    page.get_by_label("As it is seen by").select_option("user")
    page.get_by_label("External id").fill("customer-7")
    page.locator(".ap-android", has_text="Dear 4200").wait_for()
    body.fill("Dear {{ points")
    page.locator(".ap-problems", has_text="line 1").wait_for()
    console.shot("templates-error")
    body.fill("Dear {{ name|default('you') }}, it is spring.")
    page.get_by_text("Choose from your files").first.click()
    page.locator("[data-choose]").first.click()
    page.locator(".ap-thumb[src^='/m/']").wait_for()
    page.get_by_role("button", name="Save").first.click()
    console.settle()
    saved = MessageTemplate.objects.get(pk=template.pk)
    assert saved.version == 3
    assert saved.options["badge"] == 1
    assert "/m/" in saved.options["image"]

    page.get_by_label("A further language, such as ko or pt-BR").fill("ko")
    page.get_by_role("button", name="Add a language").click()
    console.settle()
    page.get_by_text("the words for every channel are used").wait_for()
    page.get_by_label("Title", exact=True).fill("봄이 왔어요")
    page.get_by_label("Text", exact=True).fill("{{ name }}님, 정원 용품 전 품목 20% 할인이 월요일까지 이어져요.")
    page.locator(".ap-iphone", has_text="정원 용품").wait_for()
    console.shot("templates-korean")
    page.get_by_role("button", name="Save").first.click()
    console.settle()
    assert [v["language"] for v in MessageTemplate.objects.get(pk=template.pk).variants if v.get("language")] == ["ko"]

    page.get_by_role("link", name="All versions", exact=True).click()
    console.settle()
    page.locator(".at-diff ins", has_text="봄이").wait_for()
    page.get_by_label("From version 1").check()
    page.get_by_label("To version 2").check()
    page.get_by_role("button", name="Compare").click()
    console.settle()
    assert page.locator(".at-diff del").all_text_contents()[0].endswith("Hello")
    console.shot("templates-versions")
    console.axe()
    page.get_by_role("row").filter(has_text="dana@").get_by_role("button", name="Restore").click()
    console.settle()
    assert MessageTemplate.objects.get(pk=template.pk).body_template.startswith("Hello {{ name }}, 10 %")


def test_every_channel_looks_like_itself(browse, template):
    console = browse("owner")
    waits = {"email": ".ap-document", "sms": ".ap-gateway", "kakao_talk": ".ap-yellow", "in_app": ".ap-window"}
    for channel, place in waits.items():
        page = console.open(page_of(template, f"?channel={channel}"))
        page.locator(place).first.wait_for()
        console.settle()
        console.shot(f"templates-{channel}")
        console.axe()
    frame = console.open(page_of(template, "?channel=email")).frame_locator(".ap-document")
    frame.get_by_role("heading", name="Spring is here, Jimin Kim").wait_for()
    page = console.open(page_of(template, "?channel=in_app"))
    for layout in ("banner_top", "full_screen", "card", "image_only", "inbox_only"):
        page.get_by_label("Layout").select_option(layout)
        page.locator(f".ap-{layout}").wait_for()
        page.locator(".ae-side").screenshot(path=console.shot(f"templates-in_app-{layout}", full=False))
    page = console.open("/admin/messaging/kakaotemplate/")
    console.shot("alimtalk-list")
    page.get_by_role("link", name="Shipping notice").click()
    console.settle()
    page.locator(".ap-yellow").wait_for()
    console.shot("alimtalk")
    console.axe()
    page = console.open("/admin/messaging/kakaotemplate/add/")
    assert not page.get_by_label("Address on phones").first.is_visible()
    page.get_by_label("Button 1").select_option("WL")
    page.locator("#id_button1_name").fill("Follow the parcel")
    page.locator("#id_button1_link_mobile").fill("https://shop.example/#{order}")
    assert not page.locator("#id_button1_scheme_ios").is_visible()
    assert not page.locator("#id_button2_name").is_visible()
    console.shot("alimtalk-new")
    console.axe()


def test_a_template_is_read_in_the_dark_and_on_a_phone(browse, template):
    dark = browse("marketer", color_scheme="dark")
    page = dark.open(page_of(template, "?channel=email"))
    page.locator(".ap-document").wait_for()
    dark.shot("templates-dark")
    dark.axe()
    console = browse("analyst", viewport=PHONE)
    page = console.open(page_of(template))
    page.locator(".ap-iphone").wait_for()
    console.shot("templates-phone-analyst")
    console.fits()
    console = browse("marketer", viewport=PHONE)
    page = console.open(page_of(template, "?channel=kakao_talk"))
    page.locator(".ap-yellow").wait_for()
    console.shot("templates-phone")
    console.fits()
