"""Campaigns before they are launched: made, changed, deleted."""

from __future__ import annotations

from datetime import datetime, time
from typing import Any, TypedDict, Unpack
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.campaigns.audience import compiled, normalise
from apps.campaigns.experiments.planning import ExperimentPlan, plan_set, variants_check
from apps.campaigns.models import CampaignStatus, CampaignType, MessageCampaign
from apps.campaigns.moments import scheduled_moment
from apps.campaigns.services.approval import approval_withdraw_if_changed
from apps.campaigns.services.rows import EDITABLE, locked, refuse_state, save
from apps.campaigns.services.segments import lock_segments
from apps.campaigns.services.timing import TIMING, timing_set
from apps.messaging.chains.steps import Chain, chain_of, check_chain, fallback_of
from apps.messaging.content import ContentSource, content_source
from apps.messaging.models import MessageTemplate
from apps.subscriptions.targeting import Criteria
from apps.tenants.channels import ChannelType
from apps.tenants.models import Application
from apps.tenants.services import RATE_PER_MINUTE_MAX
from automata_signal.errors import ValidationFailed


class CampaignFields(TypedDict, total=False):
    """What a person may set."""

    name: str
    template_id: UUID | None
    title: str
    body: str
    data: dict[str, Any]
    options: dict[str, Any]
    variables: dict[str, Any]
    channel_type: str
    priority: str
    ttl_s: int | None
    messages_per_minute: int | None
    chain: dict[str, Any] | None
    purpose: str
    category: str
    when_over_quota: str
    targeting_criteria: Criteria
    experiment: ExperimentPlan | None
    local_time: time | None
    at_active_hours: bool


@transaction.atomic
def campaign_create(
    *, application: Application, created_by: str = "", by: str = "", **fields: Unpack[CampaignFields]
) -> MessageCampaign:
    """A draft. What is given is checked now, what is missing when it is launched.

    Raises `ValidationFailed` with the field.
    """
    campaign = MessageCampaign(application=application, created_by=created_by[:200], is_audience_chosen=False)
    timing = _timing(fields)
    _assign(campaign, fields)
    campaign._change_reason = by[:100] or None  # type: ignore[attr-defined]
    campaign.save()
    timing_set(campaign, timing)
    if "experiment" in fields:
        plan_set(campaign, fields["experiment"])
    return campaign


@transaction.atomic
def campaign_update(*, campaign: MessageCampaign, by: str = "", **fields: Unpack[CampaignFields]) -> MessageCampaign:
    """Change what is given. Raises `Conflict` once it is launched, and `ValidationFailed` with the field."""
    row = locked(campaign)
    if row.status not in EDITABLE:
        refuse_state(row, "a change", list(EDITABLE))
    timing = _timing(fields)
    timing_set(row, timing)
    _assign(row, fields)
    if "experiment" in fields:
        plan_set(row, fields["experiment"])
    if row.status == CampaignStatus.SCHEDULED:
        _refuse_unsendable(row)
    if fields or timing:  # the time of each recipient too is a change that somebody has made
        columns = ["template" if name == "template_id" else name for name in fields if name != "experiment"]
        save(row, *columns, "is_audience_chosen", by=by)
    approval_withdraw_if_changed(row)
    return row


@transaction.atomic
def campaign_plan(
    *, campaign: MessageCampaign, at: datetime | None, time_zone: str = "", by: str = ""
) -> MessageCampaign:
    """When the draft is to be launched: at once (`at` None), or at a moment as `campaign_schedule` reads it. It stays a
    draft, and nothing leaves by itself. Raises `Conflict`, and `ValidationFailed` for the time."""
    row = locked(campaign)
    if row.status != CampaignStatus.DRAFT:
        refuse_state(row, "planning", [CampaignStatus.DRAFT])
    row.scheduled_at, row.scheduled_time_zone = None, ""
    if at is not None:
        moment = scheduled_moment(at, time_zone=time_zone, default_time_zone=row.application.time_zone)
        row.scheduled_at, row.scheduled_time_zone = moment
    row.campaign_type = CampaignType.ONE_TIME if at is None else CampaignType.SCHEDULED
    save(row, "scheduled_at", "scheduled_time_zone", "campaign_type", by=by)
    approval_withdraw_if_changed(row)
    return row


