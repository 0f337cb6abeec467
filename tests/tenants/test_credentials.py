from __future__ import annotations

import os
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from apps.tenants import providers
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import ChannelCredential
from apps.tenants.services import (
    breaker_close,
    breaker_open,
    credential_create,
    credential_note_error,
    credential_update,
)
from automata_signal.encryption import DecryptionError
from automata_signal.errors import FieldProblem, ValidationFailed
from tests.tenants.test_keys import code, fields

SECRET = {"key_id": "ABC1234567", "p8": "-----BEGIN PRIVATE KEY-----\nvery secret\n"}


@pytest.fixture(autouse=True)
def rules_of_apns(monkeypatch):
    """Rules as the adapter's app registers them at start-up."""
    monkeypatch.setattr(providers, "_rules", {})

    def check(secret):
        return [FieldProblem(name, "is needed") for name in ("key_id", "p8") if name not in secret]

    providers.register_secret_check("apns", check, lambda secret: {"key_id": secret["key_id"]})


@pytest.fixture
def credential(application) -> ChannelCredential:
    return credential_create(application=application, provider="apns", name="Main", secret=SECRET)


def stored_secret(credential: ChannelCredential) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM tenants_channelcredential WHERE id = %s", [credential.pk])
        return bytes(cursor.fetchone()[0])


def store(credential: ChannelCredential, value: bytes) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tenants_channelcredential SET secret = %s WHERE id = %s", [value, credential.pk])


# --- Through the API ---------------------------------------------------------------------------------------------


def test_a_secret_goes_in_and_never_comes_out(server):
    created = server.post("credentials", {"provider": "apns", "name": "Main", "secret": SECRET})

    assert created.status_code == 201
    address = f"credentials/{created.json()['data']['id']}"
    answers = [created, server.get("credentials"), server.get(address), server.patch(address, {"secret": SECRET})]
    for answer in answers:
        assert answer.status_code in (200, 201)
        assert "very secret" not in answer.content.decode()
    assert created.json()["data"]["summary"] == {"key_id": "ABC1234567"}
    assert ChannelCredential.objects.get().secret == SECRET
    assert "very secret" not in str(list(ChannelCredential.history.values()))


def test_the_audit_log_is_told_and_no_secret(server):
    made = server.post("credentials", {"provider": "apns", "name": "Main", "secret": SECRET}).json()["data"]
    server.patch(f"credentials/{made['id']}", {"name": "Other", "secret": SECRET})
    server.delete(f"credentials/{made['id']}")
    events = {event.action: event for event in AuditEvent.objects.filter(object_id=made["id"])}
    assert set(events) == {f"channelcredential.{verb}" for verb in ("add", "change", "deactivate")}
    assert events["channelcredential.change"].changes == {"name": ["Main", "Other"], "secret": [None, "•••"]}
    assert "very secret" not in str(list(AuditEvent.objects.values()))


def test_a_secret_is_ciphertext_in_the_database(credential):
    assert b"secret" not in stored_secret(credential)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"secret": {"key_id": "A"}}, "secret.p8"),
        ({"secret": {}}, "secret"),
        ({"secret": "p8"}, "secret"),
        ({"secret": None}, "secret"),
        ({"secret": {"key_id": "A", "p8": "x" * 40_000}}, "secret"),
        ({"provider": "pigeon"}, "provider"),
        ({"name": ""}, "name"),
        ({"position": -1}, "position"),
        ({"position": 32_768}, "position"),
        ({"key": "x"}, "key"),
    ],
)
def test_a_credential_that_cannot_be_is_refused_by_its_field(server, body, field):
    answer = server.post("credentials", {"provider": "apns", "name": "Main", "secret": SECRET} | body)
    assert answer.status_code == 400, answer.content
    assert fields(answer) == [field]
    assert not ChannelCredential.objects.exists()


def test_a_wrong_secret_leaves_the_old_one(server, credential):
    answer = server.patch(f"credentials/{credential.pk}", {"name": "New", "secret": {"p8": "x"}})
    assert fields(answer) == ["secret.key_id"]
    credential.refresh_from_db()
    assert (credential.name, credential.secret) == ("Main", SECRET)


def test_delete_stops_a_credential_and_patch_takes_it_back(server, credential):
    assert server.delete(f"credentials/{credential.pk}").status_code == 204
    assert server.get(f"credentials/{credential.pk}").json()["data"]["is_active"] is False
    assert server.patch(f"credentials/{credential.pk}", {"is_active": True}).json()["data"]["is_active"] is True


def test_a_stranger_gets_the_same_answer_for_a_credential_of_others_and_for_none(stranger, credential):
    for method in ("GET", "PATCH", "DELETE"):
        answers = [stranger.request(method, f"credentials/{key}", {}) for key in (credential.pk, uuid4())]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["error"] == answers[1].json()["error"]
    assert stranger.get("credentials").json()["data"] == []
    credential.refresh_from_db()
    assert credential.is_active


