"""`manage.py seed_demo`: what it makes, and that running it again adds only what is missing."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from django.core.management import CommandError, call_command

from apps.campaigns.management.commands import _demo_channels
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent, SubscriptionType
from apps.subscriptions.services import subscription_register
from apps.subscriptions.services.subscriptions import token_digest
from apps.subscriptions.status import Setter
from apps.tenants.models import ApiKey, Application, ChannelCredential, KeyKind, Operator
from tests.conftest import ApiClient

pytestmark = pytest.mark.django_db


@pytest.fixture
def seed(tmp_path, capsys):
    """Run the command; the state file's content."""

    def run(recipients: int = 200) -> dict:
        call_command("seed_demo", recipients=recipients, state_dir=tmp_path)
        return json.loads((tmp_path / "demo.json").read_text())

    return run


def devices(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "devices.jsonl").read_text().splitlines()]


def test_the_operator_of_the_state_file_can_sign_in(seed):
    state = seed()
    answer = ApiClient("").post("auth/login", {"email": state["email"], "password": state["password"]})
    assert answer.status_code == 200
    assert Operator.objects.get(email=state["email"]).is_superuser


def test_the_keys_of_the_state_file_work(seed):
    state = seed()
    answer = ApiClient(state["secret_key"]).post("audience/count", {"criteria": {}})
    assert answer.json()["data"]["count"] == 200
    kinds = {key.kind for key in ApiKey.objects.filter(application_id=state["application_id"])}
    assert kinds == {KeyKind.SECRET, KeyKind.PUBLISHABLE}


def test_half_are_ios_and_half_android_and_two_of_a_hundred_have_dead_tokens(seed, tmp_path):
    seed()
    assert Subscription.objects.filter(type=SubscriptionType.IOS_PUSH).count() == 100
    tokens = [device["token"] for device in devices(tmp_path)]
    assert sum(token.startswith("dead4101") for token in tokens) == 2
    assert sum(token.startswith("sandbox:UNREGISTERED:") for token in tokens) == 2


def test_rows_are_as_a_registration_leaves_them(seed, tmp_path):
    state = seed()
    device = next(item for item in devices(tmp_path) if not item["token"].startswith(("dead", "sandbox")))
    row = Subscription.objects.get(pk=device["subscription_id"])
    assert row.token == device["token"]
    assert bytes(row.token_digest) == token_digest(row.type, device["token"])
    again, is_new = subscription_register(
        application=Application.objects.get(pk=state["application_id"]),
        type=row.type,
        token=device["token"],
        setter=Setter.DEVICE,
    )
    assert (again.pk, is_new) == (row.pk, False)
    assert SubscriptionEvent.objects.filter(subscription=row, event_type="registered").count() == 1


def test_the_handle_of_the_devices_file_is_the_subscriptions_own(seed, tmp_path):
    state = seed()
    device = devices(tmp_path)[0]
    sdk = ApiClient(state["publishable_key"], **{"X-Subscription-Handle": device["handle"]})
    assert sdk.get(f"subscriptions/{device['subscription_id']}").status_code == 200


def test_a_second_run_keeps_everything(seed):
    first = seed()
    rows = set(Subscription.objects.values_list("pk", flat=True))
    assert seed() == first
    assert set(Subscription.objects.values_list("pk", flat=True)) == rows
    assert (Application.objects.count(), ApiKey.objects.count(), ChannelCredential.objects.count()) == (1, 2, 2)


def test_more_recipients_add_what_is_missing(seed):
    seed(200)
    rows = set(Subscription.objects.values_list("pk", flat=True))
    seed(300)
    assert rows < set(Subscription.objects.values_list("pk", flat=True))
    assert sorted(Subscription.objects.values_list("tags__place", flat=True)) == list(range(1, 301))


def test_who_was_ended_comes_back_as_a_new_subscription_of_the_same_user(seed):
    seed(100)
    ended = Subscription.objects.get(tags__place=17)
    Subscription.objects.filter(pk=ended.pk).update(subscription_status=-10)
    users = AppUser.objects.count()
    seed(100)
    fresh = Subscription.objects.get(tags__place=17, subscription_status=1)
    assert fresh.pk != ended.pk
    assert fresh.user_id == ended.user_id
    assert AppUser.objects.count() == users


