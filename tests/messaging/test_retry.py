"""What follows from an outcome: the one table of that policy."""

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging import dispatch, retry
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.adapters.registry import adapter_named, all_adapters
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import DispatchBatch, Message
from automata_signal.ids import new_id
from tests.factories import make_dispatch, make_subscriptions

NOW, SOON, LATER = 1_000.0, 1_003.0, 100_000.0

RETRIED = (Outcome.TRANSIENT, Outcome.THROTTLED)
FINAL = (
    Outcome.RECIPIENT_GONE,
    Outcome.RECIPIENT_MISMATCH,
    Outcome.PAYLOAD_REJECTED,
    Outcome.UNSUPPORTED,
    Outcome.CREDENTIAL,
)
HARMLESS, PAID = True, False


def decided(outcome, *, attempt=1, expires_at=LATER, resend_is_harmless=HARMLESS, **fields):
    result = Result(new_id(), outcome, "TheirWord", **fields)
    return retry.decide(result, attempt=attempt, now=NOW, expires_at=expires_at, resend_is_harmless=resend_is_harmless)


def test_every_outcome_has_a_policy():
    assert set(retry.POLICIES) == set(Outcome) - {Outcome.ACCEPTED}
    assert {*RETRIED, *FINAL, Outcome.UNKNOWN} == set(retry.POLICIES)


@pytest.mark.parametrize(
    ("outcome", "channel", "expires_at", "attempt", "is_retried", "reason"),
    [
        *((o, c, LATER, 1, True, "TheirWord") for o in RETRIED for c in (HARMLESS, PAID)),
        *((o, c, SOON, 1, False, "expired") for o in RETRIED for c in (HARMLESS, PAID)),
        *((o, c, LATER, 6, False, "TheirWord") for o in RETRIED for c in (HARMLESS, PAID)),
        *((o, c, t, 1, False, "TheirWord") for o in FINAL for c in (HARMLESS, PAID) for t in (SOON, LATER)),
        (Outcome.UNKNOWN, HARMLESS, LATER, 1, True, "TheirWord"),
        (Outcome.UNKNOWN, HARMLESS, SOON, 1, False, "expired"),
        (Outcome.UNKNOWN, HARMLESS, LATER, 6, False, "TheirWord"),
        (Outcome.UNKNOWN, PAID, LATER, 1, False, "unknown_outcome"),
        (Outcome.UNKNOWN, PAID, SOON, 1, False, "unknown_outcome"),
    ],
)
def test_what_follows_from_an_outcome(outcome, channel, expires_at, attempt, is_retried, reason):
    decision = decided(outcome, attempt=attempt, expires_at=expires_at, resend_is_harmless=channel)
    assert (decision.due is not None, decision.error_reason) == (is_retried, reason)


def test_no_wait_is_short_and_none_is_before_the_provider_asks_for():
    for attempt in range(1, 6):
        for retry_after_s in (None, 0.0, 1.0, 30.0, 5_000.0):
            due = decided(Outcome.THROTTLED, attempt=attempt, retry_after_s=retry_after_s).due
            wait_s = due - NOW
            assert wait_s >= max(retry.FIRST_DELAY_S, retry_after_s or 0)
            assert wait_s <= max(retry.DELAY_MAX_S, retry_after_s or 0) * (1 + retry.JITTER)


def test_every_channel_says_whether_a_second_message_does_harm():
    assert {name for name, adapter in all_adapters().items() if adapter.resend_is_harmless} <= {"apns", "fcm", "in_app"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("resend_is_harmless", [True, False])
def test_a_message_whose_fate_is_unknown(application, apns, settings, monkeypatch, resend_is_harmless):
    """The provider took the request and said nothing."""
    settings.PROVIDER_TIMEOUT_S = 0.5
    monkeypatch.setattr(type(adapter_named("apns")), "resend_is_harmless", resend_is_harmless)
    apns.settings(latency_ms=3_000)
    make_subscriptions(application, ["ab" * 32])
    (batch_id,) = dispatch_slice(dispatch=make_dispatch(application, audience={}), after_id=None, limit=9).batch_ids
    dispatch.run_batch(batch_id)
    message = Message.objects.get()
    assert message.error_details["outcome"] == "unknown"
    expected = ("errored", "unknown") if resend_is_harmless else ("failed", "unknown_outcome")
    assert (
        message.status,
        message.error_details["outcome"] if resend_is_harmless else message.error_reason,
    ) == expected


@pytest.mark.django_db(transaction=True)
def test_a_message_that_cannot_be_tried_again_in_time_has_expired(application, apns):
    make_subscriptions(application, ["deaf50339" + "0" * 55])
    (batch_id,) = dispatch_slice(dispatch=make_dispatch(application, audience={}), after_id=None, limit=9).batch_ids
    DispatchBatch.objects.update(expires_at=timezone.now() + timedelta(seconds=4))
    dispatch.run_batch(batch_id)
    message = Message.objects.get()
    assert (message.status, message.error_reason) == ("failed", "expired")
    assert message.error_details["reason"] == "ServiceUnavailable"


@pytest.mark.django_db(transaction=True)
def test_what_expires_while_it_waits_keeps_the_providers_last_reason(application, apns):
    make_subscriptions(application, ["deaf50339" + "0" * 55])
    (batch_id,) = dispatch_slice(dispatch=make_dispatch(application, audience={}), after_id=None, limit=9).batch_ids
    dispatch.run_batch(batch_id)
    assert Message.objects.get().status == "errored"
    DispatchBatch.objects.update(expires_at=timezone.now(), due_at=timezone.now())
    time.sleep(0.01)
    dispatch.run_batch(batch_id)
    message = Message.objects.get()
    assert (message.status, message.error_reason) == ("failed", "expired")
    assert message.error_details["reason"] == "ServiceUnavailable"
