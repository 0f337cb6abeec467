from __future__ import annotations

import uuid

import pytest

from apps.campaigns.models import MessageCampaign, Segment
from tests.campaigns.conftest import problem_fields

pytestmark = pytest.mark.django_db

KOREA = {"field": "country", "op": "eq", "value": "KR"}
ADULT = {"field": "user.age", "op": "gte", "value": 18}


def segment(server, name: str, criteria) -> str:
    answer = server.post("segments", {"name": name, "criteria": criteria})
    assert answer.status_code == 201, answer.content
    return answer.json()["data"]["id"]


def test_a_segment_is_created_read_changed_listed_and_deleted(server):
    created = server.post("segments", {"name": "Korea", "description": "All of it", "criteria": KOREA})
    assert created.status_code == 201
    data = created.json()["data"]
    assert (data["name"], data["description"], data["criteria"]) == ("Korea", "All of it", KOREA)
    assert server.get(f"segments/{data['id']}").json()["data"] == data
    changed = server.patch(f"segments/{data['id']}", {"name": "Seoul"}).json()["data"]
    assert (changed["name"], changed["criteria"]) == ("Seoul", KOREA)
    assert [row["name"] for row in server.get("segments").json()["data"]] == ["Seoul"]
    assert server.delete(f"segments/{data['id']}").status_code == 204
    assert server.get(f"segments/{data['id']}").status_code == 404


def test_a_name_is_given_once_in_an_application(server, stranger):
    segment(server, "Korea", KOREA)
    again = server.post("segments", {"name": " Korea ", "criteria": KOREA})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "NAME_TAKEN")
    other = segment(server, "Japan", KOREA)
    assert server.patch(f"segments/{other}", {"name": "Korea"}).status_code == 409
    assert server.patch(f"segments/{other}", {"name": "Japan"}).status_code == 200
    segment(stranger, "Korea", KOREA)


@pytest.mark.parametrize(
    ("criteria", "field"),
    [
        ({"field": "shoe_size", "op": "eq", "value": 1}, "criteria.field"),
        ({"all": [KOREA, {"field": "country", "op": "eq", "value": 5}]}, "criteria.all[1].value"),
        ({"all": [KOREA, {"not": {"field": "app_version", "op": "gt", "value": "x"}}]}, "criteria.all[1].not.value"),
        ({"any": []}, "criteria.any"),
        ({"all": [{}]}, "criteria.all[0]"),
        ({"segment": "nobody"}, "criteria.segment"),
        ({"segment": str(uuid.uuid4())}, "criteria.segment"),
        ({"field": "country", "op": "eq", "value": "KR", "extra": 1}, "criteria.extra"),
        ({"field": "test_type", "op": "eq", "value": 9}, "criteria.value"),
        ({"field": "created_at", "op": "within", "value": "yesterday"}, "criteria.value"),
        ([], "criteria"),
        ("everybody", "criteria"),
        (None, "criteria"),
    ],
)
def test_criteria_that_cannot_be_used_are_a_400_that_names_the_place(server, criteria, field):
    answer = server.post("segments", {"name": "Wrong", "criteria": criteria})
    assert (answer.status_code, problem_fields(answer)) == (400, {field})
    assert not Segment.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"criteria": {}}, "name"),
        ({"name": "x"}, "criteria"),
        ({"name": "", "criteria": {}}, "name"),
        ({"name": "x" * 201, "criteria": {}}, "name"),
        ({"name": ["x"], "criteria": {}}, "name"),
        ({"name": "a\u0000b", "criteria": {}}, "name"),
        ({"name": "x", "criteria": {}, "colour": "red"}, "colour"),
        ({"name": "x", "criteria": {}, "description": "x" * 501}, "description"),
        ({"name": "x", "criteria": {"field": "tags.a", "op": "eq", "value": "\u0000"}}, "criteria.value"),
    ],
)
def test_wrong_input_names_its_field(server, body, field):
    answer = server.post("segments", body)
    assert (answer.status_code, problem_fields(answer)) == (400, {field})


