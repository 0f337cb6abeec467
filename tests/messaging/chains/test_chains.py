"""A message that goes by another channel where the first does not reach its user."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone
from moneyed import Money

from apps.messaging.chains.following import batch_follow_up, follow_up_due, is_waiting
from apps.messaging.chains.steps import next_step
from apps.messaging.dispatch import run_batch
from apps.messaging.models import Dispatch, DispatchBatch, FollowUp, Message
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.requeue import FailedFilter, requeue_start
from apps.messaging.retention import delete_slice
from tests.factories import make_subscription, make_user
from tests.messaging.courtesy.conftest import clock
from tests.messaging.test_hot_queries import taken_down

pytestmark = pytest.mark.django_db(transaction=True)

STEPS = {"wait_s": 600, "steps": [{"channel_type": "in_app", "title": "T", "body": "by in-app"}]}


@pytest.fixture
def user(application):
    return make_user(application, "u-1")


@pytest.fixture
def phones(application, user):
    """Two phones, and the app's inbox."""
    for token in ("ab" * 32, "cd" * 32):
        make_subscription(application, token=token, user=user)
    return make_subscription(application, type="InAppMessage", token="inbox-1", user=user)


def send(server, **fields):
    body = {"recipients": {"external_ids": ["u-1"]}, "title": "T", "body": "by push", "chain": STEPS, **fields}
    return server.post("messages", body)


def later(seconds: float) -> None:
    """So long ago everything was that there is."""
    back = timedelta(seconds=seconds)
    for message in Message.objects.all():
        changes = {"created_at": message.created_at - back}
        Message.objects.filter(pk=message.pk).update(
            **changes, **({"sent_at": message.sent_at - back} if message.sent_at else {})
        )
    for name in ("created_at", "due_at", "expires_at"):
        DispatchBatch.objects.update(**{name: F(name) - back})
    DispatchBatch.objects.filter(follow_up_at__isnull=False).update(follow_up_at=timezone.now())
    follow_up_due()


def deliver() -> None:
    for batch in DispatchBatch.objects.exclude(state="done"):
        run_batch(batch.pk)


def channels() -> list[tuple[str, str]]:
    return list(Message.objects.order_by("id").values_list("channel_type", "status"))


def test_without_a_receipt_in_time_the_next_channel_follows_once(application, server, apns, phones):
    assert send(server).status_code == 202
    deliver()
    later(590)
    assert channels() == [("push", "successful")] * 2
    later(20)
    later(600)
    assert channels() == [("push", "successful")] * 2 + [("in_app", "pending")]
    assert list(FollowUp.objects.values_list("because", "messages")) == [("no_receipt", 1)]
    assert not is_waiting(Dispatch.objects.all())


def test_a_receipt_of_one_device_ends_the_chain(application, server, apns, phones):
    send(server)
    deliver()
    first = Message.objects.order_by("id").first()
    receipts_apply(application=application, receipts=[Receipt(first.pk, "received")], trusted=True)
    later(700)
    assert [channel for channel, _ in channels()] == ["push", "push"]
    assert FollowUp.objects.count() == 0


def test_a_receipt_that_comes_after_the_step_was_taken_stops_what_has_not_left(application, server, apns, phones):
    send(server)
    deliver()
    later(700)
    first = Message.objects.order_by("id").first()
    receipts_apply(application=application, receipts=[Receipt(first.pk, "received")], trusted=True)
    deliver()
    last = Message.objects.get(channel_type="in_app")
    assert (last.status, last.error_reason) == ("failed", "already_reached")


def test_a_failure_is_followed_at_once(application, server, apns, user):
    make_subscription(application, token="dead4101".ljust(64, "0"), user=user)
    make_subscription(application, type="InAppMessage", token="inbox-1", user=user)
    send(server)
    deliver()
    later(0)
    assert channels()[0] == ("push", "failed")
    assert FollowUp.objects.get().because == "Unregistered"
    assert len(channels()) == 2


def test_who_cannot_be_reached_by_the_first_channel_begins_with_the_next(application, server, user):
    make_subscription(application, type="InAppMessage", token="inbox-1", user=user)
    answer = send(server)
    assert answer.status_code == 202, answer.content
    assert [row["external_id"] for row in answer.json()["data"]["messages"]] == ["u-1"]
    assert answer.json()["data"]["skipped"] == []
    assert channels() == [("in_app", "pending")]


