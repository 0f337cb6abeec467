"""What surrounds each task of a worker: the fields of its log lines, its time, and the worker's page of metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from typing import Any

from celery.signals import task_failure, task_postrun, task_prerun, worker_ready
from django.conf import settings
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars, get_contextvars

from automata_signal import metrics

REQUEST_ID_HEADER = "request_id"
_began: dict[str, float] = {}


@task_prerun.connect
def on_task_prerun(task_id: str, task: Any, **_: Any) -> None:
    _began[task_id] = time.perf_counter()
    clear_contextvars()
    bind_contextvars(task=task.name, task_id=task_id)
    given = task.request.headers or {}  # where an eager task has them; a worker puts them beside the id
    if request_id := task.request.get(REQUEST_ID_HEADER) or given.get(REQUEST_ID_HEADER):
        bind_contextvars(request_id=request_id)


@task_postrun.connect
def on_task_postrun(task_id: str, task: Any, **_: Any) -> None:
    if (began := _began.pop(task_id, None)) is not None:
        metrics.task_ended(task.name, time.perf_counter() - began)
    clear_contextvars()


@task_failure.connect
def on_task_failure(sender: Any, **_: Any) -> None:
    metrics.task_failed(sender.name)


@worker_ready.connect
def on_worker_ready(sender: Any, **_: Any) -> None:
    """In the worker's main process, once its pool is there: the children inherit no thread."""
    metrics.WORKER_PROCESSES.set(sender.pool.limit if sender.pool else 0)
    if settings.METRICS_ADDRESS:
        from automata_signal.exposition import serve

        serve(settings.METRICS_ADDRESS)


def headers() -> dict[str, Any]:
    """Headers of a task that is handed over now: which request asked for it, if one did."""
    request_id = get_contextvars().get(REQUEST_ID_HEADER)
    return {REQUEST_ID_HEADER: request_id} if request_id else {}


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Log lines in this block carry these fields: ids only, never what they stand for."""
    with bound_contextvars(**fields):
        yield


def log_context(**fields: Any) -> Context:
    """The present fields and these, for work in another thread: `submit(context.run, work)`."""
    context = copy_context()
    context.run(bind_contextvars, **fields)
    return context
