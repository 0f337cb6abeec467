"""What quotas and the ledger cost: the plain campaign with and without them, turn by turn."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager

from django.test.utils import override_settings

from apps.billing.services.quota import billing_of
from apps.tenants.models import Application
from bench.harness import Bench, Run
from bench.report import Goal, Spread

CASE = "plain, billing on and off"
RATIO = Goal(0.97)
POST_USAGE_S = 5
"""Twelve times as often as in service, so that posting takes part in runs of seconds."""


def compare(bench: Bench, part: str) -> None:
    """Each run with billing has one without beside it, in the other order the next time; the middle of their ratios."""
    application = bench.application(bench.options.recipients)
    runs: dict[bool, list[Run]] = {True: [], False: []}
    with _priced(bench, application):
        for number in range(bench.options.runs):
            for is_on in (True, False) if number % 2 == 0 else (False, True):
                runs[is_on].append(_run(bench, application, is_on))
    ratios = [on.rate / off.rate for on, off in zip(runs[True], runs[False], strict=True)]
    for is_on, name in ((True, "plain, billing on"), (False, "plain, billing off")):
        rates = Spread.of(run.rate for run in runs[is_on])
        bench.report.add(part, name, "rate", rates.median, "msg/s")
        bench.report.add(part, name, "range", str(rates))
        for group in ("workers", "PostgreSQL"):
            cpu = statistics.median(run.cpu_us(group) for run in runs[is_on])
            bench.report.add(part, name, group, cpu, "µs/msg")
    bench.report.add(part, "plain, billing on", "of the rate without", statistics.median(ratios), "", goal=RATIO)
    cpu_on, cpu_off = (statistics.median(run.cpu_s_each for run in runs[is_on]) for is_on in (True, False))
    bench.report.add(part, "plain, billing on", "of the CPU without", cpu_on / cpu_off)
    bench.say(f"billing on to off: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")


def _run(bench: Bench, application: Application, is_on: bool) -> Run:
    env = {"BILLING": str(is_on), "POST_USAGE_S": str(POST_USAGE_S)}
    with override_settings(BILLING=is_on), bench.fleet(env=env) as fleet:
        bench.warm_up(fleet)
        run = bench.send(fleet, [application])
    bench.say(f"billing {'on' if is_on else 'off'}: {run.rate:,.0f} messages/s (load {run.load:.2f})")
    return run


@contextmanager
def _priced(bench: Bench, application: Application) -> Iterator[None]:
    """Every message has a price and counts for finite quotas, so that a launch counts and locks all that it can."""
    billing_of(application)
    terms = "UPDATE billing_messagequota SET daily_quota = {0}, monthly_quota = {0}, unit_price = {1}"
    of_application = f"WHERE application_id = '{application.pk}'"
    bench.sql(f"{terms.format(10**12, '0.5')} {of_application}")
    bench.sql(f"UPDATE billing_billingprofile SET credit_limit = 1000000000000 {of_application}")
    yield
    bench.sql(f"{terms.format('NULL', '0')} {of_application}")
