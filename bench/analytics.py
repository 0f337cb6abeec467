"""Statistics of many messages: how fast questions about 30 days are answered, and what it costs to count.

Messages of two campaigns a day are made in the server with the events that they would have: 3 % failed, 60 % received
after one second to a day and a half, 10 % opened. Positions are given out as by slices of 1,000 results and receipts of
as many messages. The questions are those of the API, in this process, each after the one before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apps.analytics import audience_days, fills, rebuild, selectors
from apps.analytics.metrics import ROLLUPS, Source
from apps.analytics.models.rollups import DEVICE_DIMENSIONS, Wait
from apps.analytics.selectors import Period, Step
from apps.messaging.models import Dispatch, MessageTemplateVersion
from apps.messaging.partitions import make_partitions
from apps.tenants.models import Application
from automata_signal.ids import IdRange
from bench import machine, seeding
from bench.accounting import Meter
from bench.harness import Bench, make_campaign
from bench.report import Goal
from tools.supervisor import StackError

PART = "analytics"
DAYS = 30
CAMPAIGNS = 2 * DAYS
REPEATS = 5
QUESTION_MAX = Goal(200, at_most=True)
FRESH_MAX = Goal(500, at_most=True)
FRESH_MESSAGES = 1_000
SLICE = 1_000
"""Messages whose results, or receipts, are one transaction."""
LIFTED = 1_000_000_000
"""The positions of what is made here are below this, those of all that is written later above."""


def run(bench: Bench) -> None:
    application = bench.application(bench.options.recipients)
    machine.wait_for_rest(bench.options.wait)
    events = seed_month(bench, application)
    _fill(bench, events)
    _ask(bench, application)
    _fresh(bench, application)
    _rebuild(bench)


# --- What happened ---------------------------------------------------------------------------------------------------


def seed_month(bench: Bench, application: Application) -> int:
    """Make `--messages` messages of the last 30 days; how many events they have."""
    bench.clear_messages()
    bench.sql(f"TRUNCATE {', '.join(rollup.table for rollup in ROLLUPS)}, analytics_fillstate")
    bench.sql(
        "CREATE OR REPLACE FUNCTION event_position_offset() RETURNS bigint LANGUAGE sql IMMUTABLE"
        f" AS 'SELECT {LIFTED}::bigint'"
    )
    bench.sql(_NUMBER_AUDIENCE, [application.pk])
    bench.sql("ANALYZE bench_audience")
    begins = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    make_partitions(today=begins.date(), months_ahead=DAYS // 28 + 1)
    version = MessageTemplateVersion.objects.filter(template__application=application).get()
    messages, began, position = bench.options.messages // CAMPAIGNS, time.monotonic(), 1
    for number in range(CAMPAIGNS):
        order = Dispatch.objects.create(
            application=application,
            campaign_id=make_campaign(application).pk,
            template_version=version if number % 3 == 0 else None,
            channel_type="push" if number % 5 else "email",
            priority="low",
            ttl_s=3_600,
        )
        at = begins + timedelta(hours=12 * number)
        position = _make_campaigns_past(bench, order, at, messages, position)
        if number % 10 == 9:
            bench.say(f"{(number + 1) * messages:,} messages made in {time.monotonic() - began:.0f} s")
    scope = {"application_id": application.pk, "audience": bench.options.recipients}
    bench.sql(_SUBSCRIPTION_EVENTS, {**scope, "begins": begins, "position": position})
    seeding.vacuum(bench.stores.database_url, "messaging_message", "messaging_messageevent")
    ((events,),) = bench.sql("SELECT count(*) FROM messaging_messageevent")
    bench.report.add(PART, "events", "messages", messages * CAMPAIGNS)
    bench.report.add(PART, "events", "events", events)
    return int(events)


def _make_campaigns_past(bench: Bench, order: Dispatch, at: datetime, messages: int, position: int) -> int:
    """Messages and events of one campaign; the position after the last."""
    base = IdRange(UUID(int=(int(at.timestamp() * 1_000) << 80) | (7 << 76) | (2 << 62))).base
    high = str(base).replace("-", "")[:16]
    parameters: dict[str, Any] = {
        "high": high,
        "application_id": order.application_id,
        "dispatch_id": order.pk,
        "campaign_id": order.campaign_id,
        "channel_type": order.channel_type,
        "at": at,
        "messages": messages,
        "audience": bench.options.recipients,
        "first": base,
        "last": f"{high}8{messages << 8:015x}",
        "slice": SLICE,
    }
    bench.sql(_BATCH, parameters)
    bench.sql(_MESSAGES, parameters)
    slices = messages // SLICE + 1
    for turn, (state, column, byte) in enumerate(_STATES):
        parameters |= {"state": state, "position": position + turn * slices, "byte": byte}
        bench.sql(_EVENTS.format(column=column), parameters)
    return position + len(_STATES) * slices


_STATES = (
    ("successful", "sent_at", "01"),
    ("failed", "failed_at", "04"),
    ("received", "received_at", "02"),
    ("converted", "converted_at", "03"),
)
_NUMBER_AUDIENCE = """
    CREATE UNLOGGED TABLE bench_audience AS
    SELECT row_number() OVER (ORDER BY id) - 1 AS n, id
    FROM subscriptions_subscription WHERE application_id = %s
