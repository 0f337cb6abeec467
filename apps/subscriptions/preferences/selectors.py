"""Reading consents, their history, the suppression list and notices."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apps.subscriptions.preferences.models import ConsentEvent, ConsentNotice, MarketingConsent, Suppression
from apps.subscriptions.preferences.suppressing import address_of
from apps.subscriptions.selectors import user_get
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.errors import NotFound


def _user_id(application: Application, external_id: str) -> UUID | None:
    try:
        return user_get(application=application, external_id=external_id, archived_too=True).pk
    except NotFound:
        return None


def _about_user(
    rows: ScopedQuerySet[Any],
    application: Application,
    filters: dict[str, Any],
    names: dict[str, str],
    *,
    user: str = "user_id",
) -> ScopedQuerySet[Any]:
    """`rows` by `external_id` (its user in the column `user`), and by what `names` says (filter → look-up)."""
    for name, value in filters.items():
        if name == "external_id":
            user_id = _user_id(application, value)
            rows = rows.none() if user_id is None else rows.filter(**{user: user_id})
        else:
            rows = rows.filter(**{names[name]: value})
    return rows


def consents_list(*, application: Application, filters: dict[str, Any]) -> ScopedQuerySet[MarketingConsent]:
    rows = MarketingConsent.objects.for_application(application).select_related("user")
    names = {"channel": "channel", "is_given": "is_given"}
    return _about_user(rows, application, filters, names, user="subject_id")


def consent_events_list(*, application: Application, filters: dict[str, Any]) -> ScopedQuerySet[ConsentEvent]:
    rows = ConsentEvent.objects.for_application(application).select_related("user")
    names = {"channel": "channel", "event_type": "event_type", "subscription_id": "subscription_id"}
    return _about_user(rows, application, filters, names)


def notices_list(*, application: Application, filters: dict[str, Any]) -> ScopedQuerySet[ConsentNotice]:
    rows = ConsentNotice.objects.for_application(application).select_related("user")
    return _about_user(rows, application, filters, {"kind": "kind", "state": "state", "channel": "channel"})


def suppressions_list(*, application: Application, filters: dict[str, Any]) -> ScopedQuerySet[Suppression]:
    """By `type`, `reason` and `address`, which needs the type. Raises `ValidationFailed` for what is no address."""
    rows = Suppression.objects.for_application(application)
    if "address" in filters:
        wanted = address_of(filters.get("type", ""), filters.pop("address"), reason="manual")
        rows = rows.filter(address_digest=wanted.digest)
    return rows.filter(**filters)
