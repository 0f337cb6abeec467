"""The log line of each request, free of what could say who a person is."""

from __future__ import annotations

import re

from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestLogMiddleware(RequestMiddleware):
    """structlog's, without query strings: external ids stand in them, and those may be phone numbers or addresses."""

    def prepare(self, request: HttpRequest) -> None:
        """A caller's `X-Request-ID` goes into our logs and answers only if it looks like one."""
        if not _REQUEST_ID.fullmatch(request.META.get("HTTP_X_REQUEST_ID", "")):
            request.META.pop("HTTP_X_REQUEST_ID", None)
        if not _REQUEST_ID.fullmatch(request.META.get("HTTP_X_CORRELATION_ID", "")):
            request.META.pop("HTTP_X_CORRELATION_ID", None)
        super().prepare(request)

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        return f"{request.method} {request.path}"

    @staticmethod
    def bind_user_id(request: HttpRequest) -> None:
        """Not for the API, which has no sessions: a stray cookie must not cost a query, nor a 500 without a database."""
        if not request.path.startswith("/api/"):
            RequestMiddleware.bind_user_id(request)
