from __future__ import annotations

import uuid

import pytest

from apps.campaigns.models import MessageCampaign
from apps.messaging.models import Dispatch, MessageTemplate
from apps.messaging.services import template_create
from apps.tenants.models import Role
from apps.tenants.services import membership_set, operator_create
from tests.campaigns.conftest import problem_fields

pytestmark = pytest.mark.django_db


@pytest.fixture
def template(application) -> MessageTemplate:
    return template_create(
        application=application, created_by="test", name="Welcome", title_template="Hi {{ name }}", body_template="…"
    )


def body(**fields) -> dict:
    return {"name": "Spring", "title": "Hello", "targeting_criteria": {}} | fields


def test_a_draft_is_created_read_changed_and_deleted(server, template):
    criteria = {"field": "country", "op": "eq", "value": "kr"}
    created = server.post(
        "campaigns",
        {
            "name": " Spring ",
            "template_id": str(template.id),
            "variables": {"name": "you"},
            "options": {"badge": 3},
            "priority": "medium",
            "ttl_s": 3600,
            "targeting_criteria": criteria,
        },
    )
    assert created.status_code == 201, created.content
    data = created.json()["data"]
    assert data["name"] == "Spring"
    assert data["template_id"] == str(template.id)
    assert (data["status"], data["campaign_type"], data["channel_type"]) == ("draft", "one_time", "push")
    assert (data["priority"], data["ttl_s"], data["options"]) == ("medium", 3600, {"badge": 3})
    assert data["targeting_criteria"] == criteria
    assert data["created_by"].startswith("key as_sk_")
    assert data["total_recipients"] == data["successful_count"] == 0
    assert server.get(f"campaigns/{data['id']}").json()["data"] == data
    changed = server.patch(f"campaigns/{data['id']}", {"template_id": None, "title": "Hi", "body": "there"})
    assert changed.json()["data"]["template_id"] is None
    assert changed.json()["data"]["priority"] == "medium"
    assert server.patch(f"campaigns/{data['id']}", {}).json()["data"]["title"] == "Hi"
    assert server.delete(f"campaigns/{data['id']}").status_code == 204
    assert server.get(f"campaigns/{data['id']}").status_code == 404


def test_campaigns_are_listed_newest_first_in_pages_and_by_status(server, draft):
    ids = [draft(name=f"Campaign {number}") for number in range(3)]
    first = server.get("campaigns?limit=2").json()
    assert [row["id"] for row in first["data"]] == ids[:0:-1]
    rest = server.get(f"campaigns?limit=2&cursor={first['meta']['next_cursor']}").json()
    assert [row["id"] for row in rest["data"]] == ids[:1]
    assert len(server.get("campaigns?status=draft").json()["data"]) == 3
    assert server.get("campaigns?status=running").json()["data"] == []
    assert problem_fields(server.get("campaigns?status=flying")) == {"status"}
    assert server.get("campaigns?cursor=nonsense").status_code == 400


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": None}, "name"),
        ({"colour": "red"}, "colour"),
        ({"status": "running"}, "status"),
        ({"total_recipients": 5}, "total_recipients"),
        ({"scheduled_at": "2030-01-01T00:00:00Z"}, "scheduled_at"),
        ({"title": ["x"]}, "title"),
        ({"title": "x" * 10_001}, "title"),
        ({"body": "a\u0000b"}, "body"),
        ({"body": "x" * 5_000}, "body"),
        ({"data": []}, "data"),
        ({"data": "x"}, "data"),
        ({"options": {"badge": "many"}}, "options.badge"),
        ({"options": {"unheard_of": 1}}, "options.unheard_of"),
        ({"options": 5}, "options"),
        ({"variables": [1]}, "variables"),
        ({"channel_type": "pigeon"}, "channel_type"),
        ({"channel_type": "email", "title": "a\nBcc: b@example.com"}, "title"),
        ({"priority": "urgent"}, "priority"),
        ({"ttl_s": -1}, "ttl_s"),
        ({"ttl_s": 10**12}, "ttl_s"),
        ({"ttl_s": "soon"}, "ttl_s"),
        ({"template_id": "x"}, "template_id"),
        ({"template_id": str(uuid.uuid4())}, "template_id"),
        ({"targeting_criteria": None}, "targeting_criteria"),
        ({"targeting_criteria": []}, "targeting_criteria"),
        (
            {"targeting_criteria": {"all": [{"field": "country", "op": "exists"}, {"field": "os", "op": "eq"}]}},
            "targeting_criteria.all[1].value",
        ),
        ({"targeting_criteria": {"field": "password", "op": "eq", "value": "x"}}, "targeting_criteria.field"),
    ],
)
def test_wrong_input_names_its_field_and_changes_nothing(server, draft, given, field):
    answer = server.post("campaigns", body(**given))
    assert answer.status_code == 400, answer.content
    assert problem_fields(answer) == {field}
    assert not MessageCampaign.objects.exists()
    existing = draft()
    patched = server.patch(f"campaigns/{existing}", given)
    assert (patched.status_code, problem_fields(patched)) == (400, {field})
    assert MessageCampaign.objects.get(pk=existing).name == "Spring"


def test_an_audience_has_to_be_named_so_that_nobody_writes_to_everybody_by_an_oversight(server):
    answer = server.post("campaigns", {"name": "Spring", "title": "Hello"})
    assert problem_fields(answer) == {"targeting_criteria"}


def test_a_template_and_a_content_do_not_go_together(server, template):
    answer = server.post("campaigns", body(template_id=str(template.id)))
    assert problem_fields(answer) == {"template_id"}


