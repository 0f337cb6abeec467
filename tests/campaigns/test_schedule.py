from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.models import MessageCampaign
from apps.campaigns.moments import Moment, scheduled_moment
from apps.messaging.models import Dispatch
from automata_signal.errors import ValidationFailed
from tests.campaigns.conftest import problem_fields

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def in_november(monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: NOW)


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2026-12-24T09:00:00+09:00", "", Moment(datetime(2026, 12, 24, 0, tzinfo=UTC), "")),
        ("2026-12-24T09:00:00Z", "Asia/Tokyo", Moment(datetime(2026, 12, 24, 9, tzinfo=UTC), "Asia/Tokyo")),
        ("2026-12-24T09:00:00", "", Moment(datetime(2026, 12, 24, 0, tzinfo=UTC), "Asia/Seoul")),
        ("2026-12-24T09:00", "Europe/Berlin", Moment(datetime(2026, 12, 24, 8, tzinfo=UTC), "Europe/Berlin")),
        ("2027-07-01T09:00", "Europe/Berlin", Moment(datetime(2027, 7, 1, 7, tzinfo=UTC), "Europe/Berlin")),
        # Clocks go back in New York on 7 November 2027: 01:30 comes twice, and the first is meant.
        ("2027-11-07T01:30", "America/New_York", Moment(datetime(2027, 11, 7, 5, 30, tzinfo=UTC), "America/New_York")),
        ("2027-03-14T03:00", "America/New_York", Moment(datetime(2027, 3, 14, 7, tzinfo=UTC), "America/New_York")),
    ],
)
def test_a_time_is_an_instant_or_a_local_time_in_a_zone(in_november, at, zone, expected):
    found = scheduled_moment(datetime.fromisoformat(at), time_zone=zone, default_time_zone="Asia/Seoul")
    assert found == expected


@pytest.mark.parametrize(
    ("at", "zone", "says"),
    [
        ("2027-03-14T02:30", "America/New_York", "clocks go forward; did you mean 2027-03-14T03:30:00-04:00?"),
        ("2027-03-28T02:00", "Europe/Berlin", "did you mean 2027-03-28T03:00:00+02:00?"),
        ("2026-11-20T11:59:59+00:00", "", "past"),
        ("2026-11-20T20:59", "Asia/Seoul", "past"),
        ("2028-01-01T00:00", "", "ahead"),
        ("0001-01-01T00:00", "Asia/Seoul", "past"),
        ("9999-12-31T23:59", "America/New_York", "ahead"),
        ("2026-12-24T09:00", "Mars/Olympus", "not a time zone"),
        ("2026-12-24T09:00", "../../etc/passwd", "not a time zone"),
        ("2026-12-24T09:00", "Asia", "not a time zone"),
    ],
)
def test_a_time_that_cannot_be_meant_is_refused(in_november, at, zone, says):
    with pytest.raises(ValidationFailed, match=r"at|time_zone") as refused:
        scheduled_moment(datetime.fromisoformat(at), time_zone=zone, default_time_zone="Asia/Seoul")
    assert says in refused.value.details[0].message


def test_a_campaign_is_scheduled_moved_and_taken_back(server, draft, credentials):
    campaign_id = draft()
    tomorrow = (timezone.now() + timedelta(days=1)).replace(microsecond=0)
    data = server.post(f"campaigns/{campaign_id}/schedule", {"at": tomorrow.isoformat()}).json()["data"]
    assert (data["status"], data["campaign_type"]) == ("scheduled", "scheduled")
    assert datetime.fromisoformat(data["scheduled_at"]) == tomorrow
    local = f"{tomorrow + timedelta(days=1):%Y-%m-%dT09:00:00}"
    moved = server.post(f"campaigns/{campaign_id}/schedule", {"at": local, "time_zone": "Asia/Tokyo"}).json()["data"]
    assert moved["scheduled_time_zone"] == "Asia/Tokyo"
    assert MessageCampaign.objects.get().scheduled_at.hour == 0
    back = server.post(f"campaigns/{campaign_id}/unschedule").json()["data"]
    assert (back["status"], back["campaign_type"], back["scheduled_at"]) == ("draft", "one_time", None)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "at"),
        ({"at": ""}, "at"),
        ({"at": None}, "at"),
        ({"at": "tomorrow"}, "at"),
        ({"at": "2030-01-01"}, "at"),
        ({"at": "2020-01-01T00:00:00Z"}, "at"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at"),
        ({"at": "9999-12-31T23:59:59-14:00"}, "at"),
        ({"at": 5}, "at"),
        ({"at": "x" * 65}, "at"),
        ({"at": "2026-12-24T09:00", "time_zone": "Nowhere"}, "time_zone"),
        ({"at": "2026-12-24T09:00", "zone": "UTC"}, "zone"),
    ],
)
def test_wrong_input_names_its_field(server, draft, credentials, given, field):
    campaign_id = draft()
    answer = server.post(f"campaigns/{campaign_id}/schedule", given)
    assert (answer.status_code, problem_fields(answer)) == (400, {field})
    assert MessageCampaign.objects.get().status == "draft"


