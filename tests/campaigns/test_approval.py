"""Launches by a second person: what is approved is exactly what is there, whoever launches it, and when."""

from __future__ import annotations

import threading
from datetime import time, timedelta

import pytest
from django.core import mail
from django.db import connections
from django.utils import timezone

from apps.campaigns import services
from apps.campaigns.approvals.models import CampaignApproval
from apps.campaigns.approvals.telling import approvers_tell
from apps.campaigns.models import MessageCampaign
from apps.messaging.services import template_create, template_update
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set
from automata_signal.errors import Conflict, Forbidden, SignalError, ValidationFailed

pytestmark = pytest.mark.django_db


@pytest.fixture
def asking(application, credentials, people):
    """The application wants a second person."""
    people(3, country_code="KR")
    application.settings = {"campaign_approval": {"mode": "required"}}
    application.save()
    return application


@pytest.fixture
def operator(application):
    """`operator("manager")`: somebody of that role."""

    def make(role: str, name: str = "") -> Operator:
        person = Operator.objects.create_user(f"{name or role}@example.com", None)
        membership_set(operator=person, application=application, role=role)
        return person

    return make


@pytest.fixture
def marketer(operator):
    return operator(Role.MARKETER)


@pytest.fixture
def manager(operator):
    return operator(Role.MANAGER)


@pytest.fixture
def campaign(asking, marketer) -> MessageCampaign:
    return services.campaign_create(
        application=asking,
        name="Spring",
        title="Hello",
        body="It is spring",
        targeting_criteria={"field": "country", "op": "eq", "value": "KR"},
        created_by=str(marketer),
        by=str(marketer),
    )


def ask(campaign: MessageCampaign, by: Operator) -> CampaignApproval:
    return services.approval_ask(campaign=campaign, asked_by=str(by), operator=by)


def approved(campaign: MessageCampaign, by: Operator, manager: Operator) -> MessageCampaign:
    ask(campaign, by)
    services.approval_approve(campaign=campaign, operator=manager)
    return MessageCampaign.objects.get(pk=campaign.pk)


def code_of(act) -> str:
    with pytest.raises(SignalError) as raised:
        act()
    return raised.value.code


def state_of(campaign: MessageCampaign) -> str:
    return str(CampaignApproval.objects.filter(campaign=campaign).order_by("-id").first().state)


def test_nothing_is_launched_without_an_approval(campaign, marketer, manager):
    launch = lambda: services.campaign_launch(campaign=campaign)  # noqa: E731
    assert code_of(launch) == "APPROVAL_REQUIRED"
    ask(campaign, marketer)
    assert code_of(launch) == "APPROVAL_REQUIRED"
    services.approval_approve(campaign=campaign, operator=manager)
    assert services.campaign_launch(campaign=campaign).status == "running"


def test_an_application_that_does_not_ask_needs_none(campaign):
    campaign.application.settings = {}
    campaign.application.save()
    assert services.campaign_launch(campaign=campaign).status == "running"


def test_few_recipients_need_none(campaign, people):
    campaign.application.settings = {"campaign_approval": {"mode": "required", "above_recipients": 3}}
    campaign.application.save()
    people(1, country_code="KR")
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"
    campaign.application.settings = {"campaign_approval": {"mode": "required", "above_recipients": 4}}
    campaign.application.save()
    assert services.campaign_launch(campaign=campaign).status == "running"


def test_nobody_approves_their_own(campaign, marketer, manager, operator):
    owner = operator(Role.OWNER)
    approval = ask(campaign, manager)
    assert code_of(lambda: services.approval_approve(campaign=campaign, operator=manager)) == "APPROVAL_OWN"
    assert code_of(lambda: services.approval_approve(campaign=campaign, operator=marketer)) == "APPROVAL_OWN"
    approval.refresh_from_db()
    assert approval.state == "asked"
    services.approval_reject(campaign=campaign, operator=owner, comment="The price is wrong")
    services.campaign_update(campaign=campaign, by=str(owner), body="It is spring, for 10")
    ask(campaign, marketer)
    assert code_of(lambda: services.approval_approve(campaign=campaign, operator=owner)) == "APPROVAL_OWN"
    with pytest.raises(Forbidden):
        services.approval_approve(campaign=campaign, operator=owner)


def test_who_set_only_the_time_of_each_clock_has_changed_it_too(campaign, marketer, manager):
    services.campaign_update(campaign=campaign, local_time=time(10), by=str(manager))
    ask(campaign, marketer)
    assert code_of(lambda: services.approval_approve(campaign=campaign, operator=manager)) == "APPROVAL_OWN"


