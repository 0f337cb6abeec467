"""Whether an address may be subscribed at once, and asking its owner: what registration needs of double opt-in."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from apps.subscriptions.models import Subscription, SubscriptionType
from apps.subscriptions.preferences.models import OptIn
from apps.subscriptions.preferences.notices import notice_of_opt_in
from apps.subscriptions.preferences.subjects import CHANNEL_OF
from apps.subscriptions.preferences.suppressed import suppressed_status, suppression_reason
from apps.subscriptions.status import SubscriptionStatus
from apps.tenants.models import Application
from automata_signal.errors import Conflict
from automata_signal.ids import new_id

CONFIRMABLE = frozenset({SubscriptionType.EMAIL, SubscriptionType.SMS})
ASK_AGAIN_S = 60
ASKED_A_DAY_MAX = 3


def needs_confirmation(application: Application, type: str) -> bool:
    """Whether an address of this type is to be confirmed before it is subscribed."""
    return type in CONFIRMABLE and CHANNEL_OF[type] in application.settings.get("double_opt_in", ())


def admitted_status(
    application: Application, *, type: str, digest: bytes, status: int | None, was: int
) -> tuple[int | None, str]:
    """The status in place of the one that was asked for, and why: of an address that is on the suppression list, or
    that is to be confirmed first. `was` is its present status. What is no subscription is not looked at."""
    if status is None or status <= 0:
        return status, ""
    reason = suppression_reason(application_id=application.pk, type=type, digest=digest)
    if reason is not None:
        return suppressed_status(type, reason), f"suppressed: {reason}"
    if was <= 0 and needs_confirmation(application, type):
        return SubscriptionStatus.OPT_IN_PENDING, "to be confirmed"
    return status, ""


def opt_in_request(row: Subscription) -> None:
    """Ask for the confirmation of a subscription that waits for it, unless that was asked a short while ago or too
    often within a day. In the caller's transaction, which holds the row. An app server that asks by itself and says
    -98 is left to it: the application's setting decides who asks."""
    if needs_confirmation(row.application, row.type):
        ask(row, insist=False)


def ask(row: Subscription, *, insist: bool) -> None:
    """`insist`: raise `Conflict` (ASKED_TOO_OFTEN) instead of leaving it for now."""
    now = timezone.now()
    digest = bytes(row.token_digest)
    expires_at = now + timedelta(hours=settings.OPT_IN_EXPIRE_HOURS)
    opt_in = OptIn.objects.select_for_update().filter(subscription_id=row.pk).first()
    if opt_in is None:
        opt_in = OptIn(
            application_id=row.application_id, subscription_id=row.pk, token_digest=digest, expires_at=expires_at
        )
    elif (wait_until := _wait_until(opt_in, now)) is not None:
        if insist:
            raise Conflict("That was asked a short while ago.", code="ASKED_TOO_OFTEN", retry_at=wait_until)
        if bytes(opt_in.token_digest) == digest:
            return
    if now - opt_in.counted_from >= timedelta(days=1):
        opt_in.asked_today, opt_in.counted_from = 0, now
    if bytes(opt_in.token_digest) != digest:
        OptIn.objects.filter(pk=opt_in.pk).delete()
        opt_in.pk = new_id()  # links name it: one that went to the former address confirms nothing
        opt_in._state.adding = True
    opt_in.token_digest, opt_in.expires_at = digest, expires_at
    opt_in.confirmed_at = opt_in.expired_at = None
    if opt_in.asked_today >= ASKED_A_DAY_MAX:  # another address of the same subscription: it waits, and is not asked
        opt_in.save()
        return
    opt_in.requested_at = opt_in.asked_at = now
    opt_in.asked_today += 1
    opt_in.save()
    notice_of_opt_in(opt_in, CHANNEL_OF[row.type])


def _wait_until(opt_in: OptIn, now: datetime) -> datetime | None:
    """When it may be asked again, if not now."""
    if now - opt_in.counted_from >= timedelta(days=1):
        return None
    if opt_in.asked_today >= ASKED_A_DAY_MAX:
        return opt_in.counted_from + timedelta(days=1)
    again_at = opt_in.asked_at + timedelta(seconds=ASK_AGAIN_S) if opt_in.asked_at else now
    return again_at if again_at > now else None
