"""Asking the providers whether they take a credential, before anybody sends with it; and telling of its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.core import mail
from django.utils import timezone

from apps.messaging.adapters.registry import endpoint_for
from apps.messaging.adapters.verifying import verify
from apps.sandbox.credentials import make_apns_key, make_fcm_account
from apps.sandbox.gateway_credentials import NhnApp, SolapiAccount, TwilioAccount
from apps.tenants.credentials.checking import check_begin, check_now, is_running, last_check
from apps.tenants.credentials.expiry import expiry_in, tell_expiring
from apps.tenants.models import ChannelCredential, Operator, Role
from apps.tenants.services import credential_create, credential_move, credential_update, membership_set
from automata_signal.errors import Conflict
from automata_signal.secret_checks import Finding, Verified
from tests.gateways import reset_gateway
from tests.mail_peers import ESP_KEYS
from tests.mail_senders import esp_secret, smtp_secret
from tests.providers import BUNDLE_ID


def asked(provider: str, secret) -> Verified:
    return verify(provider, secret, endpoint_for(provider))


# --- Push ----------------------------------------------------------------------------------------------------------


def apns_secret(key, **changes):
    ids = {"team_id": key.team_id, "key_id": key.key_id, "private_key": key.p8}
    return ids | {"bundle_id": BUNDLE_ID, "environment": "both"} | changes


def test_apns_tells_a_good_key_from_a_bad_one_and_from_another_apps(apns, apns_key):
    assert asked("apns", apns_secret(apns_key)) == (Finding.WORKS, "", BUNDLE_ID)
    assert asked("apns", apns_secret(make_apns_key())) == (Finding.KEY_REFUSED, "InvalidProviderToken", "production")
    other = asked("apns", apns_secret(apns_key, bundle_id="com.example.other"))
    assert (other.finding, other.word) == (Finding.SENDER_REFUSED, "TopicDisallowed")
    assert {entry["reason"] for entry in apns.journal()["entries"]} <= {
        "BadDeviceToken",
        "InvalidProviderToken",
        "TopicDisallowed",
    }


def test_an_apns_key_of_the_other_environment_is_refused(apns):
    key = make_apns_key([BUNDLE_ID])
    apns.register_keys(key.registration(["production"]))
    assert asked("apns", apns_secret(key, environment="production")).finding is Finding.WORKS
    other = make_apns_key([BUNDLE_ID])
    apns.register_keys(other.registration(["development"]))
    found = asked("apns", apns_secret(other))
    assert found == (Finding.KEY_REFUSED, "BadEnvironmentKeyInToken", "production")


def test_fcm_takes_a_good_account_and_sends_nobody_anything(fcm, fcm_account):
    assert asked("fcm", {"service_account": fcm_account.service_account}) == (Finding.WORKS, "", "demo-shop")
    stranger = make_fcm_account("demo-shop", fcm_account.service_account["token_uri"])
    found = asked("fcm", {"service_account": stranger.service_account})
    assert (found.finding, found.word) == (Finding.KEY_REFUSED, "invalid_grant")
    elsewhere = fcm_account.service_account | {"project_id": "another-project"}
    assert asked("fcm", {"service_account": elsewhere}).finding in (Finding.SENDER_REFUSED, Finding.NOT_ALLOWED)
    assert "accepted" not in {entry["outcome"] for entry in fcm.journal()["entries"]}


def test_a_provider_that_is_not_there_says_nothing_of_the_key(apns_key, settings):
    settings.APNS_URL = settings.APNS_SANDBOX_URL = "https://127.0.0.1:9"
    settings.PROVIDER_TIMEOUT_S = 1.0
    found = asked("apns", apns_secret(apns_key))
    assert (found.finding, found.finding.ok) == (Finding.NO_ANSWER, None)


# --- E-mail --------------------------------------------------------------------------------------------------------


def test_a_mail_server_is_signed_in_to(smtp_relay, relay_settings):
    assert asked("smtp", smtp_secret(smtp_relay)) == (Finding.WORKS, "", "localhost")
    found = asked("smtp", smtp_secret(smtp_relay, password="wrong"))
    assert (found.finding, found.word) == (Finding.KEY_REFUSED, "535")
    assert asked("smtp", smtp_secret(smtp_relay, port=9)).finding is Finding.NO_ANSWER


@pytest.mark.parametrize("esp", ESP_KEYS)
def test_an_email_provider_is_asked_with_its_own_key(esp_sandbox, esp_settings, esp):
    assert asked("anymail", esp_secret(esp)).finding is Finding.WORKS
    wrong = {"secret_access_key": "wrong"} if esp == "ses" else {"api_key": "wrong"}
    assert asked("anymail", esp_secret(esp, **wrong)).finding is Finding.KEY_REFUSED
    assert "accepted" not in {entry["outcome"] for entry in esp_sandbox.control.journal()["entries"]}


@pytest.mark.parametrize("esp", ["mailgun", "resend"])
def test_a_domain_that_is_not_the_accounts_is_told_apart_from_a_bad_key(esp_sandbox, esp_settings, esp):
    found = asked("anymail", esp_secret(esp, from_address="news@elsewhere.example"))
    assert (found.finding, found.about) == (Finding.SENDER_REFUSED, "elsewhere.example")


# --- Gateways ------------------------------------------------------------------------------------------------------


@pytest.fixture
def gateway(settings):
    settings.PROVIDER_TIMEOUT_S = 2.0

    def at(name, sandbox, *registrations):
        reset_gateway(sandbox)
        setattr(settings, name, sandbox.url)
        settings.PROVIDER_CA_FILE = str(sandbox.ca_file)
        sandbox.control.register_keys(*registrations)
        return sandbox.control

    return at


def test_solapi_tells_its_balance(solapi_sandbox, gateway):
    rich, poor = SolapiAccount(), SolapiAccount()
    control = gateway("SOLAPI_URL", solapi_sandbox, rich.registration(balance=5_000), poor.registration(balance=0))

    def secret(account):
        return {"api_key": account.api_key, "api_secret": account.api_secret, "from": "0212345678"}

    assert asked("solapi", secret(rich)) == (Finding.WORKS, "", "5,000 KRW")
    assert asked("solapi", secret(poor)).finding is Finding.NOT_ALLOWED
    assert asked("solapi", secret(rich) | {"api_secret": "A" * 32}).word == "SignatureDoesNotMatch"
    kakao = {name: value for name, value in secret(rich).items() if name != "from"}
    assert asked("solapi_kakao", kakao).finding is Finding.SENDER_REFUSED
    control.register_profiles({"id": "KA01PF0000000000000000000001", "search_id": "@shop"})
    assert asked("solapi_kakao", kakao) == (Finding.WORKS, "", "@shop")


def test_twilio_is_asked_by_token_and_by_key(twilio_sandbox, gateway):
    account = TwilioAccount()
    gateway("TWILIO_URL", twilio_sandbox, account.registration())
    secret = {"account_sid": account.account_sid, "auth_token": account.auth_token, "from": "+15005550006"}
    key = {"api_key_sid": account.api_key_sid, "api_key_secret": account.api_key_secret}
    assert asked("twilio", secret).finding is Finding.WORKS
    assert asked("twilio", secret | key).finding is Finding.WORKS
    assert asked("twilio", secret | {"auth_token": "0" * 32}) == (Finding.KEY_REFUSED, "20003", "")
    assert asked("twilio", secret | key | {"api_key_secret": "0" * 32}).finding is Finding.KEY_REFUSED


def test_nhn_is_asked_for_the_sender_number_and_the_channels(nhn_sandbox, gateway):
    app = NhnApp()
    control = gateway("NHN_SMS_URL", nhn_sandbox, app.registration())
    gateway("NHN_KAKAO_URL", nhn_sandbox, app.registration())
    secret = {"app_key": app.app_key, "secret_key": app.secret_key, "from": "02-1234-5678"}
    assert asked("nhn_sms", secret) == (Finding.SENDER_REFUSED, "not registered", "0212345678")
    control.register_senders("0212345678")
    assert asked("nhn_sms", secret).finding is Finding.WORKS
    assert asked("nhn_sms", secret | {"secret_key": "wrong"}).finding is Finding.KEY_REFUSED
    kakao = {"app_key": app.app_key, "secret_key": app.secret_key}
    assert asked("nhn_kakao", kakao).word == "no Kakao channel"
    control.register_profiles({"id": "P1", "search_id": "@shop", "account": app.app_key})
    assert asked("nhn_kakao", kakao) == (Finding.WORKS, "", "@shop")


# --- What is kept of it --------------------------------------------------------------------------------------------


def test_the_answer_is_kept_and_forgotten_with_the_secret(apns, apns_key, application):
    credential = ChannelCredential.objects.get(provider="apns")
    assert last_check(credential) is None
    check_now(credential.pk)
    credential.refresh_from_db()
    assert (credential.check_ok, last_check(credential).finding) == (True, Finding.WORKS)
    assert apns_key.p8 not in credential.check_message
    changed = credential_update(credential=credential, secret=apns_secret(make_apns_key([BUNDLE_ID])))
    assert (changed.checked_at, changed.check_ok, changed.check_message) == (None, None, "")
    check_now(credential.pk)
    credential.refresh_from_db()
    assert credential.check_ok is False
    assert not credential.history.filter(history_type="~").exclude(history_change_reason=None).exists()


def test_an_answer_about_a_secret_that_was_replaced_meanwhile_is_not_kept(apns, apns_key, monkeypatch):
    credential = ChannelCredential.objects.get(provider="apns")
    check_begin(credential=credential)

    def slowly(provider, secret):
        credential_update(credential=credential, secret=apns_secret(apns_key))
        return Verified(Finding.KEY_REFUSED)

    monkeypatch.setattr("apps.tenants.credentials.checking.verify_secret", slowly)
    check_now(credential.pk)
    credential.refresh_from_db()
    assert (credential.check_started_at, credential.checked_at, credential.check_ok) == (None, None, None)


def test_one_check_at_a_time_and_one_that_was_lost_counts_as_no_answer(application, apns_key):
    secret = apns_secret(apns_key)
    credential = credential_create(application=application, provider="apns", name="key", secret=secret)
    check_begin(credential=credential)
    with pytest.raises(Conflict):
        check_begin(credential=credential)
    credential.refresh_from_db()
    assert is_running(credential)
    credential.check_started_at = timezone.now() - timedelta(minutes=5)
    assert not is_running(credential)
    assert last_check(credential).finding is Finding.NO_ANSWER


def test_credentials_that_reach_the_same_take_turns(application, apns_key, fcm_account):
    first, second = (
        credential_create(application=application, provider="apns", name=name, secret=apns_secret(apns_key))
        for name in ("first", "second")
    )
    other = {"service_account": fcm_account.service_account}
    fcm = credential_create(application=application, provider="fcm", name="other", secret=other)
    credential_move(credential=second, earlier=True, by="tests")
    order = application.credentials.filter(provider="apns").order_by("position", "id")
    assert [row.name for row in order] == ["second", "first"]
    credential_move(credential=second, earlier=True)
    assert [row.name for row in order.all()] == ["second", "first"]
    credential_move(credential=second, earlier=False)
    assert [row.name for row in order.all()] == ["first", "second"]
    assert ChannelCredential.objects.get(pk=fcm.pk).position == 0
    assert first.history.count() > 1


# --- Until when ----------------------------------------------------------------------------------------------------


def certificate(ends_at: datetime) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shop")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends_at - timedelta(days=400)).not_valid_after(ends_at)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_end_of_a_certificate_is_read_from_the_secret():
    late, soon = datetime(2030, 1, 2, tzinfo=UTC), datetime(2028, 1, 2, tzinfo=UTC)
    assert expiry_in({"key": "x", "chain": certificate(late) + certificate(soon)}) == soon
    assert expiry_in({"nested": {"pem": certificate(late)}}) == late
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    assert expiry_in({"key": broken, "number": 5}) is None


def test_owners_are_told_once_before_each_of_three_days(application, apns_key):
    for role in (Role.OWNER, Role.MANAGER):
        operator = Operator.objects.create_user(f"{role}@example.com", None)
        membership_set(operator=operator, application=application, role=role)
    credential = credential_create(
        application=application,
        provider="apns",
        name="key",
        secret=apns_secret(apns_key),
        expires_at=timezone.now() + timedelta(days=40),
    )

    def told_when(days: float) -> int:
        ends = timezone.now() + timedelta(days=days)
        ChannelCredential.objects.filter(pk=credential.pk).update(expires_at=ends)
        return tell_expiring()

    assert [told_when(days) for days in (40, 29, 20, 6.5, 5, 0.9, 0.1, -3)] == [0, 1, 0, 1, 0, 1, 0, 0]
    assert [letter.to for letter in mail.outbox] == [["owner@example.com"]] * 3
    assert str(credential.pk) in mail.outbox[0].body
    assert apns_key.key_id not in mail.outbox[0].body
    credential_update(credential=credential, expires_at=timezone.now() + timedelta(days=20))
    assert tell_expiring() == 1
