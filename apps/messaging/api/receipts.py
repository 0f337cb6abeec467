"""`/api/v1/receipts`: what devices say of the messages they got."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.messaging.receipts.sdk import RECEIPTS_MAX, Receipt
from apps.messaging.receipts.together import gathering
from apps.tenants.scopes import SDK_SCOPE
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, validated
from automata_signal.errors import ValidationFailed

METADATA_MAX_CHARS = 2_000
RECEIPT_TYPES = ("received", "converted")
RECEIPT_STATUSES = ("accepted", "ignored", "rejected")


class ReceiptSchema(StrictSerializer):
    """Describes an event; `_receipt` reads it."""

    message_id = serializers.UUIDField()
    type = serializers.ChoiceField(choices=RECEIPT_TYPES)
    occurred_at = serializers.DateTimeField(required=False, help_text="The device's clock; never taken as future.")
    metadata = serializers.DictField(required=False, help_text=f"At most {METADATA_MAX_CHARS} characters as JSON.")
    handle = serializers.CharField(
        max_length=100, required=False, help_text="The handle of the message's subscription."
    )


class EventList(serializers.ListField):
    """A list whose elements are not looked at here: `_receipt` reads them."""

    def run_child_validation(self, data: list[Any]) -> list[Any]:
        return data


class ReceiptsInput(StrictSerializer):
    handle = serializers.CharField(
        max_length=100, required=False, help_text="For all events that have none of their own."
    )
    events = EventList(child=serializers.JSONField(allow_null=True), min_length=1, max_length=RECEIPTS_MAX)


class ReceiptsSchema(ReceiptsInput):
    events = ReceiptSchema(many=True)  # type: ignore[assignment]


class ReceiptAnswerOutput(serializers.Serializer[Any]):
    index = serializers.IntegerField()
    message_id = serializers.CharField()
    status = serializers.ChoiceField(choices=RECEIPT_STATUSES)
    reason = serializers.CharField(allow_blank=True)


class ReceiptsOutput(serializers.Serializer[Any]):
    accepted = serializers.IntegerField()
    ignored = serializers.IntegerField()
    rejected = serializers.IntegerField()
    results = ReceiptAnswerOutput(many=True)


class ReceiptsView(SignalView):
    """With a publishable key each event needs its subscription's handle; an app server may report for all."""

    scopes = {"POST": (SDK_SCOPE, "receipts:write")}

    @extend_schema(
        operation_id="receipts_create", tags=["receipts"], request=ReceiptsSchema, responses={200: ReceiptsOutput}
    )
    def post(self, request: Request) -> Response:
        wanted = validated(ReceiptsInput, request.data)
        receipts, refused = _read(wanted["events"], wanted.get("handle"))
        trusted = SDK_SCOPE not in self.caller.scopes
        answers = gathering.apply(application=self.application, receipts=list(receipts.values()), trusted=trusted)
        results = refused | {index: answer._asdict() for index, answer in zip(receipts, answers, strict=True)}
        tally = Counter(result["status"] for result in results.values())
        return Response(
            {
                "accepted": tally["accepted"],
                "ignored": tally["ignored"],
                "rejected": tally["rejected"],
                "results": [{"index": index, **results[index]} for index in sorted(results)],
            }
        )


def _read(events: list[Any], handle: str | None) -> tuple[dict[int, Receipt], dict[int, dict[str, str]]]:
    """The receipts that are well formed, and a refusal for each of the others: one bad event costs no other."""
    receipts: dict[int, Receipt] = {}
    refused: dict[int, dict[str, str]] = {}
    for index, event in enumerate(events):
        try:
            receipts[index] = _receipt(event, handle)
        except ValueError as problem:
            message_id = str(event.get("message_id", "") if isinstance(event, dict) else "")[:64]
            refused[index] = {"message_id": message_id, "status": "rejected", "reason": str(problem)}
    if not receipts and len(events) == 1:
        raise ValidationFailed.of("events[0]", refused[0]["reason"])
    return receipts, refused


def _receipt(event: Any, handle: str | None) -> Receipt:
    """One event, read by hand: a serializer a receipt would cost more than all the rest. Raises `ValueError`."""
    if not isinstance(event, dict):
        raise ValueError("must be an object")
    if not event.keys() <= _FIELDS:
        unknown = event.keys() - _FIELDS
        raise ValueError(f"{sorted(map(str, unknown))[0][:50]}: there is no such field")
    if event.get("type") not in RECEIPT_TYPES:
        raise ValueError("type: must be received or converted")
    metadata = event.get("metadata")
    if metadata is not None and (not isinstance(metadata, dict) or len(str(metadata)) > METADATA_MAX_CHARS):
        raise ValueError(f"metadata: must be an object of at most {METADATA_MAX_CHARS} characters")
    own_handle = event.get("handle", handle)
    if own_handle is not None and not isinstance(own_handle, str):
        raise ValueError("handle: must be text")
    return Receipt(_uuid(event.get("message_id")), event["type"], _time(event.get("occurred_at")), metadata, own_handle)


_FIELDS = frozenset(Receipt._fields)
_CANONICAL_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _uuid(value: Any) -> str:
    """A UUID in its canonical form."""
    if isinstance(value, str) and _CANONICAL_UUID.fullmatch(value):
        return value
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise ValueError("message_id: must be a UUID") from None


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError):
        raise ValueError("occurred_at: must be a time in ISO 8601") from None
