"""Who is calling, for which application, with what rights, and how often.

Every API view declares `scopes`, a scope for each method; a view that forgets one is closed. Keys and operators'
tokens come in the same header, `Authorization: Bearer …`; an operator names the application in `X-Application-Id`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import math
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from structlog.contextvars import bind_contextvars

from apps.tenants.accounts.networks import is_within, networks_of
from apps.tenants.models import ApiKey, Application, KeyKind, Operator
from apps.tenants.plan_rules import plan_rules
from apps.tenants.scopes import ROLE_SCOPES, SCOPES, SDK_SCOPE
from automata_signal.errors import Forbidden, Unauthenticated

log = logging.getLogger(__name__)

KEY_PREFIXES = {KeyKind.SECRET: "as_sk_", KeyKind.PUBLISHABLE: "as_pk_"}
LAST_USED_RESOLUTION_S = 60


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, `request.auth` of every API request. `application` is None only for an operator's own routes."""

    application: Application | None
    scopes: frozenset[str]
    key: ApiKey | None = None
    operator: Operator | None = None

    @property
    def kind(self) -> str:
        """`secret`, `publishable` or `operator`: also the name of its rate."""
        return str(self.key.kind) if self.key else "operator"

    @property
    def id(self) -> UUID:
        owner = self.key or self.operator
        assert owner is not None
        return owner.pk

    @property
    def label(self) -> str:
        """For history and audit: who did it."""
        return f"key {self.key.prefix}…" if self.key else str(self.operator)


def key_digest(key: str) -> bytes:
    """Keys have 192 random bits, so a plain SHA-256 is as good as a slow hash, and quick."""
    return hashlib.sha256(key.encode()).digest()


class KnownKeys:
    """Keys with their applications and plans, as PostgreSQL had them `API_KEY_CACHE_S` ago at most.

    So a key that is revoked, or an application that is stopped, is refused by every process after that time; a key
    that expires is refused at once. What is not a key is not kept: guesses cost no memory.
    """

    KEPT_MAX = 10_000

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[float, ApiKey]] = {}

    def find(self, digest: bytes) -> ApiKey | None:
        kept = self._kept.get(digest)
        if kept is not None and time.monotonic() < kept[0]:
            return kept[1]
        keys = plan_rules().with_plans(ApiKey.objects.select_related("application"))
        key: ApiKey | None = keys.filter(digest=digest).first()
        if key is not None and settings.API_KEY_CACHE_S > 0:
            if len(self._kept) >= self.KEPT_MAX:
                self._kept.clear()
            self._kept[digest] = (time.monotonic() + settings.API_KEY_CACHE_S, key)
        return key

    def forget(self) -> None:
        """Ask PostgreSQL for each key again."""
        self._kept.clear()


known_keys = KnownKeys()


