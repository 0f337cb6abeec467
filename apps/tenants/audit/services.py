"""Writing the audit log. In the transaction of what is told of: either both are there, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from django.db.models import Model
from django.http import HttpRequest

from apps.tenants.access import client_address
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import Operator

SYSTEM = "system"


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

    `changes` has [before, after] by field; neither it nor `details` may hold a secret.
    """
    operator = actor if isinstance(actor, Operator) else getattr(request, "user", None)
    if not isinstance(operator, Operator):
        operator = None
    name = operator.email if operator else str(actor or SYSTEM)
    return AuditEvent.objects.create(
        action=action,
        application_id=application_id,
        operator_id=operator.pk if operator else None,
        actor=name[:200],
        object_label=row._meta.label if row is not None else "",
        object_id=str(row.pk) if row is not None else "",
        object_name=str(row)[:200] if row is not None else "",
        changes=dict(changes or {}),
        details=dict(details or {}),
        ip=client_address(request) if request is not None else None,
        user_agent=request.headers.get("user-agent", "")[:300] if request is not None else "",
        request_id=str(structlog.contextvars.get_contextvars().get("request_id") or "")[:64],
    )
