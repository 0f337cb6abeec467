"""What is looked up when Prometheus asks: queues, batches, quotas, the state of PostgreSQL, Redis and the replica.

Each app registers its sources at start-up (`AppConfig.ready`): a few cheap queries that name their index. They are the
same whichever web process is asked, so alerts take the `max` of them. A source that does not answer leaves its series
out and is 0 in `automata_source_up`; the page itself is always answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import redis
from django.conf import settings
from django.db import Error as DatabaseLayerError
from django.db import connection, transaction
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from automata_signal import replica
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

KEPT_S = 5.0
"""A page asked for again within this time has the same figures."""
STATEMENT_MAX_S = 2.0
ROWS_MAX = 200
"""Series that one figure may have."""


class Figure(NamedTuple):
    name: str
    help: str
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    figure: Figure
    value: float
    labels: tuple[str, ...] = ()


class Source(NamedTuple):
    name: str
    figures: tuple[Figure, ...]
    read: Callable[[], Iterable[Sample]]
    needs_database: bool = True
    """It is read in a transaction in which no statement takes longer than `STATEMENT_MAX_S`."""


SOURCE_UP = Figure("automata_source_up", "Whether a source of figures could be read", ("source",))
_sources: dict[str, Source] = {}


def register(source: Source) -> None:
    """Show this source's figures from now on; the last of a name wins."""
    _sources[source.name] = source


class Figures(Collector):
    """All sources as a collector of the client library; one thread reads, the others get what it read before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._kept: list[Metric] = []

    def describe(self) -> Iterator[Metric]:
        """Nothing is read to register it."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at >= KEPT_S:
                self._kept = list(_families(_read_all()))
                self._read_at = time.monotonic()
            kept = self._kept
        yield from kept


def _read_all() -> Iterator[Sample]:
    database_is_away = False
    for source in _sources.values():
        samples: Sequence[Sample] | None = None
        if not (source.needs_database and database_is_away):
            samples = _read(source)
            database_is_away = database_is_away or (source is DATABASE and samples is None)
        yield Sample(SOURCE_UP, float(samples is not None), (source.name,))
        yield from samples or ()


def _read(source: Source) -> Sequence[Sample] | None:
    """The samples, or None if the source does not answer."""
    try:
        if not source.needs_database:
            return list(source.read())
        with transaction.atomic():
            limit_statements(STATEMENT_MAX_S)
            return list(source.read())
    except (DatabaseLayerError, redis.RedisError, OSError) as error:
        log.warning("a source of figures does not answer", extra={"cause": f"{source.name}: {error}"})
        return None


def _families(samples: Iterable[Sample]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for figure in (SOURCE_UP, *(figure for source in _sources.values() for figure in source.figures)):
        families[figure.name] = GaugeMetricFamily(figure.name, figure.help, labels=figure.labels)
    for sample in samples:
        family = families[sample.figure.name]
        if len(family.samples) < ROWS_MAX:
            family.add_metric(sample.labels, sample.value)
    yield from families.values()


# --- PostgreSQL --------------------------------------------------------------------------------------------------

_CONNECTIONS = Figure("automata_database_connections", "Connections to the database, by what they do", ("state",))
_CONNECTIONS_MAX = Figure("automata_database_connections_max", "Connections that PostgreSQL allows")
_OLDEST_TRANSACTION = Figure("automata_database_oldest_transaction_seconds", "Age of the oldest open transaction")
_DATABASE_BYTES = Figure("automata_database_bytes", "Size of the database on disk")


def _read_database() -> Iterator[Sample]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE(state, 'unknown'), count(*), extract(epoch FROM now() - min(xact_start))::float8"
            " FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' GROUP BY 1"
        )
        rows = cursor.fetchall()
        cursor.execute("SELECT current_setting('max_connections')::int, pg_database_size(current_database())::bigint")
        connections_max, size = cursor.fetchone()
    for state, count, _ in rows:
        yield Sample(_CONNECTIONS, count, (state.partition(" (")[0].replace(" ", "_"),))
    yield Sample(_CONNECTIONS_MAX, connections_max)
    yield Sample(_OLDEST_TRANSACTION, max((age for _, _, age in rows if age), default=0.0))
    yield Sample(_DATABASE_BYTES, size)


DATABASE = Source("postgresql", (_CONNECTIONS, _CONNECTIONS_MAX, _OLDEST_TRANSACTION, _DATABASE_BYTES), _read_database)
"""The first: when it is away, no other source asks PostgreSQL."""
register(DATABASE)


# --- Redis -------------------------------------------------------------------------------------------------------

_QUEUE_LENGTH = Figure("automata_queue_length", "Tasks that wait in a queue of the broker", ("queue",))
_UNACKED = Figure("automata_queue_unacknowledged", "Tasks that workers have taken and not finished")
_MEMORY = Figure("automata_redis_memory_bytes", "Memory that Redis uses")
_MEMORY_MAX = Figure("automata_redis_memory_max_bytes", "Memory that Redis may use; 0 if nothing limits it")
REDIS_TIMEOUT_S = 1.0


@cache
def _redis() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
    )


def _read_redis() -> Iterator[Sample]:
    queues = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    with _redis().pipeline(transaction=False) as pipe:
        for queue in queues:
            pipe.llen(queue)
        pipe.hlen("unacked")
        pipe.info("memory")
        *lengths, unacked, memory = pipe.execute()
    for queue, length in zip(queues, lengths, strict=True):
        yield Sample(_QUEUE_LENGTH, length, (queue,))
    yield Sample(_UNACKED, unacked)
    yield Sample(_MEMORY, memory["used_memory"])
    yield Sample(_MEMORY_MAX, memory.get("maxmemory", 0))


register(Source("redis", (_QUEUE_LENGTH, _UNACKED, _MEMORY, _MEMORY_MAX), _read_redis, needs_database=False))


# --- The replica -------------------------------------------------------------------------------------------------

_REPLICA_UP = Figure("automata_replica_up", "Whether the replica answers; only if there is one")
_REPLICA_LAG = Figure("automata_replica_lag_seconds", "How far the replica is behind")


def _read_replica() -> Iterator[Sample]:
    if not replica.is_configured():
        return
    state = replica.state()
    yield Sample(_REPLICA_UP, float(state.is_up))
    if state.lag_s is not None:
        yield Sample(_REPLICA_LAG, state.lag_s)


register(Source("replica", (_REPLICA_UP, _REPLICA_LAG), _read_replica, needs_database=False))
