"""What a stand-in provider does with a request: the tables of behaviours, and how one is chosen.

A behaviour is chosen, first match first, by: the next-N rules, the rules by token, the rules by prefix, the rules by
share (all set through the control endpoint), the device token itself (its marker is listed in the tables below),
else accepted. Requests the real provider would refuse for their form or credentials never get here.

Markers. APNs tokens are hexadecimal: `dead` + code (`dead4101…` answers 410 Unregistered), or `deaf` + code + K
(`deaf50313…` answers 503 to the first 3 requests of that token, then accepts; K is one hexadecimal digit).
FCM registration tokens: `sandbox:NAME:…`, or `sandbox:NAME.K:…` for the first K requests.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Literal


class Action(StrEnum):
    ANSWER = "answer"
    HANG = "hang"  # never answered; the connection stays
    RESET = "reset"  # RST_STREAM INTERNAL_ERROR
    REFUSE = "refuse"  # RST_STREAM REFUSED_STREAM: certainly not processed
    ABORT = "abort"  # the connection drops, with all that is in flight
    GOAWAY = "goaway"  # GOAWAY with `last_stream`


LastStream = Literal["current", "previous", "zero", "max"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing to do. `accepted` tells that the provider took the message, whatever becomes of the answer."""

    name: str
    code: str = ""  # the APNs marker's four characters
    status: int = 200
    reason: str = ""  # APNs reason, or FCM errorCode / status
    action: Action = Action.ANSWER
    accepted: bool = False
    retry_after_s: int | None = None
    delay_s: float = 0.0
    gone_at_ms: int | None = None  # the timestamp beside a 410; None: now
    body: Literal["json", "html", "empty"] = "json"
    last_stream: LastStream = "previous"
    meaning: str = ""


def _apns(code: str, reason: str, *, name: str = "", **more: Any) -> Behaviour:
    return Behaviour(name or reason, code, int(code[:3]), reason, **more)


ACCEPTED = Behaviour("accepted", "2000", accepted=True, meaning="200")
LONG_AGO_MS = 1_577_836_800_000  # 2020-01-01

_TRANSPORT = (
    ACCEPTED,
    Behaviour("slow-1s", "2001", accepted=True, delay_s=1.0, meaning="200 after 1 s"),
    Behaviour("slow-5s", "2002", accepted=True, delay_s=5.0, meaning="200 after 5 s"),
    Behaviour("hang", "0001", action=Action.HANG, meaning="no answer; not accepted"),
    Behaviour("hang-accepted", "0002", action=Action.HANG, accepted=True, meaning="no answer, yet accepted"),
    Behaviour("reset", "0003", action=Action.RESET, meaning="RST_STREAM INTERNAL_ERROR; not accepted"),
    Behaviour("refused-stream", "0004", action=Action.REFUSE, meaning="RST_STREAM REFUSED_STREAM; not accepted"),
    Behaviour("abort", "0005", action=Action.ABORT, meaning="connection dropped; not accepted"),
    Behaviour("abort-accepted", "0006", action=Action.ABORT, accepted=True, meaning="connection dropped, yet accepted"),
    Behaviour("goaway", "0007", action=Action.GOAWAY, meaning="GOAWAY; this stream and later ones not processed"),
    Behaviour("goaway-after", "0008", action=Action.GOAWAY, accepted=True, last_stream="current",
              meaning="GOAWAY; this stream still answered 200, later ones not processed"),
)  # fmt: skip

