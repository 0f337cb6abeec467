"""The breaker opens, probes and closes; meanwhile nothing is lost. PostgreSQL has its state, Redis only adds up."""

import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.messaging import breaker, dispatch, recording, senders
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.breaker import Breaker
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import DispatchBatch, Message
from apps.messaging.rates import snapshot
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from apps.tenants.services import breaker_close, breaker_open, credential_update
from tests.factories import make_dispatch, make_subscriptions
from tests.messaging.test_rates import dead_redis, let_go, make_due  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def tokens(count, prefix="", start=0):
    return [f"{prefix}{n:0{64 - len(prefix)}x}" for n in range(start, start + count)]


def batch_to_all(application, **fields):
    order = make_dispatch(application, audience={}, **fields)
    (batch_id,) = dispatch_slice(dispatch=order, after_id=None, limit=100_000).batch_ids
    return batch_id


def the_credential():
    return ChannelCredential.objects.get()


def cool_down():
    """As if the time to the next probe were over."""
    now = timezone.now()
    ChannelCredential.objects.filter(breaker_opened_at__isnull=False).update(breaker_probe_at=now)
    make_due()


def results(outcome, count, reason="why", status=0):
    return [Result(uuid4(), outcome, reason, status) for _ in range(count)]


@pytest.fixture
def storm(application, apns):
    """A batch of 120 that met a provider which answers nothing but 503; it still does."""
    make_subscriptions(application, tokens(120))
    apns.behave("ServiceUnavailable", share=1.0)
    batch_id = batch_to_all(application)
    dispatch.run_batch(batch_id)
    return batch_id


# --- Outages -------------------------------------------------------------------------------------------------------


def test_a_storm_of_503_opens_the_breaker_and_a_probe_closes_it(storm, apns):
    row = the_credential()
    assert (row.breaker_cause, row.breaker_failed_probes) == ("outage", 0)
    assert "ServiceUnavailable" in row.breaker_reason
    assert timedelta(0) < row.breaker_probe_at - timezone.now() < timedelta(seconds=11)
    assert set(Message.objects.values_list("status", flat=True)) == {"errored"}

    apns.clear_behaviours()
    cool_down()
    let_go(row)
    dispatch.run_batch(storm)
    row = the_credential()
    assert (row.breaker_opened_at, row.breaker_cause, row.breaker_probe_at) == (None, "", None)
    assert list(Message.objects.values_list("status", flat=True)) == ["successful"] * 120, "the rest went at once"
    assert set(apns.accepted_by_token().values()) == {1}


def test_while_it_fails_a_probe_is_a_few_messages_and_the_next_is_later(storm, apns, settings):
    waits = []
    for probe in (1, 2, 3):
        cool_down()
        before = apns.stats()["requests"]
        dispatch.run_batch(storm)
        assert apns.stats()["requests"] - before == settings.BREAKER_PROBE_MESSAGES
        row = the_credential()
        assert (row.breaker_failed_probes, row.breaker_probing_until) == (probe, None)
        waits.append(round((row.breaker_probe_at - timezone.now()).total_seconds()))
        batch = DispatchBatch.objects.get()
        assert batch.state == "waiting"
        assert batch.due_at <= row.breaker_probe_at
    assert waits == [20, 40, 80]
    assert "a probe failed" in the_credential().breaker_reason


def test_the_time_between_probes_has_an_end(storm, settings):
    ChannelCredential.objects.update(breaker_failed_probes=500)
    cool_down()
    dispatch.run_batch(storm)
    wait_s = (the_credential().breaker_probe_at - timezone.now()).total_seconds()
    assert wait_s == pytest.approx(settings.BREAKER_COOLDOWN_S, abs=5)


def test_an_outage_is_stopped_before_everybody_has_used_up_an_attempt(application, apns, settings, monkeypatch):
    monkeypatch.setattr(recording, "RECORD_SLICE", 50)
    settings.PROVIDER_CONNECTIONS, settings.PROVIDER_STREAMS = 1, 10
    make_subscriptions(application, tokens(1_000))
    apns.behave("ServiceUnavailable", share=1.0)
    dispatch.run_batch(batch_to_all(application))
    assert apns.stats()["requests"] < 900
    assert Message.objects.filter(status="pending").count() > 100