def test_another_applications_template_does_not_exist(stranger, template):
    answer = stranger.post("campaigns", body(title="", template_id=str(template.id)))
    assert problem_fields(answer) == {"template_id"}


def test_a_persons_edit_never_writes_the_counters(server, draft, monkeypatch):
    campaign_id = draft()
    from apps.campaigns.services import drafts

    original = drafts.campaign_content

    def meanwhile(campaign):
        MessageCampaign.objects.filter(pk=campaign_id).update(successful_count=7)
        return original(campaign)

    monkeypatch.setattr(drafts, "campaign_content", meanwhile)
    assert server.patch(f"campaigns/{campaign_id}", {"name": "Summer"}).status_code == 200
    row = MessageCampaign.objects.get(pk=campaign_id)
    assert (row.name, row.successful_count) == ("Summer", 7)


def test_history_keeps_the_operator_and_the_key(server, application, draft):
    from rest_framework_simplejwt.tokens import RefreshToken

    from tests.conftest import ApiClient

    campaign_id = draft()
    operator = operator_create(email="mia@example.com", password="correct horse battery staple", name="Mia")
    membership_set(operator=operator, application=application, role=Role.MARKETER)
    token = str(RefreshToken.for_user(operator).access_token)
    mia = ApiClient(token, **{"X-Application-Id": str(application.id)})
    answer = mia.patch(f"campaigns/{campaign_id}", {"name": "Summer"})
    assert answer.status_code == 200, answer.content
    newest, oldest = MessageCampaign.history.filter(id=campaign_id)
    assert newest.history_user == operator
    assert oldest.history_user is None
    assert oldest.history_change_reason.startswith("key as_sk_")


ROUTES = [
    ("get", ""),
    ("patch", ""),
    ("delete", ""),
    ("post", "/schedule"),
    ("post", "/unschedule"),
    ("post", "/launch"),
    ("post", "/pause"),
    ("post", "/resume"),
    ("post", "/cancel"),
    ("post", "/test"),
    ("get", "/stats"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_stranger_gets_nothing(stranger, draft, method, path):
    theirs = getattr(stranger, method)(f"campaigns/{draft()}{path}")
    nobodys = getattr(stranger, method)(f"campaigns/{uuid.uuid4()}{path}")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.json()["error"] == nobodys.json()["error"]
    assert stranger.get("campaigns").json()["data"] == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_publishable_key_may_not(sdk, draft, method, path):
    assert getattr(sdk, method)(f"campaigns/{draft()}{path}").status_code == 403


def test_a_test_goes_to_who_is_named_and_the_figures_stay(server, draft, people, credentials):
    people(30)
    (anna,) = people(1, external_id="anna")
    (device,) = people(1, type="AndroidPush")
    (gone,) = people(1, subscription_status=-2)
    campaign_id = draft(data={"page": "spring"})
    answer = server.post(
        f"campaigns/{campaign_id}/test",
        {"external_ids": ["anna", "nobody"], "subscription_ids": [str(device.id), str(gone.id)]},
    )
    assert answer.status_code == 202, answer.content
    data = answer.json()["data"]
    assert {message["subscription_id"] for message in data["messages"]} == {str(anna.id), str(device.id)}
    assert {(row["value"], row["reason"]) for row in data["skipped"]} == {
        ("nobody", "not_found"),
        (str(gone.id), "not_reachable"),
    }
    dispatch = Dispatch.objects.get()
    assert (dispatch.priority, dispatch.campaign_id, dispatch.data) == ("high", None, {"page": "spring"})
    row = MessageCampaign.objects.get(pk=campaign_id)
    assert (row.status, row.total_recipients) == ("draft", 0)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "recipients"),
        ({"external_ids": [], "subscription_ids": []}, "recipients"),
        ({"external_ids": ["nobody"]}, "recipients"),
        ({"external_ids": [str(n) for n in range(21)]}, "external_ids"),
        ({"external_ids": [str(n) for n in range(11)], "subscription_ids": [str(uuid.uuid4())] * 10}, "recipients"),
        ({"external_ids": "anna"}, "external_ids"),
        ({"external_ids": ["x" * 256]}, "external_ids"),
        ({"subscription_ids": ["x"]}, "subscription_ids"),
        ({"everybody": True}, "everybody"),
    ],
)
def test_a_test_names_1_to_20_recipients(server, draft, credentials, given, field):
    answer = server.post(f"campaigns/{draft()}/test", given)
    assert answer.status_code == 400, answer.content
    (found,) = problem_fields(answer)
    assert found.startswith(field)


def test_a_test_sent_again_with_its_idempotency_key_is_sent_once(server, draft, people, credentials):
    people(1, external_id="anna")
    campaign_id = draft()
    first = server.post(f"campaigns/{campaign_id}/test", {"external_ids": ["anna"]}, **{"Idempotency-Key": "t1"})
    again = server.post(f"campaigns/{campaign_id}/test", {"external_ids": ["anna"]}, **{"Idempotency-Key": "t1"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json()["data"] == first.json()["data"]
    assert Dispatch.objects.count() == 1


def test_a_campaign_without_content_can_be_a_draft_but_not_sent(server, people, credentials):
    people(1, external_id="anna")
    empty = server.post("campaigns", {"name": "Later", "targeting_criteria": {}}).json()["data"]["id"]
    for action, given in [("launch", {}), ("test", {"external_ids": ["anna"]}), ("schedule", {"at": "x"})]:
        assert server.post(f"campaigns/{empty}/{action}", given).status_code == 400
