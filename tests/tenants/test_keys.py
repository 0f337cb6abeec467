from __future__ import annotations

import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from apps.tenants.access import key_digest, known_keys
from apps.tenants.models import ApiKey, KeyKind
from apps.tenants.scopes import SCOPES
from apps.tenants.services import key_create, key_revoke, key_rotate
from automata_signal.errors import Conflict, Forbidden, ValidationFailed
from tests.conftest import ApiClient


def code(answer) -> str:
    return answer.json()["error"]["code"]


def fields(answer) -> list[str]:
    return [problem["field"] for problem in answer.json()["error"]["details"]]


# --- What a key is -----------------------------------------------------------------------------------------------


def test_only_the_digest_of_a_key_is_stored(application):
    new = key_create(application=application, name="server", kind=KeyKind.SECRET)

    assert new.plaintext.startswith("as_sk_")
    assert len(new.plaintext) == len("as_sk_") + 32
    row = ApiKey.objects.values().get(pk=new.key.pk)
    assert bytes(row["digest"]) == key_digest(new.plaintext)
    assert row["prefix"] == new.plaintext[:12]
    assert new.plaintext not in str(row)
    assert new.plaintext not in str(list(ApiKey.history.values()))


def test_a_secret_key_has_all_scopes_and_a_publishable_key_none(application):
    assert key_create(application=application, name="s", kind=KeyKind.SECRET).key.scopes == list(SCOPES)
    publishable = key_create(application=application, name="p", kind=KeyKind.PUBLISHABLE)
    assert publishable.key.scopes == []
    assert publishable.plaintext.startswith("as_pk_")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"kind": "root"}, "kind"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["messages:sing"]}, "scopes"),
        ({"kind": "publishable", "scopes": ["messages:send"]}, "scopes"),
        ({"rate_per_minute": 0}, "rate_per_minute"),
        ({"expires_at": timezone.now() - timedelta(seconds=1)}, "expires_at"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_its_field(application, wrong, field):
    with pytest.raises(ValidationFailed) as refusal:
        key_create(**({"application": application, "name": "n", "kind": "secret"} | wrong))
    assert [problem.field for problem in refusal.value.details] == [field]


# --- What a key opens --------------------------------------------------------------------------------------------


def test_a_key_opens_its_application_and_is_seen_to_be_used(server, application):
    answer = server.get("application")

    assert answer.status_code == 200
    assert answer.json()["data"]["id"] == str(application.pk)
    assert ApiKey.objects.get().last_used_at is not None


@pytest.mark.parametrize(
    "header",
    [
        "Bearer as_sk_" + "x" * 32,
        "Bearer as_sk_",
        "Bearer",
        "Bearer  ",
        "Basic YTpi",
        "as_sk_x",
        "Bearer a.b.c",
        "Bearer é",
    ],
)
@pytest.mark.django_db
def test_what_is_no_key_is_refused(anonymous, header):
    answer = anonymous.get("application", authorization=header)

    assert answer.status_code == 401
    assert code(answer) == "UNAUTHENTICATED"
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.django_db
def test_without_a_key_there_is_nothing(anonymous):
    for method, path in [("GET", "application"), ("GET", "keys"), ("POST", "credentials"), ("GET", "me")]:
        assert anonymous.request(method, path, b"").status_code == 401


def test_a_revoked_key_opens_nothing(server):
    key_revoke(key=ApiKey.objects.get())
    assert server.get("application").status_code == 401


def test_a_revoked_key_that_was_just_used_opens_nothing_a_moment_later(server, settings):
    settings.API_KEY_CACHE_S = 0.3
    assert server.get("application").status_code == 200
    key_revoke(key=ApiKey.objects.get())
    assert_refused_within(2, server)


def test_a_key_that_was_just_used_ends_when_it_expires(server, settings):
    settings.API_KEY_CACHE_S = 60
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(seconds=0.5))
    assert server.get("application").status_code == 200
    assert_refused_within(3, server)


def assert_refused_within(seconds, client):
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while client.get("application").status_code == 200:
        assert time.monotonic() < deadline, "it still opens"
        pause.wait(0.02)
    assert client.get("application").status_code == 401


def test_a_guessed_key_is_not_kept(server, settings):
    settings.API_KEY_CACHE_S = 60
    before = len(known_keys._kept)
    assert ApiClient("as_sk_guessed").get("application").status_code == 401
    assert len(known_keys._kept) == before
    server.get("application")
    assert len(known_keys._kept) == before + 1


def test_an_expired_key_opens_nothing(server):
    ApiKey.objects.update(expires_at=timezone.now())
    assert server.get("application").status_code == 401


