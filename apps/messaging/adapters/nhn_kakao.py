"""Alimtalk by NHN Cloud, KakaoTalk Bizmessage v2.3, providers.md section 5.2.

Recipients of one template go together, each with variables of their own. NHN's own SMS instead of a message that fails
is off. A request carries an idempotency key made of the messages in it: the same messages are not taken twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from apps.messaging.adapters.base import Content, Delivery, Endpoint, Result, SecretField
from apps.messaging.adapters.gateway import GatewayAnswer, GatewayCall, GatewaySender
from apps.messaging.adapters.gateway_results import ReadOnce, check_forms, shown_of
from apps.messaging.adapters.kakao_content import Resolved, check_content, read_variables, resolved_of
from apps.messaging.adapters.kakao_reasons import NHN_KAKAO_REPLIES, nhn_kakao_reply
from apps.messaging.adapters.nhn import KEY_FIELDS, KEY_FORMS, encoded, headers_of, results_of
from apps.messaging.adapters.phone import KOREA
from apps.messaging.adapters.solapi_sender import number_of

__all__ = ["NhnKakaoAdapter"]


class NhnKakaoAdapter:
    """Alimtalk. Secret: app_key, secret_key, webhook_signature."""

    name: ClassVar[str] = "nhn_kakao"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(NHN_KAKAO_REPLIES)
    secret_fields: ClassVar[tuple[SecretField, ...]] = KEY_FIELDS

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what cannot be sent with the template."""
        check_content(content, self.name)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        check_forms(secret, KEY_FORMS, "a secret of NHN Cloud KakaoTalk Bizmessage")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return shown_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> NhnKakaoSender:
        """A sender for this credential. Connects on the first send."""
        self.check_secret(secret)
        return NhnKakaoSender(secret, endpoint)


class _Read(NamedTuple):
    template: Resolved
    values: dict[str, str]


class NhnKakaoSender(GatewaySender):
    provider = "nhn_kakao"
    per_request: ClassVar[int] = 500
    """It would take 1,000; what is lost with an answer that does not come is kept small."""

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._path = f"/alimtalk/v2.3/appkeys/{secret['app_key']}/messages"
        self._headers = headers_of(secret)
        self._read = ReadOnce(self._written)

    def _written(self, content: Content) -> _Read:
        template = resolved_of(content, self.provider)
        return _Read(template, read_variables(content, template, is_final=True))

    def _key(self, delivery: Delivery) -> tuple[str, str]:
        number_of(delivery)
        template = self._read(delivery.content).template
        return template.sender_key, template.code

    def _build(self, deliveries: Sequence[Delivery]) -> GatewayCall:
        template = self._read(deliveries[0].content).template
        ids = hashlib.sha256("".join(delivery.message_id for delivery in deliveries).encode())
        body = {
            "senderKey": template.sender_key,
            "templateCode": template.code,
            "recipientList": [self._recipient(delivery) for delivery in deliveries],
        }
        headers = [*self._headers, ("X-NC-API-IDEMPOTENCY-KEY", ids.hexdigest()[:32])]
        return GatewayCall("POST", self._path, headers, encoded(body))

    def _recipient(self, delivery: Delivery) -> dict[str, Any]:
        to = number_of(delivery)
        return {
            "recipientNo": to.number if to.country == KOREA else delivery.address[1:],
            "templateParameter": self._read(delivery.content).values,
            "resendParameter": {"isResend": False},
            "recipientGroupingKey": delivery.message_id,
        }

    def _parse(self, deliveries: Sequence[Delivery], answer: GatewayAnswer) -> Iterable[Result]:
        return results_of(deliveries, answer, _entries, nhn_kakao_reply)


def _entries(content: Mapping[str, Any]) -> tuple[str, object]:
    message = content.get("message")
    if not isinstance(message, dict):
        return "", None
    return str(message.get("requestId") or ""), message.get("sendResults")
