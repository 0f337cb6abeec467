"""How fast may be sent: a token bucket for each credential, each throttled dispatch and each application whose plan has
a rate, shared by all workers.

The bucket is a hash in Redis and two scripts. `Pace` takes tokens for a batch in chunks of up to `CHUNK`, so a message
costs a fraction of a microsecond. The rate is the configured limit until the provider pushes back (429, 503): then it
is half of what was being sent, and grows again by a fixed step for each second of use.

A provider that refuses most requests means all of us: its `Retry-After` holds the bucket, and after a 429 the rate is
halved again each second, until the quota is met; after a 503 it is the breaker's turn. One that refuses some may have
other reasons than our speed. Each such message waits by itself (`retry.decide`); the rate is halved once, on trial, and
if as many are refused at half the speed it was not the speed: then it is what it was, for a minute.

A batch waits in the worker only if it would be through within `RATE_WAIT_MAX_S`. Else it sends what it may, and goes
back to waiting with a turn of its own, so that a thousand batches of a slow campaign do not all ask at once.

Redis is no more than the common memory: while it does not answer, each worker process keeps to a share of the limit
(`RATE_LOCAL_SHARE`), and an emptied Redis is a bucket that starts anew.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple, cast
from uuid import UUID

import redis
from django.conf import settings
from redis.commands.core import Script

from apps.billing.selectors import messages_per_second
from apps.messaging.adapters.base import Outcome, Result
from apps.messaging.adapters.reasons import APNS
from apps.messaging.models import Dispatch
from apps.tenants.models import ChannelCredential

log = logging.getLogger(__name__)

CHUNK = 500
"""Tokens taken at once, at most: how far a worker goes on before it sees that another one was told to slow down."""
WINDOW_S = 5
"""What was sent and what was pushed back is counted in windows of this length; the last two are looked at."""
PUSHBACKS_MIN = 10
PUSHBACK_SHARE = 0.05
"""So many pushbacks, and this share of what was sent, are the provider's word to all of us. Fewer concern a device."""
TRIAL_S, VERDICT_S = 5, 15
"""How long a lower rate is on trial before a minority's refusals are judged, and within which time they are. The second
is short of the time in which a rate grows back to where it was too fast."""
DEAF_S = 60
"""So long a minority's refusals change nothing, once it was seen that our speed does not."""
ROUND_TRIP_S = 1
"""After a cut, what was sent before it is still being answered: this says nothing of the new rate."""
RECOVERY_S = 60
"""From a standstill to what was sent before the first pushback; twice that, and the limit holds again."""
FLOOR_PER_S = 10
"""It gets no slower than this, nor than a tenth of the limit: what remains is the breaker's business."""
CREDENTIAL_TURNS_S, DISPATCH_TURNS_S = 30, 300
"""How far ahead turns are given. A credential's is short: who comes next must not wait for what was canceled."""
REDIS_TIMEOUT_S, REDIS_AWAY_S = 1.0, 5.0
"""A Redis that did not answer in the first is left alone for the second: a chunk in five seconds waits for it."""

