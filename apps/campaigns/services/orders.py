"""What a launch makes: the dispatch of a campaign's content, with the steps that follow it."""

from __future__ import annotations

from typing import Any

from apps.campaigns.audience import freeze
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services.drafts import campaign_chain
from apps.messaging.chains.steps import chain_create
from apps.messaging.content import ContentSource
from apps.messaging.dispatches import dispatch_create
from apps.messaging.models import Dispatch
from apps.messaging.services import ttl_of


def order_create(campaign: MessageCampaign, content: ContentSource, **more: Any) -> Dispatch:
    """The dispatch to the campaign's audience as it is now, and its chain. `more` is what a variant adds."""
    dispatch = dispatch_create(
        application=campaign.application,
        campaign_id=campaign.pk,
        channel_type=campaign.channel_type,
        priority=campaign.priority,
        content=content,
        audience=freeze(campaign.application, campaign.targeting_criteria),
        ttl_s=ttl_of(campaign.application, campaign.ttl_s),
        messages_per_minute=campaign.messages_per_minute,
        purpose=campaign.purpose,
        category=campaign.category,
        **more,
    )
    if (chain := campaign_chain(campaign)) is not None:
        chain_create(application=campaign.application, first=dispatch, chain=chain)
    return dispatch