def test_a_scheduled_campaign_must_stay_fit_to_be_sent(server, draft, credentials):
    campaign_id = draft()
    server.post(f"campaigns/{campaign_id}/schedule", {"at": (timezone.now() + timedelta(days=1)).isoformat()})
    answer = server.patch(f"campaigns/{campaign_id}", {"title": "", "body": ""})
    assert (answer.status_code, problem_fields(answer)) == (400, {"body"})
    assert server.patch(f"campaigns/{campaign_id}", {"title": "Better"}).status_code == 200


def due(campaign_id: str) -> None:
    moment = timezone.now() - timedelta(seconds=1)
    MessageCampaign.objects.filter(pk=campaign_id).update(status="scheduled", scheduled_at=moment)


def test_what_is_due_is_launched_and_what_is_not_waits(server, draft, people, credentials):
    people(3)
    now, later = draft(name="Now"), draft(name="Later")
    due(now)
    server.post(f"campaigns/{later}/schedule", {"at": (timezone.now() + timedelta(hours=1)).isoformat()})
    assert services.campaigns_launch_due() == 1
    assert MessageCampaign.objects.get(pk=now).status == "running"
    assert MessageCampaign.objects.get(pk=later).status == "scheduled"
    assert services.campaigns_launch_due() == 0
    assert services.campaigns_launch_due(now=timezone.now() + timedelta(hours=2)) == 1


def test_what_cannot_be_launched_is_failed_and_says_why_and_the_others_go_on(
    server, draft, people, credentials, application
):
    people(3, country_code="KR")
    empty = draft(targeting_criteria={"field": "country", "op": "eq", "value": "JP"})
    fine = draft()
    due(empty)
    due(fine)
    assert services.campaigns_launch_due() == 1
    failed = server.get(f"campaigns/{empty}").json()["data"]
    assert failed["status"] == "failed"
    assert failed["failure_reason"].startswith("AUDIENCE_EMPTY: ")
    assert Dispatch.objects.count() == 1
    assert MessageCampaign.history.filter(id=empty).first().history_change_reason == "fail · schedule"


def test_an_application_that_was_switched_off_sends_nothing(draft, people, credentials, application):
    people(3)
    campaign_id = draft()
    due(campaign_id)
    application.is_active = False
    application.save()
    assert services.campaigns_launch_due() == 0
    row = MessageCampaign.objects.get(pk=campaign_id)
    assert (row.status, row.failure_reason[:20]) == ("failed", "APPLICATION_INACTIVE")


def test_a_fault_of_ours_with_one_campaign_does_not_hold_up_the_others(draft, people, credentials, monkeypatch):
    from apps.campaigns.services import lifecycle

    people(3)
    first, second = draft(name="First"), draft(name="Second")
    due(first)
    due(second)
    content = lifecycle.campaign_content

    def broken_for_the_first(campaign):
        if campaign.name == "First":
            raise RuntimeError("a bug")
        return content(campaign)

    with monkeypatch.context() as patch:
        patch.setattr(lifecycle, "campaign_content", broken_for_the_first)
        assert services.campaigns_launch_due() == 1
    assert MessageCampaign.objects.get(pk=first).status == "scheduled"
    assert services.campaigns_launch_due() == 1


def test_the_sweeps_of_the_schedule_are_tasks_that_exist(settings):
    from automata_signal.celery import app

    app.loader.import_default_modules()
    ours = {entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values() if entry["task"].startswith("campaigns.")}
    assert ours >= {"campaigns.launch_due", "campaigns.continue_fanouts", "campaigns.finish_done"}
    assert "campaigns.decide_experiments" in ours
    assert ours | {"campaigns.fan_out"} <= set(app.tasks)
