"""Plans, which of them an application has, and what was agreed for one application alone.

All of it is for the platform's operators; `by` is who does it, for the history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone
from djmoney.money import Money
from moneyed import CURRENCIES

from apps.billing.entitlements import largest, owned_plans, refuse_retention
from apps.billing.models import (
    AnalyticsDepth,
    BillingProfile,
    Feature,
    LedgerAccount,
    LedgerEntry,
    MessageQuota,
    Plan,
    PlanChannel,
)
from apps.billing.plans import Terms, terms_of
from apps.billing.services.ledger import credit_left, lock_quotas, refuse_unpayable
from apps.billing.services.posting import usage_post
from apps.billing.services.quota import billing_of
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application, Operator, Role
from automata_signal.errors import Conflict, FieldProblem, NotFound, ValidationFailed

QUOTA_MAX = 10**15
PRICE_MAX = Decimal(10) ** 9
RETENTION_DAYS_MAX = 3_650


def _save(row: models.Model, by: str) -> None:
    """Save with the reason that simple-history keeps beside the new version."""
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.save()


# --- The plan of an application ------------------------------------------------------------------------------------


@transaction.atomic
def plan_set(*, application: Application, plan: Plan, by: str) -> BillingProfile:
    """Put the application on `plan`: its quotas and prices hold from now on, but for channels with terms of their own.

    What was sent until now is posted at the old prices first. Raise `Conflict` (PLAN_INACTIVE, PLAN_DOES_NOT_FIT,
    CURRENCY_DIFFERS, CREDIT_LIMIT) or `Forbidden` (PLAN_LIMIT) for a plan that cannot be, with the facts; nothing is
    changed then.
    """
    billing_of(application)
    plan = Plan.objects.select_for_update(no_key=True).get(pk=plan.pk)  # before the profile, as `plan_update` does
    profile = _locked_profile(application)
    if not plan.is_active and plan.pk != profile.plan_id:
        raise Conflict(f"The plan {plan.name} can no longer be chosen.", code="PLAN_INACTIVE")
    refuse_retention(plan, Application.objects.values_list("settings", flat=True).get(pk=application.pk))
    _refuse_too_many_applications(application, plan)
    profile.currency = _common_currency(profile, plan)
    profile.plan = plan
    _save(profile, by)
    _apply_terms(profile, by)
    application.billing = profile  # who goes on with this object must not see the plan before
    return profile


def plans_to_choose() -> list[tuple[str, str]]:
    """Code and name of those that can be chosen, the one of new applications first."""
    rows = Plan.objects.filter(is_active=True).values_list("code", "name")
    return sorted(rows, key=lambda row: row[0] != settings.DEFAULT_PLAN)


def plan_set_by_code(application: Application, code: str, by: str) -> None:
    """As `plan_set`; nothing is done for the plan that it has."""
    plan = Plan.objects.filter(code=code, is_active=True).first()
    if plan is None:
        raise ValidationFailed.of("plan", "there is no such plan")
    if billing_of(application).plan_id != plan.pk:
        plan_set(application=application, plan=plan, by=by)


def _locked_profile(application: Application) -> BillingProfile:
    """Changes of terms come one after the other."""
    billing_of(application)
    rows = BillingProfile.objects.select_for_update(of=("self",)).select_related("plan")
    return rows.defer("alert_webhook_secret").get(application=application)


def _refuse_too_many_applications(application: Application, plan: Plan) -> None:
    owners = Operator.objects.filter(
        memberships__application=application, memberships__role=Role.OWNER, is_superuser=False
    )
    for owner in owners.order_by("pk").select_for_update(no_key=True, of=("self",)):
        owned = owned_plans(owner) | {application.pk: plan}
        allowed = largest(list(owned.values())).applications_max
        if allowed is not None and len(owned) > allowed:
            raise Conflict(
                f"{owner} owns {len(owned)} applications, and would be allowed {allowed}.",
                code="PLAN_DOES_NOT_FIT",
                facts={
                    "what": "applications",
                    "limit": allowed,
                    "used": len(owned),
                    "resets_at": None,
                    "plan": plan.code,
                },
            )


def _common_currency(profile: BillingProfile, plan: Plan) -> str:
    """The currency of the plan's prices, and of prices agreed for the application; the present one if all is free.

    It changes only while no money was moved. The caller holds the profile; the quotas keep money from being moved
    meanwhile, by hand or for what was sent.
    """
    priced = {terms.currency for terms in terms_of(plan).values() if terms.unit_price}
    own = MessageQuota.objects.filter(application_id=profile.application_id, is_own=True, unit_price__gt=0)
    priced |= set(own.values_list("unit_price_currency", flat=True))
    if priced <= {profile.currency}:
        return profile.currency
    lock_quotas(profile.application_id)
    accounts = LedgerAccount.objects.filter(application_id=profile.application_id)
    list(accounts.select_for_update(no_key=True).order_by("pk"))
    moved = LedgerEntry.objects.filter(transaction__application_id=profile.application_id)
    if len(priced) > 1 or moved.exists():
        raise Conflict(
            f"The application is billed in {profile.currency}, and prices would be in {', '.join(sorted(priced))}.",
            code="CURRENCY_DIFFERS",
        )
    (currency,) = priced
    accounts.update(balance_currency=currency)
    return currency


def _apply_terms(profile: BillingProfile, by: str) -> None:
    """The plan's terms on every quota that has none of its own."""
    terms = terms_of(profile.plan)
    rows = lock_quotas(profile.application_id)
    before = credit_left(profile)
    for row in rows:
        if not row.is_own:
            _change_terms(row, terms[ChannelType(row.channel_type)], profile.currency, by)
    refuse_unpayable(profile, before=before)


