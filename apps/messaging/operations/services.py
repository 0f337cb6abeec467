"""What operators do about running: each is told in the audit log, in the transaction of what it changes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django_celery_beat.models import PeriodicTask

from apps.messaging import rates
from apps.tenants.audit.services import audit
from apps.tenants.models import ChannelCredential
from apps.tenants.services import breaker_close, breaker_hold, credential_rate_set
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict


def _locked(credential: ChannelCredential) -> ChannelCredential:
    """As it is now, and stays until the end of the transaction: the page was opened before."""
    return ChannelCredential.objects.select_for_update().defer("secret").get(pk=credential.pk)


def _breaker_now(credential: ChannelCredential) -> str:
    row = _locked(credential)
    return row.breaker_cause or ("open" if row.breaker_opened_at else "closed")


@transaction.atomic
def breaker_override_close(*, credential: ChannelCredential, reason: str, request: HttpRequest) -> ChannelCredential:
    """Let a credential send again now, whatever its last probe showed."""
    before = _breaker_now(credential)
    row = breaker_close(credential, by=str(request.user))
    audit(
        "breaker.close",
        request=request,
        application_id=row.application_id,
        row=row,
        changes={"breaker": [before, "closed"]},
        details={"reason": reason},
    )
    return row


@transaction.atomic
def breaker_override_hold(
    *, credential: ChannelCredential, reason: str, hours: int, request: HttpRequest
) -> ChannelCredential:
    """Keep a credential from sending for some hours. Raises `ValidationFailed`."""
    before = _breaker_now(credential)
    until: datetime = timezone.now() + timedelta(hours=hours)
    row = breaker_hold(credential, reason=reason, until=until, by=str(request.user))
    audit(
        "breaker.hold",
        request=request,
        application_id=row.application_id,
        row=row,
        changes={"breaker": [before, "held"]},
        details={"reason": row.breaker_reason, "until": until.isoformat()},
    )
    return row


@transaction.atomic
def rate_override(
    *, credential: ChannelCredential, rate_per_minute: int | None, forget_slowdown: bool, request: HttpRequest
) -> ChannelCredential:
    """Set the limit of a credential (None: its provider's), and forget that its provider slowed it down."""
    before = _locked(credential).rate_per_minute
    row = credential_rate_set(credential, rate_per_minute=rate_per_minute, by=str(request.user))
    audit(
        "rate.override",
        request=request,
        application_id=row.application_id,
        row=row,
        changes={"rate_per_minute": [before, rate_per_minute]},
        details={"slowdown_forgotten": forget_slowdown},
    )
    if forget_slowdown:
        transaction.on_commit(lambda: rates.forget_slowdown(row), robust=True)
    return row


def schedule_run(*, row: PeriodicTask, request: HttpRequest) -> None:
    """Hand a schedule's task to the workers now. Raises `Conflict` if the broker does not answer."""
    arguments = [str(argument) for argument in json.loads(row.args or "[]")]
    if not send_tasks([Task(row.task, arguments, row.queue or "control")]):
        raise Conflict(_("The broker does not answer: nothing was handed over."), code="BROKER_AWAY")
    audit("schedule.run", request=request, row=row, details={"task": row.task})
