"""APNs provider tokens: ES256 signature, age, team and key (providers.md section 1.2)."""

from __future__ import annotations

from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MAX_AGE_S = 3600
MAX_AHEAD_S = 60  # what a slightly fast clock of the sender may be ahead
MIN_RENEWAL_S = 20 * 60
ENVIRONMENTS = ("production", "development")


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A registered key. `topics` empty: any topic; a bundle id allows its suffixed topics too."""

    team_id: str
    key_id: str
    public_key: ec.EllipticCurvePublicKey
    topics: frozenset[str]
    environments: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class ProviderToken:
    """A token whose signature is right."""

    key: SigningKey
    issued_at: int


def read_public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """The P-256 public key in PEM. Raises ValueError."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise ValueError("public_key: APNs keys are P-256")
    return key


class TokenVerifier:
    """Verifies provider tokens; each signature once, as one token comes with every request for 20 to 60 minutes."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], SigningKey] = {}
        self._verified: dict[bytes, ProviderToken] = {}

    def add(self, key: SigningKey) -> None:
        """Register the key; replaces one of the same team and key id."""
        self._keys[(key.team_id, key.key_id)] = key
        self._verified.clear()

    def clear(self) -> None:
        self._keys.clear()
        self._verified.clear()

    def registered(self) -> list[SigningKey]:
        return list(self._keys.values())

    def verify(self, authorization: bytes) -> ProviderToken | None:
        """The token in `bearer <jwt>`; None when the signature, key, team, algorithm or form is wrong."""
        known = self._verified.get(authorization)
        if known is not None:
            return known
        try:
            encoded = authorization.split(b" ", 1)[1].strip().decode("ascii")
            header = jwt.get_unverified_header(encoded)
            unverified = jwt.decode(encoded, options={"verify_signature": False})
            key = self._keys[(unverified["iss"], header["kid"])]
            claims = jwt.decode(
                encoded,
                key.public_key,
                algorithms=["ES256"],
                options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
            )
            issued_at = claims["iat"]
        except (jwt.PyJWTError, KeyError, IndexError, ValueError, TypeError):
            return None
        if isinstance(issued_at, bool) or not isinstance(issued_at, int):
            return None
        if len(self._verified) > 1000:
            self._verified.clear()
        token = self._verified[authorization] = ProviderToken(key, issued_at)
        return token
