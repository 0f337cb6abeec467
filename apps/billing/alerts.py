"""Telling the members of an application that a quota or the credit runs out: once for each threshold and period.

A sweep looks at every quota and profile (`alerts_raise`) and writes what is to be told as rows. The rows are the notice
in the console; they are also an outbox, from which another step (`alerts_deliver`) sends e-mail and webhooks, with
back-off and outside of any transaction. What could not be delivered after `ALERT_MAX_ATTEMPTS` says why at the console.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import datetime
from smtplib import SMTPException
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from apps.billing.models import AlertKind, BillingAlert, BillingProfile
from apps.billing.statements import channel_label, plain
from apps.tenants.models import Operator, Role
from automata_signal import outgoing
from automata_signal.encryption import DecryptionError

log = logging.getLogger(__name__)

THRESHOLDS = (80, 100)
TOLD_ROLES = (Role.OWNER, Role.MANAGER)
RECIPIENTS_MAX = 50
BACKOFF_S = 60
"""After the first attempt; doubled by each that fails."""
DELIVER_MAX_S = 20.0
"""Then the rest waits for the next tick: other tasks of the control queue get their turn."""
ERROR_MAX = 500


# --- Finding out ---------------------------------------------------------------------------------------------------

# How far a quota is used, in thresholds. A period that is over counts as unused: its row starts anew with the next
# reservation. Rows that somebody holds are left to the next sweep, so that nothing waits, and nothing locks crosswise.
_LEVEL = """CASE WHEN q.{resets} <= %(now)s OR coalesce(q.{quota}, 0) = 0 THEN 0
            WHEN q.{used} >= q.{quota} THEN 100
            WHEN q.{used} >= q.{quota} * 0.8 THEN 80 ELSE 0 END"""
_DAILY = _LEVEL.format(resets="reset_date", quota="daily_quota", used="daily_used")
_MONTHLY = _LEVEL.format(resets="monthly_reset_date", quota="monthly_quota", used="monthly_used")
_MARK_QUOTAS = f"""
WITH due AS (
    SELECT q.id, level.daily, level.monthly, q.daily_alerted, q.monthly_alerted
    FROM billing_messagequota q
    CROSS JOIN LATERAL (SELECT {_DAILY} AS daily, {_MONTHLY} AS monthly) level
    WHERE level.daily > q.daily_alerted OR level.monthly > q.monthly_alerted
    FOR UPDATE OF q SKIP LOCKED
)
UPDATE billing_messagequota q
SET daily_alerted = greatest(q.daily_alerted, due.daily), monthly_alerted = greatest(q.monthly_alerted, due.monthly)
FROM due WHERE q.id = due.id
RETURNING q.application_id, q.channel_type,
          due.daily, due.daily > due.daily_alerted, q.daily_quota, q.daily_used, q.reset_date,
          due.monthly, due.monthly > due.monthly_alerted, q.monthly_quota, q.monthly_used, q.monthly_reset_date
"""

# The credit is the balance without what is sent, or about to be, and not posted yet. How far it may go below zero says
# something else: when sending stops.
_CREDIT = """
SELECT p.id, p.application_id, p.low_credit_at, p.low_credit_alerted, p.currency,
       coalesce((SELECT a.balance FROM billing_ledgeraccount a
                 WHERE a.application_id = p.application_id AND a.kind = 'credit' AND a.channel_type = ''), 0)
       - coalesce((SELECT sum((q.reserved + q.sent_total - q.posted_total) * q.unit_price)
                   FROM billing_messagequota q WHERE q.application_id = p.application_id), 0) AS credit
