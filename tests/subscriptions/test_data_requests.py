"""A person asks for a copy of their data, or to be forgotten: in steps, after a killed worker too, with a proof."""

from __future__ import annotations

import io
import json
import os
import time
import zipfile
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.messaging.models import Message
from apps.subscriptions.data_requests import running, services
from apps.subscriptions.data_requests.models import DataRequest
from apps.subscriptions.erasure import Page, readers
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.preferences.consents import Choices, MarketingChoice, preferences_set
from apps.subscriptions.preferences.models import ActiveHours, MarketingConsent
from apps.subscriptions.preferences.subjects import Subject
from apps.subscriptions.selectors import test_users as users_of_test_group
from apps.subscriptions.services import subscription_register, user_update, users_set_test
from apps.subscriptions.status import Setter
from apps.tenants.audit.models import AuditEvent
from apps.tenants.models import Application
from automata_signal.errors import Conflict, NotFound, ValidationFailed
from automata_signal.ids import new_id
from automata_signal.private_files import private_storage, save_sealed
from tests.factories import make_messages, make_user

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def application() -> Application:
    return Application.objects.create(name="Shop", time_zone="Asia/Seoul")


@pytest.fixture(autouse=True)
def private_files(settings, tmp_path):
    settings.PRIVATE_FILES_DIR = tmp_path
    settings.STORAGES = {**settings.STORAGES, "private": {**settings.STORAGES["private"]}}
    settings.STORAGES["private"]["OPTIONS"] = {"location": str(tmp_path)}
    return tmp_path


@pytest.fixture
def person(application) -> AppUser:
    user = make_user(application, "ann-77", city="Seoul")
    email, _ = subscription_register(
        application=application, type="Email", token="ann@example.com", setter=Setter.PERSON, user=user, enabled=True
    )
    preferences_set(
        subject=Subject.of_user(user), choices=Choices({"email": MarketingChoice(given=True)}), source="api"
    )
    rows = make_messages(application, ["successful"] * 5)
    Message.objects.filter(pk__in=[row.pk for row in rows]).update(
        subscription=email, user=user, title="Hello Ann", body="Your order"
    )
    return user


def ask(person: AppUser, kind: str, **more) -> DataRequest:
    return services.data_request_create(
        application=person.application, user=person, kind=kind, by="support@example.com", **more
    )


def work(request: DataRequest) -> DataRequest:
    while running.data_requests_run():
        pass
    request.refresh_from_db()
    return request


