"""Plans, which of them an application has, and what was agreed for one alone."""

from __future__ import annotations

from decimal import Decimal

import pytest
from djmoney.money import Money

from apps.billing.models import BillingProfile, LedgerAccount, LedgerTransaction, MessageQuota, Plan
from apps.billing.plans import STANDARD_PLANS, Terms
from apps.billing.services.ledger import credit_top_up
from apps.billing.services.plans import plan_create, plan_set, plan_update, quota_reset, quota_set
from apps.billing.services.quota import billing_of
from apps.billing.services.settings import credit_limit_set
from apps.tenants.models import Application, Operator, Role
from apps.tenants.services import membership_set
from automata_signal.errors import Conflict, Forbidden, ValidationFailed
from tests.campaigns.test_lifecycle import in_threads


def plan(code: str) -> Plan:
    return Plan.objects.get(code=code)


def terms_now(application, channel="push"):
    row = MessageQuota.objects.get(application=application, channel_type=channel)
    return row.daily_quota, row.monthly_quota, row.unit_price


def test_every_installation_has_the_four_plans(db):
    assert {p.code: p.applications_max for p in Plan.objects.all()} == {
        "free": 1,
        "basic": 3,
        "premium": 10,
        "enterprise": None,
    }
    for code, standard in STANDARD_PLANS.items():
        assert plan(code).channels.count() == len(standard.channels)


@pytest.mark.django_db(transaction=True)
def test_they_are_there_again_after_the_tables_were_emptied(settings):
    from django.core.management import call_command

    Plan.objects.filter(code="basic").update(name="Ours")
    call_command("migrate", verbosity=0)
    assert plan("basic").name == "Ours"  # what was changed stays


def test_an_application_begins_on_the_default_plan(application, settings):
    settings.DEFAULT_PLAN = "basic"
    assert billing_of(application).plan.code == "basic"
    assert terms_now(application) == (100_000, 2_000_000, Money("0.5", "KRW"))


def test_another_plan_brings_its_quotas_and_prices_at_once(application):
    billing_of(application)
    plan_set(application=application, plan=plan("free"), by="olga")
    assert terms_now(application) == (1_000, 10_000, Money(0, "KRW"))
    assert terms_now(application, "sms") == (0, 0, Money(0, "KRW"))
    profile = BillingProfile.objects.get(application=application)
    assert profile.plan.code == "free"
    assert profile.history.first().history_change_reason == "olga"


def test_terms_that_were_agreed_stay_when_the_plan_changes(application):
    agreed = {"daily_quota": 7, "monthly_quota": None, "unit_price": Money("0.3", "KRW")}
    quota_set(application=application, channel_type="push", by="olga", **agreed)
    plan_set(application=application, plan=plan("basic"), by="olga")
    assert terms_now(application) == (7, None, Money("0.3", "KRW"))
    assert terms_now(application, "email")[0] == 10_000
    quota_reset(application=application, channel_type="push", by="olga")
    assert terms_now(application) == (100_000, 2_000_000, Money("0.5", "KRW"))


def test_what_was_sent_is_posted_at_the_old_price_first(application):
    plan_set(application=application, plan=plan("basic"), by="olga")
    BillingProfile.objects.filter(application=application).update(credit_limit=None)
    MessageQuota.objects.filter(application=application, channel_type="push").update(sent_total=10)
    plan_set(application=application, plan=plan("premium"), by="olga")
    posted = LedgerTransaction.objects.get(application=application)
    assert (posted.quantity, posted.unit_price) == (10, Money("0.5", "KRW"))
    assert terms_now(application)[2] == Money("0.2", "KRW")


def test_counters_stay_as_they_are_when_terms_change(application):
    billing_of(application)
    rows = MessageQuota.objects.filter(application=application, channel_type="push")
    rows.update(daily_used=5, monthly_used=6, reserved=2, daily_alerted=80)
    plan_set(application=application, plan=plan("free"), by="olga")
    row = rows.get()
    assert (row.daily_used, row.monthly_used, row.reserved, row.daily_alerted) == (5, 6, 2, 0)


def test_a_price_at_which_what_is_reserved_could_not_be_paid_is_refused(application):
    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(reserved=100)
    with pytest.raises(Conflict) as refusal:
        plan_set(application=application, plan=plan("basic"), by="olga")
    assert refusal.value.code == "CREDIT_LIMIT"
    assert BillingProfile.objects.get(application=application).plan.code == "enterprise"


def test_a_credit_limit_below_what_is_reserved_is_refused_and_a_higher_one_never(application, terms):
    terms(price="1", limit="10", credit=5)
    MessageQuota.objects.filter(application=application, channel_type="push").update(reserved=12)
    with pytest.raises(Conflict) as refusal:
        credit_limit_set(application=application, credit_limit=Decimal(6), by="olga")
    assert refusal.value.code == "CREDIT_LIMIT"
    assert BillingProfile.objects.get(application=application).credit_limit == 10
    BillingProfile.objects.filter(application=application).update(credit_limit=2)  # too little, as if by a correction
    assert credit_limit_set(application=application, credit_limit=Decimal(3), by="olga").credit_limit == 3


def test_a_change_that_makes_a_lack_of_credit_no_worse_is_not_refused(application, terms):
    terms(price="1", limit="0", credit=5)
    MessageQuota.objects.filter(application=application, channel_type="push").update(reserved=12)
    agreed = {"application": application, "channel_type": "push", "by": "olga"}
    quota_set(daily_quota=7, monthly_quota=None, unit_price=Money("0.9", "KRW"), **agreed)
    with pytest.raises(Conflict):
        quota_set(daily_quota=7, monthly_quota=None, unit_price=Money("0.95", "KRW"), **agreed)


