"""What people have to be told about their choices, until they were told: a list, and the job that works it off.

Messages lie above this app, so that it cannot send. Who can registers a notifier at start-up; without one, notices stay
on the list. A notice and the message that carries it are one transaction: it is told once.

Source: 정보통신망법 (Korean Network Act) 50 ⑦ (result within 14 days) and ⑧ (every two years); providers.md 4.6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from apps.subscriptions.models import Subscription
from apps.subscriptions.preferences.letters import NoticeToSend, letter_of
from apps.subscriptions.preferences.models import (
    ConsentEvent,
    ConsentEventType,
    ConsentNotice,
    ConsentSource,
    MarketingConsent,
    NoticeKind,
    NoticeState,
    OptIn,
)
from apps.subscriptions.preferences.subjects import CHANNEL_OF
from apps.subscriptions.status import SubscriptionStatus
from apps.tenants.models import Application
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, NotFound, SignalError

log = logging.getLogger(__name__)

RESULT_WITHIN = timedelta(days=14)
RECONFIRM_AHEAD = timedelta(days=30)
"""How long before the two years are over a confirmation is put on the list."""
ATTEMPTS_MAX = 10
FIRST_RETRY_S, RETRY_MAX_S = 60, 6 * 3_600
AT_ONCE = 100
"""Notices in one transaction."""


Notifier = Callable[[NoticeToSend], UUID]
"""Accepts a message in the caller's transaction and answers with its id. Raises `SignalError` if it cannot."""
_notifiers: list[Notifier] = []


def register_notifier(notifier: Notifier) -> None:
    """Let `notifier` send what people are to be told; called at start-up (`AppConfig.ready`). There is one."""
    if notifier not in _notifiers:
        _notifiers[:] = [notifier]


def mode_of(application: Application, kind: str) -> str:
    """What the application does about these notices: `send`, `list` or `off`."""
    if kind == NoticeKind.OPT_IN:
        return "send"
    is_kr = application.settings.get("advertising_rules") == "kr"
    default = "list" if is_kr or kind == NoticeKind.RECONFIRM else "off"
    return str(application.settings.get("consent_notices", {}).get(kind, default))


# --- Putting them on the list ----------------------------------------------------------------------------------------

CONFIRM_EVERY_YEARS = 2


def two_years_after(moment: datetime) -> datetime:
    """The same day two years later; 28 February for the 29th."""
    try:
        return moment.replace(year=moment.year + CONFIRM_EVERY_YEARS)
    except ValueError:
        return moment.replace(year=moment.year + CONFIRM_EVERY_YEARS, day=28)


_RESULTS = (
    *(ConsentEventType.GIVEN, ConsentEventType.WITHDRAWN, ConsentEventType.NIGHT_GIVEN),
    ConsentEventType.NIGHT_WITHDRAWN,
)
_TOLD_BY_THE_PAGE = (ConsentSource.LINK, ConsentSource.PAGE)


def notices_of_results(application: Application, events: Sequence[ConsentEvent]) -> None:
    """Put on the list what these events make necessary. Who chose on one of our pages was told by it."""
    mode = mode_of(application, NoticeKind.RESULT)
    if mode == "off":
        return
    notices = []
    for event in events:
        if event.event_type not in _RESULTS:
            continue
        is_told = event.source in _TOLD_BY_THE_PAGE
        notices.append(
            ConsentNotice(
                application_id=application.pk,
                kind=NoticeKind.RESULT,
                user_id=event.user_id,
                subscription_id=event.subscription_id,
                channel=event.channel,
                about_id=event.pk,
                said_at=event.effective_at,
                what=event.event_type,
                category=event.category,
                due_at=event.occurred_at + RESULT_WITHIN,
                state=NoticeState.DONE if is_told else NoticeState.DUE,
                is_to_be_sent=mode == "send",
                note="told by the page" if is_told else "",
                finished_at=event.occurred_at if is_told else None,
            )
        )
    ConsentNotice.objects.bulk_create(notices)