def _change_terms(row: MessageQuota, terms: Terms, currency: str, by: str, *, is_own: bool = False) -> None:
    """Save the terms alone: the counters are those of whoever sends."""
    price = Money(terms.unit_price, currency)
    new: dict[str, Any] = {
        "is_own": is_own,
        "daily_quota": terms.daily_quota,
        "monthly_quota": terms.monthly_quota,
        "unit_price": price,
    }
    if all(getattr(row, name) == value for name, value in new.items()):
        return
    if row.unit_price != price:
        usage_post(application=row.application, channel_type=row.channel_type)
    # What was alerted about was a share of the old quota.
    for period in ("daily", "monthly"):
        if new[f"{period}_quota"] != getattr(row, f"{period}_quota"):
            new[f"{period}_alerted"] = 0
    new["updated_at"] = timezone.now()
    for name, value in new.items():
        setattr(row, name, value)
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.save(update_fields=[*new, "unit_price_currency"])


# --- Terms of one application --------------------------------------------------------------------------------------


@transaction.atomic
def quota_set(
    *,
    application: Application,
    channel_type: str,
    daily_quota: int | None,
    monthly_quota: int | None,
    unit_price: Money,
    by: str,
) -> MessageQuota:
    """Agree terms of a channel for this application; they stay when its plan changes. None: any number.

    What was sent until now is posted at the old price first. Raise `ValidationFailed`, and `Conflict` (CREDIT_LIMIT)
    for a price at which what is reserved could not be paid.
    """
    profile = _locked_profile(application)
    _check_terms(Terms(daily_quota, monthly_quota, unit_price.amount, str(unit_price.currency)))
    if unit_price.amount and str(unit_price.currency) != profile.currency:
        raise ValidationFailed.of("unit_price", f"must be in {profile.currency}")
    row = _quota(application, channel_type)
    before = credit_left(profile)
    _change_terms(row, Terms(daily_quota, monthly_quota, unit_price.amount), profile.currency, by, is_own=True)
    refuse_unpayable(profile, before=before)
    return row


@transaction.atomic
def quota_reset(*, application: Application, channel_type: str, by: str) -> MessageQuota:
    """Give up what was agreed for this application: the plan's terms hold again."""
    profile = _locked_profile(application)
    row = _quota(application, channel_type)
    before = credit_left(profile)
    _change_terms(row, terms_of(profile.plan)[ChannelType(row.channel_type)], profile.currency, by)
    refuse_unpayable(profile, before=before)
    return row


def _quota(application: Application, channel_type: str) -> MessageQuota:
    row = next((row for row in lock_quotas(application.pk) if row.channel_type == channel_type), None)
    if row is None:
        raise NotFound("There is no such channel.")
    return row


# --- Plans ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def plan_create(*, code: str, name: str, channels: Mapping[str, Terms], by: str = "", **limits: Any) -> Plan:
    """Define a plan: `channels` names what it includes; `limits` are the other fields. Raise `ValidationFailed`."""
    if Plan.objects.filter(code=code).exists():
        raise ValidationFailed.of("code", "a plan with this code exists")
    plan = Plan(code=code)
    _set_limits(plan, {"name": name, **limits})
    _save(plan, by)
    _set_channels(plan, channels, by)
    return plan


