"""The one seam by which upper apps learn of results: set-based, inside the transaction that moves the messages.

Campaign counters and rollups register here at start-up (`AppConfig.ready`). A recorder gets what one statement moved,
already grouped, so its cost is per slice and never per message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from apps.messaging import charges

PLANNED = "planned"


class StatusCount(NamedTuple):
    """So many messages of one campaign (or of none) that went from one state to another."""

    application_id: UUID
    campaign_id: UUID | None
    channel_type: str
    old: str
    """Empty for messages that were just made; `PLANNED` for recipients who left before theirs was made."""
    new: str
    reason: str
    messages: int
    dispatch_id: UUID | None = None
    """Of a campaign's messages: the order that they belong to."""


Recorder = Callable[[Sequence[StatusCount]], None]

_recorders: list[Recorder] = []


def register(recorder: Recorder) -> None:
    """Call `recorder` with every set of transitions from now on; registering twice is registering once."""
    if recorder not in _recorders:
        _recorders.append(recorder)


def record(counts: Sequence[StatusCount], *, reserved_at: datetime | None = None) -> None:
    """Tell every recorder, and settle what was reserved; called last in the transaction, since these lock rows that all
    slices share, the quota's at the very end.

    `reserved_at` is when the messages were reserved, if some of them may have failed: their dispatch's `created_at`.
    """
    if counts:
        for recorder in _recorders:
            recorder(counts)
        charges.settle(counts, reserved_at)
