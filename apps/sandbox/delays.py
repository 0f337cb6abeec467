"""Answers that are due later, fired in ticks so that answers due together leave in one write."""

from __future__ import annotations

import asyncio

from apps.sandbox.exchange import Answer, Connection

TICK_S = 0.002


class DelayedAnswers:
    """Holds answers until they are due. One timer per tick instead of one per answer."""

    def __init__(self) -> None:
        self._ticks: dict[int, list[tuple[Connection, int, Answer]]] = {}

    def add(self, connection: Connection, stream_id: int, answer: Answer, delay_s: float) -> None:
        """Give `answer` on `stream_id` after `delay_s` seconds, rounded up to a tick."""
        loop = asyncio.get_running_loop()
        tick = int((loop.time() + delay_s) / TICK_S) + 1
        due = self._ticks.get(tick)
        if due is None:
            due = self._ticks[tick] = []
            loop.call_at(tick * TICK_S, self._fire, tick)
        due.append((connection, stream_id, answer))

    def _fire(self, tick: int) -> None:
        connections: dict[int, Connection] = {}
        for connection, stream_id, answer in self._ticks.pop(tick):
            connection.answer(stream_id, answer)
            connections[connection.number] = connection
        for connection in connections.values():
            connection.flush()
