"""The log line of each request, free of what could say who a person is."""

from __future__ import annotations

import structlog
from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware

from apps.tenants.access import client_address


class RequestLogMiddleware(RequestMiddleware):
    """structlog's, without query strings: external ids stand in them, and those may be phone numbers or addresses."""

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        return f"{request.method} {request.path}"

    @staticmethod
    def bind_user_id(request: HttpRequest) -> None:
        """Not for the API, which has no sessions: a stray cookie must cost no query, nor a 500 without a database."""
        if not request.path.startswith("/api/"):
            RequestMiddleware.bind_user_id(request)

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        """By the proxies that we trust; django-structlog's own guess takes 0.2 ms, and a client can choose it."""
        structlog.contextvars.bind_contextvars(ip=client_address(request))
