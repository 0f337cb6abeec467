"""NHN Cloud SMS v3.0: SMS and LMS, providers.md section 4.3.

A request has one text, so recipients of a plain batch go together, up to 1,000 at a time, and each personal text is a
request of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy

from apps.messaging.adapters.base import Content, ContentError, Delivery, Endpoint, Result, SecretField
from apps.messaging.adapters.gateway import GatewayAnswer, GatewayCall, GatewaySender
from apps.messaging.adapters.gateway_results import Form, ReadOnce, check_forms, shown_of
from apps.messaging.adapters.nhn import KEY_FIELDS, KEY_FORMS, encoded, headers_of, results_of
from apps.messaging.adapters.phone import KOREA
from apps.messaging.adapters.sms_content import SmsText, advertises, read_text, title_for
from apps.messaging.adapters.sms_reasons import NHN_SMS_REPLIES, nhn_sms_reply
from apps.messaging.adapters.solapi_sender import korean_sender, number_of

__all__ = ["NhnSmsAdapter"]

_FORMS = {
    **KEY_FORMS,
    "from": Form(r"[0-9][0-9 \-]{6,16}", "must be a sender number that is registered with NHN Cloud"),
}


class NhnSmsAdapter:
    """SMS and LMS in Korea, SMS abroad. Secret: app_key, secret_key, from (the sender number), webhook_signature."""

    name: ClassVar[str] = "nhn_sms"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(NHN_SMS_REPLIES)
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        *KEY_FIELDS,
        SecretField(
            "from",
            gettext_lazy("Sender number"),
            help=gettext_lazy("Registered with NHN Cloud; a message may name another one."),
            placeholder="0212345678",
        ),
    )

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what NHN Cloud would refuse."""
        read_text(content, self.name)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        check_forms(secret, _FORMS, "an NHN Cloud SMS secret")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return shown_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> NhnSmsSender:
        """A sender for this credential. Connects on the first send."""
        self.check_secret(secret)
        return NhnSmsSender(secret, endpoint)


class NhnSmsSender(GatewaySender):
    provider = "nhn_sms"
    per_request: ClassVar[int] = 500
    """It would take 1,000; what is lost with an answer that does not come is kept small."""

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._path = f"/sms/v3.0/appKeys/{secret['app_key']}/sender"
        self._headers = headers_of(secret)
        self._from = korean_sender(str(secret["from"]))
        self._read = ReadOnce(self._written)

    def _written(self, content: Content) -> SmsText:
        read = read_text(content, self.provider)
        if not read.text.strip():
            raise ContentError("body", "is empty")
        title = (read.title or title_for(read.text)) if read.kind == "lms" else ""  # NHN sends none without
        return read._replace(title=title, sender=read.sender or self._from)

    def _key(self, delivery: Delivery) -> SmsText:
        number_of(delivery)
        return self._read(delivery.content)

    def _build(self, deliveries: Sequence[Delivery]) -> GatewayCall:
        read = self._read(deliveries[0].content)
        route = "sms" if read.kind == "sms" else "mms"
        body: dict[str, Any] = {
            "body": read.text,
            "sendNo": read.sender,
            "recipientList": [_recipient(delivery) for delivery in deliveries],
        }
        if read.title:
            body["title"] = read.title
        path = f"{self._path}/{'ad-' if advertises(read.text) else ''}{route}"
        return GatewayCall("POST", path, self._headers, encoded(body))

    def _parse(self, deliveries: Sequence[Delivery], answer: GatewayAnswer) -> Iterable[Result]:
        return results_of(deliveries, answer, _entries, nhn_sms_reply)


def _recipient(delivery: Delivery) -> dict[str, str]:
    to = number_of(delivery)
    own = {"recipientGroupingKey": delivery.message_id}
    if to.country == KOREA:
        return {"recipientNo": to.number, **own}
    return {"internationalRecipientNo": delivery.address[1:], **own}


def _entries(content: Mapping[str, Any]) -> tuple[str, object]:
    body = content.get("body")
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict):
        return "", None
    return str(data.get("requestId") or ""), data.get("sendResultList")
