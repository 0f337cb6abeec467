"""How many marketing messages a person gets, by day and week: counted when a batch is first claimed.

A count is a row for each person, cap and day (`subscriptions_sendcount`), written in the transaction of the claim: it
neither forgets nor counts twice when a worker dies. The rows of those who are counted are locked until its end, so that
two campaigns at once count one after the other. What is over a cap fails as `frequency_capped` in that transaction.

A message counts on the day on which it is to leave, by the application's clock, whatever becomes of it then; several
messages of one batch to one person (two phones of one kind) count once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.messaging.courtesy.rules import Cap

CAPPED = "frequency_capped"
KEEP_DAYS = 8

# Locked in the order of the key, caps in the order of theirs.
_COUNT = """
    INSERT INTO subscriptions_sendcount AS c (application_id, subject_id, key, day, messages)
    SELECT %(application_id)s, w.subject_id, %(key)s, w.day, 1
    FROM unnest(%(subjects)s::uuid[], %(days)s::date[]) AS w (subject_id, day)
    ORDER BY w.subject_id, w.day
    ON CONFLICT (application_id, subject_id, key, day) DO UPDATE SET messages = c.messages + 1
    RETURNING c.subject_id, c.messages
"""
# With those of a day: by the primary key, of people whose rows of today are locked.
_WEEK = """
    SELECT w.subject_id, sum(c.messages)
    FROM unnest(%(subjects)s::uuid[], %(days)s::date[]) AS w (subject_id, day)
         JOIN subscriptions_sendcount c ON c.application_id = %(application_id)s AND c.subject_id = w.subject_id
           AND c.key = %(key)s AND c.day BETWEEN w.day - 6 AND w.day + 6
    GROUP BY w.subject_id
"""
_TAKE_BACK = """
    UPDATE subscriptions_sendcount c SET messages = c.messages - 1
    FROM unnest(%(subjects)s::uuid[], %(days)s::date[]) AS w (subject_id, day)
    WHERE c.application_id = %(application_id)s AND c.subject_id = w.subject_id AND c.key = %(key)s AND c.day = w.day
"""


def over_caps(application_id: UUID, caps: list[Cap], days: Mapping[UUID, date]) -> set[UUID]:
    """Count a message for each of these people (subject → the day on which it leaves) under each of the caps; answers
    with those for whom it would be one too many, who are not counted. In the caller's transaction."""
    over: set[UUID] = set()
    counted: list[tuple[Cap, dict[UUID, date]]] = []
    for cap in caps:
        asked = {subject: day for subject, day in days.items() if subject not in over}
        if not asked:
            break
        found = _count(application_id, cap, asked)
        over |= found
        counted.append((cap, asked))
    for cap, asked in counted:
        if back := {subject: day for subject, day in asked.items() if subject in over}:
            _run(_TAKE_BACK, application_id, cap, back)
    return over


def _count(application_id: UUID, cap: Cap, days: Mapping[UUID, date]) -> set[UUID]:
    today = dict(_run(_COUNT, application_id, cap, days))
    over = {subject for subject, count in today.items() if cap.per_day is not None and count > cap.per_day}
    if cap.per_week is not None:
        over |= {subject for subject, count in _run(_WEEK, application_id, cap, days) if count > cap.per_week}
    return over


def _run(statement: str, application_id: UUID, cap: Cap, days: Mapping[UUID, date]) -> list[tuple[Any, ...]]:
    values: dict[str, Any] = {"application_id": application_id, "key": cap.key}
    values |= {"subjects": list(days), "days": list(days.values())}
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


# By `send_count_old`, a BRIN index: a day's rows lie together.
_FORGET = """
    DELETE FROM subscriptions_sendcount WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM subscriptions_sendcount WHERE day < %s LIMIT %s))
"""


def counts_forget(today: date, *, limit: int = 20_000) -> int:
    """Delete counts that no cap looks at any more, `limit` at most; how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_FORGET, [today - timedelta(days=KEEP_DAYS), limit])
        return int(cursor.rowcount)
