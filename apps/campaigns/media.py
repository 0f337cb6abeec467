"""Media files that campaigns still to be sent name: they are not deleted before."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from apps.campaigns.models import CampaignStatus, MessageCampaign, Variant
from apps.messaging.media.uses import named_in

_OVER = (CampaignStatus.COMPLETED, CampaignStatus.CANCELED, CampaignStatus.FAILED)


def used_by_campaigns(application_id: UUID, ids: Collection[UUID]) -> set[UUID]:
    """Those of `ids` that a campaign names which is not over."""
    used: set[UUID] = set()
    rows = MessageCampaign.objects.filter(application_id=application_id).exclude(status__in=_OVER)
    for row in rows.values_list("title", "body", "data", "options", "variables").iterator(200):
        used |= named_in(ids, *row)
    variants = Variant.objects.filter(experiment__campaign__in=rows)
    for words in variants.values_list("title", "body", "data", "options").iterator(200):
        used |= named_in(ids, *words)
    return used
