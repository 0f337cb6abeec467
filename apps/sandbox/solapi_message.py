"""What Solapi checks of one message before it is taken; a code of providers.md section 4.2 tells what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apps.sandbox import korean_text
from apps.sandbox.gateway_behaviours import DELIVERED, GatewayBehaviour

if TYPE_CHECKING:
    from apps.sandbox.solapi import Solapi

ALLOWED_MESSAGE_FIELDS = {
    "to", "from", "text", "type", "subject", "country", "imageId", "autoTypeDetect", "customFields", "kakaoOptions",
    "replacements",
}  # fmt: skip
_KAKAO_FIELDS = {"pfId", "templateId", "variables", "disableSms", "buttons", "imageId", "adFlag"}
_BUTTON_FIELDS = {"buttonType", "buttonName", "linkMo", "linkPc", "linkAnd", "linkIos"}
_BUTTON_TYPES = {"WL", "AL", "BK", "MD", "DS", "BC", "BT", "AC"}
_TEXT_TYPES = ("SMS", "LMS", "MMS")
_DIGITS = re.compile(r"[0-9]{8,15}")
MAX_ALIMTALK_CHARACTERS = 1000


@dataclass(slots=True)
class Checked:
    """A message for one recipient and what is wrong with it; an empty code: nothing."""

    message: dict[str, Any]
    to: str
    kind: str
    country: str
    text: str
    message_id: str
    code: str
    behaviour: GatewayBehaviour = DELIVERED


class _Wrong(Exception):
    """Holds the code."""


class MessageRules:
    """The rules for the messages of one request."""

    def __init__(self, gateway: Solapi, account: str, files: Mapping[str, Any], *, allow_duplicates: bool) -> None:
        self._gateway = gateway
        self._account = account
        self._files = files
        self._allow_duplicates = allow_duplicates
        self._recipients: set[str] = set()

    def check(self, message: dict[str, Any], to: Any) -> Checked:
        custom = message.get("customFields")
        message_id = ""
        if type(custom) is dict and custom:
            message_id = str(custom.get("message_id") or next(iter(custom.values())))
        checked = Checked(message, to if isinstance(to, str) else "", "", "82", "", message_id, "")
        try:
            self._check(checked, to, custom)
        except _Wrong as wrong:
            checked.code = str(wrong)
            checked.kind = checked.kind or str(message.get("type") or "SMS")
        return checked

    def _check(self, checked: Checked, to: Any, custom: Any) -> None:
        message = checked.message
        if to is None or to == "":
            raise _Wrong("1010")
        if type(to) is not str or _DIGITS.fullmatch(to) is None:
            raise _Wrong("1011")
        country = message.get("country")
        if country is not None:
            if type(country) is not str or not country.isdigit() or len(country) > 4:
                raise _Wrong("1011")
            checked.country = country
        if custom is not None:
            _check_custom_fields(custom)
        text = message.get("text")
        if text is not None and type(text) is not str:
            raise _Wrong("1011")
        checked.text = text or ""
        kind = checked.kind = _kind_of(message, checked.text)
        if kind == "ATA":
            self._check_alimtalk(checked, message)
        else:
            self._check_text_message(checked, message, kind)
        self._check_sender(message, kind)
        if country not in (None, "82") and kind != "SMS":
            raise _Wrong("1058")
        if to in self._gateway.opt_outs:
            raise _Wrong("1061")
        if not self._allow_duplicates:
            if to in self._recipients:
                raise _Wrong("1026")
            self._recipients.add(to)

    def _check_text_message(self, checked: Checked, message: dict[str, Any], kind: str) -> None:
        if message.get("kakaoOptions") is not None:
            raise _Wrong("1033")
        text, subject = checked.text, message.get("subject")
        if not text:
            raise _Wrong("1010")
        if subject is not None and (kind == "SMS" or type(subject) is not str):
            raise _Wrong("1013" if kind == "SMS" else "1011")
        for part in (text, subject or ""):
            if korean_text.is_unprintable(part):
                raise _Wrong("1028")
        length = korean_text.euc_kr_bytes(text)
        title_length = korean_text.euc_kr_bytes(subject) if subject else 0
        if length is None or title_length is None:
            raise _Wrong("1029")
        if title_length > korean_text.TITLE_BYTES:
            raise _Wrong("1014")
        if length > (korean_text.SMS_BYTES if kind == "SMS" else korean_text.LONG_BYTES):
            raise _Wrong("1031")
        image_id = message.get("imageId")
        if kind == "MMS" and not image_id:
            raise _Wrong("1010")
        if image_id and image_id not in self._files:
            raise _Wrong("1034")

    def _check_sender(self, message: dict[str, Any], kind: str) -> None:
        number = message.get("from")
        if not number:
            options = message.get("kakaoOptions")
            if kind == "ATA" and type(options) is dict and options.get("disableSms") is True:
                return
            raise _Wrong("1010")
        if type(number) is not str or not number.isdigit():
            raise _Wrong("1011")
        sender = self._gateway.sender(number, self._account)
        if sender is None:
            raise _Wrong("1062")
        if sender.state != "active":
            raise _Wrong("1064")

    def _check_alimtalk(self, checked: Checked, message: dict[str, Any]) -> None:
        options = message.get("kakaoOptions")
        if type(options) is not dict:
            raise _Wrong("1010")
        if not options.keys() <= _KAKAO_FIELDS:
            raise _Wrong("1011")
        templates = self._gateway.templates
        pf_id = options.get("pfId")
        if not templates.has_channel(pf_id, self._account):
            raise _Wrong("1041")
        template = templates.approved(options.get("templateId"), pf_id)
        if template is None:
            raise _Wrong("1042")
        if options.get("disableSms") is not True:
            self._gateway.find("disableSms is not true: Solapi would send a text message by itself when Alimtalk fails")
        variables = _bare_names(options.get("variables"))
        known = korean_text.variables_of(template.content)
        if variables.keys() - set(known) - set(template.button_variables):
            self._gateway.find(f"variables that template {template.template_id} does not have")
        filled = korean_text.fill(template.content, variables)
        if checked.text:
            whole = checked.text == filled if variables else korean_text.matches(template.content, checked.text)
            if not whole:
                raise _Wrong("1043")
        elif "#{" in filled and korean_text.variables_of(filled):
            raise _Wrong("1043")
        else:
            checked.text = filled
        if korean_text.is_unprintable(checked.text):
            raise _Wrong("1028")
        if len(checked.text) > MAX_ALIMTALK_CHARACTERS:
            raise _Wrong("1031")
        if options.get("buttons") is not None:
            _check_buttons(options["buttons"], template.buttons, variables)


def _kind_of(message: dict[str, Any], text: str) -> str:
    kind = message.get("type")
    if kind is not None:
        if kind not in ("SMS", "LMS", "MMS", "ATA"):
            raise _Wrong("1025")
        return str(kind)
    if message.get("autoTypeDetect") is False:
        raise _Wrong("1010")
    if message.get("kakaoOptions") is not None:
        return "ATA"
    if message.get("imageId"):
        return "MMS"
    if message.get("subject") or (korean_text.euc_kr_bytes(text) or 0) > korean_text.SMS_BYTES:
        return "LMS"
    return "SMS"


def _check_custom_fields(custom: Any) -> None:
    if type(custom) is not dict:
        raise _Wrong("1032")
    for name, value in custom.items():
        if type(value) is not str or not 1 <= len(name) <= 30 or len(value) > 100:
            raise _Wrong("1032")


def _bare_names(variables: Any) -> dict[str, str]:
    """`{"#{name}": "Kim"}` → `{"name": "Kim"}`."""
    if variables is None:
        return {}
    if type(variables) is not dict:
        raise _Wrong("1011")
    bare: dict[str, str] = {}
    for name, value in variables.items():
        if type(value) is not str or not (name.startswith("#{") and name.endswith("}")):
            raise _Wrong("1011")
        bare[name[2:-1]] = value
    return bare


def _check_buttons(buttons: Any, approved: list[dict[str, Any]], variables: Mapping[str, str]) -> None:
    """Codes 1044 to 1052, in the order of the documentation's list."""
    if type(buttons) is not list or any(type(button) is not dict for button in buttons):
        raise _Wrong("1044")
    if len(buttons) > 5:
        raise _Wrong("1050")
    for button in buttons:
        if not button.keys() <= _BUTTON_FIELDS or button.get("buttonType") not in _BUTTON_TYPES:
            raise _Wrong("1044")
        name = button.get("buttonName")
        if type(name) is not str or not name:
            raise _Wrong("1044")
        if len(name) > 14:
            raise _Wrong("1049")
        links = [button[field] for field in ("linkMo", "linkPc", "linkAnd", "linkIos") if button.get(field)]
        if any(type(link) is not str for link in links):
            raise _Wrong("1045")
        if any(len(link) > 100 for link in links):
            raise _Wrong("1048")
        if button["buttonType"] == "WL" and not str(button.get("linkMo") or "").startswith(("http://", "https://")):
            raise _Wrong("1045")
        if button["buttonType"] == "AL" and len(links) < 2:
            raise _Wrong("1045")
    if len(buttons) < len(approved):
        raise _Wrong("1046")
    if len(buttons) > len(approved):
        raise _Wrong("1047")
    named = [(button["buttonType"], button["buttonName"]) for button in buttons]
    expected = [(button.get("buttonType"), button.get("buttonName")) for button in approved]
    if named != expected:
        raise _Wrong("1052" if sorted(named) == sorted(expected, key=str) else "1047")
    for button, own in zip(buttons, approved, strict=True):
        for field in ("linkMo", "linkPc", "linkAnd", "linkIos"):
            if button.get(field) and not korean_text.matches(own.get(field) or "", button[field]):
                raise _Wrong("1045")
