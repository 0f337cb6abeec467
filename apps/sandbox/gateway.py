"""What the stand-ins for gateways share: many messages in a request, accounts and senders, reports, queries.

A gateway answers a request, and later says of each message what became of it: by webhook (webhooks.py) and to whoever
asks. Which it will be stands in the message's behaviour (gateway_behaviours.py).
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from abc import abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import orjson

from apps.sandbox.behaviours import Action
from apps.sandbox.exchange import Answer, Connection, Request, Route
from apps.sandbox.gateway_behaviours import DELIVERED, Channel, GatewayBehaviour, GatewayBehaviours
from apps.sandbox.journal import Journal, Outcome
from apps.sandbox.provider import BAD_GATEWAY_HTML, HTML_HEADER, StandIn
from apps.sandbox.webhooks import GatewaySettings, Job, Webhooks

KOREA = timezone(timedelta(hours=9))
MAX_FINDINGS = 1000


class Refused(Exception):
    """The whole request is refused with this answer."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__(reason)
        self.answer = answer
        self.reason = reason


@dataclass(slots=True)
class Call:
    """One request on its way through a route."""

    connection: Connection
    request: Request
    query: dict[str, list[str]]
    parts: tuple[str, ...]  # what the route's pattern caught
    delay_s: float = 0.0  # of the answer

    def header(self, name: bytes) -> str:
        return self.request.headers.get(name, b"").decode("latin-1")

    def first(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]


@dataclass(slots=True)
class Sent:
    """One message that was taken."""

    provider_id: str
    to: str
    sender: str
    kind: str
    text: str
    message_id: str
    behaviour: GatewayBehaviour
    number: int  # within its batch, from 1
    fields: dict[str, Any]  # what the gateway repeats in queries and reports
    state: str = ""  # the gateway's own word
    code: str = ""
    done_at: float = 0.0


@dataclass(slots=True)
class Batch:
    """What one request brought."""

    batch_id: str
    account: str
    created_at: float
    messages: list[Sent]
    due_at: float = 0.0  # of scheduled ones
    is_cancelled: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


class Sender(NamedTuple):
    """A registered sender number or profile."""

    name: str
    state: str
    account: str  # empty: every account's


class Plan(NamedTuple):
    """One message of a request that the gateway itself finds nothing wrong with, before its behaviour is asked."""

    to: str
    channel: Channel


Handler = Callable[[Call], Answer]


