"""How a receiver knows that a POST is ours: an HMAC by a secret that only it and we have, by two while it changes."""

from __future__ import annotations

import secrets
from uuid import UUID

from django.utils import timezone

from apps.messaging.webhooks.models import WebhookEndpoint
from automata_signal import outgoing

SECRET_BYTES = 32
HEADER = "X-Automata-Signature"


def new_secret() -> str:
    """Shown once; stored encrypted."""
    return f"whsec_{secrets.token_urlsafe(SECRET_BYTES)}"


def signatures_of(endpoint_id: UUID, body: bytes) -> dict[str, str]:
    """The headers of `outgoing.signed`; while a former secret is still taken, with a signature by each, the new one
    first. Raises `DecryptionError`."""
    row = WebhookEndpoint.objects.only("secret", "previous_secret", "previous_until").get(pk=endpoint_id)
    signed = outgoing.signed(row.secret, body)
    if row.previous_secret and row.previous_until and row.previous_until > timezone.now():
        at_s = int(signed["X-Automata-Timestamp"])
        signed[HEADER] += f",{outgoing.signed(row.previous_secret, body, at_s=at_s)[HEADER]}"
    return signed
