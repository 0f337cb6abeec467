"""What the machine could do: each part of the engine's work alone, their sum, and the pipeline's share of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.campaigns.services.fanout import STEP_RECIPIENTS
from apps.messaging.claims import Claim, claim_batch, finish_batch, move, renew_lease
from apps.messaging.dispatches import dispatch_slice
from apps.messaging.models import Dispatch, MessageStatus
from apps.messaging.partitions import make_partitions
from apps.messaging.recorders import record
from apps.messaging.recording import RECORD_SLICE
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, ChannelCredential
from automata_signal.ids import new_range
from bench import machine, profile
from bench.accounting import Meter
from bench.ceiling import add_ceilings, by_own_client
from bench.harness import Bench, make_campaign
from bench.pipeline import add_runs, told
from bench.report import Goal
from tools.supervisor import StackError

PART = "limit"
SHARE = Goal(0.6)
PREBUILT_PER_TRANSACTION = 5_000
COPY = """
    COPY messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                            status, attempts, title, body, data, created_at) FROM STDIN
"""
"""What the table has to take of a pending message."""


class Cost(NamedTuple):
    """A part of a message's way, alone: CPU µs of ours and of PostgreSQL, and messages a second of one process."""

    name: str
    rate: float
    ours_us: float
    postgres_us: float = 0.0
    provider_us: float = 0.0
    load: float = 0.0

    @property
    def sum_us(self) -> float:
        return self.ours_us + self.postgres_us + self.provider_us


