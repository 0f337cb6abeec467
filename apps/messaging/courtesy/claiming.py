"""Courtesy in the transaction that claims a batch: who waits is left for later, and who has had enough gets nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from apps.messaging.courtesy.caps import CAPPED, over_caps
from apps.messaging.courtesy.rules import rules_of
from apps.messaging.courtesy.waiting import NO_WAITS, Waits, end_of_life, people, plan_of, waits_of
from apps.messaging.courtesy.zones import zone_of
from apps.messaging.dispatches import EXPIRY_GRACE_S
from apps.messaging.models import DispatchState, Priority, Purpose

if TYPE_CHECKING:
    from apps.messaging.claims import Claim


WAITS_MAX = timedelta(days=3)
"""How much longer a batch lives for those who wait: a day for their hour, and nights."""


def is_plain(claim: Claim) -> bool:
    """Whether nothing of this is for the batch: the answer for single messages that are urgent costs nothing more."""
    dispatch = claim.dispatch
    if claim.batch.is_over_quota or dispatch.state == DispatchState.CANCELED:
        return True  # fails whole
    is_urgent = dispatch.purpose == Purpose.TRANSACTIONAL and dispatch.priority == Priority.HIGH
    return is_urgent and dispatch.campaign_id is None


def be_polite(claim: Claim) -> None:
    """Leave out of the claim who is to wait, and note when its batch comes back for them; fail who is over a cap, at
    the first claim. Sets `held`, `held_until`, `lives_until` and `send_before` of the claim."""
    if not claim.recipients or is_plain(claim):
        return
    dispatch, now = claim.dispatch, timezone.now()
    plan = plan_of(dispatch)
    rules = plan.rules if plan else rules_of(dispatch.application_id)
    caps = []
    if claim.batch.claims == 1:
        caps = rules.caps_for(channel=dispatch.channel_type, purpose=dispatch.purpose, category=dispatch.category)
    if plan is None and not caps:
        return
    known = people(dispatch, plan, [recipient.subscription_id for recipient in claim.recipients])
    waits = waits_of(dispatch, plan, known, now=now) if plan else NO_WAITS
    if caps:
        clock = zone_of(None, None, rules.time_zone)
        days = {person.subject_id: waits.until.get(key, now).astimezone(clock).date() for key, person in known.items()}
        over = over_caps(dispatch.application_id, caps, days)
        capped = {key for key, person in known.items() if person.subject_id in over}
        if capped:
            claim.unsendable[CAPPED] += [r.message_id for r in claim.recipients if r.subscription_id in capped]
            claim.recipients = [r for r in claim.recipients if r.subscription_id not in capped]
            waits = waits._replace(until={key: at for key, at in waits.until.items() if key not in capped})
    claim.send_before = waits.send_before
    if waits.until:
        claim.held = [r.message_id for r in claim.recipients if r.subscription_id in waits.until]
        claim.recipients = [r for r in claim.recipients if r.subscription_id not in waits.until]
        claim.held_until = min(waits.until.values())
        claim.lives_until = _lives_until(claim, waits)


def _lives_until(claim: Claim, waits: Waits) -> datetime | None:
    """`end_of_life`, and no later than `WAITS_MAX` after its own: what cannot leave for another reason would else be
    prolonged each night for ever."""
    batch, dispatch = claim.batch, claim.dispatch
    ttl = timedelta(seconds=max(dispatch.ttl_s, EXPIRY_GRACE_S))
    ends_at = end_of_life(waits, ttl)
    ahead = timedelta(seconds=settings.MESSAGE_TTL_MAX_S if dispatch.audience is None else 0)  # `send_at`, at most
    return ends_at and min(ends_at, batch.created_at + ahead + ttl + WAITS_MAX)
