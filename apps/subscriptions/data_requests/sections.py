"""What this app holds about a person: the sections of a copy, and what is counted before and after an erasure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from apps.subscriptions.erasure import Page, register_counter, register_reader
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.preferences.models import MarketingConsent, Preference, Suppression
from apps.subscriptions.selectors import once_linked
from apps.subscriptions.services.users import export_columns, export_subscription, is_erased
from apps.tenants.audit.models import AuditEvent

PAGE_ROWS = 1_000


def register_sections() -> None:
    register_reader("profile", _profile)
    register_reader("subscriptions", _subscriptions)
    register_reader("subscription_events", _subscription_events)
    register_reader("suppressions", _suppressions)
    register_reader("audit_log", _audit_log)
    register_counter("personal_fields", _count_fields)
    register_counter("addresses", _count_addresses)
    register_counter("choices", _count_choices)


def subscription_ids_of(user: AppUser) -> list[UUID]:
    """Of the subscriptions that are the user's now, archived ones too."""
    return list(Subscription.with_archived.filter(user=user).order_by("id").values_list("pk", flat=True))


def _profile(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    return Page([export_columns(user, "application")])


def _subscriptions(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    rows = Subscription.with_archived.filter(user=user).order_by("id")
    return _paged(rows, after, export_subscription)


def _subscription_events(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    """By `subscription_event_of`, also of devices that were the person's once; what other users did on a shared device
    is theirs."""
    rows = SubscriptionEvent.objects.filter(subscription_id__in=once_linked(user), user_id=user.pk).order_by("id")
    return _paged(rows, after, lambda event: export_columns(event, "application", "user", "position"))


def _suppressions(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    """By `one_suppression_per_address`."""
    keys = dict.fromkeys(
        (type_, bytes(digest))
        for type_, digest in Subscription.with_archived.filter(pk__in=subscription_ids).values_list(
            "type", "token_digest"
        )
    )
    rows = Suppression.objects.filter(
        application_id=user.application_id,
        type__in={type_ for type_, _digest in keys},
        address_digest__in=[digest for _type, digest in keys],
    )
    shown = ("type", "masked_address", "reason", "source", "created_at")
    return Page([{name: getattr(row, name) for name in shown} for row in rows])


def _audit_log(user: AppUser, subscription_ids: Sequence[UUID], after: str) -> Page:
    """What operators did about the person, by `audit_by_object`; who did it is not the person's to know."""
    keys = [str(key) for key in (user.pk, *subscription_ids)]
    rows = AuditEvent.objects.filter(object_id__in=keys, application_id=user.application_id).order_by("id")
    return _paged(rows, after, lambda row: {"at": row.at, "action": row.action, "changes": row.changes})


def _paged(rows: Any, after: str, shape: Any) -> Page:
    found = list((rows.filter(pk__gt=UUID(after)) if after else rows)[: PAGE_ROWS + 1])
    page = found[:PAGE_ROWS]
    return Page([shape(row) for row in page], str(page[-1].pk) if len(found) > PAGE_ROWS else "")


# --- Counts --------------------------------------------------------------------------------------------------------


def _count_fields(user: AppUser, subscription_ids: Sequence[UUID]) -> int:
    """The external id and the properties; tags and device data of subscriptions."""
    devices = ("device_model", "device_os", "device_language", "app_version", "country_code", "tags")
    of_devices = Subscription.with_archived.filter(pk__in=subscription_ids).values_list(*devices)
    filled = sum(bool(value) for row in of_devices for value in row)
    return len(user.properties) + int(not is_erased(user)) + filled


def _count_addresses(user: AppUser, subscription_ids: Sequence[UUID]) -> int:
    """Tokens, e-mail addresses and phone numbers that can be read."""
    rows = Subscription.with_archived.filter(pk__in=subscription_ids)
    return sum(bool(token) for token in rows.values_list("token", flat=True))


def _count_choices(user: AppUser, subscription_ids: Sequence[UUID]) -> int:
    of_user = {"application_id": user.application_id, "subject_id__in": [user.pk, *subscription_ids]}
    return Preference.objects.filter(**of_user).count() + MarketingConsent.objects.filter(**of_user).count()
