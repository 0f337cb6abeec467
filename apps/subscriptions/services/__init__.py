"""Changing users and subscriptions. Keyword-only; each call is one transaction, and writes its events in it.

Locks are taken in one order everywhere, so that no two calls wait for each other: users, then subscriptions by id.
"""

from apps.subscriptions.services.slices import (
    Strike,
    SubscriptionEnd,
    subscription_events_forget,
    subscriptions_count_receipts,
    subscriptions_end,
    subscriptions_forgive,
    subscriptions_strike,
)
from apps.subscriptions.services.subscriptions import (
    addresses_end,
    subscription_end,
    subscription_login,
    subscription_logout,
    subscription_register,
    subscription_restore,
    subscription_set_tags,
    subscription_update,
    subscription_update_token,
)
from apps.subscriptions.services.users import (
    user_archive,
    user_create,
    user_erase,
    user_export,
    user_update,
    users_set_test,
)

__all__ = [
    "Strike",
    "SubscriptionEnd",
    "addresses_end",
    "subscription_end",
    "subscription_events_forget",
    "subscription_login",
    "subscription_logout",
    "subscription_register",
    "subscription_restore",
    "subscription_set_tags",
    "subscription_update",
    "subscription_update_token",
    "subscriptions_count_receipts",
    "subscriptions_end",
    "subscriptions_forgive",
    "subscriptions_strike",
    "user_archive",
    "user_create",
    "user_erase",
    "user_export",
    "user_update",
    "users_set_test",
]
