"""UUIDv7 keys, and ranges of them for slices of messages.

A message id is laid out so that two things need no index of their own:

    48 bits  milliseconds since 1970          time order, and the partition
     4 bits  version 7
    12 bits  random      ─┐
     2 bits  variant      ├ 50 random bits, one draw per slice: no other slice's id can fall between
    38 bits  random      ─┘ the first and the last of this one, so a slice is a range of the primary key
    16 bits  position in the slice
     8 bits  0 for the message; the number of the event for its events (`event_id`), so that a message's
             events are a range of their own primary key, and the same event can be written only once
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7 as new_id

__all__ = ["PREFIX_LENGTH", "SLICE_MAX", "IdRange", "event_id", "first_id_at", "new_id", "new_range"]

SLICE_MAX = 1 << 16
"""Ids in one range, at most."""

PREFIX_LENGTH = 30
"""Characters of an id's text that all ids of its range share, and no other ids."""
_VERSION = 7 << 76
_VARIANT = 2 << 62


class IdRange(NamedTuple):
    """The ids of one slice: `base` and the next ones in steps of 256."""

    base: UUID

    def at(self, position: int) -> UUID:
        """The id at `position`, 0 to `SLICE_MAX` - 1."""
        if not 0 <= position < SLICE_MAX:
            raise ValueError(f"position {position} is outside of a range of {SLICE_MAX}")
        return UUID(int=self.base.int + (position << 8))

    @property
    def last(self) -> UUID:
        """The greatest id that can be in the range, its events included."""
        return UUID(int=self.base.int + (SLICE_MAX << 8) - 1)

    def texts(self) -> Iterator[str]:
        """The ids from the first on, as text."""
        prefix = self.prefix
        return (f"{prefix}{position:04x}00" for position in range(SLICE_MAX))

    @property
    def prefix(self) -> str:
        """The first `PREFIX_LENGTH` characters of every id here; four hex digits of position and `00` follow."""
        return str(self.base)[:PREFIX_LENGTH]


def new_range(*, unix_ms: int | None = None) -> IdRange:
    """A fresh range, starting now or at `unix_ms`."""
    ms = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    high, low = secrets.randbits(12), secrets.randbits(38)
    return IdRange(UUID(int=(ms << 80) | _VERSION | (high << 64) | _VARIANT | (low << 24)))


def event_id(message_id: UUID, number: int) -> UUID:
    """The id of a message's event `number`, 1 to 255."""
    if not 1 <= number <= 255:
        raise ValueError(f"event number {number} is not in 1..255")
    return UUID(int=(message_id.int & ~0xFF) | number)


def first_id_at(unix_ms: int) -> UUID:
    """The lower bound of all UUIDv7 made at `unix_ms` or later: where a partition starts."""
    return UUID(int=unix_ms << 80)
