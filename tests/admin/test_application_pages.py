"""The pages of an application: who gets them, what its settings become, new applications, and code that works."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.billing.models import BillingProfile
from apps.tenants.access import key_digest
from apps.tenants.application_settings import SCHEMA
from apps.tenants.audit.models import AuditEvent
from apps.tenants.console_pages import settings_forms
from apps.tenants.console_pages.keys import presets, scope_groups
from apps.tenants.models import ApiKey, Application, KeyKind, Role
from apps.tenants.scopes import ROLE_SCOPES, SCOPES
from apps.tenants.selectors import application_readiness
from apps.tenants.services import application_update, credential_create, key_create
from tests.admin.pages import address, button, page_of, text_of

TABS = {
    "admin:tenants_application_change": "settings:read",
    "admin:tenants_application_keys": "settings:read",
    "admin:tenants_application_credentials": "settings:read",
    "admin:tenants_application_code": "settings:read",
    "admin:application_webhooks": "webhooks:read",
    "admin:application_plan": "billing:read",
}
GIVEN = {"name": "Shop", "time_zone": "Asia/Seoul", "default_language": "en", "is_active": "on"}


def tab(name: str, application: Application) -> str:
    return reverse(name, args=[application.pk])


# --- Who -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role.values)
def test_each_role_gets_the_tabs_of_its_scopes(world, other, member, role):
    client = member(role)
    for name, scope in TABS.items():
        answer = client.get(tab(name, world.application))
        assert (answer.status_code == 200) == (scope in ROLE_SCOPES[role]), (name, answer.status_code)
        assert client.get(tab(name, other.application)).status_code in (302, 403, 404), name
        if answer.status_code == 200:
            shown = text_of(answer)
            assert not any(secret in shown for secret in world.secrets), name
            assert not any(mark in shown for mark in other.marks), name


def test_credentials_of_others_are_neither_checked_nor_tested(world, other, member):
    owner, theirs = member(Role.OWNER), other["tenants.ChannelCredential"]
    message = other["messaging.Message"]
    places = [
        reverse("admin:tenants_channelcredential_check", args=[theirs.pk]),
        reverse("admin:credential_test", args=[theirs.pk]),
        reverse("admin:credential_test_sent", args=[theirs.pk, message.pk]),
        reverse("admin:credential_test_sent", args=[world["tenants.ChannelCredential"].pk, message.pk]),
    ]
    for place in places:
        assert owner.get(place).status_code == 404, place
    for name in ("verify", "move_up", "move_down"):
        assert owner.post(button(theirs, name)).status_code == 404


def test_who_may_only_look_gets_no_buttons(world, member):
    manager, credential = member(Role.MANAGER), world["tenants.ChannelCredential"]
    shown = text_of(manager.get(tab("admin:tenants_application_credentials", world.application)))
    assert credential.name in shown
    assert "do/verify" not in shown
    assert manager.post(button(credential, "verify")).status_code == 403
    assert manager.post(button(credential, "move_up")).status_code == 403
    shown = text_of(manager.get(page_of(world.application) + "?tab=settings"))
    assert "Quiet from" in shown
    assert 'name="set_default_ttl_s"' not in shown
    assert manager.post(page_of(world.application), GIVEN | {"set_default_ttl_s": "60"}).status_code == 403


def test_pages_take_few_queries_whatever_there_is(world, member):
    owner = member(Role.OWNER)

    def counts() -> dict[str, int]:
        found = {}
        for name in TABS:
            with CaptureQueriesContext(connection) as queries:
                assert owner.get(tab(name, world.application)).status_code == 200
            found[name] = len(queries)
        return found

    counts()  # the first look makes the application's billing profile
    few = counts()
    assert {name: count for name, count in few.items() if count > 20} == {}
    for number in range(20):
        key_create(application=world.application, name=f"key {number}", kind=KeyKind.SECRET)
        secret = {"service_account": _account(world)}
        credential_create(application=world.application, provider="fcm", name=f"fcm {number}", secret=secret)
    assert counts() == few


def _account(world) -> dict:
    return world.application.credentials.get(name="Aurora fcm").secret["service_account"]


# --- Settings ------------------------------------------------------------------------------------------------------


def test_every_setting_of_the_schema_is_a_field_with_help():
    fields, names = settings_forms.setting_fields(), [n for *_rest, names in settings_forms.groups() for n in names]
    assert sorted(names) == sorted(fields)
    assert {entry.path[0] for entry in settings_forms.entries()} == set(SCHEMA["properties"])
    assert [name for name, field in fields.items() if not str(field.label) or not str(field.help_text)] == []


def test_settings_go_through_the_form_and_come_back_as_they_were(world, member):
    owner, application = member(Role.OWNER), world.application
    stored = {
        "default_ttl_s": 60,
        "retention_days": 30,
        "double_opt_in": ["email"],
        "quiet_hours": {"from": "21:00", "to": "08:00", "channels": ["push"]},
        "frequency_caps": [{"channel": "sms", "per_day": 1}, {"per_week": 5}],
    }
    application_update(application=application, settings=stored)
    page = owner.get(page_of(application) + "?tab=settings")
    form = page.context["adminform"].form
    given = dict(GIVEN)
    for name in form.fields:
        value = form[name].value()
        if name == "set_frequency_caps":
            for place, row in enumerate(value):
                given |= {f"{name}-{place}-{key}": str(inner) for key, inner in row.items()}
        elif value not in (None, "", False, []):
            given[name] = value
    assert owner.post(page_of(application), given).status_code == 302
    assert Application.objects.get(pk=application.pk).settings == stored
    given = {name: value for name, value in given.items() if "quiet_hours" not in name and "caps-0" not in name}
    assert owner.post(page_of(application), given | {"set_retention_days": ""}).status_code == 302
    left = {"default_ttl_s": 60, "double_opt_in": ["email"], "frequency_caps": [{"per_week": 5}]}
    assert Application.objects.get(pk=application.pk).settings == left


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"set_quiet_hours__from": "9pm"}, "set_quiet_hours__from"),
        ({"set_quiet_hours__from": "21:00"}, "set_quiet_hours__from"),
        ({"set_frequency_caps-0-per_day": "many"}, "set_frequency_caps"),
        ({"set_frequency_caps-0-channel": "sms"}, "set_frequency_caps"),
        ({"set_ad_opt_out_number": "02-123-4567"}, "set_ad_opt_out_number"),
        ({"set_identity_verification__required": "on"}, "set_identity_verification__public_key"),
        ({"set_identity_verification__public_key": "no key"}, "set_identity_verification__public_key"),
        ({"set_retention_days": "0"}, "set_retention_days"),
    ],
)
def test_a_wrong_setting_is_an_error_at_its_field(world, member, given, field):
    answer = member(Role.OWNER).post(page_of(world.application), GIVEN | given)
    assert answer.status_code == 200
    assert list(answer.context["adminform"].form.errors) == [field]
    assert Application.objects.get(pk=world.application.pk).settings == {}


def test_who_looked_before_somebody_else_changed_it_undoes_nothing(world, member):
    owner, application = member(Role.OWNER), world.application
    page = owner.get(page_of(application) + "?tab=settings")
    seen_at = page.context["seen_at"]
    assert f'name="seen_at" value="{seen_at}"' in page.content.decode()
    application_update(application=application, settings={"default_ttl_s": 60})
    late = owner.post(page_of(application), GIVEN | {"set_retention_days": "30", "seen_at": seen_at})
    assert late.status_code == 200
    assert "reload the page" in str(late.context["adminform"].form.non_field_errors())
    assert late.context["seen_at"] == seen_at
    assert Application.objects.get(pk=application.pk).settings == {"default_ttl_s": 60}


def test_what_the_schema_does_not_know_is_kept():
    stored = {"of_tomorrow": {"a": 1}, "default_ttl_s": 60}
    made = settings_forms.settings_of(stored, {"set_default_ttl_s": None}, ["set_default_ttl_s"])
    assert made == {"of_tomorrow": {"a": 1}}
    assert stored["default_ttl_s"] == 60


# --- Keys and new applications -------------------------------------------------------------------------------------


def test_every_scope_stands_in_one_group_and_presets_are_scopes():
    grouped = [scope for _title, scopes in scope_groups() for scope in scopes]
    assert sorted(grouped) == sorted(SCOPES)
    assert all(set(scopes) <= set(SCOPES) for _name, _label, scopes in presets())
    reading = {name: scopes for name, _label, scopes in presets()}["read"]
    assert not any(scope.endswith((":write", ":send", ":launch", ":approve")) for scope in reading)
    assert "personal_data:read" not in reading


def test_a_new_application_gets_its_plan_and_first_keys_once(root):
    given = {"name": "Bakery", "time_zone": "Asia/Seoul", "default_language": "ko", "plan": "basic", "make_keys": "on"}
    answer = root.post(address("tenants.Application", "add"), given)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    application = Application.objects.get(name="Bakery")
    assert BillingProfile.objects.get(application=application).plan.code == "basic"
    shown = [item["plaintext"] for item in answer.context["keys"]]
    assert [text_of(answer).count(key) for key in shown] == [1, 1]
    stored = {bytes(key.digest): key.kind for key in ApiKey.objects.for_application(application)}
    assert [stored[key_digest(key)] for key in shown] == [KeyKind.SECRET, KeyKind.PUBLISHABLE]
    assert AuditEvent.objects.filter(action="key.create", application_id=application.pk).count() == 2
    readiness = application_readiness(application)
    assert (readiness.has_secret_key, readiness.has_credential, readiness.can_send) == (True, False, False)


def test_only_superusers_make_applications(world, member):
    assert member(Role.OWNER).get(address("tenants.Application", "add")).status_code == 403
