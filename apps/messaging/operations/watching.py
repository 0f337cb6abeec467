"""How sending is at this moment: what waits, who works, what was stopped. Each answer is a query or two, by an index.

PostgreSQL is the truth about what waits; Redis only says how much of it was handed to workers.
"""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.messaging import partitions, retention
from apps.messaging.models import DispatchState
from apps.messaging.queues import queue_name
from apps.tenants.console.formats import number
from apps.tenants.models import Application, ChannelCredential
from apps.tenants.operations import switches
from automata_signal import replica
from automata_signal.heartbeats import BEAT, Heartbeat

# --- What waits ----------------------------------------------------------------------------------------------------


class Waiting(NamedTuple):
    """What is due and was not taken, of one channel and priority."""

    channel_type: str
    priority: str
    batches: int
    messages: int
    """Recipients of these batches: of one that comes back for a few, all of them are counted."""
    oldest_due_at: datetime

    @property
    def queue(self) -> str:
        return queue_name(self.channel_type, self.priority)

    def age_s(self, now: datetime) -> float:
        return max(0.0, (now - self.oldest_due_at).total_seconds())


# Indexes: `batch_waiting`; of one application `batch_next`.
_WAITING = """
    SELECT d.channel_type, b.priority, count(*), coalesce(sum(b.recipient_count), 0)::bigint, min(b.due_at)
    FROM messaging_dispatchbatch b JOIN messaging_dispatch d ON d.id = b.dispatch_id
    WHERE b.state = 'waiting' AND b.due_at <= %(now)s AND d.state <> %(paused)s
      AND (%(application_id)s::uuid IS NULL OR b.application_id = %(application_id)s)
    GROUP BY 1, 2 ORDER BY 5
"""


def waiting(application_id: UUID | None = None, *, now: datetime | None = None) -> list[Waiting]:
    """By channel and priority, what is due longest first; of one application, or of all."""
    parameters: dict[str, Any] = {
        "now": now or timezone.now(),
        "paused": DispatchState.PAUSED,
        "application_id": application_id,
    }
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, parameters)
        return [Waiting(*row) for row in cursor.fetchall()]


_OLDEST = """
    SELECT b.application_id, min(b.due_at), coalesce(sum(b.recipient_count), 0)::bigint
    FROM messaging_dispatchbatch b JOIN messaging_dispatch d ON d.id = b.dispatch_id
    WHERE b.state = 'waiting' AND b.due_at <= %s AND d.state <> 'paused' AND b.application_id = ANY(%s) GROUP BY 1
"""


class Oldest(NamedTuple):
    due_at: datetime
    messages: int


def oldest_by_application(ids: Sequence[UUID], *, now: datetime) -> dict[UUID, Oldest]:
    """What is due longest of each application. Index: `batch_waiting`."""
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST, [now, list(ids)])
        return {key: Oldest(due_at, messages) for key, due_at, messages in cursor.fetchall()}


# --- Credentials ---------------------------------------------------------------------------------------------------


def breaker_state(credential: ChannelCredential, now: datetime) -> str:
    """`closed`, `open`, or `half_open` while a probe runs."""
    if credential.breaker_opened_at is None:
        return "closed"
    probing = credential.breaker_probing_until
    return "half_open" if probing is not None and probing > now else "open"


# --- Queues --------------------------------------------------------------------------------------------------------


class QueueState(NamedTuple):
    name: str
    waits: Waiting | None
    """What is due in PostgreSQL; None for nothing, and for queues that hold no messages."""
    length: int | None
    """Tasks in the broker; None if it does not answer."""
    workers: int
    """Living workers that take from it."""


def queue_states(beats: Sequence[Heartbeat] | None, *, now: datetime) -> list[QueueState]:
    """Every queue, the most urgent first: one call to Redis, one query."""
    names = [queue.name for queue in settings.CELERY_TASK_QUEUES]
    due = {line.queue: line for line in waiting(now=now)}
    lengths = queue_lengths(names)
    taken_by = Counter(queue for beat in beats or () if beat.is_alive() for queue in beat.facts.get("queues", ()))
    return [QueueState(name, due.get(name), lengths.get(name), taken_by[name]) for name in names]


@cache
def _redis() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )


REDIS_TIMEOUT_S = 0.3


def queue_lengths(names: Sequence[str]) -> dict[str, int]:
    """Tasks that wait in the broker, by queue; nothing if it does not answer."""
    try:
        with _redis().pipeline(transaction=False) as pipe:
            for name in names:
                pipe.llen(name)
            return dict(zip(names, map(int, pipe.execute()), strict=True))
    except redis.RedisError:
        return {}


# --- Storage -------------------------------------------------------------------------------------------------------


class PartitionState(NamedTuple):
    table: str
    name: str
    month: date
    bytes: int
    rows: int
    """PostgreSQL's estimate."""


_SIZES = """
    SELECT c.relname, pg_total_relation_size(c.oid)::bigint, greatest(c.reltuples, 0)::bigint
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = %s::regclass AND c.relname ~ '_p[0-9]{4}_[0-9]{2}$' ORDER BY 1 DESC
"""


