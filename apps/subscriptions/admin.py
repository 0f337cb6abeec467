"""What Django looks for: the console's pages of this app register themselves when they are imported."""

from __future__ import annotations

from apps.subscriptions import started as started
from apps.subscriptions.console import (  # noqa: F401
    data_requests,
    events,
    running_work,
    subscriptions,
    users,
)
from apps.subscriptions.console.looking import masked, subscription_ids_by_token, user_ids, with_sealed_token
from apps.subscriptions.imports import admin as imports_admin  # noqa: F401
from apps.subscriptions.preferences import admin as preferences_admin  # noqa: F401

__all__ = ["masked", "subscription_ids_by_token", "user_ids", "with_sealed_token"]
