"""Open streams of in-app messages: time to open, memory of each, and how soon a message is there.

The streams are held by the Procfile's `live`, one process of it; the clients are a process of their own
(`bench.streams`). Messages are real ones: made, put into inboxes and published by the adapter. They go to everybody at
once, and one by one to somebody. How fast inboxes are filled is `pipeline --channel in_app`.
"""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

from apps.messaging import dispatch
from apps.messaging.content import ContentSource
from apps.messaging.dispatches import dispatch_create, dispatch_slice
from apps.messaging.models import DispatchBatch, Priority
from apps.messaging.named import Recipients
from apps.messaging.services import messages_send
from apps.subscriptions.handles import handle_for
from apps.subscriptions.models import Subscription
from apps.tenants.models import Application, KeyKind
from apps.tenants.services import key_create
from bench import seeding
from bench.accounting import cpu_s, rss_mb, tree
from bench.harness import PLAIN, Bench
from bench.report import Goal
from tools.processes import python_module
from tools.services import free_ports
from tools.stack import answers
from tools.supervisor import ROOT, Child, ProcessSpec, StackError

PART = "live"
READY_S = 60.0
ROUNDS = 5
"""Of a message to everybody."""
SINGLES = 300
SETTLE_S = 120.0
"""How long what was sent may take to come."""
OPTIONS = {"layout": "banner_top", "buttons": [{"id": "go", "text": "See it", "action": {"type": "close"}}]}
GOALS = {"p95": Goal(1_000, at_most=True), "memory each": Goal(64, at_most=True)}


def run(bench: Bench) -> None:
    count = bench.options.connections
    application = in_app_application(bench, count)
    with live(bench) as process:
        _streams(bench, process, application, count)
    bench.clear_messages()


def in_app_application(bench: Bench, recipients: int) -> Application:
    """An application whose whole audience has in-app subscriptions."""
    application = bench.application(recipients, "in-app")
    bench.sql("UPDATE subscriptions_subscription SET type = 'InAppMessage' WHERE application_id = %s", [application.pk])
    seeding.vacuum(bench.stores.database_url, "subscriptions_subscription")
    return application


def live_process(port: int, env: Mapping[str, str]) -> ProcessSpec:
    """What the Procfile starts under `live`."""
    line = next(line for line in (ROOT / "Procfile").read_text().splitlines() if line.startswith("live:"))
    words = shlex.split(line.removeprefix("live:").replace("${LIVE_PORT:-8001}", str(port)))
    words = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]
    at = words.index("granian")
    settings = dict(word.split("=", 1) for word in words[:at] if "=" in word)
    return python_module("live", *words[at:], env={**settings, **env})


class Live:
    """The running process, and what it costs."""

    def __init__(self, child: Child, port: int) -> None:
        self.child, self.port = child, port

    @property
    def worker(self) -> int:
        """The process that serves; the first one only watches it."""
        return tree([self.child.process.pid])[-1]

    def cpu_s(self) -> float:
        return cpu_s([self.child.process.pid])


@contextmanager
def live(bench: Bench) -> Iterator[Live]:
    (port,) = free_ports(1)
    metrics = str(bench.folder / "live-metrics")
    child = bench.supervisor.start(live_process(port, {"LOG_JSON": "true", "PROMETHEUS_MULTIPROC_DIR": metrics}))
    try:
        url = f"http://127.0.0.1:{port}/healthz"
        bench.supervisor.wait_until(lambda: answers(url), timeout_s=READY_S, what="The live process")
        yield Live(child, port)
    finally:
        bench.supervisor.stop_child(child)


