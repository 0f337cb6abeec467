"""Failed messages are sent again as new ones, once, and never what a provider took."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from apps.campaigns import services as campaigns
from apps.campaigns.models import CampaignFailure, MessageCampaign
from apps.messaging import dispatch, requeue
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import Dispatch, DispatchBatch, Message, MessageRequeue
from apps.messaging.requeue import FailedFilter
from apps.subscriptions.models import Subscription
from automata_signal.ids import new_id
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_dispatch, make_subscription, make_subscriptions, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def tokens(count, prefix="", start=0):
    return [f"{prefix}{n:0{64 - len(prefix)}x}" for n in range(start, start + count)]


def send_all():
    """Every attempt that the policy allows, without the waiting."""
    now = timezone.now()
    Message.objects.filter(status="errored").update(retry_at=now)
    DispatchBatch.objects.filter(state="waiting").update(due_at=now)
    for batch_id in DispatchBatch.objects.filter(state="waiting").values_list("pk", flat=True):
        dispatch.run_batch(batch_id)


@pytest.fixture
def busy(settings):
    """One attempt, so that a busy provider's messages fail."""
    settings.RETRY_MAX_ATTEMPTS = 1


@pytest.fixture
def failed(application, apns, busy):
    """Five messages sent, three failed: the provider was busy."""
    make_subscriptions(application, [*tokens(5), *tokens(3, "deaf50331")])
    order = make_dispatch(application, audience={}, data={"a": 1}, options={"badge": 2}, priority="high")
    dispatch_slice(dispatch=order, after_id=None, limit=1_000)
    send_all()
    assert Counter(Message.objects.values_list("status", flat=True)) == {"successful": 5, "failed": 3}
    return list(Message.objects.filter(status="failed").order_by("pk"))


def again(server, message, **headers):
    return server.post(f"messages/{message.pk}/requeue", **headers)


# --- One ---------------------------------------------------------------------------------------------------------


def test_a_failed_message_is_sent_again_as_a_new_one(server, failed, apns):
    answer = again(server, failed[0])
    assert answer.status_code == 202, answer.content
    data = answer.json()["data"]
    assert data["already_requeued"] is False
    assert (data["message"]["status"], data["message"]["requeued_from"]) == ("pending", str(failed[0].pk))
    assert data["message"]["content"]["title"] == "Hi"
    send_all()
    old, new = Message.objects.get(pk=failed[0].pk), Message.objects.get(pk=data["message"]["id"])
    assert (old.status, old.requeued_as) == ("failed", new.pk)
    assert (new.status, new.subscription_id) == ("successful", old.subscription_id)
    assert new.dispatch_id != old.dispatch_id
    copied = ("title", "body", "data", "options", "priority", "ttl_s", "channel_type", "campaign_id")
    assert [getattr(new.dispatch, f) for f in copied] == [getattr(old.dispatch, f) for f in copied]


def test_a_message_is_requeued_once(server, failed):
    first, second = again(server, failed[0]), again(server, failed[0])
    assert second.status_code == 202
    assert second.json()["data"]["already_requeued"] is True
    assert second.json()["data"]["message"]["id"] == first.json()["data"]["message"]["id"]
    assert Message.objects.count() == 9


def test_two_at_once_make_one_message(application, failed):
    made = in_threads(4, lambda _: requeue.message_requeue(application=application, message_id=failed[0].pk))
    assert len({m.message_id for m in made}) == 1
    assert [m.is_new for m in made].count(True) == 1
    assert Message.objects.filter(requeued_from=failed[0].pk).count() == 1


