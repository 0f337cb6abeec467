"""The stand-in for the Apple Push Notification service: `POST /3/device/<token>` (providers.md section 1)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any

import orjson

from apps.sandbox.behaviours import APNS_TABLE, Behaviour, Behaviours
from apps.sandbox.exchange import Answer, Connection, Request
from apps.sandbox.journal import Journal
from apps.sandbox.provider import BAD_GATEWAY_HTML, HTML_HEADER, Examined, Peer, Provider, Settings
from apps.sandbox.provider_token import (
    ENVIRONMENTS,
    MAX_AGE_S,
    MAX_AHEAD_S,
    MIN_RENEWAL_S,
    ProviderToken,
    SigningKey,
    TokenVerifier,
    read_public_key,
)

PATH = b"/3/device/"
MAX_PAYLOAD_BYTES = 4096
MAX_VOIP_PAYLOAD_BYTES = 5120
MAX_COLLAPSE_ID_BYTES = 64

# section 1.4: push type → suffix of the topic; None: the topic is not made from a bundle id
PUSH_TYPES: dict[str, str | None] = {
    "alert": "",
    "background": "",
    "complication": ".complication",
    "controls": ".push-type.controls",
    "fileprovider": ".pushkit.fileprovider",
    "liveactivity": ".push-type.liveactivity",
    "location": ".location-query",
    "mdm": None,
    "pushtotalk": ".voip-ptt",
    "voip": ".voip",
    "widgets": ".push-type.widgets",
}
_SUFFIXES = tuple(suffix for suffix in PUSH_TYPES.values() if suffix)

_STATUS = {
    behaviour.reason: behaviour.status for behaviour in APNS_TABLE if behaviour.reason and behaviour.body != "html"
}
_MESSAGE_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})+")
# Tokens of one environment only, so that a mix-up can be shown; all others exist in both.
_DEVELOPMENT_PREFIX, _PRODUCTION_PREFIX = "deb0", "9a0d"

_HEADERS = (b"apns-topic", b"apns-push-type", b"apns-priority", b"apns-expiration", b"apns-collapse-id")


class ApnsPeer(Peer):
    """What APNs remembers of a connection: environment, team, provider tokens, whether the stream limit was raised."""

    __slots__ = ("current", "environment", "seen", "unlocked")

    def __init__(self, environment: str) -> None:
        super().__init__()
        self.environment = environment
        self.unlocked = False
        self.current: ProviderToken | None = None
        self.seen: set[ProviderToken] = set()


class Apns(Provider):
    """APNs on one process; each listening port stands for one environment."""

    name = "apns"

    def __init__(self, settings: Settings, journal: Journal, *, seed: int = 0) -> None:
        super().__init__(Behaviours(APNS_TABLE, seed=seed), settings, journal, seed=seed)
        self._verifier = TokenVerifier()
        self._bindings: dict[str, tuple[str, str]] = {}  # token → (topic, environment)
        self._profiles: dict[tuple[SigningKey, bytes | None, bytes | None, bytes | None], str] = {}
        self._shown_headers: dict[tuple[bytes | None, ...], dict[str, str]] = {}
        self._environments: dict[int, str] = {}

    # connections

    def connected_to(self, environment: str, connection: Connection) -> None:
        """A connection to the port of that environment is ready."""
        self._environments[connection.number] = environment
        self.connected(connection)
        self._environments.pop(connection.number, None)

    def peer(self, connection: Connection) -> Peer:
        connection.set_stream_limit(1)  # until one valid provider token was seen (section 1.1)
        return ApnsPeer(self._environments.get(connection.number, "production"))

    # the request, in the order: path, authority, headers, device token, payload

    def examine(self, connection: Connection, request: Request) -> Examined:
        headers = request.headers
        peer: ApnsPeer = connection.state
        seen = Examined()
        shown = tuple(map(headers.get, _HEADERS))
        known = self._shown_headers.get(shown)
        seen.headers = known if known is not None else self._show_headers(shown)
        message_id = headers.get(b"apns-id")
        seen.provider_id = message_id.decode("latin-1") if message_id else str(uuid.uuid4())
        token = request.path[len(PATH) :]
        seen.token = token.decode("latin-1").lower()
        reason = (
            self._check_route(request)
            or self._check_provider_token(connection, peer, headers)
            or self._check_headers(peer, headers, message_id, shown)
            or self._check_device_token(peer, seen.token, token, headers)
            or self._check_payload(headers, request.body, seen)
        )
        if reason:
            seen.reason = reason
            seen.refusal = self._refusal(_STATUS[reason], reason, seen.provider_id)
        return seen

    def _check_route(self, request: Request) -> str | None:
        if not request.path.startswith(b"/3/device"):
            return "BadPath"
        if request.method != b"POST":
            return "MethodNotAllowed"
        if request.path in (b"/3/device", PATH):
            return "MissingDeviceToken"
        if not request.path.startswith(PATH) or b"/" in request.path[len(PATH) :]:
            return "BadPath"
        return "DuplicateHeaders" if request.repeated else None

    def _check_provider_token(self, connection: Connection, peer: ApnsPeer, headers: dict[bytes, bytes]) -> str | None:
        authorization = headers.get(b"authorization")
        if authorization is None or not authorization.lower().startswith(b"bearer "):
            return "MissingProviderToken"
        token = self._verifier.verify(authorization)
        if token is None:
            return "InvalidProviderToken"
        age_s = self.now() - token.issued_at
        if age_s > MAX_AGE_S or age_s < -MAX_AHEAD_S:
            return "ExpiredProviderToken"
        current = peer.current
        if token is current:
            return None
        if peer.environment not in token.key.environments:
            return "BadEnvironmentKeyInToken"
        if current is not None and current.key.team_id != token.key.team_id:
            return "UnrelatedKeyIdInToken"
        if current is not None and token not in peer.seen and abs(token.issued_at - current.issued_at) < MIN_RENEWAL_S:
            return "TooManyProviderTokenUpdates"
        peer.current = token
        peer.seen.add(token)
        if not peer.unlocked:
            peer.unlocked = True
            connection.set_stream_limit(self.settings.stream_limit)
        return None

    def _check_headers(
        self, peer: ApnsPeer, headers: dict[bytes, bytes], message_id: bytes | None, shown: tuple[bytes | None, ...]
    ) -> str | None:
        if message_id is not None and not _MESSAGE_ID.fullmatch(message_id):
            return "BadMessageId"
        topic, push_type, priority, expiration, collapse_id = shown
        if expiration is not None and not expiration.isdigit():
            return "BadExpirationDate"
        if collapse_id is not None and len(collapse_id) > MAX_COLLAPSE_ID_BYTES:
            return "BadCollapseId"
        assert peer.current is not None
        profile = (peer.current.key, topic, push_type, priority)
        reason = self._profiles.get(profile)
        if reason is None:
            if len(self._profiles) > 10_000:
                self._profiles.clear()
            reason = self._profiles[profile] = check_profile(*profile)
        return reason

    def _check_device_token(self, peer: ApnsPeer, token: str, raw: bytes, headers: dict[bytes, bytes]) -> str | None:
        if not _HEX.fullmatch(raw) or len(raw) > 400:
            return "BadDeviceToken"
        if token.startswith(_DEVELOPMENT_PREFIX) and peer.environment != "development":
            return "BadDeviceToken"
        if token.startswith(_PRODUCTION_PREFIX) and peer.environment != "production":
            return "BadDeviceToken"
        if self._bindings and (binding := self._bindings.get(token)) is not None:
            topic, environment = binding
            if environment and environment != peer.environment:
                return "BadDeviceToken"
            if topic and topic != _base_topic(headers[b"apns-topic"].decode("latin-1")):
                return "DeviceTokenNotForTopic"
        return None

    def _check_payload(self, headers: dict[bytes, bytes], body: bytes, seen: Examined) -> str | None:
        push_type = headers.get(b"apns-push-type")
        if len(body) > MAX_PAYLOAD_BYTES and (push_type != b"voip" or len(body) > MAX_VOIP_PAYLOAD_BYTES):
            return "PayloadTooLarge"
        try:
            payload = orjson.loads(body)
        except ValueError:
            return "PayloadEmpty"
        if not isinstance(payload, dict):
            return "PayloadEmpty"
        aps = payload.get("aps")
        if not isinstance(aps, dict) and push_type != b"mdm":
            return "PayloadEmpty"
        if push_type == b"background" and (not isinstance(aps, dict) or aps.get("content-available") != 1):
            return "InvalidPushType"
        automata = payload.get("automata")
        message_id = automata.get("message_id") if isinstance(automata, dict) else None
        seen.message_id = message_id if isinstance(message_id, str) else seen.provider_id
        return None

    # answers

    def accept(self, connection: Connection, examined: Examined) -> Answer:
        message_id = examined.provider_id.encode()
        peer: ApnsPeer = connection.state
        if peer.environment == "development":
            return Answer(200, ((b"apns-id", message_id), (b"apns-unique-id", str(uuid.uuid4()).encode())))
        return Answer(200, ((b"apns-id", message_id),))

    def refuse(self, behaviour: Behaviour, examined: Examined) -> Answer:
        if behaviour.body == "html":
            return Answer(behaviour.status, (HTML_HEADER,), BAD_GATEWAY_HTML)
        if behaviour.body == "empty":
            return Answer(behaviour.status, ((b"apns-id", examined.provider_id.encode()),))
        return self._refusal(
            behaviour.status,
            behaviour.reason,
            examined.provider_id,
            gone_at_ms=behaviour.gone_at_ms,
            retry_after_s=behaviour.retry_after_s,
        )

    def unavailable(self, request: Request) -> Answer:
        return self._refusal(503, "ServiceUnavailable", str(uuid.uuid4()))

    def _refusal(
        self,
        status: int,
        reason: str,
        message_id: str,
        *,
        gone_at_ms: int | None = None,
        retry_after_s: int | None = None,
    ) -> Answer:
        """`{"reason": …}`, with a timestamp in milliseconds beside a 410 (section 1.6)."""
        body: dict[str, object] = {"reason": reason}
        if status == 410:
            body["timestamp"] = int(self.now() * 1000) if gone_at_ms is None else gone_at_ms
        headers = [(b"apns-id", message_id.encode("latin-1", "replace"))]
        if retry_after_s is not None:
            headers.append((b"retry-after", b"%d" % retry_after_s))
        return Answer(status, tuple(headers), orjson.dumps(body))

    # the control endpoint

    def register(self, body: Mapping[str, Any]) -> None:
        """{"team_id", "key_id", "public_key": PEM, "topics": [...] (empty: any), "environments": [...] (both)}."""
        team_id, key_id, pem = body.get("team_id"), body.get("key_id"), body.get("public_key")
        if not isinstance(team_id, str) or not isinstance(key_id, str) or not isinstance(pem, str):
            raise ValueError("team_id, key_id, public_key: texts")
        if len(team_id) != 10 or len(key_id) != 10:
            raise ValueError("team_id, key_id: 10 characters each")
        environments = frozenset(body.get("environments") or ENVIRONMENTS)
        if not environments <= set(ENVIRONMENTS):
            raise ValueError(f"environments: {', '.join(ENVIRONMENTS)}")
        topics = frozenset(map(str, body.get("topics") or ()))
        self._verifier.add(SigningKey(team_id, key_id, read_public_key(pem), topics, environments))
        self._profiles.clear()

    def registered(self) -> list[dict[str, Any]]:
        return [
            {
                "team_id": key.team_id,
                "key_id": key.key_id,
                "topics": sorted(key.topics),
                "environments": sorted(key.environments),
            }
            for key in self._verifier.registered()
        ]

    def register_token(self, body: Mapping[str, Any]) -> None:
        """{"token", "topic": bundle id, "environment"}: other topics and environments are refused for it."""
        token = body.get("token")
        environment = body.get("environment") or ""
        if not isinstance(token, str) or environment not in ("", *ENVIRONMENTS):
            raise ValueError("token: a text; environment: production or development")
        self._bindings[token.lower()] = (str(body.get("topic") or ""), environment)

    def forget(self, what: str) -> bool:
        if what == "keys":
            self._verifier.clear()
        elif what == "tokens":
            self._bindings.clear()
        else:
            return False
        return True

    def _show_headers(self, values: tuple[bytes | None, ...]) -> dict[str, str]:
        """The headers that matter, one shared dict per combination (the journal keeps them)."""
        if len(self._shown_headers) > 10_000:
            self._shown_headers.clear()
        shown = {
            name.decode(): value.decode("latin-1")
            for name, value in zip(_HEADERS, values, strict=True)
            if value is not None
        }
        self._shown_headers[values] = shown
        return shown


class ApnsPort:
    """One listening port of APNs: the provider, with that port's environment."""

    def __init__(self, apns: Apns, environment: str) -> None:
        self._environment = environment
        self._apns = apns
        self.handle = apns.handle
        self.batch_end = apns.batch_end
        self.disconnected = apns.disconnected

    def connected(self, connection: Connection) -> None:
        self._apns.connected_to(self._environment, connection)


def check_profile(key: SigningKey, topic: bytes | None, push_type: bytes | None, priority: bytes | None) -> str:
    """Why topic, push type and priority do not fit the key or each other; "" when they do (sections 1.3, 1.4)."""
    kind = push_type.decode("latin-1") if push_type is not None else "alert"
    if kind not in PUSH_TYPES:
        return "InvalidPushType"
    if priority not in (None, b"1", b"5", b"10"):
        return "BadPriority"
    if kind == "background" and priority != b"5":
        return "BadPriority"
    if not topic:
        return "MissingTopic"
    name = topic.decode("latin-1")
    if not _TOPIC.fullmatch(name):
        return "BadTopic"
    suffix = PUSH_TYPES[kind]
    base = _base_topic(name)
    if suffix is not None and name != base + suffix:
        return "BadTopic"
    return "TopicDisallowed" if key.topics and base not in key.topics else ""


def _base_topic(topic: str) -> str:
    """The bundle id in a topic."""
    for suffix in _SUFFIXES:
        if topic.endswith(suffix):
            return topic[: -len(suffix)]
    return topic