@transaction.atomic
def campaign_delete(*, campaign: MessageCampaign, by: str = "") -> None:
    """Raises `Conflict` unless it is a draft: what was sent stays accounted for."""
    row = locked(campaign)
    if row.status != CampaignStatus.DRAFT:
        refuse_state(row, "deleting", [CampaignStatus.DRAFT])
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    timing_set(row, {"local_time": None, "at_active_hours": False})
    row.delete()


def _refuse_unsendable(campaign: MessageCampaign) -> None:
    if campaign.has_variants:
        variants_check(campaign, campaign_content)
    else:
        campaign_content(campaign)


def campaign_content(campaign: MessageCampaign) -> ContentSource:
    """What the campaign would send now. Raises `ValidationFailed` with the field if it cannot be sent."""
    if not _has_content(campaign):
        raise ValidationFailed.of("body", "the campaign has no content: give it a template, or a title, body or data")
    if campaign.template is not None and (campaign.title or campaign.body or campaign.data):
        raise ValidationFailed.of("template_id", "give a template, or title, body and data, but not both")
    return content_source(
        application=campaign.application,
        channel_type=campaign.channel_type,
        template=campaign.template,
        title=campaign.title,
        body=campaign.body,
        data=campaign.data,
        options=campaign.options,
        variables=campaign.variables,
        purpose=campaign.purpose,
        category=campaign.category,
    )


def campaign_chain(campaign: MessageCampaign) -> Chain | None:
    """What would follow the campaign now: its chain, or the text message of an Alimtalk's option `fallback`. Raises
    `ValidationFailed` with `chain.…`."""
    if not campaign.chain:
        has_fallback = campaign.channel_type == ChannelType.KAKAO_TALK
        return fallback_of(campaign.application, campaign_content(campaign)) if has_fallback else None
    chain = chain_of(
        campaign.chain,
        application=campaign.application,
        template=campaign.template,
        variables=campaign.variables,
        purpose=campaign.purpose,
        category=campaign.category,
    )
    check_chain(campaign.channel_type, chain)
    return chain


def _has_content(campaign: MessageCampaign) -> bool:
    return bool(campaign.template or campaign.title or campaign.body or campaign.data or campaign.options)


_PLAIN = (
    *("title", "body", "data", "options", "variables", "channel_type", "priority"),
    *("chain", "purpose", "category", "when_over_quota"),
)


def _assign(campaign: MessageCampaign, fields: CampaignFields) -> None:
    for name, value in fields.items():
        if name in _PLAIN:
            setattr(campaign, name, value)
    campaign.chain = campaign.chain or {}
    if "name" in fields:
        campaign.name = fields["name"].strip()
        if not 1 <= len(campaign.name) <= 200:
            raise ValidationFailed.of("name", "must have 1 to 200 characters")
    if "ttl_s" in fields:
        campaign.ttl_s = fields["ttl_s"]
        if not 0 <= (campaign.ttl_s or 0) <= settings.MESSAGE_TTL_MAX_S:
            raise ValidationFailed.of("ttl_s", f"must be from 0 to {settings.MESSAGE_TTL_MAX_S}")
    if "messages_per_minute" in fields:
        campaign.messages_per_minute = fields["messages_per_minute"]
        if campaign.messages_per_minute is not None and not 1 <= campaign.messages_per_minute <= RATE_PER_MINUTE_MAX:
            raise ValidationFailed.of("messages_per_minute", f"must be from 1 to {RATE_PER_MINUTE_MAX}")
    if "template_id" in fields:
        campaign.template = _template(campaign.application, fields["template_id"])
    if "targeting_criteria" in fields:
        lock_segments(campaign.application)  # a segment cannot be deleted while a reference to it is made
        compiled(campaign.application, fields["targeting_criteria"], field="targeting_criteria")
        campaign.targeting_criteria = normalise(fields["targeting_criteria"])
        campaign.is_audience_chosen = True
    if _has_content(campaign):
        campaign_content(campaign)


def _timing(fields: CampaignFields) -> dict[str, Any]:
    """What of `fields` is kept beside the campaign; taken out of them."""
    given: dict[str, Any] = fields  # type: ignore[assignment]
    return {name: given.pop(name) for name in TIMING if name in given}


def _template(application: Application, template_id: UUID | None) -> MessageTemplate | None:
    if template_id is None:
        return None
    template = MessageTemplate.objects.for_application(application).filter(pk=template_id).first()
    if template is None:
        raise ValidationFailed.of("template_id", "there is no such template")
    return template
