"""Counting anew from the events: into tables aside, by the statements of the fills, and then all at once in place.

Readers see the old figures until the new ones are complete, and fills go on meanwhile; they wait for a step, and for
the exchange at the end. A rebuild that is interrupted goes on where it was. What retention has deleted cannot be
counted again: the hours of which something may be missing stay as they are.

A message's campaign and state are facts; its device, its template and the clock of its application are as they are now.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Min
from django.utils import timezone

from apps.analytics.clocks import hour_of
from apps.analytics.fills import Filled as Counted
from apps.analytics.fills import (
    count_window,
    is_ahead,
    lock_state,
    next_width,
    window_end,
)
from apps.analytics.metrics import ROLLUPS, Source
from apps.analytics.models.rollups import FillState, MessageHour, Rebuild, SubscriptionHour
from apps.analytics.statements import EVENT_TABLES
from apps.messaging.models import BatchState, DispatchBatch
from apps.messaging.retention import kept_since
from apps.subscriptions.models import SubscriptionEvent
from apps.tenants.models import Application
from automata_signal.errors import Conflict
from automata_signal.positions import functions, prepare_reading, read_horizon, summarise_positions
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

SUFFIX = "_rebuild"
EXCHANGE_MAX_S = 3_600
LATE = timedelta(days=7)
"""Receipts come late: in the hours after what was deleted there were some of deleted messages, so long as this."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


# --- What can be counted again --------------------------------------------------------------------------------------


def first_whole_hour(application: Application, *, now: datetime | None = None) -> datetime:
    """From when on all that happened is still there to be counted: `BEGINNING` if nothing was ever deleted.

    What may be deleted by the application's retention counts as deleted. And whoever has figures from before the oldest
    row that is left has had rows that are gone.
    """
    now = now or timezone.now()
    gone = [kept_since(application, now), _messages_gone_until(application, now), _events_gone_until(application, now)]
    last = max((moment for moment in gone if moment is not None), default=None)
    return BEGINNING if last is None else hour_of(application, last) + timedelta(hours=1) + LATE


def _messages_gone_until(application: Application, now: datetime) -> datetime | None:
    """Index: `batch_by_message_range`. A batch that is not done is never deleted, so it says nothing of the others."""
    counted = MessageHour.objects.for_application(application).aggregate(hour=Min("hour"))["hour"]
    batches = DispatchBatch.objects.for_application(application).filter(first_id__isnull=False).order_by("first_id")
    oldest = batches.values_list("first_id", flat=True)
    first = oldest.first()
    if counted is None or (first and counted >= hour_of(application, _time_of(first))):
        return None
    done: UUID | None = oldest.filter(state=BatchState.DONE).first()
    return _time_of(done) if done else now


def _events_gone_until(application: Application, now: datetime) -> datetime | None:
    """Index: `subscription_event_by_app`."""
    counted = SubscriptionHour.objects.for_application(application).aggregate(hour=Min("hour"))["hour"]
    events = SubscriptionEvent.objects.for_application(application).order_by("id")
    oldest = events.values_list("occurred_at", flat=True).first()
    if counted is None or (oldest and counted >= hour_of(application, oldest)):
        return None
    return oldest or now


def _time_of(key: UUID) -> datetime:
    """When a UUIDv7 was made."""
    return datetime.fromtimestamp((key.int >> 80) / 1_000, UTC)


# --- A rebuild ------------------------------------------------------------------------------------------------------


def rebuild_start(
    *, application: Application | None = None, since: datetime | None = None, restored: bool = False
) -> Rebuild:
    """Begin to count anew, or go on with what was begun; nothing is seen of it before `rebuild_run` is through.

    Of one application or all, from the hour of `since` on, or as far back as everything is there. `restored`: of
    everything, after a dump was restored; events are not written while their tables are looked through for it.
    Raises `Conflict` if another rebuild was begun, or if a restored database was not said to be one.
    """
    asked = {
        "application": str(application.pk) if application else None,
        "since": since.isoformat() if since else None,
        "restored": restored,
    }
    with transaction.atomic():
        states = _lock_states()
        begun = Rebuild.objects.first()
        if begun is not None:
            if begun.asked != asked:
                raise Conflict(f"Another rebuild was begun: {begun.asked}. Finish or discard it.")
            return begun
        if restored:
            _lift_positions(states)
        elif any(is_ahead(state) for state in states):
            raise Conflict("The database was restored from a dump: rebuild with --restored.")
        _make_tables()
        return Rebuild.objects.create(
            asked=asked,
            begins={str(row.pk): _begins(row, since).isoformat() for row in _applications(application)},
            watermarks=dict.fromkeys(Source, 0),
        )


def _applications(application: Application | None) -> list[Application]:
    return [application] if application else list(Application.objects.order_by("id"))


