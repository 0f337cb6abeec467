"""What a gateway's stand-in does with a message: one behaviour for every code, chosen by the recipient's number.

As for device tokens (behaviours.py) the rules of the control endpoint come first. Then the number itself decides.
Numbers that begin with 0100 are given to nobody in Korea, yet have the form of a mobile number:

    0100 K CCCC R N      Solapi, NHN      K kind, CCCC the code's digits, R the first R messages (0: all), N any digit
    +82100 K CCCCC R     Twilio

    K  1  refused in the reply with the code        5  the same two for Alimtalk of NHN (a text message to
       2  taken, then reported as failed with it    6  this number is delivered)
       3  the connection or the whole request       4  reported with E and the code (NHN's E900 … E999)

Solapi's codes of Kakao befall an Alimtalk only. A behaviour of the whole request befalls all messages in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from apps.sandbox import gateway_codes as codes
from apps.sandbox.behaviours import Action, Behaviour, Behaviours

Channel = Literal["", "sms", "kakao"]


@dataclass(frozen=True, slots=True)
class GatewayBehaviour(Behaviour):
    """`reason` is the code of the reply, `report` that of the delivery report (empty: the one for delivered)."""

    report: str = ""
    is_silent: bool = False  # taken, and never reported
    for_whole_request: bool = False
    channel: Channel = ""  # befalls messages of this channel only


DELIVERED = GatewayBehaviour("accepted", "30000", accepted=True, meaning="taken and delivered")


def _whole(name: str, code: str, status: int = 200, *, accepted: bool = False, action: Action = Action.ANSWER,
           reason: str = "", retry_after_s: int | None = None, delay_s: float = 0.0,
           body: Literal["json", "html", "empty"] = "json", meaning: str) -> GatewayBehaviour:  # fmt: skip
    return GatewayBehaviour(
        name, "3" + code, status, reason, action, accepted, retry_after_s, delay_s, body=body, meaning=meaning,
        for_whole_request=True,
    )  # fmt: skip


_TRANSPORT = (
    DELIVERED,
    GatewayBehaviour("silent", "30003", accepted=True, is_silent=True, meaning="taken, and never reported"),
    _whole("hang", "0001", action=Action.HANG, meaning="no answer; nothing taken"),
    _whole("hang-accepted", "0002", action=Action.HANG, accepted=True, meaning="no answer, yet all taken"),
    _whole("abort", "0005", action=Action.ABORT, meaning="connection dropped; nothing taken"),
    _whole("abort-accepted", "0006", action=Action.ABORT, accepted=True, meaning="connection dropped, yet all taken"),
    _whole("slow-1s", "2001", accepted=True, delay_s=1.0, meaning="answered after 1 s"),
    _whole("slow-5s", "2002", accepted=True, delay_s=5.0, meaning="answered after 5 s"),
    _whole("throttled", "4290", 429, retry_after_s=2, meaning="429; Retry-After: 2"),
    _whole("throttled-plain", "4291", 429, meaning="429; no Retry-After"),
    _whole("server-error", "5000", 500, meaning="500; nothing taken"),
    _whole("server-error-accepted", "5001", 500, accepted=True, meaning="500, yet all taken"),
    _whole("bad-gateway", "5020", 502, body="html", meaning="502; HTML of a proxy"),
    _whole("unavailable", "5030", 503, retry_after_s=2, meaning="503; Retry-After: 2"),
    _whole("unavailable-plain", "5031", 503, meaning="503; no Retry-After"),
)


def _refused(all_codes: Mapping[str, str], *, kind: str = "1", prefix: str = "", channel: Channel = "",
             kakao_only: Iterable[str] = ()) -> list[GatewayBehaviour]:  # fmt: skip
    return [
        GatewayBehaviour(
            f"{prefix}refused:{code}", kind + digits_of(code), reason=code, meaning=meaning,
            channel="kakao" if code in kakao_only else channel,
        )
        for code, meaning in all_codes.items()
    ]  # fmt: skip


def _reported(all_codes: Mapping[str, str], *, kind: str = "2", prefix: str = "", channel: Channel = "",
              kakao_only: Iterable[str] = ()) -> list[GatewayBehaviour]:  # fmt: skip
    return [
        GatewayBehaviour(
            f"{prefix}reported:{code}", ("4" if code.startswith("E") else kind) + digits_of(code), accepted=True,
            report=code, meaning=meaning, channel="kakao" if code in kakao_only else channel,
        )
        for code, meaning in all_codes.items()
    ]  # fmt: skip


def digits_of(code: str) -> str:
    """A code's digits as a number holds them: "-2019" → "2019", "E911" → "0911", "4" → "0004"."""
    return code.lstrip("-E").zfill(4)


