"""The forms of campaigns: the plain one, and those of the buttons."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.campaigns.console.words import CRITERIA_HELP
from apps.campaigns.models import MessageCampaign
from apps.messaging.models import Purpose
from apps.tenants.console.forms import JSONObjectField, JSONTextarea
from apps.tenants.console.lists import as_uuid

PURPOSES = (
    (Purpose.MARKETING.value, gettext_lazy("Advertising: only to people who agreed to it")),
    (Purpose.TRANSACTIONAL.value, gettext_lazy("Information: about an order, an account, a service")),
)


def _comment(label: Any) -> forms.CharField:
    widget = widgets.UnfoldAdminTextareaWidget({"rows": 3})
    return forms.CharField(label=label, required=False, max_length=1_000, widget=widget)


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    targeting_criteria = JSONObjectField(
        label=gettext_lazy("Audience"), help_text=CRITERIA_HELP, widget=JSONTextarea(10)
    )

    class Meta:
        model = MessageCampaign
        fields = (
            "application",
            "name",
            "channel_type",
            "template",
            "title",
            "body",
            "data",
            "options",
            "variables",
            "targeting_criteria",
            "priority",
            "ttl_s",
            "messages_per_minute",
            "purpose",
            "category",
            "when_over_quota",
        )
        help_texts = {
            "template": gettext_lazy("A template, or title, body and data below; not both."),
            "variables": gettext_lazy("For the template; a user's own property comes first."),
            "options": gettext_lazy('The channel\'s own fields, such as {"badge": 1, "collapse_key": "spring"}.'),
            "ttl_s": gettext_lazy("Seconds; the application's unless told."),
            "messages_per_minute": gettext_lazy("As fast as it goes unless told."),
            "when_over_quota": gettext_lazy(
                "Whoever is beyond the quota or the credit is failed, and the reason said."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.initial["targeting_criteria"] = ""  # nobody sends to everybody by an oversight


class NewCampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a draft begins with; the steps ask for the rest."""

    purpose = forms.ChoiceField(
        label=gettext_lazy("Purpose"), choices=PURPOSES, widget=widgets.UnfoldAdminRadioSelectWidget
    )

    class Meta:
        model = MessageCampaign
        fields = ("application", "name", "channel_type", "purpose")


class AskForm(forms.Form):
    note = _comment(gettext_lazy("A note for who approves"))


class ApproveForm(forms.Form):
    comment = _comment(gettext_lazy("Comment"))
    digest = forms.CharField(max_length=64, widget=forms.HiddenInput)
    """Of what who approves has looked at."""


class RejectForm(forms.Form):
    comment = _comment(gettext_lazy("What has to be changed"))


class LocalTimeInput(widgets.UnfoldAdminTextInputWidget):  # type: ignore[misc]
    input_type = "datetime-local"


class ScheduleForm(forms.Form):
    at = forms.CharField(label=gettext_lazy("At"), max_length=64, widget=LocalTimeInput)
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        required=False,
        max_length=64,
        widget=widgets.UnfoldAdminTextInputWidget({"placeholder": "Asia/Seoul"}),
        help_text=gettext_lazy("The application's unless told."),
    )
    confirmation = forms.CharField(
        label=gettext_lazy("Of a large audience: the number of recipients"),
        required=False,
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget,
    )


class RequeueForm(forms.Form):
    error_reason = forms.CharField(
        label=gettext_lazy("Only those of the reason"),
        required=False,
        max_length=100,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("All unless told. What was canceled, or may have arrived, goes only by its reason."),
    )


class ProbeForm(forms.Form):
    """Whom a test goes to."""

    external_ids = forms.CharField(
        label=gettext_lazy("External ids of users, one in a line"),
        required=False,
        max_length=10_000,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 4}),
    )
    subscription_ids = forms.CharField(
        label=gettext_lazy("Or ids of subscriptions, one in a line"),
        required=False,
        max_length=2_000,
        widget=widgets.UnfoldAdminTextareaWidget({"rows": 4}),
    )

    def clean_external_ids(self) -> list[str]:
        return _lines(self.cleaned_data["external_ids"])

    def clean_subscription_ids(self) -> list[UUID]:
        keys = [(line, as_uuid(line)) for line in _lines(self.cleaned_data["subscription_ids"])]
        if wrong := [line for line, key in keys if key is None]:
            raise forms.ValidationError(_("%(text)s is not an id.") % {"text": wrong[0][:60]})
        return [key for _line, key in keys if key is not None]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


class TimingForm(forms.Form):
    local_time = forms.TimeField(
        label=gettext_lazy("At this time of their clock"),
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget({"placeholder": "10:00"}),
        input_formats=["%H:%M"],
    )
    at_active_hours = forms.BooleanField(
        label=gettext_lazy("When they are usually active"), required=False, widget=widgets.UnfoldBooleanWidget
    )
