"""Structured logs: one line an event, JSON in production, with no personal data."""

from __future__ import annotations

from typing import Any

import structlog

from automata_signal.masking import masked

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
_EXTRAS = (
    *("application_id", "campaign_id", "message_id", "batches", "campaign", "cause", "credential", "reason", "works"),
)
"""What our own loggers add. Others add whole requests, with their query, and the arguments of tasks."""
_IDS = frozenset(
    {
        *("request_id", "application_id", "campaign_id", "batch_id", "message_id", "user_id", "task_id", "task"),
        *("timestamp", "level", "logger", "ip"),
    }
)


def mask_texts(_logger: Any, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """The last look at a line: no text of it names a person or a secret. Ids that we bound ourselves are kept."""
    for name, value in event.items():
        if name not in _IDS and not name.startswith("_") and not isinstance(value, bool | int | float | None):
            event[name] = masked(value if isinstance(value, str) else str(value))
    return event


def logging_config(*, level: str, as_json: bool) -> dict[str, Any]:
    """Django's `LOGGING`; also configures structlog, so that both kinds of logger print alike."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Tracebacks without the values of variables: keys, tokens and the database's password would be among them.
    last: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    renderer = [structlog.processors.format_exc_info, mask_texts, last]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
                "foreign_pre_chain": [*_SHARED, structlog.stdlib.ExtraAdder(allow=_EXTRAS)],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "django_structlog": {"level": "WARNING"},
            "celery.app.trace": {"level": "WARNING"},  # a line for each task would be a line for each slice
        },
    }