class Clients:
    """The process of the clients, and what it says."""

    def __init__(self, bench: Bench, process: Live, application: Application, count: int) -> None:
        file = bench.folder / "clients"
        rows = Subscription.objects.for_application(application).order_by("id")[:count]
        told = rows.values_list("id", "handle_version")
        file.write_text("".join(f"{pk} {handle_for(pk, version)}\n" for pk, version in told))
        key = key_create(application=application, name="bench", kind=KeyKind.PUBLISHABLE).plaintext
        command = [sys.executable, "-m", "bench.streams", str(file), "--port", str(process.port), "--key", key]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self._line()

    def came(self) -> dict[str, float]:
        """What came since it was asked last."""
        self._pipe(self._process.stdin).write("\n")
        self._pipe(self._process.stdin).flush()
        return self._line()

    def wait_for(self, events: int) -> list[dict[str, float]]:
        """What came until it was so many; raises `StackError` if they do not come."""
        answers_, total, give_up_at = [], 0.0, time.monotonic() + SETTLE_S
        while total < events:
            if time.monotonic() > give_up_at:
                raise StackError(f"{events - total:.0f} of {events} events have not come")
            time.sleep(0.2)
            answers_.append(self.came())
            total += answers_[-1]["events"]
        return answers_

    def close(self) -> None:
        self._pipe(self._process.stdin).close()
        self._process.wait()

    def _line(self) -> dict[str, float]:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise StackError("the clients' process ended (see above)")
        return dict(json.loads(line))

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _streams(bench: Bench, process: Live, application: Application, count: int) -> None:
    case, add = f"{count:,} streams", bench.report.add
    before, cpu_before = rss_mb(process.worker), process.cpu_s()
    clients = Clients(bench, process, application, count)
    try:
        opened, seconds = clients.opened["opened"], clients.opened["seconds"]
        grown_kb = (rss_mb(process.worker) - before) * 1_024 / max(1, opened)
        add(PART, case, "open", opened, goal=Goal(count))
        add(PART, case, "time to open", seconds, "s")
        add(PART, case, "opened", opened / seconds, "/s")
        add(PART, case, "CPU each", (process.cpu_s() - cpu_before) / max(1, opened) * 1_000, "ms")
        add(PART, case, "memory each", grown_kb, "kB", goal=GOALS["memory each"])
        add(PART, case, "process", rss_mb(process.worker), "MB")
        add(PART, case, "database connections", _connections(bench))
        bench.say(f"{opened:,.0f} open in {seconds:.1f} s, {grown_kb:.1f} kB each, {_connections(bench)} connections")
        _to_everybody(bench, process, clients, application, count)
        _one_by_one(bench, process, clients, application, count)
    finally:
        clients.close()


def _connections(bench: Bench) -> int:
    """Of the process to PostgreSQL."""
    ((count,),) = bench.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'automata-live'")
    return int(count)


def _to_everybody(bench: Bench, process: Live, clients: Clients, application: Application, count: int) -> None:
    """Batches of 2,000 by a worker's code in this process: from the slice's statement to the client."""
    case, answered, cpu = f"a message to all of {count:,}", [], process.cpu_s()
    seconds = 0.0
    for _ in range(ROUNDS):
        order = _order(application)
        batches = dispatch_slice(dispatch=order, after_id=None, limit=1_000_000).batch_ids
        began = time.monotonic()
        for batch_id in batches:
            dispatch.run_batch(batch_id, application.pk)
        answered.append(clients.wait_for(count))
        seconds += time.monotonic() - began
    _add_waits(bench, case, answered, count * ROUNDS, process.cpu_s() - cpu)
    bench.report.add(PART, case, "rate", count * ROUNDS / seconds, "/s")


def _one_by_one(bench: Bench, process: Live, clients: Clients, application: Application, count: int) -> None:
    case, chance, cpu = f"one message after another, {count:,} open", random.Random(1), process.cpu_s()
    ids = list(Subscription.objects.for_application(application).values_list("id", flat=True).order_by("id")[:count])
    content = ContentSource(PLAIN["title"], PLAIN["body"], PLAIN["data"], OPTIONS)
    for _ in range(SINGLES):
        messages_send(
            application=application,
            channel_type="in_app",
            recipients=Recipients(subscription_ids=[chance.choice(ids)]),
            content=content,
            priority=Priority.HIGH,
        )
        for batch_id in DispatchBatch.objects.filter(state="waiting").values_list("id", flat=True):
            dispatch.run_batch(batch_id, application.pk)
    _add_waits(bench, case, [clients.wait_for(SINGLES)], SINGLES, process.cpu_s() - cpu)


def _order(application: Application) -> Any:
    return dispatch_create(
        application=application,
        channel_type="in_app",
        priority=Priority.LOW,
        content=ContentSource(PLAIN["title"], PLAIN["body"], PLAIN["data"], OPTIONS),
        ttl_s=3_600,
        audience={},
    )


def _add_waits(
    bench: Bench, case: str, rounds: Sequence[Sequence[Mapping[str, float]]], events: int, cpu: float
) -> None:
    """Percentiles of the round with the middle 95 %; the longest of all."""
    largest = [max(answers_, key=lambda one: one["events"]) for answers_ in rounds]
    middle = sorted(largest, key=lambda one: one["p95_ms"])[len(largest) // 2]
    add = bench.report.add
    add(PART, case, "events", events)
    for share in ("p50", "p95", "p99"):
        add(PART, case, share, middle[f"{share}_ms"], "ms", goal=GOALS.get(share))
    add(PART, case, "longest", max(one["longest_ms"] for answers_ in rounds for one in answers_), "ms")
    add(PART, case, "CPU of live", cpu / events * 1e6, "µs/event")
    add(PART, case, "cut off", rounds[-1][-1]["ended"], goal=Goal(0, at_most=True))
    bench.say(f"{case}: p50 {middle['p50_ms']:.0f} ms, p95 {middle['p95_ms']:.0f} ms, p99 {middle['p99_ms']:.0f} ms")
