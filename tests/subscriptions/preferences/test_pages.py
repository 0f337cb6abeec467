"""The hosted pages, as browsers, link scanners and mail programs meet them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from django.test import override_settings

from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_of, preferences_set
from apps.subscriptions.preferences.models import ConsentEvent, Preference, Suppression
from apps.subscriptions.preferences.subjects import Subject
from apps.subscriptions.services import user_erase
from automata_signal.ids import new_id
from automata_signal.link_tokens import make_link_token
from tests.factories import make_subscription

pytestmark = pytest.mark.django_db
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def status_of(row) -> int:
    return Subscription.with_archived.get(pk=row.pk).subscription_status


# --- Unsubscribing ---------------------------------------------------------------------------------------------------


def test_looking_at_a_link_unsubscribes_nobody(links, register):
    row = register()
    token = links.token("unsubscribe", row)
    page = links.get("unsubscribe", token)
    assert (page.status_code, status_of(row)) == (200, 1)
    assert links.client.head(f"/e/unsubscribe/{token}").status_code == 200
    assert links.post("unsubscribe", token, {"something": "else"}).status_code == 200
    assert status_of(row) == 1
    assert "k…@example.com" in page.content.decode()
    assert "kim@example.com" not in page.content.decode()


@pytest.mark.parametrize("encoding", ["multipart", "urlencoded"])
def test_a_mail_program_unsubscribes_by_one_click_in_either_encoding(links, register, encoding):
    row = register()
    message_id = new_id()
    token = links.token("unsubscribe", row, message_id=message_id)
    if encoding == "multipart":
        answer = links.post("unsubscribe", token, ONE_CLICK)
    else:
        answer = links.client.post(
            f"/e/unsubscribe/{token}", "List-Unsubscribe=One-Click", content_type="application/x-www-form-urlencoded"
        )
    assert answer.status_code == 200
    assert status_of(row) == -45
    assert Suppression.objects.get().reason == "unsubscribed"
    event = SubscriptionEvent.objects.filter(new_status=-45).get()
    assert (event.source, event.event_type) == ("link", "unsubscribed")
    assert str(message_id) in event.reason
    again = links.post("unsubscribe", token, ONE_CLICK)
    assert again.status_code == 200
    assert SubscriptionEvent.objects.filter(new_status=-45).count() == 1


@pytest.mark.parametrize(
    ("type", "address", "status"),
    [("Email", "kim@example.com", -45), ("SMS", "+821012345678", -54), ("KakaoTalk", "+821012345678", -61)],
)
def test_each_channel_ends_with_its_own_code_and_consent_is_withdrawn(links, register, type, address, status):
    row = register(address, type=type)
    channel = {"Email": "email", "SMS": "sms", "KakaoTalk": "kakao_talk"}[type]
    preferences_set(
        subject=Subject.of_subscription(row), choices=Choices({channel: MarketingChoice(True, True)}), source="api"
    )
    links.post("unsubscribe", links.token("unsubscribe", row))
    assert status_of(row) == status
    events = list(ConsentEvent.objects.order_by("id").values_list("event_type", "source"))[2:]
    assert events == [("night_withdrawn", "link"), ("withdrawn", "link")]
    assert register(address, type=type).subscription_status == status


def test_a_push_subscription_ends_by_a_link_as_well(links, application):
    row = make_subscription(application)
    links.post("unsubscribe", links.token("unsubscribe", row))
    assert status_of(row) == -22
    assert not Suppression.objects.exists()


def test_a_link_of_a_category_refuses_only_that(links, register, news):
    row = register()
    message_id = new_id()
    token = links.token("unsubscribe", row, category="news", message_id=message_id)
    assert "News" in links.get("unsubscribe", token).content.decode()
    assert "소식" in links.post("unsubscribe", token, ONE_CLICK, **{"accept-language": "ko"}).content.decode()
    assert status_of(row) == 1
    assert Preference.objects.get().is_opted_in is False
    event = ConsentEvent.objects.get()
    assert (event.event_type, event.category, event.source, event.message_id) == (
        *("opted_out", "news", "link"),
        message_id,
    )


@pytest.mark.parametrize("category", ["security", "gone"])
def test_a_link_whose_category_cannot_be_refused_unsubscribes_from_all(links, register, security, category):
    row = register()
    links.post("unsubscribe", links.token("unsubscribe", row, category=category), ONE_CLICK)
    assert status_of(row) == -45


def test_links_that_are_not_ours_say_nothing(links, register):
    row = register()
    good = links.token("unsubscribe", row)
    nobody = make_link_token("unsubscribe", subscription_id=new_id())
    for token in ("x", good[:-1] + ("A" if good[-1] != "A" else "B"), links.token("preferences", row), nobody):
        for answer in (links.get("unsubscribe", token), links.post("unsubscribe", token, ONE_CLICK)):
            assert answer.status_code == 404
            assert "example.com" not in answer.content.decode()
    assert status_of(row) == 1


@pytest.mark.parametrize("purpose", ["unsubscribe", "preferences", "confirm"])
def test_a_form_with_files_is_refused_before_it_is_read(links, register, purpose):
    row = register()
    expiry = {"expires_at": 4_000_000_000} if purpose == "confirm" else {}
    token = make_link_token(purpose, subscription_id=row.pk, **expiry)
    body = BytesIO(b"x" * 300_000)
    answer = links.post(purpose, token, {**ONE_CLICK, "confirm": "yes", "action": "all", "file": body})
    assert (answer.status_code, status_of(row)) == (413, 1)


def test_the_links_of_an_erased_person_lead_nowhere(links, register):
    row = register(external_id="kim")
    user_erase(user=row.user)
    for purpose in ("unsubscribe", "preferences"):
        assert links.get(purpose, links.token(purpose, row)).status_code == 404


def test_one_persons_links_are_followed_so_often_and_guesses_too(links, register, settings):
    settings.API_RATE_PER_MINUTE = settings.API_RATE_PER_MINUTE | {"link": 2, "unauthenticated": 2}
    row = register()
    token = links.token("unsubscribe", row)
    assert [links.get("unsubscribe", token).status_code for _ in range(3)] == [200, 200, 429]
    assert [links.get("unsubscribe", f"x{n}").status_code for n in range(3)] == [404, 404, 429]


# --- What pages are like ---------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """Looks for what would come from elsewhere, and for fields without a label."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        self.fields: set[str] = set()
        self.labels: set[str] = set()
        self.language = ""

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "link", "iframe", "object") or "src" in given or "style" in given:
            self.elsewhere.append(tag)
        if any(name.startswith("on") for name in given):
            self.elsewhere.append(f"{tag} with a handler")
        if tag == "html":
            self.language = given["lang"]
        if tag == "input" and given["type"] == "checkbox":
            self.fields.add(given["id"])
        if tag == "label":
            self.labels.add(given["for"])


