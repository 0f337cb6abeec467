"""Every status and reason of providers.md 1.7 and 2.5: the captured reply over a real socket, and what follows.

The expectations are written out here, not read from the adapters' own table.
"""

from __future__ import annotations

import pytest

from apps.messaging.adapters.base import Outcome
from apps.messaging.adapters.reasons import APNS, FCM
from tests.messaging.adapters.deliveries import captured, captured_names, delivery

ACCEPTED, REJECTED, CREDENTIAL = Outcome.ACCEPTED, Outcome.PAYLOAD_REJECTED, Outcome.CREDENTIAL
TRANSIENT, THROTTLED = Outcome.TRANSIENT, Outcome.THROTTLED
GONE, MISMATCH = Outcome.RECIPIENT_GONE, Outcome.RECIPIENT_MISMATCH

# reply → outcome, subscription code, seconds to wait
APNS_EXPECTED = {
    "200_accepted": (ACCEPTED, None, None),
    "400_BadCollapseId": (REJECTED, None, None),
    "400_BadDeviceToken": (MISMATCH, -14, None),
    "400_BadExpirationDate": (REJECTED, None, None),
    "400_BadMessageId": (REJECTED, None, None),
    "400_BadPriority": (REJECTED, None, None),
    "400_BadTopic": (CREDENTIAL, None, None),
    "400_DeviceTokenNotForTopic": (MISMATCH, -16, None),
    "400_DuplicateHeaders": (REJECTED, None, None),
    "400_IdleTimeout": (TRANSIENT, None, None),
    "400_InvalidPushType": (REJECTED, None, None),
    "400_MissingDeviceToken": (REJECTED, None, None),
    "400_MissingTopic": (CREDENTIAL, None, None),
    "400_PayloadEmpty": (REJECTED, None, None),
    "400_TopicDisallowed": (CREDENTIAL, None, None),
    "400_unknown": (REJECTED, None, None),
    "403_BadCertificate": (CREDENTIAL, None, None),
    "403_BadCertificateEnvironment": (CREDENTIAL, None, None),
    "403_BadEnvironmentKeyIdInToken": (CREDENTIAL, None, None),
    "403_BadEnvironmentKeyInToken": (CREDENTIAL, None, None),
    "403_ExpiredProviderToken": (CREDENTIAL, None, None),
    "403_Forbidden": (CREDENTIAL, None, None),
    "403_InvalidProviderToken": (CREDENTIAL, None, None),
    "403_MissingProviderToken": (CREDENTIAL, None, None),
    "403_UnrelatedKeyIdInToken": (CREDENTIAL, None, None),
    "403_empty": (REJECTED, None, None),
    "404_BadPath": (REJECTED, None, None),
    "405_MethodNotAllowed": (REJECTED, None, None),
    "410_ExpiredToken": (GONE, -10, None),
    "410_Unregistered": (GONE, -10, None),
    "410_no_timestamp": (GONE, -10, None),
    "413_PayloadTooLarge": (REJECTED, None, None),
    "429_TooManyProviderTokenUpdates": (THROTTLED, None, 1200),
    "429_TooManyRequests": (THROTTLED, None, 60),
    "429_retry_after": (THROTTLED, None, 7),
    "500_InternalServerError": (TRANSIENT, None, 900),
    "500_unknown": (TRANSIENT, None, 900),
    "502_html": (TRANSIENT, None, 900),
    "503_ServiceUnavailable": (TRANSIENT, None, 900),
    "503_Shutdown": (TRANSIENT, None, 900),
    "503_retry_after": (TRANSIENT, None, 30),
}
FCM_EXPECTED = {
    "200_accepted": (ACCEPTED, None, None),
    "400_INVALID_ARGUMENT": (REJECTED, None, None),
    "400_UNSPECIFIED_ERROR": (REJECTED, None, None),
    "400_invalid_fid_violation": (MISMATCH, -10, None),
    "400_invalid_token_text": (MISMATCH, -10, None),
    "400_invalid_token_violation": (MISMATCH, -10, None),
    "400_too_big": (REJECTED, None, None),
    "401_APNS_AUTH_ERROR": (CREDENTIAL, None, None),
    "401_THIRD_PARTY_AUTH_ERROR": (CREDENTIAL, None, None),
    "401_UNAUTHENTICATED": (CREDENTIAL, None, None),
    "401_html": (CREDENTIAL, None, None),
    "403_PERMISSION_DENIED": (CREDENTIAL, None, None),
    "403_SENDER_ID_MISMATCH": (MISMATCH, -6, None),
    "403_html": (CREDENTIAL, None, None),
    "404_NOT_FOUND": (CREDENTIAL, None, None),
    "404_UNREGISTERED": (GONE, -10, None),
    "404_html": (CREDENTIAL, None, None),
    "409_unknown": (REJECTED, None, None),
    "429_QUOTA_EXCEEDED": (THROTTLED, None, 60),
    "429_QUOTA_EXCEEDED_retry_after": (THROTTLED, None, 17),
    "429_RESOURCE_EXHAUSTED": (THROTTLED, None, 60),
    "429_empty": (THROTTLED, None, 60),
    "500_INTERNAL": (TRANSIENT, None, 10),
    "500_UNSPECIFIED_ERROR": (TRANSIENT, None, 10),
    "502_html": (TRANSIENT, None, 10),
    "503_UNAVAILABLE": (TRANSIENT, None, 10),
    "503_UNAVAILABLE_retry_after": (TRANSIENT, None, 40),
    "503_UNAVAILABLE_retry_too_soon": (TRANSIENT, None, 10),
    "504_unknown": (TRANSIENT, None, 10),
}


