"""Whatever is sent, the answer is a 4xx that names what is wrong, and nothing is written.

The routes and their fields come from the OpenAPI description, so a new one joins by itself.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jsonschema
import pytest
from django.db import transaction

from tests.api.description import body_schema, description, operations, resolved
from tests.api.routes import ENTRIES, address, caller_of, described
from tests.api.world import StrictClient, World, is_in_the_envelope, rows

ROUTES = {(method, described(route)): route for method, route in ENTRIES}
WRITES = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for method, path, operation in operations()
    if method in ("POST", "PATCH", "PUT")
]
READS = [
    pytest.param(method, path, operation, id=operation["operationId"])
    for method, path, operation in operations()
    if method == "GET"
]

LONG = "x" * 1_000_000
VALUES: dict[str, str] = {
    **{f"{name}": json.dumps(value) for name, value in {"null": None, "true": True, "false": False}.items()},
    **{f"the number {n}": n for n in ("0", "-1", "7", "1.5", "-1e308", "1" + "0" * 18, "9" * 40)},
    "a text": '"x"',
    "an empty text": '""',
    "a space": '" "',
    "a number as text": '"5"',
    "NaN as text": '"NaN"',
    "a text that turns around": json.dumps("\u202e"),
    "half an emoji of another kind": json.dumps("\U0001f468\u200d"),
    "a control character": json.dumps("\x07"),
    "a long text": json.dumps(LONG),
    "an empty list": "[]",
    "a list of null": "[null]",
    "a list of lists": "[[[]]]",
    "a long list": json.dumps([0] * 100_000),
    "a long list of long texts": json.dumps(["x" * 1_000] * 1_000),
    "an empty object": "{}",
    "an object": '{"x": {"y": [1, null, "z"]}}',
    "an object with a long name": json.dumps({LONG: 1}),
    "an object with a long text": json.dumps({"x": LONG}),
    "an object of many": json.dumps({f"n{n}": n for n in range(20_000)}),
    "a deep object": '{"x":' * 20 + "1" + "}" * 20,
    "a name of the language": '{"__proto__": {"__class__": 1}, "constructor": null}',
}
NEVER_VALID = {
    "NUL": r'"a\u0000b"',
    "half a surrogate pair": r'"\ud800"',
    "NaN": "NaN",
    "infinity": "1e999",
    "a number of 4,000 digits": "-" + "9" * 4_000,
    "NUL in a name": r'{"\u0000": 1}',
    "a list too deep": "[" * 40 + "]" * 40,
    "an object far too deep": '{"x":' * 2_000 + "1" + "}" * 2_000,
}
NEVER_A_BODY = {
    "half an object": b"{",
    "an object and more": b"{} {}",
    "no JSON": b"hello",
    "a comment": b"{} // {}",
    "an apostrophe": b"{'a': 1}",
    "bytes that are no UTF-8": b'{"a": "\xff\xfe"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "NUL": b"\0",
    "a list": b"[{}]",
    "a number": b"1",
    "a text": b'"x"',
    "null": b"null",
    "true": b"true",
    "an unknown field": b'{"there is no such": 1}',
    "a field without a name": b'{"": 1}',
    "too many fields": json.dumps({f"n{n}": n for n in range(100_000)}).encode(),
    "compressed": gzip.compress(b'{"name": "x"}'),
    "too long": b'{"name": "' + b"x" * (5 * 1024 * 1024) + b'"}',
    "too long, of spaces": b" " * (5 * 1024 * 1024),
}
CONTENT_TYPES = (
    *("text/plain", "text/html", "application/xml", "application/octet-stream", "application/x-www-form-urlencoded"),
    *("multipart/form-data; boundary=x", "multipart/form-data", "application/jsonx", "json", "a/b/c", "/", ";", "é"),
    *("application/vnd.api+json", "text/json"),
)
REFUSALS = ("VALIDATION_ERROR", "MALFORMED_JSON", "PAYLOAD_TOO_LARGE")


@contextmanager
def undone() -> Iterator[None]:
    """What is written meanwhile is taken back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def send(world: World, method: str, path: str, body: bytes, content_type: str = "application/json"):
    route = ROUTES[method, path]
    return caller_of(world, ENTRIES[method, route]).send(method, address(route, world.ids), body, content_type)


