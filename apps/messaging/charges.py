"""What sending uses up: messaging's states in the words of billing, which knows quotas and no messages.

What is accepted is reserved, before anything is sent. Each set of messages that moves settles its reservation in the
same transaction (`recorders.record`), by this table:

    a provider took it                     it counts as sent, and is used up
    it failed before a provider took it    it is given back
    it may have arrived (unknown outcome)  it is used up, and not sent
    its recipient left before it was made  it is given back
    one joined before it was made          nothing: the claim reserves for them
    it failed for want of a receipt        nothing: it was sent
    it is over the quota                   nothing: it was never reserved

`BILLING` off: nothing is reserved and nothing counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db import connection

from apps.billing.checking import Held
from apps.billing.services.ledger import lock_quotas
from apps.billing.services.quota import (
    Settlement,
    quota_forget,
    quota_is_limited,
    quota_release,
    quota_reserve,
    quota_settle,
)
from apps.messaging import retry
from apps.messaging.models import MessageStatus

if TYPE_CHECKING:
    from apps.messaging.recorders import StatusCount

OVER_QUOTA = "quota_exceeded"
"""Why a message fails that the quota had no room for."""
_OPEN = frozenset({MessageStatus.PENDING.value, MessageStatus.ERRORED.value})
_USED_UP = frozenset({retry.UNKNOWN_OUTCOME})
"""Failures that give nothing back."""


def hold(application_id: UUID) -> None:
    """Lock all quotas of the application in their order: before more than one channel is reserved, for two that lock
    one after the other could wait for each other."""
    if settings.BILLING:
        lock_quotas(application_id)


def reserve(*, application_id: UUID, channel_type: str, messages: int, at_most: bool = False) -> int:
    """Reserve the messages, or with `at_most` as many as fit; how many. Raises as `quota_reserve`. Last in the
    transaction."""
    if not settings.BILLING or not messages:
        return messages
    reservation = quota_reserve(
        application_id=application_id, channel_type=channel_type, messages=messages, at_most=at_most
    )
    return reservation.messages


def release(*, application_id: UUID, channel_type: str, messages: int, reserved_at: datetime) -> None:
    """Give back what was reserved and will not become messages."""
    if settings.BILLING and messages:
        quota_release(
            application_id=application_id, channel_type=channel_type, messages=messages, reserved_at=reserved_at
        )


def is_limited(*, application_id: UUID, channel_type: str) -> bool:
    """Whether messages of the channel could be refused, so that it is worth counting them beforehand."""
    return bool(settings.BILLING) and quota_is_limited(application_id=application_id, channel_type=channel_type)


def settle(counts: Sequence[StatusCount], reserved_at: datetime | None) -> None:
    """Count what became of reserved messages, one statement for each application and channel, of which a slice has
    one. `reserved_at` is None for messages of which none was reserved or none can fail."""
    if not settings.BILLING:
        return
    found: dict[tuple[UUID, str], Settlement] = defaultdict(Settlement)
    for count in counts:
        _add(found[count.application_id, count.channel_type], count, was_reserved=reserved_at is not None)
    for (application_id, channel_type), settlement in sorted(found.items(), key=lambda item: item[0]):
        quota_settle(
            application_id=application_id, channel_type=channel_type, settlement=settlement, reserved_at=reserved_at
        )


def _add(settlement: Settlement, count: StatusCount, *, was_reserved: bool) -> None:
    if count.old in _OPEN and count.new == MessageStatus.SUCCESSFUL:
        settlement.closed += count.messages
        settlement.sent += count.messages
    elif was_reserved and ((count.old in _OPEN and count.new == MessageStatus.FAILED) or _has_left(count)):
        settlement.closed += count.messages
        settlement.given_back += 0 if count.reason in _USED_UP else count.messages


def _has_left(count: StatusCount) -> bool:
    return not count.new and count.messages > 0


def forget(*, application_id: UUID, channel_type: str, sent: int, opened: int = 0) -> None:
    """Retention has deleted messages: so many that were sent, so many that were open."""
    if settings.BILLING and (sent or opened):
        quota_forget(application_id=application_id, channel_type=channel_type, sent=sent, opened=opened)


# --- For `manage.py check_ledger` ------------------------------------------------------------------------------------

# By `message_by_application`.
_MESSAGES = """
    SELECT channel_type, count(sent_at), count(*) FILTER (WHERE status IN ('pending', 'errored'))
    FROM messaging_message WHERE application_id = %s GROUP BY 1
"""
# Recipients of slices whose messages are not made yet; and, to be taken away, messages of slices over the quota that
# were made and have not failed yet. The open batches are few.
_BATCHES = """
    SELECT d.channel_type,
           coalesce(sum(b.recipient_count) FILTER (WHERE b.first_id IS NULL AND NOT b.is_over_quota), 0)::bigint,
           coalesce(sum(m.opened), 0)::bigint
    FROM messaging_dispatchbatch b
         JOIN messaging_dispatch d ON d.id = b.dispatch_id AND d.application_id = b.application_id
         LEFT JOIN LATERAL (
             SELECT count(*) AS opened FROM messaging_message
             WHERE application_id = b.application_id AND status IN ('pending', 'errored')
               AND id BETWEEN b.first_id AND overlay(b.first_id::text PLACING 'ffffff' FROM 31)::uuid
         ) m ON b.is_over_quota
    WHERE b.application_id = %s AND b.state <> 'done' GROUP BY 1
"""


def count_held(application_id: UUID) -> dict[str, Held]:
    """What the application's messages say of its quotas (`billing.checking`)."""
    held: dict[str, Held] = defaultdict(Held)
    with connection.cursor() as cursor:
        cursor.execute(_MESSAGES, [application_id])
        for channel_type, sent, opened in cursor.fetchall():
            held[channel_type] = Held(sent, opened)
        cursor.execute(_BATCHES, [application_id])
        for channel_type, planned, unreserved in cursor.fetchall():
            held[channel_type] = held[channel_type].plus(Held(0, planned - unreserved))
    return held
