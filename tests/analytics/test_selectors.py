"""The questions, where their answers are easily wrong: clocks, percentiles, bounds and strangers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from apps.analytics import selectors
from apps.analytics.metrics import WAIT_BOUNDS_S
from apps.analytics.models import AudienceDay, DeviceHour, FillState, MessageHour, SdkHour, SubscriptionHour, WaitHour
from apps.analytics.selectors import Figures, Step, Which
from apps.analytics.selectors.distributions import distribution_of
from apps.billing.models import MessageQuota
from apps.campaigns.models import MessageCampaign
from automata_signal.errors import ValidationFailed
from automata_signal.ids import new_id

pytestmark = pytest.mark.django_db


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def period(since: str, until: str, zone: str = "UTC"):
    return selectors.period_of(since=datetime.fromisoformat(since), until=datetime.fromisoformat(until), time_zone=zone)


def add(application, hour: datetime, **fields) -> MessageHour:
    return MessageHour.objects.create(application=application, hour=hour, **{"channel_type": "push", **fields})


# --- Clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-07-01", 24)])
def test_a_day_on_which_clocks_are_changed_has_all_its_hours(application, day, hours):
    """New York: clocks go forward on 8 March and back on 1 November."""
    zone = ZoneInfo("America/New_York")
    begins = datetime.fromisoformat(day).replace(tzinfo=zone)
    ends = (begins + timedelta(days=1)).replace(tzinfo=zone)
    moment = begins.astimezone(UTC)
    while moment < ends:
        add(application, moment, sent=1)
        moment += timedelta(hours=1)
    about = {"application": application, "period": selectors.period_of(since=begins, until=ends, time_zone=zone.key)}
    (whole,) = selectors.message_series(**about, step=Step.DAY)
    assert (whole.begins.isoformat()[:10], whole.figures.sent) == (day, hours)
    points = selectors.message_series(**about, step=Step.HOUR)
    assert [point.figures.sent for point in points] == [1] * hours
    instants = [point.begins.astimezone(UTC) for point in points]
    assert all(later - sooner == timedelta(hours=1) for sooner, later in pairwise(instants))
    assert sum(group.figures.sent for group in selectors.by_hour_of_day(**about)) == hours


def test_an_indian_applications_day_begins_at_its_midnight(application):
    """18:30 UTC is midnight in India, and where hours of its clock begin."""
    add(application, at("2026-05-01T17:30"), sent=1)
    add(application, at("2026-05-01T18:30"), sent=10)
    points = selectors.message_series(
        application=application, period=period("2026-05-01", "2026-05-03", "Asia/Kolkata"), step=Step.DAY
    )
    assert [(point.begins.day, point.figures.sent) for point in points] == [(1, 1), (2, 10)]
    hours = selectors.by_hour_of_day(application=application, period=period("2026-05-01", "2026-05-03", "Asia/Kolkata"))
    assert {group.key: group.figures.sent for group in hours if group.figures.sent} == {"23": 1, "0": 10}


def test_an_hour_that_two_days_share_belongs_to_where_it_begins(application):
    """Another zone's hours are asked for: 18:00 UTC is 23:30 in India."""
    add(application, at("2026-05-01T18:00"), sent=1)
    points = selectors.message_series(
        application=application, period=period("2026-05-01", "2026-05-03", "Asia/Kolkata"), step=Step.DAY
    )
    assert [point.figures.sent for point in points] == [1, 0]


def test_the_last_days_are_the_applications_own(application):
    now = at("2026-05-10T15:30")  # the eleventh has begun in Seoul
    found = selectors.days_of(application=application, days=2, now=now)
    assert (found.since, found.until) == (at("2026-05-09T15:00"), at("2026-05-11T15:00"))


def test_a_series_has_a_point_for_what_did_not_happen(application):
    points = selectors.message_series(application=application, period=period("2026-05-01", "2026-05-04"), step=Step.DAY)
    assert [point.figures for point in points] == [Figures()] * 3


@pytest.mark.parametrize(
    ("since", "until", "zone", "field"),
    [
        ("2026-05-02", "2026-05-01", "UTC", "to"),
        ("2026-05-01", "2026-05-01", "UTC", "to"),
        ("2024-05-01", "2026-05-01", "UTC", "from"),
        ("0001-01-01", "2026-05-01", "Asia/Seoul", "from"),
        ("2026-05-01", "2026-05-02", "Nowhere", "time_zone"),
    ],
)
def test_a_period_has_bounds(since, until, zone, field):
    with pytest.raises(ValidationFailed) as refused:
        period(since, until, zone)
    assert refused.value.details[0].field == field


# --- Figures ---------------------------------------------------------------------------------------------------------


def test_rates_leave_out_what_was_sent_and_had_no_receipt_in_time(application):
    hour = at("2026-05-01T10:00")
    add(application, hour, sent=90, received=45, converted=9)
    add(application, hour, reason="Unregistered", failed=10)
    add(application, hour, reason="receipt_timeout", failed=20)
    add(application, hour, reason="ServiceUnavailable", errored=7)
    about = {"application": application, "period": period("2026-05-01", "2026-05-02")}
    found = selectors.message_totals(**about)
    assert found == Figures(sent=90, failed=30, received=45, converted=9, errored=7, timed_out=20)
    assert (found.success_rate, found.failure_rate) == (0.9, 0.1)
    assert (found.receipt_rate, found.open_rate, found.conversion_rate) == (0.5, 0.2, 0.1)
    assert Figures().success_rate is None
    assert [tuple(row) for row in selectors.failures_by_reason(**about)] == [
        ("receipt_timeout", 20, 0.6667),
        ("Unregistered", 10, 0.3333),
    ]
    assert [row.reason for row in selectors.put_off_by_reason(**about)] == ["ServiceUnavailable"]


