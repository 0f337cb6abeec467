"""Subscriptions of a chunk: what would change, with consent and events, and the statements that change it.

What a change means is `SubscriptionChange`'s matter, as for one row; here it is written for all rows at once. First
everybody is looked at without a lock; then users are made or locked, then subscriptions locked by id, and where one is
not as it was, the chunk begins anew (`Raced`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection
from django.utils import timezone

from apps.subscriptions.imports.columns import DEVICE_FIELDS, Reject, SubscriptionRow
from apps.subscriptions.imports.models import OnConflict
from apps.subscriptions.imports.outcome import Outcome, Raced
from apps.subscriptions.imports.users import users_of
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent, SubscriptionEventType
from apps.subscriptions.preferences.suppressed import suppressed_status, suppression_reasons
from apps.subscriptions.services.changes import SubscriptionChange
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.subscriptions.validation import merged_tags
from automata_signal.encryption import keyring
from automata_signal.errors import SignalError
from automata_signal.ids import new_id

SOURCE = "import"
"""What `status_source` and an event's `source` say."""
NEVER_ASKED = frozenset({SubscriptionStatus.NEVER_SUBSCRIBED, SubscriptionStatus.NOT_YET_SUBSCRIBED})
"""Whoever has another status that is no subscription had one and ended it, or a provider says the address is dead."""
TOKEN_OF_UNKNOWN_AGE = datetime(1970, 1, 1, tzinfo=UTC)
"""`token_registered_at` of what no device gave us: whatever a provider says about it is newer (APNs 410)."""

_COLUMNS = (
    *("user_id", *DEVICE_FIELDS, "tags", "subscription_status", "status_source"),
    *("subscribed_at", "unsubscribed_at", "is_archived", "archived_at"),
)
"""What an import may change, as they are read and written."""
_TYPES = {
    "user_id": "uuid",
    "test_type": "smallint",
    "tags": "jsonb",
    "subscription_status": "smallint",
    "subscribed_at": "timestamptz",
    "unsubscribed_at": "timestamptz",
    "is_archived": "boolean",
    "archived_at": "timestamptz",
}
_READ = ", ".join("s.tags::text" if name == "tags" else f"s.{name}" for name in _COLUMNS)
_ARRAYS = ", ".join(
    f"%({name})s::text[]::jsonb[]" if name == "tags" else f"%({name})s::{_TYPES.get(name, 'text')}[]"
    for name in _COLUMNS
)

# By the unique (application_id, type, token_digest).
_FIND = f"""
SELECT s.id, s.token_digest, s.type, {_READ}
FROM unnest(%(types)s::text[], %(digests)s::bytea[]) AS k (type, digest)
     JOIN subscriptions_subscription s
       ON s.application_id = %(application_id)s AND s.type = k.type AND s.token_digest = k.digest
"""
# By the primary key, in its order.
_LOCK = f"""
SELECT s.id, s.token_digest, s.type, {_READ}
FROM unnest(%(ids)s::uuid[]) AS k (id)
     JOIN subscriptions_subscription s ON s.application_id = %(application_id)s AND s.id = k.id
ORDER BY s.id FOR NO KEY UPDATE OF s
"""
_UPDATE = f"""
UPDATE subscriptions_subscription s
SET updated_at = %(now)s, {", ".join(f"{name} = c.{name}" for name in _COLUMNS)}
FROM unnest(%(ids)s::uuid[], {_ARRAYS}) AS c (id, {", ".join(_COLUMNS)})
WHERE s.id = c.id AND s.application_id = %(application_id)s
"""
# In the order of the digests, so that two imports of the same addresses do not wait for each other in a circle.
_INSERT = f"""
INSERT INTO subscriptions_subscription
  (id, application_id, type, token, token_digest, token_registered_at, handle_version, total_messages_received,
   total_messages_converted, created_at, updated_at, {", ".join(_COLUMNS)})
SELECT n.id, %(application_id)s, n.type, n.token, n.token_digest, %(token_registered_at)s, 1, 0, 0, %(now)s, %(now)s,
       {", ".join(f"n.{name}" for name in _COLUMNS)}
FROM unnest(%(ids)s::uuid[], %(types)s::text[], %(tokens)s::bytea[], %(digests)s::bytea[], {_ARRAYS})
     AS n (id, type, token, token_digest, {", ".join(_COLUMNS)})
ORDER BY n.type, n.token_digest
ON CONFLICT (application_id, type, token_digest) DO NOTHING
"""
_EVENTS = """
INSERT INTO subscriptions_subscriptionevent
  (id, application_id, subscription_id, user_id, event_type, channel, source, reason, old_status, new_status,
   occurred_at, position)
SELECT e.id, %(application_id)s, e.subscription_id, e.user_id, e.event_type, e.channel, %(source)s, e.reason,
       e.old_status, e.new_status, %(now)s, (SELECT event_position())
FROM unnest(%(ids)s::uuid[], %(subscription_ids)s::uuid[], %(user_ids)s::uuid[], %(event_types)s::text[],
            %(channels)s::text[], %(reasons)s::text[], %(old)s::smallint[], %(new)s::smallint[])
     AS e (id, subscription_id, user_id, event_type, channel, reason, old_status, new_status)
"""


