"""Forms of the console's pages of billing."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold import widgets

from apps.billing.models import DEFAULT_CURRENCY, Feature, Plan
from apps.billing.plans import Terms
from apps.tenants.channels import ChannelType
from automata_signal.outgoing import URL_LENGTH_MAX

LIMITS = ("applications_max", "messages_per_second", "features", "analytics_depth", "retention_days_max", "is_active")
TERMS = ("included", "daily_quota", "monthly_quota", "unit_price")


def _text() -> Any:
    return widgets.UnfoldAdminTextInputWidget()


def _reason() -> forms.CharField:
    return forms.CharField(label=_("Why"), max_length=200, widget=_text(), help_text=_("It stands in the history."))


def _quota(label: Any) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, required=False, min_value=0, widget=_text(), help_text=_("Empty: any number.")
    )


def _price(label: Any) -> forms.DecimalField:
    return forms.DecimalField(
        label=label, required=False, min_value=Decimal(0), max_digits=16, decimal_places=6, widget=_text()
    )


def channel_fields() -> dict[str, forms.Field]:
    """`push_included`, `push_daily_quota`, …: four of each channel."""
    found: dict[str, forms.Field] = {}
    for channel, label in ChannelType.choices:
        found[f"{channel}_included"] = forms.BooleanField(
            label=label, required=False, widget=widgets.UnfoldBooleanSwitchWidget()
        )
        found[f"{channel}_daily_quota"] = _quota(_("messages per day"))
        found[f"{channel}_monthly_quota"] = _quota(_("messages per month"))
        found[f"{channel}_unit_price"] = _price(_("price of a message"))
    return found


class _PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    features = forms.MultipleChoiceField(
        label=_("Features"),
        required=False,
        choices=Feature.choices,
        widget=widgets.UnfoldAdminCheckboxSelectMultipleWidget,
    )
    currency = forms.RegexField(
        r"^[A-Z]{3}$", label=_("Currency of the prices"), initial=DEFAULT_CURRENCY, widget=_text()
    )

    class Meta:
        model = Plan
        fields = ("code", "name", *LIMITS)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            return
        for row in self.instance.channels.all():
            self.initial["currency"] = str(row.unit_price.currency)
            values = (True, row.daily_quota, row.monthly_quota, row.unit_price.amount.normalize())
            for name, value in zip(TERMS, values, strict=True):
                self.initial[f"{row.channel_type}_{name}"] = f"{value:f}" if isinstance(value, Decimal) else value


PlanForm = type("PlanForm", (_PlanForm,), channel_fields())


def channels_of(cleaned: Mapping[str, Any]) -> dict[str, Terms]:
    """What the form says of the channels that are included."""
    return {
        channel: Terms(
            cleaned[f"{channel}_daily_quota"],
            cleaned[f"{channel}_monthly_quota"],
            cleaned[f"{channel}_unit_price"] or Decimal(0),
            cleaned["currency"],
        )
        for channel in ChannelType.values
        if cleaned[f"{channel}_included"]
    }


class PlanChoiceForm(forms.Form):
    plan = forms.ModelChoiceField(
        queryset=Plan.objects.filter(is_active=True), label=_("Plan"), widget=widgets.UnfoldAdminSelectWidget
    )
    reason = _reason()


class CreditLimitForm(forms.Form):
    credit_limit = forms.DecimalField(
        label=_("Credit limit"),
        required=False,
        max_digits=20,
        decimal_places=6,
        widget=_text(),
        help_text=_("How far the balance may go below zero. Empty: any distance (billed afterwards)."),
    )
    reason = _reason()


class MoneyForm(forms.Form):
    amount = forms.DecimalField(label=_("Amount"), max_digits=20, decimal_places=6, widget=_text())
    reason = forms.CharField(label=_("Why"), max_length=500, widget=_text())
    reference = forms.CharField(
        label=_("Reference"),
        required=False,
        max_length=100,
        widget=_text(),
        help_text=_("Your own number, such as of the payment: the same one moves nothing twice."),
    )


class TermsForm(forms.Form):
    daily_quota = _quota(_("Messages per day"))
    monthly_quota = _quota(_("Messages per month"))
    unit_price = forms.DecimalField(
        label=_("Price of a message"), min_value=Decimal(0), max_digits=16, decimal_places=6, widget=_text()
    )
    reason = _reason()


class WebhookForm(forms.Form):
    webhook_url = forms.CharField(
        label=_("Address"),
        required=False,
        max_length=URL_LENGTH_MAX,
        widget=_text(),
        help_text=_("https, of the public internet. Empty: none."),
    )
    rotate_secret = forms.BooleanField(
        label=_("Make a new secret"),
        required=False,
        widget=widgets.UnfoldBooleanSwitchWidget(),
        help_text=_("The first address makes one by itself. It is shown once."),
    )
