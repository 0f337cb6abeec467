"""Alimtalk by Solapi (type ATA), providers.md section 5.1. Solapi's own SMS instead of a message that fails is off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from apps.messaging.adapters.base import Content, Delivery, Endpoint, SecretField
from apps.messaging.adapters.gateway_results import ReadOnce, check_forms, shown_of
from apps.messaging.adapters.kakao_content import check_content, read_variables, resolved_of
from apps.messaging.adapters.sms_reasons import SOLAPI, SOLAPI_ERRORS
from apps.messaging.adapters.solapi_sender import KEY_FIELDS, KEY_FORMS, SolapiSender

__all__ = ["SolapiKakaoAdapter"]


class SolapiKakaoAdapter:
    """Alimtalk. Secret: api_key, api_secret, webhook_secret."""

    name: ClassVar[str] = "solapi_kakao"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(SOLAPI) | frozenset(SOLAPI_ERRORS)
    secret_fields: ClassVar[tuple[SecretField, ...]] = KEY_FIELDS

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what cannot be sent with the template."""
        check_content(content, self.name)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        check_forms(secret, KEY_FORMS, "a Solapi secret")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return shown_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> SolapiKakaoSender:
        """A sender for this credential. Connects on the first send."""
        self.check_secret(secret)
        return SolapiKakaoSender(secret, endpoint)


class SolapiKakaoSender(SolapiSender):
    provider = "solapi_kakao"

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(secret, endpoint)
        self._read = ReadOnce(self._written)

    def _message(self, delivery: Delivery) -> dict[str, Any]:
        return self._read(delivery.content)

    def _written(self, content: Content) -> dict[str, Any]:
        template = resolved_of(content, self.provider)
        values = read_variables(content, template, is_final=True)
        options = {
            "pfId": template.sender_key,
            "templateId": template.code,
            "variables": {f"#{{{name}}}": value for name, value in values.items()},
            "disableSms": True,
        }
        return {"type": "ATA", "kakaoOptions": options}
