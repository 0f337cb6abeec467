"""Accounts for the gateways' stand-ins: what a sender needs, and what the sandbox must be told about it."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class SolapiAccount:
    """A Solapi account: API key and secret, and the secret of its webhook."""

    api_key: str = field(default_factory=lambda: f"NCS{secrets.token_hex(7)[:13].upper()}")
    api_secret: str = field(default_factory=lambda: secrets.token_hex(16).upper())
    webhook_secret: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    def registration(self, **more: Any) -> dict[str, Any]:
        """The body for `POST /keys`; `balance` may be added."""
        return {"api_key": self.api_key, "api_secret": self.api_secret, **more}

    def authorization(self, *, date: str | None = None, salt: str | None = None, key: str | None = None) -> str:
        """The header of one request, for tests."""
        from apps.sandbox.solapi import sign

        date = date or datetime.now(UTC).isoformat()
        salt = salt or secrets.token_hex(16)
        signature = sign(self.api_secret, date, salt)
        return f"HMAC-SHA256 apiKey={key or self.api_key}, date={date}, salt={salt}, signature={signature}"


@dataclass(frozen=True)
class TwilioAccount:
    """A Twilio account. The auth token also signs its webhooks."""

    account_sid: str = field(default_factory=lambda: f"AC{secrets.token_hex(16)}")
    auth_token: str = field(default_factory=lambda: secrets.token_hex(16))
    api_key_sid: str = field(default_factory=lambda: f"SK{secrets.token_hex(16)}")
    api_key_secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def registration(self, **more: Any) -> dict[str, Any]:
        """The body for `POST /keys`."""
        return {
            "account_sid": self.account_sid, "auth_token": self.auth_token,
            "api_keys": {self.api_key_sid: self.api_key_secret}, **more,
        }  # fmt: skip

    def authorization(self, *, user: str | None = None, password: str | None = None) -> str:
        """The header of one request, for tests."""
        pair = f"{user or self.account_sid}:{password or self.auth_token}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


@dataclass(frozen=True)
class NhnApp:
    """An app key of NHN Cloud's SMS or KakaoTalk Bizmessage, and the signature typed into its webhook's settings."""

    app_key: str = field(default_factory=lambda: secrets.token_hex(8))
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(6))
    webhook_signature: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    service: str = ""  # sms, kakao; empty: both

    def registration(self, **more: Any) -> dict[str, Any]:
        """The body for `POST /keys`."""
        return {"app_key": self.app_key, "secret_key": self.secret_key, "service": self.service, **more}
