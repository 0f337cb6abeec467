"""What an application's plan includes, asked in one place by everything that a plan can forbid.

Each refusal says what is limited, to how much, and what is used of it (`error.limits`), before anything is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.billing.models import AnalyticsDepth, BillingProfile, Feature, Plan
from apps.billing.plans import default_plan
from apps.tenants.models import ApiKey, Application, Membership, Operator, Role
from automata_signal.errors import FieldProblem, Forbidden

_DEPTHS = [depth.value for depth in AnalyticsDepth]
"""From the least to the most."""


def plan_of(application: Application) -> Plan:
    """The application's plan: the default one until it has another. Without a query for who calls with an API key."""
    relation = Application._meta.get_field("billing")
    if relation.is_cached(application):
        profile = getattr(application, "billing", None)
    else:
        profile = (
            BillingProfile.objects.for_application(application)
            .select_related("plan")
            .defer("alert_webhook_secret")
            .first()
        )
    return profile.plan if profile is not None else default_plan()


# --- Features ----------------------------------------------------------------------------------------------------


def has_feature(application: Application, feature: Feature) -> bool:
    return feature.value in plan_of(application).features


def require_feature(application: Application, feature: Feature) -> None:
    """Raise `Forbidden` (PLAN_FEATURE) unless the plan includes it."""
    _require(plan_of(application), feature)


def _require(plan: Plan, feature: Feature) -> None:
    if feature.value not in plan.features:
        raise Forbidden(
            f"The plan {plan.name} does not include this: {feature.label}.",
            code="PLAN_FEATURE",
            facts=_facts(plan, "feature", limit=0, used=None) | {"feature": feature.value},
        )


def analytics_depth(application: Application) -> AnalyticsDepth:
    return AnalyticsDepth(plan_of(application).analytics_depth)


def require_depth(application: Application, depth: AnalyticsDepth) -> None:
    """Raise `Forbidden` (PLAN_FEATURE) unless the plan's analytics go as deep."""
    plan = plan_of(application)
    if _DEPTHS.index(plan.analytics_depth) < _DEPTHS.index(depth.value):
        raise Forbidden(
            f"The plan {plan.name} does not include this: {depth.label}.",
            code="PLAN_FEATURE",
            facts=_facts(plan, "analytics_depth", limit=plan.analytics_depth, used=depth.value),
        )


def _facts(plan: Plan, what: str, *, limit: Any, used: Any) -> dict[str, Any]:
    """What no time resets: it takes another plan."""
    return {"what": what, "limit": limit, "used": used, "resets_at": None, "plan": plan.code}


# --- Retention -----------------------------------------------------------------------------------------------------


def refuse_retention(plan: Plan, settings: Mapping[str, Any]) -> None:
    """Raise `Forbidden` (PLAN_LIMIT) for `retention_days` above what the plan keeps."""
    wanted, limit = settings.get("retention_days"), plan.retention_days_max
    if wanted is None or limit is None or wanted <= limit:
        return
    raise Forbidden(
        f"The plan {plan.name} keeps messages for {limit} days at most.",
        code="PLAN_LIMIT",
        details=[FieldProblem("settings.retention_days", f"is above the plan's {limit} days")],
        facts=_facts(plan, "retention_days", limit=limit, used=wanted),
    )


# --- Number of applications ----------------------------------------------------------------------------------------


def owned_plans(operator: Operator) -> dict[UUID, Plan]:
    """The plan of each application that the operator owns."""
    owned = Membership.objects.filter(operator=operator, role=Role.OWNER).values_list("application_id", flat=True)
    profiles = (
        BillingProfile.objects.filter(application_id__in=owned).select_related("plan").only("application", "plan")
    )
    known = {profile.application_id: profile.plan for profile in profiles}
    missing = [key for key in owned if key not in known]
    return known | (dict.fromkeys(missing, default_plan()) if missing else {})


def largest(plans: Sequence[Plan]) -> Plan:
    """The plan that allows the most applications. `plans` is not empty."""
    return max(plans, key=lambda plan: (plan.applications_max is None, plan.applications_max or 0))


def refuse_owner(operator: Operator, application: Application) -> None:
    """Raise `Forbidden` (PLAN_LIMIT) if the operator owns as many applications as the most generous of their plans
    allows.

    Who owns none yet gets the first by its own plan. Superusers own as many as they like.
    """
    if operator.is_superuser:
        return
    Operator.objects.select_for_update(no_key=True).get(pk=operator.pk)  # two at once would both find room
    owned = {key: plan for key, plan in owned_plans(operator).items() if key != application.pk}
    plan = largest(list(owned.values()) or [plan_of(application)])
    if plan.applications_max is not None and len(owned) + 1 > plan.applications_max:
        raise Forbidden(
            f"The plan {plan.name} allows {plan.applications_max} applications, and {operator} owns {len(owned)}.",
            code="PLAN_LIMIT",
            facts=_facts(plan, "applications", limit=plan.applications_max, used=len(owned)),
        )


# --- For apps.tenants ----------------------------------------------------------------------------------------------


class Rules:
    """`apps.tenants.plan_rules.PlanRules`."""

    def with_plans(self, keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        return keys.select_related("application__billing__plan").defer("application__billing__alert_webhook_secret")

    def refuse_key(self, key: ApiKey) -> None:
        _require(plan_of(key.application), Feature.API)

    def refuse_owner(self, operator: Operator, application: Application) -> None:
        refuse_owner(operator, application)

    def refuse_settings(self, application: Application, settings: Mapping[str, Any]) -> None:
        refuse_retention(plan_of(application), settings)
