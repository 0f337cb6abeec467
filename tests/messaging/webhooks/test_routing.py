"""From events to deliveries: each event once for each endpoint that asked for it, a message's in their order."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction

from apps.messaging.models import MessageEvent
from apps.messaging.webhooks import routing
from apps.messaging.webhooks.models import WebhookDelivery, WebhookReader
from apps.messaging.webhooks.routing import route_all, route_step
from apps.messaging.webhooks.services import endpoint_create, endpoint_delete
from apps.subscriptions.models import SubscriptionEvent
from tests.analytics.happenings import move, run_sql
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_dispatch, make_messages

pytestmark = pytest.mark.django_db(transaction=True)
URL = "https://hooks.example/events"


@pytest.fixture
def wants(application):
    """`wants(event_types=…)` makes an endpoint, at which nobody listens."""

    def make(*, of=application, **fields):
        return endpoint_create(application=of, url=URL, **fields).endpoint

    return make


def written_down(endpoint) -> list[str]:
    """The events of its deliveries, in the order in which each lane delivers them."""
    rows = WebhookDelivery.objects.filter(endpoint=endpoint).order_by("sequence")
    return [str(key) for row in rows for key in row.event_ids]


def types_of(endpoint) -> set[str]:
    keys = written_down(endpoint)
    found = MessageEvent.objects.filter(pk__in=keys).values_list("event_type", flat=True)
    others = SubscriptionEvent.objects.filter(pk__in=keys).values_list("event_type", flat=True)
    return {f"message.{name}" for name in found} | {f"subscription.{name}" for name in others}


def test_each_event_is_written_down_once_for_each_endpoint(application, other_application, sent, wants):
    first, second, stranger = wants(), wants(), wants(of=other_application)
    messages = sent(250)
    theirs = sent(3, of=other_application)
    route_all()
    move("receive", "successful", messages[:20])
    route_all()
    route_all()
    mine = {str(key) for key in MessageEvent.objects.for_application(application).values_list("pk", flat=True)}
    for endpoint in (first, second):
        assert sorted(written_down(endpoint)) == sorted(mine)
    assert len(mine) == 270
    assert {key[:34] for key in written_down(stranger)} == {str(message.pk)[:34] for message in theirs}
    sizes = [len(row.event_ids) for row in WebhookDelivery.objects.all()]
    assert max(sizes) <= 100


def test_an_endpoint_gets_the_types_and_channels_that_it_asked_for(application, sent, wants, sdk):
    failures, of_messages, lists = wants(event_types=["message.failed"]), wants(event_types=["message.*"]), wants()
    subscriptions = wants(event_types=["subscription.*"])
    mail, push = wants(channels=["email"]), wants(channels=["push"])
    sdk.post("subscriptions", {"type": "iOSPush", "token": "ab" * 32, "enabled": True})
    messages = sent(2)
    move("fail", "successful", messages[:1], reason="Unregistered")
    mails = make_messages(application, ["pending"], dispatch=make_dispatch(application, channel_type="email"))
    type(mails[0]).objects.filter(pk=mails[0].pk).update(channel_type="email")
    move("send", "pending", mails)
    route_all()
    assert types_of(failures) == {"message.failed"}
    assert types_of(of_messages) == {"message.failed", "message.successful"}
    assert types_of(subscriptions) == {"subscription.registered", "subscription.subscribed"}
    assert types_of(lists) == types_of(of_messages) | types_of(subscriptions)
    assert [key[:34] for key in written_down(mail)] == [str(mails[0].pk)[:34]]
    assert types_of(push) == types_of(lists)
    assert len(written_down(push)) == len(written_down(lists)) - 1


def test_what_was_before_an_endpoint_is_not_told_to_it(sent, wants):
    sent(3)
    endpoint = wants()
    later = sent(1)
    route_all()
    assert [key[:34] for key in written_down(endpoint)] == [str(later[0].pk)[:34]]
    another = wants()
    route_all()
    assert written_down(another) == []


def test_a_messages_events_lie_in_one_lane_and_all_lanes_are_used(sent, wants):
    endpoint = wants()
    messages = [message for _ in range(3) for message in sent(20)]
    move("receive", "successful", messages)
    route_all()
    lanes = {}
    for row in WebhookDelivery.objects.all():
        for key in row.event_ids:
            lanes.setdefault(str(key)[:34], set()).add(row.lane)
    assert all(len(numbers) == 1 for numbers in lanes.values())
    assert set.union(*lanes.values()) == set(range(endpoint.lanes))


def test_retries_come_before_the_end_also_in_one_transaction(application, wants):
    """Their numbers are higher, and they have the same position."""
    endpoint = wants()
    messages = make_messages(application, ["pending"])
    with transaction.atomic():
        move("error", "pending", messages, reason="busy")
        move("retry", "errored", messages)
        move("error", "pending", messages, reason="busy")
        move("retry", "errored", messages)
        move("send", "pending", messages)
        move("fail", "successful", messages, reason="no receipt")
    route_all()
    assert states_of(endpoint, messages[0]) == ["errored", "pending", "errored", "pending", "successful", "failed"]


def test_a_receipt_of_an_older_transaction_takes_the_sending_along(application, wants):
    """The receipt's transaction began before the one that recorded the sending: its position is lower, and here the
    horizon lies between the two."""
    endpoint = wants()
    other, message = make_messages(application, ["pending"] * 2)
    began, is_sent, holds, may_end = (threading.Event() for _ in range(4))

    def receipts() -> None:
        with transaction.atomic():
            move("send", "pending", [other])
            began.set()
            is_sent.wait(20)
            move("receive", "successful", [message])
        connection.close()

    def holds_the_horizon() -> None:
        with transaction.atomic():
            run_sql("SELECT pg_current_xact_id()")
            holds.set()
            may_end.wait(20)
        connection.close()

    older, between = threading.Thread(target=receipts), threading.Thread(target=holds_the_horizon)
    try:
        older.start()
        assert began.wait(20)
        between.start()
        assert holds.wait(20)
        move("send", "pending", [message])
        is_sent.set()
        older.join()
        route_all()
        assert states_of(endpoint, message) == ["successful", "received"]
    finally:
        may_end.set()
        between.join()
    route_all()
    assert states_of(endpoint, message) == ["successful", "received", "successful"]


def states_of(endpoint, message) -> list[str]:
    keys = [key for key in written_down(endpoint) if key[:34] == str(message.pk)[:34]]
    return [MessageEvent.objects.get(pk=key).event_type for key in keys]


def test_routers_at_the_same_time_write_down_once(application, sent, wants, monkeypatch):
    monkeypatch.setattr(routing, "STEP_EVENTS", 20)
    endpoint = wants()
    for _ in range(10):
        sent(10)

    def work(number: int) -> None:
        for _ in range(5):
            sent(7) if number == 0 else route_all()

    in_threads(3, work)
    route_all()
    keys = written_down(endpoint)
    assert len(keys) == len(set(keys)) == 135


def test_a_step_that_dies_has_done_nothing(sent, wants, monkeypatch):
    endpoint = wants()
    sent(5)
    with transaction.atomic():
        assert route_step().events == 5
        transaction.set_rollback(True)
    assert not WebhookDelivery.objects.exists()
    route_all()
    assert len(written_down(endpoint)) == 5


def test_steps_are_bounded(sent, wants, monkeypatch):
    monkeypatch.setattr(routing, "STEP_EVENTS", 10)
    endpoint = wants()
    for _ in range(8):
        sent(4)
    assert route_all(max_s=0)
    assert not route_all(max_s=60)
    assert len(written_down(endpoint)) == 32


def test_without_endpoints_nothing_is_read(sent, wants):
    endpoint = wants()
    sent(1)
    route_all()
    watermark = WebhookReader.objects.get().watermark
    endpoint_delete(endpoint=endpoint)
    assert not WebhookDelivery.objects.exists()
    sent(1)
    route_all()
    assert WebhookReader.objects.get().watermark == watermark
    wants()
    route_all()
    assert not WebhookDelivery.objects.exists()
