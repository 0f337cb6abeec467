"""Nobody gets, counts or changes another application's data, nor learns whether it exists."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from apps.messaging.models import Message
from apps.subscriptions.handles import HANDLE_HEADER
from apps.tenants.models import Role
from apps.tenants.scopes import ROLE_SCOPES
from apps.tenants.services import membership_set
from automata_signal.api import encode_cursor
from automata_signal.ids import new_id
from tests.api.routes import ENTRIES, OPERATOR, PUBLIC, SDK, address, is_about_one
from tests.api.world import (
    StrictClient,
    World,
    make_operator,
    missing_ids,
    rows_about,
    said,
    sign_in,
)
from tests.factories import make_messages

CLOSED = {key: entry for key, entry in ENTRIES.items() if PUBLIC not in entry.scopes}
ABOUT_ONE = [key for key in CLOSED if is_about_one(key[1])]
REFUSED = (401, 403, 404)
OUTSIDERS = ("nobody", "nobody, naming the application", "a revoked key", "an expired key", "a made-up key", "no token")
"""Those of `strangers` who have no application of their own either."""


def strangers(victim: World, intruder: World) -> dict[str, StrictClient]:
    """Everybody who has no business with the victim's data."""
    make_operator("nobody@example.com")
    theirs = {"x-application-id": str(victim.application.pk)}
    keys_of_theirs = {HANDLE_HEADER: victim.handle}
    return {
        "nobody": StrictClient(""),
        "nobody, naming the application": StrictClient("", **theirs),
        "a revoked key": victim.revoked,
        "an expired key": victim.expired,
        "another application's secret key": intruder.server,
        "another application's secret key, naming this one": intruder.server.with_headers(**theirs),
        "another application's secret key with the handle": intruder.server.with_headers(**keys_of_theirs),
        "another application's publishable key": intruder.sdk,
        "another application's publishable key with the handle": intruder.sdk.with_headers(**keys_of_theirs),
        "an operator of nothing": sign_in("nobody@example.com"),
        "an operator of nothing, naming the application": sign_in("nobody@example.com", victim.application),
        "another application's owner": intruder.owner,
        "another application's owner, naming this one": intruder.owner.with_headers(**theirs),
        "a made-up key": StrictClient("as_sk_" + "A" * 32),
        "no token": StrictClient("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."),
    }


def holds_anything_of(world: World, answer, *, sent: str) -> bool:
    """Whether the answer holds a text or an id of the world that was not in the request."""
    texts = {world.name, str(world.application.pk), *world.ids.values()}
    return any(text in answer.content.decode() for text in texts if text not in sent)


@pytest.mark.parametrize(("method", "route"), CLOSED)
def test_a_stranger_gets_and_changes_nothing(world, foreign, method, route):
    before = rows_about(world)
    missing = missing_ids()
    for who, stranger in strangers(world, foreign).items():
        body = CLOSED[method, route].body(foreign)
        answer = stranger.request(method, address(route, world.ids), body)
        assert not holds_anything_of(world, answer, sent=address(route, world.ids)), (who, answer.content)
        if is_about_one(route):
            assert answer.status_code in REFUSED, (who, answer.content)
            as_if_missing = stranger.request(method, address(route, missing), body)
            assert said(answer) == said(as_if_missing), who
        if who in OUTSIDERS:
            assert answer.status_code in REFUSED, (who, answer.content)
    assert rows_about(world) == before


@pytest.mark.parametrize(("method", "route"), CLOSED)
def test_a_publishable_key_does_what_devices_do_and_nothing_else(world, method, route):
    entry = CLOSED[method, route]
    answer = world.sdk.request(method, address(route, world.ids), entry.body(world))
    if SDK in entry.scopes:
        assert answer.status_code in entry.answers
    else:
        before = rows_about(world)
        assert answer.status_code == 403, answer.content
        assert rows_about(world) == before


@pytest.mark.parametrize("role", Role.values)
def test_a_role_may_do_what_its_scopes_say_and_nothing_else(world, role):
    """With ids of nothing and bodies of nothing, so that what is allowed changes nothing either."""
    operator = make_operator(f"{role}@example.com")
    membership_set(operator=operator, application=world.application, role=role)
    member = sign_in(operator.email, world.application)
    before = rows_about(world)
    wrong = []
    for (method, route), entry in CLOSED.items():
        allowed = bool(ROLE_SCOPES[role] & set(entry.scopes)) or OPERATOR in entry.scopes
        status = member.request(method, address(route, missing_ids()), {"there is no such": "field"}).status_code
        if (status not in (401, 403)) != allowed or status >= 500:
            wrong.append((method, route, status))
    assert wrong == []
    assert rows_about(world) == before


def test_a_key_with_one_scope_has_no_other(world):
    for scope in sorted(ROLE_SCOPES[Role.OWNER]):
        made = world.server.post("keys", {"name": scope, "kind": "secret", "scopes": [scope]}).json()["data"]
        key = StrictClient(made["key"])
        for (method, route), entry in CLOSED.items():
            status = key.request(method, address(route, missing_ids()), {"there is no such": "field"}).status_code
            assert (status != 403) == (scope in entry.scopes), (scope, method, route, status)


