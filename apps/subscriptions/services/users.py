"""What app servers and operators do to users, and how a login finds its user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.utils import timezone

from apps.subscriptions.erasure import erase_above, export_above
from apps.subscriptions.models import MESSAGING_TYPES, AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.services.changes import SubscriptionChange
from apps.subscriptions.status import Setter
from apps.subscriptions.validation import ERASED_PREFIX, check_external_id, merged_properties
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound
from automata_signal.ids import new_id

# Both lean on the unique (application_id, external_id), so that of many callers at once one makes the user. A
# concurrent erasure changes the external id: the statement waits for it, and then makes a new user.
_LOGIN = """
INSERT INTO subscriptions_appuser
  (id, application_id, external_id, properties, created_at, updated_at, last_active_at, is_archived)
VALUES (%(id)s, %(application_id)s, %(external_id)s, '{}', %(now)s, %(now)s, %(now)s, false)
ON CONFLICT (application_id, external_id) DO UPDATE
  SET last_active_at = excluded.last_active_at, is_archived = false, archived_at = NULL,
      updated_at = CASE WHEN subscriptions_appuser.is_archived THEN excluded.updated_at
                        ELSE subscriptions_appuser.updated_at END
RETURNING id, properties, created_at, updated_at, is_test
"""
_CREATE = """
INSERT INTO subscriptions_appuser
  (id, application_id, external_id, properties, is_test, created_at, updated_at, is_archived)
VALUES (%(id)s, %(application_id)s, %(external_id)s, %(properties)s, %(is_test)s, %(now)s, %(now)s, false)
ON CONFLICT (application_id, external_id) DO UPDATE
  SET is_archived = false, archived_at = NULL, properties = excluded.properties, is_test = excluded.is_test,
      updated_at = excluded.updated_at
  WHERE subscriptions_appuser.is_archived
RETURNING id
"""


def user_for_login(*, application: Application, external_id: str) -> AppUser:
    """The user with this external id, locked: the one there is, an archived one brought back, or a new one."""
    now = timezone.now()
    values: dict[str, Any] = {"id": new_id(), "application_id": application.pk, "external_id": external_id, "now": now}
    with connection.cursor() as cursor:
        cursor.execute(_LOGIN, values)
        user_id, properties, created_at, updated_at, is_test = cursor.fetchone()
    user = AppUser(
        id=user_id,
        application=application,
        external_id=external_id,
        properties=orjson.loads(properties),
        created_at=created_at,
        updated_at=updated_at,
        last_active_at=now,
        is_test=is_test,
    )
    user._state.adding = False
    user._state.db = connection.alias
    return user


def user_lock(*, user: AppUser, archived_too: bool = False) -> AppUser:
    """The row as it is now, locked. Raise `NotFound` if it was archived or erased meanwhile."""
    row: AppUser | None = (
        AppUser.with_archived.select_for_update().filter(pk=user.pk, application_id=user.application_id).first()
    )
    if row is None or is_erased(row) or (row.is_archived and not archived_too):
        raise NotFound("There is no such user.")
    return row


def is_erased(user: AppUser) -> bool:
    return user.external_id.startswith(ERASED_PREFIX)


def user_create(
    *,
    application: Application,
    external_id: str,
    properties: Mapping[str, Any] | None = None,
    is_test: bool = False,
) -> AppUser:
    """Make a user, or bring an archived one back with these properties; `Conflict` (USER_EXISTS) if there is one."""
    check_external_id(external_id)
    values: dict[str, Any] = {
        "id": new_id(),
        "application_id": application.pk,
        "external_id": external_id,
        "properties": orjson.dumps(merged_properties({}, properties or {})).decode(),
        "is_test": is_test,
        "now": timezone.now(),
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_CREATE, values)
        made = cursor.fetchone()
    if made is None:
        raise Conflict("There is a user with this external_id.", code="USER_EXISTS")
    return AppUser.with_archived.get(pk=made[0])


def user_update(
    *,
    user: AppUser,
    properties: Mapping[str, Any] | None = None,
    replace: bool = False,
    is_test: bool | None = None,
) -> AppUser:
    """Lay `properties` over those there are (None removes one), or put them in their place; `is_test` says whether the
    user is in the test group. None leaves either as it is."""
    with transaction.atomic():
        row = user_lock(user=user)
        if properties is not None:
            row.properties = merged_properties({} if replace else row.properties, properties)
        if is_test is not None:
            row.is_test = is_test
        row.updated_at = timezone.now()
        row.save(update_fields=["properties", "is_test", "updated_at"])
    return row


def users_set_test(*, application: Application, user_ids: Sequence[UUID], is_test: bool) -> int:
    """Put live users into the application's test group, or take them out; how many that changed."""
    rows = AppUser.objects.for_application(application).filter(pk__in=user_ids).exclude(is_test=is_test)
    changed: int = rows.update(is_test=is_test, updated_at=timezone.now())
    return changed


