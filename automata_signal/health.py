"""`/healthz` (the process answers) and `/readyz` (it can do its work): for load balancers and orchestrators."""

from __future__ import annotations

from collections.abc import Callable

from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse


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
    """200 if PostgreSQL answers, else 503. The others are reported, not required: without Redis we accept and queue
    later, and a month without its partition is written to the default one."""
    is_there = database_answers()
    checks = {"postgresql": is_there, "redis": redis_answers(), "partitions": is_there and partitions_are_right()}
    return JsonResponse(
        {"status": "ok" if is_there else "unavailable", "checks": checks},
        status=200 if is_there else 503,
    )


def database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def partitions_are_right() -> bool:
    """`manage.py check_partitions` says what is wrong, and mends it."""
    from apps.messaging.partitions import problems  # not before Django is set up

    try:
        return not problems()
    except DatabaseError:
        return False


def redis_answers() -> bool:
    try:
        cache.set("readyz", 1, 5)
    except Exception:  # the cache backend's errors are redis-py's, and any of them means the same here
        return False
    return True