FROM billing_billingprofile p
WHERE p.low_credit_at IS NOT NULL OR p.low_credit_alerted
"""
_MARK_PROFILES = f"""
WITH now_low AS (SELECT c.*, coalesce(c.credit < c.low_credit_at, false) AS is_low FROM ({_CREDIT}) c),
     due AS (
    SELECT p.id, n.is_low, n.credit
    FROM billing_billingprofile p JOIN now_low n ON n.id = p.id
    WHERE n.is_low <> p.low_credit_alerted
    FOR UPDATE OF p SKIP LOCKED
)
UPDATE billing_billingprofile p SET low_credit_alerted = due.is_low
FROM due WHERE p.id = due.id
RETURNING p.application_id, due.is_low, due.credit, p.low_credit_at, p.currency
"""


@transaction.atomic
def alerts_raise(*, now: datetime | None = None) -> int:
    """Write an alert for every threshold that was passed and not told yet in its period. Returns how many.

    Mark and alert are of one transaction, so none is lost and none comes twice, whoever else sweeps.
    """
    now = now or timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(_MARK_QUOTAS, {"now": now})
        quotas = cursor.fetchall()
        cursor.execute(_MARK_PROFILES)
        profiles = cursor.fetchall()
    alerts = [alert for row in quotas for alert in _quota_alerts(row, now)]
    alerts += [_credit_alert(row, now) for row in profiles if row[1]]
    BillingAlert.objects.bulk_create(alerts)
    return len(alerts)


def _quota_alerts(row: Sequence[Any], now: datetime) -> list[BillingAlert]:
    application_id, channel_type, *rest = row
    found = []
    for kind, figures in ((AlertKind.DAILY_QUOTA, rest[:5]), (AlertKind.MONTHLY_QUOTA, rest[5:])):
        threshold, is_new, limit, used, resets_at = figures
        if is_new:
            facts = {"limit": limit, "used": used, "resets_at": resets_at.isoformat()}
            found.append(
                BillingAlert(
                    application_id=application_id,
                    kind=kind,
                    channel_type=channel_type,
                    threshold=threshold,
                    facts=facts,
                    due_at=now,
                    created_at=now,
                )
            )
    return found


def _credit_alert(row: Sequence[Any], now: datetime) -> BillingAlert:
    application_id, _is_low, credit, low_credit_at, currency = row
    facts = {"credit": plain(credit), "below": plain(low_credit_at), "currency": currency}
    return BillingAlert(
        application_id=application_id, kind=AlertKind.LOW_CREDIT, facts=facts, due_at=now, created_at=now
    )


# --- Telling -------------------------------------------------------------------------------------------------------


class _Result(NamedTuple):
    emailed: bool
    hooked: bool
    error: str

    @property
    def is_whole(self) -> bool:
        return self.emailed and self.hooked


def alerts_deliver(*, max_s: float = DELIVER_MAX_S) -> int:
    """Deliver what is due, the oldest first, until nothing is or `max_s` are over. Returns how many were delivered."""
    began, delivered = time.monotonic(), 0
    while time.monotonic() - began < max_s:
        alert = _claim()
        if alert is None:
            break
        result = _deliver(alert)
        _record(alert, result)
        delivered += result.is_whole
    return delivered


_CLAIM = """
UPDATE billing_billingalert
SET attempts = attempts + 1, due_at = %(now)s + (%(backoff_s)s * 2 ^ least(attempts, 12)) * interval '1 s'
WHERE id = (
    SELECT id FROM billing_billingalert WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""


def _claim() -> BillingAlert | None:
    """One that is due, for the caller alone: it is due again after the back-off, should the caller be lost. Index:
    `alert_undelivered`."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"now": timezone.now(), "backoff_s": BACKOFF_S})
        row = cursor.fetchone()
    return BillingAlert.objects.select_related("application").get(pk=row[0]) if row else None


def _deliver(alert: BillingAlert) -> _Result:
    """E-mail and webhook, each unless it was delivered before. Nothing is raised: what failed is the result."""
    errors = []
    emailed, hooked = alert.emailed_at is not None, alert.webhook_at is not None
    if not emailed:
        try:
            _send_email(alert)
            emailed = True
        except (OSError, SMTPException) as error:
            errors.append(f"e-mail: {type(error).__name__}")
    profiles = BillingProfile.objects.filter(application_id=alert.application_id)
    profile = profiles.defer("alert_webhook_secret").first()
    if not hooked and profile is not None and profile.alert_webhook_url:
        refusal = _call_webhook(alert, profile)
        hooked = not refusal
        errors += [f"webhook: {refusal}"] if refusal else []
    elif not hooked:
        hooked = True
    return _Result(emailed, hooked, "; ".join(errors)[:ERROR_MAX])


def _record(alert: BillingAlert, result: _Result) -> None:
    now = timezone.now()
    is_over = result.is_whole or alert.attempts >= settings.ALERT_MAX_ATTEMPTS
    BillingAlert.objects.filter(pk=alert.pk).update(
        emailed_at=alert.emailed_at or (now if result.emailed else None),
        webhook_at=alert.webhook_at or (now if result.hooked else None),
        last_error=result.error,
        **({"due_at": None} if is_over else {}),
    )
    if is_over and not result.is_whole:
        log.warning("a billing alert was given up", extra={"alert": str(alert.pk), "cause": result.error})


# --- E-mail --------------------------------------------------------------------------------------------------------


def recipients_of(application_id: UUID) -> list[str]:
    """Who is told: the active owners and managers."""
    told = Operator.objects.filter(
        is_active=True, memberships__application_id=application_id, memberships__role__in=TOLD_ROLES
    )
    return list(told.order_by("email").values_list("email", flat=True)[:RECIPIENTS_MAX])


def _send_email(alert: BillingAlert) -> None:
    """One e-mail to all of them, in the application's language; none if there is nobody."""
    recipients = recipients_of(alert.application_id)
    if not recipients:
        return
    with translation.override(alert.application.default_language):
        # A name may hold line breaks, which would be headers of their own.
        subject = " ".join(f"{alert.application.name}: {headline(alert)}".split())[:200]
        body = render_to_string(
            "billing/alert.txt",
            {
                "application": alert.application,
                "headline": headline(alert),
                "facts": facts_of(alert),
                "link": settings.PUBLIC_URL.rstrip("/") + reverse("admin:billing_billingalert_change", args=[alert.pk]),
            },
        )
    EmailMessage(subject, body, None, recipients).send()


def headline(alert: BillingAlert) -> str:
    """What happened, in a line."""
    channel = channel_label(alert.channel_type)
    if alert.kind == AlertKind.LOW_CREDIT:
        return _("credit is low")
    words = {
        (AlertKind.DAILY_QUOTA, 80): _("80 %% of the daily quota is used (%(channel)s)"),
        (AlertKind.DAILY_QUOTA, 100): _("the daily quota is used up (%(channel)s)"),
        (AlertKind.MONTHLY_QUOTA, 80): _("80 %% of the monthly quota is used (%(channel)s)"),
        (AlertKind.MONTHLY_QUOTA, 100): _("the monthly quota is used up (%(channel)s)"),
    }
    return words[AlertKind(alert.kind), 100 if alert.threshold >= 100 else 80] % {"channel": channel}


def facts_of(alert: BillingAlert) -> list[tuple[str, str]]:
    """The figures of the moment when it was found out."""
    facts = alert.facts
    if alert.kind == AlertKind.LOW_CREDIT:
        return [
            (_("credit"), f"{facts['credit']} {facts['currency']}"),
            (_("alert below"), f"{facts['below']} {facts['currency']}"),
        ]
    return [
        (_("limit"), f"{facts['limit']:,}"),
        (_("used"), f"{facts['used']:,}"),
        (_("resets at"), facts["resets_at"]),
    ]


# --- Webhook -------------------------------------------------------------------------------------------------------


def webhook_body(alert: BillingAlert) -> bytes:
    """What the webhook gets. `id` is the same in each attempt."""
    told = {
        "id": str(alert.pk),
        "type": "billing.alert",
        "created_at": alert.created_at,
        "application_id": str(alert.application_id),
        "alert": {
            "kind": alert.kind,
            "channel_type": alert.channel_type or None,
            "threshold": alert.threshold or None,
            **alert.facts,
        },
    }
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)


def _call_webhook(alert: BillingAlert, profile: BillingProfile) -> str:
    """Why it was not taken; empty if it was."""
    body = webhook_body(alert)
    try:
        headers = {"Content-Type": "application/json", **outgoing.signed(profile.alert_webhook_secret or "", body)}
        answer = outgoing.post(profile.alert_webhook_url, body, headers)
    except DecryptionError:
        return "its secret cannot be decrypted; make a new one"
    except (outgoing.OutgoingRefused, outgoing.OutgoingFailed) as error:
        return str(error)
    return "" if answer.is_success else f"the server answered {answer.status}"


def alert_retry(*, alert: BillingAlert) -> None:
    """Deliver what was not delivered of it, with all attempts anew."""
    BillingAlert.objects.filter(pk=alert.pk).update(attempts=0, due_at=timezone.now())
