"""The Celery application: queues by channel and priority, and `control` for fan-out and sweeps; and how tasks are
handed to it while somebody waits."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import redis
from celery import Celery
from celery.beat import Service
from celery.signals import beat_init
from kombu import pools
from kombu.exceptions import OperationalError

from automata_signal import heartbeats, task_context

log = logging.getLogger(__name__)

HAND_OVER = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "max_retries": 0}
"""Options of a connection to the broker while somebody waits for an answer."""
BROKER_ERRORS = (OperationalError, OSError, redis.RedisError)
"""The last when Redis is full, and when an open connection breaks."""
_LEFT_ALONE_S = 1.0
"""So long nothing is handed to a broker that did not answer: else each request would wait for it anew."""
_broker = {"left_alone_until": 0.0}
MARK_MS = 5_000
"""How long a mark lasts if its task is lost."""

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "automata_signal.settings")

app = Celery("automata_signal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


class Task(NamedTuple):
    """A task to be handed to workers."""

    name: str
    arguments: list[str]
    queue: str
    mark: str = ""
    """While a task with this mark waits, another one is not handed over: whoever takes it does the work of both. It
    gets the mark as its last argument, and says `begun`."""


def send_tasks(tasks: Sequence[Task]) -> bool:
    """Hand tasks to workers within about a second; False if the broker does not answer.

    `task.delay` would wait for half a minute. What must happen all the same, a sweep finds in PostgreSQL.
    """
    if time.monotonic() < _broker["left_alone_until"]:
        return False
    try:
        with _producers().acquire(block=True) as producer:
            for name, arguments, queue, mark in tasks:
                if mark and not producer.channel.client.set(mark, 1, nx=True, px=MARK_MS):
                    continue
                task = app.signature(name, args=[*arguments, mark] if mark else arguments)
                task.apply_async(
                    queue=queue, producer=producer, retry=False, ignore_result=True, headers=task_context.headers()
                )
    except BROKER_ERRORS as error:
        _broker["left_alone_until"] = time.monotonic() + _LEFT_ALONE_S
        log.warning("the broker does not answer: tasks were not handed over", extra={"cause": str(error)})
        return False
    return True


def begun(mark: str) -> None:
    """A task with this mark is at work: what comes from now on needs another one. Says nothing if Redis is away, where
    the mark lasts `MARK_MS` at most."""
    with contextlib.suppress(*BROKER_ERRORS), _producers().acquire(block=True) as producer:
        producer.channel.client.delete(mark)


@cache
def _producers() -> Any:
    """The open connections to the broker. Finding them anew takes a third of what a message costs to accept."""
    return pools.producers[app.connection_for_write(transport_options=HAND_OVER)]


@beat_init.connect
def stop_beat_between_ticks(sender: Service, **_: Any) -> None:
    """On SIGTERM and SIGINT beat ends its tick, saves its schedule and exits, within `CELERY_BEAT_MAX_LOOP_INTERVAL`.

    Celery's own handler saves the schedule at once, in whatever the signal interrupted. When that was a query of the
    database scheduler, the connection is locked and beat waits for itself for good.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sender.stop())
    heartbeats.watch_beat(sender.scheduler)