class Gateway(StandIn):
    """The common part; implements `exchange.Handler`."""

    settings: GatewaySettings
    behaviours: GatewayBehaviours
    registrations: tuple[str, ...] = ("keys", "senders", "opt_outs", "hooks")
    """What `POST /reset` clears as `registrations`."""

    def __init__(
        self, settings: GatewaySettings, journal: Journal, *, seed: int = 0, ca_file: Path | None = None
    ) -> None:
        self.webhooks = Webhooks(settings, ca_file=ca_file)
        self.senders: dict[str, Sender] = {}
        self.opt_outs: set[str] = set()
        self.hooks: dict[tuple[str, str], dict[str, Any]] = {}  # (account, service) → url and secret
        self.findings: list[str] = []
        self.finding_counts: Counter[str] = Counter()
        self.batches: OrderedDict[str, Batch] = OrderedDict()
        self.by_id: dict[str, Sent] = {}
        self.held: list[Batch] = []
        self._waiting: set[str] = set()  # batches whose messages are about to be done
        self._run = secrets.token_hex(2).upper()
        self._numbers = itertools.count(1)
        self._routes = [(method, re.compile(pattern), handler) for method, pattern, handler in self.routes()]
        super().__init__(GatewayBehaviours(self.name, seed=seed), settings, journal, seed=seed)

    # of the gateway

    @abstractmethod
    def routes(self) -> Sequence[tuple[bytes, str, Handler]]:
        """Method, pattern of the path, handler."""

    @abstractmethod
    def error(self, behaviour: GatewayBehaviour) -> Answer:
        """The answer of a behaviour of the whole request."""

    @abstractmethod
    def not_found(self, request: Request) -> Answer:
        """The answer to a path that is none."""

    @abstractmethod
    def finish(self, message: Sent, batch: Batch) -> None:
        """Set state and code to what the message's behaviour says."""

    @abstractmethod
    def report_jobs(self, batch: Batch) -> list[Job]:
        """The webhooks about a batch that is done."""

    # exchange.Handler

    def handle(self, connection: Connection, request: Request) -> None:
        self.count(connection)
        if self.settings.down and self._handle_down(connection, request):
            return
        path, _, query = request.path.decode("latin-1").partition("?")
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(path)
            if match is not None and method == request.method:
                call = Call(connection, request, parse_qs(query, keep_blank_values=True) if query else {},
                            match.groups(""))  # fmt: skip
                try:
                    answer: Answer | None = handler(call)
                except Refused as refused:
                    answer = refused.answer
                    self.note("refused", call, "", "", "", request.body, answer.status, refused.reason)
                except _NoAnswer:
                    answer = None
                if answer is not None:
                    self._answer(connection, request.stream_id, answer, call.delay_s)
                return
        answer = self.not_found(request)
        call = Call(connection, request, {}, ())
        self.note("refused", call, "", "", "", request.body, answer.status, "not found")
        self._answer(connection, request.stream_id, answer, 0.0)

    def _handle_down(self, connection: Connection, request: Request) -> bool:
        call = Call(connection, request, {}, ())
        if self.settings.down == "unavailable":
            self.note("refused", call, "", "", "", request.body, 503, "down")
            unavailable = self.behaviours.table["unavailable"]
            assert isinstance(unavailable, GatewayBehaviour)
            self._answer(connection, request.stream_id, self.error(unavailable), 0.0)
        else:
            self.note("dropped", call, "", "", "", request.body, 0, "down")
            if self.settings.down == "refuse":
                connection.abort()
        return True

    # for the gateways

    def note(self, outcome: Outcome, call: Call, to: str, message_id: str, provider_id: str, body: bytes,
             status: int, reason: str) -> None:  # fmt: skip
        """Journal one message, or a request without any (`to` empty)."""
        self.journal.record(
            outcome, to, message_id, provider_id, {}, body, status, reason, call.connection.number,
            call.request.stream_id,
        )  # fmt: skip

    def find(self, finding: str) -> None:
        """Note something that the gateway lets pass, and that we should not have sent."""
        self.finding_counts[finding] += 1
        if self.finding_counts[finding] == 1 and len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def decide(self, plans: Iterable[Plan]) -> tuple[dict[int, GatewayBehaviour], GatewayBehaviour | None]:
        """The behaviours that are not plain delivery, by index; and the first one that befalls the whole request."""
        behaviours = self.behaviours
        prefix, may_differ = behaviours.prefix, behaviours.may_differ()
        chosen: dict[int, GatewayBehaviour] = {}
        for index, (to, channel) in enumerate(plans):
            if may_differ or to.startswith(prefix):
                behaviour = behaviours.decide(to, channel)
                if behaviour.for_whole_request:
                    return chosen, behaviour
                if behaviour is not DELIVERED:
                    chosen[index] = behaviour
        return chosen, None

    def refuse_whole(self, call: Call, whole: GatewayBehaviour, plans: Sequence[tuple[str, str, bytes]]) -> Answer:
        """Do what a behaviour of the whole request says, when nothing is taken. `plans`: to, message id, body."""
        answered = whole.action is Action.ANSWER
        answer = self.error(whole)
        for to, message_id, body in plans:
            self.note("refused" if answered else "dropped", call, to, message_id, "", body,
                      answer.status if answered else 0, whole.name)  # fmt: skip
        return self.answer_whole(call, whole, answer)

    def answer_whole(self, call: Call, whole: GatewayBehaviour | None, answer: Answer) -> Answer:
        """The answer as a behaviour of the whole request has it: late, replaced by an error, or none at all."""
        if whole is None:
            return answer
        if whole.action is Action.ABORT:
            call.connection.abort()
        if whole.action is not Action.ANSWER:
            raise _NoAnswer
        call.delay_s = whole.delay_s
        return self.error(whole) if whole.status >= 400 else answer

    def take(self, batch: Batch) -> None:
        """Keep a batch for queries and see to its reports."""
        self.batches[batch.batch_id] = batch
        self.by_id.update((message.provider_id, message) for message in batch.messages)
        while len(self.by_id) > self.journal.size and len(self.batches) > 1:
            _, oldest = self.batches.popitem(last=False)
            for message in oldest.messages:
                self.by_id.pop(message.provider_id, None)
        if batch.messages:
            delay_s = max(0.0, batch.due_at - self.now()) + self.settings.report_delay_ms / 1000
            if not batch.due_at:
                self._waiting.add(batch.batch_id)
            asyncio.get_running_loop().call_later(delay_s, self._due, batch)

    def _due(self, batch: Batch) -> None:
        self._waiting.discard(batch.batch_id)
        if batch.is_cancelled or batch.batch_id not in self.batches:
            return
        if self.settings.reports == "hold":
            self.held.append(batch)
        else:
            self._report(batch)

    def _report(self, batch: Batch) -> None:
        now = self.now()
        for message in batch.messages:
            if not message.behaviour.is_silent:
                message.done_at = now
                self.finish(message, batch)
        if self.settings.reports != "off":
            self.webhooks.send(self.report_jobs(batch))

    def chunks(self, batch: Batch) -> Iterable[list[Sent]]:
        """The messages of a batch that are reported, as many as one post holds."""
        size = max(1, self.settings.report_batch)
        reported = [message for message in batch.messages if not message.behaviour.is_silent]
        step = -1 if self.settings.report_order == "reversed" else 1
        return (reported[start : start + size][::step] for start in range(0, len(reported), size))

    def next_id(self) -> str:
        """Eleven characters of an id that no other process or request of this stand-in gives."""
        return f"{self._run}{next(self._numbers):07d}"

    def sender(self, number: str, account: str) -> Sender | None:
        """A sender that this account has registered."""
        found = self.senders.get(number)
        return found if found is not None and found.account in ("", account) else None

    # control

    def register_token(self, body: Mapping[str, Any]) -> None:
        raise ValueError("a gateway has no device tokens")

    def forget(self, what: str) -> bool:
        if what == "messages":
            self.batches.clear()
            self.by_id.clear()
            self.held.clear()
            self._waiting.clear()
        elif what == "reports":
            self.webhooks.clear()
            self.held.clear()
        elif what == "findings":
            self.findings.clear()
            self.finding_counts.clear()
        elif what == "senders":
            self.senders.clear()
        elif what == "opt_outs":
            self.opt_outs.clear()
        elif what == "hooks":
            self.hooks.clear()
        elif what == "registrations":
            for store in self.registrations:
                self.forget(store)
        else:
            return False
        return True

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("GET", "/senders"): lambda query, body: {
                "senders": [sender._asdict() for sender in self.senders.values()]
            },
            ("POST", "/senders"): self._register_senders,
            ("POST", "/opt-outs"): self._change_opt_outs,
            ("GET", "/hooks"): lambda query, body: {"hooks": list(self.hooks.values())},
            ("POST", "/hooks"): self._register_hook,
            ("GET", "/reports"): self._reports,
            ("POST", "/reports/release"): self._release,
            ("GET", "/findings"): lambda query, body: {"findings": self.findings, "counts": dict(self.finding_counts)},
        }

    def _register_senders(self, query: dict[str, str], body: Any) -> Any:
        for item in body["senders"]:
            item = {"number": item} if isinstance(item, str) else item
            unknown = set(item) - {"number", "state", "account"}
            if unknown:
                raise ValueError(f"unknown field: {sorted(unknown)[0]}")
            if item.get("state", "active") not in ("active", "blocked", "reported"):
                raise ValueError("state: active, blocked, reported (to KISA)")
            number = str(item["number"])
            self.senders[number] = Sender(number, item.get("state", "active"), str(item.get("account", "")))
        return {"senders": len(self.senders)}

    def _change_opt_outs(self, query: dict[str, str], body: Any) -> Any:
        numbers = set(map(str, body["numbers"]))
        self.opt_outs = self.opt_outs - numbers if body.get("remove") else self.opt_outs | numbers
        return {"opt_outs": len(self.opt_outs)}

    def _register_hook(self, query: dict[str, str], body: Any) -> Any:
        """`{"url", "secret", "account", "service"}`; an empty url takes it away."""
        unknown = set(body) - {"url", "secret", "account", "service"}
        if unknown:
            raise ValueError(f"unknown field: {sorted(unknown)[0]}")
        key = (str(body.get("account", "")), str(body.get("service", "")))
        self.hooks.pop(key, None)
        if body["url"]:
            self.hooks[key] = {"url": str(body["url"]), "secret": str(body.get("secret", "")), "account": key[0],
                               "service": key[1]}  # fmt: skip
        return {"hooks": len(self.hooks)}

    def hook(self, account: str, service: str = "") -> dict[str, Any] | None:
        """Where reports about this account's messages go."""
        for key in ((account, service), ("", service), (account, ""), ("", "")):
            if key in self.hooks:
                return self.hooks[key]
        return None

    def _reports(self, query: dict[str, str], body: Any) -> Any:
        webhooks = self.webhooks
        limit = int(query.get("limit", 1000))
        return {
            "posts": webhooks.posts, "delivered": webhooks.delivered, "pending": webhooks.pending + len(self._waiting),
            "held": len(self.held), "log": list(webhooks.log)[-limit:] if limit else [],
        }  # fmt: skip

    def _release(self, query: dict[str, str], body: Any) -> Any:
        """`{"limit": N}`: the first N requests held back; without it all. They go out whatever `reports` says."""
        count = len(self.held) if body.get("limit") is None else int(body["limit"])
        released, self.held = self.held[:count], self.held[count:]
        for batch in reversed(released) if self.settings.report_order == "reversed" else released:
            self._report(batch)
        return {"released": len(released), "held": len(self.held)}

    def clear_counts(self) -> None:
        super().clear_counts()
        for what in ("messages", "reports", "findings"):
            self.forget(what)


