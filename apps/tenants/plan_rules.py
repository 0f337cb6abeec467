"""What a plan forbids, told by the app that knows plans (`apps.billing`), which lives above this one.

It registers at start-up (`AppConfig.ready`); without it everything is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from django.db.models import QuerySet

if TYPE_CHECKING:
    from apps.tenants.models import ApiKey, Application, Operator


class PlanRules(Protocol):
    """The methods that refuse raise `Forbidden` with the limit and what is used of it."""

    def with_plans(self, keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        """Keys read together with what `refuse_key` asks, so that it needs no query of its own."""
        ...

    def refuse_key(self, key: ApiKey) -> None:
        """Refuse a secret key of an application whose plan has no API."""
        ...

    def refuse_owner(self, operator: Operator, application: Application) -> None:
        """Refuse one more application to somebody who owns as many as their plans allow. Locks the operator."""
        ...

    def refuse_settings(self, application: Application, settings: Mapping[str, Any]) -> None:
        """Refuse settings of an application, saved or not yet, that its plan does not allow."""
        ...


class _NoRules:
    def with_plans(self, keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        return keys

    def refuse_key(self, key: ApiKey) -> None:
        pass

    def refuse_owner(self, operator: Operator, application: Application) -> None:
        pass

    def refuse_settings(self, application: Application, settings: Mapping[str, Any]) -> None:
        pass


_registered: list[PlanRules] = [_NoRules()]


def register_plan_rules(rules: PlanRules) -> None:
    """Let `rules` judge from now on. The last call wins."""
    _registered[:] = [rules]


def plan_rules() -> PlanRules:
    return _registered[0]
