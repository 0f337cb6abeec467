"""The API as production serves it: messages and receipts one at a time and in bulk, and registrations.

The web process is the Procfile's; PostgreSQL is durable; the load is a process of its own (`bench.load`). Messages are
accepted and stay in the queue: what sends them is measured by `pipeline` and `latency`. Receipts are of messages of one
campaign, so all of them count on one row, as after a real campaign; their order is random.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import orjson
import psycopg

from apps.messaging.named import RECIPIENTS_MAX
from apps.messaging.receipts.sdk import RECEIPTS_MAX
from apps.subscriptions.handles import handle_for
from apps.tenants.models import Application, KeyKind
from apps.tenants.services import RATE_PER_MINUTE_MAX, key_create
from automata_signal.ids import event_id, new_id, new_range
from bench import machine, seeding
from bench.accounting import Meter
from bench.harness import PLAIN, Bench, make_campaign
from bench.load import Loaded, post
from bench.report import Goal
from bench.web import Web
from tools.supervisor import StackError

PART = "api"
GROUPS = ("web", "PostgreSQL", "Redis")
BEHIND_A_PROXY = {"TRUSTED_PROXIES": "1"}
"""It says the phones' addresses, so that each has a rate of its own, as in service."""
WARM_UP_REQUESTS = 200
NO_ERRORS = Goal(0, at_most=True)


class Case(NamedTuple):
    name: str
    requests: Callable[[Stock, int], Iterator[bytes]]
    most: int
    """Requests at most; fewer for a small audience."""
    items: int = 1
    """Messages, receipts or registrations in one request."""
    rate: float = 0.0
    """Requests a second of an open load; 0: eight connections, each as fast as it is answered."""
    goal: Goal | None = None
    """Items a second."""
    p95: Goal | None = None
    status: str = "200"


class Stock:
    """What requests are made of: keys, people, and messages that were sent and wait for their receipts."""

    def __init__(self, bench: Bench, application: Application) -> None:
        self.bench, self.application = bench, application
        self.secret_key = self._key(KeyKind.SECRET)
        self.publishable_key = self._key(KeyKind.PUBLISHABLE)
        self.subscriptions: list[UUID] = [key for (key,) in bench.sql(_SUBSCRIPTIONS, [application.pk])]
        self.external_ids: list[str] = [name for (name,) in bench.sql(_EXTERNAL_IDS, [application.pk])]
        self.chance = random.Random(1)

    def _key(self, kind: KeyKind) -> str:
        new = key_create(
            application=self.application, name=kind, kind=kind, rate_per_minute=RATE_PER_MINUTE_MAX, by="bench"
        )
        return new.plaintext

    def sent_messages(self, count: int) -> list[tuple[UUID, UUID]]:
        """`count` messages of one campaign that a provider has taken, in no order: message and subscription."""
        campaign = make_campaign(self.application)
        rows = []
        for start in range(0, count, 1_000):
            ids = new_range()
            rows += [
                (ids.at(n), self.subscriptions[(start + n) % len(self.subscriptions)])
                for n in range(min(1_000, count - start))
            ]
        with psycopg.connect(self.bench.stores.database_url, application_name="bench") as connection:
            scope = f"{self.application.pk}\t{new_id()}\t{campaign.pk}"
            with connection.cursor() as cursor, cursor.copy(_COPY_MESSAGES) as copy:
                copy.write(
                    "".join(f"{key}\t{scope}\t{person}\tpush\tsuccessful\t1\tnow\tnow\n" for key, person in rows)
                )
            with connection.cursor() as cursor, cursor.copy(_COPY_EVENTS) as copy:
                app = self.application.pk
                copy.write("".join(f"{event_id(key, 1)}\t{app}\t{key}\tsuccessful\tnow\n" for key, _ in rows))
        seeding.vacuum(self.bench.stores.database_url, "messaging_message", "messaging_messageevent")
        self.chance.shuffle(rows)
        return rows


_SUBSCRIPTIONS = "SELECT id FROM subscriptions_subscription WHERE application_id = %s ORDER BY id"
_EXTERNAL_IDS = "SELECT external_id FROM subscriptions_appuser WHERE application_id = %s ORDER BY id"
_COPY_MESSAGES = (
    "COPY messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, channel_type, status,"
    " attempts, created_at, sent_at) FROM STDIN"
)
_COPY_EVENTS = "COPY messaging_messageevent (id, application_id, message_id, event_type, occurred_at) FROM STDIN"


# --- Requests ----------------------------------------------------------------------------------------------------


def messages(stock: Stock, count: int, each: int = 1) -> Iterator[bytes]:
    for n in range(count):
        start = n * each % max(1, len(stock.external_ids) - each)
        body = {
            "recipients": {"external_ids": stock.external_ids[start : start + each]},
            "priority": "high" if each == 1 else "low",
            **PLAIN,
        }
        yield post("/api/v1/messages", orjson.dumps(body), key=stock.secret_key, headers=_idempotency_key())


def bulk_messages(stock: Stock, count: int) -> Iterator[bytes]:
    return messages(stock, count, RECIPIENTS_MAX)


def _idempotency_key() -> str:
    return f"Idempotency-Key: {secrets.token_hex(16)}\r\n"


def receipts(stock: Stock, count: int) -> Iterator[bytes]:
    """As a phone sends them: with the publishable key, proved by the handle."""
    for message_id, subscription_id in stock.sent_messages(count):
        body = {"handle": handle_for(subscription_id, 1), "events": [_event(message_id)]}
        yield post("/api/v1/receipts", orjson.dumps(body), key=stock.publishable_key, headers=_a_phone(stock))


