"""Google's token endpoint for service accounts: the JWT-bearer grant (providers.md section 2.1, RFC 7523)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import rsa

from apps.sandbox.exchange import Answer

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
SCOPES = frozenset(
    ("https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform")
)
MAX_ASSERTION_LIFE_S = 3600
MAX_SKEW_S = 60
_JSON = (b"content-type", b"application/json; charset=utf-8")
_SHORT_LIVED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A registered account: its key, and the project whose messages it may send."""

    client_email: str
    public_key: rsa.RSAPublicKey
    project_id: str
    project_number: str
    private_key_id: str


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token that was given out. `expires_at` is epoch seconds."""

    account: ServiceAccount
    scopes: frozenset[str]
    expires_at: float


class TokenEndpoint:
    """Accounts and the access tokens given to them."""

    def __init__(self, audiences: frozenset[str]) -> None:
        self._audiences = audiences | {GOOGLE_AUDIENCE}
        self.accounts: dict[str, ServiceAccount] = {}
        self._tokens: dict[str, AccessToken] = {}

    def find(self, access_token: str) -> AccessToken | None:
        return self._tokens.get(access_token)

    def revoke_all(self) -> None:
        """As if every access token had expired."""
        self._tokens.clear()

    def grant(self, body: bytes, *, now: float, ttl_s: int) -> tuple[Answer, str]:
        """The answer to `POST /token`, and the error ("" when a token was given)."""
        form = parse_qs(body.decode("latin-1"))
        grant_type = form.get("grant_type", [""])[-1]
        if grant_type != GRANT_TYPE:
            if not grant_type:
                return _refused("invalid_request", "Required parameter is missing: grant_type")
            return _refused("unsupported_grant_type", f"Invalid grant_type: {grant_type}")
        assertion = form.get("assertion", [""])[-1]
        if not assertion:
            return _refused("invalid_request", "Required parameter is missing: assertion")
        try:
            claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError):
            return _refused("invalid_grant", "Invalid JWT: Token is malformed.")
        account = self.accounts.get(str(claims.get("iss")))
        if account is None:
            return _refused("invalid_grant", "Invalid grant: account not found")
        try:
            jwt.decode(
                assertion,
                account.public_key,
                algorithms=["RS256"],
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
            )
            key_id = jwt.get_unverified_header(assertion).get("kid")
        except (jwt.PyJWTError, ValueError):
            return _refused("invalid_grant", "Invalid JWT Signature.")
        if account.private_key_id and key_id is not None and key_id != account.private_key_id:
            return _refused("invalid_grant", "Invalid JWT Signature.")
        if claims.get("aud") not in self._audiences:
            return _refused(
                "invalid_grant", f"Invalid JWT: Failed audience check. The right audience is {GOOGLE_AUDIENCE}"
            )
        issued, expires = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(expires, int):
            return _refused("invalid_grant", _SHORT_LIVED)
        if expires - issued > MAX_ASSERTION_LIFE_S or issued > now + MAX_SKEW_S or expires < now:
            return _refused("invalid_grant", _SHORT_LIVED)
        scope = claims.get("scope")
        scopes = frozenset(scope.split()) if isinstance(scope, str) else frozenset()
        if not scopes:
            return _refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        token = "ya29.sandbox-" + secrets.token_urlsafe(48)
        if len(self._tokens) > 10_000:
            self._tokens = {name: held for name, held in self._tokens.items() if held.expires_at > now}
        self._tokens[token] = AccessToken(account, scopes, now + ttl_s)
        content = {"access_token": token, "expires_in": ttl_s, "token_type": "Bearer"}
        return Answer(200, (_JSON,), orjson.dumps(content)), ""


def _refused(error: str, description: str) -> tuple[Answer, str]:
    body = orjson.dumps({"error": error, "error_description": description})
    return Answer(400, (_JSON,), body), error
