"""Whom a chain has reached already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import connection

# A user's subscriptions, and of each the messages since the chain began: by `message_by_subscription`.
_REACHED = """
    SELECT DISTINCT u.id::text
    FROM unnest(%(users)s::uuid[]) u(id)
         JOIN subscriptions_subscription s ON s.user_id = u.id AND s.application_id = %(application_id)s
         JOIN LATERAL (
             SELECT 1 FROM messaging_message m
             WHERE m.subscription_id = s.id AND m.id > %(chain_id)s AND m.application_id = %(application_id)s
               AND m.dispatch_id = ANY(%(dispatches)s::uuid[]) AND m.status = ANY(%(states)s::text[])
             LIMIT 1
         ) hit ON true
"""


def users_reached(
    *,
    application_id: UUID,
    chain_id: UUID,
    dispatch_ids: Iterable[UUID],
    user_ids: Iterable[UUID | str],
    states: Iterable[str],
) -> set[str]:
    """Of these users those who have a message of these dispatches in one of the states. A message's id is made after
    the chain's, so nothing older is looked at."""
    users = sorted({str(user_id) for user_id in user_ids})
    if not users:
        return set()
    parameters: dict[str, Any] = {
        "users": users,
        "application_id": application_id,
        "chain_id": chain_id,
        "dispatches": list(dispatch_ids),
        "states": list(states),
    }
    with connection.cursor() as cursor:
        cursor.execute(_REACHED, parameters)
        return {row[0] for row in cursor.fetchall()}