class _Known(NamedTuple):
    """A subscription as it was looked at."""

    id: UUID
    digest: bytes
    type: str
    columns: tuple[Any, ...]


class _Event(NamedTuple):
    subscription_id: UUID
    user_id: UUID | None
    event_type: str
    channel: str
    reason: str
    old_status: int | None
    new_status: int | None


class _Options(NamedTuple):
    on_conflict: str
    resubscribe: bool
    reason: str


def import_subscriptions(
    application_id: UUID,
    rows: Sequence[SubscriptionRow],
    *,
    on_conflict: str,
    resubscribe: bool,
    reason: str,
    write: bool,
) -> Outcome:
    """Look at the subscriptions of these rows, each once, and with `write` make and change them. Raises `Raced`.

    Who has ended stays so, and who is archived is left alone, unless `resubscribe` says otherwise. A new one without
    status was never subscribed (0). `reason` stands in the events.
    """
    options = _Options(on_conflict, resubscribe, reason)
    done = Outcome()
    rows = _with_suppressed(application_id, rows, done)
    known = _find(application_id, rows)
    wanted = [row for row in rows if _is_wanted(row, known.get((row.type, row.digest)), options, done)]
    external_ids = {row.external_id for row in wanted if row.external_id is not None}
    users = users_of(application_id, sorted(external_ids), write=write)
    now = timezone.now()
    new: list[tuple[SubscriptionRow, UUID | None]] = []
    changes: list[SubscriptionChange] = []
    for row in wanted:
        user_id = users[row.external_id] if row.external_id is not None else None
        old = known.get((row.type, row.digest))
        if old is None:
            new.append((row, user_id))
            done.created += 1
            continue
        change = _changed(application_id, row, old, user_id, options)
        if change.changed:
            changes.append(change)
            done.updated += 1
        else:
            done.unchanged += 1
    if write:
        _lock_unchanged(
            application_id, [known[row.type, row.digest] for row in wanted if (row.type, row.digest) in known]
        )
        events = _insert(application_id, new, now, reason)
        _update(application_id, changes, now)
        events += [_event_of(event, reason) for change in changes for event in change.events]
        _write_events(application_id, events, now)
    return done


def _with_suppressed(application_id: UUID, rows: Sequence[SubscriptionRow], done: Outcome) -> Sequence[SubscriptionRow]:
    """The rows, of which those on the suppression list are not subscribed, whatever the file and its options ask."""
    asked = [(row.type, row.digest) for row in rows if row.status is not None and row.status > 0]
    reasons = suppression_reasons(application_id, asked)
    if not reasons:
        return rows
    checked = []
    for row in rows:
        reason = reasons.get((row.type, row.digest)) if row.status is not None and row.status > 0 else None
        if reason is not None:
            done.kept += 1
            row = row._replace(status=suppressed_status(row.type, reason))
        checked.append(row)
    return checked


def _is_wanted(row: SubscriptionRow, old: _Known | None, options: _Options, done: Outcome) -> bool:
    """Whether the row is to be made or looked at further. Counts what is not, and whose wish is not followed."""
    tags: Mapping[str, Any] = {}
    if old is not None:
        columns = dict(zip(_COLUMNS, old.columns, strict=True))
        tags = orjson.loads(columns["tags"])
        if _stays_ended(row, columns["subscription_status"], options) or (
            columns["is_archived"] and row.status == SubscriptionStatus.SUBSCRIBED and not options.resubscribe
        ):
            done.kept += 1
        if options.on_conflict == OnConflict.SKIP or (columns["is_archived"] and not options.resubscribe):
            done.skipped += 1
            return False
    try:
        merged_tags(tags, row.tags)
    except SignalError as error:
        done.rejects.append(Reject(row.line, error.details))
        return False
    return True


def _stays_ended(row: SubscriptionRow, status: int, options: _Options) -> bool:
    """Whether the file asks for a subscription that somebody, or a provider, has ended."""
    wants = row.status is not None and row.status > 0
    return wants and not options.resubscribe and status <= 0 and status not in NEVER_ASKED


def _changed(
    application_id: UUID, row: SubscriptionRow, old: _Known, user_id: UUID | None, options: _Options
) -> SubscriptionChange:
    columns = dict(zip(_COLUMNS, old.columns, strict=True))
    columns["tags"] = orjson.loads(columns["tags"])
    subscription = Subscription(id=old.id, application_id=application_id, type=old.type, **columns)
    change = SubscriptionChange(subscription, setter=Setter.PERSON, source=SOURCE)
    user = AppUser(id=user_id, application_id=application_id) if user_id is not None else None
    if subscription.is_archived:
        change.restore(reason=options.reason)
        change.link(user, reason=options.reason)
    elif user is not None:
        change.link(user, reason=options.reason)
    if row.tags:
        change.set(tags=merged_tags(subscription.tags, row.tags))
    change.set(**row.device)
    if not _stays_ended(row, subscription.subscription_status, options):
        change.set_status(row.status, reason=options.reason)
    return change


