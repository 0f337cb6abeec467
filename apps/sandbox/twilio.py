"""The stand-in for Twilio's messages, providers.md section 4.1: one message a request, form-encoded, Basic."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

from apps.sandbox import gateway_codes as codes
from apps.sandbox.exchange import Answer, Request, Route
from apps.sandbox.gateway import Batch, Call, Gateway, Handler, Plan, Refused, Sent, error_shell, json_answer, parse_iso
from apps.sandbox.gateway_behaviours import DELIVERED, GatewayBehaviour
from apps.sandbox.webhooks import Headers, Job, Post

API_VERSION = "2010-04-01"
MAX_BODY_CHARACTERS = 1600
_PARAMETERS = {
    "To", "From", "MessagingServiceSid", "Body", "MediaUrl", "ContentSid", "StatusCallback", "ValidityPeriod", "SendAt",
    "ScheduleType", "Attempt", "SmartEncoded", "ShortenUrls", "ContentVariables", "RiskCheck", "SendAsMms",
    "FallbackFrom", "PersistentAction", "ContentRetention", "AddressRetention", "ForceDelivery", "TrafficType",
    "ProvideFeedback", "ApplicationSid", "MaxPrice",
}  # fmt: skip
_REPEATABLE = {"MediaUrl", "PersistentAction"}
_BOOLEANS = {"SmartEncoded", "ShortenUrls", "SendAsMms", "ForceDelivery", "ProvideFeedback"}
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_SENDER_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_SHORT_CODE = re.compile(r"\d{3,6}")
_STOP_WORDS = {"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"}
_START_WORDS = {"START", "YES", "UNSTOP"}
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED = frozenset("^{}\\[~]|€\f")
_MORE_INFO = "https://www.twilio.com/docs/errors/"


@dataclass
class Account:
    """An account; `api_keys` are further names and passwords for it."""

    account_sid: str
    auth_token: str
    api_keys: dict[str, str] = field(default_factory=dict)


class Twilio(Gateway):
    """Twilio on one TLS port."""

    name = "twilio"

    def routes(self) -> Sequence[tuple[bytes, str, Handler]]:
        self._accounts: dict[str, Account] = {}
        self._users: dict[str, tuple[str, Account]] = {}
        base = f"/{API_VERSION}/Accounts/([^/]+)/Messages"
        return [
            (b"GET", f"/{API_VERSION}/Accounts/([^/]+)\\.json", self._show_account),
            (b"POST", rf"{base}\.json", self._create),
            (b"GET", rf"{base}\.json", self._list),
            (b"GET", rf"{base}/([^/]+)\.json", self._show),
            (b"POST", rf"{base}/([^/]+)\.json", self._change),
        ]

    # the request

    def _account_of(self, call: Call) -> Account:
        scheme, _, encoded = call.header(b"authorization").partition(" ")
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            user = password = ""
        known, account = self._users.get(user, ("", None))
        if (
            scheme.lower() != "basic"
            or account is None
            or not hmac.compare_digest(known.encode(), password.encode())
            or account.account_sid != call.parts[0]
        ):
            raise refused("20003")
        return account

    def _create(self, call: Call) -> Answer:
        account = self._account_of(call)
        given, media = self._parameters(call)
        to = self._check(account, given, media)
        chosen, whole = self.decide([Plan(to, "sms")])
        message_id = _message_id(given.get("StatusCallback", ""))
        if whole is not None and not whole.accepted:
            return self.refuse_whole(call, whole, [(to, message_id, call.request.body)])
        behaviour = chosen.get(0, DELIVERED)
        if behaviour.reason:
            answer = error_reply(behaviour.reason)
            self.note("refused", call, to, message_id, "", call.request.body, answer.status, behaviour.reason)
            return answer
        return self._accept(call, account, given, media, behaviour, whole, message_id)

    def _parameters(self, call: Call) -> tuple[dict[str, str], list[str]]:
        kind = call.header(b"content-type").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise refused("21604")  # nothing in the form: what is missed first
        try:
            pairs = parse_qsl(
                call.request.body.decode(), keep_blank_values=True, strict_parsing=bool(call.request.body)
            )
        except (UnicodeDecodeError, ValueError):
            raise Refused(_error(400, 20001, "Unknown parameter"), "20001") from None
        given: dict[str, str] = {}
        for name, value in pairs:
            if name not in _PARAMETERS:
                self.find(f"parameter {name} that Twilio does not know")
            elif name in given and name not in _REPEATABLE:
                self.find(f"parameter {name} given twice")
            given[name] = value
        if "MaxPrice" in given:
            self.find("MaxPrice has had no effect since 2024-06-03")
        return given, [value for name, value in pairs if name == "MediaUrl"]

    def _check(self, account: Account, given: dict[str, str], media: list[str]) -> str:
        to = given.get("To", "")
        if not to:
            raise refused("21604")
        if _E164.fullmatch(to) is None:
            raise refused("21211", f"Invalid 'To' Phone Number: {to}")
        sender, service = given.get("From", ""), given.get("MessagingServiceSid", "")
        if not sender and not service:
            raise refused("21603")
        if sender and not any(form.fullmatch(sender) for form in (_E164, _SENDER_NAME, _SHORT_CODE)):
            raise refused("21212", f"Invalid 'From' Number: {sender}")
        if sender and self.sender(sender, account.account_sid) is None:
            raise refused("21606")
        if service and (service[:2] != "MG" or self.sender(service, account.account_sid) is None):
            raise refused("21705", "The Messaging Service Sid is invalid")
        if sender == to:
            raise refused("21612")
        if not media and "ContentSid" not in given:
            if "Body" not in given:
                raise refused("21619")
            if not given["Body"].strip():
                raise refused("21602")
        if len(given.get("Body", "")) > MAX_BODY_CHARACTERS:
            raise refused("21617")
        callback = given.get("StatusCallback", "")
        if callback and (urlsplit(callback).scheme not in ("http", "https") or not urlsplit(callback).hostname):
            raise refused("21609", f"The 'StatusCallback' URL {callback} is not a valid URL")
        self._check_options(given)
        if f"{sender or service} {to}" in self.opt_outs or to in self.opt_outs:
            raise refused("21610")
        return to

    def _check_options(self, given: dict[str, str]) -> None:
        for name in _BOOLEANS & given.keys():
            if given[name] not in ("true", "false"):
                raise Refused(_error(400, 20001, f"Invalid {name}"), "20001")
        period = given.get("ValidityPeriod")
        if period is not None and (not period.isdigit() or not 1 <= int(period) <= 36_000):
            raise Refused(_error(400, 20001, "Invalid ValidityPeriod"), "20001")
        if "SendAt" in given or "ScheduleType" in given:
            at = parse_iso(given.get("SendAt", ""))
            if given.get("ScheduleType") != "fixed" or at is None or not given.get("MessagingServiceSid"):
                raise Refused(_error(400, 20001, "SendAt needs ScheduleType=fixed and MessagingServiceSid"), "20001")
            if not self.now() + 300 <= at <= self.now() + 35 * 86_400:
                raise Refused(_error(400, 20001, "SendAt must be 5 minutes to 35 days ahead"), "20001")

    def _accept(self, call: Call, account: Account, given: dict[str, str], media: list[str],
                behaviour: GatewayBehaviour, whole: GatewayBehaviour | None, message_id: str) -> Answer:  # fmt: skip
        now = self.now()
        due_at = parse_iso(given["SendAt"]) if "SendAt" in given else None
        service = given.get("MessagingServiceSid") or None
        state = "scheduled" if due_at else "accepted" if service else "queued"
        fields = {
            "num_media": str(len(media)), "messaging_service_sid": service,
            "callback": given.get("StatusCallback", ""),
        }  # fmt: skip
        sid = f"{'MM' if media else 'SM'}{secrets.token_hex(16)}"
        message = Sent(
            sid, given["To"], given.get("From", ""), "SMS", given.get("Body", ""), message_id, behaviour, 1, fields,
            state,
        )  # fmt: skip
        batch = Batch(sid, account.account_sid, now, [message], due_at or 0.0)
        answered = whole is None or whole.status < 400
        self.note("accepted", call, message.to, message_id, sid, call.request.body, 201 if answered else 0, "")
        answer = json_answer(201, self._shown(message, batch))
        self.take(batch)
        return self.answer_whole(call, whole, answer)

    # queries

    def _show_account(self, call: Call) -> Answer:
        """The account itself: for its own token alone, a standard API key is refused here."""
        account = self._account_of(call)
        if self._signed_in_as(call) != account.account_sid:
            raise refused("20003")
        shown = {
            "sid": account.account_sid, "friendly_name": "Sandbox account", "status": "active", "type": "Full",
            "uri": f"/{API_VERSION}/Accounts/{account.account_sid}.json",
        }  # fmt: skip
        return json_answer(200, shown)

    @staticmethod
    def _signed_in_as(call: Call) -> str:
        return base64.b64decode(call.header(b"authorization").partition(" ")[2]).decode().partition(":")[0]

    def _shown(self, message: Sent, batch: Batch) -> dict[str, Any]:
        uri = f"/{API_VERSION}/Accounts/{batch.account}/Messages/{message.provider_id}"
        created = _date(batch.created_at)
        code = int(message.code) if message.code else None
        return {
            "body": message.text, "num_segments": str(segments(message.text)), "direction": "outbound-api",
            "from": message.sender or None, "date_updated": _date(message.done_at) if message.done_at else created,
            "price": None, "error_message": codes.TWILIO[message.code][1] if message.code in codes.TWILIO else None,
            "uri": f"{uri}.json", "account_sid": batch.account, "num_media": message.fields["num_media"],
            "to": message.to, "date_created": created, "status": message.state, "sid": message.provider_id,
            "date_sent": _date(message.done_at) if message.done_at else None,
            "messaging_service_sid": message.fields["messaging_service_sid"], "error_code": code, "price_unit": "USD",
            "api_version": API_VERSION, "subresource_uris": {"media": f"{uri}/Media.json"},
        }  # fmt: skip

    def _of(self, call: Call) -> tuple[Sent, Batch]:
        account = self._account_of(call)
        batch = self.batches.get(call.parts[1])
        if batch is None or batch.account != account.account_sid:
            raise Refused(self.not_found(call.request), "20404")
        return batch.messages[0], batch

    def _show(self, call: Call) -> Answer:
        return json_answer(200, self._shown(*self._of(call)))

    def _change(self, call: Call) -> Answer:
        """Cancel a scheduled message (Status=canceled), or take its text away (Body empty)."""
        message, batch = self._of(call)
        given = parse_qs(call.request.body.decode("utf-8", "replace"), keep_blank_values=True)
        if given.get("Status") == ["canceled"]:
            if message.state != "scheduled":
                raise Refused(_error(409, 30409, "Message is not in a state that can be canceled"), "30409")
            batch.is_cancelled, message.state = True, "canceled"
        elif given.get("Body") == [""]:
            message.text = ""
        return json_answer(200, self._shown(message, batch))

    def _list(self, call: Call) -> Answer:
        account = self._account_of(call)
        size_text, page_text = call.first("PageSize", "50"), call.first("Page", "0")
        if not size_text.isdigit() or not page_text.isdigit() or not 1 <= int(size_text) <= 1000:
            raise Refused(_error(400, 20001, "Invalid PageSize or Page"), "20001")
        size, page = int(size_text), int(page_text)
        found = [
            (batch.messages[0], batch)
            for batch in reversed(self.batches.values())
            if batch.account == account.account_sid
            and call.first("To", batch.messages[0].to) == batch.messages[0].to
            and call.first("From", batch.messages[0].sender) == batch.messages[0].sender
        ]
        shown = found[page * size : (page + 1) * size]
        filters: dict[str, str] = {name: call.first(name) for name in ("To", "From") if name in call.query}

        def uri(number: int) -> str:
            query = urlencode({**filters, "PageSize": str(size), "Page": str(number)})
            return f"/{API_VERSION}/Accounts/{account.account_sid}/Messages.json?{query}"

        content = {
            "first_page_uri": uri(0), "end": page * size + max(0, len(shown) - 1),
            "previous_page_uri": uri(page - 1) if page else None, "uri": uri(page), "page_size": size,
            "start": page * size, "next_page_uri": uri(page + 1) if len(found) > (page + 1) * size else None,
            "page": page, "messages": [self._shown(*pair) for pair in shown],
        }  # fmt: skip
        return json_answer(200, content)

    # of the gateway

    def error(self, behaviour: GatewayBehaviour) -> Answer:
        code = {429: 20429, 503: 20503}.get(behaviour.status, 20500)
        message = {429: "Too Many Requests", 503: "Service Unavailable"}.get(behaviour.status, "Internal Server Error")
        return error_shell(behaviour, _error_content(behaviour.status, code, message))

    def not_found(self, request: Request) -> Answer:
        path = request.path.decode("latin-1").partition("?")[0]
        return _error(404, 20404, f"The requested resource {path} was not found")

    def finish(self, message: Sent, batch: Batch) -> None:
        code = message.behaviour.report
        if code:
            message.code = code
            message.state = "failed" if code in codes.TWILIO_FAILED else "undelivered"
        else:
            message.state = "delivered"

    def report_jobs(self, batch: Batch) -> list[Job]:
        """One post for each state after the first, in their order unless the settings reverse it."""
        message = batch.messages[0]
        if message.behaviour.is_silent or not message.fields["callback"]:
            return []
        states = ["queued"] if message.fields["messaging_service_sid"] else []
        states += [message.state] if message.state == "failed" else ["sent", message.state]
        return [[self._callback(message, batch, state) for state in states]]

    def _callback(self, message: Sent, batch: Batch, state: str) -> Post:
        given = {
            "AccountSid": batch.account, "ApiVersion": API_VERSION, "From": message.sender, "To": message.to,
            "MessageSid": message.provider_id, "SmsSid": message.provider_id, "MessageStatus": state,
            "SmsStatus": state,
        }  # fmt: skip
        if state in ("failed", "undelivered"):
            given["ErrorCode"] = message.code
        if state in ("delivered", "undelivered"):
            given["RawDlrDoneDate"] = _done_date(message.done_at)
        if message.fields["messaging_service_sid"]:
            given["MessagingServiceSid"] = message.fields["messaging_service_sid"]
        return self._signed(batch.account, message.fields["callback"], state, given)

    def _signed(self, account_sid: str, url: str, event: str, given: dict[str, str]) -> Post:
        body = urlencode(given, quote_via=quote).encode()
        account = self._accounts.get(account_sid)
        headers: Headers = (
            ("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8"),
            ("User-Agent", "TwilioProxy/1.1"),
            ("I-Twilio-Idempotency-Token", secrets.token_hex(16)),
            ("X-Twilio-Signature", sign(account.auth_token if account else "", url, given)),
        )
        return Post(url, event, lambda attempt: (headers, body))

    # control

    def register(self, body: Mapping[str, Any]) -> None:
        unknown = set(body) - {"account_sid", "auth_token", "api_keys"}
        if unknown:
            raise ValueError(f"unknown field: {sorted(unknown)[0]}")
        sid = str(body["account_sid"])
        if re.fullmatch(r"AC[0-9a-f]{32}", sid) is None:
            raise ValueError("account_sid: AC and 32 hexadecimal digits")
        account = Account(sid, str(body["auth_token"]), dict(body.get("api_keys") or {}))
        self._accounts[sid] = account
        for user, password in {sid: account.auth_token, **account.api_keys}.items():
            self._users[user] = (password, account)

    def registered(self) -> list[dict[str, Any]]:
        return [{"account_sid": one.account_sid, "api_keys": list(one.api_keys)} for one in self._accounts.values()]

    def forget(self, what: str) -> bool:
        if what == "keys":
            self._accounts.clear()
            self._users.clear()
            return True
        return super().forget(what)

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {**super().control_routes(), ("POST", "/inbound"): self._inbound}

    def _inbound(self, query: dict[str, str], body: Any) -> Any:
        """`{"url", "account", "from", "to", "body"}`: somebody writes to one of our numbers. STOP and its like opt out,
        START opts in again; Twilio keeps that by itself, and tells it as OptOutType."""
        sender, to, text = str(body["from"]), str(body["to"]), str(body["body"])
        word = text.strip().upper()
        opt_out_type = "STOP" if word in _STOP_WORDS else "START" if word in _START_WORDS else ""
        if opt_out_type == "STOP":
            self.opt_outs.add(f"{to} {sender}")
        elif opt_out_type == "START":
            self.opt_outs.discard(f"{to} {sender}")
        sid = f"SM{secrets.token_hex(16)}"
        given = {
            "ToCountry": "", "SmsMessageSid": sid, "NumMedia": "0", "SmsSid": sid, "SmsStatus": "received",
            "Body": text, "To": to, "NumSegments": "1", "MessageSid": sid, "AccountSid": str(body["account"]),
            "From": sender, "ApiVersion": API_VERSION, **({"OptOutType": opt_out_type} if opt_out_type else {}),
        }  # fmt: skip
        if body.get("url"):
            self.webhooks.send([[self._signed(str(body["account"]), str(body["url"]), "inbound", given)]])
        return {"message_sid": sid, "opt_out_type": opt_out_type}


def sign(auth_token: str, url: str, given: Mapping[str, str]) -> str:
    """X-Twilio-Signature: HMAC-SHA1 over the full address and each parameter's name and value, sorted by name."""
    text = url + "".join(name + given[name] for name in sorted(given))
    return base64.b64encode(hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()).decode()


