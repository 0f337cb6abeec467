from __future__ import annotations

from uuid import uuid4

import pytest

from apps.subscriptions import erasure
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def anna(server) -> dict:
    answer = server.post("users", {"external_id": "anna", "properties": {"plan": "pro", "name": "Anna Kim"}})
    assert answer.status_code == 201
    return answer.json()["data"]


def test_a_user_is_created_once(server, anna):
    answer = server.post("users", {"external_id": "anna"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "USER_EXISTS")
    assert AppUser.objects.get().properties == {"plan": "pro", "name": "Anna Kim"}


def test_properties_are_merged_and_null_removes(server, anna):
    body = {"properties": {"plan": None, "address": {"city": "Seoul", "zip": None}}}
    data = server.patch(f"users/{anna['id']}", body).json()["data"]
    assert data["properties"] == {"name": "Anna Kim", "address": {"city": "Seoul", "zip": None}}
    data = server.patch("users/by-external-id?external_id=anna", {"properties": {"name": None}}).json()["data"]
    assert data["properties"] == {"address": {"city": "Seoul", "zip": None}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "properties"),
        ({"properties": []}, "properties"),
        ({"properties": None}, "properties"),
        ({"properties": {"": 1}}, "properties."),
        ({"properties": {"a\n": 1}}, "properties.a\n"),
        ({"properties": {"a": {"b": {"c": {"d": {"e": {}}}}}}}, "properties"),
        ({"properties": {"a": [[[[[1]]]]]}}, "properties"),
        ({"properties": {"a": "x" * 33_000}}, "properties"),
        ({"properties": {"a": "\0"}}, "properties.a"),
        ({"properties": {}, "external_id": "bert"}, "external_id"),
    ],
)
def test_wrong_properties_are_a_400_that_names_the_field(server, anna, body, field):
    answer = server.patch(f"users/{anna['id']}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == field
    assert AppUser.objects.get().properties == {"plan": "pro", "name": "Anna Kim"}


def test_the_limit_of_properties_is_for_all_of_them_together(server, anna):
    assert server.patch(f"users/{anna['id']}", {"properties": {"a": "x" * 20_000}}).status_code == 200
    assert server.patch(f"users/{anna['id']}", {"properties": {"b": "x" * 20_000}}).status_code == 400


def test_the_list_filters_by_external_id(server, anna):
    server.post("users", {"external_id": "bert"})
    assert [row["external_id"] for row in server.get("users").json()["data"]] == ["bert", "anna"]
    assert [row["id"] for row in server.get("users?external_id=anna").json()["data"]] == [anna["id"]]
    assert server.get("users?name=anna").status_code == 400
    assert server.get("users/by-external-id").status_code == 400
    assert server.get("users/by-external-id?external_id=nobody").status_code == 404
    assert server.get("users/by-external-id?external_id=%00").status_code == 400
    assert server.get("users?external_id=%00").status_code == 400


def test_archiving_a_user_ends_and_archives_the_subscriptions(server, device, anna):
    device.login("anna")
    assert server.delete(f"users/{anna['id']}").status_code == 204
    assert server.get(f"users/{anna['id']}").status_code == 404
    assert server.patch(f"users/{anna['id']}", {"properties": {}}).status_code == 404
    assert server.delete(f"users/{anna['id']}").status_code == 404
    row = Subscription.with_archived.get()
    assert (row.is_archived, row.subscription_status, row.status_source) == (True, -2, "api")
    assert device.get().status_code == 404
    assert device.register(enabled=True).json()["data"]["external_id"] is None


def test_an_archived_user_comes_back_by_being_created_again(server, anna):
    server.delete("users/by-external-id?external_id=anna")
    answer = server.post("users", {"external_id": "anna", "properties": {"plan": "free"}})
    assert (answer.status_code, answer.json()["data"]["id"]) == (201, anna["id"])
    assert answer.json()["data"]["properties"] == {"plan": "free"}


@pytest.fixture
def seams(monkeypatch):
    """Registries of their own for this test."""
    monkeypatch.setattr(erasure, "_erasers", [])
    monkeypatch.setattr(erasure, "_exporters", {})


def test_erasing_leaves_no_personal_data(server, make_device, anna, seams):
    device = make_device(device_model="iPhone17,1", country_code="KR", tags={"name": "Anna"})
    device.login("anna")
    server.post("subscriptions", {"type": "Email", "token": "anna@example.com", "external_id": "anna"})
    bystander = make_device(tags={"a": 1})
    seen = []
    erasure.register_eraser(lambda user, ids: seen.append((user.external_id, len(ids))))
    assert server.post(f"users/{anna['id']}/erase").status_code == 204
    assert seen == [("anna", 2)]
    user = AppUser.with_archived.get()
    assert (user.external_id, user.properties, user.is_archived) == (f"erased:{user.pk}", {}, True)
    for row in Subscription.with_archived.filter(user=user):
        assert (row.token, row.tags, row.device_model, row.country_code) == ("", {}, "", "")
        assert row.is_archived
        assert row.subscription_status <= 0
    assert device.get().status_code == 404
    assert bystander.get().json()["data"]["tags"] == {"a": 1}
    again = device.register(enabled=True)
    assert again.status_code == 201
    assert again.json()["data"]["id"] != device.id
    assert server.post("subscriptions", {"type": "Email", "token": "anna@example.com"}).status_code == 201


def test_an_erased_user_cannot_be_found_again_and_the_name_is_free(server, anna):
    server.post("users/by-external-id/erase?external_id=anna")
    for method, path in [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/erase"), ("GET", "/export")]:
        assert server.request(method, f"users/{anna['id']}{path}", {"properties": {}}).status_code == 404
    assert server.get(f"users/by-external-id?external_id=erased:{anna['id']}").status_code == 404
    assert server.post("users", {"external_id": "anna"}).json()["data"]["id"] != anna["id"]


def test_an_archived_user_can_still_be_exported_and_erased(server, anna):
    server.delete(f"users/{anna['id']}")
    assert server.get(f"users/{anna['id']}/export").status_code == 200
    assert server.post(f"users/{anna['id']}/erase").status_code == 204


def test_an_eraser_that_fails_undoes_the_erasure(server, anna, seams):
    def fail(user, ids):
        raise RuntimeError("the upper app has a bug")

    erasure.register_eraser(fail)
    assert server.post(f"users/{anna['id']}/erase").status_code == 500
    assert AppUser.objects.get().external_id == "anna"


def test_the_export_has_everything_about_the_user(server, make_device, anna, seams):
    device = make_device(tags={"vip": True})
    device.login("anna")
    server.post("subscriptions", {"type": "Email", "token": "anna@example.com", "external_id": "anna"})
    erasure.register_exporter("messages", lambda user, ids: [{"title": "Hello", "of": len(ids)}])
    answer = server.get("users/by-external-id/export?external_id=anna")
    data = answer.json()["data"]
    assert data["user"]["properties"] == {"plan": "pro", "name": "Anna Kim"}
    tokens = {row["type"]: row["token"] for row in data["subscriptions"]}
    assert tokens["Email"] == "anna@example.com"
    assert device.token not in answer.content.decode()
    assert {row["tags"].get("vip") for row in data["subscriptions"]} == {True, None}
    assert {row["event_type"] for row in data["subscription_events"]} >= {"linked", "registered"}
    assert data["messages"] == [{"title": "Hello", "of": 2}]


def test_an_export_has_nothing_of_who_used_the_device_before(server, device):
    device.login("bert")
    device.login("anna")
    rows = server.get("users/by-external-id/export?external_id=anna").json()["data"]["subscription_events"]
    assert [row["event_type"] for row in rows] == ["linked"]


def test_a_stranger_finds_no_user_and_changes_none(stranger, server, anna):
    for key in (f"users/{anna['id']}", f"users/{uuid4()}"):
        answers = [
            stranger.get(key),
            stranger.patch(key, {"properties": {"a": 1}}),
            stranger.delete(key),
            stranger.post(f"{key}/erase"),
            stranger.get(f"{key}/export"),
        ]
        assert {(answer.status_code, answer.json()["error"]["message"]) for answer in answers} == {
            (404, "There is no such user.")
        }
    for path in ("", "/export"):
        assert stranger.get(f"users/by-external-id{path}?external_id=anna").status_code == 404
    assert stranger.post("users/by-external-id/erase?external_id=anna").status_code == 404
    assert stranger.get("users").json()["data"] == []
    assert stranger.post("users", {"external_id": "anna"}).status_code == 201
    assert server.get(f"users/{anna['id']}").json()["data"]["properties"] == anna["properties"]


def test_a_strangers_login_makes_a_user_of_its_own(stranger, server, anna):
    body = {"type": "Email", "token": "anna@example.com", "external_id": "anna"}
    data = stranger.post("subscriptions", body).json()["data"]
    assert data["user_id"] != anna["id"]
    assert not SubscriptionEvent.objects.filter(user_id=anna["id"]).exists()


def test_a_user_is_put_into_the_test_group_and_found_there(server, stranger, anna):
    server.post("users", {"external_id": "bert", "is_test": True})
    assert anna["is_test"] is False
    data = server.patch(f"users/{anna['id']}", {"is_test": True}).json()["data"]
    assert (data["is_test"], data["properties"]) == (True, anna["properties"])
    found = server.get("users?is_test=true").json()
    assert [one["external_id"] for one in found.get("data", [])] == ["bert", "anna"], found
    assert server.get("users?is_test=false").json()["data"] == []
    assert stranger.get("users?is_test=true").json()["data"] == []
    assert server.patch(f"users/{anna['id']}", {"is_test": "x"}).status_code == 400
