"""Campaigns of advertising and campaigns by the recipient's clock, from the API to the batch."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.campaigns.models import MessageCampaign
from apps.campaigns.services import fan_out
from apps.messaging import dispatch
from apps.messaging.models import DispatchBatch, Message
from apps.subscriptions.models import SendTiming
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.subjects import Subject
from tests.factories import make_subscription, make_user

pytestmark = pytest.mark.django_db(transaction=True)


def create(server, **fields):
    body = {"name": "c", "title": "t", "body": "b", "targeting_criteria": {}, **fields}
    return server.post("campaigns", body)


def launched(server, campaign_id):
    answer = server.post(f"campaigns/{campaign_id}/launch")
    if answer.status_code == 200:
        fan_out(MessageCampaign.objects.get(pk=campaign_id).pk)
    return answer


def test_the_local_time_of_a_campaign_is_set_shown_and_kept_to(server, application, apns):
    make_subscription(application, user=make_user(application, "kim", time_zone="Asia/Seoul"))
    soon = timezone.now() + timedelta(hours=9) + timedelta(hours=1)
    created = create(server, local_time=f"{soon:%H:%M}", at_active_hours=True).json()["data"]
    assert (created["local_time"], created["at_active_hours"]) == (f"{soon:%H:%M}", True)
    listed = server.get("campaigns").json()["data"][0]
    assert listed["local_time"] == created["local_time"]
    assert launched(server, created["id"]).status_code == 200
    batch = DispatchBatch.objects.get()
    dispatch.run_batch(batch.pk)
    assert Message.objects.get().status == "pending"
    batch.refresh_from_db()
    assert timedelta(minutes=58) < batch.due_at - timezone.now() < timedelta(minutes=61)
    assert server.patch(f"campaigns/{created['id']}", {"local_time": None}).status_code == 409


def test_a_local_time_is_taken_back_and_checked(server, application):
    created = create(server, local_time="10:00").json()["data"]
    path = f"campaigns/{created['id']}"
    assert server.patch(path, {"local_time": None}).json()["data"]["local_time"] is None
    assert not SendTiming.objects.exists()
    for wrong in ("25:00", "10", 10, "10:00:00"):
        refused = create(server, local_time=wrong)
        assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "local_time")
    assert server.delete(path).status_code == 204


def test_a_campaign_of_advertising_needs_somebody_who_agreed(server, application, apns):
    row = make_subscription(application, user=make_user(application, "kim"))
    created = create(server, purpose="marketing").json()["data"]
    refused = launched(server, created["id"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "AUDIENCE_EMPTY")
    agreed = Choices({"push": MarketingChoice(True)})
    preferences_set(subject=Subject.of_subscription(row), choices=agreed, source="api")
    assert launched(server, created["id"]).status_code == 200
    dispatch.run_batch(DispatchBatch.objects.get().pk)
    assert Message.objects.get().status == "successful"


def test_korean_rules_are_checked_when_a_campaign_is_made_and_when_it_is_launched(server, application, apns):
    make_subscription(application, user=make_user(application, "kim"))
    created = create(server, purpose="marketing").json()["data"]
    application.settings = {"advertising_rules": "kr", "ad_sender_name": "가게"}
    application.save()
    refused = launched(server, created["id"])
    assert refused.status_code == 400, refused.content
    assert [detail["field"] for detail in refused.json()["error"]["details"]] == ["title", "body"]
    assert create(server, purpose="marketing").status_code == 400
    assert create(server, purpose="marketing", title="(광고) 가게").status_code == 201
