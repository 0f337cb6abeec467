"""The seam by which upper apps take part in erasing and exporting a user.

Messages, reports and ledgers lie above this app, so it cannot know what they hold about a person. They register here
at start-up (`AppConfig.ready`). Erasers run inside the transaction of the erasure: one that raises undoes it all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from apps.subscriptions.models import AppUser

Eraser = Callable[[AppUser, Sequence[UUID]], None]
"""Gets the user, still with its external id, and the ids of all its subscriptions; removes the person's data."""
Exporter = Callable[[AppUser, Sequence[UUID]], Any]
"""Gets the same, and answers with JSON-ready data."""

_erasers: list[Eraser] = []
_exporters: dict[str, Exporter] = {}


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
