"""A test while its campaign runs: launched, cut into batches, decided.

    launched ──► test cut ──► awaits its winner ──► decided ──► the rest is cut ──► completed
                    └── nothing is left: the winner is only named ──►

The dispatches of the variants are cut in one go, by one statement that says for each recipient whose they are
(`dispatches_slice`); the checkpoint is the campaign's, as without variants. When the test's part is cut and a rest
waits, the campaign stays running. The decision makes one more dispatch, a copy of the winner's for the rest, and the
fan-out begins anew with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from apps.campaigns.experiments import assignment
from apps.campaigns.experiments.assignment import ranges
from apps.campaigns.experiments.models import Experiment, Part, Variant, VariantTally
from apps.campaigns.experiments.planning import as_sent, experiment_of, variants_of
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.services.orders import order_create
from apps.campaigns.services.rows import locked, refuse_state, save
from apps.messaging.chains.steps import chain_again
from apps.messaging.content import ContentSource
from apps.messaging.dispatches import Sliced, dispatch_again, dispatch_slice, dispatches_slice
from apps.messaging.models import Dispatch
from apps.subscriptions.targeting import Predicate
from automata_signal.celery import Task, send_tasks
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import new_id

log = logging.getLogger(__name__)

MEASURE_FIRST_AFTER = timedelta(hours=1)

# --- Launching -------------------------------------------------------------------------------------------------------


def without_held_out(predicate: Predicate, campaign: MessageCampaign) -> Predicate:
    """Those of the audience who get something, now or later."""
    experiment = experiment_of(campaign)
    return predicate if experiment is None else assignment.without_held_out(predicate, experiment)


def variants_launch(campaign: MessageCampaign, check: Callable[[MessageCampaign], ContentSource]) -> Dispatch:
    """Make the dispatch of each variant, to its part of the audience; the first is the campaign's own."""
    experiment = experiment_of(campaign)
    assert experiment is not None
    variants = variants_of(experiment)
    bounds = ranges(experiment, variants).variants
    dispatches = []
    for variant, begins, ends in zip(variants, bounds, bounds[1:], strict=False):
        view = as_sent(campaign, variant)
        tally = VariantTally.objects.create(application_id=campaign.application_id, variant=variant, part=Part.TEST)
        dispatch = order_create(
            view, check(view), variant=variant.letter, split_from=begins, split_to=ends, tally_id=tally.pk
        )
        variant.dispatch_id = dispatch.pk
        variant.save(update_fields=["dispatch_id"])
        dispatches.append(dispatch)
    if experiment.holdout_percent:
        experiment.measure_at = timezone.now() + MEASURE_FIRST_AFTER
        experiment.save(update_fields=["measure_at"])
    return dispatches[0]


# --- Cutting ---------------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """What one step of the fan-out did of a test."""

    sliced: Sliced
    experiment: Experiment
    by_tally: Mapping[UUID, int]
    held_out: int
    awaits_winner: bool
    """The test's part is cut to its end, and a rest waits."""


def parts_slice(campaign: MessageCampaign, *, limit: int, is_over_quota: bool) -> Cut:
    """As `dispatch_slice`, of the variants together, or of the rest once there is a winner."""
    experiment = experiment_of(campaign)
    assert experiment is not None
    rows = Dispatch.objects.filter(application_id=campaign.application_id, campaign_id=campaign.pk)
    if experiment.winner_id is not None and experiment.has_rest:
        rest = _rest_of(experiment, rows.select_related("application").order_by("-id"))
        sliced = dispatch_slice(
            dispatch=rest, after_id=campaign.fanout_after_id, limit=limit, is_over_quota=is_over_quota
        )
        assert rest.tally_id is not None
        return Cut(sliced, experiment, {rest.tally_id: sliced.recipients}, 0, False)
    variants = variants_of(experiment)
    found = rows.select_related("application").in_bulk([variant.dispatch_id for variant in variants])
    dispatches = [found[variant.dispatch_id] for variant in variants if variant.dispatch_id]
    parts = dispatches_slice(
        dispatches=dispatches,
        held_out_from=ranges(experiment, variants).held_out_from,
        after_id=campaign.fanout_after_id,
        limit=limit,
        is_over_quota=is_over_quota,
    )
    by_tally = {d.tally_id: parts.by_dispatch.get(d.pk, 0) for d in dispatches if d.tally_id}
    sliced = Sliced(parts.last_id, parts.batch_ids, parts.recipients)
    return Cut(sliced, experiment, by_tally, parts.held_out, parts.last_id is None and experiment.has_rest)


