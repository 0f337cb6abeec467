"""What each answer of a push provider means to us: one table per provider.

(status, the provider's word) → outcome, subscription code, wait. Facts and proposals are from providers.md 1.7
(Apple, "Handling notification responses from APNs") and 2.5 (Google, "ErrorCode"), read through its page "Reading
this page with our lifecycle": "failed / code" ends the subscription with that code; "errored, retryable" is tried
again; "errored / none" for our own fault is final for the message and leaves the subscription alone.
"""

from __future__ import annotations

from typing import NamedTuple

from apps.messaging.adapters.base import Outcome

__all__ = ["APNS", "FCM", "MINUTE_S", "Verdict", "apns_verdict", "fcm_verdict"]

MINUTE_S = 60.0

# Subscription codes of the specification 3.3 that a push provider can give (providers.md 0.1).
SENDER_ID_MISMATCH = -6
NOT_SUBSCRIBED = -10
APNS_BAD_TOKEN = -14
APNS_WRONG_TOPIC = -16


class Verdict(NamedTuple):
    """What follows from an answer."""

    outcome: Outcome
    subscription_status: int | None = None
    """The code to end the subscription with."""
    retry_after_s: float | None = None
    """Wait this long if the provider does not say how long."""
    retry_at_least_s: float = 0.0
    """Wait this long even if the provider says less."""


_REJECTED = Verdict(Outcome.PAYLOAD_REJECTED)
_CREDENTIAL = Verdict(Outcome.CREDENTIAL)
_GONE = Verdict(Outcome.RECIPIENT_GONE, NOT_SUBSCRIBED)

# --- APNs --------------------------------------------------------------------------------------------------------

_APNS_BUSY = Verdict(Outcome.TRANSIENT, retry_after_s=15 * MINUTE_S)
"""Apple: on 5xx wait 15 minutes, then back off."""

APNS: dict[tuple[int, str], Verdict] = {
    (400, "BadCollapseId"): _REJECTED,
    # Token malformed or of the other environment. May be our mistake, so the breaker watches (0.2, 2).
    (400, "BadDeviceToken"): Verdict(Outcome.RECIPIENT_MISMATCH, APNS_BAD_TOKEN),
    (400, "BadExpirationDate"): _REJECTED,
    (400, "BadMessageId"): _REJECTED,
    (400, "BadPriority"): _REJECTED,
    (400, "BadTopic"): _CREDENTIAL,
    # Token of another app: with a wrong bundle id, every token.
    (400, "DeviceTokenNotForTopic"): Verdict(Outcome.RECIPIENT_MISMATCH, APNS_WRONG_TOPIC),
    (400, "DuplicateHeaders"): _REJECTED,
    (400, "IdleTimeout"): Verdict(Outcome.TRANSIENT),
    (400, "InvalidPushType"): _REJECTED,
    (400, "MissingDeviceToken"): _REJECTED,
    (400, "MissingTopic"): _CREDENTIAL,
    (400, "PayloadEmpty"): _REJECTED,
    (400, "TopicDisallowed"): _CREDENTIAL,
    (403, "BadCertificate"): _CREDENTIAL,
    (403, "BadCertificateEnvironment"): _CREDENTIAL,
    (403, "ExpiredProviderToken"): _CREDENTIAL,  # after a renewal; else our clock is wrong
    (403, "Forbidden"): _CREDENTIAL,
    (403, "InvalidProviderToken"): _CREDENTIAL,
    (403, "MissingProviderToken"): _CREDENTIAL,
    (403, "UnrelatedKeyIdInToken"): _CREDENTIAL,  # after one try on a new connection
    (403, "BadEnvironmentKeyIdInToken"): _CREDENTIAL,  # as documented
    (403, "BadEnvironmentKeyInToken"): _CREDENTIAL,  # as the live service says it
    (404, "BadPath"): _REJECTED,
    (405, "MethodNotAllowed"): _REJECTED,
    (410, "ExpiredToken"): _GONE,
    (410, "Unregistered"): _GONE,
    (413, "PayloadTooLarge"): _REJECTED,
    (429, "TooManyProviderTokenUpdates"): Verdict(Outcome.THROTTLED, retry_after_s=20 * MINUTE_S),
    (429, "TooManyRequests"): Verdict(Outcome.THROTTLED, retry_after_s=MINUTE_S),  # to this one device
    (500, "InternalServerError"): _APNS_BUSY,
    (503, "ServiceUnavailable"): _APNS_BUSY,
    (503, "Shutdown"): _APNS_BUSY,
}


def apns_verdict(status: int, reason: str) -> Verdict:
    """The verdict on an APNs refusal; an unknown reason is judged by its status."""
    return APNS.get((status, reason)) or _by_status(status, _APNS_BUSY)


# --- FCM ---------------------------------------------------------------------------------------------------------

_FCM_BUSY = Verdict(Outcome.TRANSIENT, retry_after_s=10.0, retry_at_least_s=10.0)
"""Google: exponential with jitter, never before 10 s."""
_FCM_QUOTA = Verdict(Outcome.THROTTLED, retry_after_s=MINUTE_S)
"""Google: Retry-After, 60 s without it."""

TOKEN_INVALID = "INVALID_ARGUMENT:token"  # noqa: S105 - a reason's name
"""INVALID_ARGUMENT about `message.token`: FCM tells it from other bad fields only in its details."""

FCM: dict[tuple[int, str], Verdict] = {
    (400, TOKEN_INVALID): Verdict(Outcome.RECIPIENT_MISMATCH, NOT_SUBSCRIBED),
    (400, "INVALID_ARGUMENT"): _REJECTED,
    (401, "THIRD_PARTY_AUTH_ERROR"): _CREDENTIAL,
    (401, "APNS_AUTH_ERROR"): _CREDENTIAL,  # its name before
    (401, "UNAUTHENTICATED"): _CREDENTIAL,  # after one try with a new token
    (403, "SENDER_ID_MISMATCH"): Verdict(Outcome.RECIPIENT_MISMATCH, SENDER_ID_MISMATCH),
    (403, "PERMISSION_DENIED"): _CREDENTIAL,
    (404, "UNREGISTERED"): _GONE,
    # Without UNREGISTERED it is not about the token but about the project or the path (0.2, 4).
    (404, "NOT_FOUND"): _CREDENTIAL,
    (429, "QUOTA_EXCEEDED"): _FCM_QUOTA,
    (429, "RESOURCE_EXHAUSTED"): _FCM_QUOTA,
    (500, "INTERNAL"): _FCM_BUSY,
    (503, "UNAVAILABLE"): _FCM_BUSY,
    # No word at all, or UNSPECIFIED_ERROR: the HTTP status decides.
    (401, ""): _CREDENTIAL,
    (403, ""): _CREDENTIAL,
    (404, ""): _CREDENTIAL,
    (429, ""): _FCM_QUOTA,
}


def fcm_verdict(status: int, reason: str) -> Verdict:
    """The verdict on an FCM refusal; an unknown reason is judged by its status."""
    return FCM.get((status, reason)) or _by_status(status, _FCM_BUSY)


def _by_status(status: int, busy: Verdict) -> Verdict:
    """4xx: this request is wrong. Else, 5xx and what is no answer of this provider: it may work later."""
    return _REJECTED if 400 <= status < 500 else busy
