"""Who may set which status, and what a person's no outlives."""

from __future__ import annotations

import pytest
from rest_framework_simplejwt.tokens import AccessToken

from apps.subscriptions.models import Subscription, SubscriptionEvent
from apps.subscriptions.status import RULES, STICKY, Setter
from apps.tenants.models import Membership, Operator, Role
from tests.conftest import ApiClient

pytestmark = pytest.mark.django_db

BY_DEVICE = [code for code, rule in RULES.items() if Setter.DEVICE in rule.setters]
BY_PERSON = [code for code, rule in RULES.items() if Setter.PERSON in rule.setters]


def last_event(subscription_id) -> SubscriptionEvent:
    return SubscriptionEvent.objects.filter(subscription_id=subscription_id).latest("id")


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_device_sets_only_its_own_codes(device, code):
    answer = device.patch(subscription_status=code)
    if code in BY_DEVICE:
        assert answer.status_code == 200
        assert answer.json()["data"]["subscription_status"] == code
    else:
        assert answer.status_code == 400
        assert [p["field"] for p in answer.json()["error"]["details"]] == ["subscription_status"]
        assert Subscription.objects.get().subscription_status == 1


@pytest.mark.parametrize("code", sorted(RULES))
def test_the_app_server_sets_only_a_persons_codes(server, device, code):
    answer = server.patch(f"subscriptions/{device.id}", {"subscription_status": code})
    if code in BY_PERSON:
        assert answer.status_code == 200
        assert answer.json()["data"]["subscription_status"] == code
    else:
        assert answer.status_code == 400


@pytest.mark.parametrize("code", sorted(code for code in RULES if code <= 0))
def test_a_code_of_zero_or_below_with_enabled_true_is_refused(sdk, server, device, code):
    assert device.patch(enabled=True, subscription_status=code).status_code == 400
    assert device.register(enabled=True, subscription_status=code).status_code == 400
    path = f"subscriptions/{device.id}"
    assert server.patch(path, {"enabled": True, "subscription_status": code}).status_code == 400
    assert Subscription.objects.get().subscription_status == 1


def test_the_code_1_with_enabled_false_is_refused(device):
    assert device.patch(enabled=False, subscription_status=1).status_code == 400


@pytest.mark.parametrize("code", [2, 5, -1, -25, -46, -80, -97, -100, 32_768, -(2**63), 2**63])
def test_a_code_that_does_not_exist_is_refused(device, server, code):
    assert device.patch(subscription_status=code).status_code == 400
    assert server.patch(f"subscriptions/{device.id}", {"subscription_status": code}).status_code == 400


def test_enabled_false_is_minus_2_unless_a_code_says_why(device):
    data = device.patch(enabled=False).json()["data"]
    assert (data["subscription_status"], data["is_unsubscribed"]) == (-2, True)
    assert data["unsubscribed_at"] is not None
    assert device.patch(enabled=False, subscription_status=-18).json()["data"]["subscription_status"] == -18


def test_each_change_of_status_leaves_an_event(device):
    device.patch(enabled=False)
    event = last_event(device.id)
    assert (event.event_type, event.source, event.old_status, event.new_status) == ("unsubscribed", "device", 1, -2)
    device.patch(subscription_status=-18)
    event = last_event(device.id)
    assert (event.event_type, event.old_status, event.new_status) == ("status_changed", -2, -18)
    device.patch(enabled=True)
    event = last_event(device.id)
    assert (event.event_type, event.old_status, event.new_status) == ("subscribed", -18, 1)
    count = SubscriptionEvent.objects.count()
    device.patch(enabled=True, app_version="2.0")
    assert SubscriptionEvent.objects.count() == count


@pytest.mark.parametrize("code", sorted(STICKY))
def test_a_persons_no_survives_everything_the_device_says(server, device, code):
    server.patch(f"subscriptions/{device.id}", {"subscription_status": int(code)})
    assert device.register(enabled=True, app_version="2.0").json()["data"]["app_version"] == "2.0"
    assert device.patch(enabled=True, tags={"vip": True}).json()["data"]["tags"] == {"vip": True}
    assert device.patch(subscription_status=-18).status_code == 200
    assert device.patch(token="cd" * 32, enabled=True).status_code == 200
    device.login("anna")
    device.request("DELETE", body=b"")
    device.token = "cd" * 32
    data = device.register(enabled=True).json()["data"]
    assert (data["id"], data["subscription_status"], data["status_source"]) == (device.id, code, "api")
    assert Subscription.objects.get().token == "cd" * 32


@pytest.mark.parametrize("code", sorted(STICKY))
def test_the_app_server_may_take_its_no_back(server, device, code):
    path = f"subscriptions/{device.id}"
    server.patch(path, {"subscription_status": int(code)})
    assert server.patch(path, {"enabled": True}).json()["data"]["subscription_status"] == 1
    assert device.patch(enabled=False).json()["data"]["subscription_status"] == -2


def test_a_devices_own_minus_22_is_the_devices_to_change(device):
    device.patch(subscription_status=-22)
    assert device.patch(enabled=True).json()["data"]["subscription_status"] == 1


def test_a_person_who_confirms_the_devices_minus_22_makes_it_last(server, device):
    device.patch(subscription_status=-22)
    server.patch(f"subscriptions/{device.id}", {"subscription_status": -22})
    assert device.patch(enabled=True).json()["data"]["subscription_status"] == -22
    assert last_event(device.id).source == "api"


def test_a_device_cannot_walk_around_a_no_by_moving_the_token_to_a_new_subscription(server, make_device, device):
    server.patch(f"subscriptions/{device.id}", {"subscription_status": -31})
    other = make_device()
    data = other.patch(token=device.token, enabled=True).json()["data"]
    assert (data["subscription_status"], data["status_source"]) == (-31, "api")


@pytest.mark.parametrize(("role", "code"), [(Role.SUPPORT, 200), (Role.ANALYST, 403)])
def test_an_operator_says_no_by_role_and_the_event_says_it_was_an_operator(application, device, role, code):
    operator = Operator.objects.create_user("ann@example.com", "a long password")
    Membership.objects.create(operator=operator, application=application, role=role)
    console = ApiClient(str(AccessToken.for_user(operator)), **{"X-Application-Id": str(application.pk)})
    answer = console.patch(f"subscriptions/{device.id}", {"subscription_status": -31})
    assert answer.status_code == code
    if code == 200:
        assert answer.json()["data"]["status_source"] == last_event(device.id).source == "operator"
        assert device.patch(enabled=True).json()["data"]["subscription_status"] == -31
