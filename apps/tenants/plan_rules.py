"""What a plan forbids, told by the app that knows plans (`apps.billing`), which lives above this one.

It registers at start-up (`AppConfig.ready`); without it everything is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


PlanChoices = Callable[[], Sequence[tuple[str, str]]]
"""Code and name of the plans that a new application may have, the usual one first."""
PutOnPlan = Callable[["Application", str, str], object]
"""Application, code of the plan, and who does it."""
_choice: list[tuple[PlanChoices, PutOnPlan]] = [(tuple, lambda application, code, by: None)]


def register_plan_choice(choices: PlanChoices, put: PutOnPlan) -> None:
    """Say which plans there are for new applications, and put one on a plan. The last call wins."""
    _choice[:] = [(choices, put)]


def plan_choices() -> Sequence[tuple[str, str]]:
    return _choice[0][0]()


def put_on_plan(application: Application, code: str, by: str) -> None:
    """Raise as the app that knows plans does, if it cannot be."""
    _choice[0][1](application, code, by)
