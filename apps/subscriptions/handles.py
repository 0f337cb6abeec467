"""The SDK's secret handle: what proves, beside the publishable key, that a subscription is the caller's own.

It is derived, so nothing of it is stored. Raising `Subscription.handle_version` makes the old one invalid.
"""

from __future__ import annotations

import base64
import hmac
from uuid import UUID

from automata_signal.encryption import derived_key

HANDLE_HEADER = "X-Subscription-Handle"
"""Carries the handle with every request for one subscription that a publishable key makes."""


def handle_for(subscription_id: UUID, version: int) -> str:
    """`sh_` and 43 characters of base64url (256 bits), the same for every call until the version is raised."""
    message = subscription_id.bytes + version.to_bytes(4, "big")
    digest = hmac.digest(derived_key("subscription-handle"), message, "sha256")
    return "sh_" + base64.urlsafe_b64encode(digest).decode()[:43]


def handle_fits(handle: str, subscription_id: UUID, version: int) -> bool:
    """Whether `handle` is the subscription's, compared in constant time."""
    return hmac.compare_digest(handle_for(subscription_id, version).encode(), handle.encode("utf-8", "replace"))
