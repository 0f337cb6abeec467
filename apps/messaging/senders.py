"""Which credential a batch is sent by, and the open senders of this worker process.

Connections live as long as the process, not as long as a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from apps.messaging import breaker
from apps.messaging.adapters.base import Sender
from apps.messaging.adapters.registry import adapter_for, endpoint_for
from apps.tenants.models import BreakerCause, ChannelCredential


class NoCredential(LookupError):
    """The application has no active credential for this kind of subscription."""


class Route(NamedTuple):
    """The credential to send by."""

    credential: ChannelCredential
    is_probe: bool
    """Only a few messages, to find out whether its breaker can be closed."""
    has_next: bool
    """Whether there is another credential that takes over if this one is refused or fails."""
    is_stand_in: bool
    """It is not the first: one before it is refused or fails."""


def route_for(application_id: UUID, subscription_type: str) -> Route | datetime:
    """The active credential of the lowest position that is not stopped, or when to ask again if all are.

    A credential whose probe is due is the route of the one worker that probes. One that does not fit the addresses is
    not replaced: they would not fit the next either, which must reach the same app. Raises `NoCredential`.
    """
    provider = adapter_for(subscription_type).name
    rows = ChannelCredential.objects.filter(application_id=application_id, provider=provider, is_active=True)
    credentials = list(rows.order_by("position", "id"))
    if not credentials:
        raise NoCredential(f"the application has no active {provider} credential")
    waits = []
    for place, credential in enumerate(credentials):
        has_next = place + 1 < len(credentials)
        if not breaker.is_open(credential):
            return Route(credential, is_probe=False, has_next=has_next, is_stand_in=place > 0)
        if breaker.take_probe(credential):
            return Route(credential, is_probe=True, has_next=has_next, is_stand_in=place > 0)
        waits.append(breaker.wait_until(credential))
        if credential.breaker_cause not in (BreakerCause.REFUSED, BreakerCause.OUTAGE):
            break
    return min(waits)


_senders: dict[UUID, tuple[Mapping[str, Any], Sender]] = {}


def sender_for(credential: ChannelCredential, subscription_type: str) -> Sender:
    """An open sender for the credential; a changed secret gets a new one."""
    secret, sender = _senders.get(credential.pk, (None, None))
    if sender is not None and secret == credential.secret:
        return sender
    if sender is not None:
        sender.close()
    adapter = adapter_for(subscription_type)
    sender = adapter.open(credential.secret, endpoint_for(adapter.name))
    _senders[credential.pk] = (credential.secret, sender)
    return sender


def close_senders() -> None:
    """Close all connections: when the worker process ends."""
    while _senders:
        _, (_, sender) = _senders.popitem()
        sender.close()
