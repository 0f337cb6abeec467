"""Who may load a file: with a link of ours, in time, with the rights that the file takes. Others all hear the same."""

from __future__ import annotations

import os
import time

import pytest
from django.core.signing import Signer
from django.utils import timezone

from apps.analytics.exports import services
from apps.analytics.exports.running import exports_expire
from apps.analytics.models.exports import Export, ExportDownload
from apps.tenants.models import ApiKey, KeyKind, Operator, Role
from apps.tenants.services import key_create, membership_set, operator_create
from automata_signal.ids import new_id
from automata_signal.private_files import private_storage
from tests.analytics.exporting import body_of, client_with, link_of, order, work
from tests.conftest import ApiClient
from tests.factories import make_user

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def done(application, server) -> str:
    """The id of a file in clear."""
    make_user(application, "Kim-Minji")
    made = order(server, "users")
    work()
    return made["id"]


@pytest.fixture
def link(server, done) -> str:
    return link_of(server, done)


def said(answer) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


NOTHING = (404, "NOT_FOUND", "There is no such file, or the link has expired. Ask for a new one where you got it.")


def test_a_file_is_an_attachment_that_nothing_keeps(server, link):
    answer = server.get(link)
    assert "Kim-Minji" in body_of(answer).decode()
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"].startswith('attachment; filename="users-')
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "private, no-store"
    assert int(answer["Content-Length"]) == Export.objects.get().bytes_written


def test_each_download_is_recorded(application, server, done, link):
    body_of(server.get(link))
    body_of(server.get(link))
    body_of(client_with(application).get(link))
    rows = ExportDownload.objects.filter(export_id=done).order_by("pk")
    assert len({row.downloaded_by for row in rows}) == 2
    assert [row.downloaded_from for row in rows] == ["127.0.0.1"] * 3
    assert server.get(f"exports/{done}").json()["data"]["downloads"] == 3


def test_what_was_refused_is_no_download(server, link):
    server.get(link + "x")
    assert not ExportDownload.objects.exists()


def test_whatever_accept_says_the_file_comes(server, link):
    for accept in ("text/csv", "application/json", "*/*", "image/png"):
        assert server.get(link, accept=accept).status_code == 200


# --- Links ---------------------------------------------------------------------------------------------------------


def test_a_part_that_outlived_its_export_goes_after_a_day(done):
    export = Export.objects.get(pk=done)
    [part] = [part["name"] for part in export.parts]
    yesterday = time.time() - 25 * 3_600
    os.utime(private_storage().path(part), (yesterday, yesterday))
    exports_expire()
    assert private_storage().exists(part)
    Export.objects.update(state="canceled")  # and the process ended before it deleted what there was
    exports_expire()
    assert not private_storage().exists(part)


def test_a_link_expires(server, done, link, settings):
    settings.DOWNLOAD_LINK_S = -1
    assert said(server.get(link_of(server, done))) == NOTHING
    assert server.get(link).status_code == 200


def test_a_forged_link_opens_nothing(server, done, link):
    address, _, token = link.partition("?token=")
    far = 2_000_000_000
    forged = {
        "none": "",
        "cut": token[:-1],
        "another signature": token.partition("%3A")[0] + "%3A" + "A" * 43,
        "another purpose": Signer(salt="automata_signal.downloads").sign_object([done, far]),
        "another key": Signer(key="guess", salt="apps.analytics.exports.download").sign_object([done, far]),
        "another export": Signer(salt="apps.analytics.exports.download").sign_object([str(new_id()), far]),
        "another form": Signer(salt="apps.analytics.exports.download").sign_object({"export": done}),
        "no list": Signer(salt="apps.analytics.exports.download").sign_object(done),
        "no number": Signer(salt="apps.analytics.exports.download").sign_object([done, "never"]),
        "long": token + "A" * 10_000,
    }
    for what, text in forged.items():
        assert said(server.get(f"{address}?token={text}")) == NOTHING, what
    assert said(server.get(address)) == NOTHING
    assert not ExportDownload.objects.exists()


def test_the_link_of_one_export_does_not_open_another(server, done, link):
    other = order(server, "users")["id"]
    work()
    assert said(server.get(link.replace(done, other))) == NOTHING


def test_a_link_without_a_key_opens_nothing(link, sdk):
    assert ApiClient("").get(link).status_code == 401
    assert sdk.get(link).status_code == 403


def test_an_export_that_is_not_done_has_no_file(application, server):
    made = order(server, "users")
    row = Export.objects.get(pk=made["id"])
    address = f"exports/{row.pk}/download?token={services.download_token(row)}"
    assert said(server.get(address)) == NOTHING
    server.post(f"exports/{row.pk}/cancel")
    assert said(server.get(address)) == NOTHING


# --- Who -----------------------------------------------------------------------------------------------------------


def test_a_stranger_hears_what_everybody_hears(stranger, server, done, link):
    missing = link.replace(done, str(new_id()))
    assert said(stranger.get(link)) == said(stranger.get(missing)) == said(server.get(missing)) == NOTHING
    assert stranger.get(f"exports/{done}").status_code == 404
    assert stranger.post(f"exports/{done}/cancel").status_code == 404
    assert stranger.get("exports").json()["data"] == []


@pytest.mark.parametrize("lost", ["personal_data:read", "users:read"])
def test_who_has_lost_a_right_meanwhile_cannot_load_the_file(application, link, lost):
    assert said(client_with(application, without=(lost,)).get(link)) == NOTHING
    assert client_with(application, without=("exports:write",)).get(link).status_code == 403
    assert not ExportDownload.objects.exists()


def test_a_key_whose_scope_is_taken_away_after_the_order(application):
    make_user(application, "Kim-Minji")
    new = key_create(application=application, name="narrowed", kind=KeyKind.SECRET)
    client = ApiClient(new.plaintext)
    made = order(client, "users")
    work()
    link = link_of(client, made["id"])
    assert client.get(link).status_code == 200
    ApiKey.objects.filter(pk=new.key.pk).update(scopes=["exports:write", "users:read"])
    assert said(client.get(link)) == NOTHING
    ApiKey.objects.filter(pk=new.key.pk).update(revoked_at=timezone.now())
    assert client.get(link).status_code == 401


def test_a_member_who_becomes_an_analyst_loses_the_file_in_clear_and_keeps_the_masked_one(application, done):
    operator: Operator = operator_create(email="member@example.com", password=PASSWORD, name="Member")
    membership_set(operator=operator, application=application, role=Role.MANAGER)
    token = ApiClient("").post("auth/login", {"email": operator.email, "password": PASSWORD}).json()["data"]["access"]
    member = ApiClient(token, **{"x-application-id": str(application.pk)})
    masked = order(member, "users", masked=True)["id"]
    work()
    clear_link, masked_link = link_of(member, done), link_of(member, masked)
    assert member.get(clear_link).status_code == 200
    membership_set(operator=operator, application=application, role=Role.ANALYST)
    assert said(member.get(clear_link)) == NOTHING
    assert "Kim-Minji" not in body_of(member.get(masked_link)).decode()
    membership_set(operator=operator, application=application, role=Role.SUPPORT)
    assert member.get(masked_link).status_code == 403


def test_nobody_changes_or_deletes_the_record(server, done):
    for method in ("PATCH", "PUT", "DELETE"):
        assert server.request(method, f"exports/{done}").status_code == 405
    assert Export.objects.filter(pk=done).exists()