def test_the_same_request_again_gets_the_same_answer(server, failed):
    answers = [again(server, failed[0], **{"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].json()["data"] == answers[1].json()["data"]
    assert answers[1]["Idempotency-Replayed"] == "true"


def test_a_requeued_message_that_fails_can_be_requeued(server, failed, apns):
    first = again(server, failed[0]).json()["data"]["message"]["id"]
    Message.objects.filter(pk=first).update(status="failed", error_reason="ServiceUnavailable")
    second = server.post(f"messages/{first}/requeue").json()["data"]
    assert second["message"]["requeued_from"] == first


def code(answer):
    assert answer.status_code == 409, answer.content
    return answer.json()["error"]["code"]


def test_what_did_not_fail_is_not_requeued(server, failed):
    assert code(again(server, Message.objects.filter(status="successful").first())) == "MESSAGE_NOT_FAILED"


def test_what_the_provider_took_is_never_sent_again(application, server, failed):
    message = Message.objects.filter(status="successful").first()
    Message.objects.filter(pk=message.pk).update(status="failed", error_reason="receipt_timeout")
    assert code(again(server, message)) == "MESSAGE_WAS_SENT"
    order = requeue.requeue_start(application=application, which=FailedFilter(error_reason="receipt_timeout"))
    assert order.requeued == 0


def test_a_subscription_that_ended_gets_nothing(server, failed):
    Subscription.objects.filter(pk=failed[0].subscription_id).update(subscription_status=-22)
    assert code(again(server, failed[0])) == "RECIPIENT_UNREACHABLE"


def test_what_was_for_a_person_does_not_go_to_the_next_one(application, server, apns, busy):
    user = make_user(application, "u-1")
    subscription = make_subscription(application, token=tokens(1, "deaf50331")[0], user=user)
    sent = server.post("messages", {"recipients": {"external_ids": ["u-1"]}, "body": "x"}).json()["data"]["messages"][0]
    send_all()
    Subscription.objects.filter(pk=subscription.pk).update(user=make_user(application, "u-2"))
    assert code(server.post(f"messages/{sent['id']}/requeue")) == "RECIPIENT_UNREACHABLE"


def test_a_stranger_finds_no_message(stranger, failed):
    assert again(stranger, failed[0]).status_code == 404


# --- A filter ----------------------------------------------------------------------------------------------------


def test_failures_are_counted_by_reason_and_class(application, server, failed):
    make_subscriptions(application, tokens(2, "dead4101"))
    order = make_dispatch(application, audience={})
    dispatch_slice(dispatch=order, after_id=None, limit=1_000)
    send_all()
    again(server, failed[0])
    rows = server.get("messages/failures").json()["data"]
    assert rows == [
        {"error_reason": "ServiceUnavailable", "error_class": "provider", "messages": 3, "requeued": 1},
        {"error_reason": "Unregistered", "error_class": "recipient", "messages": 2, "requeued": 0},
    ]
    assert server.get("messages/failures?error_class=recipient").json()["data"] == rows[1:]


def test_a_filter_requeues_what_it_names_and_says_what_it_left(application, server, failed):
    Subscription.objects.filter(pk=failed[1].subscription_id).update(subscription_status=-22)
    answer = server.post("messages/requeue", {"error_reason": "ServiceUnavailable", "error_class": "provider"})
    assert answer.status_code == 202, answer.content
    order = answer.json()["data"]
    assert (order["is_finished"], order["requeued"], order["skipped"]) == (True, 2, {"unsubscribed": 1})
    assert server.get(f"messages/requeues/{order['id']}").json()["data"] == order
    assert server.post("messages/requeue", {"error_class": "provider"}).json()["data"]["requeued"] == 0
    send_all()
    assert Message.objects.filter(requeued_from__isnull=False, status="successful").count() == 2


@pytest.mark.parametrize(
    ("which", "requeued"),
    [
        ({"error_class": "recipient"}, 0),
        ({"error_reason": "Nothing"}, 0),
        ({"campaign_id": str(new_id())}, 0),
        ({"since": "2100-01-01T00:00:00Z"}, 0),
        ({"until": "0001-01-01T00:00:00Z"}, 0),
        ({"since": "2020-01-01T00:00:00Z"}, 3),
    ],
)
def test_a_filter_is_kept_to(server, failed, which, requeued):
    assert server.post("messages/requeue", which).json()["data"]["requeued"] == requeued


def test_nothing_is_requeued_by_an_empty_filter(server, failed):
    assert server.post("messages/requeue", {}).status_code == 400


def test_what_was_stopped_goes_again_only_by_its_name(application, failed):
    Message.objects.filter(pk=failed[0].pk).update(error_reason="canceled")
    Message.objects.filter(pk=failed[1].pk).update(error_reason="unknown_outcome")
    all_ = requeue.requeue_start(application=application, which=FailedFilter(error_class="provider"))
    assert (all_.requeued, all_.skipped) == (1, {"canceled": 1, "unknown_outcome": 1})
    named = requeue.requeue_start(application=application, which=FailedFilter(error_reason="unknown_outcome"))
    assert named.requeued == 1


def test_many_are_requeued_step_by_step(application, failed, monkeypatch):
    monkeypatch.setattr(requeue, "REQUEUE_AT_ONCE", 2)
    queued = []
    monkeypatch.setattr(requeue, "queue_requeue", queued.append)
    order = requeue.requeue_start(application=application, which=FailedFilter(error_class="provider"))
    assert (order.requeued, order.finished_at, queued) == (2, None, [order.pk])
    MessageRequeue.objects.update(updated_at=timezone.now() - timedelta(minutes=5))
    assert requeue.requeues_continue() == 1, "the broker lost the task"
    assert requeue.requeue_run(order.pk) is False
    order.refresh_from_db()
    assert (order.requeued, order.skipped) == (3, {})
    assert order.finished_at is not None
    assert Message.objects.filter(requeued_from__isnull=False).values("requeued_from").distinct().count() == 3


def test_two_orders_for_the_same_messages_share_them(application, failed):
    orders = in_threads(
        3, lambda _: requeue.requeue_start(application=application, which=FailedFilter(error_class="provider"))
    )
    assert sum(order.requeued for order in orders) == 3
    assert Message.objects.filter(requeued_from__isnull=False).count() == 3


def test_another_applications_failures_are_not_touched(other_application, failed):
    order = requeue.requeue_start(application=other_application, which=FailedFilter(error_class="provider"))
    assert (order.requeued, requeue.dead_letters(application=other_application, which=FailedFilter())) == (0, [])


def test_a_personal_content_that_could_not_be_rendered_is_rendered_again(application, server, apns):
    user = make_user(application, "u-1")
    make_subscription(application, token="ab" * 32, user=user)
    order = make_dispatch(application, audience={}, title="{{ points|number }} points", is_personalised=True)
    dispatch_slice(dispatch=order, after_id=None, limit=10)
    send_all()
    message = Message.objects.get()
    assert message.error_reason.startswith("render_error")
    assert code(again(server, message)) == "CONTENT_UNUSABLE"
    user.properties = {"points": 1200}
    user.save()
    assert again(server, message).status_code == 202
    send_all()
    new = Message.objects.get(requeued_from=message.pk)
    assert (new.status, new.title) == ("successful", "1,200 points")


# --- A campaign --------------------------------------------------------------------------------------------------


@pytest.fixture
def campaign(application, server, apns, busy):
    make_subscriptions(application, [*tokens(5), *tokens(4, "deaf50331"), *tokens(2, "dead4101")])
    body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    server.post(f"campaigns/{campaign_id}/launch")
    campaigns.fan_out(UUID(campaign_id))
    send_all()
    return MessageCampaign.objects.get()


def counters_equal_rows():
    row = MessageCampaign.objects.get()
    rows = Message.objects.filter(campaign_id=row.pk)
    now = Counter(rows.values_list("status", flat=True))
    assert row.total_recipients == sum(now.values())
    assert row.successful_count == now["successful"] + now["received"] + now["converted"]
    assert row.failed_count == now["failed"]
    reasons = Counter(rows.filter(status="failed").values_list("error_reason", flat=True))
    assert dict(CampaignFailure.objects.filter(count__gt=0).values_list("reason", "count")) == dict(reasons)
    return now


def test_a_campaigns_failed_messages_are_sent_again_and_its_figures_stay_true(server, campaign):
    counters_equal_rows()
    answer = server.post(f"campaigns/{campaign.pk}/requeue-failed", {"error_class": "provider"})
    assert answer.status_code == 202, answer.content
    assert answer.json()["data"]["requeued"] == 4
    assert counters_equal_rows() == {"successful": 5, "failed": 6, "pending": 4}
    stats = server.get(f"campaigns/{campaign.pk}/stats").json()["data"]
    assert (stats["total"], stats["by_status"]["pending"]) == (15, 4)
    assert sum(stats["by_status"].values()) == stats["total"]
    send_all()
    assert counters_equal_rows() == {"successful": 9, "failed": 6}
    assert server.post(f"campaigns/{campaign.pk}/requeue-failed").json()["data"]["requeued"] == 0
    assert Message.objects.filter(campaign_id=campaign.pk).count() == 15


def test_a_running_campaign_is_completed_when_its_requeued_messages_are_done(server, campaign):
    server.post(f"campaigns/{campaign.pk}/requeue-failed")
    campaigns.campaigns_finish_done()
    assert MessageCampaign.objects.get().status == "running"
    send_all()
    campaigns.campaigns_finish_done()
    assert MessageCampaign.objects.get().status == "completed"


def test_pausing_a_campaign_pauses_what_was_requeued(server, campaign):
    server.post(f"campaigns/{campaign.pk}/requeue-failed")
    assert server.post(f"campaigns/{campaign.pk}/pause").status_code == 200
    send_all()
    assert Message.objects.filter(status="pending").count() == 4
    assert code(server.post(f"campaigns/{campaign.pk}/requeue-failed")) == "CAMPAIGN_STATE"
    server.post(f"campaigns/{campaign.pk}/cancel")
    assert set(Dispatch.objects.values_list("state", flat=True)) == {"canceled"}


def test_a_canceled_campaign_is_not_sent_after_all(application, server, campaign):
    server.post(f"campaigns/{campaign.pk}/cancel")
    assert code(server.post(f"campaigns/{campaign.pk}/requeue-failed")) == "CAMPAIGN_STATE"
    order = requeue.requeue_start(application=application, which=FailedFilter(error_class="provider"))
    assert (order.requeued, order.skipped) == (0, {"dispatch_stopped": 4})


def test_a_stranger_requeues_nothing(stranger, campaign):
    assert stranger.post(f"campaigns/{campaign.pk}/requeue-failed").status_code == 404
    assert stranger.get("messages/failures").json()["data"] == []
