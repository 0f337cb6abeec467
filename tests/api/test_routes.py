"""The table of routes is whole and true: each route is there, works for its owner, and refuses other methods."""

from __future__ import annotations

import pytest

from tests.api.routes import ENTRIES, PUBLIC, SDK, address, caller_of, described, offered, urlconf
from tests.api.world import StrictClient, is_in_the_envelope

ACCOUNT = (
    *("", "security/", "sessions/", "login/", "logout/", "reauthenticate/"),
    *("password", "password/change/", "password/reset/", "invitation/", "invitation/{token}/"),
    *("2fa/", "2fa/authenticate/", "2fa/reauthenticate/", "2fa/totp/activate/", "2fa/totp/deactivate/"),
    *("2fa/recovery-codes/", "2fa/recovery-codes/generate/"),
    *("oidc/{provider_id}/login/", "oidc/{provider_id}/login/callback/"),
)
"""Of the console's door and of one's own account: what else django-allauth has does not exist."""
OTHER_ADDRESSES = {
    *("", "downloads", "reports/unsubscribe", "api/schema/", "api/docs/", "^api/"),
    *(f"account/{place}" for place in ACCOUNT),
    *("m/{token}/{name}", "webhooks/{provider}/{credential_id}"),
    *("e/unsubscribe/{token}", "e/preferences/{token}", "e/confirm/{token}", "e/c/{token}", "e/o/{token}.gif"),
}


def test_every_route_has_an_entry():
    assert {(method, described(route)) for method, route in ENTRIES} == offered()


def test_every_other_address_is_known():
    assert {path for path, _ in urlconf() if not path.startswith("api/v1/")} == OTHER_ADDRESSES


@pytest.mark.parametrize(("method", "route"), ENTRIES)
def test_a_route_answers_whom_it_is_for(world, method, route):
    entry = ENTRIES[method, route]
    answer = caller_of(world, entry).request(method, address(route, world.ids), entry.body(world))
    assert answer.status_code in entry.answers, answer.content


@pytest.mark.parametrize(("method", "route"), [key for key, entry in ENTRIES.items() if SDK in entry.scopes])
def test_a_route_for_devices_answers_the_device(world, method, route):
    entry = ENTRIES[method, route]
    answer = world.sdk.request(method, address(route, world.ids), entry.body(world))
    assert answer.status_code in entry.answers, answer.content


@pytest.mark.parametrize("route", sorted({route for _, route in ENTRIES}))
def test_a_method_that_is_not_offered_is_a_405(world, route):
    offered_here = {method for method, other in ENTRIES if other == route}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "CONNECT", "PURGE"}:
        if method in offered_here or (method == "HEAD" and "GET" in offered_here):
            continue
        for caller in (world.server, StrictClient("")):
            answer = caller.request(method, address(route, world.ids), b"{}")
            assert answer.status_code == 405, (method, answer.content)
            assert set(answer["Allow"].split(", ")) >= offered_here
            assert method == "HEAD" or is_in_the_envelope(answer)


@pytest.mark.parametrize("path", ["nothing", "users/1", "users/", "", "campaigns/x/launch", "users/%00", "%ff", "a\nb"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_an_address_that_is_not_there_is_a_404_in_the_envelope(db, method, path):
    answer = StrictClient("").request(method, f"/api/v1/{path}", b"{}")
    assert answer.status_code == 404
    assert is_in_the_envelope(answer)


def test_public_routes_are_those_of_signing_in_only():
    assert {route for (_, route), entry in ENTRIES.items() if PUBLIC in entry.scopes} == {
        "auth/login",
        "auth/refresh",
        "auth/logout",
        "auth/password-reset",
        "auth/password-reset/confirm",
    }


def test_a_foreign_host_is_refused_in_the_envelope(db):
    answer = StrictClient("").get("/api/v1/users", host="evil.example")
    assert answer.status_code == 400
    assert is_in_the_envelope(answer)
    assert b"evil" not in answer.content
