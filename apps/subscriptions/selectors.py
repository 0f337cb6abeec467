"""Reading users and subscriptions. What belongs to another application looks the same as what does not exist."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apps.subscriptions.handles import handle_fits
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.services.users import is_erased
from apps.tenants.models import Application, ScopedQuerySet
from automata_signal.errors import NotFound


def subscription_get(*, application: Application, subscription_id: UUID) -> Subscription:
    """A live subscription of the application, with its user. Raise `NotFound`."""
    row: Subscription | None = (
        Subscription.objects.for_application(application).select_related("user").filter(pk=subscription_id).first()
    )
    if row is None:
        raise NotFound("There is no such subscription.")
    row.application = application
    return row


def subscription_for_device(*, application: Application, subscription_id: UUID, handle: str | None) -> Subscription:
    """The subscription that the handle was given for; whatever is wrong, the same `NotFound`."""
    row = subscription_get(application=application, subscription_id=subscription_id)
    if not handle_fits(handle or "", row.pk, row.handle_version):
        raise NotFound("There is no such subscription.")
    return row


LIST_FILTERS = {
    "type": "type",
    "subscription_status": "subscription_status",
    "country_code": "country_code",
    "test_type": "test_type",
    "created_from": "created_at__gte",
    "created_to": "created_at__lt",
    "last_active_from": "last_active_at__gte",
    "last_active_to": "last_active_at__lt",
}
"""The name of a filter, and its look-up."""


def subscriptions_list(*, application: Application, filters: dict[str, Any]) -> ScopedQuerySet[Subscription]:
    """Live subscriptions, by `LIST_FILTERS`, `is_subscribed` and `external_id`; pages go by (application, id)."""
    rows = Subscription.objects.for_application(application).select_related("user")
    for name, value in filters.items():
        if name == "is_subscribed":
            rows = rows.filter(subscription_status__gt=0) if value else rows.filter(subscription_status__lte=0)
        elif name == "external_id":  # with the application, so that the unique index finds the user
            rows = rows.filter(user__application=application, user__external_id=value)
        else:
            rows = rows.filter(**{LIST_FILTERS[name]: value})
    return rows  # type: ignore[no-any-return]


def user_get(
    *,
    application: Application,
    user_id: UUID | None = None,
    external_id: str | None = None,
    archived_too: bool = False,
) -> AppUser:
    """A user by our id or by the application's. Raise `NotFound`; an erased user is nobody's to find."""
    manager = AppUser.with_archived if archived_too else AppUser.objects
    key: dict[str, Any] = {"external_id": external_id} if user_id is None else {"pk": user_id}
    row: AppUser | None = manager.for_application(application).filter(**key).first()
    if row is None or is_erased(row):
        raise NotFound("There is no such user.")
    return row


def users_list(
    *, application: Application, external_id: str | None = None, is_test: bool | None = None
) -> ScopedQuerySet[AppUser]:
    """Live users, newest first; those of the test group by `user_test_group`."""
    rows = AppUser.objects.for_application(application)
    if is_test is not None:
        rows = rows.filter(is_test=is_test)
    return rows if external_id is None else rows.filter(external_id=external_id)  # type: ignore[no-any-return]


TEST_USERS_MAX = 200


def test_users(application: Application) -> ScopedQuerySet[AppUser]:
    """Live users of the test group, newest first, `TEST_USERS_MAX` at most. Index: `user_test_group`."""
    rows = AppUser.objects.for_application(application).filter(is_test=True).order_by("-pk")
    return rows[:TEST_USERS_MAX]  # type: ignore[no-any-return]


test_users.__test__ = False  # type: ignore[attr-defined]  # no test, whatever pytest thinks of the name


def once_linked(user: AppUser) -> set[UUID]:
    """The subscriptions that are the user's, and those that were: by `subscription_event_of_user`. Kept on the row."""
    known: set[UUID] | None = getattr(user, "_once_linked", None)
    if known is None:
        now = Subscription.with_archived.filter(user=user).values_list("pk", flat=True)
        once = SubscriptionEvent.objects.filter(application_id=user.application_id, user=user)
        known = {*now, *once.values_list("subscription_id", flat=True)}
        user._once_linked = known  # type: ignore[attr-defined]
    return known