def test_a_lost_state_file_makes_new_keys_and_ends_the_lost_ones(seed, tmp_path):
    first = seed()
    (tmp_path / "demo.json").unlink()
    second = seed()
    assert second["application_id"] == first["application_id"]
    assert ApiClient(first["secret_key"]).post("audience/count", {"criteria": {}}).status_code == 401
    assert ApiClient(second["secret_key"]).post("audience/count", {"criteria": {}}).status_code == 200
    assert ChannelCredential.objects.filter(is_active=True).count() == 2


def test_a_state_file_of_another_database_is_not_believed(seed, tmp_path):
    state = seed()
    foreign = {**state, "application_id": "01a1f96d-f534-75d0-b7bf-b4ee045814d3"}
    (tmp_path / "demo.json").write_text(json.dumps(foreign))
    assert seed()["application_id"] == state["application_id"]


def test_the_environment_chooses_the_operator(seed, monkeypatch):
    monkeypatch.setenv("DEMO_OPERATOR_EMAIL", "Boss@example.com")
    monkeypatch.setenv("DEMO_OPERATOR_PASSWORD", "quite-a-long-one")
    assert seed()["email"] == "boss@example.com"
    assert Operator.objects.get(email="boss@example.com").check_password("quite-a-long-one")


def test_nobody_else_can_read_what_it_writes(seed, tmp_path):
    seed()
    names = {"demo.json", "devices.jsonl", "apns-keys.json", "fcm-keys.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_it_refuses_production(seed, settings):
    settings.IS_PRODUCTION = True
    with pytest.raises(CommandError, match="no place in production"):
        seed()
    assert not Application.objects.exists()


def test_data_written_under_other_keys_is_one_clear_line(seed, settings):
    seed()
    settings.ENCRYPTION_KEYS = {7: bytes(32)}
    with pytest.raises(CommandError, match="ENCRYPTION_KEYS"):
        seed()


# --- The other channels --------------------------------------------------------------------------------------------


@pytest.fixture
def seed_channels(tmp_path, monkeypatch):
    monkeypatch.setattr(_demo_channels, "AUDIENCES", {"Email": 20, "SMS": 25, "KakaoTalk": 10, "InAppMessage": 5})

    def run(**env: str) -> dict:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        call_command("seed_demo", recipients=10, state_dir=tmp_path, channels=True)
        return json.loads((tmp_path / "demo.json").read_text())

    return run


def test_each_channel_has_its_people_its_credentials_and_some_dead_addresses(seed_channels, tmp_path):
    state = seed_channels(SANDBOX_SMTP_PORT="2525")["channels"]
    counts = Counter(Subscription.objects.values_list("type", flat=True))
    assert {type: counts[type] for type in _demo_channels.AUDIENCES} == {**_demo_channels.AUDIENCES, "KakaoTalk": 11}
    providers = ["smtp", "solapi", "twilio", "nhn_sms", "solapi_kakao", "nhn_kakao"]
    assert list(state["credentials"]) == providers
    tokens = [row.token for row in Subscription.objects.filter(type__in=["Email", "SMS", "KakaoTalk"])]
    assert sum("+550-5.1.1@" in token for token in tokens) == 1
    assert sum(token.startswith("+8210023050") for token in tokens) == 1
    assert sum(token.startswith("+8210023104") for token in tokens) == 2
    assert ChannelCredential.objects.get(provider="smtp").secret["port"] == 2525
    assert len((tmp_path / "inboxes.jsonl").read_text().splitlines()) == 5
    assert (tmp_path / "inboxes.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_second_run_follows_the_relay_and_gives_who_was_ended_another_address(seed_channels):
    first = seed_channels(SANDBOX_SMTP_PORT="2525")
    ended = Subscription.objects.get(type="KakaoTalk", tags__place=4)
    Subscription.objects.filter(pk=ended.pk).update(subscription_status=-62)
    second = seed_channels(SANDBOX_SMTP_PORT="2526")
    assert second == first
    assert ChannelCredential.objects.get(provider="smtp").secret["port"] == 2526
    fresh = Subscription.objects.get(type="KakaoTalk", tags__place=4, subscription_status=1)
    assert fresh.token != ended.token
    assert (fresh.user_id, Subscription.objects.count()) == (ended.user_id, 10 + 61 + 1)
