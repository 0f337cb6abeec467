from __future__ import annotations

import pytest

from apps.subscriptions.models import AppUser, Subscription
from tests.campaigns.conftest import problem_fields

pytestmark = pytest.mark.django_db

KOREA = {"field": "country", "op": "eq", "value": "KR"}


def count(server, criteria, **body) -> int:
    answer = server.post("audience/count", {"criteria": criteria, **body})
    assert answer.status_code == 200, answer.content
    return answer.json()["data"]["count"]


def test_everybody_who_can_be_reached_is_counted_and_nobody_else(server, people, other_application):
    people(3)
    people(2, type="AndroidPush")
    people(4, type="Email")
    people(5, subscription_status=0)
    people(6, subscription_status=-2)
    people(7, is_archived=True)
    people(8, of=other_application)
    assert count(server, {}) == 5
    assert count(server, {}, channel_type="push") == 5
    assert count(server, {"field": "type", "op": "eq", "value": "AndroidPush"}) == 2


def test_criteria_over_users_tags_and_segments_are_one_count(server, people):
    people(1, external_id="anna", country_code="KR", tags={"level": 7})
    people(1, external_id="bert", country_code="KR", tags={"level": 2})
    people(1, country_code="KR")
    AppUser.objects.filter(external_id="anna").update(properties={"age": 30})
    AppUser.objects.filter(external_id="bert").update(properties={"age": 12})
    korea = server.post("segments", {"name": "Korea", "criteria": KOREA}).json()["data"]["id"]
    assert server.get(f"segments/{korea}/count").json()["data"] == {"count": 3, "channel_type": "push"}
    assert count(server, {"all": [{"segment": korea}, {"field": "user.age", "op": "gte", "value": 18}]}) == 1
    assert count(server, {"all": [{"segment": korea}, {"field": "tags.level", "op": "lt", "value": 5}]}) == 1
    assert count(server, {"field": "external_id", "op": "in", "value": ["anna", "bert", "carl"]}) == 2
    assert count(server, {"not": {"segment": korea}}) == 0


def test_a_sample_shows_the_newest_and_gives_nobody_away(server, people):
    people(25)
    (anna,) = people(1, external_id="anna@example.com", country_code="KR")
    answer = server.post("audience/count", {"criteria": {}}).json()["data"]
    assert answer["count"] == 26
    sample = answer["sample"]
    assert len(sample) == 20
    assert sample[0]["id"] == str(anna.id)
    assert sample[0]["external_id"] == "an…"
    token = Subscription.objects.get(pk=anna.pk).token
    assert token not in str(answer)
    assert sample[0]["token"] == f"{token[:4]}…{token[-4:]}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "criteria"),
        ({"criteria": {}, "channel_type": "pigeon"}, "channel_type"),
        ({"criteria": {}, "channel_type": ["push"]}, "channel_type"),
        ({"criteria": {}, "channel_type": ""}, "channel_type"),
        ({"criteria": {}, "size": 3}, "size"),
        ({"criteria": {"field": "tags.a", "op": "lt", "value": "x"}}, "criteria.value"),
    ],
)
def test_wrong_input_names_its_field(server, body, field):
    answer = server.post("audience/count", body)
    assert (answer.status_code, problem_fields(answer)) == (400, {field})


@pytest.mark.parametrize("query", ["channel_type=pigeon", "channel_type=", "other=1"])
def test_a_segment_is_counted_on_a_channel_that_exists(server, query):
    korea = server.post("segments", {"name": "Korea", "criteria": KOREA}).json()["data"]["id"]
    answer = server.get(f"segments/{korea}/count?{query}")
    assert (answer.status_code, problem_fields(answer)) == (400, {query.split("=")[0]})


@pytest.mark.parametrize("body", [b"[]", b"[1]", b'"x"', b"5", b"null", b"{", b"\xff", b'{"criteria": {"a": NaN}}'])
def test_a_body_that_is_no_object_is_a_400(server, body):
    assert server.post("audience/count", body).status_code == 400
