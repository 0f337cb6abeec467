"""The machine that the figures are of, and whether it was at rest."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
import redis

from bench.accounting import busy_s

LOAD_AT_REST = 0.5


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    python: str
    postgresql: str
    redis: str
    durable: bool
    """PostgreSQL with fsync and synchronous_commit on."""
    load_at_start: float

    def line(self) -> str:
        parts = (
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB, Linux {self.kernel}",
            f"PostgreSQL {self.postgresql} ({'fsync on' if self.durable else 'NOT DURABLE: no figure to quote'})",
            f"Redis {self.redis}, Python {self.python}",
            f"load {self.load_at_start:.2f} at start",
        )
        return " · ".join(parts)

    def as_figures(self) -> dict[str, object]:
        return asdict(self)


def describe(database_url: str, redis_url: str) -> Machine:
    with psycopg.connect(database_url, autocommit=True) as connection:
        version = _show(connection, "server_version").split()[0]
        durable = all(_show(connection, name) == "on" for name in ("fsync", "synchronous_commit", "full_page_writes"))
    client = redis.Redis.from_url(redis_url)
    try:
        redis_version = str(client.info("server")["redis_version"])
    finally:
        client.close()
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=platform.release(),
        python=platform.python_version(),
        postgresql=version,
        redis=redis_version,
        durable=durable,
        load_at_start=load(),
    )


def load() -> float:
    """Processes that ran or waited for a core, the mean of the last minute. What we ran before is in it too."""
    return os.getloadavg()[0]


def others_now(seconds: float = 1.0) -> float:
    """Cores that somebody uses while we wait, 0 on a machine at rest."""
    before = busy_s()
    time.sleep(seconds)
    return (busy_s() - before) / seconds


def wait_for_rest(patience_s: float, *, cores: float = 0.15) -> float:
    """Wait until others use less than `cores`, `patience_s` at most; what they use at the end."""
    deadline = time.monotonic() + patience_s
    while (used := others_now()) > cores and time.monotonic() < deadline:
        pass
    return used


def _show(connection: psycopg.Connection[tuple[str, ...]], name: str) -> str:
    row = connection.execute(f"SHOW {name}").fetchone()
    assert row is not None
    return str(row[0])


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