# --- Devices ---------------------------------------------------------------------------------------------------------

# Those that a device may call at all; for the others a publishable key has no scope, whatever its handle.
OF_A_SUBSCRIPTION = [key for key in ABOUT_ONE if "{subscription_id}" in key[1] and SDK in CLOSED[key].scopes]


@pytest.mark.parametrize(("method", "route"), OF_A_SUBSCRIPTION)
def test_no_handle_but_the_subscriptions_own_opens_it(world, foreign, method, route):
    other = world.sdk.post("subscriptions", {"type": "iOSPush", "token": "cd" * 32}).json()["data"]
    handles = {
        "another's": other["handle"],
        "another application's": foreign.handle,
        "none": "",
        "in capitals": world.handle.upper(),
        "cut": world.handle[:-1],
        "with more": world.handle + "A",
        "twice": f"{world.handle},{world.handle}",
        "not ASCII": "sh_é",
        "NUL": "\0",
        "long": "sh_" + "A" * 10_000,
    }
    before = rows_about(world)
    body = CLOSED[method, route].body(world)
    for which, handle in handles.items():
        device = world.sdk.with_headers(**{HANDLE_HEADER: handle})
        answer = device.request(method, address(route, world.ids), body)
        assert answer.status_code == 404, (which, answer.content)
        assert said(answer) == said(device.request(method, address(route, missing_ids()), body)), which
    assert rows_about(world) == before


def test_a_receipt_needs_the_handle_of_the_messages_subscription(world, foreign):
    event = {"message_id": world.ids["message_id"], "type": "received"}
    missing = {"message_id": missing_ids()["message_id"], "type": "received"}
    before = rows_about(world)
    for device in (world.sdk, foreign.sdk, foreign.server):
        for handle in (world.handle, foreign.handle, "sh_"):
            answers = [device.post("receipts", {"handle": handle, "events": [one]}) for one in (event, missing)]
            assert answers[0].json()["data"]["results"][0]["reason"] == "not_found"
            assert said(answers[0], id=event["message_id"]) == said(answers[1], id=missing["message_id"])
    assert rows_about(world) == before


# --- Naming an application -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "{id}",
        "{ID}",
        "{{{id}}}",
        "urn:uuid:{id}",
        " {id} ",
        "{hex}",
        "{own},{id}",
        "{id},{own}",
        "{own} {id}",
        '["{own}", "{id}"]',
        "{own}\0{id}",
        "{id}\0",
        "{own}\r\nX-Application-Id: {id}",
        "{int}",
        "*",
        "",
        "\0",
        "é",
        "0" * 5_000,
    ],
)
def test_no_spelling_of_an_application_id_opens_one(world, foreign, form):
    key = world.application.pk
    spelled = form.format(id=key, ID=str(key).upper(), hex=key.hex, int=key.int, own=foreign.application.pk)
    for path in ("application", "users", f"users/{world.ids['user_id']}"):
        answer = foreign.owner.with_headers(**{"x-application-id": spelled}).get(path)
        assert answer.status_code == 403, answer.content
        assert not holds_anything_of(world, answer, sent="")


def test_a_key_stands_for_its_own_application_whatever_the_header_names(world, foreign):
    answer = foreign.server.with_headers(**{"x-application-id": str(world.application.pk)}).get("application")
    assert answer.json()["data"]["id"] == str(foreign.application.pk)


def test_an_application_of_others_looks_like_one_that_is_not_there(world, foreign):
    theirs = foreign.owner.with_headers(**{"x-application-id": str(world.application.pk)})
    none = foreign.owner.with_headers(**{"x-application-id": missing_ids()["user_id"]})
    assert said(theirs.get("application")) == said(none.get("application"))
    world.application.is_active = False
    world.application.save()
    assert said(theirs.get("application")) == said(none.get("application"))


# --- Ids in bodies and queries ---------------------------------------------------------------------------------------

CAMPAIGN = {"name": "c", "title": "t"}
CONTENT = {"title": "t", "body": "b"}

