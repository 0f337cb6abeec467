"""The administration of Kakao channels and templates at Solapi and NHN Cloud, in our words (providers.md 5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

from apps.messaging.adapters.gateway_calls import CallRefused, nhn_call, solapi_call
from apps.messaging.adapters.registry import endpoint_for
from apps.messaging.kakao.models import ChannelState, Emphasis, TemplateState

PAGE = 100
PAGES_MAX = 100


@dataclass(frozen=True, slots=True)
class RemoteChannel:
    sender_key: str
    search_id: str
    state: str = ChannelState.ACTIVE


@dataclass(frozen=True, slots=True)
class RemoteTemplate:
    """A template as the provider has it."""

    code: str
    name: str
    content: str
    state: str
    provider_state: str
    message_type: str = "basic"
    emphasis: str = Emphasis.NONE
    title: str = ""
    subtitle: str = ""
    header: str = ""
    extra: str = ""
    items: Mapping[str, Any] = field(default_factory=dict)
    buttons: Sequence[Mapping[str, str]] = ()
    quick_replies: Sequence[Mapping[str, str]] = ()
    comments: Sequence[Mapping[str, str]] = ()
    is_dormant: bool = False


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A template to be registered."""

    code: str
    """Chosen by us at NHN Cloud; Solapi gives its own."""
    name: str
    content: str
    category: str = ""
    title: str = ""
    subtitle: str = ""
    extra: str = ""
    buttons: Sequence[Mapping[str, str]] = ()


