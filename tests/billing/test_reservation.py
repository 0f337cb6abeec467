"""Reserving: never more than there is, however many come at once, and in the days of the application."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone
from djmoney.money import Money

from apps.billing.models import BillingProfile, LedgerAccount, MessageQuota
from apps.billing.services.ledger import credit_adjust, credit_left
from apps.billing.services.posting import usage_post
from apps.billing.services.quota import (
    Settlement,
    billing_of,
    quota_of,
    quota_release,
    quota_reserve,
    quota_settle,
)
from apps.billing.services.settings import credit_limit_set
from apps.tenants.models import Application
from automata_signal.errors import CreditExhausted, Forbidden, QuotaExceeded, SignalError
from tests import fleet
from tests.campaigns.test_lifecycle import in_threads

pytestmark = pytest.mark.django_db


def reserve(application, messages, **more):
    return quota_reserve(application_id=application.pk, channel_type="push", messages=messages, **more)


def granted(application, messages, **more) -> int:
    """For a thread: how many were granted, on a connection of its own."""
    try:
        return reserve(application, messages, **more).messages
    except SignalError:
        return 0
    finally:
        connections.close_all()


# --- One at a time -------------------------------------------------------------------------------------------------


def test_the_first_question_makes_the_rows_of_the_default_plan(application, settings):
    settings.DEFAULT_PLAN = "free"
    profile = billing_of(application)
    assert (profile.plan.code, profile.currency, profile.credit_limit) == ("free", "KRW", 0)
    assert quota_of(application, "push").daily_quota == 1_000
    assert MessageQuota.objects.filter(application=application).count() == 5
    assert LedgerAccount.objects.get(application=application).balance == Money(0, "KRW")
    assert billing_of(application) == profile


def test_what_was_reserved_counts_for_the_day_and_the_month(application, terms, counters):
    terms(daily=100, monthly=1_000)
    assert reserve(application, 60).messages == 60
    assert counters() == (60, 60, 60, 0)


def test_what_does_not_fit_is_refused_whole_and_says_what_would(application, terms, counters, quota):
    terms(daily=100, monthly=1_000)
    reserve(application, 60)
    with pytest.raises(QuotaExceeded) as refused:
        reserve(application, 41)
    assert refused.value.facts == {
        "what": "daily_quota",
        "channel_type": "push",
        "limit": 100,
        "used": 60,
        "asked": 41,
        "available": 40,
        "resets_at": quota().reset_date.isoformat(),
    }
    assert 0 < refused.value.retry_after_s <= 25 * 3_600
    assert counters() == (60, 60, 60, 0)
    assert reserve(application, 40).messages == 40


def test_the_month_refuses_too(application, terms, quota):
    terms(daily=None, monthly=50)
    with pytest.raises(QuotaExceeded) as refused:
        reserve(application, 51)
    assert (refused.value.facts["what"], refused.value.facts["available"]) == ("monthly_quota", 50)
    assert refused.value.retry_at == quota().monthly_reset_date


def test_as_many_as_fit_can_be_asked_for(application, terms, counters):
    terms(daily=10)
    assert reserve(application, 7, at_most=True).messages == 7
    assert reserve(application, 7, at_most=True).messages == 3
    assert reserve(application, 7, at_most=True).messages == 0
    assert counters() == (10, 10, 10, 0)


def test_a_channel_that_the_plan_does_not_have_is_refused(application, settings):
    settings.DEFAULT_PLAN = "free"
    with pytest.raises(Forbidden) as refused:
        quota_reserve(application_id=application.pk, channel_type="sms", messages=1)
    assert (refused.value.code, refused.value.facts["what"]) == ("PLAN_CHANNEL", "channel")


def test_a_quota_of_one_period_alone_can_be_zero(application, terms):
    terms(daily=0, monthly=None)
    with pytest.raises(QuotaExceeded):
        reserve(application, 1)


def test_credit_buys_as_many_messages_as_it_pays_for(application, terms):
    terms(price="0.3", credit=1)
    with pytest.raises(CreditExhausted) as refused:
        reserve(application, 4)
    facts = refused.value.facts
    assert (refused.value.status, facts["what"], facts["available"]) == (402, "credit", 3)
    assert (Decimal(facts["limit"]), Decimal(facts["unit_price"]), facts["currency"]) == (1, Decimal("0.3"), "KRW")
    assert reserve(application, 3).messages == 3
    assert reserve(application, 1, at_most=True).messages == 0


def test_the_credit_limit_is_spent_too(application, terms):
    terms(price="1", limit="5", credit=2)
    assert reserve(application, 100, at_most=True).messages == 7


def test_without_a_credit_limit_nothing_is_refused_for_its_price(application, terms):
    terms(price="100", limit=None)
    assert reserve(application, 1_000).messages == 1_000


def test_all_channels_draw_on_one_credit(application, terms):
    terms(channel="sms", price="2")
    terms(price="1", credit=10)
    quota_reserve(application_id=application.pk, channel_type="sms", messages=4)
    assert reserve(application, 100, at_most=True).messages == 2


def test_what_was_sent_is_paid_from_the_same_credit_before_and_after_it_is_posted(application, terms):
    terms(price="1", credit=10)
    reserve(application, 6)
    sent = Settlement(closed=6, sent=6)
    quota_settle(application_id=application.pk, channel_type="push", settlement=sent)
    assert credit_left(billing_of(application)) == 4
    usage_post(application=application, channel_type="push")
    assert credit_left(billing_of(application)) == 4
    assert reserve(application, 100, at_most=True).messages == 4


# --- Days and months -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "at", "day_ends", "month_ends"),
    [
        ("Asia/Seoul", "2026-03-31T14:59:59+00:00", "2026-03-31T15:00:00+00:00", "2026-03-31T15:00:00+00:00"),
        ("Asia/Seoul", "2026-03-31T15:00:00+00:00", "2026-04-01T15:00:00+00:00", "2026-04-30T15:00:00+00:00"),
        ("UTC", "2026-03-31T15:00:00+00:00", "2026-04-01T00:00:00+00:00", "2026-04-01T00:00:00+00:00"),
        # The clocks of New York go forward on 8 March 2026 and back on 1 November.
        ("America/New_York", "2026-03-08T05:00:00+00:00", "2026-03-09T04:00:00+00:00", "2026-04-01T04:00:00+00:00"),
        ("America/New_York", "2026-11-01T04:00:00+00:00", "2026-11-02T05:00:00+00:00", "2026-12-01T05:00:00+00:00"),
    ],
)
def test_days_and_months_end_at_midnight_of_the_application(zone, at, day_ends, month_ends):
    application = Application.objects.create(name="Zone", time_zone=zone)
    billing_of(application)
    past = datetime(2026, 1, 1, tzinfo=UTC)
    MessageQuota.objects.update(reset_date=past, monthly_reset_date=past, daily_used=5, monthly_used=5)
    found = reserve(application, 1, now=datetime.fromisoformat(at))
    assert (found.daily_used, found.monthly_used) == (0, 0)
    assert found.reset_date == datetime.fromisoformat(day_ends)
    assert found.monthly_reset_date == datetime.fromisoformat(month_ends)
    row = MessageQuota.objects.get(application=application, channel_type="push")
    assert row.day_began_at <= datetime.fromisoformat(at) < row.reset_date
    assert row.month_began_at <= datetime.fromisoformat(at) < row.monthly_reset_date
    assert row.day_began_at.astimezone(ZoneInfo(zone)).strftime("%H:%M") == "00:00"


def test_a_new_application_begins_the_same_days(application):
    quota = quota_of(application, "push")
    midnight = timezone.now().astimezone(ZoneInfo("Asia/Seoul")).replace(hour=0, minute=0, second=0, microsecond=0)
    assert (quota.day_began_at, quota.month_began_at) == (midnight, midnight.replace(day=1))
    assert quota.reset_date == midnight + timedelta(days=1)


def test_a_new_day_has_its_whole_quota_and_may_be_alerted_about_again(application, terms, quota):
    terms(daily=10, monthly=15)
    reserve(application, 10)
    MessageQuota.objects.update(daily_alerted=100, monthly_alerted=80)
    tomorrow = quota().reset_date
    assert reserve(application, 10, at_most=True, now=tomorrow).messages == 5
    row = quota()
    assert (row.daily_used, row.monthly_used, row.reserved) == (5, 15, 15)
    assert (row.daily_alerted, row.monthly_alerted) == (0, 80)


def test_what_was_reserved_yesterday_leaves_no_more_room_for_today(application, terms, quota):
    terms(daily=10, monthly=100)
    yesterday = timezone.now()
    reserve(application, 10)
    reserve(application, 10, now=quota().reset_date)
    quota_release(application_id=application.pk, channel_type="push", messages=10, reserved_at=yesterday)
    row = quota()
    assert (row.daily_used, row.reserved) == (10, 10)
    assert row.monthly_used == 10, "the month still runs"


def test_after_a_change_of_the_time_zone_the_old_day_gets_nothing_back_from_the_new_one(application, terms, quota):
    terms(daily=10, monthly=100)
    rollover = quota().reset_date  # midnight in Seoul: 15:00 in UTC
    MessageQuota.objects.update(monthly_reset_date=rollover)
    reserve(application, 10)
    Application.objects.filter(pk=application.pk).update(time_zone="UTC")
    reserve(application, 10, now=rollover + timedelta(hours=1))
    before = {"application_id": application.pk, "channel_type": "push", "reserved_at": rollover - timedelta(hours=1)}
    quota_release(messages=10, **before)
    row = quota()
    assert (row.daily_used, row.monthly_used, row.reserved) == (10, 10, 10)
    assert (row.day_began_at, row.month_began_at) == (rollover, rollover)


# --- All at once ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_parallel_processes_are_granted_the_quota_and_not_one_more(application, terms, counters):
    terms(daily=1_000)
    environment = {**os.environ, "DATABASE_URL": fleet.test_database_url()}
    command = [sys.executable, "-m", "tests.billing.reserver", str(application.pk), "60", "7"]
    processes = [
        subprocess.Popen(command, cwd=fleet.ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(answers) == 994 == counters()[0]  # 142 sevens; the next one does not fit
    assert reserve(application, 7, at_most=True).messages == 6


@pytest.mark.django_db(transaction=True)
def test_parallel_reservations_of_as_many_as_fit_add_up_to_the_quota(application, terms, counters):
    terms(daily=100, monthly=90)
    answers = in_threads(8, lambda n: granted(application, 10 + n, at_most=True))
    assert sum(answers) == 90
    assert counters() == (90, 90, 90, 0)


@pytest.mark.django_db(transaction=True)
def test_the_first_reservations_of_an_application_may_come_at_once(application, settings, counters):
    settings.DEFAULT_PLAN = "free"
    answers = in_threads(6, lambda _: granted(application, 300))
    assert sorted(answers) == [0, 0, 0, 300, 300, 300]
    assert counters()[0] == 900
    assert BillingProfile.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_day_begins_once_for_all_who_come_at_midnight(application, terms, quota):
    terms(daily=100, monthly=1_000)
    reserve(application, 100)
    midnight = quota().reset_date
    answers = in_threads(8, lambda _: granted(application, 20, now=midnight))
    assert sum(answers) == 100
    row = quota()
    assert (row.daily_used, row.monthly_used, row.reset_date) == (100, 200, midnight + timedelta(days=1))


@pytest.mark.django_db(transaction=True)
def test_channels_together_do_not_spend_more_than_the_credit(application, terms):
    terms(channel="sms", price="2")
    terms(channel="email", price="1")
    terms(price="0.5", credit=100)
    channels = ["push", "sms", "email"]

    def work(number: int) -> Decimal:
        channel, spent = channels[number % 3], Decimal(0)
        try:
            for _ in range(15):
                found = quota_reserve(application_id=application.pk, channel_type=channel, messages=7, at_most=True)
                spent += found.messages * found.unit_price
        finally:
            connections.close_all()
        return spent

    assert Decimal(99) <= sum(in_threads(6, work)) <= 100
    assert 0 <= credit_left(billing_of(application)) < 2


@pytest.mark.django_db(transaction=True)
def test_posting_and_corrections_meanwhile_leave_no_room_for_more(application, terms):
    """The balance falls as the open figures do: whoever sees one without the other would spend the credit twice."""
    terms(price="1", credit=300)

    def work(number: int) -> int:
        taken = 0
        try:
            for _ in range(20):
                if number == 0:
                    usage_post(application=application, channel_type="push")
                elif number == 1:
                    credit_adjust(application=application, amount=Money(-1, "KRW"), reason="less", by="test")
                else:
                    messages = reserve(application, 5, at_most=True).messages
                    taken += messages
                    sent = Settlement(closed=messages, sent=messages)
                    quota_settle(application_id=application.pk, channel_type="push", settlement=sent)
        except CreditExhausted:
            pass
        finally:
            connections.close_all()
        return taken

    taken = sum(in_threads(6, work))
    usage_post(application=application, channel_type="push")
    balance = LedgerAccount.objects.get(application=application, kind="credit").balance.amount
    corrected = LedgerAccount.objects.filter(kind="adjustments").values_list("balance", flat=True).first() or 0
    assert balance == 300 - taken - corrected
    assert balance >= 0


@pytest.mark.django_db(transaction=True)
def test_who_waits_for_a_change_of_the_credit_limit_gets_what_the_new_one_allows(application, terms):
    terms(price="1", limit="100")

    def work(number):
        if number:
            changing.wait(10)
            return granted(application, 50, at_most=True)
        with transaction.atomic():
            credit_limit_set(application=application, credit_limit=Decimal(5), by="olga")
            changing.set()
            fleet.wait_until(somebody_waits_for_a_lock, timeout_s=10)
        return None

    changing = threading.Event()
    assert in_threads(2, work) == [None, 5]


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        return cursor.fetchone()[0]
