"""What both stand-in providers share: examine a request, choose a behaviour, journal it, answer."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import orjson
from h2.errors import ErrorCodes

from apps.sandbox.behaviours import Action, Behaviour, Behaviours, LastStream
from apps.sandbox.delays import DelayedAnswers
from apps.sandbox.exchange import MAX_STREAM_ID, Answer, Connection, Request, Route
from apps.sandbox.journal import Journal, Outcome

JSON_HEADER = (b"content-type", b"application/json; charset=UTF-8")
HTML_HEADER = (b"content-type", b"text/html; charset=UTF-8")
BAD_GATEWAY_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


@dataclass
class Settings:
    """What can be changed while the process runs, by `PUT /settings`."""

    latency_ms: float = 0.0
    jitter_ms: float = 0.0  # uniform, on both sides of the latency
    down: Literal["", "unavailable", "refuse", "hang"] = ""
    goaway_every: int = 0  # a GOAWAY after so many requests of one connection; 0: never
    goaway_last_stream: LastStream = "current"
    goaway_reason: str = "Shutdown"
    stream_limit: int = 1000
    answer_order: Literal["arrival", "reversed"] = "arrival"
    clock_offset_s: float = 0.0  # the provider's clock runs ahead of the machine's by this
    access_token_ttl_s: int = 3599  # FCM

    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "down": ("", "unavailable", "refuse", "hang"),
        "goaway_last_stream": ("current", "previous", "zero", "max"),
        "answer_order": ("arrival", "reversed"),
    }

    def change(self, values: Mapping[str, Any]) -> None:
        """Set the given fields, all or none. Raises ValueError that names the field at fault."""
        known = {item.name: type(getattr(self, item.name)) for item in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"unknown setting: {name}; known: {', '.join(known)}")
            if name in self._CHOICES and value not in self._CHOICES[name]:
                raise ValueError(f"{name}: one of {', '.join(map(repr, self._CHOICES[name]))}")
            if known[name] is str and not isinstance(value, str):
                raise ValueError(f"{name}: a text")
            if known[name] is not str and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{name}: a number")
            if known[name] is not str and value < 0 and name != "clock_offset_s":
                raise ValueError(f"{name}: not below 0")
            if name == "stream_limit" and value < 1:
                raise ValueError("stream_limit: at least 1")
        for name, value in values.items():
            setattr(self, name, known[name](value))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Peer:
    """A provider's notes about one connection."""

    __slots__ = ("requests",)

    def __init__(self) -> None:
        self.requests = 0


@dataclass(slots=True)
class Examined:
    """A request as read: for whom, under which ids, and why it is refused (None: nothing wrong with it)."""

    token: str = ""
    message_id: str = ""
    provider_id: str = ""
    headers: dict[str, str] | None = None
    refusal: Answer | None = None
    reason: str = ""
    outcome: Outcome | None = None  # set when `refusal` is an answer of another kind, such as an access token


class StandIn(ABC):
    """What every stand-in over HTTP has: settings, behaviours, a journal, connections, and answers that may be late."""

    name: str

    def __init__(self, behaviours: Behaviours, settings: Settings, journal: Journal, *, seed: int = 0) -> None:
        self.behaviours = behaviours
        self.settings = settings
        self.journal = journal
        self.delays = DelayedAnswers()
        self.connections: dict[int, Connection] = {}
        self.clear_counts()
        self._initial = settings.as_json()
        self._random = random.Random(seed)
        self._immediate: list[tuple[int, Answer]] = []

    @abstractmethod
    def register(self, body: Mapping[str, Any]) -> None:
        """Register a key or an account (`POST /keys`). Raises ValueError with what is wrong with it."""

    @abstractmethod
    def registered(self) -> list[dict[str, Any]]:
        """The registered keys or accounts, without private parts."""

    @abstractmethod
    def register_token(self, body: Mapping[str, Any]) -> None:
        """Bind a device token to where it belongs (`POST /tokens`). Raises ValueError."""

    @abstractmethod
    def forget(self, what: str) -> bool:
        """Clear a store of the provider's own (`POST /reset`); False when there is none of that name."""

    def control_routes(self) -> dict[tuple[str, str], Route]:
        """Routes of the control endpoint that this provider alone has."""
        return {}

    def now(self) -> float:
        """The provider's clock, epoch seconds."""
        return time.time() + self.settings.clock_offset_s

    def restore_settings(self) -> None:
        """Back to the settings of the command line."""
        self.settings.change(self._initial)

    def clear_counts(self) -> None:
        """Forget the counts of connections and streams."""
        self.connections_total = 0
        self.max_concurrent_streams = 0
        self.goaways = 0

    # exchange.Handler

    def connected(self, connection: Connection) -> None:
        self.connections_total += 1
        if self.settings.down == "refuse":
            connection.abort()
            return
        self.connections[connection.number] = connection
        connection.state = self.peer(connection)

    def peer(self, connection: Connection) -> Peer:
        """The notes of a new connection; may set its stream limit."""
        connection.set_stream_limit(self.settings.stream_limit)
        return Peer()

    def disconnected(self, connection: Connection) -> None:
        self.connections.pop(connection.number, None)

    def count(self, connection: Connection) -> Peer:
        """Count one request; gives the notes about its connection."""
        open_streams = connection.open_streams()
        if open_streams > self.max_concurrent_streams:
            self.max_concurrent_streams = open_streams
        peer: Peer = connection.state
        peer.requests += 1
        return peer

    def batch_end(self, connection: Connection) -> None:
        if self._immediate:
            for stream_id, answer in reversed(self._immediate):
                connection.answer(stream_id, answer)
            self._immediate.clear()

    # inside

    def _answer(self, connection: Connection, stream_id: int, answer: Answer, delay_s: float) -> None:
        settings = self.settings
        if settings.latency_ms:
            jitter_ms = settings.jitter_ms * (2 * self._random.random() - 1)
            delay_s += max(0.0, settings.latency_ms + jitter_ms) / 1000
        if delay_s:
            self.delays.add(connection, stream_id, answer, delay_s)
        elif settings.answer_order == "reversed":
            self._immediate.append((stream_id, answer))
        else:
            connection.answer(stream_id, answer)