def test_a_list_of_credentials_decrypts_nothing(server, credential):
    store(credential, b"\x01broken")
    assert server.get("credentials").status_code == 200


def test_a_check_of_the_callers_own_takes_the_place_of_the_registered_one(application):
    with pytest.raises(ValidationFailed) as refusal:
        credential_create(
            application=application, provider="apns", name="n", secret=SECRET, check=lambda _: [FieldProblem("", "no")]
        )
    assert refusal.value.details == [FieldProblem("secret", "no")]


# --- The breaker -------------------------------------------------------------------------------------------------


def test_the_breaker_opens_once(credential):
    assert breaker_open(credential.pk, "60 of 100 do not fit") is True
    assert breaker_open(credential.pk, "again") is False
    credential.refresh_from_db()
    assert credential.breaker_opened_at is not None
    assert credential.breaker_reason == "60 of 100 do not fit"


def test_the_breaker_opens_anew_after_its_cool_down(credential, settings):
    breaker_open(credential.pk, "first")
    past = timezone.now() - timedelta(seconds=settings.BREAKER_COOLDOWN_S + 1)
    ChannelCredential.objects.update(breaker_opened_at=past)
    assert breaker_open(credential.pk, "second") is True
    credential.refresh_from_db()
    assert credential.breaker_opened_at > past


def test_the_breaker_closes_and_history_has_both(credential):
    breaker_open(credential.pk, "reason")
    breaker_close(credential, by="console")
    credential.refresh_from_db()
    assert (credential.breaker_opened_at, credential.breaker_reason) == (None, "")
    assert [version.history_change_reason for version in credential.history.all()][:2] == ["console", "breaker"]


def test_saving_a_credential_closes_the_breaker_and_forgets_the_error(credential):
    breaker_open(credential.pk, "reason")
    credential_note_error(credential.pk, "403 InvalidProviderToken" + "x" * 600)
    credential.refresh_from_db()
    assert credential.last_error.startswith("403")
    assert credential.last_error_at is not None

    saved = credential_update(credential=credential, secret=SECRET)

    assert (saved.breaker_opened_at, saved.breaker_reason, saved.last_error, saved.last_error_at) == (
        None,
        "",
        "",
        None,
    )


# --- Encryption --------------------------------------------------------------------------------------------------


def test_an_altered_value_is_refused(credential):
    value = bytearray(stored_secret(credential))
    value[-1] ^= 1
    store(credential, bytes(value))
    with pytest.raises(DecryptionError):
        ChannelCredential.objects.get()


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x09" + bytes(40)])
def test_a_value_under_no_key_of_ours_is_refused(credential, value):
    store(credential, value)
    with pytest.raises(DecryptionError):
        ChannelCredential.objects.get()


def rotate(**options) -> str:
    output = StringIO()
    call_command("rotate_encryption", stdout=output, **options)
    return output.getvalue()


def test_rotation_brings_everything_under_the_new_key_so_that_the_old_can_go(application, settings):
    for number in range(5):
        credential_create(application=application, provider="fcm", name=f"n{number}", secret={"number": number})
    old, new = settings.ENCRYPTION_KEYS, {9: os.urandom(32)}
    settings.ENCRYPTION_KEYS = new | old

    assert "tenants.ChannelCredential.secret: 5 rotated, 0 changed meanwhile, 0 unreadable" in rotate(batch_size=2)

    settings.ENCRYPTION_KEYS = new
    assert sorted(c.secret["number"] for c in ChannelCredential.objects.all()) == [0, 1, 2, 3, 4]
    assert all(stored_secret(c)[0] == 9 for c in ChannelCredential.objects.all())


def test_rotation_can_be_started_again(credential, settings):
    settings.ENCRYPTION_KEYS = {9: os.urandom(32)} | settings.ENCRYPTION_KEYS
    rotate()
    first = stored_secret(credential)
    assert "ChannelCredential.secret: 0 rotated" in rotate()
    assert stored_secret(credential) == first


def test_rotation_leaves_what_it_cannot_read_and_says_so(credential, application, settings):
    good = credential_create(application=application, provider="fcm", name="good", secret={"a": 1})
    broken = b"\x07" + bytes(40)
    store(credential, broken)
    settings.ENCRYPTION_KEYS = {9: os.urandom(32)} | settings.ENCRYPTION_KEYS
    with pytest.raises(CommandError, match="keep the old keys"):
        rotate()
    assert stored_secret(credential) == broken
    assert stored_secret(good)[0] == 9


def test_no_error_and_no_500_when_the_secret_cannot_be_read(server, credential):
    store(credential, b"\x07" + bytes(40))
    answer = server.patch(f"credentials/{credential.pk}", {"secret": SECRET})
    assert answer.status_code == 200
    assert ChannelCredential.objects.get().secret == SECRET
    store(credential, b"\x07" + bytes(40))
    assert server.get(f"credentials/{credential.pk}").status_code == 200
    assert server.delete(f"credentials/{credential.pk}").status_code == 204
    assert code(server.get("credentials/nothing")) == "NOT_FOUND"
