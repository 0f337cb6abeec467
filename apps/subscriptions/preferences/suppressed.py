"""Whether an address is on the suppression list, and what a subscription of it is then: what registration asks.

Push tokens and in-app ids are not on it: a device chooses them, and its own settings say no.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connection

from apps.subscriptions.models import MESSAGING_TYPES, SubscriptionType
from apps.subscriptions.preferences.models import SuppressionReason
from apps.subscriptions.status import SubscriptionStatus
from automata_signal.prepared import prepared_cursor

_REFUSED: dict[str, int] = {
    SubscriptionType.EMAIL: SubscriptionStatus.EMAIL_OPTED_OUT,
    SubscriptionType.SMS: SubscriptionStatus.SMS_BLOCKED,
    SubscriptionType.KAKAO_TALK: SubscriptionStatus.KAKAO_BLOCKED,
}
_DEAD: dict[str, int] = {
    SubscriptionType.EMAIL: SubscriptionStatus.EMAIL_HARD_BOUNCE,
    SubscriptionType.SMS: SubscriptionStatus.SMS_NUMBER_MISSING,
    SubscriptionType.KAKAO_TALK: SubscriptionStatus.KAKAO_NOT_A_USER,
}


def suppressed_status(type: str, reason: str) -> int:
    """What a subscription of such an address is: `type` is one of `MESSAGING_TYPES`."""
    if reason == SuppressionReason.HARD_BOUNCE:
        return _DEAD[type]
    if reason == SuppressionReason.UNSUBSCRIBED:
        return _REFUSED[type]
    if reason == SuppressionReason.COMPLAINT:
        return SubscriptionStatus.EMAIL_COMPLAINT if type == SubscriptionType.EMAIL else _REFUSED[type]
    return SubscriptionStatus.DISABLED_BY_API


# Both by `one_suppression_per_address`.
_ONE = """
    SELECT reason FROM subscriptions_suppression
    WHERE application_id = %(application_id)s AND type = %(type)s AND address_digest = %(digest)s
"""
_MANY = """
    SELECT x.type, x.address_digest, x.reason
    FROM unnest(%(types)s::text[], %(digests)s::bytea[]) AS k (type, digest)
         JOIN subscriptions_suppression x
           ON x.application_id = %(application_id)s AND x.type = k.type AND x.address_digest = k.digest
"""


def suppression_reason(*, application_id: UUID, type: str, digest: bytes) -> str | None:
    """Why this address is on the list; None: it is not."""
    if type not in MESSAGING_TYPES:
        return None
    with prepared_cursor() as cursor:
        cursor.execute(_ONE, {"application_id": application_id, "type": type, "digest": digest})
        row = cursor.fetchone()
    return None if row is None else row[0]


def suppression_reasons(application_id: UUID, addresses: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], str]:
    """Of these (type, digest), those that are on the list, and why."""
    addresses = [address for address in addresses if address[0] in MESSAGING_TYPES]
    if not addresses:
        return {}
    types, digests = (list(column) for column in zip(*addresses, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_MANY, {"application_id": application_id, "types": types, "digests": digests})
        return {(type_, bytes(digest)): reason for type_, digest, reason in cursor.fetchall()}
