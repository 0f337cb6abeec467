"""A rebuild from the events gives the numbers that the fills gave, and takes nothing away that it cannot give back."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.utils import timezone

from apps.analytics import fills, rebuild
from apps.analytics.metrics import ROLLUPS, Source
from apps.analytics.models import (
    DeviceHour,
    FillState,
    MessageHour,
    Rebuild,
    SubscriptionHour,
    WaitHour,
)
from apps.campaigns import services as campaigns
from apps.messaging import dispatch, requeue, retention
from apps.messaging.models import DispatchBatch, Message, MessageEvent
from apps.messaging.receipts.sdk import Receipt, receipts_apply
from apps.messaging.requeue import FailedFilter
from apps.subscriptions.models import Subscription
from automata_signal.errors import Conflict
from automata_signal.ids import first_id_at
from automata_signal.positions import functions, read_horizon
from tests.analytics.happenings import all_rollups, fill_up, move, rollups_equal_events, run_sql
from tests.factories import make_messages, make_subscription, make_subscriptions, make_user
from tests.messaging.test_retention import keep
from tests.messaging.test_retention import sent as sent_days_ago

pytestmark = pytest.mark.django_db(transaction=True)


def send_all(application) -> None:
    """Send what waits, as a worker does."""
    Message.objects.filter(status="errored").update(retry_at=timezone.now())
    waiting = DispatchBatch.objects.for_application(application).filter(state="waiting")
    waiting.update(due_at=timezone.now())
    for batch_id in list(waiting.values_list("pk", flat=True)):
        assert dispatch.run_batch(batch_id, application.pk)


def receive(application, kind: str, count: int, *, ago: timedelta = timedelta()) -> None:
    sent = Message.objects.filter(status__in=("successful", "received")).order_by("?")[:count]
    receipts = [Receipt(message.pk, kind, timezone.now() - ago) for message in sent]
    receipts_apply(application=application, receipts=receipts, trusted=True)


@pytest.fixture
def traffic(application, server, sdk, apns, fcm):
    """A campaign with every outcome, retries, receipts soon and late, a requeue, single messages by template, and
    subscriptions that come and go; the fills run in between."""
    for n in range(6):
        device = {"country_code": ["KR", "DE"][n % 2], "device_os": f"1{n}.0", "app_version": f"2.{n}"}
        sdk.post("subscriptions", {"type": "iOSPush", "token": f"{n:064x}", "enabled": True, **device})
    make_subscriptions(application, [f"{p}{n:0{64 - len(p)}x}" for p in ("dead4101", "deaf50331") for n in range(3)])
    make_subscription(application, token="ab" * 32, user=make_user(application, "u-1"), device_model="iPhone17,1")
    fill_up()
    campaign_id = server.post("campaigns", {"name": "Sale", "title": "Hi", "body": "There", "targeting_criteria": {}})
    campaign_id = campaign_id.json()["data"]["id"]
    server.post(f"campaigns/{campaign_id}/launch")
    campaigns.fan_out(UUID(campaign_id))
    send_all(application)
    fill_up()
    receive(application, "received", 3)
    send_all(application)
    template = {"name": "t", "title_template": "Hi {{ name }}", "body_template": "You"}
    template_id = server.post("templates", template).json()["data"]["id"]
    body = {"recipients": {"external_ids": ["u-1"]}, "template_id": template_id, "variables": {"name": "A"}}
    assert server.post("messages", body).status_code == 202
    send_all(application)
    fill_up()
    receive(application, "converted", 2, ago=timedelta(seconds=1))
    Subscription.objects.update(subscription_status=1)
    requeue.requeue_start(application=application, which=FailedFilter(error_class="recipient"))
    send_all(application)
    fill_up()
    sent_days_ago(application, 5)
    late = Message.objects.filter(status="successful", pk__lt=first_id_at(int(_hours_ago(48).timestamp() * 1_000)))
    move("receive", "successful", list(late), at=_hours_ago(30))
    fill_up()


def _hours_ago(hours: float):
    return timezone.now() - timedelta(hours=hours)


def wipe() -> None:
    for model in (MessageHour, DeviceHour, WaitHour, SubscriptionHour):
        model.objects.all().delete()


# --- The same numbers ------------------------------------------------------------------------------------------------


def test_after_real_traffic_a_rebuild_gives_the_same_numbers(traffic):
    rollups_equal_events()
    before = all_rollups()
    assert all(before.values())
    states = {column for _, column in before["messages"]}
    assert states == {"sent", "failed", "received", "converted", "errored", "retried"}
    MessageHour.objects.update(sent=77)
    call_command("analytics_rebuild")
    assert all_rollups() == before
    wipe()
    call_command("analytics_rebuild")
    assert all_rollups() == before


def test_in_small_steps_it_gives_the_same_numbers(traffic, monkeypatch):
    before = all_rollups()
    monkeypatch.setattr(fills, "STEP_EVENTS", 3)
    wipe()
    call_command("analytics_rebuild")
    assert all_rollups() == before


def test_of_one_application_it_leaves_the_others_alone(application, other_application):
    for owner in (application, other_application):
        move("send", "pending", make_messages(owner, ["pending"] * 3))
    fill_up()
    before = all_rollups()
    MessageHour.objects.for_application(application).delete()
    MessageHour.objects.for_application(other_application).update(sent=77)
    call_command("analytics_rebuild", application=application.pk)
    assert MessageHour.objects.for_application(other_application).get().sent == 77
    MessageHour.objects.for_application(other_application).update(sent=3)
    assert all_rollups() == before


def test_since_leaves_older_hours_alone(application):
    sent_days_ago(application, 2)
    sent_days_ago(application, 0)
    fill_up()
    MessageHour.objects.update(sent=77)
    call_command("analytics_rebuild", since=_hours_ago(10).isoformat())
    assert list(MessageHour.objects.order_by("hour").values_list("sent", flat=True)) == [77, 3]


# --- Whatever happens meanwhile --------------------------------------------------------------------------------------


def test_interrupted_it_goes_on_where_it_was(application, monkeypatch):
    monkeypatch.setattr(fills, "STEP_EVENTS", 3)
    for _ in range(4):
        move("send", "pending", make_messages(application, ["pending"] * 3))
    fill_up()
    before = all_rollups()
    row = rebuild.rebuild_start()
    while not rebuild._step(row, Source.MESSAGES, 0).events:
        pass
    assert Rebuild.objects.get().events == 3
    assert all_rollups() == before
    call_command("analytics_rebuild")
    assert all_rollups() == before
    assert not Rebuild.objects.exists()


def test_fills_go_on_meanwhile_and_nothing_counts_twice(application):
    move("send", "pending", make_messages(application, ["pending"] * 3))
    fill_up()
    row = rebuild.rebuild_start()
    rebuild._step(row, Source.MESSAGES, 0)
    move("send", "pending", make_messages(application, ["pending"] * 4))
    fill_up()
    rollups_equal_events()
    move("send", "pending", make_messages(application, ["pending"] * 5))
    rebuild.rebuild_run(row)
    fill_up()
    rollups_equal_events()


def test_two_rebuilds_at_once_are_refused_unless_the_first_is_discarded(application):
    rebuild.rebuild_start()
    with pytest.raises(Conflict):
        rebuild.rebuild_start(application=application)
    with pytest.raises(CommandError, match="Another rebuild was begun"):
        call_command("analytics_rebuild", application=application.pk)
    call_command("analytics_rebuild", discard=True)
    assert not run_sql("SELECT FROM pg_class WHERE relname LIKE 'analytics%%" + rebuild.SUFFIX + "'")
    call_command("analytics_rebuild", application=application.pk)


# --- What retention has deleted --------------------------------------------------------------------------------------


def test_what_retention_deletes_stays_in_the_statistics(application):
    keep(application, 30)
    sent_days_ago(application, 40)
    sent_days_ago(application, 20)
    sent_days_ago(application, 1)
    fill_up()
    before = all_rollups()
    retention.delete_old()
    assert MessageEvent.objects.count() == 6
    assert all_rollups() == before
    MessageHour.objects.filter(hour__gte=_hours_ago(48)).update(sent=77)
    call_command("analytics_rebuild")
    assert all_rollups() == before


def test_what_was_deleted_stays_even_if_more_is_kept_now(application):
    keep(application, 10)
    for days_ago in (40, 20, 1):
        sent_days_ago(application, days_ago)
    fill_up()
    before = all_rollups()
    retention.delete_old()
    keep(application, 0)
    call_command("analytics_rebuild")
    assert all_rollups() == before


def test_where_all_messages_were_deleted_nothing_is_wiped(application):
    keep(application, 1)
    sent_days_ago(application, 40)
    fill_up()
    before = all_rollups()
    retention.delete_old()
    keep(application, 0)
    call_command("analytics_rebuild")
    assert all_rollups() == before


# --- A restored dump -------------------------------------------------------------------------------------------------


@pytest.fixture
def restored(application):
    """As after `pg_restore` in another cluster, whose transactions have lower numbers."""
    move("send", "pending", make_messages(application, ["pending"] * 3))
    fill_up()
    run_sql("UPDATE messaging_messageevent SET position = position + 1000000")
    FillState.objects.update(watermark=read_horizon() + 1_000_000)
    yield
    with connection.cursor() as cursor:
        cursor.execute(functions())


def test_a_restored_dump_is_noticed_and_nothing_is_counted_until_it_is_rebuilt(application, restored, caplog):
    move("send", "pending", make_messages(application, ["pending"] * 4))
    fill_up()
    assert "restored from a dump" in caplog.text
    FillState.objects.update(watermark=0)
    fill_up()
    assert sum(MessageHour.objects.values_list("sent", flat=True)) == 3
    with pytest.raises(CommandError, match="--restored"):
        call_command("analytics_rebuild")
    call_command("analytics_rebuild", restored=True)
    rollups_equal_events()
    move("send", "pending", make_messages(application, ["pending"] * 5))
    fill_up()
    rollups_equal_events()
    assert sum(MessageHour.objects.values_list("sent", flat=True)) == 12


def test_a_worker_that_has_its_statements_prepared_gets_the_new_positions_too(application, restored):
    messages = make_messages(application, ["pending"] * 4)
    move("send", "pending", messages[:2])

    def prepared_elsewhere(ready, go):
        try:
            move("send", "pending", messages[2:3])
            ready.set()
            go.wait(60)
            move("send", "pending", messages[3:])
        finally:
            connections.close_all()

    ready, go = threading.Event(), threading.Event()
    worker = threading.Thread(target=prepared_elsewhere, args=(ready, go))
    worker.start()
    assert ready.wait(60)
    call_command("analytics_rebuild", restored=True)
    go.set()
    worker.join(60)
    fill_up()
    rollups_equal_events()
    assert sum(MessageHour.objects.values_list("sent", flat=True)) == 7


def test_of_a_database_that_was_not_restored_the_command_only_counts_anew(application):
    move("send", "pending", make_messages(application, ["pending"] * 3))
    fill_up()
    call_command("analytics_rebuild", restored=True)
    move("send", "pending", make_messages(application, ["pending"] * 3))
    fill_up()
    rollups_equal_events()
    assert run_sql("SELECT event_position_offset()") == [(0,)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"since": "yesterday"}, "not a time"),
        ({"application": UUID(int=7)}, "no application"),
        ({"restored": True, "since": "2026-01-01"}, "neither"),
    ],
)
def test_what_makes_no_sense_is_refused(db, options, problem):
    with pytest.raises(CommandError, match=problem):
        call_command("analytics_rebuild", **options)


def test_every_rollup_has_a_table_of_its_key(db):
    for rollup in ROLLUPS:
        (columns,) = run_sql(
            "SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i"
            " CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)"
            " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number"
            " WHERE i.indrelid = %s::regclass AND i.indisprimary",
            rollup.table,
        )
        assert sorted(columns[0]) == sorted(rollup.dimensions)
