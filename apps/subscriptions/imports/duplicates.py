"""Which line of a file had a row first, and which of its people were erased since it was uploaded.

A key is a digest of what makes a row unique. The check claims the keys of all good lines; applying looks them up. Both
see the same first line, so both reject the same repeated ones, however often they were interrupted. The table
`subscriptions_importkey` (migration 0002) has no model: nothing but this reads it, and it is empty between imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection

from apps.subscriptions.imports.columns import SubscriptionRow, UserRow
from apps.subscriptions.imports.models import OPEN, Import
from apps.subscriptions.models import AppUser, Subscription
from automata_signal.encryption import keyed_digest

ERASED_LINE = 0
"""In the place of a line: this person was erased after the upload, and is not brought back by it."""
DELETED_AT_ONCE = 100_000

# By the primary key. A key that is there keeps its line.
_CLAIM = """
INSERT INTO subscriptions_importkey (application_id, import_id, key, line)
SELECT %(application_id)s, %(import_id)s, k.key, k.line
FROM unnest(%(keys)s::uuid[], %(lines)s::int[]) AS k (key, line)
ORDER BY k.key
ON CONFLICT DO NOTHING
"""
_LOOK_UP = """
SELECT i.key, i.line
FROM unnest(%(keys)s::uuid[]) AS k (key)
     JOIN subscriptions_importkey i
       ON i.application_id = %(application_id)s AND i.import_id = %(import_id)s AND i.key = k.key
"""
_ERASE = """
INSERT INTO subscriptions_importkey (application_id, import_id, key, line)
SELECT %(application_id)s, i, k, 0 FROM unnest(%(imports)s::uuid[]) AS i, unnest(%(keys)s::uuid[]) AS k
ORDER BY i, k
ON CONFLICT (application_id, import_id, key) DO UPDATE SET line = 0
"""
# Index: `import_key_erased`.
_ERASED = """
SELECT count(*) FROM subscriptions_importkey
WHERE application_id = %(application_id)s AND import_id = %(import_id)s AND line = 0
"""
_FORGET = """
DELETE FROM subscriptions_importkey WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM subscriptions_importkey
  WHERE application_id = %(application_id)s AND import_id = %(import_id)s LIMIT %(limit)s
))
"""


_RELEASE = _FORGET.replace("LIMIT", "AND line <> 0 LIMIT")


def key_of(row: UserRow | SubscriptionRow) -> UUID:
    """What no other line of the file may have."""
    return user_key(row.external_id) if isinstance(row, UserRow) else UUID(bytes=row.digest[:16])


def user_key(external_id: str) -> UUID:
    return UUID(bytes=keyed_digest("import-user", external_id)[:16])


def claim_lines(run: Import, rows: Sequence[UserRow | SubscriptionRow]) -> None:
    """Note the lines of these rows, where no earlier line has their keys."""
    first: dict[UUID, int] = {}
    for row in rows:
        first.setdefault(key_of(row), row.line)
    values = _values(run, list(first)) | {"lines": list(first.values())}
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)


def first_lines(run: Import, rows: Sequence[UserRow | SubscriptionRow]) -> Mapping[UUID, int]:
    """The first line of each key; `ERASED_LINE` for the keys, and the external ids, of erased people."""
    keys = {key_of(row) for row in rows}
    keys |= {user_key(row.external_id) for row in rows if isinstance(row, SubscriptionRow) and row.external_id}
    with connection.cursor() as cursor:
        cursor.execute(_LOOK_UP, _values(run, list(keys)))
        return dict(cursor.fetchall())


def note_erased(user: AppUser, subscription_ids: Sequence[UUID]) -> None:
    """Keep the imports that are not over from bringing a person back, who is locked and about to be erased.

    The imports are not locked: a step locks its import first and people later. It sees by `erased_so_far` that somebody
    was erased while it worked.
    """
    ids = sorted(Import.objects.filter(application_id=user.application_id, state__in=OPEN).values_list("pk", flat=True))
    if not ids:
        return
    digests = Subscription.with_archived.filter(pk__in=subscription_ids).values_list("token_digest", flat=True)
    keys = [user_key(user.external_id), *(UUID(bytes=bytes(digest)[:16]) for digest in digests)]
    with connection.cursor() as cursor:
        cursor.execute(_ERASE, {"application_id": user.application_id, "imports": ids, "keys": keys})


def erased_so_far(run: Import) -> int:
    """Grows with each person who is erased while the import is open."""
    with connection.cursor() as cursor:
        cursor.execute(_ERASED, {"application_id": run.application_id, "import_id": run.pk})
        (count,) = cursor.fetchone()
    return int(count)


def forget_keys(run: Import) -> None:
    """Of an import that is over."""
    _delete(run, _FORGET)


def release_lines(run: Import) -> None:
    """Of an import that is checked anew, with other columns; who was erased stays noted."""
    _delete(run, _RELEASE)


def _delete(run: Import, statement: str) -> None:
    values: dict[str, Any] = {"application_id": run.application_id, "import_id": run.pk, "limit": DELETED_AT_ONCE}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        while cursor.rowcount == DELETED_AT_ONCE:
            cursor.execute(statement, values)


def _values(run: Import, keys: list[UUID]) -> dict[str, Any]:
    return {"application_id": run.application_id, "import_id": run.pk, "keys": keys}
