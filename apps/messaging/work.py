"""Orders to send failed messages again, on the page of running work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.models import MessageRequeue
from apps.tenants.console.formats import number
from apps.tenants.console.work import SHOWN, Work, work_source


def _within(rows: Any, applications: Sequence[UUID] | None) -> Any:
    return rows if applications is None else rows.filter(application_id__in=applications)


def _count(applications: Sequence[UUID] | None) -> int:
    """Index: `requeue_unfinished`."""
    return int(_within(MessageRequeue.objects.filter(finished_at=None), applications).count())


@work_source("requeues", label=gettext_lazy("Requeue"), icon="replay", scope="messages:read", count=_count)
def requeues(applications: Sequence[UUID] | None, is_running: bool) -> list[Work]:
    rows = _within(MessageRequeue.objects.all(), applications)
    rows = rows.filter(finished_at=None) if is_running else rows
    return [_work(order) for order in rows.order_by("-pk")[:SHOWN]]


def _work(order: MessageRequeue) -> Work:
    skipped = sum(order.skipped.values())
    is_running = order.finished_at is None
    return Work(
        title=_("Failed messages: %(reason)s") % {"reason": order.error_reason or _("of any reason")},
        application_id=order.application_id,
        by=order.requested_by,
        started_at=order.created_at,
        finished_at=order.finished_at,
        is_running=is_running,
        state=_("Running") if is_running else _("Done"),
        colour="info" if is_running else "success",
        percent=_percent(order) if is_running else None,
        line=_("%(sent)s sent again, %(skipped)s left") % {"sent": number(order.requeued), "skipped": number(skipped)},
        address=reverse("admin:messaging_messagerequeue_change", args=[order.pk]),
    )


def _percent(order: MessageRequeue) -> int | None:
    """How far the checkpoint has come between the two moments, where both were given; ids are in order of time."""
    if order.since is None or order.after_id is None:
        return None
    since, until = order.since.timestamp(), order.until.timestamp()
    at = (order.after_id.int >> 80) / 1_000
    return max(0, min(99, int(100 * (at - since) / (until - since)))) if until > since else None