def partition_states() -> list[PartitionState]:
    """The months of messages and of their events, the newest first."""
    found = []
    for table in partitions.FILLFACTORS:
        with connection.cursor() as cursor:
            cursor.execute(_SIZES, [table])
            for name, size, rows in cursor.fetchall():
                month = date(int(name[-7:-3]), int(name[-2:]), 1)
                found.append(PartitionState(table, name, month, size, rows))
    return sorted(found, key=lambda one: (one.month, one.table), reverse=True)


class Kept(NamedTuple):
    """How long an application keeps its messages."""

    application: Application
    days: int | None
    """None: for ever."""


def kept_by_application() -> list[Kept]:
    """Who keeps longest first; two queries, whatever the number of applications."""
    rows = Application.objects.select_related("billing__plan").defer("billing__alert_webhook_secret").order_by("name")
    found = []
    now = timezone.now()
    for application in rows:
        since = retention.kept_since(application, now)
        found.append(Kept(application, None if since is None else (now - since).days))
    return sorted(found, key=lambda one: (one.days is not None, -(one.days or 0)))


def dropped_on(partition: PartitionState, kept: Sequence[Kept]) -> date | None:
    """The day from which nobody keeps a row of this month; None if somebody keeps everything."""
    if any(one.days is None for one in kept):
        return None
    longest = max((one.days or 0 for one in kept), default=0)
    return partitions.next_month(partition.month) + timedelta(days=longest)


# --- Health --------------------------------------------------------------------------------------------------------


class Check(NamedTuple):
    name: str
    title: Any
    tone: str
    """good, warning or bad."""
    text: Any
    """What was found."""
    advice: Any = ""
    """What to do, if it is not good."""


DATABASE_SLOW_S = 0.05
OLD_TRANSACTION_S = 300.0
CONNECTIONS_SHARE = 0.85
MEMORY_SHARE = 0.8
DUE_LATE_S = {"high": 30.0, "medium": 600.0, "low": 7_200.0}


def checks(beats: Sequence[Heartbeat] | None, *, now: datetime) -> list[Check]:
    """Everything that the platform stands on, the same order each time."""
    return [
        *_database(),
        *_replica(),
        *_broker(beats),
        _beat(beats),
        _workers(beats),
        _due(now),
        _breakers(),
        _migrations(),
        _partitions(),
        _switches(),
    ]


_DATABASE = """
    SELECT current_setting('server_version'), current_setting('max_connections')::int,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
           (SELECT coalesce(extract(epoch FROM now() - min(xact_start)), 0)::float8 FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend'),
           pg_database_size(current_database())::bigint
"""


def _database() -> list[Check]:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
        took_s = time.monotonic() - began
        cursor.execute(_DATABASE)
        version, most, open_, oldest_s, size = cursor.fetchone()
    facts = {
        "version": version.partition(" ")[0],
        "ms": number(round(1_000 * took_s, 1)),
        "open": number(open_),
        "most": number(most),
        "size": filesizeformat(size),
    }
    crowded = open_ > CONNECTIONS_SHARE * most
    stale = oldest_s > OLD_TRANSACTION_S
    tone = "warning" if crowded or stale or took_s > DATABASE_SLOW_S else "good"
    advice: Any = ""
    if crowded:
        advice = _(
            "Nearly all connections are used. Lower DATABASE_POOL_MAX of the processes, or raise max_connections."
        )
    elif stale:
        advice = _(
            "A transaction is open for %(age)s: it keeps figures and webhooks from going on. See docs/operations.md."
        )
        advice = advice % {"age": duration(oldest_s)}
    text = _("PostgreSQL %(version)s answers in %(ms)s ms; %(open)s of %(most)s connections; %(size)s on disk") % facts
    return [Check("database", _("Database"), tone, text, advice)]


def _replica() -> list[Check]:
    if not replica.is_configured():
        return []
    state = replica.state()
    if not state.is_up or state.lag_s is None:
        text, advice = _("It does not answer."), _("Statistics and exports are read from the primary meanwhile.")
        return [Check("replica", _("Replica"), "bad", text, advice)]
    late = state.lag_s > settings.REPLICA_LAG_MAX_S
    text = _("%(lag)s behind") % {"lag": duration(state.lag_s)}
    advice = _("It is too far behind to be read from: the primary answers instead.") if late else ""
    return [Check("replica", _("Replica"), "warning" if late else "good", text, advice)]


def _broker(beats: Sequence[Heartbeat] | None) -> list[Check]:
    try:
        began = time.monotonic()
        info = _redis().info()
        took_ms = round(1_000 * (time.monotonic() - began), 1)
    except redis.RedisError:
        advice = _("Messages are accepted and wait in PostgreSQL; nothing is sent until Redis is back.")
        return [Check("redis", "Redis", "bad", _("It does not answer."), advice)]
    used, most = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    full = bool(most) and used > MEMORY_SHARE * most
    facts = {"version": info["redis_version"], "ms": number(took_ms), "used": filesizeformat(used)}
    text = _("Redis %(version)s answers in %(ms)s ms; %(used)s in memory") % facts
    advice = _("Its memory is nearly full: a full Redis takes no further tasks.") if full else ""
    return [Check("redis", "Redis", "warning" if full else "good", text, advice)]


