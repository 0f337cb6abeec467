"""Each action in each state, and what a launch needs."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.models import CampaignStatus, MessageCampaign, Segment
from apps.messaging.dispatches import dispatch_is_done
from apps.messaging.models import BatchState, Dispatch, DispatchBatch, DispatchState, Message
from apps.messaging.services import template_create
from apps.messaging.sweeps import fail_canceled
from apps.subscriptions.models import Subscription
from apps.tenants.models import ChannelCredential
from tests.campaigns.conftest import problem_fields

pytestmark = pytest.mark.django_db

ACTIONS: dict[str, dict[str, str]] = {
    "schedule": {"draft": "scheduled", "scheduled": "scheduled"},
    "unschedule": {"scheduled": "draft"},
    "launch": {"draft": "running", "scheduled": "running"},
    "pause": {"running": "paused"},
    "resume": {"paused": "running"},
    "cancel": {"draft": "canceled", "scheduled": "canceled", "running": "canceled", "paused": "canceled"},
}


def in_state(campaign: MessageCampaign, state: str) -> None:
    columns = {"status": state}
    if state in ("draft", "scheduled"):
        columns |= {"dispatch": None, "sent_at": None}
    MessageCampaign.objects.filter(pk=campaign.pk).update(**columns)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("state", CampaignStatus.values)
def test_each_action_is_done_from_its_states_and_refused_from_all_others(server, launched, people, action, state):
    people(1)
    campaign = launched()
    in_state(campaign, state)
    body = {"at": (timezone.now() + timedelta(hours=1)).isoformat()} if action == "schedule" else {}
    answer = server.post(f"campaigns/{campaign.pk}/{action}", body)
    expected = ACTIONS[action].get(state)
    campaign = MessageCampaign.objects.get(pk=campaign.pk)
    if expected is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CAMPAIGN_STATE"), answer.content
        assert answer.json()["error"]["details"] == [{"field": "status", "message": state}]
        assert campaign.status == state
    else:
        assert answer.status_code == 200, answer.content
        assert answer.json()["data"]["status"] == campaign.status == expected


@pytest.mark.parametrize("state", CampaignStatus.values)
def test_only_what_is_not_launched_can_be_edited_and_only_a_draft_deleted(server, launched, people, state):
    people(1)
    campaign = launched()
    in_state(campaign, state)
    edited = server.patch(f"campaigns/{campaign.pk}", {"name": "Other"})
    assert edited.status_code == (200 if state in ("draft", "scheduled") else 409)
    deleted = server.delete(f"campaigns/{campaign.pk}")
    assert deleted.status_code == (204 if state == "draft" else 409)
    assert MessageCampaign.objects.filter(pk=campaign.pk).exists() == (state != "draft")


@pytest.mark.parametrize("state", CampaignStatus.values)
def test_a_test_can_be_sent_in_any_state(server, launched, people, state):
    people(1, external_id="anna")
    campaign = launched()
    in_state(campaign, state)
    answer = server.post(f"campaigns/{campaign.pk}/test", {"external_ids": ["anna"]})
    assert answer.status_code == 202
    assert MessageCampaign.objects.get(pk=campaign.pk).status == state


@pytest.mark.parametrize("action", ["unschedule", "launch", "pause", "resume", "cancel"])
def test_an_action_that_takes_nothing_refuses_what_is_sent(server, draft, action):
    answer = server.post(f"campaigns/{draft()}/{action}", {"at": "now"})
    assert (answer.status_code, problem_fields(answer)) == (400, {"at"})


def test_a_launch_fixes_content_and_audience(server, draft, people, application, credentials):
    people(2, country_code="KR")
    template = template_create(
        application=application, created_by="test", name="Hi", title_template="Hi {{ name }}", body_template="!"
    )
    criteria = {"field": "country", "op": "eq", "value": "KR"}
    campaign_id = draft(
        title="", body="", template_id=str(template.pk), variables={"name": "you"}, targeting_criteria=criteria
    )
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert answer.status_code == 200, answer.content
    dispatch = Dispatch.objects.get()
    assert str(dispatch.campaign_id) == campaign_id
    assert (dispatch.title, dispatch.is_personalised) == ("Hi {{ name }}", True)
    assert (dispatch.variables, dispatch.audience) == ({"name": "you"}, criteria)
    assert (dispatch.template_version.version, dispatch.priority, dispatch.ttl_s) == (1, "low", 259_200)
    assert answer.json()["data"]["sent_at"] is not None


def test_everybody_in_a_segment_can_stand_inside_of_other_criteria(server, launched, people):
    people(2, country_code="KR")
    people(1, country_code="JP")
    everybody = server.post("segments", {"name": "All", "criteria": {}}).json()["data"]["id"]
    korea = {"field": "country", "op": "eq", "value": "KR"}
    campaign = launched(targeting_criteria={"all": [{"segment": everybody}, korea]})
    services.fan_out(campaign.pk)
    campaign = MessageCampaign.objects.get()
    assert campaign.total_recipients == 2


def test_an_empty_audience_is_a_409(server, draft, people, credentials):
    people(5, country_code="KR")
    campaign_id = draft(targeting_criteria={"field": "country", "op": "eq", "value": "JP"})
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "AUDIENCE_EMPTY")
    assert MessageCampaign.objects.get(pk=campaign_id).status == "draft"
    assert not Dispatch.objects.exists()


def test_each_type_in_the_audience_needs_a_credential(server, draft, people, credentials, application):
    people(2)
    people(1, type="AndroidPush")
    ChannelCredential.objects.filter(provider="fcm").update(is_active=False)
    campaign_id = draft()
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "CREDENTIAL_MISSING")
    assert "fcm" in answer.json()["error"]["message"]
    server.patch(f"campaigns/{campaign_id}", {"targeting_criteria": {"field": "type", "op": "eq", "value": "iOSPush"}})
    assert server.post(f"campaigns/{campaign_id}/launch").status_code == 200


def test_another_applications_credential_does_not_help(server, draft, people, other_application):
    people(1)
    ChannelCredential.objects.create(application=other_application, provider="apns", name="x", secret={})
    answer = server.post(f"campaigns/{draft()}/launch")
    assert answer.json()["error"]["code"] == "CREDENTIAL_MISSING"


def test_an_inactive_template_is_a_409(server, draft, people, application, credentials):
    people(1)
    template = template_create(application=application, created_by="test", name="Hi", title_template="Hi")
    campaign_id = draft(title="", body="", template_id=str(template.pk))
    server.patch(f"campaigns/{campaign_id}", {"name": "x"})
    type(template).objects.filter(pk=template.pk).update(is_active=False)
    in_an_hour = (timezone.now() + timedelta(hours=1)).isoformat()
    actions = [("launch", {}), ("schedule", {"at": in_an_hour}), ("test", {"external_ids": ["x"]})]
    for action, body in actions:
        answer = server.post(f"campaigns/{campaign_id}/{action}", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "TEMPLATE_INACTIVE")


def test_a_segment_that_broke_since_is_named_at_launch(server, draft, people, credentials):
    people(1)
    given = {"name": "Korea", "criteria": {"field": "country", "op": "exists"}}
    korea = server.post("segments", given).json()["data"]["id"]
    campaign_id = draft(targeting_criteria={"all": [{"segment": korea}]})
    Segment.objects.filter(pk=korea).update(criteria={"field": "gone", "op": "eq", "value": 1})
    answer = server.post(f"campaigns/{campaign_id}/launch")
    assert answer.status_code == 400
    assert problem_fields(answer) == {f"targeting_criteria.all[0].segment({korea}).field"}


def test_pause_resume_and_cancel_reach_the_dispatch(server, launched, people):
    people(3)
    campaign = launched()
    services.fan_out(campaign.pk)
    server.post(f"campaigns/{campaign.pk}/pause")
    assert Dispatch.objects.get().state == DispatchState.PAUSED
    server.post(f"campaigns/{campaign.pk}/resume")
    assert Dispatch.objects.get().state == DispatchState.ACTIVE
    server.post(f"campaigns/{campaign.pk}/cancel")
    assert Dispatch.objects.get().state == DispatchState.CANCELED


def test_what_has_not_left_of_a_canceled_campaign_is_failed_and_accounted_for(server, launched, people):
    people(30)
    campaign = launched()
    services.fan_out(campaign.pk)
    server.post(f"campaigns/{campaign.pk}/cancel")
    fail_canceled(campaign.dispatch_id)
    assert set(Message.objects.values_list("status", "error_reason")) == {("failed", "canceled")}
    stats = server.get(f"campaigns/{campaign.pk}/stats").json()["data"]
    assert (stats["status"], stats["total"], stats["failed"]) == ("canceled", 30, 30)
    assert stats["failures"] == {"canceled": 30}


def test_a_campaign_is_completed_when_nothing_is_left_to_send(server, launched, people):
    people(3)
    campaign = launched()
    assert services.campaigns_finish_done() == 0
    services.fan_out(campaign.pk)
    assert services.campaigns_finish_done() == 0
    assert not dispatch_is_done(campaign.dispatch)
    DispatchBatch.objects.update(state=BatchState.DONE)
    assert services.campaigns_finish_done() == 1
    campaign = MessageCampaign.objects.get()
    assert campaign.status == "completed"
    assert campaign.completed_at is not None
    assert services.campaigns_finish_done() == 0


def test_a_campaign_whose_audience_left_before_the_fan_out_is_completed_with_nobody(launched, people):
    people(3)
    campaign = launched()
    Subscription.objects.update(subscription_status=-2)
    services.fan_out(campaign.pk)
    assert services.campaigns_finish_done() == 1
    campaign = MessageCampaign.objects.get()
    assert (campaign.status, campaign.total_recipients) == ("completed", 0)


def test_a_launch_sent_again_with_its_idempotency_key_gets_the_first_answer(server, draft, people, credentials):
    people(1)
    campaign_id = draft()
    first = server.post(f"campaigns/{campaign_id}/launch", {}, **{"Idempotency-Key": "go"})
    again = server.post(f"campaigns/{campaign_id}/launch", {}, **{"Idempotency-Key": "go"})
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["data"] == first.json()["data"]
    assert Dispatch.objects.count() == 1
    assert server.post(f"campaigns/{campaign_id}/launch").status_code == 409


def in_threads(count: int, work) -> list:
    """What `work(n)` returned in each of so many threads that start together."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        try:
            barrier.wait()
            results[number] = work(number)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_two_launches_at_once_launch_once(server, draft, people, credentials):
    people(5)
    campaign_id = draft()
    statuses = in_threads(4, lambda _: server.post(f"campaigns/{campaign_id}/launch").status_code)
    assert sorted(statuses) == [200, 409, 409, 409]
    assert Dispatch.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_schedule_that_is_due_and_a_person_who_launches_launch_once(server, draft, people, credentials):
    people(5)
    campaign_id = draft()
    due = timezone.now() - timedelta(seconds=1)
    MessageCampaign.objects.filter(pk=campaign_id).update(status="scheduled", scheduled_at=due)

    def work(number: int) -> int:
        if number == 0:
            return server.post(f"campaigns/{campaign_id}/launch").status_code
        return services.campaigns_launch_due()

    person, *sweeps = in_threads(3, work)
    assert (person == 200) + sum(sweeps) == 1
    assert Dispatch.objects.count() == 1
    assert MessageCampaign.objects.get().status == "running"
