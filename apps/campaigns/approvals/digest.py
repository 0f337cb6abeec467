"""What exactly somebody approves: one digest over content, audience and schedule."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from apps.campaigns.approvals.models import CampaignApproval
from apps.campaigns.audience import compiled, freeze
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services.timing import timing_of
from automata_signal.errors import SignalError

Part = Callable[[MessageCampaign], Any]
_parts: dict[str, Part] = {}

AS_PLANNED: Final = object()
"""The moment that stands on the campaign."""

_COLUMNS = (
    *("title", "body", "data", "options", "variables", "channel_type", "purpose", "category"),
    *("chain", "priority", "ttl_s", "messages_per_minute", "when_over_quota"),
)


def register_part(name: str, part: Part) -> None:
    """Have `part` (campaign → what JSON can say) count as what is approved too, such as the variants of a test."""
    _parts[name] = part


def approval_digest(campaign: MessageCampaign, *, at: datetime | object | None = AS_PLANNED) -> str:
    """Of the campaign as it stands, to be launched `at` a moment (None: at once).

    Segments count with their conditions and a template with its version: who edits one edits what is sent. Raises
    `ValidationFailed` for an audience that has no meaning.
    """
    moment = campaign.scheduled_at if at is AS_PLANNED else at
    compiled(campaign.application, campaign.targeting_criteria, field="targeting_criteria")
    local_time, at_active_hours = timing_of(campaign)
    whole = {
        **{name: getattr(campaign, name) for name in _COLUMNS},
        "template": [str(campaign.template_id), campaign.template.version] if campaign.template else None,
        "audience": freeze(campaign.application, campaign.targeting_criteria),
        "local_time": str(local_time),
        "at_active_hours": at_active_hours,
        "at": moment.astimezone(UTC).isoformat() if isinstance(moment, datetime) else None,
        **{f"part.{name}": part(campaign) for name, part in sorted(_parts.items())},
    }
    text = json.dumps(whole, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def approval_holds(approval: CampaignApproval, campaign: MessageCampaign) -> bool:
    """Whether it is of the campaign as it stands now; not of one whose audience has no meaning any more."""
    try:
        return approval.digest == approval_digest(campaign)
    except SignalError:
        return False
