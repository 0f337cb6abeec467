"""Routes for segments, audiences and campaigns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar
from uuid import UUID

from django.conf import settings
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.campaigns import moments, selectors, services
from apps.campaigns.api_fields import ObjectField
from apps.campaigns.experiments.api import ExperimentInput, ExperimentOutput
from apps.campaigns.models import CampaignStatus, CampaignType, MessageCampaign, OverQuota, Segment
from apps.campaigns.services.timing import timing_of, with_timing
from apps.messaging.api.messages import ChainInput, RequeueOutput
from apps.messaging.content import VARIABLES_MAX_BYTES
from apps.messaging.models import Priority, Purpose
from apps.messaging.retry import Fault
from apps.tenants.channels import ChannelType
from apps.tenants.idempotency import IDEMPOTENCY_PARAMETER, idempotent
from apps.tenants.services import RATE_PER_MINUTE_MAX
from apps.tenants.views import SignalView
from automata_signal.api import NoInput, SignalResponse, StrictSerializer, at_most_bytes, validated
from automata_signal.openapi import PAGE_PARAMETERS

NOTHING = OpenApiResponse(description="Done.")
CRITERIA_HELP = "`{}` is everybody who can be reached; the guide has the grammar."


# --- Segments ----------------------------------------------------------------------------------------------------


class SegmentOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    description = serializers.CharField()
    criteria = ObjectField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SegmentInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    description = serializers.CharField(max_length=500, allow_blank=True, required=False)
    criteria = ObjectField(help_text=CRITERIA_HELP)


class AudienceCountOutput(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="Subscriptions that a send would reach now.")
    channel_type = serializers.ChoiceField(ChannelType.choices)


class AudienceQuery(StrictSerializer):
    channel_type = serializers.ChoiceField(ChannelType.choices, default=ChannelType.PUSH)


def represent_segment(segment: Segment) -> dict[str, Any]:
    return dict(SegmentOutput(segment).data)


class SegmentsView(SignalView):
    scopes: ClassVar = {"GET": "segments:read", "POST": "segments:write"}

    @extend_schema(
        operation_id="segments_list",
        tags=["segments"],
        parameters=PAGE_PARAMETERS,
        responses=SegmentOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's segments, newest first."""
        self.query()
        return self.page(Segment.objects.for_application(self.application), represent_segment)

    @extend_schema(
        operation_id="segments_create", tags=["segments"], request=SegmentInput, responses={201: SegmentOutput}
    )
    def post(self, request: Request) -> Response:
        """Name an audience. Criteria may refer to other segments, not in a circle."""
        given = validated(SegmentInput, request.data)
        segment = services.segment_create(application=self.application, **given, by=self.caller.label)
        return Response(represent_segment(segment), status=status.HTTP_201_CREATED)


class SegmentView(SignalView):
    scopes: ClassVar = {"GET": "segments:read", "PATCH": "segments:write", "DELETE": "segments:write"}

    def _segment(self, segment_id: UUID) -> Segment:
        return selectors.segment_get(application=self.application, segment_id=segment_id)

    @extend_schema(operation_id="segments_read", tags=["segments"], responses=SegmentOutput)
    def get(self, request: Request, segment_id: UUID) -> Response:
        """One segment."""
        return Response(represent_segment(self._segment(segment_id)))

    @extend_schema(operation_id="segments_update", tags=["segments"], request=SegmentInput, responses=SegmentOutput)
    def patch(self, request: Request, segment_id: UUID) -> Response:
        """Change it. Scheduled campaigns that refer to it go to whoever is in it at their launch; launched ones keep
        the audience they had."""
        segment = self._segment(segment_id)
        given = validated(SegmentInput, request.data, partial=True)
        return Response(represent_segment(services.segment_update(segment=segment, **given, by=self.caller.label)))

    @extend_schema(operation_id="segments_delete", tags=["segments"], responses={204: NOTHING})
    def delete(self, request: Request, segment_id: UUID) -> Response:
        """Delete it; 409 `SEGMENT_IN_USE` while other segments or campaigns that are not launched refer to it."""
        services.segment_delete(segment=self._segment(segment_id), by=self.caller.label)
        return Response(status=status.HTTP_204_NO_CONTENT)