def segments(text: str) -> int:
    """Messages that a text becomes: GSM-7 160 or 153 each, else UCS-2 70 or 67."""
    if all(character in _GSM_BASIC or character in _GSM_EXTENDED for character in text):
        length, one, many = len(text) + sum(character in _GSM_EXTENDED for character in text), 160, 153
    else:
        length, one, many = len(text.encode("utf-16-le")) // 2, 70, 67
    return 1 if length <= one else -(-length // many)


def refused(code: str, message: str = "") -> Refused:
    return Refused(error_reply(code, message), code)


def error_reply(code: str, message: str = "") -> Answer:
    """The answer with one of Twilio's codes."""
    status, known = codes.TWILIO.get(code, (400, "A 'To' phone number is required." if code == "21604" else ""))
    return _error(status, int(code), message or known)


def _error(status: int, code: int, message: str) -> Answer:
    return json_answer(status, _error_content(status, code, message))


def _error_content(status: int, code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "more_info": f"{_MORE_INFO}{code}", "status": status}


def _message_id(callback: str) -> str:
    """The platform's message id, where the address of the callback tells it as `message_id`."""
    return parse_qs(urlsplit(callback).query).get("message_id", [""])[0]


def _date(seconds: float) -> str:
    """RFC 2822, as in Mon, 30 Nov 2026 17:07:12 +0000."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


def _done_date(seconds: float) -> str:
    """YYMMDDhhmm"""
    return datetime.fromtimestamp(seconds, UTC).strftime("%y%m%d%H%M")
