"""Variants in a campaign's input and output, their figures, and the choice of the winner."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.campaigns import selectors
from apps.campaigns.api_fields import ObjectField
from apps.campaigns.experiments.models import Fallback, Metric, WinnerBy
from apps.campaigns.experiments.planning import (
    CONFIDENCE_MAX_PERCENT,
    CONFIDENCE_MIN_PERCENT,
    DECIDE_AFTER_MAX_H,
    HOLDOUT_MAX_PERCENT,
    VARIANTS_MAX,
    VARIANTS_MIN,
)
from apps.campaigns.experiments.running import winner_choose
from apps.campaigns.experiments.selectors import Activity, Figures, Result, experiment_result
from apps.campaigns.experiments.statistics import Interval
from apps.campaigns.models import MessageCampaign
from apps.tenants.views import SignalView
from automata_signal.api import StrictSerializer, validated
from automata_signal.errors import NotFound

# --- As part of a campaign -------------------------------------------------------------------------------------------


class CampaignVariantInput(StrictSerializer):
    share_percent = serializers.IntegerField(min_value=1, max_value=99, help_text="Of the test; all sum to 100.")
    name = serializers.CharField(max_length=100, allow_blank=True, required=False)
    template_id = serializers.UUIDField(allow_null=True, required=False)
    title = serializers.CharField(max_length=10_000, allow_blank=True, trim_whitespace=False, required=False)
    body = serializers.CharField(max_length=65_536, allow_blank=True, trim_whitespace=False, required=False)
    data = ObjectField(required=False)  # type: ignore[assignment]
    options = ObjectField(required=False)


class ExperimentInput(StrictSerializer):
    variants: Any = CampaignVariantInput(  # type: ignore[call-arg]
        many=True,
        min_length=VARIANTS_MIN,
        max_length=VARIANTS_MAX,
        help_text="A, B, … in this order; A is the control. One without a content says what its campaign says.",
    )
    holdout_percent = serializers.IntegerField(
        min_value=0,
        max_value=HOLDOUT_MAX_PERCENT,
        required=False,
        help_text="So many of the audience get nothing, for comparison; 0 unless told.",
    )
    test_percent = serializers.IntegerField(
        min_value=1,
        max_value=100,
        required=False,
        help_text="So many of the others are shared among the variants at once, the rest wait for the winner; 100 "
        "unless told.",
    )
    winner_by = serializers.ChoiceField(WinnerBy.choices, required=False, help_text="`hand` unless told.")
    metric = serializers.ChoiceField(
        Metric.choices, required=False, help_text="Of what a provider took: `converted` (unless told) or `received`."
    )
    decide_after_h = serializers.IntegerField(
        min_value=1,
        max_value=DECIDE_AFTER_MAX_H,
        required=False,
        help_text="When the rule is asked, in hours since the test's part of the audience is cut; 4 unless told.",
    )
    confidence_percent = serializers.IntegerField(
        min_value=CONFIDENCE_MIN_PERCENT,
        max_value=CONFIDENCE_MAX_PERCENT,
        required=False,
        help_text="How probable it has to be that the best so far is the best; 95 unless told.",
    )
    fallback = serializers.ChoiceField(
        Fallback.choices,
        required=False,
        help_text="Where it is not: the `best` so far, the `control`, or `wait` (unless told) for a person.",
    )


class CampaignVariantOutput(serializers.Serializer[Any]):
    letter = serializers.CharField(help_text="`A` to `E`.")
    name = serializers.CharField()
    share_percent = serializers.IntegerField()
    template_id = serializers.UUIDField(allow_null=True)
    title = serializers.CharField()
    body = serializers.CharField()
    data = ObjectField()  # type: ignore[assignment]
    options = ObjectField()


class ExperimentOutput(serializers.Serializer[Any]):
    variants = CampaignVariantOutput(many=True)
    holdout_percent = serializers.IntegerField()
    test_percent = serializers.IntegerField()
    winner_by = serializers.ChoiceField(WinnerBy.choices)
    metric = serializers.ChoiceField(Metric.choices)
    decide_after_h = serializers.IntegerField()
    confidence_percent = serializers.IntegerField()
    fallback = serializers.ChoiceField(Fallback.choices)
    awaits_winner = serializers.BooleanField(help_text="The test is cut, and the rest of the audience waits.")
    decide_at = serializers.DateTimeField(allow_null=True, help_text="When the rule is asked.")
    winner = serializers.CharField(allow_null=True, help_text="Its letter.")
    decided_at = serializers.DateTimeField(allow_null=True)
    decided_by = serializers.CharField(help_text="Empty: the rule.")

    def get_attribute(self, instance: MessageCampaign) -> dict[str, Any] | None:
        """Of a campaign; None of one without variants, for which nothing is read."""
        if not instance.has_variants:
            return None
        plan = instance.experiment
        variants = list(plan.variants.all())
        winner = next((variant.letter for variant in variants if variant.pk == plan.winner_id), None)
        more = {"variants": variants, "winner": winner, "awaits_winner": instance.awaits_winner}
        return {name: getattr(plan, name) for name in _OF_PLAN} | more


_OF_PLAN = (
    *("holdout_percent", "test_percent", "winner_by", "metric", "decide_after_h", "confidence_percent", "fallback"),
    *("decide_at", "decided_at", "decided_by"),
)


# --- Its figures -----------------------------------------------------------------------------------------------------


class VariantFiguresOutput(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="Recipients so far.")
    successful = serializers.IntegerField(help_text="A provider took them.")
    failed = serializers.IntegerField()
    received = serializers.IntegerField()
    converted = serializers.IntegerField()


class VariantIntervalOutput(serializers.Serializer[Any]):
    low = serializers.FloatField()
    high = serializers.FloatField()


class VariantActivityOutput(serializers.Serializer[Any]):
    recipients = serializers.IntegerField()
    active = serializers.IntegerField(help_text="Have used the app since the launch.")
    rate = serializers.FloatField(allow_null=True)
    interval = VariantIntervalOutput(help_text="95 %.")
    difference = serializers.FloatField(allow_null=True, help_text="To those who get nothing.")
    difference_interval = VariantIntervalOutput(allow_null=True)


class VariantResultOutput(VariantFiguresOutput):
    letter = serializers.CharField()
    name = serializers.CharField()
    rate = serializers.FloatField(allow_null=True, help_text="By the metric, of the successful: 0 to 1.")
    interval = VariantIntervalOutput(help_text="Where the true rate lies, with 95 % confidence (Wilson).")
    difference = serializers.FloatField(allow_null=True, help_text="Of the rate, to A's; null for A.")
    difference_interval = VariantIntervalOutput(allow_null=True, help_text="95 % (Newcombe).")
    higher_than_control = serializers.FloatField(allow_null=True, help_text="How probable that is: 0 to 1.")
    best = serializers.FloatField(help_text="How probable it is to be the best of all: they sum to 1.")
    rest = VariantFiguresOutput(
        allow_null=True, help_text="Of those who got it as the winner; not part of the comparison."
    )
    activity = VariantActivityOutput(allow_null=True)


class ExperimentResultOutput(serializers.Serializer[Any]):
    metric = serializers.ChoiceField(Metric.choices)
    is_enough = serializers.BooleanField(
        help_text="Whether the figures say anything yet: 100 sent of each variant, and 10 hits of all together."
    )
    leader = serializers.CharField(help_text="The letter with the highest rate so far.")
    winner = serializers.CharField(allow_null=True)
    decided_because = serializers.CharField(help_text="`confidence`, `best`, `control`, `person`, or empty.")
    awaits_winner = serializers.BooleanField()
    decide_at = serializers.DateTimeField(allow_null=True)
    held_out = serializers.IntegerField(help_text="Recipients who get nothing: neither sent to nor charged for.")
    held_out_activity = VariantActivityOutput(
        allow_null=True, help_text="Counted 1, 6, 24 and 72 hours after the launch."
    )
    variants = VariantResultOutput(many=True)


def represent_result(campaign: MessageCampaign, result: Result) -> dict[str, Any]:
    winner = next((r.variant.letter for r in result.variants if r.variant.pk == result.experiment.winner_id), None)
    whole = {
        "metric": result.experiment.metric,
        "is_enough": result.is_enough,
        "leader": result.leader.variant.letter,
        "winner": winner,
        "decided_because": result.experiment.decided_because,
        "awaits_winner": campaign.awaits_winner,
        "decide_at": result.experiment.decide_at,
        "held_out": result.experiment.held_out,
        "held_out_activity": _activity(result.held_out),
        "variants": [
            {
                **_figures(row.figures),
                "letter": row.variant.letter,
                "name": row.variant.name,
                "rate": _rounded(row.counted.share),
                "interval": _interval(row.interval),
                "difference": _rounded(row.difference),
                "difference_interval": _interval(row.difference_interval),
                "higher_than_control": _rounded(row.higher_than_control),
                "best": _rounded(row.best),
                "rest": _figures(row.rest) if row.rest else None,
                "activity": _activity(row.activity),
            }
            for row in result.variants
        ],
    }
    return dict(ExperimentResultOutput(whole).data)


def _figures(figures: Figures) -> dict[str, int]:
    return {name: getattr(figures, name) for name in ("total", "successful", "failed", "received", "converted")}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    return None if interval is None else {"low": _rounded(interval.low), "high": _rounded(interval.high)}


def _activity(activity: Activity | None) -> dict[str, Any] | None:
    if activity is None:
        return None
    return {
        "recipients": activity.counted.of,
        "active": activity.counted.hits,
        "rate": _rounded(activity.counted.share),
        "interval": _interval(activity.interval),
        "difference": _rounded(activity.difference),
        "difference_interval": _interval(activity.difference_interval),
    }


class WinnerInput(StrictSerializer):
    variant = serializers.CharField(max_length=1, help_text="The letter of the winner.")


class CampaignExperimentView(SignalView):
    scopes: ClassVar = {"GET": "campaigns:read"}

    @extend_schema(
        operation_id="campaigns_experiment",
        tags=["campaigns"],
        responses=ExperimentResultOutput,
    )
    def get(self, request: Request, campaign_id: UUID) -> Response:
        """The figures of its variants at this moment, and how sure it is which is best; 404 without variants."""
        campaign = selectors.campaign_get(application=self.application, campaign_id=campaign_id)
        result = experiment_result(campaign)
        if result is None:
            raise NotFound("The campaign has no variants.")
        return Response(represent_result(campaign, result))


class CampaignWinnerView(SignalView):
    scopes: ClassVar = {"POST": "campaigns:launch"}

    @extend_schema(
        operation_id="campaigns_choose_winner",
        tags=["campaigns"],
        request=WinnerInput,
        responses=ExperimentResultOutput,
    )
    def post(self, request: Request, campaign_id: UUID) -> Response:
        """Choose the winner; the rest of the audience gets it now. 409 with `CAMPAIGN_STATE`, `WINNER_CHOSEN`, or
        `TEST_NOT_CUT` while the test is still being cut into batches."""
        campaign = selectors.campaign_get(application=self.application, campaign_id=campaign_id)
        given = validated(WinnerInput, request.data)
        label = self.caller.label
        winner_choose(campaign=campaign, letter=given["variant"], decided_by=label, by=label)
        campaign = selectors.campaign_get(application=self.application, campaign_id=campaign_id)
        result = experiment_result(campaign)
        assert result is not None
        return Response(represent_result(campaign, result))