# The state of one bucket. `rate` is 0 unless it was slowed down; `speed` is what holds now, 0 for no limit.
# A bucket holds four seconds, so that a slow one outlasts the time between two visits of its batches; but a fast one
# holds 4,000 messages, or a tenth of a second, so that it sends no burst.
_BUCKET = f"""
    local now = tonumber(ARGV[1])
    if now < 0 then
        local time = redis.call('TIME')
        now = tonumber(time[1]) + tonumber(time[2]) / 1000000
    end
    local NAMES = {{'rate', 'full', 'tokens', 'at', 'held', 'turn', 'window', 'sent', 'sent0', 'bad', 'bad0',
                    'count_at', 'judge_at', 'deaf_until', 'share', 'before'}}

    local function load(key, limit)
        local b = {{key = key}}
        for i, value in ipairs(redis.call('HMGET', key, unpack(NAMES))) do
            b[NAMES[i]] = tonumber(value) or false
        end
        local window = math.floor(now / {WINDOW_S})
        local age = window - (b.window or 0)
        local sent, bad = b.sent or 0, b.bad or 0
        if age ~= 0 then
            b.sent0, b.bad0 = age == 1 and sent or 0, age == 1 and bad or 0
            sent, bad = 0, 0
        end
        b.window, b.sent, b.bad = window, sent, bad
        if sent + b.sent0 == 0 then b.count_at = math.max(b.count_at or 0, now) end
        for _, name in ipairs(NAMES) do
            if name ~= 'tokens' and name ~= 'at' then b[name] = b[name] or 0 end
        end

        local passed = math.max(0, now - math.max(b.at or now, b.held))
        if b.rate > 0 then
            b.rate = b.rate + b.full / {RECOVERY_S} * math.min(passed, {WINDOW_S})
            if b.rate >= 2 * b.full or (limit > 0 and b.rate >= limit) then b.rate = 0 end
        end
        b.speed = b.rate > 0 and b.rate or limit
        b.most = 1 + math.min(4 * b.speed, math.max(4000, b.speed / 10))
        b.tokens = math.min(b.most, (b.tokens or 1 + 2 * b.speed) + passed * b.speed)
        b.at = now
        return b
    end

    local function save(b)
        local row = {{}}
        for _, name in ipairs(NAMES) do
            row[#row + 1] = name
            row[#row + 1] = b[name]
        end
        redis.call('HSET', b.key, unpack(row))
        redis.call('EXPIRE', b.key, 3600)
    end

    -- Seconds in which `sent` and `sent0` were counted.
    local function counted(b)
        local since = (b.sent0 > 0 and b.window - 1 or b.window) * {WINDOW_S}
        return now - math.max(since, b.count_at)
    end
"""

# now, wanted, at most, urgent, patience in s, a random number up to 1, then for each bucket: limit per s, how far ahead
# turns are given in s (where none is free by then, any time in the second half will do).
# Returns tokens; if none, ms to wait here; if that is too long, ms until its turn (else -1).
_TAKE = (
    _BUCKET
    + """
    local wanted, chunk, urgent = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
    local granted = chunk
    local wait, whole, back, buckets = 0, 0, 0, {}
    for i, key in ipairs(KEYS) do
        local b = load(key, tonumber(ARGV[5 + 2 * i]))
        local held = math.max(0, b.held - now)
        if held > 0 then granted, wait, whole = 0, math.max(wait, held), math.max(whole, held) end
        if b.speed > 0 then
            b.free = b.tokens - (urgent and 0 or math.min(b.most / 10, b.most - 1))
            local least = math.min(chunk, math.max(1, math.floor(b.speed / 50)))  -- or each message would ask
            if b.free < least then
                granted, wait = 0, math.max(wait, held + (least - b.free) / b.speed)
            else
                granted = math.min(granted, math.floor(b.free))
            end
            whole = math.max(whole, held + (wanted - b.free) / b.speed)
        end
        buckets[i] = b
    end
    local goes_back = granted == 0 and whole > tonumber(ARGV[5])
    for i, b in ipairs(buckets) do
        if now >= b.count_at then b.sent = b.sent + granted end
        if b.speed > 0 then b.tokens = b.tokens - granted end
        if goes_back then
            local ready, ahead = math.max(now, b.held), tonumber(ARGV[6 + 2 * i])
            if b.speed > 0 then
                local visit = math.min(wanted, math.max(1, 2 * b.speed))
                ready = ready + math.max(0, visit - b.free) / b.speed
                if not urgent then
                    if math.max(ready, b.turn) <= now + ahead then
                        ready = math.max(ready, b.turn)
                        b.turn = ready + visit / b.speed
                    else
                        ready = math.max(ready, now + ahead * (1 + tonumber(ARGV[6])) / 2)
                    end
                end
            end
            back = math.max(back, ready - now)
        end
        save(b)
    end
    return {granted, math.ceil(wait * 1000), goes_back and math.ceil(back * 1000) or -1}
"""
)

