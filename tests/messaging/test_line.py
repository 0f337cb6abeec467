"""Batches that go the same way leave behind each other, without waiting for each other's answers."""

import threading
import time
from uuid import UUID

import pytest
import redis
from django.conf import settings
from django.db import connection

from apps.messaging import dispatch, tasks
from apps.messaging.content import content_source
from apps.messaging.dispatches import dispatch_pause, dispatch_slice
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.messaging.named import Recipients
from apps.messaging.queues import QueuedBatch
from apps.messaging.services import messages_send
from apps.tenants.models import ChannelCredential
from apps.tenants.services import breaker_open
from tests.factories import make_dispatch, make_subscription, make_subscriptions
from tests.fleet import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]

SLOW_MS = 400


def send_one(application, subscription, *, priority="medium") -> UUID:
    """A message to one device by the API's service; the id of its batch."""
    content = content_source(application=application, channel_type="push", title="Hi", body="There")
    messages_send(
        application=application,
        channel_type="push",
        recipients=Recipients(subscription_ids=[subscription.pk]),
        content=content,
        priority=priority,
    )
    return DispatchBatch.objects.latest("pk").pk


@pytest.fixture
def devices(application):
    return make_subscriptions(application, [f"{n:064x}" for n in range(30)])


def states() -> list[str]:
    return sorted(DispatchBatch.objects.values_list("state", flat=True))


def in_a_thread(work) -> threading.Thread:
    def run():
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_single_messages_leave_together(application, apns, devices):
    apns.settings(latency_ms=SLOW_MS, jitter_ms=0)
    batches = [send_one(application, device) for device in devices]
    began = time.monotonic()
    dispatch.run_line(batches[0], application.pk)
    assert time.monotonic() - began < len(batches) * SLOW_MS / 1000 / 2, "one after the other would take twice as long"
    assert states() == ["done"] * 30
    assert apns.stats()["accepted"] == 30


def test_alone_means_alone(application, apns, devices):
    batches = [send_one(application, device) for device in devices[:3]]
    assert dispatch.run_batch(batches[1])
    assert states() == ["done", "waiting", "waiting"]


def test_what_comes_while_an_answer_is_awaited_leaves_at_once(application, apns, devices):
    apns.settings(latency_ms=1_500, jitter_ms=0)
    first = send_one(application, devices[0])
    working = in_a_thread(lambda: dispatch.run_line(first, application.pk))
    wait_until(lambda: apns.stats()["requests"] == 1)
    send_one(application, devices[1])
    wait_until(lambda: apns.stats()["requests"] == 2, timeout_s=1.4)
    assert not Message.objects.exclude(status="pending").exists(), "neither is answered"
    working.join()
    assert states() == ["done"] * 2


def test_only_what_goes_the_same_way_joins(application, other_application, apns, devices):
    batches = [
        send_one(application, devices[0]),
        send_one(application, devices[1], priority="high"),
        send_one(application, make_subscription(application, type="AndroidPush", token="fcm-token")),
        send_one(other_application, make_subscription(other_application, token="f" * 64)),
        send_one(application, devices[2]),
    ]
    dispatch.run_line(batches[0], application.pk)
    done = set(DispatchBatch.objects.filter(state="done").values_list("pk", flat=True))
    assert done == {batches[0], batches[4]}


def test_what_is_paused_canceled_or_not_due_does_not_join(application, apns, devices):
    batches = [send_one(application, device) for device in devices[:3]]
    dispatch_pause(Dispatch.objects.get(batches=batches[1]))
    DispatchBatch.objects.filter(pk=batches[2]).update(due_at="2100-01-01T00:00Z")
    dispatch.run_line(batches[0], application.pk)
    assert states() == ["done", "waiting", "waiting"]


def test_a_campaign_is_one_line(application, apns, settings):
    settings.BATCH_SIZE = 100
    make_subscriptions(application, [f"{n:064x}" for n in range(1_000)])
    order = make_dispatch(application, audience={})
    batch_ids = dispatch_slice(dispatch=order, after_id=None, limit=10_000).batch_ids
    dispatch.run_line(batch_ids[0], application.pk)
    assert states() == ["done"] * 10
    assert set(Message.objects.values_list("status", "attempts")) == {("successful", 1)}
    assert apns.duplicates() == []