SOLAPI_TABLE = (
    *_TRANSPORT,
    *(
        GatewayBehaviour(
            name, f"3{status}{number}", status, name, for_whole_request=True, meaning=f"{status} for the whole request"
        )
        for number, (status, name, _) in enumerate(codes.SOLAPI_ERRORS, 1)
    ),
    *_refused(codes.SOLAPI, kakao_only=codes.SOLAPI_KAKAO),
    *_reported(codes.SOLAPI, kakao_only=codes.SOLAPI_KAKAO),
)
_TWILIO_MEANINGS = {code: message for code, (_, message) in codes.TWILIO.items()}
TWILIO_TABLE = (*_TRANSPORT, *_refused(_TWILIO_MEANINGS), *_reported(_TWILIO_MEANINGS))
NHN_TABLE = (
    *_TRANSPORT,
    *_refused(codes.NHN_SMS_REPLIES, channel="sms"),
    *_reported(codes.NHN_SMS_REPORTS, channel="sms"),
    *(
        GatewayBehaviour(
            f"receipt:{code}", f"7{code.zfill(4)}", accepted=True, report=code, channel="sms",
            meaning=f"abroad: {status}, {meaning}",
        )
        for code, (status, meaning) in codes.NHN_DLR.items()
    ),
    *_refused(codes.NHN_KAKAO_REPLIES, kind="5", prefix="kakao-", channel="kakao"),
    *_reported(codes.NHN_KAKAO_REPORTS, kind="6", prefix="kakao-", channel="kakao"),
)  # fmt: skip
TABLES: dict[str, tuple[GatewayBehaviour, ...]] = {
    "solapi": SOLAPI_TABLE,
    "twilio": TWILIO_TABLE,
    "nhn": NHN_TABLE,
}


class GatewayBehaviours(Behaviours):
    """The behaviours of one gateway."""

    def __init__(self, provider: str, *, seed: int = 0) -> None:
        super().__init__(TABLES[provider], seed=seed)
        self.prefix, self._code_end = ("+82100", 12) if provider == "twilio" else ("0100", 9)

    def decide(self, number: str, channel: Channel) -> GatewayBehaviour:
        """What to do with one message. Counts, so call it once for each."""
        chosen: Behaviour | None = None
        if self._rules or self._by_token:
            rule = self._choose_rule(number)
            if rule is not None:
                chosen = rule.behaviour
        if chosen is None and number.startswith(self.prefix):
            chosen = self._by_number(number, channel)
        if not isinstance(chosen, GatewayBehaviour) or (chosen.channel and chosen.channel != channel):
            return DELIVERED
        return chosen

    def may_differ(self) -> bool:
        """Whether rules are set: without them only marked numbers do anything but arrive."""
        return bool(self._rules or self._by_token)

    def _by_number(self, number: str, channel: Channel) -> Behaviour:
        start, end = len(self.prefix), self._code_end
        code = number[start : start + 1] + number[start + 1 : end].lstrip("0").zfill(4)
        behaviour = self._by_code.get(code, DELIVERED)
        if isinstance(behaviour, GatewayBehaviour) and behaviour.channel not in ("", channel):
            return DELIVERED
        times = number[end : end + 1]
        return self._first(number, int(times), behaviour) if times.isdigit() and times != "0" else behaviour


def marked_number(provider: str, behaviour: str, *, times: int = 0, last_digit: int = 0) -> str:
    """A recipient's number that asks for this behaviour, as the gateway is given it (national, for Twilio E.164)."""
    code = next(row.code for row in TABLES[provider] if row.name == behaviour)
    kind, digits = code[0], code[1:]
    if provider == "twilio":
        return f"+82100{kind}{digits.zfill(5)}{times}"
    return f"0100{kind}{digits.zfill(4)}{times}{last_digit}"


def behaviour_rows(provider: str) -> list[str]:
    """The table of README.md: those that are no codes one by one, the codes by their kinds."""
    rows: dict[str, str] = {}
    for row in TABLES[provider]:
        kind, colon, _ = row.name.partition(":")
        number = marked_number(provider, row.name)
        if not colon:
            rows[kind] = f"| `{number}` | `{row.name}` | {row.meaning} |"
        elif f"{kind}:" not in rows:
            count = sum(other.name.startswith(f"{kind}:") for other in TABLES[provider])
            rows[f"{kind}:"] = f"| `{number}` | `{kind}:CODE` | {count} codes; `{row.name}`: {row.meaning} |"
    return list(rows.values())
