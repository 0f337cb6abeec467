"""The seam by which upper apps take part in erasing and exporting a user.

Messages, reports and ledgers lie above this app, so it cannot know what they hold about a person. They register here
at start-up (`AppConfig.ready`). Erasers run inside the transaction of the erasure: one that raises undoes it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from apps.subscriptions.models import AppUser

Eraser = Callable[[AppUser, Sequence[UUID]], None]
"""Gets the user, still with its external id, and the ids of all its subscriptions; removes the person's data."""
Exporter = Callable[[AppUser, Sequence[UUID]], Any]
"""Gets the same, and answers with JSON-ready data."""


class Page(NamedTuple):
    """Some of what is held about a person, JSON-ready, and the key to go on after; empty: there is no more."""

    rows: list[Any]
    after: str = ""


Reader = Callable[[AppUser, Sequence[UUID], str], Page]
"""Gets the same and the key of the page before, empty at first: for what may be too much to be read in one go."""
Counter = Callable[[AppUser, Sequence[UUID]], int]
"""How much there is that an erasure takes away."""

_erasers: list[Eraser] = []
_exporters: dict[str, Exporter] = {}
_readers: dict[str, Reader] = {}
_counters: dict[str, Counter] = {}


def register_eraser(eraser: Eraser) -> None:
    """Call `eraser` with every user that is erased; registering twice is registering once."""
    if eraser not in _erasers:
        _erasers.append(eraser)


def register_exporter(name: str, exporter: Exporter) -> None:
    """Add what `exporter` answers to every export, under `name`."""
    if _exporters.setdefault(name, exporter) is not exporter:
        raise ValueError(f"there is an exporter for {name!r} already")


def erase_above(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Let every upper app erase what it holds."""
    for eraser in _erasers:
        eraser(user, subscription_ids)


def export_above(user: AppUser, subscription_ids: Sequence[UUID]) -> dict[str, Any]:
    """What every upper app holds, by name."""
    return {name: exporter(user, subscription_ids) for name, exporter in _exporters.items()}


def register_reader(name: str, reader: Reader) -> None:
    """Read `name` page by page where a copy is made in steps; else what its exporter answers is the only page."""
    if _readers.setdefault(name, reader) is not reader:
        raise ValueError(f"there is a reader for {name!r} already")


def register_counter(name: str, counter: Counter) -> None:
    """Count `name` before and after an erasure: the proof that it was one."""
    if _counters.setdefault(name, counter) is not counter:
        raise ValueError(f"there is a counter for {name!r} already")


def readers() -> dict[str, Reader]:
    """Every section of a copy, by name, in a fixed order."""
    whole = {name: _in_one_go(exporter) for name, exporter in _exporters.items() if name not in _readers}
    return {**_readers, **whole}


def _in_one_go(exporter: Exporter) -> Reader:
    def read(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
        return Page([exporter(user, subscription_ids)])

    return read


def count_all(user: AppUser, subscription_ids: Sequence[UUID]) -> dict[str, int]:
    """What there is of a person, by name."""
    return {name: counter(user, subscription_ids) for name, counter in _counters.items()}
