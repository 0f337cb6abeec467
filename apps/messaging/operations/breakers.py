"""The page of credentials: which are stopped and why, how fast each sends, and an operator's override of both."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold import widgets

from apps.messaging.operations.frame import AREA, Asked, ask, render
from apps.messaging.operations.services import breaker_override_close, breaker_override_hold, rate_override
from apps.messaging.operations.watching import breaker_state
from apps.messaging.rates import Snapshot, snapshot
from apps.tenants.console.access import grants_of
from apps.tenants.console.formats import moment, moment_text, number
from apps.tenants.console.lists import as_uuid
from apps.tenants.console.pages import console_page
from apps.tenants.models import ChannelCredential
from apps.tenants.services import RATE_PER_MINUTE_MAX

READ, WRITE = "settings:read", "settings:write"
SHOWN = 50
"""Credentials, one call to Redis each: the stopped first, then the newest."""


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=200,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept in the audit log."),
    )


class HoldForm(ReasonForm):
    hours = forms.TypedChoiceField(
        label=gettext_lazy("For how long"),
        coerce=int,
        choices=[
            (1, gettext_lazy("1 hour")),
            (4, gettext_lazy("4 hours")),
            (24, gettext_lazy("1 day")),
            (168, gettext_lazy("7 days")),
            (720, gettext_lazy("30 days")),
        ],
        widget=widgets.UnfoldAdminSelectWidget,
    )
    field_order = ("reason", "hours")


class RateForm(forms.Form):
    rate_per_minute = forms.IntegerField(
        label=gettext_lazy("Messages per minute"),
        required=False,
        min_value=1,
        max_value=RATE_PER_MINUTE_MAX,
        widget=widgets.UnfoldAdminIntegerFieldWidget,
        help_text=gettext_lazy("Empty: the provider's own limit."),
    )
    forget_slowdown = forms.BooleanField(
        label=gettext_lazy("Forget that the provider slowed it down"),
        required=False,
        widget=widgets.UnfoldBooleanSwitchWidget,
        help_text=gettext_lazy(
            "It sends at its limit at once. If the provider still refuses, it is slowed down again."
        ),
    )


@console_page(
    "operations_breakers",
    "operations/breakers/",
    scope=READ,
    title=gettext_lazy("Breakers and rates"),
    icon="electrical_services",
    area=AREA,
)
def breakers_page(request: HttpRequest) -> HttpResponse:
    """Active credentials of the operator's applications, those that do not send first; of one, if the address says."""
    grants, now = grants_of(request), timezone.now()
    rows = ChannelCredential.objects.filter(is_active=True).defer("secret").select_related("application")
    named = request.GET.get("application", "")
    if named:
        application_id = as_uuid(named)
        if application_id is None or not grants.has(READ, application_id):
            raise Http404
        rows = rows.filter(application_id=application_id)
    elif not grants.is_platform:
        rows = rows.filter(application_id__in=grants.applications(READ))
    found = list(rows.order_by(F("breaker_opened_at").asc(nulls_last=True), "-id")[: SHOWN + 1])
    entries = [_entry(request, row, snapshot(row), now) for row in found[:SHOWN]]
    context = {
        "entries": entries,
        "is_cut": len(found) > SHOWN,
        "is_redis_away": any(not entry["is_live"] for entry in entries),
        "is_moving": any(entry["state"] != "closed" or entry["is_slowed"] for entry in entries),
        "address": request.get_full_path(),
    }
    return render(request, "operations_breakers", "breakers", context)


def _entry(request: HttpRequest, row: ChannelCredential, now_: Snapshot, now: datetime) -> dict[str, Any]:
    per_minute = _("%(count)s a minute")
    limit, rate, sent = now_.limit_per_minute, now_.rate_per_minute, now_.sent_per_minute
    entry = {
        "name": row.name,
        "provider": row.get_provider_display(),
        "application": row.application.name,
        "address": reverse("admin:tenants_channelcredential_change", args=[row.pk]),
        "state": breaker_state(row, now),
        "cause": row.get_breaker_cause_display() if row.breaker_cause else "",
        "reason": row.breaker_reason,
        "since": moment(row.breaker_opened_at),
        "probe": moment(row.breaker_probe_at),
        "failed_probes": row.breaker_failed_probes,
        "error": row.last_error,
        "limit": per_minute % {"count": number(limit)} if limit else _("no limit"),
        "rate_now": per_minute % {"count": number(round(rate))} if rate else _("as fast as it goes"),
        "sent": per_minute % {"count": number(round(sent))} if sent is not None else "–",
        "is_slowed": now_.is_slowed or now_.held_until is not None,
        "throttled": f"{now_.throttled_by}" if now_.throttled_at else "",
        "throttled_at": moment(now_.throttled_at),
        "held": moment(now_.held_until) if now_.held_until else "",
        "is_live": now_.is_live,
        "may_write": grants_of(request).has(WRITE, row.application_id),
    }
    for name in ("close", "hold", "rate"):
        entry[name] = reverse("admin:operations_breaker", args=[row.pk, name])
    return entry


