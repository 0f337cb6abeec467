"""Exports of many rows, written by the control worker as in service: rows a second, memory, size.

What is measured is the whole of it, from the order until the file can be loaded: reading, CSV, compression, encryption,
storing and the checksum.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from apps.analytics.exports.registry import resource_of
from apps.analytics.exports.services import Requester, export_create
from apps.analytics.models.exports import OPEN_STATES, Export, ExportState
from apps.messaging.models import Dispatch
from apps.messaging.partitions import make_partitions
from apps.tenants.models import Application
from apps.tenants.scopes import SCOPES
from bench import machine, seeding
from bench.accounting import Meter, peak_rss_mb, tree
from bench.fleet import Fleet
from bench.harness import PLAIN, Bench, make_campaign
from bench.report import Goal
from tools.supervisor import StackError

PART = "exports"
RSS_MAX = Goal(200, at_most=True)
POLL_S = 0.1
SLOWEST_PER_S = 2_000.0
GROUPS = ("control", "PostgreSQL")


class Case(NamedTuple):
    name: str
    kind: str
    fields: dict[str, Any] = {}
    columns: tuple[str, ...] = ()
    """Beside the usual ones."""


CASES = (
    Case("messages", "messages"),
    Case("messages, masked and gzipped", "messages", {"masked": True, "gzip": True}),
    Case("messages with their content", "messages", columns=("title", "body", "data", "country_code")),
    Case("message events", "message_events"),
    Case("subscriptions", "subscriptions"),
    Case("subscriptions with tokens", "subscriptions", columns=("token",)),
)


def run(bench: Bench) -> None:
    """`--subscriptions` rows of each kind."""
    rows = bench.options.subscriptions
    make_partitions()
    application = bench.application(rows)
    bench.clear_messages()
    _fill(bench, application, rows)
    # One process for all cases, so that the peak is the most that any of them took.
    with bench.fleet(workers=0, env={"PRIVATE_FILES_DIR": str(bench.folder / "files")}) as fleet:
        for case in CASES:
            if bench.wants(case.name):
                _measure(bench, fleet, application, case, rows)


def _measure(bench: Bench, fleet: Fleet, application: Application, case: Case, rows: int) -> None:
    others = machine.wait_for_rest(bench.options.wait)
    load = machine.load()
    control = fleet.groups()["control"]
    meter = Meter({"control": control, "PostgreSQL": [bench.postmaster]})
    with meter:
        began = time.monotonic()
        export = _finished(bench, _order(application, case), rows)
        seconds = time.monotonic() - began
    if export.rows_written != rows:
        raise StackError(f"{case.name}: {export.rows_written} rows of {rows} are in the file")
    add = bench.report.add
    add(PART, case.name, "rows", rows)
    add(PART, case.name, "rate", rows / seconds, "rows/s")
    add(PART, case.name, "took", seconds, "s")
    add(PART, case.name, "file", export.bytes_written / 1e6, "MB")
    add(PART, case.name, "worker peak", max(map(peak_rss_mb, tree(control))), "MB", goal=RSS_MAX)
    for group in GROUPS:
        add(PART, case.name, group, meter.usage.cpu_s.get(group, 0.0) / rows * 1e6, "µs/row")
    add(PART, case.name, "others", others, "cores")
    add(PART, case.name, "load", load, "at start")
    bench.say(f"{case.name}: {rows / seconds:,.0f} rows/s, {export.bytes_written / 1e6:,.0f} MB")


def _order(application: Application, case: Case) -> Export:
    resource = resource_of(case.kind)
    since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    return export_create(
        application=application,
        kind=case.kind,
        requester=Requester("bench", "", frozenset(SCOPES)),
        filters={"since": since},
        columns=[*resource.default_columns(), *case.columns],
        **case.fields,
    )


def _finished(bench: Bench, export: Export, rows: int) -> Export:
    give_up_at = time.monotonic() + 60 + rows / SLOWEST_PER_S
    while export.state in OPEN_STATES:
        for child in bench.supervisor.ended():
            raise StackError(f"{child.spec.name} ended in the middle (see {child.log})")
        if time.monotonic() > give_up_at:
            raise StackError(f"the export does not end (see {bench.supervisor.logs})")
        time.sleep(POLL_S)
        export.refresh_from_db()
    if export.state != ExportState.DONE:
        raise StackError(f"the export has {export.state}: {export.last_error}")
    return export


def _fill(bench: Bench, application: Application, rows: int) -> None:
    """A sent campaign to everybody: a message and an event for each."""
    campaign = make_campaign(application)
    at = datetime.now(UTC) - timedelta(minutes=1)
    prefix = f"{(int(at.timestamp() * 1_000) << 16) | (7 << 12):016x}"
    Dispatch.objects.create(
        id=campaign.pk, application=application, channel_type="push", priority="low", audience={}, ttl_s=3_600, **PLAIN
    )
    bench.sql(_MESSAGES, [prefix, campaign.pk, campaign.pk, at, at, application.pk, rows])
    bench.sql(_EVENTS, [application.pk])
    seeding.vacuum(bench.stores.database_url, "messaging_message", "messaging_messageevent")
    bench.say(f"{rows:,} messages made")


# A UUIDv7 whose last 62 bits count up: rising with the subscription, as a real campaign's are.
_MESSAGES = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                                   status, attempts, created_at, sent_at)
    SELECT (%s || '8' || lpad(to_hex(row_number() OVER () << 8), 15, '0'))::uuid, s.application_id, %s, %s, s.id,
           s.user_id, 'push', 'successful', 1, %s, %s
    FROM (SELECT id, user_id, application_id FROM subscriptions_subscription WHERE application_id = %s
          ORDER BY id LIMIT %s) s
"""
_EVENTS = """
    INSERT INTO messaging_messageevent (id, application_id, message_id, event_type, occurred_at)
    SELECT overlay(id::text PLACING '01' FROM 35)::uuid, application_id, id, 'successful', sent_at
    FROM messaging_message WHERE application_id = %s ORDER BY id
"""
