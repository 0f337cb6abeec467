"""Routes for approvals, and for a campaign once more."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.campaigns import moments, selectors, services
from apps.campaigns.api import CampaignOutput, represent_campaign
from apps.campaigns.approvals.digest import approval_holds
from apps.campaigns.approvals.models import ApprovalState, CampaignApproval
from apps.campaigns.approvals.selectors import approval_last
from apps.campaigns.models import MessageCampaign
from apps.tenants.models import Operator
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, validated
from automata_signal.errors import Forbidden, NotFound


class ApprovalOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(ApprovalState.choices)
    holds = serializers.BooleanField(help_text="Whether it is of the campaign as it stands now.")
    recipients = serializers.IntegerField(allow_null=True, help_text="As counted when it was asked for.")
    asked_by = serializers.CharField()
    asked_at = serializers.DateTimeField()
    note = serializers.CharField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)
    comment = serializers.CharField(help_text="Of who decided; of a withdrawn one, why.")


class ApprovalInput(StrictSerializer):
    note = serializers.CharField(max_length=1_000, allow_blank=True, required=False, help_text="For who approves.")
    at = serializers.CharField(
        max_length=64,
        required=False,
        allow_null=True,
        help_text="When it is to be scheduled, as `POST …/schedule` takes it: the approval is of that time. Null: now.",
    )
    time_zone = serializers.CharField(max_length=64, required=False)


class ApproveInput(StrictSerializer):
    comment = serializers.CharField(max_length=1_000, allow_blank=True, required=False)


class RejectInput(StrictSerializer):
    comment = serializers.CharField(max_length=1_000, help_text="What has to be changed.")


class DuplicateInput(StrictSerializer):
    name = serializers.CharField(max_length=200, required=False, help_text="The old one and “(copy)” unless told.")


def represent_approval(approval: CampaignApproval, campaign: MessageCampaign) -> dict[str, Any]:
    represented = ApprovalOutput().to_representation(_WithHolds(approval, campaign))
    return dict(represented)


class _WithHolds:
    def __init__(self, approval: CampaignApproval, campaign: MessageCampaign) -> None:
        self._approval = approval
        self.holds = approval_holds(approval, campaign)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._approval, name)


class OneCampaign(SignalView):
    """A view of one campaign of the caller's application."""

    def _campaign(self, campaign_id: UUID) -> MessageCampaign:
        return selectors.campaign_get(application=self.application, campaign_id=campaign_id)

    def _operator(self) -> Operator:
        """Raises `Forbidden` (OPERATOR_NEEDED) for an API key: a second person approves, not a program."""
        if self.caller.operator is None:
            raise Forbidden("Only a person can approve: sign in as an operator.", code="OPERATOR_NEEDED")
        return self.caller.operator


class ApprovalView(OneCampaign):
    scopes: ClassVar = {"GET": "campaigns:read", "POST": "campaigns:write"}

    @extend_schema(operation_id="campaigns_approval_read", tags=["campaigns"], responses=ApprovalOutput)
    def get(self, request: Request, campaign_id: UUID) -> Response:
        """The last approval that was asked for; 404 if none was."""
        campaign = self._campaign(campaign_id)
        approval = approval_last(campaign)
        if approval is None:
            raise NotFound("Nobody has asked for an approval of this campaign.")
        return Response(represent_approval(approval, campaign))

    @extend_schema(
        operation_id="campaigns_approval_ask",
        tags=["campaigns"],
        request=ApprovalInput,
        responses={201: ApprovalOutput},
    )
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Ask that somebody else approves the launch as it stands now; whoever may is told by e-mail. Any later change
        withdraws it. 409 `APPROVAL_ASKED` if it is asked for already, or given."""
        campaign = self._campaign(campaign_id)
        given = validated(ApprovalInput, request.data)
        with transaction.atomic():  # a time that nobody is asked about is not planned either
            if "at" in given and campaign.status == "draft":
                at = moments.parsed(given["at"]) if given["at"] else None
                zone = given.get("time_zone", "")
                campaign = services.campaign_plan(campaign=campaign, at=at, time_zone=zone, by=self.caller.label)
            asked = services.approval_ask(
                campaign=campaign,
                asked_by=self.caller.label,
                operator=self.caller.operator,
                note=given.get("note", ""),
            )
        return Response(represent_approval(asked, campaign), status=status.HTTP_201_CREATED)


class ApproveView(OneCampaign):
    scopes: ClassVar = {"POST": "campaigns:approve"}

    @extend_schema(operation_id="campaigns_approve", tags=["campaigns"], request=ApproveInput, responses=ApprovalOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Approve the launch exactly as it stands now. Of operators only, and of nobody who made, changed or asked for
        the campaign (403 `APPROVAL_OWN`). 409 `APPROVAL_NOT_ASKED` or `APPROVAL_OUTDATED`."""
        campaign = self._campaign(campaign_id)
        given = validated(ApproveInput, request.data)
        operator = self._operator()
        approval = services.approval_approve(campaign=campaign, operator=operator, **given)
        return Response(represent_approval(approval, campaign))


class RejectView(OneCampaign):
    scopes: ClassVar = {"POST": "campaigns:approve"}

    @extend_schema(operation_id="campaigns_reject", tags=["campaigns"], request=RejectInput, responses=ApprovalOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Reject it and say why; also what was approved and is not launched yet. As `approve`."""
        campaign = self._campaign(campaign_id)
        given = validated(RejectInput, request.data)
        operator = self._operator()
        approval = services.approval_reject(campaign=campaign, operator=operator, **given)
        return Response(represent_approval(approval, campaign))


class DuplicateView(SignalView):
    scopes: ClassVar = {"POST": "campaigns:write"}

    @extend_schema(
        operation_id="campaigns_duplicate",
        tags=["campaigns"],
        request=DuplicateInput,
        responses={201: CampaignOutput},
    )
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """A new draft with its content, audience and way of sending, in any state of it."""
        campaign = selectors.campaign_get(application=self.application, campaign_id=campaign_id)
        given = validated(DuplicateInput, request.data)
        by = self.caller.label
        copy = services.campaign_duplicate(campaign=campaign, created_by=by, by=by, **given)
        return Response(represent_campaign(copy), status=status.HTTP_201_CREATED)
