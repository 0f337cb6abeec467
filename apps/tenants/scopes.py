"""What can be allowed, and which role has it. A key's scopes and a member's role are read in the same words."""

from __future__ import annotations

from apps.tenants.models import Role

SCOPES: dict[str, str] = {
    "users:read": "Read and export users",
    "users:write": "Create and change users, archive and erase them",
    "subscriptions:read": "List and read subscriptions",
    "subscriptions:write": "Register, change and end subscriptions",
    "preferences:read": "Read categories, preferences, consents, their history and notices",
    "preferences:write": "Change categories, preferences and consents, and close notices",
    "suppressions:read": "Read the suppression list (masked)",
    "suppressions:write": "Add and remove addresses of the suppression list",
    "templates:read": "Read and preview templates",
    "templates:write": "Create and change templates",
    "media:read": "Read media files",
    "media:write": "Upload and delete media files",
    "messages:read": "Read messages and their events",
    "messages:send": "Send and cancel messages",
    "segments:read": "Read segments and count audiences",
    "segments:write": "Create and change segments",
    "campaigns:read": "Read campaigns and their figures",
    "campaigns:write": "Create and change campaigns, send tests",
    "campaigns:launch": "Schedule, launch, pause, resume and cancel campaigns",
    "campaigns:approve": "Approve what others want to launch",
    "receipts:write": "Report receipts for any subscription of the application",
    "analytics:read": "Read statistics and reports",
    "exports:write": "Export rows to files, and schedule reports",
    "imports:write": "Import users and subscriptions from files",
    "personal_data:read": "See external ids, properties and addresses unmasked in exports",
    "billing:read": "Read plan, quotas, ledger and statements",
    "billing:write": "Set alerts on quotas and credit",
    "webhooks:read": "Read webhooks and their deliveries",
    "webhooks:write": "Create, change and test webhooks, send deliveries again",
    "settings:read": "Read the application's settings, keys and credentials (masked)",
    "settings:write": "Change the application's settings, keys and credentials",
    "audit:read": "Read and export the audit log",
}
"""For secret keys and roles. A publishable key has one scope, `sdk`, and no other can be added."""

SDK_SCOPE = "sdk"

_READ = frozenset(scope for scope in SCOPES if scope.endswith(":read")) - {"personal_data:read"}
_OF_THE_SET_UP = frozenset({"settings:read", "webhooks:read", "audit:read"})
"""What who is neither owner nor manager has no need of: addresses of webhooks may hold secrets."""
_MARKETING = frozenset(
    {
        *("templates:write", "media:write", "segments:write", "campaigns:write", "campaigns:launch", "messages:send"),
        "exports:write",
    },
)

ROLE_SCOPES: dict[str, frozenset[str]] = {
    Role.OWNER: frozenset(SCOPES),
    Role.MANAGER: frozenset(SCOPES) - {"settings:write"},
    Role.MARKETER: (_READ - _OF_THE_SET_UP) | _MARKETING,
    Role.ANALYST: (_READ - _OF_THE_SET_UP) | {"exports:write"},
    Role.SUPPORT: frozenset(
        {
            *("users:read", "users:write", "subscriptions:read", "subscriptions:write", "messages:read"),
            *("preferences:read", "preferences:write", "suppressions:read"),
        }
    ),
}
