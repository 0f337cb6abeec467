"""What sending did at all: how many of those who got something have used the app since, and of those who got nothing.

Messages cannot say it, since who gets nothing has none. So the audience is counted by whose it is, with the time at
which each subscription was last seen: one statement, now and then for three days after the launch.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from apps.campaigns.experiments.assignment import ranges
from apps.campaigns.experiments.models import LETTERS, Experiment
from apps.campaigns.experiments.planning import variants_of
from apps.campaigns.models import CampaignStatus
from apps.messaging.adapters.registry import subscription_types_of
from apps.messaging.courtesy.wanted import audience_predicate
from apps.messaging.dispatches import dispatch_again
from apps.messaging.splitting import BUCKET
from apps.subscriptions.targeting import REACHABLE, compile_criteria
from automata_signal.time_limits import limit_statements

log = logging.getLogger(__name__)

STATEMENT_MAX_S = 120
AT_AFTER = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24), timedelta(hours=72))
"""Of the launch."""

# Reads the audience as its fan-out did; index `subscription_reachable`. A subscription that is younger than the launch
# is nobody's.
_COUNT = """
    SELECT width_bucket({bucket}, %s::int[]) - 1, count(*), count(*) FILTER (WHERE s.last_active_at > %s)
    FROM {tables}
    WHERE s.application_id = %s AND s.type = ANY(%s) AND {reachable} AND s.created_at < %s AND ({predicate})
    GROUP BY 1
"""


def experiments_measure(*, now: datetime | None = None) -> int:
    """Count for each test whose time has come. Returns how many. Index: `experiment_to_measure`.

    One that takes too long, or has a fault, is left until its next time.
    """
    now = now or timezone.now()
    measured = 0
    for pk in list(Experiment.objects.filter(measure_at__lte=now).values_list("pk", flat=True)):
        try:
            measured += _measure(pk, now)
        except Exception:
            log.exception("the activity of a test could not be counted", extra={"experiment": str(pk)})
            _put_off(Experiment.objects.select_related("campaign").get(pk=pk), now)
    return measured


@transaction.atomic
def _measure(pk: UUID, now: datetime) -> bool:
    rows = Experiment.objects.select_for_update(of=("self",), skip_locked=True)
    experiment = rows.select_related("campaign__dispatch", "campaign__application").filter(pk=pk).first()
    if experiment is None or experiment.measure_at is None or experiment.measure_at > now:
        return False
    campaign = experiment.campaign
    if campaign.dispatch is None or campaign.sent_at is None or campaign.status == CampaignStatus.CANCELED:
        Experiment.objects.filter(pk=pk).update(measure_at=None)
        return False
    limit_statements(STATEMENT_MAX_S)
    experiment.activity = _counted(experiment)
    experiment.measured_at = now
    experiment.save(update_fields=["activity", "measured_at"])
    _put_off(experiment, now)
    return True


def _counted(experiment: Experiment) -> dict[str, list[int]]:
    """Letter → recipients, and how many were seen since; the rest counts as its winner's once it has one."""
    campaign = experiment.campaign
    dispatch, variants = campaign.dispatch, variants_of(experiment)
    assert dispatch is not None
    whole = dispatch_again(dispatch, split_from=None, split_to=None)
    predicate = audience_predicate(compile_criteria(dispatch.audience or {}, now=dispatch.created_at), whole)
    bounds, held_out_from = ranges(experiment, variants)
    statement = _COUNT.format(bucket=BUCKET, tables=predicate.from_clause, reachable=REACHABLE, predicate=predicate.sql)
    types = list(subscription_types_of(dispatch.channel_type))
    launched_at = campaign.sent_at
    with connection.cursor() as cursor:
        cursor.execute(
            statement,
            [
                *(campaign.pk, [*bounds, held_out_from], launched_at),
                *(campaign.application_id, types, launched_at, *predicate.params),
            ],
        )
        rows = cursor.fetchall()
    winner = next((v.letter for v in variants if v.pk == experiment.winner_id), None)
    found: Counter[str] = Counter()
    active: Counter[str] = Counter()
    for part, people, seen in rows:
        if part < len(variants):
            letter: str | None = LETTERS[part]
        elif part > len(variants):
            letter = "-"
        else:
            letter = winner
        if letter is not None:
            found[letter] += people
            active[letter] += seen
    return {letter: [found[letter], active[letter]] for letter in found}


def _put_off(experiment: Experiment, now: datetime) -> None:
    """To the next time of `AT_AFTER`."""
    launched_at = experiment.campaign.sent_at or now
    ahead = [launched_at + after for after in AT_AFTER if launched_at + after > now]
    Experiment.objects.filter(pk=experiment.pk).update(measure_at=min(ahead, default=None))
