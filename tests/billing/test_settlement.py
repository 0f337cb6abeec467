"""From the reservation to the end of a message: campaigns, single messages, failures of each kind, requeues."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.billing.models import LedgerAccount, MessageQuota
from apps.billing.selectors import _rates
from apps.billing.services.posting import usage_post_all
from apps.campaigns import services
from apps.campaigns.models import MessageCampaign
from apps.campaigns.tasks import launch_due
from apps.messaging import dispatch, sweeps
from apps.messaging.models import DispatchBatch, Message
from apps.messaging.rates import plan_buckets
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.retention import delete_old, drop_unneeded_partitions
from apps.subscriptions.models import Subscription
from apps.tenants.models import Application
from tests.factories import handle_of, make_subscription, make_subscriptions, make_user
from tests.fleet import wait_until
from tests.messaging.test_dispatch import make_due, tokens

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def campaign(server):
    """`campaign()` makes and launches one through the API and cuts it; its row."""

    def make(*, fan_out=True, **fields) -> MessageCampaign:
        body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}} | fields
        campaign_id = server.post("campaigns", body).json()["data"]["id"]
        answer = server.post(f"campaigns/{campaign_id}/launch")
        assert answer.status_code == 200, answer.content
        row = MessageCampaign.objects.get(pk=campaign_id)
        while fan_out and services.fan_out(row.pk) is services.fanout.Step.MORE:
            pass
        return row

    return make


def send_all():
    for batch_id in list(DispatchBatch.objects.filter(state="waiting").values_list("pk", flat=True)):
        dispatch.run_batch(batch_id)


def post(server, *subscriptions, **fields):
    ids = [str(subscription.pk) for subscription in subscriptions]
    return server.post("messages", {"recipients": {"subscription_ids": ids}, "title": "Hi", "body": "There"} | fields)


def statuses() -> dict[str, int]:
    found: dict[str, int] = {}
    for status, reason in Message.objects.values_list("status", "error_reason"):
        name = f"{status}: {reason}" if status == "failed" else status
        found[name] = found.get(name, 0) + 1
    return found


# --- Campaigns -----------------------------------------------------------------------------------------------------


def test_a_campaign_is_reserved_at_launch_and_settled_by_its_results(
    application, apns, campaign, terms, counters, agrees
):
    terms(daily=100, price="2", credit=50)
    make_subscriptions(application, [*tokens(8), *tokens(2, "dead4101")])
    row = campaign(fan_out=False)
    assert (row.reserved_left, counters()) == (10, (10, 10, 10, 0))
    assert agrees()
    services.fan_out(row.pk)
    assert MessageCampaign.objects.get().reserved_left == 0
    assert (counters(), agrees()) == ((10, 10, 10, 0), True)
    send_all()
    assert statuses() == {"successful": 8, "failed: Unregistered": 2}
    assert counters() == (8, 8, 0, 8)
    usage_post_all()
    assert LedgerAccount.objects.get(kind="credit").balance.amount == 34
    assert agrees()


def test_where_nothing_limits_the_fan_out_reserves_what_it_cuts(application, apns, campaign, counters, agrees):
    make_subscriptions(application, tokens(5))
    row = campaign(fan_out=False)
    assert row.reserved_left == 0
    services.fan_out(row.pk)
    assert counters() == (5, 5, 5, 0)
    assert agrees()
    send_all()
    assert (counters(), agrees()) == ((5, 5, 0, 5), True)


def test_a_campaign_that_does_not_fit_is_refused_with_the_number_that_would(application, server, apns, terms, counters):
    terms(daily=7)
    make_subscriptions(application, tokens(10))
    body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "QUOTA_EXCEEDED")
    limits = answer.json()["error"]["limits"]
    assert (limits["what"], limits["limit"], limits["used"], limits["asked"]) == ("daily_quota", 7, 0, 10)
    assert limits["available"] == 7
    assert "7 would fit" in answer.json()["error"]["message"]
    assert int(answer.headers["Retry-After"]) > 0
    assert MessageCampaign.objects.get().status == "draft"
    assert (DispatchBatch.objects.count(), counters()) == (0, (0, 0, 0, 0))


def test_a_scheduled_campaign_that_does_not_fit_fails_and_says_why(application, server, apns, terms):
    terms(price="1", credit=3)
    make_subscriptions(application, tokens(4))
    body = {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    server.post(f"campaigns/{campaign_id}/schedule", {"at": (timezone.now() + timedelta(hours=1)).isoformat()})
    MessageCampaign.objects.update(scheduled_at=timezone.now())
    launch_due()
    row = MessageCampaign.objects.get()
    assert row.status == "failed"
    assert row.failure_reason.startswith("CREDIT_EXHAUSTED: 4 messages cost 4 KRW")
    assert "3 would fit" in row.failure_reason


@pytest.mark.parametrize("size", [3, 2_000])
def test_a_campaign_sends_as_far_as_the_quota_goes_when_asked_to(
    application, apns, campaign, terms, counters, agrees, settings, size
):
    settings.BATCH_SIZE = size
    terms(daily=7)
    make_subscriptions(application, tokens(20))
    row = campaign(when_over_quota="partial")
    assert agrees()
    assert DispatchBatch.objects.filter(is_over_quota=True).exists()
    send_all()
    assert statuses() == {"successful": 7, "failed: quota_exceeded": 13}
    assert apns.stats()["accepted"] == 7
    assert (counters(), agrees()) == ((7, 7, 0, 7), True)
    row = MessageCampaign.objects.get()
    assert (row.total_recipients, row.successful_count, row.failed_count) == (20, 7, 13)
    assert Message.objects.filter(error_details__class="sender").count() == 13
    assert services.campaigns_finish_done() == 1


def test_a_campaign_of_which_nothing_fits_is_refused_even_in_part(application, server, apns, terms):
    terms(daily=0, monthly=5)
    make_subscriptions(application, tokens(2))
    body = {"name": "Sale", "title": "Hi", "targeting_criteria": {}, "when_over_quota": "partial"}
    made = server.post("campaigns", body).json()["data"]
    assert made["when_over_quota"] == "partial"
    assert server.post(f"campaigns/{made['id']}/launch").status_code == 429


def test_those_who_came_after_the_launch_are_reserved_too_or_fail(application, apns, campaign, terms, counters, agrees):
    terms(daily=6)
    make_subscriptions(application, tokens(4))
    row = campaign(fan_out=False)
    make_subscriptions(application, tokens(5, start=50))
    while services.fan_out(row.pk) is services.fanout.Step.MORE:
        pass
    send_all()
    assert statuses() == {"successful": 6, "failed: quota_exceeded": 3}
    assert (counters(), agrees()) == ((6, 6, 0, 6), True)


def test_what_was_reserved_for_those_who_left_is_given_back(application, apns, campaign, terms, counters, agrees):
    terms(daily=10)
    make_subscriptions(application, tokens(10))
    row = campaign(fan_out=False)
    first = list(Subscription.objects.order_by("id").values_list("pk", flat=True)[:4])
    Subscription.objects.filter(pk__in=first).update(subscription_status=-2)
    services.fan_out(row.pk)
    assert (counters(), agrees()) == ((6, 6, 6, 0), True)
    Subscription.objects.update(subscription_status=-2)
    send_all()
    assert (counters(), agrees()) == ((0, 0, 0, 0), True)


@pytest.mark.parametrize(("daily", "sent"), [(None, 10), (10, 10), (8, 8), (6, 6)])
def test_those_who_join_a_slice_that_was_cut_are_reserved_or_left_out(
    application, apns, campaign, terms, counters, agrees, daily, sent
):
    terms(daily=daily, price="0.5", limit=None)
    make_subscriptions(application, tokens(10))
    late = list(Subscription.objects.order_by("id").values_list("pk", flat=True)[2:6])
    Subscription.objects.filter(pk__in=late).update(subscription_status=-2)
    row = campaign()
    assert (counters()[2], agrees()) == (6, True)
    Subscription.objects.update(subscription_status=1)
    send_all()
    assert statuses() == {"successful": sent}
    assert (counters(), agrees()) == ((sent, sent, 0, sent), True)
    row = MessageCampaign.objects.get(pk=row.pk)
    assert (row.total_recipients, row.successful_count) == (sent, sent)


def test_a_campaign_that_is_canceled_before_it_was_cut_gives_everything_back(
    application, server, apns, campaign, terms, counters, agrees
):
    terms(daily=10)
    make_subscriptions(application, tokens(10))
    row = campaign(fan_out=False)
    assert server.post(f"campaigns/{row.pk}/cancel").status_code == 200
    assert (counters(), agrees()) == ((0, 0, 0, 0), True)


def test_a_campaign_that_is_canceled_in_the_middle_gives_back_what_has_not_left(
    application, server, apns, campaign, terms, counters, agrees, settings
):
    settings.BATCH_SIZE = 3
    terms(daily=10)
    make_subscriptions(application, tokens(10))
    row = campaign()
    dispatch.run_batch(DispatchBatch.objects.order_by("id").first().pk)
    server.post(f"campaigns/{row.pk}/pause")
    assert agrees()
    server.post(f"campaigns/{row.pk}/cancel")
    sweeps.fail_canceled(row.dispatch_id)
    assert statuses() == {"successful": 3, "failed: canceled": 7}
    assert (counters(), agrees()) == ((3, 3, 0, 3), True)


def test_what_is_over_the_quota_gives_nothing_back_when_it_is_canceled(
    application, server, apns, campaign, terms, counters, agrees
):
    terms(daily=7)
    make_subscriptions(application, tokens(10))
    row = campaign(when_over_quota="partial")
    server.post(f"campaigns/{row.pk}/cancel")
    sweeps.fail_canceled(row.dispatch_id)
    assert statuses() == {"failed: canceled": 7, "failed: quota_exceeded": 3}
    assert (counters(), agrees()) == ((0, 0, 0, 0), True)


def test_a_whole_fleet_leaves_a_ledger_that_equals_the_messages(
    application, server, fleet, apns, fcm, terms, counters, agrees
):
    terms(daily=400, price="0.25", credit=200)
    make_subscriptions(application, [*tokens(250), *tokens(30, "dead4101"), *tokens(20, "deaf50331")])
    make_subscriptions(application, [f"fcm-token-{n}:{'x' * 120}" for n in range(90)], type="AndroidPush")
    single = make_subscription(application, token="ee" * 32)
    fleet.environment |= {"BATCH_SIZE": "40", "POST_USAGE_S": "1"}
    fleet.start_worker("push.high,push.medium,push.low")
    fleet.start_worker("push.high,push.medium,push.low")
    fleet.start_worker("control")
    fleet.start_beat()
    body = {"name": "Sale", "title": "Hi", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    assert server.post(f"campaigns/{campaign_id}/launch").status_code == 200
    answers = [post(server, single).status_code for _ in range(12)]
    assert answers == [202] * 9 + [429] * 3

    def is_over() -> bool:
        batches = DispatchBatch.objects.exclude(state="done")
        batches.filter(state="waiting", due_at__gt=timezone.now()).update(due_at=timezone.now())
        Message.objects.filter(status="errored").update(retry_at=timezone.now())
        campaign = MessageCampaign.objects.get(pk=campaign_id)
        return campaign.status == "completed" and not batches.exists()

    wait_until(is_over, timeout_s=90)
    assert statuses() == {"successful": 370, "failed: Unregistered": 30}
    assert counters() == (370, 370, 0, 370)
    wait_until(lambda: MessageQuota.objects.filter(posted_total=370).exists())
    assert LedgerAccount.objects.get(kind="credit").balance.amount == 107.5
    assert agrees()


# --- Single messages -----------------------------------------------------------------------------------------------


def test_a_message_beyond_the_quota_is_a_429_and_nothing_of_it_is_there(application, server, terms, counters):
    terms(daily=2)
    subscriptions = make_subscriptions(application, tokens(3))
    answer = post(server, *subscriptions)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "QUOTA_EXCEEDED")
    assert (Message.objects.count(), counters()) == (0, (0, 0, 0, 0))
    assert post(server, *subscriptions[:2]).status_code == 202
    assert counters() == (2, 2, 2, 0)


def test_a_message_beyond_the_credit_is_a_402(application, server, terms):
    terms(price="10", credit=15)
    one, two = make_subscriptions(application, tokens(2))
    answer = post(server, one, two)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "CREDIT_EXHAUSTED")
    assert answer.json()["error"]["limits"]["available"] == 1
    assert "Retry-After" not in answer.headers
    assert post(server, one).status_code == 202


def test_a_channel_that_the_plan_does_not_have_is_a_403(application, server, terms):
    terms(daily=0, monthly=0)
    answer = post(server, make_subscription(application, token="ab" * 32))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "PLAN_CHANNEL")
    assert answer.json()["error"]["limits"]["what"] == "channel"


def test_a_refused_request_can_be_repeated_under_its_key_when_there_is_room(application, server, terms):
    terms(daily=0, monthly=1)
    one = make_subscription(application, token="ab" * 32)
    body = {"recipients": {"subscription_ids": [str(one.pk)]}, "title": "Hi"}
    key = {"Idempotency-Key": "one"}
    assert server.post("messages", body, **key).status_code == 429
    terms(daily=1, monthly=1)
    assert server.post("messages", body, **key).status_code == 202


def test_a_test_of_a_campaign_is_reserved_too(application, server, apns, terms, counters, agrees):
    terms(daily=1)
    make_subscription(application, token="ab" * 32, user=make_user(application, "anna"))
    body = {"name": "Sale", "title": "Hi", "targeting_criteria": {}}
    campaign_id = server.post("campaigns", body).json()["data"]["id"]
    codes = [server.post(f"campaigns/{campaign_id}/test", {"external_ids": ["anna"]}).status_code for _ in range(2)]
    assert codes == [202, 429]
    send_all()
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)


def test_a_message_that_is_canceled_is_given_back(application, server, terms, counters, agrees):
    terms(daily=5)
    one = make_subscription(application, token="ab" * 32)
    post(server, one, send_at=(timezone.now() + timedelta(hours=1)).isoformat())
    message = Message.objects.get()
    assert server.post(f"messages/{message.pk}/cancel").status_code == 200
    assert (counters(), agrees()) == ((0, 0, 0, 0), True)


def test_a_message_that_waits_for_another_attempt_stays_reserved(application, server, apns, terms, counters, agrees):
    terms(daily=5)
    post(server, make_subscription(application, token=tokens(1, "deaf50332")[0]))
    for _ in range(2):
        send_all()
        assert (counters(), agrees()) == ((1, 1, 1, 0), True)
        make_due()
    send_all()
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)


@pytest.mark.parametrize("why", ["expired", "unsubscribed", "no_credential"])
def test_a_message_that_fails_before_it_was_sent_is_given_back(application, server, apns, terms, counters, agrees, why):
    terms(daily=5)
    one = make_subscription(application, token="ab" * 32)
    post(server, one)
    if why == "expired":
        DispatchBatch.objects.update(expires_at=timezone.now())
    elif why == "unsubscribed":
        Subscription.objects.update(subscription_status=-2)
    else:
        application.credentials.update(is_active=False)
    send_all()
    assert statuses() == {f"failed: {why}": 1}
    assert (counters(), agrees()) == ((0, 0, 0, 0), True)


def test_a_message_that_may_have_arrived_uses_its_quota_up_and_costs_nothing(
    application, server, apns, terms, counters, agrees, settings, monkeypatch
):
    from apps.messaging.adapters.registry import adapter_named

    monkeypatch.setattr(type(adapter_named("apns")), "resend_is_harmless", False)
    settings.PROVIDER_TIMEOUT_S = 0.5
    terms(daily=5, price="1", credit=5)
    post(server, make_subscription(application, token="ab" * 32))
    apns.settings(latency_ms=3_000)
    send_all()
    assert statuses() == {"failed: unknown_outcome": 1}
    assert (counters(), agrees()) == ((1, 1, 0, 0), True)


def test_a_receipt_that_overtakes_the_answer_says_that_it_was_sent_once(
    application, server, apns, terms, counters, agrees
):
    terms(daily=5)
    post(server, make_subscription(application, token="ab" * 32))
    message = Message.objects.get()
    receipt = Receipt(message.pk, "received", handle=handle_of(message))
    receipts_apply(application=application, receipts=[receipt], trusted=False)
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)
    send_all()
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)


def test_what_had_no_receipt_in_time_was_sent_all_the_same(application, server, apns, terms, counters, agrees):
    terms(daily=5)
    post(server, make_subscription(application, token="ab" * 32))
    send_all()
    Application.objects.update(settings={"receipt_timeout_hours": 1})
    DispatchBatch.objects.update(finished_at=timezone.now() - timedelta(hours=2))
    assert sweeps.expire_unreceived() == 1
    assert statuses() == {"failed: receipt_timeout": 1}
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)


# --- Requeues ------------------------------------------------------------------------------------------------------


def test_a_requeued_message_is_reserved_anew(application, server, apns, terms, counters, agrees):
    terms(daily=1)
    one = make_subscription(application, token="ab" * 32)
    post(server, one)
    application.credentials.update(is_active=False)
    send_all()
    application.credentials.update(is_active=True)
    failed = Message.objects.get()
    post(server, one)
    answer = server.post(f"messages/{failed.pk}/requeue")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "QUOTA_EXCEEDED")
    send_all()
    terms(daily=2)
    assert server.post(f"messages/{failed.pk}/requeue").status_code == 202
    assert counters() == (2, 2, 1, 1)
    send_all()
    assert (counters(), agrees()) == ((2, 2, 0, 2), True)


def test_requeueing_two_channels_locks_all_quotas_first_as_everybody_does(application, apns, campaign, terms, counters):
    terms(daily=100)
    make_subscriptions(application, tokens(4))
    row = campaign()
    application.credentials.update(is_active=False)
    send_all()
    Message.objects.filter(pk__in=Message.objects.values_list("pk", flat=True)[:2]).update(channel_type="sms")
    application.credentials.update(is_active=True)
    with CaptureQueriesContext(connection) as queries:
        assert services.campaign_requeue_failed(campaign=row).requeued == 4
    statements = [query["sql"] or "" for query in queries]
    locks = [sql for sql in statements if "billing_messagequota" in sql and "FOR NO KEY UPDATE" in sql]
    assert locks[0].endswith('ORDER BY "billing_messagequota"."channel_type" ASC FOR NO KEY UPDATE')
    assert (counters()[2], counters("sms")[2]) == (2, 2)


def test_of_a_set_as_many_are_requeued_as_fit_and_the_rest_can_be_later(
    application, server, apns, campaign, terms, counters, agrees
):
    terms(daily=10)
    make_subscriptions(application, tokens(8))
    application.credentials.update(is_active=False)
    application.credentials.filter(provider="apns").update(is_active=True)
    row = campaign()
    application.credentials.update(is_active=False)
    send_all()
    assert statuses() == {"failed: no_credential": 8}
    application.credentials.update(is_active=True)
    terms(daily=3)
    order = services.campaign_requeue_failed(campaign=row)
    assert (order.requeued, order.skipped) == (3, {"quota_exceeded": 5})
    send_all()
    assert (counters(), agrees()) == ((3, 3, 0, 3), True)
    terms(daily=20)
    assert services.campaign_requeue_failed(campaign=row).requeued == 5
    send_all()
    assert (counters(), agrees()) == ((8, 8, 0, 8), True)


# --- Retention, erasing, and without billing -----------------------------------------------------------------------


def test_what_retention_deletes_was_sent_all_the_same(application, server, apns, quota, agrees):
    make_subscriptions(application, [*tokens(3), *tokens(1, "dead4101")])
    post(server, *Subscription.objects.all())
    send_all()
    Application.objects.update(settings={"retention_days": 1})
    delete_old(now=timezone.now() + timedelta(days=3))
    assert Message.objects.count() == 0
    assert (quota().sent_total, quota().forgotten_total) == (3, 3)
    assert agrees()


def test_what_goes_with_its_month_was_sent_all_the_same(application, server, apns, quota, agrees, settings):
    from apps.messaging.partitions import make_partitions

    make_subscriptions(application, tokens(3))
    post(server, *Subscription.objects.all())
    send_all()
    settings.RETENTION_DAYS_DEFAULT = 1
    assert drop_unneeded_partitions(now=timezone.now() + timedelta(days=70))
    make_partitions()
    assert (quota().sent_total, quota().forgotten_total) == (3, 3)
    assert agrees()


def test_erasing_a_person_leaves_what_was_sent(application, server, apns, counters, agrees):
    make_subscription(application, token="ab" * 32, user=make_user(application, "anna"))
    server.post("messages", {"recipients": {"external_ids": ["anna"]}, "title": "Hi"})
    send_all()
    assert server.post("users/by-external-id/erase?external_id=anna").status_code == 204
    assert Message.objects.get().user_id is None
    assert (counters(), agrees()) == ((1, 1, 0, 1), True)


def test_without_billing_nothing_is_reserved_or_counted(application, server, apns, terms, counters, settings, campaign):
    terms(daily=0, monthly=1)
    settings.BILLING = False
    make_subscriptions(application, tokens(3))
    campaign()
    post(server, Subscription.objects.first())
    send_all()
    assert statuses() == {"successful": 4}
    assert counters() == (0, 0, 0, 0)


# --- The rate of a plan --------------------------------------------------------------------------------------------


def test_a_plans_rate_holds_for_all_that_the_application_sends(application, server, apns, terms, settings):
    assert plan_buckets(application.pk) == []
    _rates.clear()
    settings.DEFAULT_PLAN, settings.RATE_WAIT_MAX_S = "free", 0.2
    terms()
    [bucket] = plan_buckets(application.pk)
    assert (bucket.limit_per_s, str(application.pk) in bucket.key) == (20, True)
    make_subscriptions(application, tokens(60))
    post(server, *Subscription.objects.all())
    send_all()
    left = statuses()
    assert 0 < left["successful"] < 60, "a second's worth left; the rest goes on later"
    assert left["pending"] == 60 - left["successful"]
