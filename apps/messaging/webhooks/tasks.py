"""Celery's doors into webhooks."""

from __future__ import annotations

from celery import shared_task

from apps.messaging.webhooks import delivering, disabling, forgetting, routing
from apps.messaging.webhooks.lanes import is_anything_ready
from apps.tenants.operations.switches import WEBHOOKS, is_on
from automata_signal.celery import begun


@shared_task(name="messaging.route_webhooks")
def route_webhooks() -> None:
    """What happened becomes deliveries, and those that are due go to a worker."""
    if routing.route_all():
        routing.queue_route()
    if is_on(WEBHOOKS) and is_anything_ready():
        delivering.queue_deliver()


@shared_task(name="messaging.deliver_webhooks")
def deliver_webhooks(mark: str = "") -> None:
    if mark:
        begun(mark)
    if delivering.deliver_due():
        delivering.queue_deliver()


@shared_task(name="messaging.tell_webhooks")
def tell_webhooks() -> int:
    return disabling.tell_disabled()


@shared_task(name="messaging.forget_webhooks")
def forget_webhooks() -> None:
    if forgetting.deliveries_forget():
        forgetting.queue_forget()
