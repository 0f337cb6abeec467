"""Who is told that a quota or the credit runs out: once for each threshold and period, whatever fails meanwhile."""

from __future__ import annotations

import hashlib
import hmac
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone
from djmoney.money import Money

from apps.billing.alerts import alert_retry, alerts_deliver, alerts_raise
from apps.billing.models import BillingAlert, BillingProfile, MessageQuota
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.quota import billing_of, quota_reserve
from apps.billing.services.settings import alert_settings_set
from apps.billing.tasks import sweep_alerts
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set
from tests.billing.hooks import receiver


def told() -> list[tuple[str, int]]:
    return list(BillingAlert.objects.order_by("id").values_list("kind", "threshold"))


def use(application, messages: int, **changes) -> None:
    quota_reserve(application_id=application.pk, channel_type="push", messages=messages, **changes)


@pytest.fixture
def members(application):
    for role in Role.values:
        operator = Operator.objects.create_user(f"{role}@example.com", "x")
        membership_set(operator=operator, application=application, role=role)


@pytest.fixture
def webhook(application, settings):
    settings.OUTGOING_ALLOW_PRIVATE = True
    with receiver() as there:
        there.secret = alert_settings_set(application=application, webhook_url=there.address).new_secret
        yield there


def be_due() -> None:
    BillingAlert.objects.filter(due_at__isnull=False).update(due_at=timezone.now())


# --- Finding out ---------------------------------------------------------------------------------------------------


def test_each_threshold_of_a_period_is_told_once(application, terms):
    terms(daily=100, monthly=1_000)
    use(application, 79)
    assert alerts_raise() == 0
    use(application, 1)
    assert (alerts_raise(), alerts_raise()) == (1, 0)
    use(application, 20)
    assert (alerts_raise(), alerts_raise()) == (1, 0)
    assert told() == [("daily_quota", 80), ("daily_quota", 100)]
    facts = BillingAlert.objects.last().facts
    assert (facts["limit"], facts["used"]) == (100, 100)
    assert facts["resets_at"].startswith(f"{MessageQuota.objects.get(channel_type='push').reset_date:%Y-%m-%d}")


def test_what_jumps_over_80_percent_is_told_once_as_100(application, terms):
    terms(daily=10, monthly=10)
    use(application, 10)
    assert alerts_raise() == 2
    assert told() == [("daily_quota", 100), ("monthly_quota", 100)]


def test_a_new_day_is_told_anew_and_an_old_one_never(application, terms):
    terms(daily=10)
    use(application, 10)
    assert alerts_raise() == 1
    rows = MessageQuota.objects.filter(application=application, channel_type="push")
    yesterday = timezone.now() - timedelta(hours=1)
    rows.update(reset_date=yesterday, daily_alerted=0)
    assert alerts_raise() == 0  # the day is over, whatever its counter says
    use(application, 9)
    assert rows.get().daily_used == 9
    assert alerts_raise() == 1


def test_what_was_given_back_and_used_again_is_not_told_twice(application, terms):
    terms(daily=10)
    use(application, 8)
    alerts_raise()
    MessageQuota.objects.filter(application=application, channel_type="push").update(daily_used=2)
    alerts_raise()
    use(application, 6)
    assert alerts_raise() == 0


def test_channels_without_a_limit_and_those_not_included_are_silent(application, terms):
    terms(daily=None)
    use(application, 1_000_000)
    terms(channel="sms", daily=0, monthly=0)
    assert alerts_raise() == 0


