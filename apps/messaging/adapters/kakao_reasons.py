"""What each code of Alimtalk at NHN Cloud means to us (providers.md 5.4, 5.5); Solapi's are in `sms_reasons.SOLAPI`.

Codes of sender profile, template and limit are told on the message only: a template that is stopped unsubscribes
nobody.
"""

from __future__ import annotations

from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.sms_reasons import (
    ACCEPTED,
    ACCOUNT,
    ALIMTALK_BLOCKED,
    BUSY,
    CHANNEL,
    INVALID,
    LIMIT,
    NOT_A_FRIEND,
    NOT_A_USER,
    PENDING,
    PROVIDER,
    REJECTED,
    SOLAPI,
    TEMPLATE,
    UNCERTAIN,
    GatewayVerdict,
    doubtful,
    gone,
    sender,
    table,
)

__all__ = ["NHN_KAKAO_REPLIES", "NHN_KAKAO_REPORTS", "fallback_is_sensible", "nhn_kakao_reply", "nhn_kakao_report"]

NHN_KAKAO_REPLIES = table(
    ("0", ACCEPTED),
    ("4 -2000:-2005 -2018 -2019 -2025:-2028 -2032 -2035 -3004 -3009 -3048 -3049 -4104", REJECTED),
    ("-4019", gone(INVALID)),
    ("-1000 -1001", ACCOUNT),
    ("-1002 -1003 -1019 -2502 -4200 -1028 -1031 -3300 -8006 -8008", REJECTED),
    ("-1005", UNCERTAIN),  # sent already
    ("-1006 -1014 -1024 -1027 -2017", sender(CHANNEL)),
    ("-1017", sender(LIMIT)),
    ("-3003 -3005 -3010 -3011 -3033 -3042 -3043 -3046", sender(TEMPLATE)),
    ("-3301", gone(ALIMTALK_BLOCKED)),
    ("-9999", BUSY),
)

NHN_KAKAO_REPORTS = table(
    ("1000", ACCEPTED),
    ("1001 1002 1004 1012 1013 1015 1020 1028 1030 1033", REJECTED),
    ("1003 1006 1007 1011 1014 1016 1021:1025 1027", sender(CHANNEL)),
    ("2001 2005 3000 3006 3010 3012 4121 4122 8001 8004 9001 9998 9999", BUSY),
    ("2003", gone(NOT_A_FRIEND)),
    ("3005 4000 4001 4161", PENDING),
    ("3008", gone(INVALID)),
    ("3011 3013 3014 3022:3026 3029 3032 3034 3035 3037 3039:3041 3046:3048 3050:3052 3056 3058", REJECTED),
    ("3015 3016 3027 3028 3030 3031 3033 3036 3038 3042:3045 3053:3055 3057 4132:4134", sender(TEMPLATE)),
    ("3018", doubtful(NOT_A_USER)),
    ("3019 3021", gone(NOT_A_USER)),
    ("3020", gone(ALIMTALK_BLOCKED)),
    ("4100:4120 4123:4131 4137 4139:4144", REJECTED),
    ("4138 4156", sender(LIMIT)),
)


def nhn_kakao_reply(code: str) -> GatewayVerdict:
    return NHN_KAKAO_REPLIES.get(code, REJECTED)


def nhn_kakao_report(code: str) -> GatewayVerdict:
    return NHN_KAKAO_REPORTS.get(code, GatewayVerdict(Outcome.PAYLOAD_REJECTED, PROVIDER))


NOT_SENT = frozenset({"couldnt_connect", "operation_timedout", "no_credential", "expired"})
"""Our own words for a message that has not left."""


def fallback_is_sensible(provider: str, reason: str) -> bool:
    """Whether a text message would make sense after an Alimtalk failed for `reason`: the provider's code, or our word.

    Yes, whoever is to blame, as long as it is sure that the Alimtalk has not arrived, and the number itself is not the
    cause: then an SMS would fail as well. What may still arrive (3005, no answer) is not sent a second time.
    """
    if reason in NOT_SENT:
        return True
    tables = (SOLAPI,) if provider == "solapi_kakao" else (NHN_KAKAO_REPORTS, NHN_KAKAO_REPLIES)
    verdict = next((found for table_ in tables if (found := table_.get(reason))), None)
    if verdict is None:
        return False
    return verdict.outcome not in (Outcome.ACCEPTED, Outcome.UNKNOWN) and verdict.subscription_status != INVALID