def with_value(world: World, method: str, path: str, name: str, value: str) -> bytes:
    """The route's good body with this JSON as the value of one field."""
    good = {key: v for key, v in ENTRIES[method, ROUTES[method, path]].body(world).items() if key != name}
    pairs = [f"{json.dumps(key)}: {json.dumps(v)}" for key, v in good.items()]
    return ("{" + ", ".join([*pairs, f"{json.dumps(name)}: {value}"]) + "}").encode()


def problem(answer) -> str:
    """What is wrong with a refusal itself."""
    if not 400 <= answer.status_code < 500:
        return f"{answer.status_code}"
    if not is_in_the_envelope(answer):
        return "not in the envelope"
    if len(answer.content) > 200_000:
        return f"an answer of {len(answer.content)} bytes"
    error = answer.json()["error"]
    if error["code"] == "VALIDATION_ERROR" and not error["details"]:
        return "no field is named"
    return ""


def listed(wrong: dict[Any, Any]) -> str:
    return "\n".join(f"{key}: {value}" for key, value in wrong.items())


def names(answer, field: str) -> bool:
    details = answer.json()["error"]["details"]
    return any(detail["field"].startswith(field) for detail in details)


@pytest.mark.parametrize(("method", "path", "operation"), WRITES)
def test_a_body_that_is_none_is_refused(world, method, path, operation):
    before, wrong = rows(), {}
    for which, body in NEVER_A_BODY.items():
        answer = send(world, method, path, body)
        if trouble := problem(answer):
            wrong[which] = (trouble, answer.content[:300])
        elif answer.status_code not in (400, 413) or answer.json()["error"]["code"] not in REFUSALS:
            wrong[which] = (answer.status_code, answer.content[:300])
    assert not wrong, listed(wrong)
    assert rows() == before


@pytest.mark.parametrize(("method", "path", "operation"), WRITES)
def test_only_json_is_taken(world, method, path, operation):
    before = rows()
    body = json.dumps(ENTRIES[method, ROUTES[method, path]].body(world)).encode()
    for content_type in CONTENT_TYPES:
        answer = send(world, method, path, body if body != b"{}" else b'{"a": 1}', content_type)
        is_taken = path in ("/api/v1/imports", "/api/v1/media") and content_type.startswith("multipart/")
        assert answer.status_code == (400 if is_taken else 415), (content_type, answer.content)
        assert is_in_the_envelope(answer)
    assert rows() == before


@pytest.mark.parametrize(("method", "path", "operation"), WRITES)
def test_a_missing_field_is_named(world, method, path, operation):
    before = rows()
    good = ENTRIES[method, ROUTES[method, path]].body(world)
    for name in body_schema(operation).get("required", ()):
        body = json.dumps({key: value for key, value in good.items() if key != name}).encode()
        answer = send(world, method, path, body)
        assert (answer.status_code, names(answer, name)) == (400, True), (name, answer.content)
    assert rows() == before


@pytest.mark.parametrize(("method", "path", "operation"), WRITES)
def test_no_value_of_a_field_breaks_a_route_and_wrong_ones_are_named(world, method, path, operation):
    validator = jsonschema.Draft202012Validator
    expected = ENTRIES[method, ROUTES[method, path]].answers
    before, wrong = rows(), {}
    for name, schema in body_schema(operation)["properties"].items():
        check = validator({**schema, "components": description()["components"]})
        for which, value in VALUES.items():
            body = with_value(world, method, path, name, value)
            with undone():
                answer = send(world, method, path, body)
            is_wrong = not check.is_valid(json.loads(value))
            if answer.status_code < 400 or (answer.status_code == 503 and 503 in expected):  # it got to the provider
                trouble = "it was taken" if is_wrong else ""
                trouble = trouble or ("it was stored" if len(value) > 200_000 else "")
            else:
                trouble = problem(answer) or ("" if not is_wrong or names(answer, name) else "the field is not named")
            if trouble:
                wrong[name, which] = (trouble, answer.content[:300])
        for which, value in NEVER_VALID.items():
            answer = send(world, method, path, with_value(world, method, path, name, value))
            if answer.status_code != 400 or problem(answer):
                wrong[name, which] = (answer.status_code, answer.content[:300])
    assert not wrong, listed(wrong)
    assert rows() == before