@console_page("operations_breaker", "operations/breakers/<uuid:key>/<slug:what>/", scope=READ)
def breaker_page(request: HttpRequest, key: UUID, what: str) -> HttpResponse:
    """Ask, then close the breaker, keep it open, or set the rate: for who may change the application's settings."""
    row = ChannelCredential.objects.filter(pk=key).defer("secret").select_related("application").first()
    grants = grants_of(request)
    if row is None or what not in _OVERRIDES or not grants.has(READ, row.application_id):
        raise Http404
    if not grants.has(WRITE, row.application_id):
        raise PermissionDenied
    return _OVERRIDES[what](request, row)


def _subtitle(row: ChannelCredential) -> str:
    return f"{row.application.name} · {row}"


_BACK = "admin:operations_breakers"


def _close(request: HttpRequest, row: ChannelCredential) -> HttpResponse:
    def run(cleaned: dict[str, Any]) -> str:
        breaker_override_close(credential=row, reason=cleaned["reason"], request=request)
        return _("%(name)s sends again.") % {"name": row}

    asked = Asked(
        title=_("Close the breaker now"),
        subtitle=_subtitle(row),
        explain=_(
            "It sends at once, to everybody who waits. If the cause is still there, it is stopped again, and until "
            "then messages fail or subscriptions end as the provider answers."
        ),
        label=_("Close now"),
        back=reverse(_BACK),
        tone="danger",
        facts=[
            (
                _("stopped because"),
                f"{row.get_breaker_cause_display()}: {row.breaker_reason}" if row.breaker_opened_at else "–",
            ),
            (_("since"), moment(row.breaker_opened_at)),
            (_("next probe"), moment(row.breaker_probe_at)),
        ],
    )
    return ask(request, asked, ReasonForm, run)


def _hold(request: HttpRequest, row: ChannelCredential) -> HttpResponse:
    def run(cleaned: dict[str, Any]) -> str:
        held = breaker_override_hold(credential=row, reason=cleaned["reason"], hours=cleaned["hours"], request=request)
        return _("%(name)s is kept stopped until %(until)s.") % {
            "name": row,
            "until": moment_text(held.breaker_probe_at),
        }

    asked = Asked(
        title=_("Keep stopped"),
        subtitle=_subtitle(row),
        explain=_(
            "Nothing is sent with it until then. Another credential of the application takes over where there is one; "
            "else its messages wait, and those whose time to live ends fail as expired. Then a probe decides."
        ),
        label=_("Keep stopped"),
        back=reverse(_BACK),
        tone="danger",
    )
    return ask(request, asked, HoldForm, run)


def _rate(request: HttpRequest, row: ChannelCredential) -> HttpResponse:
    def run(cleaned: dict[str, Any]) -> str:
        rate_override(
            credential=row,
            rate_per_minute=cleaned["rate_per_minute"],
            forget_slowdown=cleaned["forget_slowdown"],
            request=request,
        )
        return _("The rate of %(name)s is set.") % {"name": row}

    state = snapshot(row)
    asked = Asked(
        title=_("Rate"),
        subtitle=_subtitle(row),
        explain=_("Of all workers together. It holds from the next messages on."),
        label=_("Set the rate"),
        back=reverse(_BACK),
        facts=[
            (_("limit"), number(state.limit_per_minute) if state.limit_per_minute else _("none")),
            (_("rate now"), number(round(state.rate_per_minute)) if state.rate_per_minute else _("as fast as it goes")),
        ],
    )
    return ask(request, asked, RateForm, run, rate_per_minute=row.rate_per_minute)


_OVERRIDES = {"close": _close, "hold": _hold, "rate": _rate}
