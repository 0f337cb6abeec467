"""Solapi's answers to requests that it refuses as a whole (providers.md section 4.2)."""

from __future__ import annotations

from apps.sandbox.exchange import Answer
from apps.sandbox.gateway import Refused, json_answer
from apps.sandbox.gateway_codes import SOLAPI_ERRORS


def error_answer(status: int, name: str, text: str) -> Answer:
    return json_answer(status, {"errorCode": name, "errorMessage": text})


def invalid(text: str) -> Refused:
    return Refused(error_answer(400, "ValidationError", text), "ValidationError")


def missing(text: str) -> Refused:
    return Refused(error_answer(404, "ResourceNotFound", text), "ResourceNotFound")


def known_error(name: str) -> Refused:
    """One of the documented errors."""
    status, _, text = next(row for row in SOLAPI_ERRORS if row[1] == name)
    return Refused(error_answer(status, name, text), name)
