from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.subscriptions.models import Subscription, SubscriptionEvent

pytestmark = pytest.mark.django_db

HEX = "ab" * 32
FCM = "dQw4w9WgXcQ:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx_bBxvDQ"
UUID_TOKEN = "0198f2f0-3b7a-7b6e-9d1c-5e5d6c7b8a90"


def events_of(subscription_id) -> list[str]:
    rows = SubscriptionEvent.objects.filter(subscription_id=subscription_id).order_by("id")
    return [row.event_type for row in rows]


def test_a_new_device_gets_an_id_a_handle_and_a_subscription(sdk):
    answer = sdk.post("subscriptions", {"type": "iOSPush", "token": HEX, "enabled": True, "country_code": "kr"})
    assert answer.status_code == 201
    data = answer.json()["data"]
    assert data["created"] is True
    assert data["handle"].startswith("sh_")
    assert len(data["handle"]) == 46
    assert data["subscription_status"] == 1
    assert data["is_subscribed"] is True
    assert data["country_code"] == "KR"
    assert HEX not in answer.content.decode()
    row = Subscription.objects.get(pk=data["id"])
    assert row.token == HEX
    assert row.subscribed_at is not None
    assert row.last_active_at is not None
    assert row.status_source == "device"
    assert events_of(row.pk) == ["registered", "subscribed"]


def test_registering_again_is_the_same_subscription_with_the_same_handle(sdk, device):
    answer = device.register(app_version="2.0", device_model="iPhone17,1")
    assert answer.status_code == 200
    data = answer.json()["data"]
    assert (data["id"], data["handle"], data["created"]) == (device.id, device.handle, False)
    assert data["app_version"] == "2.0"
    assert data["subscription_status"] == 1
    assert Subscription.objects.count() == 1


def test_registering_again_moves_the_time_of_the_token(device):
    before = Subscription.objects.get().token_registered_at
    device.register()
    assert Subscription.objects.get().token_registered_at > before


def test_the_same_token_is_another_subscription_in_another_application(device, stranger):
    answer = stranger.post("subscriptions", {"type": "iOSPush", "token": device.token})
    assert answer.status_code == 201
    assert answer.json()["data"]["id"] != device.id


def test_without_enabled_a_new_subscription_has_never_been_subscribed(sdk):
    data = sdk.post("subscriptions", {"type": "iOSPush", "token": HEX}).json()["data"]
    assert data["subscription_status"] == 0
    assert data["subscribed_at"] is None


def test_absent_fields_stay_and_null_clears(make_device):
    device = make_device(device_model="iPhone17,1", country_code="KR", test_type=1, tags={"vip": True, "plan": "pro"})
    device.register(country_code=None, tags={"plan": None, "visits": 3})
    data = device.get().json()["data"]
    assert data["device_model"] == "iPhone17,1"
    assert data["country_code"] == ""
    assert data["test_type"] == 1
    assert data["tags"] == {"vip": True, "visits": 3}


def test_a_device_that_comes_back_after_its_end_is_restored_anonymous(device):
    device.login("anna")
    assert device.request("DELETE", body=b"").status_code == 204
    assert device.get().status_code == 404
    data = device.register(enabled=True).json()["data"]
    assert (data["id"], data["created"], data["subscription_status"]) == (device.id, False, 1)
    assert data["external_id"] is None
    tail = ["unsubscribed", "archived", "restored", "unlinked", "subscribed"]
    assert events_of(device.id) == ["registered", "subscribed", "linked", *tail]


def test_a_provider_ended_subscription_lives_again_when_the_device_registers(device):
    Subscription.objects.update(subscription_status=-10, status_source="provider")
    assert device.register(enabled=True).json()["data"]["subscription_status"] == 1


