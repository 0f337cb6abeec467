"""A view of our own stands for the routes that send: it makes a key, and waits where a test tells it to."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import ClassVar

import pytest
from django.db import connection
from django.urls import path
from django.utils import timezone
from rest_framework.response import Response

from apps.tenants.idempotency import idempotent
from apps.tenants.models import ApiKey, Application, IdempotencyRecord
from apps.tenants.services import key_create
from apps.tenants.tasks import forget_idempotency_keys
from apps.tenants.views import SignalView
from automata_signal.api import SignalResponse
from automata_signal.errors import ValidationFailed
from tests.conftest import ApiClient


class Gate:
    """Where the first request stops, inside its transaction, until the test lets it go."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()


gate: Gate | None = None


class EffectView(SignalView):
    scopes: ClassVar = {"POST": "messages:send"}

    @idempotent
    def post(self, request, **kwargs):
        new = key_create(application=self.application, name="effect", kind="publishable")
        if gate is not None and not gate.entered.is_set():
            gate.entered.set()
            assert gate.open.wait(20)
        if request.data.get("raise"):
            raise ValidationFailed.of("raise", "is refused")
        if request.data.get("answer"):
            return Response({"no": True}, status=409)
        if request.data.get("crash"):
            raise RuntimeError("a bug")
        return SignalResponse({"id": new.key.pk, "at": new.key.created_at}, meta={"extra": 1}, status=201)


urlpatterns = [path("effects", EffectView.as_view()), path("effects/<str:name>", EffectView.as_view())]
pytestmark = pytest.mark.urls(__name__)


def effects() -> int:
    return ApiKey.objects.filter(name="effect").count()


def send(client: ApiClient, body=None, key: str | None = "k1", path: str = "/effects"):
    return client.post(path, body or {"a": 1, "b": 2}, **({"idempotency-key": key} if key is not None else {}))


def test_the_same_request_is_done_once_and_answered_twice(server):
    first, second = send(server), send(server, {"b": 2, "a": 1})

    assert effects() == 1
    assert first.status_code == second.status_code == 201
    assert first.json()["data"] == second.json()["data"]
    assert first.json()["meta"]["extra"] == second.json()["meta"]["extra"] == 1
    assert "Idempotency-Replayed" not in first
    assert second["Idempotency-Replayed"] == "true"


def test_without_the_header_every_request_is_done(server):
    send(server, key=None)
    send(server, key=None)
    assert effects() == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(
    "other", [{"body": {"a": 2}}, {"body": {"a": 1, "b": "2"}}, {"path": "/effects/x"}, {"path": "/effects?dry=1"}]
)
def test_another_body_or_route_under_the_same_key_is_a_conflict(server, other):
    send(server)
    answer = send(server, **other)
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert effects() == 1


def test_applications_do_not_share_keys(server, stranger):
    first, other = send(server), send(stranger)
    assert first.json()["data"]["id"] != other.json()["data"]["id"]
    assert "Idempotency-Replayed" not in other


@pytest.mark.parametrize(("body", "status"), [({"raise": 1}, 400), ({"answer": 1}, 409), ({"crash": 1}, 500)])
def test_a_refusal_changes_nothing_and_is_not_kept(server, body, status):
    assert send(server, body).status_code == status
    assert effects() == 0
    assert not IdempotencyRecord.objects.exists()
    assert send(server).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "é", "\x7f"])
def test_a_key_that_is_none_is_refused_by_the_name_of_its_header(server, key):
    answer = send(server, key=key)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "Idempotency-Key"
    assert effects() == 0


@pytest.mark.parametrize("key", ["x", "x" * 255, 'a "quoted" ~ key'])
def test_any_printable_key_will_do(server, key):
    assert send(server, key=key).status_code == 201


def test_old_keys_are_forgotten_and_young_ones_kept(server, settings):
    send(server, key="old")
    send(server, key="young")
    age = timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS, seconds=1)
    IdempotencyRecord.objects.filter(key="old").update(created_at=timezone.now() - age)

    forget_idempotency_keys()

    assert [record.key for record in IdempotencyRecord.objects.all()] == ["young"]


# --- Two at once -------------------------------------------------------------------------------------------------


@contextmanager
def two_at_once(client: ApiClient, first_body: dict, second_body: dict):
    """The first request stands inside its transaction while the second waits on the index; yields both answers."""
    global gate
    gate = Gate()
    answers: dict[str, object] = {}

    def call(name: str, body: dict) -> None:
        try:
            answers[name] = send(client, body)
        finally:
            connection.close()

    first = threading.Thread(target=call, args=("first", first_body))
    second = threading.Thread(target=call, args=("second", second_body))
    try:
        first.start()
        assert gate.entered.wait(20)
        second.start()
        wait_until_one_waits_for_a_lock()
        assert "second" not in answers
        gate.open.set()
        first.join(20)
        second.join(20)
        yield answers["first"], answers["second"]
    finally:
        gate.open.set()
        gate = None


def wait_until_one_waits_for_a_lock() -> None:
    for _ in range(400):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
            if cursor.fetchone()[0]:
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits for the first request's transaction")


@pytest.fixture
def live_server_key(transactional_db) -> ApiClient:
    application = Application.objects.create(name="Shop")
    return ApiClient(key_create(application=application, name="server", kind="secret").plaintext)


def test_of_two_at_once_the_second_waits_and_gets_the_first_answer(live_server_key):
    body = {"same": True}
    with two_at_once(live_server_key, body, body) as (first, second):
        assert (first.status_code, second.status_code) == (201, 201)
        assert second["Idempotency-Replayed"] == "true"
        assert first.json()["data"] == second.json()["data"]
    assert effects() == 1


def test_of_two_at_once_the_second_is_done_if_the_first_fails(live_server_key):
    with two_at_once(live_server_key, {"raise": 1}, {"same": True}) as (first, second):
        assert (first.status_code, second.status_code) == (400, 201)
        assert "Idempotency-Replayed" not in second
    assert effects() == 1
