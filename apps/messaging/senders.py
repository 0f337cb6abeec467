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
from apps.messaging.adapters.registry import adapter_named, adapters_for, endpoint_for
from apps.tenants.models import BreakerCause, ChannelCredential
from apps.tenants.services import credential_builtin


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
    credentials = _credentials(application_id, subscription_type)
    waits = []
    for place, credential in enumerate(credentials):
        has_next = place + 1 < len(credentials)
        if not breaker.is_open(credential):
            return Route(credential, is_probe=False, has_next=has_next, is_stand_in=place > 0)
        if breaker.take_probe(credential):
            return Route(credential, is_probe=True, has_next=has_next, is_stand_in=place > 0)
        waits.append(breaker.wait_until(credential))
        if credential.breaker_cause not in (BreakerCause.REFUSED, BreakerCause.OUTAGE, BreakerCause.HELD):
            break
    return min(waits)


def _credentials(application_id: UUID, subscription_type: str) -> list[ChannelCredential]:
    """The active credentials of every provider that reaches the type, in the order in which they are to be used."""
    adapters = adapters_for(subscription_type)
    providers = [adapter.name for adapter in adapters]
    of_application = ChannelCredential.objects.filter(application_id=application_id, provider__in=providers)
    credentials = list(of_application.filter(is_active=True).order_by("position", "id"))
    if credentials:
        return credentials
    if not adapters[0].needs_secret:
        own = credential_builtin(application_id, adapters[0].name)  # another worker may have made it since we looked
        if own.is_active:
            return [own]
    raise NoCredential(f"the application has no active {' or '.join(providers)} credential")


_senders: dict[UUID, tuple[Mapping[str, Any], Sender]] = {}


def sender_for(credential: ChannelCredential) -> Sender:
    """An open sender for the credential; a changed secret gets a new one."""
    secret, sender = _senders.get(credential.pk, (None, None))
    if sender is not None and secret == credential.secret:
        return sender
    if sender is not None:
        sender.close()
    endpoint = endpoint_for(credential.provider, credential.pk)
    sender = adapter_named(credential.provider).open(credential.secret, endpoint)
    _senders[credential.pk] = (credential.secret, sender)
    return sender


def close_senders() -> None:
    """Close all connections: when the worker process ends."""
    while _senders:
        _, (_, sender) = _senders.popitem()
        sender.close()
