"""The form of what a user wants: advertising by channel, by night, and each category."""

from __future__ import annotations

from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from apps.subscriptions.models import AppUser
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_of, preferences_set
from apps.subscriptions.preferences.models import ConsentSource
from apps.subscriptions.preferences.subjects import Subject
from apps.tenants.channels import ChannelType

NAMES = dict(ChannelType.choices)


def choices_context(user: AppUser, *, language: str) -> dict[str, Any]:
    """A row for each channel, a column for each category."""
    found = preferences_of(Subject.of_user(user))
    categories = [
        {**one, "name": (one["name_ko"] if language == "ko" else "") or one["name_en"]} for one in found["categories"]
    ]
    rows = [
        {
            "channel": channel,
            "label": NAMES[channel],
            "marketing": answer["marketing"],
            "categories": [
                {
                    "slug": one["slug"],
                    "name": one["name"],
                    "may_opt_out": one["may_opt_out"],
                    "is_wanted": answer["categories"][one["slug"]]["opted_in"],
                }
                for one in categories
            ],
        }
        for channel, answer in found["channels"].items()
    ]
    return {"rows": rows, "categories": categories}


def choices_save(user: AppUser, data: QueryDict) -> list[str]:
    """Write what is otherwise than it was shown; answers with what changed. Raises
    `ValidationFailed`."""
    before = preferences_of(Subject.of_user(user))
    evidence = data.get("evidence", "").strip()
    marketing: dict[str, MarketingChoice] = {}
    categories: dict[str, dict[str, bool]] = {}
    for channel, answer in before["channels"].items():
        given, night = f"{channel}.marketing" in data, f"{channel}.night" in data
        was_given, was_night = answer["marketing"]["given"], answer["marketing"]["night"]
        if given != was_given or (night != was_night and given):
            marketing[channel] = MarketingChoice(
                given=given if given != was_given else None,
                night=(night if night != was_night else None) if given else None,
                evidence=evidence if given else "",
            )
        for slug, one in answer["categories"].items():
            wanted = f"{channel}.category.{slug}" in data
            may_opt_out = next(c["may_opt_out"] for c in before["categories"] if c["slug"] == slug)
            if may_opt_out and wanted != one["opted_in"]:
                categories.setdefault(channel, {})[slug] = wanted
    events = preferences_set(
        subject=Subject.of_user(user), choices=Choices(marketing, categories), source=ConsentSource.OPERATOR
    )
    return [
        _("%(what)s (%(channel)s)") % {"what": e.get_event_type_display(), "channel": NAMES[e.channel]} for e in events
    ]
