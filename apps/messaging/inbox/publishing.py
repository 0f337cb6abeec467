"""Telling open streams, through Redis, what comes to an inbox and what changes there.

Each inbox has a channel, to which the processes subscribe that hold its connections. Nothing is lost with Redis: what
was published while it was away lies in the inbox, and a client that comes back gets it from there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from apps.messaging.inbox.shown import Frame, event, without_rules

log = logging.getLogger(__name__)

PREFIX = "automata:live:"
REDIS_TIMEOUT_S = 0.5
REDIS_REST_S = 2.0
"""After a failure nobody publishes for so long."""

# The places of the channels to which somebody listens: of a campaign's inboxes few are open, and nothing is made for
# the others. A stream that opens after this was asked finds the message in the inbox, where it lies already.
_HEARD = """
local heard = {}
for i, channel in ipairs(KEYS) do
    if redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0 then heard[#heard + 1] = i - 1 end
end
return heard
"""
# One round trip for a slice, and the shared words travel once.
_SHARED = """
for i, channel in ipairs(KEYS) do redis.call('PUBLISH', channel, ARGV[1] .. ARGV[i + 2] .. ARGV[2]) end
"""
_EACH = """
for i, channel in ipairs(KEYS) do redis.call('PUBLISH', channel, ARGV[i]) end
"""


def channel_of(owner_id: UUID | str) -> str:
    return f"{PREFIX}{owner_id}"


@cache
def client() -> Any:
    """The Redis of publishing and of tickets; it answers at once or not at all."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )


@cache
def _scripts() -> tuple[Any, Any, Any]:
    return client().register_script(_SHARED), client().register_script(_EACH), client().register_script(_HEARD)


_resting_until = 0.0


def heard(owner_of: Mapping[str, str]) -> list[str]:
    """Of these messages, by the owners of their inboxes, those to whose inbox a stream is open."""
    ids = list(owner_of)
    places = _tell(_scripts()[2], [channel_of(owner) for owner in owner_of.values()], []) or ()
    return [ids[place] for place in places]


def publish_messages(arrived: Mapping[str, str], frame_of: Mapping[str, Frame]) -> None:
    """Say that messages came: `arrived` has the owner of each, `frame_of` its event."""
    shared, each, _ = _scripts()
    by_frame: dict[int, list[str]] = {}
    for message_id in arrived:
        by_frame.setdefault(id(frame_of[message_id]), []).append(message_id)
    single = [ids[0] for ids in by_frame.values() if len(ids) == 1]
    for ids in by_frame.values():
        if len(ids) > 1:
            frame = frame_of[ids[0]]
            _tell(shared, [channel_of(arrived[one]) for one in ids], [frame.head, frame.tail, *ids])
    if single:
        _tell(each, [channel_of(arrived[one]) for one in single], [frame_of[one].around(one) for one in single])


def publish_state(owner_id: UUID, state: Mapping[str, Any]) -> None:
    """Say on the owner's other devices what was read or put away on one of them."""
    _tell(_scripts()[1], [channel_of(owner_id)], [without_rules(event("state", state))])


def _tell(script: Any, channels: Sequence[str], arguments: Sequence[Any]) -> Any:
    """What the script gives; None if Redis does not answer."""
    global _resting_until
    if time.monotonic() < _resting_until:
        return None
    try:
        return script(keys=channels, args=arguments)
    except redis.RedisError as error:
        _resting_until = time.monotonic() + REDIS_REST_S
        log.warning("open streams are not told: Redis does not answer", extra={"cause": str(error)})
        return None
