"""What providers report later: the state of messages, and what it does to subscriptions."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.messaging.models import Message, MessageEvent
from apps.messaging.receipts.reports import Report, ReportKind, reports_apply
from apps.messaging.requeue import FailedFilter, dead_letters
from apps.subscriptions.models import Subscription
from automata_signal.ids import new_id
from tests.factories import make_messages, make_subscription
from tests.messaging.test_hot_queries import taken_down

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(application):
    """A message in a state, to a subscription of its own."""

    def make(status: str = "successful") -> Message:
        return make_messages(application, [status])[0]

    return make


def report(application, message, kind, **fields):
    return reports_apply(
        application=application, provider="solapi", reports=[Report(str(message.pk), ReportKind(kind), **fields)]
    )


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        ("successful", "delivered", "received"),
        ("pending", "delivered", "received"),
        ("errored", "clicked", "converted"),
        ("successful", "clicked", "converted"),
        ("received", "opened", "received"),
        ("converted", "delivered", "converted"),
        ("successful", "failed", "failed"),
        ("pending", "failed", "failed"),
        ("received", "failed", "received"),
        ("failed", "delivered", "failed"),
        ("successful", "deferred", "successful"),
        ("successful", "complained", "received"),
    ],
)
def test_a_report_moves_the_message_as_far_as_the_table_allows(application, sent, before, kind, after):
    message = sent(before)
    report(application, message, kind, reason="3047")
    assert Message.objects.get(pk=message.pk).status == after


def test_a_failure_that_overtakes_the_answer_says_that_the_provider_took_it(application, sent):
    message = sent("pending")
    report(application, message, "failed", reason="3032", subscription_status=-52)
    events = MessageEvent.objects.filter(message_id=message.pk).values_list("event_type", flat=True)
    assert {"successful", "failed"} <= set(events)
    row = Message.objects.get(pk=message.pk)
    assert (row.error_reason, row.error_details["class"]) == ("3032", "recipient")
    assert Subscription.objects.get(pk=message.subscription_id).subscription_status == -52


def test_a_report_that_comes_twice_is_applied_once(application, sent):
    message = sent()
    first, second = (report(application, message, "delivered") for _ in range(2))
    assert (first.applied, second.applied, second.ignored) == (1, 0, 1)
    assert Subscription.objects.get(pk=message.subscription_id).total_messages_received == 1


def test_a_strangers_message_is_left_alone(application, other_application, sent):
    message = sent()
    counts = report(other_application, message, "failed", subscription_status=-52)
    assert (counts.applied, counts.ended) == (0, 0)
    assert Subscription.objects.get(pk=message.subscription_id).subscription_status == 1


def test_delivery_shows_no_activity_and_an_opened_message_does(application, sent):
    message = sent()
    Subscription.objects.update(last_active_at=None)
    report(application, message, "delivered")
    assert Subscription.objects.get(pk=message.subscription_id).last_active_at is None
    another = sent()
    report(application, another, "opened")
    assert Subscription.objects.get(pk=another.subscription_id).last_active_at is not None


def test_soft_failures_end_a_subscription_only_when_they_repeat(application, settings):
    settings.SOFT_FAILURES_MAX = 3
    subscription = make_subscription(application)

    def fail(**fields):
        message = make_messages(application, ["successful"])[0]
        Message.objects.filter(pk=message.pk).update(subscription=subscription)
        report(application, message, **{"kind": "failed", "reason": "4.2.2", "soft_status": -43, **fields})
        subscription.refresh_from_db(fields=["subscription_status", "soft_failures"])
        return subscription.subscription_status, subscription.soft_failures

    assert [fail(), fail()] == [(1, 1), (1, 2)]
    assert fail(kind="delivered", soft_status=None) == (1, 0)
    assert [fail(), fail()] == [(1, 1), (1, 2)]
    Subscription.objects.update(soft_failed_at=timezone.now() - timedelta(days=31))
    assert [fail(), fail(), fail()] == [(1, 1), (1, 2), (-43, 0)]


def test_who_registered_again_after_the_failure_is_not_ended(application, sent):
    message = sent()
    an_hour_ago = timezone.now() - timedelta(hours=1)
    report(application, message, "complained", at=an_hour_ago, subscription_status=-44)
    assert Subscription.objects.get(pk=message.subscription_id).subscription_status == 1


def test_a_word_that_postgresql_does_not_take_is_kept_as_far_as_it_goes(application, sent):
    message = sent()
    report(application, message, "failed", reason="\x00" + "9" * 300, soft_status=-43)
    assert Message.objects.get(pk=message.pk).error_reason == "9" * 100


def test_reports_lock_messages_then_subscriptions_and_the_counters_that_all_share_last(application, sent):
    """Whoever records a slice holds messages and waits for the campaign: the other way round they wait in a ring."""
    campaign_id = new_id()
    messages = [make_messages(application, ["successful"], campaign_id=campaign_id)[0] for _ in range(4)]
    kinds = [
        ("failed", {"reason": "4.2.2", "soft_status": -43}),
        ("delivered", {}),
        ("clicked", {}),
        ("failed", {"reason": "5.1.1", "subscription_status": -42}),
    ]
    reports = [Report(str(m.pk), ReportKind(k), **more) for m, (k, more) in zip(messages, kinds, strict=True)]
    with taken_down() as statements:
        reports_apply(application=application, provider="anymail", reports=reports)
    shared = ("UPDATE campaigns_", "INSERT INTO campaigns_", "UPDATE billing_")
    are_shared = [any(one in sql for one in shared) for sql in statements if "UPDATE " in sql or "INSERT " in sql]
    assert any(are_shared)
    assert are_shared == sorted(are_shared)
    locks = [re.search(r"FROM ((messaging|subscriptions)_\w+)", sql) for sql in statements if "ORDER BY id FOR" in sql]
    assert [found[1] for found in locks[:2]] == ["messaging_dispatchbatch", "subscriptions_subscription"]


def test_what_failed_by_a_report_is_a_dead_letter_that_is_found(application, sent):
    report(application, sent(), "failed", reason="3032")
    sent("failed")  # of a batch that was not given back
    found = dead_letters(application=application, which=FailedFilter())
    assert [(row.error_reason, row.messages) for row in found] == [("3032", 1)]
