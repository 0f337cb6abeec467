"""Campaigns and audiences in words, for every page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.campaigns.console.builder import problem_text
from apps.campaigns.console.builder_words import sentence
from apps.campaigns.models import CampaignStatus
from apps.campaigns.selectors import audience_count
from apps.subscriptions.targeting import TargetingError, validate_criteria
from apps.tenants.console import formats
from apps.tenants.models import Application
from automata_signal.errors import SignalError

LAUNCH, WRITE, APPROVE = "campaigns:launch", "campaigns:write", "campaigns:approve"
COUNT_TIMEOUT_MS = 3_000
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
