"""Imports of many lines, checked and applied by the control worker as in service: lines a second, and memory.

What is measured is the upload, and the work on what was uploaded: reading and decrypting, the rules, the look-ups, the
rows, their events and commits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from apps.subscriptions.imports.models import Import, ImportKind, ImportState
from apps.subscriptions.imports.services import ImportOptions, import_apply, import_create
from apps.tenants.models import Application
from bench import machine
from bench.accounting import Meter, peak_rss_mb, tree
from bench.fleet import Fleet
from bench.harness import Bench
from bench.report import Goal
from tools.supervisor import StackError

PART = "imports"
RATE_OF_USERS = Goal(10_000)
RSS_MAX = Goal(300, at_most=True)
POLL_S = 0.1
SLOWEST_PER_S = 500.0
LINES_IN_CHUNK = 10_000
GROUPS = ("control", "PostgreSQL")


class Case(NamedTuple):
    name: str
    kind: ImportKind
    header: str
    line: Callable[[int], str]
    goal: Goal | None = None


CASES = (
    Case(
        "users",
        ImportKind.USERS,
        "external_id,properties.name,properties.age:number",
        lambda n: f"imported-{n},Name {n},{n % 90}",
        RATE_OF_USERS,
    ),
    Case(
        "e-mail subscriptions with users",
        ImportKind.SUBSCRIPTIONS,
        "type,token,external_id,enabled,country,tags.plan",
        lambda n: f"Email,person{n}@example.com,imported-{n},yes,KR,pro",
    ),
    Case(
        "push subscriptions",
        ImportKind.SUBSCRIPTIONS,
        "type,token,enabled,country,device_model,app_version",
        lambda n: f"iOSPush,{n:064x},yes,KR,iPhone17_1,2.{n % 30}.0",
    ),
)


def run(bench: Bench) -> None:
    """`--subscriptions` lines of each kind, on an application of their own: new ones, then the same file again."""
    application = Application.objects.create(name="imports")
    with bench.fleet(workers=0) as fleet:
        for case in CASES:
            if bench.wants(case.name):
                _measure(bench, fleet, application, case, again=False)
                _measure(bench, fleet, application, case, again=True)


def _measure(bench: Bench, fleet: Fleet, application: Application, case: Case, *, again: bool) -> None:
    rows = bench.options.subscriptions
    name = f"{case.name}, unchanged" if again else case.name
    others = machine.wait_for_rest(bench.options.wait)
    load = machine.load()
    control = fleet.groups()["control"]
    meter = Meter({"control": control, "PostgreSQL": [bench.postmaster]})
    with meter:
        began = time.monotonic()
        imported = import_create(
            application=application,
            kind=case.kind,
            file_name=f"{case.kind}.csv",
            chunks=_file(case, rows),
            options=ImportOptions(),
            by="bench",
        )
        uploaded = time.monotonic()
        imported = _reached(bench, imported, ImportState.CHECKED, rows)
        checked = time.monotonic()
        import_apply(application=application, import_id=imported.pk, by="bench")
        imported = _reached(bench, imported, ImportState.DONE, rows)
        applied = time.monotonic()
    done = imported.unchanged_rows if again else imported.created_rows + imported.updated_rows + imported.unchanged_rows
    if done != rows:
        raise StackError(f"{name}: {imported.counts} of {rows} lines")
    add = bench.report.add
    add(PART, name, "lines", rows)
    add(PART, name, "uploaded", imported.file_bytes / 1e6 / (uploaded - began), "MB/s")
    add(PART, name, "checked", rows / (checked - uploaded), "lines/s")
    add(PART, name, "applied", rows / (applied - checked), "lines/s", goal=None if again else case.goal)
    add(PART, name, "worker peak", max(map(peak_rss_mb, tree(control))), "MB", goal=RSS_MAX)
    for group in GROUPS:
        add(PART, name, group, meter.usage.cpu_s.get(group, 0.0) / rows * 1e6, "µs/line")
    add(PART, name, "others", others, "cores")
    add(PART, name, "load", load, "at start")
    bench.say(f"{name}: checked {rows / (checked - uploaded):,.0f}/s, applied {rows / (applied - checked):,.0f}/s")


def _file(case: Case, rows: int) -> Iterator[bytes]:
    yield f"{case.header}\n".encode()
    for first in range(0, rows, LINES_IN_CHUNK):
        yield "".join(f"{case.line(n)}\n" for n in range(first, min(first + LINES_IN_CHUNK, rows))).encode()


def _reached(bench: Bench, imported: Import, state: ImportState, rows: int) -> Import:
    give_up_at = time.monotonic() + 60 + rows / SLOWEST_PER_S
    while imported.state != state:
        for child in bench.supervisor.ended():
            raise StackError(f"{child.spec.name} ended in the middle (see {child.log})")
        if not imported.is_open or time.monotonic() > give_up_at:
            raise StackError(f"the import is {imported.state}: {imported.last_error} (see {bench.supervisor.logs})")
        time.sleep(POLL_S)
        imported.refresh_from_db()
    return imported
