"""The open senders of this worker process: connections live as long as the process, not as long as a batch."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from apps.messaging.adapters.base import Sender
from apps.messaging.adapters.registry import adapter_for, endpoint_for
from apps.tenants.models import ChannelCredential


class NoCredential(LookupError):
    """The application has no active credential for this kind of subscription."""


_senders: dict[UUID, tuple[datetime, Sender]] = {}


def credential_for(application_id: UUID, subscription_type: str) -> ChannelCredential:
    """The credential to send with: the active one of the lowest position. Raises `NoCredential`."""
    provider = adapter_for(subscription_type).name
    credential = (
        ChannelCredential.objects.filter(application_id=application_id, provider=provider, is_active=True)
        .order_by("position", "id")
        .first()
    )
    if credential is None:
        raise NoCredential(f"the application has no active {provider} credential")
    return credential


def sender_for(credential: ChannelCredential, subscription_type: str) -> Sender:
    """An open sender for the credential; a changed credential gets a new one."""
    version, sender = _senders.get(credential.pk, (None, None))
    if sender is not None and version == credential.updated_at:
        return sender
    if sender is not None:
        sender.close()
    adapter = adapter_for(subscription_type)
    sender = adapter.open(credential.secret, endpoint_for(adapter.name))
    _senders[credential.pk] = (credential.updated_at, sender)
    return sender


def close_senders() -> None:
    """Close all connections: when the worker process ends."""
    while _senders:
        _, (_, sender) = _senders.popitem()
        sender.close()