def test_a_few_failures_are_no_outage(application, apns):
    make_subscriptions(application, [*tokens(45, "dead5031"), *tokens(30)])
    dispatch.run_batch(batch_to_all(application))
    assert the_credential().breaker_opened_at is None, "45 are less than the least number"


def test_a_small_share_of_failures_is_no_outage(application, apns):
    make_subscriptions(application, [*tokens(60, "dead5031"), *tokens(140)])
    dispatch.run_batch(batch_to_all(application))
    assert the_credential().breaker_opened_at is None
    assert Message.objects.filter(status="successful").count() == 140


def test_the_failures_of_all_workers_count_together(application, apns):
    row = the_credential()
    workers = [Breaker(row) for _ in range(3)]
    opened = [worker.judge(results(Outcome.UNKNOWN, 20, "operation_timedout")) for worker in workers]
    assert opened == [False, False, True]
    assert "operation_timedout" in the_credential().breaker_reason


def test_what_was_sent_at_full_speed_a_moment_ago_does_not_hide_an_outage(application, apns):
    watch, lost = Breaker(the_credential()), 0
    for _ in range(40):
        watch.judge(results(Outcome.ACCEPTED, 500))
    while not watch.judge(results(Outcome.UNKNOWN, 100, "couldnt_connect")):
        lost += 100
        assert lost < 10_000, "as many as were accepted in the 20 s before would have to fail"
        time.sleep(0.1)  # answers come in time: windows are of seconds


def test_a_lost_connection_at_full_speed_is_no_outage(application, apns):
    watch = Breaker(the_credential())
    for _ in range(4):
        watch.judge(results(Outcome.ACCEPTED, 500))
    assert not watch.judge(results(Outcome.UNKNOWN, 400, "connection_lost") + results(Outcome.ACCEPTED, 100))


def test_without_redis_a_batch_judges_by_its_own_answers(application, apns, dead_redis):  # noqa: F811
    row = the_credential()
    assert not Breaker(row).judge(results(Outcome.TRANSIENT, 40))
    assert not Breaker(row).judge(results(Outcome.TRANSIENT, 40))
    assert Breaker(row).judge(results(Outcome.TRANSIENT, 60))


def test_answers_are_counted_once_however_often_they_are_recorded(application, apns):
    """Recording tries again while PostgreSQL is away."""
    watch, answers = Breaker(the_credential()), results(Outcome.TRANSIENT, 40)
    assert [watch.judge(answers) for _ in range(5)] == [False] * 5


def test_a_batch_under_way_sees_that_another_worker_opened_the_breaker(application, apns, monkeypatch, settings):
    monkeypatch.setattr(dispatch, "STOP_CHECK_S", 0.0)
    settings.PROVIDER_CONNECTIONS, settings.PROVIDER_STREAMS = 1, 10
    make_subscriptions(application, tokens(600))
    batch_id = batch_to_all(application)
    claim = dispatch.claim_batch(batch_id)
    row = the_credential()
    take = dispatch.Pace.take

    def opened_meanwhile(pace, wanted):
        breaker_open(row.pk, "elsewhere", cause="outage")
        return take(pace, wanted)

    monkeypatch.setattr(dispatch.Pace, "take", opened_meanwhile)
    dispatch._send(claim)
    dispatch.finish_batch(claim)
    assert apns.stats()["requests"] <= 20
    assert DispatchBatch.objects.get().due_at == the_credential().breaker_probe_at


# --- Who probes -----------------------------------------------------------------------------------------------------


def test_one_worker_probes_and_the_others_come_back_soon(storm, apns, application):
    cool_down()
    row = the_credential()
    assert breaker.take_probe(row)
    assert not breaker.take_probe(row)
    assert snapshot(the_credential()).breaker == "half_open"
    before = apns.stats()["requests"]
    dispatch.run_batch(batch_to_all(application))
    assert apns.stats()["requests"] == before
    assert DispatchBatch.objects.latest("id").due_at < timezone.now() + timedelta(seconds=10)


def test_the_right_to_probe_lapses_when_the_worker_dies(storm):
    cool_down()
    row = the_credential()
    assert breaker.take_probe(row)
    ChannelCredential.objects.update(breaker_probing_until=timezone.now())
    assert breaker.take_probe(row)


