"""Text messages, from a dispatch to what is recorded, against gateways that are as strict as the real ones."""

import json
from datetime import timedelta
from unittest import mock

import pytest
from django.utils import timezone

from apps.messaging import dispatch
from apps.messaging.adapters.base import Outcome
from apps.messaging.dispatch import run_batch
from apps.messaging.models import DispatchBatch, GatewayRequest, Message
from apps.messaging.recording import Recording
from apps.messaging.sweeps import free_abandoned
from apps.sandbox.gateway_behaviours import marked_number
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from tests.messaging.sms.conftest import KOREAN_SENDER, TWILIO_SENDER, e164

pytestmark = pytest.mark.django_db(transaction=True)
NUMBERS = [f"+8210{n:08}" for n in range(20_000_000, 20_000_012)]


def outcomes():
    return {m.status: m.error_reason for m in Message.objects.all()}


def test_solapi_takes_a_batch_in_one_request_and_names_each_message(solapi, send):
    send([*NUMBERS, "+14155552671"])
    accepted = solapi.control.entries(outcome="accepted")
    assert {e["message_id"] for e in accepted} == {str(m.pk) for m in Message.objects.all()}
    assert not solapi.control.findings()
    assert {m.status for m in Message.objects.all()} == {"successful"}
    bodies = [json.loads(e["body"]) for e in accepted]
    assert {b["from"] for b in bodies} == {KOREAN_SENDER}
    assert {b["type"] for b in bodies} == {"SMS"}
    assert [b["to"] for b in bodies if b.get("country")] == ["4155552671"]
    (request,) = GatewayRequest.objects.all()
    assert (len(request.message_ids), request.request_id[:3]) == (13, "G4V")


def test_a_long_text_becomes_an_lms_with_its_title(solapi, send):
    send(NUMBERS[:1], title="알림", body="가" * 46)
    (entry,) = solapi.control.entries(outcome="accepted")
    body = json.loads(entry["body"])
    assert (body["type"], body["subject"]) == ("LMS", "알림")


def test_twilio_is_told_where_to_report_and_by_which_id(twilio, send):
    send(NUMBERS[:3], body="Hello 한국")
    entries = twilio.control.entries(outcome="accepted")
    assert {e["message_id"] for e in entries} == {str(m.pk) for m in Message.objects.all()}
    assert {m.status for m in Message.objects.all()} == {"successful"}
    assert f"From=%2B{TWILIO_SENDER[1:]}" in entries[0]["body"]
    assert f"signal.example%2Fwebhooks%2Ftwilio%2F{twilio.credential.pk}" in entries[0]["body"]
    assert not GatewayRequest.objects.exists()


def test_nhn_takes_one_text_for_many(nhn, send):
    send([*NUMBERS, "+14155552671"], body="안녕하세요")
    assert {m.status for m in Message.objects.all()} == {"successful"}
    (request,) = GatewayRequest.objects.all()
    assert sorted(map(int, request.references)) == list(range(1, 14))
    assert not nhn.control.findings()


def test_an_lms_of_nhn_has_a_title_of_its_own(nhn, send):
    send(NUMBERS[:1], body=f"주문이 도착했습니다\n{'가' * 50}")
    (entry,) = nhn.control.entries(outcome="accepted")
    assert json.loads(entry["body"])["title"] == "주문이 도착했습니다"


@pytest.mark.parametrize("provider", ["solapi", "twilio", "nhn"])
@pytest.mark.parametrize("behaviour", ["hang-accepted", "abort-accepted", "server-error-accepted"])
def test_what_may_have_left_is_never_sent_again(request, send, provider, behaviour):
    gateway = request.getfixturevalue(provider)
    number = e164(marked_number(provider, behaviour))
    send([number])
    assert outcomes() == {"failed": "unknown_outcome"}
    assert not gateway.control.duplicates()
    assert Subscription.objects.get().subscription_status == 1


