"""What a stand-in provider has seen: a bounded journal of requests, and counts.

An entry costs about 1.3 KB with a usual push (measured: README.md), so the default bound of 200,000 is about 260 MB;
memory grows only as requests come.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Literal, NamedTuple

Outcome = Literal["accepted", "refused", "dropped", "validated", "token", "withdrawn"]


class Entry(NamedTuple):
    """One request and what became of it. `received_at` is epoch seconds; `status` 0 means no answer was given."""

    cursor: int
    received_at: float
    outcome: Outcome
    token: str
    message_id: str  # the platform's message id when the payload holds one, else the provider's
    provider_id: str  # apns-id, or FCM's message name
    headers: dict[str, str]
    body: bytes
    status: int
    reason: str
    connection: int
    stream: int

    def as_json(self, *, with_body: bool) -> dict[str, Any]:
        shown = self._asdict()
        del shown["body"]
        if with_body:
            shown["body"] = self.body.decode("utf-8", "replace")
        return shown


class Journal:
    """A ring of the last `size` entries. Cursors count from 1, never repeat, and survive `clear`.

    `duplicates` counts requests accepted again for the same message and device token, over the whole ring.
    """

    def __init__(self, size: int = 200_000) -> None:
        self.size = size
        self.last_cursor = 0
        self._ring: list[Entry | None] = []
        self.clear()

    def clear(self) -> None:
        """Forget entries and counts."""
        self._first_cursor = self.last_cursor + 1
        self._ring = [None] * min(self.size, 1024)
        self._accepted: Counter[tuple[str, str]] = Counter()
        self.requests = 0
        self.accepted = 0
        self.duplicates = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def record(
        self,
        outcome: Outcome,
        token: str,
        message_id: str,
        provider_id: str,
        headers: dict[str, str],
        body: bytes,
        status: int,
        reason: str,
        connection: int,
        stream: int,
    ) -> None:
        """Add one entry; the oldest falls out when the ring is full."""
        self.last_cursor = cursor = self.last_cursor + 1
        held = cursor - self._first_cursor
        if held >= len(self._ring):
            if len(self._ring) < self.size:
                self._grow()
            else:
                self._drop_oldest()
        self._ring[cursor % len(self._ring)] = Entry(
            cursor, time.time(), outcome, token, message_id, provider_id, headers, body, status, reason, connection,
            stream,
        )  # fmt: skip
        self.requests += 1
        self.outcomes[outcome] += 1
        if reason:
            self.reasons[reason] += 1
        if outcome == "accepted":
            self.accepted += 1
            count = self._accepted[(token, message_id)] + 1
            self._accepted[(token, message_id)] = count
            if count > 1:
                self.duplicates += 1

    def withdraw(self, connection: int, streams: frozenset[int]) -> None:
        """A GOAWAY has told that these streams were not processed: what was accepted there no longer is."""
        left = len(streams)
        for cursor in range(self.last_cursor, max(self._first_cursor, self.last_cursor - 10_000) - 1, -1):
            entry = self._ring[cursor % len(self._ring)]
            if not left or entry is None:
                break
            if entry.connection == connection and entry.stream in streams:
                left -= 1
                if entry.outcome == "accepted":
                    self._ring[cursor % len(self._ring)] = entry._replace(outcome="withdrawn", status=0)
                    self.accepted -= 1
                    self.outcomes["accepted"] -= 1
                    self.outcomes["withdrawn"] += 1
                    self._forget_accepted(entry)

    def read(
        self, *, since: int = 0, limit: int = 1000, token: str | None = None, outcome: str | None = None
    ) -> tuple[list[Entry], int, int]:
        """Entries after cursor `since`, oldest first; the cursor to go on from; how many were lost before them.

        A `since` beyond the last cursor (of a process that has gone) starts from the first entry.
        """
        if since > self.last_cursor:
            since = 0
        start = max(since + 1, self._first_cursor)
        found: list[Entry] = []
        cursor = start - 1
        for cursor in range(start, self.last_cursor + 1):
            entry = self._ring[cursor % len(self._ring)]
            assert entry is not None
            if (token is None or entry.token == token) and (outcome is None or entry.outcome == outcome):
                found.append(entry)
                if len(found) >= limit:
                    break
        return found, max(cursor, since), (start - since - 1 if since else 0)

    def counts(self, *, at_least: int = 1) -> dict[str, int]:
        """Accepted messages per device token, of tokens with at least so many."""
        by_token: Counter[str] = Counter()
        for (token, _), count in self._accepted.items():
            by_token[token] += count
        return {token: count for token, count in by_token.items() if count >= at_least}

    def duplicated(self) -> list[dict[str, Any]]:
        """The messages accepted more than once for one device token."""
        return [
            {"token": token, "message_id": message_id, "count": count}
            for (token, message_id), count in self._accepted.items()
            if count > 1
        ]

    def _grow(self) -> None:
        entries = [entry for entry in self._ring if entry is not None]
        self._ring = [None] * min(self.size, len(self._ring) * 4)
        for entry in entries:
            self._ring[entry.cursor % len(self._ring)] = entry

    def _drop_oldest(self) -> None:
        oldest = self._ring[self._first_cursor % len(self._ring)]
        self._first_cursor += 1
        if oldest is not None and oldest.outcome == "accepted":
            self._forget_accepted(oldest)

    def _forget_accepted(self, entry: Entry) -> None:
        key = (entry.token, entry.message_id)
        self._accepted[key] -= 1
        if self._accepted[key] <= 0:
            del self._accepted[key]
