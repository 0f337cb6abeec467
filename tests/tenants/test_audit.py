"""The audit log: what is told, to whom it is shown, and that nobody changes it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client, RequestFactory
from django.utils import timezone

from apps.tenants.accounts.invitations import invitation_create
from apps.tenants.audit.models import AuditEvent
from apps.tenants.audit.services import audit, changes_of, forget_old_events
from apps.tenants.models import Operator, Role
from apps.tenants.services import membership_set, operator_create
from automata_signal.ids import first_id_at
from tests.tenants.conftest import PASSWORD

LIST = "/admin/tenants/auditevent/"


@pytest.fixture
def at_console(client, owner) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def root(db) -> Client:
    client = Client()
    client.force_login(Operator.objects.create_superuser("root@example.com", PASSWORD))
    return client


def told(action: str) -> AuditEvent:
    return AuditEvent.objects.get(action=action)


# --- Writing -------------------------------------------------------------------------------------------------------


def test_whatever_comes_in_is_made_to_fit(db):
    request = RequestFactory().get("/", REMOTE_ADDR="no address", HTTP_USER_AGENT="x\0" * 400)
    event = audit(
        "a" * 90,
        request=request,
        actor="somebody\0" * 60,
        details={
            "text": "\0" * 10 + "y" * 9_000,
            "when": timezone.now(),
            "set": {1},
            "number": float("nan"),
            "b": b"x",
        },
        changes={"password": ["old", "new"], "deep": [{"api_key": "k", "name": "n"}, None]},
    )
    event.refresh_from_db()
    assert event.ip is None
    assert "\0" not in event.actor + event.user_agent
    assert len(event.action) == 60
    assert len(event.details["text"]) == 2_000
    assert event.changes["password"] == ["•••", "•••"]
    assert event.changes["deep"] == [{"api_key": "•••", "name": "n"}, None]


def test_secrets_are_masked():
    changes = changes_of({"name": "a", "password": "x", "kept": 1}, {"name": "b", "password": "y", "kept": 1})
    assert changes == {"name": ["a", "b"], "password": ["•••", "•••"]}


def test_rows_are_neither_changed_nor_deleted_but_by_the_retention(db, settings):
    old = audit("test.old")
    new = audit("test.new")
    before = first_id_at(int((timezone.now() - timedelta(days=40)).timestamp() * 1_000))
    statements = (
        "UPDATE tenants_auditevent SET actor = 'nobody'",
        "DELETE FROM tenants_auditevent",
        "UPDATE tenants_auditevent SET actor = 'x' WHERE current_setting('automata.audit_retention', true) = 'on'",
    )
    for statement in statements[:2]:
        with pytest.raises(DatabaseError, match="not changed"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert forget_old_events() == 0
    AuditEvent.objects.create(id=before, action="test.ancient", actor="x")
    settings.AUDIT_KEEP_DAYS = 30
    assert forget_old_events() == 1
    assert set(AuditEvent.objects.values_list("pk", flat=True)) == {old.pk, new.pk}
    with connection.cursor() as cursor:  # what the retention said ends with its transaction, a savepoint at the tests
        cursor.execute("SET LOCAL automata.audit_retention = ''")
    with pytest.raises(DatabaseError), transaction.atomic():
        new.delete()


# --- What forms and buttons tell -----------------------------------------------------------------------------------


def test_a_form_tells_before_and_after(at_console, owner, application):
    member = operator_create(email="m@example.com", password=PASSWORD)
    row = membership_set(operator=member, application=application, role=Role.ANALYST)
    assert at_console.post(f"/admin/tenants/membership/{row.pk}/change/", {"role": "support"}).status_code == 302
    event = told("membership.change")
    assert event.changes == {"role": ["analyst", "support"]}
    assert (event.actor, event.application_id, event.object_id) == (owner.email, application.pk, str(row.pk))
    assert at_console.post(f"/admin/tenants/membership/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert told("membership.delete").object_id == str(row.pk)


def test_what_a_service_refuses_is_not_told_as_done(at_console, owner, application):
    row = owner.memberships.get()
    at_console.post(f"/admin/tenants/membership/{row.pk}/change/", {"role": "support"})
    at_console.post(f"/admin/tenants/membership/{row.pk}/delete/", {"post": "yes"})
    assert not AuditEvent.objects.filter(action__startswith="membership.").exists()


def test_a_button_tells_what_has_changed_and_no_secret(at_console, root, owner, application):
    row = invitation_create(application=application, email="n@example.com", role="support", by=owner)
    assert at_console.post(f"/admin/tenants/invitation/{row.pk}/do/revoke/").status_code == 302
    event = told("invitation.revoke")
    assert event.changes["revoked_at"][0] is None
    assert event.changes["revoked_at"][1]
    person = operator_create(email="m@example.com", password=PASSWORD)
    new = "a new and rather long one"
    root.post(f"/admin/tenants/operator/{person.pk}/do/set_password/", {"password1": new, "password2": new})
    event = told("operator.set_password")
    assert new not in str(AuditEvent.objects.filter(pk=event.pk).values())
    assert event.application_id is None


def test_keys_that_the_api_gives_out_are_told_of(server, application):
    made = server.post("keys", {"name": "other", "kind": "publishable"}).json()["data"]
    server.post(f"keys/{made['id']}/rotate", {"overlap_s": 60})
    server.post(f"keys/{made['id']}/revoke")
    event = told("apikey.add")
    assert event.actor.startswith("key as_sk_")
    assert event.object_id == made["id"]
    assert made["key"] not in str(list(AuditEvent.objects.values()))
    assert told("apikey.rotate").application_id == told("apikey.revoke").application_id == application.pk


def test_what_the_api_changes_of_an_application_is_told_of(console, owner, application):
    console.patch("application", {"settings": {"require_second_factor": ["owner"]}})
    event = told("application.change")
    assert (event.actor, event.application_id, event.object_id) == (owner.email, application.pk, str(application.pk))
    assert event.changes["settings"] == [{}, {"require_second_factor": ["owner"]}]


def test_the_page_of_a_row_shows_what_was_done_with_it(at_console, owner, application):
    row = invitation_create(application=application, email="n@example.com", role="support", by=owner)
    at_console.post(f"/admin/tenants/invitation/{row.pk}/do/revoke/")
    page = at_console.get(f"/admin/tenants/invitation/{row.pk}/history/").content.decode()
    assert "invitation.create" in page
    assert "invitation.revoke" in page
    assert "invitation.revoke" in at_console.get(LIST, {"q": str(row.pk)}).content.decode()
    member = owner.memberships.get()
    page = at_console.get(f"/admin/tenants/membership/{member.pk}/history/").content.decode()
    assert f"{LIST}?q={member.pk}" in page


# --- Reading -------------------------------------------------------------------------------------------------------


def test_an_owner_reads_their_applications_rows_and_no_sign_ins(at_console, root, application, other_application):
    mine = audit("campaign.launch", actor="me@example.com", application_id=application.pk)
    theirs = audit("campaign.launch", actor="them@example.com", application_id=other_application.pk)
    platform = audit("sign_in.done", actor="root@example.com")
    page = at_console.get(LIST).content.decode()
    assert str(mine.pk) in page
    assert str(theirs.pk) not in page
    assert str(platform.pk) not in page
    for event in (theirs, platform):
        assert at_console.get(f"{LIST}{event.pk}/change/").status_code in (302, 404)
        assert at_console.get(LIST, {"q": str(event.pk)}).context["cl"].result_count == 0
    exported = b"".join(at_console.get(f"{LIST}export/").streaming_content).decode()
    assert "me@example.com" in exported
    assert "them@example.com" not in exported
    assert "sign_in.done" not in exported
    page = root.get(LIST).content.decode()
    assert all(str(event.pk) in page for event in (mine, theirs, platform))


@pytest.mark.parametrize("role", [Role.MARKETER, Role.ANALYST, Role.SUPPORT])
def test_who_has_no_right_to_it_reads_nothing(client, application, role):
    operator = operator_create(email="m@example.com", password=PASSWORD)
    membership_set(operator=operator, application=application, role=role)
    client.force_login(operator)
    event = audit("campaign.launch", application_id=application.pk)
    for place in (LIST, f"{LIST}{event.pk}/change/", f"{LIST}export/"):
        assert client.get(place).status_code == 403


def test_nobody_adds_changes_or_deletes(root, application):
    event = audit("campaign.launch", application_id=application.pk)
    assert root.get(f"{LIST}add/").status_code == 403
    assert root.post(f"{LIST}{event.pk}/change/", {"actor": "x"}).status_code == 403
    assert root.post(f"{LIST}{event.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("ann@example.com", {"sign_in.done", "campaign.launch"}),
        ("203.0.113.7", {"sign_in.done"}),
        ("sign_in.", {"sign_in.done", "sign_in.refused"}),
        ("sign_in", {"sign_in.done", "sign_in.refused"}),
        ("sign_in.re", {"sign_in.refused"}),
        ("nobody@example.com", {"sign_in.refused"}),
        ("nothing like it", set()),
        ("%", set()),
    ],
)
def test_search(root, application, term, found):
    ann = operator_create(email="ann@example.com", password=PASSWORD)
    AuditEvent.objects.create(action="sign_in.done", actor=ann.email, operator_id=ann.pk, ip="203.0.113.7")
    AuditEvent.objects.create(action="campaign.launch", actor="old@example.com", operator_id=ann.pk)
    AuditEvent.objects.create(action="sign_in.refused", actor="nobody@example.com")
    shown = {event.action for event in root.get(LIST, {"q": term}).context["cl"].result_list}
    assert shown == found


def test_filters_and_the_export_show_the_same(root, application, other_application):
    for number in range(3):
        audit("campaign.launch", application_id=application.pk, details={"n": number}, actor="=1+1")
    audit("campaign.launch", application_id=other_application.pk)
    audit("key.create", application_id=application.pk)
    query = {"application": str(application.pk), "area": "campaign", "added": "1h"}
    assert root.get(LIST, query).context["cl"].result_count == 3
    answer = root.get(f"{LIST}export/", query)
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert len(rows) == 4
    assert {row[rows[0].index("actor")] for row in rows[1:]} == {"'=1+1"}
    event = told("audit.export")
    assert event.details == query


def test_the_row_page_shows_before_and_after(root, application):
    event = audit("application.change", application_id=application.pk, changes={"name": ["Shop", "Store"]})
    page = root.get(f"{LIST}{event.pk}/change/").content.decode()
    assert "Shop" in page
    assert "Store" in page


def plan_of(sql: str, params: tuple) -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", params)
        return "\n".join(line for (line,) in cursor.fetchall())


def test_each_kind_of_search_has_its_index(root, application):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO tenants_auditevent (id, at, action, actor, object_label, object_id, object_name, changes,"
            " details, user_agent, request_id, application_id, operator_id, ip)"
            " SELECT gen_random_uuid(), now(), 'campaign.v' || i %% 7, 'a' || i %% 500, '', i::text, '', '{}', '{}',"
            " '', '', %s, gen_random_uuid(), ('10.0.' || i %% 250 || '.9')::inet FROM generate_series(1, 30000) i",
            [application.pk],
        )
        cursor.execute("ANALYZE tenants_auditevent")
    page = "ORDER BY id DESC LIMIT 50"
    for where, value in (
        ("actor = %s", "a7"),
        ("ip = %s", "10.0.1.9"),
        ("object_id = %s", "77"),
        ("area = %s", "sign_in"),
        ("operator_id = %s", application.pk),
        ("application_id = %s", application.pk),
    ):
        plan = plan_of(f"SELECT id FROM tenants_auditevent WHERE {where} {page}", (value,))
        assert "Seq Scan" not in plan, (where, plan)
