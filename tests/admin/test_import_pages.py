"""An operator uploads a file, sees what it would do, applies it, and gets the lines that were refused."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.subscriptions.imports.models import Import
from apps.subscriptions.models import AppUser
from apps.tenants.models import Operator, Role
from tests.admin.pages import address, button, list_of, page_of, text_of
from tests.subscriptions.importing import work

pytestmark = pytest.mark.django_db

LABEL = "subscriptions.Import"


def form(world, content: bytes = b"external_id,properties.city\nann,Seoul\n,Busan\n", **changes) -> dict:
    return {
        "application": str(world.application.pk),
        "kind": "users",
        "file": SimpleUploadedFile("people.csv", content),
        "on_conflict": "update",
        "mapping": "",
        "type": "",
        "encoding": "",
        "delimiter": "",
    } | changes


def uploaded(world, client, **changes) -> Import:
    answer = client.post(address(LABEL, "add"), form(world, **changes))
    run = Import.objects.order_by("-id").first()
    assert (answer.status_code, answer["Location"]) == (302, page_of(run)), text_of(answer)
    return run


def test_a_file_goes_its_whole_way_in_the_console(world, member):
    owner = member(Role.OWNER)
    run = work(uploaded(world, owner))
    name = str(Operator.objects.get(pk=owner.session["_auth_user_id"]))
    assert (run.requested_by, run.ip, run.mode) == (name, "127.0.0.1", "dry_run")
    shown = text_of(owner.get(page_of(run)))
    assert "nothing is imported yet" in shown
    assert "external_id: must have 1 to 255 characters" in shown
    assert button(run, "apply") in shown
    assert owner.post(button(run, "apply")).status_code == 302
    run = work(run)
    assert (run.state, run.applied_by) == ("done", name)
    assert AppUser.objects.get(external_id="ann").properties == {"city": "Seoul"}
    answer = owner.post(button(run, "rejects"))
    assert answer["Location"].startswith("/downloads?token=")
    lines = b"".join(owner.get(answer["Location"]).streaming_content).decode("utf-8-sig").splitlines()
    assert lines[1] == "3,external_id: must have 1 to 255 characters,,Busan"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"content": b""}, "file"),
        ({"content": b"name\nx\n"}, None),
        ({"content": b"external_id\n"}, "file"),
        ({"mapping": '{"x": 1}'}, "mapping"),
        ({"kind": "cats"}, "kind"),
        ({"type": "Email"}, "type"),
    ],
)
def test_what_is_wrong_stands_at_its_field_and_nothing_is_kept(world, member, changes, field):
    before = Import.objects.count()
    answer = member(Role.OWNER).post(address(LABEL, "add"), form(world, **changes))
    assert answer.status_code == 200
    errors = answer.context["adminform"].form.errors
    assert list(errors) == [field or "__all__"]
    assert Import.objects.count() == before


def test_the_progress_is_told_and_the_page_comes_anew_when_it_is_over(world, member):
    owner = member(Role.OWNER)
    run = uploaded(world, owner)
    place = f"{page_of(run).removesuffix('change/')}progress/"
    answer = owner.get(place)
    assert "hx-get" in text_of(answer)
    assert "HX-Refresh" not in answer
    work(run)
    assert owner.get(place)["HX-Refresh"] == "true"


def test_only_who_may_import_sees_any_of_it(world, other, member):
    run = other[LABEL]
    owner = member(Role.OWNER)
    place = f"{page_of(run).removesuffix('change/')}progress/"
    assert owner.get(place).status_code == 404
    theirs = form(world, application=str(other.application.pk))
    before = Import.objects.count()
    assert owner.post(address(LABEL, "add"), theirs).status_code == 200
    support = member(Role.SUPPORT)
    assert support.get(list_of(LABEL)).status_code == 403
    assert support.post(address(LABEL, "add"), form(world)).status_code == 403
    assert Import.objects.count() == before


def test_nobody_edits_or_deletes_the_record(world, root):
    run = world[LABEL]
    assert root.get(page_of(run, "delete")).status_code == 403
    assert root.post(page_of(run), {"state": "waiting"}).status_code == 403
    run.refresh_from_db()
    assert run.state == "checked"
