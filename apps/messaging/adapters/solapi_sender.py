"""Solapi's messages API, which takes SMS, LMS and Alimtalk alike: providers.md 4.2 and 5.1."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson
from django.utils.translation import gettext_lazy

from apps.messaging.adapters.base import ContentError, Delivery, Endpoint, Outcome, Result, SecretField
from apps.messaging.adapters.gateway import GatewayAnswer, GatewayCall, GatewaySender
from apps.messaging.adapters.gateway_results import Form, result_of
from apps.messaging.adapters.phone import KOREA, National, national
from apps.messaging.adapters.sms_reasons import SOLAPI_ERRORS, by_status, gone, solapi_verdict

__all__ = ["KEY_FIELDS", "KEY_FORMS", "MESSAGE_ID", "SolapiSender", "authorization"]

MESSAGE_ID = "message_id"
"""The custom field that carries our id there and back."""
ACCEPTED_CODE = "2000"
INVALID_NUMBER = gone(-50)
SEND = "/messages/v4/send-many/detail"
KEY_FORMS = {
    "api_key": Form(r"[A-Za-z0-9]{8,64}", "is not an API key"),
    "api_secret": Form(r"[A-Za-z0-9]{8,128}", "is not an API secret"),
    "webhook_secret": Form(r"[\x21-\x7e]{16,200}", "must be 16 to 200 visible ASCII characters", is_needed=False),
}
KEY_FIELDS = (
    SecretField("api_key", gettext_lazy("API key"), placeholder="NCS…"),
    SecretField("api_secret", gettext_lazy("API secret"), is_secret=True),
    SecretField(
        "webhook_secret",
        gettext_lazy("Secret of the webhook"),
        is_secret=True,
        help=gettext_lazy("The secret typed into Solapi's webhook. Without one no report is believed, and we ask."),
    ),
)


def authorization(api_key: str, api_secret: str) -> str:
    """A header for one request: a signature can be used once in 15 minutes, so each has a salt of its own."""
    date, salt = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"), secrets.token_hex(16)
    signature = hmac.new(api_secret.encode(), (date + salt).encode(), hashlib.sha256).hexdigest()
    return f"HMAC-SHA256 apiKey={api_key}, date={date}, salt={salt}, signature={signature}"


class SolapiSender(GatewaySender):
    """Open connections to Solapi with one API key."""

    per_request: ClassVar[int] = 500
    """It would take 10,000; what is lost with an answer that does not come is kept small."""

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._api_key, self._api_secret = str(secret["api_key"]), str(secret["api_secret"])

    @abstractmethod
    def _message(self, delivery: Delivery) -> dict[str, Any]:
        """The message but for its recipient and custom fields. Raises `ContentError`."""

    def _key(self, delivery: Delivery) -> None:
        self._message(delivery)
        number_of(delivery)

    def _exchange(self, group: list[Delivery]) -> list[Result]:
        results = super()._exchange(group)
        if results[0].reason == "DuplicatedSignature":  # nothing was taken; the next salt is another one
            results = super()._exchange(group)
        return results

    def _build(self, deliveries: Sequence[Delivery]) -> GatewayCall:
        messages = []
        for delivery in deliveries:
            to = number_of(delivery)
            message = {**self._message(delivery), "to": to.number, "customFields": {MESSAGE_ID: delivery.message_id}}
            if to.country != KOREA:
                message["country"] = to.country
            messages.append(message)
        body = orjson.dumps({"messages": messages, "allowDuplicates": True, "showMessageList": True})
        headers = [
            ("Authorization", authorization(self._api_key, self._api_secret)),
            ("Content-Type", "application/json"),
        ]
        return GatewayCall("POST", SEND, headers, body)

    def _parse(self, deliveries: Sequence[Delivery], answer: GatewayAnswer) -> Iterable[Result]:
        content = answer.json()
        if not isinstance(content, dict):
            content = {}
        if answer.status != 200:
            code = str(content.get("errorCode") or "")
            verdict = SOLAPI_ERRORS.get(code) or by_status(answer.status)
            return [result_of(d.message_id, verdict, code or f"http_{answer.status}", answer) for d in deliveries]
        group = content.get("groupInfo")
        group_id = str(group.get("groupId") or "") if isinstance(group, dict) else ""
        results = [self._taken(entry, group_id, answer) for entry in _entries(content, "messageList")]
        return results + [self._refused(entry, answer) for entry in _entries(content, "failedMessageList")]

    def _taken(self, entry: Mapping[str, Any], group_id: str, answer: GatewayAnswer) -> Result:
        message_id, code = _message_id(entry), str(entry.get("statusCode") or ACCEPTED_CODE)
        if code != ACCEPTED_CODE:
            return self._refused(entry, answer)
        provider_id = str(entry.get("messageId") or "")
        return Result(
            message_id,
            Outcome.ACCEPTED,
            "",
            answer.status,
            provider_message_id=provider_id,
            request_id=group_id if provider_id else "",
        )

    def _refused(self, entry: Mapping[str, Any], answer: GatewayAnswer) -> Result:
        code = str(entry.get("statusCode") or "")
        verdict = solapi_verdict(code)
        return result_of(
            _message_id(entry),
            verdict,
            code or "refused",
            answer,
            provider_message_id=str(entry.get("messageId") or ""),
        )


def number_of(delivery: Delivery) -> National:
    """The recipient as a Korean gateway is told. Raises `ContentError`."""
    try:
        return national(delivery.address)
    except ValueError as error:
        raise ContentError("address", str(error)) from None


def korean_sender(value: str) -> str:
    return re.sub(r"[ \-]", "", value)


def _entries(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = content.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _message_id(entry: Mapping[str, Any]) -> str:
    fields = entry.get("customFields")
    return str(fields.get(MESSAGE_ID) or "") if isinstance(fields, dict) else ""
