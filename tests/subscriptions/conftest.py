"""Devices as an app would run them: each knows its token, its subscription's id and its secret handle."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def ios_token() -> str:
    return secrets.token_hex(32)


@dataclass
class Device:
    """Calls its own subscription's routes with the publishable key and its handle."""

    sdk: object
    id: str
    handle: str
    token: str

    def request(self, method: str, path: str = "", body=None, handle: str | None = None):
        headers = {"X-Subscription-Handle": self.handle if handle is None else handle}
        return self.sdk.request(method, f"subscriptions/{self.id}{path}", body, **headers)

    def get(self):
        return self.request("GET", body=b"")

    def patch(self, **body):
        return self.request("PATCH", body=body)

    def register(self, **body):
        return self.sdk.post("subscriptions", {"type": "iOSPush", "token": self.token, **body})

    def login(self, external_id: str, **body):
        return self.request("POST", "/login", {"external_id": external_id, **body})

    def logout(self):
        return self.request("POST", "/logout", {})


@pytest.fixture
def make_device(sdk):
    def make(token: str = "", **body) -> Device:
        token = token or ios_token()
        answer = sdk.post("subscriptions", {"type": "iOSPush", "token": token, "enabled": True, **body})
        assert answer.status_code in (200, 201), answer.content
        data = answer.json()["data"]
        return Device(sdk, data["id"], data["handle"], token)

    return make


@pytest.fixture
def device(make_device) -> Device:
    """An iOS device that has just registered and said yes."""
    return make_device()


@dataclass
class AppServerSigner:
    """The app server's half of identity verification."""

    application_id: str
    key: ec.EllipticCurvePrivateKey

    @property
    def public_pem(self) -> str:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def claims(self, external_id: str, **changes) -> dict:
        now = int(datetime.now(UTC).timestamp())
        claims = {"sub": external_id, "aud": self.application_id, "iat": now, "exp": now + 600, **changes}
        return {name: value for name, value in claims.items() if value is not ...}

    def sign(self, external_id: str, **changes) -> str:
        return jwt.encode(self.claims(external_id, **changes), self.key, algorithm="ES256")


@pytest.fixture
def signer(application) -> AppServerSigner:
    """The application requires proof at login from now on."""
    signer = AppServerSigner(str(application.pk), ec.generate_private_key(ec.SECP256R1()))
    application.settings = {"identity_verification": {"required": True, "public_key": signer.public_pem}}
    application.save()
    return signer