@transaction.atomic
def plan_update(*, plan: Plan, channels: Mapping[str, Terms] | None = None, by: str = "", **limits: Any) -> Plan:
    """Change what is given; `channels` replaces all of them. Applications on the plan get its new terms at once.

    A lower limit of applications or retention refuses what comes after, and takes nothing from anybody.
    """
    plan = Plan.objects.select_for_update().get(pk=plan.pk)
    _set_limits(plan, limits)
    _save(plan, by)
    if channels is not None:
        _set_channels(plan, channels, by)
        profiles = BillingProfile.objects.filter(plan=plan).select_related("plan").defer("alert_webhook_secret")
        for profile in profiles.select_for_update(of=("self",)).order_by("application_id"):
            currency = _common_currency(profile, plan)
            if currency != profile.currency:
                profile.currency = currency
                _save(profile, by)
            _apply_terms(profile, by)
    return plan


_LIMITS: Mapping[str, int] = {
    "applications_max": 1_000_000,
    "messages_per_second": 10_000_000,
    "retention_days_max": RETENTION_DAYS_MAX,
}


def _set_limits(plan: Plan, given: Mapping[str, Any]) -> None:
    problems = [
        FieldProblem(name, f"must be from 1 to {most}, or nothing")
        for name, most in _LIMITS.items()
        if (value := given.get(name)) is not None and not 1 <= value <= most
    ]
    if not 1 <= len(given.get("name", "x").strip()) <= 100:
        problems.append(FieldProblem("name", "must have 1 to 100 characters"))
    problems += [FieldProblem("features", f"there is no feature {f!r}") for f in _unknown(given.get("features", ()))]
    if given.get("analytics_depth", AnalyticsDepth.BASIC) not in AnalyticsDepth.values:
        problems.append(FieldProblem("analytics_depth", f"must be one of {', '.join(AnalyticsDepth.values)}"))
    if problems:
        raise ValidationFailed("The plan is not valid.", details=problems)
    for name, value in given.items():
        setattr(plan, name, value)


def _unknown(features: Sequence[str]) -> list[str]:
    return sorted(set(features) - set(Feature.values))


def _set_channels(plan: Plan, channels: Mapping[str, Terms], by: str) -> None:
    if unknown := sorted(set(channels) - set(ChannelType.values)):
        raise ValidationFailed.of("channels", f"there is no channel {unknown[0][:40]!r}")
    for channel_type, terms in channels.items():
        _check_terms(terms, f"channels.{channel_type}.")
    if len({terms.currency for terms in channels.values() if terms.unit_price}) > 1:
        raise ValidationFailed.of("channels", "all prices must be in one currency")
    rows = {row.channel_type: row for row in plan.channels.all()}
    for channel_type in rows.keys() - channels.keys():
        rows[channel_type]._change_reason = by[:100] or None  # type: ignore[attr-defined]
        rows[channel_type].delete()
    for channel_type, terms in channels.items():
        row = rows.get(channel_type) or PlanChannel(plan=plan, channel_type=channel_type)
        price = Money(terms.unit_price, terms.currency)
        new = (terms.daily_quota, terms.monthly_quota, price)
        if row._state.adding or (row.daily_quota, row.monthly_quota, row.unit_price) != new:
            row.daily_quota, row.monthly_quota, row.unit_price = new
            _save(row, by)


def _check_terms(terms: Terms, prefix: str = "") -> None:
    problems = [
        FieldProblem(f"{prefix}{name}", f"must be from 0 to {QUOTA_MAX}, or nothing")
        for name in ("daily_quota", "monthly_quota")
        if (quota := getattr(terms, name)) is not None and not 0 <= quota <= QUOTA_MAX
    ]
    if not 0 <= terms.unit_price <= PRICE_MAX or terms.unit_price != round(terms.unit_price, 6):
        problems.append(FieldProblem(f"{prefix}unit_price", f"must be from 0 to {PRICE_MAX}, with 6 decimals at most"))
    if terms.currency not in CURRENCIES:
        problems.append(FieldProblem(f"{prefix}currency", "is not a currency such as KRW"))
    if problems:
        raise ValidationFailed("The terms are not valid.", details=problems)
