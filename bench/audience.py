"""Counting and cutting audiences of many subscriptions: by tag, country, version and last activity.

PostgreSQL's CPU stands beside the times: it says the same on a busy machine, and a count is shared by all cores.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import psycopg

from apps.campaigns.selectors import audience_count
from apps.campaigns.services import campaign_launch
from bench import machine
from bench.accounting import Meter
from bench.harness import Bench, make_campaign
from bench.report import Goal
from tools.supervisor import StackError

PART = "audience"
COUNT_MAX = Goal(300, at_most=True)
FAN_OUT = Goal(100_000)
REPEATS = 5
POLL_S = 0.01
GIVE_UP_S = 600.0


class Case(NamedTuple):
    name: str
    criteria: dict[str, Any]


CASES = (
    Case("everybody", {}),
    Case("tag: plan is pro (8 %)", {"field": "tags.plan", "op": "eq", "value": "pro"}),
    Case("tag: plan is free (70 %)", {"field": "tags.plan", "op": "eq", "value": "free"}),
    Case("country: KR (55 %)", {"field": "country", "op": "eq", "value": "KR"}),
    Case("country: DE (10 %)", {"field": "country", "op": "eq", "value": "DE"}),
    Case("version: app >= 2.10 (60 %)", {"field": "app_version", "op": "gte", "value": "2.10"}),
    Case("activity: within 7 days (28 %)", {"field": "last_active_at", "op": "within", "value": "7d"}),
    Case("activity: older than 60 days (18 %)", {"field": "last_active_at", "op": "older_than", "value": "60d"}),
    Case(
        "KR, app >= 2.10, active in 30 days, not pro",
        {
            "all": [
                {"field": "country", "op": "eq", "value": "KR"},
                {"field": "app_version", "op": "gte", "value": "2.10"},
                {"field": "last_active_at", "op": "within", "value": "30d"},
                {"not": {"field": "tags.plan", "op": "eq", "value": "pro"}},
            ]
        },
    ),
)


def run(bench: Bench) -> None:
    """The fan-out is the control worker's, from the launch until the last slice is committed; nobody sends."""
    application = bench.application(bench.options.subscriptions)
    with bench.fleet(workers=0):
        for case in CASES:
            if not bench.wants(case.name):
                continue
            bench.clear_messages()
            bench.forget_queued()
            others = machine.wait_for_rest(bench.options.wait)
            load = machine.load()
            with _postgres(bench) as counting:
                times = [_count(application, case.criteria) for _ in range(REPEATS)]
            recipients = times[0][0]
            if not recipients:
                raise StackError(f"the audience {case.name!r} is empty")
            with _postgres(bench) as cutting:
                seconds = _fan_out(bench, application, case.criteria)
            add = bench.report.add
            add(PART, case.name, "recipients", recipients)
            add(PART, case.name, "count", statistics.median(ms for _, ms in times), "ms", goal=COUNT_MAX)
            add(PART, case.name, "slowest count", max(ms for _, ms in times), "ms")
            add(PART, case.name, "count's CPU", _cpu_s(counting) / REPEATS * 1_000, "ms")
            add(PART, case.name, "fan-out", recipients / seconds, "rows/s", goal=FAN_OUT)
            add(PART, case.name, "read", bench.options.subscriptions / seconds, "rows/s")
            add(PART, case.name, "fan-out took", seconds, "s")
            add(PART, case.name, "fan-out's CPU", _cpu_s(cutting) / recipients * 1e6, "µs/row")
            add(PART, case.name, "others", others, "cores")
            add(PART, case.name, "load", load, "at start")
            bench.say(f"{case.name}: {recipients:,} recipients")


def _postgres(bench: Bench) -> Meter:
    return Meter({"PostgreSQL": [bench.postmaster]})


def _cpu_s(meter: Meter) -> float:
    return meter.usage.cpu_s["PostgreSQL"]


def _count(application: Any, criteria: dict[str, Any]) -> tuple[int, float]:
    began = time.monotonic()
    found = audience_count(application=application, criteria=criteria, channel_type="push")
    return found, (time.monotonic() - began) * 1_000


def _fan_out(bench: Bench, application: Any, criteria: dict[str, Any]) -> float:
    """Seconds from the launch until the whole audience is in committed batches."""
    campaign = make_campaign(application, criteria=criteria)
    with psycopg.connect(bench.stores.database_url, autocommit=True, application_name="bench") as connection:
        began = time.monotonic()
        campaign_launch(campaign=campaign)
        while True:
            row = connection.execute(
                "SELECT fanout_done_at IS NOT NULL FROM campaigns_messagecampaign WHERE id = %s", [campaign.pk]
            ).fetchone()
            seconds = time.monotonic() - began
            if row and row[0]:
                return seconds
            for child in bench.supervisor.ended():
                raise StackError(f"{child.spec.name} ended in the middle (see {child.log})")
            if seconds > GIVE_UP_S:
                raise StackError(f"the fan-out does not end (see {bench.supervisor.logs})")
            time.sleep(POLL_S)