def _beat(beats: Sequence[Heartbeat] | None) -> Check:
    title = _("Schedules (beat)")
    found = next((beat for beat in beats or () if beat.name == BEAT), None)
    if beats is None:
        return Check("beat", title, "warning", _("Not known while Redis does not answer."))
    if found is None or not found.is_alive():
        seen = _("last seen %(age)s ago") % {"age": duration(time.time() - found.at)} if found else _("never seen")
        advice = _("Start the process `beat`: without it nothing is retried, scheduled or swept.")
        return Check("beat", title, "bad", seen, advice)
    return Check("beat", title, "good", _("the last tick was %(age)s ago") % {"age": duration(time.time() - found.at)})


def _workers(beats: Sequence[Heartbeat] | None) -> Check:
    title = _("Workers")
    if beats is None:
        return Check("workers", title, "warning", _("Not known while Redis does not answer."))
    alive = [beat for beat in beats if beat.name != BEAT and beat.is_alive()]
    served = {queue for beat in alive for queue in beat.facts.get("queues", ())}
    lacking = [queue.name for queue in settings.CELERY_TASK_QUEUES if queue.name not in served]
    text = ngettext("%(count)d worker is alive", "%(count)d workers are alive", len(alive)) % {"count": len(alive)}
    if lacking:
        advice = _("Nobody takes from: %(queues)s.") % {"queues": ", ".join(lacking)}
        return Check("workers", title, "bad", text, advice)
    return Check("workers", title, "good", text)


def _due(now: datetime) -> Check:
    late = [line for line in waiting(now=now) if line.age_s(now) > DUE_LATE_S.get(line.priority, DUE_LATE_S["low"])]
    if not late:
        return Check("queues", _("Queues"), "good", _("nothing waits longer than it should"))
    told = ", ".join(f"{line.queue} {duration(line.age_s(now))}" for line in late)
    advice = _("Look whether workers are alive, a breaker is open or a switch is off; else start more workers.")
    return Check("queues", _("Queues"), "bad", _("due too long: %(queues)s") % {"queues": told}, advice)


def _breakers() -> Check:
    rows = ChannelCredential.objects.filter(is_active=True, breaker_opened_at__isnull=False)
    count = rows.count()
    if not count:
        return Check("breakers", _("Breakers"), "good", _("every active credential sends"))
    text = ngettext("%(count)d credential is stopped", "%(count)d credentials are stopped", count) % {"count": count}
    return Check("breakers", _("Breakers"), "warning", text, _("See breakers and rates."))


MIGRATIONS_KEPT_S = 60.0
_migrations_left = {"until": float("-inf"), "left": 0.0}


def _unapplied() -> int:
    """Migrations that are not applied, as found in the last minute: looking reads all their files."""
    if time.monotonic() >= _migrations_left["until"]:
        executor = MigrationExecutor(connection)
        _migrations_left["left"] = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        _migrations_left["until"] = time.monotonic() + MIGRATIONS_KEPT_S
    return int(_migrations_left["left"])


def _migrations() -> Check:
    left = _unapplied()
    if not left:
        return Check("migrations", _("Migrations"), "good", _("the database is as this version expects it"))
    text = ngettext("%(count)d migration is not applied", "%(count)d migrations are not applied", left) % {
        "count": left
    }
    return Check("migrations", _("Migrations"), "bad", text, _("Run `manage.py migrate`."))


def _partitions() -> Check:
    problems = partitions.problems()
    if not problems:
        return Check("partitions", _("Partitions"), "good", _("this month and the next have theirs"))
    advice = _("Run `manage.py check_partitions --repair`.")
    return Check("partitions", _("Partitions"), "bad", "; ".join(problems), advice)


def _switches() -> Check:
    names = sorted(switches.off())
    if not names:
        return Check("switches", _("Switches"), "good", _("everything is on"))
    told = ", ".join(str(switches.KINDS[name].title) for name in names if name in switches.KINDS)
    return Check(
        "switches",
        _("Switches"),
        "warning",
        _("off: %(names)s") % {"names": told},
        _("Somebody turned it off: see switches."),
    )


def versions() -> list[tuple[str, str]]:
    """What this process runs on."""
    names = ("django", "celery", "django-unfold", "psycopg", "granian")
    found = [
        ("Automata-Signal", settings.SENTRY_RELEASE or _("not told (SENTRY_RELEASE)")),
        ("Python", platform.python_version()),
    ]
    for name in names:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return found


def duration(seconds: float) -> str:
    """In words, with one unit: 4 s, 3 min, 2 h, 5 days."""
    if seconds < 60:
        return _("%(count)d s") % {"count": round(seconds)}
    if seconds < 3_600:
        return _("%(count)d min") % {"count": round(seconds / 60)}
    if seconds < 48 * 3_600:
        return _("%(count)d h") % {"count": round(seconds / 3_600)}
    days = round(seconds / 86_400)
    return ngettext("%(count)d day", "%(count)d days", days) % {"count": days}