@pytest.mark.parametrize("purpose", ["unsubscribe", "preferences"])
@pytest.mark.parametrize(
    ("query", "accept", "language"),
    [("", "ko-KR,ko;q=0.9,en;q=0.1", "ko"), ("?lang=en", "ko", "en"), ("", "fr,de", "en"), ("?lang=xx", "", "en")],
)
def test_pages_are_in_the_language_that_is_asked_for_and_load_nothing(
    links, register, news, purpose, query, accept, language
):
    answer = links.get(purpose, links.token(purpose, register()), query, **{"accept-language": accept})
    page = _Page()
    page.feed(answer.content.decode())
    assert (page.language, answer["Content-Language"]) == (language, language)
    assert page.elsewhere == []
    assert page.fields <= page.labels
    assert answer["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert (answer["Referrer-Policy"], answer["Cache-Control"], answer["X-Frame-Options"]) == (
        *("no-referrer", "no-store"),
        "DENY",
    )
    assert "Set-Cookie" not in answer


def test_names_of_categories_and_senders_are_text(links, register, news, set_settings):
    news.name_en = "<b>News</b>"
    news.save()
    set_settings(ad_sender_name='<img src=x onerror="1">')
    text = links.get("preferences", links.token("preferences", register())).content.decode()
    assert "&lt;b&gt;News&lt;/b&gt;" in text
    assert "<img" not in text


