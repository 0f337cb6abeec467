"""What senders of gateways share: one or many messages in a request, over a pool of HTTP connections.

Gateways take up to a thousand messages in a request and answer within a second or so, so a few connections carry tens
of thousands of messages a second, and a thread waits on each.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

import httpcore
import orjson

from apps.messaging.adapters.base import ContentError, Delivery, Endpoint, Outcome, Result
from automata_signal.metrics import provider_answered

__all__ = ["GatewayAnswer", "GatewayCall", "GatewaySender", "GroupSender", "HttpPool", "NotSent", "retry_after_s"]

log = logging.getLogger(__name__)

IDLE_S = 0.01
"""How long to wait for answers before a source that had nothing is asked again."""
KEEP_ALIVE_S = 15.0
"""Shorter than gateways keep a connection: one that they end as we write leaves the fate of a request unknown."""
ANSWER_MAX_BYTES = 16 * 1024 * 1024
ANSWER_TIMEOUTS = 2
"""An answer that has begun may take so many times the time-out, which is for each piece of it: a gateway that answers
by drops must not keep a thread for longer than the lease lasts."""
INTERNAL_ERROR = "internal_error"
"""A fault of ours; what it was stands in the log."""
INTERRUPTED = "interrupted"
"""It was gathered, and not sent: something failed before."""


class GatewayCall(NamedTuple):
    """A request to a gateway."""

    method: str
    path: str
    """With the query."""
    headers: Sequence[tuple[str, str]]
    body: bytes = b""


class GatewayAnswer(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None


class NotSent(Exception):
    """No byte of the request has left: it may be sent again. The message is one word, as in `Result.reason`."""


class _Unanswered(Exception):
    """The request was written, at least in part, and there is no answer."""


class HttpPool:
    """Open connections to one origin. For several threads; a process that was forked opens its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pool: httpcore.ConnectionPool | None = None
        self._owner = 0

    def call(self, call: GatewayCall) -> GatewayAnswer:
        """The answer, whatever its status. Raises `NotSent`, or another exception when the fate is unknown."""
        parts = urlsplit(self._endpoint.url)
        url = httpcore.URL(
            scheme=parts.scheme.encode(),
            host=(parts.hostname or "").encode(),
            port=parts.port,
            target=f"{parts.path.rstrip('/')}{call.path}".encode("ascii"),
        )
        headers = [("Host", parts.netloc), ("User-Agent", "Automata-Signal"), *call.headers]
        headers.append(("Content-Length", str(len(call.body))))
        seconds = self._endpoint.timeout_s
        times = {"connect": min(seconds, 5.0), "read": seconds, "write": seconds, "pool": seconds}
        try:
            with self._connections().stream(
                call.method, url, headers=headers, content=call.body, extensions={"timeout": times}
            ) as answer:
                until = time.monotonic() + ANSWER_TIMEOUTS * seconds
                return GatewayAnswer(answer.status, _lowered(answer.headers), _bounded(answer, until=until))
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise NotSent("couldnt_connect") from None
        except httpcore.PoolTimeout:
            raise NotSent("operation_timedout") from None
        except httpcore.UnsupportedProtocol:
            raise NotSent("couldnt_connect") from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            word = "operation_timedout" if isinstance(error, httpcore.TimeoutException) else "connection_lost"
            raise _Unanswered(word) from None

    def close(self) -> None:
        if self._pool is not None and self._owner == os.getpid():
            self._pool.close()
        self._pool = None

    def _connections(self) -> httpcore.ConnectionPool:
        if self._pool is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._pool = httpcore.ConnectionPool(
                ssl_context=ssl.create_default_context(cafile=self._endpoint.ca_file or None),
                max_connections=self._endpoint.connections,
                max_keepalive_connections=self._endpoint.connections,
                keepalive_expiry=KEEP_ALIVE_S,
                http1=True,
                http2=False,
                retries=0,
            )
        return self._pool


def _lowered(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}


def _bounded(answer: httpcore.Response, *, until: float) -> bytes:
    read, size = [], 0
    for chunk in answer.iter_stream():
        size += len(chunk)
        if size > ANSWER_MAX_BYTES:
            raise httpcore.RemoteProtocolError("the answer is too large")
        if time.monotonic() > until:
            raise httpcore.ReadTimeout("the answer does not end")
        read.append(chunk)
    return b"".join(read)


def retry_after_s(answer: GatewayAnswer) -> float | None:
    """The seconds of `Retry-After`, if it is a number of them."""
    value = answer.headers.get("retry-after", "").strip()
    return float(value) if value.isdecimal() and len(value) < 8 else None


