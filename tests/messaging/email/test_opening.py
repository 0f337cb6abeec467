"""Opened and followed: what is counted, and what never is."""

import re
from concurrent.futures import ThreadPoolExecutor
from email import message_from_string, policy
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client

from apps.messaging.adapters.email_tokens import LinkMaker
from apps.messaging.email import opening
from apps.messaging.models import Message, MessageEvent
from apps.subscriptions.models import Subscription
from tests.factories import make_subscriptions
from tests.messaging.email.test_pipeline import addresses, run_all, sliced

pytestmark = pytest.mark.django_db(transaction=True)
BROWSER = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Mail"
LINKS = LinkMaker("")
TARGET = "https://shop.example.com/세일?a=1&b=2#x"


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch):
    monkeypatch.setattr(opening, "_recent", opening._Recent())


@pytest.fixture
def sent(application, mail):
    """A message in its mailbox, and the links in it."""
    make_subscriptions(application, ["anna@example.net"], type="Email")
    run_all(sliced(application, body=f'<p>x <a href="{TARGET}">y</a></p>'))
    (entry,) = mail.entries()
    html = message_from_string(entry["body"], policy=policy.default).get_body(("html",)).get_content()
    links = re.findall(r'https://signal.example.com(/e/[co]/[^"]+)"', html)
    return {"click": links[0], "open": links[1]}


def get(address, **headers):
    return Client(headers={"user-agent": BROWSER, **headers}).get(address)


def state():
    return Message.objects.get().status


def test_a_click_is_counted_and_leads_to_its_target(sent):
    answer = get(sent["click"])
    assert (answer.status_code, answer["Location"]) == (302, "https://shop.example.com/%EC%84%B8%EC%9D%BC?a=1&b=2#x")
    assert state() == "converted"
    assert not answer.cookies
    assert answer["Cache-Control"] == "no-store"
    assert Subscription.objects.get().last_active_at is not None
    get(sent["click"])
    assert MessageEvent.objects.filter(event_type="converted").count() == 1


def test_an_open_is_counted_once(sent):
    for _ in range(3):
        answer = get(sent["open"])
        assert (answer.status_code, answer["Content-Type"], answer.content[:6]) == (200, "image/gif", b"GIF89a")
    assert state() == "received"
    assert MessageEvent.objects.filter(event_type="received").count() == 1


def test_apples_proxy_shows_that_it_arrived_and_nobody_was_there(sent):
    Client(headers={"user-agent": "Mozilla/5.0"}).get(sent["open"])
    assert state() == "received"
    assert Subscription.objects.get().last_active_at is None


@pytest.mark.parametrize(
    "headers",
    [
        {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1)"},
        {"user-agent": "Barracuda Sentinel (EE)"},
        {"user-agent": "python-requests/2.32"},
        {"sec-purpose": "prefetch;prerender"},
        {"purpose": "prefetch"},
        {"x-purpose": "preview"},
    ],
)
def test_programs_that_look_at_links_are_sent_on_and_not_counted(sent, headers):
    assert get(sent["click"], **headers).status_code == 302
    assert get(sent["open"], **headers).status_code == 200
    assert Client(headers={"user-agent": BROWSER}).head(sent["click"]).status_code == 302
    assert state() == "successful"


def test_what_we_did_not_sign_leads_nowhere(sent, settings):
    token = sent["click"].rpartition("/")[2]
    other = LINKS.click(UUID(int=1).bytes, b"https://evil.example/").rpartition("/")[2]
    swapped = token[:30] + other[30:]
    opened = sent["open"].rpartition("/")[2].removesuffix(".gif")
    for forged in (swapped, token[:-1], token + "A", token + "=", "x", "x" * 5_000, opened, token.replace("A", "B", 1)):
        answer = get(f"/e/c/{forged}")
        assert (answer.status_code, answer.get("Location")) == (404, None)
    assert get(f"/e/o/{token}.gif").status_code == 200
    assert state() == "successful"


def test_who_guesses_is_slowed(settings):
    settings.API_RATE_PER_MINUTE = {**settings.API_RATE_PER_MINUTE, "unauthenticated": 3}
    assert [get(f"/e/c/guess{n}").status_code for n in range(5)][-1] == 429


def test_a_message_that_is_gone_still_leads_on(sent):
    token = LINKS.click(UUID(int=5).bytes, b"https://shop.example.com/").rpartition("/")[2]
    assert get(f"/e/c/{token}")["Location"] == "https://shop.example.com/"


def test_a_database_that_is_away_keeps_nobody_from_the_page(sent, monkeypatch):
    def away(**_):
        from django.db import OperationalError

        raise OperationalError("gone")

    monkeypatch.setattr(opening.gathering, "apply", away)
    assert get(sent["click"]).status_code == 302


def test_many_at_once_are_recorded_together(application, mail):
    make_subscriptions(application, addresses(60), type="Email")
    run_all(sliced(application))
    ids = list(Message.objects.values_list("pk", flat=True))

    def open_one(message_id):
        try:
            return get(LINKS.open(message_id.bytes)).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(open_one, ids)) == {200}
    assert Message.objects.filter(status="received").count() == 60


def test_one_click_ends_the_subscription(application, mail):
    make_subscriptions(application, ["anna@example.net"], type="Email")
    run_all(sliced(application, options={"list_unsubscribe": True}))
    (entry,) = mail.entries()
    letter = message_from_string(entry["body"], policy=policy.default)
    address = letter["list-unsubscribe"].strip("<>").removeprefix("https://signal.example.com")
    assert Client().get(address).status_code == 200
    assert Subscription.objects.get().subscription_status == 1
    for _ in range(2):
        assert Client(enforce_csrf_checks=True).post(address, {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert Subscription.with_archived.get().subscription_status == -45