"""
_BATCH = """
    INSERT INTO messaging_dispatchbatch (id, application_id, dispatch_id, subscription_type, priority, state, due_at,
        expires_at, claims, recipient_count, created_at, finished_at, receipts_closed, has_failed, first_id)
    SELECT gen_random_uuid(), %(application_id)s, %(dispatch_id)s, 'iOSPush', 'low', 'done', %(at)s, %(at)s, 1,
           %(messages)s, %(at)s, %(at)s, false, false, %(first)s
"""
# The same for all that ask: the fate of a message follows from its number.
_MESSAGES = """
    INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, channel_type, status,
                                   attempts, created_at, sent_at, received_at, converted_at, failed_at, error_reason)
    SELECT (%(high)s || '8' || lpad(to_hex(m.n << 8), 15, '0'))::uuid, %(application_id)s, %(dispatch_id)s,
           %(campaign_id)s, a.id, %(channel_type)s,
           CASE WHEN fate < 3 THEN 'failed' WHEN fate < 13 THEN 'converted' WHEN fate < 63 THEN 'received'
                ELSE 'successful' END,
           1, %(at)s,
           CASE WHEN fate >= 3 THEN sent END,
           CASE WHEN fate BETWEEN 3 AND 62 THEN sent + wait END,
           CASE WHEN fate BETWEEN 3 AND 12 THEN sent + wait * 1.5 END,
           CASE WHEN fate < 3 THEN sent END,
           CASE WHEN fate < 3 THEN (ARRAY['Unregistered', 'BadDeviceToken', 'expired'])[fate + 1] END
    FROM (SELECT n, (n * 7919 %% 100)::int AS fate, %(at)s::timestamptz + n / 1000 * interval '50 ms' AS sent,
                 power(2, (n * 31 %% 1700 / 100.0)::float8) * interval '1 s' AS wait
          FROM generate_series(1, %(messages)s::bigint) AS n(n)) m
         JOIN bench_audience a ON a.n = m.n %% %(audience)s
    ORDER BY m.n
"""
_EVENTS = """
    INSERT INTO messaging_messageevent (id, application_id, message_id, event_type, occurred_at, position)
    SELECT overlay(id::text PLACING %(byte)s FROM 35)::uuid, application_id, id, %(state)s, {column},
           %(position)s + row_number() OVER (ORDER BY id) / %(slice)s
    FROM messaging_message WHERE id BETWEEN %(first)s AND %(last)s::uuid AND {column} IS NOT NULL
"""
_SUBSCRIPTION_EVENTS = """
    INSERT INTO subscriptions_subscriptionevent (id, application_id, subscription_id, event_type, channel, source,
                                                 reason, old_status, new_status, occurred_at, position)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(g), 12, '0')
           )::uuid, %(application_id)s, a.id, CASE WHEN g %% 3 = 0 THEN 'unsubscribed' ELSE 'subscribed' END, 'iOSPush',
           'device', '', 0, CASE WHEN g %% 3 = 0 THEN -2 ELSE 1 END, at, %(position)s + g / 1000
    FROM (SELECT g, %(begins)s::timestamptz + g * interval '25 s' AS at FROM generate_series(1, 100000) AS g(g)) e
         JOIN bench_audience a ON a.n = g %% %(audience)s
