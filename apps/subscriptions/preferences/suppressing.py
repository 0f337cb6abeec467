"""The suppression list: what comes on it, what is taken off, and what that does to subscriptions.

Each change leaves a `SuppressionEvent`. Taking an address off subscribes nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.subscriptions.models import Subscription, SubscriptionType
from apps.subscriptions.preferences.models import (
    ConsentSource,
    Suppression,
    SuppressionEvent,
    SuppressionReason,
)
from apps.subscriptions.preferences.subjects import masked_address
from apps.subscriptions.preferences.suppressed import suppressed_status
from apps.subscriptions.validation import normal_token
from apps.tenants.models import Application
from automata_signal.encryption import keyed_digest
from automata_signal.errors import NotFound, ValidationFailed
from automata_signal.ids import new_id

TYPES = (SubscriptionType.EMAIL.value, SubscriptionType.SMS.value, SubscriptionType.KAKAO_TALK.value)


class Address(NamedTuple):
    """An address that is to come on the list."""

    type: str
    digest: bytes
    masked: str
    reason: str
    note: str = ""


def address_of(type: str, text: str, *, reason: str, note: str = "") -> Address:
    """A checked address. Raises `ValidationFailed` for `type`, `address`, `reason`."""
    if type not in TYPES:
        raise ValidationFailed.of("type", f"must be one of {', '.join(TYPES)}")
    if reason not in SuppressionReason.values:
        raise ValidationFailed.of("reason", f"must be one of {', '.join(SuppressionReason.values)}")
    try:
        address = normal_token(type, text)
    except ValidationFailed as error:
        raise ValidationFailed.of("address", error.details[0].message) from None
    return Address(type, address_digest(type, address), masked_address(type, address), reason, note[:200])


def address_digest(type: str, address: str) -> bytes:
    """As `services.subscriptions.token_digest`."""
    return keyed_digest(f"token:{type}", address)


# In the order of the key, so that two lists of the same addresses do not wait for each other in a circle.
_INSERT = """
INSERT INTO subscriptions_suppression
  (id, application_id, type, address_digest, masked_address, reason, source, note, created_at)
SELECT id, %(application_id)s, type, digest, masked, reason, %(source)s, note, %(now)s
FROM unnest(%(ids)s::uuid[], %(types)s::text[], %(digests)s::bytea[], %(masked)s::text[], %(reasons)s::text[],
            %(notes)s::text[]) AS a (id, type, digest, masked, reason, note)
ORDER BY type, digest
ON CONFLICT (application_id, type, address_digest) DO {conflict}
RETURNING type, address_digest
"""
_ADD = _INSERT.format(conflict="NOTHING")
# A complaint weighs more than any other reason: it takes its place.
_ADD_COMPLAINTS = _INSERT.format(
    conflict="UPDATE SET reason = excluded.reason, source = excluded.source, note = excluded.note"
    " WHERE subscriptions_suppression.reason <> 'complaint'"
)
# By the unique (application_id, type, token_digest); locked in the order of ids, as in `services.slices`.
_END = """
WITH suppressed AS (
  SELECT * FROM unnest(%(types)s::text[], %(digests)s::bytea[], %(statuses)s::smallint[], %(reasons)s::text[])
    AS a (type, digest, status, reason)
), locked AS (
  SELECT s.id, s.user_id, s.type, s.subscription_status AS old_status, a.status, a.reason
  FROM suppressed a JOIN subscriptions_subscription s
    ON s.application_id = %(application_id)s AND s.type = a.type AND s.token_digest = a.digest
  WHERE s.subscription_status > 0 OR s.subscription_status = -98
  ORDER BY s.id FOR NO KEY UPDATE OF s
), ended AS (
  UPDATE subscriptions_subscription s
  SET subscription_status = l.status, status_source = %(source)s, unsubscribed_at = %(now)s, updated_at = %(now)s
  FROM locked l WHERE s.id = l.id AND s.application_id = %(application_id)s
  RETURNING l.*
)
INSERT INTO subscriptions_subscriptionevent
  (id, application_id, subscription_id, user_id, event_type, channel, source, reason, old_status, new_status,
   occurred_at, position)
SELECT (%(event_ids)s::uuid[])[row_number() OVER (ORDER BY id)], %(application_id)s, id, user_id,
       CASE WHEN old_status > 0 THEN 'unsubscribed' ELSE 'status_changed' END, type, %(source)s,
       'suppressed: ' || reason, old_status, status, %(now)s, (SELECT event_position())
