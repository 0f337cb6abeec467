"""The console's pages of plans, of what applications used and paid, and of the alerts about it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from djmoney.money import Money

from apps.billing import forms
from apps.billing import home as home  # registers its sections of the first page
from apps.billing import pages as pages  # registers the page of quotas and plan
from apps.billing.alerts import alert_retry, facts_of, headline
from apps.billing.models import (
    BillingAlert,
    BillingProfile,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    MessageQuota,
    Plan,
    PlanChannel,
)
from apps.billing.panels import alerts_panel, credit_panel, months_panel, quotas_panel, used_bar
from apps.billing.services import ledger, plans
from apps.billing.services.quota import billing_of
from apps.billing.services.settings import alert_settings_set, credit_limit_set
from apps.billing.statements import csv_rows, plain, shown, statement_of
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.actions import row_action
from apps.tenants.console.base import PlatformAdmin, ReadOnlyAdmin, ScopedHistoryAdmin, search_by_name
from apps.tenants.console.lists import ApplicationFilter, as_uuid, link_filter
from apps.tenants.console.panels import Panel, admin_link, badge, json_text, list_address, table_panel
from apps.tenants.console_pages.hub import hub_of
from apps.tenants.console_pages.words import shown_once
from apps.tenants.models import Application
from automata_signal.csv_safety import csv_lines
from automata_signal.errors import ValidationFailed

READ, WRITE, PLATFORM = "billing:read", "billing:write", "platform"
NEW_PROFILES_MAX = 50
"""Profiles that one look at the list makes, for applications that have none yet."""


def _by(request: HttpRequest) -> str:
    return str(request.user)


def _because(request: HttpRequest, cleaned: dict[str, Any]) -> str:
    """Who does it and why, for the history; the reason is taken out of `cleaned`."""
    return f"{_by(request)}: {cleaned.pop('reason')}"


# --- Plans ---------------------------------------------------------------------------------------------------------


@admin.register(Plan)
class PlanAdmin(ScopedHistoryAdmin, PlatformAdmin):
    may_delete = False
    form = forms.PlanForm
    list_display = ("name", "code", "is_active", "applications_max", "messages_per_second", "analytics_depth")
    list_filter = ("is_active",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        channels = [
            (None, {"fields": [tuple(f"{channel}_{name}" for name in forms.TERMS)]}) for channel in ChannelType.values
        ]
        return [
            (None, {"fields": ("code", "name")}),
            (gettext_lazy("Limits"), {"fields": forms.LIMITS}),
            (gettext_lazy("Channels"), {"fields": ("currency",)}),
            *channels,
        ]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        # The fields of the channels are the form's own: Django would look for them in the model.
        kwargs["fields"] = [name for name in ("code", "name", *forms.LIMITS) if obj is None or name != "code"]
        return super().get_form(request, obj, change=change, **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ("code",) if obj else ()

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "code", "name")

    def create(self, request: HttpRequest, cleaned: dict[str, Any]) -> Plan:
        limits = {name: cleaned[name] for name in ("code", "name", *forms.LIMITS)}
        return plans.plan_create(**limits, channels=forms.channels_of(cleaned), by=_by(request))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            request._console_terms = forms.channels_of(form.cleaned_data)  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def update(self, request: HttpRequest, row: Plan, changes: dict[str, Any]) -> Plan:
        limits = {name: value for name, value in changes.items() if name in ("name", *forms.LIMITS)}
        terms = request._console_terms  # type: ignore[attr-defined]
        return plans.plan_update(plan=row, channels=terms, **limits, by=_by(request))


@admin.register(PlanChannel)
class PlanChannelAdmin(ReadOnlyAdmin, PlatformAdmin):
    may_add = may_change = may_delete = False
    list_display = ("plan", "channel_type", "daily_quota", "monthly_quota", "unit_price")
    list_select_related = ("plan",)
    list_filter = ("channel_type",)
    fields = ("plan", "channel_type", "daily_quota", "monthly_quota", "unit_price")


# --- Applications' billing -----------------------------------------------------------------------------------------


@admin.register(BillingProfile)
class BillingProfileAdmin(ScopedHistoryAdmin):
    read_scope, write_scope = READ, WRITE
    may_add = may_delete = False
    list_display = ("application", "plan", "currency", "credit_limit", "low_credit_at")
    list_select_related = ("application", "plan")
    list_filter = (ApplicationFilter,)
    fields = ("application", "plan", "currency", "credit_limit", "low_credit_at", "alert_webhook_url")
    readonly_fields = ("application", "plan", "currency", "credit_limit", "alert_webhook_url")
    refusal_aliases = {"channels": "plan", "settings.retention_days": "plan"}
    row_actions = ("top_up", "adjust", "refund", "change_plan", "change_credit_limit", "webhook")
    change_form_outer_before_template = "admin/tenants/hub_before.html"

    class Media:
        css = {"all": ("console/applications.css",)}

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        context["hub"] = hub_of(request, kwargs["obj"].application, "plan") if kwargs.get("obj") else None
        return super().render_change_form(request, context, *args, **kwargs)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("application", "plan")
        return rows.defer("alert_webhook_secret")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """With the applications that nothing has been asked about yet."""
        own = grants_of(request).applications(READ)
        for application in Application.objects.filter(pk__in=own, billing=None)[:NEW_PROFILES_MAX]:
            billing_of(application)
        return super().changelist_view(request, extra_context)

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        return search_by_name(queryset, term, "application__name")

    def update(self, request: HttpRequest, row: BillingProfile, changes: dict[str, Any]) -> BillingProfile:
        alert_settings_set(application=row.application, by=_by(request), **changes)
        return row

    def panels(self, request: HttpRequest, row: BillingProfile) -> list[Panel]:
        return [
            credit_panel(row),
            quotas_panel(row.application),
            alerts_panel(row.application),
            months_panel(row, lambda month: self._statement_address(row, month)),
        ]

    # --- Buttons -------------------------------------------------------------------------------------------------

    def _amount(self, row: BillingProfile, cleaned: dict[str, Any]) -> Money:
        return Money(cleaned.pop("amount"), row.currency)

    @row_action(gettext_lazy("Top up"), scope=PLATFORM, icon="add_card", variant="primary", form=forms.MoneyForm)
    def top_up(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> str:
        amount = self._amount(row, cleaned)
        ledger.credit_top_up(application=row.application, amount=amount, by=_by(request), **cleaned)
        return _("The credit is topped up by %(amount)s.") % {"amount": amount}

    @row_action(
        gettext_lazy("Adjust"),
        scope=PLATFORM,
        icon="tune",
        form=forms.MoneyForm,
        explain=gettext_lazy("A correction of the credit: up, or down with a negative amount."),
    )
    def adjust(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> str:
        amount = self._amount(row, cleaned)
        ledger.credit_adjust(application=row.application, amount=amount, by=_by(request), **cleaned)
        return _("The credit is adjusted by %(amount)s.") % {"amount": amount}

    @row_action(
        gettext_lazy("Refund"),
        scope=PLATFORM,
        icon="undo",
        form=forms.MoneyForm,
        explain=gettext_lazy("Gives back what messages had cost."),
    )
    def refund(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> str:
        amount = self._amount(row, cleaned)
        ledger.credit_refund(application=row.application, amount=amount, by=_by(request), **cleaned)
        return _("%(amount)s are given back.") % {"amount": amount}

    @row_action(
        gettext_lazy("Change plan"),
        scope=PLATFORM,
        icon="swap_horiz",
        form=forms.PlanChoiceForm,
        explain=gettext_lazy(
            "Quotas and prices of the plan hold from now on, but for channels with terms of their own. What was sent "
            "is posted at the old prices first."
        ),
    )
    def change_plan(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> str:
        plans.plan_set(application=row.application, plan=cleaned["plan"], by=_because(request, cleaned))
        return _("The application is on the plan %(plan)s.") % {"plan": cleaned["plan"]}

    @row_action(gettext_lazy("Credit limit"), scope=PLATFORM, icon="credit_score", form=forms.CreditLimitForm)
    def change_credit_limit(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> str:
        by = _because(request, cleaned)
        credit_limit_set(application=row.application, by=by, **cleaned)
        return _("The credit limit is changed.")

    @row_action(
        gettext_lazy("Webhook"),
        scope=WRITE,
        icon="webhook",
        form=forms.WebhookForm,
        explain=gettext_lazy("Where alerts go besides the owners and managers."),
    )
    def webhook(self, request: HttpRequest, row: BillingProfile, cleaned: dict[str, Any]) -> HttpResponse | str:
        new = alert_settings_set(application=row.application, by=_by(request), **cleaned).new_secret
        if not new:
            return _("The webhook is changed.")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "title": _("The new secret"),
            "note": _("Copy it now: it is shown this once. With it the receiver checks that an alert is ours."),
            "subtitle": str(row),
            "plaintext": new,
            "back": self.address_of(row.pk),
        }
        return shown_once(request, "admin/tenants/new_secret.html", context)

    # --- Statements ----------------------------------------------------------------------------------------------

    def _statement_address(self, row: BillingProfile, month: str) -> str:
        return reverse("admin:billing_billingprofile_statement", args=[row.pk, month])

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.statement_view)
        return [
            path("<uuid:object_id>/statement/<slug:month>/", view, name="billing_billingprofile_statement"),
            *super().get_urls(),
        ]

    def statement_view(self, request: HttpRequest, object_id: UUID, month: str) -> HttpResponse:
        """A month to be printed, or with `?format=csv` as a file. 404 for what is not theirs, and for no month."""
        row = self.get_object(request, str(object_id))
        if row is None or not self.has_view_permission(request, row):
            raise Http404
        try:
            statement = statement_of(application=row.application, month=month)
        except ValidationFailed:
            raise Http404 from None
        if request.GET.get("format") == "csv":
            lines = csv_lines(csv_rows(statement), bom=request.GET.get("bom") == "true")
            answer = HttpResponse(b"".join(lines), content_type="text/csv; charset=utf-8")
            answer["Content-Disposition"] = f'attachment; filename="statement-{statement.month}.csv"'
            self.tell(request, "statement_csv", row, details={"month": statement.month})
            return answer
        context = {**shown(statement), "plan": row.plan, "back": self.address_of(row.pk)}
        return TemplateResponse(request, "billing/statement.html", context)


@admin.register(MessageQuota)
class MessageQuotaAdmin(ScopedHistoryAdmin, ReadOnlyAdmin):
    read_scope = READ
    may_add = may_change = may_delete = False
    list_display = ("application", "channel_type", "daily", "monthly", "unit_price", "is_own")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "channel_type")
    fields = ("application", "channel_type", "daily", "monthly", "unit_price", "is_own", "reserved", "sent_total")
    refusal_aliases = {"currency": "unit_price"}
    row_actions = ("set_terms", "reset_terms")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("today"))
    def daily(self, row: MessageQuota) -> SafeString:
        return used_bar(row.daily_used, row.daily_quota, row.reset_date)

    @admin.display(description=gettext_lazy("this month"))
    def monthly(self, row: MessageQuota) -> SafeString:
        return used_bar(row.monthly_used, row.monthly_quota, row.monthly_reset_date)

    @row_action(
        gettext_lazy("Agree own terms"),
        scope=PLATFORM,
        icon="handshake",
        form=forms.TermsForm,
        explain=gettext_lazy("For this application alone; they stay when its plan changes."),
    )
    def set_terms(self, request: HttpRequest, row: MessageQuota, cleaned: dict[str, Any]) -> str:
        price, by = Money(cleaned.pop("unit_price"), billing_of(row.application).currency), _because(request, cleaned)
        plans.quota_set(application=row.application, channel_type=row.channel_type, unit_price=price, by=by, **cleaned)
        return _("The terms are agreed.")

    @row_action(
        gettext_lazy("Back to the plan's terms"),
        scope=PLATFORM,
        icon="undo",
        is_direct=True,
        is_offered=lambda quota: quota.is_own,
    )
    def reset_terms(self, request: HttpRequest, row: MessageQuota, cleaned: dict[str, Any]) -> str:
        plans.quota_reset(application=row.application, channel_type=row.channel_type, by=_by(request))
        return _("The plan's terms hold again.")


# --- Ledger --------------------------------------------------------------------------------------------------------


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("posted_at", "application", "kind", "channel_type", "quantity", "credit", "reason", "posted_by")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind")
    fields = (
        *("application", "kind", "channel_type", "quantity", "unit_price"),
        *("reason", "posted_by", "reference", "posted_at", "id"),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application").prefetch_related("entries__account")

    @admin.display(description=gettext_lazy("credit"))
    def credit(self, row: LedgerTransaction) -> str:
        moved = [entry.amount for entry in row.entries.all() if entry.account.kind == "credit"]
        return f"{plain(moved[0].amount)} {moved[0].currency}" if moved else "–"

    def panels(self, request: HttpRequest, row: LedgerTransaction) -> list[Panel]:
        entries = [
            (admin_link("billing.LedgerAccount", e.account_id, e.account), plain(e.amount.amount), e.amount.currency)
            for e in row.entries.all()
        ]
        return [table_panel(_("Entries"), (_("account"), _("amount"), _("currency")), entries)]


@admin.register(LedgerAccount)
class LedgerAccountAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("application", "kind", "channel_type", "balance", "updated_at")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind")
    fields = ("application", "kind", "channel_type", "balance", "updated_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    def panels(self, request: HttpRequest, row: LedgerAccount) -> list[Panel]:
        entries = LedgerEntry.objects.filter(account=row).select_related("transaction").order_by("-id")[:20]
        rows = [
            (admin_link("billing.LedgerTransaction", e.transaction_id, e.transaction), plain(e.amount.amount))
            for e in entries
        ]
        more = list_address("billing.LedgerEntry", account=row.pk)
        return [table_panel(_("Newest entries"), (_("transaction"), _("amount")), rows, more=more)]


@admin.register(LedgerEntry)
class LedgerEntryAdmin(ReadOnlyAdmin):
    read_scope = READ
    application_path = "account__application"
    list_display = ("transaction", "account", "amount")
    list_select_related = ("transaction", "account")
    list_filter = (
        ApplicationFilter,
        link_filter(gettext_lazy("account"), "account", lambda rows, key: rows.filter(account_id=key)),
    )
    fields = ("transaction", "account", "amount")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("transaction", "account")

    def search(self, request: HttpRequest, queryset: QuerySet[Any], term: str) -> QuerySet[Any]:
        key = as_uuid(term)
        return queryset.filter(pk=key) | queryset.filter(transaction_id=key) if key else queryset.none()


# --- Alerts --------------------------------------------------------------------------------------------------------


@admin.register(BillingAlert)
class BillingAlertAdmin(ReadOnlyAdmin):
    read_scope = READ
    list_display = ("created_at", "application", "what", "delivery")
    list_select_related = ("application",)
    list_filter = (ApplicationFilter, "kind")
    fields = (
        *("application", "what", "figures", "delivery", "emailed_at", "webhook_at"),
        *("attempts", "last_error", "due_at", "created_at", "id"),
    )
    row_actions = ("deliver_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("application")

    @admin.display(description=gettext_lazy("about"))
    def what(self, row: BillingAlert) -> str:
        return headline(row)

    @admin.display(description=gettext_lazy("figures"))
    def figures(self, row: BillingAlert) -> Any:
        return json_text(dict(facts_of(row)))

    @admin.display(description=gettext_lazy("delivery"))
    def delivery(self, row: BillingAlert) -> SafeString:
        if row.due_at is None:
            return badge("danger", _("given up")) if row.last_error else badge("success", _("delivered"))
        return badge("warning", _("failed, tried again")) if row.last_error else badge("info", _("on its way"))

    @row_action(
        gettext_lazy("Deliver again"),
        scope=WRITE,
        icon="forward_to_inbox",
        is_direct=True,
        is_offered=lambda alert: bool(alert.last_error),
    )
    def deliver_again(self, request: HttpRequest, row: BillingAlert, cleaned: dict[str, Any]) -> SafeString:
        alert_retry(alert=row)
        return format_html("{}", _("It is delivered within a minute."))
