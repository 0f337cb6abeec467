"""Delivering: at least once, and in order, whatever fails on either side."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from apps.messaging import lifecycle
from apps.messaging.models import Message, MessageEvent
from apps.messaging.webhooks import delivering, lanes
from apps.messaging.webhooks.delivering import deliver_due
from apps.messaging.webhooks.disabling import tell_disabled
from apps.messaging.webhooks.forgetting import deliveries_forget
from apps.messaging.webhooks.models import ASKED_LANE, WebhookDelivery, WebhookEndpoint, WebhookLane
from apps.messaging.webhooks.routing import route_all
from apps.messaging.webhooks.services import (
    deliveries_replay,
    delivery_replay,
    endpoint_create,
    endpoint_test,
    endpoint_update,
    secret_rotate,
)
from apps.messaging.webhooks.tasks import deliver_webhooks, route_webhooks
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set
from automata_signal.errors import Conflict
from automata_signal.ids import first_id_at
from tests.analytics.happenings import move
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_messages, make_user
from tests.messaging.webhooks.conftest import be_due, pump
from tests.messaging.webhooks.receiving import receiver

pytestmark = pytest.mark.django_db(transaction=True)


def is_signed(secret: str, posted) -> bool:
    """As the documentation says."""
    mac = hmac.new(
        secret.encode(), posted.headers["x-automata-timestamp"].encode() + b"." + posted.body, hashlib.sha256
    )
    given = posted.headers["x-automata-signature"].split(",")
    fresh = abs(time.time() - int(posted.headers["x-automata-timestamp"])) < 300
    return fresh and f"v1={mac.hexdigest()}" in given


def now_of(endpoint) -> WebhookEndpoint:
    return WebhookEndpoint.objects.get(pk=endpoint.pk)


# --- What is sent ----------------------------------------------------------------------------------------------------


def test_events_come_signed_and_say_what_happened(application, endpoint, there, sent):
    user = make_user(application, "kim")
    [message] = sent(1)
    Message.objects.filter(pk=message.pk).update(user=user)
    quoted = {
        "reason": "550 <kim@example.com> unknown, +82 10-1234-5678",
        "class": "recipient",
        "n": [1, "a@b.example"],
    }
    with transaction.atomic():
        lifecycle.apply(
            "fail",
            source="successful",
            ids=[message.pk],
            application_id=application.pk,
            at=timezone.now(),
            reason="Unregistered",
            details={"class": "recipient"},
            metadata=quoted,
        )
    pump()
    [posted] = there.got
    assert is_signed(endpoint.plain, posted)
    assert not is_signed(endpoint.plain + "x", posted)
    delivery = WebhookDelivery.objects.get()
    assert posted.headers["x-automata-delivery"] == str(delivery.pk)
    assert posted.headers["x-automata-attempt"] == "1"
    assert posted.headers["content-type"] == "application/json"
    successful, failed = posted.events
    event = MessageEvent.objects.get(event_type="failed")
    assert failed == {
        "id": str(event.pk),
        "type": "message.failed",
        "created_at": event.occurred_at.isoformat().replace("+00:00", "Z"),
        "application_id": str(application.pk),
        "data": {
            "message_id": str(message.pk),
            "external_id": "kim",
            "subscription_id": str(message.subscription_id),
            "campaign_id": None,
            "requeued_from": None,
            "channel": "push",
            "status": "failed",
            "reason": "Unregistered",
            "error_class": "recipient",
            "accepted_at": message.created_at.isoformat().replace("+00:00", "Z"),
            "metadata": {"reason": "550 <…> unknown, …", "class": "recipient", "n": [1, "…"]},
        },
    }
    assert (successful["type"], successful["data"]["reason"]) == ("message.successful", None)
    assert (delivery.state, delivery.attempts, delivery.status, delivery.error) == ("delivered", 1, 200, "")
    assert now_of(endpoint).last_success_at


def test_subscriptions_are_told_of_without_their_tokens(endpoint, there, sdk):
    token = "ab" * 32
    sdk.post("subscriptions", {"type": "iOSPush", "token": token, "enabled": True})
    pump()
    assert {event["type"] for event in there.events} == {"subscription.registered", "subscription.subscribed"}
    event = there.events[0]
    assert (event["data"]["channel"], event["data"]["subscription_type"]) == ("push", "iOSPush")
    assert set(event["data"]) == {
        *("subscription_id", "external_id", "subscription_type", "channel", "source", "reason", "old_status"),
        "new_status",
    }
    assert token not in str(there.got)


def test_beats_task_and_the_workers_deliver(endpoint, there, sent):
    sent(3)
    route_webhooks()
    deliver_webhooks()
    assert len(there.events) == 3


def test_during_a_rotation_both_secrets_sign(endpoint, there, sent):
    new = secret_rotate(endpoint=endpoint, overlap=timedelta(hours=1))
    sent()
    pump()
    assert is_signed(endpoint.plain, there.got[-1])
    assert is_signed(new.secret, there.got[-1])
    WebhookEndpoint.objects.update(previous_until=timezone.now())
    sent()
    pump()
    assert not is_signed(endpoint.plain, there.got[-1])
    assert is_signed(new.secret, there.got[-1])
    newest = secret_rotate(endpoint=endpoint, overlap=timedelta(0))
    sent()
    pump()
    assert not is_signed(new.secret, there.got[-1])
    assert is_signed(newest.secret, there.got[-1])


# --- Order, and at least once ----------------------------------------------------------------------------------------


def live(messages) -> None:
    """What happens to messages, in transactions of their own."""
    move("receive", "successful", messages)
    route_all()
    move("convert", "received", messages)
    route_all()


def test_a_messages_events_keep_their_order_while_deliveries_fail(endpoint, there, sent):
    answers = iter([500, 200, 302, 429, 200, 503, 404, *[200] * 1_000])
    there.answer = lambda posted: next(answers)
    messages = sent(30)
    route_all()
    live(messages)
    for _ in range(12):
        deliver_due(max_s=60)
        be_due()
    for message in messages:
        assert there.told_of(message.pk) == ["successful", "received", "converted"]
    assert len(there.got) > len(there.taken)
    assert not WebhookDelivery.objects.filter(state="waiting").exists()
    assert now_of(endpoint).consecutive_failures == 0


def test_what_was_posted_and_not_recorded_comes_again_before_what_follows(endpoint, there, sent, monkeypatch):
    [message] = sent()
    route_all()
    live([message])
    with monkeypatch.context() as dying:
        dying.setattr(delivering, "_record", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deliver_due()
    assert len(there.taken) == 1
    assert not deliver_due()  # the lane is still the dead worker's
    assert len(there.taken) == 1
    WebhookLane.objects.update(lease_until=timezone.now())
    deliver_due()
    assert [posted.events[0]["data"]["status"] for posted in there.taken] == [
        *("successful", "successful", "received", "converted")
    ]
    assert there.taken[0].ids == there.taken[1].ids
    assert there.told_of(message.pk) == ["successful", "received", "converted"]


def test_workers_at_the_same_time_deliver_each_event_once_and_in_order(endpoint, there, sent, monkeypatch):
    monkeypatch.setattr(delivering, "TURN_S", 0.0)
    messages = [message for _ in range(4) for message in sent(10)]
    route_all()
    live(messages)
    in_threads(3, lambda _: deliver_due(max_s=60))
    assert len(there.taken) == len({posted.headers["x-automata-delivery"] for posted in there.taken})
    for message in messages:
        assert there.told_of(message.pk) == ["successful", "received", "converted"]


def test_a_worker_that_lost_its_lane_sends_nothing_more_of_it(endpoint, there, sent):
    messages = sent(1)
    route_all()
    live(messages)

    def answer(posted) -> int:
        WebhookLane.objects.update(lease_id=None)
        return 200

    there.answer = answer
    deliver_due()
    assert len(there.got) == 1
    assert WebhookDelivery.objects.filter(state="delivered").count() == 1  # a fact, whoever has the lane


def test_a_worker_that_is_to_stop_finishes_what_it_posts(endpoint, there, sent, monkeypatch):
    sent(1)
    live(sent(1))
    monkeypatch.setattr(delivering, "is_stopping", lambda: bool(there.got))
    deliver_due()
    assert 1 <= len(there.got) <= endpoint.lanes
    assert WebhookDelivery.objects.filter(state="delivered").count() == len(there.got)
    assert not WebhookLane.objects.exclude(lease_until=None).exists()


# --- Receivers that fail ---------------------------------------------------------------------------------------------


def test_a_dead_endpoint_holds_up_no_other(application, other_application, endpoint, there, sent, settings):
    """Neither of the application nor of others; `refused` answers nobody, `silent` never."""
    settings.OUTGOING_TIMEOUT_S = 0.5
    held = threading.Event()
    with receiver() as silent, receiver() as others:
        silent.answer = lambda posted: 200 if held.wait(20) else 500
        endpoint_create(application=application, url="http://127.0.0.1:9/")
        endpoint_create(application=application, url=silent.url)
        endpoint_create(application=other_application, url=others.url)
        sent(20), sent(20, of=other_application)
        pump()
        held.set()
    assert (len(there.events), len(others.events)) == (20, 20)
    errors = set(WebhookDelivery.objects.filter(state="waiting").values_list("error", flat=True))
    assert errors == {"the server could not be reached", "the server did not answer in time"}


def test_of_one_application_only_some_lanes_are_served_at_a_time(application, other_application, sent, settings):
    settings.WEBHOOK_POSTS_PER_APPLICATION = 3
    for url in ("https://a.example/", "https://b.example/"):
        endpoint_create(application=application, url=url)
    endpoint_create(application=other_application, url="https://c.example/")
    for _ in range(6):
        sent(20), sent(20, of=other_application)
    route_all()
    owners = {e.pk: e.application_id for e in WebhookEndpoint.objects.all()}
    claimed = [*lanes.lanes_claim(limit=2), *lanes.lanes_claim(limit=50), *lanes.lanes_claim(limit=50)]
    counts = [owners[lane.endpoint_id] for lane in claimed]
    assert counts.count(application.pk) == counts.count(other_application.pk) == 3
    assert len({lane.id for lane in claimed}) == 6


def test_attempts_come_later_and_later_and_never_later_than_their_end(endpoint, there, sent, settings):
    there.answer = lambda posted: 500
    sent()
    waits = []
    for _ in range(3):
        pump()
        lane = WebhookLane.objects.get(retry_at__isnull=False)
        waits.append((lane.retry_at - timezone.now()).total_seconds())
        pump()  # not due yet
        be_due()
    assert len(there.got) == 3
    assert [posted.headers["x-automata-attempt"] for posted in there.got] == ["1", "2", "3"]
    assert 4 < waits[0] < 6.1 < 8.9 < waits[1] < 12.1 < 18.9 < waits[2] < 24.1
    assert lanes.delay_s(60) <= lanes.DELAY_MAX_S * 1.2
    row = now_of(endpoint)
    assert (row.consecutive_failures, row.last_error, row.is_active) == (3, "the server answered 500", True)


@pytest.fixture
def members(application):
    for role in Role.values:
        operator = Operator.objects.create_user(f"{role}@example.com", "x")
        membership_set(operator=operator, application=application, role=role)


def a_day_later() -> None:
    day = timedelta(hours=25)
    WebhookDelivery.objects.update(first_attempt_at=F("first_attempt_at") - day)
    WebhookEndpoint.objects.update(last_success_at=F("last_success_at") - day)
    be_due()


def test_what_fails_for_a_day_is_disabled_its_members_are_told_and_it_goes_on_where_it_was(
    application, members, endpoint, there, sent
):
    [message] = sent()
    pump()
    there.answer = lambda posted: 503
    live([message])
    pump()
    a_day_later()
    pump()
    row = now_of(endpoint)
    assert (row.is_active, row.disabled_reason) == (False, "the server answered 503")
    assert (tell_disabled(), tell_disabled()) == (1, 0)
    assert sorted(mail.outbox[0].to) == ["manager@example.com", "owner@example.com"]
    assert str(endpoint.pk) in mail.outbox[0].body
    there.answer = lambda posted: 200
    later = sent()  # happens while it is disabled
    be_due()
    pump()
    assert there.told_of(message.pk) == ["successful"]
    endpoint_update(endpoint=row, is_active=True)
    there.answer = lambda posted: 500
    pump()
    assert now_of(endpoint).is_active  # it has all its time anew
    there.answer = lambda posted: 200
    be_due()
    pump()
    assert there.told_of(message.pk) == ["successful", "received", "converted"]
    assert there.told_of(later[0].pk) == ["successful"]
    assert now_of(endpoint).disabled_at is None


def test_one_delivery_that_is_always_refused_is_given_up_alone(endpoint, there, sent):
    poison, fine = make_messages(endpoint.application, ["pending"] * 2)
    there.answer = lambda posted: 400 if str(poison.pk) in posted.body.decode() else 200
    move("send", "pending", [poison])
    pump()
    a_day_later()
    move("send", "pending", [fine])
    pump()
    [parked] = WebhookDelivery.objects.filter(state="parked")
    assert (parked.status, parked.error) == (400, "the server answered 400")
    assert now_of(endpoint).is_active
    assert there.told_of(fine.pk) == ["successful"]


def test_410_disables_at_once_and_a_redirect_is_a_refusal(endpoint, there, sent):
    there.answer, there.headers_sent = (lambda posted: 307), {"Location": there.url}
    sent()
    pump()
    assert WebhookDelivery.objects.get().error == "the server answered 307: redirects are not followed"
    assert len(there.got) == 1
    there.answer = lambda posted: 410
    be_due()
    pump()
    assert not now_of(endpoint).is_active
    assert now_of(endpoint).disabled_reason == "the server answered 410"


def test_a_private_address_is_not_called_and_the_log_tells_nothing_of_our_network(endpoint, there, sent, settings):
    WebhookEndpoint.objects.update(url="https://localhost/")  # a name that turned to an inner address
    settings.OUTGOING_ALLOW_PRIVATE = False
    sent()
    pump()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.state, delivery.error) == ("waiting", "the host is in a private or special network")
    assert delivery.status is None
    assert there.got == []


def test_a_slow_receiver_is_cut_at_the_deadline(endpoint, there, sent, settings):
    settings.OUTGOING_TIMEOUT_S = 0.3
    held = threading.Event()
    there.answer = lambda posted: 200 if held.wait(20) else 500
    sent()
    began = time.monotonic()
    pump()
    assert time.monotonic() - began < 5
    held.set()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.error, delivery.status) == ("the server did not answer in time", None)
    assert 250 < delivery.duration_ms < 2_000


def test_a_secret_that_cannot_be_read_fails_and_a_new_one_mends_it(endpoint, there, sent):
    WebhookEndpoint.objects.update(secret=b"\x01broken")
    sent()
    pump()
    assert WebhookDelivery.objects.get().error == delivering.UNREADABLE
    new = secret_rotate(endpoint=endpoint, overlap=timedelta(0))
    be_due()
    pump()
    assert is_signed(new.secret, there.got[0])


# --- Tests and replays -----------------------------------------------------------------------------------------------


def test_a_test_comes_past_what_waits(endpoint, there, sent):
    there.answer = lambda posted: 200 if posted.events[0]["type"] == "webhook.test" else 500
    sent()
    pump()
    delivery = endpoint_test(endpoint=endpoint, by="kim")
    pump()
    [event] = there.events
    assert (event["type"], event["data"]) == ("webhook.test", {"message": "This is a test. Nothing happened."})
    delivery.refresh_from_db()
    assert (delivery.state, delivery.lane, delivery.requested_by) == ("delivered", ASKED_LANE, "kim")


def test_one_delivery_or_a_time_can_be_sent_again(endpoint, there, sent):
    since = timezone.now()
    messages = sent(5)
    route_all()
    live(messages)
    pump()
    first = there.taken[0]
    old = WebhookDelivery.objects.get(pk=first.headers["x-automata-delivery"])
    again = delivery_replay(delivery=old, by="kim")
    assert again.replay_of == old.pk
    pump()
    assert there.taken[-1].body == first.body
    assert there.taken[-1].headers["x-automata-delivery"] == str(again.pk)
    there.taken.clear()
    made = WebhookDelivery.objects.exclude(lane=ASKED_LANE).count()
    assert deliveries_replay(endpoint=endpoint, since=since, until=timezone.now() + timedelta(seconds=1)) == made
    assert deliveries_replay(endpoint=endpoint, since=since - timedelta(days=1), until=since) == 0
    pump()
    assert len(there.taken) == made
    for message in messages:
        assert there.told_of(message.pk) == ["successful", "received", "converted"]


def test_what_waits_or_is_not_active_cannot_be_sent_again(endpoint, there, sent):
    there.answer = lambda posted: 500
    sent()
    pump()
    delivery = WebhookDelivery.objects.select_related("endpoint").get()
    with pytest.raises(Conflict, match="still waits"):
        delivery_replay(delivery=delivery)
    endpoint_update(endpoint=endpoint, is_active=False)
    with pytest.raises(Conflict, match="not active"):
        endpoint_test(endpoint=endpoint)


# --- Forgetting ------------------------------------------------------------------------------------------------------


def test_deliveries_are_forgotten_and_what_was_lost_is_counted(endpoint, there, sent):
    answers = iter([200, 500])
    there.answer = lambda posted: next(answers)
    sent(3)
    pump()
    delivered = WebhookDelivery.objects.count()
    WebhookLane.objects.update(retry_at=timezone.now() + timedelta(hours=1))
    lost = sent(7)
    pump()
    endpoint_test(endpoint=endpoint)
    assert not deliveries_forget(now=timezone.now() + timedelta(days=6))
    assert WebhookDelivery.objects.count() > delivered
    assert not deliveries_forget(now=timezone.now() + timedelta(days=8))
    assert not WebhookDelivery.objects.exists()
    waited = now_of(endpoint).lost_events
    assert waited >= len(lost)
    assert now_of(endpoint).lost_at


def test_events_that_are_no_longer_kept_are_left_out(endpoint, there, sent):
    gone, kept = sent(2)
    later = sent()
    route_all()
    MessageEvent.objects.filter(message_id=gone.pk).delete()
    Message.objects.filter(pk=later[0].pk).delete()
    pump()
    assert [event["data"]["message_id"] for event in there.events] == [str(kept.pk)]
    assert not WebhookDelivery.objects.filter(state="waiting").exists()


def test_ids_of_deliveries_have_the_time_in_them(endpoint, sent):
    before = first_id_at(int(time.time() * 1_000))
    sent(3)
    route_all()
    assert all(before <= row.pk <= first_id_at(int(time.time() * 1_000) + 1) for row in WebhookDelivery.objects.all())
