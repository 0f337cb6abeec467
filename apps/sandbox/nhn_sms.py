"""NHN Cloud SMS v3.0 (providers.md section 4.3): sms, mms, auth/sms, ad-sms, ad-mms, queries, attachments."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from apps.sandbox import gateway_codes as codes
from apps.sandbox import korean_text
from apps.sandbox.exchange import Answer
from apps.sandbox.gateway import Batch, Call, Plan, Sent, json_answer, korean_time, load_json, stamp
from apps.sandbox.gateway_behaviours import DELIVERED, GatewayBehaviour
from apps.sandbox.nhn_errors import SMS_DATE_CODES, date_bounds, header, refused

if TYPE_CHECKING:
    from apps.sandbox.nhn import App, Nhn

MAX_RECIPIENTS = 1000
MAX_ATTACHMENT_BYTES = 300 * 1024
_ROUTE = r"/sms/v3\.0/appKeys/([^/]+)/sender/(sms|mms|auth/sms|ad-sms|ad-mms)"
_FIELDS = {
    "templateId", "body", "sendNo", "requestDate", "senderGroupingKey", "recipientList", "userId", "statsId",
    "originCode",
}  # fmt: skip
_LONG_FIELDS = _FIELDS | {"title", "attachFileIdList"}
_SHORT_FIELDS = _FIELDS | {"useConversion"}
_RECIPIENT_FIELDS = {
    "recipientNo", "countryCode", "internationalRecipientNo", "templateParameter", "recipientGroupingKey",
}  # fmt: skip
_LENGTHS = {"templateId": 50, "senderGroupingKey": 100, "userId": 100, "statsId": 10, "originCode": 9}
_NUMBER = re.compile(r"[0-9]{8,20}")
_AUTH_WORDS = ("auth", "password", "verif", "にんしょう", "認証", "비밀번호", "인증")
_SENDER_TYPES = {
    "sms": "NORMAL_SMS",
    "mms": "NORMAL_MMS",
    "auth/sms": "AUTH_SMS",
    "ad-sms": "AD_SMS",
    "ad-mms": "AD_MMS",
}
_STATE_NAMES = {"0": "실패", "1": "요청", "2": "처리 중", "3": "성공", "4": "예약취소", "5": "중복실패"}
_REPORTED_STATES = {"3": "COMPLETED", "0": "FAILED", "4": "CANCEL", "5": "DUPLICATED", "6": "FAILED_AD"}


class NhnSms:
    """The routes and rules of SMS."""

    def __init__(self, gateway: Nhn) -> None:
        self._gateway = gateway
        self._files: set[int] = set()
        self.opt_out_numbers: set[str] = set()

    def routes(self) -> Sequence[tuple[bytes, str, Callable[[Call, App], Answer]]]:
        return [
            (b"POST", _ROUTE, self._send),
            (b"GET", _ROUTE, self._list),
            (b"GET", rf"{_ROUTE}/([^/]+)", self._show),
            (b"POST", r"/sms/v3\.0/appKeys/([^/]+)/attachfile/binaryUpload", self._upload),
            (b"GET", r"/sms/v3\.0/appKeys/([^/]+)/sendNos", self._list_senders),
        ]

    def _list_senders(self, call: Call, app: App) -> Answer:
        """The sender numbers of an app key; `sendNo` finds one by any part of it."""
        wanted = call.first("sendNo")
        mine = [
            {"serviceId": 1, "sendNo": number, "useYn": "Y", "blockYn": "N", "blockReason": None}
            for number, sender in self._gateway.senders.items()
            if sender.account in ("", app.app_key) and wanted in number
        ]
        data = {"pageNum": 1, "pageSize": 15, "totalCount": len(mine), "data": mine}
        return json_answer(200, {**header(0, "SUCCESS"), "body": data})

    def forget(self, what: str) -> bool:
        if what == "opt_out_numbers":
            self.opt_out_numbers.clear()
            return True
        return False

    # sending

    def _send(self, call: Call, app: App) -> Answer:
        gateway, kind = self._gateway, call.parts[1]
        is_long = kind.endswith("mms")
        body = gateway.body(call, "sms", _LONG_FIELDS if is_long else _SHORT_FIELDS)
        recipients = body.get("recipientList")
        if not isinstance(recipients, list) or not recipients:
            raise refused("sms", "-2001")
        if len(recipients) > MAX_RECIPIENTS:
            raise refused("sms", "-2016")
        self._check_fields(body)
        self._check_text(body, kind, is_long=is_long)
        self._check_sender(body.get("sendNo"), app)
        due_at = gateway.due_at(body.get("requestDate"), "sms")
        checked = [self._check_recipient(recipient, is_long=is_long, is_ad=kind.startswith("ad"))
                   for recipient in recipients]  # fmt: skip
        good = [index for index, (_, code) in enumerate(checked) if not code]
        chosen, whole = gateway.decide(Plan(checked[index][0], "sms") for index in good)
        if whole is not None and not whole.accepted:
            return gateway.refuse_whole(
                call, whole,
                [(to, _key_of(recipient), orjson.dumps(recipient))
                 for (to, _), recipient in zip(checked, recipients, strict=True)],
            )  # fmt: skip
        behaviours = {good[position]: behaviour for position, behaviour in chosen.items()}
        batch = Batch(
            f"{stamp(gateway.now())}{gateway.next_id()}", app.app_key, gateway.now(), [], due_at,
            fields={"service": "sms", "kind": kind, "body": body},
        )  # fmt: skip
        status = 200 if whole is None or whole.status < 400 else 0
        results = self._results(call, batch, recipients, checked, behaviours, status)
        gateway.take(batch)
        data = {
            "requestId": batch.batch_id, "statusCode": "2", "senderGroupingKey": body.get("senderGroupingKey"),
            "sendResultList": results,
        }  # fmt: skip
        return gateway.answer_whole(call, whole, json_answer(200, {**header(0, "SUCCESS"), "body": {"data": data}}))

    def _results(self, call: Call, batch: Batch, recipients: list[dict[str, Any]], checked: list[tuple[str, str]],
                 behaviours: dict[int, GatewayBehaviour], status: int) -> list[dict[str, Any]]:  # fmt: skip
        body, kind = batch.fields["body"], batch.fields["kind"]
        message_type = "AUTH" if kind == "auth/sms" else "SMS" if kind.endswith("sms") else (
            "MMS" if body.get("attachFileIdList") else "LMS"
        )  # fmt: skip
        text, sender = body.get("body") or "", body["sendNo"]
        record, connection, stream = self._gateway.journal.record, call.connection.number, call.request.stream_id
        results: list[dict[str, Any]] = []
        for index, (recipient, (to, code)) in enumerate(zip(recipients, checked, strict=True)):
            behaviour = behaviours.get(index, DELIVERED)
            code = code or behaviour.reason
            grouping_key = _key_of(recipient)
            provider_id = f"{batch.batch_id}:{index + 1}"
            results.append(
                {
                    "recipientNo": to, "resultCode": int(code) if code else 0,
                    "resultMessage": codes.NHN_SMS_REPLIES.get(code, "") if code else "SUCCESS",
                    "recipientSeq": index + 1, "recipientGroupingKey": grouping_key or None,
                }
            )  # fmt: skip
            outcome = "refused" if code else "accepted"
            content = orjson.dumps({**recipient, "body": text, "title": body.get("title")})
            record(outcome, to, grouping_key, provider_id, {}, content, status, code, connection, stream)  # type: ignore[arg-type]
            if not code:
                fields = {"grouping_key": grouping_key or None, "country": recipient.get("countryCode") or "82"}
                batch.messages.append(
                    Sent(provider_id, to, sender, message_type, text, grouping_key, behaviour, index + 1, fields, "1")
                )
        return results

    def _check_fields(self, body: dict[str, Any]) -> None:
        for name, most in _LENGTHS.items():
            value = body.get(name)
            if value is not None and (not isinstance(value, str) or len(value) > most):
                raise refused("sms", "4", f"{name}: at most {most} characters")
        if body.get("templateId"):
            raise refused("sms", "-2110")  # templates of SMS are not kept here

    def _check_text(self, body: dict[str, Any], kind: str, *, is_long: bool) -> None:
        text, title = body.get("body"), body.get("title")
        if not isinstance(text, str) or not text or (is_long and (not isinstance(title, str) or not title)):
            raise refused("sms", "-2014", "The title or body can not be empty.")
        lengths = [korean_text.euc_kr_bytes(part) for part in ((text, title) if title else (text,))]
        if None in lengths or korean_text.is_unprintable(text + (title or "")):
            raise refused("sms", "-2023")
        most = korean_text.LONG_BYTES if is_long else korean_text.SMS_BYTES
        if (lengths[0] or 0) > most or (title and (lengths[1] or 0) > korean_text.TITLE_BYTES):
            raise refused("sms", "-2015")
        if kind == "auth/sms" and not any(word in text.lower() for word in _AUTH_WORDS):
            raise refused("sms", "-8000")
        if kind.startswith("ad"):
            if not self.opt_out_numbers:
                raise refused("sms", "-6000")
            number = korean_text.opt_out_number(text)
            if number is None:
                raise refused("sms", "-6003")
            if number not in self.opt_out_numbers:
                raise refused("sms", "-6004")
        elif text.startswith("(광고)"):
            self._gateway.find("an advertisement by the route of ordinary messages")
        files = body.get("attachFileIdList") or []
        if not isinstance(files, list) or any(one not in self._files for one in files):
            raise refused("sms", "-2004")

    def _check_sender(self, number: Any, app: App) -> None:
        if not isinstance(number, str) or not number or len(number) > 13:
            raise refused("sms", "-2312")
        sender = self._gateway.sender(number, app.app_key)
        if sender is None:
            raise refused("sms", "-2312")
        if sender.state != "active":
            raise refused("sms", "-2313")

    def _check_recipient(self, recipient: Any, *, is_long: bool, is_ad: bool) -> tuple[str, str]:
        """The number and the code of what is wrong with it, empty: nothing."""
        if type(recipient) is not dict or not recipient.keys() <= _RECIPIENT_FIELDS:
            raise refused("sms", "4", "recipientList: unknown field")
        country = recipient.get("countryCode") or "82"
        number = recipient.get("recipientNo")
        if not number:
            number = recipient.get("internationalRecipientNo")
            if not number:
                return "", "-2018"
            if isinstance(number, str) and number.startswith("82"):
                number = f"0{number[2:]}"
            else:
                country = "" if country == "82" else country
        if type(number) is not str or _NUMBER.fullmatch(number) is None:
            return str(number), "-2019"
        if country == "82" and not number.startswith("0"):
            return number, "-2019"
        if is_long and country != "82":
            return number, "-2024"
        if is_ad and number in self._gateway.opt_outs:
            return number, "-6001"
        key = recipient.get("recipientGroupingKey")
        if key is not None and (type(key) is not str or len(key) > 100):
            raise refused("sms", "4", "recipientGroupingKey: at most 100 characters")
        return number, ""

    # reports

    def finish(self, message: Sent) -> None:
        code = message.behaviour.report
        if code and message.behaviour.name.startswith("receipt:"):
            message.fields["dlr"] = code
            code = "" if code == "0" else "3000"
        message.code = code or "1000"
        message.state = {"1000": "3", "E915": "5", "E919": "6"}.get(message.code, "0")

    def reported(self, messages: list[Sent], batch: Batch) -> Iterable[tuple[str, list[dict[str, Any]]]]:
        """MESSAGE_RESULT_UPDATE, and the receipts of those that went abroad."""
        kind, body = batch.fields["kind"], batch.fields["body"]
        yield "MESSAGE_RESULT_UPDATE", [
            {
                "hookId": f"H{message.provider_id}", "senderType": _SENDER_TYPES[kind], "requestId": batch.batch_id,
                "recipientSeq": message.number, "requestDate": korean_time(batch.created_at, "%Y-%m-%dT%H:%M:%S"),
                "receiveDate": korean_time(message.done_at, "%Y-%m-%dT%H:%M:%S"), "sendNo": message.sender,
                "recipientNo": message.to, "messageStatus": _REPORTED_STATES[message.state],
                "recipientGroupingKey": message.fields["grouping_key"],
                "senderGroupingKey": body.get("senderGroupingKey"), "resultCode": message.code, "messageCount": 1,
                "_links": {"self": {"href": f"/sms/v3.0/appKeys/{batch.account}/sender/{kind}/{batch.batch_id}"
                                            f"?recipientSeq={message.number}"}},
            }
            for message in messages
        ]  # fmt: skip
        receipts = [
            {
                "hookId": f"D{message.provider_id}", "requestId": batch.batch_id, "recipientSeq": message.number,
                "dlrStatus": codes.NHN_DLR[message.fields["dlr"]][0], "networkCode": "US-VIRTUAL-BANDWIDTH",
                "errorCode": message.fields["dlr"],
            }
            for message in messages
            if "dlr" in message.fields
        ]  # fmt: skip
        if receipts:
            yield "INTERNATIONAL_DELIVERY_RECEIPT", receipts

    # queries

    def _shown(self, message: Sent, batch: Batch) -> dict[str, Any]:
        body, kind = batch.fields["body"], batch.fields["kind"]
        shown = {
            "requestId": batch.batch_id, "requestDate": korean_time(batch.created_at, "%Y-%m-%d %H:%M:%S.0"),
            "resultDate": korean_time(message.done_at, "%Y-%m-%d %H:%M:%S.0") if message.done_at else None,
            "templateId": None, "templateName": None, "categoryId": None, "categoryName": None, "body": message.text,
            "sendNo": message.sender, "countryCode": message.fields["country"], "recipientNo": message.to,
            "msgStatus": message.state, "msgStatusName": _STATE_NAMES.get(message.state, "실패"),
            "resultCode": message.code or None,
            "resultCodeName": codes.NHN_SMS_REPORTS.get(message.code) if message.code else None,
            "telecomCode": 10001 if message.done_at else None, "telecomCodeName": "SKT" if message.done_at else None,
            "recipientSeq": message.number,
            "sendType": "1" if kind.endswith("mms") else "2" if kind == "auth/sms" else "0",
            "messageType": message.kind, "messageCount": 1, "userId": body.get("userId"),
            "adYn": "Y" if kind.startswith("ad") else "N", "resultMessage": "",
            "senderGroupingKey": body.get("senderGroupingKey"), "recipientGroupingKey": message.fields["grouping_key"],
        }  # fmt: skip
        if "dlr" in message.fields:
            code = message.fields["dlr"]
            shown["dlr"] = {"dlrStatus": codes.NHN_DLR[code][0], "networkCode": "12345", "errorCode": code}
        return shown

    def _show(self, call: Call, app: App) -> Answer:
        sequence = call.first("recipientSeq")
        batch = self._gateway.batches.get(call.parts[2])
        if not sequence.isdigit():
            raise refused("sms", "-2012")
        message = self._gateway.by_id.get(f"{call.parts[2]}:{sequence}")
        if batch is None or message is None or batch.account != app.app_key or batch.fields["kind"] != call.parts[1]:
            raise refused("sms", "-2008")
        return json_answer(200, {**header(0, "SUCCESS"), "body": {"data": self._shown(message, batch)}})

    def _list(self, call: Call, app: App) -> Answer:
        request_id = call.first("requestId")
        bounds = date_bounds(call, request_id, ("Create", "Request"), "sms", SMS_DATE_CODES)
        page, size = call.first("pageNum", "1"), call.first("pageSize", "15")
        if not page.isdigit() or not size.isdigit() or not 1 <= int(size) <= 1000 or int(page) < 1:
            raise refused("sms", "-1005")
        wanted = {name: call.first(name) for name in ("recipientNo", "sendNo", "msgStatus", "resultCode",
                                                      "recipientGroupingKey") if name in call.query}  # fmt: skip
        batches = self._gateway.batches
        chosen = [batches[request_id]] if request_id in batches else [] if request_id else list(batches.values())
        found = [
            shown
            for batch in chosen
            if batch.account == app.app_key and batch.fields.get("kind") == call.parts[1]
            and bounds[0] <= batch.created_at <= bounds[1]
            for shown in (self._shown(message, batch) for message in batch.messages)
            if all(shown[name] == value for name, value in wanted.items())
        ]  # fmt: skip
        start = (int(page) - 1) * int(size)
        body = {
            "pageNum": int(page), "pageSize": int(size), "totalCount": len(found),
            "data": found[start : start + int(size)],
        }  # fmt: skip
        return json_answer(200, {**header(0, "SUCCESS"), "body": body})

    def _upload(self, call: Call, app: App) -> Answer:
        body = load_json(call.request.body)
        if not isinstance(body, dict):
            raise refused("sms", "-9997")
        name = body.get("fileName")
        if not isinstance(name, str) or not name:
            raise refused("sms", "-2002")
        if not name.lower().endswith((".jpg", ".jpeg")):
            raise refused("sms", "-2003")
        try:
            content = base64.b64decode(body.get("fileBody") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise refused("sms", "-2009") from None
        if not 0 < len(content) <= MAX_ATTACHMENT_BYTES:
            raise refused("sms", "-2005")
        if not content.startswith(b"\xff\xd8\xff"):
            raise refused("sms", "-2003")
        file_id = secrets.randbelow(10**9) + 1
        self._files.add(file_id)
        created = korean_time(self._gateway.now(), "%Y-%m-%d %H:%M:%S")
        data = {"fileId": file_id, "fileName": name, "filePath": f"/{file_id}", "createDate": created}
        return json_answer(200, {**header(0, "SUCCESS"), "body": {"data": data}})


def _key_of(recipient: dict[str, Any]) -> str:
    return str(recipient.get("recipientGroupingKey") or "")