# --- Queries ---------------------------------------------------------------------------------------------------------

QUERY_VALUES = ("", "%00", "%ff", "%ED%A0%80", "a" * 5_000, "-1", "99999999999999999999", "[]", "é", "%0d%0aX:1", "1e9")


@pytest.mark.parametrize(("method", "path", "operation"), READS)
def test_no_value_of_a_query_breaks_a_route(world, method, path, operation):
    wrong = {}
    route, _, needed = address(ROUTES[method, path], world.ids).partition("?")
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "query":
            continue
        schema = resolved(parameter["schema"])
        is_free_text = schema.get("type") == "string" and not {"format", "enum", "pattern"} & schema.keys()
        in_range = schema.get("minimum", 0) <= -1
        for value in QUERY_VALUES:
            others = [one for one in needed.split("&") if one and not one.startswith(f"{parameter['name']}=")]
            query = "&".join([*others, f"{parameter['name']}={value}"])
            answer = world.server.get(f"{route}?{query}")
            if answer.status_code < 400 or answer.status_code in ENTRIES[method, ROUTES[method, path]].answers:
                trouble = "" if is_free_text or value == "" or (in_range and value == "-1") else "it was taken"
            else:
                is_named = answer.status_code in (401, 404) or names(answer, parameter["name"])  # 401: no such ticket
                trouble = problem(answer) or ("" if is_named else "the parameter is not named")
            if trouble:
                wrong[parameter["name"], value[:50]] = (trouble, answer.content[:300])
    assert not wrong, listed(wrong)


@pytest.mark.parametrize(("method", "path", "operation"), READS)
def test_an_unknown_query_parameter_of_a_list_is_named(world, method, path, operation):
    if not any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
        pytest.skip("it takes no query")
    route = address(ROUTES[method, path], world.ids)
    answer = world.server.get(f"{route}{'&' if '?' in route else '?'}colour=red")
    assert answer.status_code == 400
    assert names(answer, "colour")


@pytest.mark.parametrize("limit", ["0", "201", "0000011000000", "+5", "5.0", "٣", "9" * 5_000, " 5", "1_0"])
def test_a_page_has_at_most_200_rows_however_the_limit_is_written(world, limit):
    answer = world.server.get(f"users?limit={limit}")
    assert answer.status_code == 400
    assert names(answer, "limit")


# --- Headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*", "application/json;version=2", "x"])
def test_an_answer_that_is_not_wanted_is_a_406_in_the_envelope(world, accept):
    answer = world.server.get("application", accept=accept)
    assert answer.status_code in (200, 406)
    assert answer["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("accept", [";", "/", "*", "a" * 5_000, "é", "\0", ",,,", "application/json;q=x"])
def test_no_accept_header_breaks_a_route(world, accept):
    assert world.server.get("application", accept=accept).status_code in (200, 406)


@pytest.mark.parametrize(
    "authorization",
    [
        *("", "Bearer", "Bearer ", "bearer x", "Basic YTpi", "Bearer a b", "é", "\0", "Bearer \0", "as_sk_x", ","),
        *("Bearer " + "a" * 9_000, "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer as_sk_", "Bearer as_sk_é"),
        "Bearer as_pk_" + "A" * 32,
    ],
)
def test_whatever_stands_in_authorization_without_a_key_it_is_a_401(db, authorization):
    answer = StrictClient("", authorization=authorization).get("application")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert is_in_the_envelope(answer)


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "\0", "a\tb", "\x7f"])
def test_an_idempotency_key_that_is_none_is_refused(world, key):
    before = rows()
    body = ENTRIES["POST", "messages"].body(world)
    answer = world.server.post("messages", body, **{"idempotency-key": key})
    assert (answer.status_code, names(answer, "Idempotency-Key")) == (400, True)
    assert rows() == before


def test_a_caller_does_not_choose_what_our_logs_call_a_request(world):
    answer = world.server.get("application", **{"x-request-id": "mine", "x-correlation-id": "mine"})
    assert "mine" not in answer.content.decode()
