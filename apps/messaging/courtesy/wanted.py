"""Who wants a message: consent for advertising, no refusal of its category, and no place on the suppression list.

One predicate over `s` (subscription) says so. It narrows the audience when it is counted, cut and made into messages,
and is asked again of messages that wait. The tables are looked up by their unique keys, by `coalesce(s.user_id, s.id)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from apps.messaging.models import Dispatch, Purpose
from apps.messaging.splitting import of_split
from apps.subscriptions.preferences.models import MessageCategory
from apps.subscriptions.targeting import Predicate
from automata_signal.ids import IdRange

NO_CONSENT, OPTED_OUT, SUPPRESSED = "no_consent", "opted_out", "suppressed"
"""Why somebody who could be reached does not get a message: reasons of messages, and of recipients who are skipped."""


class Condition(NamedTuple):
    """What has to hold, and what to say where it does not."""

    sql: str
    params: list[Any]
    reason: str


_CONSENT = """EXISTS (
    SELECT 1 FROM subscriptions_marketingconsent mc WHERE mc.application_id = s.application_id
      AND mc.subject_id = coalesce(s.user_id, s.id) AND mc.channel = %s AND mc.is_given)"""
_NOT_SUPPRESSED = """NOT EXISTS (
    SELECT 1 FROM subscriptions_suppression x WHERE x.application_id = s.application_id
      AND x.type = s.type AND x.address_digest = s.token_digest)"""
_CHOSEN = """{no}EXISTS (
    SELECT 1 FROM subscriptions_preference p WHERE p.application_id = s.application_id
      AND p.subject_id = coalesce(s.user_id, s.id) AND p.channel = %s AND p.category_id = %s::uuid
      AND {no}p.is_opted_in)"""


def conditions_of(application_id: UUID, channel: str, purpose: str, category: str) -> list[Condition]:
    conditions = []
    if purpose == Purpose.MARKETING:
        conditions.append(Condition(_CONSENT, [channel], NO_CONSENT))
        conditions.append(Condition(_NOT_SUPPRESSED, [], SUPPRESSED))
    if category:
        # An archived one too: what was accepted while it was in use keeps to what people chose.
        row = MessageCategory.objects.filter(application_id=application_id, slug=category).first()
        if row is not None and row.may_opt_out:
            sql = _CHOSEN.format(no="NOT " if row.is_default_opted_in else "")
            conditions.append(Condition(sql, [channel, str(row.pk)], OPTED_OUT))
    return conditions


def wanted(predicate: Predicate, *, application_id: UUID, channel: str, purpose: str, category: str) -> Predicate:
    """`predicate`, narrowed to those who want such a message. The very same where nobody is asked."""
    if purpose == Purpose.TRANSACTIONAL and not category:
        return predicate
    conditions = conditions_of(application_id, channel, purpose, category)
    sql = " AND ".join(condition.sql for condition in conditions)
    if not sql:
        return predicate
    params = [*predicate.params, *(value for condition in conditions for value in condition.params)]
    return Predicate(f"({predicate.sql}) AND {sql}", params, predicate.needs_user)


def audience_predicate(predicate: Predicate, dispatch: Dispatch) -> Predicate:
    """`wanted`, for a dispatch and its part of the audience."""
    return wanted(
        of_split(predicate, dispatch),
        application_id=dispatch.application_id,
        channel=dispatch.channel_type,
        purpose=dispatch.purpose,
        category=dispatch.category,
    )


def reason_of(conditions: Sequence[Condition]) -> tuple[str, list[Any]]:
    """An expression for why somebody does not want it; NULL: they do."""
    cases = " ".join(f"WHEN NOT ({condition.sql}) THEN '{condition.reason}'" for condition in conditions)
    return f"CASE {cases} END", [value for condition in conditions for value in condition.params]


# By the range of the messages' primary key.
_OF_MESSAGES = """
    SELECT id, reason FROM (
        SELECT m.id::text, {reason} AS reason
        FROM messaging_message m
             JOIN subscriptions_subscription s ON s.id = m.subscription_id AND s.application_id = m.application_id
        WHERE m.application_id = %s AND m.id BETWEEN %s AND %s AND m.status IN ('pending', 'errored')
    ) asked WHERE reason IS NOT NULL
"""


def unwanted_messages(dispatch: Dispatch, ids: IdRange) -> dict[str, str]:
    """The messages of this range that wait and that nobody wants any more, and why."""
    if dispatch.purpose == Purpose.TRANSACTIONAL and not dispatch.category:
        return {}
    conditions = conditions_of(dispatch.application_id, dispatch.channel_type, dispatch.purpose, dispatch.category)
    if not conditions:
        return {}
    reason, params = reason_of(conditions)
    with connection.cursor() as cursor:
        statement = _OF_MESSAGES.format(reason=reason)
        cursor.execute(statement, [*params, dispatch.application_id, ids.base, ids.last])
        return dict(cursor.fetchall())
