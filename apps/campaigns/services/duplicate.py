"""A campaign once more, as a new draft."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction
from django.utils.translation import gettext as _

from apps.campaigns.models import MessageCampaign
from apps.campaigns.services.timing import timing_of, timing_set

Copier = Callable[[MessageCampaign, MessageCampaign], None]
_copiers: list[Copier] = []

COPIED = (
    *("template", "title", "body", "data", "options", "variables", "channel_type", "priority", "ttl_s"),
    *("messages_per_minute", "chain", "purpose", "category", "when_over_quota", "targeting_criteria"),
    "is_audience_chosen",
)


def register_copier(copier: Copier) -> None:
    """Have `copier` (original, copy) take along what hangs on a campaign, in the same transaction."""
    if copier not in _copiers:
        _copiers.append(copier)


@transaction.atomic
def campaign_duplicate(
    *, campaign: MessageCampaign, name: str = "", created_by: str = "", by: str = ""
) -> MessageCampaign:
    """A draft with the content, the audience and the way of sending of `campaign`, in any state of it; without its
    schedule, its approval and its figures.

    Nothing is checked but the name: what was right then may not be now, and the check page says so.
    """
    named = name.strip() or _("%(name)s (copy)") % {"name": campaign.name[:180]}
    copy = MessageCampaign(application=campaign.application, name=named[:200], created_by=created_by[:200])
    for field in COPIED:
        setattr(copy, field, getattr(campaign, field))
    copy._change_reason = by[:100] or None  # type: ignore[attr-defined]
    copy.save()
    local_time, at_active_hours = timing_of(campaign)
    if local_time is not None or at_active_hours:
        timing_set(copy, {"local_time": local_time, "at_active_hours": at_active_hours})
    for copier in _copiers:
        copier(campaign, copy)
    return copy
