"""Tickets for streams: a browser's EventSource cannot send headers, and a key or a handle has no place in an address.

A ticket opens one stream of one subscription, once, within `TICKET_S`. Redis holds its digest.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NamedTuple
from uuid import UUID

import orjson
import redis

from apps.messaging.inbox.publishing import client
from apps.subscriptions.models import Subscription
from automata_signal.errors import Unavailable

TICKET_S = 30
_PREFIX = "automata:live-ticket:"


class Ticket(NamedTuple):
    """What a ticket stands for."""

    key_id: UUID
    """The API key that asked for it, which must still be good."""
    subscription_id: UUID
    handle_version: int


def ticket_issue(*, subscription: Subscription, key_id: UUID) -> str:
    """A new ticket. Raises `Unavailable` while Redis is away."""
    text = "tk_" + secrets.token_urlsafe(24)
    kept = orjson.dumps([str(key_id), str(subscription.pk), subscription.handle_version])
    try:
        client().set(_name(text), kept, ex=TICKET_S)
    except redis.RedisError:
        raise Unavailable("Tickets cannot be had now; try again in a moment.") from None
    return text


def ticket_take(text: str) -> Ticket | None:
    """What the ticket stands for, which then stands for nothing any more. Raises `Unavailable` while Redis is away."""
    if not text.startswith("tk_") or len(text) > 100:
        return None
    try:
        kept = client().getdel(_name(text))
    except redis.RedisError:
        raise Unavailable("Tickets cannot be read now; try again in a moment.") from None
    if kept is None:
        return None
    key_id, subscription_id, handle_version = orjson.loads(kept)
    return Ticket(UUID(key_id), UUID(subscription_id), handle_version)


def _name(text: str) -> str:
    return _PREFIX + hashlib.sha256(text.encode()).hexdigest()
