"""Figures as answers have them: what JSON can say, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from apps.analytics.selectors import Figures, Period

Answer = dict[str, Any]
COUNTED = ("sent", "failed", "received", "converted", "errored", "retried", "timed_out")


def figures(found: Figures) -> Answer:
    return {
        **{name: getattr(found, name) for name in COUNTED},
        "rates": {
            "success": rounded(found.success_rate),
            "failure": rounded(found.failure_rate),
            "receipt": rounded(found.receipt_rate),
            "open": rounded(found.open_rate),
            "conversion": rounded(found.conversion_rate),
        },
    }


def weeks(points: Iterable[tuple[datetime, Any]]) -> Iterator[tuple[datetime, list[Any]]]:
    """Days by week: when each begins (Monday, or where the period does), and its days."""
    for _week, days in groupby(points, key=lambda point: point[0].isocalendar()[:2]):
        found = list(days)
        yield found[0][0], [value for _begins, value in found]


def change(new: float, old: float) -> float | None:
    """As a fraction of what there was; None if there was nothing."""
    return round((new - old) / old, 4) if old else None


def table(answer: Answer) -> Iterator[list[Any]]:
    """`items` of an answer as rows below their header; objects in them become columns (`rates` → `success_rate`)."""
    rows = [dict(_columns(item)) for item in answer["items"]]
    names = list(dict.fromkeys(name for row in rows for name in row))
    yield names
    for row in rows:
        yield [row.get(name) for name in names]


def _columns(item: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        if isinstance(value, Mapping):
            inner = dict(value)
            if name == "rates":
                yield from ((f"{prefix}{rate}_rate", share) for rate, share in inner.items())
            else:
                yield from _columns(inner, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", value


def compared(found: Iterable[Any]) -> list[Answer]:
    return [{"id": str(one.id) if one.id else None, "name": one.name, **figures(one.figures)} for one in found]


def histogram(found: Any) -> Answer:
    percentiles = {name: getattr(found, name) for name in ("p50", "p75", "p90", "p95", "p99")}
    return {"messages": found.messages, "percentiles": percentiles, "items": rows_of(found.buckets)}


def tally_of(tally: Any) -> Answer:
    return {"ok": tally.ok, "failed": tally.failed, "rate": rounded(tally.rate)}


def rows_of(found: Iterable[Any]) -> list[Answer]:
    return [{name: plain(value) for name, value in row._asdict().items()} for row in found]


def plain(value: Any) -> Any:
    """As JSON has it. Decimals as text, without an exponent."""
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, float):
        return rounded(value)
    if value is None or isinstance(value, str | int):
        return value
    return f"{value:f}"


def rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def moment_text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def period_of(period: Period) -> Answer:
    return {
        "from": period.since.astimezone(period.zone).isoformat(),
        "to": period.until.astimezone(period.zone).isoformat(),
        "time_zone": period.zone.key,
    }
