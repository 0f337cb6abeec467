"""A month's statement: from the ledger, in the application's own calendar, adding up."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection
from djmoney.money import Money

from apps.billing.models import BillingProfile, LedgerTransaction, MessageQuota
from apps.billing.services.ledger import credit_adjust, credit_refund, credit_top_up
from apps.billing.services.posting import usage_post
from apps.billing.services.quota import billing_of
from apps.billing.statements import csv_rows, month_bounds, months_of, statement_of
from automata_signal.csv_safety import csv_lines
from automata_signal.errors import ValidationFailed


def won(amount) -> Money:
    return Money(amount, "KRW")


def moved(row: LedgerTransaction, at: str) -> LedgerTransaction:
    """Posted at another moment: entries are never changed, so the trigger has to look away for the test."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "UPDATE billing_ledgertransaction SET posted_at = %s WHERE id = %s", [datetime.fromisoformat(at), row.pk]
        )
        cursor.execute("SET LOCAL session_replication_role = origin")
    return row


def sent(application, channel: str, messages: int, price: str) -> LedgerTransaction:
    rows = MessageQuota.objects.filter(application=application, channel_type=channel)
    rows.update(unit_price=Decimal(price), sent_total=rows.get().sent_total + messages)
    return usage_post(application=application, channel_type=channel)


@pytest.fixture
def ledger(application):
    """October and November 2026 in Seoul."""
    billing_of(application)
    BillingProfile.objects.filter(application=application).update(credit_limit=None)
    given = {"application": application, "by": "olga"}
    moved(credit_top_up(amount=won(1_000), reason="October's", **given), "2026-10-05T00:00:00+09:00")
    moved(sent(application, "push", 100, "0.5"), "2026-10-31T23:59:59+09:00")
    moved(sent(application, "push", 10, "0.5"), "2026-11-01T00:00:00+09:00")
    moved(sent(application, "push", 20, "0.25"), "2026-11-10T00:00:00+09:00")
    moved(sent(application, "email", 3, "1"), "2026-11-10T00:00:00+09:00")
    moved(sent(application, "in_app", 7, "0"), "2026-11-10T00:00:00+09:00")
    top_up = credit_top_up(amount=won(500), reason="=cmd|' /C calc'!A0", reference="@pay-1", **given)
    moved(top_up, "2026-11-11T00:00:00+09:00")
    moved(credit_adjust(amount=won("-20.5"), reason="a mistake", **given), "2026-11-12T00:00:00+09:00")
    moved(credit_refund(amount=won(5), reason="did not arrive", **given), "2026-11-30T23:59:59+09:00")
    moved(credit_top_up(amount=won(9_999), reason="December's", **given), "2026-12-01T00:00:00+09:00")
    return application


def test_a_statement_adds_up_from_one_months_credit_to_the_nexts(ledger):
    october, november, december = (statement_of(application=ledger, month=f"2026-{n}") for n in (10, 11, 12))
    assert (october.opening_credit, october.closing_credit) == (0, 950)
    assert november.opening_credit == october.closing_credit
    lines = [(line.channel_type, line.messages, line.unit_price, line.amount) for line in november.lines]
    assert lines == [
        ("email", 3, 1, 3),
        ("in_app", 7, 0, 0),
        ("push", 20, Decimal("0.25"), 5),
        ("push", 10, Decimal("0.5"), 5),
    ]
    assert (november.top_ups, november.adjustments, november.refunds) == (500, Decimal("-20.5"), 5)
    assert november.usage == 13
    assert november.closing_credit == 950 + 500 - Decimal("20.5") + 5 - 13
    assert december.opening_credit == november.closing_credit
    assert december.closing_credit == december.opening_credit + 9_999
    assert [m.reason for m in november.movements] == ["=cmd|' /C calc'!A0", "a mistake", "did not arrive"]


def test_a_month_is_that_of_the_applications_time_zone(ledger):
    since, until = month_bounds(ledger, "2026-11")
    assert since == datetime(2026, 10, 31, 15, tzinfo=UTC)
    assert until == datetime(2026, 11, 30, 15, tzinfo=UTC)


def test_another_applications_money_is_not_in_it(ledger, other_application):
    credit_top_up(application=other_application, amount=won(77), reason="theirs", by="x")
    theirs = statement_of(application=other_application, month="2026-11")
    assert (theirs.lines, theirs.usage) == ([], 0)


def test_the_months_since_the_first_posting_are_offered(ledger):
    assert months_of(ledger)[-1] == "2026-10"


@pytest.mark.parametrize(
    "month", ["2026-13", "2026-0", "11-2026", "2026-11-01", "", "２０２６-11", "1999-01", "2026-11\n"]
)
def test_what_is_no_month_is_refused(application, month):
    with pytest.raises(ValidationFailed):
        statement_of(application=application, month=month)


def test_the_file_adds_up_and_runs_no_formula(ledger):
    statement = statement_of(application=ledger, month="2026-11")
    raw = b"".join(csv_lines(csv_rows(statement), bom=True))
    assert raw.startswith(b"\xef\xbb\xbfmonth,line,")
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"))))
    assert sum(Decimal(row["amount"]) for row in rows[:-1]) == Decimal(rows[-1]["amount"])
    top_up = next(row for row in rows if row["line"] == "top_up")
    assert (top_up["reason"][0], top_up["reference"]) == ("'", "'@pay-1")
    assert next(row for row in rows if row["line"] == "adjustment")["amount"] == "-20.5"


def test_a_file_that_does_not_list_all_adds_up_too(ledger, monkeypatch):
    monkeypatch.setattr("apps.billing.statements.MOVEMENTS_MAX", 1)
    rows = list(csv_rows(statement_of(application=ledger, month="2026-11")))
    assert [row[1] for row in rows[-3:]] == ["top_up", "not_listed", "closing_credit"]
    assert rows[-2][5] == "-15.5"
    assert sum(Decimal(row[5]) for row in rows[1:-1]) == Decimal(rows[-1][5])


def test_a_statement_of_a_long_ledger_takes_few_queries(ledger, django_assert_max_num_queries):
    with django_assert_max_num_queries(4):
        statement_of(application=ledger, month="2026-11")
