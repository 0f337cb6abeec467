"""What is off, told above everything on the home page: operators of applications learn why nothing leaves."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from apps.tenants.console.access import grants_of
from apps.tenants.console.home import Notice, home_notice
from apps.tenants.models import Application
from apps.tenants.operations import switches


@home_notice("switches")
def switches_notice(request: HttpRequest, application: Application | None) -> list[Notice]:
    """A line for each switch that is off; who can turn it is led to it."""
    is_platform = grants_of(request).is_platform
    return [
        Notice(
            "bad",
            f"{switches.KINDS[name].title}: {switches.KINDS[name].banner}",
            reverse("admin:operations_switches") if is_platform else "",
            _("Switches") if is_platform else "",
        )
        for name in sorted(switches.off())
        if name in switches.KINDS
    ]
