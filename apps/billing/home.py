"""What billing tells on the console's home: how much of the quotas is used, and what credit is left."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from djmoney.money import Money

from apps.billing.models import AccountKind, BillingProfile, LedgerAccount, MessageQuota
from apps.billing.selectors import QuotaState, plan_state
from apps.billing.statements import channel_label
from apps.tenants.console.formats import moment, money, number, share
from apps.tenants.console.home import Cell, PlatformFigures, Shown, home_section, platform_figures
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application

READ = "billing:read"
NEARLY = 0.8


@home_section("quota", gettext_lazy("Quota and credit"), scope=READ, order=60, width="half")
def quota_section(request: HttpRequest, application: Application) -> Shown:
    state = plan_state(application=application)
    lines = [line for quota in state["quotas"] if quota.is_included for line in _lines(quota)]
    credit = state["credit"]
    unlimited = [quota for quota in state["quotas"] if quota.daily_quota is None and quota.monthly_quota is None]
    context = {
        "lines": lines,
        "free": ", ".join(str(channel_label(quota.channel_type)) for quota in unlimited),
        "plan": state["plan"].name,
        "balance": money(Money(credit["balance"], credit["currency"])),
        "available": None if credit["available"] is None else money(Money(credit["available"], credit["currency"])),
        "is_short": credit["available"] is not None
        and credit["available"] <= 0
        and any(q.unit_price for q in state["quotas"]),
    }
    more = list_address("billing.BillingProfile", application=application.pk)
    return Shown("admin/console/home/quota.html", context, more=more, more_label=_("Billing"))


def _lines(quota: QuotaState) -> list[dict[str, Any]]:
    """A bar for each limit that the channel has."""
    lines = []
    for label, used, limit, resets_at in (
        (_("today"), quota.daily_used, quota.daily_quota, quota.daily_resets_at),
        (_("this month"), quota.monthly_used, quota.monthly_quota, quota.monthly_resets_at),
    ):
        if limit:
            part = min(1.0, used / limit)
            lines.append(
                {
                    "channel": channel_label(quota.channel_type),
                    "label": label,
                    "percent": round(100 * part),
                    "told": _("%(used)s of %(limit)s") % {"used": number(used), "limit": number(limit)},
                    "share": share(used, limit),
                    "tone": "bad" if part >= 1 else "warning" if part >= NEARLY else "",
                    "resets": moment(resets_at),
                }
            )
    return lines


# --- The platform --------------------------------------------------------------------------------------------------


def _of_applications(ids: Sequence[UUID]) -> dict[UUID, list[Cell]]:
    """The fullest quota of each, and the credit."""
    now = timezone.now()
    fullest: dict[UUID, float] = {}
    quotas = MessageQuota.objects.filter(application_id__in=ids).filter(Q(daily_quota__gt=0) | Q(monthly_quota__gt=0))
    for row in quotas:
        state = QuotaState.of(row, now)
        parts = [
            used / limit
            for used, limit in ((state.daily_used, state.daily_quota), (state.monthly_used, state.monthly_quota))
            if limit
        ]
        fullest[row.application_id] = max([fullest.get(row.application_id, 0.0), *parts])
    accounts = LedgerAccount.objects.filter(application_id__in=ids, kind=AccountKind.CREDIT)
    balances = {account.application_id: account.balance for account in accounts}
    limits = dict(BillingProfile.objects.filter(application_id__in=ids).values_list("application_id", "credit_limit"))
    return {
        key: [_quota_cell(key, fullest.get(key)), _credit_cell(key, balances.get(key), limits.get(key))] for key in ids
    }


def _quota_cell(application_id: UUID, part: float | None) -> Cell:
    if part is None:
        return Cell(_("no limit"))
    trouble = 1.0 if part >= 1 else 0.3 if part >= NEARLY else 0.0
    return Cell(share(part, 1), trouble, list_address("billing.MessageQuota", application=application_id))


def _credit_cell(application_id: UUID, balance: Money | None, limit: Decimal | None) -> Cell:
    is_short = balance is not None and limit is not None and balance.amount + limit < 0
    address = list_address("billing.LedgerTransaction", application=application_id)
    return Cell(money(balance), 1.0 if is_short else 0.0, address)


platform_figures(PlatformFigures("billing", (gettext_lazy("Quota used"), gettext_lazy("Credit")), 40, _of_applications))
