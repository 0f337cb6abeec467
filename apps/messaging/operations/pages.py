"""The pages of who runs the platform: health, queues and workers, schedules, storage, switches."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_celery_beat.models import PeriodicTask
from unfold import widgets

from apps.messaging import partitions
from apps.messaging.operations import watching
from apps.messaging.operations.frame import AREA, PLATFORM, Asked, ask, render
from apps.messaging.operations.services import schedule_run
from apps.messaging.operations.watching import duration
from apps.tenants.console.formats import day, moment, number
from apps.tenants.console.pages import console_page
from apps.tenants.operations import switches
from apps.tenants.operations.models import PlatformSwitch
from automata_signal import heartbeats
from automata_signal.heartbeats import BEAT, Heartbeat

KEPT_SHOWN = 50

# --- Health --------------------------------------------------------------------------------------------------------


@console_page(
    "operations",
    "operations/health/",
    scope=PLATFORM,
    title=gettext_lazy("Operations"),
    icon="monitor_heart",
    area=AREA,
)
def health_page(request: HttpRequest) -> HttpResponse:
    """What the platform stands on, checked now; what is not well comes with what to do."""
    found = watching.checks(heartbeats.read(), now=timezone.now())
    worst = next((tone for tone in ("bad", "warning") if any(check.tone == tone for check in found)), "good")
    context = {
        "checks": found,
        "worst": worst,
        "troubles": sum(check.tone != "good" for check in found),
        "versions": watching.versions(),
        "at": moment(timezone.now()),
    }
    return render(request, "operations", "health", context)


# --- Queues and workers --------------------------------------------------------------------------------------------


@console_page("operations_queues", "operations/queues/", scope=PLATFORM)
def queues_page(request: HttpRequest) -> HttpResponse:
    """What waits, by queue, from PostgreSQL and from the broker; and who works."""
    now, beats = timezone.now(), heartbeats.read()
    queues = []
    for state in watching.queue_states(beats, now=now):
        age_s = state.waits.age_s(now) if state.waits else 0.0
        priority = state.waits.priority if state.waits else "low"
        queues.append(
            {
                "name": state.name,
                "length": None if state.length is None else number(state.length),
                "batches": number(state.waits.batches) if state.waits else "",
                "messages": number(state.waits.messages) if state.waits else "",
                "age": duration(age_s) if state.waits else "",
                "is_late": age_s > watching.DUE_LATE_S.get(priority, watching.DUE_LATE_S["low"]),
                "workers": state.workers,
            }
        )
    context = {
        "queues": queues,
        "is_broker_away": beats is None,
        "workers": [_worker(beat) for beat in beats or ()],
        "flower": settings.FLOWER_URL,
    }
    return render(request, "operations_queues", "queues", context)


def _worker(beat: Heartbeat) -> dict[str, Any]:
    tasks = [
        {"name": task.get("task", ""), "age": duration(max(0.0, time.time() - float(task.get("since") or time.time())))}
        for task in beat.facts.get("tasks", ())
    ]
    return {
        "name": _("beat (schedules)") if beat.name == BEAT else beat.name,
        "is_alive": beat.is_alive(),
        "seen": duration(max(0.0, time.time() - beat.at)),
        "since": moment(datetime.fromtimestamp(beat.since, UTC)),
        "concurrency": beat.facts.get("concurrency", ""),
        "queues": ", ".join(beat.facts.get("queues", ())),
        "tasks": tasks,
        "done": number(beat.facts["done"]) if "done" in beat.facts else "",
    }


# --- Schedules -----------------------------------------------------------------------------------------------------


@console_page("operations_schedules", "operations/schedules/", scope=PLATFORM)
def schedules_page(request: HttpRequest) -> HttpResponse:
    """What beat does, when it did it last and does it next; each can be done now."""
    now = timezone.now()
    rows = PeriodicTask.objects.exclude(name="celery.backend_cleanup").order_by("name")
    rows = rows.select_related("interval", "crontab", "solar", "clocked")
    context = {"rows": [_schedule(row, now) for row in rows]}
    return render(request, "operations_schedules", "schedules", context)


def _schedule(row: PeriodicTask, now: datetime) -> dict[str, Any]:
    """Beat writes down when it ran something every few minutes only, so the next time is reckoned from that."""
    next_at = None
    if row.enabled and row.last_run_at is not None and row.interval is not None:
        every_s = timedelta(**{row.interval.period: row.interval.every}).total_seconds()
        passed_s = max(0.0, (now - row.last_run_at).total_seconds())
        next_at = row.last_run_at + timedelta(seconds=every_s * (passed_s // every_s + 1))
    return {
        "name": row.name,
        "task": row.task,
        "schedule": str(row.interval or row.crontab or row.solar or row.clocked or "–"),
        "is_enabled": row.enabled,
        "last": moment(row.last_run_at),
        "next": moment(next_at),
        "runs": number(row.total_run_count),
        "edit": reverse("admin:django_celery_beat_periodictask_change", args=[row.pk]),
        "run": reverse("admin:operations_schedule_run", args=[row.pk]),
    }


@console_page("operations_schedule_run", "operations/schedules/<int:key>/run/", scope=PLATFORM)
def schedule_run_page(request: HttpRequest, key: int) -> HttpResponse:
    row = PeriodicTask.objects.filter(pk=key).first()
    if row is None:
        raise Http404

    def run(cleaned: dict[str, Any]) -> str:
        schedule_run(row=row, request=request)
        return _("“%(name)s” was handed to the workers.") % {"name": row.name}

    asked = Asked(
        title=_("Run now"),
        subtitle=row.name,
        explain=_("It runs once, beside its schedule. Tasks of the platform may run twice without harm."),
        label=_("Run now"),
        back=reverse("admin:operations_schedules"),
        facts=[(_("task"), row.task), (_("last run"), moment(row.last_run_at))],
    )
    return ask(request, asked, forms.Form, run)


# --- Storage -------------------------------------------------------------------------------------------------------


@console_page("operations_storage", "operations/storage/", scope=PLATFORM)
def storage_page(request: HttpRequest) -> HttpResponse:
    """The months of messages and events: how large, and when each is dropped whole."""
    states, kept = watching.partition_states(), watching.kept_by_application()
    today = timezone.now().date()
    rows = []
    for state in states:
        dropped_on = watching.dropped_on(state, kept)
        rows.append(
            {
                "table": _("Messages") if state.table == "messaging_message" else _("Message events"),
                "name": state.name,
                "range": f"{day(state.month)} – {day(partitions.next_month(state.month) - timedelta(days=1))}",
                "size": filesizeformat(state.bytes),
                "rows": number(state.rows),
                "is_to_come": state.month > today,
                "dropped": _("never: an application keeps everything") if dropped_on is None else day(dropped_on),
            }
        )
    shown = [
        {
            "name": one.application.name,
            "address": reverse("admin:tenants_application_change", args=[one.application.pk]),
            "days": _("for ever")
            if one.days is None
            else ngettext("%(count)d day", "%(count)d days", one.days) % {"count": one.days},
        }
        for one in kept[:KEPT_SHOWN]
    ]
    context = {
        "rows": rows,
        "kept": shown,
        "more_kept": max(0, len(kept) - KEPT_SHOWN),
        "total": filesizeformat(sum(state.bytes for state in states)),
        "count": number(sum(state.rows for state in states if state.table == "messaging_message")),
        "problems": partitions.problems(),
    }
    return render(request, "operations_storage", "storage", context)


# --- Switches ------------------------------------------------------------------------------------------------------


class SwitchForm(forms.Form):
    turn = forms.ChoiceField(choices=[("on", ""), ("off", "")], widget=forms.HiddenInput)
    """What the button said: whoever presses it twice, or after somebody else, does not turn it back."""
    reason = forms.CharField(
        label=gettext_lazy("Why"),
        max_length=300,
        required=False,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Operators of the applications see that it is off; this is for who runs the platform."),
    )


@console_page("operations_switches", "operations/switches/", scope=PLATFORM)
def switches_page(request: HttpRequest) -> HttpResponse:
    """What can be stopped for the whole platform, and what is."""
    turned = {row.name: row for row in PlatformSwitch.objects.all()}
    rows = []
    for kind in switches.KINDS.values():
        row = turned.get(kind.name)
        rows.append(
            {
                "title": kind.title,
                "explain": kind.explain,
                "is_channel": "." in kind.name,
                "is_off": row is not None and row.is_off,
                "reason": row.reason if row else "",
                "by": row.changed_by if row else "",
                "since": moment(row.changed_at) if row else "",
                "turn": reverse("admin:operations_switch", args=[kind.name]),
            }
        )
    return render(request, "operations_switches", "switches", {"rows": rows, "kept_s": round(switches.KEPT_S)})


@console_page("operations_switch", "operations/switches/<str:name>/", scope=PLATFORM)
def switch_page(request: HttpRequest, name: str) -> HttpResponse:
    """Ask why, and turn the switch."""
    kind = switches.KINDS.get(name)
    if kind is None:
        raise Http404
    row = PlatformSwitch.objects.filter(pk=name).first()
    is_off = row is not None and row.is_off

    def run(cleaned: dict[str, Any]) -> str:
        is_on = cleaned["turn"] == "on"
        switches.switch_set(name=name, is_on=is_on, reason=cleaned["reason"], request=request)
        text = _("“%(name)s” is on again.") if is_on else _("“%(name)s” is off.")
        return text % {"name": kind.title}

    off_facts = (
        [(_("off since"), moment(row.changed_at)), (_("by"), row.changed_by), (_("why"), row.reason)]
        if row and is_off
        else []
    )
    asked = Asked(
        title=_("Turn on") if is_off else _("Turn off"),
        subtitle=str(kind.title),
        explain=_("What has waited goes on within a few seconds.") if is_off else kind.explain,
        label=_("Turn on") if is_off else _("Turn off"),
        back=reverse("admin:operations_switches"),
        tone="primary" if is_off else "danger",
        facts=off_facts,
    )
    return ask(request, asked, SwitchForm, run, turn="on" if is_off else "off")
