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
    """200 if PostgreSQL answers, else 503. Redis is reported, not required: without it we accept and queue later."""
    checks = {"postgresql": database_answers(), "redis": redis_answers()}
    return JsonResponse(
        {"status": "ok" if checks["postgresql"] else "unavailable", "checks": checks},
        status=200 if checks["postgresql"] else 503,
    )


def database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


def redis_answers() -> bool:
    try:
        cache.set("readyz", 1, 5)
    except Exception:  # the cache backend's errors are redis-py's, and any of them means the same here
        return False
    return True
