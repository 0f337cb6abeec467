"""An application's quotas and plan on one page: what is used of each channel, the credit, what other plans give."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from djmoney.money import Money

from apps.billing.alerts import headline
from apps.billing.models import BillingAlert, BillingProfile, Feature, Plan, PlanChannel
from apps.billing.selectors import QuotaState, plan_state
from apps.billing.services.quota import billing_of
from apps.billing.statements import channel_label, months_of, plain
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, money, number
from apps.tenants.console.pages import console_page
from apps.tenants.console.panels import list_address
from apps.tenants.console_pages.hub import application_or_404, hub_of, hub_tab
from apps.tenants.models import Application

READ, WRITE = "billing:read", "billing:write"
ALERTS_SHOWN, MONTHS_SHOWN, PLANS_SHOWN = 8, 12, 12

hub_tab(
    "plan",
    gettext_lazy("Quotas and plan"),
    icon="speed",
    scope=READ,
    address=lambda key: reverse("admin:application_plan", args=[key]),
    place=60,
)


@console_page("application_plan", "applications/<uuid:application_id>/plan/", scope=READ)
def plan_page(request: HttpRequest, application_id: UUID) -> HttpResponse:
    application = application_or_404(request, application_id, READ)
    profile, state = billing_of(application), plan_state(application=application)
    grants = grants_of(request)
    plans = _plans(profile.plan)
    alerts = BillingAlert.objects.for_application(application).order_by("-id")[:ALERTS_SHOWN]
    context = {
        **admin.site.each_context(request),
        "opts": Application._meta,
        "original": application,
        "application": application,
        "hub": hub_of(request, application, "plan"),
        "title": _("Quotas and plan"),
        "subtitle": str(application),
        "plan": state["plan"],
        "quotas": [_quota(quota) for quota in state["quotas"]],
        "credit": _credit(state["credit"]),
        "channels": [channel_label(channel) for channel in ChannelType.values],
        "plans": [_plan(plan, profile.plan) for plan in plans],
        "alerts": [
            {"text": headline(a), "at": moment(a.created_at), "problem": a.last_error,
             "address": reverse("admin:billing_billingalert_change", args=[a.pk])}
            for a in alerts
        ],
        "alerts_address": list_address("billing.BillingAlert", application=application.pk),
        "months": [
            {"name": month, "address": reverse("admin:billing_billingprofile_statement", args=[profile.pk, month])}
            for month in months_of(application, limit=MONTHS_SHOWN)
        ],
        "ledger_address": list_address("billing.LedgerTransaction", application=application.pk),
        "profile_address": reverse("admin:billing_billingprofile_change", args=[profile.pk]),
        "history_address": reverse("admin:billing_billingprofile_history", args=[profile.pk]),
        "low_credit_at": _alert_below(profile),
        "webhook_url": profile.alert_webhook_url,
        "may_write": grants.has(WRITE, application.pk),
        "may_change_plan": grants.is_platform,
        "do": {
            name: reverse("admin:billing_billingprofile_do", args=[profile.pk, name])
            for name in ("change_plan", "change_credit_limit", "top_up", "webhook")
        },
    }  # fmt: skip
    return TemplateResponse(request, "admin/billing/plan.html", context)


def _alert_below(profile: BillingProfile) -> str:
    return "" if profile.low_credit_at is None else money(Money(profile.low_credit_at, profile.currency))


def _quota(state: QuotaState) -> dict[str, Any]:
    return {
        "label": channel_label(state.channel_type),
        "is_included": state.is_included,
        "is_own": state.is_own,
        "price": _price(Money(state.unit_price, state.currency)),
        "reserved": number(state.reserved) if state.reserved else "",
        "periods": [
            _bar(_("Today"), state.daily_used, state.daily_quota, state.daily_resets_at),
            _bar(_("This month"), state.monthly_used, state.monthly_quota, state.monthly_resets_at),
        ],
    }


def _bar(label: Any, used: int, limit: int | None, resets_at: datetime) -> dict[str, Any]:
    percent = min(100, 100 * used // limit) if limit else 0
    return {
        "label": label,
        "used": number(used),
        "limit": None if limit is None else number(limit),
        "percent": percent,
        "tone": "bad" if percent >= 100 else "warning" if percent >= 80 else "",
        "resets": moment(resets_at),
    }


def _credit(credit: dict[str, Any]) -> dict[str, Any]:
    def shown(amount: Any) -> str:
        return money(Money(amount, credit["currency"]))

    return {
        "balance": shown(credit["balance"]),
        "left": _("any amount") if credit["available"] is None else shown(credit["available"]),
        "limit": _("billed afterwards") if credit["credit_limit"] is None else shown(credit["credit_limit"]),
        "is_low": credit["available"] is not None and credit["available"] <= 0,
    }


def _plans(current: Plan) -> Sequence[Plan]:
    """Those that can be chosen, and the one that it has."""
    rows = list(Plan.objects.filter(is_active=True).prefetch_related("channels")[:PLANS_SHOWN])
    if all(row.pk != current.pk for row in rows):
        rows = [*Plan.objects.filter(pk=current.pk).prefetch_related("channels"), *rows]
    return rows


def _plan(plan: Plan, current: Plan) -> dict[str, Any]:
    by_channel = {row.channel_type: row for row in plan.channels.all()}
    features = dict(Feature.choices)
    return {
        "name": plan.name,
        "is_current": plan.pk == current.pk,
        "rate": number(plan.messages_per_second) if plan.messages_per_second else _("no limit"),
        "retention": number(plan.retention_days_max) if plan.retention_days_max else _("no limit"),
        "applications": number(plan.applications_max) if plan.applications_max else _("no limit"),
        "analytics": plan.get_analytics_depth_display(),
        "features": [features[name] for name in plan.features if name in features],
        "channels": [_terms(by_channel.get(channel)) for channel in ChannelType.values],
    }


def _terms(row: PlanChannel | None) -> str:
    if row is None:
        return str(_("not included"))
    limit = row.monthly_quota if row.monthly_quota is not None else row.daily_quota
    if limit is None:
        amount = _("any number")
    elif row.monthly_quota is not None:
        amount = _("%(count)s a month") % {"count": number(limit)}
    else:
        amount = _("%(count)s a day") % {"count": number(limit)}
    return f"{amount} · {_price(row.unit_price)}" if row.unit_price.amount else str(amount)


def _price(price: Money) -> str:
    """Of one message: often a fraction of the smallest coin, which money as such would round away."""
    if price.amount * price.currency.sub_unit % 1 == 0:
        return money(price)
    return f"{plain(price.amount)} {price.currency}"
