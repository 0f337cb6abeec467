"""A step of getting started on the console's home: somebody who can be reached."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apps.subscriptions.models import Subscription
from apps.tenants.console.home import Step, StepState, started_step
from apps.tenants.console.panels import list_address
from apps.tenants.models import Application


def _subscription(application: Application) -> StepState:
    rows = Subscription.objects.filter(application_id=application.pk)
    return StepState.DONE if rows.exists() else StepState.OPEN


started_step(
    "subscription",
    Step(
        _("See the first subscription"),
        _("Put the SDK into your app and open it on a phone, or import a file of addresses."),
        "subscriptions:read",
        30,
        lambda application: list_address("subscriptions.Subscription", application=application.pk),
        _subscription,
    ),
)
