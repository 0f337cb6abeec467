"""The plans that every installation starts with, and what a plan says about each channel.

Operators change them and define more at the console; what is here is only added where it is missing, after each
`migrate`, as Django does with its permissions. A plan that was changed, or can no longer be chosen, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from django.apps import apps as installed
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from apps.billing.models import DEFAULT_CURRENCY, AnalyticsDepth, Feature, Plan
from apps.tenants.channels import ChannelType


class Terms(NamedTuple):
    """Of one channel: messages per day and per month (None: any number), and the price of one."""

    daily_quota: int | None
    monthly_quota: int | None
    unit_price: Decimal
    currency: str = DEFAULT_CURRENCY


NOT_INCLUDED = Terms(0, 0, Decimal(0))
"""Of a channel that a plan does not name."""


class StandardPlan(NamedTuple):
    name: str
    applications_max: int | None
    messages_per_second: int | None
    features: tuple[Feature, ...]
    analytics_depth: AnalyticsDepth
    retention_days_max: int | None
    channels: Mapping[ChannelType, Terms]


_ALL_FEATURES = tuple(Feature)
_UNLIMITED = Terms(None, None, Decimal(0))

STANDARD_PLANS: Mapping[str, StandardPlan] = {
    "free": StandardPlan(
        name="Free",
        applications_max=1,
        messages_per_second=20,
        features=(Feature.API,),
        analytics_depth=AnalyticsDepth.BASIC,
        retention_days_max=30,
        channels={
            ChannelType.PUSH: Terms(1_000, 10_000, Decimal(0)),
            ChannelType.EMAIL: Terms(100, 1_000, Decimal(0)),
            ChannelType.IN_APP: Terms(1_000, 10_000, Decimal(0)),
        },
    ),
    "basic": StandardPlan(
        name="Basic",
        applications_max=3,
        messages_per_second=500,
        features=(Feature.API, Feature.CAMPAIGNS),
        analytics_depth=AnalyticsDepth.BASIC,
        retention_days_max=90,
        channels={
            ChannelType.PUSH: Terms(100_000, 2_000_000, Decimal("0.5")),
            ChannelType.EMAIL: Terms(10_000, 200_000, Decimal("1")),
            ChannelType.SMS: Terms(5_000, 100_000, Decimal("15")),
            ChannelType.KAKAO_TALK: Terms(10_000, 200_000, Decimal("9")),
            ChannelType.IN_APP: Terms(100_000, 2_000_000, Decimal("0.1")),
        },
    ),
    "premium": StandardPlan(
        name="Premium",
        applications_max=10,
        messages_per_second=5_000,
        features=_ALL_FEATURES,
        analytics_depth=AnalyticsDepth.ADVANCED,
        retention_days_max=365,
        channels={
            ChannelType.PUSH: Terms(5_000_000, 100_000_000, Decimal("0.2")),
            ChannelType.EMAIL: Terms(500_000, 10_000_000, Decimal("0.7")),
            ChannelType.SMS: Terms(100_000, 2_000_000, Decimal("12")),
            ChannelType.KAKAO_TALK: Terms(500_000, 10_000_000, Decimal("8")),
            ChannelType.IN_APP: Terms(5_000_000, 100_000_000, Decimal("0.05")),
        },
    ),
    "enterprise": StandardPlan(
        name="Enterprise",
        applications_max=None,
        messages_per_second=None,
        features=_ALL_FEATURES,
        analytics_depth=AnalyticsDepth.FULL,
        retention_days_max=None,
        channels=dict.fromkeys(ChannelType, _UNLIMITED),
    ),
}
"""Applications, analytics and payment follow the plan matrix of the companion design; quotas and prices (KRW) are ours
to start from."""


def default_plan() -> Plan:
    """The plan of an application that nobody gave one. Raise `ImproperlyConfigured` if `DEFAULT_PLAN` names none."""
    plan = Plan.objects.filter(code=settings.DEFAULT_PLAN).first()
    if plan is None:
        raise ImproperlyConfigured(f"DEFAULT_PLAN: there is no plan with the code {settings.DEFAULT_PLAN!r}")
    return plan


def terms_of(plan: Plan) -> dict[ChannelType, Terms]:
    """What the plan says about every channel; of those it does not name, `NOT_INCLUDED`."""
    named = {
        row.channel_type: Terms(row.daily_quota, row.monthly_quota, row.unit_price.amount, str(row.unit_price.currency))
        for row in plan.channels.all()
    }
    return {channel: named.get(channel, NOT_INCLUDED) for channel in ChannelType}


def add_standard_plans(*, using: str, apps: Any = installed, **signal: Any) -> None:
    """For `post_migrate`: add the plans whose code is missing. `apps` is the state that was migrated to."""
    try:
        plan_model, channel_model = apps.get_model("billing", "Plan"), apps.get_model("billing", "PlanChannel")
    except LookupError:
        return
    plans, channels = plan_model.objects.using(using), channel_model.objects.using(using)
    known = set(plans.values_list("code", flat=True))
    for code, standard in STANDARD_PLANS.items():
        if code in known:
            continue
        fields = standard._asdict()
        terms = fields.pop("channels")
        plan = plans.create(code=code, **fields | {"features": list(standard.features)})
        channels.bulk_create(
            channel_model(
                plan=plan,
                channel_type=channel_type,
                daily_quota=of_channel.daily_quota,
                monthly_quota=of_channel.monthly_quota,
                unit_price=of_channel.unit_price,
                unit_price_currency=of_channel.currency,
            )
            for channel_type, of_channel in terms.items()
        )