class Provider(StandIn):
    """The common part of APNs and FCM: one message a request; implements `exchange.Handler`."""

    @abstractmethod
    def examine(self, connection: Connection, request: Request) -> Examined:
        """Check the request as strictly as the real provider."""

    @abstractmethod
    def accept(self, connection: Connection, examined: Examined) -> Answer:
        """The answer to a message that is taken."""

    @abstractmethod
    def refuse(self, behaviour: Behaviour, examined: Examined) -> Answer:
        """The answer that a behaviour of the table asks for."""

    @abstractmethod
    def unavailable(self, request: Request) -> Answer:
        """The answer in the down mode `unavailable`."""

    # exchange.Handler

    def handle(self, connection: Connection, request: Request) -> None:
        peer = self.count(connection)
        settings = self.settings
        if settings.down and self._handle_down(connection, request):
            return
        examined = self.examine(connection, request)
        if examined.refusal is not None:
            outcome = examined.outcome or "refused"
            self._record(outcome, connection, request, examined, examined.refusal.status, examined.reason)
            self._answer(connection, request.stream_id, examined.refusal, 0.0)
        else:
            self._behave(connection, request, examined, self.behaviours.choose(examined.token))
        if settings.goaway_every and peer.requests == settings.goaway_every:
            self._goaway(connection, request.stream_id, settings.goaway_last_stream, settings.goaway_reason)

    # inside

    def _behave(self, connection: Connection, request: Request, examined: Examined, behaviour: Behaviour) -> None:
        action = behaviour.action
        stream_id = request.stream_id
        if behaviour.accepted:
            answer = self.accept(connection, examined)  # may name the message, so before the journal
            status = 0 if action in (Action.HANG, Action.ABORT) else answer.status
            self._record("accepted", connection, request, examined, status, behaviour.name if not status else "")
        elif action is Action.ANSWER:
            answer = self.refuse(behaviour, examined)
            self._record("refused", connection, request, examined, answer.status, behaviour.reason)
        else:
            answer = None
            self._record("dropped", connection, request, examined, 0, behaviour.name)
        if action is Action.ANSWER:
            assert answer is not None
            self._answer(connection, stream_id, answer, behaviour.delay_s)
        elif action is Action.ABORT:
            connection.abort()
        elif action is Action.RESET:
            connection.reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        elif action is Action.REFUSE:
            connection.reset(stream_id, ErrorCodes.REFUSED_STREAM)
        elif action is Action.GOAWAY:
            if answer is not None:
                self._answer(connection, stream_id, answer, behaviour.delay_s)
            self._goaway(connection, stream_id, behaviour.last_stream, behaviour.reason or "Shutdown")

    def _goaway(self, connection: Connection, stream_id: int, last_stream: LastStream, reason: str) -> None:
        """GOAWAY with JSON debug data, as APNs sends it (providers.md section 1.1)."""
        last = {"current": stream_id, "previous": max(stream_id - 2, 0), "zero": 0, "max": MAX_STREAM_ID}[last_stream]
        debug = orjson.dumps({"reason": reason, "timestamp": int(self.now() * 1000)})
        self.goaways += 1
        forgotten = connection.goaway(last, ErrorCodes.NO_ERROR, debug)
        if forgotten:
            self.journal.withdraw(connection.number, forgotten)

    def _handle_down(self, connection: Connection, request: Request) -> bool:
        examined = Examined()
        if self.settings.down == "unavailable":
            answer = self.unavailable(request)
            self._record("refused", connection, request, examined, answer.status, "down")
            self._answer(connection, request.stream_id, answer, 0.0)
        else:
            self._record("dropped", connection, request, examined, 0, "down")
            if self.settings.down == "refuse":
                connection.abort()
        return True

    def _record(
        self,
        outcome: Outcome,
        connection: Connection,
        request: Request,
        examined: Examined,
        status: int,
        reason: str,
    ) -> None:
        self.journal.record(
            outcome, examined.token, examined.message_id, examined.provider_id, examined.headers or {}, request.body,
            status, reason, connection.number, request.stream_id,
        )  # fmt: skip