@pytest.mark.parametrize(
    ("type", "given", "stored"),
    [
        ("iOSPush", f" {HEX.upper()} ", HEX),
        ("iOSPush", "0A" * 100, "0a" * 100),
        ("AndroidPush", FCM, FCM),
        ("InAppMessage", UUID_TOKEN, UUID_TOKEN),
        ("Email", "Anna.B@EXAMPLE.com", "Anna.B@example.com"),
        ("Email", "anna@bücher.example", "anna@xn--bcher-kva.example"),
        ("SMS", "+82 10-1234-5678", "+821012345678"),
        ("KakaoTalk", "+821012345678", "+821012345678"),
    ],
)
def test_a_token_is_stored_in_its_normal_form(server, type, given, stored):
    assert server.post("subscriptions", {"type": type, "token": given}).status_code == 201
    assert Subscription.objects.get().token == stored
    assert server.post("subscriptions", {"type": type, "token": stored}).status_code == 200


@pytest.mark.parametrize(
    ("type", "token"),
    [
        ("iOSPush", "ab" * 31),
        ("iOSPush", "ab" * 101),
        ("iOSPush", "a" * 65),
        ("iOSPush", "zz" * 32),
        ("iOSPush", ""),
        ("AndroidPush", "short"),
        ("AndroidPush", "a b" * 20),
        ("AndroidPush", "a" * 4_097),
        ("InAppMessage", "1"),
        ("Email", "nobody"),
        ("Email", "a@b@c"),
        ("Email", "anna@example.com\r\nBcc: all@example.com"),
        ("Email", f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.example"),
        ("SMS", "010-1234-5678"),
        ("SMS", "+0123456789"),
        ("KakaoTalk", "+82"),
    ],
)
def test_a_token_that_cannot_be_one_is_refused_by_name(server, type, token):
    answer = server.post("subscriptions", {"type": type, "token": token})
    assert answer.status_code == 400
    assert [problem["field"] for problem in answer.json()["error"]["details"]] == ["token"]
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(("type", "token"), [("Email", "a@example.com"), ("SMS", "+8210123456"), ("KakaoTalk", "+821")])
def test_a_device_may_not_register_an_address_that_can_be_guessed(sdk, type, token):
    answer = sdk.post("subscriptions", {"type": type, "token": token})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "TYPE_NOT_FOR_DEVICES"
    assert not Subscription.objects.exists()


def test_a_device_may_not_name_a_user_at_registration(sdk):
    answer = sdk.post("subscriptions", {"type": "iOSPush", "token": HEX, "external_id": "anna"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "LOGIN_NEEDED"


def test_the_app_server_registers_an_address_for_a_user(server):
    body = {"type": "Email", "token": "anna@example.com", "enabled": True, "external_id": "anna"}
    data = server.post("subscriptions", body).json()["data"]
    assert data["external_id"] == "anna"
    assert data["status_source"] == "api"
    assert data["last_active_at"] is None
    assert events_of(data["id"]) == ["registered", "subscribed", "linked"]
    assert server.post("subscriptions", {**body, "external_id": "bert"}).json()["data"]["external_id"] == "bert"
    assert events_of(data["id"])[3:] == ["unlinked", "linked"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"token": 5}, "token"),
        ({"token": None}, "token"),
        ({"token": ["a"]}, "token"),
        ({"type": "Pigeon"}, "type"),
        ({"type": {"a": 1}}, "type"),
        ({"type": None}, "type"),
        ({"enabled": "true"}, "enabled"),
        ({"enabled": 1}, "enabled"),
        ({"enabled": None}, "enabled"),
        ({"subscription_status": "1"}, "subscription_status"),
        ({"subscription_status": 1.0}, "subscription_status"),
        ({"subscription_status": True}, "subscription_status"),
        ({"subscription_status": 10**18}, "subscription_status"),
        ({"test_type": 3}, "test_type"),
        ({"test_type": -1}, "test_type"),
        ({"test_type": "1"}, "test_type"),
        ({"device_model": "x" * 101}, "device_model"),
        ({"device_model": 17}, "device_model"),
        ({"device_model": "a\nb"}, "device_model"),
        ({"device_model": "a\0b"}, "device_model"),
        ({"device_os": {}}, "device_os"),
        ({"app_version": "1" * 51}, "app_version"),
        ({"sdk_version": []}, "sdk_version"),
        ({"country_code": "KOR"}, "country_code"),
        ({"country_code": "ZZ"}, "country_code"),
        ({"country_code": "ß"}, "country_code"),
        ({"device_language": "한국어"}, "device_language"),
        ({"device_language": "ko-" + "a" * 40}, "device_language"),
        ({"tags": []}, "tags"),
        ({"tags": None}, "tags"),
        ({"tags": {"a": []}}, "tags.a"),
        ({"tags": {"a": {"b": 1}}}, "tags.a"),
        ({"tags": {"": 1}}, "tags."),
        ({"tags": {"k" * 101: 1}}, "tags." + "k" * 100),
        ({"tags": {"a": "x" * 256}}, "tags.a"),
        ({"tags": {"a\0": 1}}, "tags"),
        ({"tags": {"a": "\0"}}, "tags.a"),
        ({"tags": {f"t{n}": n for n in range(101)}}, "tags"),
        ({"nonsense": 1}, "nonsense"),
        ({"handle_version": 1}, "handle_version"),
        ({"application_id": "x"}, "application_id"),
    ],
)
def test_wrong_input_is_a_400_that_names_the_field_and_writes_nothing(sdk, body, field):
    answer = sdk.post("subscriptions", {"type": "iOSPush", "token": HEX} | body)
    assert answer.status_code == 400, answer.content
    assert [problem["field"] for problem in answer.json()["error"]["details"]] == [field]
    assert not Subscription.objects.exists()
    assert not SubscriptionEvent.objects.exists()


