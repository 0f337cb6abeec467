"""`/healthz` (the process answers) and `/readyz` (it can do its work): for load balancers and orchestrators."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.core.cache import cache
from django.db import Error as DatabaseLayerError
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse

from automata_signal import replica

MIGRATIONS_LOOK_S = 10.0
"""How often the migrations are compared while some are missing; once they are there, never again."""


class HealthMiddleware:
    """Answers before host checks, sessions and log-in, so that a probe needs nothing of them."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/healthz":
            return JsonResponse({"status": "ok"})
        if request.path == "/readyz":
            return readiness()
        return self.get_response(request)


def readiness() -> JsonResponse:
    """200 if PostgreSQL answers and has this version's tables, else 503.

    The others are reported, not required: without Redis, which is the broker too, we accept and queue later; a month
    without its partition is written to the default one; without the replica the primary is read.
    """
    is_there = database_answers()
    is_migrated = is_there and migrations_are_applied()
    checks: dict[str, bool] = {
        "postgresql": is_there,
        "migrations": is_migrated,
        "redis": redis_answers(),
        "partitions": is_there and partitions_are_right(),
    }
    if replica.is_configured():
        checks["replica"] = is_there and replica.read_alias() == replica.REPLICA
    is_ready = is_there and is_migrated
    return JsonResponse(
        {"status": "ok" if is_ready else "unavailable", "checks": checks}, status=200 if is_ready else 503
    )


def database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseLayerError:
        return False
    return True


class _Migrations:
    """Whether the database has every migration that this code knows. This code does not change while it runs."""

    def __init__(self) -> None:
        self.are_applied = False
        self._look_at = 0.0

    def look(self) -> bool:
        if not self.are_applied and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + MIGRATIONS_LOOK_S
            self.are_applied = not self._missing()
        return self.are_applied

    @staticmethod
    def _missing() -> set[tuple[str, str]]:
        from django.db.migrations.loader import MigrationLoader

        loader = MigrationLoader(connection)
        return set(loader.disk_migrations or {}) - set(loader.applied_migrations or {})


_migrations = _Migrations()


def migrations_are_applied() -> bool:
    try:
        return _migrations.look()
    except DatabaseLayerError:
        return False


def partitions_are_right() -> bool:
    """`manage.py check_partitions` says what is wrong, and mends it."""
    from apps.messaging.partitions import problems  # not before Django is set up

    try:
        return not problems()
    except DatabaseLayerError:
        return False


def redis_answers() -> bool:
    try:
        cache.set("readyz", 1, 5)
    except Exception:  # the cache backend's errors are redis-py's, and any of them means the same here
        return False
    return True
