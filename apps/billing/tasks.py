"""Sweeps of billing."""

from __future__ import annotations

from celery import shared_task

from apps.billing import alerts, checking
from apps.billing.services import posting


@shared_task(name="billing.alerts")
def sweep_alerts() -> None:
    """Find out what is to be told, and tell what is due."""
    alerts.alerts_raise()
    alerts.alerts_deliver()


@shared_task(name="billing.post_usage")
def post_usage() -> int:
    return posting.usage_post_all()


@shared_task(name="billing.close_months")
def close_months() -> int:
    return posting.months_close()


@shared_task(name="billing.check_ledger")
def check_ledger() -> int:
    return checking.report_differences()
