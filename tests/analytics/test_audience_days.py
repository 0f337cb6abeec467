"""Users and subscriptions of each day, and how long statistics are kept."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from apps.analytics import forgetting, selectors
from apps.analytics.audience_days import audience_days_take
from apps.analytics.models import AudienceDay, DimensionValue, MessageHour
from apps.subscriptions.models import AppUser, Subscription
from tests.factories import make_subscription, make_user

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 5, 10, 3, tzinfo=UTC)
"""In Seoul, where the application's clock is."""


@pytest.fixture
def audience(application, other_application):
    """Users and devices that were active one, 3, 10 and 40 days ago, and a stranger's."""
    for days in (0, 3, 10, 40):
        user = make_user(application, f"u-{days}")
        device = make_subscription(application, user=user)
        Subscription.objects.filter(pk=device.pk).update(last_active_at=NOON - timedelta(days=days))
    AppUser.objects.filter(external_id="u-40").update(last_active_at=NOON - timedelta(days=2))
    make_subscription(application, type="AndroidPush", subscription_status=-2)
    make_subscription(application, is_archived=True)
    make_subscription(other_application)


def shown(application, day: date) -> dict[str, tuple[int, ...]]:
    rows = AudienceDay.objects.for_application(application).filter(day=day)
    columns = ("total", "reachable", "active_1d", "active_7d", "active_30d")
    return {row.subscription_type: tuple(getattr(row, name) for name in columns) for row in rows}


def test_the_audience_of_a_day_has_its_active_users_and_subscriptions(application, audience):
    audience_days_take(now=NOON)
    assert shown(application, date(2026, 5, 10)) == {
        "": (4, 4, 1, 3, 4),
        "iOSPush": (4, 4, 1, 2, 3),
        "AndroidPush": (1, 0, 0, 0, 0),
    }
    period = selectors.period_of(since=datetime(2026, 5, 10), until=datetime(2026, 5, 11), time_zone="Asia/Seoul")
    (point,) = selectors.active_users(application=application, period=period)
    assert (point.day, point.users.active_7d) == (date(2026, 5, 10), 3)
    assert point.subscriptions["AndroidPush"].total == 1


def test_a_day_is_taken_again_while_it_lasts_and_once_more_when_it_has_ended(application, audience):
    assert audience_days_take(now=NOON) == 3, "also the stranger's yesterday, which ended three hours ago in UTC"
    assert audience_days_take(now=NOON + timedelta(hours=1)) == 0
    assert audience_days_take(now=NOON + timedelta(hours=4)) == 2
    midnight = datetime(2026, 5, 10, 15, tzinfo=UTC)
    audience_days_take(now=midnight + timedelta(minutes=10))
    taken = AudienceDay.objects.for_application(application).get(day=date(2026, 5, 10), subscription_type="").taken_at
    assert taken == midnight + timedelta(minutes=10)
    audience_days_take(now=midnight + timedelta(minutes=25))
    row = AudienceDay.objects.for_application(application).get(day=date(2026, 5, 10), subscription_type="")
    assert row.taken_at == taken


def test_a_day_that_nobody_looked_at_stays_unknown(application, audience):
    audience_days_take(now=NOON)
    assert not AudienceDay.objects.for_application(application).filter(day=date(2026, 5, 9)).exists()


def test_an_application_without_users_has_a_row_of_zeros(application):
    audience_days_take(now=NOON)
    assert shown(application, date(2026, 5, 10)) == {"": (0, 0, 0, 0, 0)}


def test_a_time_zone_that_nobody_knows_holds_up_nobody(application, other_application):
    other_application.time_zone = "Mars/Olympus"
    other_application.save()
    audience_days_take(now=NOON)
    assert AudienceDay.objects.for_application(application).exists()
    assert AudienceDay.objects.for_application(other_application).exists()


def test_statistics_are_kept_so_long_and_no_longer(application, settings):
    settings.ROLLUP_RETENTION_DAYS = 30
    for days in (10, 40):
        hour = NOON - timedelta(days=days)
        MessageHour.objects.create(application=application, hour=hour, channel_type="push", sent=1)
        AudienceDay.objects.create(application=application, day=hour.date())
        DimensionValue.objects.create(application=application, month=hour.date(), dimension="os", value="iOS 18")
    assert forgetting.rollups_forget(now=NOON) == 3
    assert MessageHour.objects.get().hour == NOON - timedelta(days=10)
    settings.ROLLUP_RETENTION_DAYS = 0
    assert forgetting.rollups_forget(now=NOON + timedelta(days=4_000)) == 0
