"""The ledger: balanced, written once, posted once; money moved by hand; and the check that finds what is wrong."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from djmoney.money import Money

from apps.billing.checking import differences, report_differences
from apps.billing.models import LedgerAccount, LedgerEntry, LedgerTransaction, MessageQuota
from apps.billing.services.ledger import (
    AccountName,
    Posting,
    credit_adjust,
    credit_refund,
    credit_top_up,
    ledger_post,
    refuse_unpayable,
)
from apps.billing.services.posting import months_close, usage_post, usage_post_all
from apps.billing.services.quota import Settlement, billing_of, quota_reserve, quota_settle
from apps.billing.tasks import check_ledger, close_months, post_usage
from automata_signal.errors import Conflict, CreditExhausted, ValidationFailed
from tests.campaigns.test_lifecycle import in_threads

pytestmark = pytest.mark.django_db


def krw(amount) -> Money:
    return Money(Decimal(amount), "KRW")


def sent(application, messages, channel="push"):
    """So many messages were reserved and taken by a provider."""
    quota_reserve(application_id=application.pk, channel_type=channel, messages=messages)
    settlement = Settlement(closed=messages, sent=messages)
    quota_settle(application_id=application.pk, channel_type=channel, settlement=settlement)


def balances(application) -> dict[str, Decimal]:
    rows = LedgerAccount.objects.filter(application=application).exclude(balance=0)
    return {"·".join(filter(None, (row.kind, row.channel_type))): row.balance.amount for row in rows}


# --- Posting -------------------------------------------------------------------------------------------------------


def test_what_was_sent_is_posted_as_one_transaction_of_two_entries(application, terms):
    terms(price="0.5", credit=100)
    sent(application, 30)
    assert post_usage() == 1
    row = LedgerTransaction.objects.get(kind="usage")
    assert (row.channel_type, row.quantity, row.unit_price) == ("push", 30, krw("0.5"))
    assert sorted(row.entries.values_list("account__kind", "amount")) == [("credit", -15), ("usage", 15)]
    assert balances(application) == {"credit": 85, "usage·push": 15, "funding": -100}
    assert usage_post_all() == 0


def test_without_a_price_the_ledger_still_says_how_many(application):
    sent(application, 30)
    usage_post(application=application, channel_type="push")
    row = LedgerTransaction.objects.get()
    assert (row.quantity, row.entries.count()) == (30, 0)
    assert MessageQuota.objects.get(application=application, channel_type="push").posted_total == 30


@pytest.mark.django_db(transaction=True)
def test_of_posters_at_the_same_time_one_posts(application, terms):
    terms(price="1", credit=100)
    sent(application, 40)

    def work(_):
        try:
            return usage_post(application=application, channel_type="push") is not None
        finally:
            connections.close_all()

    assert sorted(in_threads(4, work)) == [False, False, False, True]
    assert balances(application)["credit"] == 60


def test_the_usage_of_a_month_is_moved_to_revenue_once(application, terms):
    terms(price="1", credit=100)
    terms(channel="sms", price="2")
    sent(application, 10)
    sent(application, 5, "sms")
    usage_post_all()
    assert close_months() == 0, "the month still runs"
    next_month = datetime.now(ZoneInfo("Asia/Seoul")).replace(day=1) + timedelta(days=32)
    assert months_close(now=next_month) == 2
    assert balances(application) == {"credit": 80, "revenue": 20, "funding": -100}
    assert months_close(now=next_month) == 0


def test_what_was_posted_this_month_stays_in_usage(application, terms):
    terms(price="1", credit=100)
    sent(application, 10)
    row = usage_post(application=application, channel_type="push")
    now = row.posted_at.astimezone(ZoneInfo("Asia/Seoul"))
    before_month = (now.replace(day=1) - timedelta(days=3)).isoformat()
    with connection.cursor() as cursor:  # as if it had been posted last month
        cursor.execute("SET LOCAL session_replication_role = replica")  # no trigger keeps us from it
        cursor.execute("UPDATE billing_ledgertransaction SET posted_at = %s WHERE kind = 'usage'", [before_month])
        cursor.execute("SET LOCAL session_replication_role = origin")
    sent(application, 7)
    usage_post_all()
    assert months_close() == 1
    assert balances(application) == {"credit": 83, "usage·push": 7, "revenue": 10, "funding": -100}


# --- By hand -------------------------------------------------------------------------------------------------------


def test_a_top_up_says_who_and_why(application):
    row = credit_top_up(application=application, amount=krw(500), reason="invoice 7", by="anna", reference="inv-7")
    assert (row.kind, row.reason, row.posted_by, row.reference) == ("top_up", "invoice 7", "anna", "inv-7")
    assert balances(application) == {"credit": 500, "funding": -500}


def test_a_refund_and_a_correction_come_from_adjustments(application):
    credit_refund(application=application, amount=krw(30), reason="outage", by="anna")
    credit_adjust(application=application, amount=krw("-10.25"), reason="counted twice", by="anna")
    assert balances(application) == {"credit": Decimal("19.75"), "adjustments": Decimal("-19.75")}


@pytest.mark.parametrize(
    ("amount", "reason", "field"),
    [
        (krw(0), "x", "amount"),
        (krw(-5), "x", "amount"),
        (Money(5, "USD"), "x", "amount"),
        (krw("0.0000001"), "x", "amount"),
        (krw(10**13), "x", "amount"),
        (krw(5), " ", "reason"),
    ],
)
def test_a_top_up_that_cannot_be_is_refused(application, amount, reason, field):
    with pytest.raises(ValidationFailed) as refused:
        credit_top_up(application=application, amount=amount, reason=reason, by="anna")
    assert [problem.field for problem in refused.value.details] == [field]
    assert LedgerTransaction.objects.count() == 0


def test_a_second_top_up_with_the_same_reference_is_the_first_one(application, other_application):
    given = {"amount": krw(500), "reason": "paid", "by": "anna", "reference": "inv-7"}
    first = credit_top_up(application=application, **given)
    assert credit_top_up(application=application, **given) == first
    assert balances(application)["credit"] == 500
    assert credit_top_up(application=other_application, **given) != first
    for service, amount in ((credit_top_up, krw(501)), (credit_refund, krw(500))):
        with pytest.raises(Conflict) as refused:
            service(application=application, **given | {"amount": amount})
        assert refused.value.code == "REFERENCE_USED"


@pytest.mark.django_db(transaction=True)
def test_of_top_ups_with_one_reference_at_the_same_time_one_counts(application):
    billing_of(application)

    def work(_):
        try:
            return credit_top_up(application=application, amount=krw(9), reason="paid", by="anna", reference="r").pk
        finally:
            connections.close_all()

    assert len(set(in_threads(4, work))) == 1
    assert balances(application) == {"credit": 9, "funding": -9}


def test_a_correction_leaves_what_is_reserved_payable(application, terms):
    terms(price="1", credit=100, limit="10")
    quota_reserve(application_id=application.pk, channel_type="push", messages=60)
    with pytest.raises(CreditExhausted) as refused:
        credit_adjust(application=application, amount=krw("-50.5"), reason="less", by="anna")
    assert Decimal(refused.value.facts["limit"]) == 50
    credit_adjust(application=application, amount=krw(-50), reason="less", by="anna")


def test_a_rise_of_the_price_that_open_messages_could_not_pay_is_refused(application, terms):
    terms(price="1", credit=100)
    quota_reserve(application_id=application.pk, channel_type="push", messages=60)
    refuse_unpayable(billing_of(application))
    MessageQuota.objects.filter(application=application, channel_type="push").update(unit_price=2)
    with pytest.raises(Conflict) as refused:
        refuse_unpayable(billing_of(application))
    assert refused.value.code == "CREDIT_LIMIT"


# --- What the database holds to ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE billing_ledgerentry SET amount = 1",
        "UPDATE billing_ledgertransaction SET quantity = 1",
        "DELETE FROM billing_ledgerentry",
        "DELETE FROM billing_ledgertransaction",
        "TRUNCATE billing_ledgerentry",
        "TRUNCATE billing_ledgertransaction CASCADE",
    ],
)
def test_nothing_written_is_changed(application, statement):
    credit_top_up(application=application, amount=krw(5), reason="paid", by="anna")
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET LOCAL automata.ledger_may_be_emptied = 'off'")
        with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
            cursor.execute(statement)
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        cursor.execute("SET LOCAL automata.ledger_may_be_emptied = 'on'")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("amounts", "why"),
    [({"credit": 5, "funding": -4}, "sum to 1"), ({"credit": 5}, "sum to 5")],
)
def test_a_transaction_that_does_not_balance_is_not_committed(application, amounts, why):
    with pytest.raises(IntegrityError, match=why):
        ledger_post(
            application_id=application.pk,
            posting=Posting("top_up"),
            amounts={AccountName(kind): Decimal(amount) for kind, amount in amounts.items()},
            currency="KRW",
        )
    assert LedgerTransaction.objects.count() == LedgerEntry.objects.count() == 0
    assert balances(application) == {}


@pytest.mark.django_db(transaction=True)
def test_entries_are_in_one_currency_and_of_one_application(application, other_application):
    first = credit_top_up(application=application, amount=krw(5), reason="paid", by="anna")
    billing_of(other_application)
    own = LedgerAccount.objects.get(application=application, kind="credit")
    others = LedgerAccount.objects.get(application=other_application, kind="credit")
    pairs = [
        (Money(1, "USD"), own, Money(-1, "KRW"), own, "currencies"),
        (krw(1), own, krw(-1), others, "another application"),
    ]
    for amount, account, back, other, why in pairs:
        entries = [
            LedgerEntry(transaction=first, account=account, amount=amount),
            LedgerEntry(transaction=first, account=other, amount=back),
        ]
        with pytest.raises(IntegrityError, match=why):
            LedgerEntry.objects.bulk_create(entries)


@pytest.mark.django_db(transaction=True)
def test_entries_do_not_come_later_than_their_transaction(application):
    first = credit_top_up(application=application, amount=krw(5), reason="paid", by="anna")
    accounts = LedgerAccount.objects.filter(application=application)
    entries = [
        LedgerEntry(transaction=first, account=accounts.get(kind=kind), amount=krw(amount))
        for kind, amount in (("credit", 7), ("funding", -7))
    ]
    with pytest.raises(IntegrityError, match="written before"):
        LedgerEntry.objects.bulk_create(entries)
    with transaction.atomic():  # in savepoints of one transaction they do
        for _ in range(2):
            with transaction.atomic():
                credit_top_up(application=application, amount=krw(1), reason="paid", by="anna")
    assert balances(application)["credit"] == 7


# --- The check -----------------------------------------------------------------------------------------------------


def test_the_check_names_each_difference_and_fails(application, terms):
    terms(price="1", credit=100)
    sent(application, 3)  # of which there are no messages
    usage_post_all()
    LedgerAccount.objects.filter(kind="credit").update(balance=98)
    MessageQuota.objects.filter(channel_type="push").update(reserved=2, posted_total=1)
    out = StringIO()
    with pytest.raises(CommandError, match="4 differences") as failed:
        call_command("check_ledger", stdout=out)
    assert failed.value.returncode == 1
    assert out.getvalue().splitlines() == [
        "Shop: push: messages sent is 3, and should be 0",
        "Shop: push: messages reserved is 2, and should be 0",
        "Shop: push: messages in the ledger is 1, and should be 3",
        "Shop: the balance of credit is 98.000000, and should be 97.000000",
    ]


def test_the_check_of_a_ledger_that_is_right_says_so(application, terms, other_application, caplog):
    terms(price="1", credit=100)
    out = StringIO()
    call_command("check_ledger", application=application.pk, stdout=out)
    assert out.getvalue() == "The ledger equals the messages.\n"
    assert check_ledger() == 0
    MessageQuota.objects.filter(application=application, channel_type="push").update(reserved=1)
    assert report_differences() == 1
    assert "does not equal" in caplog.text
    assert not differences(other_application)
