"""Making the messages of a campaign's slice: pending, in one range of ids, in the transaction that claims the slice.

The predicate of the audience is asked again, since people leave. A plain campaign's rows are made in the server; where
each message has words of its own they are rendered here and written by COPY.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from django.db import connection
from django.utils import timezone

from apps.messaging.adapters.base import Content
from apps.messaging.content import ContentSource, recipient_variables
from apps.messaging.courtesy.wanted import audience_predicate
from apps.messaging.models import Dispatch, DispatchBatch, MessageStatus
from apps.messaging.rendering import RenderError
from apps.messaging.splitting import without_repeats
from apps.subscriptions.targeting import JOIN_USER, REACHABLE, compile_criteria
from automata_signal.ids import IdRange, new_range
from automata_signal.metrics import RENDER_SECONDS, RENDERED


class Recipient(NamedTuple):
    """A message that is to be sent now, with what is needed to build it. Its ids are text, as they are sent."""

    message_id: str
    subscription_id: str
    attempts: int
    token: bytes
    test_type: int
    content: Content | None
    """Its own content where it differs from the dispatch's."""


@dataclass
class Made:
    """The messages of a slice."""

    ids: IdRange
    messages: int = 0
    recipients: list[Recipient] = field(default_factory=list)
    unsendable: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Messages whose words could not be rendered, by reason."""


def make_messages(batch: DispatchBatch, dispatch: Dispatch) -> Made:
    """A pending message for each recipient of the slice who can still be reached. Index: `subscription_reachable`."""
    return _make_personal(batch, dispatch) if dispatch.is_personalised else _make_plain(batch, dispatch)


# --- The same words for all ------------------------------------------------------------------------------------------

_MAKE = """
    WITH audience AS MATERIALIZED (
        SELECT s.id, s.user_id, s.token, s.test_type, row_number() OVER (ORDER BY s.id) - 1 AS position
        FROM subscriptions_subscription s {join}
        WHERE s.application_id = %s AND s.type = %s AND {reachable}
          AND s.id BETWEEN %s AND %s AND ({predicate})
    ), made AS (
        INSERT INTO messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id,
                                       channel_type, status, attempts, created_at)
        SELECT (%s || lpad(to_hex(position), 4, '0') || '00')::uuid, %s, %s, %s::uuid, id, user_id, %s, 'pending', 0, %s
        FROM audience
    )
    SELECT id::text, token, test_type FROM audience ORDER BY position
"""


def _make_plain(batch: DispatchBatch, dispatch: Dispatch) -> Made:
    made = Made(new_range())
    sql, parameters = _of_audience(_MAKE, batch, dispatch)
    parameters += [made.ids.prefix, batch.application_id, dispatch.pk, dispatch.campaign_id]
    with connection.cursor() as cursor:
        cursor.execute(sql, [*parameters, dispatch.channel_type, timezone.now()])
        rows = cursor.fetchall()
    made.messages = len(rows)
    made.recipients = [
        Recipient(message_id, subscription_id, 0, token, test_type, None)
        for message_id, (subscription_id, token, test_type) in zip(made.ids.texts(), rows, strict=False)
    ]
    return made


def _of_audience(statement: str, batch: DispatchBatch, dispatch: Dispatch) -> tuple[str, list[Any]]:
    """A statement about the slice of the audience, and its parameters up to there."""
    predicate = audience_predicate(compile_criteria(dispatch.audience or {}, now=dispatch.created_at), dispatch)
    predicate = without_repeats(predicate, dispatch)
    needs_user = predicate.needs_user or dispatch.is_personalised
    sql = statement.format(join=JOIN_USER if needs_user else "", reachable=REACHABLE, predicate=predicate.sql)
    bounds = (batch.first_subscription_id, batch.last_subscription_id)
    return sql, [batch.application_id, batch.subscription_type, *bounds, *predicate.params]


# --- Words of their own ----------------------------------------------------------------------------------------------

_AUDIENCE = """
    SELECT s.id::text, s.user_id::text, s.token, s.test_type,
           u.external_id, u.properties::text, s.tags::text, s.device_language, s.country_code
    FROM subscriptions_subscription s {join}
    WHERE s.application_id = %s AND s.type = %s AND {reachable}
      AND s.id BETWEEN %s AND %s AND ({predicate})
    ORDER BY s.id
"""
_COPY = """
    COPY messaging_message (id, application_id, dispatch_id, campaign_id, subscription_id, user_id, channel_type,
                            status, attempts, title, body, data, created_at) FROM STDIN
"""
NULL = r"\N"
_NO_CONTENT = f"{NULL}\t{NULL}\t{NULL}"
_COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _make_personal(batch: DispatchBatch, dispatch: Dispatch) -> Made:
    made = Made(new_range())
    source = ContentSource.of_dispatch(dispatch)
    default_language = batch.application.default_language
    shared = f"{batch.application_id}\t{dispatch.pk}\t{dispatch.campaign_id or NULL}"
    state = f"{dispatch.channel_type}\t{MessageStatus.PENDING.value}\t0"
    now = timezone.now().isoformat()
    lines = []
    rows = _audience_rows(batch, dispatch)
    began = time.perf_counter()
    for message_id, (subscription_id, user_id, token, test_type, *personal) in zip(
        made.ids.texts(), rows, strict=False
    ):
        own = _NO_CONTENT
        try:
            content = source.render(_variables(*personal, default_language=default_language))
        except RenderError as error:
            made.unsendable[f"render_error: {error.message}"[:100]].append(message_id)
        else:
            own = _copied(content)
            made.recipients.append(Recipient(message_id, subscription_id, 0, token, test_type, content))
        lines.append(f"{message_id}\t{shared}\t{subscription_id}\t{user_id or NULL}\t{state}\t{own}\t{now}\n")
    RENDER_SECONDS.inc(time.perf_counter() - began)
    RENDERED.inc(len(rows))
    # Lines made here, written at once: a row of Python values at a time costs twice the CPU, and PostgreSQL waits.
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.write("".join(lines))
    made.messages = len(rows)
    return made


def _audience_rows(batch: DispatchBatch, dispatch: Dispatch) -> list[tuple[Any, ...]]:
    sql, parameters = _of_audience(_AUDIENCE, batch, dispatch)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _variables(
    external_id: str | None,
    properties: str | None,
    tags: str,
    language: str,
    country: str,
    *,
    default_language: str,
) -> dict[str, Any]:
    return recipient_variables(
        external_id=external_id or "",
        properties=orjson.loads(properties) if properties else {},
        tags=orjson.loads(tags),
        language=language or default_language,
        country=country,
    )


def _copied(content: Content) -> str:
    """A message's own title, body and data as columns of COPY's text format."""
    data = orjson.dumps(content.data).decode()
    return "\t".join(text.translate(_COPY_ESCAPES) for text in (content.title, content.body, data))
