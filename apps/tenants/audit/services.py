"""Writing the audit log. In the transaction of what is told of: either both are there, or neither."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from apps.tenants.access import client_address
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import Operator
from automata_signal.ids import first_id_at

SYSTEM = "system"
MASKED = "•••"
VALUE_MAX = 2_000
"""Characters that are kept of one value."""
FIELDS_MAX = 100
_SECRET = re.compile(r"password|secret|token|digest|private|api_?key|credential_json|service_account", re.IGNORECASE)
FORGET_BATCH = 5_000


def audit(
    action: str,
    *,
    request: HttpRequest | None = None,
    actor: Operator | str = "",
    application_id: UUID | None = None,
    row: Model | None = None,
    changes: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Tell of `action` (`area.verb`). Who it was is `actor`, or who is signed in at `request`, or the system.

    `changes` has [before, after] by field; neither it nor `details` may hold a secret. Whatever comes in is made to
    fit: a strange address, a NUL or a long text are no reason to fail what is told of.
    """
    operator = actor if isinstance(actor, Operator) else None
    if operator is None and not actor:
        user = getattr(request, "user", None)
        operator = user if isinstance(user, Operator) else None
    name = operator.email if operator else str(actor or SYSTEM)
    return AuditEvent.objects.create(
        action=_text(action, 60),
        application_id=application_id,
        operator_id=operator.pk if operator else None,
        actor=_text(name, 200),
        object_label=row._meta.label[:60] if row is not None else "",
        object_id=_text(row.pk, 64) if row is not None else "",
        object_name=_text(row, 200) if row is not None else "",
        changes={_text(k, 100): _pair(k, pair) for k, pair in list((changes or {}).items())[:FIELDS_MAX]},
        details=plain(details or {}),
        ip=_address(request),
        user_agent=_text(request.headers.get("user-agent", ""), 300) if request is not None else "",
        request_id=_text(structlog.contextvars.get_contextvars().get("request_id") or "", 64),
    )


def is_secret(name: str) -> bool:
    """Whether a field's name says that its value is nobody's to read."""
    return _SECRET.search(name) is not None


def changes_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """[before, after] of the fields that differ, what is secret masked."""
    found: dict[str, list[Any]] = {}
    for name in after:
        old, new = plain(before.get(name)), plain(after[name])
        if old == new and not is_secret(name):
            continue
        found[name] = [_masked(old), _masked(new)] if is_secret(name) else [old, new]
    return found


def plain(value: Any, depth: int = 0) -> Any:
    """What JSON and PostgreSQL can keep of a value: no NUL, nothing endless, secrets within it masked."""
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, float) or (value == value and abs(value) != float("inf")) else str(value)
    if isinstance(value, str):
        return _text(value, VALUE_MAX)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    if isinstance(value, Model):
        return _text(value, 200)
    if isinstance(value, bytes | memoryview):
        return MASKED
    if isinstance(value, Mapping):
        if depth > 6:
            return "…"
        items = list(value.items())[:FIELDS_MAX]
        return {_text(k, 100): _masked(v) if is_secret(str(k)) else plain(v, depth + 1) for k, v in items}
    if isinstance(value, list | tuple | set | frozenset | QuerySet):
        return "…" if depth > 6 else [plain(item, depth + 1) for item in list(value)[:FIELDS_MAX]]
    return _text(value, VALUE_MAX)


def _pair(name: str, pair: Any) -> list[Any]:
    return [_masked(plain(value)) if is_secret(str(name)) else plain(value) for value in pair]


def _masked(value: Any) -> Any:
    return value if value in (None, "", {}, []) else MASKED


def _text(value: object, length_max: int) -> str:
    try:
        text = str(value)
    except Exception:  # a name that cannot be made is no reason to lose the event
        text = type(value).__name__
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:length_max]


def _address(request: HttpRequest | None) -> str | None:
    if request is None:
        return None
    try:
        return str(ip_address(client_address(request)))
    except ValueError:
        return None


def forget_old_events() -> int:
    """Delete what is older than `AUDIT_KEEP_DAYS`; 0 keeps all. The trigger lets nobody else delete."""
    if not settings.AUDIT_KEEP_DAYS:
        return 0
    until = first_id_at(int((timezone.now() - timedelta(days=settings.AUDIT_KEEP_DAYS)).timestamp() * 1_000))
    forgotten = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL automata.audit_retention = 'on'")
            cursor.execute(
                "DELETE FROM tenants_auditevent WHERE id IN"
                " (SELECT id FROM tenants_auditevent WHERE id < %s ORDER BY id LIMIT %s)",
                [until, FORGET_BATCH],
            )
            count = int(cursor.rowcount)
        forgotten += count
        if count < FORGET_BATCH:
            return forgotten
