"""Fills: events become rollups, each exactly once, in steps that may stop anywhere.

An event carries the position of the transaction that wrote it (`automata_signal.positions`). A fill takes the events
from its watermark up to the oldest transaction that still runs, adds them to the rollups and moves the watermark, all
in one transaction: a step that dies has done nothing, and the next one does it. Nothing of this is in the way of
messages: it reads what they left behind.

A step takes some `STEP_EVENTS`, or the events of one transaction if that wrote more.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import OperationalError, ProgrammingError, connection, transaction
from django.utils import timezone

from apps.analytics.clocks import shifted_clocks
from apps.analytics.metrics import Source
from apps.analytics.models.rollups import FillState
from apps.analytics.statements import EVENT_TABLES, counting, values_max
from apps.messaging.stopping import is_stopping
from automata_signal.celery import Task, send_tasks
from automata_signal.time_limits import limit_lock_waits, limit_statements

log = logging.getLogger(__name__)

STEP_EVENTS = 50_000
TASK_MAX_S = 20.0
"""Then a fill goes on in a new task, and other tasks of the control queue get their turn."""
STATEMENT_MAX_S = 300
WORK_MEMORY = "64MB"
"""What a step groups fits in it; the server's own is meant for short statements."""
SUMMARY_LOCK_WAIT_S = 0.2
"""Less than `deadlock_timeout`, at which PostgreSQL would end an autovacuum for us."""
GROWTH_MAX = 8
"""A window is at most so many times as wide as the one before."""
REMINDED_AFTER = timedelta(hours=1)
AHEAD = (
    "statistics: the database was restored from a dump; nothing is counted until an operator runs "
    "manage.py analytics_rebuild --restored"
)


class Filled(NamedTuple):
    """What a step did."""

    events: int
    width: int
    """Transactions that it looked through."""
    is_done: bool
    """Whether nothing was left that could be counted."""


def fill_all(*, max_s: float = TASK_MAX_S) -> bool:
    """Count what was written since, of all sources, until nothing is left or `max_s` are over; True if there is more.

    Of two at a time one has nothing to do.
    """
    ends_at = time.monotonic() + max_s
    unfinished = [fill(source, ends_at=ends_at) for source in Source]
    return any(unfinished)


def fill(source: Source, *, ends_at: float) -> bool:
    """The same of one source; `ends_at` is `time.monotonic`'s."""
    summarise_positions(source)
    width = 0
    while True:
        filled = fill_step(source, width=width)
        if filled.is_done:
            return False
        if time.monotonic() >= ends_at or is_stopping():
            return True
        width = next_width(filled)


def next_width(filled: Filled) -> int:
    """As many transactions as held `STEP_EVENTS` if they are as full as those before."""
    wished = filled.width * STEP_EVENTS // max(filled.events, 1)
    return max(1, min(wished, filled.width * GROWTH_MAX))


def queue_fill() -> None:
    """If the broker does not answer, beat's next tick goes on."""
    send_tasks([Task("analytics.fill", [], "control")])


@transaction.atomic
def fill_step(source: Source, *, width: int = 0) -> Filled:
    """Count the next window and move the watermark, both or neither. `width`: of that many transactions; 0: of all."""
    state = lock_state(source, skip=True)
    if state is None or is_ahead(state):
        return Filled(0, 0, is_done=True)
    horizon = read_horizon()
    prepare_transaction()
    high = window_end(source, state.watermark, horizon, width)
    events = count_window(source, state.watermark, high) if high > state.watermark else 0
    filled = Filled(events, high - state.watermark, is_done=high >= horizon)
    state.watermark = high
    state.events += events
    state.updated_at = timezone.now()
    state.caught_up_at = state.updated_at if filled.is_done else state.caught_up_at
    state.save(update_fields=["watermark", "events", "updated_at", "caught_up_at"])
    return filled


# --- Whose turn it is ----------------------------------------------------------------------------------------------


def lock_state(source: Source, *, skip: bool) -> FillState | None:
    """The row of a source, for us alone until the transaction ends; None if another has it and we may `skip`."""
    rows = FillState.objects.select_for_update(skip_locked=skip)
    state = rows.filter(pk=source).first()
    if state is None and not FillState.objects.filter(pk=source).exists():
        FillState.objects.bulk_create([FillState(name=source)], ignore_conflicts=True)
        state = rows.filter(pk=source).first()
    return state


