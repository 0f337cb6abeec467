"""The pictures of the documentation, of the demo's own data: `./run test -m thorough tests/browser/test_pictures.py`.

Each is a page of the console as somebody of the demo shop sees it. They are small files of few colours, in
`docs/console/`; `docs/console.md` and both READMEs show them, the Korean one those of a first campaign in Korean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from django.conf import settings
from django.core.management import call_command
from django.urls import reverse
from PIL import Image

from apps.analytics.fills import fill_all
from apps.campaigns.models import MessageCampaign, Segment
from apps.campaigns.services import campaign_create
from apps.messaging.models import Message, MessageTemplate
from apps.subscriptions.models import AppUser
from apps.tenants.models import Application, ChannelCredential
from tests.browser.conftest import Console

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(900)]

FOLDER = Path(settings.BASE_DIR) / "docs" / "console"
COLOURS = 256
MARKETER, OWNER, ROOT = "marketer", "owner", "root"


class Picture(NamedTuple):
    name: str
    role: str
    address: Callable[[Shop], str]
    is_whole: bool = False
    """The whole page instead of what a window shows of it."""

    @property
    def languages(self) -> tuple[str, ...]:
        return ("en", "ko") if self.name.startswith("campaign-") or self.name == "variants" else ("en",)


class Shop:
    """Rows of the demo that pages are about."""

    def __init__(self) -> None:
        self.application = Application.objects.get(name="Demo shop")
        of_shop = {"application": self.application}
        self.segment = Segment.objects.filter(**of_shop).order_by("name").first()
        self.sent = MessageCampaign.objects.get(**of_shop, name="블랙프라이데이 오픈")
        self.tested = MessageCampaign.objects.get(**of_shop, has_variants=True)
        self.message = Message.objects.filter(campaign_id=self.sent.pk, status="converted").first()
        self.user = AppUser.objects.get(pk=self.message.user_id)
        self.template = MessageTemplate.objects.get(**of_shop, name="주문 완료")
        self.credential = ChannelCredential.objects.filter(**of_shop, provider="apns").first()
        self.draft = campaign_create(
            **of_shop,
            created_by="soyeon.lee@demo-shop.example",
            name="겨울 코트 시즌오프",
            channel_type="push",
            purpose="marketing",
            category="offers",
            title="(광고) 데모샵 겨울 코트 최대 50%",
            body="오늘 단 하루, 찜한 코트를 가장 좋은 가격에 만나 보세요. 수신거부: 설정 > 알림",
            targeting_criteria={
                "all": [
                    {"field": "country", "op": "eq", "value": "KR"},
                    {"field": "last_active_at", "op": "within", "value": "30d"},
                ]
            },
        )


def change(label: str, row: object) -> str:
    return reverse(f"admin:{label}_change", args=[row.pk])  # type: ignore[attr-defined]


def step(name: str) -> Callable[[Shop], str]:
    return lambda shop: reverse("admin:campaigns_messagecampaign_step", args=[shop.draft.pk, name])


def page(name: str) -> Callable[[Shop], str]:
    return lambda shop: reverse(f"admin:{name}")


PICTURES = (
    Picture("home", OWNER, page("index"), is_whole=True),
    Picture("campaigns", MARKETER, page("campaigns_messagecampaign_changelist")),
    Picture("campaign-0-new", MARKETER, page("campaigns_messagecampaign_add")),
    Picture("campaign-1-audience", MARKETER, step("audience"), is_whole=True),
    Picture("campaign-2-content", MARKETER, step("content")),
    Picture("campaign-3-schedule", MARKETER, step("schedule")),
    Picture("campaign-4-check", MARKETER, step("check"), is_whole=True),
    Picture("campaign-5-launch", MARKETER, step("launch")),
    Picture("variants", MARKETER, step("variants")),
    Picture("ab-test", MARKETER, lambda shop: change("campaigns_messagecampaign", shop.tested), is_whole=True),
    Picture("campaign-6-result", MARKETER, lambda shop: change("campaigns_messagecampaign", shop.sent), is_whole=True),
    Picture("segment", MARKETER, lambda shop: change("campaigns_segment", shop.segment), is_whole=True),
    Picture("template", MARKETER, lambda shop: change("messaging_messagetemplate", shop.template), is_whole=True),
    Picture("statistics", OWNER, page("statistics"), is_whole=True),
    Picture("messages", OWNER, page("messaging_message_changelist")),
    Picture("message", OWNER, lambda shop: change("messaging_message", shop.message), is_whole=True),
    Picture("users", OWNER, page("subscriptions_appuser_changelist")),
    Picture("user", OWNER, lambda shop: change("subscriptions_appuser", shop.user), is_whole=True),
    Picture("subscriptions", OWNER, page("subscriptions_subscription_changelist")),
    Picture("import", OWNER, page("subscriptions_import_add")),
    Picture("work", OWNER, page("work")),
    Picture("application", OWNER, lambda shop: change("tenants_application", shop.application)),
    Picture("keys", OWNER, page("tenants_apikey_changelist")),
    Picture("credential", OWNER, lambda shop: change("tenants_channelcredential", shop.credential), is_whole=True),
    Picture("webhooks", OWNER, page("messaging_webhookendpoint_changelist")),
    Picture("audit", OWNER, page("tenants_auditevent_changelist")),
    Picture("operations", ROOT, page("operations")),
    Picture("breakers", ROOT, page("operations_breakers")),
    Picture("switches", ROOT, page("operations_switches")),
    Picture("account", OWNER, lambda shop: reverse("account_profile")),
    Picture("security", OWNER, lambda shop: reverse("account_security")),
)


@pytest.fixture
def shop(transactional_db, tmp_path) -> Shop:
    call_command("seed_demo", recipients=3_000, state_dir=tmp_path, channels=True)
    call_command("seed_history", state_dir=tmp_path)
    while fill_all():
        pass
    return Shop()


def test_the_pictures(browse, shop):
    consoles: dict[str, Console] = {}
    for picture in PICTURES:
        if picture.role not in consoles:
            consoles[picture.role] = browse(picture.role, of=shop.application)
        console = consoles[picture.role]
        for language in picture.languages:
            console.choose_language(language)
            console.open(picture.address(shop))
            keep(console.shot(f"picture-{picture.name}-{language}", full=picture.is_whole), picture.name, language)
    console = browse("")
    console.open("/account/login/")
    keep(console.shot("picture-sign-in"), "sign-in")


def keep(shot: Path, name: str, language: str = "en") -> None:
    """Few colours are enough for a page, and a tenth of the size."""
    folder = FOLDER if language == "en" else FOLDER / language
    folder.mkdir(exist_ok=True, parents=True)
    with Image.open(shot) as image:
        few = image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(folder / f"{name}.png", optimize=True)