def test_a_number_beyond_64_bits_is_a_400(sdk):
    body = b'{"type": "iOSPush", "token": "%s", "subscription_status": %d}' % (HEX.encode(), 10**40)
    answer = sdk.post("subscriptions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "subscription_status"


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'"a"', b"\xff\xfe", b'{"type": NaN}', b'{"token": "\\ud800"}'])
def test_a_body_that_is_no_object_is_a_400(sdk, body):
    assert sdk.post("subscriptions", body).status_code == 400


def test_another_content_type_is_a_415(sdk):
    answer = sdk._client.post("/api/v1/subscriptions", {"type": "iOSPush"}, headers=sdk._headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("given", "stored"),
    [("KO_kr", "ko-KR"), ("zh-hant-tw", "zh-Hant-TW"), ("es-419", "es-419"), ("en", "en"), ("", ""), (None, "")],
)
def test_a_language_is_stored_as_bcp_47_writes_it(sdk, given, stored):
    data = sdk.post("subscriptions", {"type": "iOSPush", "token": HEX, "device_language": given}).json()["data"]
    assert data["device_language"] == stored


def statements(queries) -> list[str]:
    return [query["sql"].split(" ", 1)[0] for query in queries if "SAVEPOINT" not in query["sql"]]


def test_a_start_of_the_sdk_costs_three_statements_and_a_first_one_four(sdk):
    """The key; then one row found and updated, or looked for, inserted, and its events."""
    body = {"type": "iOSPush", "token": HEX, "enabled": True, "app_version": "1.0", "tags": {"vip": True}}
    sdk.get("subscriptions")  # the key notes its use once a minute
    with CaptureQueriesContext(
        connection,
    ) as first:
        assert sdk.post("subscriptions", body).status_code == 201
    assert statements(first) == ["SELECT", "SELECT", "INSERT", "INSERT"]
    with CaptureQueriesContext(connection) as again:
        assert sdk.post("subscriptions", body).status_code == 200
    assert statements(again) == ["SELECT", "SELECT", "UPDATE"]