def test_nobody_on_any_channel_is_refused_and_leaves_nothing(application, server, user):
    answer = send(server)
    assert answer.status_code == 400
    assert (Dispatch.objects.count(), FollowUp.objects.count()) == (0, 0)


def test_what_has_not_left_in_time_is_overtaken(application, server, apns, phones):
    send(server)
    later(700)
    assert channels() == [("push", "failed")] * 2 + [("in_app", "pending")]
    assert set(Message.objects.filter(channel_type="push").values_list("error_reason", flat=True)) == {"overtaken"}


def test_only_a_failure_is_followed_if_so_asked(application, server, apns, phones):
    send(server, chain={**STEPS, "on": "failure"})
    deliver()
    later(700)
    assert [channel for channel, _ in channels()] == ["push", "push"]


def test_a_canceled_message_is_not_followed(application, server, apns, phones):
    messages = send(server).json()["data"]["messages"]
    for message in messages:
        assert server.post(f"messages/{message['id']}/cancel").status_code == 200
    later(700)
    assert channels() == [("push", "failed")] * 2


def test_two_looks_at_once_send_once(application, server, apns, phones):
    send(server)
    deliver()
    Message.objects.update(sent_at=timezone.now() - timedelta(seconds=700))
    DispatchBatch.objects.filter(follow_up_at__isnull=False).update(follow_up_at=timezone.now())
    (batch_id,) = DispatchBatch.objects.values_list("pk", flat=True)
    for _ in range(2):
        DispatchBatch.objects.filter(pk=batch_id).update(follow_up_at=timezone.now())
        batch_follow_up(batch_id)
    assert Message.objects.filter(channel_type="in_app").count() == 1


def test_a_quota_without_room_is_told(application, server, apns, phones):
    from apps.billing.services.plans import quota_set

    send(server)
    deliver()
    quota_set(
        application=application,
        channel_type="in_app",
        unit_price=Money(0, "USD"),
        daily_quota=0,
        monthly_quota=0,
        by="tests",
    )
    later(700)
    assert FollowUp.objects.get().problem == "quota_exceeded"


def test_a_conversation_is_one_with_one_cost(application, server, stranger, apns, phones):
    first = send(server).json()["data"]["messages"][0]["id"]
    deliver()
    later(700)
    body = server.get(f"messages/{first}/conversation").json()["data"]
    assert [(turn["step"], turn["because"]) for turn in body["turns"]] == [(0, ""), (0, ""), (1, "no_receipt")]
    assert (body["is_reached"], body["is_waiting"]) == (False, False)
    assert stranger.get(f"messages/{first}/conversation").status_code == 404


def test_a_campaign_waits_for_its_chain_before_it_is_completed(application, server, apns, phones):
    from uuid import UUID

    from apps.campaigns.models import MessageCampaign
    from apps.campaigns.services import campaigns_finish_done, fan_out

    body = {"name": "c", "title": "T", "body": "B", "targeting_criteria": {}, "chain": STEPS}
    campaign = server.post("campaigns", body).json()["data"]["id"]
    assert server.post(f"campaigns/{campaign}/launch").status_code == 200
    fan_out(UUID(campaign))
    deliver()
    campaigns_finish_done()
    row = MessageCampaign.objects.get(pk=campaign)
    assert (row.status, row.total_recipients) == ("running", 2)
    later(700)
    deliver()
    later(0)
    campaigns_finish_done()
    row.refresh_from_db(fields=["total_recipients", "updated_at"])
    assert (MessageCampaign.objects.get(pk=campaign).status, row.total_recipients) == ("completed", 3)


@pytest.mark.parametrize(
    ("chain", "field"),
    [
        ({"steps": STEPS["steps"]}, "chain.wait_s"),
        ({**STEPS, "wait_s": 5}, "chain.wait_s"),
        ({**STEPS, "steps": []}, "chain.steps"),
        ({**STEPS, "steps": [{"channel_type": "push", "body": "again"}]}, "chain.steps.0.channel_type"),
        ({**STEPS, "steps": [{"channel_type": "in_app"}]}, "chain.steps.0.body"),
        ({**STEPS, "steps": [{"channel_type": "in_app", "body": "b", "options": {"x": 1}}]}, "chain.steps.0.options.x"),
        ({**STEPS, "until": "opened"}, "chain.until"),
    ],
)
def test_a_chain_that_is_wrong_names_the_field(application, server, phones, chain, field):
    answer = send(server, chain=chain)
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json()["error"]["details"]] == [field]
    assert Message.objects.count() == 0


