"""The forms of the steps. They read a campaign, and give the services' own fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.conf import settings
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns import moments, services
from apps.campaigns.console.forms import PURPOSES
from apps.campaigns.console.schedules import Planned
from apps.campaigns.models import CampaignStatus, MessageCampaign, OverQuota, Segment
from apps.campaigns.services.timing import timing_of
from apps.messaging.chains.steps import REACHED, STEPS_MAX, WAIT_S_MAX
from apps.messaging.models import FollowOn, MessageStatus, MessageTemplate, Priority
from apps.subscriptions.models import MessageCategory
from apps.tenants.channels import ChannelType
from apps.tenants.console.forms import JSONObjectField
from apps.tenants.services import RATE_PER_MINUTE_MAX

INPUT = {"class": "as-input"}
SEGMENTS_SHOWN = TEMPLATES_SHOWN = 500


def _text(label: Any, *, rows: int = 0, help_text: Any = "", max_length: int = 65_536, **attrs: Any) -> forms.CharField:
    widget = forms.Textarea({**INPUT, "rows": rows, **attrs}) if rows else forms.TextInput({**INPUT, **attrs})
    return forms.CharField(
        label=label, required=False, strip=False, max_length=max_length, widget=widget, help_text=help_text
    )


def _json(label: Any, help_text: Any = "") -> JSONObjectField:
    widget = forms.Textarea({**INPUT, "rows": 5, "spellcheck": "false", "class": "as-input as-mono"})
    return JSONObjectField(label=label, required=False, help_text=help_text, widget=widget)


def _select(label: Any, choices: Any, **options: Any) -> forms.ChoiceField:
    return forms.ChoiceField(label=label, choices=choices, widget=forms.Select(INPUT), **options)


# --- What it is ----------------------------------------------------------------------------------------------------


class BasicsForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=200, widget=forms.TextInput(INPUT))
    channel_type = _select(gettext_lazy("Channel"), ChannelType.choices)
    purpose = forms.ChoiceField(label=gettext_lazy("Purpose"), choices=PURPOSES, widget=forms.RadioSelect)

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        return {name: getattr(campaign, name) for name in ("name", "channel_type", "purpose")}


# --- Who -----------------------------------------------------------------------------------------------------------


class AudienceForm(forms.Form):
    whom = forms.ChoiceField(
        label=gettext_lazy("Who gets it?"),
        choices=(
            ("conditions", gettext_lazy("People who meet conditions")),
            ("segment", gettext_lazy("A saved segment")),
            ("everybody", gettext_lazy("Everybody who can be reached")),
        ),
        widget=forms.RadioSelect,
        error_messages={"required": gettext_lazy("Choose who gets it: nobody sends to everybody by an oversight.")},
    )
    segment = forms.ModelChoiceField(
        Segment.objects.none(), label=gettext_lazy("Segment"), required=False, widget=forms.Select(INPUT)
    )

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        segments = Segment.objects.for_application(campaign.application).order_by("name")
        self.fields["segment"].queryset = segments[:SEGMENTS_SHOWN] if not self.is_bound else segments  # type: ignore[attr-defined]
        self.fields["criteria"] = _json(gettext_lazy("Conditions"))
        self.criteria: dict[str, Any] = {}

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        """What is saved, as the form asks for it."""
        criteria = campaign.targeting_criteria
        if not campaign.is_audience_chosen:
            return {"whom": "", "criteria": {}}
        if not criteria:
            return {"whom": "everybody", "criteria": {}}
        if list(criteria) == ["segment"]:
            return {"whom": "segment", "segment": criteria["segment"], "criteria": {}}
        return {"whom": "conditions", "criteria": criteria}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        whom = cleaned.get("whom")
        if whom == "segment":
            if cleaned.get("segment") is None and "segment" not in self.errors:
                self.add_error("segment", _("Choose a segment."))
            elif cleaned.get("segment") is not None:
                self.criteria = {"segment": str(cleaned["segment"].pk)}
        elif whom == "conditions" and "criteria" not in self.errors:
            self.criteria = cleaned.get("criteria") or {}
            if not self.criteria:
                self.add_error("criteria", _("Add a condition, or choose everybody."))
        if whom != "conditions":
            self.errors.pop("criteria", None)
        return cleaned


# --- What ----------------------------------------------------------------------------------------------------------

CHAIN_ROWS = STEPS_MAX - 1
_CONTENT = ("title", "body", "data", "options", "variables")
FOLLOW_ON = (
    (FollowOn.NO_RECEIPT.value, gettext_lazy("when no receipt has come in time")),
    (FollowOn.FAILURE.value, gettext_lazy("only when it has failed")),
)
FOLLOW_UNTIL = (
    (MessageStatus.RECEIVED.value, gettext_lazy("it was received")),
    (MessageStatus.CONVERTED.value, gettext_lazy("it was opened")),
)


class ContentForm(forms.Form):
    source = forms.ChoiceField(
        label=gettext_lazy("Where the words come from"),
        choices=(("own", gettext_lazy("Own words")), ("template", gettext_lazy("A template"))),
        widget=forms.RadioSelect,
    )
    template = forms.ModelChoiceField(
        MessageTemplate.objects.none(), label=gettext_lazy("Template"), required=False, widget=forms.Select(INPUT)
    )
    title = _text(gettext_lazy("Title"), max_length=10_000)
    body = _text(gettext_lazy("Text"), rows=6)
    category = forms.ChoiceField(
        label=gettext_lazy("Category"),
        required=False,
        widget=forms.Select(INPUT),
        help_text=gettext_lazy("People who have refused this category do not get it."),
    )
    data = _json(gettext_lazy("Data for the app"))
    options = _json(gettext_lazy("Options of the channel"))
    variables = _json(gettext_lazy("Values for the template"), gettext_lazy("A user's own property comes first."))
    chain_on = _select(gettext_lazy("Go on"), FOLLOW_ON, required=False)
    chain_until = _select(gettext_lazy("Until"), FOLLOW_UNTIL, required=False)
    chain_wait = forms.IntegerField(
        label=gettext_lazy("Minutes to wait before the first next channel"),
        required=False,
        min_value=1,
        max_value=WAIT_S_MAX // 60,
        widget=forms.NumberInput(INPUT),
    )

    def __init__(self, *args: Any, campaign: MessageCampaign, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaign = campaign
        templates = MessageTemplate.objects.for_application(campaign.application)
        self.fields["template"].queryset = templates.order_by("name")  # type: ignore[attr-defined]
        self.fields["category"].choices = _categories(campaign)  # type: ignore[attr-defined]
        channels = [("", "–"), *((v, l) for v, l in ChannelType.choices if v != campaign.channel_type)]
        for row in range(CHAIN_ROWS):
            self.fields[f"chain_{row}_channel"] = _select(gettext_lazy("Next channel"), channels, required=False)
            self.fields[f"chain_{row}_title"] = _text(gettext_lazy("Title"), max_length=10_000)
            self.fields[f"chain_{row}_body"] = _text(gettext_lazy("Text"), rows=3)
            self.fields[f"chain_{row}_wait"] = forms.IntegerField(
                label=gettext_lazy("Minutes to wait before the channel after it"),
                required=False,
                min_value=1,
                max_value=WAIT_S_MAX // 60,
                widget=forms.NumberInput(INPUT),
            )

    @staticmethod
    def initial_of(campaign: MessageCampaign) -> dict[str, Any]:
        chain = campaign.chain or {}
        initial: dict[str, Any] = {
            "source": "template" if campaign.template_id else "own",
            "template": campaign.template_id,
            "category": campaign.category,
            **{name: getattr(campaign, name) for name in _CONTENT},
            "chain_on": chain.get("on", FollowOn.NO_RECEIPT),
            "chain_until": chain.get("until", MessageStatus.RECEIVED),
            "chain_wait": _minutes(chain.get("wait_s")) or 60,
        }
        for row, step in enumerate(chain.get("steps", ())[:CHAIN_ROWS]):
            initial[f"chain_{row}_channel"] = step.get("channel_type", "")
            initial[f"chain_{row}_title"] = step.get("title", "")
            initial[f"chain_{row}_body"] = step.get("body", "")
            initial[f"chain_{row}_wait"] = _minutes(step.get("wait_s"))
        return initial

    @staticmethod
    def fields_of(campaign: MessageCampaign) -> dict[str, Any]:
        """As the services name what the step writes."""
        return {
            **{name: getattr(campaign, name) for name in _CONTENT},
            "template_id": campaign.template_id,
            "category": campaign.category,
            "chain": campaign.chain or {},
        }

    def service_fields(self) -> dict[str, Any]:
        given = self.cleaned_data
        is_template = given["source"] == "template"
        fields: dict[str, Any] = {
            "template_id": given["template"].pk if is_template and given["template"] else None,
            "title": "" if is_template else given["title"],
            "body": "" if is_template else given["body"],
            "data": {} if is_template else given["data"],
            "options": given["options"],
            "variables": given["variables"],
            "category": given["category"],
            "chain": self._chain(),
        }
        return fields

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("source") == "template" and cleaned.get("template") is None and "template" not in self.errors:
            self.add_error("template", _("Choose a template."))
        return cleaned

    def _chain(self) -> dict[str, Any]:
        given = self.cleaned_data
        known = (self.campaign.chain or {}).get("steps", ())
        steps: list[dict[str, Any]] = []
        for row in range(CHAIN_ROWS):
            channel = given.get(f"chain_{row}_channel")
            if not channel:
                continue
            kept = known[row] if row < len(known) and known[row].get("channel_type") == channel else {}
            step = {name: kept[name] for name in ("data", "options") if kept.get(name)}
            step |= {"channel_type": channel}
            step |= {name: given[f"chain_{row}_{name}"] for name in ("title", "body") if given[f"chain_{row}_{name}"]}
            if given.get(f"chain_{row}_wait"):
                step["wait_s"] = _seconds(given[f"chain_{row}_wait"], kept.get("wait_s"))
            steps.append(step)
        if not steps:
            return {}
        for step in steps[:-1]:
            step.setdefault("wait_s", 3_600)
        wait_s = _seconds(given.get("chain_wait") or 60, (self.campaign.chain or {}).get("wait_s"))
        until = given.get("chain_until")
        return {
            "wait_s": wait_s,
            "on": given.get("chain_on") or FollowOn.NO_RECEIPT.value,
            "until": until if until in REACHED else MessageStatus.RECEIVED.value,
            "steps": steps,
        }

    def chain_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the chain, the used ones and one more."""
        used = 0
        for row in range(CHAIN_ROWS):
            fields = {name: self[f"chain_{row}_{name}"] for name in ("channel", "title", "body", "wait")}
            is_used = bool(fields["channel"].value())
            if not is_used and used < row:
                return
            used += is_used
            yield {"number": row + 2, "is_used": is_used, **fields}


def _minutes(seconds: int | None) -> int | None:
    return None if seconds is None else max(1, round(seconds / 60))


def _seconds(minutes: int, kept: int | None) -> int:
    """What was stored to the second stays so while its minutes are not touched."""
    return kept if kept is not None and _minutes(kept) == minutes else minutes * 60


def _categories(campaign: MessageCampaign) -> list[tuple[str, str]]:
    rows = MessageCategory.objects.filter(application_id=campaign.application_id, is_archived=False).order_by(
        "position", "slug"
    )
    found = [(row.slug, row.name_in(get_language() or "en")) for row in rows[:200]]
    if campaign.category and campaign.category not in dict(found):
        found.append((campaign.category, campaign.category))
    return [("", _("none")), *found]


def chain_given(campaign: MessageCampaign) -> list[Mapping[str, Any]]:
    return list((campaign.chain or {}).get("steps", ()))


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
    priority = _select(gettext_lazy("Priority"), Priority.choices)
    when_over_quota = _select(gettext_lazy("If quota or credit does not suffice"), OverQuota.choices)

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