class SegmentCountView(SignalView):
    scopes: ClassVar = {"GET": "segments:read"}

    @extend_schema(
        operation_id="segments_count", tags=["segments"], parameters=[AudienceQuery], responses=AudienceCountOutput
    )
    def get(self, request: Request, segment_id: UUID) -> Response:
        """How many subscriptions of the segment can be reached on a channel now."""
        segment = selectors.segment_get(application=self.application, segment_id=segment_id)
        given = validated(AudienceQuery, request.query_params.dict())
        count = selectors.audience_count(
            application=self.application, criteria=segment.criteria, field="criteria", **given
        )
        return Response({"count": count, **given})


# --- Audiences ---------------------------------------------------------------------------------------------------


class AudienceInput(AudienceQuery):
    criteria = ObjectField(help_text=CRITERIA_HELP)


class SampleOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(help_text="The subscription.")
    type = serializers.CharField()
    token = serializers.CharField(help_text="Masked.")
    external_id = serializers.CharField(allow_null=True, help_text="The user's, masked.")
    country_code = serializers.CharField()
    device_language = serializers.CharField()
    app_version = serializers.CharField()
    last_active_at = serializers.DateTimeField(allow_null=True)


class AudienceOutput(AudienceCountOutput):
    sample = SampleOutput(many=True, help_text="The newest, at most 20.")


class AudienceCountView(SignalView):
    scopes: ClassVar = {"POST": "segments:read"}

    @extend_schema(operation_id="audience_count", tags=["segments"], request=AudienceInput, responses=AudienceOutput)
    def post(self, request: Request) -> Response:
        """How many subscriptions the criteria reach on a channel now, and some of them."""
        given = validated(AudienceInput, request.data)
        count = selectors.audience_count(application=self.application, field="criteria", **given)
        sample = selectors.audience_sample(application=self.application, field="criteria", **given)
        return Response(
            {
                "count": count,
                "channel_type": given["channel_type"],
                "sample": SampleOutput(sample, many=True).data,
            }
        )


# --- Campaigns ---------------------------------------------------------------------------------------------------


class CampaignOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.ChoiceField(CampaignStatus.choices)
    campaign_type = serializers.ChoiceField(CampaignType.choices)
    channel_type = serializers.ChoiceField(ChannelType.choices)
    priority = serializers.ChoiceField(Priority.choices)
    ttl_s = serializers.IntegerField(allow_null=True)
    messages_per_minute = serializers.IntegerField(allow_null=True)
    chain = ObjectField()
    purpose = serializers.ChoiceField(Purpose.choices)
    category = serializers.CharField()
    when_over_quota = serializers.ChoiceField(OverQuota.choices)
    template_id = serializers.UUIDField(allow_null=True)
    title = serializers.CharField()
    body = serializers.CharField()
    data = ObjectField()  # type: ignore[assignment]
    options = ObjectField()
    variables = ObjectField()
    targeting_criteria = ObjectField()
    experiment = ExperimentOutput(allow_null=True, help_text="Its variants; null: it has none.")
    local_time = serializers.CharField(default=None, allow_null=True, help_text="HH:MM of each recipient's clock.")
    at_active_hours = serializers.BooleanField(default=False)
    scheduled_at = serializers.DateTimeField(allow_null=True)
    scheduled_time_zone = serializers.CharField()
    failure_reason = serializers.CharField(help_text="Why a scheduled launch failed.")
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    updated_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    total_recipients = serializers.IntegerField()
    successful_count = serializers.IntegerField(help_text="The provider took them; not that they arrived.")
    failed_count = serializers.IntegerField()
    received_count = serializers.IntegerField()
    converted_count = serializers.IntegerField()


