"""Several credentials of one provider: traffic moves to the next while one is refused or fails, and back."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging import dispatch, recording
from apps.messaging.models import DispatchBatch, Message, MessageEvent
from apps.sandbox.credentials import make_apns_key
from apps.tenants.models import ChannelCredential
from apps.tenants.services import breaker_open, credential_create, credential_update
from tests.factories import make_subscriptions
from tests.messaging.test_breaker import batch_to_all, cool_down, tokens
from tests.messaging.test_rates import make_due
from tests.providers import BUNDLE_ID

pytestmark = pytest.mark.django_db(transaction=True)


def secret_of(key):
    return {
        "team_id": key.team_id,
        "key_id": key.key_id,
        "private_key": key.p8,
        "bundle_id": BUNDLE_ID,
        "environment": "both",
    }


@pytest.fixture
def first(application, apns):
    return ChannelCredential.objects.get()


@pytest.fixture
def second(application, apns):
    """Another key of the same app, behind the first."""
    key = make_apns_key([BUNDLE_ID])
    apns.register_keys(key.registration())
    return credential_create(
        application=application, provider="apns", name="spare key", secret=secret_of(key), position=1
    )


def statuses():
    return sorted(Message.objects.values_list("status", flat=True))


def stand_ins():
    """The credential that the events of accepted messages name; None for the first one."""
    notes = MessageEvent.objects.filter(event_type="successful").values_list("metadata", flat=True)
    return [note and note["credential"] for note in notes]


def test_the_first_credential_is_used_while_it_works(application, apns, first, second):
    make_subscriptions(application, tokens(5))
    dispatch.run_batch(batch_to_all(application))
    assert (statuses(), stand_ins()) == (["successful"] * 5, [None] * 5)


def test_an_outage_moves_traffic_to_the_next_and_back(application, apns, first, second):
    make_subscriptions(application, tokens(40))
    breaker_open(first.pk, "down", cause="outage")
    dispatch.run_batch(batch_to_all(application))
    assert statuses() == ["successful"] * 40
    assert stand_ins() == [str(second.pk)] * 40

    cool_down()
    dispatch.run_batch(batch_to_all(application))
    first.refresh_from_db()
    assert first.breaker_opened_at is None, "the probe was its first messages, and the rest followed"
    assert stand_ins().count(None) == 40


def test_while_the_first_fails_its_probes_the_rest_of_the_batch_takes_the_next(application, apns, first, second):
    make_subscriptions(application, tokens(40))
    breaker_open(first.pk, "down", cause="outage")
    apns.behave("ServiceUnavailable", next=5)
    cool_down()
    dispatch.run_batch(batch_to_all(application))
    assert statuses() == ["errored"] * 5 + ["successful"] * 35
    assert set(stand_ins()) == {str(second.pk)}
    tried = Message.objects.filter(status="errored").first()
    assert tried.error_details["credential"] == str(first.pk)
    assert MessageEvent.objects.get(message_id=tried.pk).metadata["credential"] == str(first.pk)


def test_an_outage_in_the_middle_of_a_batch_moves_its_rest(application, apns, first, second, settings, monkeypatch):
    monkeypatch.setattr(recording, "RECORD_SLICE", 25)
    settings.PROVIDER_CONNECTIONS, settings.PROVIDER_STREAMS = 1, 10
    make_subscriptions(application, tokens(1_000))
    apns.behave("ServiceUnavailable", share=1.0)
    ended = dispatch.route_for

    def provider_recovers(*arguments):
        route = ended(*arguments)
        if getattr(route, "is_stand_in", False):
            apns.clear_behaviours()
        return route

    monkeypatch.setattr(dispatch, "route_for", provider_recovers)
    batch_id = batch_to_all(application)
    dispatch.run_batch(batch_id)
    assert Message.objects.filter(status="successful").count() > 100
    assert set(stand_ins()) == {str(second.pk)}
    make_due()
    dispatch.run_batch(batch_id)
    assert statuses() == ["successful"] * 1_000
    assert set(apns.accepted_by_token().values()) == {1}


def test_a_refused_key_costs_no_message_when_there_is_another(application, apns, first, second):
    revoked = make_apns_key([BUNDLE_ID])
    credential_update(credential=first, secret=secret_of(revoked))
    make_subscriptions(application, tokens(300))
    batch_id = batch_to_all(application)
    dispatch.run_batch(batch_id)
    first.refresh_from_db()
    assert first.breaker_cause == "refused"
    assert "failed" not in statuses()
    refused = Message.objects.filter(status="errored").first()
    assert (refused.error_reason, refused.error_details["class"]) == ("InvalidProviderToken", "sender")
    make_due()
    dispatch.run_batch(batch_id)
    assert statuses() == ["successful"] * 300
    assert set(stand_ins()) == {str(second.pk)}


def test_addresses_that_do_not_fit_are_not_tried_with_the_next(application, apns, first, second):
    make_subscriptions(application, tokens(3))
    breaker_open(first.pk, "sandbox tokens", cause="mismatch")
    dispatch.run_batch(batch_to_all(application))
    assert (statuses(), apns.entries()) == (["pending"] * 3, [])


def test_with_all_of_them_stopped_it_waits_for_the_first_probe(application, apns, first, second):
    make_subscriptions(application, tokens(3))
    breaker_open(first.pk, "revoked", cause="refused")
    breaker_open(second.pk, "down", cause="outage")
    dispatch.run_batch(batch_to_all(application))
    second.refresh_from_db()
    assert DispatchBatch.objects.get().due_at == second.breaker_probe_at
    assert second.breaker_probe_at < timezone.now() + timedelta(seconds=11)


def test_an_inactive_credential_takes_over_nothing(application, apns, first, second):
    credential_update(credential=second, is_active=False)
    make_subscriptions(application, tokens(3))
    breaker_open(first.pk, "down", cause="outage")
    dispatch.run_batch(batch_to_all(application))
    assert statuses() == ["pending"] * 3
