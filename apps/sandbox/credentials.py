"""Credentials for the stand-ins: what a sender needs, and what the sandbox must be told about it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"


@dataclass(frozen=True)
class ApnsKey:
    """A signing key as Apple gives it out: ids of 10 characters, the .p8 text (PKCS #8, P-256)."""

    team_id: str
    key_id: str
    p8: str
    public_key: str
    topics: tuple[str, ...]

    def registration(self, environments: Iterable[str] = ()) -> dict[str, Any]:
        """The body for `POST /keys` of the APNs stand-in. No environments: both."""
        return {
            "team_id": self.team_id, "key_id": self.key_id, "public_key": self.public_key,
            "topics": list(self.topics), "environments": list(environments),
        }  # fmt: skip

    def provider_token(self, *, issued_at: int | None = None) -> str:
        """A signed provider token, for tests."""
        claims = {"iss": self.team_id, "iat": int(time.time()) if issued_at is None else issued_at}
        return jwt.encode(claims, self.p8, algorithm="ES256", headers={"kid": self.key_id})


@dataclass(frozen=True)
class FcmAccount:
    """A service account: the JSON file as Google gives it out, and the public key for the sandbox."""

    service_account: dict[str, str]
    public_key: str
    project_number: str

    def registration(self) -> dict[str, Any]:
        """The body for `POST /keys` of the FCM stand-in."""
        return {
            "client_email": self.service_account["client_email"], "public_key": self.public_key,
            "project_id": self.service_account["project_id"], "project_number": self.project_number,
            "private_key_id": self.service_account["private_key_id"],
        }  # fmt: skip

    def assertion(self, **changes: Any) -> str:
        """A signed assertion for the token endpoint, for tests; `changes` replace claims, None removes one."""
        now = int(time.time())
        claims = {
            "iss": self.service_account["client_email"],
            "scope": "https://www.googleapis.com/auth/firebase.messaging",
            "aud": self.service_account["token_uri"],
            "iat": now,
            "exp": now + 3600,
        } | changes
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            self.service_account["private_key"],
            algorithm="RS256",
            headers={"kid": self.service_account["private_key_id"]},
        )


def make_apns_key(topics: Iterable[str] = (), *, team_id: str | None = None, key_id: str | None = None) -> ApnsKey:
    """A new APNs key for these bundle ids (none: any)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return ApnsKey(
        team_id or _identifier(), key_id or _identifier(), _private_pem(key), _public_pem(key), tuple(topics)
    )


def make_fcm_account(project_id: str, token_uri: str) -> FcmAccount:
    """A new service account of the project, whose tokens come from `token_uri` (the sandbox's /token)."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    email = f"automata-signal@{project_id}.iam.gserviceaccount.com"
    content = {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": secrets.token_hex(20),
        "private_key": _private_pem(key),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**20) + 10**20),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }
    return FcmAccount(content, _public_pem(key), str(secrets.randbelow(9 * 10**11) + 10**11))


def _identifier() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(10))


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
