"""How NHN Cloud refuses a request: HTTP 200 all the same, the header of the body tells it. And dates in queries."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from apps.sandbox import gateway_codes as codes
from apps.sandbox.gateway import KOREA, Call, Refused, json_answer

MAX_RANGE_S = 31 * 86_400

_MESSAGES = {"sms": codes.NHN_SMS_REPLIES, "kakao": codes.NHN_KAKAO_REPLIES}


def header(code: int, message: str) -> dict[str, Any]:
    return {"header": {"isSuccessful": code == 0, "resultCode": code, "resultMessage": message}}


def refused(service: str, code: str, message: str = "") -> Refused:
    """The whole request is refused."""
    return Refused(json_answer(200, header(int(code), message or _MESSAGES[service].get(code, ""))), code)


class DateCodes(NamedTuple):
    """What is answered when dates are missing, of no form, or more than a month apart."""

    missing: str
    form: str
    range: str


SMS_DATE_CODES = DateCodes("-2011", "-2000", "-4000")
KAKAO_DATE_CODES = DateCodes("-2001", "-2027", "-2026")


def date_bounds(
    call: Call, request_id: str, kinds: Sequence[str], service: str, answers: DateCodes
) -> tuple[float, float]:
    """From and to in epoch seconds, by the first kind of dates that is given; everything with a request id."""
    if request_id:
        return 0.0, 1e12
    for kind in kinds:
        first, last = call.first(f"start{kind}Date"), call.first(f"end{kind}Date")
        if first and last:
            try:
                start, end = (datetime.fromisoformat(text).replace(tzinfo=KOREA).timestamp() for text in (first, last))
            except ValueError:
                raise refused(service, answers.form) from None
            if end - start > MAX_RANGE_S:
                raise refused(service, answers.range)
            return start, end + 59  # a minute without seconds is meant whole
    raise refused(service, answers.missing)
