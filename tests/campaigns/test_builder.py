"""The segment builder: every condition that there is has a row, and comes back from it as it was."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.urls import reverse

from apps.campaigns.console.builder import FIELDS, KINDS, AudienceField, Field, kept_rows, rows_of, written
from apps.campaigns.console.builder_words import sentence
from apps.campaigns.services import segment_create
from apps.subscriptions import targeting
from apps.subscriptions.services import subscription_register, user_create
from apps.subscriptions.status import Setter
from apps.tenants.models import Application, Operator, Role
from apps.tenants.services import membership_set

VALUES = {
    "type": "iOSPush",
    "test_type": 1,
    "test_group": True,
    "country": "KR",
    "app_version": "2.10.1",
    "sdk_version": "1.0",
    "external_id": "user-1",
}
WHEN = ("2026-01-31T09:00:00+09:00", "2026-02-28T09:30:15.250+09:00")


def field_of(name: str) -> Field:
    if name in FIELDS:
        return FIELDS[name]
    return FIELDS[f"{name.partition('.')[0]}."]


def example(name: str, operator: str) -> dict:
    """A condition with a value that fits."""
    one = VALUES.get(name, "17.1" if name == "os" else name.startswith("consent.") or "Seoul")
    kind = field_of(name).kind
    if operator in ("exists", "not_exists"):
        return {"field": name, "op": operator}
    if kind == "date":
        value = {"between": list(WHEN), "within": "30d", "older_than": "2w"}.get(operator, WHEN[1])
    elif operator in ("in", "not_in"):
        value = [one, 3, True, "a, b"] if kind == "json" else [one]
    elif kind == "json" and operator in ("gt", "gte", "lt", "lte", "between"):
        value = [1, 2.5] if operator == "between" else 7
    elif operator == "between":
        value = ["1.2", "2.10"]
    else:
        value = one
    return {"field": name, "op": operator, "value": value}


NAMES = [name.replace("<name>", "city.of birth").replace("<property>", "address.city") for name in targeting.FIELDS]
CONDITIONS = [example(name, operator) for name in NAMES for operator in sorted(targeting._field(name).ops)]
NESTED = [
    {},
    {"field": "country", "op": "eq", "value": "KR"},
    {"all": CONDITIONS[:3]},
    {"any": [CONDITIONS[0], {"all": [CONDITIONS[1], {"any": [CONDITIONS[2], CONDITIONS[3]]}]}]},
    {"not": CONDITIONS[0]},
    {"not": {"not": CONDITIONS[0]}},
    {"not": {"any": CONDITIONS[:2]}},
    {"not": {"any": CONDITIONS[:1]}},
    {"not": {"all": CONDITIONS[:2]}},
    {"all": [{"not": {"all": [CONDITIONS[5]]}}, {"not": {"segment": str(uuid4())}}, {"segment": str(uuid4())}]},
]
STRANGE = [
    {"field": "nonsense", "op": "eq", "value": 1},
    {"field": "country", "op": "eq", "value": "kr"},
    {"field": "country", "op": "eq", "value": "KR", "more": 1},
    {"field": "user.points", "op": "gt", "value": 2**60},
    {"field": "user.name", "op": "eq", "value": {"a": 1}},
    {"field": "last_active_at", "op": "within", "value": "soon"},
    {"field": "app_version", "op": "between", "value": ["1"]},
    {"segment": "none"},
    {"all": []},
    {"all": 7},
    {"any": [1, None, "text"]},
    {"all": [{}], "any": []},
]


def test_every_field_and_operator_of_the_grammar_is_offered():
    for name in NAMES:
        assert set(KINDS[field_of(name).kind].operators) == set(targeting._field(name).ops), name


@pytest.mark.parametrize("index", range(len(CONDITIONS)))
def test_every_condition_is_a_row_and_comes_back(index):
    criteria = CONDITIONS[index]
    targeting.validate_criteria(criteria)
    root = rows_of(criteria)
    assert not list(kept_rows(root)), criteria
    assert json.loads(written(root)) == criteria


@pytest.mark.parametrize("index", range(len(NESTED)))
def test_groups_come_back_as_they_were(index):
    criteria = NESTED[index]
    root = rows_of(criteria)
    assert not list(kept_rows(root))
    assert (json.loads(written(root) or "{}")) == criteria


@pytest.mark.parametrize("index", range(len(STRANGE)))
def test_what_no_row_can_show_is_kept_as_it_is(index):
    root = rows_of(STRANGE[index])
    assert list(kept_rows(root))
    assert json.loads(written(root)) == STRANGE[index]


def test_an_empty_field_is_not_everybody():
    field = AudienceField()
    assert field.clean("{}") == {}
    for text in ("", None, '{"field": ""}', '{"all": []}', "[]"):
        with pytest.raises(Exception, match=r"Say who|missing|no conditions|object"):
            field.clean(text)


def test_values_are_data_and_never_markup():
    evil = "</script><script>alert(1)</script>"
    criteria = {
        "all": [{"field": f"tags.{evil}", "op": "in", "value": [evil]}, {"field": evil, "op": "eq", "value": 1}]
    }
    shown = str(AudienceField().widget.render("criteria", criteria, {"id": "id_criteria"}))
    assert "<script>alert" not in shown
    assert "alert(1)" in shown


@pytest.fixture
def shop(application) -> Application:
    user = user_create(application=application, external_id="customer-77", properties={"address": {"city": "Seoul"}})
    for number in range(3):
        subscription_register(
            application=application,
            type="iOSPush" if number else "Email",
            token="ab" * 31 + f"{number:02x}" if number else "a@example.com",
            setter=Setter.PERSON,
            enabled=True,
            user=user,
            tags={"plan": "gold"},
            country_code="KR",
        )
    return application


@pytest.fixture
def visit(client, shop):
    def sign_in(role: str, of: Application = shop):
        operator = Operator.objects.create_user(f"{role}@example.com", None)
        membership_set(operator=operator, application=of, role=role)
        client.force_login(operator)
        return client

    return sign_in


def preview(client, application, criteria, **more):
    data = {"application": str(application.pk), "criteria": json.dumps(criteria), **more}
    return client.post(reverse("admin:audience_preview"), data)


def test_the_preview_counts_each_channel_and_says_who_it_is(visit, shop):
    answer = preview(visit(Role.MARKETER), shop, {"all": [{"field": "tags.plan", "op": "eq", "value": "gold"}]})
    assert {row["label"]: row["count"] for row in answer.context_data["counts"]} == {
        "Push": "2",
        "E-mail": "1",
        "SMS": "0",
        "Kakao Alimtalk": "0",
        "In-app": "0",
    }
    assert answer.context_data["words"] == "Tag “plan” is gold"


def test_external_ids_are_for_those_who_may_see_personal_data(visit, shop):
    assert "customer-77" not in preview(visit(Role.ANALYST), shop, {}).content.decode()
    assert "customer-77" in preview(visit(Role.OWNER), shop, {}).content.decode()


def test_a_refusal_names_the_place_of_the_row(visit, shop):
    wrong = {"all": [{"field": "country", "op": "eq", "value": "KR"}, {"field": "country", "op": "in", "value": [""]}]}
    answer = preview(visit(Role.MARKETER), shop, wrong)
    assert answer.context_data["path"] == "all[1].value[0]"
    assert answer.context_data["problem"] == "choose a country"
    gone = preview(visit(Role.OWNER), shop, {"segment": str(uuid4())})
    assert gone.context_data["path"] == "segment"


def test_another_application_is_not_found(visit, shop, other_application):
    client = visit(Role.OWNER)
    assert preview(client, other_application, {}).status_code == 404
    offers = reverse("admin:audience_offers")
    assert client.get(offers, {"application": str(other_application.pk)}).status_code == 404
    assert client.get(offers, {"application": "x"}).status_code == 404
    assert client.get(offers, {"application": str(shop.pk)}).status_code == 200


def test_support_has_no_audiences(visit, shop):
    assert preview(visit(Role.SUPPORT), shop, {}).status_code == 403


def test_what_is_offered_is_what_the_application_has(visit, shop, django_assert_max_num_queries):
    segment_create(application=shop, name="Gold", criteria={"field": "country", "op": "eq", "value": "KR"})
    client = visit(Role.MARKETER)
    with django_assert_max_num_queries(20):
        shown = client.get(reverse("admin:audience_offers"), {"application": str(shop.pk)}).content.decode()
    for text in ("Gold", "address.city", "plan", "gold"):
        assert text in shown


def test_criteria_are_said_in_words(shop):
    segment = segment_create(application=shop, name="Gold", criteria={"field": "country", "op": "eq", "value": "KR"})
    criteria = {
        "all": [
            {"field": "country", "op": "in", "value": ["KR", "JP"]},
            {"any": [{"segment": str(segment.pk)}, {"field": "last_active_at", "op": "within", "value": "30d"}]},
            {"not": {"field": "user.age", "op": "between", "value": [1, 17]}},
        ]
    }
    assert sentence(shop, criteria) == (
        "Country is one of South Korea, Japan and (in the segment “Gold” or Last active within the last 30 days)"
        " and not (Property “age” is between 1 and 17)"
    )
