"""What a slice of a campaign does in one statement, against what it would do row by row."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.subscriptions.services import SubscriptionEnd, subscriptions_count_receipts, subscriptions_end
from apps.subscriptions.status import RULES, Setter
from automata_signal.ids import new_id

pytestmark = pytest.mark.django_db

SENT_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def make_rows(application):
    def make(count: int, **columns) -> list[Subscription]:
        columns = {
            "application": application,
            "subscription_status": 1,
            "token_registered_at": SENT_AT,
            "type": "iOSPush",
            **columns,
        }
        rows = [
            Subscription(token=secrets.token_hex(32), token_digest=secrets.token_bytes(32), **columns)
            for _ in range(count)
        ]
        return Subscription.objects.bulk_create(rows)

    return make


def test_a_slice_is_ended_in_one_statement_with_its_events(application, make_rows):
    rows = make_rows(1_000)
    ids = [new_id() for _ in rows]
    ends = [SubscriptionEnd(row.pk, -10, "Unregistered", None, key) for row, key in zip(rows, ids, strict=True)]
    with CaptureQueriesContext(connection) as queries:
        assert subscriptions_end(ends=ends, application_id=application.pk, occurred_at=SENT_AT) == 1_000
    assert len(queries) == 1
    assert Subscription.objects.filter(subscription_status=-10, status_source="provider").count() == 1_000
    assert set(SubscriptionEvent.objects.values_list("id", flat=True)) == set(ids)


STATUSES = sorted(RULES)
GONE = [None, SENT_AT - timedelta(seconds=1), SENT_AT, SENT_AT + timedelta(seconds=1)]


def end_one(row: Subscription, end: SubscriptionEnd, occurred_at: datetime) -> bool:
    """The rule, as one would write it for one row."""
    if row.subscription_status <= 0 or (end.gone_at is not None and row.token_registered_at > end.gone_at):
        return False
    row.subscription_status, row.status_source, row.unsubscribed_at = end.status, "provider", occurred_at
    return True


def test_the_set_does_what_single_rows_would(application, other_application, make_rows):
    """Every status before, some that a provider gives, and each order of registration and death."""
    by_provider = [code for code, rule in RULES.items() if Setter.PROVIDER in rule.setters][::6]
    cases = [(old, new, gone) for old in STATUSES for new in by_provider for gone in GONE]
    rows = [make_rows(1, subscription_status=old)[0] for old, _, _ in cases]
    strangers = make_rows(3, application=other_application)
    ends = [SubscriptionEnd(row.pk, new, "because", gone) for row, (_, new, gone) in zip(rows, cases, strict=True)]
    ends += [SubscriptionEnd(row.pk, -10, "because") for row in strangers]
    ends += [SubscriptionEnd(new_id(), -10, "because")]
    expected = sum(end_one(row, end, SENT_AT) for row, end in zip(rows, ends, strict=False))
    assert subscriptions_end(ends=reversed(ends), application_id=application.pk, occurred_at=SENT_AT) == expected > 0
    stored = Subscription.objects.for_application(application).in_bulk()
    for row in rows:
        real = stored[row.pk]
        assert (real.subscription_status, real.status_source, real.unsubscribed_at) == (
            row.subscription_status,
            row.status_source,
            row.unsubscribed_at,
        )
    assert {row.subscription_status for row in Subscription.objects.for_application(other_application)} == {1}
    events = SubscriptionEvent.objects.all()
    assert len(events) == expected
    assert {(e.event_type, e.source, e.reason, e.old_status, e.occurred_at) for e in events} == {
        ("unsubscribed", "provider", "because", 1, SENT_AT)
    }


def test_the_first_of_several_ends_counts_and_a_second_call_ends_nothing(application, make_rows):
    (row,) = make_rows(1)
    ends = [SubscriptionEnd(row.pk, -14, "BadDeviceToken"), SubscriptionEnd(row.pk, -10, "Unregistered")]
    assert subscriptions_end(ends=ends, application_id=application.pk, occurred_at=SENT_AT) == 1
    assert subscriptions_end(ends=ends, application_id=application.pk, occurred_at=SENT_AT) == 0
    assert Subscription.objects.get().subscription_status == -14
    assert SubscriptionEvent.objects.count() == 1


def test_no_ends_are_no_statement(application):
    with CaptureQueriesContext(connection) as queries:
        assert subscriptions_end(ends=[], application_id=application.pk, occurred_at=SENT_AT) == 0
        nothing = {"received": {}, "converted": {}, "last_active_at": SENT_AT}
        assert subscriptions_count_receipts(**nothing, application_id=application.pk) == 0
    assert not queries


@pytest.mark.parametrize("status", [1, 0, -2, -22, -31, 7])
def test_a_status_that_no_provider_gives_is_a_bug(application, make_rows, status):
    (row,) = make_rows(1)
    with pytest.raises(ValueError, match="provider"):
        subscriptions_end(
            ends=[SubscriptionEnd(row.pk, status, "")], application_id=application.pk, occurred_at=SENT_AT
        )


def test_receipts_are_counted_by_subscription(application, other_application, make_rows):
    one, two, three = make_rows(3)
    (other,) = make_rows(1, application=other_application)
    counted = subscriptions_count_receipts(
        received={one.pk: 2, two.pk: 1, other.pk: 5},
        converted={two.pk: 1, three.pk: 4},
        last_active_at=SENT_AT,
        application_id=application.pk,
    )
    assert counted == 3
    rows = Subscription.objects.in_bulk()
    counts = {key: (row.total_messages_received, row.total_messages_converted) for key, row in rows.items()}
    assert counts == {one.pk: (2, 0), two.pk: (1, 1), three.pk: (0, 4), other.pk: (0, 0)}
    assert rows[one.pk].last_active_at == SENT_AT


def test_last_active_moves_forward_only_and_not_into_the_future(application, make_rows):
    (row,) = make_rows(1, last_active_at=SENT_AT)
    for at in (SENT_AT - timedelta(days=1), timezone.now() + timedelta(days=400)):
        subscriptions_count_receipts(
            received={row.pk: 1}, converted={}, last_active_at=at, application_id=application.pk
        )
        row.refresh_from_db()
        assert SENT_AT <= row.last_active_at <= timezone.now()
    assert row.total_messages_received == 2
