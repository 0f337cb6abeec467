"""One message by POST until the provider has it, while a LOW campaign to everybody runs at full speed.

The processes are the demo's: a worker for HIGH, `--workers` for MEDIUM and LOW, control, beat, and the Procfile's web.
The single messages are of the campaign's application, so they share its credentials, rates and connections with it.
Each has a mark in its text, by which the provider says when it came; the time begins before the request is written.
"""

from __future__ import annotations

import http.client
import random
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson
import redis

from apps.campaigns.services import campaign_launch
from apps.messaging.models import Priority
from apps.tenants.models import Application
from bench import machine
from bench.api import Stock
from bench.fleet import READY_S, Behaviour, Fleet, counting_worker
from bench.harness import Bench, make_campaign
from bench.load import percentile
from bench.provider import MARK
from bench.report import Goal
from bench.web import Web
from tools.processes import queues
from tools.supervisor import StackError

PART = "latency"
POSTS_PER_S = 6.0
MEDIUM_SHARE = 6
"""Each sixth message is MEDIUM, the others HIGH."""
POST_S = 60.0
"""Messages are posted until the campaign ends, so long at most."""
LEAST_POSTS = 2 * MEDIUM_SHARE
"""Also if the campaign is so small that it ends before."""
WARM_UP_POSTS = 20
PATIENCE_S = 300.0
"""MEDIUM's promise: what has not come by then is missing."""
GOALS = {
    Priority.HIGH: (Goal(100, at_most=True), Goal(500, at_most=True)),
    Priority.MEDIUM: (None, Goal(PATIENCE_S * 1_000, at_most=True)),
}
"""Milliseconds: the median, and 95 % of them."""


class Case(NamedTuple):
    name: str
    behaviour: Behaviour


CASES = (
    Case("provider 0 ms", Behaviour()),
    Case("provider 40 ms", Behaviour(latency_ms=40, jitter_ms=20)),
)


@dataclass
class Posts:
    """Posts single messages, and keeps when."""

    web: Web
    stock: Stock
    began: dict[str, tuple[Priority, float]] = field(default_factory=dict)
    """By mark: the priority, and when the request was begun."""
    answered_ms: list[float] = field(default_factory=list)
    refused: int = 0

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.web.port, timeout=30)
        self._headers = {"Authorization": f"Bearer {self.stock.secret_key}", "Content-Type": "application/json"}
        self._chance = random.Random(1)

    def post(self, priority: Priority) -> None:
        mark = MARK.decode() + secrets.token_hex(8)
        body = {
            "recipients": {"external_ids": [self._chance.choice(self.stock.external_ids)]},
            "priority": priority.value,
            "title": mark,
            "body": "Your code is 123456.",
        }
        began = time.monotonic()
        self.began[mark] = (priority, began)
        self._connection.request("POST", "/api/v1/messages", orjson.dumps(body), self._headers)
        with self._connection.getresponse() as response:
            response.read()
            self.refused += response.status != 202
        self.answered_ms.append((time.monotonic() - began) * 1_000)

    def forget(self) -> None:
        self.began.clear()
        self.answered_ms.clear()

    def close(self) -> None:
        self._connection.close()


def run(bench: Bench) -> None:
    application = bench.application(bench.options.subscriptions)
    stock = Stock(bench, application)
    for case in CASES:
        if not bench.wants(case.name):
            continue
        with (
            bench.fleet(case.behaviour) as fleet,
            worker_for_high(bench, fleet),
            Web(bench.supervisor, bench.folder, env=fleet.providers.environment()) as web,
            closing(Posts(web, stock)) as posts,
        ):
            bench.warm_up(fleet)
            for n in range(WARM_UP_POSTS):
                posts.post(Priority.HIGH if n % 2 else Priority.MEDIUM)
            _wait_for_marks(fleet, posts)
            posts.forget()
            _measure(bench, fleet, application, posts, case)
        bench.clear_messages()


