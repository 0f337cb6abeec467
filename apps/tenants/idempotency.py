"""`Idempotency-Key`: a POST that is sent again does its work once and gets the first answer again.

The record is inserted in the transaction of the effect, so the two exist together or not at all. A second request
with the same key waits in its INSERT, on the unique index, until the first has ended: then it replays the answer, or,
if the first rolled back, does the work itself. Refusals (4xx) roll back too and are not kept.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

import orjson
from django.db import connection, transaction
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from apps.tenants.models import Application, IdempotencyRecord
from automata_signal.api import SignalResponse
from automata_signal.envelope import written
from automata_signal.errors import Conflict, ValidationFailed

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEY_LENGTH_MAX = 255

IDEMPOTENCY_PARAMETER = OpenApiParameter(
    HEADER,
    {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX},
    OpenApiParameter.HEADER,
    description=(
        "Sent again with the same body within 24 hours, the request is not done twice: the first answer comes again, "
        "with `Idempotency-Replayed: true`. With another body or route: 409 `IDEMPOTENCY_KEY_REUSED`."
    ),
)
"""For `@extend_schema(parameters=[…])` of views that are `@idempotent`."""


class _View(Protocol):
    @property
    def application(self) -> Application: ...


Method = TypeVar("Method", bound=Callable[..., Response])


def idempotent(method: Method) -> Method:
    """Let a `SignalView` method keep its answer under the request's `Idempotency-Key`, per application.

    The method runs inside a transaction when the header is there: it may queue only by `transaction.on_commit`, and
    its data must be what JSON can hold. For routes of secret keys and operators: any of an application's callers gets
    the answer again, so it must hold nothing that is for one device only.
    """

    @functools.wraps(method)
    def once(view: _View, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(HEADER)
        if key is None:
            return method(view, request, *args, **kwargs)
        check_key(key)
        claim = IdempotencyRecord(
            application=view.application,
            key=key,
            route=f"{request.method} {request.path}"[:200],
            request_digest=request_digest(request),
        )
        with transaction.atomic():
            while not _insert(claim):
                # The one in our way has committed. It is gone again only if it was forgotten this very moment.
                if first := IdempotencyRecord.objects.filter(application=view.application, key=key).first():
                    return replay(first, claim)
            response = method(view, request, *args, **kwargs)
            if response.status_code >= 400:
                transaction.set_rollback(True)
            else:
                keep_answer(claim, response)
        return response

    return cast(Method, once)


def check_key(key: str) -> None:
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not all(" " <= character <= "~" for character in key):
        raise ValidationFailed.of(HEADER, f"must be 1 to {KEY_LENGTH_MAX} printable ASCII characters")


def request_digest(request: Request) -> bytes:
    """SHA-256 of the body's meaning, so that spaces and the order of names do not matter, and of the query."""
    body = orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS)
    query = request.META.get("QUERY_STRING", "").encode()
    return hashlib.sha256(query + b"\0" + body).digest()


def _insert(claim: IdempotencyRecord) -> bool:
    """Whether the record is ours now. Waits for whoever inserted the same key and has not ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO tenants_idempotencyrecord (id, application_id, key, route, request_digest, created_at)
            VALUES (%s, %s, %s, %s, %s, now())
            ON CONFLICT ON CONSTRAINT one_answer_per_idempotency_key DO NOTHING
            """,
            [claim.id, claim.application_id, claim.key, claim.route, bytes(claim.request_digest)],
        )
        return bool(cursor.rowcount == 1)


def keep_answer(claim: IdempotencyRecord, response: Response) -> None:
    answer = written({"data": response.data, "meta": getattr(response, "meta", {})}).decode()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE tenants_idempotencyrecord SET status = %s, answer = %s::jsonb WHERE id = %s",
            [response.status_code, answer, claim.pk],
        )


def replay(first: IdempotencyRecord, now: IdempotencyRecord) -> SignalResponse:
    """The first answer again. Raise `Conflict` if it answered another request."""
    if first.route != now.route or bytes(first.request_digest) != now.request_digest:
        raise Conflict(f"This {HEADER} was used for another request; use a new one.", code="IDEMPOTENCY_KEY_REUSED")
    answer = first.answer or {}
    return SignalResponse(
        answer.get("data"), meta=answer.get("meta"), status=first.status, headers={REPLAYED_HEADER: "true"}
    )


def forget_before(moment: datetime, *, slice_size: int = 5_000) -> int:
    """Delete the records made before `moment`, a slice at a time, by the index on `created_at`."""
    forgotten = 0
    while True:
        old = IdempotencyRecord.objects.filter(created_at__lt=moment).order_by("created_at")
        deleted = IdempotencyRecord.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:slice_size])).delete()
        forgotten += deleted[0]
        if deleted[0] < slice_size:
            return forgotten
