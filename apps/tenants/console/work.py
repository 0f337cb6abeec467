"""Long work: what runs in the background for the operator's applications, and what ran lately.

An app registers each kind of work that it has; one page lists them all, and the frame shows how many run. Whoever
starts something long can leave its page and find it again here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

SHOWN = 30
"""Of each kind."""


@dataclass(frozen=True)
class Work:
    """One piece of work, as the page shows it. Addresses are the console's own; empty: there is none."""

    title: str
    application_id: UUID | None
    by: str
    started_at: datetime
    is_running: bool
    state: Any
    """In a word."""
    colour: str
    """info, success, warning, danger or default."""
    percent: int | None = None
    """0 to 100; None: nobody knows how much there is to do."""
    line: str = ""
    """What was done so far, in numbers."""
    finished_at: datetime | None = None
    problem: str = ""
    address: str = ""
    """Its own page."""
    result: str = ""
    """Where what came of it is."""
    result_label: Any = ""
    cancel: str = ""
    """The page that asks whether it is to be canceled."""


Finder = Callable[[Sequence[UUID] | None, bool], list[Work]]
"""Gets the applications, or None for the whole platform's, and whether only what runs is wanted."""
Counter = Callable[[Sequence[UUID] | None], int]
"""Gets the same, and says how much of it runs."""


@dataclass(frozen=True)
class Source:
    name: str
    label: Any
    icon: str
    scope: str
    """Who may see it, by application; empty: superusers only."""
    find: Finder
    count: Counter
    cancel_scope: str = ""
    """Who may cancel it, if seeing it is not enough."""


_sources: dict[str, Source] = {}


def work_source(
    name: str, *, label: Any, icon: str, scope: str, count: Counter, cancel_scope: str = ""
) -> Callable[[Finder], Finder]:
    """Register a function that finds work of a kind, newest first, `SHOWN` at most; `count` counts what runs of it."""

    def register(find: Finder) -> Finder:
        _sources[name] = Source(name, label, icon, scope, find, count, cancel_scope)
        return find

    return register


def work_sources() -> list[Source]:
    return list(_sources.values())
