"""The stand-in for Solapi, providers.md sections 4.2 and 5.1: text messages and Alimtalk of one account."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from apps.sandbox import gateway_codes as codes
from apps.sandbox.exchange import Answer, Request, Route
from apps.sandbox.gateway import (
    Batch,
    Call,
    Gateway,
    Handler,
    Plan,
    Sent,
    error_shell,
    iso,
    json_answer,
    load_json,
    parse_iso,
    stamp,
)
from apps.sandbox.gateway_behaviours import GatewayBehaviour
from apps.sandbox.solapi_errors import error_answer, invalid, known_error, missing
from apps.sandbox.solapi_message import ALLOWED_MESSAGE_FIELDS, Checked, MessageRules
from apps.sandbox.solapi_templates import SolapiTemplates
from apps.sandbox.webhooks import Headers, Job, Post

MAX_MESSAGES = 10_000
CLOCK_WINDOW_S = 15 * 60
PRICES = {"SMS": 18, "LMS": 45, "MMS": 110, "ATA": 13}
FILE_TYPES = {
    "MMS": 200 * 1024, "KAKAO": 500 * 1024, "RCS": 1024 * 1024, "FAX": 10 * 1024 * 1024, "BMS": 500 * 1024,
}  # fmt: skip
_REQUEST_FIELDS = {
    "messages", "scheduledDate", "showMessageList", "allowDuplicates", "appId", "agent", "strict",
}  # fmt: skip
_AUTHORIZATION = re.compile(r"HMAC-SHA256\s+(.*)")
_STATUSES = {"2000": "PENDING", "3000": "SENDING"}


@dataclass
class Account:
    """An account and what it has to spend."""

    account_id: str
    api_key: str
    api_secret: str
    balance: float = 1e9


class Solapi(Gateway):
    """Solapi on one TLS port."""

    name = "solapi"
    registrations = (*Gateway.registrations, "templates", "profiles", "files")

    def routes(self) -> Sequence[tuple[bytes, str, Handler]]:
        self._accounts: dict[str, Account] = {}
        self._signatures: dict[str, float] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self.templates = SolapiTemplates(self)
        signed = self._signed
        return [
            (b"POST", "/messages/v4/send-many/detail", signed(self._send_many)),
            (b"POST", "/messages/v4/send", signed(self._send_one)),
            (b"GET", "/messages/v4/list(?:-old)?", signed(self._list)),
            (b"GET", "/messages/v4/groups/([^/]+)", signed(self._group)),
            (b"GET", "/messages/v4/groups/([^/]+)/messages", signed(self._group_messages)),
            (b"DELETE", "/messages/v4/groups/([^/]+)/schedule", signed(self._cancel)),
            (b"GET", "/cash/v1/balance", signed(self._balance)),
            (b"POST", "/storage/v1/files", signed(self._upload)),
            *((method, path, signed(handler)) for method, path, handler in self.templates.routes()),
        ]

    # credentials, in the order: form, key, clock, signature, single use

    def _signed(self, handler: Callable[[Call, Account], Answer]) -> Handler:
        return lambda call: handler(call, self._account_of(call))

    def _account_of(self, call: Call) -> Account:
        match = _AUTHORIZATION.fullmatch(call.header(b"authorization"))
        if match is None:
            raise invalid("Authorization 헤더가 올바르지 않습니다.")
        given = {name.strip().lower(): value.strip() for name, _, value in
                 (part.partition("=") for part in match[1].split(","))}  # fmt: skip
        date, salt = given.get("date", ""), given.get("salt", "")
        if not 12 <= len(salt.encode()) <= 64:
            raise invalid("salt는 12~64바이트여야 합니다.")
        signed_at = parse_iso(date)
        if signed_at is None:
            raise invalid("date는 ISO 8601 형식이어야 합니다.")
        account = self._accounts.get(given.get("apikey", ""))
        if account is None:
            raise known_error("InvalidAPIKey")
        now = self.now()
        if abs(now - signed_at) > CLOCK_WINDOW_S:
            raise known_error("RequestTimeTooSkewed")
        signature = given.get("signature", "")
        if not hmac.compare_digest(signature, sign(account.api_secret, date, salt)):
            raise known_error("SignatureDoesNotMatch")
        if now - self._signatures.get(signature, -1e9) < CLOCK_WINDOW_S:
            raise known_error("DuplicatedSignature")
        if len(self._signatures) > 100_000:
            self._signatures = {used: at for used, at in self._signatures.items() if now - at < CLOCK_WINDOW_S}
        self._signatures[signature] = now
        return account

    # sending

    def _send_many(self, call: Call, account: Account) -> Answer:
        body = _object(call.request.body)
        unknown = body.keys() - _REQUEST_FIELDS
        if unknown:
            raise invalid(f'"{min(unknown)}" is not allowed')
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise invalid('"messages" is required')
        for name in ("allowDuplicates", "showMessageList", "strict"):
            if body.get(name) is not None and not isinstance(body[name], bool):
                raise invalid(f'"{name}" must be a boolean')
        return self._send(call, account, messages, body)

    def _send_one(self, call: Call, account: Account) -> Answer:
        """One message; unlike send-many it answers 200 with the code of a message that is refused."""
        body = _object(call.request.body)
        if not isinstance(body.get("message"), dict) or body.keys() - {"message", "agent"}:
            raise invalid('"message" is required')
        answer = orjson.loads(self._send(call, account, [body["message"]], {"showMessageList": True}).body)
        if "groupInfo" not in answer:
            return json_answer(500, answer)
        one = (answer["messageList"] or answer["failedMessageList"])[0]
        message = self.by_id.get(one["messageId"])
        shown = {
            "groupId": answer["groupInfo"]["groupId"], "messageId": one["messageId"],
            "accountId": account.account_id, "statusCode": one["statusCode"], "statusMessage": one["statusMessage"],
            "to": body["message"].get("to"), "from": body["message"].get("from"),
            "type": message.kind if message else body["message"].get("type"), "country": "82",
        }  # fmt: skip
        return json_answer(200, shown)

    def _send(self, call: Call, account: Account, messages: list[Any], body: dict[str, Any]) -> Answer:
        now = self.now()
        due_at = 0.0
        if body.get("scheduledDate") is not None:
            at = parse_iso(body["scheduledDate"])
            if at is None:
                raise invalid('"scheduledDate" must be a valid ISO 8601 date')
            due_at = at if at > now else 0.0
        rules = MessageRules(self, account.account_id, self._files, allow_duplicates=bool(body.get("allowDuplicates")))
        checked: list[Checked] = []
        for index, message in enumerate(messages):
            if not isinstance(message, dict):
                raise invalid(f'"messages[{index}]" must be of type object')
            if not message.keys() <= ALLOWED_MESSAGE_FIELDS:
                raise invalid(f'"messages[{index}].{min(message.keys() - ALLOWED_MESSAGE_FIELDS)}" is not allowed')
            recipients = message.get("to")
            for to in recipients if isinstance(recipients, list) else (recipients,):
                checked.append(rules.check(message, to))
        if len(checked) > MAX_MESSAGES:
            raise invalid(f'"messages" must contain less than or equal to {MAX_MESSAGES} items')
        good = [one for one in checked if not one.code]
        cost = sum(PRICES[one.kind] for one in good)
        if cost > account.balance:
            raise known_error("NotEnoughBalance")
        chosen, whole = self.decide(Plan(one.to, "kakao" if one.kind == "ATA" else "sms") for one in good)
        if whole is not None and not whole.accepted:
            return self.refuse_whole(
                call, whole, [(one.to, one.message_id, orjson.dumps(one.message)) for one in checked]
            )
        for index, behaviour in chosen.items():
            good[index].behaviour = behaviour
            good[index].code = behaviour.reason
        batch = Batch(f"G4V{stamp(now)}{self.next_id()}", account.account_id, now, [], due_at)
        answered = whole is None or whole.status < 400
        content = self._reply(call, batch, account, checked, body, answered=answered)
        self.take(batch)
        return self.answer_whole(call, whole, json_answer(200, content))

    def _reply(self, call: Call, batch: Batch, account: Account, checked: list[Checked], body: dict[str, Any], *,
               answered: bool) -> dict[str, Any]:  # fmt: skip
        failed: list[dict[str, Any]] = []
        taken: list[dict[str, Any]] = []
        record, connection, stream = self.journal.record, call.connection.number, call.request.stream_id
        prefix, meaning = f"M4V{batch.batch_id[3:]}", codes.SOLAPI["2000"]
        status = 200 if answered else 0
        for index, one in enumerate(checked):
            provider_id = f"{prefix}{index:05d}"
            message = one.message
            fields = message.get("customFields")
            if one.code:
                failed.append(
                    {
                        "to": one.to, "from": message.get("from"), "type": one.kind, "country": one.country,
                        "messageId": provider_id, "statusCode": one.code,
                        "statusMessage": codes.SOLAPI.get(one.code, ""), "accountId": account.account_id,
                        "customFields": fields,
                    }
                )  # fmt: skip
                record("refused", one.to, one.message_id, provider_id, {}, orjson.dumps(message), status, one.code,
                       connection, stream)  # fmt: skip
                continue
            taken.append({"messageId": provider_id, "statusCode": "2000", "statusMessage": meaning,
                          "customFields": fields})  # fmt: skip
            batch.messages.append(
                Sent(provider_id, one.to, message.get("from") or "", one.kind, one.text, one.message_id,
                     one.behaviour, index + 1, message, "PENDING", "2000")
            )  # fmt: skip
            record("accepted", one.to, one.message_id, provider_id, {}, orjson.dumps(message), status, "", connection,
                   stream)  # fmt: skip
        account.balance -= sum(PRICES[one.kind] for one in batch.messages)
        batch.fields = {
            "total": len(checked), "failed": len(failed), "allowDuplicates": bool(body.get("allowDuplicates")),
            "appId": body.get("appId"),
        }  # fmt: skip
        return {
            "failedMessageList": failed,
            "groupInfo": self._group_info(batch),
            **({"messageList": taken} if body.get("showMessageList") else {}),
        }

    # queries

    def _group_info(self, batch: Batch) -> dict[str, Any]:
        kinds = Counter(message.kind for message in batch.messages)
        done = [message.code for message in batch.messages if message.done_at]
        sum_requested = sum(PRICES[kind] * count for kind, count in kinds.items())
        created = iso(batch.created_at)
        scheduled = batch.due_at > self.now() and not batch.is_cancelled
        status = "SCHEDULED" if scheduled else "COMPLETE" if len(done) == len(batch.messages) else "SENDING"
        money = {"requested": sum_requested, "replacement": 0, "refund": 0, "sum": sum_requested}
        return {
            "count": {
                "total": batch.fields["total"], "sentTotal": len(done),
                "sentFailed": sum(code != "4000" for code in done), "sentSuccess": done.count("4000"),
                "sentPending": len(batch.messages) - len(done), "sentReplacement": 0, "refund": 0,
                "registeredFailed": batch.fields["failed"], "registeredSuccess": len(batch.messages),
            },
            "countForCharge": {
                kind.lower(): {"82": kinds[kind]} if kinds[kind] else {} for kind in ("SMS", "LMS", "MMS", "ATA")
            },
            "balance": money,
            "point": {"requested": 0, "replacement": 0, "refund": 0, "sum": 0},
            "app": {"profit": {kind.lower(): 0 for kind in PRICES}, "appId": batch.fields["appId"]},
            "log": [{"message": "메시지가 추가되었습니다.", "createAt": created}],
            "status": status, "allowDuplicates": batch.fields["allowDuplicates"], "isRefunded": False,
            "accountId": batch.account, "masterAccountId": None, "apiVersion": "4", "groupId": batch.batch_id,
            "price": {"82": {kind.lower(): price for kind, price in PRICES.items()}},
            "dateCreated": created, "dateUpdated": created,
            "scheduledDate": iso(batch.due_at) if batch.due_at else None,
            "dateSent": None if scheduled else created, "dateCompleted": None,
        }  # fmt: skip

    def _shown(self, message: Sent, batch: Batch) -> dict[str, Any]:
        created = iso(batch.created_at)
        done = iso(message.done_at) if message.done_at else None
        return {
            "messageId": message.provider_id, "groupId": batch.batch_id, "accountId": batch.account,
            "type": message.kind, "to": message.to, "from": message.sender, "text": message.text,
            "subject": message.fields.get("subject"), "imageId": message.fields.get("imageId"),
            "country": message.fields.get("country") or "82", "customFields": message.fields.get("customFields"),
            "kakaoOptions": message.fields.get("kakaoOptions"), "status": message.state,
            "statusCode": message.code, "reason": codes.SOLAPI.get(message.code, ""), "replacement": False,
            "networkCode": "10001" if message.code == "4000" else None, "dateCreated": created,
            "dateUpdated": done or created, "dateProcessed": created if done else None, "dateReported": done,
            "dateReceived": done if message.code == "4000" else None,
            "log": [{"message": "메시지가 접수되었습니다.", "createAt": created}],
        }  # fmt: skip

    def _list(self, call: Call, account: Account) -> Answer:
        query = {name.removesuffix("[]"): values for name, values in call.query.items()}
        known = {"messageId", "messageIds", "groupId", "to", "from", "type", "statusCode", "dateType", "startDate",
                 "endDate", "limit", "startKey", "criteria", "cond", "value"}  # fmt: skip
        if query.keys() - known:
            raise invalid(f'"{min(query.keys() - known)}" is not allowed')
        limit = _limit(query, 500)
        ids = [part for values in (query.get("messageId", []), query.get("messageIds", [])) for value in values
               for part in value.strip("[]").replace("'", "").replace('"', "").split(",") if part]  # fmt: skip
        bounds = []
        for name, default in (("startDate", 0.0), ("endDate", 1e12)):
            bound = parse_iso(query[name][0]) if name in query else default
            if bound is None:
                raise invalid(f'"{name}" must be a valid ISO 8601 date')
            bounds.append(bound)
        wanted = {name: query[name][0] for name in ("to", "from", "type", "statusCode") if name in query}
        start_key = query.get("startKey", [""])[0]
        group = query.get("groupId", [""])[0]
        batches = [self.batches[group]] if group in self.batches else [] if group else self.batches.values()
        if ids:
            groups = dict.fromkeys(f"G4V{one[3:-5]}" for one in ids)
            batches = [self.batches[one] for one in groups if one in self.batches and (not group or one == group)]
        found: dict[str, Any] = {}
        next_key = None
        wanted_ids = set(ids)
        started = not start_key
        for batch in batches:
            if batch.account != account.account_id or not bounds[0] <= batch.created_at <= bounds[1]:
                continue
            for message in batch.messages:
                started = started or message.provider_id == start_key
                values = {"to": message.to, "from": message.sender, "type": message.kind, "statusCode": message.code}
                if not started or (wanted_ids and message.provider_id not in wanted_ids):
                    continue
                if any(values[name] != value for name, value in wanted.items()):
                    continue
                if len(found) == limit:
                    next_key = message.provider_id
                    break
                found[message.provider_id] = self._shown(message, batch)
            if next_key:
                break
        return json_answer(
            200, {"messageList": found, "limit": limit, "startKey": start_key or None, "nextKey": next_key}
        )

    def _batch_of(self, call: Call, account: Account) -> Batch:
        batch = self.batches.get(call.parts[0])
        if batch is None or batch.account != account.account_id:
            raise missing("그룹을 찾을 수 없습니다.")
        return batch

    def _group(self, call: Call, account: Account) -> Answer:
        return json_answer(200, self._group_info(self._batch_of(call, account)))

    def _group_messages(self, call: Call, account: Account) -> Answer:
        batch = self._batch_of(call, account)
        limit = _limit(call.query, 500)
        found = {message.provider_id: self._shown(message, batch) for message in batch.messages[:limit]}
        return json_answer(200, {"messageList": found, "limit": limit, "startKey": None, "nextKey": None})

    def _cancel(self, call: Call, account: Account) -> Answer:
        batch = self._batch_of(call, account)
        if batch.due_at <= self.now() or batch.is_cancelled:
            raise known_error("InvalidStatusCode")
        batch.is_cancelled = True
        return json_answer(200, self._group_info(batch))

    def _balance(self, call: Call, account: Account) -> Answer:
        return json_answer(200, {"balance": account.balance, "point": 0})

    def _upload(self, call: Call, account: Account) -> Answer:
        body = _object(call.request.body)
        if body.keys() - {"file", "type", "name", "link"}:
            raise invalid("unknown field")
        kind = body.get("type")
        if kind not in FILE_TYPES:
            raise invalid('"type" must be one of [MMS, KAKAO, RCS, FAX, BMS]')
        try:
            content = base64.b64decode(body.get("file") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise invalid('"file" must be a valid base64 string') from None
        if not content or len(content) > FILE_TYPES[kind]:
            raise invalid(f'"file" must not be empty and at most {FILE_TYPES[kind]} bytes')
        if kind == "MMS" and not content.startswith(b"\xff\xd8\xff"):
            raise invalid("MMS 이미지는 JPG만 가능합니다.")
        now = iso(self.now())
        file_id = f"ST01FZ{stamp(self.now())}{self.next_id()}"
        shown = {
            "kakao": {"daou": None, "biztalk": None}, "type": kind, "originalName": body.get("name") or file_id,
            "link": body.get("link"), "fileId": file_id, "name": body.get("name") or file_id,
            "url": f"https://storage.example/{file_id}", "accountId": account.account_id, "references": [],
            "dateCreated": now, "dateUpdated": now,
        }  # fmt: skip
        self._files[file_id] = shown
        return json_answer(200, shown)

    # of the gateway

    def error(self, behaviour: GatewayBehaviour) -> Answer:
        message = next((text for _, name, text in codes.SOLAPI_ERRORS if name == behaviour.name), behaviour.meaning)
        return error_shell(behaviour, {"errorCode": behaviour.reason or "InternalError", "errorMessage": message})

    def not_found(self, request: Request) -> Answer:
        return error_answer(404, "ResourceNotFound", "요청한 경로를 찾을 수 없습니다.")

    def finish(self, message: Sent, batch: Batch) -> None:
        message.code = message.behaviour.report or codes.SOLAPI_DELIVERED
        message.state = _STATUSES.get(message.code, "COMPLETE")

    def report_jobs(self, batch: Batch) -> list[Job]:
        """SINGLE-REPORT with many messages each; GROUP-REPORT where a hook of the service "group" is registered."""
        jobs: list[Job] = []
        hook = self.hook(batch.account)
        if hook is not None:
            for messages in self.chunks(batch):
                events = [
                    {"eventDataId": f"ED{message.provider_id}", "data": self._reported(message, batch)}
                    for message in messages
                ]
                jobs.append([_report(hook, "SINGLE-REPORT", events)])
        group_hook = self.hooks.get((batch.account, "group")) or self.hooks.get(("", "group"))
        if group_hook is not None:
            event = {"eventDataId": f"ED{batch.batch_id}", "data": self._group_info(batch)}
            jobs.append([_report(group_hook, "GROUP-REPORT", [event])])
        return jobs

    def _reported(self, message: Sent, batch: Batch) -> dict[str, Any]:
        created, done = iso(batch.created_at), iso(message.done_at)
        return {
            "messageId": message.provider_id, "groupId": batch.batch_id, "type": message.kind, "to": message.to,
            "from": message.sender, "statusCode": message.code,
            "statusMessage": codes.SOLAPI.get(message.code, ""), "dateProcessed": created, "dateReported": done,
            "dateReceived": done if message.code == "4000" else None,
            "networkCode": "10001" if message.code == "4000" else None,
            "kakaoOptions": message.fields.get("kakaoOptions"),
            "customFields": message.fields.get("customFields") or {},
        }  # fmt: skip

    # control

    def register(self, body: Mapping[str, Any]) -> None:
        unknown = set(body) - {"api_key", "api_secret", "account_id", "balance"}
        if unknown:
            raise ValueError(f"unknown field: {sorted(unknown)[0]}")
        account = Account(
            str(body.get("account_id") or body["api_key"]), str(body["api_key"]), str(body["api_secret"]),
            float(body.get("balance", 1e9)),
        )  # fmt: skip
        if len(account.api_secret) < 8 or not account.api_key:
            raise ValueError("api_secret: at least 8 characters")
        self._accounts[account.api_key] = account

    def registered(self) -> list[dict[str, Any]]:
        return [
            {"api_key": one.api_key, "account_id": one.account_id, "balance": one.balance}
            for one in self._accounts.values()
        ]

    def forget(self, what: str) -> bool:
        if what == "keys":
            self._accounts.clear()
        elif what == "files":
            self._files.clear()
        elif what in ("templates", "profiles"):
            self.templates.clear(what)
        else:
            return super().forget(what)
        return True

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {**super().control_routes(), **self.templates.control_routes()}


def sign(secret: str, date: str, salt: str) -> str:
    """The signature of a request: HMAC-SHA256 over date and salt, in hexadecimal."""
    return hmac.new(secret.encode(), (date + salt).encode(), hashlib.sha256).hexdigest()


def _object(body: bytes) -> dict[str, Any]:
    content = load_json(body)
    if not isinstance(content, dict):
        raise invalid("요청 본문은 JSON 객체여야 합니다.")
    return content


def _limit(query: Mapping[str, list[str]], most: int) -> int:
    text = query.get("limit", ["20"])[0]
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise invalid(f'"limit" must be between 1 and {most}')
    return int(text)


def _report(hook: Mapping[str, Any], name: str, events: list[dict[str, Any]]) -> Post:
    """A report; Solapi sends the SHA-1 of the webhook's secret, and counts its tries in the body."""
    headers: Headers = (("Content-Type", "application/json"), ("X-Solapi-Event-Name", name))
    if hook["secret"]:
        headers += (("X-Solapi-Secret", hashlib.sha1(hook["secret"].encode()).hexdigest()),)  # noqa: S324

    def render(attempt: int) -> tuple[Headers, bytes]:
        return headers, orjson.dumps([{**event, "retryCount": attempt} for event in events])

    return Post(hook["url"], name, render)
