"""One subscription: tokens, tags, login and logout, its end, and the list."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from apps.subscriptions import services
from apps.subscriptions.handles import handle_fits, handle_for
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.status import Setter
from automata_signal.errors import NotFound

pytestmark = pytest.mark.django_db


def events_of(subscription_id) -> list[str]:
    rows = SubscriptionEvent.objects.filter(subscription_id=subscription_id).order_by("id")
    return [row.event_type for row in rows]


# --- Handles -------------------------------------------------------------------------------------------------------


def test_a_handle_fits_its_subscription_and_version_only():
    mine, other = uuid4(), uuid4()
    assert handle_fits(handle_for(mine, 1), mine, 1)
    assert not handle_fits(handle_for(mine, 1), mine, 2)
    assert not handle_fits(handle_for(mine, 1), other, 1)
    assert not handle_fits("", mine, 1)
    assert not handle_fits("sh_ü\udcff", mine, 1)


ROUTES = [
    ("GET", "", b""),
    ("PATCH", "", {"enabled": False}),
    ("DELETE", "", b""),
    ("POST", "/login", {"external_id": "mallory"}),
    ("POST", "/logout", {}),
    ("PATCH", "/tags", {"tags": {"a": 1}}),
    ("PUT", "/tags", {"tags": {"a": 1}}),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_without_its_handle_a_subscription_does_not_exist_for_a_device(sdk, make_device, device, method, path, body):
    other = make_device()
    unknown = sdk.request(method, f"subscriptions/{uuid4()}{path}", body, **{"X-Subscription-Handle": device.handle})
    missing = sdk.request(method, f"subscriptions/{device.id}{path}", body)
    others = device.request(method, path, body, handle=other.handle)
    wrong = device.request(method, path, body, handle="sh_" + "A" * 43)
    empty = device.request(method, path, body, handle="")
    error = {"code": "NOT_FOUND", "message": "There is no such subscription.", "details": []}
    for answer in (unknown, missing, others, wrong, empty):
        assert (answer.status_code, answer.json()["error"]) == (404, error)
    row = Subscription.objects.get(pk=device.id)
    assert (row.subscription_status, row.tags, row.user_id) == (1, {}, None)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_another_applications_key_does_not_find_the_subscription(stranger, device, method, path, body):
    headers = {"X-Subscription-Handle": device.handle}
    answer = stranger.request(method, f"subscriptions/{device.id}{path}", body, **headers)
    unknown = stranger.request(method, f"subscriptions/{uuid4()}{path}", body, **headers)
    assert (answer.status_code, answer.json()["error"]) == (404, unknown.json()["error"])
    assert Subscription.objects.get(pk=device.id).subscription_status == 1


def test_a_raised_version_makes_the_old_handle_useless(device):
    Subscription.objects.update(handle_version=2)
    assert device.get().status_code == 404
    assert device.register().json()["data"]["handle"] != device.handle


def test_the_app_server_needs_no_handle(server, device):
    assert server.get(f"subscriptions/{device.id}").json()["data"]["id"] == device.id


def test_a_publishable_key_cannot_list_or_touch_users(sdk, server):
    user = server.post("users", {"external_id": "anna"}).json()["data"]
    for method, path in [
        ("GET", "subscriptions"),
        ("GET", "users"),
        ("POST", "users"),
        ("GET", f"users/{user['id']}"),
        ("PATCH", f"users/{user['id']}"),
        ("DELETE", f"users/{user['id']}"),
        ("POST", f"users/{user['id']}/erase"),
        ("GET", f"users/{user['id']}/export"),
        ("GET", "users/by-external-id?external_id=anna"),
        ("POST", "users/by-external-id/erase?external_id=anna"),
    ]:
        assert sdk.request(method, path, {}).status_code == 403, path


# --- Token updates ---------------------------------------------------------------------------------------------------


def test_a_new_token_keeps_the_subscription_and_its_history(device):
    data = device.patch(token="CD" * 32).json()["data"]
    assert (data["id"], data["subscription_status"]) == (device.id, 1)
    assert Subscription.objects.get().token == "cd" * 32
    assert events_of(device.id) == ["registered", "subscribed", "token_updated"]
    device.token = "cd" * 32
    assert device.register().status_code == 200


def test_the_old_token_is_free_again(device, make_device):
    device.patch(token="cd" * 32)
    assert make_device(token=device.token).id != device.id


def test_the_same_token_again_only_moves_its_time(device):
    before = Subscription.objects.get().token_registered_at
    assert device.patch(token=device.token).status_code == 200
    assert Subscription.objects.get().token_registered_at > before
    assert "token_updated" not in events_of(device.id)


def test_a_token_of_another_subscription_is_taken_over_and_the_other_ends(device, make_device):
    other = make_device(tags={"old": True})
    assert device.patch(token=other.token).status_code == 200
    assert other.get().status_code == 404
    old = Subscription.with_archived.get(pk=other.id)
    assert (old.is_archived, old.subscription_status, old.token) == (True, -2, "")
    assert old.tags == {"old": True}
    assert events_of(other.id)[2:] == ["token_updated", "unsubscribed", "archived"]
    last = SubscriptionEvent.objects.filter(subscription_id=other.id).latest("id")
    assert last.reason == f"token taken over by {device.id}"
    device.token = other.token
    assert device.register().json()["data"]["id"] == device.id
    with pytest.raises(NotFound):
        services.subscription_restore(subscription=old, setter=Setter.PERSON)


def test_a_wrong_token_changes_nothing_else_either(device):
    assert device.patch(token="nonsense", enabled=False, tags={"a": 1}).status_code == 400
    row = Subscription.objects.get()
    assert (row.token, row.subscription_status, row.tags) == (device.token, 1, {})


# --- Tags ------------------------------------------------------------------------------------------------------------


def test_tags_are_merged_by_patch_and_replaced_by_put(device):
    device.request("PATCH", "/tags", {"tags": {"plan": "pro", "visits": 3, "vip": True, "score": 1.5}})
    merged = device.request("PATCH", "/tags", {"tags": {"plan": None, "visits": 4}}).json()["data"]["tags"]
    assert merged == {"visits": 4, "vip": True, "score": 1.5}
    assert device.request("PUT", "/tags", {"tags": {"new": "x"}}).json()["data"]["tags"] == {"new": "x"}
    assert device.request("PUT", "/tags", {"tags": {}}).json()["data"]["tags"] == {}


def test_a_hundred_tags_are_the_limit_however_they_come(device):
    assert device.request("PATCH", "/tags", {"tags": {f"a{n}": n for n in range(100)}}).status_code == 200
    assert device.request("PATCH", "/tags", {"tags": {"one": 1}}).status_code == 400
    assert device.request("PATCH", "/tags", {"tags": {"one": 1, "a0": None}}).status_code == 200
    assert len(Subscription.objects.get().tags) == 100


@pytest.mark.parametrize("body", [{}, {"tags": 5}, {"tags": {"a": [1]}}, {"tags": {}, "more": 1}, {"tags": {"": 1}}])
def test_wrong_tags_are_a_400(device, body):
    assert device.request("PATCH", "/tags", body).status_code == 400
    assert device.request("PUT", "/tags", body).status_code == 400


def test_a_huge_number_in_a_tag_is_stored_or_refused_but_never_a_500(device):
    for number in (2**63, -(2**64), 10**40, 1e308, 1e-320):
        assert device.request("PATCH", "/tags", {"tags": {"n": float(number)}}).status_code == 200
    assert device.request("PATCH", "/tags", b'{"tags": {"n": 1e400}}').status_code == 400


# --- Login and logout ------------------------------------------------------------------------------------------------


def test_login_makes_a_user_and_logout_keeps_the_token(device):
    data = device.login("anna").json()["data"]
    user = AppUser.objects.get(external_id="anna")
    assert (data["external_id"], data["user_id"]) == ("anna", str(user.pk))
    assert user.last_active_at is not None
    data = device.logout().json()["data"]
    assert (data["external_id"], data["user_id"], data["subscription_status"]) == (None, None, 1)
    assert Subscription.objects.get().token == device.token
    rows = SubscriptionEvent.objects.filter(event_type__in=("linked", "unlinked")).order_by("id")
    assert [(row.event_type, row.user_id) for row in rows] == [("linked", user.pk), ("unlinked", user.pk)]


def test_several_subscriptions_have_one_user_and_several_users_one_device(make_device):
    phone, tablet = make_device(), make_device()
    phone.login("anna")
    tablet.login("anna")
    assert AppUser.objects.get().subscriptions.count() == 2
    phone.login("bert")
    assert tablet.get().json()["data"]["external_id"] == "anna"
    assert phone.get().json()["data"]["external_id"] == "bert"
    rows = SubscriptionEvent.objects.filter(subscription_id=phone.id).order_by("id")
    assert [row.event_type for row in rows][2:] == ["linked", "unlinked", "linked"]


def test_login_and_logout_twice_leave_one_event_each(device):
    for _ in range(2):
        assert device.login("anna").status_code == 200
    for _ in range(2):
        assert device.logout().status_code == 200
    assert events_of(device.id)[2:] == ["linked", "unlinked"]


def test_login_brings_an_archived_user_back_with_its_properties(server, device):
    user = server.post("users", {"external_id": "anna", "properties": {"plan": "pro"}}).json()["data"]
    server.delete(f"users/{user['id']}")
    assert device.login("anna").json()["data"]["user_id"] == user["id"]
    assert server.get(f"users/{user['id']}").json()["data"]["properties"] == {"plan": "pro"}


@pytest.mark.parametrize("external_id", ["", " a", "a\n", "a\0b", "x" * 256, 5, None, ["a"], "erased:1"])
def test_a_wrong_external_id_is_refused(device, server, external_id):
    assert device.login(external_id).status_code == 400
    assert server.post("users", {"external_id": external_id}).status_code == 400
    assert not AppUser.objects.exists()


@pytest.mark.parametrize("external_id", ["a/b/../c?d=e#f", "사용자 42", "🙂", str(UUID(int=5)), "%2e%2e", "x" * 255])
def test_any_printable_external_id_works_everywhere(device, server, external_id):
    from urllib.parse import quote

    assert device.login(external_id).json()["data"]["external_id"] == external_id
    found = server.get(f"users/by-external-id?external_id={quote(external_id, safe='')}")
    assert found.json()["data"]["external_id"] == external_id
    listed = server.get(f"subscriptions?external_id={quote(external_id, safe='')}").json()["data"]
    assert [row["id"] for row in listed] == [device.id]


# --- The end and the list --------------------------------------------------------------------------------------------


def test_an_operator_restores_an_ended_subscription_as_it_was(device):
    device.request("DELETE", body=b"")
    row = services.subscription_restore(
        subscription=Subscription.with_archived.get(), setter=Setter.PERSON, source="operator"
    )
    assert (row.is_archived, row.subscription_status) == (False, -2)
    assert device.get().status_code == 200
    last = SubscriptionEvent.objects.latest("id")
    assert (last.event_type, last.source) == ("restored", "operator")


def test_the_list_filters_and_pages(server, make_device):
    ids = [make_device(country_code=country, tags={}).id for country in ("KR", "KR", "US")]
    server.patch(f"subscriptions/{ids[0]}", {"enabled": False})
    server.post("subscriptions", {"type": "Email", "token": "a@example.com", "external_id": "anna"})

    def listed(query: str) -> list[str]:
        answer = server.get(f"subscriptions?{query}")
        assert answer.status_code == 200, answer.content
        return [row["id"] for row in answer.json()["data"]]

    assert listed("country_code=kr") == [ids[1], ids[0]]
    assert listed("is_subscribed=true") == [ids[2], ids[1]]
    assert listed("is_subscribed=false&type=iOSPush") == [ids[0]]
    assert listed("subscription_status=-2") == [ids[0]]
    assert len(listed("type=Email&external_id=anna")) == 1
    assert listed("external_id=nobody") == []
    assert len(listed("test_type=0")) == 4
    assert listed("created_from=2999-01-01T00:00:00Z") == []
    assert len(listed("created_to=2999-01-01T00:00:00Z&last_active_from=2000-01-01T00:00:00Z")) == 3
    first = server.get("subscriptions?limit=3").json()
    rest = server.get(f"subscriptions?limit=3&cursor={first['meta']['next_cursor']}").json()
    assert len(first["data"]) == 3
    assert len(rest["data"]) == 1
    assert rest["meta"]["next_cursor"] is None


def test_no_answer_shows_a_token(server, make_device):
    device = make_device()
    server.post("subscriptions", {"type": "Email", "token": "anna@example.com"})
    text = server.get("subscriptions").content.decode() + server.get(f"subscriptions/{device.id}").content.decode()
    assert device.token not in text
    assert "anna@example.com" not in text


@pytest.mark.parametrize(
    "query",
    [
        "nonsense=1",
        "type=Pigeon",
        "subscription_status=one",
        "subscription_status=99999999999999999999",
        "is_subscribed=maybe",
        "country_code=KOR",
        "test_type=9",
        "created_from=yesterday",
        "created_from=0001-01-01T00:00:00%2B14:00",
        "external_id=%00",
        "cursor=%00",
        "cursor=abc",
        "limit=0",
        "limit=201",
        "limit=x",
    ],
)
def test_a_wrong_filter_is_a_400(server, query):
    answer = server.get(f"subscriptions?{query}")
    assert answer.status_code == 400, answer.content
    assert answer.json()["error"]["details"][0]["field"] == query.split("=")[0]


def test_the_list_is_the_applications_own(stranger, device):
    assert stranger.get("subscriptions").json()["data"] == []
    assert stranger.get("subscriptions?external_id=anna").json()["data"] == []
