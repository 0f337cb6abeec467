"""Error reports to Sentry, if `SENTRY_DSN` is set: where it failed and which ids were at hand, and nothing of anybody.

What leaves is built from a list of what may, and every text in it is masked. Bodies, headers, cookies, query strings,
local variables, arguments of tasks and values of statements are not collected in the first place.
"""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from structlog.contextvars import get_contextvars

from automata_signal.masking import masked

_KEPT = frozenset(
    {
        *("event_id", "timestamp", "start_timestamp", "platform", "level", "logger", "release", "environment", "sdk"),
        *("type", "transaction", "transaction_info", "contexts", "exception", "logentry", "spans", "breadcrumbs"),
        *("fingerprint", "server_name", "request", "tags", "threads"),
    }
)
_CONTEXTS = frozenset({"trace", "runtime"})
_TAGS = ("request_id", "application_id", "campaign_id", "batch_id", "message_id", "task", "task_id")
_SPAN = ("trace_id", "span_id", "parent_span_id", "op", "status", "start_timestamp", "timestamp", "description")
_CRUMB = ("timestamp", "category", "level", "type")
_FRAME = ("filename", "abs_path", "function", "module", "lineno", "pre_context", "context_line", "post_context")


def start_sentry(
    dsn: str, *, environment: str, release: str = "", sample_rate: float = 1.0, traces_sample_rate: float = 0.0
) -> None:
    """Report errors, and a share of the transactions, to `dsn` from now on. Called by the settings."""
    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release or None,
        sample_rate=sample_rate,
        traces_sample_rate=traces_sample_rate or None,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=20,
        auto_session_tracking=False,
        propagate_traces=False,
        trace_propagation_targets=[],  # providers are not told of our traces
        default_integrations=False,  # they add command lines, URLs that were called, and Redis' arguments
        auto_enabling_integrations=False,
        integrations=[
            AtexitIntegration(callback=lambda _pending, _timeout: None),
            DedupeIntegration(),
            ThreadingIntegration(),
            DjangoIntegration(middleware_spans=False, signals_spans=False, cache_spans=False),
            CeleryIntegration(propagate_traces=False, monitor_beat_tasks=False),
            LoggingIntegration(),
        ],
        before_send=scrubbed,  # type: ignore[arg-type]  # an event is a dict
        before_send_transaction=scrubbed,  # type: ignore[arg-type]
    )


def scrubbed(event: dict[str, Any], _hint: Any = None) -> dict[str, Any]:
    """The event with what may leave, masked."""
    kept = {name: value for name, value in event.items() if name in _KEPT}
    kept["tags"] = {name: str(value) for name, value in get_contextvars().items() if name in _TAGS and value}
    kept["contexts"] = {name: value for name, value in kept.get("contexts", {}).items() if name in _CONTEXTS}
    if "trace" in kept["contexts"]:
        kept["contexts"]["trace"] = _only(kept["contexts"]["trace"], _SPAN)
    if "request" in kept:
        kept["request"] = {
            "method": str(kept["request"].get("method", "")),
            "url": masked(str(kept["request"].get("url", "")).partition("?")[0]),
        }
    for name in ("exception", "threads"):
        for failure in kept.get(name, {}).get("values", ()):
            _scrub_failure(failure)
    if "logentry" in kept:
        entry = kept["logentry"]
        kept["logentry"] = {"message": masked(str(entry.get("formatted") or entry.get("message") or ""))}
    kept["spans"] = [_only(span, _SPAN) for span in kept.get("spans", ())]
    crumbs = kept.pop("breadcrumbs", {})
    kept["breadcrumbs"] = {"values": [_crumb(crumb) for crumb in crumbs.get("values", ())]}
    return kept


def _scrub_failure(failure: dict[str, Any]) -> None:
    if isinstance(failure.get("value"), str):
        failure["value"] = masked(failure["value"])
    frames = (failure.get("stacktrace") or {}).get("frames", ())
    for place, frame in enumerate(frames):
        frames[place] = {name: frame[name] for name in _FRAME if name in frame}


def _crumb(crumb: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {name: crumb[name] for name in _CRUMB if name in crumb}
    return kept | {"message": masked(str(crumb.get("message") or ""))}


def _only(span: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    kept = {name: span[name] for name in names if name in span}
    if isinstance(kept.get("description"), str):
        kept["description"] = masked(kept["description"])
    return kept
