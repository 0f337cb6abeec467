"""What is kept for a while instead of being asked again: one table (`POLICIES`, in `docs/cache.md`) and `cached`.

Values in Redis belong to one application, are JSON, and are made anew when they are missing: a Redis that is slow or
away costs `TIMEOUT_S` once and is then left alone for `REST_S`. What could hold personal data is encrypted there, and
keys are keyed digests of what was asked.

What changes the truth says `forget(policy, application_id)`. Each value carries the generation in which it was begun,
so one that was being made meanwhile is not taken either.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson
import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from automata_signal import metrics
from automata_signal.encryption import DecryptionError, keyed_digest, keyring

log = logging.getLogger(__name__)

TIMEOUT_S = 0.1
"""For connecting, and again for the answer."""
REST_S = 2.0
"""After a failure nobody asks Redis for so long."""
VALUE_MAX_BYTES = 256 * 1024
"""Larger values are not kept: the queues are in the same memory."""
GENERATION_S = 86_400
"""Longer than any value lives, so that no value meets its generation's number again."""

Value = TypeVar("Value")


class Policy(NamedTuple):
    """One row of the table."""

    name: str
    what: str
    key: str
    setting: str
    """Which says how long; 0 turns it off."""
    invalidated_by: str
    where: str = "Redis"
    is_private: bool = False
    """It may hold personal data: encrypted in Redis, under `ENCRYPTION_KEYS`."""

    @property
    def ttl_s(self) -> int:
        return int(settings.CACHE_TTL_S[self.name])


STATISTICS = Policy(
    "statistics",
    "answers to questions about a period that is not over",
    "application, question with all its parameters",
    "CACHE_STATISTICS_S",
    "time; a rebuild of the rollups",
)
CLOSED_STATISTICS = Policy(
    "closed_statistics",
    "answers to questions about a period that is over",
    "application, question with all its parameters",
    "CACHE_CLOSED_STATISTICS_S",
    "time; a rebuild of the rollups",
)
AUDIENCE_COUNTS = Policy(
    "audience_counts",
    "how many subscriptions an audience has, for editors; a launch asks anew",
    "application, channel, criteria with those of their segments",
    "CACHE_AUDIENCE_COUNTS_S",
    "time; an edited segment is another key",
)
PREVIEWS = Policy(
    "previews",
    "a preview of a template with loops or conditions",
    "application, texts, variables",
    "CACHE_PREVIEWS_S",
    "time; other texts or variables are another key",
    is_private=True,
)
API_KEYS = Policy(
    "api_keys",
    "an API key with its application",
    "SHA-256 of the key",
    "API_KEY_CACHE_S",
    "time; a key's expiry",
    where="memory of a web process",
)
POLICIES = (STATISTICS, CLOSED_STATISTICS, AUDIENCE_COUNTS, PREVIEWS, API_KEYS)


def cached(policy: Policy, application_id: UUID, asked: Any, make: Callable[[], Value]) -> Value:
    """The kept answer to `asked` (anything JSON can say), or what `make()` returns, which is kept.

    The value comes back as JSON has it: give and take dicts, lists, strings, numbers, booleans and None.
    """
    ttl_s = policy.ttl_s
    if ttl_s <= 0:
        return make()
    key, generation_key = _key(policy, application_id, asked), _generation_key(policy, application_id)
    found = _store().get(key, generation_key)
    if found is not None:
        generation, stored = found
        value = _opened(policy, stored, generation)
        if value is not _NOTHING:
            metrics.cache_asked(policy.name, "hit")
            return value  # type: ignore[no-any-return]
    metrics.cache_asked(policy.name, "miss" if found is not None else "unavailable")
    made = make()
    if found is not None and (sealed := _sealed(policy, made, generation)) is not None:
        _store().set(key, sealed, ttl_s)
    return made


def forget(policy: Policy, application_id: UUID) -> None:
    """Values of this application are made anew. Says nothing if Redis is away: then they end with their time."""
    _store().begin_generation(_generation_key(policy, application_id))


_NOTHING: Any = object()


def _key(policy: Policy, application_id: UUID, asked: Any) -> str:
    question = json.dumps(asked, sort_keys=True, default=str)  # orjson refuses numbers that callers may send
    digest = keyed_digest("cache", question).hex()
    return f"automata:cache:{policy.name}:{application_id}:{digest}"


def _generation_key(policy: Policy, application_id: UUID) -> str:
    return f"automata:cache:{policy.name}:{application_id}:generation"


def _sealed(policy: Policy, value: Any, generation: int) -> bytes | None:
    """As it is stored; None for what is no JSON, or too large."""
    try:
        text = orjson.dumps([generation, value])
    except TypeError:
        return None
    if len(text) > VALUE_MAX_BYTES:
        return None
    return keyring().encrypt(text) if policy.is_private else text


def _opened(policy: Policy, stored: bytes | None, generation: int) -> Any:
    """The value, or `_NOTHING` if there is none of this generation that we can read."""
    if stored is None:
        return _NOTHING
    try:
        made_in, value = orjson.loads(keyring().decrypt(stored) if policy.is_private else stored)
    except (DecryptionError, ValueError):
        return _NOTHING
    return value if made_in == generation else _NOTHING


class _Store:
    """Redis with short time-outs, and a rest after each failure."""

    def __init__(self, url: str) -> None:
        self._redis: Any = redis.Redis.from_url(
            url, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._resting_until = 0.0

    def get(self, key: str, generation_key: str) -> tuple[int, bytes | None] | None:
        """The present generation and what is stored, in one round trip; None if Redis does not answer."""

        def ask() -> tuple[int, bytes | None]:
            stored, generation = self._redis.mget(key, generation_key)
            return int(generation or 0), stored

        return self._answer(ask)

    def set(self, key: str, stored: bytes, ttl_s: int) -> None:
        self._answer(lambda: self._redis.set(key, stored, ex=ttl_s))

    def begin_generation(self, generation_key: str) -> None:
        def begin() -> None:
            with self._redis.pipeline() as pipe:
                pipe.incr(generation_key)
                pipe.expire(generation_key, GENERATION_S)
                pipe.execute()

        self._answer(begin)

    def _answer(self, ask: Callable[[], Value]) -> Value | None:
        if time.monotonic() < self._resting_until:
            return None
        try:
            return ask()
        except redis.RedisError as error:
            self._resting_until = time.monotonic() + REST_S
            log.warning("nothing is cached: Redis does not answer", extra={"cause": str(error)})
            return None


@cache
def _store() -> _Store:
    return _Store(settings.REDIS_URL)
