"""Operations as who runs the platform uses them: what is wrong is seen, and something is stopped and started again."""

from __future__ import annotations

import re
import time
from datetime import timedelta

import pytest
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from apps.analytics.models.rollups import MessageHour
from apps.messaging.models import DispatchBatch
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from apps.tenants.models import BreakerCause, ChannelCredential
from apps.tenants.operations import switches
from automata_signal import heartbeats
from tests.admin.conftest import make_world
from tests.browser.conftest import PHONE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def platform(application):
    """Workers, a queue, a stopped credential, failures and schedules."""
    switches.forget()
    keys = make_apns_key(["com.example.shop"]), make_fcm_account("demo-shop", "https://oauth2.googleapis.com/token")
    world = make_world(application, "Aurora", keys)
    now, since = timezone.now(), time.time() - 7_200
    for name, queues in (("high", "push.high email.high"), ("control", "control"), ("webhooks", "webhooks")):
        tasks = [{"task": "messaging.send_batch", "since": time.time() - 3}] if name == "high" else []
        facts = {"concurrency": 2, "queues": queues.split(), "tasks": tasks, "done": 48_211}
        heartbeats.write(f"{name}@worker-1", since=since, facts=facts)
    heartbeats.write(heartbeats.BEAT, since=since)
    ChannelCredential.objects.filter(application=application, provider="fcm").update(
        breaker_opened_at=now - timedelta(minutes=4),
        breaker_cause=BreakerCause.OUTAGE,
        breaker_reason="92% of the requests fail (UNAVAILABLE)",
        breaker_probe_at=now + timedelta(seconds=40),
        breaker_failed_probes=3,
    )
    DispatchBatch.objects.filter(application=application).update(due_at=now - timedelta(minutes=12), state="waiting")
    hour = now.replace(minute=0, second=0, microsecond=0)
    for reason, count in (("BadDeviceToken", 412), ("quota_exceeded", 90), ("Unregistered", 31)):
        MessageHour.objects.create(application=application, hour=hour, channel_type="push", reason=reason, failed=count)
    every = IntervalSchedule.objects.create(every=10, period=IntervalSchedule.SECONDS)
    for name, task in (("free abandoned batches", "messaging.free_abandoned"), ("fill statistics", "analytics.fill")):
        PeriodicTask.objects.create(name=name, task=task, interval=every, last_run_at=now, total_run_count=9_120)
    yield world
    for beat in heartbeats.read() or ():
        heartbeats.remove(beat.name)
    switches.forget()


def test_who_runs_the_platform_sees_what_is_wrong_and_stops_sending(browse, platform):
    console = browse("root")
    for tab, name in (
        ("health/", "health"),
        ("queues/", "queues"),
        ("schedules/", "schedules"),
        ("breakers/", "breakers"),
        ("failed/", "failed"),
        ("storage/", "storage"),
        ("switches/", "switches"),
    ):
        console.open(f"/admin/operations/{tab}")
        console.shot(f"operations-{name}")
        console.axe()
        console.fits()
    page = console.page
    page.get_by_role("link", name=re.compile("Turn off.*Sending")).click()
    page.get_by_role("button", name="Turn off").click()
    assert "is missing" in page.locator("#content").inner_text()
    page.get_by_label("Why").fill("A provider charges us twice")
    console.shot("operations-switch-off")
    page.get_by_role("button", name="Turn off").click()
    page.wait_for_url("**/operations/switches/")
    assert "A provider charges us twice" in page.locator("#content").inner_text()
    console.open("/admin/")
    assert "Sending is stopped" in page.get_by_role("alert").first.inner_text()
    console.shot("operations-banner", full=False)
    console.open("/admin/operations/switches/")
    page.get_by_role("link", name=re.compile("Turn on.*Sending")).click()
    page.get_by_role("button", name="Turn on").click()
    page.wait_for_url("**/operations/switches/")
    assert switches.PlatformSwitch.objects.get(pk="sending").is_off is False


def test_an_owner_closes_a_breaker_by_hand(browse, platform):
    console = browse("owner", viewport=PHONE, color_scheme="dark")
    page = console.open("/admin/operations/breakers/")
    console.shot("operations-breakers-phone-dark")
    console.axe()
    console.fits()
    page.get_by_role("link", name=re.compile("Close now.*Aurora fcm")).click()
    page.get_by_label("Why").fill("Google says it is over")
    page.get_by_role("button", name="Close now").click()
    page.wait_for_url("**/operations/breakers/")
    row = ChannelCredential.objects.get(application=platform.application, provider="fcm")
    assert row.breaker_opened_at is None