# now, limit per s, pushbacks, answers they are among, hold in s, whether most pushbacks are 429, reason.
# Returns whether the provider means all of us.
# A cut counts anew, a round trip later. A verdict compares the share refused at half the speed with what would be if
# speed has nothing to do with it (the same), and if there is a quota (2 * share - 1, at least none).
_PUSHBACK = (
    _BUCKET
    + f"""
    local limit, count, answers, hold = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
    local is_quota, reason = ARGV[6] == '1', ARGV[7]
    local b = load(KEYS[1], limit)
    if now >= b.count_at then b.bad = b.bad + count end
    local bad, sent = b.bad + b.bad0, b.sent + b.sent0
    local is_word = bad >= {PUSHBACKS_MIN} and bad >= {PUSHBACK_SHARE} * sent
    local is_most = 2 * count >= answers and count >= {PUSHBACKS_MIN}
    local share = math.min(1, math.max(bad / math.max(sent, 1), is_most and count / answers or 0))

    local function cut()
        local seen = sent / math.max(1, counted(b))
        local is_measured = b.rate == 0 or counted(b) >= 2
        local speed = b.speed > 0 and math.min(b.speed, is_measured and seen or b.speed) or seen
        local floor = limit > 0 and math.min({FLOOR_PER_S}, limit / 10) or {FLOOR_PER_S}
        b.before = b.rate
        b.full = math.max(speed, 2 * floor)
        b.rate = math.max(speed / 2, floor)
        b.tokens, b.share = 0, share
        b.sent, b.sent0, b.bad, b.bad0 = 0, 0, 0, 0
        b.count_at = math.max(now, b.held) + {ROUND_TRIP_S}
        b.judge_at = b.count_at + {TRIAL_S}
    end

    if is_word and now >= b.count_at then
        local is_on_trial = now < b.judge_at + {VERDICT_S}
        if is_most then
            b.held = math.max(b.held, now + hold)
            if is_quota or now >= b.judge_at then cut() end
        elseif is_on_trial and now >= b.judge_at and share > (b.share + math.max(0, 2 * b.share - 1)) / 2 then
            b.rate, b.judge_at, b.deaf_until = b.before, 0, now + {DEAF_S}
        elseif now >= math.max(b.judge_at, b.deaf_until) then
            cut()
        end
        redis.call('HSET', b.key, 'pushed_at', now, 'pushed_by', reason)
    end
    save(b)
    return is_word and 1 or 0
"""
)

# now, limit per s. Returns the speed per s, tokens, when the hold ends, sent per s lately, the last pushback and why.
_PEEK = (
    _BUCKET
    + f"""
    local b = load(KEYS[1], tonumber(ARGV[2]))
    local seen = (b.sent + b.sent0) / math.max(b.sent0 > 0 and 1 or {WINDOW_S}, counted(b))
    local last = redis.call('HMGET', KEYS[1], 'pushed_at', 'pushed_by')
    local held = b.held > now and b.held or 0
    return {{tostring(b.speed), tostring(b.tokens), string.format('%.3f', held), tostring(seen),
             last[1] or '', last[2] or '', b.rate > 0 and 1 or 0}}
"""
)

_PUT_BACK = """
    for i, key in ipairs(KEYS) do
        if redis.call('HEXISTS', key, 'tokens') == 1 then
            redis.call('HINCRBYFLOAT', key, 'tokens', ARGV[1])
            redis.call('HINCRBY', key, 'sent', -ARGV[1])
        end
    end
"""

_FORGET = """
    redis.call('HDEL', KEYS[1], 'rate', 'full', 'held', 'judge_at', 'share', 'before', 'bad', 'bad0', 'pushed_at',
               'pushed_by')
"""

# now, per minute, per hour, then devices. Returns for each the seconds until it may have another message, 0 for now.
# The count of an hour is kept only for a device that had more than a tenth of it in a minute: most never need one.
_DEVICES = """
    local now = tonumber(ARGV[1])
    if now < 0 then now = tonumber(redis.call('TIME')[1]) end
    local per_minute, per_hour = tonumber(ARGV[2]), tonumber(ARGV[3])
    local few = math.floor(per_hour / 600)
    local minute, hour = math.floor(now / 60), math.floor(now / 3600)
    local waits = {}
    for i = 4, #ARGV do
        local of_minute = KEYS[1] .. ARGV[i] .. ':' .. minute
        local of_hour = KEYS[1] .. ARGV[i] .. ':h' .. hour
        local n, wait = redis.call('INCR', of_minute), 0
        if n == 1 then redis.call('EXPIRE', of_minute, 60) end
        if per_minute > 0 and n > per_minute then
            wait = 60 * (minute + 1) - now
        elseif per_hour > 0 and n > few then
            local total = redis.call('INCRBY', of_hour, n == few + 1 and n or 1)
            redis.call('EXPIRE', of_hour, 3600)
            if total > per_hour then
                wait = 3600 * (hour + 1) - now
                redis.call('DECR', of_hour)
            end
        end
        if wait > 0 then redis.call('DECR', of_minute) end
        waits[i - 3] = math.ceil(wait)
    end
    return waits
"""


