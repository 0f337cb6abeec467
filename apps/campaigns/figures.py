"""What Prometheus is told of campaigns that run: looked up when it asks (`automata_signal.figures`)."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connection
from django.utils import timezone

from automata_signal.figures import Figure, Sample, Source, register

_RUNNING = Figure("automata_campaigns_running", "Campaigns that are being sent")
_FANNING_OUT = Figure("automata_fanouts_unfinished", "Campaigns whose audience is not cut into slices yet")
_FANOUT_AGE = Figure("automata_fanouts_oldest_seconds", "How long ago the oldest of them was launched")
_RECIPIENTS = Figure(
    "automata_campaign_recipients", "Recipients of running campaigns: cut so far, and sent or failed", ("state",)
)
_OVERDUE = Figure("automata_campaigns_overdue_seconds", "How long the oldest scheduled campaign waits after its time")

# A campaign is finished soon after its last message, so few are running. Indexes: `campaign_running`,
# `campaign_scheduled`.
_RUNNING_SQL = """
    SELECT count(*), count(*) FILTER (WHERE fanout_done_at IS NULL),
           extract(epoch FROM %(now)s - min(sent_at) FILTER (WHERE fanout_done_at IS NULL))::float8,
           COALESCE(sum(total_recipients), 0)::bigint, COALESCE(sum(successful_count + failed_count), 0)::bigint
    FROM campaigns_messagecampaign WHERE status = 'running'
"""
_OVERDUE_SQL = """
    SELECT extract(epoch FROM %(now)s - min(scheduled_at))::float8 FROM campaigns_messagecampaign
    WHERE status = 'scheduled' AND scheduled_at <= %(now)s
"""


def _read() -> Iterator[Sample]:
    now = {"now": timezone.now()}
    with connection.cursor() as cursor:
        cursor.execute(_RUNNING_SQL, now)
        running, fanning_out, age_s, cut, settled = cursor.fetchone()
        cursor.execute(_OVERDUE_SQL, now)
        [overdue_s] = cursor.fetchone()
    yield Sample(_RUNNING, running)
    yield Sample(_FANNING_OUT, fanning_out)
    yield Sample(_FANOUT_AGE, age_s or 0.0)
    yield Sample(_RECIPIENTS, cut, ("cut",))
    yield Sample(_RECIPIENTS, settled, ("settled",))
    yield Sample(_OVERDUE, overdue_s or 0.0)


def register_figures() -> None:
    register(Source("campaigns", (_RUNNING, _FANNING_OUT, _FANOUT_AGE, _RECIPIENTS, _OVERDUE), _read))
