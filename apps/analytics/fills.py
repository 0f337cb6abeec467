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
from django.db import connection, transaction
from django.utils import timezone

from apps.analytics.clocks import shifted_clocks
from apps.analytics.metrics import Source
from apps.analytics.models.rollups import FillState
from apps.analytics.statements import EVENT_TABLES, counting, values_max
from apps.messaging.stopping import is_stopping
from automata_signal import positions
from automata_signal.celery import Task, send_tasks
from automata_signal.positions import prepare_reading, read_horizon, summarise_positions

log = logging.getLogger(__name__)

STEP_EVENTS = 50_000
TASK_MAX_S = 20.0
"""Then a fill goes on in a new task, and other tasks of the control queue get their turn."""
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
    summarise_positions(EVENT_TABLES[source])
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
    prepare_reading()
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


# --- A window ------------------------------------------------------------------------------------------------------


def window_end(source: Source, low: int, horizon: int, width: int = 0) -> int:
    """Where a window from `low` has to end so that it holds `STEP_EVENTS` at most, or one transaction."""
    return positions.window_end([EVENT_TABLES[source]], low, horizon, events_max=STEP_EVENTS, width=width)


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