def copy_of(request: DataRequest) -> dict[str, list]:
    download = services.open_copy(request.pk)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(download.chunks)))
    assert archive.testzip() is None
    return {name: json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")}


def test_a_copy_has_everything_and_ends(person, monkeypatch):
    monkeypatch.setattr("apps.messaging.erasing.PAGE_ROWS", 2)
    request = work(ask(person, "export", reference="T-1"))
    assert (request.state, request.percent) == ("done", 100)
    found = copy_of(request)
    assert set(found) == {f"{name}.json" for name in readers()}
    assert found["profile.json"][0]["external_id"] == "ann-77"
    assert found["subscriptions.json"][0]["token"] == "ann@example.com"
    assert [row["content"]["title"] for row in found["messages.json"]] == ["Hello Ann"] * 5
    assert len({row["id"] for row in found["messages.json"]}) == 5
    assert found["choices.json"][0]["consent_events"][0]["event_type"] == "given"
    assert request.result["messages"] == 5
    assert sum(part["section"] == "messages" for part in request.parts) == 3
    names = [part["name"] for part in request.parts]
    assert b"ann@example.com" not in b"".join(private_storage().open(name).read() for name in names)
    DataRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert running.copies_forget() == 1
    request.refresh_from_db()
    assert not request.has_file
    assert services.open_copy(request.pk) is None
    assert not any(private_storage().exists(name) for name in names)


def test_a_copy_goes_on_after_a_worker_that_died(person, monkeypatch):
    monkeypatch.setattr("apps.messaging.erasing.PAGE_ROWS", 2)
    request = ask(person, "export")
    sections = list(readers())
    while request.section < sections.index("messages"):
        assert running.data_request_step(request.pk)
        request.refresh_from_db()
    assert running.data_request_step(request.pk)  # one page of three
    request.refresh_from_db()

    written = running.write_part

    def killed(*args):
        written(*args)
        raise SystemExit  # after the file, before the commit

    monkeypatch.setattr(running, "write_part", killed)
    with pytest.raises(SystemExit):
        running.data_request_step(request.pk)
    monkeypatch.setattr(running, "write_part", written)
    request.refresh_from_db()
    assert (request.state, len(request.parts)) == ("running", sections.index("messages") + 1)
    assert running.data_requests_continue()
    messages = copy_of(work(request))["messages.json"]
    assert len({row["id"] for row in messages}) == len(messages) == 5


def test_an_erasure_says_what_there_was_and_that_nothing_is_left(person):
    copied = work(ask(person, "export", reference="T-1"))
    parts = [part["name"] for part in copied.parts]
    request = ask(person, "erase", reference="Letter 9")
    percents = []
    while request.is_working:
        assert running.data_request_step(request.pk)
        request.refresh_from_db()
        percents.append(request.percent)
    assert percents == [33, 66, 100]
    assert request.result["found"] == {
        "personal_fields": 2,
        "addresses": 1,
        "choices": 1,
        "messages": 5,
        "inbox": 0,
    }
    assert set(request.result["left"].values()) == {0}
    person.refresh_from_db()
    assert person.external_id == f"erased:{person.pk}"
    assert not MarketingConsent.objects.exists()
    assert Subscription.with_archived.get(user=person).token == ""
    copied.refresh_from_db()
    assert (copied.parts, copied.reference) == ([], "")
    assert not any(private_storage().exists(name) for name in parts)
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(r)::text FROM subscriptions_datarequest r")
        proof = "".join(text for (text,) in cursor.fetchall())
        cursor.execute("SELECT row_to_json(a)::text FROM tenants_auditevent a WHERE action LIKE 'data_request%'")
        told = "".join(text for (text,) in cursor.fetchall())
    assert "ann" not in proof + told
    actions = AuditEvent.objects.order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["data_request.export", "data_request.done", "data_request.erase", "data_request.done"]


def test_an_erasure_whose_worker_died_is_done_once(person, monkeypatch):
    request = ask(person, "erase")
    running.data_request_step(request.pk)
    erase = running.user_erase

    def killed(**given):
        erase(**given)
        raise SystemExit

    monkeypatch.setattr(running, "user_erase", killed)
    with pytest.raises(SystemExit):
        running.data_request_step(request.pk)
    person.refresh_from_db()
    assert person.external_id == "ann-77"  # rolled back with the step
    monkeypatch.setattr(running, "user_erase", erase)
    assert work(request).state == "done"
    person.refresh_from_db()
    assert person.external_id == f"erased:{person.pk}"


def test_what_fails_again_and_again_fails_and_can_be_tried_again(person, monkeypatch):
    request = ask(person, "export")

    def broken(user, ids, after) -> Page:
        raise RuntimeError("boom")

    monkeypatch.setattr(running, "readers", lambda: {"profile": broken})
    for _ in range(running.ATTEMPTS):
        with pytest.raises(RuntimeError):
            running.data_requests_run()
    request.refresh_from_db()
    assert request.state == "failed"
    assert not running.data_requests_continue()
    monkeypatch.undo()
    services.data_request_retry(application=person.application, request_id=request.pk, by="support@example.com")
    assert work(request).state == "done"


def fail_at(request: DataRequest, section: str, monkeypatch) -> None:
    """The pages before are written, this one is written and never noted, again and again."""
    written = running.write_part

    def broken(request_id, number, name, rows):
        part = written(request_id, number, name, rows)
        if name == section:
            raise RuntimeError("boom")
        return part

    monkeypatch.setattr(running, "write_part", broken)
    for _ in range(running.ATTEMPTS):
        with pytest.raises(RuntimeError):
            running.data_requests_run()
    monkeypatch.setattr(running, "write_part", written)
    request.refresh_from_db()
    assert request.state == "failed"


def files_of(request: DataRequest) -> list[str]:
    folder = private_storage().listdir("data-requests")[1]
    return [name for name in folder if name.startswith(str(request.pk))]


def test_what_there_is_of_a_copy_that_failed_goes_in_time_and_the_next_try_is_whole(person, monkeypatch):
    request = ask(person, "export")
    fail_at(request, "messages", monkeypatch)
    assert len(files_of(request)) > 1
    assert running.copies_forget() == 0
    DataRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert running.copies_forget() == 1
    assert files_of(request) == []
    assert running.copies_forget() == 0
    services.data_request_retry(application=person.application, request_id=request.pk, by="support@example.com")
    found = copy_of(work(request))
    assert set(found) == {f"{name}.json" for name in readers()}
    assert len(found["messages.json"]) == request.result["messages"] == 5


def test_a_copy_that_is_tried_again_goes_on_and_is_not_deleted_under_way(person, monkeypatch):
    request = ask(person, "export")
    fail_at(request, "messages", monkeypatch)
    services.data_request_retry(application=person.application, request_id=request.pk, by="support@example.com")
    request.refresh_from_db()
    assert (request.section, request.expires_at) == (list(readers()).index("messages"), None)
    assert len(copy_of(work(request))["messages.json"]) == 5


@pytest.mark.parametrize("how", ["cancel", "erase"])
def test_a_page_that_a_killed_worker_has_written_goes_with_its_copy(person, monkeypatch, how):
    request = ask(person, "export")
    running.data_request_step(request.pk)
    written = running.write_part

    def killed(*args):
        written(*args)
        raise SystemExit  # after the file, before the commit

    monkeypatch.setattr(running, "write_part", killed)
    with pytest.raises(SystemExit):
        running.data_request_step(request.pk)
    monkeypatch.setattr(running, "write_part", written)
    assert len(files_of(request)) == 2
    if how == "cancel":
        services.data_request_cancel(application=person.application, request_id=request.pk, by="x")
    else:
        erasure = ask(person, "erase")
        for _ in range(running.PARTS_OF_ERASURE):
            running.data_request_step(erasure.pk)
    assert files_of(request) == []


def test_a_copy_has_what_is_known_by_devices_of_before_and_after_the_log_in(person, application):
    phone, _ = subscription_register(
        application=application, type="iOSPush", token="a" * 64, setter=Setter.PERSON, enabled=True
    )
    choices = Choices({"push": MarketingChoice(given=True, evidence="on the phone")})
    preferences_set(subject=Subject.of_subscription(phone), choices=choices, source="api")
    subscription_register(application=application, type="iOSPush", token="a" * 64, setter=Setter.PERSON, user=person)
    left, _ = subscription_register(
        application=application, type="iOSPush", token="b" * 64, setter=Setter.PERSON, user=person, enabled=True
    )
    other = make_user(application, "bob-1")
    subscription_register(application=application, type="iOSPush", token="b" * 64, setter=Setter.PERSON, user=other)
    ActiveHours.objects.create(application=application, subject_id=person.pk, hours=[0] * 23 + [7], best_hour=23)
    ActiveHours.objects.create(application=application, subject_id=other.pk, hours=[9] * 24, best_hour=1)
    found = copy_of(work(ask(person, "export")))
    assert str(left.pk) in {row["subscription_id"] for row in found["subscription_events.json"]}
    of_bob = SubscriptionEvent.objects.filter(user=other).values_list("pk", flat=True)
    assert not {str(key) for key in of_bob} & {row["id"] for row in found["subscription_events.json"]}
    said = found["choices.json"][0]
    assert "on the phone" in {event["evidence"] for event in said["consent_events"]}
    assert [row["hours"][-1] for row in said["active_hours"]] == [7]


def test_the_same_is_not_asked_twice_and_nobody_elses_person_is_named(person):
    request = ask(person, "export")
    with pytest.raises(Conflict):
        ask(person, "export")
    stranger = Application.objects.create(name="Stranger")
    with pytest.raises(NotFound):
        services.data_request_create(application=stranger, user=person, kind="erase", by="x")
    with pytest.raises(NotFound):
        services.data_request_cancel(application=stranger, request_id=request.pk, by="x")
    canceled = services.data_request_cancel(application=person.application, request_id=request.pk, by="x")
    assert canceled.state == "canceled"
    with pytest.raises(Conflict):
        services.data_request_link(application=person.application, request_id=request.pk, by="x", ip=None)
    ask(person, "export")


def test_a_file_that_no_request_names_any_more_goes_after_a_day(person):
    request = work(ask(person, "export"))
    lost = save_sealed(f"data-requests/{request.pk}-99", [b"of a worker that was killed"])
    stranger = save_sealed(f"data-requests/{new_id()}-0", [b"of a request that is gone"])
    new = save_sealed(f"data-requests/{new_id()}-0", [b"just being written"])
    kept = [part["name"] for part in request.parts]
    yesterday = time.time() - 25 * 3_600
    for name in (lost, stranger, *kept):
        os.utime(private_storage().path(name), (yesterday, yesterday))
    running.copies_forget()
    assert [name for name in (lost, stranger, new, *kept) if private_storage().exists(name)] == [new, *kept]


def test_many_are_asked_for_by_a_list(person, application):
    for number in range(3):
        make_user(application, f"u-{number}")
    ask(person, "erase")
    named = services.external_ids_of_csv('external_id,name\r\n"u-0",x\nu-1\n\nann-77\nnobody\nu-1\n')
    assert named == ["u-0", "u-1", "ann-77", "nobody"]
    assert services.external_ids_of_csv('"kim,1",x\n') == ["kim,1"]
    assert services.external_ids_of_lines(' kim,1 \r\n"u-0"\n\nkim,1') == ["kim,1", '"u-0"']
    order = services.data_requests_create(application=application, kind="erase", by="x", external_ids=named)
    assert len(order.requests) == 2
    assert (order.unknown, order.open_already) == (["nobody"], 1)
    assert {one.order_id for one in order.requests} == {order.order_id}
    while running.data_requests_run():
        pass
    assert list(AppUser.objects.values_list("external_id", flat=True)) == ["u-2"]
    with pytest.raises(ValidationFailed):
        services.data_requests_create(application=application, kind="erase", by="x")


def test_the_test_group_is_read_by_its_application(person, application):
    other = make_user(Application.objects.create(name="Stranger"), "theirs")
    assert users_set_test(application=application, user_ids=[person.pk, other.pk], is_test=True) == 1
    user_update(user=other, is_test=True)
    assert list(users_of_test_group(application)) == [person]
    work(ask(person, "erase"))
    assert list(users_of_test_group(application)) == []
