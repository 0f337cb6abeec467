"""Solapi's Kakao administration, providers.md section 5.3: channels, templates and their inspection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from apps.sandbox import korean_text
from apps.sandbox.exchange import Answer, Route
from apps.sandbox.gateway import Call, iso, json_answer, load_json, stamp
from apps.sandbox.solapi_errors import invalid, known_error, missing

if TYPE_CHECKING:
    from apps.sandbox.solapi import Account, Solapi

STATES = ("PENDING", "INSPECTING", "APPROVED", "REJECTED")
MAX_CONTENT = 1000
MAX_VARIABLES = 40
_FIELDS = {
    "name", "channelId", "channelGroupId", "content", "categoryCode", "buttons", "quickReplies", "messageType",
    "emphasizeType", "extra", "ad", "emphasizeTitle", "emphasizeSubtitle", "securityFlag", "imageId", "header",
    "highlight", "item",
}  # fmt: skip
Served = Callable[[Call, "Account"], Answer]


@dataclass(slots=True)
class Template:
    """A template. `fields` are those that only administration shows."""

    template_id: str
    channel_id: str
    name: str
    content: str
    status: str
    buttons: list[dict[str, Any]]
    created_at: float
    updated_at: float
    fields: dict[str, Any] = field(default_factory=dict)
    comments: list[dict[str, Any]] = field(default_factory=list)
    button_variables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        links = " ".join(str(value) for button in self.buttons for value in button.values())
        self.button_variables = korean_text.variables_of(links)


class SolapiTemplates:
    """The channels and templates of all accounts, their routes, and what the control endpoint sets of them."""

    def __init__(self, gateway: Solapi) -> None:
        self._gateway = gateway
        self._channels: dict[str, dict[str, Any]] = {}
        self._templates: dict[str, Template] = {}

    def clear(self, what: str) -> None:
        (self._templates if what == "templates" else self._channels).clear()

    def has_channel(self, channel_id: Any, account: str) -> bool:
        channel = self._channels.get(channel_id) if type(channel_id) is str else None
        return channel is not None and channel["accountId"] in ("", account) and not channel["blocked"]

    def approved(self, template_id: Any, channel_id: Any) -> Template | None:
        """The template of this channel, when Kakao has approved it."""
        template = self._templates.get(template_id) if type(template_id) is str else None
        if template is None or template.channel_id != channel_id or template.status != "APPROVED":
            return None
        return template

    def routes(self) -> Sequence[tuple[bytes, str, Served]]:
        one = "/kakao/v2/templates/([^/]+)"
        return [
            (b"GET", "/kakao/v2/channels/?", self._list_channels),
            (b"GET", "/kakao/v2/channels/([^/]+)", self._show_channel),
            (b"GET", "/kakao/v2/templates/?", self._list),
            (b"POST", "/kakao/v2/templates/?", self._create),
            (b"GET", one, self._show),
            (b"PUT", one, self._update),
            (b"DELETE", one, self._delete),
            (b"PUT", f"{one}/inspection", self._inspect),
            (b"PUT", f"{one}/inspection/cancel", self._cancel_inspection),
        ]

    def _list_channels(self, call: Call, account: Account) -> Answer:
        mine = [_shown_channel(row) for row in self._channels.values() if row["accountId"] in ("", account.account_id)]
        return json_answer(200, {"channelList": mine, "limit": 20, "startKey": None, "nextKey": None})

    def _show_channel(self, call: Call, account: Account) -> Answer:
        channel = self._channels.get(call.parts[0])
        if channel is None or channel["accountId"] not in ("", account.account_id):
            raise missing("대상을 찾을 수 없습니다.")
        return json_answer(200, _shown_channel(channel))

    def _list(self, call: Call, account: Account) -> Answer:
        known = {"channelId", "status", "name", "templateId", "limit", "startKey", "isHidden", "isMine", "dateType",
                 "startDate", "endDate"}  # fmt: skip
        unknown = call.query.keys() - known
        if unknown:
            raise invalid(f'"{min(unknown)}" is not allowed')
        status = call.first("status")
        if status and status not in STATES:
            raise invalid('"status" must be one of [PENDING, INSPECTING, APPROVED, REJECTED]')
        limit = int(call.first("limit", "20")) if call.first("limit", "20").isdigit() else 0
        if not 1 <= limit <= 500:
            raise invalid('"limit" must be between 1 and 500')
        found = [
            template
            for template in self._templates.values()
            if self._owned(template, account)
            and call.first("channelId", template.channel_id) == template.channel_id
            and (status or template.status) == template.status
            and call.first("templateId", template.template_id) == template.template_id
            and call.first("name") in template.name
        ]
        ids = [template.template_id for template in found]
        start = ids.index(call.first("startKey")) if call.first("startKey") in ids else 0
        page, rest = found[start : start + limit], found[start + limit :]
        content = {
            "templateList": [_shown(template) for template in page], "limit": limit,
            "startKey": call.first("startKey") or None, "nextKey": rest[0].template_id if rest else None,
        }  # fmt: skip
        return json_answer(200, content)

    def _show(self, call: Call, account: Account) -> Answer:
        return json_answer(200, _shown(self._of(call, account)))

    def _create(self, call: Call, account: Account) -> Answer:
        body = _checked_body(call)
        if not self.has_channel(body.get("channelId"), account.account_id):
            raise invalid('"channelId" is not valid')
        now = self._gateway.now()
        template = Template(
            f"KA01TP{stamp(now)}{self._gateway.next_id()}", body["channelId"], body["name"], body["content"],
            "PENDING", body.get("buttons") or [], now, now, _other(body),
        )  # fmt: skip
        self._templates[template.template_id] = template
        return json_answer(200, _shown(template))

    def _update(self, call: Call, account: Account) -> Answer:
        template = self._in_state(self._of(call, account), "PENDING", "REJECTED")
        body = _checked_body(call)
        changed = Template(
            template.template_id, template.channel_id, body["name"], body["content"], "PENDING",
            body.get("buttons") or [], template.created_at, self._gateway.now(), _other(body), template.comments,
        )  # fmt: skip
        self._templates[template.template_id] = changed
        return json_answer(200, _shown(changed))

    def _delete(self, call: Call, account: Account) -> Answer:
        template = self._in_state(self._of(call, account), "PENDING", "REJECTED")
        del self._templates[template.template_id]
        return json_answer(200, _shown(template))

    def _inspect(self, call: Call, account: Account) -> Answer:
        return self._moved(self._in_state(self._of(call, account), "PENDING", "REJECTED"), "INSPECTING")

    def _cancel_inspection(self, call: Call, account: Account) -> Answer:
        return self._moved(self._in_state(self._of(call, account), "INSPECTING"), "PENDING")

    def _moved(self, template: Template, status: str) -> Answer:
        template.status, template.updated_at = status, self._gateway.now()
        return json_answer(200, _shown(template))

    def _owned(self, template: Template, account: Account) -> bool:
        channel = self._channels.get(template.channel_id)
        return channel is not None and channel["accountId"] in ("", account.account_id)

    def _of(self, call: Call, account: Account) -> Template:
        template = self._templates.get(call.parts[0])
        if template is None or not self._owned(template, account):
            raise missing("대상을 찾을 수 없습니다.")
        return template

    def _in_state(self, template: Template, *states: str) -> Template:
        if template.status not in states:
            raise known_error("InvalidStatusCode")
        return template

    # control

    def control_routes(self) -> dict[tuple[str, str], Route]:
        return {
            ("POST", "/profiles"): self._register_channels,
            ("GET", "/templates"): lambda query, body: {"templates": [_shown(row) for row in self._templates.values()]},
            ("POST", "/templates"): self._register_templates,
        }

    def _register_channels(self, query: dict[str, str], body: Any) -> Any:
        """`{"profiles": [{"id", "search_id", "account", "blocked"}]}`"""
        now = iso(self._gateway.now())
        for item in body["profiles"]:
            self._channels[str(item["id"])] = {
                "channelId": str(item["id"]), "searchId": item.get("search_id", "@example"),
                "accountId": str(item.get("account", "")), "phoneNumber": "01000000000", "sharedAccountIds": [],
                "dateCreated": now, "dateUpdated": now, "blocked": bool(item.get("blocked")),
            }  # fmt: skip
        return {"profiles": len(self._channels)}

    def _register_templates(self, query: dict[str, str], body: Any) -> Any:
        """`{"templates": [{"id", "profile", "name", "content", "status", "buttons", "comment"}]}`: new ones, or what
        Kakao has decided about one."""
        for item in body["templates"]:
            unknown = set(item) - {"id", "profile", "name", "content", "status", "buttons", "comment"}
            if unknown:
                raise ValueError(f"unknown field: {sorted(unknown)[0]}")
            if item.get("status", "APPROVED") not in STATES:
                raise ValueError(f"status: one of {', '.join(STATES)}")
            now = self._gateway.now()
            old = self._templates.get(str(item["id"]))
            template = Template(
                str(item["id"]), str(item.get("profile") or (old.channel_id if old else "")),
                item.get("name") or (old.name if old else str(item["id"])),
                item.get("content") or (old.content if old else ""), item.get("status", "APPROVED"),
                item.get("buttons", old.buttons if old else []), old.created_at if old else now, now,
                old.fields if old else {}, list(old.comments) if old else [],
            )  # fmt: skip
            if not template.content or not template.channel_id:
                raise ValueError("a new template needs profile and content")
            if item.get("comment"):
                template.comments.append(
                    {"isAdmin": True, "memberId": "kakao", "content": item["comment"], "dateCreated": iso(now)}
                )
            self._templates[template.template_id] = template
        return {"templates": len(self._templates)}


def _shown(template: Template) -> dict[str, Any]:
    return {
        "name": template.name, "channelId": template.channel_id, "channelGroupId": None, "content": template.content,
        "isHidden": False, "messageType": "BA", "emphasizeType": "NONE", "extra": None, "ad": None,
        "emphasizeTitle": None, "emphasizeSubtitle": None, "securityFlag": False, "imageId": None,
        "assignType": "CHANNEL", "buttons": template.buttons, "quickReplies": [], "comments": template.comments,
        "commentable": True, **template.fields, "templateId": template.template_id, "status": template.status,
        "variables": [{"name": f"#{{{name}}}"} for name in korean_text.variables_of(template.content)],
        "dateCreated": iso(template.created_at), "dateUpdated": iso(template.updated_at),
    }  # fmt: skip


def _shown_channel(channel: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in channel.items() if name != "blocked"}


def _other(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in ("name", "channelId", "content", "buttons")}


def _checked_body(call: Call) -> dict[str, Any]:
    body = load_json(call.request.body)
    if not isinstance(body, dict):
        raise invalid("요청 본문은 JSON 객체여야 합니다.")
    if body.keys() - _FIELDS:
        raise invalid(f'"{min(body.keys() - _FIELDS)}" is not allowed')
    for name in ("name", "content"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise invalid(f'"{name}" is required')
    if len(body["content"]) > MAX_CONTENT:
        raise invalid(f'"content" length must be less than or equal to {MAX_CONTENT} characters long')
    if len(korean_text.variables_of(body["content"])) > MAX_VARIABLES:
        raise invalid(f"at most {MAX_VARIABLES} variables")
    buttons = body.get("buttons") or []
    if not isinstance(buttons, list) or len(buttons) > 5:
        raise invalid('"buttons" must contain less than or equal to 5 items')
    return body
