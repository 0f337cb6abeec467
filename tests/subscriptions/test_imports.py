"""Files are uploaded, checked and applied: what they say is in the database, and nothing else is."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from apps.subscriptions import tasks
from apps.subscriptions.imports import steps
from apps.subscriptions.imports.models import Import
from apps.subscriptions.imports.services import import_apply, import_cancel
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.services import subscription_end, subscription_register, user_archive, user_create, user_erase
from apps.subscriptions.status import Setter
from automata_signal.errors import Conflict
from automata_signal.private_files import private_storage
from tests.api.world import rows
from tests.subscriptions.importing import applied, checked, counts, errors, rejected, upload, work

pytestmark = pytest.mark.django_db

PEOPLE = "external_id,properties.city,properties.age:number,properties.vip:boolean\na,Seoul,31,yes\nb,,,no\n"
ADDRESSES = (
    "type,address,external_id,enabled,country,language,tags.plan,tags.visits:number\n"
    "Email,Ann@Example.COM,ann,true,kr,KO_kr,pro,12\n"
    "SMS,+82 10-1234-5678,ann,,,,,\n"
    f"iosPush,{'AB' * 32},,no,,,,\n"
)


def properties(application) -> dict:
    return dict(AppUser.objects.for_application(application).values_list("external_id", "properties"))


def status_of(address_type: str) -> tuple[int, str, bool]:
    row = Subscription.with_archived.get(type=address_type)
    return row.subscription_status, row.status_source, row.is_archived


# --- Users -----------------------------------------------------------------------------------------------------------


def test_users_are_checked_and_only_then_applied(application):
    run = checked(application, "users", PEOPLE)
    assert (run.state, counts(run)) == ("checked", {"total": 2, "created": 2})
    assert properties(application) == {}
    import_apply(application=application, import_id=run.pk, by="somebody")
    run = work(run)
    assert (run.state, counts(run), run.check_counts) == ("done", {"total": 2, "created": 2}, run.counts)
    assert properties(application) == {"a": {"city": "Seoul", "age": 31, "vip": True}, "b": {"vip": False}}
    assert (run.requested_by, run.applied_by) == ("tests", "somebody")


def test_a_user_who_is_there_is_changed_by_what_is_given(application):
    user_create(application=application, external_id="a", properties={"city": "Busan", "shoe": 42})
    user_create(application=application, external_id="b", properties={"vip": False})
    run = applied(application, "users", PEOPLE)
    assert counts(run) == {"total": 2, "updated": 1, "unchanged": 1}
    assert properties(application)["a"] == {"city": "Seoul", "age": 31, "vip": True, "shoe": 42}


def test_a_user_who_is_there_is_left_alone_if_asked(application):
    user_create(application=application, external_id="a", properties={"city": "Busan"})
    run = applied(application, "users", PEOPLE, on_conflict="skip")
    assert counts(run) == {"total": 2, "created": 1, "skipped": 1}
    assert properties(application)["a"] == {"city": "Busan"}


def test_an_empty_cell_clears_only_if_asked(application):
    user_create(application=application, external_id="b", properties={"city": "Busan", "age": 3})
    applied(application, "users", PEOPLE)
    assert properties(application)["b"] == {"city": "Busan", "age": 3, "vip": False}
    applied(application, "users", PEOPLE, clear_empty=True)
    assert properties(application)["b"] == {"vip": False}


def test_an_archived_user_comes_back_as_if_new(application):
    user_archive(user=user_create(application=application, external_id="a", properties={"old": 1}))
    run = applied(
        application, "users", "external_id,created_at\na,2020-01-01T00:00:00Z\nnew,2020-01-01T00:00:00+09:00\n"
    )
    assert counts(run) == {"total": 2, "created": 1, "updated": 1}
    assert properties(application)["a"] == {}
    assert AppUser.objects.get(external_id="new").created_at.isoformat() == "2019-12-31T15:00:00+00:00"


def test_typed_properties_keep_their_type(application):
    header = "external_id,properties.a:json,properties.b:number,properties.c:text,properties.d.e"
    text = header + '\nx,"{""k"": [1, null]}",-1.5e3,007,z\n'
    applied(application, "users", text)
    assert properties(application)["x"] == {"a": {"k": [1, None]}, "b": -1500.0, "c": "007", "d.e": "z"}


# --- Subscriptions ---------------------------------------------------------------------------------------------------


def test_subscriptions_come_with_their_users_events_and_consent(application):
    run = applied(application, "subscriptions", ADDRESSES)
    assert (run.state, counts(run)) == ("done", {"total": 3, "created": 3})
    email, sms = Subscription.objects.get(type="Email"), Subscription.objects.get(type="SMS")
    assert (email.token, email.country_code, email.device_language) == ("Ann@example.com", "KR", "ko-KR")
    assert (email.tags, email.user.external_id, email.is_subscribed) == ({"plan": "pro", "visits": 12}, "ann", True)
    assert (sms.token, sms.subscription_status, sms.user) == ("+821012345678", 0, email.user)
    assert status_of("iOSPush") == (-2, "import", False)
    events = SubscriptionEvent.objects.order_by("channel", "event_type").values_list("channel", "event_type", "source")
    assert [event[:2] for event in events] == [
        *(("Email", "linked"), ("Email", "registered"), ("Email", "subscribed")),
        *(("SMS", "linked"), ("SMS", "registered"), ("iOSPush", "registered")),
    ]
    assert {event[2] for event in events} == {"import"}
    assert set(SubscriptionEvent.objects.values_list("reason", flat=True)) == {f"import {run.pk}"}
    assert set(SubscriptionEvent.objects.values_list("position", flat=True)) != {None}


def test_the_same_file_again_changes_nothing(application):
    applied(application, "subscriptions", ADDRESSES)
    before = rows()
    run = applied(application, "subscriptions", ADDRESSES)
    assert counts(run) == {"total": 3, "unchanged": 3}
    after = rows()
    assert {name for name in after if before[name] != after[name]} == {"subscriptions_import"}


def test_what_is_there_is_changed_as_the_api_would(application, server):
    register = {"type": "Email", "token": "Ann@example.com", "enabled": True, "tags": {"plan": "free", "old": 1}}
    assert server.post("subscriptions", {**register, "external_id": "somebody"}).status_code == 201
    run = applied(application, "subscriptions", ADDRESSES)
    assert counts(run) == {"total": 3, "created": 2, "updated": 1}
    email = Subscription.objects.get(type="Email")
    assert (email.tags, email.user.external_id) == ({"plan": "pro", "old": 1, "visits": 12}, "ann")
    changes = SubscriptionEvent.objects.filter(subscription=email, source="import").order_by("event_type")
    assert list(changes.values_list("event_type", flat=True)) == ["linked", "unlinked"]


@pytest.mark.parametrize("status", [-2, -22, -31, -45, -98])
def test_who_has_ended_is_not_subscribed_again(application, status):
    subscription_register(
        application=application, type="Email", token="Ann@example.com", setter=Setter.PERSON, subscription_status=status
    )
    run = applied(application, "subscriptions", ADDRESSES)
    assert counts(run) == {"total": 3, "created": 2, "updated": 1, "kept": 1}
    assert status_of("Email") == (status, "api", False)
    assert Subscription.objects.get(type="Email").tags == {"plan": "pro", "visits": 12}
    run = applied(application, "subscriptions", ADDRESSES, resubscribe=True)
    assert (status_of("Email"), run.resubscribe) == ((1, "import", False), True)


def test_whom_a_provider_has_given_up_is_not_subscribed_again(application):
    row, _ = subscription_register(application=application, type="Email", token="Ann@example.com", setter=Setter.PERSON)
    Subscription.objects.filter(pk=row.pk).update(subscription_status=-42, status_source="provider")
    assert applied(application, "subscriptions", ADDRESSES).kept_rows == 1
    assert status_of("Email") == (-42, "provider", False)


@pytest.mark.parametrize("status", [0, -99])
def test_who_was_never_asked_is_subscribed_by_the_files_consent(application, status):
    subscription_register(
        application=application, type="Email", token="Ann@example.com", setter=Setter.PERSON, subscription_status=status
    )
    assert applied(application, "subscriptions", ADDRESSES).kept_rows == 0
    assert status_of("Email") == (1, "import", False)


def test_an_archived_subscription_is_left_alone_unless_asked(application):
    row, _ = subscription_register(
        application=application, type="Email", token="Ann@example.com", setter=Setter.PERSON, enabled=True
    )
    subscription_end(subscription=row, setter=Setter.PERSON)
    run = applied(application, "subscriptions", ADDRESSES)
    assert counts(run) == {"total": 3, "created": 2, "skipped": 1, "kept": 1}
    assert status_of("Email") == (-2, "api", True)
    applied(application, "subscriptions", ADDRESSES, resubscribe=True)
    assert status_of("Email") == (1, "import", False)


def test_a_file_ends_subscriptions_whoever_had_subscribed_them(application):
    row, _ = subscription_register(
        application=application, type="SMS", token="+821012345678", setter=Setter.PERSON, enabled=True
    )
    applied(application, "subscriptions", "address,status\n+821012345678,-31\n", type="SMS")
    assert status_of("SMS") == (-31, "import", False)
    assert SubscriptionEvent.objects.filter(subscription=row, event_type="unsubscribed", source="import").count() == 1


def test_a_provider_may_end_what_was_imported_although_it_knew_it_before(application):
    """No device gave us the token: a provider that had seen it die earlier is right (APNs 410)."""
    applied(application, "subscriptions", ADDRESSES)
    assert Subscription.objects.get(type="iOSPush").token_registered_at.year == 1970


def test_a_table_of_one_type_needs_no_column_for_it(application):
    text = "E-Mail;Notes;opted in\nann@example.com;x;1\n"
    mapping = {"E-Mail": "token", "Notes": "", "opted in": "enabled"}
    run = applied(application, "subscriptions", text, type="Email", mapping=mapping)
    assert (counts(run), run.delimiter) == ({"total": 1, "created": 1}, ";")
    assert status_of("Email") == (1, "import", False)


# --- Refused lines ---------------------------------------------------------------------------------------------------


def test_each_refused_line_says_what_is_wrong_under_its_columns_name(application):
    text = (
        "kind of it,where,whose,enabled,country,tags.n:number,test_type\n"
        "Email,no address,,,,,\n"
        "Fax,1234,,,,,\n"
        "SMS,010-1234-5678,,,,,\n"
        f"iOSPush,{'zz' * 32},,,,,\n"
        "Email,a@example.com,erased:x,,,,\n"
        "Email,b@example.com,,maybe,KOR,many,x\n"
        "Email,c@example.com,,,XX,,\n"
        "Email,d@example.com\n"
        "Email,e@example.com,,,,,7\n"
        f"Email,f@example.com,{'x' * 256},,,,\n"
    )
    mapping = {"kind of it": "type", "where": "address", "whose": "external_id"}
    run = checked(application, "subscriptions", text, mapping=mapping)
    found = errors(run)
    assert run.rejected_rows == run.total_rows == len(found) == 10
    assert found[2] == "where: is not an e-mail address"
    assert found[3].startswith("kind of it: must be one of iOSPush")
    assert found[4].startswith("where: is not a phone number in E.164 form")
    assert found[5].startswith("where: is not an APNs device token")
    assert found[6] == "whose: must not start with erased:"
    assert "enabled: must be true or false" in found[7]
    assert "tags.n:number: must be a number" in found[7]
    assert "test_type: must be a whole number" in found[7]
    assert found[8].startswith("country: is not an ISO 3166")
    assert found[9] == "line: has 2 cells where the header has 7"
    assert found[10].startswith("test_type: must be 0")
    assert found[11].startswith("whose: must have 1 to 255 characters")


def test_tags_that_would_be_too_many_refuse_the_line_and_make_no_user(application):
    tags = {f"t{n}": n for n in range(100)}
    subscription_register(application=application, type="Email", token="a@example.com", setter=Setter.PERSON, tags=tags)
    run = applied(application, "subscriptions", "type,token,external_id,tags.one\nEmail,a@example.com,ann,more\n")
    assert errors(run) == {2: "tags: would be 101: a subscription has at most 100"}
    assert not AppUser.objects.exists()


def test_a_repeated_row_is_refused_and_names_the_first(application, monkeypatch):
    monkeypatch.setattr(steps, "LINES_AT_ONCE", 2)
    run = applied(application, "users", "external_id,properties.n\nx,\na,1\nb,2\na,3\nx,4\nb,2\n,5\n")
    assert errors(run) == {
        5: "external_id: stands on line 3 of the file already",
        6: "external_id: stands on line 2 of the file already",
        7: "external_id: stands on line 4 of the file already",
        8: "external_id: must have 1 to 255 characters",
    }
    assert properties(application) == {"x": {}, "a": {"n": "1"}, "b": {"n": "2"}}


def test_the_rejects_file_can_be_opened_in_a_spreadsheet_and_corrected(application):
    formula = '=HYPERLINK("http://x","y")'
    quoted = formula.replace('"', '""')
    text = f'type,token,tags.note,tags.n:number\nEmail,a@example.com,"{quoted}",many\nSMS,+821012345678,-x,no\n'
    run = checked(application, "subscriptions", text)
    header, *lines = rejected(run)
    assert header == ["import_line", "import_error", "type", "token", "tags.note", "tags.n:number"]
    assert lines[0][4] == "'" + formula
    assert lines[1][3:5] == ["+821012345678", "'-x"]
    corrected = "\n".join(
        ",".join(f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in row) for row in [header, *lines]
    )
    corrected = corrected.replace('"many"', '"1"').replace('"no"', '"2"')
    assert counts(applied(application, "subscriptions", corrected)) == {"total": 2, "created": 2}
    notes = dict(Subscription.objects.values_list("type", "tags"))
    assert notes == {"Email": {"note": formula, "n": 1}, "SMS": {"note": "-x", "n": 2}}


def test_a_rejects_file_that_is_wrong_again_has_its_columns_once(application):
    again = checked(application, "users", "import_line,import_error,external_id\n7,bad,\n8,,b\n8,,b\n")
    assert rejected(again)[0] == ["import_line", "import_error", "external_id"]
    assert rejected(again)[1:] == [
        ["2", "external_id: must have 1 to 255 characters", ""],
        ["4", "external_id: stands on line 3 of the file already", "b"],
    ]


def test_too_many_refused_lines_are_the_wrong_file(application, monkeypatch):
    monkeypatch.setattr(steps, "REJECTED_MAX", 2)
    run = applied(application, "users", "external_id\n" + "erased:x\n" * 3)
    assert (run.state, AppUser.objects.count()) == ("failed", 0)
    assert "is it the right file?" in run.last_error


# --- The API ---------------------------------------------------------------------------------------------------------


def post_file(server, content: bytes, **fields):
    file = SimpleUploadedFile("../a\\people.csv", content)
    client = Client(raise_request_exception=False, headers=server._headers)
    return client.post("/api/v1/imports", {"kind": "users", "file": file, **fields})


def test_a_file_goes_its_whole_way_by_the_api(server, application):
    answer = post_file(server, b"E-Mail,n\na,1\n,2\n", mapping='{"E-Mail": "external_id", "n": "properties.n:number"}')
    assert answer.status_code == 202, answer.content
    import_id = answer.json()["data"]["id"]
    assert answer.json()["data"]["file_name"] == "people.csv"
    tasks.run_import(import_id)
    found = server.get(f"imports/{import_id}").json()["data"]
    assert (found["state"], found["percent"], found["has_rejects"]) == ("checked", 100, True)
    assert found["first_rejects"] == [{"line": 3, "error": "E-Mail: must have 1 to 255 characters"}]
    assert server.post(f"imports/{import_id}/apply").status_code == 202
    tasks.run_import(import_id)
    found = server.get("imports").json()["data"][0]
    assert (found["state"], found["counts"]["created"], found["check_counts"]["created"]) == ("done", 1, 1)
    assert properties(application) == {"a": {"n": 1}}
    assert server.post(f"imports/{import_id}/apply").status_code == 409


def test_the_rejects_are_downloaded_by_a_link_that_expires(server, application, monkeypatch):
    run = checked(application, "users", "external_id\n=1+1\nerased:x\n")
    link = server.get(f"imports/{run.pk}/rejects").json()["data"]["url"]
    assert link.startswith("http://localhost:8000/downloads?token=")
    token = link.partition("?token=")[2]
    answer = Client().get(f"/downloads?token={token}")
    body = b"".join(answer.streaming_content).decode("utf-8-sig")
    assert body == "import_line,import_error,external_id\r\n3,external_id: must not start with erased:,erased:x\r\n"
    assert answer["Content-Disposition"] == f'attachment; filename="rejects-{run.pk}.csv"'
    assert answer["Cache-Control"] == "private, no-store"
    for wrong in ("", "x", token[:-1], token + "A", "%00", "A" * 10_000):
        assert Client().get(f"/downloads?token={wrong}").status_code == 404, wrong
    assert Client().post(f"/downloads?token={token}").status_code == 405
    monkeypatch.setattr("automata_signal.downloads.time.time", lambda: timezone.now().timestamp() + 901)
    assert Client().get(f"/downloads?token={token}").status_code == 410


def test_a_download_ends_with_its_file(server, application):
    run = checked(application, "users", "external_id\nerased:x\n")
    link = server.get(f"imports/{run.pk}/rejects").json()["data"]["url"]
    Import.objects.update(updated_at=timezone.now() - timedelta(days=8))
    tasks.forget_imports()
    assert Client().get(link.removeprefix("http://localhost:8000")).status_code == 404
    assert server.get(f"imports/{run.pk}/rejects").status_code == 409


@pytest.mark.parametrize(
    ("content", "fields", "where"),
    [
        (b"", {}, "file"),
        (b"external_id\n", {}, "file"),
        (b"name\nx\n", {}, "columns.name"),
        (b"external_id,external_id\nx,y\n", {}, "file"),
        (b"external_id,\nx,y\n", {}, "file"),
        (b"external_id\nx\n", {"mapping": "[]"}, "mapping"),
        (b"external_id\nx\n", {"mapping": '{"name": "external_id"}'}, "mapping.name"),
        (b"external_id\nx\n", {"mapping": "[" * 50_000}, "mapping"),
        (b"external_id\nx\n", {"kind": "cats"}, "kind"),
        (b"external_id\nx\n", {"type": "Email"}, "type"),
        (b"external_id\nx\n", {"surprise": "1"}, "surprise"),
        (b"external_id\nx\n", {"delimiter": "|"}, "delimiter"),
    ],
)
def test_what_is_wrong_with_an_upload_is_named_and_nothing_is_kept(server, content, fields, where):
    before = sorted(private_storage().listdir("imports")[1]) if private_storage().exists("imports") else []
    answer = post_file(server, content, **fields)
    assert answer.status_code == 400, answer.content
    assert [problem["field"] for problem in answer.json()["error"]["details"]][:1] == [where]
    after = sorted(private_storage().listdir("imports")[1]) if private_storage().exists("imports") else []
    assert (before, Import.objects.count()) == (after, 0)


def test_a_file_that_is_too_large_is_refused(server, settings):
    settings.IMPORT_FILE_MAX_BYTES = 100
    assert post_file(server, b"external_id\n" + b"x" * 200).status_code == 413
    assert post_file(server, b"external_id\n" + b"x" * 2_000_000).status_code == 413
    assert Import.objects.count() == 0


def test_a_few_imports_at_a_time(server):
    for _ in range(10):
        assert post_file(server, b"external_id\nx\n").status_code == 202
    answer = post_file(server, b"external_id\nx\n")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "TOO_MANY_IMPORTS")


# --- Its end ---------------------------------------------------------------------------------------------------------


def test_an_import_is_stopped(application):
    run = upload(application, "users", PEOPLE)
    import_cancel(application=application, import_id=run.pk, by="somebody")
    run = work(run)
    assert (run.state, run.ended_by, run.total_rows) == ("canceled", "somebody", 0)
    with pytest.raises(Conflict):
        import_cancel(application=application, import_id=run.pk, by="somebody")
    with pytest.raises(Conflict):
        import_apply(application=application, import_id=run.pk, by="somebody")


def test_the_file_goes_when_it_is_applied_and_the_rejects_after_a_week(
    application, settings, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        run = upload(application, "users", PEOPLE + ",,,\n,Seoul,,\n", mode="apply")
        stored = run.stored_as
        assert b"Seoul" not in private_storage().open(stored).read()
        run = work(run)
    assert not private_storage().exists(stored)
    assert (run.stored_as, run.has_rejects) == ("", True)
    Import.objects.update(updated_at=timezone.now() - timedelta(days=8))
    with django_capture_on_commit_callbacks(execute=True):
        tasks.forget_imports()
    run.refresh_from_db()
    assert run.deleted_at is not None
    assert run.reject_parts == []
    assert not private_storage().exists(f"imports/{run.pk}")


def test_what_nobody_applies_is_canceled_and_deleted(application, django_capture_on_commit_callbacks):
    run = checked(application, "users", PEOPLE)
    Import.objects.update(updated_at=timezone.now() - timedelta(days=8))
    with django_capture_on_commit_callbacks(execute=True):
        tasks.forget_imports()
    assert not private_storage().exists(run.stored_as)
    run.refresh_from_db()
    assert (run.state, run.last_error) == ("canceled", "It was not applied within 7 days.")


def test_an_erased_person_is_not_brought_back_by_a_file(application, django_capture_on_commit_callbacks):
    done = applied(application, "subscriptions", ADDRESSES + "Email,,,,,,,\n")
    assert done.has_rejects
    people = checked(application, "users", "external_id\nann\nbob\n")
    addresses = checked(application, "subscriptions", ADDRESSES)
    with django_capture_on_commit_callbacks(execute=True):
        user_erase(user=AppUser.objects.get(external_id="ann"))
    done.refresh_from_db()
    assert done.deleted_at is not None
    for run in (people, addresses):
        import_apply(application=application, import_id=run.pk, by="tests")
    assert errors(work(people)) == {2: "external_id: belongs to somebody who was erased after the upload"}
    assert list(errors(work(addresses))) == [2, 3]
    assert list(AppUser.objects.values_list("external_id", flat=True)) == ["bob"]


def test_the_record_stays_and_nobody_changes_it(server, application):
    run = applied(application, "users", PEOPLE)
    for method in ("PATCH", "PUT", "DELETE"):
        assert server.request(method, f"imports/{run.pk}", {}).status_code == 405
    shown = json.dumps(server.get(f"imports/{run.pk}").json()["data"])
    assert re.search("Seoul|stored_as", shown) is None
