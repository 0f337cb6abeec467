"""The whole way with real processes: API → queue → worker → provider → receipt → figures; and crashes in between."""

import time
from collections import Counter

import pytest
from django.utils import timezone

from apps.messaging.models import DispatchBatch, Message
from apps.subscriptions.models import Subscription
from tests.factories import handle_of, make_subscription, make_subscriptions, make_user
from tests.fleet import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

ALL_QUEUES = "control,push.high,push.medium,push.low"


def ios_tokens(count, prefix=""):
    return [f"{prefix}{n:0{64 - len(prefix)}x}" for n in range(count)]


def android_tokens(count):
    return [f"android-{n:06d}:{'x' * 130}" for n in range(count)]


def launch(server, **fields):
    campaign = {"name": "Sale", "title": "Hi {{ nobody }}", "body": "20 % off", "targeting_criteria": {}} | fields
    answer = server.post("campaigns", campaign)
    assert answer.status_code == 201, answer.content
    campaign_id = answer.json()["data"]["id"]
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert answer.status_code in (200, 202), answer.content
    return campaign_id


def stats(server, campaign_id):
    return server.get(f"campaigns/{campaign_id}/stats").json()["data"]


def status_of(server, campaign_id):
    return server.get(f"campaigns/{campaign_id}").json()["data"]["status"]


def test_a_campaign_from_the_api_call_to_the_tap(application, server, sdk, fleet, apns, fcm):
    make_subscriptions(application, ios_tokens(1_200))
    make_subscriptions(application, ios_tokens(30, "dead4101"))
    make_subscriptions(application, android_tokens(1_000), type="AndroidPush")
    fleet.start_worker(ALL_QUEUES, concurrency=2)
    fleet.start_beat()
    campaign_id = launch(server)
    wait_until(lambda: status_of(server, campaign_id) == "completed", timeout_s=60)

    figures = server.get(f"campaigns/{campaign_id}").json()["data"]
    assert figures["total_recipients"] == 2_230
    assert (figures["successful_count"], figures["failed_count"]) == (2_200, 30)
    assert (apns.stats()["accepted"], fcm.stats()["accepted"]) == (1_200, 1_000)
    assert apns.duplicates() == fcm.duplicates() == []
    assert Subscription.objects.filter(subscription_status=-10).count() == 30

    some = list(Message.objects.filter(status="successful")[:300])
    events = [{"message_id": str(m.pk), "type": "received", "handle": handle_of(m)} for m in some]
    events += [{"message_id": str(m.pk), "type": "converted", "handle": handle_of(m)} for m in some[:100]]
    assert sdk.post("receipts", {"events": events}).json()["data"]["accepted"] == 400
    figures = server.get(f"campaigns/{campaign_id}").json()["data"]
    assert (figures["received_count"], figures["converted_count"]) == (300, 100)
    assert Counter(Message.objects.values_list("status", flat=True)) == {
        "successful": 1_900,
        "received": 200,
        "converted": 100,
        "failed": 30,
    }


def test_a_one_time_password_does_not_wait_behind_a_campaign(application, server, fleet, apns, fcm):
    make_subscriptions(application, ios_tokens(3_000))
    user = make_user(application, "u-1")
    make_subscription(application, token="ff" * 32, user=user)
    apns.settings(latency_ms=200)
    fleet.start_worker("control,push.low")
    fleet.start_worker("push.high")
    campaign_id = launch(server, targeting_criteria={"not": {"field": "external_id", "op": "eq", "value": "u-1"}})
    wait_until(lambda: len(apns.journal(limit=50)["entries"]) >= 50)
    sent = server.post(
        "messages",
        {"recipients": {"external_ids": ["u-1"]}, "title": "Your code", "body": "123456", "priority": "high"},
    ).json()["data"]["messages"][0]
    wait_until(lambda: Message.objects.get(pk=sent["id"]).status == "successful")
    assert status_of(server, campaign_id) == "running"
    assert Message.objects.filter(campaign_id=campaign_id, status="pending").exists()


def test_killed_workers_lose_nobody(application, server, fleet, apns, fcm):
    """`kill -9` of every worker in the middle; others take up what they held, and no operator has to act."""
    make_subscriptions(application, ios_tokens(4_000))
    apns.settings(latency_ms=100, jitter_ms=50)
    workers = [fleet.start_worker(ALL_QUEUES, concurrency=2)]
    fleet.start_beat()
    campaign_id = launch(server)
    wait_until(lambda: apns.stats()["accepted"] >= 300)
    fleet.kill(workers[0])
    in_flight = DispatchBatch.objects.filter(state="claimed").count() * 1_000
    fleet.start_worker(ALL_QUEUES, concurrency=2)
    wait_until(lambda: status_of(server, campaign_id) == "completed", timeout_s=90)
    assert Counter(Message.objects.values_list("status", flat=True)) == {"successful": 4_000}
    assert len(apns.accepted_by_token()) == 4_000, "everybody got it"
    twice = apns.duplicates()
    assert len(twice) <= in_flight
    assert all(d["count"] == 2 for d in twice), "and what was sent twice carries the same collapse id"


def test_a_lost_queue_is_filled_again_from_the_database(application, server, fleet, apns, fcm):
    import redis
    from django.conf import settings

    make_subscriptions(application, ios_tokens(1_500))
    user = make_user(application, "u-1")
    make_subscription(application, token="ff" * 32, user=user)
    body = {"recipients": {"external_ids": ["u-1"]}, "title": "Hi", "body": "x"}
    assert server.post("messages", body).status_code == 202
    redis.Redis.from_url(settings.REDIS_URL).flushdb()
    fleet.start_worker(ALL_QUEUES)
    fleet.start_beat()
    wait_until(lambda: Message.objects.get().status == "successful")


def test_a_canceled_campaign_fails_the_rest_within_seconds(application, server, fleet, apns, fcm):
    make_subscriptions(application, ios_tokens(5_000))
    apns.settings(latency_ms=300)
    fleet.start_worker("control")
    fleet.start_worker("push.low")
    fleet.start_beat()
    campaign_id = launch(server)
    wait_until(lambda: apns.stats()["accepted"] >= 100)
    began = time.monotonic()
    assert server.post(f"campaigns/{campaign_id}/cancel").status_code in (200, 202)
    wait_until(lambda: not DispatchBatch.objects.exclude(state="done").exists())
    took_s = time.monotonic() - began
    states = Counter(Message.objects.values_list("status", "error_reason"))
    assert set(states) == {("successful", None), ("failed", "canceled")}
    assert sum(states.values()) == 5_000
    figures = server.get(f"campaigns/{campaign_id}").json()["data"]
    assert figures["status"] == "canceled"
    assert (figures["successful_count"], figures["failed_count"]) == (
        states["successful", None],
        states["failed", "canceled"],
    )
    assert took_s < 20


def test_a_message_for_later_leaves_at_its_time(application, server, fleet, apns, fcm):
    user = make_user(application, "u-1")
    make_subscription(application, token="ff" * 32, user=user)
    fleet.start_worker(ALL_QUEUES)
    fleet.start_beat()
    at = timezone.now() + timezone.timedelta(seconds=4)
    server.post("messages", {"recipients": {"external_ids": ["u-1"]}, "body": "x", "send_at": at.isoformat()})
    wait_until(lambda: Message.objects.get().status == "successful")
    assert Message.objects.get().sent_at >= at
