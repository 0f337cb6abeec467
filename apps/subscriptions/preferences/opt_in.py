"""Double opt-in: an address that was registered waits (-98) until whoever reads what is sent to it says yes.

The application's setting `double_opt_in` names the channels. What is asked goes out as a notice; how often is limited,
for whoever can register addresses could otherwise have us write to anybody.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from django.db import transaction
from django.utils import timezone

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.asking import CONFIRMABLE, ask
from apps.subscriptions.preferences.consents import event_note
from apps.subscriptions.preferences.models import ConsentEventType, ConsentSource, OptIn, SuppressionReason
from apps.subscriptions.preferences.subjects import CHANNEL_OF, Subject
from apps.subscriptions.preferences.suppressed import suppression_reason
from apps.subscriptions.preferences.suppressing import suppression_lift
from apps.subscriptions.services.changes import SubscriptionChange, locked
from apps.subscriptions.status import Setter, SubscriptionStatus
from automata_signal.errors import Conflict, NotFound
from automata_signal.link_tokens import LinkPurpose, LinkToken, read_link_token

_LIFTED = frozenset({SuppressionReason.UNSUBSCRIBED, SuppressionReason.MANUAL, SuppressionReason.IMPORT})
"""What a person's own confirmation outweighs. A complaint, and a mailbox that is not there, is an operator's matter."""


def opt_in_ask(*, subscription: Subscription, source: str | None = None) -> Subscription:
    """Ask the owner of an address to confirm it: once more while it waits, and anew when it has ended.

    A person who wants to be back is asked so, also one who is on the suppression list for having unsubscribed. Raises
    `Conflict`: ALREADY_SUBSCRIBED, NOT_CONFIRMABLE (no e-mail, no SMS), SUPPRESSED (a complaint or a hard bounce),
    ASKED_TOO_OFTEN (with when it can be tried again).
    """
    with transaction.atomic():
        row = locked(subscription)
        if row.type not in CONFIRMABLE:
            raise Conflict("Only e-mail addresses and phone numbers (SMS) are confirmed.", code="NOT_CONFIRMABLE")
        if row.is_subscribed:
            raise Conflict("The subscription is subscribed already.", code="ALREADY_SUBSCRIBED")
        reason = suppression_reason(application_id=row.application_id, type=row.type, digest=bytes(row.token_digest))
        if reason is not None and reason not in _LIFTED:
            raise Conflict(f"The address is on the suppression list ({reason}).", code="SUPPRESSED")
        if row.subscription_status != SubscriptionStatus.OPT_IN_PENDING:
            change = SubscriptionChange(row, setter=Setter.PERSON, source=source)
            change.set_status(SubscriptionStatus.OPT_IN_PENDING, reason="asked to confirm")
            change.save()
        ask(row, insist=True)
    return row


class Confirmation(NamedTuple):
    """A link that was followed: what it is about, and whether it confirms anything (any more)."""

    subscription: Subscription
    opt_in: OptIn
    is_confirmed: bool
    """Done, now or before."""


def opt_in_find(token: str) -> Confirmation:
    """What a link is about. Raises `LinkRefused`, `LinkExpired`, `NotFound` (the address or the request is another)."""
    link = read_link_token(LinkPurpose.CONFIRM, token)
    row: Subscription | None = (
        Subscription.objects.select_related("application").filter(pk=link.subscription_id).first()
    )
    return _confirmation(row, link)


def opt_in_confirm(token: str) -> Confirmation:
    """Subscribe the address, and take it off the suppression list if it was there for having unsubscribed.

    Following the link again changes nothing. Raises as `opt_in_find`.
    """
    found = opt_in_find(token)
    if found.is_confirmed:
        return found
    link = read_link_token(LinkPurpose.CONFIRM, token)
    with transaction.atomic():
        row = locked(found.subscription)
        row.application = found.subscription.application
        done = _confirmation(row, link)
        if done.is_confirmed:
            return done
        now = timezone.now()
        change = SubscriptionChange(row, setter=Setter.PERSON, source=ConsentSource.LINK)
        change.set_status(SubscriptionStatus.SUBSCRIBED, reason="address confirmed")
        change.save()
        suppression_lift(row, note="confirmed by its owner")
        done.opt_in.confirmed_at = now
        done.opt_in.save(update_fields=["confirmed_at"])
        event_note(
            subject=Subject.of_subscription(row),
            event_type=ConsentEventType.ADDRESS_CONFIRMED,
            channel=CHANNEL_OF[row.type],
            source=ConsentSource.LINK,
        )
    return Confirmation(row, done.opt_in, True)


def _confirmation(row: Subscription | None, link: LinkToken) -> Confirmation:
    opt_in = OptIn.objects.filter(subscription_id=link.subscription_id).first()
    if opt_in is not None and opt_in.pk != link.message_id:
        opt_in = None
    if row is None or opt_in is None or bytes(opt_in.token_digest) != bytes(row.token_digest):
        raise NotFound("There is nothing to confirm.")
    if opt_in.confirmed_at is not None:
        return Confirmation(row, opt_in, True)
    if row.subscription_status != SubscriptionStatus.OPT_IN_PENDING:
        raise NotFound("There is nothing to confirm.")
    return Confirmation(row, opt_in, False)


def opt_ins_expire(*, limit: int = 500, now: datetime | None = None) -> int:
    """Give up on those who have not confirmed in time: never subscribed (0). Answers with how many were looked at."""
    now = now or timezone.now()
    with transaction.atomic():
        expired = OptIn.objects.filter(confirmed_at=None, expired_at=None, expires_at__lte=now)
        ids = list(expired.order_by("expires_at").values_list("subscription_id", flat=True)[:limit])
        rows = Subscription.with_archived.select_for_update(skip_locked=True).filter(pk__in=ids).order_by("pk")
        held = list(rows)
        for row in held:
            if row.subscription_status == SubscriptionStatus.OPT_IN_PENDING:
                change = SubscriptionChange(row, setter=Setter.PERSON, source="system")
                change.set_status(SubscriptionStatus.NEVER_SUBSCRIBED, reason="not confirmed in time")
                change.save()
        OptIn.objects.filter(subscription_id__in=[row.pk for row in held], expires_at__lte=now).filter(
            confirmed_at=None, expired_at=None
        ).update(expired_at=now)
    return len(held)
