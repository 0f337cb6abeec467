"""What the page of a credential shows of its sending: how fast, and what holds it back."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apps.messaging.rates import snapshot
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment_text, number
from apps.tenants.console.panels import Panel, badge, panel_for
from apps.tenants.models import ChannelCredential

_BREAKER = {
    "closed": ("success", gettext_lazy("sending")),
    "open": ("danger", gettext_lazy("stopped")),
    "half_open": ("warning", gettext_lazy("probing")),
}


@panel_for(ChannelCredential)
def traffic_panel(request: HttpRequest, credential: ChannelCredential) -> Panel | None:
    """How fast the credential sends at this moment, and what holds it back."""
    if not grants_of(request).has("settings:read", credential.application_id):
        return None
    now = snapshot(credential)
    rate = _per_minute(now.rate_per_minute, _("as fast as it goes")) if now.is_live else _UNKNOWN
    facts = [
        (_("breaker"), badge(*_BREAKER[now.breaker])),
        (_("limit"), _per_minute(now.limit_per_minute, _("none"))),
        (_("rate now"), format_html("{} {}", rate, badge("warning", _("slowed down"))) if now.is_slowed else rate),
        (_("sent lately"), _per_minute(now.sent_per_minute, _UNKNOWN)),
        (_("may leave at once"), number(round(now.tokens)) if now.tokens is not None else "–"),
    ]
    if now.breaker_opened_at:
        kind = credential.get_breaker_cause_display() or "–"
        facts[1:1] = [
            (_("stopped because"), f"{kind}: {now.breaker_reason}"),
            (_("stopped since"), now.breaker_opened_at),
            (_("next probe"), now.breaker_probe_at or "–"),
            (_("failed probes"), now.breaker_failed_probes),
        ]
    if now.held_until:
        facts.append((_("held by the provider until"), now.held_until))
    if now.throttled_at:
        facts.append((_("last slowed down"), f"{moment_text(now.throttled_at)}: {now.throttled_by}"))
    if not now.is_live:
        facts.append((_("note"), _("Redis does not answer: each worker keeps to its share of the limit.")))
    return Panel(_("Traffic"), "admin/console/facts.html", {"facts": facts}, before=True)


_UNKNOWN = gettext_lazy("unknown")


def _per_minute(value: float | None, otherwise: Any) -> Any:
    return otherwise if value is None else _("%(count)s per minute") % {"count": number(round(value))}
