"""Questions about the SDKs: what they said of themselves."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, NamedTuple

from apps.analytics.metrics import INITIALISATION_BOUNDS_MS
from apps.analytics.models.rollups import SdkFigure
from apps.analytics.selectors.distributions import Distribution, distribution_of
from apps.analytics.selectors.periods import Period, Step, point_of, points_of, rollup_rows
from apps.tenants.models import Application


class Tally(NamedTuple):
    ok: int = 0
    failed: int = 0

    @property
    def rate(self) -> float | None:
        """The share that succeeded."""
        return round(self.ok / (self.ok + self.failed), 4) if self.ok + self.failed else None


class LabelCount(NamedTuple):
    label: str
    count: int  # type: ignore[assignment]  # hides the tuple's method, which nobody needs


class VersionFigures(NamedTuple):
    platform: str
    sdk_version: str
    initialisations: int
    registrations: Tally
    identifications: Tally
    client_errors: int


class SdkFigures(NamedTuple):
    initialisations: Distribution
    """How long they took, in milliseconds."""
    registrations: Tally
    identifications: Tally
    client_errors: list[LabelCount]
    """By code, the most frequent first."""
    by_version: list[VersionFigures]


class SdkPoint(NamedTuple):
    begins: datetime
    initialisations: int
    registrations: Tally
    identifications: Tally
    client_errors: int


def sdk_figures(*, application: Application, period: Period, platform: str = "", using: str = "default") -> SdkFigures:
    select = ["platform", "sdk_version", "figure", "label"]
    buckets: dict[int, int] = defaultdict(int)
    errors: dict[str, int] = defaultdict(int)
    versions: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for where, version, figure, label, count in _rows(application, period, select, platform, using):
        versions[where, version][figure] += count
        if figure == SdkFigure.INITIALISED:
            buckets[int(label)] += count
        elif figure == SdkFigure.CLIENT_ERROR:
            errors[label] += count
    by_version = [
        VersionFigures(where, version, *_figures(counts)) for (where, version), counts in sorted(versions.items())
    ]
    return SdkFigures(
        initialisations=distribution_of(buckets, INITIALISATION_BOUNDS_MS),
        registrations=_total([row.registrations for row in by_version]),
        identifications=_total([row.identifications for row in by_version]),
        client_errors=[LabelCount(*pair) for pair in sorted(errors.items(), key=lambda pair: (-pair[1], pair[0]))],
        by_version=by_version,
    )


def sdk_series(
    *, application: Application, period: Period, step: Step, platform: str = "", using: str = "default"
) -> list[SdkPoint]:
    """A point for each hour or day; where nothing was said, zeros."""
    found: dict[datetime, dict[str, int]] = {point: defaultdict(int) for point in points_of(period, step)}
    for hour, figure, count in _rows(application, period, ["hour", "figure"], platform, using):
        found.setdefault(point_of(hour, period, step), defaultdict(int))[figure] += count
    return [SdkPoint(point.astimezone(period.zone), *_figures(counts)) for point, counts in found.items()]


def _rows(
    application: Application, period: Period, select: list[str], platform: str, using: str
) -> list[tuple[Any, ...]]:
    return rollup_rows(
        using=using,
        table="analytics_sdkhour",
        application=application,
        period=period,
        select=select,
        measures=["count"],
        equal={"platform": platform} if platform else {},
    )


def _figures(counts: dict[str, int]) -> tuple[int, Tally, Tally, int]:
    return (
        counts.get(SdkFigure.INITIALISED, 0),
        Tally(counts.get(SdkFigure.REGISTRATION_OK, 0), counts.get(SdkFigure.REGISTRATION_FAILED, 0)),
        Tally(counts.get(SdkFigure.IDENTIFICATION_OK, 0), counts.get(SdkFigure.IDENTIFICATION_FAILED, 0)),
        counts.get(SdkFigure.CLIENT_ERROR, 0),
    )


def _total(tallies: list[Tally]) -> Tally:
    return Tally(sum(tally.ok for tally in tallies), sum(tally.failed for tally in tallies))
