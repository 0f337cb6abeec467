"""NHN Cloud's reports of SMS and Alimtalk, its 080 opt-outs, and what Kakao says of templates (providers.md 4.3, 5.2).

`X-Toast-Webhook-Signature` is the text that was typed into the webhook's settings: whoever knows it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from apps.messaging.adapters.gateway_calls import CallFailed, CallRefused, nhn_call
from apps.messaging.adapters.kakao_reasons import nhn_kakao_report
from apps.messaging.adapters.phone import to_e164
from apps.messaging.adapters.registry import endpoint_for
from apps.messaging.adapters.sms_reasons import NHN_RECEIPTS, REJECTED, GatewayVerdict, nhn_sms_report
from apps.messaging.receipts.gateways import KOREA, is_same, json_of, message_id_of, moment, report_of, rows_of
from apps.messaging.receipts.providers import AskFailed, Forged, Hook, Hooked, OptOut, Reference, Unreadable
from apps.messaging.receipts.reports import Report

SMS_BLOCKED = -54
PAGE = 1_000
ON_THE_WAY = frozenset({"ACCEPTED", "BUFFERED"})
SMS_ROUTES = ("sms", "mms", "ad-sms", "ad-mms")
"""Where a request may have gone; its id does not tell."""
TEMPLATE = "template"


def parse_sms(hook: Hook) -> Hooked:
    """Raises `Forged` or `Unreadable`."""
    event, hooks = _opened(hook)
    match event:
        case "MESSAGE_RESULT_UPDATE":
            return _results(hooks, nhn_sms_report)
        case "INTERNATIONAL_DELIVERY_RECEIPT":
            return Hooked(by_reference=[pair for row in hooks if (pair := _receipt(row)) is not None])
        case "UNSUBSCRIBE":
            numbers = [to_e164(row["recipientNo"]) for row in hooks if isinstance(row.get("recipientNo"), str)]
            return Hooked(opt_outs=[OptOut("SMS", number, SMS_BLOCKED, "080") for number in numbers])
    return Hooked()


def parse_kakao(hook: Hook) -> Hooked:
    """Raises `Forged` or `Unreadable`."""
    event, hooks = _opened(hook)
    if event == "MESSAGE_RESULT_UPDATE":
        return _results(hooks, nhn_kakao_report)
    if event.startswith("TEMPLATE"):
        return Hooked(events=[{**row, "kind": TEMPLATE, "credential_id": str(hook.credential_id)} for row in hooks])
    return Hooked()


def _opened(hook: Hook) -> tuple[str, list[dict[str, Any]]]:
    given = hook.headers.get("x-toast-webhook-signature", "")
    if not is_same(given, str(hook.secret.get("webhook_signature") or "")):
        raise Forged("X-Toast-Webhook-Signature is not the credential's webhook_signature")
    content = json_of(hook.body)
    if not isinstance(content, dict) or content.get("appKey") not in (None, hook.secret.get("app_key")):
        raise Unreadable("it is no event of this app key")
    return str(content.get("event") or ""), rows_of(content, "hooks")


def _results(hooks: Sequence[Mapping[str, Any]], verdict_of: Callable[[str], GatewayVerdict]) -> Hooked:
    reports: list[Report] = []
    by_reference: list[tuple[Reference, Report]] = []
    for row in hooks:
        report = _report(row, verdict_of)
        if report is not None and report.message_id:
            reports.append(report)
        elif report is not None:
            by_reference.append((_reference(row), report))
    return Hooked(reports=reports, by_reference=by_reference)


def _report(row: Mapping[str, Any], verdict_of: Callable[[str], GatewayVerdict]) -> Report | None:
    if row.get("resultCode") is None:
        return None
    code = str(row["resultCode"])
    message_id = message_id_of(row.get("recipientGroupingKey"))
    at = moment(row.get("receiveDate") or row.get("resultDate"), KOREA)
    return report_of(verdict_of(code), code, message_id=message_id, at=at)


def _reference(row: Mapping[str, Any]) -> Reference:
    return Reference(str(row.get("requestId") or ""), str(row.get("recipientSeq") or ""))


def _receipt(row: Mapping[str, Any]) -> tuple[Reference, Report] | None:
    """What a carrier abroad says."""
    if row.get("dlrStatus") in ON_THE_WAY:
        return None
    code = str(row.get("errorCode") or "0")
    report = report_of(NHN_RECEIPTS.get(code, REJECTED), f"dlr_{code}")
    return None if report is None else (_reference(row), report)


# --- Asking --------------------------------------------------------------------------------------------------------


def ask_sms(secret: Mapping[str, Any], request_id: str) -> Sequence[tuple[Reference, Report]]:
    """What became of a request's messages. Raises `AskFailed`."""
    query = {"requestId": request_id, "pageNum": "1", "pageSize": str(PAGE)}
    for route in SMS_ROUTES:
        path = f"/sms/v3.0/appKeys/{secret['app_key']}/sender/{route}"
        content = _asked(secret, "nhn_sms", path, query)
        body = content.get("body")
        rows = rows_of(body, "data") if isinstance(body, dict) else []
        if rows:
            return [pair for row in rows for pair in _asked_of(row, request_id, nhn_sms_report)]
    return []


def ask_kakao(secret: Mapping[str, Any], request_id: str) -> Sequence[tuple[Reference, Report]]:
    """What became of a request's messages. Raises `AskFailed`."""
    query = {"requestId": request_id, "pageNum": "1", "pageSize": str(PAGE)}
    path = f"/alimtalk/v2.3/appkeys/{secret['app_key']}/messages"
    found = _asked(secret, "nhn_kakao", path, query).get("messageSearchResultResponse")
    rows = rows_of(found, "messages") if isinstance(found, dict) else []
    return [pair for row in rows for pair in _asked_of(row, request_id, nhn_kakao_report)]


def _asked(secret: Mapping[str, Any], provider: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    try:
        return nhn_call(secret, endpoint_for(provider), "GET", path, query=query)
    except CallRefused as error:
        if error.code == "-2008":  # this route knows no such request
            return {}
        raise AskFailed(str(error)) from None
    except CallFailed as error:
        raise AskFailed(str(error)) from None


def _asked_of(
    row: Mapping[str, Any], request_id: str, verdict_of: Callable[[str], GatewayVerdict]
) -> list[tuple[Reference, Report]]:
    reference = Reference(request_id, str(row.get("recipientSeq") or ""))
    receipt = row.get("dlr")
    if isinstance(receipt, dict):
        pair = _receipt({**receipt, "requestId": request_id, "recipientSeq": row.get("recipientSeq")})
        return [] if pair is None else [pair]
    report = _report(row, verdict_of)
    return [] if report is None else [(reference, report._replace(message_id=""))]