class _Scripts(NamedTuple):
    take: Script
    pushback: Script
    peek: Script
    put_back: Script
    devices: Script
    forget: Script


@cache
def _scripts() -> _Scripts:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
    return _Scripts(*(client.register_script(text) for text in (_TAKE, _PUSHBACK, _PEEK, _PUT_BACK, _DEVICES, _FORGET)))


class RedisAway(Exception):
    """Redis does not answer, or did not a moment ago."""


_asked_again_at = 0.0
"""When Redis is asked again after it did not answer, in `time.monotonic` seconds."""


def _run(script: Script, keys: Sequence[str], *arguments: Any) -> Any:
    """Run a script. Raises `RedisAway`; then at once for a while, so that no chunk waits for a dead Redis."""
    global _asked_again_at
    if time.monotonic() < _asked_again_at:
        raise RedisAway
    try:
        return script(keys=keys, args=arguments)
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError) as error:
        _asked_again_at = time.monotonic() + REDIS_AWAY_S
        log.warning("the rate is kept to this process's share: Redis does not answer", extra={"cause": str(error)})
        raise RedisAway from error


def _time(now: float | None) -> float:
    """For a script: -1 is Redis' own clock, the one that all workers share."""
    return -1 if now is None else now


# --- Buckets -----------------------------------------------------------------------------------------------------


class Bucket(NamedTuple):
    """What tokens are taken from."""

    key: str
    limit_per_s: float
    """0 for no limit."""
    turns_s: float
    """How far ahead turns are given."""


def credential_bucket(credential: ChannelCredential) -> Bucket:
    """The rate of a credential: its own limit, or its provider's."""
    limit = credential.rate_per_minute or settings.RATE_PER_MINUTE.get(credential.provider, 0)
    return Bucket(f"automata:rate:{credential.pk}", limit / 60, CREDENTIAL_TURNS_S)


def dispatch_buckets(dispatch: Dispatch) -> list[Bucket]:
    """The throttle of a dispatch, if it has one; the variants of a campaign share it."""
    if not dispatch.messages_per_minute:
        return []
    key = dispatch.pk if dispatch.split_from is None else dispatch.campaign_id
    return [Bucket(f"automata:rate:{key}", dispatch.messages_per_minute / 60, DISPATCH_TURNS_S)]


def plan_buckets(application_id: UUID) -> list[Bucket]:
    """The rate of the application's plan, if it has one: of all its channels and credentials together."""
    limit = messages_per_second(application_id)
    return [Bucket(f"automata:rate:plan:{application_id}", limit, CREDENTIAL_TURNS_S)] if limit else []


class Pace:
    """The right of one batch to send its next messages, from all of `buckets` at once.

    An urgent batch may take the last tenth of a bucket, which the others leave, and does not stand in line. `clock`
    gives epoch seconds, for tests; without it the time is Redis' own.
    """

    def __init__(
        self, buckets: Sequence[Bucket], *, is_urgent: bool = False, clock: Callable[[], float] | None = None
    ) -> None:
        self.buckets = buckets
        self.back_in_s: float | None = None
        """When the batch is to come back, in seconds; set when `take` gave None."""
        self._keys = [bucket.key for bucket in buckets]
        self._limits = [value for bucket in buckets for value in (bucket.limit_per_s, bucket.turns_s)]
        self._is_urgent = is_urgent
        self._clock = clock
        self._patience_s: float = settings.RATE_WAIT_MAX_S
        self._ask_at = 0.0

    def take(self, wanted: int) -> int | None:
        """How many of the `wanted` messages may leave now; 0 to ask again soon; None for a batch that is to go back."""
        if not self.buckets:
            return min(wanted, CHUNK)
        now = (self._clock or time.monotonic)()
        if now < self._ask_at:
            return 0
        granted, wait_ms, back_ms = self._ask(wanted)
        if granted:
            return granted
        if back_ms >= 0:
            self.back_in_s = back_ms / 1000
            return None
        self._patience_s -= wait_ms / 1000
        self._ask_at = now + wait_ms / 1000
        return 0

    def put_back(self, unused: int) -> None:
        """Give back what was taken for messages that did not leave."""
        if unused and self.buckets:
            try:
                _run(_scripts().put_back, self._keys, unused)
            except RedisAway:
                _local.put_back(self._keys, unused)

    def _ask(self, wanted: int) -> tuple[int, int, int]:
        now, urgent = self._clock and self._clock(), int(self._is_urgent)
        patience_s = max(0.0, self._patience_s)
        arguments = (_time(now), wanted, min(wanted, CHUNK), urgent, patience_s, random.random(), *self._limits)
        try:
            granted, wait_ms, back_ms = _run(_scripts().take, self._keys, *arguments)
            return granted, wait_ms, back_ms
        except RedisAway:
            return _local.take(self.buckets, wanted, self._patience_s)


