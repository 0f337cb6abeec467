"""Names of what figures are about. Campaigns live in an upper app, which says how theirs are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from apps.messaging.models import MessageTemplate
from apps.tenants.models import Application

NamesOf = Callable[[Application, Sequence[UUID]], dict[UUID, str]]

_campaigns: list[NamesOf] = []


def register_campaign_names(names_of: NamesOf) -> None:
    """Ask `names_of` from now on; registering again takes the place of the first."""
    _campaigns[:] = [names_of]


def campaign_names(application: Application, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Names of the application's own campaigns among these."""
    return _campaigns[0](application, ids) if _campaigns and ids else {}


def template_names(application: Application, ids: Sequence[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    return dict(MessageTemplate.objects.for_application(application).filter(pk__in=ids).values_list("pk", "name"))
