"""Handing batches to workers. The broker only carries ids; what it loses, a sweep hands over again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction

from apps.tenants.channels import ChannelType
from automata_signal.celery import BROKER_ERRORS, HAND_OVER, Task, app, send_tasks

SEND_BATCH = "messaging.send_batch"

_QUEUE_PREFIXES = {ChannelType.KAKAO_TALK: "kakao"}


class QueuedBatch(NamedTuple):
    id: UUID
    application_id: UUID
    channel_type: str
    priority: str
    way: str = ""
    """Its subscription type, if one task is enough for all batches that go the same way (`dispatch.Line`)."""

    @property
    def task(self) -> Task:
        queue = queue_name(self.channel_type, self.priority)
        mark = f"automata:queued:{queue}:{self.application_id}:{self.way}" if self.way else ""
        return Task(SEND_BATCH, [str(self.id), str(self.application_id)], queue, mark)


def queue_name(channel_type: str, priority: str) -> str:
    """`<channel>.<high|medium|low>`."""
    return f"{_QUEUE_PREFIXES.get(ChannelType(channel_type), channel_type)}.{priority}"


def enqueue_on_commit(batches: Sequence[QueuedBatch]) -> None:
    """Hand the batches over once the present transaction is committed: a worker must find their rows."""
    transaction.on_commit(lambda: enqueue(batches), robust=True)


def enqueue(batches: Iterable[QueuedBatch]) -> bool:
    """Hand the batches to workers. False if the broker does not answer: they wait in PostgreSQL for the sweep."""
    return send_tasks([batch.task for batch in batches])


def queue_length(queue: str) -> int | None:
    """Tasks that wait in the queue; None when the broker does not answer."""
    try:
        with app.connection_for_read(transport_options=HAND_OVER) as connection:
            connection.ensure_connection(max_retries=0)
            channel: Any = connection.default_channel
            return int(channel.client.llen(queue))
    except BROKER_ERRORS:
        return None
