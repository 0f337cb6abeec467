"""The parameters of the statistics' routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema_field
from rest_framework import serializers

from apps.analytics.asking import BREAKDOWNS, HOURLY_DAYS_MAX, INTERVALS
from apps.analytics.models.rollups import Wait
from apps.subscriptions.models import SubscriptionType
from apps.tenants.channels import ChannelType
from automata_signal.api import StrictSerializer

IDS_MAX = 50

_DAY_HELP = "A day of the time zone (`2026-11-01`), or an instant (`2026-11-01T09:00:00+09:00`)."
_PERIOD = {
    "from": (64, f"{_DAY_HELP} 30 days before `to` unless told."),
    "to": (64, f"{_DAY_HELP} A day is included, an instant is not; today unless told. At most 400 days after `from`."),
    "time_zone": (64, "Whose days and hours; the application's unless told."),
}
_NAMES = {"from": "since", "to": "until", "channel": "channel_type"}
"""Parameters and what the code calls them: `from` is a word of Python."""


class PeriodQuery(StrictSerializer):
    """`from`, `to` and `time_zone`."""

    from_text = True
    format = serializers.ChoiceField(("json", "csv"), required=False)

    def get_fields(self) -> dict[str, Any]:
        period = {
            name: serializers.CharField(max_length=length, required=False, help_text=words)
            for name, (length, words) in _PERIOD.items()
        }
        return {**period, **super().get_fields()}

    def to_internal_value(self, data: Any) -> Any:
        given = super().to_internal_value(data)
        given.pop("format", None)
        return {_NAMES.get(name, name): value for name, value in given.items()}


class ChannelQuery(PeriodQuery):
    channel = serializers.ChoiceField(ChannelType.choices, required=False)


class MessagesQuery(ChannelQuery):
    campaign_id = serializers.UUIDField(required=False)
    template_id = serializers.UUIDField(required=False)


class IntervalMixin(serializers.Serializer[Any]):
    interval = serializers.ChoiceField(
        INTERVALS, default="day", help_text=f"By hour at most {HOURLY_DAYS_MAX} days; a week begins on Monday."
    )


class SeriesQuery(MessagesQuery, IntervalMixin):
    pass


class BreakdownQuery(MessagesQuery):
    by = serializers.ChoiceField(BREAKDOWNS, default="channel")


class DistributionQuery(ChannelQuery):
    campaign_id = serializers.UUIDField(required=False)
    wait = serializers.ChoiceField(Wait.choices, default=Wait.RECEIPT, help_text="From sending to what.")


@extend_schema_field(OpenApiTypes.STR)
class IdsField(serializers.CharField):
    """Ids with commas between them."""

    def to_internal_value(self, data: Any) -> Any:
        texts = [text.strip() for text in super().to_internal_value(data).split(",")]
        if len(texts) > IDS_MAX:
            raise serializers.ValidationError(f"At most {IDS_MAX} can be compared.")
        try:
            return [UUID(text) for text in texts]
        except ValueError:
            raise serializers.ValidationError("Must be UUIDs with commas between them.") from None


class ComparisonQuery(ChannelQuery):
    ids = IdsField(
        max_length=IDS_MAX * 40, required=False, help_text=f"At most {IDS_MAX}; those that sent most unless told."
    )


class SubscriptionsQuery(PeriodQuery, IntervalMixin):
    type = serializers.ChoiceField(SubscriptionType.choices, required=False)


class CostsQuery(PeriodQuery, IntervalMixin):
    pass


class SdkQuery(PeriodQuery):
    platform = serializers.CharField(max_length=16, required=False, help_text="Such as `ios`; all unless told.")


def described(query: type[PeriodQuery]) -> list[OpenApiParameter]:
    """As the description has them."""
    found = []
    for name, field in query().fields.items():
        choices = getattr(field, "choices", None)
        kind: Any = OpenApiTypes.UUID if isinstance(field, serializers.UUIDField) else OpenApiTypes.STR
        found.append(
            OpenApiParameter(
                name,
                kind,
                required=field.required,
                enum=list(choices) if isinstance(choices, Mapping) else None,
                description=str(field.help_text or _HELP.get(name, "")),
            )
        )
    return found


_HELP: dict[str, str] = {
    "format": "`csv`: `items` as a table.",
    "channel": "Only of one channel.",
    "campaign_id": "Only of one campaign.",
    "template_id": "Only of one template.",
    "by": "Those of devices know no campaign and no template.",
    "type": "Only of one type.",
}