@pytest.mark.parametrize("provider", ["solapi", "twilio", "nhn"])
@pytest.mark.parametrize("behaviour", ["throttled", "unavailable"])
def test_what_was_not_taken_is_tried_again_later(request, send, provider, behaviour):
    request.getfixturevalue(provider)
    send([e164(marked_number(provider, behaviour))])
    assert Message.objects.get().status == "errored"


def test_a_signature_that_was_used_is_replaced_by_another(solapi, send):
    solapi.control.behave("DuplicatedSignature", next=1)
    send(NUMBERS[:2])
    assert {m.status for m in Message.objects.all()} == {"successful"}
    assert [e["reason"] for e in solapi.control.entries(outcome="refused")] == ["DuplicatedSignature"] * 2


def test_a_sender_number_that_is_not_registered_is_told_on_the_message_only(solapi, send):
    send(NUMBERS[:1], options={"from": "0299999999"})
    message = Message.objects.get()
    assert (message.status, message.error_reason) == ("failed", "1062")
    assert (message.error_details["class"], message.error_details["code"]) == ("sender", -55)
    assert Subscription.objects.get().subscription_status == 1
    assert ChannelCredential.objects.get().breaker_opened_at is None


def test_a_wrong_key_stops_the_credential(solapi, send):
    credential = solapi.credential
    credential.secret = credential.secret | {"api_secret": "F" * 32}
    credential.save()
    send(NUMBERS[:2])
    credential.refresh_from_db()
    assert credential.breaker_opened_at is not None
    assert credential.last_error == "403 SignatureDoesNotMatch"
    assert {s.subscription_status for s in Subscription.objects.all()} == {1}


def test_a_personal_text_that_cannot_be_sent_fails_alone(solapi, send):
    send(NUMBERS[:1], body="Hi {{ name }}", is_personalised=True, variables={"name": "😀"})
    assert outcomes() == {"failed": "invalid body"}
    assert solapi.control.stats()["requests"] == 0


def test_a_word_of_a_gateway_that_is_too_long_does_not_keep_the_results_of_others_from_being_recorded(solapi, send):
    """What is not recorded is sent again when the lease has ended, and paid for again."""
    add = Recording.add

    def with_a_long_word(self, result):
        is_first = not self._results
        add(self, result._replace(outcome=Outcome.UNKNOWN, reason="\x00" + "E" * 200) if is_first else result)

    with mock.patch.object(Recording, "add", with_a_long_word):
        send(NUMBERS[:3])
    assert sorted(Message.objects.values_list("status", flat=True)) == ["failed", "successful", "successful"]


class Killed(BaseException):
    """A worker's end, without a word to anybody."""


def abandon() -> None:
    DispatchBatch.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert free_abandoned() == 1


@pytest.mark.parametrize("provider", ["solapi", "twilio", "nhn"])
def test_a_worker_that_dies_before_it_has_recorded_the_answer_sends_nothing_twice(request, send, provider):
    gateway = request.getfixturevalue(provider)
    with mock.patch.object(Recording, "add", side_effect=Killed), pytest.raises(Killed):
        send(NUMBERS[:3])
    assert {m.status for m in Message.objects.all()} == {"pending"}
    abandon()
    run_batch(DispatchBatch.objects.get().pk)
    assert outcomes() == {"failed": "unknown_outcome"}
    assert {m.error_details["class"] for m in Message.objects.all()} == {"provider"}
    assert not gateway.control.duplicates()
    assert DispatchBatch.objects.get().state == "done"


def test_what_was_written_down_and_did_not_leave_is_sent_by_the_next(solapi, send, monkeypatch):
    """Told to stop after the first of a chunk, a worker takes back what it had written down of the others."""
    answers = iter([False] * 4)
    monkeypatch.setattr(dispatch, "is_stopping", lambda: next(answers, True))
    send(NUMBERS)
    states = [m.status for m in Message.objects.order_by("id")]
    assert set(states) == {"successful", "pending"}
    assert not Message.objects.filter(retry_at__isnull=False).exists()
    monkeypatch.setattr(dispatch, "is_stopping", lambda: False)
    run_batch(DispatchBatch.objects.get().pk)
    assert {m.status for m in Message.objects.all()} == {"successful"}
    assert not solapi.control.duplicates()
