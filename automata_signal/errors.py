"""The one error that services raise and the API, the console and tasks know how to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class FieldProblem(NamedTuple):
    """What is wrong with one input. `field` is a dotted path such as `targeting_criteria.all[1].value`."""

    field: str
    message: str


class SignalError(Exception):
    """A refusal that the caller can understand: a stable code, an HTTP status and, where it fits, the fields.

    Services raise it before they change anything; nothing is half done.
    """

    code = "ERROR"
    status = 400

    def __init__(self, message: str, *, details: Sequence[FieldProblem] = (), code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)
        if code:
            self.code = code


class ValidationFailed(SignalError):
    """The input is wrong; `details` names each field."""

    code = "VALIDATION_ERROR"
    status = 400

    @classmethod
    def of(cls, field: str, message: str) -> ValidationFailed:
        """For the common case of one field."""
        return cls(f"{field}: {message}", details=[FieldProblem(field, message)])


class Unauthenticated(SignalError):
    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(SignalError):
    code = "FORBIDDEN"
    status = 403


class NotFound(SignalError):
    """Also the answer for what belongs to somebody else: the two must look the same."""

    code = "NOT_FOUND"
    status = 404


class Conflict(SignalError):
    """The request is well formed but does not fit the present state."""

    code = "CONFLICT"
    status = 409


class PayloadTooLarge(SignalError):
    code = "PAYLOAD_TOO_LARGE"
    status = 413


class Unavailable(SignalError):
    """A part that we need does not answer; the same request may work in a moment."""

    code = "UNAVAILABLE"
    status = 503