def test_a_key_of_an_inactive_application_opens_nothing(server, application):
    application.is_active = False
    application.save()

    answer = server.get("application")
    assert (answer.status_code, code(answer)) == (403, "APPLICATION_INACTIVE")


def test_a_key_does_only_what_its_scopes_say(application):
    key = key_create(application=application, name="reader", kind=KeyKind.SECRET, scopes=["settings:read"])
    reader = ApiClient(key.plaintext)

    assert reader.get("keys").status_code == 200
    answer = reader.post("keys", {"name": "n", "kind": "secret"})
    assert (answer.status_code, code(answer)) == (403, "FORBIDDEN")
    assert "settings:write" in answer.json()["error"]["message"]
    assert ApiKey.objects.count() == 1


def test_a_publishable_key_does_not_reach_the_settings(sdk):
    for path in ("application", "keys", "credentials", "me"):
        assert sdk.get(path).status_code == 403


def test_a_scope_that_no_longer_exists_opens_nothing(server):
    ApiKey.objects.update(scopes=["everything:do"])
    assert server.get("application").status_code == 403


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "application"), ("PUT", "keys"), ("OPTIONS", "keys"), ("POST", "me")]
)
def test_a_method_that_a_route_does_not_have_is_405(server, method, path):
    answer = server.request(method, path, b"")
    assert (answer.status_code, code(answer)) == (405, "METHOD_NOT_ALLOWED")


# --- Rotation ----------------------------------------------------------------------------------------------------


def test_both_keys_work_during_the_overlap_and_then_only_the_new_one(server, application):
    old = ApiKey.objects.get()
    answer = server.post(f"keys/{old.pk}/rotate", {"overlap_s": 600})

    assert answer.status_code == 201
    successor = ApiClient(answer.json()["data"]["key"])
    assert server.get("application").status_code == 200
    assert successor.get("application").status_code == 200
    old.refresh_from_db()
    assert str(old.replaced_by_id) == answer.json()["data"]["id"]
    assert timedelta(seconds=590) < old.expires_at - timezone.now() <= timedelta(seconds=600)
    assert old.replaced_by.scopes == old.scopes

    ApiKey.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    assert server.get("application").status_code == 401
    assert successor.get("application").status_code == 200


def test_an_overlap_of_nothing_ends_the_old_key_at_once(server):
    assert server.post(f"keys/{ApiKey.objects.get().pk}/rotate", {"overlap_s": 0}).status_code == 201
    assert server.get("application").status_code == 401


def test_the_overlap_does_not_lengthen_a_life(application):
    ends = timezone.now() + timedelta(minutes=5)
    old = key_create(application=application, name="n", kind=KeyKind.SECRET, expires_at=ends).key
    new = key_rotate(key=old, overlap=timedelta(days=1)).key
    old.refresh_from_db()
    assert old.expires_at == ends
    assert new.expires_at > ends


def test_a_key_is_rotated_once(application):
    old = key_create(application=application, name="n", kind=KeyKind.PUBLISHABLE).key
    key_rotate(key=old, overlap=timedelta(days=1))
    with pytest.raises(Conflict) as refusal:
        key_rotate(key=old, overlap=timedelta(days=1))
    assert refusal.value.code == "KEY_ALREADY_ROTATED"


def test_a_revoked_key_is_not_rotated(server, application):
    gone = key_create(application=application, name="n", kind=KeyKind.SECRET).key
    assert server.post(f"keys/{gone.pk}/revoke").status_code == 200
    answer = server.post(f"keys/{gone.pk}/rotate")
    assert (answer.status_code, code(answer)) == (409, "KEY_NOT_USABLE")


# --- Keys through the API ------------------------------------------------------------------------------------------


def test_the_plaintext_is_in_the_answer_to_the_creation_and_nowhere_else(server):
    created = server.post("keys", {"name": "CI", "kind": "secret", "scopes": ["messages:send"]})

    assert created.status_code == 201
    plaintext, key_id = created.json()["data"]["key"], created.json()["data"]["id"]
    for answer in (server.get("keys"), server.get(f"keys/{key_id}"), server.post(f"keys/{key_id}/revoke")):
        assert answer.status_code == 200
        assert plaintext not in answer.content.decode()
        assert "digest" not in answer.content.decode()
    assert created.json()["data"]["scopes"] == ["messages:send"]


def test_history_says_which_key_made_the_change(server):
    key_id = server.post("keys", {"name": "CI", "kind": "publishable"}).json()["data"]["id"]
    server.post(f"keys/{key_id}/revoke")

    versions = ApiKey.history.filter(id=key_id)
    assert [version.revoked_at is None for version in versions] == [False, True]
    assert all(version.history_change_reason.startswith("key as_sk_") for version in versions)


