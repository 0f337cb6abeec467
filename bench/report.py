"""What was measured: a table for people, and a list of figures for machines."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

Value = float | int | str | bool


class Figure(NamedTuple):
    """One figure; `goal` and `met` are None where none was promised, or where it cannot be judged."""

    part: str
    case: str
    metric: str
    value: Value
    unit: str = ""
    goal: str | None = None
    met: bool | None = None


class Goal(NamedTuple):
    """A bound on a figure."""

    bound: float
    at_most: bool = False

    def text(self, unit: str) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:,g} {unit}".rstrip()

    def is_met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass
class Report:
    """Figures as they come. `quotable` is False where nothing measured may be held against a goal."""

    quotable: bool = True
    figures: list[Figure] = field(default_factory=list)

    def add(
        self, part: str, case: str, metric: str, value: Value, unit: str = "", *, goal: Goal | None = None
    ) -> Figure:
        judged = goal is not None and self.quotable and isinstance(value, int | float)
        figure = Figure(
            part,
            case,
            metric,
            round(value, 4) if isinstance(value, float) else value,
            unit,
            goal.text(unit) if goal else None,
            goal.is_met(float(value)) if goal and judged else None,
        )
        self.figures.append(figure)
        return figure

    def of(self, part: str) -> list[Figure]:
        return [figure for figure in self.figures if figure.part == part]

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([figure._asdict() for figure in self.figures], indent=1) + "\n")

    def table(self, part: str) -> str:
        """A line for each case, a column for each metric, and below it how the goals came out."""
        figures = self.of(part)
        metrics = list(dict.fromkeys(figure.metric for figure in figures))
        cases = list(dict.fromkeys(figure.case for figure in figures))
        cells = {(figure.case, figure.metric): figure for figure in figures}
        units = {figure.metric: figure.unit for figure in figures}
        head = ["case", *(f"{metric} {units[metric]}".rstrip() for metric in metrics)]
        rows = [[case, *(_shown(cells.get((case, metric))) for metric in metrics)] for case in cases]
        return "\n".join([*aligned([head, *rows]), *_verdicts(figures)])

    def tables(self, part: str) -> str:
        """Of the part, and of those it made beside its own: `part: more`."""
        names = dict.fromkeys(figure.part for figure in self.figures)
        found = [name for name in names if name == part or name.startswith(f"{part}: ")]
        return "\n\n".join(f"{name}\n{self.table(name)}" if name != part else self.table(name) for name in found)

    @property
    def missed(self) -> list[Figure]:
        return [figure for figure in self.figures if figure.met is False]


def _shown(figure: Figure | None) -> str:
    if figure is None:
        return ""
    value = figure.value
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _verdicts(figures: Iterable[Figure]) -> Iterator[str]:
    """A line for each goal that was missed, and one for how many were met."""
    judged = [figure for figure in figures if figure.met is not None]
    for figure in judged:
        if not figure.met:
            yield f"  MISSED  {figure.case}: {figure.metric} {_shown(figure)} {figure.unit} (goal {figure.goal})"
    if judged:
        yield f"  {sum(bool(figure.met) for figure in judged)} of {len(judged)} goals met"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns: the first to the left, the others to the right, each heading one word a line."""
    head, *body = rows
    words = [heading.split(" ") for heading in head]
    height = max(map(len, words))
    heads = [[column[line] if line < len(column) else "" for column in words] for line in range(height)]
    widths = [max(len(row[column]) for row in [*heads, *body]) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in [*heads, rule, *body]
    ]


class Spread(NamedTuple):
    """The median of some runs, with the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])

    def __str__(self) -> str:
        return f"{self.least:,.0f}-{self.greatest:,.0f}"
