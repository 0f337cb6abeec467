"""The one picture of a report. Its labels are dates and numbers only, so that it needs no font but matplotlib's own."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

WIDTH_IN, HEIGHT_IN, DPI = 6.4, 2.4, 150
COLOURS = {"sent": "#9333ea", "received": "#0d9488", "failed": "#dc2626"}
"""Also those of the words in the letter, which say what is what."""
GRID, INK = "#e5e7eb", "#6b7280"
LABELS_MAX = 12
_one_at_a_time = threading.Lock()
"""Of the web's threads: matplotlib does not promise to be safe for several."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour or day."""

    label: str
    sent: int
    received: int
    failed: int


def drawn(bars: Sequence[Bar]) -> bytes:
    """A PNG of what was sent, received and failed by hour or day, on white, 960 by 360 pixels.

    About 0.1 s of CPU, and in the first call of a process a second and a half more to load matplotlib.
    """
    with _one_at_a_time:
        return _drawn(bars)


def _drawn(bars: Sequence[Bar]) -> bytes:
    figure = _figure()(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    places = range(len(bars))
    axes.bar([n - 0.21 for n in places], [bar.sent for bar in bars], 0.4, color=COLOURS["sent"])
    axes.bar([n + 0.21 for n in places], [bar.received for bar in bars], 0.4, color=COLOURS["received"])
    axes.plot(places, [bar.failed for bar in bars], color=COLOURS["failed"], linewidth=1.5, marker="o", markersize=2.5)
    _quiet(axes)
    step = max(1, -(-len(bars) // LABELS_MAX))
    axes.set_xticks(list(places)[::step], [bar.label for bar in bars][::step])
    axes.set_ylim(0, max(1, *(max(bar.sent, bar.received, bar.failed) for bar in bars)) * 1.1)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _quiet(axes: Any) -> None:
    """Horizontal lines only, small grey figures, thousands with a comma."""
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
    axes.yaxis.set_major_locator(_locator()(nbins=4, integer=True))


@cache
def _figure() -> Any:
    """matplotlib's figure with the renderer of files. Loaded by who draws: it is 77 MB that no other process needs.

    Without `pyplot`, which keeps each figure until it is told to close it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def make(**options: Any) -> Figure:
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        return figure

    return make


@cache
def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator
