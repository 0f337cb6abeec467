"""Who waits, until when, and that nothing is lost or sent twice meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from apps.messaging.courtesy.rules import Rules, _read
from apps.messaging.courtesy.waiting import Person, Plan, waits_of
from apps.messaging.courtesy.zones import is_within, next_time, zone_of
from apps.messaging.models import Dispatch, DispatchBatch, Message
from apps.subscriptions.preferences.models import ActiveHours, SendTiming
from tests.messaging.courtesy.conftest import by_name, clock
from tests.messaging.test_hot_queries import taken_down

SEOUL = ZoneInfo("Asia/Seoul")


def seoul(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 12, day, hour, minute, tzinfo=SEOUL)


def rules(**settings) -> Rules:
    return _read(settings, "Asia/Seoul")


def someone(**fields) -> Person:
    known = {"own_zone": None, "country": "KR", "has_night_consent": False, "active_hour": None}
    return Person(uuid4(), **known | fields)


def wait(person: Person, now: datetime, *, plan: Plan, **fields) -> datetime | None:
    order = Dispatch(created_at=fields.pop("created_at", now), **{"channel_type": "push", "ttl_s": 3_600} | fields)
    return waits_of(order, plan, {"s": person}, now=now).until.get("s")


# --- Clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "country", "zone"),
    [
        ("Europe/Paris", "KR", "Europe/Paris"),
        ("not a zone", "KR", "Asia/Seoul"),
        ("../../etc/passwd", "US", "America/Chicago"),
        (None, "ZZ", "Asia/Tokyo"),
        (None, "", "Asia/Tokyo"),
    ],
)
def test_a_clock_is_ones_own_or_the_countrys_or_the_applications(own, country, zone):
    assert zone_of(own, country, "Asia/Tokyo").key == zone


def test_a_time_that_has_passed_today_is_tomorrows_also_when_clocks_change():
    assert next_time(seoul(1, 7), time(8), SEOUL) == seoul(1, 8)
    assert next_time(seoul(1, 8), time(8), SEOUL) == seoul(1, 8)
    assert next_time(seoul(1, 9), time(8), SEOUL) == seoul(2, 8)
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 28, 23, 0, tzinfo=UTC)  # the night in which 02:30 does not exist
    assert next_time(before, time(2, 30), berlin) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert next_time(before, time(8), berlin) == datetime(2026, 3, 29, 6, 0, tzinfo=UTC)
    again = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10 for the second time
    assert next_time(again, time(2, 30), berlin) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hour", "minute", "quiet"), [(20, 59, False), (21, 0, True), (0, 0, True), (7, 59, True), (8, 0, False)]
)
def test_the_night_begins_and_ends_to_the_minute(hour, minute, quiet):
    assert is_within(seoul(1, hour, minute), time(21), time(8), SEOUL) is quiet


# --- Night in Korea --------------------------------------------------------------------------------------------------


def night_plan(channel: str = "push", purpose: str = "marketing") -> Plan:
    found = rules(advertising_rules="kr")
    return Plan(found, found.has_night(channel=channel, purpose=purpose), None, None)


def test_advertising_waits_for_eight_in_seoul_wherever_its_reader_is():
    abroad = someone(own_zone="America/New_York")
    for person in (someone(), abroad):
        assert wait(person, seoul(1, 23), plan=night_plan(), purpose="marketing") == seoul(2, 8)
        assert wait(person, seoul(2, 3), plan=night_plan(), purpose="marketing") == seoul(2, 8)
        assert wait(person, seoul(2, 12), plan=night_plan(), purpose="marketing") is None
    assert wait(someone(has_night_consent=True), seoul(1, 23), plan=night_plan(), purpose="marketing") is None


@pytest.mark.parametrize(
    ("channel", "purpose", "asked"),
    [
        ("push", "marketing", True),
        ("sms", "marketing", True),
        ("email", "marketing", False),
        ("in_app", "marketing", False),
        ("push", "transactional", False),
    ],
)
def test_the_night_is_for_advertising_but_by_email(channel, purpose, asked):
    assert night_plan(channel, purpose).is_night_asked is asked
    assert rules().has_night(channel=channel, purpose=purpose) is False


def test_what_is_being_sent_stops_when_the_night_begins():
    order = Dispatch(created_at=seoul(1, 20), channel_type="push", purpose="marketing", ttl_s=60)
    assert waits_of(order, night_plan(), {"s": someone()}, now=seoul(1, 20)).send_before == seoul(1, 21)


# --- Quiet hours -----------------------------------------------------------------------------------------------------


def quiet_plan(**fields) -> Plan:
    found = rules(quiet_hours={"from": "22:00", "to": "07:30", **fields})
    return Plan(found, False, found.quiet, None)


def test_quiet_hours_go_by_each_readers_clock():
    now = seoul(1, 23)  # 15:00 in Paris
    assert wait(someone(), now, plan=quiet_plan()) == seoul(2, 7, 30)
    assert wait(someone(own_zone="Europe/Paris"), now, plan=quiet_plan()) is None
    evening = seoul(2, 6)  # 22:00 in Paris
    expected = datetime(2026, 12, 2, 7, 30, tzinfo=ZoneInfo("Europe/Paris"))
    assert wait(someone(own_zone="Europe/Paris"), evening, plan=quiet_plan()) == expected


@pytest.mark.parametrize(
    ("channel", "purpose", "priority", "kept"),
    [
        ("push", "transactional", "medium", True),
        ("push", "transactional", "high", False),
        ("push", "marketing", "high", True),
        ("email", "marketing", "low", False),
        ("in_app", "marketing", "low", False),
    ],
)
def test_quiet_hours_are_for_what_makes_a_sound_and_is_not_urgent(channel, purpose, priority, kept):
    found = quiet_plan().rules.quiet_for(channel=channel, purpose=purpose, priority=priority)
    assert (found is not None) is kept
    own = quiet_plan(channels=["email"]).rules
    assert (own.quiet_for(channel="email", purpose=purpose, priority="low") is not None) is True
    assert own.quiet_for(channel="push", purpose=purpose, priority="low") is None


# --- Chosen times ----------------------------------------------------------------------------------------------------


def test_a_campaign_is_for_ten_oclock_of_each_reader():
    plan = Plan(rules(), False, None, SendTiming(local_time=time(10)))
    launched = seoul(1, 9)  # 01:00 in Paris
    assert wait(someone(), launched, plan=plan) == seoul(1, 10)
    paris = someone(own_zone="Europe/Paris")
    at_ten = datetime(2026, 12, 1, 10, tzinfo=ZoneInfo("Europe/Paris"))
    assert wait(paris, launched, plan=plan) == at_ten
    assert wait(paris, at_ten, plan=plan, created_at=launched) is None
    assert wait(someone(), seoul(1, 10, 30), plan=plan, created_at=launched) is None


def test_who_is_known_to_be_active_in_the_evening_gets_it_then():
    plan = Plan(rules(), False, None, SendTiming(at_active_hours=True, local_time=time(10)))
    launched = seoul(1, 9)
    assert wait(someone(active_hour=11), launched, plan=plan) == seoul(1, 20)
    assert wait(someone(), launched, plan=plan) == seoul(1, 10)
    assert wait(someone(), launched, plan=plan._replace(timing=SendTiming(at_active_hours=True))) is None


# --- Batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_who_waits_is_left_for_later_and_gets_it_once(application, apns, person, launch, run, set_settings):
    set_settings(quiet_hours={"from": clock(hours=-1), "to": clock(hours=1)})
    person("asleep")
    person("awake", properties={"time_zone": "America/New_York"})
    _order, [batch_id] = launch(ttl_s=60)
    run([batch_id])
    assert by_name() == {"asleep": ("pending", None), "awake": ("successful", None)}
    batch = DispatchBatch.objects.get()
    assert (batch.state, batch.lease_id) == ("waiting", None)
    assert timedelta(minutes=58) < batch.due_at - timezone.now() < timedelta(minutes=61)
    assert run([batch_id]) == [False]
    set_settings(quiet_hours={"from": clock(hours=2), "to": clock(hours=3)})
    DispatchBatch.objects.update(due_at=timezone.now(), expires_at=timezone.now() + timedelta(minutes=1))
    run([batch_id])
    assert {state for state, _ in by_name().values()} == {"successful"}
    assert len(apns.entries(outcome="accepted")) == 2
    batch.refresh_from_db()
    assert batch.state == "done"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("purpose", "ttl_s", "lives"), [("marketing", 600, True), ("marketing", 0, True), ("transactional", 600, False)]
)
def test_advertising_outlives_its_wait_and_a_service_message_does_not(
    application, apns, person, launch, run, set_settings, purpose, ttl_s, lives
):
    set_settings(quiet_hours={"from": clock(hours=-1), "to": clock(hours=1)})
    person("asleep", given=True)
    _, [batch_id] = launch(purpose=purpose, ttl_s=ttl_s)
    run([batch_id])
    batch = DispatchBatch.objects.get()
    assert (batch.expires_at > batch.due_at) is lives
    assert by_name() == {"asleep": ("pending", None)}


@pytest.mark.django_db(transaction=True)
def test_who_was_not_sent_to_for_another_reason_does_not_wait_for_the_sleepers(
    application, apns, person, launch, run, set_settings, monkeypatch
):
    from apps.messaging import dispatch

    set_settings(quiet_hours={"from": clock(hours=-1), "to": clock(hours=1)})
    person("asleep")
    person("awake", properties={"time_zone": "America/New_York"})
    _, [batch_id] = launch()
    claim = dispatch.claim_batch(batch_id)
    assert (len(claim.held), len(claim.recipients)) == (1, 1)
    dispatch.finish_batch(claim)  # as a worker that is told to stop gives it back
    batch = DispatchBatch.objects.get()
    assert batch.due_at <= timezone.now()
    run([batch_id])
    assert by_name() == {"asleep": ("pending", None), "awake": ("successful", None)}


@pytest.mark.django_db(transaction=True)
def test_a_campaigns_local_time_and_active_hours_are_found(application, apns, person, launch, run):
    campaign_id = uuid4()
    early = (timezone.now() + timedelta(hours=9) - timedelta(hours=2)).time().replace(microsecond=0)
    SendTiming.objects.create(campaign_id=campaign_id, application=application, local_time=early, at_active_hours=True)
    person("tomorrow")
    row = person("soon")
    hour = (timezone.now() + timedelta(hours=2)).hour
    ActiveHours.objects.create(application=application, subject_id=row.user_id, hours=[0] * 24, best_hour=hour)
    _order, [batch_id] = launch(campaign_id=campaign_id, ttl_s=60)
    run([batch_id])
    batch = DispatchBatch.objects.get()
    assert {state for state, _ in by_name().values()} == {"pending"}
    assert timedelta(hours=1) <= batch.due_at - timezone.now() <= timedelta(hours=2)
    assert timedelta(hours=21, minutes=50) < batch.expires_at - timezone.now() < timedelta(hours=22, minutes=10)
    assert Message.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_plain_campaign_asks_once_whether_it_has_a_time_of_its_own(application, apns, person, launch, run, settings):
    settings.API_KEY_CACHE_S = 30
    person("kim")
    campaign_id, asked = uuid4(), []
    for _ in range(3):
        _, batch_ids = launch(campaign_id=campaign_id)
        with taken_down() as statements:
            run(batch_ids)
        asked.append(sum("subscriptions_sendtiming" in statement for statement in statements))
    assert asked == [1, 0, 0]


@pytest.mark.django_db(transaction=True)
def test_what_cannot_leave_is_not_prolonged_night_after_night(application, apns, person, launch, run, set_settings):
    set_settings(quiet_hours={"from": clock(hours=-1), "to": clock(hours=1)})
    person("asleep", given=True)
    _, [batch_id] = launch(purpose="marketing", ttl_s=86_400)
    ends_at = timezone.now() + timedelta(hours=2)
    DispatchBatch.objects.update(created_at=timezone.now() - timedelta(days=10), expires_at=ends_at)
    run([batch_id])
    assert (by_name()["asleep"][0], DispatchBatch.objects.get().expires_at) == ("pending", ends_at)
