"""`./run bench soak --minutes 30`: half load for long, and whether anything grows.

Campaigns follow each other with a pause as long as themselves, single messages are posted all the time. Every five
seconds memory, connections, file descriptors and queue lengths are looked at. What is printed is their median in the
first, the middle and the last tenth, and the slope of a line through them per hour, after a first fifth in which
caches fill, against a limit.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.harness import Bench
from bench.report import Goal
from tests.faults.ordeal import calm, is_completed
from tests.faults.stack import FULL, Failed, Stack
from tests.faults.traffic import launch, posting

LOOK_EVERY_S = 5.0
RECIPIENTS = 10_000
STUCK_AFTER_S = 600.0
LIMITS_PER_HOUR = {"memory": 30.0, "file descriptors": 10.0, "connections": 2.0, "queue": 10.0}
"""MiB of one process, descriptors of one process, connections of PostgreSQL in all, tasks in one queue."""
QUEUES = ("push.high", "push.medium", "push.low", "control")
JUDGED_FROM_MIN = 10
"""In a shorter run the slopes are noise."""
UNITS = {"memory": "MiB/h", "file descriptors": "/h", "connections": "/h", "queue": "/h"}
Samples = dict[tuple[str, str], list[tuple[float, float]]]


def run(bench: Bench) -> None:
    minutes = float(bench.options.minutes)
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
        bench.report.add("soak", "platform", "restarts", len(stack.restarted), "", goal=Goal(0, at_most=True))
        bench.report.add("soak", "platform", "slowest POST", singles.slowest_s, "s")
    for (what, who), points in sorted(samples.items()):
        growth = slope_per_hour(lowest_each_minute(points) if what == "queue" else points)
        limit = LIMITS_PER_HOUR[what]
        goal = Goal(limit, at_most=True) if minutes >= JUDGED_FROM_MIN else None
        begun, middle, ended = (median_around(points, share) for share in (0.05, 0.5, 0.95))
        seen = f"{begun:.0f} → {middle:.0f} → {ended:.0f}"
        bench.say(f"{what} of {who}: {seen}, {growth:+.1f} {UNITS[what]} (limit {limit:g})")
        bench.report.add("soak", who, what, seen)
        bench.report.add("soak", who, f"{what} growth", growth, UNITS[what], goal=goal)


def is_past(moment: float) -> bool:
    return time.monotonic() >= moment


def look_until(stack: Stack, samples: Samples, is_over: Callable[[], bool]) -> None:
    """Sample until `is_over()`. Raises `Failed` if it never is."""
    give_up_at = time.monotonic() + STUCK_AFTER_S
    while not is_over():
        if time.monotonic() > give_up_at:
            raise Failed(f"a campaign of {RECIPIENTS:,} does not end within {STUCK_AFTER_S:.0f} s")
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
    with contextlib.closing(stack.redis()) as client:
        for queue in QUEUES:
            samples["queue", queue].append((now, int(client.llen(queue))))


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


def lowest_each_minute(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A queue fills with each campaign; what must not grow is what is left when the workers have caught up."""
    lowest: dict[int, float] = {}
    for moment, value in points:
        minute = int(moment // 60)
        lowest[minute] = min(value, lowest.get(minute, value))
    return [(minute * 60.0, value) for minute, value in lowest.items()]


def median_around(points: Sequence[tuple[float, float]], share: float) -> float:
    """Of the tenth of all samples around this share of the time."""
    wing = max(1, len(points) // 20)
    at = int(len(points) * share)
    return statistics.median(value for _, value in points[max(0, at - wing) : at + wing])


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float:
    """Of the line of least squares, without the first fifth."""
    settled = points[len(points) // 5 :]
    if len(settled) < 2:
        return 0.0
    mean_x = sum(x for x, _ in settled) / len(settled)
    mean_y = sum(y for _, y in settled) / len(settled)
    spread = sum((x - mean_x) ** 2 for x, _ in settled)
    return 3_600 * sum((x - mean_x) * (y - mean_y) for x, y in settled) / spread if spread else 0.0
