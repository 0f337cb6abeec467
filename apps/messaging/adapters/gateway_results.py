"""What the adapters of SMS and Alimtalk share: results by verdict, secrets by form, contents read once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from apps.messaging.adapters.base import Content, ContentError, CredentialError, Result, SecretField, summary_of
from apps.messaging.adapters.gateway import GatewayAnswer, retry_after_s
from apps.messaging.adapters.sms_reasons import GatewayVerdict

__all__ = ["Form", "ReadOnce", "check_forms", "result_of", "shown_of"]

T = TypeVar("T")
READ_MAX = 4_096
"""Contents kept read at a time: a plain batch has one, a personalised one has one for each recipient."""


class ReadOnce(Generic[T]):
    """What was read of a content, for all recipients that share it. For several threads."""

    def __init__(self, read: Callable[[Content], T]) -> None:
        self._read = read
        self._known: dict[int, tuple[Content, T | ContentError]] = {}

    def __call__(self, content: Content) -> T:
        """Raises `ContentError`, as `read` did."""
        known = self._known.get(id(content))
        if known is None:
            if len(self._known) >= READ_MAX:
                self._known = {}
            try:
                known = (content, self._read(content))
            except ContentError as error:
                known = (content, error)
            self._known[id(content)] = known
        if isinstance(known[1], ContentError):
            raise ContentError(known[1].field, known[1].message)
        return known[1]


def result_of(
    message_id: str,
    verdict: GatewayVerdict,
    code: str,
    answer: GatewayAnswer,
    *,
    provider_message_id: str = "",
    request_id: str = "",
) -> Result:
    """The result that a verdict gives."""
    asked_s = retry_after_s(answer)
    return Result(
        message_id,
        verdict.outcome,
        code,
        answer.status,
        verdict.subscription_status,
        retry_after_s=verdict.retry_after_s if asked_s is None else asked_s,
        provider_message_id=provider_message_id,
        request_id=request_id,
        soft_status=verdict.soft_status,
        message_status=verdict.message_status,
    )


class Form(NamedTuple):
    """What a key of a secret looks like."""

    pattern: str
    problem: str
    is_needed: bool = True


def check_forms(secret: Mapping[str, Any], forms: Mapping[str, Form], what: str) -> None:
    """Raise `CredentialError` for a key that is missing, malformed or unknown."""
    for name in secret:
        if name not in forms:
            raise CredentialError(str(name), f"is not a key of {what}")
    for name, form in forms.items():
        value = secret.get(name, "")
        if value == "" and form.is_needed:
            raise CredentialError(name, "is missing")
        if value != "" and not (isinstance(value, str) and re.fullmatch(form.pattern, value)):
            raise CredentialError(name, form.problem)


def shown_of(fields: Iterable[SecretField], secret: Mapping[str, Any]) -> dict[str, str]:
    """What may be shown of a secret, without what was left empty."""
    return {name: value for name, value in summary_of(fields, dict(secret)).items() if value}
