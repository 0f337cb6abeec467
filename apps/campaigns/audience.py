"""Audiences of an application: criteria and the segments that they refer to.

Segments are read inside of one application only, and a stored reference has one spelling (`normalise`), so that what
refers to a segment can be found by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from apps.campaigns.models import Segment
from apps.subscriptions.models import SubscriptionType
from apps.subscriptions.targeting import Criteria, Predicate, TargetingError, compile_criteria
from apps.tenants.models import Application
from automata_signal.errors import ValidationFailed

_EVERYBODY: Criteria = {"field": "type", "op": "in", "value": list(SubscriptionType.values)}
"""`{}` of a segment, written so that it may stand inside of other criteria."""


def segments_of(application: Application) -> Callable[[UUID], Criteria | None]:
    """The resolver of the compiler: a segment's criteria, or None if this application has no such segment."""
    known: dict[UUID, Criteria | None] = {}

    def resolve(segment_id: UUID) -> Criteria | None:
        if segment_id not in known:
            rows = Segment.objects.for_application(application).filter(pk=segment_id)
            known[segment_id] = rows.values_list("criteria", flat=True).first()
        return known[segment_id]

    return resolve


def compiled(
    application: Application,
    criteria: object,
    *,
    field: str,
    resolve: Callable[[UUID], Criteria | None] | None = None,
    now: datetime | None = None,
) -> Predicate:
    """The predicate of these criteria; raises `ValidationFailed` that names the place below `field`."""
    try:
        return compile_criteria(criteria, resolve_segment=resolve or segments_of(application), now=now)
    except TargetingError as error:
        raise refusal(error, field) from None


def refusal(error: TargetingError, field: str) -> ValidationFailed:
    return ValidationFailed.of(f"{field}.{error.path}" if error.path else field, error.message)


def normalise(criteria: Criteria) -> Criteria:
    """The same criteria with each segment's id in its usual spelling. The criteria have been compiled."""
    return _mapped(criteria, lambda segment_id: {"segment": str(segment_id)})


def freeze(application: Application, criteria: Criteria) -> Criteria:
    """The same audience without references, which no edit of a segment reaches. The criteria have been compiled."""
    resolve = segments_of(application)

    def expand(segment_id: UUID) -> Criteria:
        inner = resolve(segment_id)
        assert inner is not None
        return _mapped(inner, expand) or _EVERYBODY

    return _mapped(criteria, expand)


def _mapped(node: Criteria, replace: Callable[[UUID], Criteria]) -> Criteria:
    """The tree with each segment node replaced."""
    if "segment" in node:
        return replace(UUID(node["segment"]))
    for word in ("all", "any"):
        if word in node:
            return {word: [_mapped(child, replace) for child in node[word]]}
    return {"not": _mapped(node["not"], replace)} if "not" in node else node