class CallerAuthentication(BaseAuthentication):
    """API keys and operators' access tokens (JWT)."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        scheme, _, token = request.headers.get("Authorization", "").strip().partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("Use `Authorization: Bearer <key or token>`.")
        token = token.strip()
        if token.startswith(tuple(KEY_PREFIXES.values())):
            return AnonymousUser(), _caller_by(known_keys.find(key_digest(token)), client_address(request))
        return self._operator_caller(request, token)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="api"'

    def _operator_caller(self, request: Request, token: str) -> tuple[Operator, Caller]:
        from rest_framework_simplejwt.authentication import JWTAuthentication

        jwt = JWTAuthentication()
        try:
            operator = jwt.get_user(jwt.get_validated_token(token.encode()))
        except exceptions.AuthenticationFailed:
            raise Unauthenticated("The token is not valid or has expired.") from None
        assert isinstance(operator, Operator)
        address = client_address(request)
        if not is_within(address, settings.CONSOLE_NETWORKS):
            raise _from_outside()
        application_id = request.headers.get("X-Application-Id")
        if application_id is None:
            return operator, Caller(None, frozenset(), operator=operator)
        caller = operator_caller(operator, application_id)
        assert caller.application is not None
        if not operator.is_superuser and not is_within(address, networks_of(caller.application.settings)):
            raise _from_outside()
        return operator, caller


def _from_outside() -> Forbidden:
    return Forbidden("Operators may not act from this address.", code="ADDRESS_NOT_ALLOWED")


def _caller_by(key: ApiKey | None, address: str = "") -> Caller:
    if key is None or not key.is_usable:
        raise Unauthenticated("The key is unknown, revoked or expired.")
    if not key.application.is_active:
        raise Forbidden("The application is not active.", code="APPLICATION_INACTIVE")
    bind_contextvars(application_id=str(key.application_id))
    if key.kind == KeyKind.SECRET:
        plan_rules().refuse_key(key)
    note_key_use(key, address)
    granted = {SDK_SCOPE} if key.kind == KeyKind.PUBLISHABLE else set(key.scopes) & set(SCOPES)
    return Caller(copy(key.application), frozenset(granted), key=key)


def caller_of_key(key_id: UUID) -> tuple[AnonymousUser, Caller]:
    """Who has this key, for something that was given out to its holder and stands for it."""
    keys = plan_rules().with_plans(ApiKey.objects.select_related("application"))
    return AnonymousUser(), _caller_by(keys.filter(pk=key_id).first())


def operator_caller(operator: Operator, application_id: str) -> Caller:
    """The operator acting in one application, with the scopes of the role there.

    An application that does not exist and one where the operator has no role get the same refusal.
    """
    try:
        key = UUID(application_id)
    except ValueError:
        raise Forbidden("You are not a member of this application.") from None
    if operator.is_superuser:
        application = Application.objects.filter(pk=key).first()
        scopes = frozenset(SCOPES)
    else:
        membership = operator.memberships.select_related("application").filter(application_id=key).first()
        application = membership.application if membership else None
        scopes = ROLE_SCOPES[membership.role] if membership else frozenset()
    if application is None:
        raise Forbidden("You are not a member of this application.")
    if not application.is_active:
        raise Forbidden("The application is not active.", code="APPLICATION_INACTIVE")
    bind_contextvars(application_id=str(application.pk))
    return Caller(application, scopes, operator=operator)


def note_key_use(key: ApiKey, address: str = "") -> None:
    """Keep `last_used_at`, and from where, true to the minute without a write for each request."""
    now = timezone.now()
    if key.last_used_at is None or (now - key.last_used_at).total_seconds() > LAST_USED_RESOLUTION_S:
        key.last_used_at = now
        used = {"last_used_at": now} | ({"last_used_from": address} if _is_address(address) else {})
        ApiKey.objects.filter(pk=key.pk).update(**used)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


class HasScope(BasePermission):
    """The caller has the scope that the view's `scopes` names for this method; `PUBLIC` needs no caller."""

    PUBLIC = "public"
    OPERATOR = "operator"
    """Any signed-in operator, without an application."""
    PLATFORM = "platform"
    """An operator of the platform (a superuser), acting in an application: no key and no role has this."""

    def has_permission(self, request: Request, view: Any) -> bool:
        method = request.method or ""
        if method.lower() not in view.http_method_names or not hasattr(view, method.lower()):
            return True  # the view answers 405
        needed = self.needed(view, method)
        if needed == (self.PUBLIC,):
            return True
        caller = request.auth
        if not isinstance(caller, Caller):
            raise Unauthenticated("Send a key or a token in `Authorization: Bearer …`.")
        if needed == (self.OPERATOR,):
            if caller.operator is None:
                raise Forbidden("This route is for operators.")
            return True
        if caller.application is None:
            raise Forbidden("Name the application in the X-Application-Id header.", code="APPLICATION_NEEDED")
        if needed == (self.PLATFORM,):
            if caller.operator is None or not caller.operator.is_superuser:
                raise Forbidden("This is for the platform's operators.")
            return True
        if not caller.scopes.intersection(needed):
            raise Forbidden(f"This needs the scope {' or '.join(needed) or 'of another kind of key'}.")
        return True

    @staticmethod
    def needed(view: Any, method: str) -> tuple[str, ...]:
        """The scopes of which one is enough."""
        scopes: Mapping[str, str | tuple[str, ...]] = getattr(view, "scopes", {})
        needed = scopes.get("GET" if method == "HEAD" else method, ())
        return (needed,) if isinstance(needed, str) else tuple(needed)


# --- Rates -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RateState:
    """For the `RateLimit-*` headers: requests allowed per minute, how many are left, seconds until it starts anew."""

    limit: int
    remaining: int
    reset_s: int


REDIS_TIMEOUT_S = 0.1
"""For connecting, and again for the answer: a request waits for a Redis that is gone no longer than both."""
REDIS_REST_S = 2.0
"""After a failure nobody asks Redis for so long; then one request tries."""