class GroupSender(ABC):
    """A `Sender` whose deliveries leave in groups, each carried by one of a few threads."""

    provider: ClassVar[str]
    """The adapter's name."""
    per_request: ClassVar[int] = 1

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._threads: ThreadPoolExecutor | None = None
        self._owner = 0

    def send(self, deliveries: Iterable[Delivery | None]) -> Iterator[Result]:
        """See `Sender.send`. Deliveries that can go together leave as soon as there are `per_request` of them, or
        nothing more comes for the moment. When `deliveries` raises, what is in flight is answered first, then the
        exception goes on: an answer that is lost would be paid for twice."""
        gathered: dict[Hashable, list[Delivery]] = {}
        in_flight: set[Future[list[Result]]] = set()
        source, error = iter(deliveries), None
        try:
            while True:
                try:
                    delivery = next(source)
                except StopIteration:
                    break
                except Exception as raised:
                    error = raised
                    for group in gathered.values():  # none of it has left
                        yield from _all(group, Outcome.TRANSIENT, INTERRUPTED)
                    gathered.clear()
                    break
                if delivery is None:
                    in_flight.update(self._submit(group) for group in gathered.values())
                    gathered.clear()
                    yield from _answered(in_flight, timeout_s=IDLE_S)
                    continue
                try:
                    key = self._key(delivery)
                except ContentError as problem:
                    yield Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, f"invalid {problem.field}")
                    continue
                except Exception:
                    log.exception("a message could not be made", extra={"provider": self.provider})
                    yield Result(delivery.message_id, Outcome.PAYLOAD_REJECTED, INTERNAL_ERROR)
                    continue
                group = gathered.setdefault(key, [])
                group.append(delivery)
                if len(group) >= self._at_most(key):
                    in_flight.add(self._submit(gathered.pop(key)))
                    yield from _answered(in_flight, timeout_s=0.0)
                while len(in_flight) >= 2 * self._endpoint.connections:
                    yield from _answered(in_flight, timeout_s=None)
            in_flight.update(self._submit(group) for group in gathered.values())
            while in_flight:
                yield from _answered(in_flight, timeout_s=None)
        finally:
            wait(in_flight)  # nothing is on the wire when the caller goes on
        if error is not None:
            raise error

    def close(self) -> None:
        if self._threads is not None and self._owner == os.getpid():
            self._threads.shutdown()
        self._threads = None

    def _submit(self, group: list[Delivery]) -> Future[list[Result]]:
        if self._threads is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._threads = ThreadPoolExecutor(self._endpoint.connections, thread_name_prefix=self.provider)
        return self._threads.submit(self._exchanged, group)

    def _exchanged(self, group: list[Delivery]) -> list[Result]:
        """`_exchange`, whatever it meets: an answer of a form that nobody expected must neither take the others' along
        nor have its messages sent again and again."""
        try:
            return self._exchange(group)
        except Exception:
            log.exception("messages may have left: their answer could not be read", extra={"provider": self.provider})
            return _all(group, Outcome.UNKNOWN, INTERNAL_ERROR)

    def _key(self, delivery: Delivery) -> Hashable:
        """Deliveries with the same key can go in one group. Raises `ContentError`."""
        return None

    def _at_most(self, key: Hashable) -> int:
        """How many a group of this key takes."""
        return self.per_request

    @abstractmethod
    def _exchange(self, group: list[Delivery]) -> list[Result]:
        """Send a group, and a result for each of it; never raises, nor loses one. Runs in several threads."""


class GatewaySender(GroupSender):
    """A `Sender` for a gateway that takes up to `per_request` messages in a request.

    The gateway's part is to build a request (`_build`) and to read what its answer says of each message (`_parse`).
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._pool = HttpPool(endpoint)

    def close(self) -> None:
        super().close()
        self._pool.close()

    def _exchange(self, group: list[Delivery]) -> list[Result]:
        """One request and what it says of each message; never raises, nor loses one."""
        try:
            call = self._build(group)
        except ContentError as error:
            return _all(group, Outcome.PAYLOAD_REJECTED, f"invalid {error.field}")
        began = time.monotonic()
        try:
            answer = self._pool.call(call)
        except NotSent as error:
            return _all(group, Outcome.TRANSIENT, str(error))
        except _Unanswered as error:
            return _all(group, Outcome.UNKNOWN, str(error))
        provider_answered(self.provider, time.monotonic() - began)
        by_id = {result.message_id: result for result in self._parse(group, answer)}
        # What the gateway says nothing of may have left.
        missing = Result("", Outcome.UNKNOWN, "not_in_answer", answer.status)
        return [by_id.get(d.message_id) or missing._replace(message_id=d.message_id) for d in group]

    @abstractmethod
    def _build(self, deliveries: Sequence[Delivery]) -> GatewayCall:
        """The request that carries these deliveries. Raises `ContentError`. May run in several threads."""

    @abstractmethod
    def _parse(self, deliveries: Sequence[Delivery], answer: GatewayAnswer) -> Iterable[Result]:
        """A result for each delivery that the answer says something of; for all of them if it refuses the request."""


def _answered(in_flight: set[Future[list[Result]]], *, timeout_s: float | None) -> Iterator[Result]:
    """The results of requests that are answered; waits for one of them for `timeout_s`."""
    if not in_flight:
        if timeout_s:
            time.sleep(timeout_s)
        return
    for future in wait(in_flight, timeout_s, FIRST_COMPLETED).done:
        in_flight.discard(future)
        yield from future.result()


def _all(group: Iterable[Delivery], outcome: Outcome, reason: str) -> list[Result]:
    return [Result(delivery.message_id, outcome, reason) for delivery in group]
