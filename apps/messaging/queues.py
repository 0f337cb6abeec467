"""Handing batches to workers. The broker only carries ids; what it loses, a sweep hands over again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from kombu.exceptions import OperationalError

from apps.messaging.models import ChannelType
from automata_signal.celery import app

log = logging.getLogger(__name__)

SEND_BATCH = "messaging.send_batch"

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
    try:
        with app.producer_pool.acquire(block=True) as producer:
            for batch in batches:
                app.send_task(
                    SEND_BATCH,
                    args=[str(batch.id), str(batch.application_id)],
                    queue=batch.queue,
                    producer=producer,
                    retry=False,
                    ignore_result=True,
                )
    except (OperationalError, OSError) as error:
        log.warning("the broker does not answer: the sweep will queue again", extra={"cause": str(error)})
        return False
    return True


def queue_length(queue: str) -> int | None:
    """Tasks that wait in the queue; None when the broker does not answer."""
    try:
        with app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
            channel: Any = connection.default_channel
            return int(channel.client.llen(queue))
    except (OperationalError, OSError):
        return None
