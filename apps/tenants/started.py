"""The first steps of a new application on the console's home: a credential, and a key."""

from __future__ import annotations

from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from apps.tenants.console.home import Step, StepState, started_step
from apps.tenants.models import ApiKey, Application, ChannelCredential


def _credential(application: Application) -> StepState:
    rows = ChannelCredential.objects.filter(application=application, is_active=True).exclude(provider="in_app")
    return StepState.DONE if rows.exists() else StepState.OPEN


def _key(application: Application) -> StepState:
    rows = ApiKey.objects.filter(application=application, revoked_at__isnull=True)
    return StepState.DONE if rows.exists() else StepState.OPEN


def _add(label: str, application: Application) -> str:
    address = reverse(f"admin:{label}_add")
    return f"{address}?{urlencode({'application': str(application.pk)})}"


started_step(
    "credential",
    Step(
        _("Add a provider's credential"),
        _("A key of Apple, Google, a mail server or a gateway: with it messages leave in your name."),
        "settings:write",
        10,
        lambda application: _add("tenants_channelcredential", application),
        _credential,
    ),
)
started_step(
    "key",
    Step(
        _("Make an API key"),
        _("Your app registers devices with a publishable key; your server sends with a secret one."),
        "settings:write",
        20,
        lambda application: _add("tenants_apikey", application),
        _key,
    ),
)
