"""What operators do with keys, credentials, members, users, subscriptions and messages."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.messaging.models import Message
from apps.subscriptions.data_requests.running import data_requests_run
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.tenants.access import key_digest
from apps.tenants.accounts.models import Invitation
from apps.tenants.models import ApiKey, Application, ChannelCredential, Membership, Operator, Role
from apps.tenants.services import breaker_open, membership_set
from tests.admin.pages import address, button, list_of, page_of, text_of
from tests.factories import make_messages


def errors_of(answer) -> dict[str, list[str]]:
    assert answer.status_code == 200
    return {name: list(found) for name, found in answer.context["adminform"].form.errors.items()}


# --- Keys ----------------------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_only_its_digest_kept(world, member):
    owner = member(Role.OWNER)
    given = {"application": str(world.application.pk), "name": "CRM", "kind": "secret", "scopes": ["users:read"]}
    answer = owner.post(address("tenants.ApiKey", "add"), given)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    plaintext = answer.context["plaintext"]
    assert text_of(answer).count(plaintext) == 1
    key = ApiKey.objects.get(digest=key_digest(plaintext))
    assert (key.name, key.scopes, key.application) == ("CRM", ["users:read"], world.application)
    assert plaintext not in text_of(owner.get(page_of(key)))
    assert all(plaintext not in str(cookie) for cookie in owner.cookies.values())


def test_a_keys_wrong_fields_are_named(world, root):
    given = {"application": str(world.application.pk), "name": "SDK", "kind": "publishable", "scopes": ["users:read"]}
    answer = root.post(address("tenants.ApiKey", "add"), given)
    assert list(errors_of(answer)) == ["scopes"]
    past = given | {"scopes": [], "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}
    assert list(errors_of(root.post(address("tenants.ApiKey", "add"), past))) == ["expires_at"]
    assert not ApiKey.objects.filter(name="SDK").exists()


def test_rotating_shows_the_successor_and_revoking_ends_a_key(world, member):
    owner, key = member(Role.OWNER), world["tenants.ApiKey"]
    answer = owner.post(button(key, "rotate"), {"overlap_h": "2"})
    assert ApiKey.objects.filter(digest=key_digest(answer.context["plaintext"])).exists()
    again = owner.post(button(key, "rotate"), {"overlap_h": "2"})
    assert "rotated already" in text_of(again)
    refused = owner.post(button(key, "revoke"), {"confirm": "another name"})
    assert "confirm" in refused.context["form"].errors
    assert owner.post(button(key, "revoke"), {"confirm": key.name}).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None


# --- Credentials ---------------------------------------------------------------------------------------------------


def apns_form(key, **changes) -> dict:
    return {
        "provider": "apns",
        "name": "From a file",
        "position": "1",
        "apns_team_id": key.team_id,
        "apns_key_id": key.key_id,
        "apns_bundle_id": "com.example.shop",
        "apns_environment": "both",
    } | changes


def test_a_credential_comes_from_an_uploaded_or_pasted_key(world, member, provider_keys):
    owner, (key, account) = member(Role.OWNER), provider_keys
    place = address("tenants.ChannelCredential", "add")
    application = {"application": str(world.application.pk)}
    upload = SimpleUploadedFile("AuthKey.p8", key.p8.encode())
    answer = owner.post(place, apns_form(key, apns_private_key_file=upload, **application))
    assert answer.status_code == 302, errors_of(answer)
    import json

    fcm = {
        "provider": "fcm",
        "name": "Pasted",
        "position": "2",
        "fcm_service_account": json.dumps(account.service_account),
    }
    answer = owner.post(place, fcm | application)
    assert answer.status_code == 302, errors_of(answer)
    stored = {c.name: c for c in ChannelCredential.objects.filter(name__in=("From a file", "Pasted"))}
    assert stored["From a file"].secret["private_key"].strip() == key.p8.strip()
    assert stored["From a file"].summary["key_id"] == key.key_id
    assert stored["Pasted"].secret["service_account"]["project_id"] == "demo-shop"


def test_a_wrong_secret_is_an_error_on_its_field_and_never_comes_back(world, member, provider_keys):
    owner, (key, _) = member(Role.OWNER), provider_keys
    place = address("tenants.ChannelCredential", "add")
    application = {"application": str(world.application.pk)}
    answer = owner.post(place, apns_form(key, apns_private_key="not a key, but private", **application))
    assert list(errors_of(answer)) == ["apns_private_key"]
    assert "not a key, but private" not in text_of(answer)
    assert list(
        errors_of(owner.post(place, apns_form(key, apns_private_key=key.p8, apns_team_id="x", **application)))
    ) == ["apns_team_id"]
    assert list(errors_of(owner.post(place, apns_form(key, **application)))) == ["apns_private_key"]
    for file in (b"\xff\xfe", b"x" * 40_000):
        upload = SimpleUploadedFile("key.p8", file)
        answer = owner.post(place, apns_form(key, apns_private_key_file=upload, **application))
        assert list(errors_of(answer)) == ["apns_private_key_file"]
    fcm = {"provider": "fcm", "name": "F", "position": "0", "fcm_service_account": '{"type": "x"}'}
    assert list(errors_of(owner.post(place, fcm | application))) == ["fcm_service_account"]
    assert not ChannelCredential.objects.filter(name__in=("From a file", "F")).exists()


def test_changing_the_bundle_id_keeps_the_key(world, member, provider_keys):
    owner, (key, _) = member(Role.OWNER), provider_keys
    credential = world["tenants.ChannelCredential"]
    given = apns_form(key, name="Renamed", apns_bundle_id="com.example.other", is_active="on")
    assert owner.post(page_of(credential), given).status_code == 302
    stored = ChannelCredential.objects.get(pk=credential.pk)
    assert (stored.name, stored.summary["bundle_id"]) == ("Renamed", "com.example.other")
    assert stored.secret["private_key"].strip() == key.p8.strip()


def test_a_credential_that_cannot_be_decrypted_opens_and_can_be_replaced(world, member, provider_keys):
    owner, (key, _) = member(Role.OWNER), provider_keys
    credential = world["tenants.ChannelCredential"]
    ChannelCredential.objects.filter(pk=credential.pk).update(secret=b"\x09broken")
    assert owner.get(page_of(credential)).status_code == 200
    assert owner.get(list_of("tenants.ChannelCredential")).status_code == 200
    answer = owner.post(page_of(credential), apns_form(key, apns_bundle_id="com.example.other", is_active="on"))
    assert list(errors_of(answer)) == ["apns_private_key"]
    again = apns_form(key, apns_bundle_id="com.example.other", apns_private_key=key.p8, is_active="on")
    assert owner.post(page_of(credential), again).status_code == 302


def test_each_provider_has_its_fields_and_what_is_secret_never_comes_back(world, member):
    owner, place = member(Role.OWNER), address("tenants.ChannelCredential", "add")
    common = {"application": str(world.application.pk), "position": "3"}
    smtp = {
        "provider": "smtp",
        "name": "Relay",
        "smtp_host": "smtp.example.com",
        "smtp_port": "465",
        "smtp_security": "tls",
        "smtp_username": "shop",
        "smtp_password": "relay-password",
        "smtp_from_address": "news@example.com",
        "smtp_track_opens": "false",
        "smtp_track_clicks": "true",
    }
    assert list(errors_of(owner.post(place, smtp | common | {"smtp_from_address": "x"}))) == ["smtp_from_address"]
    answer = owner.post(place, smtp | common)
    assert answer.status_code == 302, errors_of(answer)
    credential = ChannelCredential.objects.get(name="Relay")
    assert (credential.secret["port"], credential.secret["track_opens"]) == (465, False)
    page = text_of(owner.get(page_of(credential)))
    assert "smtp.example.com" in page
    assert "relay-password" not in page
    changed = {**smtp, "smtp_password": "", "smtp_host": "mail.example.com", "smtp_username": "shop", "is_active": "on"}
    answer = owner.post(page_of(credential), common | changed)
    assert answer.status_code == 302, errors_of(answer)
    stored = ChannelCredential.objects.get(pk=credential.pk).secret
    assert (stored["host"], stored["password"], stored["port"]) == ("mail.example.com", "relay-password", 465)

    esp = {
        "provider": "anymail",
        "name": "Provider",
        "anymail_esp": "sendgrid",
        "anymail_api_key": "SG.secret-key",
        "anymail_from_address": "news@example.com",
        "anymail_region": "what another provider's field was left with",
    }
    answer = owner.post(place, esp | common)
    assert answer.status_code == 302, errors_of(answer)
    stored = ChannelCredential.objects.get(name="Provider").secret
    assert (stored["api_key"], "region" in stored) == ("SG.secret-key", False)


def test_closing_the_breaker_lets_it_send_again(world, member):
    credential = world["tenants.ChannelCredential"]
    breaker_open(credential.pk, "90% of the addresses do not fit")
    owner = member(Role.OWNER)
    assert "90% of the addresses do not fit" in text_of(owner.get(page_of(credential)))
    assert owner.post(button(credential, "close_breaker")).status_code == 302
    credential.refresh_from_db(fields=["breaker_opened_at"])
    assert credential.breaker_opened_at is None


# --- Applications, members, operators ------------------------------------------------------------------------------


def test_settings_are_checked_with_the_field_named(world, member):
    owner = member(Role.OWNER)
    given = {"name": "Shop", "time_zone": "Asia/Seoul", "default_language": "en", "is_active": "on"}
    for wrong in ("-1", "one", "9" * 30):
        answer = owner.post(page_of(world.application), given | {"set_default_ttl_s": wrong})
        assert list(errors_of(answer)) == ["set_default_ttl_s"]
    answer = owner.post(page_of(world.application), given | {"name": "Shop 2", "set_default_ttl_s": "60"})
    assert answer.status_code == 302
    application = Application.objects.get(pk=world.application.pk)
    assert (application.name, application.settings) == ("Shop 2", {"default_ttl_s": 60})
    history = text_of(owner.get(page_of(application, "history")))
    assert "Shop 2" in history
    assert "owner-" in history


def test_members_are_invited_and_get_other_roles(world, member):
    owner = member(Role.OWNER)
    given = {"application": str(world.application.pk), "email": "New@Example.com", "name": "", "role": "analyst"}
    assert owner.post(address("tenants.Invitation", "add"), given).status_code == 302
    invitation = Invitation.objects.get(email="new@example.com")
    assert (invitation.role, invitation.state) == ("analyst", "open")
    assert owner.get(address("tenants.Membership", "add")).status_code == 403
    somebody = Operator.objects.create_user("new@example.com", None)
    membership = membership_set(operator=somebody, application=world.application, role=Role.ANALYST)
    assert owner.post(page_of(membership), {"role": "support"}).status_code == 302
    membership.refresh_from_db()
    assert membership.role == "support"
    assert owner.post(page_of(membership, "delete"), {"post": "yes"}).status_code == 302
    assert not Membership.objects.filter(pk=membership.pk).exists()


def test_the_last_owner_stays(world, root):
    membership = world["tenants.Membership"]
    answer = root.post(page_of(membership), {"role": "analyst"})
    assert "must keep an owner" in text_of(answer)
    answer = root.post(page_of(membership, "delete"), {"post": "yes"}, follow=True)
    assert "must keep an owner" in text_of(answer)
    assert Membership.objects.get(pk=membership.pk).role == Role.OWNER


def test_operators_are_made_and_get_new_passwords(root):
    weak = {"email": "a@example.com", "name": "A", "password1": "12345678", "password2": "12345678"}
    place = address("tenants.Operator", "add")
    assert list(errors_of(root.post(place, weak))) == ["password1"]
    assert list(errors_of(root.post(place, weak | {"password2": "other"}))) == ["password2"]
    strong = "a quite long pass phrase"
    assert root.post(place, weak | {"password1": strong, "password2": strong}).status_code == 302
    operator = Operator.objects.get(email="a@example.com")
    assert operator.check_password(strong)
    other = "another rather long phrase"
    assert root.post(button(operator, "set_password"), {"password1": other, "password2": other}).status_code == 302
    operator.refresh_from_db()
    assert operator.check_password(other)


def test_nobody_locks_themselves_out(root):
    me = Operator.objects.get(email="root@example.com")
    answer = root.post(page_of(me), {"name": "Root", "is_active": "on", "is_staff": "on"})
    assert list(errors_of(answer)) == ["is_superuser"]


# --- Users and subscriptions ---------------------------------------------------------------------------------------


def test_properties_of_a_user_are_changed_by_the_service(world, member):
    support, user = member(Role.SUPPORT), world["subscriptions.AppUser"]
    assert support.post(page_of(user), {"properties": '{"plan": "pro"}'}).status_code == 302
    assert AppUser.objects.get(pk=user.pk).properties == {"plan": "pro"}
    answer = support.post(page_of(user), {"properties": '{"plan": ' + '{"a": ' * 8 + "1" + "}" * 9})
    assert list(errors_of(answer)) == ["properties"]


def test_erasing_asks_for_the_external_id(world, member):
    support, user = member(Role.SUPPORT), world["subscriptions.AppUser"]
    assert "not the external id" in text_of(support.post(button(user, "erase"), {"external_id": "somebody"}))
    assert support.post(button(user, "erase"), {"external_id": user.external_id}).status_code == 302
    data_requests_run()
    assert support.get(page_of(user)).status_code == 200
    assert AppUser.with_archived.get(pk=user.pk).external_id == f"erased:{user.pk}"


def test_a_subscription_is_ended_and_restored_with_a_reason(world, member):
    support, subscription = member(Role.SUPPORT), world["subscriptions.Subscription"]
    assert support.post(button(subscription, "end"), {"reason": ""}).status_code == 200
    assert support.post(button(subscription, "end"), {"reason": "asked by phone"}).status_code == 302
    assert Subscription.with_archived.get(pk=subscription.pk).is_archived
    event = SubscriptionEvent.objects.filter(subscription=subscription).latest("id")
    assert event.source == "operator"
    assert "asked by phone" in event.reason
    page = text_of(support.get(page_of(subscription)))
    assert "asked by phone" in page
    assert support.post(button(subscription, "restore"), {"reason": "mistake"}).status_code == 302
    assert not Subscription.with_archived.get(pk=subscription.pk).is_archived


def test_a_token_that_cannot_be_decrypted_does_not_take_the_page_with_it(world, member):
    support, subscription = member(Role.SUPPORT), world["subscriptions.Subscription"]
    Subscription.with_archived.filter(pk=subscription.pk).update(token=b"\x09broken")
    for place in (list_of("subscriptions.Subscription"), page_of(subscription), page_of(world["messaging.Message"])):
        assert support.get(place).status_code == 200
    assert "cannot be decrypted" in text_of(support.post(button(subscription, "restore"), {"reason": "x"}))


def test_the_page_shows_the_masked_token(world, member):
    shown = text_of(member(Role.SUPPORT).get(page_of(world["subscriptions.Subscription"])))
    assert f"{world.token[:4]}…{world.token[-4:]}" in shown


# --- Messages ------------------------------------------------------------------------------------------------------


def test_the_message_page_shows_content_and_timeline(world, member):
    shown = text_of(member(Role.SUPPORT).get(page_of(world["messaging.Message"])))
    assert "Hi" in shown
    assert "There" in shown
    timeline = shown[shown.index("From the request to the tap") :]
    happened = ("Message made", "The provider took it", "Aurora-apns-id", "Arrived on the device")
    places = [timeline.index(word) for word in happened]
    assert places == sorted(places)
    assert page_of(world["subscriptions.Subscription"]) in shown
    assert page_of(world["subscriptions.AppUser"]) in shown
    assert page_of(world["campaigns.MessageCampaign"]) in shown


def test_a_message_without_its_neighbours_still_opens(world, member):
    message = world["messaging.Message"]
    Message.objects.filter(pk=message.pk).update(subscription_id=uuid4(), dispatch_id=uuid4(), user_id=uuid4())
    assert member(Role.SUPPORT).get(page_of(message)).status_code == 200


def test_canceling_a_message_goes_through_the_service(world, member):
    waiting = make_messages(world.application, ["pending"])[0]
    manager = member(Role.MANAGER)
    assert manager.post(button(waiting, "cancel")).status_code == 302
    assert Message.objects.get(pk=waiting.pk).error_reason == "canceled"
    answer = manager.post(button(waiting, "cancel"), follow=True)
    assert "can no longer be canceled" in text_of(answer)


def test_a_get_changes_nothing(world, member):
    waiting = make_messages(world.application, ["pending"])[0]
    assert member(Role.MANAGER).get(button(waiting, "cancel")).status_code == 200
    assert Message.objects.get(pk=waiting.pk).status == "pending"


def test_filters_by_state_and_campaign_find_the_message(world, member):
    client, message = member(Role.ANALYST), world["messaging.Message"]
    query = {"campaign": str(message.campaign_id), "status": "received", "added": "24h"}
    assert str(message.pk) in text_of(client.get(list_of("messaging.Message"), query))
    assert str(message.pk) not in text_of(client.get(list_of("messaging.Message"), query | {"status": "failed"}))


@pytest.mark.parametrize("size", [0, 1])
def test_a_filter_without_an_index_looks_through_the_newest_only(world, size, monkeypatch):
    from apps.tenants.console import lists

    older, newer = make_messages(world.application, ["failed", "failed"])
    rows = Message.objects.filter(pk__in=[older.pk, newer.pk])
    found = set(lists.newest(rows, size).values_list("pk", flat=True))
    assert found == ({newer.pk} if size else set())


def test_the_estimate_of_a_partitioned_table_counts_each_row_once(world):
    from django.db import connection

    from apps.tenants.console.lists import estimated_rows

    make_messages(world.application, ["pending"] * 50)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE messaging_message")
    assert estimated_rows(Message) == Message.objects.count()
