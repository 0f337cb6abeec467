"""The forms of the steps. They read a campaign, and give the services' own fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns import moments, services
from apps.campaigns.console.builder import AudienceField
from apps.campaigns.console.forms import PURPOSES
from apps.campaigns.console.schedules import Planned
from apps.campaigns.models import CampaignStatus, MessageCampaign, OverQuota, Segment
from apps.campaigns.services.timing import timing_of
from apps.messaging.models import Priority
from apps.tenants.channels import ChannelType
from apps.tenants.console.forms import JSONObjectField
from apps.tenants.services import RATE_PER_MINUTE_MAX

INPUT = {"class": "as-input"}


def _text(label: Any, *, rows: int = 0, help_text: Any = "", max_length: int = 65_536, **attrs: Any) -> forms.CharField:
    widget = forms.Textarea({**INPUT, "rows": rows, **attrs}) if rows else forms.TextInput({**INPUT, **attrs})
    return forms.CharField(
        label=label, required=False, strip=False, max_length=max_length, widget=widget, help_text=help_text
    )


def json_field(label: Any, help_text: Any = "") -> JSONObjectField:
    widget = forms.Textarea({**INPUT, "rows": 5, "spellcheck": "false", "class": "as-input as-mono"})
    return JSONObjectField(label=label, required=False, help_text=help_text, widget=widget)


def select_field(label: Any, choices: Any, **options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, choices=choices, widget=forms.Select(INPUT), **options)


# --- What it is ----------------------------------------------------------------------------------------------------


class BasicsForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=200, widget=forms.TextInput(INPUT))
    channel_type = select_field(gettext_lazy("Channel"), ChannelType.choices)
    purpose = forms.ChoiceField(label=gettext_lazy("Purpose"), choices=PURPOSES, widget=forms.RadioSelect)

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        return {name: getattr(campaign, name) for name in ("name", "channel_type", "purpose")}


# --- Who -----------------------------------------------------------------------------------------------------------


class AudienceForm(forms.Form):
    """The builder; or, by a button of its own, a saved segment as it is."""

    segment = forms.ModelChoiceField(
        Segment.objects.none(),
        label=gettext_lazy("Or a saved segment as it is"),
        required=False,
        widget=forms.Select(INPUT),
    )

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["criteria"] = AudienceField(
            label=gettext_lazy("Who gets it?"),
            application_id=campaign.application_id,
            channel_type=campaign.channel_type,
        )
        segments = Segment.objects.for_application(campaign.application).order_by("name")
        self.fields["segment"].queryset = segments  # type: ignore[attr-defined]
        self.takes_segment = self.data.get("go") == "segment"
        if self.takes_segment:
            self.fields["criteria"].required = False
            self.fields["segment"].required = True

    @property
    def criteria(self) -> dict[str, Any]:
        """After `is_valid`."""
        if self.takes_segment:
            return {"segment": str(self.cleaned_data["segment"].pk)}
        return dict(self.cleaned_data["criteria"])

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        return {"criteria": campaign.targeting_criteria if campaign.is_audience_chosen else ""}


# --- When ----------------------------------------------------------------------------------------------------------

TTL_CHOICES = (
    (3_600, gettext_lazy("1 hour")),
    (6 * 3_600, gettext_lazy("6 hours")),
    (12 * 3_600, gettext_lazy("12 hours")),
    (86_400, gettext_lazy("1 day")),
    (3 * 86_400, gettext_lazy("3 days")),
    (7 * 86_400, gettext_lazy("7 days")),
    (28 * 86_400, gettext_lazy("28 days")),
)


class ScheduleForm(forms.Form):
    when = forms.ChoiceField(
        label=gettext_lazy("When does it start?"),
        choices=(
            ("now", gettext_lazy("As soon as it is launched")),
            ("at", gettext_lazy("At a date and time")),
        ),
        widget=forms.RadioSelect,
    )
    planned_at = forms.CharField(
        label=gettext_lazy("Date and time"),
        required=False,
        max_length=64,
        widget=forms.TextInput({**INPUT, "type": "datetime-local"}),
    )
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        required=False,
        max_length=64,
        widget=forms.TextInput({**INPUT, "list": "time-zones", "autocomplete": "off"}),
    )
    clock = forms.ChoiceField(
        label=gettext_lazy("When does each person get it?"),
        choices=(
            ("at_once", gettext_lazy("All at once")),
            ("local", gettext_lazy("At the same time of their own clock")),
            ("active", gettext_lazy("When they are usually active")),
        ),
        widget=forms.RadioSelect,
    )
    local_time = forms.TimeField(
        label=gettext_lazy("Time of their clock"),
        required=False,
        input_formats=["%H:%M", "%H:%M:%S"],
        widget=forms.TimeInput({**INPUT, "type": "time"}, format="%H:%M"),
    )
    messages_per_minute = forms.IntegerField(
        label=gettext_lazy("At most so many messages a minute"),
        required=False,
        min_value=1,
        max_value=RATE_PER_MINUTE_MAX,
        widget=forms.NumberInput(INPUT),
        help_text=gettext_lazy("Empty: as fast as it goes."),
    )
    ttl_s = forms.TypedChoiceField(
        label=gettext_lazy("Worth delivering for"),
        required=False,
        coerce=int,
        empty_value=None,
        widget=forms.Select(INPUT),
        help_text=gettext_lazy("A phone that is off for longer does not get it any more."),
    )
    priority = select_field(gettext_lazy("Priority"), Priority.choices)
    when_over_quota = select_field(gettext_lazy("If quota or credit does not suffice"), OverQuota.choices)

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaign = campaign
        choices: list[tuple[Any, Any]] = [("", _("as the application says")), *TTL_CHOICES]
        if campaign.ttl_s is not None and campaign.ttl_s not in dict(TTL_CHOICES):
            choices.append((campaign.ttl_s, _("%(seconds)s seconds") % {"seconds": campaign.ttl_s}))
        self.fields["ttl_s"].choices = choices  # type: ignore[attr-defined]
        self.is_draft = campaign.status == CampaignStatus.DRAFT
        if not self.is_draft:
            for name in ("when", "planned_at", "time_zone"):
                del self.fields[name]

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        local_time, at_active_hours = timing_of(campaign)
        zone = campaign.scheduled_time_zone or campaign.application.time_zone
        planned = campaign.scheduled_at
        return {
            "when": "at" if planned else "now",
            "planned_at": f"{planned.astimezone(_zone(zone)):%Y-%m-%dT%H:%M}" if planned else "",
            "time_zone": zone,
            "clock": "active" if at_active_hours else "local" if local_time else "at_once",
            "local_time": local_time,
            **{name: getattr(campaign, name) for name in _HOW},
        }

    @staticmethod
    def fields_of(campaign: MessageCampaign) -> dict[str, Any]:
        local_time, at_active_hours = timing_of(campaign)
        return {
            **{name: getattr(campaign, name) for name in _HOW},
            "local_time": local_time,
            "at_active_hours": at_active_hours,
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("when") == "at" and not cleaned.get("planned_at"):
            self.add_error("planned_at", _("Choose a date and a time."))
        if cleaned.get("clock") == "local" and cleaned.get("local_time") is None and "local_time" not in self.errors:
            self.add_error("local_time", _("Choose a time."))
        return cleaned

    def planned(self) -> datetime | None:
        """The moment as it was typed: without a zone, which stands beside it. Raises `ValidationFailed` with `at`."""
        if self.cleaned_data.get("when") != "at":
            return None
        return moments.parsed(self.cleaned_data["planned_at"])

    def plan(self, *, by: str) -> MessageCampaign:
        """Write the time of the start, if it is another. Raises as `campaign_plan`."""
        if not self.is_draft:
            return self.campaign
        now = self.initial_of(self.campaign)
        given = self.cleaned_data
        same = all(now[name] == given.get(name) for name in ("when", "planned_at", "time_zone"))
        if same or (given["when"] == "now" and now["when"] == "now"):
            return self.campaign
        return services.campaign_plan(
            campaign=self.campaign, at=self.planned(), time_zone=given.get("time_zone", "").strip(), by=by
        )

    def as_planned(self) -> Planned:
        """What is typed, not saved. Raises `ValidationFailed` for the time."""
        given, now = self.cleaned_data, Planned.of(self.campaign)
        at, zone = now.at, now.zone
        if self.is_draft:
            typed, zone = self.planned(), given.get("time_zone", "").strip()
            at = None
            if typed is not None:
                at, zone = moments.scheduled_moment(
                    typed, time_zone=zone, default_time_zone=self.campaign.application.time_zone
                )
        fields = self.service_fields()
        return Planned(at, zone, *(fields[name] for name in Planned._fields[2:]))

    def service_fields(self) -> dict[str, Any]:
        given = self.cleaned_data
        return {
            **{name: given[name] for name in _HOW},
            "local_time": given["local_time"] if given["clock"] != "at_once" else None,
            "at_active_hours": given["clock"] == "active",
        }


_HOW = ("messages_per_minute", "ttl_s", "priority", "when_over_quota")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo(settings.TIME_ZONE)


def zone_names() -> list[str]:
    """For the list that the field offers."""
    return sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
