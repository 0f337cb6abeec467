"""Segments: named criteria that campaigns, counts and other segments refer to.

A segment may change while a scheduled campaign refers to it: that campaign goes to whoever is in the segment when it
is launched. A campaign that was launched has its own copy of the criteria, and no edit reaches it. What is referred to
cannot be deleted.
"""

from __future__ import annotations

from uuid import UUID

from django.db import models, transaction
from django.db.models import F, QuerySet, Value
from django.db.models.functions import JSONObject
from django.utils import timezone

from apps.campaigns.audience import compiled, normalise, refusal, segments_of
from apps.campaigns.models import CampaignStatus, MessageCampaign, Segment
from apps.subscriptions.targeting import Criteria, TargetingError, compile_criteria
from apps.tenants.models import Application
from automata_signal.errors import Conflict, FieldProblem, NotFound, ValidationFailed


@transaction.atomic
def segment_create(
    *, application: Application, name: str, criteria: Criteria, description: str = "", by: str = ""
) -> Segment:
    """Raises `ValidationFailed` with the place in `criteria`, and `Conflict` for a name that is taken."""
    lock_segments(application)
    compiled(application, criteria, field="criteria")
    segment = Segment(
        application=application,
        name=_free_name(application, name),
        description=description,
        criteria=normalise(criteria),
    )
    return _save(segment, by)


@transaction.atomic
def segment_update(
    *,
    segment: Segment,
    name: str | None = None,
    description: str | None = None,
    criteria: Criteria | None = None,
    by: str = "",
) -> Segment:
    """Change what is given. Raises as `segment_create` does, also if the segment would come to contain itself."""
    lock_segments(segment.application)
    row = _present(segment)
    if name is not None and name != row.name:
        row.name = _free_name(row.application, name)
    if description is not None:
        row.description = description
    if criteria is not None:
        _refuse_unusable(row, criteria)
        row.criteria = normalise(criteria)
    return _save(row, by)


@transaction.atomic
def segment_delete(*, segment: Segment, by: str = "") -> None:
    """Raises `Conflict` that names what refers to the segment: other segments, campaigns not launched yet."""
    lock_segments(segment.application)
    row = _present(segment)
    if users := segment_users(row):
        raise Conflict(
            "The segment is in use; change what refers to it first.",
            code="SEGMENT_IN_USE",
            details=users,
        )
    row._change_reason = by[:100] or None  # type: ignore[attr-defined]
    row.delete()


def lock_segments(application: Application) -> None:
    """One writer of an application's references at a time, so that two edits cannot close a circle between them.

    The lock does not hold up who only refers to the application, such as a worker that writes messages.
    """
    Application.objects.select_for_update(no_key=True).get(pk=application.pk)


def _present(segment: Segment) -> Segment:
    row = Segment.objects.select_related("application").filter(pk=segment.pk).first()
    if row is None:
        raise NotFound("There is no such segment.")
    return row


def _free_name(application: Application, name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= 200:
        raise ValidationFailed.of("name", "must have 1 to 200 characters")
    if Segment.objects.for_application(application).filter(name=name).exists():
        problem = FieldProblem("name", "is the name of another segment")
        raise Conflict("There is a segment of this name.", code="NAME_TAKEN", details=[problem])
    return name


def _refuse_unusable(segment: Segment, criteria: Criteria) -> None:
    """Compile the segment by reference, with its new criteria, so that a circle through it is seen."""
    others = segments_of(segment.application)

    def resolve(segment_id: UUID) -> Criteria | None:
        return criteria if segment_id == segment.pk else others(segment_id)

    try:
        compile_criteria({"segment": str(segment.pk)}, resolve_segment=resolve)
    except TargetingError as error:
        own_place = error.path.removeprefix(f"segment({segment.pk})").lstrip(".")
        raise refusal(TargetingError(own_place, error.message), "criteria") from None


def segment_users(segment: Segment) -> list[FieldProblem]:
    """What refers to the segment, at most ten of each kind.

    Reads the application's segments, and its campaigns that are not launched yet (`campaign_by_application`).
    """
    segments = _referring(Segment.objects.for_application(segment.application), "criteria", segment)
    open_campaigns = MessageCampaign.objects.for_application(segment.application).filter(
        status__in=(CampaignStatus.DRAFT, CampaignStatus.SCHEDULED)
    )
    campaigns = _referring(open_campaigns, "targeting_criteria", segment)
    return [FieldProblem(f"segments.{pk}", name) for pk, name in segments] + [
        FieldProblem(f"campaigns.{pk}", name) for pk, name in campaigns
    ]


def _referring(rows: QuerySet[models.Model], column: str, segment: Segment) -> list[tuple[UUID, str]]:
    mentions = models.Func(
        F(column),
        Value("$.**.segment ? (@ == $id)"),
        JSONObject(id=Value(str(segment.pk))),
        template="jsonb_path_exists(%(expressions)s)",
        arg_joiner=", ",
        output_field=models.BooleanField(),
    )
    return list(rows.annotate(mentions=mentions).filter(mentions=True).values_list("pk", "name")[:10])


def _save(segment: Segment, by: str) -> Segment:
    segment.updated_at = timezone.now()
    segment._change_reason = by[:100] or None  # type: ignore[attr-defined]
    segment.save()
    return segment
