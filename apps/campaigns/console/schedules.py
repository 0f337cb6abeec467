"""When a campaign goes out, in words."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any, NamedTuple

from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.campaigns.models import MessageCampaign
from apps.campaigns.services.timing import timing_of
from apps.messaging.courtesy.rules import rules_of
from apps.messaging.courtesy.waiting import NIGHT_BEGINS, NIGHT_ENDS
from apps.messaging.courtesy.zones import next_time, zone_named
from apps.messaging.services import ttl_of
from apps.tenants.console.formats import number

PLACES = ("Asia/Seoul", "America/New_York", "Europe/London")
"""Where people are asked of, beside the application's own zone."""


class Planned(NamedTuple):
    """What the step says, whether saved or only typed."""

    at: datetime | None
    zone: str
    local_time: time | None
    at_active_hours: bool
    messages_per_minute: int | None
    ttl_s: int | None
    priority: str

    @classmethod
    def of(cls, campaign: MessageCampaign) -> Planned:
        local_time, at_active_hours = timing_of(campaign)
        return cls(
            campaign.scheduled_at,
            campaign.scheduled_time_zone,
            local_time,
            at_active_hours,
            campaign.messages_per_minute,
            campaign.ttl_s,
            campaign.priority,
        )


def local_text(at: datetime, zone_name: str, default: str) -> str:
    """The moment by the clock of its zone, with the zone's name."""
    zone = zone_named(zone_name) or zone_named(default)
    shown = formats.date_format(timezone.localtime(at, zone), "DATETIME_FORMAT")
    return _("%(moment)s, %(zone)s") % {"moment": shown, "zone": zone.key if zone else "UTC"}


def schedule_in_words(campaign: MessageCampaign) -> str:
    """When it starts and when each person gets it, in one line."""
    start = _("As soon as it is launched")
    if campaign.scheduled_at is not None:
        start = local_text(campaign.scheduled_at, campaign.scheduled_time_zone, campaign.application.time_zone)
    local_time, at_active_hours = timing_of(campaign)
    if at_active_hours:
        return _("%(start)s, when each is usually active") % {"start": start}
    if local_time is not None:
        return _("%(start)s, at %(time)s of each clock") % {"start": start, "time": f"{local_time:%H:%M}"}
    return start


def schedule_words(campaign: MessageCampaign, planned: Planned) -> dict[str, Any]:
    """The lines and the moments of some places, for the template."""
    return {"lines": list(_lines(campaign, planned)), "moments": _moments(campaign, planned)}


def _lines(campaign: MessageCampaign, planned: Planned) -> list[dict[str, str]]:
    application = campaign.application
    lines = []

    def say(icon: str, text: str) -> None:
        lines.append({"icon": icon, "text": text})

    if planned.at is None:
        say("rocket_launch", _("It starts as soon as somebody launches it."))
    else:
        text = local_text(planned.at, planned.zone, application.time_zone)
        say("event", _("It starts at %(moment)s.") % {"moment": text})
    if planned.at_active_hours:
        say("person_play", _("Each person gets it at the hour at which they usually open messages, within a day."))
    elif planned.local_time is not None:
        text = f"{planned.local_time:%H:%M}"
        say(
            "public",
            _("Each person gets it when their own clock shows %(time)s, the first time after that.") % {"time": text},
        )
    else:
        say("bolt", _("Everybody gets it at once, as fast as it goes."))
    if planned.messages_per_minute:
        say(
            "speed", _("At most %(count)s messages leave in a minute.") % {"count": number(planned.messages_per_minute)}
        )
    rules = rules_of(application.pk)
    quiet = rules.quiet_for(channel=campaign.channel_type, purpose=campaign.purpose, priority=planned.priority)
    if quiet is not None:
        times = {"begins": f"{quiet.begins:%H:%M}", "ends": f"{quiet.ends:%H:%M}"}
        say("bedtime", _("In the quiet hours, %(begins)s to %(ends)s of their clock, it waits.") % times)
    if rules.has_night(channel=campaign.channel_type, purpose=campaign.purpose):
        times = {"begins": f"{NIGHT_BEGINS:%H:%M}", "ends": f"{NIGHT_ENDS:%H:%M}"}
        text = _("From %(begins)s to %(ends)s in Korea advertising waits for everybody without consent for the night.")
        say("gavel", text % times)
    say(
        "hourglass_bottom",
        _("Who is not reached within %(time)s does not get it any more.")
        % {"time": duration_text(ttl_of(application, planned.ttl_s))},
    )
    return lines


def _moments(campaign: MessageCampaign, planned: Planned) -> list[dict[str, str]]:
    """When people of some places get it, where each has it by their own clock."""
    if planned.local_time is None or planned.at_active_hours:
        return []
    start = planned.at or timezone.now()
    found = []
    for name in dict.fromkeys((campaign.application.time_zone, *PLACES)):
        if (zone := zone_named(name)) is not None:
            at = next_time(start, planned.local_time, zone).astimezone(zone)
            found.append({"zone": name, "shown": formats.date_format(at, "DATETIME_FORMAT")})
    return found


def duration_text(seconds: float) -> str:
    """`45 seconds`, `3 hours`, `2 days`: the largest unit that is whole enough to be said."""
    for size, words in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= size:
            count = round(seconds / size)
            return _counted(count, words)
    return _counted(round(seconds), "seconds")


def _counted(count: int, unit: str) -> str:
    if unit == "days":
        text = ngettext("%(count)s day", "%(count)s days", count)
    elif unit == "hours":
        text = ngettext("%(count)s hour", "%(count)s hours", count)
    elif unit == "minutes":
        text = ngettext("%(count)s minute", "%(count)s minutes", count)
    else:
        text = ngettext("%(count)s second", "%(count)s seconds", count)
    return text % {"count": number(count)}
