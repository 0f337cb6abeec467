"""The tasks of the control queue, which is the default one; `CELERY_BEAT_SCHEDULE` says how often the sweeps run."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task

from apps.campaigns import services
from apps.campaigns.approvals.telling import approvers_tell
from apps.campaigns.experiments import activity, running
from apps.campaigns.services.fanout import Step
from automata_signal.task_context import log_fields


@shared_task(name="campaigns.fan_out")
def fan_out(campaign_id: str) -> None:
    with log_fields(campaign_id=campaign_id):
        if services.fan_out(UUID(campaign_id)) is Step.MORE:
            services.queue_fan_out(UUID(campaign_id))


@shared_task(name="campaigns.launch_due")
def launch_due() -> None:
    services.campaigns_launch_due()


@shared_task(name="campaigns.continue_fanouts")
def continue_fanouts() -> None:
    services.campaigns_continue_fanouts()


@shared_task(name="campaigns.decide_experiments")
def decide_experiments() -> None:
    running.campaigns_decide()
    activity.experiments_measure()


@shared_task(name="campaigns.tell_approvers")
def tell_approvers() -> None:
    approvers_tell()


@shared_task(name="campaigns.finish_done")
def finish_done() -> None:
    services.campaigns_finish_done()