@contextmanager
def worker_for_high(bench: Bench, fleet: Fleet) -> Iterator[None]:
    spec = counting_worker(fleet.providers, "high", queues("high"), 1)
    child = bench.supervisor.start(replace(spec, env={**spec.env, **fleet.providers.environment()}))
    workers = len(fleet.bulk) + 2
    try:
        with closing(redis.Redis.from_url(bench.stores.redis_url)) as client:
            bench.supervisor.wait_until(
                lambda: len(client.smembers("_kombu.binding.celery.pidbox")) >= workers,
                timeout_s=READY_S,
                what="The worker for HIGH",
            )
        yield
    finally:
        bench.supervisor.stop_child(child)


def _measure(bench: Bench, fleet: Fleet, application: Application, posts: Posts, case: Case) -> None:
    bench.clear_messages()
    campaign = make_campaign(application)
    machine.wait_for_rest(bench.options.wait)
    answered_before = fleet.providers.answered()
    campaign_launch(campaign=campaign)
    bench.supervisor.wait_until(
        lambda: fleet.providers.answered() > answered_before, timeout_s=READY_S, what="The campaign's first message"
    )
    began, at_start = time.monotonic(), fleet.providers.answered()
    due_at, n = began, 0
    while n < LEAST_POSTS or (due_at < began + POST_S and not _is_over(bench, campaign.pk)):
        time.sleep(max(0.0, due_at - time.monotonic()))
        posts.post(Priority.MEDIUM if n % MEDIUM_SHARE == MEDIUM_SHARE - 1 else Priority.HIGH)
        due_at, n = due_at + 1 / POSTS_PER_S, n + 1
    seconds = time.monotonic() - began
    rate = (fleet.providers.answered() - at_start) / seconds
    seen = _wait_for_marks(fleet, posts)
    _report(bench, case, posts, seen, rate)


def _is_over(bench: Bench, campaign_id: object) -> bool:
    return bool(bench.sql(_OVER, [campaign_id])[0][0])


_OVER = """
    SELECT fanout_done_at IS NOT NULL AND successful_count + failed_count >= total_recipients
    FROM campaigns_messagecampaign WHERE id = %s
"""


def _wait_for_marks(fleet: Fleet, posts: Posts) -> dict[str, float]:
    """When each message came; without those that did not come in `PATIENCE_S`."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        seen = {**fleet.providers.seen("apns"), **fleet.providers.seen("fcm")}
        if posts.began.keys() <= seen.keys() or time.monotonic() > give_up_at:
            return seen
        time.sleep(0.1)


def _report(bench: Bench, case: Case, posts: Posts, seen: Mapping[str, float], rate: float) -> None:
    add = bench.report.add
    for priority, (median_goal, p95_goal) in GOALS.items():
        name = f"{priority.label}, {case.name}"
        began = {mark: at for mark, (of, at) in posts.began.items() if of == priority}
        taken_ms = sorted((seen[mark] - at) * 1_000 for mark, at in began.items() if mark in seen)
        if not taken_ms:
            raise StackError(f"{name}: none of {len(began)} messages came to the provider")
        add(PART, name, "messages", len(began))
        add(PART, name, "median", percentile(taken_ms, 0.5), "ms", goal=median_goal)
        add(PART, name, "p95", percentile(taken_ms, 0.95), "ms", goal=p95_goal)
        add(PART, name, "longest", taken_ms[-1], "ms")
        add(PART, name, "missing", len(began) - len(taken_ms) + posts.refused, "", goal=Goal(0, at_most=True))
        add(PART, name, "POST median", percentile(sorted(posts.answered_ms), 0.5), "ms")
        add(PART, name, "campaign", rate, "msg/s")
        bench.say(f"{name}: median {percentile(taken_ms, 0.5):.0f} ms, p95 {percentile(taken_ms, 0.95):.0f} ms")
