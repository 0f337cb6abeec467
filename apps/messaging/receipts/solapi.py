"""Solapi's reports, of SMS and Alimtalk alike: `SINGLE-REPORT`, a list of events (providers.md 4.2).

The webhook's secret proves them: Solapi sends its SHA-1 as `X-Solapi-Secret`; where that is missing, the secret may
stand in the address (`?secret=…`). An event that comes again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.messaging.adapters.gateway_calls import CallFailed, solapi_call
from apps.messaging.adapters.registry import endpoint_for
from apps.messaging.adapters.sms_reasons import solapi_verdict
from apps.messaging.adapters.solapi_sender import MESSAGE_ID
from apps.messaging.receipts.gateways import is_same, json_of, message_id_of, moment, report_of, rows_of
from apps.messaging.receipts.providers import AskFailed, Forged, Hook, Hooked, Reference, Unreadable
from apps.messaging.receipts.reports import Report

PAGE = 500
PAGES_MAX = 20
"""A request carries 500 messages at most; more pages than these are no answer to us."""


def parse(hook: Hook) -> Hooked:
    """Raises `Forged` or `Unreadable`."""
    secret = str(hook.secret.get("webhook_secret") or "")
    digest = hashlib.sha1(secret.encode()).hexdigest() if secret else ""  # noqa: S324 - Solapi's choice
    if not (is_same(hook.headers.get("x-solapi-secret", ""), digest) or is_same(hook.query.get("secret", ""), secret)):
        raise Forged("neither X-Solapi-Secret nor ?secret= is the credential's webhook_secret")
    events = json_of(hook.body)
    if not isinstance(events, list):
        raise Unreadable("it is no list of events")
    reports: list[Report] = []
    by_reference: list[tuple[Reference, Report]] = []
    for event in events:
        data = event.get("data") if isinstance(event, dict) else None
        if not isinstance(data, dict) or "statusCode" not in data:  # GROUP-REPORT
            continue
        report = _report(data)
        if report is not None and report.message_id:
            reports.append(report)
        elif report is not None:
            by_reference.append((_reference(data), report))
    return Hooked(reports=reports, by_reference=by_reference)


def _report(data: Mapping[str, Any]) -> Report | None:
    code, fields = str(data["statusCode"]), data.get("customFields")
    message_id = message_id_of(fields.get(MESSAGE_ID)) if isinstance(fields, dict) else ""
    at = moment(data.get("dateReceived")) or moment(data.get("dateReported"))
    return report_of(solapi_verdict(code), code, message_id=message_id, at=at)


def _reference(data: Mapping[str, Any]) -> Reference:
    return Reference(str(data.get("groupId") or ""), str(data.get("messageId") or ""))


def ask(secret: Mapping[str, Any], request_id: str) -> Sequence[tuple[Reference, Report]]:
    """What became of a group's messages. Raises `AskFailed`."""
    found: list[tuple[Reference, Report]] = []
    query = {"groupId": request_id, "limit": str(PAGE)}
    for _ in range(PAGES_MAX):
        try:
            content = solapi_call(secret, endpoint_for("solapi"), "GET", "/messages/v4/list", query=query)
        except CallFailed as error:
            raise AskFailed(str(error)) from None
        for data in rows_of(content, "messageList"):
            report = _report(data) if "statusCode" in data else None
            if report is not None:
                found.append((Reference(request_id, str(data.get("messageId") or "")), report._replace(message_id="")))
        if not content.get("nextKey"):
            break
        query["startKey"] = str(content["nextKey"])
    return found


def denied_numbers(secret: Mapping[str, Any], *, since: str) -> dict[str, datetime]:
    """Numbers that used the 080 opt-out since a time of ISO 8601, as Solapi writes them, and when. Raises
    `AskFailed`."""
    found: dict[str, datetime] = {}
    query = {"type": "DENIAL", "limit": str(PAGE), "startDate": since}
    for _ in range(PAGES_MAX):
        try:
            content = solapi_call(secret, endpoint_for("solapi"), "GET", "/iam/v1/black", query=query)
        except CallFailed as error:
            raise AskFailed(str(error)) from None
        for row in rows_of(content, "blackList"):
            at = moment(row.get("dateCreated"))
            if row.get("recipientNumber") and at is not None:
                found[str(row["recipientNumber"])] = at
        if not content.get("nextKey"):
            break
        query["startKey"] = str(content["nextKey"])
    return found
