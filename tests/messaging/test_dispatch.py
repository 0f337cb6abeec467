"""claim → build → send → record, against providers that are as strict as the real ones, over real sockets."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from apps.messaging import dispatch, sweeps
from apps.messaging.dispatches import dispatch_cancel, dispatch_pause, dispatch_resume, dispatch_slice
from apps.messaging.models import DispatchBatch, Message, MessageEvent
from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.tenants.models import ChannelCredential
from tests.factories import make_dispatch, make_subscription, make_subscriptions, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def tokens(count, prefix="", start=0):
    return [f"{prefix}{n:0{64 - len(prefix)}x}" for n in range(start, start + count)]


def sliced(application, **fields):
    """A dispatch to everybody, cut into batches."""
    order = make_dispatch(application, audience={}, **fields)
    result = dispatch_slice(dispatch=order, after_id=None, limit=100_000)
    return order, result.batch_ids


def run_all(batch_ids):
    for batch_id in batch_ids:
        assert dispatch.run_batch(UUID(str(batch_id)))


def statuses():
    return sorted(Message.objects.values_list("status", flat=True))


def test_a_campaigns_slice_is_sent_and_recorded(application, apns):
    make_subscriptions(application, tokens(25))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert statuses() == ["successful"] * 25
    assert {e["token"] for e in apns.entries(outcome="accepted")} == set(tokens(25))
    assert MessageEvent.objects.filter(event_type="successful").count() == 25
    batch = DispatchBatch.objects.get()
    assert (batch.state, batch.recipient_count, batch.lease_id) == ("done", 25, None)


def test_the_ids_of_a_slice_are_its_own_range(application, apns):
    make_subscriptions(application, tokens(5))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    base = DispatchBatch.objects.get().first_id
    assert sorted(m.pk.int - base.int for m in Message.objects.all()) == [n << 8 for n in range(5)]


def test_apple_gets_what_its_documentation_asks_for(application, apns):
    make_subscription(application, token="ab" * 32)
    _, batch_ids = sliced(application, data={"order": {"id": 7}}, options={"badge": 3, "sound": "default"})
    run_all(batch_ids)
    (entry,) = apns.entries()
    message = Message.objects.get()
    body = json.loads(entry["body"])
    assert body["aps"] == {"alert": {"title": "Hi", "body": "There"}, "badge": 3, "sound": "default"}
    assert body["order"] == {"id": 7}
    assert body["automata"]["message_id"] == str(message.pk)
    headers = entry["headers"]
    assert headers["apns-collapse-id"] == str(message.pk)
    assert (headers["apns-push-type"], headers["apns-priority"]) == ("alert", "10")


def test_both_kinds_of_devices_are_reached(application, apns, fcm):
    make_subscriptions(application, tokens(3))
    make_subscriptions(application, [f"fcm-token-{n}:{'x' * 120}" for n in range(4)], type="AndroidPush")
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert len(batch_ids) == 2
    assert (apns.stats()["accepted"], fcm.stats()["accepted"]) == (3, 4)
    assert statuses() == ["successful"] * 7


def test_an_unregistered_token_ends_the_subscription(application, apns):
    make_subscriptions(application, [*tokens(3), *tokens(1, "dead4101")])
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    failed = Message.objects.get(status="failed")
    assert failed.error_reason == "Unregistered"
    assert (failed.error_details["class"], failed.error_details["http_status"]) == ("recipient", 410)
    ended = Subscription.objects.get(pk=failed.subscription_id)
    assert (ended.subscription_status, ended.status_source) == (-10, "provider")
    event = SubscriptionEvent.objects.get(subscription=ended, event_type="unsubscribed")
    assert (event.reason, event.new_status) == ("Unregistered", -10)
    assert Subscription.objects.filter(subscription_status=1).count() == 3


def test_a_token_registered_after_the_410s_timestamp_is_kept(application, apns):
    make_subscriptions(application, tokens(1, "dead4103"))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert statuses() == ["failed"]
    assert Subscription.objects.get().subscription_status == 1


def test_a_busy_provider_is_asked_again(application, apns):
    make_subscriptions(application, tokens(1, "deaf50332"))
    _, (batch_id,) = sliced(application)
    for attempt in (1, 2):
        run_all([batch_id])
        message = Message.objects.get()
        assert (message.status, message.attempts, message.error_reason) == ("errored", attempt, "ServiceUnavailable")
        assert message.retry_at > timezone.now()
        batch = DispatchBatch.objects.get()
        assert (batch.state, batch.due_at) == ("waiting", message.retry_at)
        assert not dispatch.run_batch(batch_id), "it is not due yet"
        make_due()
    run_all([batch_id])
    message = Message.objects.get()
    assert (message.status, message.attempts, message.error_reason) == ("successful", 3, None)
    assert len({e["headers"]["apns-collapse-id"] for e in apns.entries()}) == 1, "a device shows it once"


def run_until_done(batch_id, rounds=5):
    """Every attempt that the policy allows, without the waiting."""
    for _ in range(rounds):
        make_due()
        run_all([batch_id])
        if DispatchBatch.objects.get().state == "done":
            return


def make_due():
    now = timezone.now()
    Message.objects.filter(status="errored").update(retry_at=now)
    DispatchBatch.objects.filter(state="waiting").update(due_at=now)


def test_attempts_end_and_the_reason_stays(application, apns, settings):
    settings.RETRY_MAX_ATTEMPTS = 2
    make_subscriptions(application, tokens(1, "dead5033"))
    _, (batch_id,) = sliced(application)
    run_all([batch_id])
    make_due()
    run_all([batch_id])
    message = Message.objects.get()
    assert (message.status, message.error_reason) == ("failed", "ServiceUnavailable")
    assert message.error_details["class"] == "provider"
    assert Subscription.objects.get().subscription_status == 1


def test_no_attempt_is_made_after_the_time_to_live(application, apns):
    make_subscriptions(application, tokens(1))
    _, (batch_id,) = sliced(application)
    DispatchBatch.objects.update(expires_at=timezone.now())
    run_all([batch_id])
    assert [(m.status, m.error_reason) for m in Message.objects.all()] == [("failed", "expired")]
    assert apns.entries() == []


@pytest.mark.parametrize("marker", ["0001", "0002", "0003", "0005", "0006"])
def test_no_answer_loses_no_message(application, apns, marker, settings):
    """Hanging, reset and dropped connections, with neighbours in flight: everybody ends with exactly one result."""
    settings.PROVIDER_TIMEOUT_S = 1.0
    make_subscriptions(application, [*tokens(20), *tokens(2, f"deaf{marker}1")])
    _, (batch_id,) = sliced(application)
    run_all([batch_id])
    assert set(statuses()) <= {"successful", "errored"}
    run_until_done(batch_id)
    assert statuses() == ["successful"] * 22


def test_a_goaway_loses_no_message(application, apns, settings):
    settings.RETRY_MAX_ATTEMPTS = 30
    apns.settings(goaway_every=50)
    make_subscriptions(application, tokens(400))
    _, (batch_id,) = sliced(application)
    run_until_done(batch_id, rounds=30)
    assert statuses() == ["successful"] * 400
    assert apns.stats()["goaways"] >= 5


def test_many_bad_tokens_open_the_breaker_instead_of_ending_an_audience(application, apns, settings):
    settings.BREAKER_MIN_MISMATCHES = 20
    make_subscriptions(application, tokens(300, "dead4002"))
    _, (batch_id,) = sliced(application)
    run_all([batch_id])
    assert Subscription.objects.filter(subscription_status=1).count() == 300
    credential = ChannelCredential.objects.get()
    assert credential.breaker_opened_at is not None
    assert "BadDeviceToken" in credential.breaker_reason
    assert set(statuses()) <= {"errored", "pending"}
    batch = DispatchBatch.objects.get()
    assert batch.state == "waiting"


def test_nothing_is_sent_while_the_breaker_is_open(application, apns):
    make_subscriptions(application, tokens(1))
    ChannelCredential.objects.update(breaker_opened_at=timezone.now(), breaker_reason="bad")
    _, (batch_id,) = sliced(application)
    run_all([batch_id])
    assert (statuses(), apns.entries()) == (["pending"], [])
    assert DispatchBatch.objects.get().due_at > timezone.now() + timedelta(minutes=10)


def test_a_few_bad_tokens_end_their_subscriptions(application, apns):
    make_subscriptions(application, [*tokens(40), *tokens(2, "dead4002")])
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert Subscription.objects.filter(subscription_status=-14).count() == 2


def test_a_revoked_key_blames_no_recipient_and_stops_the_credential(application, apns):
    make_subscriptions(application, tokens(2, "dead4035"))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert Subscription.objects.filter(subscription_status=1).count() == 2
    credential = ChannelCredential.objects.get()
    assert credential.breaker_opened_at is not None
    assert "InvalidProviderToken" in credential.last_error
    assert all(m.error_details["class"] == "sender" for m in Message.objects.filter(status="failed"))


def test_without_a_credential_messages_fail_with_the_reason(application, apns):
    ChannelCredential.objects.all().delete()
    make_subscriptions(application, tokens(2))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    assert {(m.status, m.error_reason) for m in Message.objects.all()} == {("failed", "no_credential")}


def test_a_batch_is_sent_once_however_many_tasks_there_are(application, apns):
    make_subscriptions(application, tokens(3))
    _, (batch_id,) = sliced(application)
    assert [dispatch.run_batch(batch_id) for _ in range(3)] == [True, False, False]
    assert len(apns.entries()) == 3


def test_a_dead_workers_batch_is_taken_up_by_another(application, apns):
    make_subscriptions(application, tokens(4))
    _, (batch_id,) = sliced(application)
    assert dispatch.claim_batch(batch_id) is not None  # … and here the worker dies
    assert sweeps.free_abandoned() == 0
    DispatchBatch.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert sweeps.free_abandoned() == 1
    run_all([batch_id])
    assert statuses() == ["successful"] * 4
    assert Message.objects.count() == 4, "the slice and its messages are one transaction: nobody is made twice"


def test_who_lost_the_lease_keeps_what_was_accepted_and_sends_no_more(application, apns):
    make_subscriptions(application, tokens(3))
    _, (batch_id,) = sliced(application)
    claim = dispatch.claim_batch(batch_id)
    DispatchBatch.objects.update(lease_id=None, state="waiting")
    dispatch._send(claim)
    assert claim.lost
    assert statuses() == ["successful"] * 3
    dispatch.finish_batch(claim)
    assert DispatchBatch.objects.get().state == "waiting"


def test_paused_sends_nothing_and_resumed_goes_on(application, apns):
    make_subscriptions(application, tokens(3))
    order, (batch_id,) = sliced(application)
    dispatch_pause(order)
    assert not dispatch.run_batch(batch_id)
    assert apns.entries() == []
    dispatch_resume(order)
    run_all([batch_id])
    assert statuses() == ["successful"] * 3


def test_canceled_fails_what_has_not_left(application, apns, settings):
    settings.BATCH_SIZE = 10
    make_subscriptions(application, tokens(30))
    order, batch_ids = sliced(application)
    run_all(batch_ids[:1])
    dispatch_cancel(order)
    sweeps.fail_canceled(order.pk)
    reasons = sorted((m.status, m.error_reason) for m in Message.objects.all())
    assert reasons == [("failed", "canceled")] * 20 + [("successful", None)] * 10
    assert len(apns.entries()) == 10


def test_sending_stops_when_paused_in_the_middle(application, apns, monkeypatch):
    monkeypatch.setattr(dispatch, "STOP_CHECK_S", 0.0)
    apns.settings(latency_ms=20)
    make_subscriptions(application, tokens(600))
    order, (batch_id,) = sliced(application)
    claim = dispatch.claim_batch(batch_id)
    dispatch_pause(order)
    dispatch._send(claim)
    dispatch.finish_batch(claim)
    assert statuses() == ["pending"] * 600
    dispatch_resume(order)
    run_all([batch_id])
    assert statuses() == ["successful"] * 600


def test_who_left_since_the_fan_out_gets_nothing(application, apns):
    stays, leaves = make_subscriptions(application, tokens(2))
    _, batch_ids = sliced(application)
    Subscription.objects.filter(pk=leaves.pk).update(subscription_status=-2)
    run_all(batch_ids)
    assert [e["token"] for e in apns.entries()] == [stays.token]
    assert DispatchBatch.objects.get().recipient_count == 1


def test_each_recipient_gets_their_own_words(application, apns):
    for n, name in enumerate(["민수", "Ada", None]):
        user = make_user(application, f"u-{n}", **({"name": name} if name else {}))
        make_subscription(application, token=f"{n:064x}", user=user)
    _, batch_ids = sliced(
        application,
        title="Hello {{ name | default('friend') }}",
        body="Order {{ order }}",
        data={"link": "app://{{ external_id }}"},
        variables={"order": "12"},
        is_personalised=True,
    )
    run_all(batch_ids)
    seen = {e["token"][-1]: json.loads(e["body"]) for e in apns.entries()}
    assert [seen[k]["aps"]["alert"]["title"] for k in "012"] == ["Hello 민수", "Hello Ada", "Hello friend"]
    assert seen["0"]["link"] == "app://u-0"
    assert Message.objects.get(title="Hello Ada").body == "Order 12"


def test_a_recipient_whose_content_is_too_long_fails_alone(application, apns):
    long = make_user(application, "long", name="x" * 5_000)
    make_subscription(application, token="aa" * 32, user=long)
    make_subscription(application, token="bb" * 32)
    _, batch_ids = sliced(application, title="Hi {{ name }}", is_personalised=True)
    run_all(batch_ids)
    assert sorted(m.status for m in Message.objects.all()) == ["failed", "successful"]
    assert Message.objects.get(status="failed").error_details["class"] == "sender"
    assert Subscription.objects.filter(subscription_status=1).count() == 2


def test_due_batches_are_queued_once(application, settings):
    make_subscriptions(application, tokens(3))
    sliced(application)
    assert sweeps.queue_due() == 0, "it was queued by the fan-out"
    DispatchBatch.objects.update(queued_at=timezone.now() - timedelta(minutes=2))
    from apps.messaging.breaker import _counters

    _counters().delete("push.medium")  # the broker lost it
    assert sweeps.queue_due() == 1
    assert sweeps.queue_due() == 0
    _counters().delete("push.medium")


def test_unreceived_messages_time_out_where_the_application_wants_it(application, apns):
    make_subscriptions(application, tokens(2))
    _, batch_ids = sliced(application)
    run_all(batch_ids)
    DispatchBatch.objects.update(finished_at=timezone.now() - timedelta(hours=3))
    assert sweeps.expire_unreceived() == 0
    application.settings = {"receipt_timeout_hours": 2}
    application.save()
    assert sweeps.expire_unreceived() == 2
    assert {(m.status, m.error_reason) for m in Message.objects.all()} == {("failed", "receipt_timeout")}
    assert sweeps.expire_unreceived() == 0


def test_whatever_a_person_is_called_is_stored_as_it_is(application, apns):
    name = "tab\there, line\nthere, \\N \\. back\\slash \r end"
    user = make_user(application, "u", name=name)
    make_subscription(application, token="aa" * 32, user=user)
    _, batch_ids = sliced(application, title="{{ name }}", data={"n": "{{ name }}"}, is_personalised=True)
    run_all(batch_ids)
    message = Message.objects.get()
    assert (message.title, message.data) == (name, {"n": name})
    (entry,) = apns.entries()
    assert json.loads(entry["body"])["aps"]["alert"]["title"] == name
