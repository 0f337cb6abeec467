"""What the API's views share: refusals in the envelope, strict input, cursors."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.defaults import bad_request as default_bad_request
from psycopg_pool import PoolTimeout
from rest_framework import exceptions, serializers, status
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, set_rollback

from automata_signal.envelope import PROBLEMS_MAX, error_body
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
        log.warning("the database does not answer", extra={"cause": str(exc)})
        code, body = 503, error_body("UNAVAILABLE", "The database does not answer; try again in a moment.")
        headers["Retry-After"] = "5"
    elif isinstance(exc, SignalError):
        code, body = exc.status, error_body(exc.code, exc.message, exc.details, exc.facts)
        if (wait_s := exc.retry_after_s) is not None:
            headers["Retry-After"] = str(wait_s)
        elif exc.status == status.HTTP_503_SERVICE_UNAVAILABLE:
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
        problems = list(islice(flatten_errors(exc.detail), PROBLEMS_MAX))
        return error_body(code, "The input is not valid.", problems)
    return error_body(code, str(exc.detail))


@csrf_exempt
def not_found(request: HttpRequest, exception: Exception | None = None) -> JsonResponse:
    """Django's 404 for paths under the API, where there is no page to show, and no form to protect."""
    return JsonResponse(error_body("NOT_FOUND", "There is no such address."), status=404)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's 400, such as for a `Host` that is not ours: in the envelope under the API."""
    if request.path.startswith("/api/"):
        return JsonResponse(error_body("BAD_REQUEST", "The request is not valid."), status=400)
    return default_bad_request(request, exception)


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
    """Refuses fields it does not know, for a misspelt name must not be ignored in silence, and values of another type.

    Rest framework would take 5 for `"5"`, `"yes"` for true, and 5 for a UUID; and it would check each of a million
    elements before it says that a list is too long.
    """

    from_text: ClassVar[bool] = False
    """For query parameters, where numbers come as text."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = [name for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError(
                    {str(name)[:200]: ["There is no such field."] for name in unknown[:PROBLEMS_MAX]}
                )
            if not self.from_text:
                wrong: dict[str, Any] = {
                    n: p for n, value in data.items() if (p := _type_problem(self.fields[n], value))
                }
                if wrong:
                    raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)


def at_most_bytes(limit: int) -> Callable[[Any], None]:
    """A validator of JSON that is stored, or rendered once for each recipient."""

    def check(value: Any) -> None:
        if (size := len(orjson.dumps(value))) > limit:
            raise serializers.ValidationError(f"Is {size} bytes of JSON: at most {limit} are allowed.")

    return check


class NoInput(StrictSerializer):
    """For what takes nothing: what is sent all the same is refused by name. `{"dry_run": true}` must not erase."""


_JSON_TYPES: tuple[tuple[type[serializers.Field[Any, Any, Any, Any]], type, str], ...] = (
    (serializers.CharField, str, "Must be text."),
    (serializers.DateTimeField, str, "Must be text: a time in ISO 8601."),
    (serializers.UUIDField, str, "Must be text: a UUID."),
    (serializers.ChoiceField, str, "Must be text."),
    (serializers.BooleanField, bool, "Must be true or false."),
    (serializers.IntegerField, int, "Must be a whole number."),
)


def _type_problem(field: Any, value: Any) -> list[str] | dict[int, Any] | None:
    """What is wrong with the JSON type of a value, as rest framework writes errors. Null is the field's matter."""
    if value is None:
        return None
    if isinstance(field, serializers.ListField):
        if not isinstance(value, list):
            return ["Must be a list."]
        if field.max_length is not None and len(value) > field.max_length:
            return [f"Must have at most {field.max_length} elements."]
        if isinstance(field.child, serializers.JSONField):
            return None
        return {n: p for n, element in enumerate(value) if (p := _type_problem(field.child, element))} or None
    for kind, json_type, problem in _JSON_TYPES:
        if isinstance(field, kind):
            is_right = isinstance(value, json_type) and (json_type is bool or not isinstance(value, bool))
            return None if is_right else [problem]
    return None


def validated(
    serializer_class: type[serializers.Serializer[Any]], data: Any, *, partial: bool = False
) -> dict[str, Any]:
    """The checked input, or a 400 that names each field. `partial`: nothing is required."""
    return dict(_checker(serializer_class, partial=partial).run_validation(data))


def represented(serializer_class: type[serializers.Serializer[Any]], row: Any) -> dict[str, Any]:
    """`serializer_class(row).data`, for one without a context."""
    return dict(_checker(serializer_class, partial=False).to_representation(row))


@cache
def _checker(serializer_class: type[serializers.Serializer[Any]], *, partial: bool) -> serializers.Serializer[Any]:
    """One for all requests: a new serializer copies each of its fields, which costs more than checking them. Neither
    checking nor representing keeps anything in it."""
    return serializer_class(data={}, partial=partial)


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
        if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= self.max_limit:
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