FROM ended
"""


def suppressions_add(
    *, application_id: UUID, addresses: Iterable[Address], source: str, by: str = "", end: bool = True
) -> int:
    """Put addresses on the list, each once, and end their subscriptions (`end`); how many were not on it.

    One that is on the list keeps its reason, but for a complaint, which takes the place of any other. In the caller's
    transaction if there is one. Subscriptions are locked before rows of the list.
    """
    first: dict[tuple[str, bytes], Address] = {}
    for address in addresses:
        held = first.get((address.type, address.digest))
        if held is None or address.reason == SuppressionReason.COMPLAINT:
            first[address.type, address.digest] = address
    rows = sorted(first.values(), key=lambda address: (address.type, address.digest))
    if not rows:
        return 0
    with transaction.atomic():
        if end:
            _end(application_id, rows, source)
        changed = _add(application_id, rows, source)
        SuppressionEvent.objects.bulk_create(
            SuppressionEvent(
                application_id=application_id,
                type=row.type,
                address_digest=row.digest,
                masked_address=row.masked,
                reason=row.reason,
                source=source,
                note=row.note,
                by=by[:200],
            )
            for row in rows
            if (row.type, row.digest) in changed
        )
    return len(changed)


def _end(application_id: UUID, rows: Sequence[Address], source: str) -> None:
    values: dict[str, Any] = {
        "application_id": application_id,
        "types": [row.type for row in rows],
        "digests": [row.digest for row in rows],
        "statuses": [int(suppressed_status(row.type, row.reason)) for row in rows],
        "reasons": [row.reason for row in rows],
        "event_ids": [new_id() for _ in rows],
        "source": source,
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(_END, values)


def _add(application_id: UUID, rows: Sequence[Address], source: str) -> set[tuple[str, bytes]]:
    changed: set[tuple[str, bytes]] = set()
    complaints = [row for row in rows if row.reason == SuppressionReason.COMPLAINT]
    others = [row for row in rows if row.reason != SuppressionReason.COMPLAINT]
    with connection.cursor() as cursor:
        for statement, some in ((_ADD, others), (_ADD_COMPLAINTS, complaints)):
            if some:
                values: dict[str, Any] = {
                    "application_id": application_id,
                    "source": source,
                    "now": timezone.now(),
                    "ids": [new_id() for _ in some],
                    "types": [row.type for row in some],
                    "digests": [row.digest for row in some],
                    "masked": [row.masked for row in some],
                    "reasons": [row.reason for row in some],
                    "notes": [row.note for row in some],
                }
                cursor.execute(statement, values)
                changed |= {(type_, bytes(digest)) for type_, digest in cursor.fetchall()}
    return changed


def suppress_subscription(row: Subscription, *, reason: str, source: str, note: str = "") -> None:
    """Put the address of a subscription on the list; the caller has ended it and holds its lock."""
    if row.type in TYPES and row.token:
        token: Any = row.token
        address = Address(row.type, bytes(row.token_digest), masked_address(row.type, token), reason, note)
        suppressions_add(application_id=row.application_id, addresses=[address], source=source, end=False)


def suppression_lift(row: Subscription, *, note: str, source: str = ConsentSource.LINK) -> None:
    """Take the address of a subscription off the list, if it is there."""
    found = Suppression.objects.filter(
        application_id=row.application_id, type=row.type, address_digest=bytes(row.token_digest)
    ).first()
    if found is not None:
        _remove(found, note=note, by="", source=source)


def suppression_get(*, application: Application, suppression_id: UUID) -> Suppression:
    found = Suppression.objects.for_application(application).filter(pk=suppression_id).first()
    if found is None:
        raise NotFound("There is no such address on the list.")
    return found


def suppression_remove(*, suppression: Suppression, note: str, by: str, source: str) -> None:
    """Take an address off the list. Why is asked for (`note`) and kept with who did it; it subscribes nobody.

    Raises `ValidationFailed` without a reason, and for a complaint without one of ten characters.
    """
    note = note.strip()
    least = 10 if suppression.reason == SuppressionReason.COMPLAINT else 1
    if len(note) < least:
        raise ValidationFailed.of("note", f"says why the address is taken off, in at least {least} characters")
    with transaction.atomic():
        row = Suppression.objects.select_for_update().filter(pk=suppression.pk).first()
        if row is None:
            raise NotFound("There is no such address on the list.")
        _remove(row, note=note, by=by, source=source)


def _remove(row: Suppression, *, note: str, by: str, source: str) -> None:
    with transaction.atomic():
        SuppressionEvent.objects.create(
            application_id=row.application_id,
            type=row.type,
            address_digest=bytes(row.address_digest),
            masked_address=row.masked_address,
            is_removal=True,
            reason=row.reason,
            source=source,
            note=note[:200],
            by=by[:200],
        )
        row.delete()
