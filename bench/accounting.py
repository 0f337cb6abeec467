"""What processes cost: CPU by process tree, peak memory, connections to the database and what is written to it."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psycopg

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
SAMPLE_S = 0.25


class _Stat(NamedTuple):
    parent: int
    own_s: float
    reaped_s: float
    """CPU of children that ended and were waited for."""


def _stat(pid: int) -> _Stat | None:
    """The line of /proc/PID/stat; None when there is no such process (any more)."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may hold spaces and brackets
    user, system, reaped_user, reaped_system = map(int, fields[11:15])
    return _Stat(int(fields[1]), (user + system) / TICKS_PER_S, (reaped_user + reaped_system) / TICKS_PER_S)


def _processes() -> dict[int, _Stat]:
    pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal())
    return {pid: stat for pid in pids if (stat := _stat(pid)) is not None}


def parent_of(pid: int) -> int:
    """The process that started `pid`. Raises `ProcessLookupError` when there is no such process."""
    if (stat := _stat(pid)) is None:
        raise ProcessLookupError(pid)
    return stat.parent


def name_of(pid: int) -> str:
    """The command's name; empty when there is no such process."""
    try:
        return (PROC / str(pid) / "comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def tree(roots: Iterable[int]) -> list[int]:
    """The living processes of these trees, the roots first."""
    return _descend(_processes(), roots)


def _descend(processes: Mapping[int, _Stat], roots: Iterable[int]) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for pid, stat in processes.items():
        children[stat.parent].append(pid)
    found: list[int] = []
    waiting = [root for root in roots if root in processes]
    while waiting:
        pid = waiting.pop(0)
        found.append(pid)
        waiting += children[pid]
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds of these process trees since they began, children that have ended included.

    The difference of two calls is what a tree used between them: a PostgreSQL backend that ends moves its whole time
    from its own line to its parent's.
    """
    processes = _processes()
    return sum(processes[pid].own_s + processes[pid].reaped_s for pid in _descend(processes, roots))


def busy_s() -> float:
    """CPU seconds that this machine has been busy with anything since it started, by the first line of /proc/stat."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, (PROC / "stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def _memory_mb(pid: int, name: str) -> float:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def peak_rss_mb(pid: int) -> float:
    """The most memory that a living process has held since it began; 0 when it has ended."""
    return _memory_mb(pid, "VmHWM")


def rss_mb(pid: int) -> float:
    return _memory_mb(pid, "VmRSS")


class Written(NamedTuple):
    """What a PostgreSQL database has written; the difference of two is what was written between them."""

    wal_bytes: int
    """Of the whole server."""
    commits: int
    """Transactions that wrote: each is one flush of the WAL, shared with those that commit at the same moment."""
    message_bytes: int
    """Messages and their events on the disk, with their indexes."""

    def since(self, before: Written) -> Written:
        return Written(*(now - then for now, then in zip(self, before, strict=True)))


def written(database_url: str) -> Written:
    with psycopg.connect(database_url, autocommit=True, application_name="bench") as connection:
        row = connection.execute(_WRITTEN).fetchone()
    assert row is not None
    return Written(*row)


# Transactions that write take an id each; statistics of commits come up to a second late.
_WRITTEN = """
    SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           (SELECT sum(pg_total_relation_size(relid))::bigint
            FROM unnest('{messaging_message,messaging_messageevent}'::regclass[]) AS parent, pg_partition_tree(parent))
"""


class Usage(NamedTuple):
    """What happened between the start and the end of a `Meter`."""

    cpu_s: dict[str, float]
    """CPU seconds by group."""
    others_cpu_s: float
    """CPU seconds of the rest of the machine: this process, the kernel's own work, and whoever else is there."""
    connections: int
    """The most connections to the database at one time, our own not counted."""


class Meter:
    """Use as a context manager around what is measured; `usage` is complete when it ends.

    `groups` are the roots of process trees by name; `more` are groups whose CPU seconds are asked in another way.
    """

    def __init__(
        self,
        groups: Mapping[str, Iterable[int]],
        *,
        more: Mapping[str, Callable[[], float]] | None = None,
        database: str = "",
    ) -> None:
        self.groups = {name: tuple(roots) for name, roots in groups.items()}
        self.more = dict(more or {})
        self.database = database
        self.usage = Usage({}, 0.0, 0)
        self._ended = threading.Event()
        self._connections = 0
        self._sampler = threading.Thread(target=self._sample, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        if self.database:
            self._sampler.start()
        self._busy = busy_s()
        self._began = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        used = {name: value - self._began[name] for name, value in self._read().items()}
        others = max(0.0, busy_s() - self._busy - sum(used.values()))
        self._ended.set()
        if self.database:
            self._sampler.join()
        self.usage = Usage(used, others, self._connections)

    def _read(self) -> dict[str, float]:
        asked = {name: ask() for name, ask in self.more.items()}
        return {**{name: cpu_s(roots) for name, roots in self.groups.items()}, **asked}

    def _sample(self) -> None:
        """At once and then each `SAMPLE_S`: what is measured may be over before the first of them has passed."""
        with psycopg.connect(self.database, autocommit=True, application_name="bench") as connection:
            while True:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name <> 'bench'"
                ).fetchone()
                assert row is not None
                self._connections = max(self._connections, row[0])
                if self._ended.wait(SAMPLE_S):
                    return