# providers.md section 1.7, every line
APNS_TABLE = (
    *_TRANSPORT,
    _apns("4001", "BadCollapseId"),
    _apns("4002", "BadDeviceToken"),
    _apns("4003", "BadExpirationDate"),
    _apns("4004", "BadMessageId"),
    _apns("4005", "BadPriority"),
    _apns("4006", "BadTopic"),
    _apns("4007", "DeviceTokenNotForTopic"),
    _apns("4008", "DuplicateHeaders"),
    _apns("4009", "IdleTimeout"),
    _apns("400a", "InvalidPushType"),
    _apns("400b", "MissingDeviceToken"),
    _apns("400c", "MissingTopic"),
    _apns("400d", "PayloadEmpty"),
    _apns("400e", "TopicDisallowed"),
    _apns("400f", "SomethingNew", meaning="a reason nobody has heard of"),
    _apns("4031", "BadCertificate"),
    _apns("4032", "BadCertificateEnvironment"),
    _apns("4033", "ExpiredProviderToken"),
    _apns("4034", "Forbidden"),
    _apns("4035", "InvalidProviderToken"),
    _apns("4036", "MissingProviderToken"),
    _apns("4037", "UnrelatedKeyIdInToken"),
    _apns("4038", "BadEnvironmentKeyIdInToken", meaning="as documented"),
    _apns("4039", "BadEnvironmentKeyInToken", meaning="as the live service spells it"),
    _apns("4041", "BadPath"),
    _apns("4051", "MethodNotAllowed"),
    _apns("4101", "Unregistered", meaning="timestamp: now"),
    _apns("4102", "ExpiredToken", meaning="timestamp: now"),
    _apns("4103", "Unregistered", name="Unregistered-old", gone_at_ms=LONG_AGO_MS, meaning="timestamp: 2020-01-01"),
    _apns("4131", "PayloadTooLarge"),
    _apns("4291", "TooManyProviderTokenUpdates"),
    _apns("4292", "TooManyRequests", retry_after_s=2, meaning="Retry-After: 2"),
    _apns("4293", "TooManyRequests", name="TooManyRequests-plain", meaning="no Retry-After"),
    _apns("5001", "InternalServerError"),
    _apns("5002", "InternalServerError", name="InternalServerError-empty", body="empty", meaning="no body"),
    _apns("5021", "BadGateway", body="html", meaning="HTML of a proxy"),
    _apns("5031", "ServiceUnavailable"),
    _apns("5032", "Shutdown"),
    _apns("5033", "ServiceUnavailable", name="ServiceUnavailable-retry-after", retry_after_s=2,
          meaning="Retry-After: 2"),
)  # fmt: skip

# providers.md section 2.5, every line
FCM_TABLE = (
    *_TRANSPORT,
    Behaviour("INVALID_TOKEN", "", 400, "INVALID_ARGUMENT", meaning="fieldViolations name message.token"),
    Behaviour("INVALID_ARGUMENT", "", 400, "INVALID_ARGUMENT", meaning="another field is at fault"),
    Behaviour("THIRD_PARTY_AUTH_ERROR", "", 401, "THIRD_PARTY_AUTH_ERROR"),
    Behaviour("UNAUTHENTICATED", "", 401, "UNAUTHENTICATED", meaning="without FcmError"),
    Behaviour("SENDER_ID_MISMATCH", "", 403, "SENDER_ID_MISMATCH"),
    Behaviour("PERMISSION_DENIED", "", 403, "PERMISSION_DENIED", meaning="without FcmError"),
    Behaviour("UNREGISTERED", "", 404, "UNREGISTERED"),
    Behaviour("NOT_FOUND", "", 404, "NOT_FOUND", meaning="without FcmError"),
    Behaviour("QUOTA_EXCEEDED", "", 429, "QUOTA_EXCEEDED", retry_after_s=2, meaning="Retry-After: 2"),
    Behaviour("QUOTA_EXCEEDED-plain", "", 429, "QUOTA_EXCEEDED", meaning="no Retry-After"),
    Behaviour("INTERNAL", "", 500, "INTERNAL"),
    Behaviour("BAD_GATEWAY", "", 502, "BAD_GATEWAY", body="html", meaning="HTML of a proxy"),
    Behaviour("UNAVAILABLE", "", 503, "UNAVAILABLE", retry_after_s=2, meaning="Retry-After: 2"),
    Behaviour("UNAVAILABLE-plain", "", 503, "UNAVAILABLE", meaning="no Retry-After"),
    Behaviour("UNSPECIFIED_ERROR", "", 500, "UNSPECIFIED_ERROR"),
)


@dataclass(slots=True)
class Rule:
    """A behaviour set through the control endpoint. Exactly one of token, prefix, share, next_requests says for whom.

    `times`: only the first that many requests of each token; None: all of them.
    """

    number: int
    behaviour: Behaviour
    tokens: frozenset[str] = frozenset()
    prefix: str = ""
    share: float = 0.0
    next_requests: int = 0
    times: int | None = None
    used: Counter[str] = field(default_factory=Counter)

    def take(self, token: str) -> bool:
        """Whether the rule still holds for this token; counts the use."""
        if self.times is not None:
            if self.used[token] >= self.times:
                return False
            self.used[token] += 1
        return True

    def as_json(self) -> dict[str, Any]:
        return {
            "id": self.number, "behaviour": self.behaviour.name, "tokens": sorted(self.tokens)[:20],
            "prefix": self.prefix, "share": self.share, "next": self.next_requests, "times": self.times,
        }  # fmt: skip


