"""Handing batches to workers. The broker only carries ids; what it loses, a sweep hands over again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import redis
from django.db import transaction
from kombu import pools
from kombu.exceptions import OperationalError

from apps.messaging.models import ChannelType
from automata_signal.celery import app

log = logging.getLogger(__name__)

SEND_BATCH = "messaging.send_batch"

_HAND_OVER = {"socket_connect_timeout": 0.5, "socket_timeout": 0.5, "max_retries": 0}
"""Somebody waits for an answer from the API meanwhile, and the sweep makes up for what is not handed over."""
_LEFT_ALONE_S = 1.0
"""So long nothing is handed to a broker that did not answer: else each request would wait for it anew."""
_broker = {"left_alone_until": 0.0}
_BROKER_ERRORS = (OperationalError, OSError, redis.RedisError)
"""The last when Redis is full, and when an open connection breaks."""

_QUEUE_PREFIXES = {ChannelType.KAKAO_TALK: "kakao"}


class QueuedBatch(NamedTuple):
    id: UUID
    application_id: UUID
    channel_type: str
    priority: str

    @property
    def queue(self) -> str:
        return queue_name(self.channel_type, self.priority)


def queue_name(channel_type: str, priority: str) -> str:
    """`<channel>.<high|medium|low>`."""
    return f"{_QUEUE_PREFIXES.get(ChannelType(channel_type), channel_type)}.{priority}"


def enqueue_on_commit(batches: Sequence[QueuedBatch]) -> None:
    """Hand the batches over once the present transaction is committed: a worker must find their rows."""
    transaction.on_commit(lambda: enqueue(batches), robust=True)


def enqueue(batches: Iterable[QueuedBatch]) -> bool:
    """Hand the batches to workers. False if the broker does not answer: they wait in PostgreSQL for the sweep."""
    return send_tasks([(SEND_BATCH, [str(b.id), str(b.application_id)], b.queue) for b in batches])


def send_tasks(tasks: Sequence[tuple[str, list[str], str]]) -> bool:
    """Hand `(name, arguments, queue)` to workers within about a second; False if the broker does not answer."""
    if time.monotonic() < _broker["left_alone_until"]:
        return False
    try:
        with pools.producers[app.connection_for_write(transport_options=_HAND_OVER)].acquire(block=True) as producer:
            for name, arguments, queue in tasks:
                app.send_task(name, args=arguments, queue=queue, producer=producer, retry=False, ignore_result=True)
    except _BROKER_ERRORS as error:
        _broker["left_alone_until"] = time.monotonic() + _LEFT_ALONE_S
        log.warning("the broker does not answer: the sweep will queue again", extra={"cause": str(error)})
        return False
    return True


def queue_length(queue: str) -> int | None:
    """Tasks that wait in the queue; None when the broker does not answer."""
    try:
        with app.connection_for_read(transport_options=_HAND_OVER) as connection:
            connection.ensure_connection(max_retries=0)
            channel: Any = connection.default_channel
            return int(channel.client.llen(queue))
    except _BROKER_ERRORS:
        return None