WITH_IDS = {
    "a campaign's template": (
        "POST",
        "campaigns",
        {"name": "c", "template_id": "<template_id>", "targeting_criteria": {}},
    ),
    "a campaign's segment": ("POST", "campaigns", CAMPAIGN | {"targeting_criteria": {"segment": "<segment_id>"}}),
    "a campaign's deep segment": (
        *("POST", "campaigns"),
        CAMPAIGN | {"targeting_criteria": {"not": {"any": [{"segment": "<segment_id>"}]}}},
    ),
    "a changed campaign's template": ("PATCH", "campaigns/<own>", {"title": "", "template_id": "<template_id>"}),
    "a changed campaign's segment": ("PATCH", "campaigns/<own>", {"targeting_criteria": {"segment": "<segment_id>"}}),
    "a test's subscription": ("POST", "campaigns/<own>/test", {"subscription_ids": ["<subscription_id>"]}),
    "a test's user": ("POST", "campaigns/<own>/test", {"external_ids": ["<external_id>"]}),
    "a segment's segment": ("POST", "segments", {"name": "s", "criteria": {"segment": "<segment_id>"}}),
    "an audience's segment": ("POST", "audience/count", {"criteria": {"segment": "<segment_id>"}}),
    "an audience's user": (
        *("POST", "audience/count"),
        {"criteria": {"field": "external_id", "op": "in", "value": ["<external_id>"]}},
    ),
    "a message's subscription": (
        *("POST", "messages"),
        CONTENT | {"recipients": {"subscription_ids": ["<subscription_id>"]}},
    ),
    "a message's user": ("POST", "messages", CONTENT | {"recipients": {"external_ids": ["<external_id>"]}}),
    "a message's template": (
        *("POST", "messages"),
        {"recipients": {"external_ids": ["intruder-user"]}, "template_id": "<template_id>"},
    ),
    "a preview's user": ("POST", "templates/<own template>/preview", {"external_id": "<external_id>"}),
    "a receipt's message": ("POST", "receipts", {"events": [{"message_id": "<message_id>", "type": "converted"}]}),
    "messages of a campaign": ("GET", "messages?campaign_id=<campaign_id>", None),
    "failures of a campaign": ("GET", "messages/failures?campaign_id=<campaign_id>", None),
    "messages of a subscription": ("GET", "messages?subscription_id=<subscription_id>", None),
    "messages of a user": ("GET", "messages?external_id=<external_id>", None),
    "subscriptions of a user": ("GET", "subscriptions?external_id=<external_id>", None),
    "users of an id": ("GET", "users?external_id=<external_id>", None),
}


def _filled(template: str, ids: dict[str, str], foreign: World) -> str:
    own = {"own": foreign.ids["campaign_id"], "own template": foreign.ids["template_id"]}
    for name, value in {**ids, **own}.items():
        template = template.replace(f"<{name}>", value)
    return template


@pytest.mark.parametrize("caller", ["server", "owner"])
@pytest.mark.parametrize(("method", "path", "body"), WITH_IDS.values(), ids=WITH_IDS.keys())
def test_a_foreign_id_in_a_request_is_an_id_of_nothing(world, foreign, caller, method, path, body):
    before = rows_about(world)
    heard = []
    for ids in (world.ids, missing_ids()):
        sent = b"" if body is None else _filled(json.dumps(body), ids, foreign).encode()
        answer = getattr(foreign, caller).request(method, _filled(path, ids, foreign), sent)
        assert answer.status_code in (200, 400, 404), answer.content
        assert not holds_anything_of(world, answer, sent=str(ids))
        heard.append(said(answer, **ids))
    aliased = [text.replace(b"nobody", b"external_id") for text in heard]
    assert aliased[0] == aliased[1]
    assert rows_about(world) == before


LISTS = [route for method, route in CLOSED if method == "GET" and "{" not in route]


@pytest.mark.parametrize("route", [route for route in LISTS if route not in ("me", "application")])
def test_a_cursor_of_another_application_leads_into_ones_own_list_only(world, foreign, route):
    """A cursor is a place in time: the other application's is as good as any, and shows nothing of it."""
    for key in world.ids.values():
        if key != world.external_id:
            answer = foreign.server.get(f"{route}?cursor={encode_cursor(UUID(key))}&limit=1")
            assert answer.status_code == 200
            assert not holds_anything_of(world, answer, sent="")


def test_idempotency_keys_of_two_applications_do_not_meet(world, foreign):
    for who in (world, foreign):
        body = {"recipients": {"external_ids": [who.external_id]}, "title": "t", "body": "b"}
        answer = who.server.post("messages", body, **{"idempotency-key": "the same"})
        assert answer.status_code == 202
        assert "Idempotency-Replayed" not in answer


def test_a_replayed_answer_needs_the_scope_as_the_first_did(world):
    body = {"recipients": {"external_ids": [world.external_id]}, "title": "t", "body": "b"}
    assert world.server.post("messages", body, **{"idempotency-key": "k"}).status_code == 202
    made = world.server.post("keys", {"name": "r", "kind": "secret", "scopes": ["messages:read"]}).json()["data"]
    assert StrictClient(made["key"]).post("messages", body, **{"idempotency-key": "k"}).status_code == 403


def test_failed_messages_of_another_application_are_not_sent_again(world, foreign):
    campaign_id = new_id()
    [failed] = make_messages(world.application, ["failed"], campaign_id=campaign_id)
    ordered = foreign.server.post("messages/requeue", {"campaign_id": str(campaign_id)}).json()["data"]
    assert (ordered["is_finished"], ordered["requeued"], ordered["skipped"]) == (True, 0, {})
    assert Message.objects.filter(campaign_id=campaign_id).get() == failed