def is_ahead(state: FillState) -> bool:
    """Whether the watermark is ahead of all transactions: the rows come from another cluster (a restored dump).

    Once seen it stays so until `analytics_rebuild --restored`: what was written meanwhile cannot be told from what was
    counted before. Said as an error each hour.
    """
    if not state.is_ahead and state.watermark <= read_horizon():
        return False
    now = timezone.now()
    if not state.is_ahead or state.updated_at < now - REMINDED_AFTER:
        log.error(AHEAD, extra={"source": state.name, "watermark": state.watermark})
        state.is_ahead, state.updated_at = True, now
        state.save(update_fields=["is_ahead", "updated_at"])
    return True


def read_horizon() -> int:
    """Below this position nothing is added any more."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT event_horizon()")
        (horizon,) = cursor.fetchone()
    return int(horizon)


# --- The index -----------------------------------------------------------------------------------------------------


def summarise_positions(source: Source) -> None:
    """Bring the BRIN index of positions up to date: what is not summarised yet is read by each step.

    Autovacuum does the same when it comes by; a million events that it has not seen cost a step 0.15 s. Not done now if
    a VACUUM has the table, or if the tables are another role's.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            limit_lock_waits(SUMMARY_LOCK_WAIT_S)
            cursor.execute(_SUMMARISE, {"table": EVENT_TABLES[source]})
    except (OperationalError, ProgrammingError) as error:
        log.info("an index of positions is not summarised now", extra={"cause": str(error).partition("\n")[0]})


_SUMMARISE = """
    SELECT brin_summarize_new_values(i.indexrelid::regclass)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = ANY(ARRAY(SELECT relid FROM pg_partition_tree(%(table)s::regclass)) || %(table)s::regclass)
      AND a.amname = 'brin' AND c.relkind = 'i'
"""


# --- A window ------------------------------------------------------------------------------------------------------


def prepare_transaction() -> None:
    """Patience and memory, for a step. Tables are never read whole, whatever is known of the newest rows."""
    limit_statements(STATEMENT_MAX_S)
    _set_local(work_mem=WORK_MEMORY, enable_seqscan="off", jit="off", max_parallel_workers_per_gather="0")


def _set_local(**values: str) -> None:
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute("SELECT set_config(%s, %s, true)", [name, value])


def window_end(source: Source, low: int, horizon: int, width: int = 0) -> int:
    """Where a window from `low` has to end so that it holds `STEP_EVENTS` at most, or one transaction.

    Each look reads no more than that, by the BRIN index of `position`. Other indexes are shut out: by one of those a
    table is read from its beginning.
    """
    high = min(horizon, low + width) if width else horizon
    _set_local(enable_indexscan="off", enable_indexonlyscan="off")
    while high - low > 1 and _holds_too_many(source, low, high):
        high = low + (high - low) // 2
    _set_local(enable_indexscan="on", enable_indexonlyscan="on")
    return high


def _holds_too_many(source: Source, low: int, high: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT count(*) FROM (SELECT FROM {EVENT_TABLES[source]}"
            " WHERE position >= %s AND position < %s LIMIT %s) e",
            [low, high, STEP_EVENTS + 1],
        )
        (found,) = cursor.fetchone()
    return int(found) > STEP_EVENTS


def count_window(
    source: Source, low: int, high: int, *, begins: dict[UUID, datetime] | None = None, suffix: str = ""
) -> int:
    """Add the events of a window to the rollups; how many there were.

    With `begins` only those of these applications, each from a moment on, and into the tables with this `suffix`.
    """
    clocks = shifted_clocks()
    parameters: dict[str, Any] = {
        "low": low,
        "high": high,
        "shifted": list(clocks),
        "shifts": list(clocks.values()),
        "values_max": orjson.dumps(values_max()).decode(),
    }
    if begins is not None:
        parameters |= {"applications": list(begins), "begins": list(begins.values())}
    with connection.cursor() as cursor:
        cursor.execute(counting(source, rebuild=begins is not None, suffix=suffix), parameters)
        (events,) = cursor.fetchone()
    return int(events)