class CampaignInput(StrictSerializer):
    name = serializers.CharField(max_length=200)
    template_id = serializers.UUIDField(allow_null=True, required=False, help_text="Or title, body and data.")
    title = serializers.CharField(max_length=10_000, allow_blank=True, trim_whitespace=False, required=False)
    body = serializers.CharField(max_length=65_536, allow_blank=True, trim_whitespace=False, required=False)
    data = ObjectField(required=False)  # type: ignore[assignment]
    options = ObjectField(required=False, help_text="The channel's own fields, such as `badge` and `collapse_key`.")
    variables = ObjectField(
        required=False,
        validators=[at_most_bytes(VARIABLES_MAX_BYTES)],
        help_text="For the template; a user's own property comes first.",
    )
    channel_type = serializers.ChoiceField(ChannelType.choices, required=False)
    priority = serializers.ChoiceField(Priority.choices, required=False, help_text="`low` unless told.")
    ttl_s = serializers.IntegerField(
        min_value=0,
        max_value=settings.MESSAGE_TTL_MAX_S,
        allow_null=True,
        required=False,
        help_text="Seconds; the application's unless told.",
    )
    messages_per_minute = serializers.IntegerField(
        min_value=1,
        max_value=RATE_PER_MINUTE_MAX,
        allow_null=True,
        required=False,
        help_text="The throttle, within 10 % over a minute; as fast as it goes unless told. The time to live goes on.",
    )
    chain = ChainInput(required=False, allow_null=True, help_text="What follows for users whom it does not reach.")
    purpose = serializers.ChoiceField(
        Purpose.choices, required=False, help_text="`transactional` unless told; `marketing` needs consent."
    )
    category = serializers.SlugField(
        max_length=50,
        allow_blank=True,
        trim_whitespace=False,
        required=False,
        help_text="What recipients may have opted out of.",
    )
    local_time = serializers.TimeField(
        required=False,
        allow_null=True,
        input_formats=["%H:%M"],
        help_text="HH:MM: each recipient gets it when their own clock shows it, the first time after the launch.",
    )
    at_active_hours = serializers.BooleanField(
        required=False,
        help_text="At the hour at which a recipient usually opens messages; who is not known: at `local_time` or now.",
    )
    when_over_quota = serializers.ChoiceField(
        OverQuota.choices,
        required=False,
        help_text=(
            "What a launch does whose audience does not fit the quota or the credit: `refuse` (unless told) answers "
            "with the number that would fit; `partial` sends that many, and the rest are failed as `quota_exceeded`."
        ),
    )
    experiment = ExperimentInput(
        required=False,
        allow_null=True,
        help_text="Several contents to parts of the audience, compared. Stands for the whole; null takes it away.",
    )
    targeting_criteria = ObjectField(
        help_text=f"Has to be there, so that nobody sends to everybody by an oversight. {CRITERIA_HELP}"
    )


class CampaignQuery(StrictSerializer):
    status = serializers.ChoiceField(CampaignStatus.choices, required=False)


class ScheduleInput(StrictSerializer):
    at = serializers.CharField(
        max_length=64,
        help_text=(
            "ISO 8601, at most a year ahead: an instant (`2026-12-24T09:00:00+09:00`), or without the offset a local "
            "time in `time_zone`. A local time that clocks skip is refused; one that comes twice is the first."
        ),
    )
    time_zone = serializers.CharField(
        max_length=64, required=False, help_text="Such as `Asia/Seoul`; the application's unless told."
    )


class TestInput(StrictSerializer):
    external_ids = serializers.ListField(
        child=serializers.CharField(max_length=255), max_length=services.TEST_RECIPIENTS_MAX, required=False
    )
    subscription_ids = serializers.ListField(
        child=serializers.UUIDField(), max_length=services.TEST_RECIPIENTS_MAX, required=False
    )
    variant = serializers.CharField(
        max_length=1, required=False, help_text="The letter of the variant to send; the first unless told."
    )


class TestMessageOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    subscription_id = serializers.UUIDField()
    external_id = serializers.CharField(allow_null=True)


class TestSkippedOutput(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="`external_ids` or `subscription_ids`.")
    value = serializers.CharField()
    reason = serializers.CharField(help_text="`not_found` or `not_reachable`.")


class TestOutput(serializers.Serializer[Any]):
    messages = TestMessageOutput(many=True)
    skipped = TestSkippedOutput(many=True)


class StatsOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(CampaignStatus.choices)
    total = serializers.IntegerField(help_text="Recipients so far: it grows until `fanout_done`.")
    successful = serializers.IntegerField(help_text="The provider took them, whatever came after.")
    failed = serializers.IntegerField()
    received = serializers.IntegerField()
    converted = serializers.IntegerField()
    by_status = serializers.DictField(
        child=serializers.IntegerField(), help_text="Messages by the state they are in now; adds up to `total`."
    )
    failures = serializers.DictField(child=serializers.IntegerField(), help_text="Failed messages by reason.")
    progress = serializers.FloatField(help_text="0 to 1: successful and failed of `total`.")
    rates = serializers.DictField(
        child=serializers.FloatField(allow_null=True),
        help_text="`successful` of what is settled, `received` of successful, `converted` of received.",
    )
    fanout_done = serializers.BooleanField()
    awaits_winner = serializers.BooleanField(
        help_text="The test of its variants is cut, and the rest of the audience waits for the winner."
    )
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    elapsed_s = serializers.FloatField(allow_null=True, help_text="Since the launch, pauses included.")
    messages_per_second = serializers.FloatField(allow_null=True, help_text="Settled messages by `elapsed_s`.")


def represent_campaign(campaign: MessageCampaign) -> dict[str, Any]:
    represented: dict[str, Any] = CampaignOutput().to_representation(campaign)
    local_time, at_active_hours = timing_of(campaign)
    represented["local_time"] = None if local_time is None else f"{local_time:%H:%M}"
    represented["at_active_hours"] = at_active_hours
    return represented


class CampaignsView(SignalView):
    scopes: ClassVar = {"GET": "campaigns:read", "POST": "campaigns:write"}

    @extend_schema(
        operation_id="campaigns_list",
        tags=["campaigns"],
        parameters=[
            *PAGE_PARAMETERS,
            OpenApiParameter("status", OpenApiTypes.STR, enum=CampaignStatus.values),
        ],
        responses=CampaignOutput(many=True),
    )
    def get(self, request: Request) -> SignalResponse:
        """The application's campaigns, newest first."""
        given = self.query(CampaignQuery)
        rows = with_timing(MessageCampaign.objects.for_application(self.application).filter(**given))
        rows = rows.select_related("experiment").prefetch_related("experiment__variants")
        return self.page(rows, represent_campaign)

    @extend_schema(
        operation_id="campaigns_create", tags=["campaigns"], request=CampaignInput, responses={201: CampaignOutput}
    )
    def post(self, request: Request) -> Response:
        """Make a draft: a template with variables, or a content, and an audience."""
        given = validated(CampaignInput, request.data)
        campaign = services.campaign_create(
            application=self.application, **given, created_by=self.caller.label, by=self.caller.label
        )
        return Response(represent_campaign(campaign), status=status.HTTP_201_CREATED)


class OneCampaignView(SignalView):
    """A view of one campaign of the caller's application."""

    def _campaign(self, campaign_id: UUID) -> MessageCampaign:
        return selectors.campaign_get(application=self.application, campaign_id=campaign_id)