def test_a_probe_that_could_not_send_gives_its_right_back(storm):
    cool_down()
    row = the_credential()
    assert breaker.take_probe(row)
    Breaker(row, is_probe=True).release()
    row = the_credential()
    assert (row.breaker_probing_until, row.breaker_failed_probes) == (None, 0)
    assert breaker.take_probe(row)


def test_late_answers_do_not_open_it_again(storm, apns):
    apns.clear_behaviours()
    cool_down()
    let_go(the_credential())
    dispatch.run_batch(storm)
    assert not Breaker(the_credential()).judge(results(Outcome.UNKNOWN, 30))


# --- Closing by hand ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", ["operator", "changed credential"])
def test_what_waits_for_the_probe_leaves_when_somebody_closes_it(application, apns, close):
    make_subscriptions(application, tokens(3))
    row = the_credential()
    breaker_open(row.pk, "bad key", cause="refused")
    batch_id = batch_to_all(application)
    dispatch.run_batch(batch_id)
    assert DispatchBatch.objects.get().due_at > timezone.now() + timedelta(minutes=10)
    if close == "operator":
        breaker_close(row, by="console")
    else:
        credential_update(credential=row, name="new")
    assert DispatchBatch.objects.get().due_at <= timezone.now()
    dispatch.run_batch(batch_id)
    assert list(Message.objects.values_list("status", flat=True)) == ["successful"] * 3


def test_opening_and_closing_keeps_the_connections(application, apns):
    make_subscriptions(application, tokens(3))
    dispatch.run_batch(batch_to_all(application))
    connections = apns.stats()["connections"]
    breaker_open(the_credential().pk, "x", cause="outage")
    breaker_close(the_credential())
    dispatch.run_batch(batch_to_all(application))
    assert apns.stats()["connections"] == connections


# --- Addresses that do not fit ----------------------------------------------------------------------------------------


@pytest.fixture
def misfits(application, apns, settings):
    """A batch whose addresses are all bad, and the breaker that it opened."""
    settings.BREAKER_MIN_MISMATCHES = 20
    make_subscriptions(application, tokens(30, "dead4002"))
    batch_id = batch_to_all(application)
    dispatch.run_batch(batch_id)
    assert the_credential().breaker_cause == "mismatch"
    return batch_id


def test_a_probe_with_addresses_that_do_not_fit_ends_no_subscription_and_keeps_it_open(misfits):
    cool_down()
    dispatch.run_batch(misfits)
    row = the_credential()
    assert (row.breaker_opened_at is None, row.breaker_failed_probes) == (False, 1)
    assert Subscription.objects.filter(subscription_status=1).count() == 30


def test_a_probe_closes_it_if_its_addresses_fit(misfits, application):
    Subscription.objects.all().update(subscription_status=-2)
    make_subscriptions(application, tokens(30, start=1_000))
    batch_id = batch_to_all(application)
    cool_down()
    dispatch.run_batch(batch_id)
    assert the_credential().breaker_opened_at is None
    assert Message.objects.filter(status="successful").count() == 30


# --- A refused credential ---------------------------------------------------------------------------------------------


def test_a_probe_of_a_refused_credential_costs_no_message(application, apns):
    make_subscriptions(application, tokens(20))
    breaker_open(the_credential().pk, "revoked", cause="refused")
    apns.behave("InvalidProviderToken", share=1.0)
    batch_id = batch_to_all(application)
    cool_down()
    dispatch.run_batch(batch_id)
    assert not Message.objects.filter(status="failed").exists()
    tried = Message.objects.filter(status="errored")
    assert tried.count() == 5
    assert {m.error_details["class"] for m in tried} == {"sender"}
    apns.clear_behaviours()
    cool_down()
    dispatch.run_batch(batch_id)
    assert the_credential().breaker_opened_at is None
    assert list(Message.objects.values_list("status", flat=True)) == ["successful"] * 20


def test_the_state_is_on_the_credential_for_the_console(storm):
    seen = snapshot(the_credential())
    assert (seen.breaker, seen.breaker_cause) == ("open", "outage")
    assert seen.breaker_probe_at > seen.breaker_opened_at
    assert seen.throttled_by == "503 ServiceUnavailable"


def test_all_credentials_stopped_is_not_no_credential(storm, application):
    row = the_credential()
    assert senders.route_for(application.pk, "iOSPush") == row.breaker_probe_at