def test_a_segment_may_refer_to_others_but_not_in_a_circle(server):
    korea = segment(server, "Korea", KOREA)
    adults = segment(server, "Korean adults", {"all": [{"segment": korea}, ADULT]})
    buyers = segment(server, "Buyers", {"any": [{"segment": adults}]})
    answer = server.patch(f"segments/{korea}", {"criteria": {"any": [KOREA, {"segment": buyers}]}})
    assert answer.status_code == 400
    (problem,) = answer.json()["error"]["details"]
    assert problem["message"] == "the segment contains itself"
    assert problem["field"].startswith(f"criteria.any[1].segment({buyers})")
    itself = server.patch(f"segments/{korea}", {"criteria": {"segment": korea}})
    assert (itself.status_code, problem_fields(itself)) == (400, {"criteria.segment"})
    assert Segment.objects.get(pk=korea).criteria == KOREA


def test_a_reference_is_stored_in_one_spelling(server):
    korea = segment(server, "Korea", KOREA)
    loud = segment(server, "Loud", {"not": {"all": [{"segment": korea.upper()}]}})
    assert Segment.objects.get(pk=loud).criteria == {"not": {"all": [{"segment": korea}]}}


def test_a_segment_in_use_is_not_deleted_and_its_users_are_named(server, draft):
    korea = segment(server, "Korea", KOREA)
    adults = segment(server, "Adults", {"all": [{"segment": korea}, ADULT]})
    campaign = draft(targeting_criteria={"any": [{"segment": korea}]})
    answer = server.delete(f"segments/{korea}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "SEGMENT_IN_USE")
    assert problem_fields(answer) == {f"segments.{adults}", f"campaigns.{campaign}"}
    server.delete(f"segments/{adults}")
    server.delete(f"campaigns/{campaign}")
    assert server.delete(f"segments/{korea}").status_code == 204


def test_what_only_mentions_the_id_does_not_use_the_segment(server, draft):
    korea = segment(server, "Korea", KOREA)
    draft(targeting_criteria={"field": "tags.segment", "op": "eq", "value": korea})
    assert server.delete(f"segments/{korea}").status_code == 204


def test_an_edit_reaches_a_campaign_that_is_not_launched_and_no_other(server, draft, launched, people):
    people(2, country_code="KR")
    people(3, country_code="JP")
    where = segment(server, "Where", KOREA)
    before = launched(targeting_criteria={"segment": where})
    server.patch(f"segments/{where}", {"criteria": {"field": "country", "op": "eq", "value": "JP"}})
    after = launched(targeting_criteria={"segment": where})
    assert before.dispatch.audience == KOREA
    assert after.dispatch.audience == {"field": "country", "op": "eq", "value": "JP"}


def test_history_keeps_who_changed_a_segment(server):
    korea = segment(server, "Korea", KOREA)
    server.patch(f"segments/{korea}", {"name": "Seoul"})
    newest, oldest = Segment.history.filter(id=korea)
    assert (newest.name, oldest.name) == ("Seoul", "Korea")
    assert newest.history_change_reason.startswith("key as_sk_")


def test_a_stranger_gets_nothing(server, stranger, draft):
    korea = segment(server, "Korea", KOREA)
    unknown = uuid.uuid4()
    for method, path in [("get", ""), ("patch", ""), ("delete", ""), ("get", "/count")]:
        theirs = getattr(stranger, method)(f"segments/{korea}{path}")
        nobodys = getattr(stranger, method)(f"segments/{unknown}{path}")
        assert theirs.status_code == nobodys.status_code == 404
        assert theirs.json()["error"] == nobodys.json()["error"]
    assert stranger.get("segments").json()["data"] == []
    reference = {"name": "Mine", "criteria": {"segment": korea}}
    assert problem_fields(stranger.post("segments", reference)) == {"criteria.segment"}
    assert problem_fields(stranger.post("audience/count", {"criteria": {"segment": korea}})) == {"criteria.segment"}
    theirs = {"name": "x", "title": "x", "targeting_criteria": {"all": [{"segment": korea}]}}
    assert problem_fields(stranger.post("campaigns", theirs)) == {"targeting_criteria.all[0].segment"}
    assert not MessageCampaign.objects.exists()


def test_an_sdk_key_cannot_read_segments(sdk):
    assert sdk.get("segments").status_code == 403
    assert sdk.post("audience/count", {"criteria": {}}).status_code == 403
