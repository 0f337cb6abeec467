"""Whether it stays as fast: more recipients, more worker processes, a message table that is full already."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from apps.messaging.partitions import make_partitions
from bench import seeding
from bench.accounting import rss_mb
from bench.harness import Bench, Run, make_campaign
from bench.pipeline import add_runs, told
from bench.report import Goal

PART = "growth"
RATIO = "rate ratio"
"""Of the most recipients to the usual number, of two workers to one, of the full table to the empty one."""
CPU_RATIO = "CPU ratio"
"""The same of what the CPU would allow if nobody else used it: says something on a busy machine too."""
STEADY = Goal(0.9)
FLAT = Goal(1.1, at_most=True)
"""Memory after the largest campaign, to that after the usual one."""
WORKERS_GAIN = Goal(1.6)


def run(bench: Bench) -> None:
    _recipients(bench)
    _workers(bench)
    if bench.options.big:
        _full_table(bench)


def _recipients(bench: Bench) -> None:
    """A tenth of `--recipients`, all of them, and `--subscriptions`, one after the other on the same workers."""
    usual, most = bench.options.recipients, bench.options.subscriptions
    sizes = sorted({usual // 10, usual, most})
    runs: dict[int, Run] = {}
    memory: dict[int, float] = {}
    applications = {size: bench.application(size) for size in sizes}
    with bench.fleet() as fleet:
        bench.warm_up(fleet)
        for size in sizes:
            repeats = [bench.send(fleet, [applications[size]]) for _ in range(3 if size < most else 1)]
            memory[size] = max(map(rss_mb, fleet.worker_processes()))
            runs[size] = add_runs(bench, PART, f"{size:,} recipients", repeats)
            bench.say(f"{size:,} recipients: {told(runs[size])}")
    large = f"{most:,} recipients"
    bench.report.add(PART, large, RATIO, runs[most].rate / runs[usual].rate, goal=STEADY)
    bench.report.add(PART, large, CPU_RATIO, runs[usual].cpu_s_each / runs[most].cpu_s_each)
    bench.report.add(PART, large, "memory ratio", memory[most] / memory[usual], goal=FLAT)


def _workers(bench: Bench) -> None:
    """One process, then two. The goal holds while cores last: it is judged only where they do."""
    application = bench.application(bench.options.recipients)
    found: dict[int, Run] = {}
    for workers in (1, 2):
        with bench.fleet(workers=workers) as fleet:
            bench.warm_up(fleet)
            repeats = [bench.send(fleet, [application]) for _ in range(bench.options.runs)]
        case = f"{workers} worker process{'es' if workers > 1 else ''}"
        found[workers] = add_runs(bench, PART, case, repeats)
        bench.say(f"{case}: {told(found[workers])}")
    gain = found[2].rate / found[1].rate
    cores_last = found[1].cores_used * WORKERS_GAIN.bound <= bench.machine.cores
    case = "2 worker processes"
    bench.report.add(PART, case, RATIO, gain, goal=WORKERS_GAIN if cores_last else None)
    if not cores_last:
        bench.say(
            f"one process already uses {found[1].cores_used:.2f} of {bench.machine.cores} cores: no goal to judge"
        )


# --- A full table --------------------------------------------------------------------------------------------------


def _full_table(bench: Bench) -> None:
    """The same campaign with an empty message table, and with one that holds `--big` rows in the same partition."""
    make_partitions()
    application = bench.application(bench.options.recipients)
    with bench.fleet() as fleet:
        bench.warm_up(fleet)
        empty = add_runs(
            bench, PART, "empty table", [bench.send(fleet, [application]) for _ in range(bench.options.runs)]
        )
        bench.clear_messages()
        rows = fill(bench, bench.options.big)
        case = f"{rows:,} messages there"
        full = add_runs(
            bench, PART, case, [bench.send(fleet, [application], keep=True) for _ in range(bench.options.runs)]
        )
    bench.say(f"empty table: {told(empty)}")
    bench.say(f"{case}: {told(full)}")
    bench.report.add(PART, case, RATIO, full.rate / empty.rate, goal=STEADY)
    bench.report.add(PART, case, CPU_RATIO, empty.cpu_s_each / full.cpu_s_each)


def fill(bench: Bench, rows: int) -> int:
    """Messages of earlier campaigns, sent, in the present month's partition; how many. A million in a few seconds.

    Each campaign goes to everybody of the largest audience or of the usual one, by turns and in the order of their ids,
    an hour after the one before: whoever gets the campaign that is measured has had others.
    The events of these messages are left out: they are in a table of their own, which is only appended to.
    """
    sizes = sorted({bench.options.recipients, bench.options.subscriptions})
    campaigns = [(make_campaign(bench.application(size)), size) for size in sizes]
    now = datetime.now(UTC)
    begins = datetime(now.year, now.month, 1, tzinfo=UTC)
    made = 0
    number = 0
    while made < rows:
        # Early in a month there may be little time behind us: campaigns are then closer together than an hour.
        at = min(begins + timedelta(hours=number), now - timedelta(minutes=1))
        assert at >= begins, "the first minute of a month has no past to fill"
        base = (int(at.timestamp() * 1_000) << 80) | (7 << 76) | (number << 64)
        campaign, size = campaigns[number % len(campaigns)]
        limit = min(size, rows - made)
        application_id = campaign.application_id
        bench.sql(
            _FILL,
            [f"{base >> 64:016x}", application_id, campaign.pk, campaign.pk, at, at, application_id, limit],
        )
        made += limit
        number += 1
        bench.say(f"{made:,} of {rows:,} messages made")
    seeding.vacuum(bench.stores.database_url, "messaging_message")
    return made


# A UUIDv7 whose last 62 bits count up: rising with the subscription, as a real campaign's are.
_FILL = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                                   status, attempts, created_at, sent_at)
    SELECT (%s || '8' || lpad(to_hex(row_number() OVER () << 8), 15, '0'))::uuid, %s, %s, %s, s.id, s.user_id, 'push',
           'successful', 1, %s, %s
    FROM (SELECT id, user_id FROM subscriptions_subscription WHERE application_id = %s ORDER BY id LIMIT %s) s
"""
