"""The answers of the statistics' routes, as the description of the API has them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.analytics.asking import BREAKDOWNS, INTERVALS
from apps.analytics.models.rollups import Wait


def _share(words: str = "") -> serializers.FloatField:
    return serializers.FloatField(allow_null=True, help_text=words)


class PeriodOutput(serializers.Serializer[Any]):
    to = serializers.DateTimeField()
    time_zone = serializers.CharField()

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.DateTimeField(), **super().get_fields()}


class AnswerOutput(serializers.Serializer[Any]):
    period = PeriodOutput()
    as_of = serializers.DateTimeField(allow_null=True, help_text="What had happened by then is counted.")


class RatesOutput(serializers.Serializer[Any]):
    success = _share("sent of sent and failed, but those without a receipt in time")
    failure = _share("failed of the same")
    receipt = _share("received of sent")
    open = _share("converted of received")
    conversion = _share("converted of sent")


class FiguresOutput(serializers.Serializer[Any]):
    sent = serializers.IntegerField(help_text="The provider took them; not that they arrived.")
    failed = serializers.IntegerField()
    received = serializers.IntegerField()
    converted = serializers.IntegerField()
    errored = serializers.IntegerField(help_text="Put off by the provider; 0 by device.")
    retried = serializers.IntegerField()
    timed_out = serializers.IntegerField(help_text="Of the failed: sent, and no receipt in time.")
    rates = RatesOutput()


class BeforeOutput(FiguresOutput):
    period = PeriodOutput()


class ReasonOutput(serializers.Serializer[Any]):
    reason = serializers.CharField()
    messages = serializers.IntegerField()
    share = serializers.FloatField()


class OverviewOutput(AnswerOutput):
    messages = FiguresOutput()
    before = BeforeOutput(help_text="As long a period, just before.")
    change = serializers.DictField(
        child=_share(), help_text="By figure, as a fraction of what there was before; null if there was nothing."
    )
    failures = ReasonOutput(many=True)
    put_off = ReasonOutput(many=True, help_text="Temporary refusals.")


class PointOutput(FiguresOutput):
    begins = serializers.DateTimeField()


class SeriesOutput(AnswerOutput):
    interval = serializers.ChoiceField(INTERVALS)
    items = PointOutput(many=True, help_text="Without gaps.")


class GroupOutput(FiguresOutput):
    key = serializers.CharField(help_text="Empty: not known. `other`: there were too many to tell apart.")


class BreakdownOutput(AnswerOutput):
    by = serializers.ChoiceField(BREAKDOWNS)
    items = GroupOutput(many=True)


class PercentilesOutput(serializers.Serializer[Any]):
    p50, p75, p90, p95, p99 = _share(), _share(), _share(), _share(), _share()


class BucketOutput(serializers.Serializer[Any]):
    at_least = serializers.FloatField()
    below = serializers.FloatField(allow_null=True, help_text="null: no end.")
    messages = serializers.IntegerField()
    share = serializers.FloatField()


class HistogramOutput(serializers.Serializer[Any]):
    unit = serializers.CharField(help_text="`s` or `ms`.")
    messages = serializers.IntegerField(help_text="How many were measured.")
    percentiles = PercentilesOutput()
    items = BucketOutput(many=True)


class DistributionOutput(AnswerOutput, HistogramOutput):
    wait = serializers.ChoiceField(Wait.choices)


class ComparedOutput(FiguresOutput):
    id = serializers.UUIDField(allow_null=True, help_text="null: messages without one.")
    name = serializers.CharField()


class ComparisonOutput(AnswerOutput):
    items = ComparedOutput(many=True)


class ChangesOutput(serializers.Serializer[Any]):
    registered = serializers.IntegerField()
    gained = serializers.IntegerField()
    lost = serializers.IntegerField()


class NetOutput(ChangesOutput):
    net = serializers.IntegerField()


class TypeChangesOutput(ChangesOutput):
    subscription_type = serializers.CharField()


class LostReasonOutput(serializers.Serializer[Any]):
    status = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    source = serializers.CharField(help_text="Who said so: device, provider, api, operator, system.")  # type: ignore[assignment]
    subscriptions = serializers.IntegerField()


class SourceOutput(serializers.Serializer[Any]):
    source = serializers.CharField()  # type: ignore[assignment]
    subscriptions = serializers.IntegerField()


class ChangePointOutput(ChangesOutput):
    begins = serializers.DateTimeField()


class SubscriptionChangesOutput(AnswerOutput):
    totals = NetOutput()
    before = NetOutput(help_text="As long a period, just before.")
    by_type = TypeChangesOutput(many=True)
    lost_by_reason = LostReasonOutput(many=True)
    gained_by_source = SourceOutput(many=True)
    interval = serializers.ChoiceField(INTERVALS)
    items = ChangePointOutput(many=True)


class AudienceSizeOutput(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    reachable = serializers.IntegerField()
    active_1d = serializers.IntegerField()
    active_7d = serializers.IntegerField()
    active_30d = serializers.IntegerField()


class AudienceDayOutput(serializers.Serializer[Any]):
    day = serializers.DateField()
    users = AudienceSizeOutput()
    subscriptions = serializers.DictField(child=AudienceSizeOutput(), help_text="By type.")


class ActiveUsersOutput(AnswerOutput):
    items = AudienceDayOutput(many=True, help_text="A day that was not taken is not there.")


class ChannelCostOutput(serializers.Serializer[Any]):
    channel_type = serializers.CharField()
    messages = serializers.IntegerField()
    amount = serializers.CharField()
    currency = serializers.CharField()


class QuotaAndCostOutput(serializers.Serializer[Any]):
    channel_type = serializers.CharField()
    daily_quota = serializers.IntegerField(allow_null=True, help_text="null: no limit.")
    daily_used = serializers.IntegerField()
    daily_share = _share()
    resets_at = serializers.DateTimeField(allow_null=True)
    monthly_quota = serializers.IntegerField(allow_null=True)
    monthly_used = serializers.IntegerField()
    monthly_share = _share()
    monthly_resets_at = serializers.DateTimeField(allow_null=True)
    unit_price = serializers.CharField()
    currency = serializers.CharField()
    open = serializers.IntegerField(help_text="Accepted, and not sent yet.")


class CostPointOutput(serializers.Serializer[Any]):
    begins = serializers.DateTimeField()
    messages = serializers.IntegerField()
    amount = serializers.CharField()


class CostsOutput(AnswerOutput):
    channels = ChannelCostOutput(many=True)
    before = ChannelCostOutput(many=True, help_text="Of as long a period, just before.")
    quotas = QuotaAndCostOutput(many=True, help_text="As they are now.")
    interval = serializers.ChoiceField(INTERVALS)
    items = CostPointOutput(many=True)


class TallyOutput(serializers.Serializer[Any]):
    ok = serializers.IntegerField()
    failed = serializers.IntegerField()
    rate = _share()


class LabelCountOutput(serializers.Serializer[Any]):
    label = serializers.CharField()  # type: ignore[assignment]
    count = serializers.IntegerField()


class SdkVersionOutput(serializers.Serializer[Any]):
    platform = serializers.CharField()
    sdk_version = serializers.CharField()
    initialisations = serializers.IntegerField()
    registrations = TallyOutput()
    identifications = TallyOutput()
    client_errors = serializers.IntegerField()


class SdkOutput(AnswerOutput):
    initialisations = HistogramOutput(help_text="How long it took.")
    registrations = TallyOutput()
    identifications = TallyOutput()
    client_errors = LabelCountOutput(many=True)
    items = SdkVersionOutput(many=True)