def run(bench: Bench) -> None:
    make_partitions()
    count = bench.options.recipients
    application = bench.application(count)
    with bench.fleet() as fleet:
        sends = [_send(bench, application, name, count) for name in ("apns", "fcm")]
        bench.clear_messages()
        copied = _prebuilt_copy(bench, application, count)
        bench.clear_messages()
        cut, batch_ids = _fan_out(bench, application, count)
        made, claims = _claim(bench, application, batch_ids, count)
        settled = _record(bench, claims, count)
        parts = [_mean("send: decrypt, build, exchange, parse", sends), cut, made, settled]
        for cost in [*sends, copied, *parts[1:]]:
            _add(bench, cost)
        total = Cost("sum of the parts", bench.machine.cores * 1e6 / sum(c.sum_us for c in parts), *_sums(parts))
        _add(bench, total)
        bench.warm_up(fleet)
        runs = []
        for _ in range(bench.options.runs):
            runs.append(bench.send(fleet, [application]))
            bench.say(f"pipeline: {told(runs[-1])}")
    middle = sorted(runs, key=lambda r: r.rate)[len(runs) // 2]
    ours = middle.cpu_us("workers") + middle.cpu_us("control") + middle.cpu_us("Redis")
    spent = Cost("pipeline", middle.rate, ours, middle.cpu_us("PostgreSQL"), middle.cpu_us("providers"), middle.load)
    _add(bench, spent)
    bench.report.add(PART, "pipeline", "share of the sum", middle.rate / total.rate, "", goal=SHARE)
    bench.report.add(PART, "pipeline", "share by CPU", total.sum_us / spent.sum_us)
    add_runs(bench, f"{PART}: pipeline", "plain", runs)
    if bench.options.profile:
        _profiles(bench, application)


def _add(bench: Bench, cost: Cost) -> None:
    add = bench.report.add
    add(PART, cost.name, "rate", cost.rate, "msg/s")
    add(PART, cost.name, "ours", cost.ours_us, "µs/msg")
    add(PART, cost.name, "PostgreSQL", cost.postgres_us, "µs/msg")
    add(PART, cost.name, "provider", cost.provider_us, "µs/msg")
    add(PART, cost.name, "sum", cost.sum_us, "µs/msg")
    add(PART, cost.name, "load", cost.load, "at start")


def _mean(name: str, costs: Sequence[Cost]) -> Cost:
    columns = zip(*(cost[1:] for cost in costs), strict=True)
    return Cost(name, *(sum(column) / len(costs) for column in columns))


def _sums(costs: Sequence[Cost]) -> tuple[float, float, float]:
    return (
        sum(cost.ours_us for cost in costs),
        sum(cost.postgres_us for cost in costs),
        sum(cost.provider_us for cost in costs),
    )


# --- Sending -------------------------------------------------------------------------------------------------------


def _send(bench: Bench, application: Application, name: str, count: int) -> Cost:
    """The provider's ceiling, then a worker's sending with nothing else, in one process."""
    providers = bench.providers
    machine.wait_for_rest(bench.options.wait)
    add_ceilings(bench, PART, name, messages=2 * count)
    credential = ChannelCredential.objects.get(application=application, provider=name)
    secret = bench.folder / f"{name}.json"
    secret.touch(mode=0o600)
    secret.write_text(json.dumps(credential.secret))
    sent = by_own_client(providers, name, processes=1, messages=count, extra=("sender", "--secret", str(secret)))
    return Cost(f"send {name}, 1 process", sent.rate, sent.client_us, 0.0, sent.provider_us, sent.load)


# --- PostgreSQL ----------------------------------------------------------------------------------------------------


def _timed(bench: Bench, name: str, count: int, work: Callable[[], None]) -> Cost:
    machine.wait_for_rest(bench.options.wait)
    load = machine.load()
    with Meter({"PostgreSQL": [bench.postmaster]}) as meter:
        began, cpu = time.monotonic(), time.process_time()
        work()
        seconds, ours = time.monotonic() - began, time.process_time() - cpu
    postgres_us = meter.usage.cpu_s["PostgreSQL"] / count * 1e6
    return Cost(name, count / seconds, ours / count * 1e6, postgres_us, 0.0, load)


def _pending_row(message_id: UUID, application: Application, dispatch: Dispatch, subscription: UUID) -> tuple[Any, ...]:
    return (
        *(message_id, application.pk, dispatch.pk, dispatch.campaign_id, subscription, None),
        *(ChannelType.PUSH.value, MessageStatus.PENDING.value, 0, None, None, None, timezone.now()),
    )


def _subscription_ids(bench: Bench, application: Application, count: int) -> list[UUID]:
    rows = bench.sql(
        "SELECT id FROM subscriptions_subscription WHERE application_id = %s ORDER BY id LIMIT %s",
        [application.pk, count],
    )
    return [row[0] for row in rows]


def _dispatch(application: Application) -> Dispatch:
    """Of a campaign, so that counters are kept."""
    campaign = make_campaign(application)
    return Dispatch.objects.create(
        application=application,
        campaign_id=campaign.pk,
        channel_type="push",
        priority="high",
        title="The sale begins",
        body="Twenty per cent off everything until midnight.",
        audience={},
        ttl_s=3_600,
    )


def _prebuilt_copy(bench: Bench, application: Application, count: int) -> Cost:
    """What the table takes: rows that were packed before, 5,000 in a transaction, by one session."""
    dispatch = _dispatch(application)
    subscriptions = _subscription_ids(bench, application, count)
    chunks: list[bytes] = []
    for start in range(0, count, PREBUILT_PER_TRANSACTION):
        ids = new_range()
        some = subscriptions[start : start + PREBUILT_PER_TRANSACTION]
        rows = [_pending_row(ids.at(n), application, dispatch, subscription) for n, subscription in enumerate(some)]
        lines = ["\t".join(r"\N" if value is None else str(value) for value in row) for row in rows]
        chunks.append(("\n".join(lines) + "\n").encode())

    def work() -> None:
        for chunk in chunks:
            with transaction.atomic(), connection.cursor() as cursor, cursor.copy(COPY) as copy:
                copy.write(chunk)

    return _timed(bench, "COPY of packed rows, 1 session", count, work)


def _fan_out(bench: Bench, application: Application, count: int) -> tuple[Cost, list[UUID]]:
    """Cut the audience into batches, as the control worker does; and the batches.

    Their priority is high: the workers of this fleet do not listen to it, so that the batches are left to us.
    """
    dispatch = _dispatch(application)
    batch_ids: list[UUID] = []

    def work() -> None:
        after = None
        while True:
            with transaction.atomic():
                sliced = dispatch_slice(dispatch=dispatch, after_id=after, limit=STEP_RECIPIENTS)
            batch_ids.extend(sliced.batch_ids)
            after = sliced.last_id
            if after is None:
                return

    return _timed(bench, "fan-out: cut the audience", count, work), batch_ids


def _claim(bench: Bench, application: Application, batch_ids: Sequence[UUID], count: int) -> tuple[Cost, list[Claim]]:
    """Take the batches and make their messages, as a worker does before it sends; and the claims."""
    claims: list[Claim] = []

    def work() -> None:
        for batch_id in batch_ids:
            claim = claim_batch(batch_id, application.pk)
            if claim is None:
                raise StackError("a batch that nobody else works on could not be claimed")
            claims.append(claim)

    return _timed(bench, "claim: take a batch, make its messages, 1 process", count, work), claims


def _record(bench: Bench, claims: Sequence[Claim], count: int) -> Cost:
    """Move all messages to successful with their events and the campaign's counters, and give the batches back."""

    def work() -> None:
        for claim in claims:
            ids = [recipient.message_id for recipient in claim.recipients]
            for start in range(0, len(ids), RECORD_SLICE):
                with transaction.atomic():
                    renew_lease(claim)
                    now, some = timezone.now(), ids[start : start + RECORD_SLICE]
                    record(move(claim, "send", MessageStatus.PENDING, some, at=now, attempted=True))
            finish_batch(claim)

    return _timed(bench, "record: update, events, counters, 1 process", count, work)


# --- Profiles ------------------------------------------------------------------------------------------------------


def _profiles(bench: Bench, application: Application) -> None:
    for name, personalised in (("plain", False), ("personalised", True)):
        for place, us in profile.take(bench, application, name, personalised=personalised):
            bench.report.add(f"{PART}: profile of {name}", place, "CPU", us, "µs/msg")
