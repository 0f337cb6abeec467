"""APNs, the Apple Push Notification service, with token authentication (providers.md section 1).

One POST per message over HTTP/2. What each refusal means is in `reasons`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.utils.translation import gettext_lazy

from apps.messaging.adapters import push_content
from apps.messaging.adapters.base import (
    Content,
    CredentialError,
    Delivery,
    Endpoint,
    FieldKind,
    Outcome,
    Result,
    SecretField,
    summary_of,
)
from apps.messaging.adapters.http2 import Answer, Request, encode_lines
from apps.messaging.adapters.push_sender import Again, PushSender, Tag
from apps.messaging.adapters.reasons import APNS, MINUTE_S, apns_verdict

__all__ = ["ApnsAdapter", "ProviderToken"]

ENVIRONMENTS = ("production", "sandbox", "both")
RESERVED_KEYS = frozenset({"aps", "automata"})
"""Apple's own key of the payload, and ours."""

RENEW_AGE_S = 50 * MINUTE_S
"""When a provider token is replaced. Apple allows 20 to 60 minutes; late means few tokens, and ten minutes are left
for a clock that is off and for requests that wait."""
RENEW_AGE_MIN_S, TOKEN_AGE_MAX_S = 20 * MINUTE_S, 60 * MINUTE_S

_MESSAGE_ID = str(uuid4())
"""Stands for the message id in an encoded payload; nobody can guess it, so no content holds it."""
_ENCODED_MAX = 16
"""Contents kept encoded at a time: a plain batch has one, one per language has a few."""