def _rest_of(experiment: Experiment, dispatches: Any) -> Dispatch:
    assert experiment.winner_id is not None
    tallies = VariantTally.objects.filter(application_id=experiment.application_id, part=Part.REST)
    tally_id = tallies.filter(variant_id=experiment.winner_id).values_list("pk", flat=True).get()
    # A requeue's copies are younger, and have the same row: the oldest is what the decision made.
    rest: Dispatch = dispatches.filter(tally_id=tally_id).order_by("id")[0]
    return rest


def parts_count(cut: Cut) -> None:
    """Count what was cut. The campaign's row is locked by its checkpoint's statement."""
    if any(cut.by_tally.values()):
        with connection.cursor() as cursor:
            cursor.execute(
                """
                UPDATE campaigns_varianttally t SET total = t.total + d.total
                FROM unnest(%s::uuid[], %s::int[]) AS d(id, total)
                WHERE t.id = d.id AND t.application_id = %s
                """,
                [list(cut.by_tally), list(cut.by_tally.values()), cut.experiment.application_id],
            )
    changes: dict[str, Any] = {}
    if cut.held_out:
        changes["held_out"] = F("held_out") + cut.held_out
    is_tested = cut.sliced.last_id is None and cut.experiment.winner_id is None
    if is_tested and cut.experiment.winner_by == "rule":
        changes["decide_at"] = timezone.now() + timedelta(hours=cut.experiment.decide_after_h)
    if changes:
        Experiment.objects.filter(application_id=cut.experiment.application_id, pk=cut.experiment.pk).update(**changes)


# --- Deciding --------------------------------------------------------------------------------------------------------

WINNER_IN = (CampaignStatus.RUNNING, CampaignStatus.COMPLETED)


@transaction.atomic
def winner_choose(*, campaign: MessageCampaign, letter: str, decided_by: str, by: str = "") -> Experiment:
    """Have a person choose the winner; the rest of the audience gets it, if one waits.

    Raises `ValidationFailed` for a letter that there is not, `NotFound` for a campaign without variants, and `Conflict`
    with CAMPAIGN_STATE, WINNER_CHOSEN, or TEST_NOT_CUT while the test's part is still being cut into batches.
    """
    row = locked(campaign)
    experiment = _locked(row)
    if experiment is None:
        raise NotFound("The campaign has no variants.")
    winner = next((variant for variant in variants_of(experiment) if variant.letter == letter), None)
    if winner is None:
        raise ValidationFailed.of("variant", "there is no such variant")
    if experiment.winner_id is not None:
        raise Conflict("The winner is chosen already.", code="WINNER_CHOSEN")
    possible = [CampaignStatus.RUNNING] if experiment.has_rest else list(WINNER_IN)
    if row.status not in possible:
        refuse_state(row, "choosing the winner", [str(status) for status in possible])
    if experiment.has_rest and not row.awaits_winner:
        raise Conflict("The test is still being cut into batches: in a moment.", code="TEST_NOT_CUT")
    _decide(row, experiment, winner, because="person", decided_by=decided_by, by=by)
    return experiment


def _locked(row: MessageCampaign) -> Experiment | None:
    rows = Experiment.objects.select_for_update(of=("self",))
    return rows.filter(application_id=row.application_id, campaign_id=row.pk).first() if row.has_variants else None