class Remote(Protocol):
    """One provider's administration. Each call may raise `CallFailed`."""

    def channels(self, secret: Mapping[str, Any]) -> list[RemoteChannel]: ...

    def templates(self, secret: Mapping[str, Any], sender_key: str) -> list[RemoteTemplate]: ...

    def template(self, secret: Mapping[str, Any], sender_key: str, code: str) -> RemoteTemplate: ...

    def register(self, secret: Mapping[str, Any], sender_key: str, new: NewTemplate) -> str:
        """The code that it has from now on."""

    def request_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str, comment: str) -> None: ...

    def cancel_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None: ...

    def delete(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None: ...


_KINDS = {"BA": "basic", "EX": "extra", "AD": "ad", "MI": "mixed"}
_EMPHASES = {"NONE": Emphasis.NONE, "TEXT": Emphasis.TEXT, "IMAGE": Emphasis.IMAGE, "ITEM_LIST": Emphasis.ITEM_LIST}


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _items_of(item: object, highlight: object) -> dict[str, Any]:
    found = {"list": item, "highlight": highlight}
    return {name: value for name, value in found.items() if isinstance(value, dict)}


def _emphasis_of(title: str) -> str:
    return "TEXT" if title else "NONE"


# --- Solapi --------------------------------------------------------------------------------------------------------

_SOLAPI_STATES = {
    "PENDING": TemplateState.DRAFT,
    "INSPECTING": TemplateState.REVIEWING,
    "APPROVED": TemplateState.APPROVED,
    "REJECTED": TemplateState.REJECTED,
}
_SOLAPI_BUTTONS = {
    "type": "buttonType",
    "name": "buttonName",
    "link_mobile": "linkMo",
    "link_pc": "linkPc",
    "scheme_android": "linkAnd",
    "scheme_ios": "linkIos",
}


class SolapiRemote:
    def channels(self, secret: Mapping[str, Any]) -> list[RemoteChannel]:
        return [
            RemoteChannel(_text(row, "channelId"), _text(row, "searchId"))
            for row in self._pages(secret, "/kakao/v2/channels", "channelList", {})
        ]

    def templates(self, secret: Mapping[str, Any], sender_key: str) -> list[RemoteTemplate]:
        rows = self._pages(secret, "/kakao/v2/templates", "templateList", {"channelId": sender_key})
        return [self._read(row) for row in rows]

    def template(self, secret: Mapping[str, Any], sender_key: str, code: str) -> RemoteTemplate:
        return self._read(self._call(secret, "GET", f"/kakao/v2/templates/{quote(code, safe='')}"))

    def register(self, secret: Mapping[str, Any], sender_key: str, new: NewTemplate) -> str:
        body = {
            "channelId": sender_key,
            "name": new.name,
            "content": new.content,
            "categoryCode": new.category or None,
            "messageType": "EX" if new.extra else "BA",
            "emphasizeType": _emphasis_of(new.title),
            "emphasizeTitle": new.title or None,
            "emphasizeSubtitle": new.subtitle or None,
            "extra": new.extra or None,
            "buttons": [_theirs(button, _SOLAPI_BUTTONS) for button in new.buttons],
        }
        given = {name: value for name, value in body.items() if value is not None}
        return _text(self._call(secret, "POST", "/kakao/v2/templates", body=given), "templateId")

    def request_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str, comment: str) -> None:
        self._call(secret, "PUT", f"/kakao/v2/templates/{quote(code, safe='')}/inspection", body={})

    def cancel_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None:
        self._call(secret, "PUT", f"/kakao/v2/templates/{quote(code, safe='')}/inspection/cancel", body={})

    def delete(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None:
        self._call(secret, "DELETE", f"/kakao/v2/templates/{quote(code, safe='')}")

    def _call(self, secret: Mapping[str, Any], method: str, path: str, **more: Any) -> dict[str, Any]:
        return solapi_call(secret, endpoint_for("solapi_kakao"), method, path, **more)

    def _pages(self, secret: Mapping[str, Any], path: str, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        asked = {**query, "limit": str(PAGE)}
        for _ in range(PAGES_MAX):
            content = self._call(secret, "GET", path, query=asked)
            found += _rows(content.get(name))
            if not content.get("nextKey"):
                break
            asked["startKey"] = str(content["nextKey"])
        return found

    def _read(self, row: Mapping[str, Any]) -> RemoteTemplate:
        status = _text(row, "status")
        return RemoteTemplate(
            code=_text(row, "templateId"),
            name=_text(row, "name"),
            content=_text(row, "content"),
            state=_SOLAPI_STATES.get(status, TemplateState.DRAFT),
            provider_state=status,
            message_type=_KINDS.get(_text(row, "messageType"), "basic"),
            emphasis=_EMPHASES.get(_text(row, "emphasizeType"), Emphasis.NONE),
            title=_text(row, "emphasizeTitle"),
            subtitle=_text(row, "emphasizeSubtitle"),
            header=_text(row, "header"),
            extra=_text(row, "extra"),
            items=_items_of(row.get("item"), row.get("highlight")),
            buttons=[_ours(button, _SOLAPI_BUTTONS) for button in _rows(row.get("buttons"))],
            quick_replies=[_ours(reply, _SOLAPI_BUTTONS) for reply in _rows(row.get("quickReplies"))],
            comments=[
                {
                    "text": _text(comment, "content"),
                    "by": "kakao" if comment.get("isAdmin") else "us",
                    "at": _text(comment, "dateCreated"),
                }
                for comment in _rows(row.get("comments"))
            ],
            is_dormant=row.get("dormant") is True,
        )


# --- NHN Cloud -----------------------------------------------------------------------------------------------------

_NHN_STATES = {
    "TSC01": TemplateState.REQUESTED,
    "TSC02": TemplateState.REVIEWING,
    "TSC03": TemplateState.APPROVED,
    "TSC04": TemplateState.REJECTED,
}
_NHN_BUTTONS = {
    "type": "type",
    "name": "name",
    "link_mobile": "linkMo",
    "link_pc": "linkPc",
    "scheme_android": "schemeAndroid",
    "scheme_ios": "schemeIos",
}
_NHN_BY_US = frozenset({"INQ"})


class NhnRemote:
    def channels(self, secret: Mapping[str, Any]) -> list[RemoteChannel]:
        rows = self._pages(secret, "/senders", lambda content: content.get("senders"))
        return [
            RemoteChannel(
                _text(row, "senderKey"),
                _text(row, "plusFriendId"),
                ChannelState.ACTIVE if row.get("kakaoStatus", "A") == "A" else ChannelState.BLOCKED,
            )
            for row in rows
        ]

    def templates(self, secret: Mapping[str, Any], sender_key: str) -> list[RemoteTemplate]:
        rows = self._pages(secret, f"{self._of(sender_key)}/templates", _listed)
        return [self._read(row) for row in rows]

    def template(self, secret: Mapping[str, Any], sender_key: str, code: str) -> RemoteTemplate:
        content = self._call(secret, "GET", self._path(sender_key, code))
        row = content.get("template")
        if not isinstance(row, dict):
            raise CallRefused("-3003", "there is no such template")
        return self._read(row)

    def register(self, secret: Mapping[str, Any], sender_key: str, new: NewTemplate) -> str:
        body = {
            "templateCode": new.code,
            "templateName": new.name,
            "templateContent": new.content,
            "categoryCode": new.category or None,
            "templateMessageType": "EX" if new.extra else "BA",
            "templateExtra": new.extra or None,
            "templateEmphasizeType": _emphasis_of(new.title),
            "templateTitle": new.title or None,
            "templateSubtitle": new.subtitle or None,
            "buttons": [
                {"ordering": place, **_theirs(button, _NHN_BUTTONS)} for place, button in enumerate(new.buttons, 1)
            ],
        }
        given = {name: value for name, value in body.items() if value is not None}
        self._call(secret, "POST", f"{self._of(sender_key)}/templates", body=given)
        return new.code

    def request_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str, comment: str) -> None:
        """NHN asks by itself when a template is registered; a rejected one goes there again with a question."""
        body = {"comment": comment or "재검수를 요청합니다."}
        self._call(secret, "POST", f"{self._path(sender_key, code)}/comments", body=body)

    def cancel_inspection(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None:
        raise CallRefused("unsupported", "NHN Cloud cannot take an inspection back; delete the template instead")

    def delete(self, secret: Mapping[str, Any], sender_key: str, code: str) -> None:
        self._call(secret, "DELETE", self._path(sender_key, code))

    def _of(self, sender_key: str) -> str:
        return f"/senders/{quote(sender_key, safe='')}"

    def _path(self, sender_key: str, code: str) -> str:
        return f"{self._of(sender_key)}/templates/{quote(code, safe='')}"

    def _call(self, secret: Mapping[str, Any], method: str, path: str, **more: Any) -> dict[str, Any]:
        full = f"/alimtalk/v2.3/appkeys/{secret['app_key']}{path}"
        return nhn_call(secret, endpoint_for("nhn_kakao"), method, full, **more)

    def _pages(self, secret: Mapping[str, Any], path: str, rows_in: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in range(1, PAGES_MAX + 1):
            query = {"pageNum": str(page), "pageSize": str(PAGE)}
            rows = _rows(rows_in(self._call(secret, "GET", path, query=query)))
            found += rows
            if len(rows) < PAGE:
                break
        return found

    def _read(self, row: Mapping[str, Any]) -> RemoteTemplate:
        status = _text(row, "status")
        return RemoteTemplate(
            code=_text(row, "templateCode"),
            name=_text(row, "templateName"),
            content=_text(row, "templateContent"),
            state=_NHN_STATES.get(status, TemplateState.REQUESTED),
            provider_state=status,
            message_type=_KINDS.get(_text(row, "templateMessageType"), "basic"),
            emphasis=_EMPHASES.get(_text(row, "templateEmphasizeType"), Emphasis.NONE),
            title=_text(row, "templateTitle"),
            subtitle=_text(row, "templateSubtitle"),
            header=_text(row, "templateHeader"),
            extra=_text(row, "templateExtra"),
            items=_items_of(row.get("templateItem"), row.get("templateItemHighlight")),
            buttons=[_ours(button, _NHN_BUTTONS) for button in _rows(row.get("buttons"))],
            quick_replies=[_ours(reply, _NHN_BUTTONS) for reply in _rows(row.get("quickReplies"))],
            comments=comments_of(row),
            is_dormant=row.get("dormant") is True,
        )


def comments_of(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The comments of a template of NHN Cloud, or of an event about one."""
    return [
        {
            "text": _text(comment, "content"),
            "by": "us" if comment.get("status") in _NHN_BY_US else "kakao",
            "at": _text(comment, "createdAt"),
        }
        for comment in _rows(row.get("comments"))
    ]


def state_of(status: str) -> str | None:
    """A state as NHN Cloud's events name it; None for a word that is none."""
    return _NHN_STATES.get(status)


def _listed(content: Mapping[str, Any]) -> object:
    found = content.get("templateListResponse")
    return found.get("templates") if isinstance(found, dict) else None


def _ours(button: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    return {ours: _text(button, theirs) for ours, theirs in names.items() if _text(button, theirs)}


def _theirs(button: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {theirs: button[ours] for ours, theirs in names.items() if button.get(ours)}


REMOTES: dict[str, Remote] = {"solapi_kakao": SolapiRemote(), "nhn_kakao": NhnRemote()}
"""Provider → its administration."""
