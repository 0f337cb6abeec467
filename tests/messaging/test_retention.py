"""What an application no longer keeps is forgotten, in slices; what another one keeps stays."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.campaigns.models import MessageCampaign
from apps.messaging import partitions, retention, stopping
from apps.messaging.models import Dispatch, DispatchBatch, Message, MessageEvent, MessageRequeue
from apps.subscriptions.models import SubscriptionEvent
from automata_signal.ids import event_id, first_id_at, new_range
from tests.campaigns.test_lifecycle import in_threads
from tests.factories import make_dispatch, make_subscription

pytestmark = pytest.mark.django_db(transaction=True)

PAST = datetime(2020, 3, 10, tzinfo=UTC)


def keep(application, days):
    application.settings = {"retention_days": days} if days else {}
    application.save()


def sent(
    application, days_ago: float, count: int = 3, *, at: datetime | None = None, state="done", **fields
) -> Dispatch:
    """A batch of messages that were sent so long ago, with an event each, and a subscription's event."""
    moment = at or timezone.now() - timedelta(days=days_ago)
    ids = new_range(unix_ms=int(moment.timestamp() * 1_000))
    order = make_dispatch(application, id=new_range(unix_ms=int(moment.timestamp() * 1_000)).base, **fields)
    DispatchBatch.objects.create(
        dispatch=order,
        application=application,
        subscription_type="iOSPush",
        priority="medium",
        state=state,
        expires_at=moment,
        finished_at=moment,
        first_id=ids.base,
        recipient_count=count,
    )
    subscription = make_subscription(application)
    common = {"application": application, "dispatch": order, "subscription": subscription, "channel_type": "push"}
    keys = [ids.at(n) for n in range(count)]
    Message.objects.bulk_create([Message(id=key, status="successful", **common) for key in keys])
    MessageEvent.objects.bulk_create(
        [
            MessageEvent(
                id=event_id(key, 1),
                application=application,
                message_id=key,
                event_type="successful",
                occurred_at=moment,
            )
            for key in keys
        ]
    )
    SubscriptionEvent.objects.create(
        id=new_range(unix_ms=int(moment.timestamp() * 1_000)).base,
        application=application,
        subscription=subscription,
        event_type="subscribed",
        channel="iOSPush",
        source="device",
        occurred_at=moment,
    )
    return order


def counts(application) -> tuple[int, ...]:
    tables = (Message, MessageEvent, DispatchBatch, Dispatch, SubscriptionEvent)
    return tuple(table.objects.filter(application=application).count() for table in tables)


def test_what_is_older_is_deleted_and_the_rest_stays(application):
    keep(application, 30)
    sent(application, 31)
    sent(application, 29)
    assert counts(application) == (6, 6, 2, 2, 2)
    assert retention.delete_old() is False
    assert counts(application) == (3, 3, 1, 1, 1)
    assert retention.delete_old() is False
    assert counts(application) == (3, 3, 1, 1, 1)


def test_an_application_that_keeps_for_ever_keeps(application, other_application):
    keep(application, 1)
    sent(application, 400)
    sent(other_application, 400)
    retention.delete_old()
    assert (counts(application), counts(other_application)) == ((0,) * 5, (3, 3, 1, 1, 1))


def test_the_default_is_for_applications_that_say_nothing(application, other_application, settings):
    settings.RETENTION_DAYS_DEFAULT = 10
    keep(other_application, 100)
    sent(application, 11)
    sent(other_application, 11)
    retention.delete_old()
    assert (counts(application), counts(other_application)) == ((0,) * 5, (3, 3, 1, 1, 1))


def test_a_batch_that_is_not_done_stays(application):
    keep(application, 1)
    sent(application, 20, state="waiting")
    retention.delete_old()
    assert counts(application)[:4] == (3, 3, 1, 1)


def test_a_paused_campaign_keeps_its_dispatch(application):
    """It may have an audience to cut yet."""
    keep(application, 1)
    order = sent(application, 20, state="done")
    Dispatch.objects.update(state="paused")
    retention.delete_old()
    assert list(Dispatch.objects.all()) == [order]
    assert Message.objects.count() == 0


def test_a_campaign_keeps_its_figures(application):
    keep(application, 1)
    order = sent(application, 20)
    MessageCampaign.objects.create(application=application, name="c", dispatch=order, successful_count=3)
    retention.delete_old()
    campaign = MessageCampaign.objects.get()
    assert (campaign.dispatch, campaign.successful_count) == (None, 3)


