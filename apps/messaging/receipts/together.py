"""Receipts of requests that come at the same time, recorded in one transaction.

A phone sends one receipt at a time, and after a campaign thousands of phones do so every second. Alone, each would be
four statements and a commit, all of them upon the same campaign's row. So the first request to come records its own;
those that come meanwhile wait, and the first of them records all of theirs together. Nobody waits for company: with
one request at a time each is recorded at once.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from apps.messaging.receipts.sdk import RECEIPTS_MAX, Receipt, ReceiptAnswer, receipts_apply
from apps.tenants.models import Application

TOGETHER_MAX = 20
"""Receipts of one request; with more it goes its own way."""


@dataclass(eq=False)
class _Request:
    application: Application
    receipts: Sequence[Receipt]
    trusted: bool
    turn: threading.Event = field(default_factory=threading.Event)
    """Set when there are answers, or when the request is to go on itself."""
    leads: bool = False
    answers: list[ReceiptAnswer] | None = None

    def goes_with(self, other: _Request) -> bool:
        return self.application.pk == other.application.pk and self.trusted == other.trusted

    def record(self) -> list[ReceiptAnswer]:
        return receipts_apply(application=self.application, receipts=self.receipts, trusted=self.trusted)


class Gathering:
    """The requests of one process that wait to be recorded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._is_recording = False

    def apply(self, *, application: Application, receipts: Sequence[Receipt], trusted: bool) -> list[ReceiptAnswer]:
        """`receipts_apply`, together with whoever waits. What fails together is tried again by each alone, so that
        nobody gets another's error. Many receipts are a transaction of their own, which nobody waits for."""
        if len(receipts) > TOGETHER_MAX:
            return receipts_apply(application=application, receipts=receipts, trusted=trusted)
        mine = _Request(application, receipts, trusted)
        with self._lock:
            mine.leads = not self._is_recording
            self._is_recording = True
            if not mine.leads:
                self._waiting.append(mine)
        if not mine.leads:
            mine.turn.wait()
        if mine.leads:
            try:
                self._record_with_others(mine)
            finally:
                self._hand_over()
        return mine.record() if mine.answers is None else mine.answers

    def _record_with_others(self, mine: _Request) -> None:
        batch = [mine, *self._take(mine)]
        try:
            if len(batch) > 1:
                self._record(batch)
        except Exception:  # each tries alone, and has its own error then
            for request in batch:
                request.answers = None
        finally:
            for request in batch[1:]:
                request.turn.set()
        if len(batch) == 1:
            mine.answers = mine.record()

    def _take(self, mine: _Request) -> list[_Request]:
        """Those who wait and can be recorded with `mine`, as many as one transaction is for."""
        taken: list[_Request] = []
        room = RECEIPTS_MAX - len(mine.receipts)
        with self._lock:
            for request in self._waiting:
                if request.goes_with(mine) and len(request.receipts) <= room:
                    taken.append(request)
                    room -= len(request.receipts)
            self._waiting = [request for request in self._waiting if request not in taken]
        return taken

    def _record(self, batch: Sequence[_Request]) -> None:
        answers = receipts_apply(
            application=batch[0].application,
            receipts=[receipt for request in batch for receipt in request.receipts],
            trusted=batch[0].trusted,
        )
        at = 0
        for request in batch:
            request.answers = answers[at : at + len(request.receipts)]
            at += len(request.receipts)

    def _hand_over(self) -> None:
        """The one who has waited longest goes on; if nobody waits, the next to come."""
        with self._lock:
            self._is_recording = bool(self._waiting)
            if self._waiting:
                following = self._waiting.pop(0)
                following.leads = True
                following.turn.set()


gathering = Gathering()
