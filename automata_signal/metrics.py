"""What is counted while it happens, for Prometheus (`docs/monitoring.md` explains each series).

Hot paths count a slice at a time, never a message. The processes of one service add up in the files of
`PROMETHEUS_MULTIPROC_DIR`, one set for each process, so any of them can tell for all (`exposition`); without the
variable each process counts for itself. Every label has few values: routes are templates, never paths, and the callers
turn reasons without end into `other`.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path


def _prepare_folder() -> None:
    """Make the shared folder, before the client library looks for it. It is ours alone, or it is not used."""
    name = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not name:
        return
    Path(name).mkdir(mode=0o700, parents=True, exist_ok=True)
    found = Path(name).lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise RuntimeError(f"PROMETHEUS_MULTIPROC_DIR is {name}, which others can write to: name a folder of our own")


_prepare_folder()
os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "true")  # when a counter began tells nobody anything

from prometheus_client import Counter, Gauge, Histogram  # noqa: E402  (it reads the variables when it is imported)

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10)
"""0.2 s is the specification's limit for the 95th percentile."""
PROVIDER_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
TASK_BUCKETS_S = (0.01, 0.05, 0.25, 1, 2.5, 10, 30, 120)

# --- The API and the console -------------------------------------------------------------------------------------

_REQUESTS = Counter("automata_http_requests", "Requests answered", ["method", "route", "status"])
_REQUEST_SECONDS = Histogram(
    "automata_http_request_seconds", "Time to an answer", ["method", "route"], buckets=REQUEST_BUCKETS_S
)
REQUESTS_IN_PROGRESS = Gauge(
    "automata_http_requests_in_progress", "Requests being answered", multiprocess_mode="livesum"
)
_POOL = Gauge(
    "automata_database_pool_connections",
    "The web's connections to PostgreSQL: open, idle, and the most there may be",
    ["state"],
    multiprocess_mode="livesum",
)
POOL_WAITING = Gauge(
    "automata_database_pool_waiting", "Requests that wait for a connection", multiprocess_mode="livesum"
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@cache
def _request_counter(method: str, route: str, status: int) -> Counter:
    return _REQUESTS.labels(method, route, str(status))


@cache
def _request_histogram(method: str, route: str) -> Histogram:
    return _REQUEST_SECONDS.labels(method, route)


def request_answered(method: str, route: str, status: int, seconds: float) -> None:
    """`route` is the template, such as `api/v1/users/<uuid:user_id>`."""
    method = method if method in _METHODS else "other"
    _request_counter(method, route, status).inc()
    _request_histogram(method, route).observe(seconds)


def pool_seen(*, open_: int, idle: int, most: int, waiting: int) -> None:
    """The pool of this process."""
    for state, count in (("open", open_), ("idle", idle), ("max", most)):
        _POOL.labels(state).set(count)
    POOL_WAITING.set(waiting)


# --- Messages ----------------------------------------------------------------------------------------------------

_MESSAGES = Counter("automata_messages", "Messages that came to a state", ["channel", "status"])
_FAILED = Counter("automata_messages_failed", "Messages that failed for good", ["channel", "reason"])
_RETRIED = Counter("automata_messages_retried", "Messages taken up again after an error", ["channel"])
_ANSWERS = Counter(
    "automata_provider_answers", "Answers of providers, and who was at fault", ["provider", "outcome", "fault"]
)
_PROVIDER_SECONDS = Histogram(
    "automata_provider_seconds",
    "From a request's start to its answer; of each sender one request at a time is measured",
    ["provider"],
    buckets=PROVIDER_BUCKETS_S,
)
_REPORTS = Counter("automata_provider_reports", "Requests to the door for providers' reports", ["provider", "outcome"])
RECORD_SECONDS = Histogram(
    "automata_record_slice_seconds", "Writing a slice of results to PostgreSQL", buckets=TASK_BUCKETS_S
)
BATCHES_ABANDONED = Counter("automata_batches_abandoned", "Batches taken from workers that died")
RENDERED = Counter("automata_rendered_messages", "Messages rendered for campaigns")
RENDER_SECONDS = Counter("automata_render_seconds", "Time spent rendering them")


@cache
def _message_counter(channel: str, status: str) -> Counter:
    return _MESSAGES.labels(channel, status)


@cache
def _answer_counter(provider: str, outcome: str, fault: str) -> Counter:
    return _ANSWERS.labels(provider, outcome, fault)


@cache
def _provider_histogram(provider: str) -> Histogram:
    return _PROVIDER_SECONDS.labels(provider)


def messages_moved(channel: str, old: str, new: str, reason: str, count: int) -> None:
    """`reason` is one of few (`apps.messaging.counting`)."""
    _message_counter(channel, new).inc(count)
    if new == "failed":
        _FAILED.labels(channel, reason).inc(count)
    if old == "errored" and new == "pending":
        _RETRIED.labels(channel).inc(count)


def provider_answers(provider: str, outcome: str, fault: str, count: int) -> None:
    """`fault` is recipient, sender, provider or none."""
    _answer_counter(provider, outcome, fault).inc(count)


def provider_reported(provider: str, outcome: str) -> None:
    """`outcome` is accepted, forged, unreadable or too_large."""
    _REPORTS.labels(provider, outcome).inc()


def provider_answered(provider: str, seconds: float) -> None:
    _provider_histogram(provider).observe(seconds)


# --- Outgoing webhooks -------------------------------------------------------------------------------------------

_WEBHOOK_POSTS = Counter("automata_webhook_posts", "POSTs to webhooks, and what became of them", ["outcome"])
WEBHOOK_EVENTS = Counter("automata_webhook_events", "Events that webhooks took")
WEBHOOK_SECONDS = Histogram("automata_webhook_seconds", "Time of a POST to a webhook", buckets=PROVIDER_BUCKETS_S)


@cache
def _webhook_counter(outcome: str) -> Counter:
    return _WEBHOOK_POSTS.labels(outcome)


def webhook_posted(status: int | None, *, is_taken: bool, events: int, seconds: float) -> None:
    """`status` is that of the answer; None: there was none."""
    outcome = "taken" if is_taken else "refused" if status is not None else "unreachable"
    _webhook_counter(outcome).inc()
    WEBHOOK_SECONDS.observe(seconds)
    if is_taken:
        WEBHOOK_EVENTS.inc(events)


# --- Streams -----------------------------------------------------------------------------------------------------

LIVE_CONNECTIONS = Gauge("automata_live_connections", "Streams of inboxes that are open", multiprocess_mode="livesum")
LIVE_EVENTS = Counter("automata_live_events", "Events handed to open streams")
_LIVE_ENDED = Counter("automata_live_ended", "Streams that ended, and why", ["reason"])


def live_ended(reason: str) -> None:
    """`reason` is client, gone, slow, changed, replaced, restart or error."""
    _LIVE_ENDED.labels(reason).inc()


# --- Workers -----------------------------------------------------------------------------------------------------

_TASK_SECONDS = Histogram("automata_task_seconds", "Tasks of workers, and their time", ["task"], buckets=TASK_BUCKETS_S)
_TASKS_FAILED = Counter("automata_tasks_failed", "Tasks that ended with an error", ["task"])
WORKER_PROCESSES = Gauge("automata_worker_processes", "Processes of a worker's pool", multiprocess_mode="livemax")


@cache
def _task_histogram(task: str) -> Histogram:
    return _TASK_SECONDS.labels(task)


def task_ended(task: str, seconds: float) -> None:
    _task_histogram(task).observe(seconds)


def task_failed(task: str) -> None:
    _TASKS_FAILED.labels(task).inc()


# --- Caches ------------------------------------------------------------------------------------------------------

_CACHE = Counter("automata_cache_requests", "Look-ups in a cache of automata_signal.caches", ["cache", "result"])


@cache
def _cache_counter(name: str, result: str) -> Counter:
    return _CACHE.labels(name, result)


def cache_asked(name: str, result: str) -> None:
    """`result` is hit, miss, or unavailable (Redis does not answer)."""
    _cache_counter(name, result).inc()
