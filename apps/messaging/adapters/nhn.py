"""What SMS and Alimtalk of NHN Cloud share: providers.md 4.3 and 5.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from django.utils.translation import gettext_lazy

from apps.messaging.adapters.base import Delivery, Outcome, Result, SecretField
from apps.messaging.adapters.gateway import GatewayAnswer
from apps.messaging.adapters.gateway_results import Form, result_of
from apps.messaging.adapters.sms_reasons import GatewayVerdict, by_status

__all__ = ["KEY_FIELDS", "KEY_FORMS", "headers_of", "results_of"]

KEY_FORMS = {
    "app_key": Form(r"[A-Za-z0-9_\-]{8,64}", "is not an app key"),
    "secret_key": Form(r"[\x21-\x7e]{4,128}", "is not a secret key"),
    "webhook_signature": Form(r"[\x21-\x7e]{16,200}", "must be 16 to 200 visible ASCII characters", is_needed=False),
}
KEY_FIELDS = (
    SecretField("app_key", gettext_lazy("App key")),
    SecretField("secret_key", gettext_lazy("Secret key"), is_secret=True),
    SecretField(
        "webhook_signature",
        gettext_lazy("Signature of the webhook"),
        is_secret=True,
        help=gettext_lazy("The text typed into NHN's webhook settings. Without one no report is believed, and we ask."),
    ),
)


def headers_of(secret: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("X-Secret-Key", str(secret["secret_key"])), ("Content-Type", "application/json;charset=UTF-8")]


def results_of(
    deliveries: Sequence[Delivery],
    answer: GatewayAnswer,
    entries: Callable[[Mapping[str, Any]], tuple[str, object]],
    verdict_of: Callable[[str], GatewayVerdict],
) -> list[Result]:
    """The results of a request. `entries` finds the request's id and the list of its recipients in the answer.

    HTTP 200 says nothing: the header does for the whole request, and each entry for its recipient. An entry names our
    id, or by `recipientSeq` the place of its recipient.
    """
    content = answer.json()
    header = content.get("header") if isinstance(content, dict) else None
    if answer.status != 200 or not isinstance(header, dict):
        verdict = by_status(answer.status)
        return [result_of(d.message_id, verdict, f"http_{answer.status}", answer) for d in deliveries]
    request_id, found = entries(content)
    if isinstance(found, list) and found:
        return [
            _result(deliveries, entry, request_id, answer, verdict_of) for entry in found if isinstance(entry, dict)
        ]
    code = str(header.get("resultCode", ""))
    if header.get("isSuccessful") is True:
        return []  # it says nothing of anybody
    return [result_of(d.message_id, verdict_of(code), code, answer) for d in deliveries]


def _result(
    deliveries: Sequence[Delivery],
    entry: Mapping[str, Any],
    request_id: str,
    answer: GatewayAnswer,
    verdict_of: Callable[[str], GatewayVerdict],
) -> Result:
    sequence = entry.get("recipientSeq")
    message_id = str(entry.get("recipientGroupingKey") or "")
    if not message_id and isinstance(sequence, int) and 0 < sequence <= len(deliveries):
        message_id = deliveries[sequence - 1].message_id
    code = str(entry.get("resultCode", ""))
    if code == "0":
        reference = "" if sequence is None else str(sequence)
        request = request_id if reference else ""
        return Result(
            message_id, Outcome.ACCEPTED, "", answer.status, provider_message_id=reference, request_id=request
        )
    return result_of(message_id, verdict_of(code), code, answer)


def encoded(body: Mapping[str, Any]) -> bytes:
    return orjson.dumps(body)
