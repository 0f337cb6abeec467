"""Reading from a copy of the database (`DATABASE_REPLICA_URL`), as long as it is not too far behind.

    rows = read(lambda alias: Rollup.objects.using(alias).for_application(application)…)   # breaks never: see `read`
    with reading(max_lag_s=30) as alias: …                                                  # for work of several steps

How far behind it is, each process looks up every `LOOK_S`: the server's own clock of replay stands still while nobody
writes, so positions in the log are compared as well. A copy that has replayed all that the primary had written is not
behind, however long ago that was. Without the setting, and whenever in doubt, everything is read from the primary.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import psycopg
from django.conf import settings
from django.db import Error as DatabaseLayerError
from django.db import InterfaceError, OperationalError, connections

log = logging.getLogger(__name__)

PRIMARY, REPLICA = "default", "replica"
LOOK_S = 2.0
AWAY_S = 15.0
"""A replica that did not answer is left alone for so long."""
_LOOKS_KEPT = 60

Found = TypeVar("Found")


class State(NamedTuple):
    """What is known of the replica."""

    is_up: bool
    lag_s: float | None
    """None if it does not answer, or is no replica."""


class _Look(NamedTuple):
    position: int
    at: float


class _Watch:
    """The replica's lag as this process last saw it. One thread looks, the others go by what was seen before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looks: deque[_Look] = deque(maxlen=_LOOKS_KEPT)
        self._next_at = 0.0
        self._state = State(False, None)

    def state(self) -> State:
        if time.monotonic() >= self._next_at and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._state

    def leave_alone(self, cause: str) -> None:
        """It failed: nothing is read from it for `AWAY_S`."""
        log.warning("the replica is not used", extra={"cause": cause})
        self._state = State(False, None)
        self._next_at = time.monotonic() + AWAY_S

    def _look(self) -> None:
        try:
            lag_s = self._lag()
        except DatabaseLayerError as error:
            close_replica()
            self.leave_alone(str(error).partition("\n")[0])
            return
        if lag_s is None:
            self.leave_alone("DATABASE_REPLICA_URL is no replica: it does not replay a primary's log")
            return
        self._state = State(True, lag_s)
        self._next_at = time.monotonic() + LOOK_S

    def _lag(self) -> float | None:
        """Seconds. Each of three bounds is right, so the least is: all of the primary's log is replayed (0); what the
        primary had at an earlier look is; the last transaction that was replayed is so old."""
        with connections[PRIMARY].cursor() as cursor:
            cursor.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,"
                " extract(epoch FROM clock_timestamp())::float8"
            )
            written, now = cursor.fetchone()
        with connections[REPLICA].cursor() as cursor:
            cursor.execute(
                "SELECT pg_is_in_recovery(), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,"
                " extract(epoch FROM pg_last_xact_replay_timestamp())::float8"
            )
            is_replica, replayed, last_at = cursor.fetchone()
        if not is_replica or replayed is None:
            return None
        self._looks.append(_Look(written, now))
        bounds = [now - look.at for look in self._looks if look.position <= replayed]
        if last_at is not None:
            bounds.append(now - last_at)
        # Nothing of these two: it was away for longer than we remember, or has replayed nothing yet.
        return max(0.0, min(bounds)) if bounds else float("inf")


_watch = _Watch()


def is_configured() -> bool:
    return REPLICA in settings.DATABASES


def state() -> State:
    """For metrics and health; only if `is_configured`."""
    return _watch.state()


def read_alias(*, max_lag_s: float | None = None) -> str:
    """`replica` if there is one, at most `max_lag_s` (`REPLICA_LAG_MAX_S`) behind, else `default`.

    Inside a transaction it is `default`: there its own changes are to be seen.
    """
    if not is_configured() or connections[PRIMARY].in_atomic_block:
        return PRIMARY
    lag_s = _watch.state().lag_s
    limit_s = settings.REPLICA_LAG_MAX_S if max_lag_s is None else max_lag_s
    return REPLICA if lag_s is not None and lag_s <= limit_s else PRIMARY


@contextmanager
def reading(*, max_lag_s: float | None = None) -> Iterator[str]:
    """The alias to read from. If the replica fails meanwhile, the error comes out and the next one reads elsewhere."""
    alias = read_alias(max_lag_s=max_lag_s)
    try:
        yield alias
    except (OperationalError, InterfaceError) as error:
        if alias == REPLICA:
            _note_failure(error)
        raise


def read(work: Callable[[str], Found], *, max_lag_s: float | None = None) -> Found:
    """What `work(alias)` returns. If the replica fails meanwhile it is done again, from the primary; work that took
    too long (`statement_timeout`) is not."""
    alias = read_alias(max_lag_s=max_lag_s)
    if alias == PRIMARY:
        return work(PRIMARY)
    try:
        return work(alias)
    except (OperationalError, InterfaceError) as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise
        _note_failure(error)
    return work(PRIMARY)


def _note_failure(error: Exception) -> None:
    # What is replayed may take rows away from under a reader: that says nothing of the next one.
    if not isinstance(error.__cause__, psycopg.errors.SerializationFailure | psycopg.errors.QueryCanceled):
        close_replica()
        _watch.leave_alone(str(error).partition("\n")[0])


def close_replica() -> None:
    connections[REPLICA].close()
