"""What the API's views share: refusals in the envelope, strict input, cursors."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from psycopg_pool import PoolTimeout
from rest_framework import exceptions, serializers, status
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from automata_signal.envelope import error_body
from automata_signal.errors import FieldProblem, SignalError, ValidationFailed

log = logging.getLogger(__name__)


# --- Errors ------------------------------------------------------------------------------------------------------


def flatten_errors(errors: Any, path: str = "") -> Iterator[FieldProblem]:
    """DRF's nested errors as dotted paths: `recipients[3].external_id`."""
    if isinstance(errors, Mapping):
        for key, value in errors.items():
            if key == "non_field_errors":
                name = path
            elif isinstance(key, int):
                name = f"{path}[{key}]"
            else:
                name = f"{path}.{key}" if path else str(key)
            yield from flatten_errors(value, name)
    elif isinstance(errors, list | tuple):
        for index, value in enumerate(errors):
            nested = isinstance(value, Mapping | list | tuple)
            yield from flatten_errors(value, f"{path}[{index}]" if nested else path)
    else:
        yield FieldProblem(path, str(errors))


_CODES = {400: "VALIDATION_ERROR", 401: "UNAUTHENTICATED", 403: "FORBIDDEN", 404: "NOT_FOUND"}
_CODES |= {405: "METHOD_NOT_ALLOWED", 406: "NOT_ACCEPTABLE", 415: "UNSUPPORTED_MEDIA_TYPE", 429: "RATE_LIMITED"}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Every refusal in the envelope. What is not a refusal is a bug: it is logged and answered by `server_error`."""
    headers: dict[str, str] = {}
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    if isinstance(exc, OperationalError | InterfaceError | PoolTimeout):
        log.warning("database unavailable", exc_info=exc)
        code, body = 503, error_body("UNAVAILABLE", "The database does not answer; try again in a moment.")
        headers["Retry-After"] = "5"
    elif isinstance(exc, SignalError):
        code, body = exc.status, error_body(exc.code, exc.message, exc.details)
        if exc.status == status.HTTP_503_SERVICE_UNAVAILABLE:
            headers["Retry-After"] = "5"
    elif isinstance(exc, exceptions.APIException):
        code, body = exc.status_code, _drf_error_body(exc)
        if (wait := getattr(exc, "wait", None)) is not None:
            headers["Retry-After"] = str(max(1, int(wait)))
        if (challenge := getattr(exc, "auth_header", None)) is not None:
            headers["WWW-Authenticate"] = challenge
    else:
        return None
    if isinstance(exc, exceptions.APIException | SignalError | DatabaseError):
        set_rollback()
    return Response(body, status=code, headers=headers, exception=True)


def _drf_error_body(exc: exceptions.APIException) -> dict[str, Any]:
    code = _CODES.get(exc.status_code, "ERROR")
    if isinstance(exc, exceptions.ParseError):
        return error_body("MALFORMED_JSON", str(exc.detail))
    if isinstance(exc, exceptions.ValidationError):
        problems = list(flatten_errors(exc.detail))
        return error_body(code, "The input is not valid.", problems)
    return error_body(code, str(exc.detail))


def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Django's 404 for paths under the API, where there is no page to show."""
    return JsonResponse(error_body("NOT_FOUND", "There is no such address."), status=404)


def server_error(request: HttpRequest) -> JsonResponse:
    """Django's 500: the envelope, and nothing about the cause."""
    return JsonResponse(error_body("INTERNAL", "Something failed on our side; it was logged."), status=500)


# --- Input and answers -------------------------------------------------------------------------------------------


class SignalResponse(Response):
    """An answer with its own entries for `meta`, such as the next cursor."""

    def __init__(self, data: Any = None, *, meta: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.meta = dict(meta or {})


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know: a misspelt name must not be ignored in silence."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError({str(name)[:200]: ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


def validated(serializer_class: type[serializers.Serializer[Any]], data: Any, **kwargs: Any) -> dict[str, Any]:
    """The checked input, or a 400 that names each field."""
    serializer = serializer_class(data=data, **kwargs)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


# --- Pages -------------------------------------------------------------------------------------------------------


class CursorPagination(BasePagination):
    """Newest first by UUIDv7 key; `?cursor=` continues, `?limit=` is 1 to 200 (50 unless told)."""

    default_limit = 50
    max_limit = 200

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self.limit = self._limit(request)
        if cursor := request.query_params.get("cursor"):
            queryset = queryset.filter(id__lt=decode_cursor(cursor))
        rows = list(queryset.order_by("-id")[: self.limit + 1])
        self.next_cursor = encode_cursor(rows[self.limit - 1].id) if len(rows) > self.limit else None
        return rows[: self.limit]

    def _limit(self, request: Request) -> int:
        text = request.query_params.get("limit", str(self.default_limit))
        if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= self.max_limit:
            raise ValidationFailed.of("limit", f"must be a whole number from 1 to {self.max_limit}")
        return int(text)

    def get_paginated_response(self, data: Any) -> SignalResponse:
        return SignalResponse(data, meta={"next_cursor": self.next_cursor, "limit": self.limit})


def encode_cursor(key: UUID) -> str:
    return base64.urlsafe_b64encode(key.bytes).decode().rstrip("=")


def decode_cursor(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except (ValueError, binascii.Error):
        raise ValidationFailed.of("cursor", "is not a cursor that this API gave") from None