def user_archive(*, user: AppUser, setter: Setter = Setter.PERSON, source: str | None = None) -> AppUser:
    """Take a user out of use: nothing reaches any of the user's subscriptions, which are ended and archived.

    The user comes back by login or by being created again; a subscription, by registering again.
    """
    with transaction.atomic():
        row = user_lock(user=user)
        row.is_archived, row.archived_at = True, timezone.now()
        row.updated_at = row.archived_at
        row.save(update_fields=["is_archived", "archived_at", "updated_at"])
        for subscription in _locked_subscriptions(row):
            change = SubscriptionChange(subscription, setter=setter, source=source)
            change.archive(reason="user archived")
            change.save()
    return row


def user_erase(*, user: AppUser, setter: Setter = Setter.PERSON, source: str | None = None) -> AppUser:
    """Remove every personal datum, for ever: of the user, of the linked subscriptions, and of what upper apps hold.

    Rows stay as anonymous anchors for counts: the external id becomes `erased:<id>`, tokens are gone and their
    digests freed, handles no longer fit. A device that is still in use registers anew and is somebody else to us.
    Subscriptions that the user had left by logging out are not the user's any more and are not touched.
    """
    with transaction.atomic():
        row = user_lock(user=user, archived_too=True)
        subscriptions = _locked_subscriptions(row)
        erase_above(row, [subscription.pk for subscription in subscriptions])
        for subscription in subscriptions:
            change = SubscriptionChange(subscription, setter=setter, source=source)
            change.archive(reason="user erased")
            change.release_token(reason="user erased")
            change.set(
                tags={},
                device_model="",
                device_os="",
                device_language="",
                app_version="",
                sdk_version="",
                country_code="",
                last_active_at=None,
            )
            change.save()
        row.external_id = f"{ERASED_PREFIX}{row.pk}"
        row.properties = {}
        row.is_test = False
        row.last_active_at = None
        row.is_archived = True
        row.updated_at = timezone.now()
        row.archived_at = row.archived_at or row.updated_at
        row.save()
    return row


def user_export(*, user: AppUser) -> dict[str, Any]:
    """Everything that is held about a user, as JSON-ready data.

    E-mail addresses and phone numbers are the person's own data and are there in full. A push token is a secret
    between the provider and us that says nothing about the person: it stays masked.
    """
    subscriptions = list(Subscription.with_archived.filter(user=user).order_by("id"))
    ids = [subscription.pk for subscription in subscriptions]
    return {
        "user": export_columns(user, "application"),
        "subscriptions": [export_subscription(subscription) for subscription in subscriptions],
        "subscription_events": _export_events(user, ids),
        **export_above(user, ids),
    }


def export_subscription(subscription: Subscription) -> dict[str, Any]:
    is_address = subscription.type in MESSAGING_TYPES
    hidden = ("application", "user", "token", "token_digest", "handle_version")
    return {
        **export_columns(subscription, *hidden),
        "token": subscription.token if is_address else subscription.masked_token,
    }


def _export_events(user: AppUser, subscription_ids: list[UUID]) -> list[dict[str, Any]]:
    """By the index on (subscription, id); what other users did on a shared device is theirs."""
    events = SubscriptionEvent.objects.filter(subscription_id__in=subscription_ids, user_id=user.pk).order_by("id")
    return [export_columns(event, "application", "user", "position") for event in events]


def export_columns(row: AppUser | Subscription | SubscriptionEvent, *hidden: str) -> dict[str, Any]:
    """The row's own columns; not what PostgreSQL derives from them."""
    fields = [field for field in row._meta.concrete_fields if field.name not in hidden and not field.generated]
    return {field.attname: getattr(row, field.attname) for field in fields}


def _locked_subscriptions(user: AppUser) -> list[Subscription]:
    """All subscriptions of the user, archived ones too, locked in the order of their ids."""
    return list(Subscription.with_archived.select_for_update().filter(user=user).order_by("id"))