def changed(name: str, campaign: MessageCampaign) -> None:
    fields = {
        "body": {"body": "It is summer"},
        "audience": {"targeting_criteria": {}},
        "category": {"options": {"badge": 2}},
        "throttle": {"messages_per_minute": 100},
        "clock": {"local_time": time(12)},
        "chain": {
            "chain": {"wait_s": 60, "on": "failure", "steps": [{"channel_type": "in_app", "title": "a", "body": "b"}]}
        },
    }[name]
    services.campaign_update(campaign=campaign, by="key as_sk_…", **fields)


@pytest.mark.parametrize("what", ["body", "audience", "category", "throttle", "clock", "chain"])
def test_a_later_change_withdraws_it(campaign, marketer, manager, what):
    approved(campaign, marketer, manager)
    changed(what, campaign)
    assert state_of(campaign) == "withdrawn"
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"


def test_a_new_name_withdraws_nothing(campaign, marketer, manager):
    approved(campaign, marketer, manager)
    services.campaign_update(campaign=campaign, name="Spring, at last")
    assert services.campaign_launch(campaign=campaign).status == "running"


def test_a_changed_segment_or_template_is_not_what_was_approved(asking, marketer, manager):
    segment = services.segment_create(
        application=asking, name="Koreans", criteria={"field": "country", "op": "eq", "value": "KR"}
    )
    template = template_create(application=asking, created_by="x", name="Words", title_template="Hi {{ name }}")
    campaign = services.campaign_create(
        application=asking,
        name="Of both",
        template_id=template.pk,
        targeting_criteria={"segment": str(segment.pk)},
        created_by=str(marketer),
    )
    approved(campaign, marketer, manager)
    services.segment_update(segment=segment, criteria={"field": "country", "op": "in", "value": ["KR", "JP"]})
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"
    approved(campaign, marketer, manager)
    template_update(template=template, changed_by="x", changes={"title_template": "Buy {{ name }}"})
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"
    approved(campaign, marketer, manager)
    assert services.campaign_launch(campaign=campaign).status == "running"


def test_what_was_changed_since_it_was_asked_is_not_approved(campaign, marketer, manager):
    approval = ask(campaign, marketer)
    MessageCampaign.objects.filter(pk=campaign.pk).update(body="Something else")
    outdated = lambda: services.approval_approve(campaign=campaign, operator=manager)  # noqa: E731
    assert code_of(outdated) == "APPROVAL_OUTDATED"
    MessageCampaign.objects.filter(pk=campaign.pk).update(body="It is spring")
    seen = lambda: services.approval_approve(campaign=campaign, operator=manager, digest="0" * 64)  # noqa: E731
    assert code_of(seen) == "APPROVAL_OUTDATED"
    services.approval_approve(campaign=campaign, operator=manager, digest=approval.digest)


def test_a_rejection_says_why_and_ends_what_was_approved(campaign, marketer, manager):
    approved(campaign, marketer, manager)
    with pytest.raises(ValidationFailed):
        services.approval_reject(campaign=campaign, operator=manager, comment=" ")
    services.approval_reject(campaign=campaign, operator=manager, comment="Wait for the price")
    assert state_of(campaign) == "rejected"
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"
    assert code_of(lambda: services.approval_approve(campaign=campaign, operator=manager)) == "APPROVAL_NOT_ASKED"
    assert approved(campaign, marketer, manager).status == "draft"


def test_it_is_asked_once(campaign, marketer):
    ask(campaign, marketer)
    assert code_of(lambda: ask(campaign, marketer)) == "APPROVAL_ASKED"
    services.campaign_update(campaign=campaign, body="Other")
    ask(campaign, marketer)
    assert sorted(CampaignApproval.objects.values_list("state", flat=True)) == ["asked", "withdrawn"]


def test_it_is_of_the_time_that_was_planned(campaign, marketer, manager):
    at = timezone.now() + timedelta(days=1)
    planned = services.campaign_plan(campaign=campaign, at=at)
    approved(planned, marketer, manager)
    assert code_of(lambda: services.campaign_launch(campaign=campaign)) == "APPROVAL_REQUIRED"
    later = at + timedelta(hours=1)
    assert code_of(lambda: services.campaign_schedule(campaign=campaign, at=later)) == "APPROVAL_REQUIRED"
    scheduled = services.campaign_schedule(campaign=campaign, at=at)
    assert scheduled.status == "scheduled"
    assert services.campaigns_launch_due(now=later) == 1


def test_a_scheduled_one_that_was_changed_fails_and_says_why(campaign, marketer, manager):
    at = timezone.now() + timedelta(days=1)
    approved(services.campaign_plan(campaign=campaign, at=at), marketer, manager)
    services.campaign_schedule(campaign=campaign, at=at)
    services.campaign_update(campaign=campaign, body="Changed in the night")
    assert services.campaigns_launch_due(now=at + timedelta(minutes=1)) == 0
    campaign = MessageCampaign.objects.get(pk=campaign.pk)
    assert campaign.status == "failed"
    assert campaign.failure_reason.startswith("APPROVAL_REQUIRED")


