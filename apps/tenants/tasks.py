"""Sweeps, and e-mail to operators."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from apps.tenants import idempotency, sign_in
from apps.tenants.accounts import invitations, sessions
from apps.tenants.audit.services import forget_old_events
from apps.tenants.credentials.expiry import tell_expiring as tell_of_expiring


@shared_task(name="tenants.forget_idempotency_keys")
def forget_idempotency_keys() -> None:
    idempotency.forget_before(timezone.now() - timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS))


@shared_task(name="tenants.forget_expired_sign_ins")
def forget_expired_sign_ins() -> None:
    sign_in.forget_expired_sign_ins()
    sessions.forget_ended_sessions()


@shared_task(name="tenants.forget_audit_events")
def forget_audit_events() -> None:
    forget_old_events()


@shared_task(
    name="tenants.send_password_link", autoretry_for=(OSError, SMTPException), retry_backoff=True, max_retries=5
)
def send_password_link(operator_id: str) -> None:
    sign_in.password_link_send(operator_id=UUID(operator_id))


@shared_task(name="tenants.tell_expiring")
def tell_expiring() -> None:
    tell_of_expiring()


@shared_task(name="tenants.send_invitation", autoretry_for=(OSError, SMTPException), retry_backoff=True, max_retries=5)
def send_invitation(invitation_id: str) -> None:
    invitations.invitation_send(invitation_id=UUID(invitation_id))