# Index: `consent_due`. The date moves on when the notice is made, so that each is found once.
_FIND_DUE = """
WITH due AS (
  SELECT c.id, c.confirm_due_at FROM subscriptions_marketingconsent c
  WHERE c.confirm_due_at <= %(until)s
  ORDER BY c.confirm_due_at LIMIT %(limit)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE subscriptions_marketingconsent c SET confirm_due_at = c.confirm_due_at + interval '2 years'
FROM due WHERE c.id = due.id
RETURNING c.id, c.application_id, c.user_id, c.subscription_id, c.channel, c.given_at, due.confirm_due_at
"""


def confirmations_find(*, limit: int = 1_000, now: datetime | None = None) -> int:
    """Put on the list whose consent will soon have been given or confirmed two years ago; how many were looked at."""
    now = now or timezone.now()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_FIND_DUE, {"until": now + RECONFIRM_AHEAD, "limit": limit})
            rows = cursor.fetchall()
        applications = Application.objects.in_bulk({row[1] for row in rows})
        notices = []
        for consent_id, application_id, user_id, subscription_id, channel, given_at, due_at in rows:
            mode = mode_of(applications[application_id], NoticeKind.RECONFIRM)
            if mode == "off":
                continue
            notices.append(
                ConsentNotice(
                    application_id=application_id,
                    kind=NoticeKind.RECONFIRM,
                    user_id=user_id,
                    subscription_id=subscription_id,
                    channel=channel,
                    about_id=consent_id,
                    said_at=given_at,
                    what=ConsentEventType.GIVEN,
                    due_at=due_at,
                    is_to_be_sent=mode == "send",
                )
            )
        ConsentNotice.objects.bulk_create(notices, ignore_conflicts=True)
    return len(rows)


def notice_of_opt_in(opt_in: OptIn, channel: str) -> ConsentNotice:
    """Put a request for confirmation on the list, and have it sent at once; a lost task is made up for by the next."""
    transaction.on_commit(lambda: send_tasks([Task("subscriptions.send_notices", [], "control")]), robust=True)
    return ConsentNotice.objects.create(
        application_id=opt_in.application_id,
        kind=NoticeKind.OPT_IN,
        subscription_id=opt_in.subscription_id,
        channel=channel,
        about_id=opt_in.pk,
        said_at=opt_in.requested_at,
        due_at=opt_in.expires_at,
    )


# --- Working it off --------------------------------------------------------------------------------------------------


def notices_send(*, limit: int = AT_ONCE) -> int:
    """Hand what is due to the notifier; how many notices were looked at. 0 without a notifier."""
    if not _notifiers:
        return 0
    now = timezone.now()
    with transaction.atomic():
        due = ConsentNotice.objects.filter(state=NoticeState.DUE, is_to_be_sent=True, attempt_at__lte=now)
        notices = list(
            due.select_related("application")
            .select_for_update(of=("self",), skip_locked=True)
            .order_by("attempt_at")[:limit]
        )
        # What each reserves stays locked until the end: quotas in the order in which everybody locks them.
        for notice in sorted(notices, key=lambda one: (one.application_id, one.channel)):
            _send(notice, _notifiers[0], now)
    return len(notices)


def _send(notice: ConsentNotice, notifier: Notifier, now: datetime) -> None:
    subscription = _reachable(notice)
    problem = "" if subscription else "nobody to be reached on this channel"
    if subscription is not None:
        problem = _is_not_needed(notice, subscription)
    if subscription is None or problem:
        _finish(notice, NoticeState.VOID, now, note=problem)
        return
    try:
        with transaction.atomic():
            message_id = notifier(letter_of(notice, subscription))
    except SignalError as error:
        log.warning("a consent notice cannot be sent", extra={"notice_id": str(notice.pk), "code": error.code})
        _try_again(notice, error.message, now)
        return
    except Exception as error:  # a fault of ours must neither hold up the others nor go unseen
        if isinstance(error, OperationalError | InterfaceError):
            raise
        log.exception("a consent notice could not be made", extra={"notice_id": str(notice.pk)})
        _try_again(notice, "a fault of ours: it stands in the log", now)
        return
    notice.message_id = message_id
    _finish(notice, NoticeState.SENT, now)