def test_orders_of_requeues_are_forgotten_too(application):
    keep(application, 1)
    moment = timezone.now() - timedelta(days=9)
    old = {"id": new_range(unix_ms=int(moment.timestamp() * 1_000)).base, "finished_at": moment}
    MessageRequeue.objects.create(application=application, until=moment, **old)
    MessageRequeue.objects.create(application=application, until=moment)
    sent(application, 8)
    retention.delete_old()
    assert MessageRequeue.objects.count() == 1


def test_it_goes_slice_by_slice_and_goes_on_where_it_stopped(application, monkeypatch, caplog):
    monkeypatch.setattr(retention, "SLICE_MESSAGES", 5)
    keep(application, 1)
    for days in (9, 8, 7, 6, 5):
        sent(application, days)
    deleted = retention.delete_slice(application, timezone.now() - timedelta(days=1))
    assert (deleted.messages, deleted.batches) == (3, 1), "the next batch would be too much"
    assert min(Message.objects.values_list("pk", flat=True)) > first_id_at(
        int((timezone.now() - timedelta(days=8, hours=1)).timestamp() * 1_000)
    ), "the oldest went first"
    assert retention.delete_old(max_s=0) is True, "time is up after one slice"
    stopping.stop()
    try:
        assert retention.delete_old() is True, "and so is it when the worker stops"
    finally:
        stopping.forget()
    with caplog.at_level(logging.INFO, logger="apps.messaging.retention"):
        assert retention.delete_old() is False
    assert Message.objects.count() == 0
    assert "messages" in caplog.text


def test_two_at_once_do_the_work_once(application, monkeypatch):
    keep(application, 1)
    for days in range(2, 12):
        sent(application, days)
    in_threads(3, lambda _: retention.delete_old())
    assert counts(application) == (0,) * 5


def test_whoever_reads_or_writes_new_rows_does_not_wait(application):
    """The slice holds locks on rows that nobody else changes."""
    keep(application, 1)
    sent(application, 9)
    new = sent(application, 0)

    def write(_):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '500ms'")
        return Message.objects.filter(dispatch=new).update(attempts=1)

    with transaction.atomic():
        assert retention.delete_slice(application, timezone.now() - timedelta(days=1)).messages == 3
        assert in_threads(1, write) == [3]


# --- Whole months ------------------------------------------------------------------------------------------------


@pytest.fixture
def month():
    """March 2020, as partitions of both tables: the only past month, since other tests leave theirs, empty."""
    retention.drop_unneeded_partitions()
    names = [name for table in partitions.FILLFACTORS for name in partitions._make_partition(table, PAST.date())]
    yield names
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"DROP TABLE IF EXISTS {name}")


def test_a_month_that_nobody_needs_is_dropped_whole(application, other_application, month):
    keep(application, 90)
    keep(other_application, 30)
    sent(application, 0, at=PAST)
    sent(other_application, 0, at=PAST)
    assert sorted(retention.drop_unneeded_partitions()) == sorted(month)
    retention.delete_old()
    assert counts(application) == counts(other_application) == (0,) * 5


def test_a_month_that_one_application_needs_stays(application, other_application, month):
    keep(application, 30)
    sent(application, 0, at=PAST)
    sent(other_application, 0, at=PAST)
    assert retention.drop_unneeded_partitions() == []
    retention.delete_old()
    assert (counts(application), counts(other_application)) == ((0,) * 5, (3, 3, 1, 1, 1))


def test_an_application_without_rows_of_a_month_does_not_keep_it(application, other_application, month):
    keep(application, 30)
    sent(application, 0, at=PAST)
    assert sorted(retention.drop_unneeded_partitions()) == sorted(month)


def test_a_partition_that_is_in_use_is_left_for_another_day(application, month, monkeypatch, caplog):
    monkeypatch.setattr(retention, "DROP_LOCK_WAIT_S", 0.2)
    with transaction.atomic():
        assert not Message.objects.exists()  # both tables are held until the transaction ends
        assert not MessageEvent.objects.exists()
        assert in_threads(1, lambda _: retention.drop_unneeded_partitions()) == [[]]
    assert "could not be dropped" in caplog.text
    assert sorted(retention.drop_unneeded_partitions()) == sorted(month)


def test_the_present_month_is_never_dropped(application, month):
    assert sorted(retention.drop_unneeded_partitions()) == sorted(month)
    assert retention.drop_unneeded_partitions() == []