def _begins(application: Application, since: datetime | None) -> datetime:
    first = first_whole_hour(application)
    return first if since is None else max(first, hour_of(application, since))


def _lock_states() -> list[FillState]:
    """All fills are held up until the transaction ends; in the order of their names."""
    return [state for source in sorted(Source) if (state := lock_state(source, skip=False))]


def _make_tables() -> None:
    with connection.cursor() as cursor:
        for rollup in ROLLUPS:
            cursor.execute(f"DROP TABLE IF EXISTS {rollup.table}{SUFFIX}")
            cursor.execute(f"CREATE TABLE {rollup.table}{SUFFIX} (LIKE {rollup.table} INCLUDING ALL)")


def rebuild_run(rebuild: Rebuild) -> int:
    """Count all that is left, and put the new figures in place; how many events were counted, of all steps."""
    for source in Source:
        summarise_positions(EVENT_TABLES[source])
        width = 0
        while (counted := _step(rebuild, source, width)) and not counted.is_done:
            width = next_width(counted)
    return _exchange(rebuild)


@transaction.atomic
def _step(rebuild: Rebuild, source: Source, width: int) -> Counted:
    """Count the next window, up to where the fill is, and note it; both or neither."""
    state = lock_state(source, skip=False)
    assert state is not None
    return _count(rebuild, state, source, width)


def _count(rebuild: Rebuild, state: FillState, source: Source, width: int) -> Counted:
    prepare_reading()
    row = Rebuild.objects.select_for_update().get(pk=rebuild.pk)
    low = row.watermarks[source]
    high = window_end(source, low, state.watermark, width)
    begins = {UUID(key): datetime.fromisoformat(moment) for key, moment in row.begins.items()}
    events = count_window(source, low, high, begins=begins, suffix=SUFFIX) if high > low else 0
    row.watermarks[source] = max(low, high)
    row.events += events
    row.updated_at = timezone.now()
    row.save(update_fields=["watermarks", "events", "updated_at"])
    return Counted(events, high - low, is_done=high >= state.watermark)


@transaction.atomic
def _exchange(rebuild: Rebuild) -> int:
    """Put the new figures in the place of the old ones. No fill runs meanwhile; readers see one or the other."""
    for state in _lock_states():
        while not _count(rebuild, state, Source(state.name), 0).is_done:
            pass
    limit_statements(EXCHANGE_MAX_S)
    row = Rebuild.objects.get(pk=rebuild.pk)
    with connection.cursor() as cursor:
        for rollup in ROLLUPS:
            columns = ", ".join([*rollup.dimensions, *rollup.measures])
            cursor.execute(
                f"DELETE FROM {rollup.table} t USING unnest(%s::uuid[], %s::timestamptz[]) AS b(application_id, begins)"
                " WHERE t.application_id = b.application_id AND t.hour >= b.begins",
                [list(row.begins), list(row.begins.values())],
            )
            cursor.execute(f"INSERT INTO {rollup.table} ({columns}) SELECT {columns} FROM {rollup.table}{SUFFIX}")
            cursor.execute(f"DROP TABLE {rollup.table}{SUFFIX}")
    row.delete()
    log.info("statistics were rebuilt", extra={"events": row.events, "applications": len(row.begins)})
    return row.events


@transaction.atomic
def rebuild_discard() -> bool:
    """Forget a rebuild that was begun; the figures are as they were. False if there is none."""
    with connection.cursor() as cursor:
        for rollup in ROLLUPS:
            cursor.execute(f"DROP TABLE IF EXISTS {rollup.table}{SUFFIX}")
    deleted, _ = Rebuild.objects.all().delete()
    return bool(deleted)


# --- After a dump was restored --------------------------------------------------------------------------------------


def _lift_positions(states: list[FillState]) -> None:
    """Give what is written from now on positions above all there are, and let the fills go on from there.

    The lock waits for who is writing events, and holds up who wants to: none gets a position in between.
    """
    tables = ", ".join(EVENT_TABLES.values())
    limit_statements(EXCHANGE_MAX_S)
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {tables} IN SHARE MODE")
        cursor.execute("SELECT event_position_offset()")
        (offset,) = cursor.fetchone()
        highest = max([state.watermark for state in states] + [_highest(cursor, t) + 1 for t in EVENT_TABLES.values()])
        horizon = read_horizon()
        lifted = offset + max(0, highest - horizon)
        cursor.execute(functions(offset=lifted))
    FillState.objects.update(watermark=max(highest, horizon), is_ahead=False)


def _highest(cursor: Any, table: str) -> int:
    cursor.execute(f"SELECT coalesce(max(position), 0) FROM {table}")
    (position,) = cursor.fetchone()
    return int(position)