def _reachable(notice: ConsentNotice) -> Subscription | None:
    """The subscription that the notice goes to: the one it came through, else the user's newest of the channel."""
    types = [type_ for type_, channel in CHANNEL_OF.items() if channel == notice.channel]
    rows = Subscription.objects.filter(application_id=notice.application_id, type__in=types)
    if notice.kind == NoticeKind.OPT_IN:
        waiting: Subscription | None = rows.filter(
            pk=notice.subscription_id, subscription_status=SubscriptionStatus.OPT_IN_PENDING
        ).first()
        return waiting
    rows = rows.filter(subscription_status__gt=0)
    found: Subscription | None = None
    if notice.subscription_id is not None:
        found = rows.filter(pk=notice.subscription_id).first()
    if found is None and notice.user_id is not None:
        found = rows.filter(user_id=notice.user_id).order_by("-id").first()
    return found


def _is_not_needed(notice: ConsentNotice, subscription: Subscription) -> str:
    """Why nothing is to be said any more; empty if it is."""
    if notice.kind == NoticeKind.OPT_IN:
        opt_in = OptIn.objects.filter(pk=notice.about_id, confirmed_at=None, expired_at=None).first()
        if opt_in is None or bytes(opt_in.token_digest) != bytes(subscription.token_digest):
            return "confirmed, expired, or of another address now"
    if notice.kind == NoticeKind.RECONFIRM:
        consent = MarketingConsent.objects.filter(pk=notice.about_id, is_given=True, given_at=notice.said_at)
        if not consent.exists():
            return "withdrawn or given anew"
    return ""


def _try_again(notice: ConsentNotice, problem: str, now: datetime) -> None:
    notice.attempts += 1
    notice.note = problem[:200]
    notice.attempt_at = now + timedelta(seconds=min(FIRST_RETRY_S * 2**notice.attempts, RETRY_MAX_S))
    if notice.attempts >= ATTEMPTS_MAX:
        _finish(notice, NoticeState.FAILED, now, note=notice.note)
        return
    notice.save(update_fields=["attempts", "note", "attempt_at"])


def _finish(notice: ConsentNotice, state: NoticeState, now: datetime, *, note: str = "") -> None:
    notice.state, notice.finished_at, notice.note = state, now, note[:200]
    notice.save(update_fields=["state", "finished_at", "note", "message_id", "attempts"])
    if notice.kind == NoticeKind.RECONFIRM and state in (NoticeState.SENT, NoticeState.DONE):
        _confirmed(notice, now)


def _confirmed(notice: ConsentNotice, now: datetime) -> None:
    """The subject was told; no answer means that the consent stays, and the two years begin anew."""
    consents = MarketingConsent.objects.filter(pk=notice.about_id, is_given=True)
    if consents.update(confirmed_at=now, confirm_due_at=two_years_after(now)):
        ConsentEvent.objects.create(
            application_id=notice.application_id,
            user_id=notice.user_id,
            subscription_id=notice.subscription_id,
            channel=notice.channel,
            event_type=ConsentEventType.CONFIRMED,
            source=ConsentSource.SYSTEM if notice.state == NoticeState.SENT else ConsentSource.OPERATOR,
            message_id=notice.message_id,
            effective_at=now,
            occurred_at=now,
        )


def notice_done(*, application: Application, notice_id: UUID, note: str = "") -> ConsentNotice:
    """The person was told in another way. Raises `NotFound`, `Conflict` (NOTICE_IS_OVER)."""
    with transaction.atomic():
        notice = ConsentNotice.objects.for_application(application).select_for_update().filter(pk=notice_id).first()
        if notice is None:
            raise NotFound("There is no such notice.")
        if notice.state not in (NoticeState.DUE, NoticeState.FAILED):
            raise Conflict(f"The notice is {notice.state}.", code="NOTICE_IS_OVER")
        _finish(notice, NoticeState.DONE, timezone.now(), note=note)
    return notice