def test_low_credit_is_told_once_until_it_has_risen_again(application, terms):
    terms(price="1", credit=100)
    alert_settings_set(application=application, low_credit_at=Decimal(50))
    assert alerts_raise() == 0
    use(application, 60)  # reserved messages are as good as spent
    assert (alerts_raise(), alerts_raise()) == (1, 0)
    assert BillingAlert.objects.get().facts == {"credit": "40", "below": "50", "currency": "KRW"}
    credit_top_up(application=application, amount=Money(100, "KRW"), reason="paid", by="x")
    assert alerts_raise() == 0
    use(application, 100)
    assert alerts_raise() == 1
    assert told() == [("low_credit", 0), ("low_credit", 0)]


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_the_same_time_tell_it_once(application, terms):
    terms(daily=10)
    use(application, 10)
    begin, counts = threading.Barrier(4), []

    def sweep() -> None:
        begin.wait()
        counts.append(alerts_raise())
        connection.close()

    threads = [threading.Thread(target=sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1
    assert len(told()) == 1


# --- Telling -------------------------------------------------------------------------------------------------------


def test_owners_and_managers_get_one_e_mail_and_the_others_none(application, terms, members):
    terms(daily=10)
    use(application, 8)
    sweep_alerts()
    sweep_alerts()
    [letter] = mail.outbox
    assert letter.to == ["manager@example.com", "owner@example.com"]
    assert letter.subject == "Shop: 80 % of the daily quota is used (Push)"
    assert "limit: 10" in letter.body
    alert = BillingAlert.objects.get()
    assert f"/admin/billing/billingalert/{alert.pk}/" in letter.body
    assert (alert.due_at, alert.emailed_at is not None, alert.last_error) == (None, True, "")


def test_a_name_with_line_breaks_makes_no_headers(application, terms, members):
    application.name = "Shop\r\nBcc: everybody@example.com"
    application.save()
    terms(daily=10)
    use(application, 10)
    sweep_alerts()
    [letter] = mail.outbox
    assert "\n" not in letter.subject
    assert letter.recipients() == ["manager@example.com", "owner@example.com"]


def test_the_webhook_gets_a_signed_alert(application, terms, webhook):
    terms(daily=10)
    use(application, 10)
    sweep_alerts()
    [(headers, body)] = webhook.got
    signed = headers["x-automata-timestamp"].encode() + b"." + body
    mac = hmac.new(webhook.secret.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["x-automata-signature"] == f"v1={mac}"
    [told_there] = webhook.bodies
    alert = BillingAlert.objects.get()
    assert told_there["id"] == str(alert.pk)
    assert told_there["application_id"] == str(application.pk)
    assert told_there["alert"]["kind"] == "daily_quota"
    assert (told_there["alert"]["limit"], told_there["alert"]["used"]) == (10, 10)
    assert alert.webhook_at is not None


def test_what_the_webhook_refuses_is_tried_again_and_the_e_mail_is_not(application, terms, members, webhook):
    webhook.answer = 503
    terms(daily=10)
    use(application, 8)
    sweep_alerts()
    alert = BillingAlert.objects.get()
    assert (alert.attempts, alert.last_error) == (1, "webhook: the server answered 503")
    wait_s = (alert.due_at - timezone.now()).total_seconds()
    assert 50 < wait_s <= 60
    assert alerts_deliver() == 0  # not yet
    webhook.answer = 204
    be_due()
    assert alerts_deliver() == 1
    alert.refresh_from_db()
    assert (alert.due_at, alert.last_error, len(mail.outbox)) == (None, "", 1)
    assert [body["id"] for body in webhook.bodies] == [str(alert.pk)] * 2


def test_after_so_many_attempts_it_is_given_up_and_says_why(application, terms, webhook, settings):
    settings.ALERT_MAX_ATTEMPTS = 3
    webhook.answer = 302
    terms(daily=10)
    use(application, 8)
    alerts_raise()
    for _ in range(5):
        be_due()
        alerts_deliver()
    alert = BillingAlert.objects.get()
    assert (alert.attempts, alert.due_at, len(webhook.got)) == (3, None, 3)
    assert alert.last_error == "webhook: the server answered 302"
    webhook.answer = 200
    alert_retry(alert=alert)
    assert alerts_deliver() == 1


def test_a_webhook_inside_of_our_network_is_not_called(application, terms, webhook, settings):
    settings.OUTGOING_ALLOW_PRIVATE = False
    BillingProfile.objects.filter(application=application).update(
        alert_webhook_url=webhook.address.replace("http:", "https:")
    )
    terms(daily=10)
    use(application, 8)
    sweep_alerts()
    assert webhook.got == []
    assert "private" in BillingAlert.objects.get().last_error


def test_a_delivery_whose_worker_is_lost_is_due_again(application, terms, webhook):
    terms(daily=10)
    use(application, 8)
    alerts_raise()
    from apps.billing.alerts import _claim

    assert _claim() is not None  # and then it dies
    assert _claim() is None
    be_due()
    assert alerts_deliver() == 1


def test_without_members_and_webhook_the_alert_is_in_the_console_only(application, terms):
    terms(daily=10)
    use(application, 8)
    sweep_alerts()
    assert mail.outbox == []
    assert BillingAlert.objects.get().due_at is None


def test_the_secret_is_stored_encrypted(application, webhook):
    billing_of(application)
    with connection.cursor() as cursor:
        cursor.execute("SELECT alert_webhook_secret FROM billing_billingprofile")
        (stored,) = cursor.fetchone()
    assert webhook.secret.encode() not in bytes(stored)
