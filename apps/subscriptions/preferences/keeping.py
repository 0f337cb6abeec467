"""What becomes of choices when a person is erased, and what of them an export has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q

from apps.subscriptions.models import AppUser
from apps.subscriptions.preferences.consents import preferences_of
from apps.subscriptions.preferences.models import (
    ActiveHours,
    ConsentEvent,
    ConsentNotice,
    MarketingConsent,
    NoticeState,
    OptIn,
    Preference,
)
from apps.subscriptions.preferences.subjects import Subject


def forget_choices(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Delete preferences and consents of an erased user.

    What stays: consent events, which name nobody any more once the user is erased and are the proof of what was sent;
    and the suppression list, which holds digests, without the masked address: an objection outlives the account.
    """
    subjects = [user.pk, *subscription_ids]
    scope = {"application_id": user.application_id}
    Preference.objects.filter(**scope, subject_id__in=subjects).delete()
    MarketingConsent.objects.filter(**scope, subject_id__in=subjects).delete()
    ActiveHours.objects.filter(**scope, subject_id__in=subjects).delete()
    OptIn.objects.filter(subscription_id__in=subscription_ids).delete()
    open_notices = ConsentNotice.objects.filter(**scope, state=NoticeState.DUE)
    open_notices.filter(user_id=user.pk).update(state=NoticeState.VOID, note="user erased")
    open_notices.filter(subscription_id__in=subscription_ids).update(state=NoticeState.VOID, note="user erased")
    with connection.cursor() as cursor:
        for statement in (_FORGET_MASKED, _FORGET_MASKED_EVENTS):
            cursor.execute(statement, [list(subscription_ids), user.application_id])
        cursor.execute(_FORGET_COUNTS, [user.application_id, subjects])


# By the unique (application_id, type, address_digest), before the digests are freed.
_FORGET_MASKED = """
UPDATE subscriptions_suppression x SET masked_address = ''
FROM subscriptions_subscription s
WHERE s.id = ANY(%s::uuid[]) AND s.application_id = %s
  AND x.application_id = s.application_id AND x.type = s.type AND x.address_digest = s.token_digest
"""
_FORGET_MASKED_EVENTS = _FORGET_MASKED.replace("subscriptions_suppression x", "subscriptions_suppressionevent x")
_FORGET_COUNTS = "DELETE FROM subscriptions_sendcount WHERE application_id = %s AND subject_id = ANY(%s::uuid[])"


def export_choices(user: AppUser, subscription_ids: Sequence[UUID]) -> Any:
    """What a user wants, how it came about, what they were told, and when they are usually active (UTC)."""
    own = Q(user_id=user.pk) | Q(user_id=None, subscription_id__in=subscription_ids)
    events = ConsentEvent.objects.filter(own, application_id=user.application_id).order_by("id")
    hours = ActiveHours.objects.filter(application_id=user.application_id, subject_id__in=[user.pk, *subscription_ids])
    notices = ConsentNotice.objects.filter(application_id=user.application_id, user_id=user.pk).order_by("id")
    return {
        "preferences": preferences_of(Subject.of_user(user))["channels"],
        "consent_events": [
            {
                "channel": event.channel,
                "category": event.category,
                "event_type": event.event_type,
                "source": event.source,
                "evidence": event.evidence,
                "effective_at": event.effective_at,
                "occurred_at": event.occurred_at,
                "subscription_id": event.subscription_id,
            }
            for event in events
        ],
        "consent_notices": [
            {"kind": notice.kind, "channel": notice.channel, "state": notice.state, "finished_at": notice.finished_at}
            for notice in notices
        ],
        "active_hours": [{"hours": row.hours, "updated_at": row.updated_at} for row in hours.order_by("subject_id")],
    }
