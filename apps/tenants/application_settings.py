"""The schema of `Application.settings`: what an application may choose, its units and its defaults."""

from __future__ import annotations

from typing import Any

import jsonschema
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from automata_signal.errors import FieldProblem

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "identity_verification": {
            "type": "object",
            "additionalProperties": False,
            "description": "When required, SDK logins carry a JWT signed (ES256) with the key's private half.",
            "properties": {
                "required": {"type": "boolean", "default": False},
                "public_key": {"type": "string", "maxLength": 4_000, "description": "PEM, P-256"},
            },
        },
        "receipt_timeout_hours": {
            "type": ["integer", "null"],
            "minimum": 1,
            "maximum": 8_760,
            "description": "After so long without a receipt a successful message becomes failed; null: never.",
        },
        "retention_days": {"type": ["integer", "null"], "minimum": 1, "maximum": 3_650},
        "default_ttl_s": {"type": "integer", "minimum": 0, "maximum": 2_419_200, "default": 259_200},
    },
}
_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

DEFAULT_TTL_S: int = SCHEMA["properties"]["default_ttl_s"]["default"]


def check_settings(value: Any) -> list[FieldProblem]:
    """What is wrong with an application's settings; empty if nothing."""
    problems = [
        FieldProblem(".".join(str(part) for part in error.absolute_path) or "settings", error.message)
        for error in _VALIDATOR.iter_errors(value)
    ]
    return problems or _check_identity_key(value)


def _check_identity_key(value: dict[str, Any]) -> list[FieldProblem]:
    identity = value.get("identity_verification", {})
    pem = identity.get("public_key")
    if pem is None:
        missing = FieldProblem("identity_verification.public_key", "is needed when verification is required")
        return [missing] if identity.get("required") else []
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return []
    return [FieldProblem("identity_verification.public_key", "is not the PEM of a P-256 public key")]
