"""Solapi (CoolSMS): SMS and LMS, providers.md section 4.2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.utils.translation import gettext_lazy

from apps.messaging.adapters.base import Content, ContentError, Delivery, Endpoint, SecretField
from apps.messaging.adapters.gateway_results import Form, ReadOnce, check_forms, shown_of
from apps.messaging.adapters.sms_content import read_text
from apps.messaging.adapters.sms_reasons import SOLAPI, SOLAPI_ERRORS
from apps.messaging.adapters.solapi_sender import KEY_FIELDS, KEY_FORMS, SolapiSender, korean_sender

__all__ = ["SolapiAdapter"]

_FORMS = {
    **KEY_FORMS,
    "from": Form(r"[0-9][0-9 \-]{6,16}", "must be a sender number that is registered with Solapi"),
}


class SolapiAdapter:
    """SMS and LMS in Korea, SMS abroad. Secret: api_key, api_secret, from (the sender number), webhook_secret."""

    name: ClassVar[str] = "solapi"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(SOLAPI) | frozenset(SOLAPI_ERRORS)
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        *KEY_FIELDS,
        SecretField(
            "from",
            gettext_lazy("Sender number"),
            help=gettext_lazy("Registered with Solapi; a message may name another one."),
            placeholder="0212345678",
        ),
    )

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what Solapi would refuse."""
        read_text(content, self.name)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        check_forms(secret, _FORMS, "a Solapi secret")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return shown_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> SolapiSmsSender:
        """A sender for this credential. Connects on the first send."""
        self.check_secret(secret)
        return SolapiSmsSender(secret, endpoint)


class SolapiSmsSender(SolapiSender):
    provider = "solapi"

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(secret, endpoint)
        self._from = korean_sender(str(secret["from"]))
        self._read = ReadOnce(self._written)

    def _message(self, delivery: Delivery) -> dict[str, Any]:
        return self._read(delivery.content)

    def _written(self, content: Content) -> dict[str, Any]:
        read = read_text(content, self.provider)
        if not read.text.strip():
            raise ContentError("body", "is empty")
        message = {"type": read.kind.upper(), "from": read.sender or self._from, "text": read.text}
        return {**message, "subject": read.title} if read.title else message
