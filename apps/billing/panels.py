"""What the console's pages show of an application's billing: credit, quotas, alerts, months."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from apps.billing.alerts import headline
from apps.billing.models import AccountKind, BillingAlert, BillingProfile, LedgerAccount
from apps.billing.selectors import quota_states
from apps.billing.services.ledger import credit_left
from apps.billing.services.quota import billing_of
from apps.billing.statements import channel_label, months_of, plain
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.panels import Panel, admin_link, badge, list_address, panel_for, table_panel
from apps.tenants.models import Application

ALERTS_SHOWN = 10
BANNER_DAYS = 7
_COLOURS = {True: "#dc2626", False: "#7c3aed"}


def used_bar(used: int, quota: int | None, resets_at: datetime) -> SafeString:
    """How much is used, as a bar with its figures; of a period that is over, nothing is."""
    used = used if resets_at > timezone.now() else 0
    if quota is None:
        return format_html("{}", number(used))
    if quota == 0:
        return format_html("{}", _("not included"))
    percent = min(100, 100 * used // quota)
    return format_html(
        '<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{}" style="min-width: 140px">'
        '<div class="bg-base-100 rounded-default dark:bg-base-800" style="height: 6px">'
        '<div class="rounded-default" style="height: 6px; width: {}%; background: {}"></div></div>{}</div>',
        percent,
        percent,
        _COLOURS[percent >= 80],
        f"{number(used)} / {number(quota)} ({percent} %)",
    )


def quotas_panel(application: Application) -> Panel:
    rows = [
        (
            channel_label(state.channel_type),
            used_bar(state.daily_used, state.daily_quota, state.daily_resets_at),
            used_bar(state.monthly_used, state.monthly_quota, state.monthly_resets_at),
            f"{plain(state.unit_price)} {state.currency}",
            badge("info", _("own terms")) if state.is_own else "",
        )
        for state in quota_states(application=application)
    ]
    headers = (_("channel"), _("today"), _("this month"), _("price of a message"), "")
    more = list_address("billing.MessageQuota", application=application.pk)
    return table_panel(_("Quotas"), headers, rows, more=more)


def credit_panel(profile: BillingProfile) -> Panel:
    accounts = LedgerAccount.objects.filter(application_id=profile.application_id, kind=AccountKind.CREDIT)
    balance = accounts.values_list("balance", flat=True).first() or Decimal(0)
    left = credit_left(profile)
    facts = [
        (_("balance"), f"{plain(balance)} {profile.currency}"),
        (_("can still be reserved"), _("any amount") if left is None else f"{plain(left)} {profile.currency}"),
        (_("ledger"), format_html('<a class="text-link" href="{}">{}</a>', _ledger(profile), _("Postings"))),
    ]
    return Panel(_("Credit"), "admin/console/facts.html", {"facts": facts}, before=True)


def _ledger(profile: BillingProfile) -> str:
    return list_address("billing.LedgerTransaction", application=profile.application_id)


def alerts_panel(application: Application) -> Panel:
    alerts = BillingAlert.objects.for_application(application).order_by("-id")[:ALERTS_SHOWN]
    rows = [
        (admin_link("billing.BillingAlert", a.pk, headline(a)), a.created_at, a.last_error or _("delivered"))
        for a in alerts
    ]
    more = list_address("billing.BillingAlert", application=application.pk)
    return table_panel(_("Alerts"), (_("about"), _("since"), _("delivery")), rows, more=more)


def months_panel(profile: BillingProfile, address: Callable[[str], str]) -> Panel:
    rows = [
        (
            format_html('<a class="text-link" href="{}">{}</a>', address(month), month),
            format_html('<a class="text-link" href="{}?format=csv&amp;bom=true">CSV</a>', address(month)),
        )
        for month in months_of(profile.application)
    ]
    return table_panel(_("Statements"), (_("month"), _("file")), rows)


@panel_for(Application)
def application_notice(request: HttpRequest, row: Application) -> Panel | None:
    """Above the application's page: what ran out in the last days, and the way to its billing."""
    if not grants_of(request).has("billing:read", row.pk):
        return None
    profile = billing_of(row)
    since = timezone.now() - timedelta(days=BANNER_DAYS)
    alerts = BillingAlert.objects.for_application(row).filter(created_at__gte=since).order_by("-id")[:ALERTS_SHOWN]
    told: list[tuple[Any, Any]] = [
        (badge("danger" if alert.threshold != 80 else "warning", alert.get_kind_display()), _alert_line(alert))
        for alert in alerts
    ]
    facts = [(_("plan"), admin_link("billing.BillingProfile", profile.pk, profile.plan)), *told]
    return Panel(_("Billing"), "admin/console/facts.html", {"facts": facts}, before=True)


def _alert_line(alert: BillingAlert) -> SafeString:
    return format_html(
        "{} · {}",
        admin_link("billing.BillingAlert", alert.pk, headline(alert)),
        moment(alert.created_at),
    )