class _Local:
    """The buckets of this process alone, while Redis does not answer: a share of the limit, and holds."""

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        self._at: dict[str, float] = {}
        self._held: dict[str, float] = {}

    def take(self, buckets: Sequence[Bucket], wanted: int, patience_s: float) -> tuple[int, int, int]:
        """Tokens, ms to wait, and ms until coming back or -1; as `_TAKE`."""
        now = time.monotonic()
        granted, wait_s, whole_s = min(wanted, CHUNK), 0.0, 0.0
        for key, limit, _ in buckets:
            held_s = max(0.0, self._held.get(key, 0.0) - now)
            wait_s, whole_s = max(wait_s, held_s), max(whole_s, held_s)
            if limit:
                rate = limit * settings.RATE_LOCAL_SHARE
                passed_s = now - max(self._at.get(key, now), self._held.get(key, 0.0))
                tokens = self._tokens.get(key, 1.0) + max(0.0, passed_s) * rate
                self._tokens[key], self._at[key] = min(1 + 4 * rate, 1_000 + 1, tokens), now
                granted = min(granted, int(self._tokens[key]))
                wait_s = max(wait_s, held_s + (1 - self._tokens[key]) / rate)
                whole_s = max(whole_s, held_s + (wanted - self._tokens[key]) / rate)
            if held_s:
                granted = 0
        if granted:
            self.put_back([bucket.key for bucket in buckets if bucket.limit_per_s], -granted)
            return granted, 0, -1
        goes_back = whole_s > patience_s
        return 0, int(max(wait_s, 0.02) * 1_000), int(max(wait_s, 2.0) * 1_000) if goes_back else -1

    def put_back(self, keys: Iterable[str], unused: int) -> None:
        for key in keys:
            if key in self._tokens:
                self._tokens[key] += unused

    def hold(self, key: str, hold_s: float) -> None:
        self._held[key] = max(self._held.get(key, 0.0), time.monotonic() + hold_s)


_local = _Local()


# --- What providers say ------------------------------------------------------------------------------------------

_OF_ONE_DEVICE = frozenset({"TooManyRequests"})
"""APNs: too many to the same device (providers.md 1.7). It says nothing of the others."""
_APNS_WAITS_S = frozenset(verdict.retry_after_s for verdict in APNS.values())
"""APNs names no Retry-After. These are our own waits for a message, by Apple's advice; they hold nobody else."""


def is_pushback(result: Result) -> bool:
    """Whether the provider says that we all are too fast: 429 and 503."""
    is_told = result.outcome is Outcome.THROTTLED or (result.outcome is Outcome.TRANSIENT and result.http_status == 503)
    return is_told and result.reason not in _OF_ONE_DEVICE


def note_pushbacks(
    credential: ChannelCredential, refused: Iterable[Result], *, answers: int, now: float | None = None
) -> bool:
    """Slow the credential down if the provider asks for it; true if it does. `answers` is how many there were, accepted
    ones too. `now` is epoch seconds, for tests."""
    pushbacks = [result for result in refused if is_pushback(result)]
    if not pushbacks:
        return False
    own_waits = _APNS_WAITS_S if credential.provider == "apns" else frozenset[float | None]()
    waits = [r.retry_after_s for r in pushbacks if r.retry_after_s and r.retry_after_s not in own_waits]
    hold_s = max(waits, default=0.0)
    is_quota = int(2 * sum(result.outcome is Outcome.THROTTLED for result in pushbacks) >= len(pushbacks))
    bucket = credential_bucket(credential)
    reason = f"{pushbacks[0].http_status} {pushbacks[0].reason}"[:100]
    try:
        arguments = (_time(now), bucket.limit_per_s, len(pushbacks), answers, hold_s, is_quota, reason)
        is_word = bool(_run(_scripts().pushback, [bucket.key], *arguments))
    except RedisAway:
        is_word = len(pushbacks) >= PUSHBACKS_MIN and 2 * len(pushbacks) >= answers
        if is_word:
            _local.hold(bucket.key, max(hold_s, 1.0))
    return is_word


