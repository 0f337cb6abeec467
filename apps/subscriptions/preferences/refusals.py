"""What a provider's word means beyond the end of a subscription: the address comes on the suppression list, and who
refused or complained has withdrawn consent to advertising on that channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from apps.subscriptions.preferences.models import (
    ConsentEvent,
    ConsentEventType,
    ConsentSource,
    SuppressionReason,
)
from apps.subscriptions.preferences.notices import notices_of_results
from apps.subscriptions.preferences.subjects import CHANNEL_OF, masked_address
from apps.subscriptions.preferences.suppressing import TYPES, Address, suppressions_add
from apps.subscriptions.status import SubscriptionStatus
from apps.tenants.models import Application
from automata_signal.encryption import DecryptionError, keyring

REASONS: Mapping[int, str] = {
    SubscriptionStatus.EMAIL_HARD_BOUNCE: SuppressionReason.HARD_BOUNCE,
    SubscriptionStatus.EMAIL_COMPLAINT: SuppressionReason.COMPLAINT,
    SubscriptionStatus.EMAIL_OPTED_OUT: SuppressionReason.UNSUBSCRIBED,
    SubscriptionStatus.SMS_BLOCKED: SuppressionReason.UNSUBSCRIBED,
}
"""The provider's status → why the address comes on the list. A number that does not exist may be somebody's tomorrow,
and a block in KakaoTalk is lifted there: those end the subscription only."""
_WITHDRAWALS = frozenset({SuppressionReason.COMPLAINT, SuppressionReason.UNSUBSCRIBED})

# By the primary key.
_ADDRESSES = """
SELECT s.id, s.user_id, s.type, s.token_digest, s.token FROM subscriptions_subscription s
WHERE s.application_id = %(application_id)s AND s.id = ANY(%(ids)s::uuid[])
"""
# By `one_consent_per_subject`, locked in its order.
_WITHDRAW = """
WITH refused AS (
  SELECT * FROM unnest(%(subjects)s::uuid[], %(channels)s::text[]) AS r (subject_id, channel)
), locked AS (
  SELECT c.id, c.is_night_given AS was_night FROM subscriptions_marketingconsent c JOIN refused r
    ON c.application_id = %(application_id)s AND c.subject_id = r.subject_id AND c.channel = r.channel
  WHERE c.is_given ORDER BY c.subject_id, c.channel FOR NO KEY UPDATE OF c
)
UPDATE subscriptions_marketingconsent c
SET is_given = false, withdrawn_at = %(at)s, confirm_due_at = NULL, is_night_given = false,
    night_withdrawn_at = CASE WHEN l.was_night THEN %(at)s::timestamptz ELSE c.night_withdrawn_at END,
    source = 'provider', updated_at = %(at)s
FROM locked l WHERE c.id = l.id AND c.application_id = %(application_id)s
RETURNING c.user_id, c.subject_id, c.channel, l.was_night
"""


def refusals_record(*, application_id: UUID, statuses: Mapping[UUID, int], at: datetime) -> None:
    """Take note of those of these subscriptions (id → the provider's status) whose status says more than an end.

    In the transaction that ends them, after it: they are locked. What had ended before counts as well, since a
    complaint may follow an unsubscription.
    """
    reasons = {key: REASONS[status] for key, status in statuses.items() if status in REASONS}
    if not reasons:
        return
    with connection.cursor() as cursor:
        cursor.execute(_ADDRESSES, {"application_id": application_id, "ids": sorted(reasons)})
        rows = cursor.fetchall()
    addresses, refused = [], {}
    for key, user_id, type_, digest, token in rows:
        if type_ not in TYPES or not token:
            continue
        addresses.append(Address(type_, bytes(digest), _masked(type_, token), reasons[key]))
        if reasons[key] in _WITHDRAWALS:
            refused[user_id or key, CHANNEL_OF[type_]] = key
    suppressions_add(application_id=application_id, addresses=addresses, source=ConsentSource.PROVIDER, by="provider")
    if refused:
        _withdraw(application_id, refused, at)


def _withdraw(application_id: UUID, refused: Mapping[tuple[UUID, str], UUID], at: datetime) -> None:
    values: dict[str, Any] = {
        "application_id": application_id,
        "subjects": [subject_id for subject_id, _ in refused],
        "channels": [channel for _, channel in refused],
        "at": at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_WITHDRAW, values)
        withdrawn = cursor.fetchall()
    if not withdrawn:
        return
    events = list(_events(application_id, refused, withdrawn, at))
    ConsentEvent.objects.bulk_create(events)
    notices_of_results(Application.objects.get(pk=application_id), events)


def _events(
    application_id: UUID, refused: Mapping[tuple[UUID, str], UUID], withdrawn: Iterable[Any], at: datetime
) -> Iterable[ConsentEvent]:
    now = timezone.now()
    for user_id, subject_id, channel, was_night in withdrawn:
        types = [ConsentEventType.NIGHT_WITHDRAWN] if was_night else []
        for event_type in (*types, ConsentEventType.WITHDRAWN):
            yield ConsentEvent(
                application_id=application_id,
                user_id=user_id,
                subscription_id=refused[subject_id, channel],
                channel=channel,
                event_type=event_type.value,
                source=ConsentSource.PROVIDER,
                effective_at=at,
                occurred_at=now,
            )


def _masked(type: str, sealed: bytes) -> str:
    try:
        return masked_address(type, keyring().decrypt(bytes(sealed)).decode())
    except (DecryptionError, UnicodeDecodeError):
        return "…"
