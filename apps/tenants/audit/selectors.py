"""Reading the audit log."""

from __future__ import annotations

from django.db.models import Model, QuerySet

from apps.tenants.audit.models import AuditEvent


def events_of(row: Model, *, all_of_it: bool) -> QuerySet[AuditEvent]:
    """What was done with a row, newest first, by the index on its id; the platform's own events only if `all_of_it`."""
    found = AuditEvent.objects.filter(object_id=str(row.pk), object_label=row._meta.label).order_by("-pk")
    return found if all_of_it else found.exclude(application_id=None)