def _decide(
    row: MessageCampaign,
    experiment: Experiment,
    winner: Variant,
    *,
    because: str,
    decided_by: str,
    by: str,
    confidence: float | None = None,
) -> None:
    """Write down the winner, and let the rest have it. Campaign and experiment are locked."""
    from apps.campaigns.experiments.selectors import probability_of_best

    experiment.winner = winner
    experiment.decided_at, experiment.decide_at = timezone.now(), None
    experiment.decided_by, experiment.decided_because = decided_by[:200], because
    experiment.decided_confidence = (
        probability_of_best(experiment).get(winner.letter) if confidence is None else confidence
    )
    experiment.save(
        update_fields=[
            *("winner", "decided_at", "decide_at", "decided_by", "decided_because", "decided_confidence"),
        ]
    )
    if row.awaits_winner:
        _release_rest(row, experiment, winner)
        row.awaits_winner, row.fanout_done_at, row.fanout_after_id = False, None, None
        transaction.on_commit(lambda: queue_rest(row.pk), robust=True)
    save(row, "awaits_winner", "fanout_done_at", "fanout_after_id", by=f"winner {winner.letter} · {by or decided_by}")


def _release_rest(row: MessageCampaign, experiment: Experiment, winner: Variant) -> None:
    """The winner's content once more, to those who have waited, with what was fixed at the launch."""
    assert winner.dispatch_id is not None
    tested = Dispatch.objects.get(application_id=row.application_id, pk=winner.dispatch_id)
    tally = VariantTally.objects.create(application_id=row.application_id, variant=winner, part=Part.REST)
    begins, ends = ranges(experiment, variants_of(experiment)).rest
    assert row.dispatch is not None
    rest = dispatch_again(
        tested,
        id=new_id(),
        split_from=begins,
        split_to=ends,
        tally_id=tally.pk,
        # What is left of the launch's reservation is given back to the day of the launch.
        reserved_at=row.dispatch.created_at if row.reserved_left else None,
    )
    rest.save(force_insert=True)
    if tested.chain_id is not None:
        chain_again(of=tested, first=rest)


def queue_rest(campaign_id: UUID) -> None:
    """If the broker does not answer, the sweep `campaigns.continue_fanouts` makes up for it."""
    send_tasks([Task("campaigns.fan_out", [str(campaign_id)], "control")])


def campaigns_decide(*, now: datetime | None = None) -> int:
    """Ask the rule of each test whose time has come. Returns how many it decided. Index: `experiment_to_decide`.

    Each in a transaction of its own, under the campaign's lock: a second sweep, or one after an outage, finds it
    decided. What is paused is decided once it goes on, and what meets a fault of ours is left to the next sweep: it
    must not hold up the others.
    """
    now = now or timezone.now()
    due = Experiment.objects.filter(decide_at__lte=now).exclude(campaign__status=CampaignStatus.PAUSED)
    decided = 0
    for campaign_id in list(due.values_list("campaign_id", flat=True)):
        try:
            decided += _ask_rule(campaign_id, now)
        except Exception:
            log.exception("the rule of a test could not be asked", extra={"campaign": str(campaign_id)})
    return decided


@transaction.atomic
def _ask_rule(campaign_id: UUID, now: datetime) -> bool:
    from apps.campaigns.experiments.selectors import verdict

    rows = MessageCampaign.objects.select_for_update(of=("self",), skip_locked=True)
    row = rows.select_related("application", "dispatch").filter(pk=campaign_id).first()
    experiment = _locked(row) if row else None
    if row is None or experiment is None or experiment.decide_at is None or experiment.decide_at > now:
        return False
    if row.status == CampaignStatus.PAUSED:
        return False
    possible = row.status == CampaignStatus.RUNNING or (
        row.status == CampaignStatus.COMPLETED and not experiment.has_rest
    )
    found = verdict(experiment) if possible and experiment.winner_id is None else None
    if found is None or found.letter is None:
        experiment.decide_at, experiment.asked_at = None, now if found is not None else None
        experiment.save(update_fields=["decide_at", "asked_at"])
        return False
    winner = next(variant for variant in variants_of(experiment) if variant.letter == found.letter)
    _decide(
        row,
        experiment,
        winner,
        because=found.because,
        decided_by="",
        by="rule",
        confidence=found.confidence,
    )
    return True
