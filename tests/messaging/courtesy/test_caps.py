"""How many marketing messages a person gets, whatever workers and campaigns do at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction

from apps.messaging.courtesy.caps import counts_forget, over_caps
from apps.messaging.courtesy.rules import Cap
from apps.messaging.models import DispatchBatch, Message
from tests.messaging.courtesy.conftest import by_name
from tests.messaging.test_hot_queries import taken_down

TODAY = date(2026, 12, 1)


def counts(application) -> dict:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT key, day, sum(messages) FROM subscriptions_sendcount WHERE application_id = %s GROUP BY 1, 2",
            [application.pk],
        )
        return {(key, day): messages for key, day, messages in cursor.fetchall()}


@pytest.mark.django_db(transaction=True)
def test_a_person_gets_two_a_day_and_no_more(application, apns, person, launch, run, set_settings):
    set_settings(frequency_caps=[{"channel": "push", "per_day": 2}])
    person("kim", given=True)
    for _ in range(3):
        _, batch_ids = launch(purpose="marketing")
        run(batch_ids)
    states = sorted(Message.objects.values_list("status", "error_reason"), key=str)
    assert states == [("failed", "frequency_capped"), ("successful", None), ("successful", None)]
    assert len(apns.entries(outcome="accepted")) == 2
    assert Message.objects.get(status="failed").error_details["class"] == "recipient"
    assert set(DispatchBatch.objects.values_list("state", flat=True)) == {"done"}
    _, batch_ids = launch(purpose="transactional")
    run(batch_ids)
    assert Message.objects.filter(status="successful").count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_retry_is_not_counted_again(application, apns, person, launch, run, set_settings):
    set_settings(frequency_caps=[{"per_day": 1}])
    row = person("busy", given=True)
    row.token = "deaf50332" + "0" * 55
    row.save()
    from django.utils import timezone

    _, batch_ids = launch(purpose="marketing")
    for _ in range(3):
        run(batch_ids)
        Message.objects.update(retry_at=timezone.now())
        DispatchBatch.objects.filter(state="waiting").update(due_at=timezone.now())
    assert by_name()["busy"][0] == "successful"
    assert list(counts(application).values()) == [1]


@pytest.mark.django_db
def test_a_week_is_seven_days_and_who_is_over_one_cap_is_not_counted_under_another(application):
    person = uuid4()
    day, week = Cap("", "", 3, None), Cap("push", "news", None, 4)
    caps = [day, week]

    def send(days: int) -> bool:
        return person not in over_caps(application.pk, caps, {person: TODAY + timedelta(days=days)})

    assert [send(0) for _ in range(4)] == [True, True, True, False]
    assert [send(6) for _ in range(2)] == [True, False]
    assert counts(application)["*:*", TODAY + timedelta(days=6)] == 1
    assert counts(application)["push:news", TODAY] == 3
    assert send(7) is True
    assert counts_forget(TODAY + timedelta(days=9)) >= 2
    assert min(day for _, day in counts(application)) == TODAY + timedelta(days=6)


@pytest.mark.parametrize(
    ("cap", "channel", "category", "counts_it"),
    [
        (Cap("", "", 1, None), "push", "", True),
        (Cap("email", "", 1, None), "push", "", False),
        (Cap("", "news", 1, None), "push", "news", True),
        (Cap("", "news", 1, None), "push", "", False),
        (Cap("push", "news", 1, None), "push", "news", True),
    ],
)
def test_a_cap_is_for_a_channel_a_category_both_or_all(cap, channel, category, counts_it):
    assert cap.is_for(channel, category) is counts_it


@pytest.mark.django_db(transaction=True)
def test_campaigns_that_count_at_once_do_not_exceed_a_cap(application):
    people = {uuid4(): TODAY for _ in range(20)}

    def count(_) -> int:
        try:
            with transaction.atomic():
                return len(people) - len(over_caps(application.pk, [Cap("", "", 3, None)], people))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        counted = list(pool.map(count, range(8)))
    assert sum(counted) == 3 * len(people)
    assert counts(application) == {("*:*", TODAY): 60}


@pytest.mark.django_db(transaction=True)
def test_people_are_counted_before_the_campaign_and_the_quota_are_locked(
    application, apns, person, launch, run, set_settings
):
    """Two campaigns share people and quota: counted after it they would wait for each other in a ring."""
    set_settings(frequency_caps=[{"per_day": 1}])
    person("kim", given=True)
    _, batch_ids = launch(purpose="marketing", campaign_id=uuid4())
    DispatchBatch.objects.update(recipient_count=2)  # one has left since: the quota gets a message back
    with taken_down() as statements:
        run(batch_ids)
    counted = [number for number, sql in enumerate(statements) if "INTO subscriptions_sendcount" in sql]
    shared = [number for number, sql in enumerate(statements) if "campaigns_" in sql or "UPDATE billing_" in sql]
    assert counted
    assert shared
    assert max(counted) < min(shared)
