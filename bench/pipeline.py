"""A campaign, half APNs half FCM or on another channel, from launch until every result and event is committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench import billing, channels
from bench.ceiling import add_ceilings
from bench.fleet import Behaviour
from bench.harness import Bench, Run
from bench.report import Goal, Spread

PART = "pipeline"
GROUPS = ("workers", "control", "PostgreSQL", "Redis", "providers")
"""Of processes. Control is its worker and beat."""
CONNECTIONS_MAX = Goal(50, at_most=True)
RSS_MAX = Goal(250, at_most=True)


class Case(NamedTuple):
    name: str
    behaviour: Behaviour = Behaviour()
    personalised: bool = False
    applications: int = 1
    goal: Goal | None = None
    """Messages a second. A case with a goal is run `--runs` times, the others once."""


SLOW = Behaviour(latency_ms=40, jitter_ms=20)
CASES = (
    Case("plain", goal=Goal(20_000)),
    Case("personalised", personalised=True, goal=Goal(15_000)),
    Case("plain, 2 % refused", Behaviour(refuse_share=0.02)),
    Case("plain, 30 % refused", Behaviour(refuse_share=0.3)),
    Case("personalised, 2 % refused", Behaviour(refuse_share=0.02), personalised=True),
    Case("plain, 40 ms", SLOW),
    Case("personalised, 40 ms", SLOW, personalised=True),
    Case("plain, two applications", applications=2),
)


def run(bench: Bench) -> None:
    if bench.options.channel != "push":
        channels.run(bench, PART, add_runs, told)
        return
    for case in CASES:
        if not bench.wants(case.name):
            continue
        each = bench.options.recipients // case.applications
        names = ["one", "two"][: case.applications]
        applications = [bench.application(each, name) for name in names]
        with bench.fleet(case.behaviour) as fleet:
            bench.warm_up(fleet)
            if case.name == CASES[0].name:
                for name in ("apns", "fcm"):
                    add_ceilings(bench, f"{PART}: providers", name, messages=2 * bench.options.recipients)
            runs = []
            for _ in range(bench.options.runs if case.goal else 1):
                runs.append(bench.send(fleet, applications, personalised=case.personalised))
                bench.say(f"{case.name}: {told(runs[-1])}")
        add_runs(bench, PART, case.name, runs, goal=case.goal)
    if bench.wants(billing.CASE):
        billing.compare(bench, PART)


def told(run: Run) -> str:
    return (
        f"{run.rate:,.0f} messages/s ({run.recipients:,} in {run.seconds:.2f} s, {run.cores_used:.2f} cores used,"
        f" others {run.others:.2f}, load {run.load:.2f})"
    )


def add_runs(bench: Bench, part: str, case: str, runs: Sequence[Run], *, goal: Goal | None = None) -> Run:
    """The figures of a case: rates of all runs, and the rest of the run with the middle rate, which is returned."""
    rates = Spread.of(run.rate for run in runs)
    middle = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
    add = bench.report.add
    add(part, case, "rate", rates.median, "msg/s", goal=goal)
    add(part, case, "range", str(rates))
    for group in GROUPS:
        add(part, case, group, middle.cpu_us(group), "µs/msg")
    add(part, case, "CPU allows", bench.machine.cores / middle.cpu_s_each, "msg/s")
    add(part, case, "WAL", middle.written.wal_bytes / middle.recipients, "B/msg")
    add(part, case, "tables", middle.written.message_bytes / middle.recipients, "B/msg")
    add(part, case, "commits", middle.written.commits / middle.recipients * 1_000, "/1,000")
    add(part, case, "worker peak", max(run.peak_rss_mb for run in runs), "MB", goal=RSS_MAX)
    add(part, case, "connections", max(run.usage.connections for run in runs), "", goal=CONNECTIONS_MAX)
    add(part, case, "used", middle.cores_used, "cores")
    add(part, case, "others", middle.others, "cores")
    add(part, case, "load", middle.load, "at start")
    return middle
