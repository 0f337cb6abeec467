"""Campaigns and audiences in words, for every page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.console.builder import problem_text
from apps.campaigns.console.builder_words import sentence
from apps.campaigns.experiments.planning import as_sent, experiment_of, variants_of
from apps.campaigns.models import CampaignStatus, MessageCampaign
from apps.campaigns.selectors import audience_count
from apps.subscriptions.targeting import TargetingError, validate_criteria
from apps.tenants.console import formats
from apps.tenants.models import Application
from automata_signal.errors import SignalError

LAUNCH, WRITE, APPROVE = "campaigns:launch", "campaigns:write", "campaigns:approve"
COUNT_TIMEOUT_MS = 3_000
CONTENT_MAX = 300
"""Characters of what a campaign says, where it is only one of its facts."""
CRITERIA_HELP = gettext_lazy(
    "A JSON object: {} is everybody who can be reached; or conditions such as "
    '{"all": [{"field": "country", "op": "eq", "value": "KR"}, {"segment": "…"}]}.'
)
STATUS_COLOURS = {
    CampaignStatus.DRAFT.value: "default",
    CampaignStatus.SCHEDULED.value: "info",
    CampaignStatus.RUNNING.value: "primary",
    CampaignStatus.PAUSED.value: "warning",
    CampaignStatus.COMPLETED.value: "success",
    CampaignStatus.CANCELED.value: "warning",
    CampaignStatus.FAILED.value: "danger",
}


def in_words(application: Application, criteria: object) -> str:
    """The criteria in a sentence; what is wrong with them, if they cannot be read."""
    try:
        validate_criteria(criteria)
    except TargetingError as error:
        return problem_text(error)
    return sentence(application, criteria)


def content_in_words(campaign: MessageCampaign) -> str:
    """Its template or what it says; of a test, what each variant does."""
    experiment = experiment_of(campaign)
    variants = variants_of(experiment) if experiment is not None else []
    if not variants:
        return _said(campaign)
    return " · ".join(f"{variant.letter}: {_said(as_sent(campaign, variant))}" for variant in variants)


def _said(campaign: MessageCampaign) -> str:
    text = str(campaign.template) if campaign.template else f"{campaign.title} — {campaign.body}".strip(" —")
    return text[:CONTENT_MAX] or "–"


@contextmanager
def quick_statements() -> Iterator[None]:
    """A transaction whose statements end after `COUNT_TIMEOUT_MS`, by `OperationalError`: a page does not wait."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = {COUNT_TIMEOUT_MS:d}")
        yield
        cursor.execute("SET LOCAL statement_timeout TO DEFAULT")


def reach(application: Application, criteria: object, channel_type: str) -> str:
    """How many can be reached now; a page does not wait for more than `COUNT_TIMEOUT_MS` to know it."""
    try:
        with quick_statements():
            count = audience_count(application=application, criteria=criteria, channel_type=channel_type)
    except OperationalError:
        return _("more than can be counted in a moment")
    except SignalError as error:
        return error.message
    return formats.number(count)
