from __future__ import annotations

import json
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import CommandError, call_command

from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import ApiKey, Application, Operator
from tests.conftest import ApiClient
from tests.tenants.conftest import PASSWORD, sign_in

pytestmark = pytest.mark.django_db


def bootstrap(**options) -> dict:
    output = StringIO()
    given = {"email": "root@example.com", "application": "Shop", "as_json": True} | options
    call_command("bootstrap", stdout=output, **given)
    return json.loads(output.getvalue())


def test_bootstrap_makes_what_one_needs_to_begin(monkeypatch):
    monkeypatch.setenv("OPERATOR_PASSWORD", PASSWORD)
    made = bootstrap(time_zone="Asia/Seoul", language="ko")

    assert ApiClient(made["secret_key"]).get("application").json()["data"]["time_zone"] == "Asia/Seoul"
    assert made["publishable_key"].startswith("as_pk_")
    me = sign_in("root@example.com").get("me").json()["data"]
    assert me["is_superuser"] is True
    assert me["memberships"][0]["role"] == "owner"


def test_bootstrap_again_adds_only_what_is_missing():
    first = bootstrap()
    assert first["password"]
    second = bootstrap()
    assert second["application_id"] == first["application_id"]
    assert (second["password"], second["secret_key"], second["publishable_key"]) == (None, None, None)
    assert (Operator.objects.count(), Application.objects.count(), ApiKey.objects.count()) == (1, 1, 2)

    ApiKey.objects.filter(kind="secret").delete()
    assert bootstrap()["secret_key"]


@pytest.mark.parametrize("wrong", [{"email": "nobody"}, {"time_zone": "Seoul"}, {"application": " "}])
def test_bootstrap_with_wrong_words_makes_nothing(wrong):
    with pytest.raises(CommandError):
        bootstrap(**wrong)
    assert not Operator.objects.exists()


def test_the_only_superuser_who_lost_the_phone_is_helped_at_the_command_line():
    operator = Operator.objects.create_superuser("root@example.com", PASSWORD)
    for kind in (Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES):
        Authenticator.objects.create(user=operator, type=kind, data={})
    with pytest.raises(CommandError, match="nobody signs in"):
        call_command("reset_second_factor", "other@example.com")
    call_command("reset_second_factor", "Root@Example.com ", stdout=StringIO())
    assert not Authenticator.objects.exists()
    told = AuditEvent.objects.get(action="operator.reset_second_factor")
    assert (told.actor, told.object_id) == ("manage.py reset_second_factor", str(operator.pk))
    with pytest.raises(CommandError, match="has no second factor"):
        call_command("reset_second_factor", "root@example.com")