class _NoAnswer(Exception):
    """The request is left without an answer."""


def json_answer(status: int, content: Any, *headers: tuple[bytes, bytes]) -> Answer:
    return Answer(status, (_JSON, *headers), orjson.dumps(content))


def error_shell(behaviour: GatewayBehaviour, content: Any) -> Answer:
    """The answer of an error that any gateway may give: JSON, a proxy's HTML or nothing, and Retry-After."""
    retry = () if behaviour.retry_after_s is None else ((b"retry-after", b"%d" % behaviour.retry_after_s),)
    if behaviour.body == "html":
        return Answer(behaviour.status, (HTML_HEADER, *retry), BAD_GATEWAY_HTML)
    return json_answer(behaviour.status, content, *retry)


def load_json(body: bytes) -> Any:
    """The body, or None when it is no JSON."""
    try:
        return orjson.loads(body)
    except ValueError:
        return None


def iso(seconds: float) -> str:
    """2026-11-20T00:00:00.000Z"""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def korean_time(seconds: float, pattern: str) -> str:
    return datetime.fromtimestamp(seconds, KOREA).strftime(pattern)


def parse_iso(text: Any) -> float | None:
    """Epoch seconds of ISO 8601 with a zone; None when it is not."""
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def stamp(seconds: float | None = None) -> str:
    return korean_time(time.time() if seconds is None else seconds, "%Y%m%d%H%M%S")


_JSON = (b"content-type", b"application/json;charset=UTF-8")
