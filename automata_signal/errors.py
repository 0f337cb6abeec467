"""The one error that services raise and the API, the console and tasks know how to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.utils import timezone

from automata_signal.refusals import in_words


class FieldProblem(NamedTuple):
    """What is wrong with one input. `field` is a dotted path such as `targeting_criteria.all[1].value`."""

    field: str
    message: str


class SignalError(Exception):
    """A refusal that the caller can understand: a stable code, an HTTP status and, where it fits, the fields.

    The text is given in English; `message` and `details` are in the language of who reads it (`refusals`).
    `facts` are for programs, of what is limited: `what`, `limit`, `used`, `resets_at` and the like (`error.limits`).
    `retry_at` is when the same request may work, if that is known. Services raise it before they change anything;
    nothing is half done.
    """

    code = "ERROR"
    status = 400

    def __init__(
        self,
        message: str,
        *,
        details: Sequence[FieldProblem] = (),
        code: str = "",
        facts: Mapping[str, Any] | None = None,
        retry_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.message = in_words(message)
        self.details = [FieldProblem(problem.field, in_words(problem.message)) for problem in details]
        self.facts = dict(facts or {})
        self.retry_at = retry_at
        if code:
            self.code = code

    @property
    def retry_after_s(self) -> int | None:
        """Seconds until the same request may work; None: that is not known."""
        if self.retry_at is None:
            return None
        return max(1, math.ceil((self.retry_at - timezone.now()).total_seconds()))


class ValidationFailed(SignalError):
    """The input is wrong; `details` names each field."""

    code = "VALIDATION_ERROR"
    status = 400

    @classmethod
    def of(cls, field: str, message: str) -> ValidationFailed:
        """For the common case of one field."""
        return cls(f"{field}: {in_words(message)}", details=[FieldProblem(field, message)])

    def within(self, place: str) -> ValidationFailed:
        """The same of something at `place`: `chain.steps.0`."""
        details = [FieldProblem(f"{place}.{problem.field}", problem.message) for problem in self.details]
        return ValidationFailed(f"{place}: {self.message}", details=details, code=self.code)


class Unauthenticated(SignalError):
    code = "UNAUTHENTICATED"
    status = 401


class CreditExhausted(SignalError):
    """What was asked for costs more than the credit allows; `facts` has the figures."""

    code = "CREDIT_EXHAUSTED"
    status = 402


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


class QuotaExceeded(SignalError):
    """More than the quota of this day or month leaves; `facts` has the figures, `retry_at` is when it resets."""

    code = "QUOTA_EXCEEDED"
    status = 429


class Unavailable(SignalError):
    """A part that we need does not answer; the same request may work in a moment."""

    code = "UNAVAILABLE"
    status = 503