class Behaviours:
    """The behaviours of one provider: its table, the rules set on top, and the choice between them."""

    def __init__(self, table: tuple[Behaviour, ...], *, seed: int = 0) -> None:
        self.table = {behaviour.name: behaviour for behaviour in table}
        self._by_code = {behaviour.code: behaviour for behaviour in table if behaviour.code}
        self._seed = seed
        self._numbers = 0
        self.clear()

    def clear(self) -> None:
        """Forget all rules and all counts of failed tries."""
        self._by_token: dict[str, Rule] = {}
        self._rules: list[Rule] = []
        self._tries: Counter[str] = Counter()
        self._random = random.Random(self._seed)

    def rules(self) -> list[Rule]:
        return list({rule.number: rule for rule in (*self._by_token.values(), *self._rules)}.values())

    def add(self, body: Mapping[str, Any]) -> Rule:
        """Add a rule from the control endpoint's JSON. Raises ValueError with what is wrong with it."""
        targets = [name for name in ("token", "tokens", "prefix", "share", "next") if name in body]
        if len(targets) != 1:
            raise ValueError("give exactly one of token, tokens, prefix, share, next")
        unknown = set(body) - {"behaviour", "times", *targets}
        if unknown:
            raise ValueError(f"unknown field: {sorted(unknown)[0]}")
        behaviour = self._behaviour(body.get("behaviour"))
        times = body.get("times")
        if times is not None and (not isinstance(times, int) or times < 1):
            raise ValueError("times: a whole number from 1")
        self._numbers += 1
        rule = Rule(self._numbers, behaviour, times=times)
        if "token" in body or "tokens" in body:
            rule.tokens = frozenset(body["tokens"] if "tokens" in body else [body["token"]])
            self._by_token.update(dict.fromkeys(rule.tokens, rule))
            return rule
        if "prefix" in body:
            rule.prefix = str(body["prefix"])
        elif "share" in body:
            rule.share = float(body["share"])
            if not 0 < rule.share <= 1:
                raise ValueError("share: above 0, at most 1")
        else:
            rule.next_requests = int(body["next"])
            if rule.next_requests < 1:
                raise ValueError("next: a whole number from 1")
        self._rules.append(rule)
        return rule

    def remove(self, number: int) -> bool:
        """Remove one rule by its id; False when there is none."""
        known = any(rule.number == number for rule in self.rules())
        self._by_token = {token: rule for token, rule in self._by_token.items() if rule.number != number}
        self._rules = [rule for rule in self._rules if rule.number != number]
        return known

    def choose(self, token: str) -> Behaviour:
        """What to do with a request for this device token. Counts, so call it once per request."""
        if self._rules or self._by_token:
            rule = self._choose_rule(token)
            if rule is not None:
                return rule.behaviour
        if token.startswith("dea"):
            return self._by_hex_marker(token)
        if token.startswith("sandbox:"):
            return self._by_name_marker(token)
        return ACCEPTED

    def _choose_rule(self, token: str) -> Rule | None:
        for rule in self._rules:
            if rule.next_requests:
                rule.next_requests -= 1
                if not rule.next_requests:
                    self._rules.remove(rule)
                return rule
        by_token = self._by_token.get(token)
        if by_token is not None and by_token.take(token):
            return by_token
        for rule in self._rules:
            if rule.prefix and token.startswith(rule.prefix) and rule.take(token):
                return rule
        for rule in self._rules:
            if rule.share and self._random.random() < rule.share and rule.take(token):
                return rule
        return None

    def _by_hex_marker(self, token: str) -> Behaviour:
        behaviour = self._by_code.get(token[4:8], ACCEPTED)
        if token.startswith("dead"):
            return behaviour
        if token.startswith("deaf") and token[8:9]:
            return self._first(token, int(token[8], 16), behaviour)
        return ACCEPTED

    def _by_name_marker(self, token: str) -> Behaviour:
        name, _, times = token.split(":", 2)[1].partition(".")
        behaviour = self.table.get(name, ACCEPTED)
        return self._first(token, int(times), behaviour) if times.isdigit() else behaviour

    def _first(self, token: str, times: int, behaviour: Behaviour) -> Behaviour:
        if self._tries[token] >= times:
            return ACCEPTED
        self._tries[token] += 1
        return behaviour

    def _behaviour(self, value: Any) -> Behaviour:
        """A behaviour by name, or by an object that changes one: {"name": "UNAVAILABLE", "retry_after_s": 7}."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or value.get("name") not in self.table:
            raise ValueError(f"behaviour: one of {', '.join(self.table)}")
        changeable = {item.name for item in fields(Behaviour)} - {"name", "code"}
        unknown = set(value) - changeable - {"name"}
        if unknown:
            raise ValueError(f"behaviour: unknown field {sorted(unknown)[0]}")
        changes = {name: content for name, content in value.items() if name != "name"}
        if "action" in changes:
            changes["action"] = Action(changes["action"])
        return replace(self.table[value["name"]], **changes)