@pytest.mark.parametrize("reply", captured_names("apns"))
def test_apns_reply(peer, apns, reply):
    peer.answer = lambda _: captured("apns", reply)
    sent = delivery()
    (result,) = apns().send([sent])
    outcome, code, wait_s = APNS_EXPECTED[reply]
    assert (result.message_id, result.outcome, result.subscription_status) == (sent.message_id, outcome, code)
    assert result.retry_after_s == (pytest.approx(wait_s, abs=2) if wait_s else None)
    assert result.http_status == captured("apns", reply).status
    has_timestamp = reply in ("410_ExpiredToken", "410_Unregistered")
    assert result.gone_at == (1_700_000_000.0 if has_timestamp else None)


@pytest.mark.parametrize("reply", captured_names("fcm"))
def test_fcm_reply(peer, fcm, reply):
    peer.answer = lambda _: captured("fcm", reply)
    sent = delivery("device-token")
    (result,) = fcm().send([sent])
    outcome, code, wait_s = FCM_EXPECTED[reply]
    assert (result.message_id, result.outcome, result.subscription_status) == (sent.message_id, outcome, code)
    assert result.retry_after_s == wait_s
    assert result.http_status == captured("fcm", reply).status
    accepted_as = "projects/demo/messages/0:1700000000000000%31bd1c9631bd1c96"
    assert result.provider_message_id == (accepted_as if outcome is ACCEPTED else "")


def test_every_line_of_the_tables_has_a_captured_reply():
    def key(provider: str, name: str) -> tuple[int, str]:
        return captured(provider, name).status, name.split("_", 1)[1]

    assert set(APNS) <= {key("apns", name) for name in captured_names("apns")}
    in_words = {(status, reason) for status, reason in FCM if reason and ":" not in reason}
    assert in_words <= {key("fcm", name) for name in captured_names("fcm")}


def test_no_refusal_of_our_own_request_ends_a_subscription():
    """architecture.md section 8: a bad topic, credential, template or quota unsubscribes nobody."""
    for verdict in [*APNS.values(), *FCM.values()]:
        is_recipients = verdict.outcome in (GONE, MISMATCH)
        assert (verdict.subscription_status is not None) == is_recipients
