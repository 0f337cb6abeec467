"""Every route of this app, with what a hostile or careless caller may send: a 4xx, and nothing is written."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from apps.tenants.models import ApiKey, ChannelCredential, KeyKind
from apps.tenants.services import credential_create, key_create

SIGN_IN = {"email": "a@example.com", "password": "x"}
ROUTES = {
    ("POST", "auth/login"): SIGN_IN,
    ("POST", "auth/refresh"): {"refresh": "x"},
    ("POST", "auth/logout"): {"refresh": "x"},
    ("POST", "auth/password-reset"): {"email": "not an address"},
    ("POST", "auth/password-reset/confirm"): {"uid": "x", "token": "x", "password": "x"},
    ("PATCH", "application"): {"name": "n", "time_zone": "UTC", "default_language": "en", "settings": {}},
    ("POST", "keys"): {"name": "n", "kind": "secret", "scopes": None, "expires_at": None, "rate_per_minute": None},
    ("POST", "keys/{key}/revoke"): {"colour": "red"},
    ("POST", "keys/{key}/rotate"): {"overlap_s": 0},
    ("POST", "credentials"): {"provider": "fcm", "name": "n", "secret": {"a": 1}, "position": 0},
    ("PATCH", "credentials/{credential}"): {"name": "n", "secret": {"a": 1}, "position": 0, "is_active": True},
}
"""Each route and its fields."""

BODIES = {
    "not JSON": b"{",
    "not UTF-8": b'{"name": "\xff\xfe"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "NUL in a value": b'{"name": "\\u0000"}',
    "NUL in a name": b'{"\\u0000": 1}',
    "a list": b"[1]",
    "a number": b"1",
    "a text": b'"x"',
    "null": b"null",
    "an unknown field": b'{"colour": "red"}',
    "a name that is the prototype's": b'{"__proto__": {}, "__class__": 1}',
    "too deep": b"[" * 1_000 + b"]" * 1_000,
    "deep in a known field": json.dumps({"secret": json.loads('{"a":' * 40 + "1" + "}" * 40)}).encode(),
    "too long": b'{"name": "' + b"x" * (4 * 1024 * 1024) + b'"}',
}
VALUES = [None, True, -1, 0, 10**18, 1e308, "", " ", "x" * 100_000, "\u202e", [], [[]], {}, {"a": {}}, [None]]


@pytest.fixture(autouse=True)
def as_many_requests_as_it_takes(settings):
    settings.API_RATE_PER_MINUTE = dict.fromkeys(settings.API_RATE_PER_MINUTE, 1_000_000)


@pytest.fixture
def ids(application) -> dict[str, UUID]:
    key = key_create(application=application, name="n", kind=KeyKind.PUBLISHABLE).key
    credential = credential_create(application=application, provider="fcm", name="n", secret={"a": 1}, check=_any)
    return {"key": key.pk, "credential": credential.pk}


def _any(secret):
    return []


@pytest.fixture(autouse=True)
def nothing_to_summarise(monkeypatch):
    from apps.tenants import providers

    monkeypatch.setattr(providers, "_rules", {})


def state() -> list:
    unstable = {"last_used_at", "last_used_from"}
    rows = [*ApiKey.objects.order_by("pk").values(), *ChannelCredential.objects.order_by("pk").values()]
    return [{name: value for name, value in row.items() if name not in unstable} for row in rows]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_body_that_is_wrong_is_refused(server, ids, method, route, body):
    before = state()
    answer = server.request(method, route.format(**ids), body)
    assert answer.status_code in (400, 413), answer.content
    assert answer.json()["error"]["code"] in ("VALIDATION_ERROR", "MALFORMED_JSON", "PAYLOAD_TOO_LARGE")
    assert state() == before


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_no_value_of_any_field_breaks_a_route(server, ids, method, route):
    fields = {name: value for name, value in ROUTES[method, route].items() if value is not None}
    for name in ROUTES[method, route]:
        for value in VALUES:
            answer = server.request(method, route.format(**ids), fields | {name: value})
            assert answer.status_code < 500, (name, value, answer.content)


@pytest.mark.parametrize("query", ["cursor=x", "cursor=%C3%A9", "cursor=%00", "limit=0", "limit=-1", "limit=201"])
def test_a_query_that_is_wrong_is_refused_by_its_name(server, query):
    for path in ("keys", "credentials"):
        answer = server.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["details"][0]["field"] == query.partition("=")[0]
