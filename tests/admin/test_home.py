"""The console's first page: what each role sees of its applications, and no more queries for more rows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.analytics.models.rollups import MessageHour
from apps.tenants.models import Application
from apps.tenants.operations import switches
from tests.admin.pages import text_of

HOME = "/admin/"


@pytest.fixture(autouse=True)
def switches_forgotten():
    switches.forget()
    yield
    switches.forget()


def add_figures(application, *, hours_ago=1, channel="push", reason="", **counts):
    hour = (timezone.now() - timedelta(hours=hours_ago)).replace(minute=0, second=0, microsecond=0)
    return MessageHour.objects.create(
        application=application, hour=hour, channel_type=channel, reason=reason, **counts
    )


def test_home_opens_for_an_owner(world, member):
    add_figures(world.application, sent=1_234, received=1_000, converted=100)
    answer = member("owner").get(HOME)
    assert answer.status_code == 200
    shown = text_of(answer)
    assert "1,234" in shown
    assert "Aurora campaign" in shown