def test_campaigns_are_compared_by_their_names_and_none_has_another_applications(application, other_application):
    ours = MessageCampaign.objects.create(application=application, name="Spring")
    theirs = MessageCampaign.objects.create(application=other_application, name="Secret")
    hour = at("2026-05-01T10:00")
    add(application, hour, campaign_id=ours.pk, sent=5)
    add(application, hour, campaign_id=theirs.pk, sent=3)
    add(application, hour, sent=1)
    about = {"application": application, "period": period("2026-05-01", "2026-05-02")}
    found = [(row.id, row.name, row.figures.sent) for row in selectors.by_campaign(**about)]
    assert found == [(ours.pk, "Spring", 5), (theirs.pk, "", 3), (None, "", 1)]
    assert [row.id for row in selectors.by_campaign(**about, campaign_ids=[ours.pk])] == [ours.pk]
    assert selectors.by_campaign(**about, campaign_ids=[]) == []
    assert selectors.message_totals(**about, which=Which(campaign_id=ours.pk)).sent == 5


def test_no_question_counts_what_is_a_strangers(application, other_application):
    hour, key = at("2026-05-01T10:00"), {"application": other_application, "hour": at("2026-05-01T10:00")}
    add(other_application, hour, sent=5, failed=1, reason="x")
    DeviceHour.objects.create(dimension="country", channel_type="push", value="KR", sent=5, **key)
    WaitHour.objects.create(wait="receipt", channel_type="push", bucket=1, messages=5, **key)
    SubscriptionHour.objects.create(subscription_type="iOSPush", source="device", status=1, gained=5, **key)
    SdkHour.objects.create(platform="ios", sdk_version="1", figure="registration_ok", count=5, **key)
    AudienceDay.objects.create(application=other_application, day=hour.date(), total=5)
    about = {"application": application, "period": period("2026-05-01", "2026-05-02")}
    assert selectors.message_totals(**about) == Figures()
    assert selectors.failures_by_reason(**about) == selectors.by_channel(**about) == []
    assert selectors.by_campaign(**about) == selectors.by_template(**about) == []
    assert selectors.by_dimension(**about, dimension="country") == []
    assert selectors.waiting_times(**about, wait="receipt").messages == 0
    assert selectors.subscription_changes(**about).gained == 0
    assert selectors.active_users(**about) == selectors.costs(**about) == []
    assert selectors.sdk_figures(**about).by_version == []


def test_only_what_is_a_dimension_or_a_wait_can_be_asked_for(application):
    about = {"application": application, "period": period("2026-05-01", "2026-05-02")}
    for value in ("sdk_version", "x'; --"):
        with pytest.raises(ValidationFailed):
            selectors.by_dimension(**about, dimension=value)
        with pytest.raises(ValidationFailed):
            selectors.waiting_times(**about, wait=value)


# --- Distributions ---------------------------------------------------------------------------------------------------


def test_percentiles_lie_where_a_line_through_the_bucket_has_them():
    found = distribution_of({0: 50, 1: 30, 2: 20}, (10.0, 20.0))
    assert (found.messages, found.p50, found.p75) == (100, 10.0, 18.333)
    assert found.p99 == 20.0, "the last bucket is open: at least so long"
    assert [bucket.below for bucket in found.buckets] == [10.0, 20.0, None]
    assert sum(bucket.share for bucket in found.buckets) == 1


def test_a_distribution_of_nothing_has_no_percentiles():
    found = distribution_of({}, WAIT_BOUNDS_S)
    assert (found.messages, found.p50, found.p99) == (0, None, None)
    assert len(found.buckets) == len(WAIT_BOUNDS_S) + 1


# --- Money and freshness ---------------------------------------------------------------------------------------------


def test_a_quota_whose_day_is_over_counts_as_unused(application):
    now = timezone.now()
    MessageQuota.objects.filter(application=application).delete()
    for channel, ends in (("push", now + timedelta(hours=1)), ("sms", now - timedelta(hours=1))):
        MessageQuota.objects.create(
            application=application,
            channel_type=channel,
            daily_quota=200,
            daily_used=50,
            monthly_used=50,
            day_began_at=now - timedelta(days=1),
            month_began_at=now - timedelta(days=9),
            reset_date=ends,
            monthly_reset_date=now + timedelta(days=3),
            unit_price=Decimal("0.5"),
            reserved=3,
        )
    push, sms = selectors.quota_usage(application=application)
    assert (push.daily_used, push.daily_share, push.monthly_share, push.open) == (50, 0.25, None, 3)
    assert (sms.daily_used, sms.monthly_used, sms.unit_price) == (0, 50, Decimal("0.5"))


def test_figures_are_as_fresh_as_the_source_that_is_furthest_behind(db):
    assert selectors.freshness() == (None, False)
    now = timezone.now()
    FillState.objects.create(name="messages", caught_up_at=now)
    FillState.objects.create(name="subscriptions", caught_up_at=now - timedelta(minutes=1), is_ahead=True)
    assert selectors.freshness() == (now - timedelta(minutes=1), True)


def test_a_template_that_nobody_knows_has_no_name(application):
    add(application, at("2026-05-01T10:00"), template_id=new_id(), sent=1)
    (row,) = selectors.by_template(application=application, period=period("2026-05-01", "2026-05-02"))
    assert (row.name, row.figures.sent) == ("", 1)
