"""How NHN Cloud refuses a request: HTTP 200 all the same, the header of the body tells it."""

from __future__ import annotations

from typing import Any

from apps.sandbox import gateway_codes as codes
from apps.sandbox.gateway import Refused, json_answer

_MESSAGES = {"sms": codes.NHN_SMS_REPLIES, "kakao": codes.NHN_KAKAO_REPLIES}


def header(code: int, message: str) -> dict[str, Any]:
    return {"header": {"isSuccessful": code == 0, "resultCode": code, "resultMessage": message}}


def refused(service: str, code: str, message: str = "") -> Refused:
    """The whole request is refused."""
    return Refused(json_answer(200, header(int(code), message or _MESSAGES[service].get(code, ""))), code)
