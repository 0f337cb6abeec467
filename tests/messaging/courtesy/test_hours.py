"""When people are usually active, learnt from what they open."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.db import connection

from apps.messaging.courtesy.hours import NAME, best_hour, faded, hours_learn
from apps.messaging.models import Message
from apps.subscriptions.preferences.models import ActiveHours
from automata_signal.ids import event_id
from tests.factories import make_messages, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def opened(message: Message, hour: int, number: int = 1, event_type: str = "converted") -> None:
    from apps.messaging.models import MessageEvent

    MessageEvent.objects.create(
        id=event_id(message.pk, number),
        application_id=message.application_id,
        message_id=message.pk,
        event_type=event_type,
        occurred_at=datetime(2026, 11, 30, hour, 30, tzinfo=UTC),
    )


def learn_all() -> None:
    while hours_learn():
        pass


def test_hours_are_learnt_once_from_what_was_opened(application):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM subscriptions_readingposition WHERE name = %s", [NAME])
    messages = make_messages(application, ["converted"] * 3)
    opened(messages[0], 3)
    assert hours_learn() == 0  # only what comes from now on
    user = make_user(application, "kim")
    Message.objects.filter(pk__in=[messages[1].pk, messages[2].pk]).update(user_id=user.pk)
    opened(messages[1], 20)
    opened(messages[2], 20)
    opened(messages[0], 5, number=2, event_type="received")
    learn_all()
    learn_all()
    row = ActiveHours.objects.get()
    assert (row.subject_id, row.best_hour, sum(row.hours), row.hours[20]) == (user.pk, 20, 2, 2)
    opened(messages[1], 9, number=2)
    learn_all()
    row.refresh_from_db()
    assert (row.best_hour, sum(row.hours)) == (20, 3)


def test_the_best_hour_is_in_the_middle_of_the_busiest_time_also_around_midnight():
    hours = [0] * 24
    hours[9], hours[22], hours[23], hours[0] = 3, 2, 2, 2
    assert best_hour(hours) == 23
    assert best_hour([0] * 24) == 0


def test_old_habits_fade():
    assert sum(faded([30] * 24)) <= 200
    assert faded([1] * 24) == [1] * 24
