"""Sweeps, and e-mail to operators."""

from __future__ import annotations

from datetime import timedelta
from smtplib import SMTPException
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from apps.tenants import idempotency, sign_in


@shared_task(name="tenants.forget_idempotency_keys")
def forget_idempotency_keys() -> None:
    idempotency.forget_before(timezone.now() - timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS))


@shared_task(name="tenants.forget_expired_sign_ins")
def forget_expired_sign_ins() -> None:
    sign_in.forget_expired_sign_ins()


@shared_task(
    name="tenants.send_password_link", autoretry_for=(OSError, SMTPException), retry_backoff=True, max_retries=5
)
def send_password_link(operator_id: str) -> None:
    sign_in.password_link_send(operator_id=UUID(operator_id))
