"""`./run bench soak --minutes 30`: half load for long, and whether anything grows.

Campaigns follow each other with a pause as long as themselves, single messages are posted all the time. Every five
seconds memory, connections, file descriptors and queue lengths are looked at; what is printed is the slope of a line
through them per hour, after a first fifth in which caches fill, against a limit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.harness import Bench
from bench.report import Goal
from tests.faults.ordeal import calm, is_completed
from tests.faults.stack import FULL, Stack
from tests.faults.traffic import launch, posting

LOOK_EVERY_S = 5.0
RECIPIENTS = 10_000
LIMITS_PER_HOUR = {"memory": 30.0, "file descriptors": 10.0, "connections": 2.0, "queue": 10.0}
"""MiB of one process, descriptors of one process, connections of PostgreSQL in all, tasks in all queues."""
UNITS = {"memory": "MiB/h", "file descriptors": "/h", "connections": "/h", "queue": "/h"}
Samples = dict[tuple[str, str], list[tuple[float, float]]]


def run(bench: Bench) -> None:
    minutes = float(getattr(bench.options, "minutes", 30.0))
    samples: Samples = defaultdict(list)
    with Stack(replace(FULL, recipients=RECIPIENTS, latency_ms=40), durable=True) as stack:
        calm(stack)
        ends_at = time.monotonic() + minutes * 60
        campaigns = 0
        with posting(stack) as singles:
            while time.monotonic() < ends_at:
                began = time.monotonic()
                campaign_id = launch(stack)
                look_until(stack, samples, partial(is_completed, stack, campaign_id))
                look_until(stack, samples, partial(is_past, min(ends_at, 2 * time.monotonic() - began)))
                for provider in stack.providers:
                    provider.control.reset("journal")
                campaigns += 1
        told = f"{campaigns} campaigns of {RECIPIENTS:,} and {len(singles.accepted)} single messages in {minutes:g} min"
        bench.say(f"{told}; refused {singles.refusals}; restarted {stack.restarted}; load {os.getloadavg()[0]:.1f}")
    for (what, who), points in sorted(samples.items()):
        growth = slope_per_hour(points)
        limit = LIMITS_PER_HOUR[what]
        bench.say(f"{what} of {who}: {points[-1][1]:.0f} at the end, {growth:+.1f} {UNITS[what]} (limit {limit:g})")
        bench.report.add("soak", who, f"{what} growth", growth, UNITS[what], goal=Goal(limit, at_most=True))


def is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def look_until(stack: Stack, samples: Samples, is_over: Callable[[], bool]) -> None:
    """Sample until `is_over()`."""
    while not is_over():
        look(stack, samples)
        until = time.monotonic() + LOOK_EVERY_S
        while time.monotonic() < until and not is_over():
            stack.keep_up()
            time.sleep(0.2)


def look(stack: Stack, samples: Samples) -> None:
    now = time.monotonic()
    for child in stack.supervisor.children:
        if child.spec.name in ("postgres", "apns", "fcm"):
            continue
        pids = family(child.process.pid)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            memory = sum(memory_mib(pid) for pid in pids)
            descriptors = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)
            samples["memory", child.spec.name].append((now, memory))
            samples["file descriptors", child.spec.name].append((now, descriptors))
    connections = stack.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'automata-%%'")
    samples["connections", "PostgreSQL"].append((now, connections))
    client = stack.redis()
    queues = ("push.high", "push.medium", "push.low", "control")
    waiting = sum(int(client.llen(queue)) for queue in queues)
    samples["queue", "Redis"].append((now, waiting))
    client.close()


def family(pid: int) -> list[int]:
    """The process and all that it started."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


def memory_mib(pid: int) -> float:
    """Proportional set size: memory shared between a pool's processes counts once."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Of the line of least squares, without the first fifth."""
    settled = points[len(points) // 5 :]
    if len(settled) < 2:
        return 0.0
    mean_x = sum(x for x, _ in settled) / len(settled)
    mean_y = sum(y for _, y in settled) / len(settled)
    spread = sum((x - mean_x) ** 2 for x, _ in settled)
    return 3_600 * sum((x - mean_x) * (y - mean_y) for x, y in settled) / spread if spread else 0.0
