"""Twilio's status callbacks, and messages that people write to our numbers: STOP and START (providers.md 4.1).

Both are forms signed with the auth token over the whole address, which carries our message's id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from apps.messaging.adapters.gateway_calls import CallFailed, twilio_call
from apps.messaging.adapters.registry import endpoint_for
from apps.messaging.adapters.sms_reasons import twilio_verdict
from apps.messaging.adapters.twilio import MESSAGE_ID
from apps.messaging.receipts.gateways import is_same, message_id_of, report_of
from apps.messaging.receipts.providers import AskFailed, Forged, Hook, Hooked, OptOut, Reference
from apps.messaging.receipts.reports import Report, ReportKind

SMS_BLOCKED = -54
STOP_WORDS = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "REVOKE"})
START_WORDS = frozenset({"START", "YES", "UNSTOP"})
OPT_IN = "opt_in"
_ANSWER = ("<Response/>", "text/xml")
_FAILED = frozenset({"failed", "undelivered"})


def parse(hook: Hook) -> Hooked:
    """Raises `Forged`."""
    try:
        form = parse_qs(hook.body.decode(), keep_blank_values=True, max_num_fields=200)
    except (UnicodeDecodeError, ValueError):
        raise Forged("it is no form") from None  # and proves nothing
    given = hook.headers.get("x-twilio-signature", "")
    token = str(hook.secret.get("auth_token") or "")
    if not token or not any(is_same(given, signature(token, url, form)) for url in _forms_of(hook.url)):
        raise Forged("X-Twilio-Signature is not the auth token's")
    if _one(form, "AccountSid") != hook.secret.get("account_sid"):
        raise Forged("it is about another account")
    if "MessageStatus" in form:
        return _status(hook, form)
    return _inbound(form)


def signature(token: str, url: str, form: Mapping[str, Sequence[str]]) -> str:
    """Base64 of HMAC-SHA1 over the address and each parameter's name and values, sorted by name."""
    text = url + "".join(name + value for name in sorted(form) for value in sorted(set(form[name])))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def _forms_of(url: str) -> list[str]:
    """The address as it is, and with or without the port that its scheme implies: Twilio signs either."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = 443 if parts.scheme == "https" else 80
    if parts.port is None:
        return [url, urlunsplit(parts._replace(netloc=f"{host}:{port}"))]
    return [url, urlunsplit(parts._replace(netloc=host))] if parts.port == port else [url]


def _status(hook: Hook, form: Mapping[str, Sequence[str]]) -> Hooked:
    report = _report(_one(form, "MessageStatus"), _one(form, "ErrorCode"))
    message_id = message_id_of(hook.query.get(MESSAGE_ID))
    if report is None:
        return Hooked()
    if message_id:
        return Hooked(reports=[report._replace(message_id=message_id)])
    sid = _one(form, "MessageSid")
    return Hooked(by_reference=[(Reference(sid, sid), report)])


def _report(status: str, code: str) -> Report | None:
    """None for a state on the way: a later one follows, or has come already."""
    if status == "delivered":
        return Report("", ReportKind.DELIVERED)
    if status == "read":
        return Report("", ReportKind.OPENED)
    if status not in _FAILED and status != "canceled":
        return None
    verdict = twilio_verdict(400, code)
    # 20500 as a report: it has failed, there is nothing to wait for.
    report = report_of(verdict, code or status)
    return report or Report("", ReportKind.FAILED, reason=code or status)


def _inbound(form: Mapping[str, Sequence[str]]) -> Hooked:
    word = (_one(form, "OptOutType") or _one(form, "Body")).strip().upper()
    sender = _one(form, "From")
    if word in STOP_WORDS and sender:
        return Hooked(opt_outs=[OptOut("SMS", sender, SMS_BLOCKED, "STOP")], answer=_ANSWER)
    if word in START_WORDS and sender:
        return Hooked(events=[{"kind": OPT_IN, "type": "SMS", "address": sender}], answer=_ANSWER)
    return Hooked(answer=_ANSWER)


def _one(form: Mapping[str, Sequence[str]], name: str) -> str:
    return form[name][0] if form.get(name) else ""


def ask(secret: Mapping[str, Any], request_id: str) -> Sequence[tuple[Reference, Report]]:
    """What became of a message. Raises `AskFailed`."""
    try:
        content = twilio_call(secret, endpoint_for("twilio"), f"/Messages/{request_id}.json")
    except CallFailed as error:
        raise AskFailed(str(error)) from None
    report = _report(str(content.get("status") or ""), str(content.get("error_code") or ""))
    return [] if report is None else [(Reference(request_id, request_id), report)]
