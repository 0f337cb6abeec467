"""Twilio: SMS anywhere, providers.md section 4.1. One message a request."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode, urlsplit

from django.utils.translation import gettext_lazy

from apps.messaging.adapters.base import Content, ContentError, Delivery, Endpoint, Outcome, Result, SecretField
from apps.messaging.adapters.gateway import GatewayAnswer, GatewayCall, GatewaySender
from apps.messaging.adapters.gateway_results import Form, ReadOnce, check_forms, result_of, shown_of
from apps.messaging.adapters.sms_content import read_text
from apps.messaging.adapters.sms_reasons import TWILIO, twilio_verdict

__all__ = ["MESSAGE_ID", "TwilioAdapter", "basic"]

MESSAGE_ID = "message_id"
"""The parameter of our address for reports that carries our id there and back."""
VALIDITY_S_MAX = 36_000
_FORMS = {
    "account_sid": Form(r"AC[0-9a-f]{32}", "must be AC and 32 hexadecimal digits"),
    "auth_token": Form(r"[0-9a-zA-Z]{16,64}", "is not an auth token"),
    "api_key_sid": Form(r"SK[0-9a-f]{32}", "must be SK and 32 hexadecimal digits", is_needed=False),
    "api_key_secret": Form(r"[0-9a-zA-Z]{16,64}", "is not the secret of an API key", is_needed=False),
    "from": Form(
        r"\+[1-9][0-9]{6,14}|[0-9]{3,6}|(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}|MG[0-9a-f]{32}",
        "must be a number in E.164 form, a short code, a name of up to 11 letters, or a Messaging Service (MG…)",
    ),
}


class TwilioAdapter:
    """SMS. Secret: account_sid, auth_token (it also proves reports), from (number, name or Messaging Service); with
    api_key_sid and api_key_secret these sign in instead of the token."""

    name: ClassVar[str] = "twilio"
    resend_is_harmless: ClassVar[bool] = False
    needs_secret: ClassVar[bool] = True
    reasons: ClassVar[frozenset[str]] = frozenset(TWILIO)
    secret_fields: ClassVar[tuple[SecretField, ...]] = (
        SecretField("account_sid", gettext_lazy("Account SID"), placeholder="AC…"),
        SecretField(
            "auth_token",
            gettext_lazy("Auth token"),
            is_secret=True,
            help=gettext_lazy("Needed even with an API key: Twilio signs its reports with it."),
        ),
        SecretField("api_key_sid", gettext_lazy("API key SID (optional)"), placeholder="SK…"),
        SecretField("api_key_secret", gettext_lazy("API key secret (optional)"), is_secret=True),
        SecretField("from", gettext_lazy("Sender: number, name or Messaging Service"), placeholder="+15005550006"),
    )

    def check_content(self, content: Content) -> None:
        """Raise `ContentError` for what Twilio would refuse. It has no title, and is not given any."""
        read_text(content, self.name)

    def check_secret(self, secret: Mapping[str, Any]) -> None:
        """Raise `CredentialError` for a missing or malformed key. No network."""
        check_forms(secret, _FORMS, "a Twilio secret")
        if bool(secret.get("api_key_sid")) != bool(secret.get("api_key_secret")):
            missing = "api_key_secret" if secret.get("api_key_sid") else "api_key_sid"
            check_forms(secret, {**_FORMS, missing: _FORMS[missing]._replace(is_needed=True)}, "a Twilio secret")

    def summarise_secret(self, secret: Mapping[str, Any]) -> dict[str, str]:
        return shown_of(self.secret_fields, secret)

    def open(self, secret: Mapping[str, Any], endpoint: Endpoint) -> TwilioSender:
        """A sender for this credential. Connects on the first send."""
        self.check_secret(secret)
        return TwilioSender(secret, endpoint)


def basic(secret: Mapping[str, Any]) -> str:
    """The header that signs in."""
    user = secret.get("api_key_sid") or secret["account_sid"]
    password = secret.get("api_key_secret") or secret["auth_token"]
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class TwilioSender(GatewaySender):
    provider = "twilio"

    def __init__(self, secret: Mapping[str, Any], endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._path = f"/2010-04-01/Accounts/{secret['account_sid']}/Messages.json"
        self._headers = [("Authorization", basic(secret)), ("Content-Type", "application/x-www-form-urlencoded")]
        self._from = str(secret["from"])
        address = urlsplit(endpoint.report_url)
        # Twilio refuses an address that only this machine knows; what it cannot report is asked for.
        self._report_url = "" if address.hostname in (None, "localhost") else endpoint.report_url
        self._is_asked = address.scheme != "https" or not self._report_url
        self._read = ReadOnce(self._written)

    def _key(self, delivery: Delivery) -> None:
        self._read(delivery.content)

    def _written(self, content: Content) -> str:
        """The part of the form that all recipients share."""
        read = read_text(content, self.provider)
        if not read.text.strip():
            raise ContentError("body", "is empty")
        sender = read.sender or self._from
        return urlencode({"MessagingServiceSid" if sender.startswith("MG") else "From": sender, "Body": read.text})

    def _build(self, deliveries: Sequence[Delivery]) -> GatewayCall:
        (delivery,) = deliveries
        own = {"To": delivery.address}
        if self._report_url:
            own["StatusCallback"] = f"{self._report_url}?{MESSAGE_ID}={delivery.message_id}"
        if delivery.expires_at:
            left_s = int(delivery.expires_at - time.time())
            own["ValidityPeriod"] = str(min(max(left_s, 1), VALIDITY_S_MAX))
        body = f"{self._read(delivery.content)}&{urlencode(own)}"
        return GatewayCall("POST", self._path, self._headers, body.encode())

    def _parse(self, deliveries: Sequence[Delivery], answer: GatewayAnswer) -> Iterable[Result]:
        message_id, content = deliveries[0].message_id, answer.json()
        if not isinstance(content, dict):
            content = {}
        if answer.status in (200, 201) and content.get("sid"):
            sid = str(content["sid"])
            is_asked = sid if self._is_asked else ""
            return [
                Result(message_id, Outcome.ACCEPTED, "", answer.status, provider_message_id=sid, request_id=is_asked)
            ]
        code = str(content.get("code") or "")
        verdict = twilio_verdict(answer.status, code)
        return [result_of(message_id, verdict, code or f"http_{answer.status}", answer)]
