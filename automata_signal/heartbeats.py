"""Signs of life of workers and beat, for who looks whether they are there: one hash in Redis, a field for each process.

A worker's main process writes its field with Celery's own heartbeat, beat with its tick; neither costs a message
anything. Redis may be away: then nothing is written, and `read` says so by None.
"""

from __future__ import annotations

import json
import logging
import time
from functools import cache
from typing import Any, NamedTuple

import redis
from celery.signals import heartbeat_sent, worker_ready, worker_shutdown
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

KEY = "automata:heartbeats"
EVERY_S = 4.0
ALIVE_S = 15.0
"""Who was not heard of for so long is taken for gone."""
FORGET_S = 3_600.0
"""And after so long it is forgotten."""
TASKS_SHOWN = 8
TIMEOUT_S = 0.3
BEAT = "beat"


class Heartbeat(NamedTuple):
    """What a process last said of itself."""

    name: str
    at: float
    """Epoch seconds, as all times here."""
    since: float
    facts: dict[str, Any]

    def is_alive(self, now: float | None = None) -> bool:
        return (time.time() if now is None else now) - self.at < ALIVE_S


@cache
def _redis() -> Any:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


def write(name: str, *, since: float, facts: dict[str, Any] | None = None) -> None:
    """Say that `name` is alive. Says nothing if Redis does not answer."""
    value = json.dumps({"at": time.time(), "since": since, **(facts or {})})
    try:
        _redis().hset(KEY, name, value)
    except redis.RedisError as error:
        log.debug("no heartbeat: Redis does not answer", extra={"cause": str(error)})


def remove(name: str) -> None:
    """It ends as it was told to: nobody has to look for it."""
    try:
        _redis().hdel(KEY, name)
    except redis.RedisError:
        return


def read() -> list[Heartbeat] | None:
    """Everybody, by name; None if Redis does not answer. Those that are long gone are forgotten."""
    try:
        stored = _redis().hgetall(KEY)
        found, gone = [], []
        for field, value in stored.items():
            beat = _parsed(field.decode(), value)
            if beat is None or time.time() - beat.at > FORGET_S:
                gone.append(field)
            else:
                found.append(beat)
        if gone:
            _redis().hdel(KEY, *gone)
    except redis.RedisError:
        return None
    return sorted(found)


def _parsed(name: str, value: bytes) -> Heartbeat | None:
    try:
        facts = json.loads(value)
        return Heartbeat(name, float(facts.pop("at")), float(facts.pop("since")), facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


# --- Workers -------------------------------------------------------------------------------------------------------


class _Worker:
    """What this worker's main process knows of itself since it is ready."""

    def __init__(self) -> None:
        self.name = ""
        self.since = 0.0
        self.facts: dict[str, Any] = {}
        self.write_at = 0.0

    def say(self) -> None:
        if self.name and time.monotonic() >= self.write_at:
            from celery.worker import state  # half of Celery, which no other process needs

            self.write_at = time.monotonic() + EVERY_S
            tasks = [
                {"task": request.name, "since": float(request.time_start or 0)}
                for request in list(state.active_requests)[:TASKS_SHOWN]
            ]
            done = sum(state.total_count.values())
            write(self.name, since=self.since, facts={**self.facts, "tasks": tasks, "done": done})


_worker = _Worker()


@worker_ready.connect
def _on_ready(sender: Any, **_: Any) -> None:
    controller = sender.controller
    _worker.name, _worker.since = str(sender.hostname), time.time()
    _worker.facts = {
        "concurrency": int(controller.concurrency or 1),
        "queues": sorted(sender.app.amqp.queues.consume_from),
    }
    _worker.say()


@heartbeat_sent.connect
def _on_heartbeat(**_: Any) -> None:
    _worker.say()


@worker_shutdown.connect
def _on_shutdown(**_: Any) -> None:
    if _worker.name:
        remove(_worker.name)


# --- Beat ----------------------------------------------------------------------------------------------------------


def watch_beat(scheduler: Any) -> None:
    """Have beat's scheduler give a sign of life with its ticks."""
    began, at = time.time(), {"next": 0.0}
    tick = scheduler.tick

    def noted(*arguments: Any, **options: Any) -> Any:
        if time.monotonic() >= at["next"]:
            at["next"] = time.monotonic() + EVERY_S
            write(BEAT, since=began)
        return tick(*arguments, **options)

    scheduler.tick = noted