class ApnsAdapter:
    """iOS push. Secret: team_id, key_id, private_key (.p8 PEM), bundle_id, environment."""

    name: ClassVar[str] = "apns"
    resend_is_harmless: ClassVar[bool] = True
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(reason for _, reason in APNS if reason)
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        SecretField("team_id", gettext_lazy("Team id")),
        SecretField("key_id", gettext_lazy("Key id")),
        SecretField("bundle_id", gettext_lazy("Bundle id")),
        SecretField(
            "environment",
            gettext_lazy("Environment"),
            choices=(
                ("both", gettext_lazy("Production and sandbox, by the device")),
                ("production", gettext_lazy("Production")),
                ("sandbox", gettext_lazy("Sandbox")),
            ),
        ),
        SecretField(
            "private_key",
            gettext_lazy("Key (.p8)"),
            FieldKind.LONG,
            is_secret=True,
            placeholder="-----BEGIN PRIVATE KEY-----",
        ),
    )

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what APNs would refuse: providers.md 1.5."""
        _encode(content)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        ApnsCredential.read(secret)

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        """What may be shown of the secret: all but the key."""
        return summary_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> ApnsSender:
        """A sender for this credential. Connects on the first send. Raises `CredentialError`."""
        return ApnsSender(ApnsCredential.read(secret), endpoint)


class ApnsCredential(NamedTuple):
    """A secret that was read."""

    team_id: str
    key_id: str
    private_key: ec.EllipticCurvePrivateKey
    bundle_id: str
    environment: str

    @classmethod
    def read(cls, secret: Mapping[str, Any]) -> ApnsCredential:
        """Raise `CredentialError` naming the first key that is missing, unknown or malformed."""
        for name in cls._fields:
            if not isinstance(secret.get(name), str) or not secret[name]:
                raise CredentialError(name, "is missing")
        if unknown := set(secret) - set(cls._fields):
            raise CredentialError(min(unknown), "is not a key of an APNs secret")
        for name in ("team_id", "key_id"):
            if not re.fullmatch(r"[A-Za-z0-9]{10}", secret[name]):
                raise CredentialError(name, "must be 10 letters and digits")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,154}", secret["bundle_id"]):
            raise CredentialError("bundle_id", "must be letters, digits, dots and hyphens")
        if secret["environment"] not in ENVIRONMENTS:
            raise CredentialError("environment", f"must be one of {', '.join(ENVIRONMENTS)}")
        try:
            key = load_pem_private_key(secret["private_key"].encode(), password=None)
        except (ValueError, TypeError, UnicodeEncodeError) as error:
            raise CredentialError("private_key", "is not a readable PEM key") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise CredentialError("private_key", "must be a P-256 key, as in Apple's .p8 file")
        return cls(**{**secret, "private_key": key})


class ProviderToken:
    """The JWT that authorises requests, signed rarely and kept (providers.md 1.2). Ages are on the monotonic clock."""

    class _Signed(NamedTuple):
        authorization: bytes
        signed_at: float

    def __init__(
        self,
        credential: ApnsCredential,
        *,
        renew_age_s: float = RENEW_AGE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not RENEW_AGE_MIN_S <= renew_age_s < TOKEN_AGE_MAX_S:
            raise ValueError(f"renew_age_s must be {RENEW_AGE_MIN_S:.0f} to {TOKEN_AGE_MAX_S:.0f}")
        self._credential, self._renew_age_s, self._clock = credential, renew_age_s, clock
        self._current = self._sign()
        self._other: ProviderToken._Signed | None = None
        """The one before; or the one after, when APNs told us to go back."""

    def _sign(self) -> _Signed:
        credential = self._credential
        claims = {"iss": credential.team_id, "iat": int(time.time())}
        token = jwt.encode(claims, credential.private_key, algorithm="ES256", headers={"kid": credential.key_id})
        return self._Signed(b"authorization: bearer " + token.encode(), self._clock())

    def authorization(self) -> bytes:
        """The header, renewed when it is due."""
        if self._clock() - self._current.signed_at >= self._renew_age_s:
            self._renew()
        return self._current.authorization

    def _renew(self) -> None:
        if self._other is not None and self._other.signed_at > self._current.signed_at:
            self._current, self._other = self._other, self._current
        if self._clock() - self._current.signed_at >= RENEW_AGE_MIN_S:
            self._current, self._other = self._sign(), self._current

    def renewed_after_expiry(self, authorization: bytes) -> bool:
        """APNs calls the token with this header expired: whether there is a newer one to try with.

        A token of less than 20 minutes cannot be expired and must not be replaced: then a clock is wrong.
        """
        if authorization == self._current.authorization:
            self._renew()
        return authorization != self._current.authorization

    def step_back(self) -> float:
        """APNs has seen too many tokens: use the one before while it lasts. Gives the seconds to wait."""
        now = self._clock()
        newest_at = self._current.signed_at
        if self._other is not None:
            newest_at = max(newest_at, self._other.signed_at)
            if self._other.signed_at < self._current.signed_at and now - self._other.signed_at < TOKEN_AGE_MAX_S:
                self._current, self._other = self._other, self._current
        return max(1.0, newest_at + RENEW_AGE_MIN_S - now)


class _Encoded(NamedTuple):
    """A content as APNs takes it, but for the message id."""

    content: Content
    expires_at: float | None
    body: list[bytes]
    """Between these parts comes the message id."""
    headers: list[bytes]
    own_headers: list[bytes]
    """Likewise."""


class ApnsSender(PushSender):
    """Open connections to APNs with one credential."""

    provider = "apns"

    def __init__(self, credential: ApnsCredential, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._credential = credential
        self._token = ProviderToken(credential)
        self._authorization = b""
        self._encoded: dict[int, _Encoded] = {}
        self._origin_by_test_type: dict[int, str] = {}
        if credential.environment in ("production", "both"):
            self._origin_by_test_type[0] = endpoint.url
        if credential.environment in ("sandbox", "both") and endpoint.sandbox_url:
            self._origin_by_test_type |= dict.fromkeys((1, 2), endpoint.sandbox_url)

    def _review(self) -> None:
        self._authorization = self._token.authorization()
        self._encoded.clear()

    def _build(self, delivery: Delivery, tag: Delivery | Again) -> Request[Tag] | Result:
        message_id, token, content, test_type, expires_at, _ = delivery
        origin = self._origin_by_test_type.get(test_type)
        if origin is None:
            return Result(message_id, Outcome.UNSUPPORTED, "EnvironmentNotServed")
        if not (token.isalnum() and token.isascii()):
            return _refused(delivery, 400, "BadDeviceToken", http_status=0)
        encoded = self._encoded.get(id(content))
        if encoded is None or encoded.expires_at != expires_at:
            encoded = self._encode(content, expires_at)
        own = message_id.encode()
        is_fresh = type(tag) is Again and tag.on_new_connection
        path = b"/3/device/" + token.encode()
        return Request(
            tag, origin, path, encoded.headers, own.join(encoded.body), is_fresh, own.join(encoded.own_headers)
        )

    def _encode(self, content: Content, expires_at: float | None) -> _Encoded:
        body, options = _encode(content)
        placeholder = _MESSAGE_ID.encode()
        headers = [
            self._authorization,
            b"apns-topic: " + self._credential.bundle_id.encode(),
            b"apns-push-type: background" if options.silent else b"apns-push-type: alert",
            b"apns-priority: 5" if options.silent or options.priority == "normal" else b"apns-priority: 10",
        ]
        if expires_at is not None:
            headers.append(b"apns-expiration: %d" % max(0, int(expires_at)))
        collapse_id = options.collapse_key.encode() if options.collapse_key else placeholder
        own_headers = encode_lines([b"apns-id: " + placeholder, b"apns-collapse-id: " + collapse_id])
        if len(self._encoded) >= _ENCODED_MAX:
            self._encoded.clear()
        encoded = _Encoded(content, expires_at, body.split(placeholder), headers, own_headers.split(placeholder))
        self._encoded[id(content)] = encoded
        return encoded

    def _parse(self, delivery: Delivery, answer: Answer[Tag]) -> Result | Again:
        if answer.status == 200:
            return Result(delivery.message_id, Outcome.ACCEPTED, "", 200)
        reason, gone_at = _read_refusal(answer.body)
        retry_after_s = answer.retry_after_s
        if answer.status == 403 and type(answer.request.tag) is not Again:
            if reason == "ExpiredProviderToken" and self._token.renewed_after_expiry(answer.request.headers[0]):
                self._review_at = 0.0
                return Again(delivery)
            if reason == "UnrelatedKeyIdInToken":
                return Again(delivery, on_new_connection=True)
        if reason == "TooManyProviderTokenUpdates":
            retry_after_s = self._token.step_back()
            self._review_at = 0.0
        return _refused(delivery, answer.status, reason, retry_after_s=retry_after_s, gone_at=gone_at)


def _refused(
    delivery: Delivery,
    status: int,
    reason: str,
    *,
    http_status: int | None = None,
    retry_after_s: float | None = None,
    gone_at: float | None = None,
) -> Result:
    verdict = apns_verdict(status, reason)
    return Result(
        delivery.message_id,
        verdict.outcome,
        reason or f"HTTP {status}",
        status if http_status is None else http_status,
        verdict.subscription_status,
        retry_after_s if retry_after_s is not None else verdict.retry_after_s,
        gone_at if verdict.outcome is Outcome.RECIPIENT_GONE else None,
    )


def _read_refusal(body: bytes) -> tuple[str, float | None]:
    """(reason, epoch seconds since when the token is dead); ("", None) for what is not APNs' JSON. providers.md 1.6."""
    try:
        refusal = orjson.loads(body)
    except ValueError:
        return "", None
    if not isinstance(refusal, dict):
        return "", None
    reason, timestamp_ms = refusal.get("reason"), refusal.get("timestamp")
    gone_at = timestamp_ms / 1000 if isinstance(timestamp_ms, int) else None
    return reason if isinstance(reason, str) else "", gone_at


def _encode(content: Content) -> tuple[bytes, push_content.PushOptions]:
    """The payload with `_MESSAGE_ID` in the message id's place. Raises `ContentError`. providers.md 1.5."""
    options = push_content.check_shared(content, RESERVED_KEYS.__contains__)
    aps: dict[str, Any] = {}
    automata = {"message_id": _MESSAGE_ID}
    if options.silent:
        aps["content-available"] = 1
    else:
        alert = {"title": content.title, "subtitle": options.subtitle, "body": content.body}
        aps["alert"] = {name: text for name, text in alert.items() if text}
        if options.badge is not None:
            aps["badge"] = options.badge
        if options.sound:
            aps["sound"] = options.sound
        if options.category:
            aps["category"] = options.category
        if options.image:
            aps["mutable-content"] = 1
            automata["image"] = options.image
    if options.thread_id:
        aps["thread-id"] = options.thread_id
    body = push_content.encode("data", {"aps": aps, "automata": automata, **content.data})
    push_content.check_payload_size(len(body))
    return body, options
