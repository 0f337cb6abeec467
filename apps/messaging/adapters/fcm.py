"""FCM HTTP v1, Firebase Cloud Messaging, for Android (providers.md section 2).

One POST per message over HTTP/2. What each refusal means is in `reasons`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple
from uuid import uuid4

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
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
)
from apps.messaging.adapters.fcm_token import AccessTokens
from apps.messaging.adapters.http2 import Answer, Request
from apps.messaging.adapters.push_sender import Again, PushSender, Tag
from apps.messaging.adapters.reasons import FCM, TOKEN_INVALID, fcm_verdict

__all__ = ["FcmAdapter", "ServiceAccount", "read_refusal"]

TTL_S_MAX = 2_419_200
MESSAGE_ID_KEY = "automata_message_id"
RESERVED_KEYS = frozenset({"from", "message_type", MESSAGE_ID_KEY})
RESERVED_PREFIXES = ("google.", "gcm.notification.")
"""providers.md 2.2; the message id is ours."""

_MESSAGE_ID = str(uuid4())
"""Stands for the message id in an encoded message; nobody can guess it, so no content holds it."""
_ENCODED_MAX = 16
"""Contents kept encoded at a time: a plain batch has one, one per language has a few."""
_OPENING = b'{"message":{'
_TOKEN_FIELDS = ("message.token", "message.fid")
_TOKEN_TEXT = "registration token is not a valid"  # noqa: S105 - words of an error


class FcmAdapter:
    """Android push. Secret: service_account, the JSON file of a Firebase project."""

    name: ClassVar[str] = "fcm"
    resend_is_harmless: ClassVar[bool] = True
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(reason for _, reason in FCM if reason)
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        SecretField(
            "service_account",
            gettext_lazy("Service account (JSON)"),
            FieldKind.JSON,
            is_secret=True,
            placeholder='{"type": "service_account", …}',
        ),
    )

    def __init__(self, *, target: str = "token") -> None:
        """`target` is the field that takes the address: `token`, or `fid`, which is to follow it."""
        if target not in ("token", "fid"):
            raise ValueError("target must be token or fid")
        self._target = target

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what FCM would refuse: providers.md 2.2 and 2.3."""
        _encode(content, self._target, ttl_s=TTL_S_MAX)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        ServiceAccount.read(secret)

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        """What may be shown of the secret: whose it is, without its key."""
        return {name: str(secret["service_account"][name]) for name in ("project_id", "client_email")}

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> FcmSender:
        """A sender for this credential. Connects on the first send. Raises `CredentialError`."""
        return FcmSender(ServiceAccount.read(secret), endpoint, self._target)


class ServiceAccount(NamedTuple):
    """What is used of a service account; its other keys, addresses among them, are left out."""

    type: str
    project_id: str
    client_email: str
    private_key: str
    token_uri: str

    @classmethod
    def read(cls, secret: Mapping[str, Any]) -> ServiceAccount:
        """Raise `CredentialError` naming the first key that is missing or malformed."""
        account = secret.get("service_account")
        if not isinstance(account, Mapping):
            raise CredentialError("service_account", "is missing, or is not an object")
        if unknown := set(secret) - {"service_account"}:
            raise CredentialError(min(unknown), "is not a key of an FCM secret")
        for name in cls._fields:
            if not isinstance(account.get(name), str) or not account[name]:
                raise CredentialError(f"service_account.{name}", "is missing")
        if account["type"] != "service_account":
            raise CredentialError("service_account.type", "must be service_account")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.:-]{0,127}", account["project_id"]):  # it becomes part of an address
            raise CredentialError("service_account.project_id", "is not a project id")
        if not re.fullmatch(r"[^@\s]+@[^@\s]+", account["client_email"]):
            raise CredentialError("service_account.client_email", "is not an e-mail address")
        if not account["token_uri"].startswith("https://"):
            raise CredentialError("service_account.token_uri", "must be an https address")
        try:
            key = load_pem_private_key(account["private_key"].encode(), password=None)
        except (ValueError, TypeError, UnicodeEncodeError) as error:
            raise CredentialError("service_account.private_key", "is not a readable PEM key") from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise CredentialError("service_account.private_key", "must be an RSA key")
        return cls(**{name: account[name] for name in cls._fields})


class _Encoded(NamedTuple):
    """A content as FCM takes it: between these parts comes the message id, and the address before the first."""

    content: Content
    expires_at: float | None
    parts: list[bytes]


