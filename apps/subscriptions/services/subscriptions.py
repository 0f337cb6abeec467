"""What devices, app servers and operators do to one subscription."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack
from uuid import UUID

from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.subscriptions.identity import verify_identity
from apps.subscriptions.models import PUSH_TYPES, AppUser, Subscription, SubscriptionEventType, SubscriptionType
from apps.subscriptions.preferences.asking import admitted_status, opt_in_request
from apps.subscriptions.services.changes import SOURCES, SubscriptionChange, is_sticky, locked, wanted_status
from apps.subscriptions.services.slices import SubscriptionEnd, subscriptions_end
from apps.subscriptions.services.users import user_for_login, user_lock
from apps.subscriptions.status import Setter, SubscriptionStatus
from apps.subscriptions.validation import check_external_id, check_tags, merged_tags, normal_device, normal_token
from apps.tenants.models import Application
from automata_signal.encryption import keyed_digest
from automata_signal.errors import Conflict, Forbidden, Unavailable, ValidationFailed

DEVICE_TYPES = PUSH_TYPES | {SubscriptionType.IN_APP_MESSAGE}
"""What a device may register itself. An e-mail address or phone number can be guessed, so those come from the app
server, which knows whose they are."""

ATTEMPTS = 5
"""Others may register, move or take the same token between our look and our write."""


class DeviceFields(TypedDict, total=False):
    """What is known of a device. Absent leaves a column as it is, None clears it."""

    device_model: str | None
    device_os: str | None
    device_language: str | None
    app_version: str | None
    sdk_version: str | None
    country_code: str | None
    test_type: int | None


def token_digest(type: str, token: str) -> bytes:
    """What makes an address unique in its application, and findable; `token` in its normal form."""
    return keyed_digest(f"token:{type}", token)


def subscription_register(
    *,
    application: Application,
    type: str,
    token: str,
    setter: Setter,
    source: str | None = None,
    enabled: bool | None = None,
    subscription_status: int | None = None,
    tags: Mapping[str, Any] | None = None,
    user: AppUser | None = None,
    external_id: str | None = None,
    **device: Unpack[DeviceFields],
) -> tuple[Subscription, bool]:
    """Register an address, once however often it is called; answer with the row and whether it is new.

    A row that exists is updated: given device fields, tags (merged; None removes one), `token_registered_at`. Its
    status follows `enabled` or the code, so an ended one lives again, but a person's -22 or -31 stays against a
    device. An archived row comes back, linked to nobody unless `user` or `external_id` names somebody.
    A new row without `enabled` and code is 0, never subscribed. An address on the suppression list is registered as
    ended, and one that is to be confirmed first waits (-98) and is asked (`preferences.asking`).

    Raises `ValidationFailed`; `Forbidden` for a type or an `external_id` that is not a device's to register.
    """
    if setter is Setter.DEVICE and type not in DEVICE_TYPES:
        raise Forbidden(
            f"A device registers only push and in-app subscriptions; {type} comes from the app server (secret key).",
            code="TYPE_NOT_FOR_DEVICES",
        )
    if setter is Setter.DEVICE and external_id is not None:
        raise Forbidden("A device names its user by login, not by registration.", code="LOGIN_NEEDED")
    columns = normal_device(device)
    token = normal_token(type, token, columns.get("country_code", ""))
    digest = token_digest(type, token)
    status = wanted_status(enabled=enabled, subscription_status=subscription_status, setter=setter)
    check_tags(tags or {})
    if external_id is not None:
        check_external_id(external_id)

    with transaction.atomic():
        if external_id is not None:
            user = user_for_login(application=application, external_id=external_id)
        elif user is not None:
            user = user_lock(user=user)
        for _ in range(ATTEMPTS):
            row = _find_and_lock(application, type, digest)
            if row is not None:
                change = SubscriptionChange(row, setter=setter, source=source)
                wanted, why = admitted_status(
                    application, type=type, digest=digest, status=status, was=row.subscription_status
                )
                _update_registered(change, columns=columns, status=wanted, tags=tags, user=user, reason=why)
                return row, False
            row = Subscription(
                application=application,
                type=type,
                token=token,
                token_digest=digest,
                status_source=source or SOURCES[setter],
                tags=merged_tags({}, tags or {}),
                user=user,
                **columns,
            )
            wanted, why = admitted_status(application, type=type, digest=digest, status=status, was=0)
            if _insert_unless_exists(row, status=wanted, setter=setter, source=source, reason=why):
                return row, True
    raise Unavailable("Others are changing this token; try again.")


def _find_and_lock(application: Application, type: str, digest: bytes) -> Subscription | None:
    row: Subscription | None = (
        Subscription.with_archived.for_application(application)
        .select_related("user")
        .select_for_update(of=("self",))
        .filter(type=type, token_digest=digest)
        .first()
    )
    if row is not None:
        row.application = application
    return row


def _insert_unless_exists(
    row: Subscription, *, status: int | None, setter: Setter, source: str | None, reason: str = ""
) -> bool:
    """INSERT … ON CONFLICT DO NOTHING, with the events; False if another call has registered this token first."""
    change = SubscriptionChange(row, setter=setter, source=source)
    row.subscription_status = 0 if status is None else status
    row.created_at = row.updated_at = row.token_registered_at = change.now
    row.subscribed_at = change.now if row.is_subscribed else None
    row.last_active_at = change.now if setter is Setter.DEVICE else None
    fields = [field for field in Subscription._meta.concrete_fields if not field.generated]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO subscriptions_subscription ({columns}) VALUES ({', '.join(['%s'] * len(fields))})"
            " ON CONFLICT (application_id, type, token_digest) DO NOTHING",
            [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields],
        )
        if not cursor.rowcount:
            return False
    row._state.adding = False
    row._state.db = connection.alias
    change.note(SubscriptionEventType.REGISTERED, reason=reason)
    if row.is_subscribed:
        change.note(SubscriptionEventType.SUBSCRIBED, old_status=0)
    if row.user_id is not None:
        change.note(SubscriptionEventType.LINKED)
    change.save()
    if status == SubscriptionStatus.OPT_IN_PENDING:
        opt_in_request(row)
    return True


def _update_registered(
    change: SubscriptionChange,
    *,
    columns: dict[str, Any],
    status: int | None,
    tags: Mapping[str, Any] | None,
    user: AppUser | None,
    reason: str,
) -> None:
    row = change.subscription
    if row.is_archived:
        change.restore(reason="registered again")
        change.link(user, reason="registered again")
    elif user is not None:
        change.link(user)
    change.set(token_registered_at=change.now)
    _update(change, columns=columns, status=status, tags=tags, reason=reason)


def _update(
    change: SubscriptionChange,
    *,
    columns: dict[str, Any],
    status: int | None,
    tags: Mapping[str, Any] | None,
    tags_replace: bool = False,
    reason: str = "",
) -> None:
    """What registration and update have in common, and the write."""
    if tags is not None:
        change.set(tags=merged_tags({} if tags_replace else change.subscription.tags, tags))
    if change.setter is Setter.DEVICE:
        change.set(last_active_at=change.now)
    change.set(**columns)
    change.set_status(status, reason=reason)
    change.save()
    if status == SubscriptionStatus.OPT_IN_PENDING:
        opt_in_request(change.subscription)


def subscription_update(
    *,
    subscription: Subscription,
    setter: Setter,
    source: str | None = None,
    enabled: bool | None = None,
    subscription_status: int | None = None,
    tags: Mapping[str, Any] | None = None,
    tags_replace: bool = False,
    token: str | None = None,
    reason: str = "",
    **device: Unpack[DeviceFields],
) -> Subscription:
    """Change what is given and leave the rest; all of it or nothing. Tags are merged unless `tags_replace`.

    A device's status does not change a person's -22 or -31; its other fields do change. `token` as in
    `subscription_update_token`. Raises `ValidationFailed`, `NotFound` if the subscription is archived, and `Conflict`
    (SUPPRESSED) where it would subscribe an address that is on the suppression list.
    """
    columns = normal_device(device)
    status = wanted_status(enabled=enabled, subscription_status=subscription_status, setter=setter)
    check_tags(tags or {})
    if token is not None:
        token = normal_token(subscription.type, token, columns.get("country_code") or subscription.country_code)
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                row, holder = _lock_with_holder(subscription, token)
                change = SubscriptionChange(row, setter=setter, source=source)
                was = row.subscription_status
                if token is not None and _take_token(change, token, holder):
                    was = 0  # nobody has said yes for the new address
                wanted, why = _admitted(change, status, was=was)
                _update(
                    change,
                    columns=columns,
                    status=wanted,
                    tags=tags,
                    tags_replace=tags_replace,
                    reason=why or reason,
                )
                return row
        except IntegrityError as error:
            # The token was registered between the look and the write: look again.
            if "one_subscription_per_token" not in str(error):
                raise
    raise Unavailable("Others are changing this token; try again.")


def subscription_update_token(
    *, subscription: Subscription, token: str, setter: Setter, source: str | None = None
) -> Subscription:
    """Give the subscription another token (providers rotate them); its id, status, tags and history stay.

    If another subscription holds that token, this one, whose word is newer, takes it over. The other is ended and
    archived, with its events and a token that nobody can have; its history stays with it. If a person had said no to
    that address (-22, -31), the no moves along with it, since otherwise a device could walk around it.
    """
    return subscription_update(subscription=subscription, token=token, setter=setter, source=source)


def _lock_with_holder(subscription: Subscription, token: str | None) -> tuple[Subscription, Subscription | None]:
    """The row and, if another holds the token, that one too; locked in the order of their ids."""
    holder_id: UUID | None = None
    if token is not None:
        holder_id = (
            Subscription.with_archived.filter(
                application_id=subscription.application_id,
                type=subscription.type,
                token_digest=token_digest(subscription.type, token),
            )
            .exclude(pk=subscription.pk)
            .values_list("pk", flat=True)
            .first()
        )
    if holder_id is None:
        return locked(subscription), None
    in_order = Subscription.with_archived.select_for_update().filter(pk__in=(subscription.pk, holder_id)).order_by("pk")
    rows = {row.pk: row for row in in_order}
    return locked(subscription), rows.get(holder_id)


def _admitted(change: SubscriptionChange, status: int | None, *, was: int) -> tuple[int | None, str]:
    """As `admitted_status`, for an address that is subscribed, or stays so with another token."""
    row = change.subscription
    asked = status if status is not None else (row.subscription_status if was == 0 else None)
    wanted, why = admitted_status(row.application, type=row.type, digest=bytes(row.token_digest), status=asked, was=was)
    if wanted == asked:
        return status, ""
    if status is not None and status > 0 and wanted != SubscriptionStatus.OPT_IN_PENDING:
        raise Conflict(f"The address is on the suppression list ({why}).", code="SUPPRESSED")
    return wanted, why


def _take_token(change: SubscriptionChange, token: str, holder: Subscription | None) -> bool:
    """Whether it is another address than before."""
    row = change.subscription
    digest = token_digest(row.type, token)
    if holder is not None and bytes(holder.token_digest) == digest:
        if change.setter is Setter.DEVICE and is_sticky(holder) and not is_sticky(row):
            moved = SubscriptionChange(row, setter=Setter.PERSON, source=holder.status_source)
            moved.set_status(holder.subscription_status, reason=f"as it was for this token at {holder.pk}")
            moved.save()
        end = SubscriptionChange(holder, setter=change.setter, source=change.source)
        end.release_token(reason=f"token taken over by {row.pk}")
        end.archive(reason=f"token taken over by {row.pk}")
        end.save()
    change.set(token_registered_at=change.now)
    if bytes(row.token_digest) == digest:
        return False
    change.set(token=token, token_digest=digest)
    change.note(SubscriptionEventType.TOKEN_UPDATED)
    return True


def subscription_set_tags(
    *,
    subscription: Subscription,
    tags: Mapping[str, Any],
    setter: Setter,
    source: str | None = None,
    replace: bool = False,
) -> Subscription:
    """Lay `tags` over those there are (None removes one), or put them in their place."""
    return subscription_update(subscription=subscription, tags=tags, tags_replace=replace, setter=setter, source=source)


def subscription_end(
    *, subscription: Subscription, setter: Setter, source: str | None = None, reason: str = ""
) -> Subscription:
    """Unsubscribe and archive. The row and its history stay; registering the token again brings it back."""
    with transaction.atomic():
        row = locked(subscription)
        change = SubscriptionChange(row, setter=setter, source=source)
        change.archive(reason=reason)
        change.save()
    return row


def subscription_restore(
    *, subscription: Subscription, setter: Setter, source: str | None = None, reason: str = ""
) -> Subscription:
    """Bring an archived subscription back, ended as it was; subscribing it again is a step of its own.

    Raises `NotFound` for one whose token was erased or taken over: there is no address to come back to.
    """
    with transaction.atomic():
        row = locked(subscription, archived_too=bool(subscription.token))
        change = SubscriptionChange(row, setter=setter, source=source)
        change.restore(reason=reason)
        if row.user is not None and row.user.is_archived:
            change.link(None, reason="the user is archived")
        change.save()
    return row


def subscription_login(
    *,
    subscription: Subscription,
    external_id: str,
    setter: Setter,
    identity_token: str | None = None,
    source: str | None = None,
) -> Subscription:
    """Link the subscription to the user with this external id, who is made, or brought back, if need be.

    A device proves who logs in where the application wants that (`identity.verify_identity`); the app server and
    operators are believed. Raises `ValidationFailed`, `Forbidden` (IDENTITY_TOKEN_…), `NotFound`.
    """
    check_external_id(external_id)
    application = subscription.application
    if setter is Setter.DEVICE:
        verify_identity(application=application, external_id=external_id, identity_token=identity_token)
    with transaction.atomic():
        user = user_for_login(application=application, external_id=external_id)
        row = locked(subscription)
        change = SubscriptionChange(row, setter=setter, source=source)
        change.link(user)
        if setter is Setter.DEVICE:
            change.set(last_active_at=timezone.now())
        change.save()
    return row


def subscription_logout(*, subscription: Subscription, setter: Setter, source: str | None = None) -> Subscription:
    """Unlink the subscription from its user. It keeps its token, tags and status, and is anonymous from now on."""
    with transaction.atomic():
        row = locked(subscription)
        change = SubscriptionChange(row, setter=setter, source=source)
        change.link(None)
        if setter is Setter.DEVICE:
            change.set(last_active_at=timezone.now())
        change.save()
    return row


def addresses_end(*, application: Application, type: str, addresses: Sequence[str], status: int, reason: str) -> int:
    """End the subscriptions of addresses whose owners said stop to a provider; how many. What is no address of the type
    is passed over, and nobody learns whether one was known."""
    digests = set()
    for address in addresses:
        with contextlib.suppress(ValidationFailed):
            digests.add(token_digest(type, normal_token(type, address)))
    rows = Subscription.objects.for_application(application).filter(type=type, token_digest__in=digests)
    ends = [SubscriptionEnd(key, status, reason) for key in rows.values_list("pk", flat=True)]
    return subscriptions_end(application_id=application.pk, ends=ends, occurred_at=timezone.now())