def test_history_says_which_operator_made_the_change(console, owner):
    key_id = console.post("keys", {"name": "CI", "kind": "publishable"}).json()["data"]["id"]
    assert ApiKey.history.get(id=key_id).history_user == owner


def test_nobody_gives_a_scope_that_they_do_not_have(application):
    admin = key_create(
        application=application, name="a", kind=KeyKind.SECRET, scopes=["settings:read", "settings:write"]
    )
    strong = key_create(application=application, name="s", kind=KeyKind.SECRET).key
    client = ApiClient(admin.plaintext)

    assert client.post("keys", {"name": "n", "kind": "secret", "scopes": ["users:read"]}).status_code == 403
    assert client.post(f"keys/{strong.pk}/rotate").status_code == 403
    created = client.post("keys", {"name": "n", "kind": "secret"})
    assert created.json()["data"]["scopes"] == ["settings:read", "settings:write"]
    with pytest.raises(Forbidden):
        key_create(application=application, name="n", kind="secret", scopes=["users:read"], granted_by=["users:write"])


def test_a_stranger_gets_the_same_answer_for_a_key_of_others_and_for_none(server, stranger):
    theirs = ApiKey.objects.get(name="server", application__name="Shop")
    for route in ("keys/{}", "keys/{}/revoke", "keys/{}/rotate"):
        method = "GET" if route == "keys/{}" else "POST"
        answers = [stranger.request(method, route.format(key_id), {}) for key_id in (theirs.pk, uuid4())]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["error"] == answers[1].json()["error"]
    assert str(theirs.pk) not in stranger.get("keys").content.decode()
    theirs.refresh_from_db()
    assert theirs.is_usable


def test_keys_come_in_pages(server):
    for number in range(3):
        server.post("keys", {"name": f"n{number}", "kind": "publishable"})
    first = server.get("keys?limit=3").json()
    second = server.get(f"keys?limit=3&cursor={first['meta']['next_cursor']}").json()
    assert [key["name"] for key in first["data"] + second["data"]] == ["n2", "n1", "n0", "server"]
    assert second["meta"]["next_cursor"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "secret"}, "name"),
        ({"name": None, "kind": "secret"}, "name"),
        ({"name": ["a"], "kind": "secret"}, "name"),
        ({"name": "n", "kind": "secret", "scopez": []}, "scopez"),
        ({"name": "n", "kind": {"a": 1}}, "kind"),
        ({"name": "n", "kind": "secret", "scopes": "settings:read"}, "scopes"),
        ({"name": "n", "kind": "secret", "scopes": ["settings:read", 7]}, "scopes[1]"),
        ({"name": "n", "kind": "secret", "scopes": ["settings:read"] * 1000}, "scopes"),
        ({"name": "n", "kind": "secret", "rate_per_minute": 10**19}, "rate_per_minute"),
        ({"name": "n", "kind": "secret", "rate_per_minute": 1e300}, "rate_per_minute"),
        ({"name": "n", "kind": "secret", "rate_per_minute": "many"}, "rate_per_minute"),
        ({"name": "n", "kind": "secret", "expires_at": "yesterday"}, "expires_at"),
        ({"name": "n", "kind": "secret", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ({"name": "n", "kind": "secret", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        (b'{"name": "n\\u0000", "kind": "secret"}', "name"),
        (["name"], ""),
        (b'"name"', ""),
    ],
)
def test_wrong_input_is_a_400_that_names_the_field(server, body, field):
    answer = server.post("keys", body)
    assert answer.status_code == 400, answer.content
    assert fields(answer) == [field]
    assert ApiKey.objects.count() == 1


@pytest.mark.parametrize("body", [b"{", b'{"name": "\\ud800"}', b'{"name": "\xff"}', b'{"a": NaN}', b"\x00"])
def test_what_is_not_json_is_a_400(server, body):
    answer = server.post("keys", body)
    assert (answer.status_code, code(answer)) == (400, "MALFORMED_JSON")


def test_another_content_type_is_a_415(server):
    answer = server._client.post(
        "/api/v1/keys", "name=n", content_type="application/x-www-form-urlencoded", headers=server._headers
    )
    assert (answer.status_code, code(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("path", ["keys/1", "keys/not-a-uuid", "keys/0/revoke", "keys/%00", "nothing"])
def test_an_address_that_is_none_is_a_404_in_the_envelope(server, path):
    answer = server.get(path)
    assert (answer.status_code, code(answer)) == (404, "NOT_FOUND")
