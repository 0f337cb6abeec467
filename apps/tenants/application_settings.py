"""The schema of `Application.settings`: what an application may choose, its units and its defaults."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import jsonschema
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from automata_signal.errors import FieldProblem

_CLOCK = "^([01][0-9]|2[0-3]):[0-5][0-9]$"

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
        "double_opt_in": {
            "type": "array",
            "uniqueItems": True,
            "items": {"enum": ["email", "sms"]},
            "description": "New addresses of these channels are subscribed when their owner has confirmed (-98).",
        },
        "consent_notices": {
            "type": "object",
            "additionalProperties": False,
            "description": "What people are told of their choices: send (we do), list (operators do), off.",
            "properties": {
                "result": {"enum": ["off", "list", "send"], "default": "list"},
                "reconfirm": {"enum": ["off", "list", "send"], "default": "list"},
            },
        },
        "advertising_rules": {
            "enum": ["none", "kr"],
            "default": "none",
            "description": "kr: messages with the purpose marketing keep to article 50 of the Korean Network Act.",
        },
        "ad_sender_name": {"type": "string", "minLength": 1, "maxLength": 50},
        "ad_opt_out_number": {
            "type": "string",
            "pattern": "^080-?[0-9]{3,4}-?[0-9]{4}$",
            "description": "The free number by which people refuse, such as 080-123-4567.",
        },
        "ad_mark_add": {
            "type": "boolean",
            "default": False,
            "description": "Add (광고), the sender's name and the opt-out text where a text lacks them.",
        },
        "campaign_approval": {
            "type": "object",
            "additionalProperties": False,
            "description": "Whether a campaign is launched only when somebody else has approved it.",
            "properties": {
                "mode": {"enum": ["off", "required"], "default": "off"},
                "above_recipients": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 100_000_000,
                    "default": 0,
                    "description": "Only for audiences of more people than this; 0: always.",
                },
            },
        },
        "require_second_factor": {
            "type": "array",
            "uniqueItems": True,
            "items": {"enum": ["owner", "manager", "marketer", "analyst", "support"]},
            "description": "Members of these roles must have a second factor to use the console.",
        },
        "console_networks": {
            "type": "array",
            "maxItems": 50,
            "uniqueItems": True,
            "items": {"type": "string", "maxLength": 50},
            "description": "Members see it only from these networks, such as 203.0.113.0/24; none: from everywhere.",
        },
        "quiet_hours": {
            "type": "object",
            "additionalProperties": False,
            "required": ["from", "to"],
            "description": "Messages wait until they are over, by the recipient's clock; high priority goes through.",
            "properties": {
                "from": {"type": "string", "pattern": _CLOCK},
                "to": {"type": "string", "pattern": _CLOCK},
                "channels": {
                    "type": "array",
                    "minItems": 1,
                    "uniqueItems": True,
                    "items": {"enum": ["push", "email", "sms", "kakao_talk"]},
                    "description": "Unless told: push, sms and kakao_talk.",
                },
            },
        },
        "frequency_caps": {
            "type": "array",
            "maxItems": 10,
            "description": "How many marketing messages a person gets, in all or of a channel or category.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "anyOf": [{"required": ["per_day"]}, {"required": ["per_week"]}],
                "properties": {
                    "channel": {"enum": ["push", "email", "sms", "kakao_talk", "in_app"]},
                    "category": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,49}$"},
                    "per_day": {"type": "integer", "minimum": 1, "maximum": 1_000},
                    "per_week": {"type": "integer", "minimum": 1, "maximum": 7_000},
                },
            },
        },
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
    return problems or _check_networks(value) or _check_identity_key(value)


def _check_networks(value: dict[str, Any]) -> list[FieldProblem]:
    problems = []
    for position, network in enumerate(value.get("console_networks", ())):
        try:
            ip_network(network)
        except ValueError:
            place = f"console_networks.{position}"
            problems.append(FieldProblem(place, f"{network!r} is not a network, such as 203.0.113.0/24"))
    return problems


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
