"""Fills: every event is counted once, in the hour in which it occurred, whatever happens to the fill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from apps.analytics import fills, tasks
from apps.analytics.metrics import VALUES_MAX, Source
from apps.analytics.models import DeviceHour, DimensionValue, FillState, MessageHour, WaitHour
from apps.messaging.models import Message, MessageEvent
from apps.subscriptions.models import Subscription
from apps.subscriptions.services import SubscriptionEnd, subscriptions_end
from automata_signal import positions
from tests.analytics.happenings import (
    expected_message_hours,
    fill_up,
    found_message_hours,
    move,
    rollups_equal_events,
    run_sql,
)
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_messages, make_subscriptions

pytestmark = pytest.mark.django_db(transaction=True)


def sent(application, count=5, **fields) -> list[Message]:
    """Messages with an event each."""
    messages = make_messages(application, ["pending"] * count)
    Subscription.objects.filter(messages__in=messages).update(**fields) if fields else None
    move("send", "pending", messages)
    return messages


def counted() -> int:
    return sum(MessageHour.objects.values_list("sent", flat=True))


# --- Once, and in the right hour -------------------------------------------------------------------------------------


def test_every_event_is_counted_once(application, other_application):
    messages = make_messages(application, ["pending"] * 6)
    sent(other_application, 3)
    move("send", "pending", messages[:4])
    move("fail", "pending", messages[4:5], reason="Unregistered")
    move("error", "pending", messages[5:], reason="ServiceUnavailable")
    fill_up()
    rollups_equal_events()
    move("retry", "errored", messages[5:])
    move("fail", "pending", messages[5:], reason="render_error: no such name")
    move("receive", "successful", messages[:3])
    move("convert", "received", messages[:1])
    fill_up()
    fill_up()
    rollups_equal_events()


def test_beats_task_counts_and_says_when_it_caught_up(application):
    sent(application)
    before = timezone.now()
    tasks.fill()
    rollups_equal_events()
    assert all(state.caught_up_at >= before for state in FillState.objects.all())


def test_a_late_receipt_lands_in_the_hour_it_belongs_to(application):
    messages = sent(application)
    fill_up()
    days_ago = timezone.now() - timedelta(days=3)
    move("receive", "successful", messages, at=days_ago)
    fill_up()
    row = MessageHour.objects.get(received=5)
    assert row.hour <= days_ago < row.hour + timedelta(hours=1)
    rollups_equal_events()


def test_a_receipt_that_is_said_to_come_before_the_sending_took_no_time(application):
    messages = sent(application, 1)
    move("receive", "successful", messages, at=timezone.now() - timedelta(days=1))
    fill_up()
    assert WaitHour.objects.get().bucket == 0


@pytest.mark.parametrize(("zone", "minute"), [("Asia/Kolkata", 30), ("Asia/Kathmandu", 15), ("Asia/Seoul", 0)])
def test_hours_are_those_of_the_applications_clock(application, zone, minute):
    application.time_zone = zone
    application.save()
    messages = make_messages(application, ["pending"] * 2)
    move("send", "pending", messages[:1], at=datetime(2026, 3, 1, 12, 14, tzinfo=UTC))
    move("send", "pending", messages[1:], at=datetime(2026, 3, 1, 12, 46, tzinfo=UTC))
    fill_up()
    assert {row.hour.minute for row in MessageHour.objects.all()} == {minute}
    assert MessageHour.objects.count() == (1 if minute == 0 else 2)
    rollups_equal_events()


def test_a_time_zone_that_nobody_knows_holds_up_nobody(application):
    application.time_zone = "Mars/Olympus"
    application.save()
    sent(application)
    fill_up()
    assert counted() == 5


def test_subscriptions_gained_and_lost_are_counted_by_why(application, sdk):
    for n in range(3):
        sdk.post("subscriptions", {"type": "iOSPush", "token": f"{n:064x}", "enabled": True})
    gone = Subscription.objects.first()
    ends = [SubscriptionEnd(gone.pk, -14, "Unregistered")]
    subscriptions_end(ends=ends, application_id=application.pk, occurred_at=timezone.now())
    sent(application, 1)
    fill_up()
    rollups_equal_events()
    fill_up()
    rollups_equal_events()


# --- Whatever happens to the fill ------------------------------------------------------------------------------------


def test_a_fill_that_dies_before_its_commit_has_done_nothing(application):
    sent(application)

    def dies(_: int) -> None:
        try:
            with transaction.atomic():
                assert fills.fill_step(Source.MESSAGES).events == 5
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except OperationalError:
            connection.close()

    in_threads(1, dies)
    assert not MessageHour.objects.exists()
    fill_up()
    rollups_equal_events()


def test_fills_at_the_same_time_count_once(application, monkeypatch):
    monkeypatch.setattr(fills, "STEP_EVENTS", 20)
    for _ in range(10):
        sent(application, 10)

    def work(number: int) -> None:
        for _ in range(5):
            sent(application, 7) if number == 0 else fills.fill_all(max_s=5)

    in_threads(4, work)
    fill_up()
    assert counted() == 135
    rollups_equal_events()


def test_what_commits_late_is_counted_when_it_has(application):
    """Its position is behind that of others who were quicker: all wait for it, and none is lost."""
    late, early = (make_messages(application, ["pending"] * 3) for _ in range(2))
    wrote, may_commit = Event(), Event()

    def slow() -> None:
        with transaction.atomic():
            move("send", "pending", late)
            wrote.set()
            may_commit.wait(20)
        connection.close()

    thread = Thread(target=slow)
    thread.start()
    try:
        assert wrote.wait(20)
        move("send", "pending", early)
        fill_up()
        assert counted() == 0
    finally:
        may_commit.set()
        thread.join()
    fill_up()
    assert counted() == 6
    rollups_equal_events()


def test_steps_are_bounded_but_never_split_a_transaction(application, monkeypatch):
    monkeypatch.setattr(fills, "STEP_EVENTS", 10)
    for _ in range(8):
        sent(application, 4)
    sent(application, 25)
    steps, width = [], 0
    while True:
        filled = fills.fill_step(Source.MESSAGES, width=width)
        steps.append(filled.events)
        if filled.is_done:
            break
        width = fills.next_width(filled)
    assert sorted({events for events in steps if events > 10}) == [25]
    assert sum(steps) == 57
    rollups_equal_events()


def test_a_fill_that_runs_out_of_time_says_that_there_is_more(application, monkeypatch):
    monkeypatch.setattr(fills, "STEP_EVENTS", 4)
    for _ in range(4):
        sent(application, 4)
    assert fills.fill_all(max_s=0)
    fill_up()
    rollups_equal_events()


def test_a_message_that_is_gone_holds_up_nobody(application):
    messages = sent(application)
    Message.objects.filter(pk=messages[0].pk).delete()
    fill_up()
    assert counted() == 4


def test_positions_are_those_of_the_writing_transaction_whoever_writes(application):
    with transaction.atomic():
        messages = sent(application, 2)
        ((number,),) = run_sql("SELECT pg_current_xact_id()::text::bigint")
    assert set(MessageEvent.objects.values_list("position", flat=True)) == {number}
    (event,) = MessageEvent.objects.bulk_create(
        [MessageEvent(id=messages[0].pk, application=application, message=messages[0], occurred_at=timezone.now())]
    )
    assert event.position > number


def test_new_events_are_found_by_the_index_of_positions(application):
    for _ in range(3):
        sent(application, 20)
    with transaction.atomic():
        positions.prepare_reading()
        positions._set_local(enable_indexscan="off", enable_indexonlyscan="off")
        plan = "\n".join(
            line
            for (line,) in run_sql(
                "EXPLAIN SELECT FROM messaging_messageevent WHERE position >= %s AND position < %s LIMIT 10",
                positions.read_horizon() - 2,
                positions.read_horizon(),
            )
        )
    assert "_position_idx" in plan
    assert "Bitmap Index Scan" in plan


def test_a_vacuum_of_the_events_does_not_hold_up_a_fill(application, caplog):
    sent(application)
    held, may_end = Event(), Event()

    def vacuums() -> None:
        with transaction.atomic():
            run_sql("LOCK TABLE messaging_messageevent IN SHARE UPDATE EXCLUSIVE MODE")  # of all partitions
            held.set()
            may_end.wait(20)
        connection.close()

    thread = Thread(target=vacuums)
    thread.start()
    try:
        assert held.wait(20)
        fill_up()
    finally:
        may_end.set()
        thread.join()
    assert "not summarised now" in caplog.text
    rollups_equal_events()


# --- Bounds ----------------------------------------------------------------------------------------------------------


def test_values_beyond_the_bound_count_as_other(application, monkeypatch):
    monkeypatch.setitem(VALUES_MAX, "country", 2)
    for country in ("KR", "KR", "DE", "FR", "", "KR", "US"):
        sent(application, 2, country_code=country)
        fill_up()
    rows = DeviceHour.objects.filter(dimension="country").values_list("value", "sent")
    assert sorted(rows) == [("", 2), ("DE", 2), ("KR", 6), ("other", 4)]
    assert DimensionValue.objects.filter(dimension="country").count() == 2


def test_of_many_new_values_the_most_frequent_are_told_apart(application, monkeypatch):
    monkeypatch.setitem(VALUES_MAX, "app_version", 2)
    for version, count in (("1.0", 1), ("2.0", 5), ("3.0", 3)):
        sent(application, count, app_version=version)
    fill_up()
    rows = DeviceHour.objects.filter(dimension="app_version").values_list("value", "sent")
    assert sorted(rows) == [("2.0", 5), ("3.0", 3), ("other", 1)]


def test_one_applications_values_leave_room_to_others(application, other_application, monkeypatch):
    monkeypatch.setitem(VALUES_MAX, "country", 1)
    sent(application, 1, country_code="KR")
    sent(other_application, 1, country_code="DE")
    fill_up()
    assert set(DimensionValue.objects.values_list("value", flat=True)) >= {"KR", "DE"}


def test_what_counts_is_who_it_is_of(application, other_application):
    sent(application, 3)
    sent(other_application, 4)
    fill_up()
    for owner, count in ((application, 3), (other_application, 4)):
        rows = MessageHour.objects.for_application(owner)
        assert sum(row.sent for row in rows) == count
    assert found_message_hours() == expected_message_hours()


def test_many_subscriptions_of_one_campaign_are_few_rows(application):
    make_subscriptions(application, [f"{n:064x}" for n in range(5)])
    sent(application, 200)
    fill_up()
    assert MessageHour.objects.count() == 1
