"""What the parsers of SMS and Alimtalk reports share: a code becomes a report, a claim to be known is proved."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.sms_reasons import GatewayVerdict
from apps.messaging.receipts.providers import Forged, Unreadable
from apps.messaging.receipts.reports import Report, ReportKind
from apps.messaging.retry import Fault

KOREA = ZoneInfo("Asia/Seoul")


def report_of(verdict: GatewayVerdict, code: str, *, message_id: str = "", at: datetime | None = None) -> Report | None:
    """The report that a code makes; None while it is too early to say."""
    if verdict.is_pending:
        return None
    if verdict.outcome is Outcome.ACCEPTED:
        return Report(message_id, ReportKind.DELIVERED, at)
    return Report(
        message_id,
        ReportKind.FAILED,
        at,
        reason=code,
        fault=Fault(verdict.fault),
        subscription_status=verdict.subscription_status,
        soft_status=verdict.soft_status,
        details=None if verdict.message_status is None else {"code": verdict.message_status},
    )


def message_id_of(value: object) -> str:
    """Our id, if it is one; else empty."""
    try:
        return str(UUID(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""


def is_same(given: str, expected: str) -> bool:
    """Compared in constant time; an empty secret proves nothing."""
    # JSON may hold half of a surrogate pair, which has no bytes.
    return bool(expected) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def json_of(body: bytes) -> Any:
    """Raises `Unreadable`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON") from None


def unproved_json(body: bytes) -> Any:
    """Of a request whose proof stands in its body. Raises `Forged`: nobody has proved anything yet."""
    try:
        return json_of(body)
    except Unreadable as error:
        raise Forged(str(error)) from None


def moment(value: object, zone: ZoneInfo | None = None) -> datetime | None:
    """A time of ISO 8601 or `yyyy-MM-dd HH:mm:ss`; in `zone` if it names none. None for what is neither."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value.removesuffix(".0"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=zone or UTC)


def rows_of(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects of a list, or of an object by id."""
    found = content.get(name)
    if isinstance(found, dict):
        found = list(found.values())
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
