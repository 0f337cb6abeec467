from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from apps.tenants.models import Application, Role
from apps.tenants.services import application_create, application_update, operator_create
from automata_signal.errors import ValidationFailed
from tests.tenants.conftest import PASSWORD
from tests.tenants.test_keys import fields


def pem(private) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def test_an_application_reads_itself(server, application):
    data = server.get("application").json()["data"]
    assert data["name"] == "Shop"
    assert data["time_zone"] == "Asia/Seoul"
    assert data["settings"] == {}
    assert set(data) >= {"id", "default_language", "is_active", "created_at", "updated_at"}


def test_what_is_given_changes_and_the_rest_stays(server, application):
    answer = server.patch("application", {"name": " Market ", "default_language": "ko"})
    assert answer.status_code == 200
    application.refresh_from_db()
    assert (application.name, application.default_language, application.time_zone) == ("Market", "ko", "Asia/Seoul")
    assert application.history.first().history_change_reason.startswith("key as_sk_")


def test_settings_replace_all_settings(server, application):
    server.patch("application", {"settings": {"retention_days": 30, "default_ttl_s": 60}})
    server.patch("application", {"settings": {"receipt_timeout_hours": 24}})
    application.refresh_from_db()
    assert application.settings == {"receipt_timeout_hours": 24}


def test_a_p256_key_can_verify_identities(server):
    identity = {"required": True, "public_key": pem(ec.generate_private_key(ec.SECP256R1()))}
    assert server.patch("application", {"settings": {"identity_verification": identity}}).status_code == 200


IDENTITY = "settings.identity_verification"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([], "settings"),
        ("x", "settings"),
        (7, "settings"),
        ({"colour": "red"}, "settings"),
        ({"retention_days": 0}, "settings.retention_days"),
        ({"retention_days": True}, "settings.retention_days"),
        ({"retention_days": "30"}, "settings.retention_days"),
        ({"retention_days": 10**30}, "settings.retention_days"),
        ({"default_ttl_s": None}, "settings.default_ttl_s"),
        ({"receipt_timeout_hours": 1.5}, "settings.receipt_timeout_hours"),
        ({"identity_verification": {"required": "yes"}}, f"{IDENTITY}.required"),
        ({"identity_verification": {"required": True}}, f"{IDENTITY}.public_key"),
        ({"identity_verification": {"public_key": "not a key"}}, f"{IDENTITY}.public_key"),
        ({"identity_verification": {"public_key": ""}}, f"{IDENTITY}.public_key"),
        (
            {"identity_verification": {"public_key": pem(ec.generate_private_key(ec.SECP384R1()))}},
            f"{IDENTITY}.public_key",
        ),
        (
            {"identity_verification": {"public_key": pem(rsa.generate_private_key(65537, 2048))}},
            f"{IDENTITY}.public_key",
        ),
    ],
)
def test_settings_that_the_schema_does_not_allow_are_refused_by_their_path(server, application, given, field):
    answer = server.patch("application", json.dumps({"settings": given}))
    assert answer.status_code == 400, answer.content
    assert fields(answer) == [field]
    application.refresh_from_db()
    assert application.settings == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"time_zone": "Seoul"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"default_language": "korean!"}, "default_language"),
        ({"default_language": "k"}, "default_language"),
        ({"is_active": False}, "is_active"),
        ({"id": "1"}, "id"),
    ],
)
def test_an_application_that_cannot_be_is_refused_by_its_field(server, application, body, field):
    answer = server.patch("application", body)
    assert answer.status_code == 400
    assert fields(answer) == [field]
    updated_at = application.updated_at
    application.refresh_from_db()
    assert application.updated_at == updated_at


def test_who_creates_an_application_owns_it(db):
    operator = operator_create(email="a@example.com", password=PASSWORD)
    application = application_create(name="New", owner=operator, time_zone="Asia/Seoul", settings={"retention_days": 9})
    assert application.memberships.get().role == Role.OWNER
    assert application.memberships.get().operator == operator


def test_nothing_is_created_if_anything_is_wrong(db):
    with pytest.raises(ValidationFailed):
        application_create(name="New", settings={"retention_days": 0})
    assert not Application.objects.exists()


def test_an_application_can_be_put_to_rest(server, application):
    application_update(application=application, is_active=False)
    assert server.get("application").status_code == 403
