"""What a chunk of rows comes to: counted the same whether it is written or only looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.subscriptions.imports.columns import Reject


class Raced(Exception):
    """Somebody changed what we had looked at. The transaction is to be undone and the chunk looked at again."""


@dataclass
class Outcome:
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    """Were there, and were to be left alone."""
    kept: int = 0
    """Asked to be subscribed and had ended before."""
    rejects: list[Reject] = field(default_factory=list)