def _find(application_id: UUID, rows: Sequence[SubscriptionRow]) -> dict[tuple[str, bytes], _Known]:
    values: dict[str, Any] = {
        "application_id": application_id,
        "types": [row.type for row in rows],
        "digests": [row.digest for row in rows],
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND, values)
        found = [_known(row) for row in cursor.fetchall()]
    return {(known.type, known.digest): known for known in found}


def _known(row: Sequence[Any]) -> _Known:
    key, digest, type_, *columns = row
    return _Known(key, bytes(digest), type_, tuple(columns))


def _lock_unchanged(application_id: UUID, looked_at: Sequence[_Known]) -> None:
    """Lock these rows, or raise `Raced` if one of them is not as it was any more."""
    if not looked_at:
        return
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, {"application_id": application_id, "ids": [known.id for known in looked_at]})
        if {known.id: known for known in map(_known, cursor.fetchall())} != {known.id: known for known in looked_at}:
            raise Raced


def _insert(
    application_id: UUID, new: Sequence[tuple[SubscriptionRow, UUID | None]], now: datetime, reason: str
) -> list[_Event]:
    """Make them; answers with their events. Raises `Raced` if one of them is there by now."""
    if not new:
        return []
    ids = [new_id() for _ in new]
    encrypt = keyring().encrypt
    values: dict[str, Any] = {
        "application_id": application_id,
        "now": now,
        "token_registered_at": TOKEN_OF_UNKNOWN_AGE,
        "ids": ids,
        "types": [row.type for row, _ in new],
        "tokens": [encrypt(row.token.encode()) for row, _ in new],
        "digests": [row.digest for row, _ in new],
    }
    columns = [_new_columns(row, user_id, now) for row, user_id in new]
    values |= {name: [column[name] for column in columns] for name in _COLUMNS}
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        if cursor.rowcount != len(new):
            raise Raced
    return [
        event for key, (row, user_id) in zip(ids, new, strict=True) for event in _new_events(key, row, user_id, reason)
    ]


def _new_columns(row: SubscriptionRow, user_id: UUID | None, now: datetime) -> dict[str, Any]:
    status = row.status or 0
    columns: dict[str, Any] = dict.fromkeys(DEVICE_FIELDS, "")
    columns |= {"test_type": 0, "user_id": user_id, "subscription_status": status, "status_source": SOURCE}
    columns |= {"subscribed_at": now if status > 0 else None, "unsubscribed_at": None}
    columns |= {"tags": _json(merged_tags({}, row.tags)), "is_archived": False, "archived_at": None}
    return columns | row.device


def _new_events(key: UUID, row: SubscriptionRow, user_id: UUID | None, reason: str) -> list[_Event]:
    """As `subscription_register` leaves them."""
    status = row.status or 0
    events = [_Event(key, user_id, SubscriptionEventType.REGISTERED.value, row.type, reason, None, status)]
    if status > 0:
        events.append(_Event(key, user_id, SubscriptionEventType.SUBSCRIBED.value, row.type, reason, 0, status))
    if user_id is not None:
        events.append(_Event(key, user_id, SubscriptionEventType.LINKED.value, row.type, reason, status, status))
    return events


def _event_of(event: SubscriptionEvent, reason: str) -> _Event:
    return _Event(
        event.subscription_id,
        event.user_id,
        str(event.event_type),
        event.channel,
        event.reason or reason,
        event.old_status,
        event.new_status,
    )


def _update(application_id: UUID, changes: Sequence[SubscriptionChange], now: datetime) -> None:
    if not changes:
        return
    rows = [change.subscription for change in changes]
    values: dict[str, Any] = {"application_id": application_id, "now": now, "ids": [row.pk for row in rows]}
    values |= {name: [getattr(row, name) for row in rows] for name in _COLUMNS}
    values["tags"] = [_json(row.tags) for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE, values)


def _write_events(application_id: UUID, events: Sequence[_Event], now: datetime) -> None:
    if not events:
        return
    subscription_ids, user_ids, event_types, channels, reasons, old, new = (
        list(column) for column in zip(*events, strict=True)
    )
    values: dict[str, Any] = {
        "application_id": application_id,
        "source": SOURCE,
        "now": now,
        "ids": [new_id() for _ in events],
        "subscription_ids": subscription_ids,
        "user_ids": user_ids,
        "event_types": event_types,
        "channels": channels,
        "reasons": reasons,
        "old": old,
        "new": new,
    }
    with connection.cursor() as cursor:
        cursor.execute(_EVENTS, values)


def _json(tags: Mapping[str, Any]) -> str:
    return orjson.dumps(tags).decode()
