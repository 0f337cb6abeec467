"""From the audience to batches: everybody exactly once, whatever happens in between."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection, transaction

from apps.campaigns import services
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import fanout
from apps.campaigns.services.fanout import Step
from apps.campaigns.tasks import continue_fanouts, fan_out
from apps.messaging.dispatch import claim_batch
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import DispatchBatch, Message
from apps.subscriptions.models import Subscription
from automata_signal import celery
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_dispatch

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small_steps(settings, monkeypatch):
    settings.BATCH_SIZE = 5
    monkeypatch.setattr(fanout, "FIRST_STEP_BATCHES", 2)
    step = services.fanout.fan_out_step
    monkeypatch.setattr(fanout, "fan_out_step", lambda campaign_id: step(campaign_id, limit=20))


@pytest.fixture
def queued(monkeypatch):
    """The fan-outs that were queued, instead of queueing them."""
    asked: list[uuid.UUID] = []
    monkeypatch.setattr(fanout, "queue_fan_out", asked.append)
    return asked


def everybody_exactly_once() -> bool:
    """Claim all batches, as workers do, and compare their messages with the audience."""
    for batch_id in DispatchBatch.objects.order_by("?").values_list("pk", flat=True):
        assert claim_batch(batch_id) is not None
    reached = list(Message.objects.values_list("subscription_id", flat=True))
    assert len(reached) == len(set(reached))
    return set(reached) == set(Subscription.objects.values_list("pk", flat=True))


def test_everybody_is_reached_once_in_batches_of_one_type(launched, people):
    for _ in range(10):
        people(4)
        people(3, type="AndroidPush")
    campaign = launched()
    assert services.fan_out(campaign.pk) is Step.DONE
    campaign = MessageCampaign.objects.get()
    assert campaign.total_recipients == 70
    assert campaign.fanout_done_at is not None
    assert max(DispatchBatch.objects.values_list("recipient_count", flat=True)) <= 5
    assert everybody_exactly_once()


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize("limit", [1, 5, 21, 22])
def test_a_step_is_cut_into_full_slices_of_one_type_in_the_order_of_their_ids(
    application, people, settings, size, limit
):
    settings.BATCH_SIZE = size
    for _ in range(7):
        people(2)
        people(1, type="AndroidPush")
    kinds = dict(Subscription.objects.order_by("id").values_list("id", "type"))
    dispatch = make_dispatch(application, audience={})
    after: uuid.UUID | None = None
    left = list(kinds)
    while left or after:
        step, left = left[:limit], left[limit:]
        of_kind = [[id_ for id_ in step if kinds[id_] == kind] for kind in ("iOSPush", "AndroidPush")]
        slices = [ids[start : start + size] for ids in of_kind for start in range(0, len(ids), size)]
        expected = sorted(((kinds[ids[0]], ids[0], ids[-1], len(ids)) for ids in slices), key=lambda row: row[2])
        sliced = dispatch_slice(dispatch=dispatch, after_id=after, limit=limit)
        made = DispatchBatch.objects.in_bulk(sliced.batch_ids)
        batches = [made[batch_id] for batch_id in sliced.batch_ids]
        names = ("subscription_type", "first_subscription_id", "last_subscription_id", "recipient_count")
        assert [tuple(getattr(batch, name) for name in names) for batch in batches] == expected
        assert sliced.recipients == len(step)
        after = sliced.last_id
        assert after == (step[-1] if len(step) == limit else None)


def test_the_first_step_is_small_so_that_the_first_messages_leave_at_once(launched, people):
    people(50)
    campaign = launched()
    assert fanout.fan_out_step(campaign.pk) is Step.MORE
    assert MessageCampaign.objects.get().total_recipients == 10
    assert fanout.fan_out_step(campaign.pk) is Step.MORE
    assert MessageCampaign.objects.get().total_recipients == 30


@pytest.mark.parametrize("crash_at", [1, 2, 3, 4])
@pytest.mark.django_db(transaction=True)
def test_a_crash_at_any_step_neither_skips_nor_repeats_anybody(launched, people, monkeypatch, crash_at):
    people(55)
    campaign = launched()
    cut, calls = fanout.dispatch_slice, 0

    def cut_and_die(**kwargs):
        nonlocal calls
        calls += 1
        sliced = cut(**kwargs)
        if calls == crash_at:
            raise SystemExit("the worker is killed after the batches were written, before the checkpoint")
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr(fanout, "dispatch_slice", cut_and_die)
        with pytest.raises(SystemExit):
            services.fan_out(campaign.pk)
    before = MessageCampaign.objects.get()
    assert before.fanout_done_at is None
    assert before.total_recipients == sum(DispatchBatch.objects.values_list("recipient_count", flat=True))
    assert services.fan_out(campaign.pk) is Step.DONE
    assert MessageCampaign.objects.get().total_recipients == 55
    assert everybody_exactly_once()


def test_fanning_out_again_does_nothing(launched, people):
    people(7)
    campaign = launched()
    assert services.fan_out(campaign.pk) is Step.DONE
    assert services.fan_out(campaign.pk) is Step.STOPPED
    assert services.fan_out(uuid.uuid4()) is Step.STOPPED
    assert MessageCampaign.objects.get().total_recipients == 7


def test_a_pause_stops_the_fan_out_and_a_resume_goes_on_where_it_was(server, launched, people):
    people(60)
    campaign = launched()
    assert fanout.fan_out_step(campaign.pk) is Step.MORE
    server.post(f"campaigns/{campaign.pk}/pause")
    assert fanout.fan_out_step(campaign.pk) is Step.STOPPED
    assert MessageCampaign.objects.get().total_recipients == 10
    server.post(f"campaigns/{campaign.pk}/resume")
    assert services.fan_out(campaign.pk) is Step.DONE
    assert MessageCampaign.objects.get().total_recipients == 60
    assert everybody_exactly_once()


@pytest.mark.parametrize("action", ["pause", "cancel"])
@pytest.mark.django_db(transaction=True)
def test_a_step_during_which_the_campaign_is_stopped_never_was(server, launched, people, monkeypatch, action):
    people(60)
    campaign = launched()
    fanout.fan_out_step(campaign.pk)
    cut = fanout.dispatch_slice
    statuses = []

    def cut_while_somebody_stops_it(**kwargs):
        sliced = cut(**kwargs)
        statuses.extend(in_threads(1, lambda _: server.post(f"campaigns/{campaign.pk}/{action}").status_code))
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr(fanout, "dispatch_slice", cut_while_somebody_stops_it)
        assert fanout.fan_out_step(campaign.pk) is Step.STOPPED
    assert statuses == [200]
    assert MessageCampaign.objects.get().total_recipients == 10
    assert sum(DispatchBatch.objects.values_list("recipient_count", flat=True)) == 10


@pytest.mark.django_db(transaction=True)
def test_two_workers_do_not_fan_out_one_campaign_twice(launched, people):
    people(200)
    campaign = launched()

    def work(_: int) -> None:
        while services.fan_out(campaign.pk) is not Step.DONE:
            if MessageCampaign.objects.get().fanout_done_at:
                return

    in_threads(4, work)
    assert MessageCampaign.objects.get().total_recipients == 200
    assert everybody_exactly_once()


@pytest.mark.django_db(transaction=True)
def test_the_counters_of_messages_do_not_wait_for_a_step_of_the_fan_out(launched, people, monkeypatch):
    people(30)
    campaign = launched()
    cut = fanout.dispatch_slice
    counted = []

    def cut_while_results_arrive(**kwargs):
        sliced = cut(**kwargs)

        def count(_: int) -> int:
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = 200")
            return MessageCampaign.objects.filter(pk=campaign.pk).update(successful_count=3)

        counted.extend(in_threads(1, count))
        return sliced

    with monkeypatch.context() as patch:
        patch.setattr(fanout, "dispatch_slice", cut_while_results_arrive)
        assert fanout.fan_out_step(campaign.pk) is Step.MORE
    assert counted == [1]
    row = MessageCampaign.objects.get()
    assert (row.successful_count, row.total_recipients) == (3, 10)


def test_a_long_fan_out_goes_on_in_another_task(launched, people, queued, monkeypatch):
    people(60)
    campaign = launched()
    monkeypatch.setattr(services, "queue_fan_out", queued.append)
    monkeypatch.setattr(services, "fan_out", lambda key: fanout.fan_out(key, max_s=0))
    fan_out(str(campaign.pk))
    assert queued == [campaign.pk]


def test_an_abandoned_fan_out_is_queued_again(launched, people, queued):
    people(60)
    campaign = launched()
    fanout.fan_out_step(campaign.pk)
    continue_fanouts()
    assert queued == [campaign.pk]
    services.fan_out(campaign.pk)
    continue_fanouts()
    assert queued == [campaign.pk]


@pytest.mark.django_db(transaction=True)
def test_a_fan_out_that_somebody_works_on_is_not_queued_again(launched, people, queued):
    people(60)
    campaign = launched()
    with transaction.atomic():
        assert fanout._try_lock(campaign.pk)
        in_threads(1, lambda _: continue_fanouts())
    assert queued == []
    continue_fanouts()
    assert queued == [campaign.pk]


@pytest.mark.django_db(transaction=True)
def test_a_launch_survives_a_broker_that_does_not_answer(server, draft, people, credentials, monkeypatch):
    def broken(*_, **__):
        raise OSError("connection refused")

    people(3)
    campaign_id = draft()
    monkeypatch.setattr(celery, "_broker", {"left_alone_until": 0.0})
    monkeypatch.setattr(celery.app, "send_task", broken)
    assert server.post(f"campaigns/{campaign_id}/launch").status_code == 200
    assert MessageCampaign.objects.get().status == "running"
