"""Double opt-in: only who reads what is sent to an address can subscribe it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.subscriptions.preferences.models import ConsentEvent, ConsentNotice, OptIn, Suppression
from apps.subscriptions.preferences.notices import notices_send
from apps.subscriptions.preferences.opt_in import opt_ins_expire
from automata_signal.link_tokens import make_link_token

pytestmark = pytest.mark.django_db


@pytest.fixture
def asks(set_settings):
    set_settings(double_opt_in=["email"])


def status_of(row) -> int:
    return Subscription.with_archived.get(pk=row.pk).subscription_status


def link_in(notice) -> str:
    return re.search(r"/e/confirm/([\w-]+)", notice.body)[1]


def pass_time(**ago):
    """As if everything that was asked had been asked so long ago."""
    delta = timedelta(**ago)
    for row in OptIn.objects.all():
        row.asked_at, row.counted_from, row.expires_at = (
            moment - delta for moment in (row.asked_at, row.counted_from, row.expires_at)
        )
        row.save()


def test_a_new_address_waits_until_its_owner_confirms(asks, register, told, links):
    row = register()
    assert row.subscription_status == -98
    assert register("+821012345678", type="SMS").subscription_status == 1
    assert notices_send() == 1
    assert (told[0].kind, told[0].subscription_id) == ("opt_in", row.pk)
    token = link_in(told[0])
    assert links.get("confirm", token).status_code == 200
    assert links.post("confirm", token, {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert status_of(row) == -98
    for _ in range(2):
        page = links.post("confirm", token)
        assert (page.status_code, status_of(row)) == (200, 1)
        assert "is confirmed" in page.content.decode()
    assert ConsentEvent.objects.get().event_type == "address_confirmed"
    assert SubscriptionEvent.objects.get(subscription=row, new_status=1).source == "link"


def test_one_that_is_subscribed_stays_so_when_it_is_registered_again(register, set_settings):
    row = register()
    set_settings(double_opt_in=["email"])
    assert register().subscription_status == 1
    assert not OptIn.objects.exists()
    assert Subscription.objects.get(pk=row.pk).subscription_status == 1


def test_another_address_is_confirmed_anew(asks, register, server, told, links):
    row = register()
    notices_send()
    links.post("confirm", link_in(told[0]))
    assert server.patch(f"subscriptions/{row.pk}", {"token": "lee@example.com"}).status_code == 200
    assert status_of(row) == -98
    assert links.post("confirm", link_in(told[0])).status_code == 404
    assert status_of(row) == -98
    notices_send()
    links.post("confirm", link_in(told[1]))
    assert status_of(row) == 1


def test_it_is_asked_once_a_minute_and_three_times_a_day(asks, register, server, told):
    row = register()
    register()
    assert ConsentNotice.objects.count() == 1
    path = f"subscriptions/{row.pk}/opt-in"
    refused = server.post(path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "ASKED_TOO_OFTEN")
    assert int(refused["Retry-After"]) <= 60
    for _ in range(2):
        pass_time(minutes=2)
        assert server.post(path).status_code == 202
    pass_time(minutes=2)
    assert int(server.post(path)["Retry-After"]) > 80_000
    pass_time(days=1)
    assert server.post(path).status_code == 202


def test_who_does_not_confirm_in_time_was_never_subscribed(asks, register, told, links):
    row = register()
    notices_send()
    pass_time(days=4)
    assert opt_ins_expire() == 1
    assert opt_ins_expire() == 0
    assert status_of(row) == 0
    assert links.post("confirm", link_in(told[0])).status_code == 404
    assert register().subscription_status == -98
    notices_send()
    assert links.post("confirm", link_in(told[1])).status_code == 200
    assert status_of(row) == 1


def test_an_expired_link_says_so(asks, register, links):
    row = register()
    over = make_link_token(
        "confirm", subscription_id=row.pk, message_id=OptIn.objects.get().pk, expires_at=int(timezone.now().timestamp())
    )
    assert links.get("confirm", over).status_code == 410
    assert links.post("confirm", over).status_code == 410
    assert status_of(row) == -98


def test_who_unsubscribed_comes_back_by_a_confirmed_opt_in_only(register, server, told, links):
    row = register()
    links.post("unsubscribe", links.token("unsubscribe", row))
    assert register().subscription_status == -45
    assert server.post(f"subscriptions/{row.pk}/opt-in").status_code == 202
    notices_send()
    links.post("confirm", link_in(told[0]))
    assert status_of(row) == 1
    assert not Suppression.objects.exists()


def test_the_page_offers_the_way_back_by_a_link_to_the_address(register, told, links):
    row = register()
    links.post("unsubscribe", links.token("unsubscribe", row))
    token = links.token("preferences", row)
    assert "Send me messages again" in links.get("preferences", token).content.decode()
    assert "A link was sent" in links.post("preferences", token, {"action": "back"}).content.decode()
    assert status_of(row) == -98
    assert notices_send() == 1


@pytest.mark.parametrize("reason", ["complaint", "hard_bounce"])
def test_nobody_is_asked_after_a_complaint_or_a_bounce(register, server, reason):
    row = register()
    server.post("suppressions", {"type": "Email", "address": "kim@example.com", "reason": reason})
    refused = server.post(f"subscriptions/{row.pk}/opt-in")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "SUPPRESSED")
    assert not ConsentNotice.objects.exists()


def test_what_needs_no_confirmation_is_not_asked(register, server, application):
    from tests.factories import make_subscription

    row = register()
    assert server.post(f"subscriptions/{row.pk}/opt-in").json()["error"]["code"] == "ALREADY_SUBSCRIBED"
    push = make_subscription(application)
    assert server.post(f"subscriptions/{push.pk}/opt-in").json()["error"]["code"] == "NOT_CONFIRMABLE"
