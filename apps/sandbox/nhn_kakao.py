"""NHN Cloud KakaoTalk Bizmessage v2.3 (providers.md sections 5.2 and 5.3): Alimtalk, its templates, its queries."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from apps.sandbox import gateway_codes as codes
from apps.sandbox import korean_text
from apps.sandbox.exchange import Answer, Route
from apps.sandbox.gateway import Batch, Call, Plan, Sent, json_answer, korean_time, load_json, stamp
from apps.sandbox.gateway_behaviours import DELIVERED
from apps.sandbox.nhn_errors import KAKAO_DATE_CODES, date_bounds, header, refused

if TYPE_CHECKING:
    from apps.sandbox.nhn import App, Nhn

MAX_RECIPIENTS = 1000
MAX_CONTENT = 1300
MAX_VARIABLES = 40
IDEMPOTENCY_S = 600
NEW_SENDER_DAILY = 1000
STATES = {"TSC01": "요청", "TSC02": "검수 중", "TSC03": "승인", "TSC04": "반려"}
TEMPLATE_EVENT = "TEMPLATE_STATUS_UPDATE"
_BASE = r"/alimtalk/v2\.3/appkeys/([^/]+)"
_FIELDS = {
    "senderKey", "templateCode", "requestDate", "senderGroupingKey", "createUser", "recipientList", "messageOption",
    "statsId",
}  # fmt: skip
_RECIPIENT_FIELDS = {
    "recipientNo", "templateParameter", "resendParameter", "buttons", "quickReplies", "recipientGroupingKey",
}  # fmt: skip
_RAW_RECIPIENT_FIELDS = (_RECIPIENT_FIELDS - {"templateParameter"}) | {
    "content", "templateTitle", "templateHeader", "templateItem", "templateItemHighlight", "templateRepresentLink",
}  # fmt: skip
_RESEND_FIELDS = {"isResend", "resendType", "resendTitle", "resendContent", "resendSendNo", "resendUnsubscribeNo"}
_BUTTON_FIELDS = {
    "ordering", "chatExtra", "chatEvent", "relayId", "oneClickId", "productId", "target", "telNumber",
}  # fmt: skip
_RAW_BUTTON_FIELDS = _BUTTON_FIELDS | {
    "type", "name", "linkMo", "linkPc", "schemeIos", "schemeAndroid", "bizFormId", "pluginId",
}  # fmt: skip
_NUMBER = re.compile(r"[0-9]{8,15}")
_AUTH_WORDS = ("인증", "비밀번호", "auth", "verif", "password")
_TEMPLATE_FIELDS = {
    "templateCode", "templateName", "templateContent", "templateMessageType", "templateEmphasizeType", "templateExtra",
    "templateTitle", "templateSubtitle", "templateHeader", "templateItem", "templateItemHighlight",
    "templateRepresentLink", "templateImageName", "templateImageUrl", "securityFlag", "categoryCode", "buttons",
    "quickReplies", "templateAd",
}  # fmt: skip
_RESEND_NAMES = {"RSC01": "대체 발송 미대상", "RSC02": "대체 발송 대상"}


@dataclass(slots=True)
class Profile:
    """A sender profile (발신 프로필)."""

    sender_key: str
    plus_friend_id: str
    state: str  # active, blocked, new
    account: str
    can_resend: bool
    sent_today: int = 0


@dataclass(slots=True)
class Template:
    sender_key: str
    code: str
    name: str
    content: str
    status: str
    buttons: list[dict[str, Any]]
    created_at: float
    updated_at: float
    comments: list[dict[str, Any]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)


class NhnKakao:
    """The routes and rules of Alimtalk."""

    def __init__(self, gateway: Nhn) -> None:
        self._gateway = gateway
        self._profiles: dict[str, Profile] = {}
        self._templates: dict[tuple[str, str], Template] = {}
        self._idempotency: dict[tuple[str, str], float] = {}

    def routes(self) -> Sequence[tuple[bytes, str, Callable[[Call, App], Answer]]]:
        templates = rf"{_BASE}/senders/([^/]+)/templates"
        return [
            (b"POST", rf"{_BASE}/((?:auth/)?(?:raw-)?messages)", self._send),
            (b"GET", rf"{_BASE}/(?:auth/)?(?:messages|message-results)", self._list),
            (b"GET", rf"{_BASE}/(?:auth/)?messages/([^/]+)/(\d+)", self._show),
            (b"GET", rf"{_BASE}/senders", self._list_profiles),
            (b"GET", rf"{_BASE}/senders/([^/]+)", self._show_profile),
            (b"GET", templates, self._list_templates),
            (b"POST", templates, self._create_template),
            (b"GET", rf"{templates}/([^/]+)", self._show_template),
            (b"PUT", rf"{templates}/([^/]+)", self._update_template),
            (b"DELETE", rf"{templates}/([^/]+)", self._delete_template),
            (b"POST", rf"{templates}/([^/]+)/comments", self._comment),
        ]

    def forget(self, what: str) -> bool:
        if what == "profiles":
            self._profiles.clear()
        elif what == "templates":
            self._templates.clear()
        elif what == "idempotency":
            self._idempotency.clear()
        else:
            return False
        return True

    # sending

    def _send(self, call: Call, app: App) -> Answer:
        gateway, kind = self._gateway, call.parts[1]
        is_raw = "raw-" in kind
        self._check_idempotency(call, app)
        body = gateway.body(call, "kakao", _FIELDS)
        profile = self._check_profile(body, app)
        template = self._check_template(body)
        recipients = body.get("recipientList")
        if recipients is None:
            raise refused("kakao", "-2002", "The 'recipientList' must not be null.")
        if not isinstance(recipients, list) or not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise refused("kakao", "-2004", f"The 'recipientList' must be between 1 and {MAX_RECIPIENTS}.")
        for name, most in (("senderGroupingKey", 100), ("statsId", 8), ("createUser", 100)):
            value = body.get(name)
            if value is not None and (not isinstance(value, str) or len(value) > most):
                raise refused("kakao", "-2000", f"The '{name}' must be at less than or equal to {most}.")
        due_at = gateway.due_at(body.get("requestDate"), "kakao")
        if profile.state == "new":
            profile.sent_today += len(recipients)
            if profile.sent_today > NEW_SENDER_DAILY:
                raise refused("kakao", "-1017")
        checked = [self._check_recipient(recipient, template, profile, is_raw=is_raw) for recipient in recipients]
        if kind.startswith("auth") and not any(word in text.lower() for _, _, text in checked for word in _AUTH_WORDS):
            raise refused("kakao", "-8006")
        good = [index for index, (_, code, _) in enumerate(checked) if not code]
        chosen, whole = gateway.decide(Plan(checked[index][0], "kakao") for index in good)
        if whole is not None and not whole.accepted:
            return gateway.refuse_whole(
                call, whole,
                [(to, str(recipient.get("recipientGroupingKey") or ""), orjson.dumps(recipient))
                 for (to, _, _), recipient in zip(checked, recipients, strict=True)],
            )  # fmt: skip
        for position, behaviour in chosen.items():
            to, _, text = checked[good[position]]
            checked[good[position]] = (to, behaviour.reason, text)
        behaviours = {good[position]: behaviour for position, behaviour in chosen.items()}
        self._keep_idempotency(call, app)
        batch = Batch(
            f"{stamp(gateway.now())}{gateway.next_id()}", app.app_key, gateway.now(), [], due_at,
            fields={"service": "kakao", "kind": kind, "body": body, "plus_friend_id": profile.plus_friend_id},
        )  # fmt: skip
        record, connection, stream = gateway.journal.record, call.connection.number, call.request.stream_id
        status = 200 if whole is None or whole.status < 400 else 0
        results: list[dict[str, Any]] = []
        for index, (recipient, (to, code, text)) in enumerate(zip(recipients, checked, strict=True)):
            grouping_key = str(recipient.get("recipientGroupingKey") or "")
            provider_id = f"{batch.batch_id}:{index + 1}"
            results.append(
                {
                    "recipientSeq": index + 1, "recipientNo": to, "resultCode": int(code) if code else 0,
                    "resultMessage": codes.NHN_KAKAO_REPLIES.get(code, "") if code else "SUCCESS",
                    "recipientGroupingKey": grouping_key or None,
                }
            )  # fmt: skip
            content = orjson.dumps({**recipient, "text": text, "templateCode": template.code})
            record("refused" if code else "accepted", to, grouping_key, provider_id, {}, content, status, code,
                   connection, stream)  # fmt: skip
            if not code:
                resend = (recipient.get("resendParameter") or {}).get("isResend") is True
                batch.messages.append(
                    Sent(provider_id, to, profile.sender_key, "ATA", text, grouping_key,
                         behaviours.get(index, DELIVERED), index + 1, {"resend": resend}, "")
                )  # fmt: skip
        gateway.take(batch)
        message = {
            "requestId": batch.batch_id, "senderGroupingKey": body.get("senderGroupingKey"), "sendResults": results,
        }  # fmt: skip
        told = header(0, "SUCCESS") if batch.messages else header(-1031, codes.NHN_KAKAO_REPLIES["-1031"])
        return gateway.answer_whole(call, whole, json_answer(200, {**told, "message": message}))

    def _check_idempotency(self, call: Call, app: App) -> None:
        key = call.header(b"x-nc-api-idempotency-key")
        if key and self._gateway.now() - self._idempotency.get((app.app_key, key), -1e9) < IDEMPOTENCY_S:
            raise refused("kakao", "-1005")

    def _keep_idempotency(self, call: Call, app: App) -> None:
        key = call.header(b"x-nc-api-idempotency-key")
        if key:
            now = self._gateway.now()
            if len(self._idempotency) > 100_000:
                self._idempotency = {one: at for one, at in self._idempotency.items() if now - at < IDEMPOTENCY_S}
            self._idempotency[app.app_key, key] = now

    def _check_profile(self, body: dict[str, Any], app: App) -> Profile:
        key = body.get("senderKey")
        if not isinstance(key, str) or not key:
            raise refused("kakao", "-2001", "The 'senderKey' must not be blank.")
        if len(key) > 40:
            raise refused("kakao", "-2000", "The 'senderKey' must be at less than or equal to 40.")
        profile = self._profiles.get(key)
        if profile is None or profile.account not in ("", app.app_key):
            raise refused("kakao", "-2017")
        if profile.state == "blocked":
            raise refused("kakao", "-1027")
        return profile

    def _check_template(self, body: dict[str, Any]) -> Template:
        code = body.get("templateCode")
        if not isinstance(code, str) or not code:
            raise refused("kakao", "-2001", "The 'templateCode' must not be blank.")
        if len(code) > 20:
            raise refused("kakao", "-2000", "The 'templateCode' must be at less than or equal to 20.")
        template = self._templates.get((body["senderKey"], code))
        if template is None:
            raise refused("kakao", "-3003")
        if template.status != "TSC03":
            raise refused("kakao", "-3005")
        return template

    def _check_recipient(self, recipient: Any, template: Template, profile: Profile, *,
                         is_raw: bool) -> tuple[str, str, str]:  # fmt: skip
        """The number, the code of what is wrong (empty: nothing), the text."""
        allowed = _RAW_RECIPIENT_FIELDS if is_raw else _RECIPIENT_FIELDS
        if type(recipient) is not dict or not recipient.keys() <= allowed:
            raise refused("kakao", "4", "recipientList: unknown field")
        number = recipient.get("recipientNo")
        if type(number) is not str or not number:
            raise refused("kakao", "-2001", "The 'recipientNo' must not be blank.")
        if len(number) > 15:
            raise refused("kakao", "-2000", "The 'recipientNo' must be at less than or equal to 15.")
        grouping_key = recipient.get("recipientGroupingKey")
        if grouping_key is not None and (type(grouping_key) is not str or len(grouping_key) > 100):
            raise refused("kakao", "-2000", "The 'recipientGroupingKey' must be at less than or equal to 100.")
        self._check_resend(recipient.get("resendParameter"), profile)
        if _NUMBER.fullmatch(number) is None:
            return number, "-4019", ""
        code, text = self._check_raw(recipient, template) if is_raw else _substituted(recipient, template, profile)
        if not code and recipient.get("buttons") is not None:
            code = _check_buttons(recipient["buttons"], template, is_raw=is_raw)
        if not code and is_raw and not recipient.get("buttons") and template.buttons:
            code = "-3011"
        return number, code, text

    def _check_raw(self, recipient: dict[str, Any], template: Template) -> tuple[str, str]:
        text = recipient.get("content")
        if type(text) is not str or not text:
            raise refused("kakao", "-2001", "The 'content' must not be blank.")
        if len(text) > MAX_CONTENT:
            raise refused("kakao", "-2000", f"The 'content' must be at less than or equal to {MAX_CONTENT}.")
        return ("" if korean_text.matches(template.content, text) else "-3010"), text

    def _check_resend(self, resend: Any, profile: Profile) -> None:
        if resend is None:
            return
        if type(resend) is not dict or not resend.keys() <= _RESEND_FIELDS:
            raise refused("kakao", "-4200")
        if resend.get("isResend") is not True:
            return
        self._gateway.find("isResend: NHN would send a text message by itself when Alimtalk fails")
        if not profile.can_resend:
            raise refused("kakao", "-2502")
        if resend.get("resendType") not in (None, "SMS", "LMS"):
            raise refused("kakao", "-4200")
        if self._gateway.sender(str(resend.get("resendSendNo") or ""), profile.account) is None:
            raise refused("kakao", "-1003")

    # reports

    def finish(self, message: Sent) -> None:
        message.code = message.behaviour.report or "1000"
        message.state = "COMPLETED" if message.code == "1000" else "FAILED"

    def reported(self, messages: list[Sent], batch: Batch) -> Iterable[tuple[str, list[dict[str, Any]]]]:
        body = batch.fields["body"]
        kind = "ALIMTALK_AUTH" if batch.fields["kind"].startswith("auth") else "ALIMTALK_NORMAL"
        created = korean_time(batch.created_at, "%Y-%m-%d %H:%M:%S")
        yield "MESSAGE_RESULT_UPDATE", [
            {
                "kakaoMessageType": kind, "requestId": batch.batch_id, "recipientSeq": message.number,
                "requestDate": created, "createDate": created,
                "receiveDate": korean_time(message.done_at, "%Y-%m-%d %H:%M:%S"), "recipientNo": message.to,
                "resultCode": message.code, "senderGroupingKey": body.get("senderGroupingKey"),
                "recipientGroupingKey": message.message_id or None,
                "_links": {"self": {"href": f"/alimtalk/v2.3/appkeys/{batch.account}/messages/{batch.batch_id}/"
                                            f"{message.number}"}},
                "hookId": f"H{message.provider_id}",
            }
            for message in messages
        ]  # fmt: skip

    # queries

    def _shown(self, message: Sent, batch: Batch) -> dict[str, Any]:
        body = batch.fields["body"]
        created = korean_time(batch.created_at, "%Y-%m-%d %H:%M:%S.0")
        resend = "RSC02" if message.fields["resend"] and message.state == "FAILED" else "RSC01"
        return {
            "requestId": batch.batch_id, "recipientSeq": message.number,
            "plusFriendId": batch.fields["plus_friend_id"], "senderKey": message.sender,
            "templateCode": body["templateCode"], "recipientNo": message.to, "content": message.text,
            "requestDate": created, "createDate": created,
            "receiveDate": korean_time(message.done_at, "%Y-%m-%d %H:%M:%S.0") if message.done_at else None,
            "resendStatus": resend, "resendStatusName": _RESEND_NAMES[resend],
            "messageStatus": message.state or "COMPLETED", "resultCode": message.code or None,
            "resultCodeName": codes.NHN_KAKAO_REPORTS.get(message.code) if message.code else None,
            "createUser": body.get("createUser"), "senderGroupingKey": body.get("senderGroupingKey"),
            "recipientGroupingKey": message.message_id or None,
        }  # fmt: skip

    def _list(self, call: Call, app: App) -> Answer:
        request_id = call.first("requestId")
        bounds = date_bounds(call, request_id, ("Request", "Create", "Update"), "kakao", KAKAO_DATE_CODES)
        page, size = _page_of(call)
        wanted = {name: call.first(name) for name in ("recipientNo", "senderKey", "templateCode", "messageStatus",
                                                      "recipientGroupingKey") if name in call.query}  # fmt: skip
        batches = self._gateway.batches
        chosen = [batches[request_id]] if request_id in batches else [] if request_id else list(batches.values())
        found = [
            shown
            for batch in chosen
            if batch.account == app.app_key and batch.fields["service"] == "kakao"
            and bounds[0] <= batch.created_at <= bounds[1]
            for shown in (self._shown(message, batch) for message in batch.messages)
            if all(shown[name] == value for name, value in wanted.items())
        ]  # fmt: skip
        start = (page - 1) * size
        answer = {"messages": found[start : start + size], "totalCount": len(found)}
        return json_answer(200, {**header(0, "SUCCESS"), "messageSearchResultResponse": answer})

    def _show(self, call: Call, app: App) -> Answer:
        batch = self._gateway.batches.get(call.parts[1])
        message = self._gateway.by_id.get(f"{call.parts[1]}:{call.parts[2]}")
        if batch is None or message is None or batch.account != app.app_key:
            return json_answer(200, {**header(0, "SUCCESS"), "message": None})
        return json_answer(200, {**header(0, "SUCCESS"), "message": self._shown(message, batch)})

    # profiles and templates

    def _list_profiles(self, call: Call, app: App) -> Answer:
        mine = [_shown_profile(one) for one in self._profiles.values() if one.account in ("", app.app_key)]
        return json_answer(200, {**header(0, "SUCCESS"), "senders": mine, "totalCount": len(mine)})

    def _show_profile(self, call: Call, app: App) -> Answer:
        return json_answer(200, {**header(0, "SUCCESS"), "sender": _shown_profile(self._profile_of(call, app))})

    def _profile_of(self, call: Call, app: App) -> Profile:
        profile = self._profiles.get(call.parts[1])
        if profile is None or profile.account not in ("", app.app_key):
            raise refused("kakao", "-2017")
        return profile

    def _template_of(self, call: Call, app: App) -> Template:
        template = self._templates.get((self._profile_of(call, app).sender_key, call.parts[2]))
        if template is None:
            raise refused("kakao", "-3003")
        return template

    def _list_templates(self, call: Call, app: App) -> Answer:
        profile = self._profile_of(call, app)
        page, size = _page_of(call)
        status = call.first("templateStatus")
        if status and status not in STATES:
            raise refused("kakao", "4", "templateStatus")
        found = [
            self._shown_template(template)
            for template in self._templates.values()
            if template.sender_key == profile.sender_key
            and (status or template.status) == template.status
            and call.first("templateCode", template.code) == template.code
            and call.first("templateName") in template.name
        ]
        answer = {"templates": found[(page - 1) * size : page * size], "totalCount": len(found)}
        return json_answer(200, {**header(0, "SUCCESS"), "templateListResponse": answer})

    def _show_template(self, call: Call, app: App) -> Answer:
        template = self._shown_template(self._template_of(call, app))
        return json_answer(200, {**header(0, "SUCCESS"), "template": template})

    def _create_template(self, call: Call, app: App) -> Answer:
        profile = self._profile_of(call, app)
        body = self._template_body(call)
        code = body.get("templateCode")
        if not isinstance(code, str) or not code or len(code) > 20:
            raise refused("kakao", "-2004", "The 'templateCode' must be between 1 and 20.")
        if (profile.sender_key, code) in self._templates:
            raise refused("kakao", "4", "The templateCode is used already.")
        now = self._gateway.now()
        self._templates[profile.sender_key, code] = Template(
            profile.sender_key, code, body["templateName"], body["templateContent"], "TSC01",
            body.get("buttons") or [], now, now, fields=_other(body),
        )  # fmt: skip
        return json_answer(200, header(0, "SUCCESS"))

    def _update_template(self, call: Call, app: App) -> Answer:
        template = self._template_of(call, app)
        if template.status not in ("TSC03", "TSC04"):
            raise refused("kakao", "-3005")
        body = self._template_body(call)
        template.name, template.content = body["templateName"], body["templateContent"]
        template.buttons, template.fields = body.get("buttons") or [], _other(body)
        template.status, template.updated_at = "TSC01", self._gateway.now()
        return json_answer(200, header(0, "SUCCESS"))

    def _delete_template(self, call: Call, app: App) -> Answer:
        template = self._template_of(call, app)
        if template.status == "TSC02":
            raise refused("kakao", "-3005")
        del self._templates[template.sender_key, template.code]
        return json_answer(200, header(0, "SUCCESS"))

    def _comment(self, call: Call, app: App) -> Answer:
        """A question about a template; one that was rejected goes to review again."""
        template = self._template_of(call, app)
        body = load_json(call.request.body)
        if not isinstance(body, dict) or not isinstance(body.get("comment"), str) or not body["comment"]:
            raise refused("kakao", "-2001", "The 'comment' must not be blank.")
        if template.status == "TSC04":
            template.status = "TSC02"
        template.comments.append(self._commented(template, body["comment"], "user", "INQ"))
        return json_answer(200, header(0, "SUCCESS"))

    def _template_body(self, call: Call) -> dict[str, Any]:
        body = self._gateway.body(call, "kakao", _TEMPLATE_FIELDS)
        for name, most in (("templateName", 150), ("templateContent", MAX_CONTENT)):
            value = body.get(name)
            if not isinstance(value, str) or not value:
                raise refused("kakao", "-2001", f"The '{name}' must not be blank.")
            if len(value) > most:
                raise refused("kakao", "-2000", f"The '{name}' must be at less than or equal to {most}.")
        if len(korean_text.variables_of(body["templateContent"])) > MAX_VARIABLES:
            raise refused("kakao", "-3004")
        buttons = body.get("buttons") or []
        if not isinstance(buttons, list) or len(buttons) > 5:
            raise refused("kakao", "-2018")
        for button in buttons:
            if not isinstance(button, dict) or not isinstance(button.get("name"), str) or not button["name"]:
                raise refused("kakao", "-3009")
            if len(button["name"]) > 14 or not button.keys() <= _RAW_BUTTON_FIELDS:
                raise refused("kakao", "-2018")
        return body

    def _commented(self, template: Template, text: str, author: str, status: str) -> dict[str, Any]:
        return {
            "id": len(template.comments) + 1, "content": text, "userName": author,
            "createdAt": korean_time(self._gateway.now(), "%Y-%m-%d %H:%M:%S"), "attachment": [], "status": status,
        }  # fmt: skip

    def _shown_template(self, template: Template) -> dict[str, Any]:
        profile = self._profiles.get(template.sender_key)
        return {
            "plusFriendId": profile.plus_friend_id if profile else "", "senderKey": template.sender_key,
            "plusFriendType": "NORMAL", "templateCode": template.code, "kakaoTemplateCode": template.code,
            "templateName": template.name, "templateMessageType": "BA", "templateEmphasizeType": "NONE",
            "templateContent": template.content, "templateExtra": None, "templateAd": None, "templateTitle": None,
            "templateSubtitle": None, "templateHeader": None, "templateItem": None, "templateItemHighlight": None,
            "templateRepresentLink": None, "templateImageName": None, "templateImageUrl": None,
            "buttons": template.buttons, "quickReplies": [], **template.fields, "comments": template.comments,
            "status": template.status, "statusName": STATES[template.status], "securityFlag": False,
            "categoryCode": "999999", "createDate": korean_time(template.created_at, "%Y-%m-%d %H:%M:%S"),
            "updateDate": korean_time(template.updated_at, "%Y-%m-%d %H:%M:%S"),
        }  # fmt: skip

    # control

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("POST", "/profiles"): self._register_profiles,
            ("GET", "/templates"): lambda query, body: {
                "templates": [self._shown_template(one) for one in self._templates.values()]
            },
            ("POST", "/templates"): self._register_templates,
        }

    def _register_profiles(self, query: dict[str, str], body: Any) -> Any:
        """`{"profiles": [{"id": sender key, "search_id", "account", "blocked", "is_new", "can_resend"}]}`"""
        for item in body["profiles"]:
            state = "blocked" if item.get("blocked") else "new" if item.get("is_new") else "active"
            self._profiles[str(item["id"])] = Profile(
                str(item["id"]), item.get("search_id", "@example"), state, str(item.get("account", "")),
                bool(item.get("can_resend")),
            )  # fmt: skip
        return {"profiles": len(self._profiles)}

    def _register_templates(self, query: dict[str, str], body: Any) -> Any:
        """`{"templates": [{"id", "profile", "name", "content", "status", "buttons", "comment"}]}`: new ones, or what
        Kakao has decided about one, which goes out as a webhook too."""
        for item in body["templates"]:
            unknown = set(item) - {"id", "profile", "name", "content", "status", "buttons", "comment"}
            if unknown:
                raise ValueError(f"unknown field: {sorted(unknown)[0]}")
            self._register_template(item)
        return {"templates": len(self._templates)}

    def _register_template(self, item: dict[str, Any]) -> None:
        status = item.get("status", "TSC03")
        if status not in STATES:
            raise ValueError(f"status: one of {', '.join(STATES)}")
        if item.get("profile") not in self._profiles:
            raise ValueError("profile: register it first")
        now = self._gateway.now()
        key = (str(item["profile"]), str(item["id"]))
        old = self._templates.get(key)
        if old is None:
            old = self._templates[key] = Template(
                *key, item.get("name") or key[1], item["content"], status, [], now, now
            )
        old.name, old.content = item.get("name", old.name), item.get("content", old.content)
        old.buttons = item.get("buttons", old.buttons)
        old.status, old.updated_at = status, now
        if item.get("comment"):
            kind = {"TSC03": "APR", "TSC04": "REJ", "TSC02": "REQ"}.get(status, "REP")
            old.comments.append(self._commented(old, item["comment"], "kakao", kind))
        account = self._profiles[key[0]].account
        hook = self._gateway.hook(account, "kakao")
        if hook is not None:
            event = {
                "senderKey": old.sender_key, "templateCode": old.code, "kakaoTemplateCode": old.code, "status": status,
                "comments": old.comments, "updateDate": korean_time(now, "%Y-%m-%d %H:%M:%S"),
                "hookId": f"T{stamp(now)}{self._gateway.next_id()}",
            }  # fmt: skip
            self._gateway.webhooks.send([[self._gateway.post(hook, "kakao", account, TEMPLATE_EVENT, [event])]])


def _substituted(recipient: dict[str, Any], template: Template, profile: Profile) -> tuple[str, str]:
    parameters = recipient.get("templateParameter") or {}
    if type(parameters) is not dict or any(type(value) is not str for value in parameters.values()):
        raise refused("kakao", "-3004")
    text = korean_text.fill(template.content, parameters)
    if "#{" in text and set(korean_text.variables_of(template.content)) - parameters.keys():
        return "-3004", text
    if profile.state == "new" and any(len(value) > 14 for value in parameters.values()):
        return "-1028", text
    return ("-2000" if len(text) > MAX_CONTENT else ""), text


def _check_buttons(buttons: Any, template: Template, *, is_raw: bool) -> str:
    """The code of what is wrong with them."""
    allowed = _RAW_BUTTON_FIELDS if is_raw else _BUTTON_FIELDS
    if type(buttons) is not list or any(type(one) is not dict or not one.keys() <= allowed for one in buttons):
        return "-2018"
    if not is_raw:
        return "" if all(type(one.get("ordering")) is int for one in buttons) else "-2018"
    if len(buttons) != len(template.buttons):
        return "-3011"
    for button, own in zip(buttons, template.buttons, strict=True):
        if any(button.get(name) != own.get(name) for name in ("ordering", "type", "name")):
            return "-3011"
        for name in ("linkMo", "linkPc", "schemeIos", "schemeAndroid"):
            if not korean_text.matches(own.get(name) or "", button.get(name) or ""):
                return "-3011"
    return ""


def _shown_profile(profile: Profile) -> dict[str, Any]:
    return {
        "plusFriendId": profile.plus_friend_id, "senderKey": profile.sender_key, "categoryCode": "999999",
        "status": "YSC02" if profile.state == "blocked" else "YSC03", "statusName": profile.state,
        "kakaoStatus": "S" if profile.state == "blocked" else "A", "alimtalk": {"resendAppKey": None,
        "isResend": profile.can_resend, "dailyMaxCount": NEW_SENDER_DAILY if profile.state == "new" else 0,
        "sentCount": profile.sent_today},
    }  # fmt: skip


def _other(body: dict[str, Any]) -> dict[str, Any]:
    own = ("templateCode", "templateName", "templateContent", "buttons")
    return {name: value for name, value in body.items() if name not in own}


def _page_of(call: Call) -> tuple[int, int]:
    page, size = call.first("pageNum", "1"), call.first("pageSize", "15")
    if not page.isdigit() or not size.isdigit() or int(page) < 1 or not 1 <= int(size) <= 1000:
        raise refused("kakao", "-2005")
    return int(page), int(size)
