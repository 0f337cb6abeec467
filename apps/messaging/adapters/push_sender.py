"""What the push senders share: deliveries in, requests over one HTTP/2 client, results out, one retry in place."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from apps.messaging.adapters.base import ContentError, Delivery, Endpoint, Outcome, Result
from apps.messaging.adapters.http2 import Answer, Failure, Http2Client, Request
from automata_signal.metrics import provider_answered

__all__ = ["Again", "NoAuthorization", "PushSender", "Tag"]

REVIEW_S = 1.0
"""How often a sender looks whether its token and what it has encoded are still good."""


@dataclass(frozen=True, slots=True)
class Again:
    """A delivery that is sent a second time, which is the last."""

    delivery: Delivery
    on_new_connection: bool = False


Tag = Delivery | Again | Result
"""What a request carries for its sender. A `Result` needs no network, and is passed on."""


class NoAuthorization(Exception):
    """Nothing can be sent now: no token is to be had."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


class PushSender(ABC):
    """A `Sender` for a provider that takes one POST per message over HTTP/2.

    The provider's part is to build (`_build`, and `_review` for what holds for many) and to parse (`_parse`). One
    `send` at a time, from one thread.
    """

    provider: ClassVar[str]
    """The adapter's name."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = Http2Client(
            ca_file=endpoint.ca_file,
            connections=endpoint.connections,
            streams=endpoint.streams,
            timeout_s=endpoint.timeout_s,
        )
        self._review_at = 0.0
        self._obstacle: NoAuthorization | None = None
        self._timed: Tag | None = None
        """One request at a time is measured: that costs the others nothing."""
        self._timed_at = 0.0

    def send(self, deliveries: Iterable[Delivery | None]) -> Iterator[Result]:
        """See `Sender.send`."""
        self._review_at, self._timed = 0.0, None
        again: deque[Again] = deque()
        in_flight = 0

        def requests() -> Iterator[Request[Tag] | Answer[Tag] | None]:
            nonlocal in_flight
            for delivery in deliveries:
                if delivery is None:
                    yield None
                else:
                    in_flight += 1
                    yield self._request(delivery, delivery)
                while again:
                    in_flight += 1
                    yield self._request(again[0].delivery, again.popleft())
            while in_flight or again:
                if again:
                    in_flight += 1
                    yield self._request(again[0].delivery, again.popleft())
                else:
                    yield None

        for answer in self._client.exchange(requests()):
            in_flight -= 1
            result = self._result(answer)
            if isinstance(result, Again):
                again.append(result)
            else:
                yield result

    def close(self) -> None:
        self._client.close()

    def _request(self, delivery: Delivery, tag: Delivery | Again) -> Request[Tag] | Answer[Tag]:
        """The request for a delivery; where none can be made, the result in its place."""
        now = time.monotonic()
        if now >= self._review_at:
            self._review_at = now + REVIEW_S
            try:
                self._review()
                self._obstacle = None
            except NoAuthorization as obstacle:
                self._obstacle = obstacle
        if self._obstacle is not None:
            return _in_place(Result(delivery.message_id, self._obstacle.outcome, self._obstacle.reason))
        try:
            request = self._build(delivery, tag)
        except ContentError as error:
            return _in_place(Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, f"invalid {error.field}"))
        if isinstance(request, Result):
            return _in_place(request)
        if self._timed is None:
            self._timed, self._timed_at = tag, now
        return request

    def _result(self, answer: Answer[Tag]) -> Result | Again:
        tag = answer.request.tag
        if isinstance(tag, Result):
            return tag
        if tag is self._timed:
            self._timed = None
            provider_answered(self.provider, time.monotonic() - self._timed_at)
        delivery = tag.delivery if isinstance(tag, Again) else tag
        if answer.failure is not None:
            outcome = Outcome.TRANSIENT if answer.failure is Failure.NOT_SENT else Outcome.UNKNOWN
            return Result(delivery.message_id, outcome, answer.reason)
        return self._parse(delivery, answer)

    @abstractmethod
    def _review(self) -> None:
        """See that the authorization is good; forget what was encoded for another or for another time.

        Called when `send` begins and at least every `REVIEW_S` while it sends. Raises `NoAuthorization`.
        """

    @abstractmethod
    def _build(self, delivery: Delivery, tag: Delivery | Again) -> Request[Tag] | Result:
        """The request, or a result that needs no network. Raises `ContentError`."""

    @abstractmethod
    def _parse(self, delivery: Delivery, answer: Answer[Tag]) -> Result | Again:
        """What the answer means; `Again` to send the delivery once more, never for what is sent again already."""


def _in_place(result: Result) -> Answer[Tag]:
    return Answer(Request(result, "", b"", (), b""), 0, None, b"")