class CampaignView(OneCampaignView):
    scopes: ClassVar = {"GET": "campaigns:read", "PATCH": "campaigns:write", "DELETE": "campaigns:write"}

    @extend_schema(operation_id="campaigns_read", tags=["campaigns"], responses=CampaignOutput)
    def get(self, request: Request, campaign_id: UUID) -> Response:
        """One campaign, with its counts."""
        return Response(represent_campaign(self._campaign(campaign_id)))

    @extend_schema(operation_id="campaigns_update", tags=["campaigns"], request=CampaignInput, responses=CampaignOutput)
    def patch(self, request: Request, campaign_id: UUID) -> Response:
        """Change a campaign that is not launched yet."""
        campaign = self._campaign(campaign_id)
        given = validated(CampaignInput, request.data, partial=True)
        changed = services.campaign_update(campaign=campaign, **given, by=self.caller.label)
        return Response(represent_campaign(changed))

    @extend_schema(operation_id="campaigns_delete", tags=["campaigns"], responses={204: NOTHING})
    def delete(self, request: Request, campaign_id: UUID) -> Response:
        """Delete a draft. A campaign that was launched stays, with its messages."""
        services.campaign_delete(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(status=status.HTTP_204_NO_CONTENT)


class CampaignScheduleView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(
        operation_id="campaigns_schedule", tags=["campaigns"], request=ScheduleInput, responses=CampaignOutput
    )
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Launch it at a time; again to move it to another."""
        campaign = self._campaign(campaign_id)
        given = validated(ScheduleInput, request.data)
        scheduled = services.campaign_schedule(
            campaign=campaign,
            at=moments.parsed(given["at"]),
            time_zone=given.get("time_zone", ""),
            by=self.caller.label,
        )
        return Response(represent_campaign(scheduled))


class CampaignUnscheduleView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(operation_id="campaigns_unschedule", tags=["campaigns"], request=None, responses=CampaignOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Make a scheduled campaign a draft again."""
        validated(NoInput, request.data)
        campaign = services.campaign_unschedule(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(represent_campaign(campaign))


class CampaignLaunchView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(
        operation_id="campaigns_launch",
        tags=["campaigns"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=None,
        responses=CampaignOutput,
    )
    @idempotent
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Start sending now. Content and audience stay as they are at this moment. 409 with `CAMPAIGN_STATE`,
        `TEMPLATE_INACTIVE`, `CREDENTIAL_MISSING` or `AUDIENCE_EMPTY` if it cannot be launched."""
        validated(NoInput, request.data)
        campaign = services.campaign_launch(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(represent_campaign(campaign))


class CampaignPauseView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(operation_id="campaigns_pause", tags=["campaigns"], request=None, responses=CampaignOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Nothing more leaves, within a second."""
        validated(NoInput, request.data)
        campaign = services.campaign_pause(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(represent_campaign(campaign))


class CampaignResumeView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(operation_id="campaigns_resume", tags=["campaigns"], request=None, responses=CampaignOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Go on where it was paused."""
        validated(NoInput, request.data)
        campaign = services.campaign_resume(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(represent_campaign(campaign))


class CampaignCancelView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(operation_id="campaigns_cancel", tags=["campaigns"], request=None, responses=CampaignOutput)
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """End it for good: what has not left is failed as `canceled` within seconds."""
        validated(NoInput, request.data)
        campaign = services.campaign_cancel(campaign=self._campaign(campaign_id), by=self.caller.label)
        return Response(represent_campaign(campaign))


class CampaignRequeueInput(StrictSerializer):
    error_reason = serializers.CharField(max_length=100, required=False)
    error_class = serializers.ChoiceField(choices=[fault.value for fault in Fault], required=False)


class CampaignRequeueView(OneCampaignView):
    scopes: ClassVar = {"POST": "messages:send"}

    @extend_schema(
        operation_id="campaigns_requeue_failed",
        tags=["campaigns"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=CampaignRequeueInput,
        responses={202: RequeueOutput},
    )
    @idempotent
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Send its failed messages again, as new messages of the campaign: all, or those of a reason or class. As
        `POST /messages/requeue`. 409 with `CAMPAIGN_STATE` unless it is running or completed."""
        order = services.campaign_requeue_failed(
            campaign=self._campaign(campaign_id),
            **validated(CampaignRequeueInput, request.data),
            by=self.caller.label,
        )
        return Response(RequeueOutput(order).data, status=status.HTTP_202_ACCEPTED)


class CampaignTestView(OneCampaignView):
    scopes: ClassVar = {"POST": "campaigns:write"}

    @extend_schema(
        operation_id="campaigns_test",
        tags=["campaigns"],
        parameters=[IDEMPOTENCY_PARAMETER],
        request=TestInput,
        responses={202: TestOutput},
    )
    @idempotent
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Send its present content to up to 20 recipients at once. They get exactly what the audience would get; the
        campaign's state and figures stay as they are."""
        campaign = self._campaign(campaign_id)
        result = services.campaign_test(campaign=campaign, **validated(TestInput, request.data))
        data = {
            "messages": [TestMessageOutput(message).data for message in result.messages],
            "skipped": [skipped._asdict() for skipped in result.skipped],
        }
        return Response(data, status=status.HTTP_202_ACCEPTED)


class CampaignStatsView(OneCampaignView):
    scopes: ClassVar = {"GET": "campaigns:read"}

    @extend_schema(operation_id="campaigns_stats", tags=["campaigns"], responses=StatsOutput)
    def get(self, request: Request, campaign_id: UUID) -> Response:
        """Its figures at this moment."""
        return Response(StatsOutput(asdict(selectors.campaign_stats(self._campaign(campaign_id)))).data)