class FcmSender(PushSender):
    """Open connections to FCM with one service account."""

    provider = "fcm"

    def __init__(self, account: ServiceAccount, endpoint: Endpoint, target: str) -> None:
        super().__init__(endpoint)
        self._origin = endpoint.url
        self._path = f"/v1/projects/{account.project_id}/messages:send".encode()
        self._tokens = AccessTokens(account._asdict(), token_url=endpoint.token_url, ca_file=endpoint.ca_file)
        self._target = target
        self._opening = _OPENING + orjson.dumps(target) + b":"
        self._headers: list[bytes] = [b""]
        self._encoded: dict[int, _Encoded] = {}

    def _review(self) -> None:
        authorization = self._tokens.authorization()
        if authorization is not self._headers[0]:
            self._headers = [authorization, b"content-type: application/json"]
        self._encoded.clear()  # the lifetime in it is in seconds from now

    def _build(self, delivery: Delivery, tag: Delivery | Again) -> Request[Tag] | Result:
        message_id, address, content, _, expires_at, _ = delivery
        encoded = self._encoded.get(id(content))
        if encoded is None or encoded.expires_at != expires_at:
            encoded = self._encode(content, expires_at)
        try:
            target = orjson.dumps(address)
        except TypeError:  # an address that is no Unicode
            return _refused(delivery, 400, TOKEN_INVALID, http_status=0)
        body = self._opening + target + message_id.encode().join(encoded.parts)
        return Request(tag, self._origin, self._path, self._headers, body)

    def _encode(self, content: Content, expires_at: float | None) -> _Encoded:
        ttl_s = None
        if expires_at is not None:
            ttl_s = min(TTL_S_MAX, max(0, int(expires_at - time.time())))
        body = _encode(content, self._target, ttl_s=ttl_s)
        if len(self._encoded) >= _ENCODED_MAX:
            self._encoded.clear()
        encoded = _Encoded(content, expires_at, body.split(_MESSAGE_ID.encode()))
        self._encoded[id(content)] = encoded
        return encoded

    def _parse(self, delivery: Delivery, answer: Answer[Tag]) -> Result | Again:
        if answer.status == 200:
            return Result(delivery.message_id, Outcome.ACCEPTED, "", 200, None, None, None, _read_name(answer.body))
        reason = read_refusal(answer.status, answer.body)
        if answer.status == 401 and reason in ("UNAUTHENTICATED", "") and type(answer.request.tag) is not Again:
            self._tokens.discard(answer.request.headers[0])
            self._review_at = 0.0
            return Again(delivery)
        return _refused(delivery, answer.status, reason, retry_after_s=answer.retry_after_s)


def _refused(
    delivery: Delivery,
    status: int,
    reason: str,
    *,
    http_status: int | None = None,
    retry_after_s: float | None = None,
) -> Result:
    verdict = fcm_verdict(status, reason)
    wait_s = retry_after_s if retry_after_s is not None else verdict.retry_after_s
    return Result(
        delivery.message_id,
        verdict.outcome,
        reason or f"HTTP {status}",
        status if http_status is None else http_status,
        verdict.subscription_status,
        None if wait_s is None else max(wait_s, verdict.retry_at_least_s),
    )


def _read_name(body: bytes) -> str:
    """The message's name with FCM: `projects/<project>/messages/<id>`; empty if the answer was cut off."""
    try:
        name = orjson.loads(body)["name"]
    except (ValueError, KeyError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def read_refusal(status: int, body: bytes) -> str:
    """FCM's word: errorCode of the FcmError detail, else status; empty for what is not FCM's JSON. providers.md 2.4."""
    try:
        error = orjson.loads(body)["error"]
        word, message, details = error.get("status"), error.get("message"), error.get("details") or []
        codes = [d["errorCode"] for d in details if d.get("@type", "").endswith("FcmError") and "errorCode" in d]
        fields = [v.get("field") for d in details for v in d.get("fieldViolations") or []]
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    reason = next((code for code in (*codes, word) if isinstance(code, str) and code != "UNSPECIFIED_ERROR"), "")
    if status == 400 and reason == "INVALID_ARGUMENT":
        is_about_token = any(field in _TOKEN_FIELDS for field in fields) or _TOKEN_TEXT in str(message)
        return TOKEN_INVALID if is_about_token else reason
    return reason


def _is_reserved(key: str) -> bool:
    return key in RESERVED_KEYS or key.startswith(RESERVED_PREFIXES)


def _encode(content: Content, target: str, *, ttl_s: int | None) -> bytes:
    """The request's body from after the address on, with `_MESSAGE_ID` in the message id's place.

    Raises `ContentError`. The size is that of the whole message but its address: what FCM counts exactly is not
    published, and it is less.
    """
    options = push_content.check_shared(content, _is_reserved)
    # No collapse key of our own for each message: FCM keeps four of them for an offline device and drops the rest. The
    # tag alone makes a message that was sent twice show once.
    android: dict[str, Any] = {"priority": options.priority}
    if options.collapse_key:
        android["collapse_key"] = options.collapse_key
    if ttl_s is not None:
        android["ttl"] = f"{ttl_s}s"
    message: dict[str, Any] = {}
    if not options.silent:
        shown = {"title": content.title, "body": content.body, "image": options.image}
        message["notification"] = {name: text for name, text in shown.items() if text}
        details = {
            "channel_id": options.channel_id,
            "sound": options.sound,
            "click_action": options.click_action,
            "tag": options.collapse_key or _MESSAGE_ID,
            "notification_count": options.badge,
        }
        android["notification"] = {name: value for name, value in details.items() if value}
    data = {key: value if isinstance(value, str) else _as_text(key, value) for key, value in content.data.items()}
    message["data"] = {**data, MESSAGE_ID_KEY: _MESSAGE_ID}
    message["android"] = android
    body = push_content.encode("data", {"message": message})
    push_content.check_payload_size(len(body) + len(f'"{target}":"",'))
    return b"," + body[len(_OPENING) :]


def _as_text(key: str, value: object) -> str:
    """FCM's data holds texts only: anything else is sent as its JSON."""
    return push_content.encode(f"data.{key}", value).decode()