def device_limits(credential: ChannelCredential) -> tuple[int, int]:
    """Messages to one device per minute and per hour; 0 for no limit."""
    per_minute, per_hour = settings.DEVICE_RATES.get(credential.provider, (0, 0))
    return credential.device_rate_per_minute or per_minute, credential.device_rate_per_hour or per_hour


def device_waits(credential: ChannelCredential, devices: Sequence[str], *, now: float | None = None) -> list[int]:
    """Count a message for each device; seconds until it may have one, 0 for now, when it is counted.

    Only what an app server sends to named recipients is counted: a campaign is one message for each device. Without
    Redis nothing is held back.
    """
    limits = device_limits(credential)
    if not any(limits):
        return [0] * len(devices)
    try:
        waits = _run(_scripts().devices, ["automata:device:"], _time(now), *limits, *devices)
    except RedisAway:
        return [0] * len(devices)
    return cast("list[int]", waits)


def forget_slowdown(credential: ChannelCredential) -> bool:
    """Take the limit for the rate again, as if the provider had pushed nothing back; False if Redis does not answer."""
    key = credential_bucket(credential).key
    try:
        _run(_scripts().forget, [key])
    except RedisAway:
        return False
    return True


# --- What can be seen --------------------------------------------------------------------------------------------


class Snapshot(NamedTuple):
    """The rate and the breaker of a credential at this moment, for the console and the metrics."""

    limit_per_minute: int | None
    """None: no limit is configured."""
    rate_per_minute: float | None
    """What holds now; below the limit while it was slowed down. None: as fast as it goes, or Redis does not answer."""
    is_slowed: bool
    tokens: float | None
    """Messages that may leave at once."""
    sent_per_minute: float | None
    """By the last 5 to 10 seconds."""
    held_until: datetime | None
    """The provider's Retry-After."""
    throttled_at: datetime | None
    throttled_by: str
    """The last pushback that slowed it down, for example `429 QUOTA_EXCEEDED`; kept for an hour."""
    is_live: bool
    """False if Redis did not answer: rate, tokens and throttle are unknown."""
    breaker: str
    """`closed`, `open` or `half_open`, which is while a probe may run."""
    breaker_cause: str
    breaker_reason: str
    breaker_opened_at: datetime | None
    breaker_probe_at: datetime | None
    breaker_failed_probes: int


def snapshot(credential: ChannelCredential, *, now: float | None = None) -> Snapshot:
    """One call to Redis. `now` is epoch seconds, for tests; it takes nothing from the bucket."""
    bucket = credential_bucket(credential)
    speed = tokens = seen = held = 0.0
    pushed_at, pushed_by, is_slowed, is_live = "", "", 0, True
    try:
        answer = _run(_scripts().peek, [bucket.key], _time(now), bucket.limit_per_s)
        speed, tokens, held, seen = (float(value) for value in answer[:4])
        pushed_at, pushed_by, is_slowed = answer[4].decode(), answer[5].decode(), answer[6]
    except RedisAway:
        is_live = False
    moment = time.time() if now is None else now
    return Snapshot(
        limit_per_minute=round(bucket.limit_per_s * 60) or None,
        rate_per_minute=speed * 60 or None,
        is_slowed=bool(is_slowed),
        tokens=tokens if speed else None,
        sent_per_minute=seen * 60 if is_live else None,
        held_until=datetime.fromtimestamp(held, UTC) if held else None,
        throttled_at=datetime.fromtimestamp(float(pushed_at), UTC) if pushed_at else None,
        throttled_by=pushed_by,
        is_live=is_live,
        breaker=_breaker_state(credential, moment),
        breaker_cause=credential.breaker_cause,
        breaker_reason=credential.breaker_reason,
        breaker_opened_at=credential.breaker_opened_at,
        breaker_probe_at=credential.breaker_probe_at,
        breaker_failed_probes=credential.breaker_failed_probes,
    )


def _breaker_state(credential: ChannelCredential, now: float) -> str:
    if credential.breaker_opened_at is None:
        return "closed"
    probing_until = credential.breaker_probing_until
    return "half_open" if probing_until is not None and probing_until.timestamp() > now else "open"