def test_a_draft_without_audience_is_neither_asked_nor_launched(asking, marketer):
    draft = services.campaign_create(application=asking, name="New", title="Hi")
    assert not draft.is_audience_chosen
    for act in (lambda: ask(draft, marketer), lambda: services.campaign_launch(campaign=draft)):
        with pytest.raises(ValidationFailed) as raised:
            act()
        assert raised.value.details[0].field == "targeting_criteria"
    chosen = services.campaign_update(campaign=draft, targeting_criteria={})
    assert chosen.is_audience_chosen


def test_those_who_may_approve_are_told_once(campaign, marketer, manager, operator):
    operator(Role.OWNER)
    operator(Role.ANALYST)
    ask(campaign, marketer)
    assert approvers_tell() == 1
    [letter] = mail.outbox
    assert sorted(letter.to) == ["manager@example.com", "owner@example.com"]
    assert "Spring" in letter.subject
    assert "/step/launch/" in letter.body
    assert approvers_tell() == 0


def test_nobody_is_told_of_what_was_canceled_meanwhile(campaign, marketer, manager):
    ask(campaign, marketer)
    services.campaign_cancel(campaign=campaign)
    assert approvers_tell() == 0
    assert mail.outbox == []


@pytest.mark.django_db(transaction=True)
def test_a_change_and_a_launch_at_once_launch_only_what_was_approved(campaign, marketer, manager):
    approved(campaign, marketer, manager)
    ready, answers = threading.Barrier(2), []

    def run(act) -> None:
        ready.wait()
        try:
            act()
        except Conflict as error:
            answers.append(error.code)
        finally:
            connections.close_all()

    acts = (
        lambda: services.campaign_launch(campaign=campaign),
        lambda: services.campaign_update(campaign=campaign, body="Other words"),
    )
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    campaign = MessageCampaign.objects.select_related("dispatch").get(pk=campaign.pk)
    if campaign.status == "running":
        assert answers == ["CAMPAIGN_STATE"]
        assert campaign.dispatch.body == "It is spring"
    else:
        assert answers == ["APPROVAL_REQUIRED"]


# --- The API -------------------------------------------------------------------------------------------------------


def test_the_api_says_clearly_that_an_approval_is_missing(server, campaign, manager):
    answer = server.post(f"campaigns/{campaign.pk}/launch")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "APPROVAL_REQUIRED"
    assert answer.json()["error"]["details"] == [{"field": "approval", "message": "none"}]
    assert server.get(f"campaigns/{campaign.pk}/approval").status_code == 404
    asked = server.post(f"campaigns/{campaign.pk}/approval", {"note": "Please"})
    assert asked.status_code == 201, asked.content
    assert asked.json()["data"]["state"] == "asked"
    for act, body in (("approve", {}), ("reject", {"comment": "no"})):
        answer = server.post(f"campaigns/{campaign.pk}/approval/{act}", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "OPERATOR_NEEDED")
    services.approval_approve(campaign=campaign, operator=manager)
    assert server.get(f"campaigns/{campaign.pk}/approval").json()["data"]["holds"] is True
    assert server.post(f"campaigns/{campaign.pk}/launch").status_code == 200


def test_the_api_asks_for_a_scheduled_launch(server, campaign, manager):
    at = (timezone.now() + timedelta(days=1)).isoformat()
    assert server.post(f"campaigns/{campaign.pk}/approval", {"at": at}).status_code == 201
    services.approval_approve(campaign=campaign, operator=manager)
    assert server.post(f"campaigns/{campaign.pk}/schedule", {"at": at}).status_code == 200


def test_a_time_is_planned_only_with_what_is_asked(server, campaign):
    services.campaign_update(campaign=campaign, title="", body="")
    at = (timezone.now() + timedelta(days=1)).isoformat()
    assert server.post(f"campaigns/{campaign.pk}/approval", {"at": at}).status_code == 400
    assert MessageCampaign.objects.get(pk=campaign.pk).scheduled_at is None


def test_a_campaign_is_duplicated_as_a_draft(server, campaign):
    services.campaign_update(campaign=campaign, local_time=time(9), messages_per_minute=10)
    answer = server.post(f"campaigns/{campaign.pk}/duplicate", {"name": "Spring again"})
    assert answer.status_code == 201
    copy = answer.json()["data"]
    assert (copy["name"], copy["status"], copy["local_time"], copy["body"]) == (
        "Spring again",
        "draft",
        "09:00",
        "It is spring",
    )
    again = server.post(f"campaigns/{copy['id']}/duplicate").json()["data"]
    assert again["name"] == "Spring again (copy)"