class RateCounters:
    """Counts per minute in Redis. Without Redis nobody is held up: limits are a protection, not the product."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            socket_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._resting_until = 0.0

    def count(self, limits: Sequence[tuple[str, int]]) -> list[RateState]:
        """Count one request under each name, in one round trip. Empty when Redis does not answer."""
        if self._resting_until and time.monotonic() < self._resting_until:
            return []
        if self._resting_until:
            self._resting_until = time.monotonic() + REDIS_REST_S  # the other threads go on resting while we try
        now = int(time.time())
        try:
            counts = self._count([f"automata:rate:{name}:{now // 60}" for name, _ in limits])
        except redis.RedisError as error:
            self._resting_until = time.monotonic() + REDIS_REST_S
            log.warning("rate limits are off: Redis does not answer", extra={"cause": str(error)})
            return []
        self._resting_until = 0.0
        reset_s = 60 - now % 60
        return [RateState(limit, limit - count, reset_s) for (_, limit), count in zip(limits, counts, strict=True)]

    def _count(self, windows: Sequence[str]) -> list[int]:
        """INCR and EXPIRE of each, on a connection of the pool: redis-py's pipeline takes three times the CPU."""
        connection: Any = self._redis.connection_pool.get_connection()
        try:
            commands = [command for window in windows for command in (("INCR", window), ("EXPIRE", window, 120))]
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands][::2]
        except redis.RedisError:
            connection.disconnect()  # answers may be on the way that nobody would read
            raise
        finally:
            self._redis.connection_pool.release(connection)


@cache
def rate_counters() -> RateCounters:
    return RateCounters(settings.REDIS_URL)


def count_request(*limits: tuple[str, int]) -> RateState | None:
    """Count one request under each `(name, limit per minute)`; the one with the least left, or None without Redis."""
    return min(rate_counters().count(limits), key=lambda state: state.remaining, default=None)


def refuse_excess(state: RateState | None) -> None:
    """Raise `Throttled`, which is a 429 with `Retry-After`, if there were too many."""
    if state is not None and state.remaining < 0:
        raise exceptions.Throttled(state.reset_s)


class CallerThrottle(BaseThrottle):
    """Requests per minute: by key or operator, and by address for SDKs and for who did not sign in."""

    def allow_request(self, request: Request, view: Any) -> bool:
        self.state = count_request(*self.limits(request))
        request.rate = self.state  # type: ignore[attr-defined]
        return self.state is None or self.state.remaining >= 0

    def wait(self) -> float | None:
        return self.state.reset_s if self.state else None

    @staticmethod
    def limits(request: Request) -> list[tuple[str, int]]:
        rates = settings.API_RATE_PER_MINUTE
        caller = request.auth
        if not isinstance(caller, Caller):
            return [(f"anonymous:{network_of(client_address(request))}", rates["anonymous"])]
        limits = [(f"{caller.kind}:{caller.id}", (caller.key and caller.key.rate_per_minute) or rates[caller.kind])]
        if caller.kind == KeyKind.PUBLISHABLE:
            limits.append((f"device:{caller.id}:{network_of(client_address(request))}", rates["device"]))
        return limits


def count_refused_caller(request: Request) -> RateState | None:
    """Count a request with no valid key or token, by its address: such requests never reach `CallerThrottle`."""
    limit = settings.API_RATE_PER_MINUTE["unauthenticated"]
    return count_request((f"unauthenticated:{network_of(client_address(request))}", limit))


def too_many_guesses(request: HttpRequest) -> HttpResponse | None:
    """For pages and doors without a key: count a request whose token or signature is wrong; the 429 if there were too
    many from its address."""
    try:
        refuse_excess(count_refused_caller(Request(request)))
    except exceptions.Throttled as throttled:
        seconds = math.ceil(getattr(throttled, "wait", None) or 60)
        return HttpResponse("Too many.", status=429, content_type="text/plain", headers={"Retry-After": str(seconds)})
    return None


def network_of(address: str) -> str:
    """What one party has in its hand: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def client_address(request: Request | HttpRequest) -> str:
    """The peer, or what the last `TRUSTED_PROXIES` proxies said of it; a client cannot choose its own."""
    if settings.TRUSTED_PROXIES:
        forwarded = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        if len(forwarded) >= settings.TRUSTED_PROXIES:
            return str(forwarded[-settings.TRUSTED_PROXIES])
    return str(request.META.get("REMOTE_ADDR", ""))
