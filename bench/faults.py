"""`./run bench faults`: each fault of tests/faults strikes a campaign of 50,000 while single messages are posted.

On a platform of its own (PostgreSQL with fsync, Redis, web, workers, beat, stand-in providers), since the session's
must not be killed. `--cases TEXT` takes the faults whose name holds TEXT, `--recipients N` another size. What is
printed is the time from the fault until the last result was recorded; a fault that broke a promise is printed as such,
and the next one gets a new platform.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from bench.harness import Bench
from bench.report import Goal
from tests.faults.catalogue import FAULTS
from tests.faults.ordeal import Report, undergo
from tests.faults.stack import FULL, Failed, Stack

RECIPIENTS = 50_000
SETTLES_WITHIN_S = 600.0


def run(bench: Bench) -> None:
    """Every fault once; a figure `kept` is 1 where all promises held."""
    asked = int(bench.options.recipients)
    size = replace(FULL, recipients=RECIPIENTS if asked == 100_000 else asked)  # 100,000 is the command's default
    with contextlib.ExitStack() as ending:
        stack: Stack | None = None
        for name, fault in FAULTS.items():
            if not bench.wants(name):
                continue
            if stack is None:
                stack = ending.enter_context(Stack(size, durable=True))
            try:
                report = undergo(stack, name, fault.full(), timeout_s=SETTLES_WITHIN_S)
            except Failed as broken:
                bench.say(f"BROKEN {name}: {broken}")
                bench.report.add("faults", name, "kept", 0, "", goal=Goal(1))
                ending.close()
                stack = None
                continue
            bench.say(told(report))
            bench.report.add("faults", name, "kept", 1, "", goal=Goal(1))
            bench.report.add("faults", name, "recovery", report.recovery_s, "s")
            bench.report.add("faults", name, "sent twice", report.figures.twice, "")
            bench.report.add("faults", name, "slowest POST", report.slowest_post_s, "s")


def told(report: Report) -> str:
    """One line for people."""
    parts = [
        f"{report.name}: {report.recovery_s:.1f} s until the last of {report.figures.messages} results",
        f"{report.figures.twice} sent twice (at most {report.duplicates_max})",
        f"{report.singles} single messages, slowest POST {report.slowest_post_s:.1f} s",
        f"refused {report.refusals}" if report.refusals else "",
        f"restarted by the supervisor: {', '.join(report.restarted)}" if report.restarted else "",
        *(f"{what}: {value}" for what, value in report.notes.items()),
        f"load {os.getloadavg()[0]:.1f}",
    ]
    return "; ".join(filter(None, parts))
