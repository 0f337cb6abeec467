"""What the push senders share: deliveries in, requests over one HTTP/2 client, results out, one retry in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from apps.messaging.adapters.base import Delivery, Endpoint, Outcome, Result
from apps.messaging.adapters.http2 import Answer, Failure, Http2Client, Request

__all__ = ["PushSender", "Sent", "unanswered"]


class Sent(NamedTuple):
    """A delivery on the wire; comes back with its answer."""

    delivery: Delivery
    authorization: bytes
    """The header it was sent with, to know whether a newer token could help."""
    is_again: bool


class PushSender(ABC):
    """A `Sender` for a provider that takes one POST per message over HTTP/2.

    The provider's part is `_request` (build) and `_result` (parse). One `send` at a time, from one thread.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = Http2Client(
            ca_file=endpoint.ca_file,
            connections=endpoint.connections,
            streams=endpoint.streams,
            timeout_s=endpoint.timeout_s,
        )

    def send(self, deliveries: Iterable[Delivery | None], *, expires_at: float | None = None) -> Iterator[Result]:
        """See `Sender.send`. `deliveries` may give None when there is nothing to send yet: it is asked again soon."""
        self._begin(expires_at)
        again: deque[Sent] = deque()
        in_flight = 0

        def requests() -> Iterator[Request[Sent | Result] | Answer[Sent | Result] | None]:
            nonlocal in_flight
            for delivery in deliveries:
                if delivery is None:
                    yield None
                else:
                    in_flight += 1
                    yield self._request(delivery, None)
                while again:
                    in_flight += 1
                    sent = again.popleft()
                    yield self._request(sent.delivery, sent)
            while in_flight or again:
                if again:
                    in_flight += 1
                    sent = again.popleft()
                    yield self._request(sent.delivery, sent)
                else:
                    yield None

        for answer in self._client.exchange(requests()):
            in_flight -= 1
            tag = answer.tag
            if isinstance(tag, Result):
                yield tag
                continue
            result = self._result(tag, answer)
            if result is None:
                again.append(tag)
            else:
                yield result

    def close(self) -> None:
        self._client.close()

    @abstractmethod
    def _begin(self, expires_at: float | None) -> None:
        """A new call of `send`."""

    @abstractmethod
    def _request(self, delivery: Delivery, before: Sent | None) -> Request[Sent | Result] | Answer[Sent | Result]:
        """Build the request, or `unsent` a result that needs no network. `before` is set for the second try."""

    @abstractmethod
    def _result(self, sent: Sent, answer: Answer[Sent | Result]) -> Result | None:
        """Parse the answer. None to send once more at once; never for what `is_again`."""


def unsent(result: Result) -> Answer[Sent | Result]:
    """A result that needs no network, in the place of a request."""
    return Answer(result, 0, None, b"")


def unanswered(delivery: Delivery, answer: Answer[Sent | Result]) -> Result:
    """The result of a request that got no answer."""
    outcome = Outcome.TRANSIENT if answer.failure is Failure.NOT_SENT else Outcome.UNKNOWN
    return Result(delivery.message_id, outcome, answer.reason)
