"""The counters on the campaign and its message rows say the same."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from django.db import transaction
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.models import CampaignFailure, MessageCampaign
from apps.campaigns.recorder import record_campaign_counts
from apps.messaging import lifecycle, recorders
from apps.messaging.dispatch import claim_batch
from apps.messaging.models import BatchState, DispatchBatch, Message
from apps.messaging.recorders import PLANNED, StatusCount
from apps.subscriptions.models import Subscription
from tests.campaigns.test_lifecycle import in_threads

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(launched, people):
    """A campaign with 40 pending messages."""
    people(40)
    campaign = launched()
    services.fan_out(campaign.pk)
    for batch_id in DispatchBatch.objects.values_list("pk", flat=True):
        claim_batch(batch_id)
    return campaign


def move(step: str, source: str, ids, reason: str = "") -> None:
    """As messaging moves messages: the transition and the recorders, in one transaction."""
    message = Message.objects.first()
    with transaction.atomic():
        counts = lifecycle.apply(
            step,
            source=source,
            ids=ids,
            application_id=message.application_id,
            at=timezone.now(),
            attempted=step in ("send", "error"),
            reason=reason or None,
            retry_at=timezone.now() if step == "error" else None,
        )
        recorders.record(counts)


def counters_equal_rows() -> None:
    row = MessageCampaign.objects.get()
    now = Counter(Message.objects.values_list("status", flat=True))
    assert row.total_recipients == sum(now.values())
    assert row.successful_count == now["successful"] + now["received"] + now["converted"]
    assert row.received_count == now["received"] + now["converted"]
    assert row.converted_count == now["converted"]
    assert row.failed_count == now["failed"]
    reasons = Counter(Message.objects.filter(status="failed").values_list("error_reason", flat=True))
    assert dict(CampaignFailure.objects.values_list("reason", "count")) == dict(reasons)


@pytest.mark.parametrize("seed", range(5))
def test_after_any_transitions_the_counters_equal_the_rows(sent, seed):
    chance = random.Random(seed)
    table = [(step.name, source) for step in lifecycle.steps().values() for source in sorted(step.sources)]
    ids = list(Message.objects.values_list("pk", flat=True))
    for _ in range(30):
        step, source = chance.choice(table)
        reason = chance.choice(["Unregistered", "BadDeviceToken"]) if step in ("fail", "error") else ""
        move(step, source, chance.sample(ids, 25), reason)
        counters_equal_rows()


def test_the_stats_add_up(server, sent):
    ids = list(Message.objects.values_list("pk", flat=True))
    move("send", "pending", ids[:30])
    move("receive", "successful", ids[:20])
    move("convert", "received", ids[:5])
    move("fail", "pending", ids[30:33], "Unregistered")
    move("fail", "pending", ids[33:34], "BadDeviceToken")
    move("error", "pending", ids[34:36], "TooManyRequests")
    stats = server.get(f"campaigns/{sent.pk}/stats").json()["data"]
    assert stats["by_status"] == {
        "pending": 4, "errored": 2, "successful": 10, "received": 15, "converted": 5, "failed": 4,
    }  # fmt: skip
    assert sum(stats["by_status"].values()) == stats["total"] == 40
    assert [stats[name] for name in ("successful", "failed", "received", "converted")] == [30, 4, 20, 5]
    assert list(stats["failures"].items()) == [("Unregistered", 3), ("BadDeviceToken", 1)]
    assert stats["rates"] == {"successful": 0.8824, "received": 0.6667, "converted": 0.25}
    assert stats["progress"] == 0.85
    assert stats["fanout_done"] is True
    assert stats["started_at"] is not None
    assert stats["finished_at"] is None
    assert stats["messages_per_second"] > 0


def test_the_stats_of_a_draft_are_zeros(server, draft):
    stats = server.get(f"campaigns/{draft()}/stats").json()["data"]
    assert stats["total"] == sum(stats["by_status"].values()) == 0
    assert stats["rates"] == {"successful": None, "received": None, "converted": None}
    assert (stats["progress"], stats["messages_per_second"], stats["started_at"]) == (0.0, None, None)


def test_the_stats_of_a_running_fan_out_are_not_complete(server, launched, people, settings):
    settings.BATCH_SIZE = 5
    people(50)
    campaign = launched()
    services.fan_out_step(campaign.pk)
    DispatchBatch.objects.update(state=BatchState.DONE)
    MessageCampaign.objects.update(successful_count=20)
    stats = server.get(f"campaigns/{campaign.pk}/stats").json()["data"]
    assert (stats["total"], stats["fanout_done"], stats["progress"]) == (20, False, 0.99)


def test_who_leaves_before_their_message_is_made_leaves_the_total(launched, people):
    people(10)
    campaign = launched()
    services.fan_out(campaign.pk)
    gone = Subscription.objects.order_by("?").values_list("pk", flat=True)[:4]
    Subscription.objects.filter(pk__in=list(gone)).update(subscription_status=-2)
    claim_batch(DispatchBatch.objects.get().pk)
    assert MessageCampaign.objects.get().total_recipients == Message.objects.count() == 6


def test_messages_of_no_campaign_and_of_a_deleted_one_are_no_trouble(application, sent):
    stray = StatusCount(application.pk, application.pk, "push", "pending", "failed", "x", 3)
    record_campaign_counts([stray, stray._replace(campaign_id=None)])
    counters_equal_rows_but_for_failures = MessageCampaign.objects.get()
    assert counters_equal_rows_but_for_failures.failed_count == 0


def test_the_counts_of_several_campaigns_are_three_statements_at_most(
    application, draft, django_assert_max_num_queries
):
    ids = [draft(name=str(number)) for number in range(6)]
    counts = [
        StatusCount(application.pk, key, "push", old, new, reason, 2)
        for key in ids
        for old, new, reason in [("pending", "successful", ""), ("pending", "failed", "x"), (PLANNED, "", "")]
    ]
    MessageCampaign.objects.update(total_recipients=10)
    with django_assert_max_num_queries(3):
        record_campaign_counts(counts)
    rows = MessageCampaign.objects.values_list("total_recipients", "successful_count", "failed_count")
    assert set(rows) == {(8, 2, 2)}


@pytest.mark.django_db(transaction=True)
def test_slices_that_share_campaigns_do_not_deadlock(application, draft):
    import uuid

    ids = [uuid.UUID(draft(name=str(number))) for number in range(8)]

    def work(number: int) -> None:
        chance = random.Random(number)
        for _ in range(25):
            counts = [StatusCount(application.pk, key, "push", "pending", "failed", "x", 1) for key in ids]
            chance.shuffle(counts)
            with transaction.atomic():
                record_campaign_counts(counts)

    in_threads(4, work)
    assert set(MessageCampaign.objects.values_list("failed_count", flat=True)) == {100}
    assert set(CampaignFailure.objects.values_list("count", flat=True)) == {100}