@override_settings(LOG_JSON=True)
def test_a_token_stands_in_no_log(links, register, caplog):
    row = register()
    token = links.token("unsubscribe", row)
    from automata_signal.masking import masked

    assert token not in masked(f"GET /e/unsubscribe/{token}")
    assert masked("Not Found: /e/unsubscribe/short") == "Not Found: /e/unsubscribe/short"


# --- Preferences -----------------------------------------------------------------------------------------------------


def save(links, token, *checked, page=None):
    """Send the form of the page with these boxes checked."""
    page = page or links.get("preferences", token).content.decode()
    shown = re.search(r'name="shown" value="([^"]*)"', page)[1]
    return links.post("preferences", token, {"action": "save", "shown": shown, **dict.fromkeys(checked, "on")})


def test_choices_are_saved_and_shown(links, register, news, security):
    row = register()
    token = links.token("preferences", row)
    answer = save(links, token, "marketing:email")
    assert (answer.status_code, "Your choices are saved." in answer.content.decode()) == (200, True)
    wanted = preferences_of(Subject.of_subscription(row))["channels"]["email"]
    assert wanted["marketing"]["given"] is True
    assert wanted["marketing"]["source"] == "page"
    assert wanted["categories"]["news"]["opted_in"] is False
    assert wanted["categories"]["security"]["opted_in"] is True
    save(links, token, "category:email:news")
    wanted = preferences_of(Subject.of_subscription(row))["channels"]["email"]
    assert (wanted["marketing"]["given"], wanted["categories"]["news"]["opted_in"]) == (False, True)


def test_a_category_that_was_added_since_the_page_was_shown_is_not_refused(links, register, news, application):
    from apps.subscriptions.preferences.categories import category_create

    row = register()
    token = links.token("preferences", row)
    page = links.get("preferences", token).content.decode()
    category_create(application=application, slug="later", name_en="Later")
    save(links, token, page=page)
    assert preferences_of(Subject.of_subscription(row))["channels"]["email"]["categories"]["later"]["opted_in"]


def test_a_link_of_one_channel_withdraws_on_another_but_does_not_agree_there(links, register, news):
    row = register(external_id="kim")
    register("+821012345678", type="SMS", external_id="kim")
    token = links.token("preferences", row)
    forged = {"action": "save", "shown": "marketing:sms,night:sms,marketing:push,category:push:news"}
    links.post("preferences", token, forged | {"marketing:sms": "on", "night:sms": "on", "marketing:push": "on"})
    assert not ConsentEvent.objects.exists()
    subject = Subject.of_subscription(row)
    preferences_set(subject=subject, choices=Choices({"sms": MarketingChoice(True, True)}), source="api")
    save(links, token, "marketing:sms")
    consent = preferences_of(subject)["channels"]["sms"]["marketing"]
    assert (consent["given"], consent["night"]) == (True, False)


def test_all_is_refused_at_once(links, register, news, security):
    row = register(external_id="kim")
    subject = Subject.of_subscription(row)
    preferences_set(subject=subject, choices=Choices({"sms": MarketingChoice(True)}), source="api")
    answer = links.post("preferences", links.token("preferences", row), {"action": "all"})
    assert answer.status_code == 200
    wanted = preferences_of(subject)["channels"]
    assert wanted["sms"]["marketing"]["given"] is False
    assert wanted["email"]["categories"]["news"]["opted_in"] is False
    assert wanted["email"]["categories"]["security"]["opted_in"] is True
    assert status_of(row) == -45