def bulk_receipts(stock: Stock, count: int) -> Iterator[bytes]:
    """As an app server hands on what it collected."""
    sent = stock.sent_messages(count * RECEIPTS_MAX)
    for start in range(0, len(sent), RECEIPTS_MAX):
        events = [_event(key) for key, _ in sent[start : start + RECEIPTS_MAX]]
        yield post("/api/v1/receipts", orjson.dumps({"events": events}), key=stock.secret_key)


def _a_phone(stock: Stock) -> str:
    return f"X-Forwarded-For: 10.{'.'.join(str(stock.chance.randrange(256)) for _ in range(3))}\r\n"


def _event(message_id: UUID) -> dict[str, str]:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return {"message_id": str(message_id), "type": "received", "occurred_at": now}


def registrations(stock: Stock, count: int) -> Iterator[bytes]:
    return _registrations(stock, [secrets.token_hex(32) for _ in range(count)])


def repeated_registrations(stock: Stock, count: int) -> Iterator[bytes]:
    """As an app registers at each start: all the same few devices."""
    return _registrations(stock, ([f"{n:064x}" for n in range(1, count // 10 + 2)] * 10)[:count])


def _registrations(stock: Stock, tokens: list[str]) -> Iterator[bytes]:
    for n, token in enumerate(tokens):
        body = {
            "type": "iOSPush",
            "token": token,
            "enabled": True,
            "device_model": "iPhone17,1",
            "device_os": "18.2",
            "device_language": "ko-KR",
            "app_version": f"2.{n % 10}.1",
            "sdk_version": "1.0.0",
            "country_code": "KR",
            "test_type": 0,
            "tags": {"plan": "plus", "vip": n % 20 == 0},
        }
        yield post("/api/v1/subscriptions", orjson.dumps(body), key=stock.publishable_key, headers=_a_phone(stock))


SINGLE_RATE = 200.0
CASES = (
    Case(
        "messages, 1 each, 200 requests/s",
        messages,
        most=4_000,
        rate=SINGLE_RATE,
        p95=Goal(200, at_most=True),
        status="202",
    ),
    Case("messages, 1 each, full speed", messages, most=5_000, status="202"),
    Case("messages, 2,000 each", bulk_messages, most=80, items=RECIPIENTS_MAX, status="202"),
    Case("receipts, 1 each", receipts, most=20_000, goal=Goal(1_500)),
    Case("receipts, 500 each", bulk_receipts, most=600, items=RECEIPTS_MAX, goal=Goal(30_000)),
    Case("registrations, new", registrations, most=10_000, status="201"),
    Case("registrations, again", repeated_registrations, most=10_000, status=""),
)


# --- Measuring ---------------------------------------------------------------------------------------------------


def run(bench: Bench) -> None:
    application = bench.application(bench.options.recipients)
    stock = Stock(bench, application)
    with Web(bench.supervisor, bench.folder, env=BEHIND_A_PROXY) as web:
        web.load(messages(stock, WARM_UP_REQUESTS))
        for case in CASES:
            if bench.wants(case.name):
                _measure(bench, web, stock, case)
    bench.clear_messages()


def _measure(bench: Bench, web: Web, stock: Stock, case: Case) -> None:
    bench.clear_messages()
    bench.flush_redis()
    requests = list(case.requests(stock, max(10, min(case.most, bench.options.recipients * 2 // case.items))))
    bench.sql("CHECKPOINT")
    machine.wait_for_rest(bench.options.wait)
    meter = Meter(
        {"web": [web.child.process.pid], "PostgreSQL": [bench.postmaster]},
        more={"Redis": bench.redis_cpu_s},
        database=bench.stores.database_url,
    )
    with meter:
        loaded = web.load(requests, rate=case.rate)
    _check(loaded, case)
    items = loaded.requests * case.items
    add = bench.report.add
    add(PART, case.name, "rate", items / loaded.seconds, "/s", goal=case.goal)
    add(PART, case.name, "requests", loaded.requests / loaded.seconds, "/s")
    add(PART, case.name, "median", loaded.median_ms, "ms")
    add(PART, case.name, "p95", loaded.p95_ms, "ms", goal=case.p95)
    add(PART, case.name, "p99", loaded.p99_ms, "ms")
    add(PART, case.name, "errors", loaded.errors + _refused(loaded, case), "", goal=NO_ERRORS)
    for group in GROUPS:
        add(PART, case.name, group, meter.usage.cpu_s[group] / items * 1e6, "µs each")
    add(PART, case.name, "load", loaded.cpu_s / items * 1e6, "µs each")
    add(PART, case.name, "connections", meter.usage.connections)
    add(PART, case.name, "others", meter.usage.others_cpu_s / loaded.seconds - loaded.cpu_s / loaded.seconds, "cores")
    bench.say(
        f"{case.name}: {items / loaded.seconds:,.0f}/s, median {loaded.median_ms:.1f} ms, p95 {loaded.p95_ms:.1f} ms,"
        f" {loaded.errors + _refused(loaded, case)} errors"
    )


def _refused(loaded: Loaded, case: Case) -> int:
    """Answers of another status than the case is about."""
    if not case.status:
        return sum(count for status, count in loaded.statuses.items() if not status.startswith("2"))
    return sum(count for status, count in loaded.statuses.items() if status != case.status)


def _check(loaded: Loaded, case: Case) -> None:
    """Raises `StackError` if receipts were answered but not taken: that speed would be of something else."""
    answered = loaded.requests - loaded.errors - _refused(loaded, case)
    if case.name.startswith("receipts") and loaded.accepted != answered * case.items:
        raise StackError(f"{case.name}: {loaded.accepted:,} of {answered * case.items:,} receipts were accepted")
