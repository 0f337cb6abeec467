"""Charts as SVG, drawn on the server: a page needs no script for them, and none from another host.

Colours are readable on white and on black; text and lines take the colour of the page. Each column has a `<title>`,
which a pointer shows, and the chart as a whole has one for who does not see it; pages have the numbers as a table too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

COLOURS = {
    "sent": "#a855f7",
    "received": "#14b8a6",
    "converted": "#3b82f6",
    "failed": "#ef4444",
    "gained": "#14b8a6",
    "lost": "#ef4444",
    "active": "#a855f7",
    "waiting": "#94a3b8",
}
WIDE, NARROW, HEIGHT = 920, 440, 240
"""Of the picture's own coordinates; on the page it is as wide as its place, and no narrower than it can be read."""
WIDE_MIN_PX, NARROW_MIN_PX = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 10, 24
LABEL_WIDTH = 46
_POINTS_SHOWN_MAX = 62


@dataclass(frozen=True, slots=True)
class Line:
    label: str
    colour: str
    values: Sequence[float]


def ticks(top: float, wanted: int = 4) -> list[float]:
    """Round numbers from 0 to the first that is not below `top`: 0, 250, 500, 750, 1,000. Whole ones, of counts."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / wanted
    power = 10.0 ** floor(log10(raw))
    factors = (1, 2, 2.5, 5, 10) if power >= 10 else (1, 2, 5, 10)
    step = max(1.0, next(factor * power for factor in factors if factor * power >= raw * 0.999))
    return [step * n for n in range(ceil(top / step) + 1)]


def line_chart(title: str, labels: Sequence[str], lines: Sequence[Line], *, width: int = NARROW) -> SafeString:
    """One line for each of `lines`; `labels` name the places on the x axis, of which some are written."""
    scale = _Scale(width, len(labels), max((value for line in lines for value in line.values), default=0))
    drawn = format_html_join("", "{}", ((_line(scale, line),) for line in lines))
    return _svg(title, width, format_html("{}{}{}", scale.axes(labels), drawn, _hovers(scale, labels, lines)))


def _hovers(scale: _Scale, labels: Sequence[str], lines: Sequence[Line]) -> SafeString:
    """What a pointer is told at each place of the x axis: the value of each line there."""
    return format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}" fill="transparent"><title>{}</title></rect>',
        (
            (
                f"{scale.x(n) - scale.step / 2:.1f}",
                TOP,
                f"{scale.step:.1f}",
                HEIGHT - TOP - BOTTOM,
                f"{label}: " + ", ".join(f"{line.label} {number(line.values[n])}" for line in lines),
            )
            for n, label in enumerate(labels)
        ),
    )


def column_chart(title: str, labels: Sequence[str], columns: Line, *, width: int = NARROW) -> SafeString:
    """One column for each label."""
    scale = _Scale(width, len(labels), max(columns.values, default=0))
    thick = max(2.0, scale.step * 0.7)
    drawn = format_html_join(
        "",
        '<rect x="{}" y="{}" width="{}" height="{}" rx="2" fill="{}"><title>{}: {}</title></rect>',
        (
            (
                f"{scale.x(n) - thick / 2:.1f}",
                f"{scale.y(value):.1f}",
                f"{thick:.1f}",
                f"{max(0.0, scale.y(0) - scale.y(value)):.1f}",
                columns.colour,
                label,
                number(value),
            )
            for n, (label, value) in enumerate(zip(labels, columns.values, strict=True))
        ),
    )
    return _svg(title, width, format_html("{}{}", scale.axes(labels), drawn))


def stacked_chart(title: str, labels: Sequence[str], layers: Sequence[Line], *, width: int = WIDE) -> SafeString:
    """A column for each label, made of a part for each of `layers`, the first at the bottom."""
    totals = [sum(layer.values[n] for layer in layers) for n in range(len(labels))]
    scale = _Scale(width, len(labels), max(totals, default=0))
    thick = min(48.0, max(2.0, scale.step * 0.7))
    drawn = format_html_join("", "{}", ((_stack(scale, layers, n, thick),) for n in range(len(labels))))
    return _svg(title, width, format_html("{}{}{}", scale.axes(labels), drawn, _hovers(scale, labels, layers)))


def _stack(scale: _Scale, layers: Sequence[Line], place: int, thick: float) -> SafeString:
    parts, bottom = [], 0.0
    for layer in layers:
        if layer.values[place] > 0:
            top = bottom + layer.values[place]
            height = max(1.0, scale.y(bottom) - scale.y(top))
            parts.append(
                (
                    f"{scale.x(place) - thick / 2:.1f}",
                    f"{scale.y(top):.1f}",
                    f"{thick:.1f}",
                    f"{height:.1f}",
                    layer.colour,
                )
            )
            bottom = top
    return format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>', parts)


BAR_HEIGHT = 12
"""Of a lying bar, in px."""


def share_bar(title: str, parts: Sequence[tuple[str, str, float]], *, whole: float | None = None) -> SafeString:
    """A lying bar as wide as its place, of parts (label, colour, value); `whole` is what its full width stands for."""
    total = whole or sum(value for _label, _colour, value in parts) or 1.0
    drawn, left = [], 0.0
    for label, colour, value in parts:
        if value > 0:
            wide = min(100 * value / total, 100 - left)
            drawn.append((f"{left:.2f}%", f"{wide:.2f}%", BAR_HEIGHT, colour, label, number(value)))
            left += wide
    rects = format_html_join(
        "", '<rect x="{}" y="0" width="{}" height="{}" fill="{}"><title>{}: {}</title></rect>', drawn
    )
    return format_html(
        '<svg role="img" aria-label="{}" width="100%" height="{}" style="display: block; border-radius: 6px">'
        '<rect width="100%" height="{}" fill="currentColor" fill-opacity="0.08"/>{}</svg>',
        title,
        BAR_HEIGHT,
        BAR_HEIGHT,
        rects,
    )


def interval_bar(title: str, share: float, low: float, high: float, *, top: float, colour: str) -> SafeString:
    """A share as a lying bar with the interval in which it lies, on a scale to `top`; as wide as its place."""
    places = [f"{100 * min(1.0, value / top) if top else 0.0:.2f}%" for value in (share, low, high)]
    at, begins, ends = places
    return format_html(
        '<svg role="img" aria-label="{}" width="100%" height="22" style="display: block; overflow: visible">'
        '<rect width="100%" y="5" height="12" rx="3" fill="currentColor" fill-opacity="0.08"/>'
        '<rect width="{}" y="5" height="12" rx="3" fill="{}" fill-opacity="0.75"/>'
        '<g stroke="currentColor" stroke-width="2"><line x1="{}" x2="{}" y1="11" y2="11"/>'
        '<line x1="{}" x2="{}" y1="5" y2="17"/><line x1="{}" x2="{}" y1="5" y2="17"/></g><title>{}</title></svg>',
        title,
        at,
        colour,
        *(begins, ends),
        *(begins, begins),
        *(ends, ends),
        title,
    )


def number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


class _Scale:
    """Where values lie on the picture."""

    def __init__(self, width: int, places: int, top: float) -> None:
        self.width = width
        self.ticks = ticks(top)
        self.step = (width - LEFT - RIGHT) / max(1, places)

    def x(self, place: int) -> float:
        return LEFT + self.step * (place + 0.5)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.ticks[-1]

    def axes(self, labels: Sequence[str]) -> SafeString:
        grid = format_html_join(
            "",
            '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="currentColor" stroke-opacity="0.15"/>'
            '<text x="{}" y="{}" text-anchor="end" fill="currentColor" font-size="11">{}</text>',
            (
                (
                    LEFT,
                    self.width - RIGHT,
                    f"{self.y(t):.1f}",
                    f"{self.y(t):.1f}",
                    LEFT - 8,
                    f"{self.y(t) + 4:.1f}",
                    number(t),
                )
                for t in self.ticks
            ),
        )
        fitting = max(1, (self.width - LEFT - RIGHT) // max(LABEL_WIDTH, *(7 * len(label) for label in labels), 0))
        every = max(1, -(-len(labels) // fitting))
        written = format_html_join(
            "",
            '<text x="{}" y="{}" text-anchor="middle" fill="currentColor" font-size="11">{}</text>',
            ((f"{self.x(n):.1f}", HEIGHT - 6, label) for n, label in enumerate(labels) if n % every == 0),
        )
        return format_html("{}{}", grid, written)


def _line(scale: _Scale, line: Line) -> SafeString:
    places = [(scale.x(n), scale.y(value)) for n, value in enumerate(line.values)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    path = format_html(
        '<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round"/>', points, line.colour
    )
    if len(places) > _POINTS_SHOWN_MAX:
        return path
    dots = format_html_join(
        "",
        '<circle cx="{}" cy="{}" r="2.5" fill="{}"/>',
        ((f"{x:.1f}", f"{y:.1f}", line.colour) for x, y in places),
    )
    return format_html("{}{}", path, dots)


def _svg(title: str, width: int, content: SafeString) -> SafeString:
    return format_html(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" width="100%" style="min-width: {}px; display: block">'
        "<title>{}</title>{}</svg>",
        width,
        HEIGHT,
        title,
        WIDE_MIN_PX if width == WIDE else NARROW_MIN_PX,
        title,
        content,
    )
