"""Somebody uploads a file, says what its columns are, sees what it would do, applies it, and gets what was refused."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.subscriptions.imports.mapping import guessed
from apps.subscriptions.imports.models import Import
from apps.subscriptions.models import AppUser, Subscription
from apps.tenants.models import Operator, Role
from tests.admin.pages import address, button, list_of, page_of, text_of
from tests.subscriptions.importing import work

pytestmark = pytest.mark.django_db

LABEL = "subscriptions.Import"
PEOPLE = b"external_id,City,age,Notes\nann,Seoul,31,x\n,Busan,40,y\nbo,Jeju,old,z\n"


def form(world, content: bytes = PEOPLE, **changes) -> dict:
    return {
        "application": str(world.application.pk),
        "kind": "users",
        "file": SimpleUploadedFile("people.csv", content),
        "encoding": "",
        "delimiter": "",
    } | changes


def columns_of(run: Import) -> str:
    return address(LABEL, "columns", run.pk)


def uploaded(world, client, **changes) -> Import:
    answer = client.post(address(LABEL, "add"), form(world, **changes))
    run = Import.objects.order_by("-id").first()
    assert (answer.status_code, answer["Location"]) == (302, columns_of(run)), text_of(answer)
    return run


def said(**changes) -> dict[str, str]:
    return {
        "target-0": "external_id",
        "target-1": ":text",
        "name-1": "city",
        "target-2": ":number",
        "name-2": "age",
        "target-3": "",
        "on_conflict": "update",
    } | changes


def test_a_file_goes_its_whole_way_in_the_console(world, member):
    owner = member(Role.OWNER)
    run = uploaded(world, owner)
    name = str(Operator.objects.get(pk=owner.session["_auth_user_id"]))
    assert (run.state, run.requested_by, run.ip, run.mode) == ("mapping", name, "127.0.0.1", "dry_run")
    shown = text_of(owner.get(columns_of(run)))
    assert "Seoul" in shown
    assert "Leave it out" in shown
    answer = owner.post(columns_of(run), said())
    assert (answer.status_code, answer["Location"]) == (302, page_of(run))
    run = work(run)
    shown = text_of(owner.get(page_of(run)))
    assert "nothing is imported yet" in shown
    assert "must have 1 to 255 characters" in shown
    assert "must be a number such as 12 or -0.5" in shown
    assert '<td class="is-wrong">old</td>' in shown
    assert button(run, "apply") in shown
    assert owner.post(button(run, "apply")).status_code == 302
    run = work(run)
    assert (run.state, run.applied_by) == ("done", name)
    assert AppUser.objects.get(external_id="ann").properties == {"city": "Seoul", "age": 31}
    answer = owner.post(button(run, "rejects"))
    assert answer["Location"].startswith("/downloads?token=")
    lines = b"".join(owner.get(answer["Location"]).streaming_content).decode("utf-8-sig").splitlines()
    assert lines[1].startswith("3,external_id: must have 1 to 255 characters,,Busan")


def test_the_columns_can_be_said_anew_after_the_check(world, member):
    owner = member(Role.OWNER)
    run = uploaded(world, owner)
    owner.post(columns_of(run), said())
    run = work(run)
    assert (run.state, run.rejected_rows) == ("checked", 2)
    assert owner.post(columns_of(run), said(**{"target-2": ":text"})).status_code == 302
    run = work(run)
    assert (run.state, run.rejected_rows, run.created_rows) == ("checked", 1, 2)
    owner.post(button(run, "apply"))
    run = work(run)
    assert AppUser.objects.get(external_id="bo").properties == {"city": "Jeju", "age": "old"}
    assert owner.get(columns_of(run)).status_code == 302


def test_columns_are_guessed_by_their_names_and_first_values(world, member):
    content = b"Email,user_id,VIP,Score,Language\na@example.com,u1,yes,12,ko\nb@example.com,u2,no,3,en\n"
    run = uploaded(world, member(Role.OWNER), kind="subscriptions", content=content)
    asked = guessed(run)
    assert [row.target for row in asked.rows] == ["token", "external_id", ":boolean", ":number", "device_language"]
    assert asked.type == "Email"
    data = {f"target-{row.number}": row.target for row in asked.rows}
    data |= {f"name-{row.number}": row.name for row in asked.rows} | {"type": "Email", "on_conflict": "update"}
    owner = member(Role.MANAGER)
    assert owner.post(columns_of(run), data).status_code == 302
    owner.post(button(work(run), "apply"))
    work(run)
    assert Subscription.objects.get(user__external_id="u1").tags == {"VIP": True, "Score": 12}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"target-0": ""}, "there is no such column"),
        ({"target-1": ":number", "name-1": "age"}, "another column is the same field"),
        ({"target-1": "external_id"}, "another column is the same field"),
        ({"on_conflict": "eat"}, "must be update or skip"),
        ({"type": "Email"}, "is for imports of subscriptions"),
    ],
)
def test_columns_that_do_not_fit_are_named_and_nothing_begins(world, member, changes, shown):
    owner = member(Role.OWNER)
    run = uploaded(world, owner)
    answer = owner.post(columns_of(run), said(**changes))
    assert answer.status_code == 200
    assert shown in text_of(answer)
    run.refresh_from_db()
    assert run.state == "mapping"


@pytest.mark.parametrize(
    ("changes", "field"), [({"content": b""}, "file"), ({"content": b"external_id\n"}, "file"), ({"kind": "x"}, "kind")]
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_kept(world, member, changes, field):
    before = Import.objects.count()
    answer = member(Role.OWNER).post(address(LABEL, "add"), form(world, **changes))
    assert answer.status_code == 200
    errors = answer.context["adminform"].form.errors
    assert list(errors) == [field]
    assert Import.objects.count() == before


def test_the_progress_is_told_and_the_page_comes_anew_when_it_is_over(world, member):
    owner = member(Role.OWNER)
    run = uploaded(world, owner)
    owner.post(columns_of(run), said())
    place = address(LABEL, "progress", run.pk)
    answer = owner.get(place)
    assert "hx-get" in text_of(answer)
    assert "HX-Refresh" not in answer
    work(run)
    assert owner.get(place)["HX-Refresh"] == "true"


def test_only_who_may_import_sees_any_of_it(world, other, member):
    run = other[LABEL]
    owner = member(Role.OWNER)
    for place in (address(LABEL, "progress", run.pk), columns_of(run)):
        assert owner.get(place).status_code == 404
    assert owner.post(columns_of(run), said()).status_code == 404
    theirs = form(world, application=str(other.application.pk))
    before = Import.objects.count()
    assert owner.post(address(LABEL, "add"), theirs).status_code == 200
    support = member(Role.SUPPORT)
    assert support.get(list_of(LABEL)).status_code == 403
    assert support.get(columns_of(world[LABEL])).status_code == 404
    assert support.post(address(LABEL, "add"), form(world)).status_code == 403
    assert Import.objects.count() == before


def test_nobody_edits_or_deletes_the_record(world, root):
    run = world[LABEL]
    assert root.get(page_of(run, "delete")).status_code == 403
    assert root.post(page_of(run), {"state": "waiting"}).status_code == 403
    run.refresh_from_db()
    assert run.state == "checked"