def test_what_was_alerted_about_is_told_again_only_for_a_quota_that_changed(application):
    agreed = {"application": application, "channel_type": "push", "monthly_quota": 100, "by": "olga"}
    quota_set(daily_quota=10, unit_price=Money(0, "KRW"), **agreed)
    rows = MessageQuota.objects.filter(application=application, channel_type="push")
    rows.update(daily_alerted=80, monthly_alerted=100)
    quota_set(daily_quota=10, unit_price=Money("0.1", "KRW"), **agreed)
    assert rows.values_list("daily_alerted", "monthly_alerted").get() == (80, 100)
    quota_set(daily_quota=11, unit_price=Money("0.1", "KRW"), **agreed)
    assert rows.values_list("daily_alerted", "monthly_alerted").get() == (0, 100)


@pytest.mark.django_db(transaction=True)
def test_of_a_first_top_up_and_a_change_of_currency_at_the_same_time_one_is_refused(application):
    dollars = plan_create(code="usd", name="US", channels={"push": Terms(None, None, Decimal("0.01"), "USD")})
    billing_of(application)

    def work(number):
        try:
            if number:
                plan_set(application=application, plan=dollars, by="olga")
            else:
                credit_top_up(application=application, amount=Money(9, "KRW"), reason="paid", by="anna")
        except (Conflict, ValidationFailed) as refused:
            return refused.code
        return "done"

    assert sorted(in_threads(2, work)) in (["CURRENCY_DIFFERS", "done"], ["VALIDATION_ERROR", "done"])
    accounts = LedgerAccount.objects.filter(application=application)
    currency = BillingProfile.objects.get(application=application).currency
    assert set(accounts.values_list("balance_currency", flat=True)) == {currency}


# --- Plans that do not fit -----------------------------------------------------------------------------------------


def owner_of(*applications: Application) -> Operator:
    operator = Operator.objects.create_user("owner@example.com", "x")
    for application in applications:
        membership_set(operator=operator, application=application, role=Role.OWNER)
    return operator


def test_a_plan_for_fewer_applications_than_the_owner_has_is_refused_with_the_facts(application, other_application):
    owner_of(application, other_application)
    plan_set(application=other_application, plan=plan("basic"), by="olga")
    plan_set(application=application, plan=plan("free"), by="olga")  # the other one's plan still allows three
    with pytest.raises(Conflict) as refusal:
        plan_set(application=other_application, plan=plan("free"), by="olga")
    assert refusal.value.code == "PLAN_DOES_NOT_FIT"
    facts = {"what": "applications", "limit": 1, "used": 2, "resets_at": None, "plan": "free"}
    assert refusal.value.facts == facts
    assert BillingProfile.objects.get(application=other_application).plan.code == "basic"


def test_a_plan_that_keeps_less_than_the_application_does_is_refused_with_the_facts(application):
    application.settings = {"retention_days": 60}
    application.save()
    with pytest.raises(Forbidden) as refusal:
        plan_set(application=application, plan=plan("free"), by="olga")
    assert (refusal.value.code, refusal.value.facts["limit"], refusal.value.facts["used"]) == ("PLAN_LIMIT", 30, 60)
    assert billing_of(application).plan.code == "enterprise"


def test_a_plan_that_was_closed_is_not_chosen_any_more(application):
    Plan.objects.filter(code="basic").update(is_active=False)
    with pytest.raises(Conflict) as refusal:
        plan_set(application=application, plan=plan("basic"), by="olga")
    assert refusal.value.code == "PLAN_INACTIVE"


def test_the_currency_changes_only_while_no_money_was_moved(application, terms):
    dollars = plan_create(code="us", name="US", channels={"push": Terms(None, None, Decimal("0.01"), "USD")})
    plan_set(application=application, plan=dollars, by="olga")
    assert BillingProfile.objects.get(application=application).currency == "USD"
    from apps.billing.services.ledger import credit_top_up

    credit_top_up(application=application, amount=Money(5, "USD"), reason="paid", by="olga")
    with pytest.raises(Conflict) as refusal:
        plan_set(application=application, plan=plan("basic"), by="olga")
    assert refusal.value.code == "CURRENCY_DIFFERS"


# --- Plans themselves ----------------------------------------------------------------------------------------------


def test_an_operator_defines_and_changes_a_plan_and_its_applications_follow(application):
    made = plan_create(
        code="campus",
        name="Campus",
        features=["api"],
        applications_max=2,
        channels={"push": Terms(50, 500, Decimal("0.1"))},
        by="olga",
    )
    plan_set(application=application, plan=made, by="olga")
    plan_update(plan=made, name="Campus 2", channels={"push": Terms(60, None, Decimal("0.2"))}, by="olga")
    assert terms_now(application) == (60, None, Money("0.2", "KRW"))
    made.refresh_from_db()
    assert (made.name, made.history.count()) == ("Campus 2", 2)
    assert made.channels.get().history.count() == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "free"},
        {"name": " "},
        {"applications_max": 0},
        {"retention_days_max": 5_000},
        {"features": ["everything"]},
        {"analytics_depth": "bottomless"},
        {"channels": {"pigeon": Terms(1, 1, Decimal(0))}},
        {"channels": {"push": Terms(-1, 1, Decimal(0))}},
        {"channels": {"push": Terms(1, 1, Decimal("0.0000001"))}},
        {"channels": {"push": Terms(1, 1, Decimal(1), "XXA")}},
        {"channels": {"push": Terms(1, 1, Decimal(1), "USD"), "sms": Terms(1, 1, Decimal(1), "KRW")}},
    ],
)
def test_a_plan_that_is_none_is_refused(db, wrong):
    with pytest.raises(ValidationFailed):
        plan_create(**{"code": "c", "name": "C", "channels": {}} | wrong)
    assert Plan.objects.count() == 4