"""


# --- Counting --------------------------------------------------------------------------------------------------------


def _fill(bench: Bench, events: int) -> None:
    with Meter({"PostgreSQL": [bench.postmaster]}) as meter:
        began = time.monotonic()
        while fills.fill_all(max_s=20):
            pass
        seconds = time.monotonic() - began
    ((counted,),) = bench.sql("SELECT sum(events) FROM analytics_fillstate WHERE name = %s", [Source.MESSAGES])
    if counted != events:
        raise StackError(f"{events} events were made and {counted} counted")
    _add_rates(bench, "fill", events, seconds, meter)
    for rollup in ROLLUPS:
        ((rows,),) = bench.sql(f"SELECT count(*) FROM {rollup.table}")
        bench.report.add(PART, "rows", rollup.table.removeprefix("analytics_"), rows)


def _rebuild(bench: Bench) -> None:
    before = bench.sql(_SUMS)
    with Meter({"PostgreSQL": [bench.postmaster]}) as meter:
        began = time.monotonic()
        events = rebuild.rebuild_run(rebuild.rebuild_start())
        seconds = time.monotonic() - began
    ((filled,),) = bench.sql("SELECT sum(events) FROM analytics_fillstate")
    if events != filled or bench.sql(_SUMS) != before:
        raise StackError(f"the rebuild gave other numbers than the fills: {events} events instead of {filled}")
    _add_rates(bench, "rebuild", events, seconds, meter)


_SUMS = "SELECT sum(sent), sum(failed), sum(received), sum(converted), count(*) FROM analytics_messagehour"


def _add_rates(bench: Bench, case: str, events: int, seconds: float, meter: Meter) -> None:
    bench.report.add(PART, case, "rate", events / seconds, "events/s")
    bench.report.add(PART, case, "CPU", meter.usage.cpu_s["PostgreSQL"] / events * 1e6, "µs/event")
    bench.report.add(PART, case, "took", seconds, "s")
    bench.say(f"{case}: {events:,} events in {seconds:.0f} s")


def _fresh(bench: Bench, application: Application) -> None:
    """What a fill costs while all is quiet, and when a slice was sent: it must not depend on what lies behind."""
    order = Dispatch.objects.filter(application=application).latest("id")
    times = []
    for turn in range(REPEATS):
        at = datetime.now(UTC)
        _make_campaigns_past(bench, order, at, FRESH_MESSAGES, LIFTED - 1_000 * (REPEATS - turn))
        bench.sql("UPDATE analytics_fillstate SET watermark = %s", [LIFTED - 1_000 * (REPEATS - turn)])
        began = time.monotonic()
        fills.fill_all(max_s=20)
        times.append((time.monotonic() - began) * 1_000)
    bench.report.add(PART, "fill of a slice", "time", statistics.median(times), "ms", goal=FRESH_MAX)
    began = time.monotonic()
    fills.fill_all(max_s=20)
    bench.report.add(PART, "fill of nothing", "time", (time.monotonic() - began) * 1_000, "ms")


# --- Questions -------------------------------------------------------------------------------------------------------


def _ask(bench: Bench, application: Application) -> None:
    now = datetime.now(UTC)
    began = time.monotonic()
    audience_days.audience_day_take(application=application, day=now.date(), now=now)
    bench.report.add(PART, "audience of a day", "time", (time.monotonic() - began) * 1_000, "ms")
    seeding.vacuum(bench.stores.database_url, *(rollup.table for rollup in ROLLUPS))
    period = selectors.days_of(application=application, days=DAYS)
    for name, question in _questions(application, period).items():
        if not bench.wants(name):
            continue
        times = [_timed(question) for _ in range(REPEATS)]
        bench.report.add(PART, name, "time", statistics.median(times), "ms", goal=QUESTION_MAX)
        bench.report.add(PART, name, "slowest", max(times), "ms")


def _questions(application: Application, period: Period) -> dict[str, Callable[[], Any]]:
    about: dict[str, Any] = {"application": application, "period": period}
    questions: dict[str, Callable[[], Any]] = {
        "totals": lambda: selectors.message_totals(**about),
        "failures by reason": lambda: selectors.failures_by_reason(**about),
        "series by day": lambda: selectors.message_series(**about, step=Step.DAY),
        "series by hour": lambda: selectors.message_series(**about, step=Step.HOUR),
        "by channel": lambda: selectors.by_channel(**about),
        "by hour of day": lambda: selectors.by_hour_of_day(**about),
        "campaigns": lambda: selectors.by_campaign(**about),
        "templates": lambda: selectors.by_template(**about),
        "subscriptions": lambda: selectors.subscription_changes(**about),
        "active users": lambda: selectors.active_users(**about),
        "SDK figures": lambda: selectors.sdk_figures(**about),
        "costs": lambda: selectors.costs(**about),
    }
    for dimension in DEVICE_DIMENSIONS:
        questions[f"by {dimension}"] = lambda d=dimension: selectors.by_dimension(**about, dimension=d)
    for wait in Wait:
        questions[f"time to {wait}"] = lambda w=wait: selectors.waiting_times(**about, wait=w)
    return questions


def _timed(question: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.monotonic()
    question()
    return (time.monotonic() - began) * 1_000