def test_when_the_breaker_opens_what_joined_goes_back(application, apns, settings, monkeypatch):
    """Nothing of what was not sent is failed or held."""
    monkeypatch.setattr(dispatch, "STOP_CHECK_S", 0.05)
    settings.BATCH_SIZE = 100
    settings.PROVIDER_CONNECTIONS, settings.PROVIDER_STREAMS = 1, 10
    apns.settings(latency_ms=20)
    make_subscriptions(application, [f"{n:064x}" for n in range(400)])
    batch_ids = dispatch_slice(dispatch=make_dispatch(application, audience={}), after_id=None, limit=10_000).batch_ids
    working = in_a_thread(lambda: dispatch.run_line(batch_ids[0], application.pk))
    wait_until(lambda: apns.stats()["accepted"] >= 120, timeout_s=90)
    breaker_open(ChannelCredential.objects.get(provider="apns").pk, "elsewhere", cause="outage")
    working.join()
    sent = Message.objects.filter(status="successful").count()
    assert 120 <= sent == apns.stats()["accepted"] < 400
    assert not DispatchBatch.objects.filter(state="claimed").exists()
    assert not Message.objects.exclude(status__in=["successful", "pending"]).exists()


def test_the_worker_that_dies_in_a_line_loses_only_its_leases(application, apns, devices, monkeypatch):
    """PostgreSQL goes away as the next one is claimed: what left is recorded, and the rest waits for its lease."""
    batches = [send_one(application, device) for device in devices[:3]]

    def refuse(way):
        raise RuntimeError("away")

    monkeypatch.setattr(dispatch, "claim_next", refuse)
    with pytest.raises(RuntimeError):
        dispatch.run_line(batches[0], application.pk)
    assert Message.objects.filter(status="successful").count() == 1
    assert states() == ["done", "waiting", "waiting"]


# --- One task for all that go the same way ---------------------------------------------------------------------------


@pytest.fixture
def queue():
    """The tasks that wait for a worker of MEDIUM push."""
    broker = redis.Redis.from_url(settings.REDIS_URL)
    broker.flushdb()
    yield lambda: broker.llen("push.medium")
    broker.flushdb()


def test_one_task_waits_for_all_that_go_the_same_way(application, other_application, apns, devices, queue):
    batches = [send_one(application, device) for device in devices[:5]]
    send_one(other_application, make_subscription(other_application, token="f" * 64))
    assert queue() == 2
    tasks.send_batch(str(batches[0]), str(application.pk), mark_of(batches[0]))
    assert states() == ["done"] * 5 + ["waiting"]
    send_one(application, devices[5])
    assert queue() == 3, "the first has begun: what comes later needs another one"


def test_a_task_whose_batch_was_taken_takes_the_next(application, apns, devices):
    first, second = (send_one(application, device) for device in devices[:2])
    dispatch.run_batch(first)
    dispatch.run_line(first, application.pk)
    assert states() == ["done"] * 2
    dispatch.run_line(second, application.pk)
    assert apns.stats()["accepted"] == 2


def test_a_line_that_has_no_more_time_hands_over(application, apns, devices, queue, monkeypatch):
    monkeypatch.setattr(dispatch, "LINE_S", 0.0)
    batches = [send_one(application, device) for device in devices[:3]]
    left = []
    for _ in range(3):
        assert queue() == 1
        redis.Redis.from_url(settings.REDIS_URL).delete("push.medium")
        tasks.send_batch(str(batches[0]), str(application.pk), mark_of(batches[0]))
        left.append(states().count("waiting"))
    assert left == [2, 1, 0]


def mark_of(batch_id) -> str:
    batch = DispatchBatch.objects.get(pk=batch_id)
    return QueuedBatch(batch.pk, batch.application_id, "push", batch.priority, batch.subscription_type).task.mark
