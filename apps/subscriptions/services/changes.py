"""One change of one locked subscription: the columns it sets and the events it leaves, written together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent, SubscriptionEventType
from apps.subscriptions.status import RULES, STICKY, Setter, SubscriptionStatus, may_set
from automata_signal.encryption import keyed_digest
from automata_signal.errors import NotFound, ValidationFailed

SOURCES = {Setter.DEVICE: "device", Setter.PROVIDER: "provider", Setter.PERSON: "api"}
"""What `status_source` and an event's `source` say unless the caller knows better (`operator`, `system`)."""


def wanted_status(*, enabled: bool | None, subscription_status: int | None, setter: Setter) -> int | None:
    """The status that the caller asks for, or None to leave it as it is.

    A code says more than `enabled`, but must not contradict it. Raises `ValidationFailed` for a code that does not
    exist, that `setter` may not set, or that contradicts.
    """
    if subscription_status is None:
        if enabled is None:
            return None
        return SubscriptionStatus.SUBSCRIBED if enabled else SubscriptionStatus.UNSUBSCRIBED
    if subscription_status not in RULES:
        raise ValidationFailed.of("subscription_status", "is not a status code")
    if not may_set(subscription_status, setter):
        raise ValidationFailed.of("subscription_status", f"is not a code that a {setter} may set")
    if enabled is not None and enabled != (subscription_status > 0):
        contradiction = "0 or below" if enabled else "above 0"
        raise ValidationFailed.of("subscription_status", f"is {contradiction}, which contradicts `enabled`")
    return subscription_status


def is_sticky(subscription: Subscription) -> bool:
    """Whether a person or the API said no, so that a device's word does not change it."""
    return subscription.subscription_status in STICKY and subscription.status_source != SOURCES[Setter.DEVICE]


class SubscriptionChange:
    """Collects what happens to one locked row. `save` writes one UPDATE and one INSERT, or nothing."""

    def __init__(self, subscription: Subscription, *, setter: Setter, source: str | None = None) -> None:
        self.subscription = subscription
        self.setter = setter
        self.source = source or SOURCES[setter]
        self.now: datetime = timezone.now()
        self._changed: set[str] = set()
        self._events: list[SubscriptionEvent] = []

    @property
    def changed(self) -> frozenset[str]:
        """The columns that are not as they were."""
        return frozenset(self._changed)

    @property
    def events(self) -> Sequence[SubscriptionEvent]:
        """What `save` would leave; for who writes many changes at once."""
        return self._events

    def set(self, **columns: Any) -> None:
        for name, value in columns.items():
            if getattr(self.subscription, name) != value:
                setattr(self.subscription, name, value)
                self._changed.add(name)

    def note(
        self,
        event_type: SubscriptionEventType,
        *,
        reason: str = "",
        old_status: int | None = None,
        user_id: UUID | None = None,
    ) -> None:
        """Leave an event; its new status is the present one, and its user the present one unless told."""
        status = self.subscription.subscription_status
        is_first = event_type is SubscriptionEventType.REGISTERED
        self._events.append(
            SubscriptionEvent(
                application_id=self.subscription.application_id,
                subscription_id=self.subscription.pk,
                user_id=user_id or self.subscription.user_id,
                event_type=event_type,
                channel=self.subscription.type,
                source=self.source,
                reason=reason[:200],
                old_status=old_status if old_status is not None or is_first else status,
                new_status=status,
                occurred_at=self.now,
            )
        )

    def set_status(self, status: int | None, *, reason: str = "") -> None:
        """Give the row a status and leave the event; None, or a device against a person's no, changes nothing."""
        row = self.subscription
        if status is None or (self.setter is Setter.DEVICE and is_sticky(row)):
            return
        old = row.subscription_status
        if status == old:
            # A person confirms what the device said: from now on it is the person's word.
            if status in STICKY and row.status_source != self.source:
                self.set(status_source=self.source)
                self.note(SubscriptionEventType.STATUS_CHANGED, reason=reason)
            return
        self.set(subscription_status=status, status_source=self.source)
        if status > 0:
            self.set(subscribed_at=self.now, unsubscribed_at=None)
            self.note(SubscriptionEventType.SUBSCRIBED, reason=reason, old_status=old)
        elif old > 0:
            self.set(unsubscribed_at=self.now)
            self.note(SubscriptionEventType.UNSUBSCRIBED, reason=reason, old_status=old)
        else:
            self.note(SubscriptionEventType.STATUS_CHANGED, reason=reason, old_status=old)

    def link(self, user: AppUser | None, *, reason: str = "") -> None:
        """Link to `user`, or to nobody, and say so for both the old and the new user."""
        old_id = self.subscription.user_id
        if old_id != (user.pk if user else None):
            if old_id is not None:
                self.note(SubscriptionEventType.UNLINKED, reason=reason)
            self.set(user_id=user.pk if user else None)
            if user is not None:
                self.note(SubscriptionEventType.LINKED, reason=reason)
        self.subscription.user = user

    def archive(self, *, reason: str = "") -> None:
        """Take the subscription out of use; it ends first, unless it had ended before."""
        row = self.subscription
        if row.is_subscribed:
            self.set_status(SubscriptionStatus.UNSUBSCRIBED, reason=reason)
        if not row.is_archived:
            self.set(is_archived=True, archived_at=self.now)
            self.note(SubscriptionEventType.ARCHIVED, reason=reason)

    def restore(self, *, reason: str = "") -> None:
        """Bring an archived subscription back, as it was when it ended."""
        if self.subscription.is_archived:
            self.set(is_archived=False, archived_at=None)
            self.note(SubscriptionEventType.RESTORED, reason=reason)

    def release_token(self, *, reason: str) -> None:
        """Forget the row's token, free it for another row, and make the row's handle invalid."""
        row = self.subscription
        self.set(
            token="",
            token_digest=keyed_digest("token-released", str(row.pk)),
            handle_version=row.handle_version % 32_767 + 1,
        )
        self.note(SubscriptionEventType.TOKEN_UPDATED, reason=reason)

    def save(self) -> None:
        if self._changed:
            self.subscription.updated_at = self.now
            self.subscription.save(update_fields={*self._changed, "updated_at"})
        if self._events:
            SubscriptionEvent.objects.bulk_create(self._events)


def locked(subscription: Subscription, *, archived_too: bool = False) -> Subscription:
    """The row as it is now, locked and with its user. Raise `NotFound` if it was archived meanwhile."""
    row: Subscription | None = (
        Subscription.with_archived.select_related("user")
        .select_for_update(of=("self",))
        .filter(pk=subscription.pk, application_id=subscription.application_id)
        .first()
    )
    if row is None or (row.is_archived and not archived_too):
        raise NotFound("There is no such subscription.")
    row.application = subscription.application
    return row