def test_who_has_not_agreed_to_the_first_channel_begins_with_one_that_they_agreed_to(application, server, apns, user):
    from apps.subscriptions.preferences.models import MarketingConsent

    make_subscription(application, token="ab" * 32, user=user)
    make_subscription(application, type="InAppMessage", token="inbox-1", user=user)
    MarketingConsent.objects.create(
        application=application, user_id=user.pk, channel="in_app", is_given=True, given_at=timezone.now()
    )
    answer = send(server, purpose="marketing")
    assert answer.status_code == 202, answer.content
    assert channels() == [("in_app", "pending")]
    assert FollowUp.objects.get().because == "no_consent"


# --- What waits ------------------------------------------------------------------------------------------------------


def test_what_is_to_be_sent_later_is_waited_for_from_then_on(application, server, apns, phones):
    at = timezone.now() + timedelta(hours=1)
    assert send(server, send_at=at.isoformat()).status_code == 202
    later(700)
    assert channels() == [("push", "pending")] * 2
    later(3_600)
    assert ("in_app", "pending") in channels()


def test_who_is_not_to_be_disturbed_now_is_not_tried_by_another_channel(application, server, apns, phones):
    application.settings = {"quiet_hours": {"from": clock(hours=-1), "to": clock(hours=1)}}
    application.save()
    send(server)
    deliver()
    later(700)
    assert channels() == [("push", "pending")] * 2
    application.settings = {}
    application.save()
    DispatchBatch.objects.update(due_at=timezone.now())
    deliver()
    assert channels() == [("push", "successful")] * 2


def test_the_older_a_batch_is_the_later_it_is_looked_at_again(application, server, apns, phones):
    """A look reads all messages of a batch, and an Alimtalk's fallback looks for a day."""
    send(server, chain={**STEPS, "wait_s": 86_400, "on": "failure"})
    deliver()
    waits_s = []
    for age_s in (0, 3_600, 36_000):
        later(age_s)
        waits_s.append(round((DispatchBatch.objects.get().follow_up_at - timezone.now()).total_seconds(), -1))
    assert waits_s == [10, 180, 600]


def test_what_failed_is_told_to_the_counters_after_the_next_step_was_reserved(application, server, apns, phones):
    """All quotas are locked in the order of their channels: one alone, and then all, could wait for who does so."""
    send(server)
    with taken_down() as statements:
        later(700)
    quotas = [sql for sql in statements if "billing_messagequota" in sql and ("UPDATE" in sql)]
    assert "FOR NO KEY UPDATE" in quotas[0]
    assert "WHERE channel_type" not in quotas[0]
    assert quotas[-1].startswith("UPDATE billing_messagequota SET reserved")


def test_a_requeued_step_is_not_another_step(application, server, apns, phones):
    send(server)
    deliver()
    later(700)
    message = Message.objects.get(channel_type="in_app")
    Message.objects.filter(pk=message.pk).update(status="failed", error_reason="inbox_away")
    assert server.post(f"messages/{message.pk}/requeue").status_code in (200, 202)
    first = Dispatch.objects.get(channel_type="push")
    assert Dispatch.objects.filter(chain_step=1).count() == 2
    assert next_step(first).pk == message.dispatch_id


def test_what_was_overtaken_is_not_requeued_among_others(application, server, apns, phones):
    send(server)
    later(700)
    deliver()
    order = requeue_start(application=application, which=FailedFilter())
    assert (order.requeued, order.skipped) == (0, {"overtaken": 2})


def test_erasing_a_person_takes_the_words_of_steps_that_were_not_taken(application, server, apns, user, phones):
    send(server)
    server.post(f"users/{user.pk}/erase")
    assert set(Dispatch.objects.values_list("body", flat=True)) == {""}


def test_a_batch_whose_chain_goes_on_is_kept(application, server, apns, phones):
    send(server)
    deliver()
    long_after = timezone.now() + timedelta(days=400)
    assert not delete_slice(application, long_after)
    DispatchBatch.objects.update(follow_up_at=None)
    while delete_slice(application, long_after):
        pass
    assert (Message.objects.count(), Dispatch.objects.count()) == (0, 0)
