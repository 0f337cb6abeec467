"""What can be allowed, and which role has it. A key's scopes and a member's role are read in the same words."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from apps.tenants.models import Role

SCOPES: dict[str, str] = {
    "users:read": _("Read and export users"),
    "users:write": _("Create and change users, archive and erase them"),
    "subscriptions:read": _("List and read subscriptions"),
    "subscriptions:write": _("Register, change and end subscriptions"),
    "preferences:read": _("Read categories, preferences, consents, their history and notices"),
    "preferences:write": _("Change categories, preferences and consents, and close notices"),
    "suppressions:read": _("Read the suppression list (masked)"),
    "suppressions:write": _("Add and remove addresses of the suppression list"),
    "templates:read": _("Read and preview templates"),
    "templates:write": _("Create and change templates"),
    "media:read": _("Read media files"),
    "media:write": _("Upload and delete media files"),
    "messages:read": _("Read messages and their events"),
    "messages:send": _("Send and cancel messages"),
    "segments:read": _("Read segments and count audiences"),
    "segments:write": _("Create and change segments"),
    "campaigns:read": _("Read campaigns and their figures"),
    "campaigns:write": _("Create and change campaigns, send tests"),
    "campaigns:launch": _("Schedule, launch, pause, resume and cancel campaigns"),
    "campaigns:approve": _("Approve what others want to launch"),
    "receipts:write": _("Report receipts for any subscription of the application"),
    "analytics:read": _("Read statistics and reports"),
    "exports:write": _("Export rows to files, and schedule reports"),
    "imports:write": _("Import users and subscriptions from files"),
    "personal_data:read": _("See external ids, properties and addresses unmasked in exports"),
    "billing:read": _("Read plan, quotas, ledger and statements"),
    "billing:write": _("Set alerts on quotas and credit"),
    "webhooks:read": _("Read webhooks and their deliveries"),
    "webhooks:write": _("Create, change and test webhooks, send deliveries again"),
    "settings:read": _("Read the application's settings, keys and credentials (masked)"),
    "settings:write": _("Change the application's settings, keys and credentials"),
    "audit:read": _("Read and export the audit log"),
}
"""For secret keys and roles, in English as in the API's documents; pages translate it. A publishable key has one scope,
`sdk`, and no other can be added."""

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
