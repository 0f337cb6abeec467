"""Above everything on the home page: credentials that do not work, or will not soon."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.tenants.console.access import grants_of
from apps.tenants.console.home import Notice, home_notice
from apps.tenants.models import Application
from apps.tenants.selectors import credentials_in_need

SCOPE = "settings:read"


@home_notice("credentials")
def credential_notices(request: HttpRequest, application: Application | None) -> Sequence[Notice]:
    """Of one application; the platform's view has its own columns."""
    if application is None or not grants_of(request).has(SCOPE, application.pk):
        return ()
    need = credentials_in_need(application=application)
    address, found = reverse("admin:tenants_application_credentials", args=[application.pk]), []
    if need.refused:
        text = ngettext(
            "A provider refuses %(n)s credential: nothing can be sent by it.",
            "Providers refuse %(n)s credentials: nothing can be sent by them.",
            need.refused,
        )
        found.append(Notice("bad", text % {"n": need.refused}, address, _("Look at the credentials")))
    if need.expiring:
        text = ngettext(
            "%(n)s provider credential ends within 30 days, or has ended.",
            "%(n)s provider credentials end within 30 days, or have ended.",
            need.expiring,
        )
        found.append(Notice("warning", text % {"n": need.expiring}, address, _("Look at the credentials")))
    return found
