"""What each code of an SMS gateway means to us: one table per gateway, of replies and of delivery reports alike.

Facts and proposals are from providers.md 4.1 to 4.3, read through its section 0. A code that blames the sender (number,
text, account) is told on the message and leaves the subscription alone; one that says that somebody could not be
reached this time ends a subscription only when it repeats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from apps.messaging.adapters.base import Outcome

__all__ = [
    "NHN_RECEIPTS",
    "NHN_SMS_REPLIES",
    "NHN_SMS_REPORTS",
    "SOLAPI",
    "SOLAPI_ERRORS",
    "TWILIO",
    "GatewayVerdict",
    "by_status",
    "codes",
    "nhn_sms_reply",
    "nhn_sms_report",
    "solapi_verdict",
    "twilio_verdict",
]

# Subscription codes of the specification 3.3 that an SMS gateway can give (providers.md 0.1).
INVALID, MISSING, NETWORK, BLOCKED, SENDER_RESTRICTED = -50, -52, -53, -54, -55
NOT_A_USER, ALIMTALK_BLOCKED, NOT_A_FRIEND, TEMPLATE, LIMIT, CHANNEL = -60, -61, -62, -63, -64, -65

RECIPIENT, SENDER, PROVIDER = "recipient", "sender", "provider"
"""Whose fault; the words of `retry.Fault`."""


class GatewayVerdict(NamedTuple):
    """What follows from a code."""

    outcome: Outcome
    fault: str = SENDER
    subscription_status: int | None = None
    """The code to end the subscription with."""
    soft_status: int | None = None
    """The code that it ends with after repeated failures."""
    message_status: int | None = None
    """The code that is told on the message only."""
    retry_after_s: float | None = None

    @property
    def is_pending(self) -> bool:
        """Of a report: it is too early to say."""
        return self.outcome is Outcome.UNKNOWN


def codes(text: str) -> Iterable[str]:
    """Codes and ranges of them: `"1001 4100:4131 -2000"`."""
    for part in text.split():
        first, _, last = part.partition(":")
        if last:
            step = 1 if int(last) >= int(first) else -1
            yield from map(str, range(int(first), int(last) + step, step))
        else:
            yield first


def table(*rows: tuple[str, GatewayVerdict]) -> dict[str, GatewayVerdict]:
    """Rows of codes → code → verdict. A code that stands in two rows is a mistake."""
    found: dict[str, GatewayVerdict] = {}
    for text, verdict in rows:
        for code in codes(text):
            if code in found:
                raise ValueError(f"code {code} stands in two rows")
            found[code] = verdict
    return found


ACCEPTED = GatewayVerdict(Outcome.ACCEPTED, PROVIDER)
PENDING = GatewayVerdict(Outcome.UNKNOWN, PROVIDER)
REJECTED = GatewayVerdict(Outcome.PAYLOAD_REJECTED)
ACCOUNT = GatewayVerdict(Outcome.CREDENTIAL)
BUSY = GatewayVerdict(Outcome.TRANSIENT, PROVIDER)
THROTTLED = GatewayVerdict(Outcome.THROTTLED, PROVIDER, retry_after_s=5.0)
UNCERTAIN = GatewayVerdict(Outcome.UNKNOWN, PROVIDER)
"""May have left: never sent again by itself."""


def gone(status: int) -> GatewayVerdict:
    """The address is dead, or its owner wants nothing: no other message will arrive there."""
    return GatewayVerdict(Outcome.RECIPIENT_GONE, RECIPIENT, subscription_status=status)


def sender(status: int) -> GatewayVerdict:
    """Ours to mend, and of this message: another sender number, template or text would do."""
    return GatewayVerdict(Outcome.PAYLOAD_REJECTED, SENDER, message_status=status)


def unreached(status: int, fault: str = RECIPIENT) -> GatewayVerdict:
    """Could not be reached this time."""
    return GatewayVerdict(Outcome.TRANSIENT, fault, soft_status=status)


def doubtful(status: int) -> GatewayVerdict:
    """Final for this message, and maybe about its recipient."""
    return GatewayVerdict(Outcome.PAYLOAD_REJECTED, RECIPIENT, soft_status=status)


# --- Twilio --------------------------------------------------------------------------------------------------------

TWILIO = table(
    ("14101 21211 21214 21401 21614 30006", gone(INVALID)),
    ("30005", gone(MISSING)),
    ("21610 30004", gone(BLOCKED)),
    ("30003 30008 30036", unreached(NETWORK)),
    ("30017 30410 60005", unreached(NETWORK, PROVIDER)),
    ("30007", GatewayVerdict(Outcome.PAYLOAD_REJECTED, SENDER, message_status=NETWORK)),
    ("21212 21603 21606 30034 30042", sender(SENDER_RESTRICTED)),
    # Of this region, or of this pair of numbers: the credential may serve others.
    ("21408 21608 21612 21602 21617 21619", REJECTED),
    ("20003 30002", ACCOUNT),
    ("20429 21611 30001", THROTTLED),
    ("20500", UNCERTAIN),
)


def twilio_verdict(status: int, code: str) -> GatewayVerdict:
    """Of a reply (`status` its HTTP status) or of a report (0); an unknown code is judged by the status."""
    return TWILIO.get(code) or by_status(status)


# --- Solapi --------------------------------------------------------------------------------------------------------

SOLAPI_ERRORS: Mapping[str, GatewayVerdict] = {
    "ValidationError": REJECTED,
    "InvalidStatusCode": REJECTED,
    "NotEnoughBalance": ACCOUNT,
    "InvalidAPIKey": ACCOUNT,
    "SignatureDoesNotMatch": ACCOUNT,
    "RequestTimeTooSkewed": ACCOUNT,
    "DuplicatedSignature": ACCOUNT,  # after one try with a new salt
}
"""Of a whole request."""

SOLAPI = table(
    ("1010 1011 2011 3011 1013 1014 1021:1023 1025:1029 1031:1034 1044:1053 3060", REJECTED),
    ("1020 1030 2230 2063", ACCOUNT),
    ("1024 2024 3012 3024", BUSY),
    ("1041 3101 3106", sender(CHANNEL)),
    ("1042 1043 3103 3105", sender(TEMPLATE)),
    ("1058 3058", sender(NETWORK)),
    ("1060 2060 1061 2061 3047 3055", gone(BLOCKED)),
    ("1062 2062 1064 2064 3013 3059", sender(SENDER_RESTRICTED)),
    ("2000 3000", PENDING),
    ("2254 3052", REJECTED),
    ("3010 3050", gone(INVALID)),
    ("3014 3048 3040:3046 3051 3056 3057", unreached(NETWORK)),
    ("3053", unreached(NETWORK, PROVIDER)),
    ("3031", doubtful(MISSING)),
    ("3032", gone(MISSING)),
    ("3054", doubtful(BLOCKED)),
    ("3102", gone(NOT_A_FRIEND)),
    ("3104", gone(NOT_A_USER)),
    ("3107", doubtful(ALIMTALK_BLOCKED)),
    ("3108", REJECTED),  # outside the permitted hours, which our own rules keep
    ("4000", ACCEPTED),
)


def solapi_verdict(code: str) -> GatewayVerdict:
    """Of one message, in a reply or a report. The list is of 2022: an unknown code touches no subscription."""
    return SOLAPI.get(code, REJECTED)


# --- NHN Cloud SMS -------------------------------------------------------------------------------------------------

NHN_SMS_REPLIES = table(
    ("0", ACCEPTED),
    ("4 -1005 -1006 -2000:-2006 -2008:-2012 -2014:-2016 -2022:-2024 -2044:-2046 -2048 -2050 -4000", REJECTED),
    ("-2100 -2103 -2107 -2110 -2111 -6000 -6003 -6004 -8000 -9995:-9998", REJECTED),
    ("-1000:-1004 -1007 -1008 -2047 -2051:-2053", ACCOUNT),
    ("-2018 -2019", gone(INVALID)),
    ("-2021 -9999", BUSY),
    ("-2312 -2313", sender(SENDER_RESTRICTED)),
    ("-6001", gone(BLOCKED)),
)
"""-6000 and -6004 are about the 080 number of an advertisement: other messages can be sent by the same credential."""

NHN_SMS_REPORTS = table(
    ("1000", ACCEPTED),
    ("1001 3011", BUSY),
    ("1002 4003 3007 3010", gone(INVALID)),
    ("1003 4002 3017:3019", sender(SENDER_RESTRICTED)),
    ("1019 2000:2007 3000 3004 3005 3008 4004 4007 4009", unreached(NETWORK)),
    ("3014 4006 E900 E999", unreached(NETWORK, PROVIDER)),
    ("3001 3003 4005", gone(MISSING)),
    ("3006 3013", gone(BLOCKED)),
    ("3012", doubtful(BLOCKED)),
    ("3015", sender(NETWORK)),
    ("3002 3009 3016 4001 4008 4010 E911 E913 E915 E919", REJECTED),
)

NHN_RECEIPTS = table(
    ("0", ACCEPTED),
    ("2 7 8", unreached(NETWORK)),
    ("3", gone(MISSING)),
    ("4 9 14", gone(BLOCKED)),
    ("12", doubtful(MISSING)),
    ("39 51", sender(SENDER_RESTRICTED)),
    ("1 5 6 11 13 16 20:22 53 54 99 1000", REJECTED),
)
"""Of a message that went abroad."""


def nhn_sms_reply(code: str) -> GatewayVerdict:
    return NHN_SMS_REPLIES.get(code, REJECTED)


def nhn_sms_report(code: str) -> GatewayVerdict:
    return NHN_SMS_REPORTS.get(code, GatewayVerdict(Outcome.PAYLOAD_REJECTED, PROVIDER))


# --- Any of them ---------------------------------------------------------------------------------------------------


def by_status(status: int) -> GatewayVerdict:
    """Of an answer without a known code. What failed on the way may have left: only what says that it took nothing is
    tried again."""
    if status in (401, 402, 403):
        return ACCOUNT
    if status == 429:
        return THROTTLED
    if status == 503:
        return BUSY
    if 400 <= status < 500:
        return REJECTED
    return UNCERTAIN
