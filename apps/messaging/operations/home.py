"""What sending tells on the console's home: what waits and for how long, and how the providers are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.models import Message, Priority
from apps.messaging.operations.watching import breaker_state, duration, oldest_by_application, waiting
from apps.tenants.channels import ChannelType
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, number
from apps.tenants.console.home import (
    Cell,
    PlatformFigures,
    Shown,
    Step,
    StepState,
    home_section,
    platform_figures,
    started_step,
)
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application, ChannelCredential

SLOW_S = {Priority.HIGH.value: 5.0, Priority.MEDIUM.value: 300.0, Priority.LOW.value: 3_600.0}
"""How long a due message may wait before somebody is to look (companion design, 5.3)."""
PROVIDERS_SHOWN = 12
PAST_MESSAGES = 100
"""Who has sent so many needs nobody to show the way."""


@home_section("queue", gettext_lazy("Waiting to be sent"), scope="messages:read", order=50, width="half")
def queue_section(request: HttpRequest, application: Application) -> Shown:
    """What is due, by channel and priority: how much, and how long the oldest waits."""
    now = timezone.now()
    channels, priorities = dict(ChannelType.choices), dict(Priority.choices)
    rows = []
    for line in waiting(application.pk, now=now):
        age_s = line.age_s(now)
        rows.append(
            {
                "channel": channels.get(line.channel_type, line.channel_type),
                "priority": priorities.get(line.priority, line.priority),
                "messages": number(line.messages),
                "age": duration(age_s),
                "is_slow": age_s > SLOW_S.get(line.priority, SLOW_S["low"]),
            }
        )
    more = list_address("messaging.DispatchBatch", application=application.pk, state="waiting")
    return Shown(
        "admin/console/home/queue.html", {"rows": rows}, is_live=bool(rows), more=more, more_label=_("Batches")
    )


@home_section("providers", gettext_lazy("Providers"), scope="settings:read", order=55, width="half")
def providers_section(request: HttpRequest, application: Application) -> Shown:
    """The active credentials: whether they send, and what their providers complained of last."""
    now = timezone.now()
    rows = ChannelCredential.objects.filter(application_id=application.pk, is_active=True).defer("secret")
    found = list(rows.order_by("breaker_opened_at", "provider", "position")[:PROVIDERS_SHOWN])
    entries = [_provider(row, now) for row in found]
    is_live = any(entry["state"] != "closed" for entry in entries)
    address = f"{reverse('admin:operations_breakers')}?{urlencode({'application': str(application.pk)})}"
    return Shown(
        "admin/console/home/providers.html",
        {
            "entries": entries,
            "add": reverse("admin:tenants_channelcredential_add") if _may_add(request, application) else "",
        },
        is_live=is_live,
        more=address,
        more_label=_("Breakers and rates"),
    )


def _may_add(request: HttpRequest, application: Application) -> bool:
    return grants_of(request).has("settings:write", application.pk)


def _provider(row: ChannelCredential, now: datetime) -> dict[str, Any]:
    return {
        "name": row.name,
        "provider": row.get_provider_display(),
        "address": reverse("admin:tenants_channelcredential_change", args=[row.pk]),
        "state": breaker_state(row, now),
        "cause": row.get_breaker_cause_display() if row.breaker_cause else "",
        "reason": row.breaker_reason,
        "since": moment(row.breaker_opened_at),
        "probe": moment(row.breaker_probe_at),
        "error": row.last_error,
        "error_at": moment(row.last_error_at),
    }


# --- Getting started -----------------------------------------------------------------------------------------------


def _first_message(application: Application) -> StepState:
    """By the index on application and id."""
    newest = Message.objects.filter(application_id=application.pk).order_by("-pk").values_list("pk")
    sent = len(newest[: PAST_MESSAGES + 1])
    if sent > PAST_MESSAGES:
        return StepState.PAST
    return StepState.DONE if sent else StepState.OPEN


started_step(
    "message",
    Step(
        gettext_lazy("Write a template and send a test message"),
        gettext_lazy("A template is the words with places for names; a test message shows them on your own phone."),
        "templates:write",
        40,
        lambda application: list_address("messaging.MessageTemplate", application=application.pk),
        _first_message,
    ),
)

# --- The platform --------------------------------------------------------------------------------------------------


def _of_applications(ids: Sequence[UUID]) -> dict[UUID, list[Cell]]:
    """The oldest message that is due, and how many credentials do not send."""
    now = timezone.now()
    oldest = oldest_by_application(ids, now=now)
    stopped = ChannelCredential.objects.filter(application_id__in=ids, is_active=True, breaker_opened_at__isnull=False)
    open_breakers = Counter(stopped.values_list("application_id", flat=True))
    found = {}
    for key in ids:
        age_s = max(0.0, (now - oldest[key].due_at).total_seconds()) if key in oldest else 0.0
        breakers = f"{reverse('admin:operations_breakers')}?{urlencode({'application': str(key)})}"
        waits = Cell(
            duration(age_s) if key in oldest else "–",
            2.0 if age_s > SLOW_S["medium"] else 0.2 if age_s > SLOW_S["high"] else 0.0,
            list_address("messaging.DispatchBatch", application=key, state="waiting") if key in oldest else "",
        )
        count = open_breakers[key]
        stops = Cell(number(count), 5.0 if count else 0.0, breakers if count else "")
        found[key] = [waits, stops]
    return found


platform_figures(
    PlatformFigures("sending", (gettext_lazy("Oldest due"), gettext_lazy("Stopped credentials")), 50, _of_applications)
)
