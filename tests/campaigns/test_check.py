"""What is said before a launch is what the launch would do."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.utils import timezone
from djmoney.money import Money

from apps.billing.models import MessageQuota
from apps.billing.services.quota import billing_of
from apps.campaigns import forecast, services
from apps.campaigns.models import MessageCampaign
from apps.campaigns.services.drafts import campaign_content
from apps.messaging.courtesy import rules
from apps.messaging.services import template_create
from apps.subscriptions.models import AppUser, MarketingConsent, Suppression

pytestmark = pytest.mark.django_db
KOREA = {"field": "country", "op": "eq", "value": "KR"}


@pytest.fixture(autouse=True)
def rules_forgotten():
    rules._kept.clear()
    yield
    rules._kept.clear()


@pytest.fixture
def campaign(application, credentials):
    """`campaign(purpose="marketing")`: a draft to everybody in Korea."""

    def make(**fields) -> MessageCampaign:
        given = {"name": "Spring", "title": "Hello", "body": "It is spring", "targeting_criteria": KOREA} | fields
        return services.campaign_create(application=application, **given)

    return make


def consent(subscription, *, night: bool = False, given: bool = True) -> None:
    MarketingConsent.objects.create(
        application_id=subscription.application_id,
        subscription=subscription,
        subject_id=subscription.pk,
        channel="push",
        is_given=given,
        is_night_given=night,
        source="api",
    )


def settle(application, **chosen) -> None:
    application.settings = chosen
    application.save()
    rules._kept.clear()


def test_recipients_are_told_by_type_and_who_is_left_out_by_reason(campaign, people):
    agreed = people(4, country_code="KR")
    people(2, country_code="KR", type="AndroidPush")
    people(3, country_code="US")
    for subscription in agreed[:3]:
        consent(subscription)
    consent(agreed[3], given=False)
    found = forecast.recipients_of(campaign(purpose="marketing"))
    assert dict(found.by_type) == {"iOSPush": 3}
    assert dict(found.excluded) == {"no_consent": 3}
    plain = forecast.recipients_of(campaign())
    assert dict(plain.by_type) == {"iOSPush": 4, "AndroidPush": 2}
    assert plain.excluded == {}


def test_the_suppression_list_is_a_reason(campaign, people, application):
    [person] = people(1, country_code="KR")
    consent(person)
    Suppression.objects.create(
        application=application,
        type="iOSPush",
        address_digest=person.token_digest,
        masked_address="…",
        reason="complaint",
        source="api",
    )
    assert dict(forecast.recipients_of(campaign(purpose="marketing")).excluded) == {"suppressed": 1}


def test_who_had_enough_today_is_a_reason(campaign, people, application):
    settle(application, frequency_caps=[{"per_day": 1}, {"channel": "push", "per_week": 3}])
    first, second, third = people(3, country_code="KR")
    for person in (first, second, third):
        consent(person)
    rows = [(first.pk, "*:*", 1), (second.pk, "push:*", 3)]
    today = timezone.now().astimezone(ZoneInfo(application.time_zone)).date()
    with connection.cursor() as cursor:
        for subject, key, count in rows:
            cursor.execute(
                "INSERT INTO subscriptions_sendcount (application_id, subject_id, key, day, messages)"
                " VALUES (%s, %s, %s, %s, %s)",
                [application.pk, subject, key, today, count],
            )
    found = forecast.recipients_of(campaign(purpose="marketing"))
    assert (found.total, dict(found.excluded)) == (1, {"frequency_capped": 2})


def test_whom_a_test_leaves_out_does_not_count_as_a_recipient(campaign, people, application):
    people(60, country_code="KR")
    variants = [{"share_percent": 50}, {"share_percent": 50, "title": "Hi", "body": "Spring"}]
    draft = campaign(experiment={"variants": variants, "holdout_percent": 50})
    found = forecast.recipients_of(draft)
    assert dict(found.excluded) == {"held_out": 60 - found.total}
    assert 10 < found.total < 50
    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(
        daily_quota=found.total, monthly_quota=None
    )
    assert forecast.cost_of(draft, found.total).fits
    launched = services.campaign_launch(campaign=draft)
    assert launched.reserved_left == found.total
    services.fan_out(launched.pk)
    assert MessageCampaign.objects.get(pk=draft.pk).total_recipients == found.total


def at(hour: int) -> datetime:
    """Tomorrow at that hour in Seoul."""
    day = (timezone.now() + timedelta(days=1)).date()
    return datetime.combine(day, time(hour), UTC) - timedelta(hours=9)


def test_quiet_hours_are_told_by_each_ones_clock(campaign, people, application):
    settle(application, quiet_hours={"from": "22:00", "to": "07:00"})
    people(3, country_code="KR")
    people(2, country_code="US")
    draft = campaign(targeting_criteria={})
    draft = services.campaign_plan(campaign=draft, at=at(23))
    waits = forecast.waiting_of(draft, forecast.recipients_of(draft))
    assert waits == {at(23) + timedelta(hours=8): 3}
    draft = services.campaign_plan(campaign=draft, at=at(14))  # 23:00 or midnight in Chicago
    assert sum(forecast.waiting_of(draft, forecast.recipients_of(draft)).values()) == 2
    noon = services.campaign_update(campaign=draft, local_time=time(12))
    assert forecast.waiting_of(noon, forecast.recipients_of(noon)) == {}


def test_advertising_waits_for_the_morning_in_korea_unless_the_night_was_agreed_to(campaign, people, application):
    settle(application, advertising_rules="kr", ad_mark_add=True)
    first, second = people(2, country_code="KR")
    consent(first, night=True)
    consent(second)
    draft = services.campaign_plan(campaign=campaign(purpose="marketing"), at=at(22))
    waits = forecast.waiting_of(draft, forecast.recipients_of(draft))
    assert waits == {at(22) + timedelta(hours=10): 1}


def test_the_cost_is_told_against_quota_and_credit(campaign, people, application):
    people(5, country_code="KR")
    billing_of(application)
    MessageQuota.objects.filter(application=application, channel_type="push").update(
        daily_quota=10, daily_used=7, monthly_quota=None, unit_price=Money("2.5", "KRW")
    )
    draft = campaign()
    cost = forecast.cost_of(draft, 5)
    assert (cost.daily_left, cost.monthly_left, cost.amount) == (3, None, Decimal("12.5"))
    assert not cost.fits
    assert forecast.cost_of(draft, 3).fits is (cost.credit is None or cost.credit >= Decimal("7.5"))


def test_the_same_words_to_the_same_people_are_found(campaign, people):
    people(3, country_code="KR")
    people(1, country_code="US")
    first = services.campaign_launch(campaign=campaign(targeting_criteria={}))
    second = campaign(name="Again")
    assert forecast.similar_to(second) == [first]
    assert forecast.overlap_of(second, forecast.similar_to(second)[0]) == 3
    assert forecast.similar_to(campaign(body="Other words")) == []


def test_what_stands_in_the_channels_own_fields_is_compared_too(campaign, people):
    people(1, country_code="KR")
    said = {"title": "", "body": ""}
    first = services.campaign_launch(campaign=campaign(**said, data={"offer": "1"}))
    assert forecast.similar_to(campaign(**said, data={"offer": "1"})) == [first]
    assert forecast.similar_to(campaign(**said, data={"offer": "2"})) == []


def test_people_with_several_devices_are_counted(campaign, people, application):
    people(2, country_code="KR", external_id="two-phones")
    people(1, country_code="KR", external_id="one-phone")
    assert forecast.several_devices_of(campaign()) == 1


def test_who_cannot_be_reached_any_more_is_counted(campaign, people):
    people(2, country_code="KR")
    people(3, country_code="KR", subscription_status=-2)
    assert forecast.unreachable_of(campaign()) == 3


def test_real_people_are_tried_and_what_they_lack_is_told(campaign, people, application):
    for name in ("a", "b"):
        people(1, country_code="KR", external_id=name)
    AppUser.objects.filter(external_id="a").update(properties={"name": "Jimin"})
    template = template_create(application=application, created_by="x", name="t", title_template="Hi {{ name }}")
    draft = campaign(title="", body="", template_id=template.pk)
    found = forecast.sampled(draft, campaign_content(draft))
    assert found.people == 2
    assert dict(found.missing) == {"name": 1}


def test_nothing_of_it_reads_another_application(campaign, people, other_application):
    people(2, country_code="KR")
    people(5, of=other_application, country_code="KR")
    draft = campaign()
    assert forecast.recipients_of(draft).total == 2
    assert forecast.unreachable_of(draft) == 0
    assert forecast.several_devices_of(draft) == 0
