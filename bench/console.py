"""The console beside many messages: every page that a superuser can open by its address, and searches of its lists.

Pages are found by asking the site, so that a new one is measured too: each list, the page of the newest row of each
model, and the pages about no model. Requests go through the whole of Django in this process; what the browser does with
the answer is not in it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from django.contrib import admin
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse

from apps.analytics import audience_days, fills
from apps.analytics.metrics import ROLLUPS
from apps.messaging.models import Message
from apps.subscriptions.models import AppUser
from apps.tenants.console.pages import pages
from apps.tenants.models import Application, Operator
from bench import machine, seeding
from bench.analytics import seed_month
from bench.harness import Bench
from bench.report import Goal
from tools.supervisor import StackError

PART = "console"
REPEATS = 5
PAGE_MAX = Goal(300, at_most=True)
QUERIES_MAX = Goal(20, at_most=True)


def run(bench: Bench) -> None:
    application = bench.application(bench.options.recipients)
    machine.wait_for_rest(bench.options.wait)
    seed_month(bench, application)
    while fills.fill_all(max_s=20):
        pass
    now = datetime.now(UTC)
    audience_days.audience_day_take(application=application, day=now.date(), now=now)
    seeding.vacuum(bench.stores.database_url, *(rollup.table for rollup in ROLLUPS))
    operator = Operator.objects.create_superuser("bench@example.com", None)
    with override_settings(ALLOWED_HOSTS=["testserver"], SECURE_SSL_REDIRECT=False):
        client = Client()
        client.force_login(operator)
        client.get(reverse("admin:index"))  # what is read once per process
        for case, address in dict(_addresses(application)).items():
            if bench.wants(case):
                _measure(bench, client, case, address)
    slow = [figure.case for figure in bench.report.of(PART) if figure.met is False]
    bench.say(f"{len(slow)} figures miss their goal" if slow else "every page keeps its goals")


def _addresses(application: Application) -> Iterator[tuple[str, str]]:
    """Case and address of each page."""
    chosen = f"?application={application.pk}"
    yield "home", reverse("admin:index") + chosen
    for page in pages():
        try:
            yield f"page {page.name}", reverse(f"admin:{page.name}") + chosen
        except NoReverseMatch:
            continue  # of a row: below, as that row's
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        yield f"list {model._meta.label}", reverse(f"admin:{name}_changelist")
        newest = model._default_manager.order_by("-pk").first()
        if newest is not None:
            yield f"row {model._meta.label}", reverse(f"admin:{name}_change", args=[newest.pk])
    message = Message.objects.filter(application=application).order_by("-pk").first()
    user = AppUser.objects.filter(application=application).first()
    messages = reverse("admin:messaging_message_changelist")
    if message is not None:
        asked = {
            "id": f"q={message.pk}",
            "subscription": f"q={message.subscription_id}",
            "campaign": f"q={message.campaign_id}",
            "user": f"q={user.external_id}" if user else "q=nobody",
            "nothing": "q=nothing-at-all",
            "state failed": "status=failed",
            "state failed of a campaign": f"campaign={message.campaign_id}&status=failed",
            "one application": f"application={application.pk}",
            "the last page": "p=199",
        }
        for what, query in asked.items():
            yield f"messages by {what}", f"{messages}?{query}"


def _measure(bench: Bench, client: Client, case: str, address: str) -> None:
    """The median of some requests, as with a browser that comes again and again; the queries of the second one."""
    answer = client.get(address, follow=True)
    if answer.status_code == 405:
        return  # what is only posted to
    with CaptureQueriesContext(connection) as queries:
        client.get(address, follow=True)
    asked = len(queries)  # the next request empties the log
    if answer.status_code not in (200, 400, 403, 404):
        raise StackError(f"{address} answered {answer.status_code}")
    times = []
    for _ in range(REPEATS):
        began = time.monotonic()
        client.get(address, follow=True)
        times.append((time.monotonic() - began) * 1_000)
    bench.report.add(PART, case, "time", statistics.median(times), "ms", goal=PAGE_MAX)
    bench.report.add(PART, case, "slowest", max(times), "ms")
    bench.report.add(PART, case, "queries", asked, goal=QUERIES_MAX)
