"""Users of a chunk: what would change, and the two statements that change it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.db import connection
from django.utils import timezone

from apps.subscriptions.imports.columns import Reject, UserRow
from apps.subscriptions.imports.models import OnConflict
from apps.subscriptions.imports.outcome import Outcome, Raced
from apps.subscriptions.validation import merged_properties
from automata_signal.errors import SignalError
from automata_signal.ids import new_id

# By the unique (application_id, external_id). Locks in the order of the ids, as by everybody who locks users.
# The statements of an import are planned each time, and not prepared: its tables may have been empty when it began.
_FIND = """
SELECT u.external_id, u.id, u.properties::text, u.is_archived
FROM unnest(%(external_ids)s::text[]) AS k (external_id)
     JOIN subscriptions_appuser u ON u.application_id = %(application_id)s AND u.external_id = k.external_id
"""
_LOCK = " ORDER BY u.id FOR NO KEY UPDATE OF u"
# In the order of the external ids, so that two imports of the same people do not wait for each other in a circle.
_INSERT = """
INSERT INTO subscriptions_appuser (id, application_id, external_id, properties, created_at, updated_at, is_archived)
SELECT n.id, %(application_id)s, n.external_id, n.properties::jsonb, coalesce(n.created_at, %(now)s), %(now)s, false
FROM unnest(%(ids)s::uuid[], %(external_ids)s::text[], %(properties)s::text[], %(created_at)s::timestamptz[])
     AS n (id, external_id, properties, created_at)
ORDER BY n.external_id
ON CONFLICT (application_id, external_id) DO NOTHING
"""
_UPDATE = """
UPDATE subscriptions_appuser u
SET properties = c.properties::jsonb, updated_at = %(now)s, is_archived = false, archived_at = NULL
FROM unnest(%(ids)s::uuid[], %(properties)s::text[]) AS c (id, properties)
WHERE u.id = c.id AND u.application_id = %(application_id)s
"""


class KnownUser(NamedTuple):
    id: UUID
    properties: str
    """As PostgreSQL writes JSON."""
    is_archived: bool


class _New(NamedTuple):
    external_id: str
    properties: str
    created_at: datetime | None


def import_users(application_id: UUID, rows: Sequence[UserRow], *, on_conflict: str, write: bool) -> Outcome:
    """Look at the users of these rows, each once, and with `write` make and change them. Raises `Raced`.

    Given properties are laid over those there are. An archived user comes back as if new, as by `user_create`.
    """
    known = known_users(application_id, [row.external_id for row in rows], lock=write)
    done = Outcome()
    new: list[_New] = []
    changed: list[tuple[UUID, str]] = []
    for row in rows:
        user = known.get(row.external_id)
        try:
            if user is None:
                properties = merged_properties({}, row.properties)
                new.append(_New(row.external_id, _json(properties), row.created_at))
                done.created += 1
                continue
            if on_conflict == OnConflict.SKIP and not user.is_archived:
                done.skipped += 1
                continue
            old = {} if user.is_archived else orjson.loads(user.properties)
            properties = merged_properties(old, row.properties)
        except SignalError as error:
            done.rejects.append(Reject(row.line, error.details))
            continue
        if properties == old and not user.is_archived:
            done.unchanged += 1
        else:
            changed.append((user.id, _json(properties)))
            done.updated += 1
    if write:
        _insert(application_id, new)
        _change(application_id, changed)
    return done


def users_of(application_id: UUID, external_ids: Collection[str], *, write: bool) -> Mapping[str, UUID]:
    """The ids of these users. With `write` those who are missing are made, and archived ones come back."""
    known = known_users(application_id, external_ids, lock=write)
    missing = [external_id for external_id in external_ids if external_id not in known]
    found = {external_id: user.id for external_id, user in known.items()}
    if write:
        found |= _insert(application_id, [_New(external_id, "{}", None) for external_id in missing])
        _change(application_id, [(user.id, user.properties) for user in known.values() if user.is_archived])
    else:
        found |= {external_id: new_id() for external_id in missing}
    return found


def known_users(application_id: UUID, external_ids: Collection[str], *, lock: bool) -> dict[str, KnownUser]:
    if not external_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            _FIND + _LOCK if lock else _FIND,
            {"application_id": application_id, "external_ids": list(external_ids)},
        )
        return {external_id: KnownUser(*rest) for external_id, *rest in cursor.fetchall()}


def _insert(application_id: UUID, new: Sequence[_New]) -> dict[str, UUID]:
    """Raises `Raced` if one of them is there by now."""
    if not new:
        return {}
    ids = [new_id() for _ in new]
    external_ids, properties, created_at = (list(column) for column in zip(*new, strict=True))
    values: dict[str, Any] = {
        "application_id": application_id,
        "now": timezone.now(),
        "ids": ids,
        "external_ids": external_ids,
        "properties": properties,
        "created_at": created_at,
    }
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        if cursor.rowcount != len(new):
            raise Raced
    return dict(zip(external_ids, ids, strict=True))


def _change(application_id: UUID, changed: Sequence[tuple[UUID, str]]) -> None:
    if not changed:
        return
    ids, properties = (list(column) for column in zip(*changed, strict=True))
    values: dict[str, Any] = {
        "application_id": application_id,
        "now": timezone.now(),
        "ids": ids,
        "properties": properties,
    }
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE, values)


def _json(properties: dict[str, Any]) -> str:
    return orjson.dumps(properties).decode()
