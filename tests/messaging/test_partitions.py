"""Every message lies in the partition of its month; where one does not, somebody is told, and it can be mended."""

import logging
from datetime import UTC, date, datetime
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apps.messaging import partitions, tasks
from apps.messaging.models import Message, MessageEvent
from automata_signal.ids import event_id, new_range
from tests.factories import make_dispatch, make_subscription

pytestmark = pytest.mark.django_db(transaction=True)

FAR = datetime(2041, 5, 17, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _as_they_were():
    """Partitions are not rows: what a test makes or drops is put right after it."""
    yield
    with connection.cursor() as cursor:
        for table in partitions.FILLFACTORS:
            for partition in partitions.list_partitions(table):
                if partition.month.year == FAR.year:
                    cursor.execute(f"DROP TABLE {partition.name}")
    partitions.make_partitions()


@pytest.fixture
def stray(application):
    """A message and its event of a month that has no partition."""
    ids = new_range(unix_ms=int(FAR.timestamp() * 1_000))
    message = Message.objects.create(
        id=ids.at(0),
        application=application,
        dispatch=make_dispatch(application),
        subscription=make_subscription(application),
        channel_type="push",
    )
    MessageEvent.objects.create(
        id=event_id(ids.at(0), 1), application=application, message=message, event_type="successful", occurred_at=FAR
    )
    return message


def check(*arguments: str) -> str:
    out = StringIO()
    call_command("check_partitions", *arguments, stdout=out)
    return out.getvalue()


def drop_next_month() -> str:
    name = f"messaging_message_p{partitions.next_month(timezone.now().date()):%Y_%m}"
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {name}")
    return name


def partition_of(table: str, key) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT tableoid::regclass::text FROM {table} WHERE id = %s", [key])
        return cursor.fetchone()[0]


def test_all_is_as_it_should_be():
    assert check() == "Partitions: as they should be\n"


def test_stray_rows_and_missing_months_are_named(stray):
    name = drop_next_month()
    with pytest.raises(CommandError) as refusal:
        check()
    message = str(refusal.value)
    assert "messaging_message_default holds rows" in message
    assert "messaging_messageevent_default holds rows" in message
    assert f"{name} is missing" in message
    assert refusal.value.returncode == 1


def test_repair_makes_what_is_missing_and_moves_stray_rows_home(stray):
    drop_next_month()
    assert check("--repair") == "2 stray rows were moved home\nPartitions: as they should be\n"
    assert partition_of("messaging_message", stray.pk) == "messaging_message_p2041_05"
    assert partition_of("messaging_messageevent", event_id(stray.pk, 1)) == "messaging_messageevent_p2041_05"
    assert Message.objects.get().pk == stray.pk
    assert partitions.stray_rows() == 0
    assert check("--repair").startswith("0 stray rows")


def test_readiness_reports_it_and_does_not_fail(client, stray):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    expected = {"postgresql": True, "migrations": True, "redis": True, "partitions": False}
    assert answer.json()["checks"] == expected


def test_readiness_of_a_sound_database(client):
    assert client.get("/readyz").json()["checks"]["partitions"] is True


def test_beats_task_logs_an_error_for_each_problem(stray, caplog):
    with caplog.at_level(logging.ERROR, logger="apps.messaging.partitions"):
        assert len(tasks.check_partitions()) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


@pytest.mark.parametrize("today", [date(2026, 12, 31), date(2027, 1, 1), date(2028, 2, 29)])
def test_the_end_of_a_year_is_no_end(today):
    missing = partitions.problems(today=today)
    there = {p.month for p in partitions.list_partitions("messaging_message")}
    wanted = {today.replace(day=1), partitions.next_month(today)}
    assert len(missing) == 2 * len(wanted - there)
